import { type Static, Type } from '@sinclair/typebox'
import { authFaults, authVariables, loadWithTenants } from '../shared/http/access-config.ts'
import { certificateFaults, certificateVariables, clientCertificateVariables } from '../shared/http/certificates.ts'
import { proxyFaults, proxyVariables } from '../shared/http/client-address.ts'
import type { Tenants } from '../shared/http/tenants.ts'
import { registryVariables } from '../shared/schemas/registry.ts'
import { schemaConfigFaults, schemaVariables } from '../shared/schemas/store.ts'
import { choice, commonFaults, commonVariables, integer, loadConfig } from '../shared/service/config.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Every variable of the producer: name, type, default and meaning. */
export const producerVariables = Type.Object({
  ...commonVariables,
  HOST: Type.String({
    default: '::',
    description: 'The address that the public port listens on; ::, all of IPv6 and IPv4.',
  }),
  PORT: integer(8080, 0, 65_535, 'The public port. 0 chooses a free one.'),
  REUSE_PORT: choice(['on', 'off'], {
    default: 'off',
    description:
      'on: several processes on one machine share the public port. With net.ipv4.tcp_migrate_req=1, one of them can be replaced without failed requests.',
  }),
  OPS_PORT: integer(
    9080,
    0,
    65_535,
    'The operations port: /livez, /readyz, /startupz, /metrics. 0 chooses a free one.',
  ),
  ...certificateVariables,
  ...clientCertificateVariables,
  ...proxyVariables,
  ...authVariables,
  SOURCES_MODULE: Type.Optional(
    Type.String({
      description:
        'A file that exports `kinds`: further kinds of webhook sources for TENANTS_FILE (docs/sources/own.md).',
    }),
  ),
  ...schemaVariables,
  ...registryVariables,
  CLOUDEVENTS_STRICT: choice(['on', 'off'], {
    default: 'off',
    description:
      'on: ce- headers that are not fully percent-encoded are answered 422. off: what SDKs send unencoded (UTF-8, single per cent signs and double quotes) is accepted as it is.',
  }),
  QUOTA_REPLICAS: integer(
    1,
    1,
    10_000,
    'Among how many producers quotas are divided; each grants its part. With REPLICAS_DNS: until that is resolved.',
  ),
  REPLICAS_DNS: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9.])?$',
      description:
        'A name whose addresses are those of the producers that are ready, such as of a headless Service. It is looked up every 5 s: quotas are divided by their number, and one that cannot store events asks the others, at the number of its own OPS_PORT, whether they can.',
    }),
  ),
  CREATE_TOPICS: choice(['on', 'off'], {
    default: 'on',
    description: 'on: the producer creates the missing ones of the four topics of every stream.',
  }),
  TOPIC_PARTITIONS: integer(6, 1, 10_000, 'With CREATE_TOPICS=on: partitions of a new topic.'),
  TOPIC_REPLICATION: integer(-1, -1, 100, 'With CREATE_TOPICS=on: replicas of a new topic; -1: the brokers’ default.'),
  MAX_BODY_BYTES: integer(
    4 * MIB,
    1,
    256 * MIB,
    'The largest request body, decompressed. NDJSON streams have their own limits. Over it: 413.',
  ),
  MAX_EVENT_BYTES: integer(
    900_000,
    1,
    256 * MIB,
    'The largest event as a Kafka record, attributes included. Over it: 413.',
  ),
  MAX_BATCH_EVENTS: integer(1_000, 1, 100_000, 'The most events in a request, NDJSON streams excepted. Over it: 413.'),
  MAX_NESTING_DEPTH: integer(64, 2, 512, 'The most levels of objects and arrays in a JSON body. Over it: 413.'),
  MAX_HEADER_BYTES: integer(16 * KIB, KIB, MIB, 'The most bytes of a request’s header fields. Over it: 431.'),
  MAX_IN_FLIGHT_REQUESTS: integer(2_000, 1, 1_000_000, 'The most requests that are served at a time. Over it: 503.'),
  MAX_IN_FLIGHT_BYTES: integer(
    64 * MIB,
    1,
    64 * 1024 * MIB,
    'The most bytes of request bodies in memory. Over it: 503.',
  ),
  REQUEST_TIMEOUT_MS: integer(
    30_000,
    100,
    240_000,
    'The longest time for a request, in ms. Its body must arrive DELIVERY_TIMEOUT_MS earlier, else 408. NDJSON streams have their own limits.',
  ),
  DELIVERY_TIMEOUT_MS: integer(
    10_000,
    100,
    200_000,
    'How long delivery to Kafka is tried, in ms. After that: 503 with outcome "unknown".',
  ),
  LINGER_MS: integer(1, 0, 1_000, 'How long a record waits to be sent together with others, in ms.'),
  MAX_QUEUE_RECORDS: integer(
    100_000,
    1,
    10_000_000,
    'The most records that wait for Kafka’s acknowledgement. Over it: 503.',
  ),
  MAX_QUEUE_BYTES: integer(
    64 * MIB,
    KIB,
    64 * 1024 * MIB,
    'The most bytes that wait for Kafka’s acknowledgement. Over it: 503.',
  ),
  NDJSON_MAX_LINE_BYTES: integer(
    1_500_000,
    1,
    256 * MIB,
    'The longest line of an NDJSON stream. Over it: the line is refused.',
  ),
  NDJSON_WINDOW_EVENTS: integer(
    512,
    1,
    100_000,
    'The most lines of an NDJSON stream that wait for their answer. At this limit, reading pauses.',
  ),
  NDJSON_WINDOW_BYTES: integer(
    2 * MIB,
    1,
    256 * MIB,
    'The most bytes of an NDJSON stream in memory. At this limit, reading pauses.',
  ),
  NDJSON_PROGRESS_TIMEOUT_MS: integer(
    30_000,
    100,
    240_000,
    'How long an NDJSON stream may go without a line from the client, or without the client reading an answer, in ms. Empty lines do not count. After that, no more of the stream is read. A client that reads no answer for twice that time, 255 s at most, is disconnected.',
  ),
})

