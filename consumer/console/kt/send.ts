import { DEFAULT_STREAM } from '../../../shared/http/authorise.ts'
import type { ProblemDocument } from '../../../shared/http/problem.ts'
import { EXIT_FAILED, FailedError, oneLine, only } from '../../../shared/service/command-line.ts'
import { sleep } from '../../../shared/service/retry.ts'
import { messageOf } from '../../../shared/service/thrown.ts'
import { linesOf, refusalIn, UnreachableError, unreachable } from '../client.ts'
import type { Outcome } from '../follow.ts'
import { parseJson } from '../json.ts'
import { argumentsOf, type Command, type Io, ProducerUnreachableError } from './command.ts'
import { ProgressLine } from './progress.ts'
import { outcomeLine } from './tail.ts'
import { count, plural } from './text.ts'

const HELP = `Sends events to the producer, and prints a receipt for each.

Usage: bun run kt -- send FILE|- [--stream STREAM] [--wait]

FILE has one event as JSON, an array of events, or an event a line (NDJSON); - is standard input. Each event is stored or refused for itself.

  --stream  ${DEFAULT_STREAM} where not given
  --wait    follows, through the console, until the outcome of each event is known, without a time limit
  --json    a line of JSON each: {"line", "receipt"} or {"line", "problem"}, and with --wait {"line", "outcome"}
  --help    this text

Exit code: 0; 1 when an event was not stored, or with --wait is a dead letter; 64 for wrong arguments; 69 when a service does not answer.
`

/** The most bytes of a request, unless one event is larger. */
const MAX_REQUEST_BYTES = 2 ** 20

/** What is no NDJSON is parsed as a whole, up to so many bytes. NDJSON has lines of at most so many. */
const MAX_WHOLE_BYTES = 64 * 2 ** 20

/** The longest wait for the answers to one request. */
const ANSWER_TIMEOUT_MS = 120_000

/** When none of these events has had its outcome for so long, some are looked up by receipt: one that was sent before has its outcome already. */
const QUIET_MS = 5_000
const MAX_LOOKED_UP = 20

interface Receipt {
  id: string
  stream: string
  partition: number
  offset: number
  time: string
}

type Answer =
  | { line: number; receipt: Receipt }
  | { line: number; problem: ProblemDocument }
  | { problem: ProblemDocument }
  | { summary: object }

/** Events that have no outcome yet, by id and partition: several where an event was sent more than once. */
type Left = Map<string, { line: number; receipt: Receipt }[]>

export const send: Command = {
  usage: 'send FILE|-',
  summary: 'send events, and print their receipts',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      stream: { type: 'string', default: DEFAULT_STREAM },
      wait: { type: 'boolean', default: false },
    })
    const file = only('FILE', positionals)
    const { stream, wait, json } = values
    // Outcomes after this position include all of these events.
    const position = wait ? await positionNow(stream, io) : undefined
    const left: Left = new Map()
    let failed = 0
    const sent = { lines: 0, receipts: 0 }
    for await (const lines of requestsOf(file, io)) {
      io.signal.throwIfAborted()
      for await (const answer of answersTo(lines, stream, io)) {
        if ('summary' in answer) continue
        const line = 'line' in answer ? answer.line + sent.lines : undefined
        if ('receipt' in answer) {
          const { receipt } = answer
          sent.receipts++
          if (wait) left.set(nameOf(receipt), [...(left.get(nameOf(receipt)) ?? []), { line: line ?? 0, receipt }])
          io.out(json ? JSON.stringify({ line, receipt }) : receiptLine(line ?? 0, receipt))
        } else {
          failed++
          if (json) io.out(JSON.stringify({ line, problem: answer.problem }))
          else io.say(problemText(line, answer.problem))
        }
      }
      sent.lines += lines.length
    }
    if (sent.lines === 0) throw new FailedError(`${file} has no events`)
    const dead = position === undefined ? 0 : await outcomesOf(left, position, stream, json, io)
    io.say(
      `${plural(sent.receipts, 'event')} stored${failed === 0 ? '' : `, ${count(failed)} not`}${dead === 0 ? '' : `; ${count(dead)} dead`}`,
    )
    return failed + dead === 0 ? 0 : EXIT_FAILED
  },
}

const nameOf = ({ id, partition }: { id?: string | undefined; partition: number }): string => `${partition}\n${id}`

const receiptLine = (line: number, { id, stream, partition, offset, time }: Receipt): string =>
  `${line}  ${oneLine(id)}  ${stream}/${partition}/${offset}  ${time}`

const problemText = (line: number | undefined, { detail, errors = [], outcome }: ProblemDocument): string =>
  [
    `${line === undefined ? '' : `line ${line}: `}${oneLine(detail)}${outcome === 'unknown' ? ' It may be stored.' : ''}`,
    ...errors.map((one) => `  ${oneLine(`${one.pointer} ${one.detail}`)}`),
  ].join('\n')

// ---- reading

/** The file's events as lines, in parts for a request each: as soon as they are there, for a pipe. @throws FailedError for what is no JSON */
async function* requestsOf(file: string, io: Io): AsyncGenerator<string[]> {
  let whole: string[] | undefined
  let isBegun = false
  let bytes = 0
  for await (const lines of linesIn(file, io)) {
    if (!isBegun && lines.every((line) => line.trim() === '')) continue
    // A first line that is an event by itself begins NDJSON; all else is one value.
    if (!isBegun && !isObject(lines.find((line) => line.trim() !== '') ?? '')) whole = []
    isBegun = true
    if (whole === undefined) yield* inRequests(lines)
    else {
      whole.push(...lines)
      bytes += lines.reduce((sum, line) => sum + line.length + 1, 0)
      if (bytes > MAX_WHOLE_BYTES)
        throw new FailedError(`${file}: what is not an event a line may have ${MAX_WHOLE_BYTES} bytes`)
    }
  }
  if (whole !== undefined) yield* inRequests(eventsOf(whole.join('\n'), file))
}

