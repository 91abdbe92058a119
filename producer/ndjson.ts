import { type Static, Type } from '@sinclair/typebox'
import type { Defaults } from '../shared/events/event-json.ts'
import { type OutgoingRecord, queuedBytes } from '../shared/events/record.ts'
import { type DeliveryResult, ProduceError } from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'
import { Gathered } from './body.ts'
import type { EventsOutcome } from './metrics.ts'
import { parseLine } from './parse.ts'
import {
  MAX_NAMED_FAULTS,
  NOTHING_STORED,
  type Problem,
  ProblemDocument,
  ProblemError,
  problemDocument,
} from './problem.ts'
import { type Admission, admit, type Destination, type Origin, type Prepared, prepare, undelivered } from './publish.ts'
import { Receipt, receiptText } from './receipt.ts'
import type { Turns } from './turns.ts'
import type { Scope, ValidEvent } from './validate.ts'

/** `application/x-ndjson`, `application/ndjson` or `application/jsonl`: events line by line, each answered by a line, in order and as soon as it is stored. */

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
  windowEvents: number
  windowBytes: number
  progressTimeoutMs: number
}

export interface StreamDeps {
  body: AsyncIterable<Uint8Array>
  to: Destination
  turns: Turns
  origin: Origin
  defaults: Defaults
  limits: StreamLimits
  nowMs(): number
  /** Aborted when the stream has to end: what was read is answered, the rest is not read. */
  ending: AbortSignal
  count(outcome: EventsOutcome): void
  /** Called with what fails unexpectedly. Whoever sent it is told only that. */
  failed(error: unknown): void
  /**
   * Called once: when the last line of the answer was taken, or when the client is gone and what it has sent is stored or not.
   * @param unanswered ids of the events that are stored, or may be, and of which it was not told
   */
  ended(summary: Summary, unanswered: Readonly<Record<'stored' | 'unknown', readonly string[]>>): void
}

export type Summary = Static<typeof StreamSummary>

/** A line that was read and is not answered yet. */
interface Pending {
  /** From 1. */
  number: number
  bytes: number
  /** A line of JSON. */
  answer: string | undefined
  outcome: EventsOutcome | undefined
  /** The event's, where it is one. */
  id: string | undefined
}

/** Without an event that is taken, no more lines than so many, and no more bytes than so many of the longest lines, are read in a row. */
export const MAX_LINES_WITHOUT_EVENT = 1_000
export const MAX_LONGEST_LINES_WITHOUT_EVENT = 16

/** How often a line that waits for quota, which may take long, looks whether the service is stopping. */
const ENDING_LOOK_MS = 100

const NEWLINE = 0x0a

/**
 * Answers a stream of events with a stream of receipts and problems. Reading waits while the window of unanswered lines is full, while Kafka's
 * queue is full, and while the tenant's quota is used up: the client is slowed down, not refused. Memory is bounded by the window. What is refused
 * costs as much quota as what is stored, by its decompressed bytes. I1: a line's receipt comes after its delivery report.
 */
