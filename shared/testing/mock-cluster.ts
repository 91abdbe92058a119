/** librdkafka's mock cluster in the test's own process, with clients for it. */

import { type Consumer, type Message, native, type Producer, promised, type Settings } from '../kafka/client.ts'
import { uniqueName } from './brokers.ts'

const CONNECT_TIMEOUT_MS = 10_000
const READ_TIMEOUT_MS = 20_000

/** The time of one poll. Short, since a test's last poll delays its end. */
const CONSUME_TIMEOUT_MS = 100

/** The mock cluster creates topics on demand with this number of partitions. */
export const MOCK_PARTITIONS = 4

export interface MockCluster {
  brokers: string
  /** Connected, polling in the background. */
  producer(settings?: Settings, topicSettings?: Settings): Promise<Producer>
  /** Connected, in a group of its own unless the settings say otherwise. */
  consumer(settings?: Settings, topicSettings?: Settings): Promise<Consumer>
  /** Produces one record and returns once it is stored. */
  store(producer: Producer, topic: string, ...record: ProducedRecord): Promise<Stored>
  /** Disconnects every client, then the cluster. */
  close(): Promise<void>
}

/** The arguments of `produce` after the topic. */
export type ProducedRecord = [
  partition: number | null,
  value: Buffer | null,
  key?: Buffer | string | null,
  timestamp?: number | null,
  headers?: Record<string, string | Buffer>[],
]

export interface Stored {
  topic: string
  partition: number
  offset: number
}

type Client = Producer | Consumer

export async function startMockCluster(): Promise<MockCluster> {
  const open: Client[] = []
  const connect = async <C extends Client>(client: C): Promise<C> => {
    await promised((done) => client.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
    open.push(client)
    return client
  }
  const { Producer, KafkaConsumer } = native()
  const cluster = await connect(new Producer({ 'test.mock.num.brokers': 1, log_level: 3 }))
  const metadata = await promised<{ brokers: { host: string; port: number }[] }>((done) =>
    cluster.getMetadata({ timeout: CONNECT_TIMEOUT_MS }, done),
  )
  const brokers = metadata.brokers.map(({ host, port }) => `${host}:${port}`).join(',')
  return {
    brokers,
    async producer(settings = {}, topicSettings) {
      const producer = await connect(
        new Producer({ 'metadata.broker.list': brokers, 'linger.ms': 0, dr_cb: true, ...settings }, topicSettings),
      )
      producer.setPollInBackground(true)
      return producer
    },
    async consumer(settings = {}, topicSettings = { 'auto.offset.reset': 'earliest' }) {
      const consumer = await connect(
        new KafkaConsumer(
          {
            'metadata.broker.list': brokers,
            'group.id': uniqueName('group'),
            'enable.auto.commit': false,
            'fetch.wait.max.ms': 10,
            ...settings,
          },
          topicSettings,
        ),
      )
      consumer.setDefaultConsumeTimeout(CONSUME_TIMEOUT_MS)
      consumer.setDefaultIsTimeoutOnlyForFirstMessage(true)
      return consumer
    },
    store(producer, topic, partition, value, key, timestamp, headers) {
      const opaque = {}
      return new Promise((resolve, reject) => {
        producer.on('delivery-report', function mine(this: Producer, error, report) {
          if (report.opaque !== opaque) return
          producer.removeListener('delivery-report', mine)
          if (error) reject(error)
          else resolve(report)
        })
        producer.produce(topic, partition, value, key, timestamp, opaque, headers)
      })
    },
    async close() {
      for (const client of open.reverse()) await promised((done) => client.disconnect((error) => done(error)))
    },
  }
}

/** Every partition of a topic, from the beginning. */
export function fromTheBeginning(topic: string): { topic: string; partition: number; offset: number }[] {
  return Array.from({ length: MOCK_PARTITIONS }, (_, partition) => ({ topic, partition, offset: 0 }))
}

/** Reads until it has this many records; throws when they do not come. */
export async function read(consumer: Consumer, count: number): Promise<Message[]> {
  const deadline = performance.now() + READ_TIMEOUT_MS
  const records: Message[] = []
  while (records.length < count) {
    if (performance.now() > deadline) throw new Error(`read ${records.length} of ${count} records in time`)
    records.push(...(await promised<Message[]>((done) => consumer.consume(count - records.length, done))))
  }
  return records
}

/** Creates a topic. @returns its name */
export async function newTopic(producer: Producer, prefix = 'topic'): Promise<string> {
  const topic = uniqueName(prefix)
  await promised((done) => producer.getMetadata({ topic, timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
  return topic
}
