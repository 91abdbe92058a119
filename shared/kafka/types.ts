/**
 * The shapes that cross the border to Kafka, and what each service needs of it. `client.ts` and its neighbours implement these on the
 * Confluent client; `shared/testing/fake-kafka.ts` implements them in memory for unit tests.
 */
import type { IncomingRecord, OutgoingRecord } from '../events/record.ts'

export interface TopicPartition {
  topic: string
  partition: number
}

/** `offset` is the next one to read. */
export interface TopicPartitionOffset extends TopicPartition {
  offset: number
}

/** What a group has committed, or is to commit, of a partition. */
export interface CommittedOffset extends TopicPartitionOffset {
  /** Free text beside the offset, at most 4,096 bytes. */
  metadata: string
}

/** Where an acknowledged record stands. */
export interface Delivery extends TopicPartitionOffset {
  timestampMs: number
}

/** Why Kafka did not take a record. */
export type ProduceFault =
  /** The local queue is at its limit. */
  | 'queue full'
  /** No broker can be reached, or none has been reached yet. */
  | 'unavailable'
  /** Handed to a broker, or due to be, and no acknowledgement came in time. */
  | 'timed out'
  /** Larger by itself than the client's or the topic's limit. */
  | 'too large'
  /** The broker takes no such record: it has no key, and the topic, as far as is known, is compacted. */
  | 'invalid'
  /** The topic or partition does not exist. */
  | 'unknown topic'
  /** The broker refused: authorisation, policy, not enough in-sync replicas. */
  | 'refused'

/** A record that was not acknowledged. */
export class ProduceError extends Error {
  override readonly name = 'ProduceError'
  constructor(
    readonly fault: ProduceFault,
    /** 'not stored' only where it is certain that no broker has, or will have, the record. */
    readonly outcome: 'not stored' | 'unknown',
    detail: string,
  ) {
    super(`${fault}: ${detail}`)
  }
}

/** What became of a record. */
export type DeliveryResult = Delivery | ProduceError

/** What a topic's settings say of the records that it takes. */
export interface TopicSettings {
  /** `max.message.bytes`: what a batch may take, compressed. Every record that takes less by itself is taken. undefined: it is not known. */
  maxMessageBytes: number | undefined
  /** `cleanup.policy` has `compact`: records without a key are refused. */
  isCompacted: boolean
}

export type Connection = { state: 'connected' } | { state: 'connecting'; reason: string } | { state: 'closed' }

/** What the producer service needs: an idempotent producer with acks=all. */
export interface RecordProducer {
  /** Begins to connect and goes on for ever, with back-off; returns at once. */
  start(): void
  connection(): Connection
  /**
   * Why no record can be written to a topic now: no broker, no producer id, no such topic, no right to write to it. undefined when nothing is
   * known that would keep one from it. No I/O; as of the last look at the cluster and of the last refusal.
   */
  blocked(topic: string): string | undefined
  /** How many of the topics are being made: brokers know of them, and none has one of their partitions yet. No I/O, as `blocked`. */
  making(): number
  /** From cached metadata, no I/O; undefined while the topic is not known to exist. */
  partitionCount(topic: string): number | undefined
  /** No I/O, as `blocked`. Where the client may not ask for them (DESCRIBE_CONFIGS), only what refusals say. */
  settings(topic: string): TopicSettings
  /**
   * Resolves, never rejects, when it is known of every record whether all in-sync replicas have it: at once where there is no broker, or for what is over the queue’s
   * limits, else no later than the delivery timeout. Whoever wants all or none of several records stored asks `queue` for room first.
   * @returns in the order of the records
   */
  produce(records: readonly OutgoingRecord[]): Promise<DeliveryResult[]>
  /** Records and bytes (`queuedBytes`) that wait for their acknowledgement, and the limits at which the client’s queue is full. */
  queue(): { records: number; bytes: number; maxRecords: number; maxBytes: number }
  /** Waits for what is in flight, at most that long; then disconnects. */
  close(timeoutMs: number): Promise<void>
}

/** `topic/partition`: how a partition is named in logs, reasons and maps. */
export const partitionName = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/**
 * A member's place in its group at one moment. A transaction that carries it is refused by the broker once the group has gone on to another
 * generation (KIP-447). Group, generation and member id in librdkafka's own encoding.
 */
export type Membership = Buffer & { readonly groupMetadata: never }

