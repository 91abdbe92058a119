import { Console } from 'node:console'
import type { Event } from '../../../shared/events/event.ts'
import { SCHEMA } from '../../../shared/events/headers.ts'
import { DEFAULT_STREAM } from '../../../shared/http/authorise.ts'
import { EXIT_FAILED, FailedError, oneLine, only, UsageError } from '../../../shared/service/command-line.ts'
import { redactor } from '../../../shared/service/redact.ts'
import { messageOf } from '../../../shared/service/thrown.ts'
import { attemptOnce, type TestOutcome } from '../../handlers/attempt-once.ts'
import { type Handler, handlerIndex } from '../../handlers/handler.ts'
import { loadHandlers } from '../../handlers/load.ts'
import type { Life } from '../life.ts'
import type { RecordView } from '../view.ts'
import { argumentsOf, type Command, type Io } from './command.ts'
import { searchProgress } from './life-text.ts'
import { ProgressLine } from './progress.ts'
import { dataLines, failure, fields, indented, state } from './text.ts'

const HELP = `Runs a handler on this machine, with an event of the log, and shows its result beside the recorded outcome.

Usage: bun run kt -- try ID --handlers FILE [--stream STREAM] [--source SOURCE]

  --handlers  a file that exports handlers, as HANDLERS_MODULE names it
  --stream    the event's stream; ${DEFAULT_STREAM} where not given
  --source    the event's source; else, of several with that id, the first that is found
  --json      {"event", "handler", "result", "recorded"} as JSON
  --help      this text

It makes one attempt with the code that the consumer uses: schema, time limit of 30 s, frozen copies, checks of the result. Nothing is read from or written to
Kafka by this machine, and nothing is stored. What the handler itself calls is really called. There is no reference table.

Exit code: 0; 1 when the attempt failed, or the event was not found or cannot be tried; 64 for wrong arguments; 69 when the console does not answer.
`

export const tryHandler: Command = {
  usage: 'try ID',
  summary: 'run a handler on this machine, with an event of the log',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      handlers: { type: 'string' },
      stream: { type: 'string', default: DEFAULT_STREAM },
      source: { type: 'string' },
    })
    const id = only('ID', positionals)
    const { handlers: file, stream, source, json } = values
    if (file === undefined) throw new UsageError('--handlers is missing: the file of the handlers to try')
    const life = await lifeIn(stream, id, source, io)
    const generation = life.generations.at(-1)
    const record = generation?.record
    if (record === undefined) throw new FailedError('the event’s record is not there any more')
    const event = eventOf(record)
    const { handler, result } = await printingToStandardError(() => attempted(file, event, life.tenant, stream, record))
    const recorded = generation?.outcome
    if (json) io.out(JSON.stringify({ event: record.event, handler, result, recorded }))
    else for (const line of triedLines(handler, result, recorded)) io.out(line)
    return result.kind === 'processed' ? 0 : EXIT_FAILED
  },
}

async function attempted(
  file: string,
  event: Event,
  tenant: string,
  stream: string,
  { receivedAt, time, headers }: RecordView,
): Promise<{ handler: string; result: TestOutcome }> {
  const registered = (await handlersIn(file))(event.type)
  if (registered === undefined)
    throw new FailedError(`no handler in ${file} takes ${oneLine(event.type)}: such an event passes through`)
  const receivedAtMs = receivedAt === undefined ? undefined : Date.parse(receivedAt)
  const origin = { tenant, stream, receivedAtMs, timestampMs: Date.parse(time) }
  const schema = headers.findLast(({ name }) => name === SCHEMA)?.value
  return {
    handler: `${registered.type}@${registered.version}`,
    result: await attemptOnce(registered, event, origin, { schema }),
  }
}

async function lifeIn(stream: string, id: string, source: string | undefined, io: Io): Promise<Life> {
  const line = new ProgressLine(io)
  try {
    // As text, data are what was sent, byte for byte.
    const { events } = await io.client.find(
      stream,
      { id, source, format: 'text' },
      { signal: io.signal, onProgress: (progress) => line.tell(searchProgress(progress)) },
    )
    const [life] = events
    if (life === undefined) throw new FailedError(`there is no event with the id ${id}`)
    return life
  } finally {
    line.end()
  }
}

