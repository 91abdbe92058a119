import { headerText, NO_HEADERS, REDRIVEN_FROM } from '../../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { actsTopic } from '../../shared/events/topics.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import {
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { placeIn } from '../decode.ts'
import { heldBack, writerOf, writtenAgain } from '../hanging.ts'
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

const FORGOTTEN = 'a restarted broker has not ended a transaction of acts'

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
  /** The client's lost connections when it was last known that no transaction is open. */
  #disconnects = 0
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
        outcome = written.kind === 'fatal' ? 'unknown' : 'not stored'
        if (written.kind === 'aborted' && !written.passing) throw refused(written.failed, fault)
        // Only a client that starts anew knows whether the transaction took effect: it waits for its end, and the acts are read again.
        await this.#close()
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
        this.#idle = setTimeout(() => this.#rest(), IDLE_CLOSE_MS)
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
    const known = this.#transactor
    // When a connection is lost, a broker may have restarted, and may have forgotten to end the last transaction.
    if (known !== undefined && known.disconnects() === this.#disconnects) return known
    await this.#close()
    const { readers, openTransactor, transactionalId, ensureTopic, log } = this.deps
    await ensureTopic(this.stream)
    readers.forgetTopics()
    const transactor = openTransactor(transactionalId(this.stream))
    try {
      await within(OPEN_TIMEOUT_MS, transactor.start())
      this.#disconnects = transactor.disconnects()
      if (!(await this.#isSettled())) {
        // Aborted, not committed: its letters are open again, and a redrive that took effect nevertheless is recognised as the same generation.
        log.warn({ topic: this.#topic }, `${FORGOTTEN}: aborting it`)
        const ended = await transactor.release([{ topic: this.#topic, partition: 0 }], 'records')
        if (ended.kind !== 'released' || !(await this.#isSettled()))
          throw new Error(`a transaction is open in ${this.#topic}`)
      }
      await this.#reading?.catch(() => undefined)
      // What the client before this one held to be done may not have been.
      this.#state = new ActsState()
      this.#next = 0
      await this.#endRedrives(transactor)
    } catch (error) {
      const connection = transactor.connection()
      await transactor.close()
      throw connection.state === 'connecting' ? new Error(connection.reason) : error
    }
    this.#transactor = transactor
    return transactor
  }

  /** Waits until every transaction of acts has ended. @returns false where one does not in time */
  #isSettled(): Promise<boolean> {
    return settles(async () => (await this.#heldBack([{ topic: this.#topic, partition: 0 }])).length === 0)
  }

  /** The ranges of partitions that an open transaction holds back. */
  #heldBack(partitions: readonly TopicPartition[]): Promise<Range[]> {
    return answered(heldBack(partitions, this.deps.readers.meta))
  }

  /**
   * Ends transactions that are open in the stream's own topic only, as their acts were: the marker of the next commit in the partition would commit them, too,
   * and until then whatever comes after them there is not read.
   */
  async #endRedrives(transactor: Transactor): Promise<void> {
    const { log, readers } = this.deps
    const { input } = this.stream
    const count = await readers.partitions(input)
    const partitions = Array.from({ length: count }, (_, partition) => ({ topic: input, partition }))
    let first: IncomingRecord[] = []
    const isSettled = await settles(async () => {
      first = []
      const held = await this.#heldBack(partitions)
      if (held.length === 0) return true
      // The first record that is held back is the first one of an open transaction, which may be another client's.
      const ranges = held.map((range) => ({ ...range, to: range.from + 1 }))
      const take = (record: IncomingRecord): void => {
        if (writerOf(record) === transactor.transactionalId) first.push(record)
      }
      await orProblem(readers.meta.readUncommitted(ranges, take))
      return first.length === 0
    })
    if (isSettled) return
    const state = await this.current()
    const isRedriven = (record: IncomingRecord): boolean => {
      const letter = placeIn(headerText(record.headers, REDRIVEN_FROM))
      return letter !== undefined && state.actOf(letter)?.act === 'redrive'
    }
    const { done = [], undone = [] } = Object.groupBy(first, (record) => (isRedriven(record) ? 'done' : 'undone'))
    if (undone.length > 0) {
      const places = undone.map(({ topic, partition }) => ({ topic, partition }))
      log.warn({ partitions: places.map(partitionName) }, `${FORGOTTEN}: aborting it`)
      const ended = await transactor.release(places, 'records')
      if (ended.kind !== 'released') throw new Error(ended.reason)
    }
    if (done.length > 0) {
      // The marker of a commit that writes the first of its redrives again, which is recognised as the same generation.
      log.warn({ partitions: done.map(partitionName) }, `${FORGOTTEN}: committing it`)
      const ended = await transactor.write(done.map(writtenAgain))
      if (ended.kind !== 'committed') throw new Error(ended.reason)
    }
  }

  /** Closes the client, which is idle. What a restarted broker has forgotten is ended before. */
  #rest(): void {
    this.#turn = this.#turn
      .then(async () => {
        if (this.#transactor === undefined) return
        try {
          await this.#open()
        } finally {
          await this.#close()
        }
      })
      .catch((error) => {
        // The next act tries it again.
        this.deps.log.warn(
          { topic: this.#topic, reason: messageOf(error) },
          'an idle client of acts could not be closed in order',
        )
      })
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

/** Asks until it is so. @returns false where it is not in time */
async function settles(isSo: () => Promise<boolean>): Promise<boolean> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
  for (;;) {
    if (await isSo()) return true
    if (performance.now() > deadlineMs) return false
    await sleep(SETTLE_PAUSE_MS)
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