export function answerStream(deps: StreamDeps): ReadableStream<Uint8Array> {
  const { limits, ending, to } = deps
  const { topic, stream } = deps.origin
  const pending: Pending[] = []
  /** Not handed over yet. */
  let ready: { one: Pending; id: string; record: OutgoingRecord }[] = []
  /** That they take of Kafka's queue. */
  let readyBytes = 0
  const summary: Summary = { events: 0, stored: 0, notStored: 0, unknown: 0, refused: 0, complete: false }
  const gone = new AbortController()
  let pendingBytes = 0
  /** Those of them whose answer is not known yet. */
  let open = 0
  /** In a row. */
  let refusedLines = 0
  let refusedBytes = 0
  const scope: Scope = { unit: 'line', isList: false, most: MAX_NAMED_FAULTS }
  let reading = true
  let failure: Problem | undefined
  /** Wakes the side that waits: the answer for an answer, the intake for room. */
  const answered = new Signal()
  const room = new Signal()
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  let endedOnce = false

  async function intake(): Promise<void> {
    const lines = linesOf(deps.body, limits.maxLineBytes)[Symbol.asyncIterator]()
    try {
      for (;;) {
        // Bytes are no progress, and neither are empty lines: otherwise a byte a minute would hold a stream for ever.
        const next = await within(lines.next(), limits.progressTimeoutMs, ending, gone.signal)
        if (next === undefined) {
          failure = ending.aborted ? STOPPING : tooSlow(limits.progressTimeoutMs)
          return
        }
        if (next.done === true) break
        // Lines that arrive together have a time in common, and the trace that begins here where nobody has begun one.
        const origin: Origin = { ...deps.origin, receivedAtMs: deps.nowMs() }
        for (const line of next.value) {
          const waiting = deps.turns.next(origin.tenant)
          if (waiting !== undefined) {
            handOver()
            await waiting
          }
          const bytes = line.kind === 'line' ? line.bytes.length : 0
          if (isFull(bytes) && !(await hasRoom(bytes))) return
          const one: Pending = { number: line.number, bytes, answer: undefined, outcome: undefined, id: undefined }
          summary.events++
          pending.push(one)
          open++
          pendingBytes += bytes
          let problem: Problem | undefined
          try {
            const published = publish(one, line, origin)
            // Most lines need not wait, and waiting costs a turn of the event loop.
            problem = published instanceof Promise ? await published : published
          } catch (error) {
            deps.failed(error)
            problem = UNEXPECTED
          }
          if (problem !== undefined) refuse(one, problem)
          if (gone.signal.aborted) return
          failure = withoutEvent(line.readBytes, problem)
          if (failure !== undefined) return
        }
        handOver()
      }
      summary.complete = true
    } catch (error) {
      // The client broke off, or the body is not what its encoding says; either way no more of it can be read.
      failure = error instanceof ProblemError ? error.problem : BROKEN_OFF
    } finally {
      // In the middle of a read it ends with that; waiting for it would be waiting for the client.
      void lines.return?.(undefined)?.catch(() => undefined)
      handOver()
      reading = false
      answered.notify()
      endIfLeft()
      void watchReader()
    }
  }

  /** Counts a line that was read; a problem when too much in a row was refused. */
  function withoutEvent(readBytes: number, problem: Problem | undefined): Problem | undefined {
    if (problem === undefined || outcomeOf(problem) !== 'refused') {
      refusedLines = 0
      refusedBytes = 0
      return undefined
    }
    refusedLines++
    refusedBytes += readBytes
    return refusedLines >= MAX_LINES_WITHOUT_EVENT ||
      refusedBytes > limits.maxLineBytes * MAX_LONGEST_LINES_WITHOUT_EVENT
      ? tooManyRefused(refusedLines)
      : undefined
  }

  /** Once nothing is read any more, only a client that does not read either can hold the stream up. */
  async function watchReader(): Promise<void> {
    while (!endedOnce && !gone.signal.aborted) {
      const took = await room.wait(limits.progressTimeoutMs)
      if (!took && !endedOnce && (pending.length === 0 || pending[0]?.answer !== undefined)) hangUp()
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
      const hasChanged = await room.wait(deadline - performance.now())
      if (gone.signal.aborted) return false
      if (!hasChanged) {
        failure = notRead(limits.progressTimeoutMs)
        return false
      }
    }
    return true
  }

  /** Makes a line's event ready for Kafka, or says what is wrong with it. At once, unless it has to wait to be let in, or to be refused. */
  function publish(one: Pending, line: Line, origin: Origin): Problem | undefined | Promise<Problem | undefined> {
    const prepared = prepareLine(line, origin)
    const costs = line.readBytes
    if (!prepared.ok) {
      const waitMs = to.meter?.take(1, costs) ?? 0
      const pay = () => ({ waitMs: to.meter?.take(1, costs) ?? 0 })
      return waitMs === 0 ? prepared.problem : later({ waitMs }, pay).then(() => prepared.problem)
    }
    const { id } = (prepared.events[0] as ValidEvent).event
    const record = prepared.records[0] as OutgoingRecord
    const bytes = queuedBytes(record)
    const admitted = admitLine(bytes, costs)
    if (admitted.waitMs === 0) {
      addReady(one, id, record, bytes)
      return undefined
    }
    return later(admitted, () => admitLine(bytes, costs)).then((problem) => {
      if (problem === undefined) addReady(one, id, record, bytes)
      return problem
    })
  }

  const admitLine = (bytes: number, costs: number): Admission =>
    admit(to, topic, ready.length + 1, readyBytes + bytes, 1, costs, 'line')

  function addReady(one: Pending, id: string, record: OutgoingRecord, bytes: number): void {
    one.id = id
    ready.push({ one, id, record })
    readyBytes += bytes
  }

  function prepareLine(line: Line, origin: Origin): Prepared {
    if (line.kind === 'too long') return { ok: false, problem: lineTooLong(limits.maxLineBytes) }
    const parsed = parseLine(line.bytes, deps.defaults, limits.maxDepth)
    return 'problem' in parsed ? parsed : prepare([parsed], origin, to, scope)
  }

  /** Waits for quota and for room in the queue; a problem when that takes too long, or when Kafka is not there. */
  async function later({ waitMs, problem }: Admission, again: () => Admission): Promise<Problem | undefined> {
    handOver()
    const deadline = performance.now() + limits.progressTimeoutMs
    while (waitMs > 0) {
      const leftMs = deadline - performance.now()
      if (waitMs === Number.POSITIVE_INFINITY || leftMs <= 0 || ending.aborted || gone.signal.aborted)
        return problem?.kind === 'over-quota' ? { ...problem, outcome: 'not stored' } : problem
      await sleep(Math.min(waitMs, leftMs, ENDING_LOOK_MS), gone.signal)
      ;({ waitMs, problem } = again())
    }
    return undefined
  }

  /** Hands the events that are ready to Kafka, together: one call costs less than many. */
  function handOver(): void {
    if (ready.length === 0) return
    const lines = ready
    ready = []
    readyBytes = 0
    to.producer.produce(lines.map(({ record }) => record)).then(
      (results) => {
        for (const [index, { one, id }] of lines.entries()) {
          const result = results[index] as DeliveryResult
          if (result instanceof ProduceError) refuse(one, undelivered([id], [result], stream, 'line'))
          else answer(one, `{"line":${one.number},"receipt":${receiptText(id, stream, result)}}\n`, 'stored')
        }
      },
      (error) => {
        deps.failed(error)
        for (const { one } of lines) refuse(one, UNEXPECTED)
      },
    )
  }

  function refuse(one: Pending, problem: Problem): void {
    scope.most -= problem.errors?.length ?? 0
    answer(one, rareLine({ line: one.number, problem: problemDocument(problem) }), outcomeOf(problem))
  }

  function answer(one: Pending, line: string, outcome: EventsOutcome): void {
    one.answer = line
    one.outcome = outcome
    if (outcome === 'stored') summary.stored++
    else if (outcome === 'not_stored') summary.notStored++
    else if (outcome === 'unknown') summary.unknown++
    else summary.refused++
    deps.count(outcome)
    open--
    if (pending[0] === one) answered.notify()
    endIfLeft()
  }

  /** Gives up a client that does not read: the connection is all there is to tell it. */
  function hangUp(): void {
    controller?.error(new Error('the client does not read its answers'))
    leave()
  }

  /** Nobody takes answers any more: nothing more is read. */
  function leave(): void {
    gone.abort()
    answered.notify()
    room.notify()
    endIfLeft()
  }

  /** Once it is known what became of all that a client which is gone has sent. */
  function endIfLeft(): void {
    if (gone.signal.aborted && !reading && open === 0) end()
  }

  function end(): void {
    if (endedOnce) return
    endedOnce = true
    room.notify()
    const unanswered = (of: EventsOutcome) => pending.flatMap(({ outcome, id }) => (outcome === of ? (id ?? []) : []))
    deps.ended(summary, { stored: unanswered('stored'), unknown: unanswered('unknown') })
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
      cancel: leave,
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

const BROKEN_OFF: Problem = { kind: 'malformed', detail: 'The rest of the body cannot be read.' }

const tooSlow = (ms: number): Problem => ({
  kind: 'request-timeout',
  detail: `No line with an event has arrived within NDJSON_PROGRESS_TIMEOUT_MS=${ms} ms, and empty ones do not count. Send what comes later in a new request.`,
})

const notRead = (ms: number): Problem => ({
  kind: 'request-timeout',
  detail: `Too little of the answers was read within NDJSON_PROGRESS_TIMEOUT_MS=${ms} ms. Read answers while you send, and send the lines that were not answered in a new request.`,
})

const tooManyRefused = (lines: number): Problem => ({
  kind: 'malformed',
  detail: `${lines} lines in a row are refused, and no more are read. Send the rest in a new request.`,
})

const lineTooLong = (maxBytes: number): Problem => ({
  kind: 'event-too-large',
  detail: `The line is longer than NDJSON_MAX_LINE_BYTES=${maxBytes}. ${NOTHING_STORED.line}`,
})

const nothingInIt = (bytes: number): Problem => ({
  kind: 'malformed',
  detail: `${bytes} bytes in a row hold no event, which is more than ${MAX_LONGEST_LINES_WITHOUT_EVENT} times NDJSON_MAX_LINE_BYTES. No more is read.`,
})

const outcomeOf = (problem: Problem): EventsOutcome =>
  problem.outcome === undefined ? 'refused' : problem.outcome === 'unknown' ? 'unknown' : 'not_stored'

type Line = {
  /** From 1; empty lines count. */
  number: number
  /** Bytes of the stream since the line before, empty lines included. */
  readBytes: number
} & ({ kind: 'line'; bytes: Buffer } | { kind: 'too long' })

/**
 * Splits a stream at line feeds, without them; the last line need not have one. Yields the lines that end in a chunk together, at least one. Empty
 * lines are left out, and a line over the bound is skipped, not kept.
 * @throws ProblemError when too much in a row is neither
 */
export async function* linesOf(source: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line[]> {
  const gathered = new Gathered()
  let skipping = false
  let number = 0
  let readBytes = 0
  /** Adds the line that has ended here, unless it is empty. */
  const finish = (lines: Line[]): void => {
    number++
    const bytes = gathered.take()
    if (skipping) lines.push({ kind: 'too long', number, readBytes })
    else if (!isBlankLine(bytes)) lines.push({ kind: 'line', number, readBytes, bytes })
    else return
    skipping = false
    readBytes = 0
  }
  for await (const chunk of source) {
    const lines: Line[] = []
    let from = 0
    while (from < chunk.length) {
      if (gathered.length === 0 && !skipping && chunk[from] !== OPEN_BRACE) {
        // Whoever sends nothing but line feeds should cost no more than a look at each.
        const begin = from
        for (let at = from; ; at++) {
          const byte = chunk[at]
          if (byte === NEWLINE) {
            from = at + 1
            number++
          } else if (!isBlank(byte)) break
        }
        readBytes += from - begin
        if (from === chunk.length) break
      }
      const feed = chunk.indexOf(NEWLINE, from)
      const piece = chunk.subarray(from, feed === -1 ? chunk.length : feed)
      if (gathered.length + piece.length > maxBytes) {
        skipping = true
        gathered.take()
      }
      if (!skipping && piece.length > 0) gathered.add(piece)
      readBytes += piece.length
      if (feed === -1) break
      readBytes++
      from = feed + 1
      finish(lines)
    }
    if (lines.length > 0) yield lines
    if (readBytes > maxBytes * MAX_LONGEST_LINES_WITHOUT_EVENT) throw new ProblemError(nothingInIt(readBytes))
  }
  const last: Line[] = []
  if (skipping || gathered.length > 0) finish(last)
  if (last.length > 0) yield last
}

const isBlankLine = (line: Buffer): boolean => line[0] !== OPEN_BRACE && line.every(isBlank)

const OPEN_BRACE = 0x7b
const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09 || byte === 0x0d

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
