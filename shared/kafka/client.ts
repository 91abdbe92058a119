/**
 * The only module that imports the native client: it loads and checks the addon, connects clients and names librdkafka's error codes. The rest
 * of `shared/kafka/` builds on it.
 */
import type { EventEmitter } from 'node:events'
import { join } from 'node:path'
import type * as RdKafka from '@confluentinc/kafka-javascript/types/rdkafka'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../service/retry.ts'
import type { Addon, Consumer, PackedAddon, Producer } from './addon.ts'
import { ADDON_FILE, checkAddon, INSTALLED } from './native/check.ts'
import { declareNames } from './packed.ts'

export type { LibrdKafkaError, Message } from '@confluentinc/kafka-javascript/types/rdkafka'
export type { Consumer, Producer } from './addon.ts'

/** librdkafka's settings, by its names for them. */
export type Settings = Record<string, string | number | boolean | undefined | ((...args: never[]) => void)>

/** What the package exports of its low-level interface. */
interface Native {
  Producer: new (settings: Settings, topicSettings?: Settings) => RdKafka.Producer
  KafkaConsumer: new (settings: Settings, topicSettings?: Settings) => Consumer
  AdminClient: typeof RdKafka.AdminClient
  OffsetSpec: typeof RdKafka.OffsetSpec
  IsolationLevel: typeof RdKafka.IsolationLevel
}

let loaded: Native | undefined
let loadedAddon: Addon | undefined

/**
 * Loads the client at first use.
 * @throws AddonError when the addon is missing or does not fit this runtime
 */
export function native(): Native {
  if (loaded === undefined) {
    checkAddon()
    loaded = require('@confluentinc/kafka-javascript') as Native
  }
  return loaded
}

/** What native/shim/ adds to the client; loads it as {@link native} does. */
export function addon(): Addon {
  if (loadedAddon === undefined) {
    native()
    loadedAddon = require(join(INSTALLED, ADDON_FILE)) as Addon
    declareNames(loadedAddon.packed)
  }
  return loadedAddon
}

/** Records in batches; loads the addon as {@link native} does. */
export const packed = (): PackedAddon => addon().packed

/** Converts an error of the addon as the client's own calls do. */
export const libraryError = (fault: object): RdKafka.LibrdKafkaError =>
  (require('@confluentinc/kafka-javascript/lib/error') as { create(fault: object): RdKafka.LibrdKafkaError }).create(
    fault,
  )

/** librdkafka's description of an error code. */
export const messageOf = (code: number): string => addon().err2str(code)

/** The error codes that this project handles. Negative ones are librdkafka's own, the others Kafka's protocol's. */
export const CODE = {
  BAD_MSG: -199,
  BAD_COMPRESSION: -198,
  TRANSPORT: -195,
  RESOLVE: -193,
  MSG_TIMED_OUT: -192,
  UNKNOWN_PARTITION: -190,
  UNKNOWN_TOPIC: -188,
  ALL_BROKERS_DOWN: -187,
  PARTITION_EOF: -191,
  TIMED_OUT: -185,
  QUEUE_FULL: -184,
  MAX_POLL_EXCEEDED: -147,
  SSL: -181,
  REVOKE_PARTITIONS: -174,
  ASSIGN_PARTITIONS: -175,
  STATE: -172,
  AUTHENTICATION: -169,
  AUTO_OFFSET_RESET: -140,
  INVALID_DIFFERENT_RECORD: -138,
  PURGE_QUEUE: -152,
  PURGE_INFLIGHT: -151,
  FATAL: -150,
  UNSUPPORTED_FEATURE: -165,
  UNKNOWN_BROKER: -146,
  UNKNOWN_TOPIC_OR_PART: 3,
  MSG_SIZE_TOO_LARGE: 10,
  COORDINATOR_LOAD_IN_PROGRESS: 14,
  RECORD_LIST_TOO_LARGE: 18,
  COORDINATOR_NOT_AVAILABLE: 15,
  NOT_COORDINATOR: 16,
  ILLEGAL_GENERATION: 22,
  UNKNOWN_MEMBER_ID: 25,
  REBALANCE_IN_PROGRESS: 27,
  TOPIC_AUTHORIZATION_FAILED: 29,
  GROUP_AUTHORIZATION_FAILED: 30,
  CLUSTER_AUTHORIZATION_FAILED: 31,
  TOPIC_ALREADY_EXISTS: 36,
  OUT_OF_ORDER_SEQUENCE_NUMBER: 45,
  CONCURRENT_TRANSACTIONS: 51,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: 53,
  INVALID_RECORD: 87,
  UNSTABLE_OFFSET_COMMIT: 88,
} as const

/**
 * The code of an error event. The client passes on only its text (callbacks.cc), so the codes that matter are recognised by librdkafka's
 * description.
 */
export function eventCode(error: RdKafka.LibrdKafkaError): number {
  return EVENT_CODES[error.message.toLowerCase()] ?? error.code
}

const EVENT_CODES: Readonly<Record<string, number>> = {
  'all broker connections are down': CODE.ALL_BROKERS_DOWN,
  'broker transport failure': CODE.TRANSPORT,
  'host resolution failure': CODE.RESOLVE,
  'ssl error': CODE.SSL,
  'authentication failure': CODE.AUTHENTICATION,
  'fatal error': CODE.FATAL,
  'cluster authorization failed': CODE.CLUSTER_AUTHORIZATION_FAILED,
}

