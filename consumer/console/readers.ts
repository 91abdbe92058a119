import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader, TopicPartition } from '../../shared/kafka/types.ts'
import { sleep, within } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'

/** The clients that read the log for requests. */

/** How long a request waits for a free client. */
const FREE_TIMEOUT_MS = 5_000

/** How long the cluster's topics are remembered. */
const TOPICS_KEPT_MS = 5_000

/** How long a request for offsets or topics may take, retries included. */
const ANSWER_TIMEOUT_MS = 20_000

/** A client reads one set of ranges at a time, so there are several. They connect at first use and stay open. */
export class Readers {
  /** For offsets, groups and topics, which do not wait for reads. */
  readonly meta: RangeReader
  readonly #free: RangeReader[] = []
  #made = 0
  #waiting: ((reader: RangeReader) => void)[] = []
  #isTimeSearched = false
  #topics: { atMs: number; counts: Promise<ReadonlyMap<string, number>> } | undefined

  /** @param open makes a client; its number is part of its name */
  constructor(
    readonly open: (number: number) => RangeReader,
    readonly most: number,
  ) {
    this.meta = open(0)
  }

  /** Clients that read now. */
  get busy(): number {
    return this.#made - this.#free.length
  }

  /** Lends a client. @throws ProblemError when none is free for too long */
  async use<T>(signal: AbortSignal, work: (reader: RangeReader) => Promise<T>): Promise<T> {
    return this.#lend(this.#takeFree() ?? (await this.#wait(signal)), work)
  }

  /** Clients that can be lent now. */
  get free(): number {
    return this.most - this.busy
  }

  /** Lends one of those that are free. @throws Error when none is */
  async useFree<T>(work: (reader: RangeReader) => Promise<T>): Promise<T> {
    const reader = this.#takeFree()
    if (reader === undefined) throw new Error('no reader is free')
    return this.#lend(reader, work)
  }

  async #lend<T>(reader: RangeReader, work: (reader: RangeReader) => Promise<T>): Promise<T> {
    try {
      return await work(reader)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(reader)
      else next(reader)
    }
  }

  #takeFree(): RangeReader | undefined {
    return this.#free.pop() ?? (this.#made < this.most ? this.open(++this.#made) : undefined)
  }

  async #wait(signal: AbortSignal): Promise<RangeReader> {
    const { promise, resolve } = Promise.withResolvers<RangeReader>()
    this.#waiting.push(resolve)
    const given = new AbortController()
    const got = await Promise.race([
      promise,
      sleep(FREE_TIMEOUT_MS, AbortSignal.any([signal, given.signal])).then(() => undefined),
    ])
    given.abort()
    if (got !== undefined) return got
    // Given in the meantime, it goes back.
    if (!this.#waiting.includes(resolve)) return promise
    this.#waiting = this.#waiting.filter((one) => one !== resolve)
    throw new ProblemError({
      kind: 'overloaded',
      detail: `All ${this.most} readers of the log are busy (MAX_SCANS). Try again.`,
      retryAfterSeconds: 1,
    })
  }

  /** The number of a topic's partitions; 0 where it does not exist, which asking does not change. */
  async partitions(topic: string): Promise<number> {
    const nowMs = performance.now()
    if (this.#topics === undefined || nowMs - this.#topics.atMs > TOPICS_KEPT_MS) {
      const counts = this.meta.topics()
      this.#topics = { atMs: nowMs, counts }
      counts.catch(() => {
        this.#topics = undefined
      })
    }
    return (await answered(this.#topics.counts)).get(topic) ?? 0
  }

  /** Topics were created. */
  forgetTopics(): void {
    this.#topics = undefined
  }

  /**
   * The offsets of the first records at or after a time; where there are none, the end as of the bounds.
   * @returns undefined where the broker does not search by time, as librdkafka's mock cluster
   */
  async offsetsAt(
    partitions: readonly TopicPartition[],
    timeMs: number,
    bounds: readonly { from: number; to: number }[],
  ): Promise<number[] | undefined> {
    if (partitions.length === 0) return []
    const found = await answered(this.meta.offsetsAt(partitions, Math.max(0, timeMs)))
    const isNone = found.every((offset) => offset === undefined)
    if (isNone && !(await this.#searchesByTime(partitions, bounds))) return undefined
    return partitions.map((_, index) => found[index] ?? bounds[index]?.to ?? 0)
  }

  /** Whether it has a record at or after the beginning of time, where it has records. */
  async #searchesByTime(
    partitions: readonly TopicPartition[],
    bounds: readonly { from: number; to: number }[],
  ): Promise<boolean> {
    const filled = partitions.filter((_, index) => (bounds[index]?.from ?? 0) < (bounds[index]?.to ?? 0))
    if (this.#isTimeSearched || filled.length === 0) return true
    this.#isTimeSearched = (await answered(this.meta.offsetsAt(filled, 0))).some((offset) => offset !== undefined)
    return this.#isTimeSearched
  }

  /** What committed records there are of partitions: from the beginning up to the last stable offset. */
  async bounds(partitions: readonly TopicPartition[]): Promise<{ from: number; to: number }[]> {
    const ends = await answered(this.meta.ends(partitions))
    return ends.map(({ beginning, stable }) => ({ from: beginning, to: stable }))
  }

  async close(): Promise<void> {
    await Promise.all([this.meta, ...this.#free].map((reader) => reader.close()))
  }
}

/** @throws ProblemError when Kafka does not answer in time */
export const answered = <T>(asked: Promise<T>): Promise<T> => orProblem(within(ANSWER_TIMEOUT_MS, asked))

/** @throws ProblemError when Kafka cannot be read */
export async function orProblem<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked
  } catch (error) {
    if (error instanceof ProblemError) throw error
    throw new ProblemError({
      kind: 'kafka-unavailable',
      detail: `Kafka cannot be read now: ${messageOf(error)}.`,
      retryAfterSeconds: 5,
    })
  }
}
