import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { identityOf } from '../../consumer/decode.ts'
import { EXAMPLES } from '../../producer/testing/examples.ts'
import { startKafka } from '../../shared/dev/brokers/kafka.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { actsTopic, CONTROL_TOPIC, inputTopic, siblingTopic, streamTopics } from '../../shared/events/topics.ts'
import { makeKey, ROLES, type TenantsFile } from '../../shared/http/tenants.ts'
import { createRecordProducer } from '../../shared/kafka/producer.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { ProduceError, type RangeReader, type TopicPartition } from '../../shared/kafka/types.ts'
import { residentMemoryBytes } from '../../shared/service/process-metrics.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'

/** Apache Kafka and the three services, for inputs that are odd on purpose. */

export const PARTITIONS = 3
export const TENANT = 'fuzz'
/** Events and webhooks over HTTP; foreign records in `odd`; forged records in the topics beside `beside`. */
export const STREAMS = { events: 'events', hooks: 'hooks', odd: 'odd', beside: 'beside' } as const
export const TOPICS = {
  events: inputTopic(TENANT, STREAMS.events),
  hooks: inputTopic(TENANT, STREAMS.hooks),
  odd: inputTopic(TENANT, STREAMS.odd),
  beside: inputTopic(TENANT, STREAMS.beside),
} as const

const BODY_TIMEOUT_MS = 2_500
const DELIVERY_TIMEOUT_MS = 5_000
const START_TIMEOUT_MS = 60_000
const LARGEST_RECORD_BYTES = 2 ** 20

export interface Rig {
  readonly brokers: string
  /** A key of the tenant with all roles. */
  readonly key: string
  readonly reader: RangeReader
  /** Writes to any topic. */
  readonly write: Writer['write']
  producer(): ServiceProcess
  consumer(): ServiceProcess
  console(): ServiceProcess
  /** Ends it if it runs, and starts it. */
  restart(service: 'producer' | 'consumer' | 'console'): Promise<void>
  stop(): Promise<void>
}

/** What differs from a consumer's defaults: handlers that fail, and little patience. */
export const CONSUMER_ENV: Readonly<Record<string, string>> = {
  NODE_ENV: 'development',
  HANDLERS_MODULE: join(import.meta.dir, '../../consumer/testing/faulty-handlers.ts'),
  QUICK_ATTEMPTS: '1',
  MAX_ATTEMPTS: '2',
  RETRY_FIRST_MS: '50',
  RETRY_MAX_MS: '100',
}

