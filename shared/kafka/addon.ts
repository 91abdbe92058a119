import type * as RdKafka from '@confluentinc/kafka-javascript/types/rdkafka'
import type { CommittedOffset } from './types.ts'

/** What the client's native addon gives: the package's own interface where its types leave something out, and what native/shim/ adds. */

export type Producer = RdKafka.Producer

/** What the package's types leave out of its low-level consumer. */
export interface Consumer extends RdKafka.KafkaConsumer {
  incrementalAssign(partitions: readonly RdKafka.Assignment[]): this
  incrementalUnassign(partitions: readonly RdKafka.TopicPartition[]): this
  assignmentLost(): boolean
  rebalanceProtocol(): 'NONE' | 'EAGER' | 'COOPERATIVE'
  /** With true, `consume(n)` waits for the first record only. */
  setDefaultIsTimeoutOnlyForFirstMessage(value: boolean): void
}

/** What native/shim/ adds. */
export interface Addon {
  packed: PackedAddon
  transactions: TransactionsAddon
  topics: TopicsAddon
  err2str(code: number): string
}

/** Records by the batch: native/shim/packed.cc. */
export interface PackedAddon {
  names(list: readonly string[]): void
  topic(name: string): number
  topic(number: number): string
  openProducer(client: object, onReports: () => void, errorsOnly: boolean): number
  produce(producer: number, records: Buffer, bytes: number): void
  reports(producer: number, reports: Buffer): number
  closeProducer(producer: number): void
  /** With seeds, only what the records are known by. */
  consume(client: object, maxRecords: number, seeds: Buffer | undefined): Buffer | undefined
}

/** Offsets in a transaction: native/shim/transactions.cc. */
export interface TransactionsAddon {
  groupMetadata(client: object): Buffer | undefined
  sendOffsets(
    client: object,
    offsets: readonly CommittedOffset[],
    metadata: Buffer,
    timeoutMs: number,
    done: (fault: object | null) => void,
  ): void
}

/** Requests about many topics: native/shim/topics.cc. */
export interface TopicsAddon {
  create(
    client: object,
    topics: readonly string[],
    partitions: number,
    replication: number,
    timeoutMs: number,
    done: (fault: object | null, answers?: AddonAnswer[]) => void,
  ): void
  describe(
    client: object,
    topics: readonly string[],
    timeoutMs: number,
    done: (fault: object | null, answers?: AddonAnswer[]) => void,
  ): void
  ends(
    client: object,
    topics: readonly string[],
    partitions: readonly number[],
    timeoutMs: number,
    done: (fault: object | null, answers?: AddonAnswer[]) => void,
  ): void
  configs(
    client: object,
    topics: readonly string[],
    timeoutMs: number,
    done: (fault: object | null, answers?: AddonAnswer[]) => void,
  ): void
}

/** What the broker says of one topic. */
export interface AddonAnswer {
  topic: string
  code: number
  message: string
  partitions: number
  /** 1 or 0; -1 where the broker does not say. */
  writable: number
  /** Settings; empty where they were not asked for. */
  maxMessageBytes: string
  cleanupPolicy: string
}

/** The native object that the client's JavaScript class wraps. */
export const nativeOf = (client: Producer | Consumer): object => (client as unknown as { _client: object })._client
