import { type Static, Type } from '@sinclair/typebox'
import type { Event } from '../shared/event.ts'
import type { Defaults } from '../shared/event-json.ts'
import { type OutgoingRecord, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { sleep } from '../shared/retry.ts'
import { type Meter, overQuota } from './admit.ts'
import type { EventsOutcome } from './metrics.ts'
import { parseLine } from './parse.ts'
import { type Problem, ProblemDocument, problemDocument } from './problem.ts'
import { cannotTake, type Origin, recordOf, traceOf, undelivered } from './publish.ts'
import { Receipt, receiptText } from './receipt.ts'
import { notTaken, tooLarge, validEvents } from './validate.ts'

/** `application/x-ndjson`: events line by line, each answered by a line, in order and as soon as it is stored. */

const lineNumber = Type.Integer({ minimum: 1, description: 'The line of the request that this answers.' })

export const ReceiptLine = Type.Object({ line: lineNumber, receipt: Receipt }, { title: 'ReceiptLine' })
export const ProblemLine = Type.Object({ line: lineNumber, problem: ProblemDocument }, { title: 'ProblemLine' })
export const LastProblem = Type.Object(
  { problem: ProblemDocument },
  { title: 'LastProblem', description: 'Why the stream was ended before its end.' },
)
export const StreamSummary = Type.Object(
  {
    events: Type.Integer(),
    stored: Type.Integer(),
    notStored: Type.Integer(),
    unknown: Type.Integer(),
    refused: Type.Integer({ description: 'Lines with a problem that sending them again will not solve.' }),
    complete: Type.Boolean({ description: 'false: not all of the request was read. See the problem before.' }),
  },
  { title: 'StreamSummary' },
)
export const SummaryLine = Type.Object({ summary: StreamSummary }, { title: 'SummaryLine' })

/** One line of the answer. */
export const AnswerLine = Type.Union([ReceiptLine, ProblemLine, LastProblem, SummaryLine], {
  title: 'AnswerLine',
  description: 'A line of the answer to application/x-ndjson; the summary is the last one.',
})
/** Of the lines of an answer, those that are not worth writing by hand. */
type RareAnswer = Exclude<Static<typeof AnswerLine>, { receipt: unknown }>

export interface StreamLimits {
  maxLineBytes: number
  maxDepth: number
  maxEventBytes: number
  windowEvents: number
  windowBytes: number
  progressTimeoutMs: number
}

export interface StreamDeps {
  body: AsyncIterable<Uint8Array>
  producer: RecordProducer
  meter: Meter | undefined
  origin: Origin
  defaults: Defaults
  limits: StreamLimits
  nowMs(): number
  /** Aborted when the stream has to end: what was read is answered, the rest is not read. */
  ending: AbortSignal
  count(outcome: EventsOutcome): void
  /** Called once, when the last line of the answer was taken or the client is gone. */
  ended(summary: Summary): void
}

export type Summary = Static<typeof StreamSummary>

/** A line that was read and is not answered yet. */
interface Pending {
  /** From 1. */
  number: number
  bytes: number
  /** A line of JSON. */
  answer: string | undefined
}

/** How often a full queue is looked at again. */
const QUEUE_POLL_MS = 5

const NEWLINE = 0x0a

/**
 * Answers a stream of events with a stream of receipts and problems. Reading waits while the window of unanswered lines is full, while Kafka's
 * queue is full, and while the tenant's quota is used up: the client is slowed down, not refused. Memory is bounded by the window.
 */
export function answerStream(deps: StreamDeps): ReadableStream<Uint8Array> {
  const { limits, ending } = deps
  const pending: Pending[] = []
  /** Not handed over yet. */
  let ready: { one: Pending; event: Event; record: OutgoingRecord }[] = []
  let readyBytes = 0
  const summary: Summary = { events: 0, stored: 0, notStored: 0, unknown: 0, refused: 0, complete: false }
  const gone = new AbortController()
  let pendingBytes = 0
  let reading = true
  let failure: Problem | undefined
  /** Wakes the side that waits: the answer for an answer, the intake for room. */
  const answered = new Signal()
  const room = new Signal()
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  let endedOnce = false

  async function intake(): Promise<void> {
    try {
      const lines = linesOf(deps.body, limits.maxLineBytes)[Symbol.asyncIterator]()
      let number = 0
      for (;;) {
        // Bytes are no progress, lines are: otherwise a byte a minute would hold a stream for ever.
        const next = await within(lines.next(), limits.progressTimeoutMs, ending, gone.signal)
        if (next === undefined) {
          if (!gone.signal.aborted) failure = ending.aborted ? STOPPING : tooSlow(limits.progressTimeoutMs)
          // The generator is in the middle of a read, which cancelling the body ends; waiting for that would be waiting for the client.
          void lines.return?.(undefined)?.catch(() => undefined)
          return
        }
        if (next.done === true) break
        // Lines that arrive together have a time in common, and the trace that begins here where nobody has begun one.
        const origin: Origin = { ...deps.origin, receivedAtMs: deps.nowMs() }
        for (const line of next.value) {
          number++
          if (line.kind === 'line' && line.bytes.length === 0) continue
          const bytes = line.kind === 'line' ? line.bytes.length : 0
          if (isFull(bytes) && !(await hasRoom(bytes))) return
          const one: Pending = { number, bytes, answer: undefined }
          summary.events++
          pending.push(one)
          pendingBytes += bytes
          const published =
            line.kind === 'too long' ? lineTooLong(limits.maxLineBytes) : publish(one, line.bytes, origin)
          // Most lines need not wait, and waiting costs a turn of the event loop.
          const problem = published instanceof Promise ? await published : published
          if (problem !== undefined) refuse(one, problem)
          if (gone.signal.aborted) return
        }
        handOver()
      }
      summary.complete = true
    } catch {
      // The client broke off, or the body is not what its encoding says; either way no more of it can be read.
      failure = { kind: 'malformed', detail: 'The rest of the body cannot be read.' }
    } finally {
      handOver()
      reading = false
      answered.notify()
    }
  }

  /** Whether a line of so many bytes has to wait until others are answered. */
  const isFull = (bytes: number): boolean =>
    pending.length > 0 && (pending.length >= limits.windowEvents || pendingBytes + bytes > limits.windowBytes)

  /** Waits for room; false when the stream has ended meanwhile. */
  async function hasRoom(bytes: number): Promise<boolean> {
    handOver()
    const deadline = performance.now() + limits.progressTimeoutMs
    while (isFull(bytes)) {
      // Deliveries end by themselves, so a window that stays full is a client that does not read its answers.
      if (!(await room.wait(deadline - performance.now())) || gone.signal.aborted) {
        hangUp()
        return false
      }
    }
    return true
  }

  /** Makes a line's event ready for Kafka, or says what is wrong with it. At once, unless it has to wait to be let in. */
  function publish(one: Pending, bytes: Buffer, origin: Origin): Problem | undefined | Promise<Problem | undefined> {
    const parsed = parseLine(bytes, deps.defaults, limits.maxDepth)
    if (!parsed.ok && 'problem' in parsed)
      return { ...parsed.problem, detail: parsed.problem.detail.replace('The body', 'The line') }
    if (!parsed.ok) {
      const valid = validEvents([parsed])
      return valid.ok ? undefined : valid.problem
    }
    const { event } = parsed
    const partitions = deps.producer.partitionCount(origin.topic) ?? 1
    const record = recordOf(event, origin, traceOf(event, origin), partitions)
    const refusal =
      tooLarge([record], limits.maxEventBytes, true) ?? notTaken([record], deps.producer.settings(origin.topic), true)
    if (refusal !== undefined) return refusal
    const admitted = admit(bytes.length)
    const enter = (problem: Problem | undefined): Problem | undefined => {
      if (problem !== undefined) return problem
      ready.push({ one, event, record })
      readyBytes += bytes.length
      return undefined
    }
    return admitted.waitMs === 0 ? enter(undefined) : admitLater(bytes.length, admitted).then(enter)
  }

  /** Whether an event may go to Kafka now: not before so many ms, for lack of room in the queue or of quota; never, with `problem` alone. */
  function admit(bytes: number): { waitMs: number; problem?: Problem } {
    const problem = cannotTake(deps.producer, deps.origin.topic, ready.length + 1, readyBytes + bytes)
    if (problem === undefined) return { waitMs: deps.meter?.take(1, bytes) ?? 0 }
    return { waitMs: problem.kind === 'overloaded' ? QUEUE_POLL_MS : Number.POSITIVE_INFINITY, problem }
  }

  /** Waits for quota and for room in the queue; a problem when that takes too long, or when Kafka is not there. */
  async function admitLater(
    bytes: number,
    { waitMs, problem }: ReturnType<typeof admit>,
  ): Promise<Problem | undefined> {
    handOver()
    const deadline = performance.now() + limits.progressTimeoutMs
    while (waitMs > 0) {
      const leftMs = deadline - performance.now()
      if (waitMs === Number.POSITIVE_INFINITY || leftMs <= 0 || ending.aborted || gone.signal.aborted)
        return problem ?? { ...overQuota(waitMs), outcome: 'not stored' }
      await sleep(Math.min(waitMs, leftMs), gone.signal)
      ;({ waitMs, problem } = admit(bytes))
    }
    return undefined
  }

  /** Hands the events that are ready to Kafka, together: one call costs less than many. */
  function handOver(): void {
    if (ready.length === 0) return
    const lines = ready
    ready = []
    readyBytes = 0
    deps.producer.produce(lines.map(({ record }) => record)).then(
      (results) => {
        for (const [index, { one, event }] of lines.entries()) {
          const result = results[index]
          if (result === undefined) continue
          if (result instanceof ProduceError) refuse(one, undelivered([event], [result], deps.origin.stream))
          else
            answer(
              one,
              `{"line":${one.number},"receipt":${receiptText(event.id, deps.origin.stream, result)}}\n`,
              'stored',
            )
        }
      },
      () => {
        for (const { one } of lines) refuse(one, UNEXPECTED)
      },
    )
  }

  const refuse = (one: Pending, problem: Problem): void =>
    answer(one, rareLine({ line: one.number, problem: problemDocument(problem) }), outcomeOf(problem))

  function answer(one: Pending, line: string, outcome: EventsOutcome): void {
    one.answer = line
    if (outcome === 'stored') summary.stored++
    else if (outcome === 'not_stored') summary.notStored++
    else if (outcome === 'unknown') summary.unknown++
    else summary.refused++
    deps.count(outcome)
    if (pending[0] === one) answered.notify()
  }

  /** Gives up a client that does not read: the connection is all there is to tell it. */
  function hangUp(): void {
    gone.abort()
    controller?.error(new Error('the client does not read its answers'))
    end()
  }

  function end(): void {
    if (endedOnce) return
    endedOnce = true
    deps.ended(summary)
  }

  return new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given
        void intake()
      },
      async pull(to) {
        while (pending[0]?.answer === undefined && (reading || pending.length > 0)) {
          await answered.wait()
          if (gone.signal.aborted) return
        }
        // All that is there goes as one piece: a piece a line costs more than the line.
        let text = ''
        let lines = 0
        for (const { answer: line, bytes } of pending) {
          if (line === undefined) break
          text += line
          pendingBytes -= bytes
          lines++
        }
        pending.splice(0, lines)
        room.notify()
        if (!reading && pending.length === 0) {
          if (failure !== undefined) text += rareLine({ problem: problemDocument(failure) })
          text += rareLine({ summary })
          to.enqueue(encoder.encode(text))
          to.close()
          end()
          return
        }
        to.enqueue(encoder.encode(text))
      },
      cancel() {
        gone.abort()
        room.notify()
        answered.notify()
        end()
      },
    },
    { highWaterMark: 0 },
  )
}