/** @throws FailedError for a record that is no event, or whose data are not all there */
function eventOf({ event, undecodable, data, truncated }: RecordView): Event {
  if (event === undefined) throw new FailedError(`it is no event: ${oneLine(undecodable ?? 'it cannot be decoded')}`)
  if (data?.format === 'masked')
    throw new FailedError(
      'parts of this stream’s data are masked (`redact` in the tenants file), so its handlers cannot be tried with its events',
    )
  if (truncated === true)
    throw new FailedError('the console shows only the beginning of data this large, so the event cannot be tried')
  return { ...event, data: data === undefined ? null : bytesOf(data) }
}

function bytesOf(data: Exclude<NonNullable<RecordView['data']>, { format: 'masked' }>): Buffer {
  if (data.format === 'hex') return Buffer.from(data.hex, 'hex')
  return Buffer.from(data.format === 'text' ? data.text : JSON.stringify(data.json))
}

async function handlersIn(file: string): Promise<ReturnType<typeof handlerIndex>> {
  try {
    return handlerIndex((await loadHandlers(file, redactor())) as Handler[])
  } catch (error) {
    throw new FailedError(`--handlers ${file} cannot be used: ${messageOf(error, Number.POSITIVE_INFINITY)}`)
  }
}

/** Standard output has only the result, whatever handlers print. */
async function printingToStandardError<T>(work: () => Promise<T>): Promise<T> {
  const { stdout, stderr } = process
  const [printing, write] = [{ ...console }, stdout.write]
  stdout.write = stderr.write.bind(stderr)
  Object.assign(console, new Console({ stdout: stderr, stderr }), { write: stdout.write })
  try {
    return await work()
  } finally {
    stdout.write = write
    Object.assign(console, printing)
  }
}

export function triedLines(handler: string, result: TestOutcome, recorded: RecordView | undefined): string[] {
  const isDone = result.kind === 'processed'
  const what = isDone ? (['type', result.type] as const) : (['error', failure(result)] as const)
  return [
    `tried on this machine: ${resultWord(result)}`,
    ...indented([
      ...fields([['handler', handler], what]),
      ...(isDone ? dataLines({ format: 'json', json: result.data }) : []),
    ]),
    '',
    ...recordedLines(recorded),
    ...(isSame(result, recorded) ? ['', 'Both results are the same.'] : []),
  ]
}

function resultWord({ kind }: TestOutcome): string {
  if (kind === 'waits') return 'not handled; the event would wait for a newer handler'
  return kind === 'retry' ? 'failed; the consumer would try again' : state(kind)
}

function recordedLines(recorded: RecordView | undefined): string[] {
  if (recorded === undefined) return ['recorded: no outcome yet']
  const { role, time, handler, error, event, data } = recorded
  const isDead = role === 'dlq'
  return [
    `recorded: ${state(isDead ? 'dead' : 'processed')} at ${time}`,
    ...indented([
      ...fields([
        ['handler', handler ?? error?.handler ?? 'none'],
        ['type', isDead ? undefined : event?.type],
        ['error', error && failure(error)],
      ]),
      ...(isDead ? [] : dataLines(inJson(data))),
    ]),
  ]
}

/** Text that is JSON, as JSON, so that both results are laid out alike. */
function inJson(data: RecordView['data']): RecordView['data'] {
  const parsed = parsedOf(data)
  return parsed === undefined ? data : { format: 'json', json: parsed.json }
}

function parsedOf(data: RecordView['data']): { json: unknown } | undefined {
  if (data?.format !== 'text') return undefined
  try {
    return { json: JSON.parse(data.text) }
  } catch {
    return undefined
  }
}

function isSame(result: TestOutcome, recorded: RecordView | undefined): boolean {
  if (result.kind !== 'processed' || recorded?.role !== 'processed') return false
  const parsed = parsedOf(recorded.data)
  return parsed !== undefined && recorded.event?.type === result.type && Bun.deepEquals(parsed.json, result.data)
}
