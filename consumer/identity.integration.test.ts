import { afterAll, beforeAll, expect, test } from 'bun:test'
import fc from 'fast-check'
import { GENERATION, type HeaderValue, ORIGIN } from '../shared/events/headers.ts'
import type { OutgoingRecord } from '../shared/events/record.ts'
import { type Consumer, type Producer, packed } from '../shared/kafka/client.ts'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { consumeIdentities, consumePacked, packProducer } from '../shared/kafka/packed.ts'
import { type MockCluster, newTopic, startMockCluster } from '../shared/testing/mock-cluster.ts'
import { until } from '../shared/testing/until.ts'
import { identityOf } from './decode.ts'

/** The addon (native/shim/identity.cc) must identify records exactly as {@link identityOf} does. */

const READ = { timeoutMs: 20_000 }

let cluster: MockCluster
let producer: Producer

beforeAll(async () => {
  cluster = await startMockCluster()
  producer = await cluster.producer()
})

afterAll(() => cluster.close())

async function produce(topic: string, headers: [string, HeaderValue][][]): Promise<void> {
  let reported = 0
  const records = packProducer(packed(), producer, () => reported++)
  for (const [sequence, list] of headers.entries()) {
    const record: OutgoingRecord = {
      topic,
      partition: 0,
      key: null,
      value: Buffer.from('{}'),
      headers: { names: list.map(([name]) => name), values: list.map(([, value]) => value) },
    }
    records.packer.add(record, sequence)
  }
  records.flush()
  await until(() => reported === headers.length, READ)
  records.close()
}

const fromBeginning = async (topic: string): Promise<Consumer> => {
  const consumer = await cluster.consumer()
  consumer.assign([{ topic, partition: 0, offset: 0 }])
  return consumer
}

const nothingBetween = ({ code }: { code: number }): never => {
  throw new Error(`interrupted by ${code}`)
}

/** The hashes of a topic's records as the addon and as JavaScript make them, and how many the addon left to JavaScript. */
async function bothWays(topic: string, count: number): Promise<{ told: string[]; decoded: string[]; left: number }> {
  const hex = (hash: Uint32Array): string => Buffer.from(hash.slice().buffer).toString('hex')
  const decoded: string[] = []
  const whole = await fromBeginning(topic)
  await until(() => {
    for (const record of consumePacked(packed(), whole, count, nothingBetween))
      decoded.push(hex(hashOf(identityOf(record))))
    return decoded.length === count
  }, READ)
  const told: string[] = []
  let left = 0
  const known = await fromBeginning(topic)
  await until(() => {
    consumeIdentities(
      packed(),
      known,
      count,
      (record) => {
        left++
        return identityOf(record)
      },
      (_topic, _partition, _offset, _timestampMs, hash) => told.push(hex(hash)),
      nothingBetween,
    )
    return told.length === count
  }, READ)
  return { told, decoded, left }
}

/** Mostly usual values, sometimes odd ones, and sometimes any. */
const attribute = (name: string, usual: string[], odd: string[] = []): fc.Arbitrary<[string, HeaderValue]> =>
  fc.tuple(
    fc.constant(name),
    fc.oneof(
      { arbitrary: fc.constantFrom(...usual), weight: 40 },
      { arbitrary: fc.constantFrom(...usual, ...odd), weight: 6 },
      { arbitrary: fc.string({ unit: 'grapheme' }), weight: 1 },
      { arbitrary: fc.webUrl({ withFragments: true, withQueryParameters: true }), weight: 1 },
      { arbitrary: fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)), weight: 1 },
      { arbitrary: fc.constant(null), weight: 1 },
    ),
  )