export async function startRig(say: (text: string) => void): Promise<Rig> {
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-fuzz-'))
  const { key, sha256 } = makeKey('fuzz')
  const sources = Object.fromEntries(
    Object.entries(EXAMPLES).map(([name, { declaration }]) => [name, { stream: STREAMS.hooks, ...declaration }]),
  )
  const file: TenantsFile = {
    tenants: {
      [TENANT]: { streams: Object.values(STREAMS), keys: [{ id: 'fuzz', sha256, roles: [...ROLES] }], sources },
    },
  }
  const tenantsFile = join(folder, 'tenants.json')
  await Bun.write(tenantsFile, JSON.stringify(file))
  const kafka = await startKafka({ say })
  const brokers = kafka.bootstrapServers
  await kafka.createTopics(
    Object.values(STREAMS).flatMap((stream) => streamTopics(TENANT, stream)),
    PARTITIONS,
  )
  await kafka.createTopics([CONTROL_TOPIC, actsTopic(TOPICS.beside)], 1)
  const common = { NODE_ENV: 'development', KAFKA_BROKERS: brokers }
  const served = { ...common, TENANTS_FILE: tenantsFile }
  const environments = {
    producer: {
      ...served,
      MAX_IN_FLIGHT_BYTES: String(2 ** 30),
      REQUEST_TIMEOUT_MS: String(BODY_TIMEOUT_MS + DELIVERY_TIMEOUT_MS),
      NDJSON_PROGRESS_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS + 2_100),
      DELIVERY_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS),
    },
    consumer: { ...CONSUMER_ENV, ...common, GROUP_ID: 'fuzz', INSTANCE_ID: 'one' },
    console: { ...served, GROUP_ID: 'fuzz', INSTANCE_ID: 'console' },
  }
  const services: Partial<Record<keyof typeof environments, ServiceProcess>> = {}
  const restart: Rig['restart'] = async (name) => {
    if (services[name]?.running()) await services[name].stop()
    const service = await startService(name, environments[name])
    services[name] = service
    if (name !== 'consumer')
      await until(() => service.started['port'] !== undefined, {
        timeoutMs: START_TIMEOUT_MS,
        what: `${name} to listen`,
      })
  }
  const the = (name: keyof typeof environments) => (): ServiceProcess => services[name] as ServiceProcess
  await Promise.all([restart('producer'), restart('consumer'), restart('console')])
  const writer = await openWriter(brokers, [
    ...Object.values(STREAMS).flatMap((stream) => streamTopics(TENANT, stream)),
    CONTROL_TOPIC,
    actsTopic(TOPICS.beside),
  ])
  const reader = openReader(brokers)
  return {
    brokers,
    key,
    reader,
    write: writer.write,
    producer: the('producer'),
    consumer: the('consumer'),
    console: the('console'),
    restart,
    async stop() {
      await Promise.all([writer.close(), reader.close()])
      await Promise.all(Object.values(services).map((service) => (service.running() ? service.stop() : undefined)))
      await kafka.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const silent = () => pino({ level: 'silent' })

export const openReader = (brokers: string): RangeReader =>
  createRangeReader({ config: loadConsumerConfig({ KAFKA_BROKERS: brokers }), clientId: 'fuzz-reader', log: silent() })

export interface Writer {
  /** @throws ProduceError for the first record that was not stored */
  write(records: readonly OutgoingRecord[]): Promise<void>
  close(): Promise<void>
}

export async function openWriter(brokers: string, topics: readonly string[]): Promise<Writer> {
  const writer = createRecordProducer({
    config: loadConsumerConfig({ KAFKA_BROKERS: brokers }),
    clientId: 'fuzz-writer',
    topics,
    deliveryTimeoutMs: 30_000,
    lingerMs: 5,
    maxQueueRecords: 100_000,
    maxQueueBytes: 2 ** 28,
    maxRecordBytes: LARGEST_RECORD_BYTES,
    unreachedTimeoutMs: START_TIMEOUT_MS,
    log: silent(),
    onStatistics: () => undefined,
  })
  writer.start()
  await until(() => writer.connection().state === 'connected', { timeoutMs: START_TIMEOUT_MS, what: 'the connection' })
  return {
    async write(records) {
      const failed = (await writer.produce(records)).find((result) => result instanceof ProduceError)
      if (failed !== undefined) throw failed
    },
    close: () => writer.close(5_000),
  }
}

export const partitionsOf = (topic: string, partitions = PARTITIONS): TopicPartition[] =>
  Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))

/** The identity of an event. Repeats are recognised within a partition, so with another key it is another event. */
export const known = (record: IncomingRecord): string => `${record.partition} ${identityOf(record)}`

/** The events of a stream, by {@link known}. */
export async function eventsIn(reader: RangeReader, input: string): Promise<Set<string>> {
  const events = new Set<string>()
  await readAll(reader, partitionsOf(input), (record) => events.add(known(record)))
  return events
}

/**
 * Waits until each event of a stream has an outcome.
 * @returns what is wrong: events without an outcome in time, with more than one, and outcomes of unknown events
 */
export async function outcomeFaults(
  reader: RangeReader,
  input: string,
  events: ReadonlySet<string>,
  options: { timeoutMs: number; isRunning: () => boolean },
): Promise<string[]> {
  const outcomes = new Map<string, number>()
  const look = async (): Promise<boolean> => {
    outcomes.clear()
    for (const role of ['processed', 'dlq'] as const)
      await readAll(reader, partitionsOf(siblingTopic(input, role)), (record) => {
        const event = known(record)
        outcomes.set(event, (outcomes.get(event) ?? 0) + 1)
      })
    return !options.isRunning() || [...events].every((event) => outcomes.has(event))
  }
  await until(look, { timeoutMs: options.timeoutMs }).catch(() => undefined)
  const without = [...events].filter((event) => !outcomes.has(event))
  const wrong = [...outcomes].filter(([event, count]) => count !== 1 || !events.has(event))
  return [
    ...(without.length > 0
      ? [`${without.length} of ${events.size} events of ${input} have no outcome: ${without[0]}`]
      : []),
    ...wrong.map(
      ([event, count]) => `${event} of ${input} has ${count} outcomes${events.has(event) ? '' : ', and is no event'}`,
    ),
  ]
}

export const residentMbOf = (pid: number): number => Math.round((residentMemoryBytes(pid) ?? 0) / 2 ** 20)
