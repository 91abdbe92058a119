import { afterEach, describe, expect, test } from 'bun:test'
import pino from 'pino'
import { alterTopic } from '../dev/brokers/wire-admin.ts'
import { NO_HEADERS } from '../events/headers.ts'
import type { OutgoingRecord } from '../events/record.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { API, startControlledMock } from '../testing/controlled-mock.ts'
import { settled } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import { createTopicAdmin } from './admin.ts'
import { CODE } from './client.ts'
import { createRecordProducer, deliveryOf, produceError, type RecordProducerOptions } from './producer.ts'
import { createRangeReader } from './range-reader.ts'
import { type DeliveryResult, ProduceError, type RecordProducer, UnreachableError } from './types.ts'

const TEST_TIMEOUT_MS = 30_000
const log = pino({ level: 'silent' })
const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const ending: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

async function topicOf(partitions: number): Promise<string> {
  const topic = uniqueName('records')
  const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log })
  expect(await admin.ensureGroups([[topic]], { partitions, replication: -1 })).toEqual([undefined])
  await admin.close()
  return topic
}

/** Begun; closed when the test ends. */
function create(topic: string, options: Partial<RecordProducerOptions> = {}): RecordProducer {
  const producer = createRecordProducer({
    config,
    clientId: uniqueName('producer'),
    topics: [topic],
    deliveryTimeoutMs: 5_000,
    lingerMs: 0,
    maxQueueRecords: 1_000,
    maxQueueBytes: 1_000_000,
    maxRecordBytes: 900_000,
    unreachedTimeoutMs: 60_000,
    log,
    onStatistics: () => undefined,
    ...options,
  })
  ending.push(() => producer.close(1_000))
  producer.start()
  return producer
}

async function connected(topic: string, options: Partial<RecordProducerOptions> = {}) {
  const producer = create(topic, options)
  await until(() => producer.partitionCount(topic) !== undefined, { timeoutMs: 10_000 })
  return producer
}

const record = (topic: string, more: Partial<OutgoingRecord> = {}): OutgoingRecord => ({
  topic,
  key: null,
  value: Buffer.from('x'),
  headers: NO_HEADERS,
  ...more,
})
const outcome = (result: DeliveryResult): string =>
  result instanceof ProduceError ? `${result.fault}, ${result.outcome}` : 'stored'
const produceOne = async (producer: RecordProducer, one: OutgoingRecord): Promise<DeliveryResult> =>
  (await producer.produce([one]))[0] as DeliveryResult
const outcomeOf = async (producer: RecordProducer, one: OutgoingRecord): Promise<string> =>
  outcome(await produceOne(producer, one))
const whereOf = (result: DeliveryResult) =>
  result instanceof ProduceError ? outcome(result) : [result.partition, result.offset]

