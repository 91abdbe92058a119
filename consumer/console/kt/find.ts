import { DEFAULT_STREAM } from '../../../shared/http/authorise.ts'
import { only, UsageError } from '../../../shared/service/command-line.ts'
import type { Sought } from '../client.ts'
import { argumentsOf, type Command, placeOf, timeOf } from './command.ts'
import { foundLines, searchProgress } from './life-text.ts'
import { ProgressLine } from './progress.ts'

const HELP = `What became of an event: its places, failed attempts, outcome and redrives.

Usage: bun run kt -- find ID [--source SOURCE] [--key KEY] [--from TIME] [--to TIME]
       bun run kt -- find --receipt PARTITION/OFFSET
       bun run kt -- find --trace ID [--from TIME] [--to TIME]

  --stream   the event's stream; ${DEFAULT_STREAM} where not given
  --receipt  partition and offset of the receipt
  --trace    the trace id, 32 hex digits
  --source   the event's source, where several have that id. With the key, the search is quickest
  --key      the event's key; '' for none
  --from     not before this time, such as 2026-01-31T12:00:00Z, or 15m, 2h or 1d before now
  --to       before this time
  --json     the answer of the console as JSON
  --help     this text

Exit code: 0; 1 when nothing was found or the console refused; 64 for wrong arguments; 69 when the console does not answer.
`

export const find: Command = {
  usage: 'find ID',
  summary: 'what became of an event',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      stream: { type: 'string', default: DEFAULT_STREAM },
      receipt: { type: 'string' },
      trace: { type: 'string' },
      source: { type: 'string' },
      key: { type: 'string' },
      from: { type: 'string' },
      to: { type: 'string' },
    })
    const { receipt, trace, source, key } = values
    const period = { from: timeOf('--from', values.from, io.nowMs()), to: timeOf('--to', values.to, io.nowMs()) }
    if ([positionals[0], receipt, trace].filter((one) => one !== undefined).length !== 1)
      throw new UsageError('one of ID, --receipt and --trace is needed')
    if (positionals.length === 0 && (source !== undefined || key !== undefined))
      throw new UsageError('--source and --key go with an ID')
    if (receipt !== undefined && (values.from !== undefined || values.to !== undefined))
      throw new UsageError('--receipt is a place: it takes no times')
    const sought: Sought =
      receipt !== undefined
        ? placeOf('--receipt', receipt)
        : trace !== undefined
          ? { traceId: trace.toLowerCase(), ...period }
          : { id: only('ID', positionals), source, key, ...period }
    const line = new ProgressLine(io)
    try {
      const found = await io.client.find(values.stream, sought, {
        signal: io.signal,
        onProgress: (progress) => line.tell(searchProgress(progress)),
      })
      line.end()
      for (const text of values.json ? [JSON.stringify(found)] : foundLines(found)) io.out(text)
      return 0
    } finally {
      line.end()
    }
  },
}
