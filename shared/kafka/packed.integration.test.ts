import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { isUtf8 } from 'node:buffer'
import { join } from 'node:path'
import fc from 'fast-check'
import pino from 'pino'
import { type HeaderValue, headersOf, NO_HEADERS, TRANSACTION, withHeaders } from '../events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../events/record.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { API, type ControlledMock, startControlledMock } from '../testing/controlled-mock.ts'
import { fromTheBeginning, type MockCluster, newTopic, startMockCluster } from '../testing/mock-cluster.ts'
import { until } from '../testing/until.ts'
import type { PackedAddon } from './addon.ts'
import { createTopicAdmin } from './admin.ts'
import { CODE, type Consumer, native, type Producer, packed, promised, type Settings } from './client.ts'
import {
  consumePacked,
  type Interruption,
  isNotQueued,
  type PackedProducer,
  type Packer,
  packFilter,
  packProducer,
  type Report,
} from './packed.ts'

/* What packed.ts and the addon make of each other's buffers. Whatever a fault could end the process runs in a process of its own. */

const ANSWER_TIMEOUT_MS = 10_000
const CHILD_TIMEOUT_MS = 40_000
const MEBIBYTE = 2 ** 20

let cluster: MockCluster
const closing: PackedProducer[] = []
const mocks: ControlledMock[] = []

beforeAll(async () => {
  cluster = await startMockCluster()
})

afterAll(async () => {
  for (const producer of closing) producer.close()
  await cluster.close()
  for (const mock of mocks) mock.close()
})

interface Opened {
  client: Producer
  records: PackedProducer
  /** Each report that has come, in order. */
  reports: Report[]
}

/** A connected producer by the batch. */
async function openProducer(settings: Settings = {}, errorsOnly = false): Promise<Opened> {
  const client = await cluster.producer({ 'message.max.bytes': 4 * MEBIBYTE, ...settings })
  const reports: Report[] = []
  const records = packProducer(packed(), client, (report) => reports.push({ ...report }), errorsOnly)
  closing.push(records)
  return { client, records, reports }
}

const record = (topic: string, more: Partial<OutgoingRecord> = {}): OutgoingRecord => ({
  topic,
  partition: 0,
  key: null,
  value: null,
  headers: NO_HEADERS,
  ...more,
})

const sequencesOf = (reports: readonly Report[]): number[] => reports.map(({ sequence }) => sequence)
const numbers = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index)
const ascending = (a: number, b: number): number => a - b

/** Hands these over, numbered from that on, and waits for a report of each. */
async function produceAll({ records, reports }: Opened, list: readonly OutgoingRecord[], from = 0): Promise<Report[]> {
  const before = reports.length
  for (const [index, one] of list.entries()) records.packer.add(one, from + index)
  records.flush()
  await until(() => reports.length >= before + list.length, { timeoutMs: ANSWER_TIMEOUT_MS, what: 'all reports' })
  return reports.slice(before).sort((a, b) => ascending(a.sequence, b.sequence))
}

const nothingBetween = ({ code }: Interruption): void => {
  throw new Error(`reading was interrupted by ${code}`)
}

/** Reads so many records. */
async function readAll(consumer: Consumer, count: number): Promise<IncomingRecord[]> {
  const records: IncomingRecord[] = []
  const complete = (): boolean => {
    records.push(...consumePacked(packed(), consumer, count - records.length, nothingBetween))
    return records.length === count
  }
  await until(complete, { timeoutMs: ANSWER_TIMEOUT_MS, what: `${count} records` })
  return records
}

const bytesOf = (value: HeaderValue): Buffer | null => (typeof value === 'string' ? Buffer.from(value) : value)

/** What the bytes of a header's value are read as. */
function asRead(value: HeaderValue): HeaderValue {
  const bytes = bytesOf(value)
  return bytes !== null && isUtf8(bytes) ? bytes.toString() : bytes
}

const contentOf = ({ key, value, headers: { names, values } }: IncomingRecord) => ({ key, value, names, values })

const expectedOf = ({ key, value, headers: { names, values } }: OutgoingRecord) => ({
  key: bytesOf(key),
  value,
  names,
  values: values.map(asRead),
})

// ---- there and back

/** Bytes that differ from place to place, all 256 of them. */
function bytesOfLength(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + (at >> 8)) & 0xff
  return bytes
}

/** Names that the addon knows by number, and others. A name is a C string in librdkafka: it has no NUL. */
const headerNames = fc.oneof(
  fc.constantFrom('ce_id', 'ce_type', 'content-type', 'kt-tenant', 'own', 'constructor', ''),
  fc.string({ unit: 'grapheme', maxLength: 8 }).filter((name) => !name.includes('\0')),
)
const bytes = fc.uint8Array({ maxLength: 64 }).map((array) => Buffer.from(array))
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }).map((one) => one.toWellFormed()),
  fc.constantFrom('', '\0', 'a\0b', '\ufeffmarked', '\uffff', '🔑'),
)
const faulty = fc
  .constantFrom([0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x61, 0x80], [0xf8])
  .map((list) => Buffer.from(list))
const outgoing = (topic: string): fc.Arbitrary<OutgoingRecord> =>
  fc
    .record({
      key: fc.oneof(text, bytes, faulty, fc.constant(null)),
      value: fc.oneof(bytes, faulty, fc.constant(null)),
      headers: fc.array(fc.tuple(headerNames, fc.oneof(text, bytes, faulty, fc.constant(null))), { maxLength: 12 }),
    })
    .map(({ key, value, headers }) =>
      record(topic, {
        key,
        value,
        headers: { names: headers.map(([name]) => name), values: headers.map(([, one]) => one) },
      }),
    )

