import { hashOf } from '../kafka/identity.ts'
import type {
  CommittedOffset,
  Connection,
  Delivery,
  GroupConsumer,
  GroupListener,
  IncomingRecord,
  Membership,
  OutgoingRecord,
  ProduceError,
  RangeReader,
  RecordProducer,
  TopicAdmin,
  TopicPartition,
  TransactionResult,
  Transactor,
} from '../kafka/types.ts'

/**
 * Kafka in memory, for unit tests of both services: topics of partitions of records, one consumer group, transactions that take effect as a
 * whole. It has no wire, no other members and no timing; what rests on those is tested against a real broker.
 */
export class FakeKafka {
  readonly #topics = new Map<string, IncomingRecord[][]>()
  readonly #committed = new Map<string, CommittedOffset>()
  #arrived: (() => void)[] = []
  /** Every transaction that was committed, in order. */
  readonly transactions: { outputs: readonly OutgoingRecord[]; offsets: readonly CommittedOffset[] }[] = []
  /** What the next transactions come to instead of being committed. */
  readonly transactionFaults: Exclude<TransactionResult, { kind: 'committed' }>[] = []
  /** What the next records that are produced are refused with. */
  readonly produceFaults: ProduceError[] = []
  /** While set, records are not acknowledged before it resolves. */
  hold: Promise<void> | undefined
  connection: Connection = { state: 'connected' }
  /** Whether the one member of the group is one at this moment. */
  isMember = true
  /** What transactors say of lost connections. */
  disconnects = 0
  nowMs: () => number = Date.now

  createTopic(topic: string, partitions = 1): this {
    if (!this.#topics.has(topic))
      this.#topics.set(
        topic,
        Array.from({ length: partitions }, () => []),
      )
    return this
  }

  /** A partition's records; empty for one that does not exist. */
  records(topic: string, partition = 0): readonly IncomingRecord[] {
    return this.#topics.get(topic)?.[partition] ?? []
  }