export type ProducerConfig = Readonly<Static<typeof producerVariables>>

/** librdkafka checks time-outs once a second, and its report is awaited: a delivery may time out this much late. */
export const DELIVERY_GRACE_MS = 2_000

type Env = Readonly<Record<string, string | undefined>>

/** @throws ConfigError naming every fault */
export const loadProducerConfig = (env: Env): ProducerConfig => loadConfig(producerVariables, env, producerFaults)

/**
 * The configuration, and the tenants of its file.
 * @throws ConfigError naming every fault of both
 */
export const loadProducer = (env: Env): { config: ProducerConfig; tenants: Tenants | undefined } =>
  loadWithTenants(producerVariables, env, producerFaults)

/** KAFKA_BROKERS, which has no default, may be missing while faults are looked for. */
type Given = Omit<ProducerConfig, 'KAFKA_BROKERS'>

function producerFaults(config: Given, given: ReadonlySet<string>): string[] {
  const faults = [
    ...commonFaults(config, given),
    ...certificateFaults(config),
    ...proxyFaults(config),
    ...authFaults(config),
    ...schemaConfigFaults(config),
  ]
  const fault = (when: boolean, text: string): void => {
    if (when) faults.push(text)
  }
  const above = (name: NumberVariable, limit: NumberVariable, why: string): void =>
    fault(config[name] > config[limit], `${name}=${config[name]} is more than ${limit}=${config[limit]}: ${why}.`)
  above('MAX_BODY_BYTES', 'MAX_IN_FLIGHT_BYTES', 'such a body could never be taken')
  above('NDJSON_WINDOW_BYTES', 'MAX_IN_FLIGHT_BYTES', 'such a stream could never be taken')
  above('NDJSON_MAX_LINE_BYTES', 'NDJSON_WINDOW_BYTES', 'such a line could never be taken')
  above('MAX_EVENT_BYTES', 'MAX_QUEUE_BYTES', 'such an event could never be queued')
  above('MAX_BATCH_EVENTS', 'MAX_QUEUE_RECORDS', 'such a batch could never be queued')
  fault(
    config.LINGER_MS >= config.DELIVERY_TIMEOUT_MS,
    `LINGER_MS=${config.LINGER_MS} leaves no time to deliver within DELIVERY_TIMEOUT_MS=${config.DELIVERY_TIMEOUT_MS}.`,
  )
  for (const name of ['REQUEST_TIMEOUT_MS', 'NDJSON_PROGRESS_TIMEOUT_MS'] as const)
    fault(
      config[name] <= config.DELIVERY_TIMEOUT_MS + DELIVERY_GRACE_MS,
      `${name}=${config[name]} must be more than DELIVERY_TIMEOUT_MS=${config.DELIVERY_TIMEOUT_MS} plus ${DELIVERY_GRACE_MS}: a request must outlive its delivery.`,
    )
  return faults
}

type NumberVariable = {
  [K in keyof ProducerConfig]-?: ProducerConfig[K] extends number ? K : never
}[keyof ProducerConfig]