/** A topic, one producer of it, and one consumer from its beginning. */
interface Pair {
  topic: string
  /** The mock cluster does not keep times. */
  keepsTimes: boolean
  producer: Opened
  consumer: Consumer
}

const EAGER: Settings = { 'fetch.message.max.bytes': 4 * MEBIBYTE, 'fetch.wait.max.ms': 10 }

async function onMock(): Promise<Pair> {
  const producer = await openProducer()
  const topic = await newTopic(producer.client)
  const consumer = await cluster.consumer(EAGER)
  consumer.assign(fromTheBeginning(topic))
  return { topic, keepsTimes: false, producer, consumer }
}

async function onKafka(): Promise<Pair> {
  const brokers = { 'metadata.broker.list': testBrokers() }
  const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
  const topic = uniqueName('packed')
  const admin = createTopicAdmin({ config, clientId: topic, log: pino({ level: 'silent' }) })
  expect(await admin.ensureGroups([[topic]], { partitions: 1, replication: -1 })).toEqual([undefined])
  await admin.close()
  const producer = await openProducer({ ...brokers, 'enable.idempotence': true, 'compression.codec': 'lz4' })
  const consumer = await cluster.consumer({ ...EAGER, ...brokers })
  consumer.assign([{ topic, partition: 0, offset: 0 }])
  return { topic, keepsTimes: true, producer, consumer }
}

/** What is handed over is stored, reported with its place, and read back the same. */
async function expectKept(pair: Pair, list: readonly OutgoingRecord[]): Promise<void> {
  const { producer, consumer, keepsTimes } = pair
  const reports = await produceAll(producer, list)
  const read = await readAll(consumer, list.length)
  expect(reports.map(({ sequence, code }) => [sequence, code])).toEqual(list.map((_, index) => [index, 0]))
  expect(read.map(contentOf)).toEqual(list.map(expectedOf))
  const placeOf = ({ partition, offset, timestampMs }: IncomingRecord | Report) =>
    keepsTimes ? [partition, offset, timestampMs] : [partition, offset]
  expect(reports.map(placeOf)).toEqual(read.map(placeOf))
}

describe.each([
  ['the mock cluster', onMock, 150],
  ['the test’s broker', onKafka, 60],
] as const)('a record on its way over %s', (_, open, numRuns) => {
  let pair: Pair
  beforeAll(async () => {
    pair = await open()
  })

  test('keeps every byte of its key, value and headers, their order and repeats, and null apart from empty', async () => {
    const lists = fc.array(outgoing(pair.topic), { minLength: 1, maxLength: 20 })
    await fc.assert(
      fc.asyncProperty(lists, (list) => expectKept(pair, list)),
      { numRuns },
    )
  }, 60_000)

  test('keeps them whatever their size', async () => {
    const sizes = [0, 1, 2, 3, 4, 5, 255, 65_535, 65_536, 65_537, 900_000]
    for (const size of sizes) {
      const content = bytesOfLength(size)
      await expectKept(pair, [
        record(pair.topic, { value: content }),
        record(pair.topic, { key: content, value: Buffer.from('value') }),
        record(pair.topic, { headers: headersOf({ own: content, ce_id: 'id', other: 'é'.repeat(size >> 1) }) }),
      ])
    }
  }, 60_000)
})

test('a value of a mebibyte comes back byte for byte', async () => {
  const pair = await onMock()
  await expectKept(pair, [record(pair.topic, { value: bytesOfLength(MEBIBYTE), key: 'key' })])
})

test('a record may have many headers', async () => {
  const pair = await onMock()
  const names = numbers(5_000).map((number) => (number % 2 === 0 ? 'ce_id' : `own-${number}`))
  await expectKept(pair, [record(pair.topic, { headers: { names, values: names.map((name) => `of ${name}`) } })])
})

test('records of several topics and partitions go with one call', async () => {
  const producer = await openProducer()
  const topics = [await newTopic(producer.client), await newTopic(producer.client)]
  const places = topics.flatMap((topic) => numbers(4).map((partition) => ({ topic, partition })))
  const list = places.map((place) => record(place.topic, { ...place, value: Buffer.from(JSON.stringify(place)) }))
  expect((await produceAll(producer, list)).map(({ partition }) => partition)).toEqual([0, 1, 2, 3, 0, 1, 2, 3])
  const consumer = await cluster.consumer()
  consumer.assign(topics.flatMap(fromTheBeginning))
  const read = await readAll(consumer, list.length)
  expect(read).toHaveLength(places.length)
  for (const { topic, partition, value } of read) expect(JSON.parse(String(value))).toEqual({ topic, partition })
})

test('a header of all records is the last of each, and of no record that is handed over later', async () => {
  const pair = await onMock()
  const { records } = pair.producer
  const value = 'group-0:1-7 ž'
  records.packer.common(TRANSACTION, value)
  const list = [record(pair.topic), record(pair.topic, { headers: headersOf({ own: 'x', [TRANSACTION]: 'y' }) })]
  await produceAll(pair.producer, list)
  await produceAll(pair.producer, [record(pair.topic)])
  expect((await readAll(pair.consumer, 3)).map(({ headers }) => headers)).toEqual([
    headersOf({ [TRANSACTION]: value }),
    { names: ['own', TRANSACTION, TRANSACTION], values: ['x', 'y', value] },
    NO_HEADERS,
  ])
})

