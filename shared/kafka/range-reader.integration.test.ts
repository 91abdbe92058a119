import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import pino from 'pino'
import { headersOf, headerText, NO_HEADERS, TRANSACTION } from '../events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../events/record.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { startControlledMock } from '../testing/controlled-mock.ts'
import { FakeKafka } from '../testing/fake-kafka.ts'
import { openTransaction } from '../testing/open-transaction.ts'
import { settled } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import { createTopicAdmin } from './admin.ts'
import { createGroupConsumer } from './consumer.ts'
import { createRangeReader } from './range-reader.ts'
import { createTransactor } from './transactor.ts'
import type { RangeReader, ReadOptions, RecordFilter, TopicPartition } from './types.ts'

const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: 'silent' })
const TEST_TIMEOUT_MS = 60_000

const groupId = uniqueName('group')
const reader = createRangeReader({ config, clientId: 'tests', log, groupId, forScans: true })
const transactor = transactorOf(config)

function transactorOf(of: typeof config) {
  return createTransactor({
    config: of,
    clientId: 'tests',
    transactionalId: uniqueName('writer'),
    transactionTimeoutMs: 30_000,
    log,
    onStatistics: () => undefined,
  })
}

beforeAll(() => transactor.start(), TEST_TIMEOUT_MS)
afterAll(() => Promise.all([reader.close(), transactor.close()]), TEST_TIMEOUT_MS)

async function newTopic(partitions = 1): Promise<string> {
  const topic = uniqueName('ranges')
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  expect(await admin.ensureGroups([[topic]], { partitions, replication: -1 })).toEqual([undefined])
  await admin.close()
  return topic
}

const recordOf = (topic: string, name: string, more: Partial<OutgoingRecord> = {}): OutgoingRecord => ({
  topic,
  partition: 0,
  key: null,
  value: Buffer.from(name),
  headers: headersOf({ ce_id: name }),
  ...more,
})

async function write(outputs: readonly OutgoingRecord[]): Promise<void> {
  expect(await transactor.write(outputs)).toEqual({ kind: 'committed' })
}

/** Records that are never committed. */
async function writeAborted(topic: string): Promise<void> {
  const other = await openTransaction(testBrokers(), topic, 0)
  await other.abort()
}

const nameOf = ({ value }: IncomingRecord): string => String(value)

/** Reads all that is committed in partition 0. */
async function namesIn(topic: string, options: ReadOptions = {}, from: RangeReader = reader): Promise<string[]> {
  const at = { topic, partition: 0 }
  const [ends] = await from.ends([at])
  const names: string[] = []
  const range = { ...at, from: ends?.beginning ?? 0, to: ends?.stable ?? 0 }
  await from.read([range], (record) => names.push(nameOf(record)), options)
  return names
}

const idIs = (value: string): RecordFilter => ({ headers: [{ name: 'ce_id', value, how: 'equals' }] })