describe('the record producer', () => {
  test(
    'refuses at once while it is not connected, and after it is closed',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic)
      expect(await outcomeOf(producer, record(topic))).toBe('stored')
      await producer.close(1_000)
      expect(await outcomeOf(producer, record(topic))).toBe('unavailable, not stored')
      expect(producer.connection()).toEqual({ state: 'closed' })
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'says where a record stands, in its partition’s order, and keeps null apart from empty',
    async () => {
      const topic = await topicOf(2)
      const producer = await connected(topic)
      const values = [Buffer.from('a'), Buffer.alloc(0), null, Buffer.from('d')]
      const deliveries = await producer.produce(values.map((value) => record(topic, { partition: 1, value })))
      expect(deliveries.map(whereOf)).toEqual([
        [1, 0],
        [1, 1],
        [1, 2],
        [1, 3],
      ])
      const reader = createRangeReader({ config, clientId: uniqueName('reader'), log })
      ending.push(() => reader.close())
      const read: (string | null)[] = []
      await reader.read([{ topic, partition: 1, from: 0, to: 4 }], (one) => read.push(one.value?.toString() ?? null))
      expect(read).toEqual(['a', '', null, 'd'])
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'is full at its bound of records or bytes, at once, and has room again after the acknowledgements',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic, { maxQueueRecords: 3, maxQueueBytes: 10_000, lingerMs: 300 })
      const waiting = [1, 2, 3].map(() => outcomeOf(producer, record(topic)))
      expect(producer.queue()).toMatchObject({ records: 3, bytes: 3 })
      const begun = performance.now()
      expect(await outcomeOf(producer, record(topic))).toBe('queue full, not stored')
      expect(performance.now() - begun).toBeLessThan(50)
      expect(await Promise.all(waiting)).toEqual(['stored', 'stored', 'stored'])
      expect(producer.queue()).toMatchObject({ records: 0, bytes: 0 })
      const large = outcomeOf(producer, record(topic, { value: Buffer.alloc(9_000) }))
      expect(await outcomeOf(producer, record(topic, { value: Buffer.alloc(2_000) }))).toBe('queue full, not stored')
      expect(await large).toBe('stored')
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'knows what is certainly not stored',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic)
      expect(await outcomeOf(producer, record(topic, { partition: 7 }))).toBe('unknown topic, not stored')
      const heavy = await connected(topic, { maxRecordBytes: 4_000_000, maxQueueBytes: 10_000_000 })
      const value = Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)))
      const incompressible = Buffer.concat(
        Array.from({ length: 50 }, (_, i) => Buffer.from(value.map((byte, at) => byte ^ (at * i)))),
      )
      expect(await outcomeOf(heavy, record(topic, { value: incompressible }))).toBe('too large, not stored')
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'delivers what is in flight before it closes',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic, { lingerMs: 500 })
      const waiting = Array.from({ length: 10 }, () => produceOne(producer, record(topic)))
      await producer.close(5_000)
      expect((await Promise.all(waiting)).map(whereOf)).toEqual(Array.from({ length: 10 }, (_, i) => [0, i]))
    },
    TEST_TIMEOUT_MS,
  )

  test('calls nothing certain that is not: a time-out, a fatal error, a refusal that an earlier attempt may have escaped', () => {
    const MSG_TIMED_OUT = -192
    const FATAL = -150
    const TOPIC_AUTHORIZATION_FAILED = 29
    const PURGE_QUEUE = -152
    for (const code of [MSG_TIMED_OUT, FATAL, TOPIC_AUTHORIZATION_FAILED])
      expect(produceError(code, '').outcome).toBe('unknown')
    for (const code of [
      TOPIC_AUTHORIZATION_FAILED,
      CODE.CLUSTER_AUTHORIZATION_FAILED,
      CODE.MSG_TIMED_OUT,
      PURGE_QUEUE,
    ]) {
      expect(produceError(code, '', false).outcome).toBe('not stored')
      expect(produceError(code, '', true).outcome).toBe('unknown')
    }
  })

  test('calls a record stored only where the broker says where it stands', () => {
    const report = { sequence: 1, code: 0, mayBeStored: true, partition: 2, offset: 3, timestampMs: 4 }
    expect(deliveryOf('records', report)).toEqual({ topic: 'records', partition: 2, offset: 3, timestampMs: 4 })
    expect(deliveryOf('records', { ...report, offset: -1 })).toMatchObject({ fault: 'timed out', outcome: 'unknown' })
  })
})

test(
  'a client that reaches no broker for long is replaced, and the new one goes on',
  async () => {
    const mock = startControlledMock(1)
    ending.push(async () => mock.close())
    mock.createTopic('topic', 1)
    const producer = await connected('topic', {
      config: { ...config, KAFKA_BROKERS: mock.brokers },
      unreachedTimeoutMs: 1_000,
    })
    await until(() => producer.blocked('topic') === undefined, { timeoutMs: 15_000 })
    mock.setDown(1)
    await until(() => producer.blocked('topic') === 'no broker was reached for 1 s', { timeoutMs: 15_000 })
    expect(outcome(await produceOne(producer, record('topic')))).toBe('unavailable, not stored')
    mock.setUp(1)
    await until(async () => outcome(await produceOne(producer, record('topic'))) === 'stored', { timeoutMs: 15_000 })
    await until(() => producer.blocked('topic') === undefined, { timeoutMs: 15_000 })
  },
  TEST_TIMEOUT_MS,
)