/** A record of an event that can be passed on. */
const plainRecord = (topic: string, id: string, more: Partial<OutgoingRecord> = {}, type = 'type'): OutgoingRecord =>
  record(topic, {
    value: Buffer.from(`data of ${id}`),
    headers: headersOf({ ce_specversion: '1.0', ce_id: id, ce_source: '/', ce_type: type, own: id }),
    ...more,
  })

test('records of several batches are passed on with one call, each to its partition, while their buffers are collected', async () => {
  const pair = await onMock()
  const to = await newTopic(pair.producer.client)
  const ids = numbers(1_000).map((number) => `id-${number}`)
  await produceAll(
    pair.producer,
    ids.map((id, index) => plainRecord(pair.topic, id, { partition: index % 4, key: index % 3 === 0 ? null : id })),
  )
  const { records, reports } = pair.producer
  reports.length = 0
  let passed = 0
  await until(() => {
    for (const one of consumePacked(packed(), pair.consumer, 100, nothingBetween)) {
      if (one.plain === undefined) throw new Error('it is not plain')
      records.packer.pass({ topic: to, passed: one, tenant: 'acme', contextStart: '{"a":1', contextEnd: '' }, passed++)
    }
    Bun.gc(true)
    return passed === ids.length
  })
  records.flush()
  await until(() => reports.length === ids.length)
  expect(reports.filter(({ code }) => code !== 0)).toEqual([])
  const consumer = await cluster.consumer(EAGER)
  consumer.assign(fromTheBeginning(to))
  const seen = (await readAll(consumer, ids.length)).map(({ partition, key, value, headers }) => {
    const id = String(headers.values[headers.names.indexOf('ce_id')])
    expect([headers.names.includes('own'), String(value)]).toEqual([false, `data of ${id}`])
    return [id, partition, key === null ? null : String(key)]
  })
  expect(seen.toSorted()).toEqual(ids.map((id, index) => [id, index % 4, index % 3 === 0 ? null : id]).toSorted())
})

test('no more records are read at once than were asked for', async () => {
  const pair = await onMock()
  await produceAll(pair.producer, Array<OutgoingRecord>(100).fill(record(pair.topic)))
  const sizes: number[] = []
  await until(() => {
    const { length } = consumePacked(packed(), pair.consumer, 7, nothingBetween)
    if (length > 0) sizes.push(length)
    return sizes.reduce((sum, size) => sum + size, 0) === 100
  })
  expect(Math.max(...sizes)).toBe(7)
})

test('the end of a partition is told, and where it is', async () => {
  const producer = await openProducer()
  const topic = await newTopic(producer.client)
  await produceAll(producer, [record(topic), record(topic)])
  const consumer = await cluster.consumer({ 'enable.partition.eof': true })
  consumer.assign([{ topic, partition: 0, offset: 0 }])
  const between: Interruption[] = []
  const read: IncomingRecord[] = []
  await until(() => {
    read.push(...consumePacked(packed(), consumer, 10, (one) => between.push({ ...one })))
    return between.length > 0
  })
  expect(read.map(({ offset }) => offset)).toEqual([0, 1])
  expect(between).toEqual([{ code: CODE.PARTITION_EOF, topic, partition: 0, offset: 2 }])
})

// ---- reports

const MANY = 20_000

describe('every record gets exactly one report', () => {
  test('when there are many', async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    await produceAll(
      producer,
      numbers(MANY).map((number) => record(topic, { partition: number % 4, value: Buffer.from(String(number)) })),
    )
    expect(sequencesOf(producer.reports).sort(ascending)).toEqual(numbers(MANY))
    expect(producer.reports.filter(({ code }) => code !== 0)).toEqual([])
    // In a partition, in the order in which they were handed over.
    const places = producer.reports.toSorted((a, b) => ascending(a.sequence, b.sequence))
    expect(places.map(({ partition, offset }) => partition + 4 * offset)).toEqual(numbers(MANY))
  })

  test('when the producer disconnects right after', async () => {
    const client = new (native().Producer)({ 'metadata.broker.list': cluster.brokers, dr_cb: true })
    await promised((done) => client.connect({ timeout: ANSWER_TIMEOUT_MS }, (error) => done(error)))
    client.setPollInBackground(true)
    const topic = await newTopic(client)
    const reports: Report[] = []
    const records = packProducer(packed(), client, (report) => reports.push({ ...report }))
    for (const number of numbers(MANY)) records.packer.add(record(topic, { value: Buffer.from('value') }), number)
    records.flush()
    records.close()
    await promised((done) => client.disconnect(ANSWER_TIMEOUT_MS, (error) => done(error)))
    records.take()
    expect(sequencesOf(reports).sort(ascending)).toEqual(numbers(MANY))
    expect(reports.filter(({ code }) => code !== 0)).toEqual([])
  })

  test('of the producer that it was handed to', async () => {
    const producers = await Promise.all(numbers(3).map(() => openProducer()))
    const topic = await newTopic((producers[0] as Opened).client)
    await Promise.all(
      producers.map((producer, index) =>
        produceAll(producer, Array<OutgoingRecord>(500).fill(record(topic)), index * 1_000),
      ),
    )
    for (const [index, { reports }] of producers.entries())
      expect(sequencesOf(reports).sort(ascending)).toEqual(numbers(500, index * 1_000))
  })

  test('whatever its sequence', async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    const sequences = [-(2 ** 31), -1, 0, 1, 2 ** 15, 2 ** 16, 2 ** 30, 2 ** 31 - 1]
    for (const sequence of sequences) producer.records.packer.add(record(topic), sequence)
    producer.records.flush()
    await until(() => producer.reports.length >= sequences.length)
    expect(sequencesOf(producer.reports).sort(ascending)).toEqual(sequences)
  })
})