describe('a filter', () => {
  let topic: string
  /** The same records in memory. */
  const fake = new FakeKafka()
  beforeAll(async () => {
    topic = await newTopic()
    fake.createTopic(topic)
    const writeToBoth = async (outputs: readonly OutgoingRecord[]) => {
      await write(outputs)
      for (const output of outputs) fake.append(output)
    }
    const twice = { names: ['ce_id', 'ce_id'], values: ['other', 'a'] }
    await writeToBoth([
      recordOf(topic, 'a', { key: 'key', headers: headersOf({ ce_id: 'a', ce_source: '/shops/berlin' }) }),
      recordOf(topic, 'ab', { headers: headersOf({ ce_id: 'ab', ce_source: '/shops/bern' }) }),
      recordOf(topic, 'no value', { headers: { names: ['ce_id'], values: [null] } }),
      recordOf(topic, 'twice', { headers: twice, key: 'keys' }),
      recordOf(topic, 'bytes', { headers: headersOf({ ce_id: Buffer.from([0xff, 0x61, 0]) }), key: '' }),
    ])
    await writeAborted(topic)
    await writeToBoth([
      recordOf(topic, 'structured', { headers: headersOf({ 'content-type': 'Application/CloudEvents+json' }) }),
      recordOf(topic, 'like structured', { headers: headersOf({ 'content-type': 'application/cloudevent' }) }),
      recordOf(topic, 'other case', { headers: headersOf({ CE_ID: 'a' }) }),
      recordOf(topic, 'no headers', { headers: NO_HEADERS }),
    ])
    await writeAborted(topic)
  }, TEST_TIMEOUT_MS)

  const contains = (value: string, name = 'ce_id') => ({ name, value, how: 'contains' }) as const
  const cases: [what: string, filter: RecordFilter, expected: string[]][] = [
    ['a header that equals', idIs('a'), ['a', 'twice', 'structured']],
    ['a header that contains', { headers: [contains('b')] }, ['ab', 'structured']],
    ['bytes that are no text', { headers: [contains('a\0')] }, ['bytes', 'structured']],
    ['a header with any value', { headers: [contains('')] }, ['a', 'ab', 'twice', 'bytes', 'structured']],
    ['an empty value', idIs(''), ['structured']],
    ['several headers', { headers: [contains('a'), contains('bern', 'ce_source')] }, ['ab', 'structured']],
    ['a key', { headers: [], key: Buffer.from('key') }, ['a', 'structured']],
    ['an empty key', { headers: [], key: Buffer.alloc(0) }, ['bytes', 'structured']],
    ['a key and a header', { ...idIs('a'), key: Buffer.from('keys') }, ['twice', 'structured']],
    ['what no record has', idIs('nobody'), ['structured']],
    ['names that no reader knows', { headers: [contains('a', 'CE_ID')] }, ['structured', 'other case']],
  ]
  test.each(cases)('finds %s, and what only the caller can decide', async (_, filter, expected) => {
    const progress: number[] = []
    expect(await namesIn(topic, { filter, onProgress: (offsets) => progress.push(offsets) })).toEqual(expected)
    expect(await namesIn(topic, { filter }, fake.reader())).toEqual(expected)
    const [ends] = await reader.ends([{ topic, partition: 0 }])
    // Of aborted records and of transactions' ends, too.
    expect(progress.at(-1)).toBe(ends?.stable ?? 0)
    expect(progress).toEqual(progress.toSorted((a, b) => a - b))
  })

  test('without conditions finds all that is committed', async () => {
    expect(await namesIn(topic, { filter: { headers: [] } })).toEqual(await namesIn(topic))
  })

  test('finds records of aborted transactions where they are read', async () => {
    const names: string[] = []
    const key = Buffer.from('key')
    const range = { topic, partition: 0, from: 0, to: 100 }
    const [ends] = await reader.ends([range])
    const to = ends?.end ?? 0
    const onRecord = (record: IncomingRecord) => names.push(nameOf(record))
    await reader.readUncommitted([{ ...range, to }], onRecord, { filter: { headers: [], key } })
    expect(names).toEqual(['a', 'structured'])
    names.length = 0
    await reader.readUncommitted([{ ...range, to }], onRecord)
    expect(names.filter((name) => name === 'never committed')).toHaveLength(2)
  })

  test('finds one record among many, in each of several ranges, up to their ends', async () => {
    const many = await newTopic(2)
    const outputs = Array.from({ length: 30_000 }, (_, index) => recordOf(many, `${index}`, { partition: index % 2 }))
    await write(outputs)
    const ranges = [0, 1].map((partition) => ({ topic: many, partition, from: 100, to: 14_000 }))
    const found = async (filter: RecordFilter) => {
      const names: string[] = []
      let passed = 0
      const onProgress = (offsets: number) => {
        passed = offsets
      }
      await reader.read(ranges, (record) => names.push(nameOf(record)), { filter, onProgress })
      return { names, passed }
    }
    for (const name of ['200', '201', '27998', '27999'])
      expect(await found(idIs(name))).toEqual({ names: [name], passed: 27_800 })
    for (const name of ['198', '199', '28000', '28001'])
      expect(await found(idIs(name))).toEqual({ names: [], passed: 27_800 })
    expect((await found({ headers: [contains('')] })).names).toHaveLength(27_800)
  })
})

