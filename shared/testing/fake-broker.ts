import type { IncomingRecord, OutgoingRecord } from '../events/record.ts'
import { type CommittedOffset, type PartitionEnds, partitionName, type TopicPartition } from '../kafka/types.ts'

/** The parts of Kafka's transactions that clients rely on: logs with markers, pending offsets, and a coordinator that may forget to write markers. */

/** The end of a transaction in one of its partitions, or in the group's offsets where `at` is undefined. */
export interface Mark {
  transactionalId: string
  kind: 'commit' | 'abort'
  at: TopicPartition | undefined
}

/**
 * What happens to a marker. A forgotten one is never written although the transaction counts as ended: restarted brokers do that. While a
 * marker is late, the transaction has not ended.
 */
export type MarkFate = 'written' | 'forgotten' | Promise<void>

interface Entry {
  /** undefined for a transaction's marker. */
  record: IncomingRecord | undefined
  /** The producer of its transaction; undefined outside transactions. */
  producer: number | undefined
  state: 'committed' | 'open' | 'aborted'
}

/** A partition's log. */
export class FakeLog implements TopicPartition {
  readonly #entries: Entry[] = []
  /** The first offset that is not deleted. */
  beginning = 0

  constructor(
    readonly topic: string,
    readonly partition: number,
  ) {}

  get end(): number {
    return this.#entries.length
  }

  /** The last stable offset. */
  get stable(): number {
    const first = this.#entries.findIndex(({ state }) => state === 'open')
    return first === -1 ? this.end : first
  }

  ends(): PartitionEnds {
    const { beginning, stable, end } = this
    return { beginning, stable, end }
  }

  /** @param producer the producer of its transaction; undefined: committed at once */
  append({ key, value, headers }: OutgoingRecord, timestampMs: number, producer?: number): IncomingRecord {
    const record: IncomingRecord = {
      topic: this.topic,
      partition: this.partition,
      offset: this.end,
      timestampMs,
      key: typeof key === 'string' ? Buffer.from(key) : key,
      value,
      headers,
    }
    this.#entries.push({ record, producer, state: producer === undefined ? 'committed' : 'open' })
    return record
  }

  /** Ends everything that a producer has open here, from all its transactions. */
  mark(producer: number, kind: Mark['kind']): void {
    for (const entry of this.#entries)
      if (entry.state === 'open' && entry.producer === producer)
        entry.state = kind === 'commit' ? 'committed' : 'aborted'
    this.#entries.push({ record: undefined, producer, state: 'committed' })
  }

  /** Removes one record, as compaction or data loss does. */
  lose(offset: number): void {
    const entry = this.#entries[offset]
    if (entry !== undefined) entry.record = undefined
  }

  read(from: number, to: number, isolation: 'committed' | 'uncommitted'): IncomingRecord[] {
    return this.#entries
      .slice(Math.max(this.beginning, from), Math.max(0, to))
      .flatMap(({ record, state }) =>
        record !== undefined && (isolation === 'uncommitted' || state === 'committed') ? [record] : [],
      )
  }
}

/** A transactional ID, as its coordinator knows it. */
export interface Owner {
  readonly transactionalId: string
  readonly producer: number
  /** Clients with earlier epochs are fenced. */
  epoch: number
  /** When its open transaction began, on the monotonic clock. */
  openedMs: number | undefined
  /** The logs in the open transaction; undefined stands for the group's offsets. */
  readonly touched: Set<FakeLog | undefined>
  /** Set while an ended transaction has late markers. The next transaction waits for it. */
  ending: Promise<void> | undefined
}

/** Transactions, and the committed offsets of one group. */
export class FakeCoordinator {
  readonly #owners = new Map<string, Owner>()
  readonly #committed = new Map<string, CommittedOffset>()
  /** By producer ID. */
  readonly #pending = new Map<number, CommittedOffset[]>()

  /** @param fateOf called for every marker */
  constructor(readonly fateOf: (mark: Mark) => MarkFate) {}

  owner(transactionalId: string): Owner {
    const found = this.#owners.get(transactionalId) ?? {
      transactionalId,
      producer: this.#owners.size + 1,
      epoch: 0,
      openedMs: undefined,
      touched: new Set<FakeLog | undefined>(),
      ending: undefined,
    }
    this.#owners.set(transactionalId, found)
    return found
  }

  /** Fences earlier clients of the ID and aborts their open transaction. @returns the new epoch */
  async initialise(transactionalId: string): Promise<number> {
    const owner = this.owner(transactionalId)
    this.timeOut(owner)
    const epoch = ++owner.epoch
    while (owner.ending !== undefined) await owner.ending
    return epoch
  }

  /** Aborts a transaction whose client is dead or too slow. */
  timeOut(owner: Owner): void {
    if (owner.openedMs === undefined) return
    owner.epoch++
    this.end(owner, 'abort')
  }

  /** Aborts all transactions that have been open this long. */
  timeOutAll(afterMs: number): void {
    const sinceMs = performance.now() - afterMs
    for (const owner of this.#owners.values())
      if (owner.openedMs !== undefined && owner.openedMs <= sinceMs) this.timeOut(owner)
  }

  /** Adds an offset to the owner's open transaction. */
  add(owner: Owner, offsets: readonly CommittedOffset[]): void {
    this.#pending.set(owner.producer, [...(this.#pending.get(owner.producer) ?? []), ...offsets])
  }

  /** Ends the owner's open transaction, as far as its markers are written. */
  end(owner: Owner, kind: Mark['kind']): void {
    const { transactionalId, producer } = owner
    const late: Promise<void>[] = []
    for (const log of owner.touched) {
      const at = log && { topic: log.topic, partition: log.partition }
      const write = (): void => (log === undefined ? this.#mark(producer, kind) : log.mark(producer, kind))
      const fate = this.fateOf({ transactionalId, kind, at })
      if (fate === 'written') write()
      else if (fate !== 'forgotten') late.push(fate.then(write))
    }
    owner.touched.clear()
    owner.openedMs = undefined
    if (late.length === 0) return
    owner.ending = Promise.all(late).then(() => {
      owner.ending = undefined
    })
  }

  /** Ends everything that a producer has pending, from all its transactions. */
  #mark(producer: number, kind: Mark['kind']): void {
    if (kind === 'commit')
      for (const offset of this.#pending.get(producer) ?? []) this.#committed.set(partitionName(offset), offset)
    this.#pending.delete(producer)
  }

  /** Commits outside a transaction, as a tool does. */
  commit(offset: CommittedOffset): void {
    this.#committed.set(partitionName(offset), offset)
  }

  committed(at: TopicPartition): CommittedOffset {
    const { topic, partition } = at
    return this.#committed.get(partitionName(at)) ?? { topic, partition, offset: -1, metadata: '' }
  }

  /** Whether an open transaction is about to change it. */
  isPending(at: TopicPartition): boolean {
    const name = partitionName(at)
    return [...this.#pending.values()].some((offsets) => offsets.some((one) => partitionName(one) === name))
  }
}