const outcomesOf = (reports: readonly Report[]) =>
  reports.map((report) => [report.sequence, report.code, isNotQueued(report)])

describe('what librdkafka does not take is reported as not queued', () => {
  test('when its queue is full', async () => {
    const producer = await openProducer({ 'queue.buffering.max.messages': 10, 'linger.ms': 300 })
    const topic = await newTopic(producer.client)
    const outcomes = outcomesOf(await produceAll(producer, Array<OutgoingRecord>(25).fill(record(topic))))
    expect(outcomes).toEqual(
      numbers(25).map((number) => (number < 10 ? [number, 0, false] : [number, CODE.QUEUE_FULL, true])),
    )
    // There is room again.
    expect(outcomesOf(await produceAll(producer, [record(topic)], 99))).toEqual([[99, 0, false]])
  })

  test('when its partition is known not to be', async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    await produceAll(producer, [record(topic)])
    const list = [3, 4, 700].map((partition) => record(topic, { partition }))
    expect(outcomesOf(await produceAll(producer, list))).toEqual([
      [0, 0, false],
      [1, CODE.UNKNOWN_PARTITION, true],
      [2, CODE.UNKNOWN_PARTITION, true],
    ])
  })

  test('when it is too large', async () => {
    const producer = await openProducer({ 'message.max.bytes': 2_000 })
    const topic = await newTopic(producer.client)
    const list = [1_000, 3_000, 1_000].map((size) => record(topic, { value: Buffer.alloc(size) }))
    expect(outcomesOf(await produceAll(producer, list))).toEqual([
      [0, 0, false],
      [1, CODE.MSG_SIZE_TOO_LARGE, true],
      [2, 0, false],
    ])
  })

  test('when it has too many headers', async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    const headed = (count: number) => {
      const headers = Array<string>(count).fill('')
      return record(topic, { headers: { names: headers, values: headers } })
    }
    const list = [100_000, 100_001, 1].map(headed)
    expect(outcomesOf(await produceAll(producer, list))).toEqual([
      [0, 0, false],
      [1, CODE.BAD_MSG, true],
      [2, 0, false],
    ])
  })

  test('when its topic cannot be one', async () => {
    const producer = await openProducer()
    const list = [record('x'.repeat(600))]
    expect(outcomesOf(await produceAll(producer, list))).toEqual([[0, CODE.UNKNOWN_TOPIC, true]])
  })

  test('when there is no connection, or no longer one', async () => {
    const client = new (native().Producer)({ 'metadata.broker.list': cluster.brokers, dr_cb: true })
    const reports: Report[] = []
    const records = packProducer(packed(), client, (report) => reports.push({ ...report }))
    const producer = { client, records, reports }
    const topic = uniqueName('topic')
    expect(outcomesOf(await produceAll(producer, [record(topic)]))).toEqual([[0, CODE.STATE, true]])
    await promised((done) => client.connect({ timeout: ANSWER_TIMEOUT_MS }, (error) => done(error)))
    client.setPollInBackground(true)
    expect(outcomesOf(await produceAll(producer, [record(topic)], 1))).toEqual([[1, 0, false]])
    records.close()
    const refused = (sequence: number) => {
      records.packer.add(record(topic), sequence)
      records.flush()
      records.take()
      expect(outcomesOf(reports.slice(-1))).toEqual([[sequence, CODE.STATE, true]])
    }
    refused(2)
    await promised((done) => client.disconnect(ANSWER_TIMEOUT_MS, (error) => done(error)))
    refused(3)
  })
})

test('a report says whether a broker may have stored its record', async () => {
  const open = async () => {
    const mock = startControlledMock(1)
    mocks.push(mock)
    mock.createTopic('topic', 1)
    const settings = { 'metadata.broker.list': mock.brokers, 'enable.idempotence': true, 'delivery.timeout.ms': 1_500 }
    const producer = await openProducer(settings)
    let sequence = 0
    const send = async () => {
      const [report] = await produceAll(producer, [record('topic')], sequence++)
      return [report?.code, report?.mayBeStored]
    }
    expect((await send())[0]).toBe(0)
    return { mock, producer, send }
  }
  const NOT_LEADER = 6
  const [refused, moved, frozen, lost] = await Promise.all([open(), open(), open(), open()])
  refused.mock.pushErrors(API.Produce, [CODE.TOPIC_AUTHORIZATION_FAILED])
  // A leader may store a record before it loses the partition.
  moved.mock.pushErrors(API.Produce, [NOT_LEADER, CODE.TOPIC_AUTHORIZATION_FAILED])
  frozen.mock.setRoundTrip(1, 60_000)
  const noticed = new Promise((resolve) => lost.producer.client.on('event.error', resolve))
  lost.mock.setDown(1)
  await noticed
  expect(await Promise.all([refused, moved, frozen, lost].map(({ send }) => send()))).toEqual([
    [CODE.TOPIC_AUTHORIZATION_FAILED, false],
    [CODE.TOPIC_AUTHORIZATION_FAILED, true],
    [CODE.MSG_TIMED_OUT, true],
    [CODE.MSG_TIMED_OUT, false],
  ])
  const waiting = lost.send()
  lost.producer.records.purge()
  expect(await waiting).toEqual([CODE.PURGE_QUEUE, false])
}, 30_000)

