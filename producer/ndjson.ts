import { type Static, Type } from '@sinclair/typebox'
import type { Defaults } from '../shared/events/event-json.ts'
import { type OutgoingRecord, queuedBytes } from '../shared/events/record.ts'
import type { WhileAllowed } from '../shared/http/access.ts'
import { MAX_NAMED_FAULTS, type Problem, ProblemError, problemDocument } from '../shared/http/problem.ts'
import { type DeliveryResult, ProduceError } from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'
import { Gathered } from './body.ts'
import type { ProducerConfig } from './config.ts'
import type { EventsOutcome } from './metrics.ts'
import { parseLine } from './parse.ts'
import { NOTHING_STORED, ProblemDocument } from './problem.ts'
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
/** Lines of an answer that are rare enough for `JSON.stringify`. */
type RareAnswer = Exclude<Static<typeof AnswerLine>, { receipt: unknown }>

export type StreamConfig = Pick<
  ProducerConfig,
  'MAX_NESTING_DEPTH' | 'NDJSON_MAX_LINE_BYTES' | 'NDJSON_WINDOW_EVENTS' | 'NDJSON_PROGRESS_TIMEOUT_MS'
>

export interface StreamDeps {
  body: AsyncIterable<Uint8Array>
  to: Destination
  turns: Turns
  origin: Origin
  defaults: Defaults
  config: StreamConfig
  /** How many bytes of lines may wait for their answer now. */
  windowBytes(): number
  nowMs(): number
  /** Aborted when the stream has to end: lines that were read are answered, the rest is not read. */
  ending: AbortSignal
  /** Once the sender may not send any more, lines that were let in are answered, and no other is stored. */
  whileAllowed: WhileAllowed
  count(outcome: EventsOutcome): void
  /** Called with an unexpected error. The client learns only that there was one. */
  failed(error: unknown): void
  /**
   * Called once: when the client has taken the last line, or when it is gone and every event has its outcome.
   * @param unanswered ids of events whose answer the client did not take and that are, or may be, stored
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
  /** Of its event; undefined where it has none. */
  id: string | undefined
}

/** The stream ends after so many lines in a row without a valid event, or when they have more bytes than so many lines of the longest kind. */
export const MAX_LINES_WITHOUT_EVENT = 1_000
export const MAX_LONGEST_LINES_WITHOUT_EVENT = 16

/** How often a line that waits for quota checks whether the service is stopping. */
const ENDING_LOOK_MS = 100

const NEWLINE = 0x0a

/**
 * Answers a stream of events with a stream of receipts and problems. Reading pauses while the window of unanswered lines is full, while Kafka's
 * queue is full, and while the tenant has no quota: the client is slowed down, not refused. Memory is bounded by the window. A refused line costs as
 * much quota as a stored one, by its decompressed bytes. I1: a line's receipt comes after its delivery report.
 */
export function answerStream(deps: StreamDeps): ReadableStream<Uint8Array> {
  const lines = new LineStream(deps)
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => lines.start(controller),
      pull: (controller) => lines.pull(controller),
      cancel: () => lines.leave(),
    },
    { highWaterMark: 0 },
  )
}

/** Two sides that wait for each other: one reads lines and produces their events, {@link pull} sends the answers. */
class LineStream {
  readonly #deps: StreamDeps
  readonly #window: Window
  readonly #scope: Scope = { unit: 'line', isList: false, most: MAX_NAMED_FAULTS }
  readonly #summary: Summary = { events: 0, stored: 0, notStored: 0, unknown: 0, refused: 0, complete: false }
  /** Aborted when the client takes no more answers. */
  readonly #gone = new AbortController()
  /** Why the sender may not send any more, and aborted then. */
  #refusal: Problem | undefined
  readonly #refused = new AbortController()
  readonly #endLooks: () => void
  /** Wakes the sending side: the first line is answered, or nothing more comes. */
  readonly #answered = new Condition()
  /** Wakes the reading side: answers were taken. */
  readonly #room = new Condition()
  /** Events that are admitted and not produced yet, and what they will take of Kafka's queue. */
  #ready: { one: Pending; id: string; record: OutgoingRecord }[] = []
  #readyBytes = 0
  /** Refused since the last line with a valid event. */
  #refusedLines = 0
  #refusedBytes = 0
  #reading = true
  #hasEnded = false
  /** Why not all of the request was read. */
  #failure: Problem | undefined
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined

  constructor(deps: StreamDeps) {
    this.#deps = deps
    this.#window = new Window(deps.config.NDJSON_WINDOW_EVENTS, deps.windowBytes)
    this.#endLooks = deps.whileAllowed((problem) => {
      this.#refusal = problem
      this.#refused.abort()
    })
  }

  start(controller: ReadableStreamDefaultController<Uint8Array>): void {
    this.#controller = controller
    void this.#intake()
  }

  /** Sends the answers that are there as one chunk, since a chunk a line costs more than the line; waits until there is one. */
  async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    const window = this.#window
    while (!window.hasAnswer && (this.#reading || !window.isEmpty)) {
      await this.#answered.wait()
      if (this.#gone.signal.aborted) return
    }
    let text = window.take()
    this.#room.notify()
    const isLast = !this.#reading && window.isEmpty
    if (isLast) {
      if (this.#failure !== undefined) text += rareLine({ problem: problemDocument(this.#failure) })
      text += rareLine({ summary: this.#summary })
    }
    controller.enqueue(encoder.encode(text))
    if (!isLast) return
    controller.close()
    this.#end()
  }

  /** The client takes no more answers: no more is read. */
  leave(): void {
    this.#gone.abort()
    this.#answered.notify()
    this.#room.notify()
    this.#endIfLeft()
  }

  async #intake(): Promise<void> {
    const lines = linesOf(this.#deps.body, this.#deps.config.NDJSON_MAX_LINE_BYTES)
    try {
      await this.#read(lines)
    } catch (error) {
      // The client broke off, or the body is not what its encoding says; either way no more of it can be read.
      this.#failure = error instanceof ProblemError ? error.problem : BROKEN_OFF
    } finally {
      // Not awaited: during a read it resolves only when the client sends more.
      void lines.return(undefined).catch(() => undefined)
      this.#handOver()
      this.#reading = false
      this.#answered.notify()
      this.#endIfLeft()
      void this.#watchReader()
    }
  }

  /** Reads lines and produces their events, to the end of the body or until there is a reason to stop. */
  async #read(lines: AsyncGenerator<Line[]>): Promise<void> {
    const { config, ending, nowMs, turns } = this.#deps
    for (;;) {
      // Neither bytes nor empty lines count as progress; otherwise a byte a minute would hold a stream open indefinitely.
      const signals = [ending, this.#gone.signal, this.#refused.signal]
      const next = await within(lines.next(), config.NDJSON_PROGRESS_TIMEOUT_MS, ...signals)
      if (next === undefined) {
        this.#failure = this.#refusal ?? (ending.aborted ? STOPPING : tooSlow(config.NDJSON_PROGRESS_TIMEOUT_MS))
        return
      }
      if (next.done === true) break
      // Lines that arrive together share their time and, where the client sent none, a new trace.
      const origin: Origin = { ...this.#deps.origin, receivedAtMs: nowMs() }
      for (const line of next.value) {
        const waiting = turns.next(origin.tenant)
        if (waiting !== undefined) {
          this.#handOver()
          await waiting
        }
        const bytes = line.kind === 'line' ? line.bytes.length : 0
        if (this.#window.isFull(bytes) && !(await this.#hasRoom(bytes))) return
        this.#failure = this.#refusal
        if (this.#failure !== undefined) return
        const one = this.#window.add(line.number, bytes)
        this.#summary.events++
        let problem: Problem | undefined
        try {
          const published = this.#publish(one, line, origin)
          // Most lines need not wait, and an await costs more than the check.
          problem = published instanceof Promise ? await published : published
        } catch (error) {
          this.#deps.failed(error)
          problem = UNEXPECTED
        }
        if (problem !== undefined) this.#refuse(one, problem)
        if (this.#gone.signal.aborted) return
        this.#failure = this.#countRefused(line.readBytes, problem)
        if (this.#failure !== undefined) return
      }
      this.#handOver()
    }
    this.#summary.complete = true
  }

  /** Counts a line; the problem that ends the stream when too much in a row was refused. */
  #countRefused(readBytes: number, problem: Problem | undefined): Problem | undefined {
    const isRefused = problem !== undefined && outcomeOf(problem) === 'refused'
    this.#refusedLines = isRefused ? this.#refusedLines + 1 : 0
    this.#refusedBytes = isRefused ? this.#refusedBytes + readBytes : 0
    const maxBytes = this.#deps.config.NDJSON_MAX_LINE_BYTES * MAX_LONGEST_LINES_WITHOUT_EVENT
    return this.#refusedLines >= MAX_LINES_WITHOUT_EVENT || this.#refusedBytes > maxBytes
      ? tooManyRefused(this.#refusedLines)
      : undefined
  }

  /** Once nothing more is read, only a client that does not read its answers can hold the stream open. */
  async #watchReader(): Promise<void> {
    while (!this.#hasEnded && !this.#gone.signal.aborted) {
      const took = await this.#room.wait(this.#deps.config.NDJSON_PROGRESS_TIMEOUT_MS)
      if (took || this.#hasEnded || !(this.#window.isEmpty || this.#window.hasAnswer)) continue
      // The connection is the only way left to tell the client.
      this.#controller?.error(new Error('the client does not read its answers'))
      this.leave()
    }
  }

  /** Waits for room for a line of so many bytes; false when the stream has to end instead. */
  async #hasRoom(bytes: number): Promise<boolean> {
    this.#handOver()
    const progressTimeoutMs = this.#deps.config.NDJSON_PROGRESS_TIMEOUT_MS
    const deadline = performance.now() + progressTimeoutMs
    while (this.#window.isFull(bytes)) {
      // Deliveries end by themselves, so if the window stays full the client does not read its answers.
      const hasChanged = await this.#room.wait(deadline - performance.now())
      if (this.#gone.signal.aborted) return false
      if (!hasChanged) {
        this.#failure = notRead(progressTimeoutMs)
        return false
      }
    }
    return true
  }

  /** Makes a line's event ready for Kafka, or returns its problem: a promise only if the line has to wait for quota or for room in the queue. */
  #publish(one: Pending, line: Line, origin: Origin): Problem | undefined | Promise<Problem | undefined> {
    const prepared = this.#prepare(line, origin)
    const cost = line.readBytes
    if (!prepared.ok) {
      const pay = () => ({ waitMs: this.#deps.to.quotas?.take(1, cost) ?? 0 })
      const paid = pay()
      return paid.waitMs === 0 ? prepared.problem : this.#later(paid, pay).then(() => prepared.problem)
    }
    const { id } = (prepared.events[0] as ValidEvent).event
    const record = prepared.records[0] as OutgoingRecord
    const bytes = queuedBytes(record)
    const admission = this.#admit(bytes, cost)
    if (admission.waitMs === 0) {
      this.#addReady(one, id, record, bytes)
      return undefined
    }
    return this.#later(admission, () => this.#admit(bytes, cost)).then((problem) => {
      if (problem === undefined) this.#addReady(one, id, record, bytes)
      return problem
    })
  }

  #prepare(line: Line, origin: Origin): Prepared {
    const { config, defaults, to } = this.#deps
    if (line.kind === 'too long') return { ok: false, problem: lineTooLong(config.NDJSON_MAX_LINE_BYTES) }
    const parsed = parseLine(line.bytes, defaults, config.MAX_NESTING_DEPTH)
    return 'problem' in parsed ? parsed : prepare([parsed], origin, to, this.#scope)
  }

  #admit(bytes: number, cost: number): Admission {
    const { to, origin } = this.#deps
    return admit(to, origin.topic, this.#ready.length + 1, this.#readyBytes + bytes, 1, cost, 'line')
  }

  #addReady(one: Pending, id: string, record: OutgoingRecord, bytes: number): void {
    one.id = id
    this.#ready.push({ one, id, record })
    this.#readyBytes += bytes
  }

  /** Waits until the line is admitted; its problem when that takes too long or Kafka is unavailable. */
  async #later({ waitMs, problem }: Admission, again: () => Admission): Promise<Problem | undefined> {
    this.#handOver()
    const { config, ending } = this.#deps
    const gone = this.#gone.signal
    const deadline = performance.now() + config.NDJSON_PROGRESS_TIMEOUT_MS
    while (waitMs > 0) {
      const leftMs = deadline - performance.now()
      const isOver = leftMs <= 0 || ending.aborted || gone.aborted || this.#refusal !== undefined
      if (waitMs === Number.POSITIVE_INFINITY || isOver)
        return problem?.kind === 'over-quota' ? { ...problem, outcome: 'not stored' } : problem
      await sleep(Math.min(waitMs, leftMs, ENDING_LOOK_MS), gone)
      ;({ waitMs, problem } = again())
    }
    return undefined
  }

  /** Produces the events that are ready in one call, which costs less than many. */
  #handOver(): void {
    if (this.#ready.length === 0) return
    const lines = this.#ready
    this.#ready = []
    this.#readyBytes = 0
    const { to, origin, failed } = this.#deps
    to.producer.produce(lines.map(({ record }) => record)).then(
      (results) => {
        for (const [index, { one, id }] of lines.entries()) {
          const result = results[index] as DeliveryResult
          if (result instanceof ProduceError) this.#refuse(one, undelivered([id], [result], origin.stream, 'line'))
          else {
            const receipt = receiptText(id, origin.stream, result)
            this.#answer(one, `{"line":${one.number},"receipt":${receipt}}\n`, 'stored')
          }
        }
      },
      (error) => {
        failed(error)
        for (const { one } of lines) this.#refuse(one, UNEXPECTED)
      },
    )
  }

  #refuse(one: Pending, problem: Problem): void {
    this.#scope.most -= problem.errors?.length ?? 0
    this.#answer(one, rareLine({ line: one.number, problem: problemDocument(problem) }), outcomeOf(problem))
  }

  #answer(one: Pending, line: string, outcome: EventsOutcome): void {
    this.#summary[outcome === 'not_stored' ? 'notStored' : outcome]++
    this.#deps.count(outcome)
    if (this.#window.answer(one, line, outcome)) this.#answered.notify()
    this.#endIfLeft()
  }

  /** Ends a stream whose client is gone once the outcome of every line is known. */
  #endIfLeft(): void {
    if (this.#gone.signal.aborted && !this.#reading && this.#window.open === 0) this.#end()
  }

  #end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#endLooks()
    this.#room.notify()
    const window = this.#window
    this.#deps.ended(this.#summary, { stored: window.ids('stored'), unknown: window.ids('unknown') })
  }
}

/** The lines that were read and whose answers were not taken yet, in order. */
class Window {
  readonly #lines: Pending[] = []
  #bytes = 0
  /** How many of the lines have no answer yet. */
  open = 0

  constructor(
    private readonly maxEvents: number,
    private readonly maxBytes: () => number,
  ) {}

  get isEmpty(): boolean {
    return this.#lines.length === 0
  }

  /** Whether the first line is answered. */
  get hasAnswer(): boolean {
    return this.#lines[0]?.answer !== undefined
  }

  /** Whether a line of so many bytes has to wait until others are answered. */
  isFull(bytes: number): boolean {
    return !this.isEmpty && (this.#lines.length >= this.maxEvents || this.#bytes + bytes > this.maxBytes())
  }

  add(number: number, bytes: number): Pending {
    const one: Pending = { number, bytes, answer: undefined, outcome: undefined, id: undefined }
    this.#lines.push(one)
    this.#bytes += bytes
    this.open++
    return one
  }

  /** @returns whether it is the first line's answer, which others may wait behind */
  answer(one: Pending, line: string, outcome: EventsOutcome): boolean {
    one.answer = line
    one.outcome = outcome
    this.open--
    return this.#lines[0] === one
  }

  /** Removes the answered lines at the front and returns their answers. */
  take(): string {
    let text = ''
    let taken = 0
    for (const { answer, bytes } of this.#lines) {
      if (answer === undefined) break
      text += answer
      this.#bytes -= bytes
      taken++
    }
    this.#lines.splice(0, taken)
    return text
  }

  /** Ids of the events with this outcome whose answers were not taken. */
  ids(of: EventsOutcome): string[] {
    return this.#lines.flatMap(({ outcome, id }) => (outcome === of ? (id ?? []) : []))
  }
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
  /** Bytes since the previous line, empty lines included. */
  readBytes: number
} & ({ kind: 'line'; bytes: Buffer } | { kind: 'too long' })

/**
 * Splits a stream at line feeds; the last line need not have one. Yields the lines that end in a chunk together, at least one. Drops empty lines, and the
 * content of lines over `maxBytes`.
 * @throws ProblemError when too many bytes in a row hold no event
 */
export async function* linesOf(source: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line[]> {
  const gathered = new Gathered()
  let skipping = false
  let number = 0
  let readBytes = 0
  /** Adds the line that ends here, unless it is blank. */
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
        // A client that sends only line feeds must not cost more than a comparison for each.
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

/** Wakes all that wait for it. */
class Condition {
  #waiting: ((notified: boolean) => void)[] = []

  notify(): void {
    for (const wake of this.#waiting.splice(0)) wake(true)
  }

  /** Resolves with false on a time-out. */
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

/** The promise's value, or undefined when a time-out or an aborted signal comes first. */
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