async function* linesIn(file: string, io: Io): AsyncGenerator<string[]> {
  const decoder = new TextDecoder('utf-8')
  let rest = ''
  for await (const bytes of io.read(file)) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > MAX_WHOLE_BYTES)
      throw new FailedError(`${file} has a line of more than ${MAX_WHOLE_BYTES} characters`)
    if (lines.length > 0) yield lines
  }
  if (rest !== '') yield [rest]
}

function isObject(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}

function eventsOf(text: string, file: string): string[] {
  try {
    const value = parseJson(text)
    return (Array.isArray(value) ? value : [value]).map((event) => JSON.stringify(event))
  } catch (error) {
    throw new FailedError(
      `${file} is neither one JSON event, nor an array of events, nor an event a line: ${messageOf(error)}`,
    )
  }
}

function* inRequests(lines: readonly string[]): Generator<string[]> {
  let request: string[] = []
  let chars = 0
  for (const line of lines) {
    if (chars > 0 && chars + line.length > MAX_REQUEST_BYTES) {
      yield request
      request = []
      chars = 0
    }
    request.push(line)
    chars += line.length + 1
  }
  if (request.length > 0) yield request
}

// ---- sending

/** @throws ApiError, ProducerUnreachableError */
async function* answersTo(lines: readonly string[], stream: string, { producer, signal }: Io): AsyncGenerator<Answer> {
  const { url, key } = producer
  let summary: object | undefined
  try {
    const response = await producer.fetch(`${url.replace(/\/$/, '')}/v1/streams/${encodeURIComponent(stream)}/events`, {
      method: 'POST',
      headers: {
        'content-type': 'application/x-ndjson',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: `${lines.join('\n')}\n`,
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
    })
    if (!response.ok) throw await refusalIn(response)
    for await (const line of linesOf(response)) {
      const answer = JSON.parse(line) as Answer
      if ('summary' in answer) summary = answer.summary
      yield answer
    }
  } catch (error) {
    if (signal.aborted || (error instanceof Error && error.name === 'ApiError')) throw error
    throw new ProducerUnreachableError(unreachable(error).message)
  }
  if (summary === undefined)
    throw new ProducerUnreachableError('the answer broke off: what has no receipt may be stored')
}

// ---- waiting

/** @throws ApiError, UnreachableError */
async function positionNow(stream: string, io: Io): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const ending = new AbortController()
  const signal = AbortSignal.any([io.signal, ending.signal])
  // Before anything is sent, a console that is not there is no outage to wait through.
  const onCut = (reason: string): void => reject(new UnreachableError(reason))
  const following = (async () => {
    for await (const _ of io.client.follow(stream, {}, { signal, onPosition: resolve, onCut })) break
    return promise
  })()
  try {
    return await Promise.race([promise, following])
  } finally {
    ending.abort()
  }
}

/** @returns how many are dead letters */
async function outcomesOf(left: Left, since: string, stream: string, json: boolean, io: Io): Promise<number> {
  const total = left.size
  const progress = new ProgressLine(io)
  const ending = new AbortController()
  const signal = AbortSignal.any([io.signal, ending.signal])
  let dead = 0
  const settle = (outcome: Outcome): void => {
    const events = left.get(nameOf(outcome))
    if (events === undefined) return
    left.delete(nameOf(outcome))
    if (outcome.outcome === 'dead') dead++
    progress.end()
    for (const { line } of events) io.out(json ? JSON.stringify({ line, outcome }) : `${line}  ${outcomeLine(outcome)}`)
  }
  const following = io.client.follow(stream, {}, { since, signal, onCut: (reason) => io.say(reason) })
  try {
    let next = following.next()
    let known = left.size
    let quiet = sleep(QUIET_MS, signal)
    while (left.size > 0) {
      progress.tell(`${count(total - left.size)} of ${plural(total, 'outcome')}`)
      const came = await Promise.race([next, quiet])
      io.signal.throwIfAborted()
      if (came === undefined) {
        // Others' outcomes may come without a pause.
        if (left.size === known) await lookUp(left, stream, settle, io)
        known = left.size
        quiet = sleep(QUIET_MS, signal)
      } else if (came.done === true) break
      else {
        settle(came.value.outcome)
        next = following.next()
      }
    }
    return dead
  } finally {
    progress.end()
    ending.abort()
    await following.return()
  }
}

/** Events that were sent before, and were dropped as duplicates, get no outcome of their own. */
async function lookUp(
  left: Left,
  stream: string,
  settle: (outcome: Outcome) => void,
  { client, signal }: Io,
): Promise<void> {
  const some = [...left.values()].slice(0, MAX_LOOKED_UP)
  for (const [event] of some) {
    if (event === undefined) continue
    const { partition, offset, id } = event.receipt
    const { events } = await client.find(stream, { partition, offset }, { signal })
    // After a redrive, the last.
    const outcome = events[0]?.generations.at(-1)?.outcome
    if (outcome === undefined) continue
    const { role, time, event: attributes, handler, error, attempts = [] } = outcome
    settle({
      outcome: role === 'dlq' ? 'dead' : 'processed',
      tenant: events[0]?.tenant ?? '',
      stream,
      id,
      ...(attributes === undefined ? {} : { type: attributes.type, source: attributes.source }),
      generation: outcome.generation,
      partition: outcome.partition,
      offset: outcome.offset,
      time,
      ...(handler === undefined ? {} : { handler }),
      ...(error === undefined ? {} : { error }),
      ...(attempts.length === 0 ? {} : { failedAttempts: attempts.length }),
    })
  }
}