test('with errorsOnly, nothing is reported of records that were stored', async () => {
  const mock = startControlledMock(1)
  mocks.push(mock)
  const { client, records, reports } = await openProducer({ 'metadata.broker.list': mock.brokers }, true)
  // A client that connects asks for all topics there are, and may ask again: of one that is made now it hears late, when the first records are handed over.
  mock.setRoundTrip(1, 500)
  mock.createTopic('topic', 1)
  const handOver = async (from: number): Promise<void> => {
    records.packer.add(record('topic', { partition: 9 }), from)
    for (const sequence of numbers(1_000, from + 1)) records.packer.add(record('topic'), sequence)
    records.flush()
    await promised((done) => client.flush(ANSWER_TIMEOUT_MS, (error) => done(error)))
  }
  await handOver(0)
  mock.setRoundTrip(1, 0)
  await handOver(2_000)
  await until(() => reports.length >= 2)
  records.take()
  // That there is no such partition comes out when the record is queued already, from a thread of librdkafka's; then from the call itself.
  expect(outcomesOf(reports.toSorted((one, other) => one.sequence - other.sequence))).toEqual([
    [0, CODE.UNKNOWN_PARTITION, false],
    [2_000, CODE.UNKNOWN_PARTITION, true],
  ])
  const consumer = await cluster.consumer({ 'metadata.broker.list': mock.brokers })
  consumer.assign([{ topic: 'topic', partition: 0, offset: 0 }])
  expect(await readAll(consumer, 2_000)).toHaveLength(2_000)
})

// ---- in a process of its own

/** What a body is given in the child; it sees nothing else of this file. The clients are connected. */
interface Given<A> {
  addon: PackedAddon
  producer: Producer
  consumer: Consumer
  // biome-ignore lint/suspicious/noExplicitAny: these tests pass what the types forbid.
  raw: { producer: any; consumer: any; admin: any }
  Packer: typeof Packer
  consumePacked: typeof consumePacked
  until: typeof until
  argument: A
}

