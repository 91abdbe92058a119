import { NO_HEADERS } from '../../shared/events/headers.ts'
import type { OutgoingRecord } from '../../shared/events/record.ts'
import { actsTopic } from '../../shared/events/topics.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader, Transactor } from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { type ActRecord, ActsState, decodeAct, encodeAct } from './acts-log.ts'
import { answered, orProblem, type Readers } from './readers.ts'
import { type Budget, isComplete, scan } from './scan.ts'
import type { Stream } from './streams.ts'
import { MASK } from './view.ts'

/**
 * Acts on streams. An act's records, and the record that says who did it, are written in one transaction of the stream's transactional id, after its
 * acts so far were read: so of consoles that act at the same time, and after a kill at any moment, each act takes effect once or not at all.
 */

/** How long opening a client for transactions may take: a predecessor's transaction has to end first. */
const OPEN_TIMEOUT_MS = 15_000

/** How often an act is tried whose transaction failed, and within what time. */
const MAX_ATTEMPTS = 5
const ATTEMPTS_TIMEOUT_MS = 20_000

/** An idle client is closed after this time. */
const IDLE_CLOSE_MS = 60_000

/**
 * How long to wait for the acts of an earlier transaction to become readable. The coordinator has ended it by then, so they mostly are already. Two consoles
 * that wait for longer may fence each other meanwhile, over and over.
 */
const SETTLE_TIMEOUT_MS = 250
const SETTLE_PAUSE_MS = 20

/** So many acts of a stream may wait for their turn. */
const MAX_WAITING = 100

/** In place of an edit of data that is masked. */
const MASKED_EDIT = { data: MASK }

/** What is to be done. Without records and acts, nothing is written. */
export interface Decision<R> {
  records: readonly OutgoingRecord[]
  acts: readonly ActRecord[]
  result: R
}

export interface ActsDeps {
  readers: Readers
  /** Makes a client for transactions, not started. */
  openTransactor(transactionalId: string): Transactor
  transactionalId(stream: Pick<Stream, 'tenant' | 'name'>): string
  /** Creates the stream’s topic of acts if it is missing. @throws Error with the reason */
  ensureTopic(stream: Pick<Stream, 'input'>): Promise<void>
  log: Logger
  signal: AbortSignal
}

/** The acts of all streams. */
export class Acts {
  readonly #streams = new Map<string, StreamActs>()

  constructor(readonly deps: ActsDeps) {}

  of(stream: Pick<Stream, 'tenant' | 'name' | 'input'>): StreamActs {
    const known = this.#streams.get(stream.input) ?? new StreamActs(stream, this.deps)
    this.#streams.set(stream.input, known)
    return known
  }