/** What the group tells this member. */
export interface GroupListener {
  /**
   * Called when partitions become this member's; reading them starts only when {@link GroupConsumer.startReading} is called for them.
   */
  assigned(partitions: TopicPartition[]): void
  /**
   * Called when partitions are about to go to another member: finish and commit what belongs to them. When `lost` they are another
   * member's already, and nothing of them may be committed.
   * @returns all that must no longer be read: these and what was added with them. They are given up when the promise settles.
   */
  revoked(partitions: TopicPartition[], lost: boolean): Promise<TopicPartition[]>
  /** A partition cannot be read on from where it was: its records are gone, or the topic is another one. */
  outOfRange(partition: TopicPartition): void
  /** A partition cannot be read at present, such as for lack of a permission; the client goes on trying. */
  unreadable(partition: TopicPartition, reason: string): void
  /** The client cannot go on. */
  failed(reason: string): void
}

/** What the consumer service needs: a cooperative group member that reads committed records only. */
export interface GroupConsumer {
  /** Begins to connect, and joins the group once it may; goes on for ever, with back-off; returns at once. */
  start(topicPattern: RegExp, listener: GroupListener, mayJoin: Promise<void>): void
  connection(): Connection
  /** undefined while this client is no member of its group. */
  membership(): Membership | undefined
  /** Why the broker last did not let it join; undefined since it was assigned partitions, be it none. */
  refusal(): string | undefined
  /**
   * Committed offsets, waiting for transactions that are about to change them; -1 where none is committed.
   * @throws HangingTransactionError when one of these does not end, or the broker does not answer
   */
  committed(partitions: readonly TopicPartition[], timeoutMs: number): Promise<CommittedOffset[]>
  /** Reads these from these offsets on. They need not be among the assigned ones: partitions that follow an assigned one may be added. */
  startReading(partitions: readonly TopicPartitionOffset[]): void
  /** Reads these no longer, once every revocation that was told before is answered. Those that are not read are passed over. */
  stopReading(partitions: readonly TopicPartition[]): Promise<void>
  /** Up to `maxRecords`; waits at most `waitMs` for the first. */
  poll(maxRecords: number, waitMs: number): Promise<IncomingRecord[]>
  pause(partitions: readonly TopicPartition[]): void
  resume(partitions: readonly TopicPartition[]): void
  /** Leaves the group, calling `revoked` first, and disconnects; within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** What is to be known of a partition waits for a transaction, and has waited for long. */
export class HangingTransactionError extends Error {
  override readonly name = 'HangingTransactionError'
  constructor(
    readonly at: TopicPartition,
    /** Where the transaction's first record stands; undefined when what is committed of the partition is what waits. */
    readonly offset: number | undefined,
  ) {
    const what = offset === undefined ? `the committed offset of ${partitionName(at)}` : partitionName(at)
    super(
      `a transaction that has not ended holds back ${what}${offset === undefined ? '' : ` from offset ${offset} on`}`,
    )
  }
}

/** An output that the broker has not taken. */
export interface OutputFault {
  reason: string
  /** Its batch is over the topic's `max.message.bytes`: where it was alone in it, it will never be taken. */
  tooLarge: boolean
}

/** What became of a transaction. */
export type TransactionResult =
  | { kind: 'committed' }
  /** Nothing of it took effect, and the same may be sent again in a new one. */
  | {
      kind: 'aborted'
      reason: string
      /** The outputs that the broker refused, by their index. */
      failed: ReadonlyMap<number, OutputFault>
      /** The fault is none of the outputs' or partitions': the group or the coordinators have gone on. */
      passing: boolean
    }
  /** Another process uses this transactional id, or the client cannot go on. Whether it took effect is not known. */
  | { kind: 'fatal'; reason: string }

/** What became of an attempt to end what was left open. */
export type ReleaseResult =
  | {
      kind: 'released'
      /** What the records that were written for it are known by, which all in-sync replicas have; undefined for a committed offset. */
      transaction: string | undefined
    }
  | { kind: 'not released'; reason: string }
  | { kind: 'fatal'; reason: string }

/** Outputs and input offsets, all or nothing. */
export interface Transactor {
  readonly transactionalId: string
  /** Initialises transactions, aborting what an earlier owner of the id left open; goes on for ever, with back-off. */
  start(): Promise<void>
  connection(): Connection
  /**
   * How often so far a connection to a broker was lost. Apache Kafka can count a transaction as ended without having written so into every
   * partition when a broker restarts, so that what is in the log is then to be looked at anew.
   */
  disconnects(): number
  /** Looks up topics and their partitions anew, so that records to new ones do not wait for that. */
  refresh(): Promise<void>
  /**
   * One transaction, when those before it are over. Never rejects.
   * @param membership taken when the transaction's records were known to be this member's; it is never taken anew
   * @param lost aborted when a partition of it is no longer this member's: the transaction is then aborted, unless it is being committed
   */
  commit(
    outputs: readonly OutgoingRecord[],
    offsets: readonly CommittedOffset[],
    membership: Membership,
    lost: AbortSignal,
  ): Promise<TransactionResult>
  /**
   * Aborts what transactions of this id have left open in partitions or, of input partitions, among the committed offsets that are kept
   * with theirs. There is such a thing only when the broker counts a transaction as ended without having written so: Apache Kafka 4.3.1
   * can when it restarts and no other broker leads its partitions. Transactions of others stay open. Never rejects; waits for a commit that
   * is on its way.
   */
  release(
    held: readonly TopicPartition[],
    what: 'records' | 'committed offset',
    membership: Membership,
  ): Promise<ReleaseResult>
  /** Within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** Where a partition begins, and ends: for readers of committed records (`stable`), and behind its last record (`end`). */
export interface PartitionEnds {
  beginning: number
  stable: number
  end: number
}

/** Records of a partition from `from` up to `to`, which is not among them. */
export interface Range extends TopicPartition {
  from: number
  to: number
}

/** A record as far as it takes to know it from others. Used again for the next one. */
export interface KnownRecord {
  /** The place of its range among those that were asked for. */
  range: number
  offset: number
  timestampMs: number
  /** What it is known by, as {@link hashOf} (identity.ts) makes it. */
  hash: Uint32Array
}

/** Reads ranges of partitions outside of any group. */
export interface RangeReader {
  /** The names of all topics. */
  topics(): Promise<string[]>
  /** Ids of topics, by name: a topic that is made anew has another. A topic that is not there has none. */
  topicIds(topics: readonly string[]): Promise<Map<string, string>>
  /** How many partitions a topic has; 0 when it is not there. */
  partitionCount(topic: string): Promise<number>
  /** The offset of the first record that is not older, in the order of the partitions; undefined where there is none. */
  offsetsAt(partitions: readonly TopicPartition[], timestampMs: number): Promise<(number | undefined)[]>
  /**
   * What the group that the reader was made for has committed, as of transactions that have ended; -1 where nothing is. It never joins that group.
   */
  committed(partitions: readonly TopicPartition[]): Promise<CommittedOffset[]>
  /** In the order of the partitions. @throws Error when one of them cannot be asked for */
  ends(partitions: readonly TopicPartition[]): Promise<PartitionEnds[]>
  /**
   * Asks a broker, whichever, who leads the partitions of topics: one that is cut off from the others may go on believing that it does.
   * @throws Error when it does not answer
   */
  lookUp(topics: readonly string[]): Promise<void>
  /**
   * Calls back for every committed record of the ranges, each in its order, ranges side by side. What is behind a transaction that has not
   * ended is waited for, so a range should end at or before `stable`.
   * @throws Error when one of them cannot be read
   */
  read(ranges: readonly Range[], onRecord: (record: IncomingRecord) => void): Promise<void>
  /** Records of open and of aborted transactions, too. */
  readUncommitted: RangeReader['read']
  /**
   * {@link read} of what records are known by, which costs a fraction of it.
   * @param identityOf what a record is known by: the same for every record of the same event
   */
  readIdentities(
    ranges: readonly Range[],
    identityOf: (record: IncomingRecord) => string,
    onRecord: (record: Readonly<KnownRecord>) => void,
  ): Promise<void>
  /** Within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** Creating topics, and which there are. */
export interface TopicAdmin {
  /**
   * {@link ensureTopics} for many groups of topics that belong together, in few requests: one group's trouble is no other's. The first topic of
   * each group may come to be before the others.
   * @returns in the order of the groups: why its topics are not all there; undefined where they are
   */
  ensureGroups(
    groups: readonly (readonly string[])[],
    options: { partitions: number; replication: number },
  ): Promise<(string | undefined)[]>
  /**
   * Creates those that are missing, with as many partitions as those that exist have. Resolves when all exist. Rejects with the broker's
   * reason a topic, and when those that exist differ in their partitions: the topics belong together.
   */
  ensureTopics(topics: readonly string[], options: { partitions: number; replication: number }): Promise<void>
  close(): Promise<void>
}