/** Runs a body in a child and returns what it returns. Throws when the child has not ended well in time. */
async function inChild<A, R>(argument: A, body: (given: Given<A>) => R | Promise<R>): Promise<R> {
  const at = (file: string): string => JSON.stringify(join(import.meta.dir, file))
  const source = `
    import { native, packed, promised } from ${at('client.ts')}
    import { consumePacked, Packer } from ${at('packed.ts')}
    import { until } from ${at('../testing/until.ts')}
    const { Producer, KafkaConsumer, AdminClient } = native()
    const brokers = { 'metadata.broker.list': ${JSON.stringify(cluster.brokers)} }
    const producer = new Producer({ ...brokers, 'linger.ms': 0, dr_cb: true })
    const consumer = new KafkaConsumer({ ...brokers, 'group.id': 'packed' })
    for (const client of [producer, consumer]) await promised((done) => client.connect({ timeout: 10_000 }, (error) => done(error)))
    producer.setPollInBackground(true)
    const admin = AdminClient.create(brokers)
    const raw = { producer: producer.getClient(), consumer: consumer.getClient(), admin: admin._client }
    const argument = ${JSON.stringify(argument)}
    const result = await (${body})({ addon: packed(), producer, consumer, raw, Packer, consumePacked, until, argument })
    process.stdout.write(JSON.stringify(result ?? null), () => process.exit(0))
  `
  const child = Bun.spawn([process.execPath, '-e', source], {
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: CHILD_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (exitCode !== 0 || stderr !== '')
    throw new Error(`the child ended with ${exitCode ?? child.signalCode}: ${stderr}`)
  return JSON.parse(stdout) as R
}

const FUZZED = 20_000
const MARKER = 'OVERREAD'

test(
  'buffers that are not of the format are refused or reported, and nothing is read beyond them',
  async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    const other = await newTopic(producer.client)
    const source = await newTopic(producer.client)
    const sources = [
      plainRecord(source, 'first'),
      plainRecord(source, 'second', { value: null, partition: 1 }),
      plainRecord(source, 'third', {
        key: 'key',
        partition: 3,
        headers: withHeaders(plainRecord(source, 'third').headers, { ce_time: '2026-02-28T23:59:59.123+01:00' }),
      }),
      plainRecord(source, 'left to JavaScript', { headers: NO_HEADERS, value: Buffer.alloc(0) }),
    ]
    await produceAll(producer, sources)
    const argument = { topic, other, source, sources: sources.length, count: FUZZED, marker: MARKER }
    const seen = await inChild(argument, async (given) => {
      const { addon, consumer, raw, Packer, consumePacked, until } = given
      const { topic, other, source, sources, count, marker } = given.argument
      let seed = 1
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
        return Math.floor((seed / 2 ** 32) * below)
      }
      const chosen = <T>(list: readonly T[]): T => list[random(list.length)] as T
      const reports = Buffer.alloc(1_024 * 32)
      const seen = { handed: 0, thrown: 0, expectedThrown: 0, expectedReports: 0, reports: 0, stored: 0, faults: '' }
      const take = (): void => {
        for (;;) {
          const taken = addon.reports(number, reports)
          for (let index = 0; index < taken; index++) if (reports.readInt32LE(index * 32 + 4) === 0) seen.stored++
          seen.reports += taken
          if (taken === 0) return
        }
      }
      const number = addon.openProducer(raw.producer, take, false)
      // There are numbers for chance to find: of another topic, and of one that can be none.
      for (const name of [topic, other, 'x'.repeat(600)]) addon.topic(name)
      const ODD = [-1, -2, -3, -5, 0, 1, 2, 3, 4, 7, 8, 9, 27, 28, 29, 255, 100_000, 100_001, 2 ** 31 - 1, -(2 ** 31)]
      const values = ['', 'value', 'a longer value', null]
      consumer.assign([0, 1, 2, 3].map((partition) => ({ topic: source, partition, offset: 0 })))
      const incoming: IncomingRecord[] = []
      await until(() => {
        incoming.push(...consumePacked(addon, consumer, 2, () => undefined))
        return incoming.length === sources
      })
      /** A copy between other bytes. */
      const guarded = (bytes: Buffer): Buffer => {
        const around = Buffer.alloc(256, marker)
        return Buffer.concat([around, bytes, around]).subarray(256, 256 + bytes.length)
      }
      interface Handed {
        bytes: Buffer
        texts: string[]
        batches: Buffer[]
      }
      const packed = (): Handed => {
        const packer = new Packer(addon)
        if (random(2) === 0) packer.common('kt-transaction', chosen(['', 'name']))
        for (let left = 1 + random(3); left > 0; left--) {
          if (random(2) === 0) {
            const passed = chosen(incoming)
            const result = chosen([undefined, { type: undefined, data: '{}' }, { type: 'made', data: '"…"' }])
            packer.pass(
              {
                topic,
                passed,
                tenant: chosen(['a', 'b']),
                contextStart: '{"a":1',
                contextEnd: chosen(['', ',"b":2']),
                ...(result !== undefined && { result }),
              },
              random(1_000),
            )
            continue
          }
          packer.add(
            {
              topic,
              partition: random(4),
              key: chosen(values),
              value: random(3) === 0 ? null : Buffer.alloc(random(40), 'v'),
              headers: { names: ['own', 'ce_id', 'other'], values: [chosen(values), chosen(values), chosen(values)] },
            },
            random(1_000),
          )
        }
        const { bytes, length, texts, batches } = packer.packed
        return { bytes: Buffer.from(bytes.subarray(0, length)), texts: [...texts], batches: batches.map(guarded) }
      }
      const format = packed().bytes.readInt32LE(0)
      let names = 0
      for (let isName = true; isName; names++) {
        const head = Buffer.alloc(8)
        head.writeInt32LE(format, 0)
        head.writeInt32LE(names, 4)
        try {
          addon.produce(number, head, 8, [''], [])
        } catch {
          isName = false
          names--
        }
      }
      const spoil = (bytes: Buffer): Buffer => {
        const anInt = (): number => random(bytes.length >> 2) * 4
        switch (random(6)) {
          case 0:
            return bytes.subarray(0, random(bytes.length + 1))
          case 1:
            bytes.writeInt32LE(chosen(ODD), anInt())
            return bytes
          case 2:
            for (let left = 1 + random(4); left > 0; left--) bytes.writeInt32LE(chosen(ODD), anInt())
            return bytes
          case 3:
            for (let left = 1 + random(16); left > 0; left--) bytes[random(bytes.length)] = random(256)
            return bytes
          case 4:
            // The record ends before what it says that it has.
            bytes.writeInt32LE(8 + random(bytes.length), 8)
            return bytes
          default:
            return Buffer.from(Array.from({ length: random(200) }, () => random(256)))
        }
      }
      for (let round = 0; round < count; round++) {
        const { bytes: whole, texts, batches } = packed()
        const isOfBatch = random(4) === 0 && batches.length > 0
        const spoiled = isOfBatch ? whole : spoil(whole)
        if (isOfBatch) batches[0] = guarded(spoil(Buffer.from(chosen(batches))))
        if (random(20) === 0) texts.length = random(texts.length + 1)
        if (random(20) === 0) batches.length = random(batches.length + 1)
        // Mostly of the right format, so that what follows it is read.
        if (spoiled.length >= 4 && random(50) > 0) spoiled.writeInt32LE(format, 0)
        if (spoiled.length >= 8 && random(20) > 0) spoiled.writeInt32LE(texts.length > 0 ? random(3) - 1 : -1, 4)
        const isOfFormat = spoiled.length >= 8 && spoiled.readInt32LE(0) === format
        const common = isOfFormat ? spoiled.readInt32LE(4) : -1
        const hasCommon = common < 0 || (common < names && texts.length > 0)
        const isRead = isOfFormat && hasCommon
        if (!isRead) seen.expectedThrown++
        const bytes = guarded(spoiled)
        for (let at = 8; isRead && at < bytes.length; ) {
          const size = bytes.length - at < 8 ? 0 : bytes.readInt32LE(at)
          if (size < 8 || size > bytes.length - at) {
            seen.expectedThrown++
            break
          }
          seen.expectedReports++
          at += (size + 3) & ~3
        }
        try {
          addon.produce(number, bytes, bytes.length, texts, batches)
          seen.handed++
        } catch (error) {
          seen.thrown++
          const said = String(error)
          const expected = !isOfFormat
            ? 'the buffer has another format than the addon'
            : hasCommon
              ? 'a record is beyond the length'
              : 'the common header has no name or no text'
          if (said !== `TypeError: ${expected}` && seen.faults.length < 1_000) seen.faults += `${said}\n`
        }
        if (round % 500 === 0) await Bun.sleep(0)
      }
      // Whoever waits for an acknowledgement that will not come is told so by then.
      await until(() => seen.reports >= seen.expectedReports, { timeoutMs: 20_000, what: JSON.stringify(seen) })
      take()
      addon.closeProducer(number)
      return seen
    })
    expect(seen).toMatchObject({
      thrown: seen.expectedThrown,
      handed: FUZZED - seen.expectedThrown,
      reports: seen.expectedReports,
      faults: '',
    })
    // Chance has made some of every kind.
    for (const some of [seen.thrown, seen.handed, seen.stored, seen.reports - seen.stored])
      expect(some).toBeGreaterThan(FUZZED / 100)
    const consumer = await cluster.consumer()
    consumer.assign([topic, other, source].flatMap(fromTheBeginning))
    const stored = await readAll(consumer, seen.stored + sources.length)
    // Some were passed on whole, too.
    expect(stored.filter(({ headers }) => headers.names.includes('kt-context')).length).toBeGreaterThan(FUZZED / 100)
    for (const { key, value, headers } of stored)
      for (const one of [key, value, ...headers.names, ...headers.values])
        if (one?.includes(MARKER)) throw new Error(`a record has what stood beyond its buffer: ${one}`)
  },
  CHILD_TIMEOUT_MS + 20_000,
)