/** Settings that all clients share, besides those that secure their connections. */
export function connectionSettings(config: CommonConfig, clientId: string): Settings {
  return {
    'metadata.broker.list': config.KAFKA_BROKERS,
    'client.id': clientId,
    'reconnect.backoff.ms': CONNECT_BACKOFF.firstMs,
    'reconnect.backoff.max.ms': CONNECT_BACKOFF.maxMs,
    // So that the kernel finds half-open connections behind load balancers.
    'socket.keepalive.enable': true,
    'socket.nagle.disable': true,
    'statistics.interval.ms': STATISTICS_INTERVAL_MS,
  }
}

/** How often librdkafka reports statistics; while a client is idle, also how soon a change of a broker's state is noticed. */
const STATISTICS_INTERVAL_MS = 1_000

/** How long closing a client may take; after that it closes in the background. */
export const CLOSE_TIMEOUT_MS = 3_000

/** How long one attempt to connect may take. */
const CONNECT_TIMEOUT_MS = 5_000

/** The parts of a client that connecting needs. */
export interface Connectable {
  connect(options: { timeout: number }, done: (error: RdKafka.LibrdKafkaError | null) => void): unknown
  disconnect(): unknown
  on(event: 'disconnected', listener: () => void): unknown
}

/** What the connections of clients are secured with: security.ts. */
export interface Openings<C> {
  open(): Opening<C>
}

/** One client's. */
export interface Opening<C> {
  /** TLS and SASL, as of now. */
  readonly settings: Settings
  /** The client is connected. It gets what changes until {@link ended}. */
  connected(client: C): void
  /** The client is closed, or has not connected. @returns why it could not be let in, if that is known without a broker */
  ended(): string | undefined
}

/** Connects once. The client closes itself when its first metadata request fails. @returns why it has failed; undefined when it has not */
export async function connectOnce(client: Connectable): Promise<string | undefined> {
  // Emitted where a client that is being closed is given a token; without a listener it would be thrown. The client's types omit it.
  ;(client as unknown as EventEmitter).on('error', () => undefined)
  const error = await new Promise<RdKafka.LibrdKafkaError | null>((resolve) => {
    client.connect({ timeout: CONNECT_TIMEOUT_MS }, (fault) => resolve(fault ?? null))
  })
  return error?.message
}

/**
 * Connects, retrying indefinitely with back-off. Each attempt uses a new client.
 * @param open creates a client with these settings, too, and its listeners attached
 * @param failed is called with the reason of each failed attempt
 * @returns the connected client; undefined when the signal was aborted first, and then no client stays connected
 */
export async function connectForever<C extends Connectable>(
  openings: Openings<NoInfer<C>>,
  open: (secured: Settings) => C,
  failed: (reason: string) => void,
  signal: AbortSignal,
): Promise<C | undefined> {
  for (let attempt = 1; !signal.aborted; attempt++) {
    const opening = openings.open()
    const client = open(opening.settings)
    const fault = await connectOnce(client)
    if (fault === undefined && !signal.aborted) {
      client.on('disconnected', () => void opening.ended())
      opening.connected(client)
      return client
    }
    const known = opening.ended()
    if (fault === undefined) {
      // The caller has closed already and will not disconnect it.
      client.disconnect()
      return undefined
    }
    failed(known ?? fault)
    await sleep(delayMs(CONNECT_BACKOFF, attempt), signal)
  }
  return undefined
}

/** Turns a call that ends with a callback into a promise. */
export function promised<T = unknown>(
  call: (done: (error: RdKafka.LibrdKafkaError | null | undefined, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error === null || error === undefined ? resolve(value as T) : reject(error)))
  })
}

/** {@link promised} for calls of the addon. @throws LibrdKafkaError */
export const answerOf = <T>(call: (done: (fault: object | null, answer?: T) => void) => void): Promise<T> =>
  promised((done) => call((fault, answer) => done(fault === null ? null : libraryError(fault), answer)))

/**
 * Asks a broker for the cluster's metadata.
 * @param topic asks for this topic only, and creates it where brokers create topics on demand; without it all topics are listed
 * @throws LibrdKafkaError
 */
export const clusterMetadata = (
  client: Producer | Consumer,
  timeoutMs: number,
  topic?: string,
): Promise<RdKafka.Metadata> =>
  promised((done) =>
    client.getMetadata(
      { timeout: timeoutMs, ...(topic === undefined ? { allTopics: true } : { topic, allTopics: false }) },
      done,
    ),
  )

/**
 * Waits until a client is closed, at most {@link CLOSE_TIMEOUT_MS}; a failure is logged.
 * @param name of the client, in the log
 */
export async function closeClient(
  log: Logger,
  name: string,
  disconnect: (done: (error: RdKafka.LibrdKafkaError | null) => void) => void,
): Promise<void> {
  await within(CLOSE_TIMEOUT_MS, promised(disconnect)).catch((error: Error) =>
    log.warn({ reason: error.message }, `${name} did not close in time`),
  )
}