const required = [
  attribute('ce_specversion', ['1.0'], ['0.3']),
  attribute('ce_id', ['1', 'a longer id, 0123456789 0123456789 0123456789 0123456789'], ['ü', '']),
  attribute(
    'ce_source',
    ['/shop', 'https://shop.example/orders', 'urn:a:b', 'a/b:c'],
    ['//host:80/x', 'a b', ':', '1a:b', 'a-b:c', 'a%20b', 'http://[::1]/x', ''],
  ),
  attribute('ce_type', ['order.placed'], ['']),
]
const optional = [
  attribute('ce_subject', ['alice'], ['']),
  attribute(
    'ce_time',
    ['2026-01-28T23:59:59Z', '2026-02-28T23:59:59.123+01:00'],
    [
      '2026-01-31T23:59:59Z',
      '2026-13-01T00:00:00Z',
      '2026-02-30T00:00:00Z',
      '2026-02-27T24:00:00Z',
      '2026-02-27t00:00:00z',
      '2016-12-31T23:59:60Z',
      '2026-02-27T00:00:00',
      '2026-02-27T00:00:00.Z',
      '2026-02-27T00:00:00+24:00',
    ],
  ),
  attribute('ce_dataschema', ['https://schemas.example/order'], ['/relative', 'a:', '//a:b']),
  attribute('ce_partitionkey', ['k'], ['']),
  attribute('ce_extension', ['x'], ['']),
  attribute(
    'content-type',
    ['application/json', 'text/plain'],
    ['application/cloudevents+json', 'not a type', 'a/b; c=d'],
  ),
  attribute(ORIGIN, ['kt.a.b/0/7']),
  attribute(GENERATION, ['1', '2'], ['0', '01', '-1', '1e9', '2147483648', '']),
  attribute('kt-tenant', ['x']),
]
const wrong = fc.constantFrom<[string, HeaderValue]>(
  ['ce_data', 'x'],
  ['ce_datacontenttype', 'text/plain'],
  ['ce_Bad-Name', 'x'],
  ['ce_', 'x'],
  ['ce_id', 'another'],
  ['ce_extension', 'another'],
  ['content-type', 'text/plain'],
  [GENERATION, '3'],
)

/** The value, in so many of ten cases. */
const sometimes = <T>(arbitrary: fc.Arbitrary<T>, weight: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ arbitrary, weight }, { arbitrary: fc.constant(undefined), weight: 10 - weight })

const headers = fc
  .tuple(...required.map((one) => sometimes(one, 9)), ...optional.map((one) => sometimes(one, 3)), sometimes(wrong, 1))
  .chain((all) => {
    const list = all.filter((one) => one !== undefined)
    return fc.shuffledSubarray(list, { minLength: list.length })
  })

test('is told of records as it is decoded, whatever their headers are', async () => {
  const list = fc.sample(headers, { numRuns: 5_000, seed: 20_261_127 })
  const topic = await newTopic(producer)
  await produce(topic, list)
  const { told, decoded, left } = await bothWays(topic, list.length)
  for (const [index, hash] of told.entries())
    if (hash !== decoded[index]) throw new Error(`told otherwise: ${JSON.stringify(list[index])}`)
  // Both implementations were used; otherwise the test would show nothing.
  expect(left).toBeGreaterThan(list.length * 0.1)
  expect(left).toBeLessThan(list.length * 0.95)
}, 30_000)

test('is the same for ids of every length', async () => {
  const list = Array.from({ length: 400 }, (_, length): [string, HeaderValue][] => [
    ['ce_specversion', '1.0'],
    ['ce_id', 'x'.repeat(length + 1)],
    ['ce_source', '/'],
    ['ce_type', 't'],
  ])
  const topic = await newTopic(producer)
  await produce(topic, list)
  const { told, decoded, left } = await bothWays(topic, list.length)
  expect(told).toEqual(decoded)
  expect(left).toBe(0)
})

test('is that of the generation, for each generation of an event', async () => {
  const event: [string, HeaderValue][] = [
    ['ce_specversion', '1.0'],
    ['ce_id', '1'],
    ['ce_source', '/shop'],
    ['ce_type', 'order.placed'],
  ]
  const generations: HeaderValue[][] = [
    ...[[], ['1'], ['2'], ['0'], ['01'], ['-1'], ['1e9'], ['2147483648'], ['9'.repeat(40)], [''], [null]],
    ...[[Buffer.from([0xff])], ['1', '2'], ['1', '-1'], ['-1', '1']],
  ]
  const topic = await newTopic(producer)
  await produce(
    topic,
    generations.map((values) => [...event, ...values.map((value): [string, HeaderValue] => [GENERATION, value])]),
  )
  const { told, decoded, left } = await bothWays(topic, generations.length)
  expect(told).toEqual(decoded)
  expect(told.map((hash) => told.indexOf(hash))).toEqual([0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1])
  // Only the event that was not redriven is told by the addon.
  expect(left).toBe(generations.length - 1)
})

test('of what every service of ours writes is told by the addon', async () => {
  const list: [string, HeaderValue][][] = [
    [
      ['ce_specversion', '1.0'],
      ['ce_id', '01a20d94-ec12-7028-a1c5-ee30e638f749'],
      ['ce_source', '/tenants/acme'],
      ['ce_type', 'com.github.push'],
      ['ce_subject', 'alice'],
      ['ce_time', '2026-11-24T12:43:13.304Z'],
      ['content-type', 'application/json'],
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'],
      ['kt-tenant', 'acme'],
      ['kt-received-at', '1764000000000'],
      ['kt-context', '{"tenant":"acme"}'],
    ],
  ]
  const topic = await newTopic(producer)
  await produce(topic, list)
  expect((await bothWays(topic, 1)).left).toBe(0)
})