test(
  'wrong arguments are TypeErrors, and do no harm',
  async () => {
    const topic = await newTopic((await openProducer()).client)
    const seen = await inChild({ topic }, async ({ addon, raw, producer, Packer, until, argument }) => {
      const loose = addon as unknown as Record<string, (...args: unknown[]) => unknown>
      let announced = 0
      const number = addon.openProducer(raw.producer, () => announced++, false)
      const faulty: Record<string, unknown> = {
        nothing: undefined,
        null: null,
        'minus one': -1,
        'a half': 0.5,
        'not a number': Number.NaN,
        'beyond 31 bits': 2 ** 31,
        'beyond 32 bits': 2 ** 32,
        'a number that is not given': 1_000,
        text: 'text',
        symbol: Symbol(),
        'big integer': 1n,
        true: true,
        object: {},
        array: [],
        function: () => 1,
        date: new Date(),
        promise: Promise.resolve(),
        proxy: new Proxy(raw.producer, {}),
        heir: Object.create(raw.producer),
        prototype: Object.getPrototypeOf(raw.producer),
        admin: raw.admin,
        producer: raw.producer,
        consumer: raw.consumer,
        wrapper: producer,
        bytes: Buffer.alloc(8),
      }
      const all = Object.keys(faulty)
      const without = (...names: string[]): string[] => all.filter((name) => !names.includes(name))
      const seeds = Buffer.alloc(16)
      const empty = Buffer.from(new Packer(addon).packed.bytes.subarray(0, 8))
      const calls: [name: string, fit: (value: unknown) => unknown[], faulty: string[]][] = [
        ['names', (value) => [value], without('array')],
        ['names', (value) => [['ce_id', value]], without('text')],
        ['topic', (value) => [value], without('text')],
        ['openProducer', (value) => [value, () => undefined, false], without('producer')],
        ['openProducer', (value) => [raw.producer, value, false], without('function')],
        ['type', (value) => [value], all],
        ['produce', (value) => [value, empty, 8, [], []], all],
        ['produce', (value) => [number, value, 8, [], []], all],
        ['produce', (value) => [number, empty, value, [], []], all],
        ['produce', (value) => [number, empty, 8, value, []], without('array')],
        ['produce', (value) => [number, empty, 8, [value], []], without('text')],
        ['produce', (value) => [number, empty, 8, [], value], without('array')],
        ['produce', (value) => [number, empty, 8, [], [value]], without('bytes')],
        ['reports', (value) => [value, Buffer.alloc(32)], all],
        ['reports', (value) => [number, value], without('bytes')],
        ['purge', (value) => [value], all],
        ['closeProducer', (value) => [value], all],
        ['consume', (value) => [value, 1, seeds, false], without('consumer')],
        ['consume', (value) => [raw.consumer, value, seeds, false], without('a number that is not given')],
        ['consume', (value) => [raw.consumer, 1, value, false], all],
        ['consume', (value) => [raw.consumer, 1, seeds, false, value], without('nothing', 'bytes')],
        ['consume', (value) => [raw.consumer, 1, seeds, false, undefined, value], without('nothing')],
      ]
      const wrong: string[] = []
      let tried = 0
      const expectTypeError = (what: string, call: () => unknown): void => {
        tried++
        try {
          call()
          wrong.push(`${what} was taken`)
        } catch (error) {
          if (!(error instanceof TypeError)) wrong.push(`${what} threw ${error}`)
        }
      }
      for (const [name, fit, values] of calls)
        for (const value of values) expectTypeError(`${name}: ${value}`, () => loose[name]?.(...fit(faulty[value])))
      for (const name of Object.keys(loose)) expectTypeError(`${name} without arguments`, () => loose[name]?.())
      const detached = Buffer.from(new ArrayBuffer(64))
      structuredClone(detached.buffer, { transfer: [detached.buffer as ArrayBuffer] })
      expectTypeError('a buffer that was given away', () => addon.produce(number, detached, 64, [], []))
      expectTypeError('a length beyond the buffer', () => addon.produce(number, empty, 9, [], []))
      expectTypeError('a format that ends early', () => addon.produce(number, empty, 7, [], []))
      const withInt = (at: number, int: number): Buffer => {
        const bytes = Buffer.from(empty)
        bytes.writeInt32LE(int, at)
        return bytes
      }
      expectTypeError('another format', () => addon.produce(number, withInt(0, 99), 8, [], []))
      expectTypeError('a common header without a text', () => addon.produce(number, withInt(4, 0), 8, [], []))
      expectTypeError('a common header without a name', () => addon.produce(number, withInt(4, 1_000), 8, [''], []))
      // It goes on as before.
      addon.names(['ce_id'])
      const packer = new Packer(addon)
      packer.add(
        { topic: argument.topic, partition: 0, key: 'k', value: Buffer.from('v'), headers: { names: [], values: [] } },
        5,
      )
      addon.produce(number, packer.packed.bytes, packer.packed.length, [], [])
      await until(() => announced > 0)
      const report = Buffer.alloc(32)
      const count = addon.reports(number, report)
      addon.closeProducer(number)
      return { wrong, tried, count, sequence: report.readInt32LE(0), code: report.readInt32LE(4) }
    })
    expect(seen.tried).toBeGreaterThan(250)
    expect(seen).toMatchObject({ wrong: [], count: 1, sequence: 5, code: 0 })
  },
  CHILD_TIMEOUT_MS + 5_000,
)