  async close(): Promise<void> {
    await Promise.all([...this.#streams.values()].map((one) => one.close()))
  }
}

class StreamActs {
  readonly #topic: string
  #state = new ActsState()
  /** The next offset to read. */
  #next = 0
  #reading: Promise<ActsState> | undefined
  #transactor: Transactor | undefined
  #turn: Promise<unknown> = Promise.resolve()
  #waiting = 0
  #idle: ReturnType<typeof setTimeout> | undefined

  constructor(
    readonly stream: Pick<Stream, 'tenant' | 'name' | 'input'>,
    readonly deps: ActsDeps,
  ) {
    this.#topic = actsTopic(stream.input)
  }

  /** The state as of all committed acts. @throws ProblemError when Kafka cannot be read */
  current(): Promise<ActsState> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  async #read(): Promise<ActsState> {
    const { readers } = this.deps
    if ((await readers.partitions(this.#topic)) === 0) return this.#state
    const at = { topic: this.#topic, partition: 0 }
    const [bounds] = await readers.bounds([at])
    const { from = 0, to = 0 } = bounds ?? {}
    // The topic was made anew.
    if (to < this.#next) {
      this.#state = new ActsState()
      this.#next = 0
    }
    const first = Math.max(from, this.#next)
    if (first < to)
      // Not with a reader for scans, since whoever has one of these may ask for acts, too.
      await orProblem(
        readers.meta.read([{ ...at, from: first, to }], ({ value }) => {
          const act = decodeAct(value)
          if (act !== undefined) this.#state.take(act)
        }),
      )
    this.#next = Math.max(this.#next, to)
    return this.#state
  }

  /** The latest acts, newest first. What streams mask is masked in them. */
  async list(
    limit: number,
    redact: readonly string[],
    reader: RangeReader,
    budget: Budget,
  ): Promise<{ acts: ActRecord[]; complete: boolean }> {
    const at = { topic: this.#topic, partition: 0 }
    if ((await this.deps.readers.partitions(this.#topic)) === 0) return { acts: [], complete: true }
    const [bounds = { from: 0, to: 0 }] = await this.deps.readers.bounds([at])
    const found: { offset: number; act: ActRecord }[] = []
    const isDone = (): boolean => found.length >= limit
    const searched = await scan(
      reader,
      [{ ...at, ...bounds }],
      { order: 'newest', budget, isDone },
      ({ offset, value }) => {
        const act = decodeAct(value)
        if (act !== undefined) found.push({ offset, act })
      },
    )
    found.sort((a, b) => b.offset - a.offset)
    const acts = found
      .slice(0, limit)
      .map(({ act }) => (redact.length === 0 || !('edit' in act) ? act : { ...act, edit: MASKED_EDIT }))
    return { acts, complete: isComplete(searched) && found.length <= limit }
  }

  /**
   * Acts once. `decide` gets the state as of all earlier acts, and may be called again when a transaction fails.
   * @throws ProblemError when that was not possible; then nothing was done, unless its outcome is "unknown"
   */
  perform<R>(decide: (state: ActsState) => Promise<Decision<R>>): Promise<R> {
    if (this.#waiting >= MAX_WAITING)
      return Promise.reject(
        new ProblemError({
          kind: 'overloaded',
          detail: `${MAX_WAITING} acts on the stream wait already. Try again.`,
          outcome: 'not stored',
          retryAfterSeconds: 1,
        }),
      )
    this.#waiting++
    const mine = this.#turn.then(() => this.#perform(decide)).finally(() => this.#waiting--)
    this.#turn = mine.catch(() => undefined)
    return mine
  }

  async #perform<R>(decide: (state: ActsState) => Promise<Decision<R>>): Promise<R> {
    const { log, signal } = this.deps
    clearTimeout(this.#idle)
    let fault = 'closed'
    let outcome: 'not stored' | 'unknown' = 'not stored'
    const deadlineMs = performance.now() + ATTEMPTS_TIMEOUT_MS
    for (let attempt = 1; attempt <= MAX_ATTEMPTS && !signal.aborted && performance.now() < deadlineMs; attempt++) {
      if (attempt > 1) await sleep(delayMs(CONNECT_BACKOFF, attempt - 1), signal)
      try {
        const transactor = await this.#open()
        const { records, acts, result } = await decide(await this.current())
        if (records.length === 0 && acts.length === 0) return result
        const written = await transactor.write([...records, ...acts.map((act) => this.#recordOf(act))])
        if (written.kind === 'committed') {
          // They may not be readable yet.
          for (const act of acts) this.#state.take(act)
          return result
        }
        fault = written.reason
        // Only a client that starts anew knows whether the transaction took effect: it waits for its end, and the acts are read again.
        outcome = written.kind === 'fatal' ? 'unknown' : 'not stored'
        if (written.kind === 'fatal') await this.#close()
        else if (!written.passing) throw refused(written.failed, fault)
      } catch (error) {
        // A refusal would be the same again.
        if (
          error instanceof ProblemError &&
          (error.problem.kind !== 'kafka-unavailable' || error.problem.outcome !== undefined)
        )
          throw error
        fault = messageOf(error)
        await this.#close()
      } finally {
        clearTimeout(this.#idle)
        this.#idle = setTimeout(() => void this.#close(), IDLE_CLOSE_MS)
        this.#idle.unref()
      }
      log.warn({ topic: this.#topic, reason: fault, attempt }, 'an act could not be committed; trying again')
    }
    throw new ProblemError({
      kind: 'kafka-unavailable',
      detail: `Kafka did not take it: ${fault}. Doing the same again has its effect once.`,
      outcome,
      retryAfterSeconds: 5,
    })
  }

  #recordOf(act: ActRecord): OutgoingRecord {
    return { topic: this.#topic, partition: 0, key: act.id, value: encodeAct(act), headers: NO_HEADERS }
  }

  /** A client whose id has no transaction open; all acts before it are in the state. */
  async #open(): Promise<Transactor> {
    if (this.#transactor !== undefined) return this.#transactor
    const { readers, openTransactor, transactionalId, ensureTopic, log } = this.deps
    await ensureTopic(this.stream)
    readers.forgetTopics()
    const transactor = openTransactor(transactionalId(this.stream))
    try {
      await within(OPEN_TIMEOUT_MS, transactor.start())
      if (!(await this.#isSettled())) {
        // Aborted, not committed: its letters are open again, and a redrive that took effect nevertheless is recognised as the same generation.
        log.warn({ topic: this.#topic }, 'a restarted broker has not ended a transaction of acts: aborting it')
        const ended = await transactor.release([{ topic: this.#topic, partition: 0 }], 'records')
        if (ended.kind !== 'released' || !(await this.#isSettled()))
          throw new Error(`a transaction is open in ${this.#topic}`)
      }
    } catch (error) {
      const connection = transactor.connection()
      await transactor.close()
      throw connection.state === 'connecting' ? new Error(connection.reason) : error
    }
    this.#transactor = transactor
    await this.#reading?.catch(() => undefined)
    // What the client before this one held to be done may not have been.
    this.#state = new ActsState()
    this.#next = 0
    return transactor
  }

  /** Waits until every transaction of acts has ended. @returns false where one does not in time */
  async #isSettled(): Promise<boolean> {
    const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
    for (;;) {
      const [ends] = await answered(this.deps.readers.meta.ends([{ topic: this.#topic, partition: 0 }]))
      if (ends === undefined || ends.stable >= ends.end) return true
      if (performance.now() > deadlineMs) return false
      await sleep(SETTLE_PAUSE_MS)
    }
  }

  async #close(): Promise<void> {
    const open = this.#transactor
    this.#transactor = undefined
    await open?.close()
  }

  async close(): Promise<void> {
    clearTimeout(this.#idle)
    await this.#turn
    await this.#close()
  }
}

function refused(failed: ReadonlyMap<number, { reason: string; tooLarge: boolean }>, fault: string): ProblemError {
  const [first] = failed.values()
  if (first?.tooLarge === true)
    return new ProblemError({ kind: 'event-too-large', detail: `The broker refused a record of it: ${first.reason}.` })
  return new ProblemError({
    kind: 'kafka-unavailable',
    detail: `Kafka refused it: ${first?.reason ?? fault}.`,
    outcome: 'not stored',
    retryAfterSeconds: 5,
  })
}