describe('max.message.bytes is a batch’s limit', () => {
  const LIMIT_BYTES = 100_000
  const NOT_ENOUGH_REPLICAS = 19
  const WIRE_TIMEOUT_MS = 10_000

  /** Bytes that do not get smaller by compression. */
  const random = (bytes: number): Buffer => Buffer.from(crypto.getRandomValues(new Uint8Array(bytes)))

  /** Lowers a topic's limit, and returns once its broker goes by it. */
  async function limit(topic: string): Promise<void> {
    await alterTopic(
      testBrokers().split(',')[0] ?? '',
      WIRE_TIMEOUT_MS,
      topic,
      'max.message.bytes',
      String(LIMIT_BYTES),
    )
    const probe = await connected(topic, roomy)
    const large = () => outcomeOf(probe, record(topic, { value: random(2 * LIMIT_BYTES) }))
    await until(async () => (await large()) === 'too large, not stored', { timeoutMs: 10_000 })
  }

  const roomy = { maxQueueRecords: 10_000, maxQueueBytes: 20_000_000, deliveryTimeoutMs: 15_000 }

  /** The places of records that were all stored, from the first one on. */
  function placesOf(results: readonly DeliveryResult[]): number[] {
    const offsets = results.map((result) => (result instanceof ProduceError ? Number.NaN : result.offset))
    return offsets.map((offset) => offset - (offsets[0] ?? 0))
  }
  const places = (count: number): number[] => Array.from({ length: count }, (_, at) => at)

  test(
    'records that are larger together are all stored, in their order, and so are those behind them',
    async () => {
      const topic = await topicOf(1)
      await limit(topic)
      const producer = await connected(topic, roomy)
      // Larger than one batch, so that several requests are on their way when the first is refused.
      const first = producer.produce(Array.from({ length: 3_000 }, () => record(topic, { value: random(1_100) })))
      const second = producer.produce(Array.from({ length: 500 }, () => record(topic, { value: random(1_100) })))
      expect(placesOf([...(await first), ...(await second)])).toEqual(places(3_500))
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'when the limit is lowered under a producer that has sent before',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic, roomy)
      const batch = () => producer.produce(Array.from({ length: 2_000 }, () => record(topic, { value: random(1_100) })))
      expect(placesOf(await batch())).toEqual(places(2_000))
      await limit(topic)
      expect(placesOf(await batch())).toEqual(places(2_000))
    },
    TEST_TIMEOUT_MS,
  )

  test.each([
    ['too large', CODE.MSG_SIZE_TOO_LARGE],
    ['refused for now', NOT_ENOUGH_REPLICAS],
  ])(
    'the first that a broker has of a producer is alone on its way: %s, it is stored before what is behind it',
    async (_, code) => {
      const mock = startControlledMock(1)
      ending.push(async () => mock.close())
      mock.createTopic('topic', 1)
      const own = { ...roomy, config: { ...config, KAFKA_BROKERS: mock.brokers }, lingerMs: 20 }
      const producer = await connected('topic', own)
      await until(() => producer.blocked('topic') === undefined, { timeoutMs: 15_000 })
      mock.pushErrors(API.Produce, [code])
      // Two of them make a request, so that the third's could go before its answer.
      mock.setRoundTrip(1, 300)
      const results = await producer.produce([1, 2, 3].map(() => record('topic', { value: random(400_000) })))
      expect(results.map(whereOf)).toEqual([
        [0, 0],
        [0, 1],
        [0, 2],
      ])
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'only what is too large by itself is refused, wherever it stands',
    async () => {
      const topic = await topicOf(1)
      await limit(topic)
      const producer = await connected(topic, roomy)
      const large = new Set([0, 7, 8, 99])
      const results = await producer.produce(
        Array.from({ length: 100 }, (_, at) => record(topic, { value: random(large.has(at) ? 150_000 : 10_000) })),
      )
      expect(results.map(outcome)).toEqual(
        Array.from({ length: 100 }, (_, at) => (large.has(at) ? 'too large, not stored' : 'stored')),
      )
      const stored = results.filter((_, at) => !large.has(at))
      expect(placesOf(stored)).toEqual(places(96))
    },
    TEST_TIMEOUT_MS,
  )
})

describe('a compacted topic', () => {
  const WIRE_TIMEOUT_MS = 10_000
  const compact = (topic: string) =>
    alterTopic(testBrokers().split(',')[0] ?? '', WIRE_TIMEOUT_MS, topic, 'cleanup.policy', 'compact,delete')

  test(
    'is known as one soon after the client begins',
    async () => {
      const topic = await topicOf(1)
      await compact(topic)
      const producer = await connected(topic)
      await until(() => producer.settings(topic).isCompacted, { timeoutMs: 10_000 })
      expect(producer.settings(topic)).toEqual({ maxMessageBytes: 1_048_588, isCompacted: true })
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'is known by the first refusal where it has become one since, and only what has no key is invalid',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic)
      await until(() => producer.settings(topic).maxMessageBytes !== undefined, { timeoutMs: 10_000 })
      await compact(topic)
      await until(async () => (await outcomeOf(producer, record(topic))) === 'invalid, not stored', {
        timeoutMs: 10_000,
      })
      // What is in one batch with it is refused, too, and can be sent again.
      const keyed = record(topic, { key: 'k' })
      const outcomes = (await producer.produce([keyed, record(topic), keyed])).map(outcome)
      expect(outcomes[1]).toBe('invalid, not stored')
      for (const at of [0, 2]) expect(['stored', 'refused, not stored']).toContain(outcomes[at] as string)
      expect(producer.settings(topic).isCompacted).toBe(true)
      expect(await outcomeOf(producer, keyed)).toBe('stored')
    },
    TEST_TIMEOUT_MS,
  )
})