const MOST_TYPES = 1_000

test(
  'events of more types than a sender should have are not plain, and those of known types still are',
  async () => {
    const { producer, topic, consumer } = await onMock()
    consumer.unassign()
    const types = numbers(MOST_TYPES + 50).map((number) => `type-${number}`)
    const all = [...types, ...types.toReversed()]
    await produceAll(
      producer,
      all.map((type, index) => plainRecord(topic, `id-${index}`, {}, type)),
    )
    const seen = await inChild({ topic, count: all.length }, async (given) => {
      const { addon, consumer, consumePacked, until } = given
      const { topic, count } = given.argument
      consumer.assign([{ topic, partition: 0, offset: 0 }])
      const seen: [given: string, known: string | null][] = []
      await until(() => {
        for (const { plain, headers } of consumePacked(addon, consumer, 300, () => undefined))
          seen.push([String(headers.values[headers.names.indexOf('ce_type')]), plain?.type ?? null])
        return seen.length === count
      })
      return seen
    })
    expect(seen).toEqual(all.map((type) => [type, types.indexOf(type) < MOST_TYPES ? type : null]))
  },
  CHILD_TIMEOUT_MS,
)

test(
  'filters that are not of the format are refused, and nothing is read beyond them',
  async () => {
    const producer = await openProducer()
    const topic = await newTopic(producer.client)
    await produceAll(producer, Array<OutgoingRecord>(MANY).fill(plainRecord(topic, 'id', { key: 'key' })))
    const contains = { name: 'own', value: 'i', how: 'contains' } as const
    const filter = packFilter({
      headers: [{ name: 'ce_id', value: 'id', how: 'equals' }, contains],
      key: Buffer.from('key'),
    })
    const most = packFilter({ headers: Array(32).fill(contains) })
    const tooMany = packFilter({ headers: Array(33).fill(contains) })
    const lists = [filter, most, tooMany].map((one) => [...one])
    const seen = await inChild({ topic, lists }, async ({ addon, consumer, raw, until, argument }) => {
      const { topic, lists } = argument
      const [filter, most, tooMany] = lists as [number[], number[], number[]]
      const seeds = Buffer.alloc(16)
      const consume = (given: unknown) => addon.consume(raw.consumer, 10, seeds, false, undefined, given as Buffer)
      const isRefused = (given: unknown): boolean => {
        try {
          consume(given)
          return false
        } catch (error) {
          return error instanceof TypeError
        }
      }
      const refused = {
        nonsense: [null, 'x', {}, Buffer.alloc(0), Buffer.from(tooMany)].map(isRefused),
        shorter: filter.map((_, length) => isRefused(Buffer.from(filter.slice(0, length)))),
      }
      const accepted = [filter, most].map((list) => !isRefused(Buffer.from(list)))
      consumer.assign([{ topic, partition: 0, offset: 0 }])
      await until(() => consume(Buffer.from(filter)) !== undefined)
      let seed = 1
      for (let left = 5_000; left > 0; left--) {
        const changed = Buffer.from(filter)
        for (let changes = 0; changes < 3; changes++) {
          seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
          // All but the format.
          changed[4 + ((seed >>> 16) % (changed.length - 4))] = seed >>> 8
        }
        isRefused(changed)
      }
      return { ...refused, accepted }
    })
    expect(seen).toEqual({
      nonsense: Array(5).fill(true),
      shorter: Array(filter.length).fill(true),
      accepted: [true, true],
    })
  },
  CHILD_TIMEOUT_MS,
)
