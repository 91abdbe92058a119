import { oneLine, UsageError } from '../../../shared/service/command-line.ts'
import { sleep } from '../../../shared/service/retry.ts'
import { table } from '../../../shared/service/table.ts'
import type { StreamStatus } from '../status.ts'
import { argumentsOf, type Command, type Io } from './command.ts'
import { count, plural, state } from './text.ts'

/** How a stream is doing, and the commands that pause it and let it go on. */

const HELP = `How streams are doing: lag, waiting events, rates, and which consumer reads what.

Usage: bun run kt -- lag [STREAM]

  --json   the statuses as JSON: of one stream the status, otherwise a list
  --help   this text

  lag      what no consumer has committed in the stream's own topic
  waiting  the same in .retry
  in/s     records a second that came in, over the last minute
  done/s   records a second that were committed

Exit code: 0; 1 when the console refused; 64 for wrong arguments; 69 when the console does not answer.
`

/** The console tells a rate of commits from two looks this far apart at least. */
const BETWEEN_LOOKS_MS = 1_100

export const lag: Command = {
  usage: 'lag [STREAM]',
  summary: 'lag, rates and consumers of all streams, or of one',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {})
    const [stream, ...more] = positionals
    if (more.length > 0) throw new UsageError(`one STREAM at a time, or none for all`)
    const streams = stream === undefined ? (await io.client.streams()).map((one) => one.stream) : [stream]
    const statuses = await looked(streams, io)
    const [first] = statuses
    if (values.json) io.out(JSON.stringify(stream === undefined ? statuses : first))
    else
      for (const line of stream === undefined || first === undefined ? overview(statuses) : statusLines(first))
        io.out(line)
    return 0
  },
}

async function looked(streams: readonly string[], { client, signal }: Io): Promise<StreamStatus[]> {
  const look = async (some: readonly string[]): Promise<StreamStatus[]> => {
    const statuses: StreamStatus[] = []
    for (const stream of some) {
      signal.throwIfAborted()
      statuses.push(await client.status(stream))
    }
    return statuses
  }
  const first = await look(streams)
  const without = first.filter(({ rates }) => rates.done === undefined).map(({ stream }) => stream)
  if (without.length === 0) return first
  await sleep(BETWEEN_LOOKS_MS, signal)
  const again = new Map((await look(without)).map((status) => [status.stream, status]))
  return first.map((status) => again.get(status.stream) ?? status)
}

const stateOf = ({ paused, consumers }: StreamStatus): string =>
  paused !== undefined
    ? 'paused'
    : consumers.some(({ partitions }) => partitions.length > 0)
      ? 'running'
      : 'no consumer'

const pausedBy = ({ paused }: StreamStatus): string =>
  paused === undefined
    ? ''
    : oneLine(`by ${paused.by} since ${paused.time}${paused.reason === undefined ? '' : `: ${paused.reason}`}`)

const rate = (perSecond: number | undefined): string => perSecond?.toLocaleString('en') ?? '–'

export function overview(statuses: readonly StreamStatus[]): string[] {
  if (statuses.length === 0) return ['There are no streams that this key may read.']
  return table(
    ['STREAM', 'STATE', 'LAG', 'WAITING', 'IN/S', 'DONE/S', 'CONSUMERS', ''],
    statuses.map((status) => [
      status.stream,
      state(stateOf(status)),
      count(status.lag),
      count(status.waiting),
      rate(status.rates.in),
      rate(status.rates.done),
      String(status.consumers.filter(({ partitions }) => partitions.length > 0).length),
      pausedBy(status),
    ]),
  )
}

export function statusLines(status: StreamStatus): string[] {
  const { tenant, stream, lag, waiting, duplicates, rates, group, consumers, partitions } = status
  const since = pausedBy(status)
  return [
    `${tenant}/${stream}: ${state(stateOf(status))}${since === '' ? '' : ` ${since}`}`,
    `lag ${count(lag)}, waiting ${count(waiting)}, in ${rate(rates.in)}/s, done ${rate(rates.done)}/s${duplicates === undefined ? '' : `, duplicates ${count(duplicates)}`}`,
    oneLine(`group ${group.id}: ${group.state}, ${plural(consumers.length, 'member')}`),
    ...consumers.flatMap(({ clientId, ready, faults = [] }) =>
      ready === false
        ? [oneLine(`${clientId} is not ready${faults.length === 0 ? '' : `: ${faults.join(', ')}`}`)]
        : [],
    ),
    '',
    ...table(
      ['PARTITION', 'STATE', 'COMMITTED', 'END', 'LAG', 'WAITING', 'CONSUMER'],
      partitions.map((one) => [
        String(one.partition),
        state(one.state),
        one.committed < 0 ? '–' : count(one.committed),
        count(one.end),
        count(one.lag),
        count(one.waiting),
        oneLine(`${one.consumer ?? ''}${one.reason === undefined ? '' : `  ${one.reason}`}`),
      ]),
    ),
  ]
}