describe('a signal', () => {
  test('ends a read that waits for a transaction, with its reason, and the next read goes on', async () => {
    const topic = await newTopic()
    await write([recordOf(topic, 'first')])
    const other = await openTransaction(testBrokers(), topic, 0)
    const stopping = new AbortController()
    const names: string[] = []
    const range = { topic, partition: 0, from: 0, to: 3 }
    const onRecord = (record: IncomingRecord) => names.push(nameOf(record))
    const reading = reader.read([range], onRecord, { signal: stopping.signal })
    await until(() => names.length === 1)
    const queued = new AbortController()
    const waiting = reader.read([range], onRecord, { signal: queued.signal })
    queued.abort(new Error('not needed'))
    expect(await settled(waiting)).toThrow('not needed')
    stopping.abort(new Error('enough'))
    expect(await settled(reading)).toThrow('enough')
    expect(await namesIn(topic)).toEqual(['first'])
    expect(names).toEqual(['first'])
    await other.abort()
  })
})

describe('a follower', () => {
  test('gets what is committed, when it is committed, in order, until it is told to stop', async () => {
    const topic = await newTopic(2)
    await write([recordOf(topic, 'before'), recordOf(topic, 'b', { partition: 1 })])
    const seen: [partition: number, name: string][] = []
    const stopping = new AbortController()
    const from = [0, 1].map((partition) => ({ topic, partition, offset: partition === 0 ? 1 : 0 }))
    const following = reader.follow(
      from,
      (records) => seen.push(...records.map((one): [number, string] => [one.partition, nameOf(one)])),
      stopping.signal,
    )
    await until(() => seen.length === 1)
    const other = await openTransaction(testBrokers(), topic, 0)
    await write([recordOf(topic, 'held back'), recordOf(topic, 'c', { partition: 1 })])
    await until(() => seen.length === 2)
    // Reading goes on meanwhile.
    expect(await namesIn(topic)).toEqual(['before'])
    await other.abort()
    await until(() => seen.length === 3)
    for (let index = 0; index < 50; index++) await write([recordOf(topic, `${index}`)])
    await until(() => seen.length === 53)
    stopping.abort()
    await following
    expect(seen.slice(0, 3)).toEqual([
      [1, 'b'],
      [1, 'c'],
      [0, 'held back'],
    ])
    expect(seen.slice(3).map(([, name]) => name)).toEqual(Array.from({ length: 50 }, (_, index) => `${index}`))
  })

  test('is told that its offset does not exist, and the next one follows', async () => {
    const topic = await newTopic()
    await write([recordOf(topic, 'a')])
    const at: TopicPartition = { topic, partition: 0 }
    const { signal } = new AbortController()
    expect(await settled(reader.follow([{ ...at, offset: 1_000 }], () => undefined, signal))).toThrow(`${topic}/0: `)
    const stopping = new AbortController()
    const names: string[] = []
    const onRecords = (records: IncomingRecord[]) => names.push(...records.map(nameOf))
    const following = reader.follow([{ ...at, offset: 0 }], onRecords, stopping.signal)
    await until(() => names.length === 1)
    stopping.abort()
    await following
  })

  test('waits for a broker that is away', async () => {
    const mock = startControlledMock(1)
    const topic = uniqueName('mock')
    mock.createTopic(topic, 1)
    const mocked = commonConfig({ KAFKA_BROKERS: mock.brokers })
    const writer = transactorOf(mocked)
    await writer.start()
    expect(await writer.write([recordOf(topic, 'before')])).toEqual({ kind: 'committed' })
    const follower = createRangeReader({ config: mocked, clientId: 'tests', log })
    const names: string[] = []
    const stopping = new AbortController()
    const onRecords = (records: IncomingRecord[]) => names.push(...records.map(nameOf))
    const following = follower.follow([{ topic, partition: 0, offset: 0 }], onRecords, stopping.signal)
    await until(() => names.length === 1)
    mock.setDown(1)
    await until(() => writer.disconnects() > 0, { what: 'a lost connection' })
    mock.setUp(1)
    await until(async () => (await writer.write([recordOf(topic, 'after')])).kind === 'committed')
    await until(() => names.includes('after'))
    stopping.abort()
    await following
    await Promise.all([follower.close(), writer.close()])
    mock.close()
  })
})

