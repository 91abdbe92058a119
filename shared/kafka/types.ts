/**
 * What each service needs of Kafka. The rest of `shared/kafka/` implements this on the Confluent client, and `shared/testing/fake-kafka.ts` in
 * memory for unit tests.
 */
import type { IncomingRecord, OutgoingRecord, PassedRecord } from '../events/record.ts'

export interface TopicPartition {
  topic: string
  partition: number
}

/** `offset` is the next one to read. */
export interface TopicPartitionOffset extends TopicPartition {
  offset: number
}

/** An offset that a group has committed, or is about to commit. */
export interface CommittedOffset extends TopicPartitionOffset {
  /** Any string of at most 4,096 bytes. */
  metadata: string
}

/** The position of an acknowledged record. */
export interface Delivery extends TopicPartitionOffset {
  timestampMs: number
}

/** Why a record was not acknowledged. */
export type ProduceFault =
  /** The local queue is at its limit. */
  | 'queue full'
  /** No broker can be reached, or none has been reached yet. */
  | 'unavailable'
  /** No acknowledgement in time. The record may or may not have been sent. */
  | 'timed out'
  /** The record alone exceeds the client's or the topic's limit. */
  | 'too large'
  /** The record has no key, and the topic seems to be compacted. */
  | 'invalid'
  /** The topic or partition does not exist. */
  | 'unknown topic'
  /** For example authorization, a policy, or not enough in-sync replicas. */
  | 'refused'

/** A record that was not acknowledged. */
export class ProduceError extends Error {
  override readonly name = 'ProduceError'
  constructor(
    readonly fault: ProduceFault,
    /** 'not stored' only when it is certain that no broker has stored the record, or will. */
    readonly outcome: 'not stored' | 'unknown',
    detail: string,
  ) {
    super(`${fault}: ${detail}`)
  }
}

export type DeliveryResult = Delivery | ProduceError

/** The settings of a topic that decide which records it accepts. */
export interface TopicSettings {
  /** `max.message.bytes`, the limit of a compressed batch; undefined when unknown. A smaller record is accepted, in a batch of its own if need be. */
  maxMessageBytes: number | undefined
  /** `cleanup.policy` contains `compact`: records without a key are refused. */
  isCompacted: boolean
}

export type Connection =
  /** `detail`: which other brokers cannot be reached, and why. */
  { state: 'connected'; detail?: string } | { state: 'connecting'; reason: string } | { state: 'closed' }

/** The reason of {@link RecordProducer.blocked} for a topic that does not exist. */
export const NOT_THERE = (topic: string): string => `the topic ${topic} is not there (yet)`

/** An idempotent producer with acks=all. Its methods do no I/O, except `start`, `produce` and `close`. */
export interface RecordProducer {
  /** Connects in the background, retrying indefinitely with back-off. */
  start(): void
  connection(): Connection
  /**
   * Why a topic cannot be written to: no broker, no producer id, no such topic, no permission. undefined when no reason is known, as of the
   * last look at the cluster and the last refusal.
   */
  blocked(topic: string): string | undefined
  /** Why records of a topic that is not blocked are not stored: the last ones were not acknowledged in time, or their time was refused. undefined when that is not so, or not known. */
  unacknowledged(topic: string): string | undefined
  /** These are the topics that are written to from now on. A new one is blocked until it was looked at. */
  watch(topics: readonly string[]): void
  /** How many topics are being created: they are in the metadata, but no broker has one of their partitions yet. */
  making(): number
  /** undefined while the topic is not known to exist. */
  partitionCount(topic: string): number | undefined
  /** Without the permission to read them (DESCRIBE_CONFIGS), only what follows from refusals. */
  settings(topic: string): TopicSettings
  /**
   * Never rejects. Resolves when each record is acknowledged by all in-sync replicas or has failed: at once without a broker, otherwise within
   * the delivery time-out. Records over the queue's limits fail; callers that need all records or none check `queue` first.
   * @returns in the order of the records
   */
  produce(records: readonly OutgoingRecord[]): Promise<DeliveryResult[]>
  /** Records and bytes (`queuedBytes`) that wait for acknowledgement, and the queue's limits. */
  queue(): { records: number; bytes: number; maxRecords: number; maxBytes: number }
  /** Waits for records in flight, at most this long, and disconnects. */
  close(timeoutMs: number): Promise<void>
}

