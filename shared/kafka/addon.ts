import type * as RdKafka from '@confluentinc/kafka-javascript/types/rdkafka'
import type { CommittedOffset } from './types.ts'

/** The native addon's interface: what the client's types omit, and what native/shim/ adds. */

export type Producer = RdKafka.Producer

/** With the methods that the client's types omit. */
export interface Consumer extends RdKafka.KafkaConsumer {
  incrementalAssign(partitions: readonly RdKafka.Assignment[]): this
  incrementalUnassign(partitions: readonly RdKafka.TopicPartition[]): this
  assignmentLost(): boolean
  /** With true, `consume(n)` waits for the first record only. */
  setDefaultIsTimeoutOnlyForFirstMessage(value: boolean): void
}

/** What native/shim/ adds. */
export interface Addon {
  packed: PackedAddon
  transactions: TransactionsAddon
  topics: TopicsAddon
  certificates: CertificatesAddon
  err2str(code: number): string
}

/** Records in batches: native/shim/packed.cc. */
export interface PackedAddon {
  names(list: readonly string[]): void
  topic(name: string): number
  topic(number: number): string
  /** The type of events that has this number. */
  type(number: number): string
  openProducer(client: object, onReports: () => void, errorsOnly: boolean): number
  /** @param texts and the batches: what the records refer to by number */
  produce(producer: number, records: Buffer, bytes: number, texts: readonly string[], batches: readonly Buffer[]): void
  reports(producer: number, reports: Buffer): number
  purge(producer: number): void
  closeProducer(producer: number): void
  /**
   * @param identitiesOnly returns only the hashes of the records' identities
   * @param buffer is filled if the records fit
   * @param filter as packFilter of packed.ts makes it; leaves out the records that do not match, and `maxRecords` does not count them
   * @returns how many bytes of the buffer are filled, or another buffer; undefined without records
   */
  consume(
    client: object,
    maxRecords: number,
    seeds: Buffer,
    identitiesOnly: boolean,
    buffer: Buffer | undefined,
    filter?: Buffer,
  ): number | Buffer | undefined
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

type Answered = (fault: object | null, answers?: AddonAnswer[]) => void

/** Requests about many topics: native/shim/topics.cc. */
export interface TopicsAddon {
  /** @param settings names and values in turn */
  create(
    client: object,
    topics: readonly string[],
    partitions: number,
    replication: number,
    settings: readonly string[],
    timeoutMs: number,
    done: Answered,
  ): void
  describe(client: object, topics: readonly string[], timeoutMs: number, done: Answered): void
  ends(
    client: object,
    topics: readonly string[],
    partitions: readonly number[],
    timeoutMs: number,
    done: Answered,
  ): void
  /** @param all those that decide which records a topic accepts, or all that were set for it */
  configs(client: object, topics: readonly string[], all: boolean, timeoutMs: number, done: Answered): void
}

/** Certificates that are renewed: native/shim/certificates.cc. */
export interface CertificatesAddon {
  /**
   * Connections that the client opens from now on use these; all are PEM.
   * @param authorities undefined: the system's
   * @returns why it has failed; then the client goes on with what it had
   */
  renew(
    client: object,
    authorities: string | undefined,
    certificate: string | undefined,
    key: string | undefined,
    keyPassword: string | undefined,
  ): string | undefined
}

/** A broker's answer about one topic. */
export interface AddonAnswer {
  topic: string
  code: number
  message: string
  partitions: number
  /** 1 or 0; -1 when the broker does not say. */
  writable: number
  /** Settings; empty when they were not requested. */
  maxMessageBytes: string
  cleanupPolicy: string
  /** Names and values in turn. */
  settings: string[]
}

/** The native object behind a client. */
export const nativeOf = (client: Producer | Consumer): object => (client as unknown as { _client: object })._client