describe('a transaction without offsets', () => {
  test('takes effect as a whole, under one name', async () => {
    const topic = await newTopic(2)
    await write([recordOf(topic, 'a'), recordOf(topic, 'b', { partition: 1 })])
    const transactions = new Set<string | undefined>()
    const ranges = [0, 1].map((partition) => ({ topic, partition, from: 0, to: 1 }))
    await reader.read(ranges, ({ headers }) => transactions.add(headerText(headers, TRANSACTION)))
    expect([...transactions]).toEqual([expect.stringContaining(transactor.transactionalId)])
  })

  test('has no effect when one of its records is refused, and says which', async () => {
    const topic = await newTopic()
    const parts = Array.from({ length: 40 }, () => Buffer.from(crypto.getRandomValues(new Uint8Array(65_536))))
    const outputs = [recordOf(topic, 'a'), recordOf(topic, 'large', { value: Buffer.concat(parts) })]
    const result = await transactor.write(outputs)
    expect(result).toMatchObject({ kind: 'aborted', passing: false })
    expect(result.kind === 'aborted' && [...result.failed.values()].every(({ tooLarge }) => tooLarge)).toBe(true)
    expect(await namesIn(topic)).toEqual([])
    // A transaction after a refusal may be aborted, too, and can be repeated.
    await until(async () => (await transactor.write([recordOf(topic, 'b')])).kind === 'committed')
    // Its marker is written after the answer.
    await until(async () => (await namesIn(topic)).length > 0)
    expect(await namesIn(topic)).toEqual(['b'])
  })
})

describe('the reader’s group', () => {
  test('is described with its members and their partitions', async () => {
    expect(await reader.group()).toEqual({ state: 'Dead', members: [] })
    const topic = await newTopic(2)
    const member = createGroupConsumer({
      config,
      clientId: 'member',
      groupId,
      sessionTimeoutMs: 30_000,
      leaveTimeoutMs: 10_000,
      prefetchMaxBytes: 2 ** 20,
      log,
      onStatistics: () => undefined,
    })
    const assigned: TopicPartition[] = []
    member.start(
      new RegExp(`^${topic}$`),
      {
        assigned: (partitions) => assigned.push(...partitions),
        revoked: async (partitions) => partitions,
        outOfRange: () => undefined,
        unreadable: () => undefined,
        failed: () => undefined,
      },
      Promise.resolve(),
    )
    await until(async () => {
      await member.poll(1, 10)
      return assigned.length === 2
    })
    await until(async () => (await reader.group())?.state === 'Stable')
    const { members = [] } = (await reader.group()) ?? {}
    expect(members).toEqual([
      {
        memberId: expect.stringMatching(/^member-/),
        clientId: 'member',
        host: expect.stringMatching(/^(127\.0\.0\.1|::1)$/),
        partitions: [0, 1].map((partition) => ({ topic, partition })),
      },
    ])
    await member.close()
    await until(async () => (await reader.group())?.state === 'Empty')
  })
})