/** `topic/partition`, the name of a partition in logs, reasons and maps. */
export const partitionName = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/**
 * A member's group, generation and member id, in librdkafka's encoding. A broker refuses a transaction with the membership of an earlier
 * generation (KIP-447).
 */
export type Membership = Buffer & { readonly groupMetadata: never }

/** Is called by a {@link GroupConsumer}. */
export interface GroupListener {
  /** Partitions were assigned. They are read only after {@link GroupConsumer.startReading}. */
  assigned(partitions: TopicPartition[]): void
  /**
   * Partitions are being revoked: finish and commit their records. When `lost`, another member has them already, and nothing of them may be
   * committed.
   * @returns the partitions to stop reading: these and those that were added with them. They are revoked when the promise settles.
   */
  revoked(partitions: TopicPartition[], lost: boolean): Promise<TopicPartition[]>
  /** The next offset of a partition does not exist: records were deleted, or the topic was recreated. */
  outOfRange(partition: TopicPartition): void
  /** A partition cannot be read, for example without permission; the client keeps trying. */
  unreadable(partition: TopicPartition, reason: string): void
  /** The client has failed for good. */
  failed(reason: string): void
}

/** A cooperative group member that reads committed records only. */
export interface GroupConsumer {
  /** Connects in the background, retrying indefinitely with back-off, and joins the group after `mayJoin`. */
  start(topicPattern: RegExp, listener: GroupListener, mayJoin: Promise<void>): void
  connection(): Connection
  /** undefined while this client is not a member of its group. */
  membership(): Membership | undefined
  /** Why the broker last refused it; undefined again after an assignment, even an empty one. */
  refusal(): string | undefined
  /**
   * Committed offsets; -1 where none is. Waits for transactions with pending offsets.
   * @throws HangingTransactionError when such a transaction does not end in time, or the broker does not answer
   */
  committed(partitions: readonly TopicPartition[], timeoutMs: number): Promise<CommittedOffset[]>
  /** Starts reading partitions at these offsets. They need not be assigned: partitions that belong to an assigned one may be added. */
  startReading(partitions: readonly TopicPartitionOffset[]): void
  /** Stops reading these partitions, after all pending revocations are answered. Ignores those that are not being read. */
  stopReading(partitions: readonly TopicPartition[]): Promise<void>
  /** Up to `maxRecords`; waits at most `waitMs` for the first. */
  poll(maxRecords: number, waitMs: number): Promise<IncomingRecord[]>
  pause(partitions: readonly TopicPartition[]): void
  resume(partitions: readonly TopicPartition[]): void
  /** Leaves the group, calling `revoked` first, and disconnects; within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** A transaction that does not end holds back a partition's records or its committed offset. */
export class HangingTransactionError extends Error {
  override readonly name = 'HangingTransactionError'
  constructor(
    readonly at: TopicPartition,
    /** Of the transaction's first record; undefined when the committed offset is held back. */
    readonly offset: number | undefined,
  ) {
    const what = offset === undefined ? `the committed offset of ${partitionName(at)}` : partitionName(at)
    super(
      `a transaction that has not ended holds back ${what}${offset === undefined ? '' : ` from offset ${offset} on`}`,
    )
  }
}

/** Why an output was refused. */
export interface OutputFault {
  reason: string
  /** Its batch exceeds the topic's `max.message.bytes`. An output that was alone in its batch will never be accepted. */
  tooLarge: boolean
}

export type TransactionResult =
  | { kind: 'committed' }
  /** It had no effect and can be repeated in a new transaction. */
  | {
      kind: 'aborted'
      reason: string
      /** The refused outputs, by index. */
      failed: ReadonlyMap<number, OutputFault>
      /** Temporary: the cause is the group or a coordinator, not an output or a partition. */
      passing: boolean
    }
  /** Another process uses this transactional id, or the client has failed. Whether the transaction took effect is unknown. */
  | { kind: 'fatal'; reason: string }

export type ReleaseResult =
  | {
      kind: 'released'
      /** The name of the transaction whose records were written for it to all in-sync replicas; undefined for a committed offset. */
      transaction: string | undefined
    }
  | { kind: 'not released'; reason: string }
  | { kind: 'fatal'; reason: string }

/** Commits outputs and input offsets atomically. */
export interface Transactor {
  readonly transactionalId: string
  /** Initialises transactions, which aborts those of an earlier owner of the id. Retries indefinitely with back-off. */
  start(): Promise<void>
  connection(): Connection
  /**
   * How many connections to brokers were lost. After a broker's restart the log must be checked: Apache Kafka can complete a transaction without
   * writing its markers (docs/upstream/kafka-complete-without-marks.md).
   */
  disconnects(): number
  /** Refreshes metadata, so that records to new topics need not wait for it. */
  refresh(): Promise<void>
  /**
   * Runs one transaction after the previous ones. Never rejects.
   * @param membership from the time at which the input records were read
   * @param lost aborted when one of its partitions is revoked; this aborts the transaction, unless its commit has begun
   */
  commit(
    outputs: readonly (OutgoingRecord | PassedRecord)[],
    offsets: readonly CommittedOffset[],
    membership: Membership,
    lost: AbortSignal,
  ): Promise<TransactionResult>
  /** Like {@link commit}, without offsets: all outputs are written, or none takes effect. */
  write(outputs: readonly OutgoingRecord[]): Promise<TransactionResult>
  /**
   * Aborts the hanging transactions of this id in partitions or, for `committed offset`, the pending offsets of input partitions. They exist only
   * after the broker has completed a transaction without writing its markers. Transactions of other ids stay open. Never rejects; runs after
   * the commits before it.
   */
  release(
    held: readonly TopicPartition[],
    ...what: ['records', (Membership | undefined)?] | ['committed offset', Membership]
  ): Promise<ReleaseResult>
  /** Within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** Offsets of a partition: its first record, the last stable offset, and the next record to be written. */
export interface PartitionEnds {
  beginning: number
  stable: number
  end: number
}

/** Records of a partition from `from` up to, and without, `to`. */
export interface Range extends TopicPartition {
  from: number
  to: number
}

/** Which records may match: every condition holds for one of their headers, by bytes. */
export interface RecordFilter {
  /** At most 32. */
  headers: readonly { name: string; value: string; how: 'equals' | 'contains' }[]
  /** The record's key. */
  key?: Buffer
}

export interface ReadOptions {
  /**
   * Leaves out records that do not match, at a fraction of the cost of reading them. Records in structured mode, and those whose headers are broken, are
   * never left out: the caller decides.
   */
  filter?: RecordFilter
  /** Ends reading, which rejects with the signal's reason. */
  signal?: AbortSignal
  /**
   * Called after each poll with the number of offsets that have been passed so far, in all ranges. At the end it is all of them. Reading goes on once a
   * promise that it returns is resolved.
   */
  onProgress?(offsets: number): unknown
}

/** The identity of a record. The object is reused for the next record. */
export interface KnownRecord {
  /** The index of its range among the requested ones. */
  range: number
  offset: number
  timestampMs: number
  /** As from {@link hashOf}. */
  hash: Uint32Array
}

/** A group, as its coordinator describes it. */
export interface GroupDescription {
  /** Kafka's name, such as `Stable`, `PreparingRebalance` or `Empty`; `Dead` for a group that does not exist. */
  state: string
  /** `host` is the address of the member's connection. */
  members: { memberId: string; clientId: string; host: string; partitions: TopicPartition[] }[]
}

/** Reads ranges of partitions without joining a group. */
export interface RangeReader {
  /** Why a broker could not be reached within the last minute; undefined when all could be, or none was tried. */
  unreachable(): string | undefined
  /** The numbers of partitions of all topics, by name. */
  topics(): Promise<ReadonlyMap<string, number>>
  /** Topic IDs by name, without topics that do not exist. A recreated topic has a new ID. */
  topicIds(topics: readonly string[]): Promise<Map<string, string>>
  /** 0 when the topic does not exist. */
  partitionCount(topic: string): Promise<number>
  /** The offset of the first record with this timestamp or a later one, in the order of the partitions; undefined where there is none. */
  offsetsAt(partitions: readonly TopicPartition[], timestampMs: number): Promise<(number | undefined)[]>
  /** The committed offsets of the reader's group; -1 where none is. Ignores pending offsets. */
  committed(partitions: readonly TopicPartition[]): Promise<CommittedOffset[]>
  /** In the order of the partitions. @throws Error when one of them is not available */
  ends(partitions: readonly TopicPartition[]): Promise<PartitionEnds[]>
  /**
   * Refreshes the leaders of the topics' partitions: a broker that is cut off from the others may believe that it still leads them.
   * @throws Error when no broker answers
   */
  lookUp(topics: readonly string[]): Promise<void>
  /**
   * Calls back for each committed record, in order within a range. Waits for open transactions, so a range should end at or before `stable`.
   * @throws Error when a range cannot be read
   */
  read(ranges: readonly Range[], onRecord: (record: IncomingRecord) => void, options?: ReadOptions): Promise<void>
  /** With the records of open and aborted transactions. */
  readUncommitted: RangeReader['read']
  /**
   * Like {@link read} for the identities of records, at a fraction of the cost.
   * @param identityOf the same for all records of an event
   */
  readIdentities(
    ranges: readonly Range[],
    identityOf: (record: IncomingRecord) => string,
    onRecord: (record: Readonly<KnownRecord>) => void,
  ): Promise<void>
  /**
   * Calls back with records as they are committed, in order within a partition, until the signal is aborted. Waits for brokers that are away. A reader
   * follows one set of partitions at a time, others wait for their turn; reading goes on meanwhile.
   * @throws Error when a partition cannot be read, or its offset does not exist
   */
  follow(
    from: readonly TopicPartitionOffset[],
    onRecords: (records: IncomingRecord[]) => void,
    signal: AbortSignal,
  ): Promise<void>
  /**
   * The reader's group; undefined on a broker that describes none, as librdkafka's mock cluster.
   * @throws Error when its coordinator does not answer within 10 s
   */
  group(): Promise<GroupDescription | undefined>
  /** Within a bound, whether or not Kafka answers. */
  close(): Promise<void>
}

/** No broker answered within the time to connect. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
}

export interface TopicAdmin {
  /**
   * Creates missing topics with as many partitions as the existing topics of their group, and waits until they exist. Groups fail independently.
   * The first topic of each group may exist before the others.
   * @param options.settings of the missing topics, where they are not the brokers' defaults. Existing topics keep theirs; librdkafka's mock cluster, which
   *   creates topics on demand, ignores them, and gives a topic as many partitions as it wants.
   * @returns in the order of the groups: the reason when one of its topics cannot be created, or existing ones differ in their partitions
   */
  ensureGroups(
    groups: readonly (readonly string[])[],
    options: { partitions: number; replication: number; settings?: Readonly<Record<string, string>> },
  ): Promise<(string | undefined)[]>
  /**
   * The settings that were set for topics themselves, by topic; without those whose settings cannot be read, which takes DESCRIBE_CONFIGS.
   * @throws Error when no broker answers
   */
  settings(topics: readonly string[]): Promise<ReadonlyMap<string, Readonly<Record<string, string>>>>
  close(): Promise<void>
}