const encoder = new TextEncoder()

const rareLine = (line: RareAnswer): string => `${JSON.stringify(line)}\n`

const STOPPING: Problem = {
  kind: 'draining',
  detail: 'This instance is stopping: send the lines that were not answered again, to another one.',
}

const UNEXPECTED: Problem = { kind: 'internal', detail: 'The service failed; its log says why.', outcome: 'unknown' }

const tooSlow = (ms: number): Problem => ({
  kind: 'request-timeout',
  detail: `No whole line has arrived within NDJSON_PROGRESS_TIMEOUT_MS=${ms} ms.`,
})

const lineTooLong = (maxBytes: number): Problem => ({
  kind: 'event-too-large',
  detail: `The line is longer than NDJSON_MAX_LINE_BYTES=${maxBytes}.`,
})

const outcomeOf = (problem: Problem): EventsOutcome =>
  problem.outcome === undefined ? 'refused' : problem.outcome === 'unknown' ? 'unknown' : 'not_stored'

type Line = { kind: 'line'; bytes: Buffer } | { kind: 'too long' }

/**
 * Splits a stream at line feeds, without them; the last line need not have one. Yields the lines that end in a chunk together, at least one.
 * A line over the bound is skipped, not kept.
 */
export async function* linesOf(source: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line[]> {
  let parts: Uint8Array[] = []
  let length = 0
  let skipping = false
  const finish = (): Line => {
    const line: Line = skipping ? { kind: 'too long' } : { kind: 'line', bytes: joined(parts, length) }
    parts = []
    length = 0
    skipping = false
    return line
  }
  for await (const chunk of source) {
    const lines: Line[] = []
    let from = 0
    for (;;) {
      const feed = chunk.indexOf(NEWLINE, from)
      const piece = chunk.subarray(from, feed === -1 ? chunk.length : feed)
      if (length + piece.length > maxBytes) {
        skipping = true
        parts = []
        length = 0
      }
      if (!skipping && piece.length > 0) {
        parts.push(piece)
        length += piece.length
      }
      if (feed === -1) break
      lines.push(finish())
      from = feed + 1
    }
    if (lines.length > 0) yield lines
  }
  if (skipping || length > 0) yield [finish()]
}

/** A line from its pieces, without a copy when it came in one. A line of nothing but white space is no event: empty. */
function joined(parts: readonly Uint8Array[], length: number): Buffer {
  const [first] = parts
  const line =
    parts.length === 1 && first !== undefined
      ? Buffer.from(first.buffer, first.byteOffset, first.byteLength)
      : Buffer.concat(parts, length)
  return line[0] !== OPEN_BRACE && line.every(isBlank) ? EMPTY : line
}

const OPEN_BRACE = 0x7b
const EMPTY = Buffer.alloc(0)
const isBlank = (byte: number): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0d

/** What several callers may wait for and one announces. */
class Signal {
  #waiting: ((notified: boolean) => void)[] = []

  notify(): void {
    for (const wake of this.#waiting.splice(0)) wake(true)
  }

  /** false: the time was over first. */
  wait(timeoutMs?: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => resolve(false), Math.max(0, timeoutMs))
      this.#waiting.push((notified) => {
        clearTimeout(timer)
        resolve(notified)
      })
    })
  }
}

/** A promise's value, or undefined when the time is over or a signal is aborted first. */
async function within<T>(promise: Promise<T>, ms: number, ...signals: AbortSignal[]): Promise<T | undefined> {
  const { promise: stopped, resolve } = Promise.withResolvers<undefined>()
  const stop = () => resolve(undefined)
  const timer = setTimeout(stop, ms)
  for (const signal of signals) {
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop)
  }
  try {
    return await Promise.race([promise, stopped])
  } finally {
    clearTimeout(timer)
    for (const signal of signals) signal.removeEventListener('abort', stop)
  }
}