  /** All records of a topic, partition after partition. */
  all(topic: string): readonly IncomingRecord[] {
    return (this.#topics.get(topic) ?? []).flat()
  }

  committedOffset(topic: string, partition = 0): number {
    return this.#committed.get(`${topic}/${partition}`)?.offset ?? -1
  }

  /** Appends, as any client would. */
  append(record: OutgoingRecord): Delivery {
    const partitions = this.#topics.get(record.topic)
    const partition = record.partition ?? partitionOf(record.key, partitions?.length ?? 1)
    const log = partitions?.[partition]
    if (log === undefined) throw new Error(`no partition ${partition} of ${record.topic}`)
    const timestampMs = this.nowMs()
    log.push({
      topic: record.topic,
      partition,
      offset: log.length,
      timestampMs,
      key: typeof record.key === 'string' ? Buffer.from(record.key) : record.key,
      value: record.value,
      headers: record.headers,
    })
    for (const wake of this.#arrived.splice(0)) wake()
    return { topic: record.topic, partition, offset: log.length - 1, timestampMs }
  }

  producer(
    limits: { maxRecords: number; maxBytes: number } = { maxRecords: 1_000, maxBytes: 1_000_000 },
  ): RecordProducer {
    const queue = { records: 0, bytes: 0, ...limits }
    return {
      start: () => undefined,
      connection: () => this.connection,
      blocked: (topic) => {
        if (this.connection.state !== 'connected')
          return this.connection.state === 'connecting' ? this.connection.reason : 'the connection is closed'
        return this.#topics.has(topic) ? undefined : `the topic ${topic} is not there (yet)`
      },
      partitionCount: (topic) => this.#topics.get(topic)?.length,
      produce: (records) =>
        Promise.all(
          records.map(async (record) => {
            const fault = this.produceFaults.shift()
            if (fault !== undefined) return fault
            queue.records++
            queue.bytes += record.value?.length ?? 0
            await this.hold
            queue.records--
            queue.bytes -= record.value?.length ?? 0
            return this.append(record)
          }),
        ),
      queue: () => ({ ...queue }),
      close: async () => undefined,
    }
  }

  /** One member, which is given the partitions that a test gives it. */
  group(): GroupConsumer & {
    assign(partitions: TopicPartition[]): void
    revoke(partitions: TopicPartition[], lost?: boolean): Promise<void>
  } {
    let listener: GroupListener | undefined
    const owned = new Map<string, TopicPartition>()
    const reading = new Map<string, { at: TopicPartition; next: number; paused: boolean }>()
    const named = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`
    const revoke = async (partitions: TopicPartition[], lost = false): Promise<void> => {
      for (const one of (await listener?.revoked(partitions, lost)) ?? []) reading.delete(named(one))
      for (const one of partitions) owned.delete(named(one))
    }
    const ready = (maxRecords: number): IncomingRecord[] => {
      const taken: IncomingRecord[] = []
      for (const cursor of reading.values()) {
        if (cursor.paused) continue
        const found = this.records(cursor.at.topic, cursor.at.partition).slice(
          cursor.next,
          cursor.next + maxRecords - taken.length,
        )
        cursor.next += found.length
        taken.push(...found)
      }
      return taken
    }
    const setPaused = (partitions: readonly TopicPartition[], paused: boolean): void => {
      for (const one of partitions) {
        const cursor = reading.get(named(one))
        if (cursor !== undefined) cursor.paused = paused
      }
    }
    return {
      start: (_pattern, to) => {
        listener = to
        if (owned.size > 0) to.assigned([...owned.values()])
      },
      connection: () => this.connection,
      membership: () => (this.isMember ? (Buffer.from('member') as Membership) : undefined),
      assign: (partitions) => {
        for (const one of partitions) owned.set(named(one), one)
        listener?.assigned(partitions)
      },
      revoke,
      committed: async (partitions) =>
        partitions.map((one) => this.#committed.get(named(one)) ?? { ...one, offset: -1, metadata: '' }),
      startReading: (partitions) => {
        for (const { topic, partition, offset } of partitions)
          reading.set(`${topic}/${partition}`, { at: { topic, partition }, next: Math.max(0, offset), paused: false })
        for (const wake of this.#arrived.splice(0)) wake()
      },
      stopReading: (partitions) => {
        for (const one of partitions) reading.delete(named(one))
      },
      consume: async (maxRecords, waitMs) => {
        const at = ready(maxRecords)
        if (at.length > 0) return at
        await Promise.race([new Promise<void>((resolve) => this.#arrived.push(resolve)), Bun.sleep(waitMs)])
        return ready(maxRecords)
      },
      pause: (partitions) => setPaused(partitions, true),
      resume: (partitions) => setPaused(partitions, false),
      close: () => revoke([...owned.values()]),
    }
  }

  transactor(): Transactor {
    return {
      transactionalId: 'fake',
      start: async () => undefined,
      connection: () => this.connection,
      disconnects: () => this.disconnects,
      refresh: async () => undefined,
      commit: async (outputs, offsets, _membership, lost) => {
        await this.hold
        const fault = this.transactionFaults.shift()
        if (fault !== undefined) return fault
        if (lost.aborted) return { kind: 'aborted', reason: 'lost', failed: new Map(), passing: true }
        for (const output of outputs) this.append(output)
        for (const offset of offsets) this.#committed.set(`${offset.topic}/${offset.partition}`, offset)
        this.transactions.push({ outputs, offsets })
        return { kind: 'committed' }
      },
      // Nothing is ever left open here.
      release: async () => ({ kind: 'released' }),
      close: async () => undefined,
    }
  }

  reader(): RangeReader {
    const read: RangeReader['read'] = async (ranges, onRecord) => {
      for (const { topic, partition, from, to } of ranges)
        for (const record of this.records(topic, partition).slice(Math.max(0, from), to)) onRecord(record)
    }
    return {
      topics: async () => [...this.#topics.keys()],
      topicIds: async (topics) => new Map(topics.map((topic) => [topic, topic])),
      ends: async (partitions) =>
        partitions.map(({ topic, partition }) => {
          const end = this.records(topic, partition).length
          return { beginning: 0, stable: end, end }
        }),
      read,
      readUncommitted: read,
      readIdentities: async (ranges, identityOf, onRecord) => {
        for (const [range, one] of ranges.entries())
          await read([one], (record) => {
            const { offset, timestampMs } = record
            onRecord({ range, offset, timestampMs, hash: hashOf(identityOf(record)) })
          })
      },
      close: async () => undefined,
    }
  }

  admin(): TopicAdmin {
    return {
      ensureTopics: async (topics, { partitions }) => {
        for (const topic of topics) this.createTopic(topic, partitions)
      },
      ensureGroups: async (groups, { partitions }) =>
        groups.map((topics) => {
          for (const topic of topics) this.createTopic(topic, partitions)
          return undefined
        }),
      close: async () => undefined,
    }
  }
}

// Any function of the key will do here: that ours is Java's is tested where it is written.
const partitionOf = (key: Buffer | string | null, partitions: number): number =>
  key === null ? 0 : [...Buffer.from(key)].reduce((sum, byte) => (sum * 31 + byte) >>> 0, 0) % partitions