describe('topics', () => {
  test(
    'that are missing get the partitions of those that are there',
    async () => {
      const base = await topicOf(3)
      const lines: Record<string, unknown>[] = []
      const logged = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) })
      const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log: logged })
      ending.push(() => admin.close())
      expect(await admin.ensureGroups([[base, `${base}.dlq`]], { partitions: 7, replication: -1 })).toEqual([undefined])
      const warned = () => lines.filter(({ msg }) => msg === 'topics exist with fewer partitions than TOPIC_PARTITIONS')
      expect(warned()).toMatchObject([{ topics: 1, first: [`${base}: 3`], wanted: 7 }])
      expect(await admin.ensureGroups([[base, `${base}.dlq`]], { partitions: 7, replication: -1 })).toEqual([undefined])
      const producer = await connected(`${base}.dlq`)
      expect(producer.partitionCount(`${base}.dlq`)).toBe(3)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'are not waited for longer than the time to connect',
    async () => {
      const unreachable = { ...config, KAFKA_BROKERS: '127.0.0.1:1' }
      const admin = createTopicAdmin({ config: unreachable, clientId: uniqueName('admin'), log, connectTimeoutMs: 100 })
      ending.push(() => admin.close())
      expect(await settled(admin.ensureGroups([['a']], { partitions: 1, replication: -1 }))).toThrow(UnreachableError)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that belong together and differ are refused',
    async () => {
      const [three, two] = [await topicOf(3), await topicOf(2)]
      const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log })
      ending.push(() => admin.close())
      const faults = await admin.ensureGroups([[three, two], ['not/valid']], { partitions: 1, replication: -1 })
      expect(faults).toEqual([
        expect.stringContaining('different numbers of partitions'),
        expect.stringContaining('not/valid'),
      ])
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that nobody made are not made by looking for them',
    async () => {
      const topic = uniqueName('nobodys')
      const other = await topicOf(1)
      const looking = create(other, { topics: [topic, other] })
      await until(() => looking.partitionCount(other) === 1, { timeoutMs: 10_000 })
      // It comes to be known soon after it is made, and with the partitions of whoever made it.
      expect(looking.partitionCount(topic)).toBeUndefined()
      const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log })
      ending.push(() => admin.close())
      expect(await admin.ensureGroups([[topic]], { partitions: 2, replication: -1 })).toEqual([undefined])
      await until(() => looking.partitionCount(topic) === 2, { timeoutMs: 10_000 })
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that come later are blocked until they were looked at, and those that go are written to by who still does',
    async () => {
      const [first, later] = [await topicOf(1), await topicOf(2)]
      const producer = await connected(first)
      await until(() => producer.blocked(first) === undefined, { timeoutMs: 10_000 })
      const missing = uniqueName('missing')
      producer.watch([later, missing])
      expect(producer.blocked(later)).toBe(`the topic ${later} is not known yet`)
      expect(await producer.produce([record(first)])).toMatchObject([{ topic: first, offset: 0 }])
      expect(producer.partitionCount(first)).toBe(1)
      await until(() => producer.blocked(later) === undefined, { timeoutMs: 10_000 })
      expect(producer.partitionCount(later)).toBe(2)
      await until(() => producer.blocked(missing)?.includes('is not there') === true, { timeoutMs: 10_000 })
      // One that comes back is looked at again.
      producer.watch([first])
      expect(producer.blocked(first)).toBe(`the topic ${first} is not known yet`)
      await until(() => producer.blocked(first) === undefined, { timeoutMs: 10_000 })
      expect(producer.blocked(missing)).toBeUndefined()
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that refuse the time of records are named, and nothing is stored, until they take it again',
    async () => {
      const topic = await topicOf(1)
      const producer = await connected(topic)
      const limit = (value: string | undefined) =>
        alterTopic(testBrokers(), 10_000, topic, 'message.timestamp.before.max.ms', value)
      const answers = (wanted: string) =>
        until(async () => (await outcomeOf(producer, record(topic))) === wanted, { timeoutMs: 10_000 })
      // Every record is older than that when it arrives.
      await limit('0')
      await answers('refused, not stored')
      expect(producer.unacknowledged(topic)).toStartWith(
        `${topic} refuses the time of records: compare this host’s clock`,
      )
      expect(producer.blocked(topic)).toBeUndefined()
      await limit(undefined)
      await answers('stored')
      expect(producer.unacknowledged(topic)).toBeUndefined()
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that their leader does not have yet are being made, until it has them',
    async () => {
      const mock = startControlledMock(1)
      ending.push(async () => mock.close())
      mock.createTopic('topic', 1)
      mock.pushErrors(API.ListOffsets, Array(3).fill(CODE.UNKNOWN_TOPIC_OR_PART))
      const making = create('topic', { config: { ...config, KAFKA_BROKERS: mock.brokers } })
      expect(making.making()).toBe(0)
      await until(() => making.making() === 1 && making.blocked('topic')?.startsWith('no partition') === true, {
        timeoutMs: 10_000,
      })
      await until(() => making.blocked('topic') === undefined, { timeoutMs: 10_000 })
      expect(making.making()).toBe(0)
    },
    TEST_TIMEOUT_MS,
  )
})
