import type { Span } from '@opentelemetry/api'
import type { CommittedOffset, IncomingRecord, TopicPartition } from '../shared/kafka/types.ts'
import { siblingTopic, type TopicRole } from '../shared/topics.ts'
import { decodeAhead, encodeAhead } from './ahead.ts'
import type { Job, Outcome, PartitionState } from './consume.ts'
import { Deduplication } from './dedupe.ts'

/** A record between its fetch and the commit of its outcome. */
export interface Item {
  job: Job
  source: Source
  /** What it holds of the memory that is bounded. */
  heldBytes: number
  /** Set once it is decided. */
  outcome: Exclude<Outcome, { kind: 'later' | 'abandoned' }> | undefined
  place: Place
  /** From fetch to commit; undefined when nobody records its trace. */
  span: Span | undefined
}

/** A record's place in the order of its source. */
interface Place {
  offset: number
  timestampMs: number
  /** Its outcome is in a transaction. */
  taken: boolean
}

/** One of the two partitions that are read for an input partition: the stream's own, and its `.retry`. */
export class Source implements TopicPartition {
  /** In order of offset, from the oldest that is not committed. */
  readonly #places: Place[] = []
  #head = 0
  /** The next offset to come; -1 before the first record of a partition that nothing was committed of. */
  #next: number
  /** Offsets beyond the committed one that an earlier owner has done. */
  readonly #ahead: Set<number>
  /** Of its records between fetch and commit. */
  heldBytes = 0
  /** Fetched and not decided. */
  open = 0
  paused = false

  constructor(
    readonly owner: Partition,
    readonly role: 'input' | 'retry',
    committed: CommittedOffset,
  ) {
    this.topic = committed.topic
    this.partition = committed.partition
    this.#next = committed.offset
    this.#ahead = decodeAhead(committed.offset, committed.metadata)
  }

  readonly topic: string
  readonly partition: number

  /** @returns its place; undefined for a record that needs nothing: a resumed partition brought it again, or an earlier owner has done it */
  add({ offset, timestampMs }: IncomingRecord): Place | undefined {
    if (offset < this.#next) return undefined
    this.#next = offset + 1
    const done = this.#ahead.delete(offset)
    const place = { offset, timestampMs, taken: done }
    this.#places.push(place)
    return done ? undefined : place
  }

  /** The oldest record that is not committed. */
  get oldest(): Readonly<Place> | undefined {
    while (this.#places[this.#head]?.taken === true) this.#head++
    if (this.#head > COMPACT_AT) {
      this.#places.splice(0, this.#head)
      this.#head = 0
    }
    return this.#places[this.#head]
  }

  /** How many offsets lie between the oldest record that is not committed and the next to come. */
  get span(): number {
    const { oldest } = this
    return oldest === undefined ? 0 : this.#next - oldest.offset
  }

  /**
   * What a transaction commits: the offset of the oldest record that is in none, so that no record is ever skipped, and which later ones
   * are in this one or in one before.
   */
  commit(): CommittedOffset {
    const { topic, partition, oldest } = this
    const offset = oldest?.offset ?? this.#next
    const done: number[] = []
    for (let index = this.#head + 1; index < this.#places.length; index++) {
      const place = this.#places[index]
      if (place?.taken === true) done.push(place.offset)
    }
    for (const ahead of this.#ahead) if (ahead > offset) done.push(ahead)
    return {
      topic,
      partition,
      offset,
      metadata: encodeAhead(
        offset,
        done.sort((a, b) => a - b),
      ),
    }
  }
}

/** Committed places at the front of a source that are worth moving the others for. */
const COMPACT_AT = 1024

/** All state of one assigned input partition. It lives as long as the assignment and is rebuilt from Kafka at the next. */
export class Partition implements PartitionState, TopicPartition {
  readonly dedupe: Deduplication
  /** Events that wait in `.retry`, by key: later ones of the key go there too, or they would overtake. */
  readonly #waiting = new Map<string, number>()
  /** Records in `.retry` that are not done, with or without a key. */
  waitingRecords = 0
  /** Aborted when nothing new is to be begun. */
  readonly ending = new AbortController()
  /** Aborted when what runs is given up too. */
  readonly #given = new AbortController()
  sources: { input: Source; retry: Source } | undefined
  /** Why it could not be prepared when that was last tried. */
  fault: string | undefined
  /** Decisions that are being made. */
  running = 0
  /** Decided and not committed. */
  uncommitted = 0
  #idle: (() => void) | undefined

  constructor(
    readonly topic: string,
    readonly partition: number,
    readonly tenant: string,
    readonly stream: string,
    dedupeWindowRecords: number,
  ) {
    this.dedupe = new Deduplication(dedupeWindowRecords)
  }

  get signal(): AbortSignal {
    return this.#given.signal
  }

  /** The input partition and the one of `.retry` that belongs to it. */
  get read(): TopicPartition[] {
    const { topic, partition } = this
    return [
      { topic, partition },
      { topic: siblingTopic(topic, 'retry'), partition },
    ]
  }

  sibling(role: TopicRole): TopicPartition {
    return { topic: siblingTopic(this.topic, role), partition: this.partition }
  }

  waits(key: string): boolean {
    return this.#waiting.has(key)
  }

  /** A record was, or is found to be, in `.retry`. */
  addWaiting(key: string | undefined): void {
    this.waitingRecords++
    if (key !== undefined) this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1)
  }

  /** A record of `.retry` has its outcome. */
  removeWaiting(key: string | undefined): void {
    this.waitingRecords--
    if (key === undefined) return
    const left = (this.#waiting.get(key) ?? 1) - 1
    if (left === 0) this.#waiting.delete(key)
    else this.#waiting.set(key, left)
  }

  /** Told whenever `running` or `uncommitted` went down. */
  settle(): void {
    if (this.running === 0 && this.uncommitted === 0) this.#idle?.()
  }

  /**
   * Begins nothing more, and waits until all that was begun is decided and committed.
   * @param timeoutMs after half of it, handlers that still run are given up, so that the other half is left for what is decided
   */
  async drain(timeoutMs: number): Promise<void> {
    this.ending.abort()
    if (this.running === 0 && this.uncommitted === 0) return
    const giveUp = setTimeout(() => this.#given.abort(), timeoutMs / 2)
    let overdue: ReturnType<typeof setTimeout> | undefined
    await new Promise<void>((resolve) => {
      this.#idle = resolve
      overdue = setTimeout(resolve, timeoutMs)
    })
    clearTimeout(giveUp)
    clearTimeout(overdue)
  }

  /** Gives up everything at once: nothing of it is committed any more. */
  drop(): void {
    this.ending.abort()
    this.#given.abort()
    this.sources = undefined
  }
}
