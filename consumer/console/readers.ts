import { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader, TopicPartition } from '../../shared/kafka/types.ts'
import { sleep, within } from '../../shared/service/retry.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { Share, type Sharing, UNSHARED } from './shares.ts'

/** The clients that read the log for requests. */

/** How long a request waits for a free client. */
const FREE_TIMEOUT_MS = 5_000

/** How long the cluster's topics are remembered. */
const TOPICS_KEPT_MS = 5_000

/** How long a request for offsets or topics may take, retries included. */
const ANSWER_TIMEOUT_MS = 20_000

/** Who reads, and until when. */
export interface Asking {
  signal: AbortSignal
  /** A tenant, or operators of all. */
  caller: string
}

/** A client reads one set of ranges at a time, so there are several. They connect at first use and stay open. */
export class Readers {
  /** For offsets, groups and topics, which do not wait for reads. */
  readonly meta: RangeReader
  readonly #free: RangeReader[] = []
  #made = 0
  readonly #lent: Share
  #isTimeSearched = false
  #topics: { atMs: number; counts: Promise<ReadonlyMap<string, number>> } | undefined

  /** @param open makes a client; its number is part of its name */
  constructor(
    readonly open: (number: number) => RangeReader,
    readonly most: number,
    sharing: Sharing = UNSHARED,
  ) {
    this.meta = open(0)
    this.#lent = new Share(most, sharing)
  }

  /** Clients that read now. */
  get busy(): number {
    return this.#lent.inside
  }

  /** Lends a client. @throws ProblemError when none is free for too long */
  async use<T>(asking: Asking, work: (reader: RangeReader) => Promise<T>): Promise<T> {
    return this.#lend(this.#lent.take(asking.caller) ?? (await this.#wait(asking)), work)
  }

  /** Clients that can be lent to the caller now. */
  free(caller: string): number {
    return this.#lent.free(caller)
  }

  /** Lends one of those that are free. @throws Error when none is */
  async useFree<T>(caller: string, work: (reader: RangeReader) => Promise<T>): Promise<T> {
    const giveBack = this.#lent.take(caller)
    if (giveBack === undefined) throw new Error('no reader is free')
    return this.#lend(giveBack, work)
  }

  async #lend<T>(giveBack: () => void, work: (reader: RangeReader) => Promise<T>): Promise<T> {
    let reader: RangeReader | undefined
    try {
      reader = this.#free.pop() ?? this.open(++this.#made)
      return await work(reader)
    } finally {
      if (reader !== undefined) this.#free.push(reader)
      giveBack()
    }
  }

  async #wait({ signal, caller }: Asking): Promise<() => void> {
    const given = new AbortController()
    const late = sleep(FREE_TIMEOUT_MS, AbortSignal.any([signal, given.signal]))
    const giveBack = await this.#lent.wait(caller, late)
    given.abort()
    if (giveBack !== undefined) return giveBack
    throw this.#lent.refusal(caller, 'readers of the log (MAX_SCANS)', 1)
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
