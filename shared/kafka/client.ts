/**
 * The only module that imports the native client. It checks that the addon fits this runtime, opens clients, and says what librdkafka's
 * errors mean; everything else in `shared/kafka/` builds on that.
 */
import { join } from 'node:path'
import type * as RdKafka from '@confluentinc/kafka-javascript/types/rdkafka'
import type { CommonConfig } from '../service/config.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../service/retry.ts'
import type { Addon, Consumer, PackedAddon, TopicsAddon, TransactionsAddon } from './addon.ts'
import { ADDON_FILE, checkAddon, INSTALLED } from './native/check.ts'
import { declareNames } from './packed.ts'

export type { LibrdKafkaError, Message } from '@confluentinc/kafka-javascript/types/rdkafka'
export type { Consumer, Producer } from './addon.ts'

/** librdkafka settings by their own names. */
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

/** Loads the addon at first use; a missing or unfit build is explained by the error that `checkAddon` throws. */
export function native(): Native {
  if (loaded === undefined) {
    checkAddon()
    loaded = require('@confluentinc/kafka-javascript') as Native
  }
  return loaded
}

function addon(): Addon {
  if (loadedAddon === undefined) {
    native()
    loadedAddon = require(join(INSTALLED, ADDON_FILE)) as Addon
    declareNames(loadedAddon.packed)
  }
  return loadedAddon
}

/** The way for many records at a time; loads the addon at first use, as {@link native} does. */
export const packed = (): PackedAddon => addon().packed

/** Offsets in a transaction; loads the addon at first use, as {@link native} does. */
export const transactions = (): TransactionsAddon => addon().transactions

/** Topics by the batch; loads the addon at first use, as {@link native} does. */
export const topicRequests = (): TopicsAddon => addon().topics

/** What the package's own calls make of an error that the addon gives. */
export const libraryError = (fault: object): RdKafka.LibrdKafkaError =>
  (require('@confluentinc/kafka-javascript/lib/error') as { create(fault: object): RdKafka.LibrdKafkaError }).create(
    fault,
  )

/** librdkafka's words for one of its codes. */
export const messageOf = (code: number): string => addon().err2str(code)

/** librdkafka's error codes that are told apart somewhere; negative ones are its own, the others the protocol's. */
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
  UNKNOWN_BROKER: -146,
  FENCED: -144,
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
  INVALID_RECORD: 87,
  UNSTABLE_OFFSET_COMMIT: 88,
} as const

/**
 * The code of an error that came as an event. The addon passes those on as text only (its callbacks.cc), so the few that are told apart are
 * known by librdkafka's words for them.
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

/** Settings of every client: where the brokers are and how they are spoken to. */
export function connectionSettings(config: CommonConfig, clientId: string): Settings {
  const settings: Settings = {
    'metadata.broker.list': config.KAFKA_BROKERS,
    'client.id': clientId,
    'security.protocol': config.KAFKA_SECURITY_PROTOCOL,
    'reconnect.backoff.ms': CONNECT_BACKOFF.firstMs,
    'reconnect.backoff.max.ms': CONNECT_BACKOFF.maxMs,
    // Half-open connections behind load balancers are found by the kernel.
    'socket.keepalive.enable': true,
    'socket.nagle.disable': true,
    'statistics.interval.ms': STATISTICS_INTERVAL_MS,
  }
  if (config.KAFKA_SECURITY_PROTOCOL.startsWith('sasl_')) {
    settings['sasl.mechanisms'] = config.KAFKA_SASL_MECHANISM
    settings['sasl.username'] = config.KAFKA_SASL_USERNAME ?? ''
    settings['sasl.password'] = config.KAFKA_SASL_PASSWORD ?? ''
  }
  if (config.KAFKA_SECURITY_PROTOCOL.endsWith('ssl')) {
    if (config.KAFKA_SSL_CA_FILE !== undefined) settings['ssl.ca.location'] = config.KAFKA_SSL_CA_FILE
    if (config.KAFKA_SSL_CERTIFICATE_FILE !== undefined)
      settings['ssl.certificate.location'] = config.KAFKA_SSL_CERTIFICATE_FILE
    if (config.KAFKA_SSL_KEY_FILE !== undefined) settings['ssl.key.location'] = config.KAFKA_SSL_KEY_FILE
    if (config.KAFKA_SSL_KEY_PASSWORD !== undefined) settings['ssl.key.password'] = config.KAFKA_SSL_KEY_PASSWORD
  }
  return settings
}

/** How often librdkafka reports its statistics; also how soon a broker's coming and going is noticed when nothing is sent. */
export const STATISTICS_INTERVAL_MS = 1_000

/** How long disconnecting a client may take before it is left to itself. */
export const CLOSE_TIMEOUT_MS = 3_000

/** How long one attempt to connect may take. */
const CONNECT_TIMEOUT_MS = 5_000

interface Connectable {
  connect(options: { timeout: number }, done: (error: RdKafka.LibrdKafkaError | null) => void): unknown
  disconnect(): unknown
}

/**
 * Connects for ever with back-off. The wrapper closes a client whose first metadata request fails, so every attempt takes a fresh one.
 * @param open makes a client, listeners attached
 * @param failed is told why an attempt failed
 * @returns the connected client; undefined when the signal was aborted first, and no client is left connected then
 */
export async function connectForever<C extends Connectable>(
  open: () => C,
  failed: (reason: string) => void,
  signal: AbortSignal,
): Promise<C | undefined> {
  for (let attempt = 1; !signal.aborted; attempt++) {
    const client = open()
    const error = await new Promise<RdKafka.LibrdKafkaError | null>((resolve) => {
      client.connect({ timeout: CONNECT_TIMEOUT_MS }, (fault) => resolve(fault ?? null))
    })
    if (error === null && !signal.aborted) return client
    if (error === null) {
      // Nobody else is going to disconnect it.
      client.disconnect()
      return undefined
    }
    failed(error.message)
    await sleep(delayMs(CONNECT_BACKOFF, attempt), signal)
  }
  return undefined
}

/** Turns one of the client's callback-last methods into a promise. */
export function promised<T = void>(
  call: (done: (error: RdKafka.LibrdKafkaError | null | undefined, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    call((error, value) => (error === null || error === undefined ? resolve(value as T) : reject(error)))
  })
}
