import { afterAll, beforeAll, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { type HeaderValue, headersOf, RECEIVED_AT, SCHEMA, TRACEPARENT, TRANSACTION } from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord, PassedRecord } from '../shared/events/record.ts'
import { parseTopic, siblingTopic } from '../shared/events/topics.ts'
import { type Consumer, type Producer, packed } from '../shared/kafka/client.ts'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { consumePacked, packProducer } from '../shared/kafka/packed.ts'
import { redactor } from '../shared/service/redact.ts'
import {
  fromTheBeginning,
  MOCK_PARTITIONS,
  type MockCluster,
  newTopic,
  startMockCluster,
} from '../shared/testing/mock-cluster.ts'
import { until } from '../shared/testing/until.ts'
import { consume, Job, type PartitionView } from './consume.ts'
import { decode } from './decode.ts'
import { Deduplication } from './dedupe.ts'
import { type ContextStart, createContextStart, createEnricher } from './enrich.ts'
import { defineHandler, handlerIndex } from './handlers/handler.ts'
import { testConfig } from './testing/pipeline.ts'

/** What the addon makes of an event that is passed on (native/shim/passing.cc) must be what JavaScript makes of a decoded one. */

const READ = { timeoutMs: 20_000 }
/** How types begin that have a handler. */
const HANDLED = ['handled.', 'handled"', 'handled\\'] as const
/** When the events are processed. */
const NOW_MS = Date.parse('2026-11-29T01:02:03.456Z')

let cluster: MockCluster
let producer: Producer

beforeAll(async () => {
  cluster = await startMockCluster()
  producer = await cluster.producer()
})

afterAll(() => cluster.close())

// ---- there and back

const newInput = (): Promise<string> => newTopic(producer, 'kt.acme.events')

const recordOf = (topic: string, given: Partial<OutgoingRecord>): OutgoingRecord => ({
  topic,
  partition: 0,
  key: null,
  value: null,
  headers: { names: [], values: [] },
  ...given,
})

/** @param transaction the value of a header that all get */
async function produce(records: readonly (OutgoingRecord | PassedRecord)[], transaction?: string): Promise<void> {
  let stored = 0
  const codes = new Set<number>()
  const { packer, flush, close } = packProducer(packed(), producer, ({ code }) => {
    stored++
    codes.add(code)
  })
  if (transaction !== undefined) packer.common(TRANSACTION, transaction)
  for (const [sequence, record] of records.entries())
    if ('passed' in record) packer.pass(record, sequence)
    else packer.add(record, sequence)
  flush()
  await until(() => stored === records.length, READ)
  close()
  expect([...codes]).toEqual(records.length === 0 ? [] : [0])
}

const nothingBetween = ({ code }: { code: number }): never => {
  throw new Error(`interrupted by ${code}`)
}

async function readAll(topic: string, count: number): Promise<IncomingRecord[]> {
  const consumer: Consumer = await cluster.consumer()
  consumer.assign(fromTheBeginning(topic))
  const records: IncomingRecord[] = []
  await until(() => {
    // Several batches.
    records.push(...consumePacked(packed(), consumer, 777, nothingBetween))
    return records.length === count
  }, READ)
  return records
}

// ---- both ways

/** Results of any form: with a type of their own or without, and in any alphabet. */
const handlers = handlerIndex(
  [undefined, 'made', 'made "by" \\'].map((type, index) =>
    defineHandler({
      type: `${HANDLED[index]}*`,
      version: `"${index}"`,
      schema: Type.Unknown(),
      // The last of them takes a version of its own.
      ...(index === 2 && {
        takes: 3,
        upcasters: [1, 2].map((from) => ({ from, to: 3, up: (data: unknown) => [data] })),
      }),
      handle: (data) => ({ ...(type !== undefined && { type }), data: { data, ключ: '“\ud83d\ude00”', index } }),
    }),
  ),
)

/** The outcome of a new event; undefined where it is not processed. @param contextStart undefined: the event is decoded */
function outcomeOf(
  record: IncomingRecord,
  contextStart: ContextStart | undefined,
): OutgoingRecord | PassedRecord | undefined {
  const { tenant, stream } = parseTopic(record.topic) ?? { tenant: '', stream: '' }
  const partition: PartitionView = {
    topic: record.topic,
    processedTopic: siblingTopic(record.topic, 'processed'),
    tenant,
    stream,
    dedupe: new Deduplication(1),
    waitingRecords: 0,
    waits: () => false,
    signal: new AbortController().signal,
  }
  const outcome = consume(new Job(record, 'input'), partition, {
    enrich: createEnricher({ nowMs: () => NOW_MS }),
    contextStart,
    handlerOf: handlers,
    config: testConfig({ UNHANDLED: 'pass' }),
    redact: redactor(),
    nowMs: () => NOW_MS,
    onQuickRetry: () => undefined,
  })
  // A handler whose data is no JSON fails; the decision about that is made later.
  if (outcome instanceof Promise) return undefined
  if (outcome.kind !== 'processed') throw new Error('it is not processed at once')
  return outcome.output
}

/** Everything of a record that is stored, with its headers in any order. */
function contentOf({ partition, key, value, headers: { names, values } }: IncomingRecord | OutgoingRecord) {
  const headers = names.map((name, index) => `${name}: ${JSON.stringify(values[index])}`).toSorted()
  const bytes = typeof key === 'string' ? Buffer.from(key) : key
  return { partition, key: bytes?.toString('hex') ?? null, value: value?.toString('hex') ?? null, headers }
}

const shownOf = ({ headers }: IncomingRecord): string =>
  headers.names.map((name, index) => `${name}: ${JSON.stringify(headers.values[index])}`).join('\n')

/** Whatever the addon tells of these must be so, and those that it tells something of are passed on as if they were decoded. @returns these */
async function expectSame(topic: string, count: number): Promise<IncomingRecord[]> {
  const plain: IncomingRecord[] = []
  const passed: PassedRecord[] = []
  const contextStart = createContextStart(() => NOW_MS)
  for (const record of await readAll(topic, count)) {
    if (record.plain === undefined) continue
    const { type, receivedAtMs, identityHash } = record.plain
    const told = { type, receivedAtMs, identityHash: [...identityHash] }
    const decoded = decode(record)
    if (!decoded.ok) throw new Error(`no event: ${decoded.reason}\n${shownOf(record)}`)
    const identity = [...hashOf(decoded.identity)]
    expect(told).toEqual({ type: decoded.event.type, receivedAtMs: decoded.receivedAtMs, identityHash: identity })
    const outcome = outcomeOf(record, contextStart)
    if (outcome === undefined) {
      expect(outcomeOf(record, undefined)).toBeUndefined()
      continue
    }
    if (!('passed' in outcome)) throw new Error('it is decoded')
    plain.push(record)
    passed.push(outcome)
  }
  const transaction = 'group-0:1-7'
  await produce(passed, transaction)
  const output = siblingTopic(topic, 'processed')
  const written = Map.groupBy(await readAll(output, plain.length), ({ partition }) => partition)
  for (const record of plain) {
    const made = outcomeOf(record, undefined)
    if (made === undefined || 'passed' in made) throw new Error('it is not decoded')
    expect(made.topic).toBe(output)
    const { names, values } = made.headers
    const headers = { names: [...names, TRANSACTION], values: [...values, transaction] }
    // In a partition, in the order in which they were handed over.
    const found = written.get(record.partition)?.shift()
    if (found === undefined) throw new Error(`not passed on:\n${shownOf(record)}`)
    const [is, should] = [contentOf(found), contentOf({ ...made, headers })]
    if (!Bun.deepEquals(is, should)) throw new Error(`${JSON.stringify({ is, should })} for\n${shownOf(record)}`)
  }
  return plain
}

// ---- any events

type Header = [string, HeaderValue]

/** The value, in so many of a hundred cases. */
const sometimes = <T>(arbitrary: fc.Arbitrary<T>, weight: number): fc.Arbitrary<T | undefined> =>
  fc.oneof({ arbitrary, weight }, { arbitrary: fc.constant(undefined), weight: 100 - weight })

/** Mostly one of the first. */
const mostly = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ arbitrary: usual, weight: 60 }, { arbitrary: odd, weight: 1 })

const header = (name: string, value: fc.Arbitrary<HeaderValue>): fc.Arbitrary<Header> =>
  fc.tuple(fc.constant(name), value)

const printable = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 40 }),
  fc.string({ unit: fc.constantFrom('"', '\\', '/', 'n', 'u', "'", ' ', '~', ','), minLength: 1, maxLength: 12 }),
  fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 120, maxLength: 140 }),
)
const anything: fc.Arbitrary<HeaderValue> = fc.oneof(
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('', '\0', 'a\0b', 'ü', '\x7f', '\t', '\n', '\ufffe', 'x'.repeat(4_096), 'x'.repeat(4_097)),
  fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
  fc.constant(null),
)
const text = mostly(printable, anything)

/** The addon keeps the types that it has seen, and not many: there are few. Those of a third have a handler. */
const types = fc
  .sample(printable, { numRuns: 150, seed: 20_261_129 })
  .map((type, index) => (index % 3 === 0 ? `${HANDLED[(index / 3) % HANDLED.length]}${type}` : type))

const uriText = fc.string({ unit: fc.constantFrom(...'abzAZ09-._~/:'), maxLength: 12 })
const uri = fc.oneof(
  fc.constantFrom('/', '/shop', 'https://shop.example/orders', 'urn:a:b', 'a/b:c', '//host/x', '..', 'x:'),
  uriText.map((path) => `/x${path}`),
  uriText.map((path) => `urn:${path}`),
  uriText,
)
const oddUri = fc.oneof(fc.webUrl({ withFragments: true, withQueryParameters: true }), anything)

const two = (number: number): string => String(number).padStart(2, '0')

const dates = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.tuple(
      fc.oneof(
        fc.integer({ min: 0, max: 9_999 }),
        fc.integer({ min: 1_960, max: 2_100 }),
        fc.constantFrom(0, 4, 1_970, 9_999),
      ),
      fc.integer({ min: 1, max: 12 }),
      fc.oneof(fc.integer({ min: 1, max: 31 }), fc.integer({ min: 28, max: 31 })),
    ),
  },
  // Most of these years have the day.
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.nat(2_499).map((leap) => leap * 4),
      fc.constant(2),
      fc.constant(29),
    ),
  },
)

/** Nearly every time that there is, in every form of RFC 3339, and some that there are not. */
const times = fc
  .record({
    date: dates,
    hour: fc.integer({ min: 0, max: 23 }),
    minute: fc.integer({ min: 0, max: 59 }),
    second: fc.oneof(
      { arbitrary: fc.integer({ min: 0, max: 59 }), weight: 50 },
      { arbitrary: fc.constant(60), weight: 1 },
    ),
    fraction: fc.string({ unit: fc.constantFrom(...'0012345678999'), maxLength: 12 }),
    offset: fc.oneof(
      fc.constant('Z'),
      fc
        .tuple(fc.constantFrom('+', '-'), fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
        .map(([sign, hour, minute]) => `${sign}${two(hour)}:${two(minute)}`),
      fc.constantFrom('+00:00', '-00:00', '+23:59', '-23:59', '+05:30'),
    ),
  })
  .map(({ date: [year, month, day], hour, minute, second, fraction, offset }) => {
    const date = `${String(year).padStart(4, '0')}-${two(month)}-${two(day)}`
    return `${date}T${two(hour)}:${two(minute)}:${two(second)}${fraction === '' ? '' : `.${fraction}`}${offset}`
  })
const oddTimes = fc.oneof(
  anything,
  times.map((time) => time.toLowerCase()),
  times.map((time) => time.replace('T', ' ')),
  times.map((time) => time.slice(0, -1)),
  fc.constantFrom('2016-12-31T23:59:60Z', '2026-02-27T24:00:00Z', '2026-02-27T00:00:00.Z', '2026-02-27T00:00:00+24:00'),
)

const hex = (length: number): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length })
const ids = fc.tuple(hex(32), hex(16)).map((both) => both.join('-'))
const traceparents = fc.tuple(ids, fc.integer({ min: 0, max: 3 })).map(([both, flags]) => `00-${both}-0${flags}`)
const oddTraceparents = fc.oneof(
  anything,
  traceparents.map((one) => one.toUpperCase()),
  traceparents.map((one) => `${one}-more`),
  traceparents.map((one) => `${one} `),
  traceparents.map((one) => one.slice(0, -1)),
  fc.tuple(fc.constantFrom('00', '01', 'cc', 'ff'), ids, hex(2)).map((parts) => parts.join('-')),
  fc.tuple(fc.constantFrom('00', '01'), ids, hex(2)).map((parts) => `${parts.join('-')}-more`),
  hex(16).map((id) => `00-${'0'.repeat(32)}-${id}-01`),
  hex(32).map((id) => `00-${id}-${'0'.repeat(16)}-01`),
)

const HOUR_MS = 3_600_000
const received = fc.integer({ min: -HOUR_MS + 60_000, max: HOUR_MS - 60_000 }).map((ms) => String(Date.now() + ms))
const oddReceived = fc.oneof(
  anything,
  received.map((ms) => `0${ms}`),
  received.map((ms) => `${ms} `),
  received.map((ms) => `+${ms}`),
  received.map((ms) => `${ms}.0`),
  received.map((ms) => String(Number(ms) + 2 * HOUR_MS)),
  received.map((ms) => String(Number(ms) - 2 * HOUR_MS)),
  fc.constantFrom('0', '-1', '1e12', '999999999999999', '9'.repeat(16), '9'.repeat(40)),
)

const mediaTypes = fc.constantFrom(
  'application/json',
  'application/json; charset=utf-8',
  'text/plain',
  'application/octet-stream',
)
const oddMediaTypes = fc.oneof(
  anything,
  fc.constantFrom('application/cloudevents+json', 'application/cloudevents', 'not a type', 'a/b; c=d', 'text/plain '),
)

const extensionNames = mostly(
  fc.string({ unit: fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789'), minLength: 1, maxLength: 20 }),
  fc.constantFrom('data', 'database', 'datacontenttype', 'Upper', 'un_der', 'ü', '', 'constructor', 'partitionkey'),
)
const extension = fc.tuple(
  extensionNames.map((name) => `ce_${name}`),
  text,
)
const OURS = ['kt-tenant', 'kt-context', 'kt-transaction', 'kt-attempt', 'kt-origin', 'kt-error', 'kt-not-before']
const foreign = fc.tuple(
  fc.constantFrom(...OURS, 'own', '', 'ce', 'CE_id', 'Content-Type', 'content_type', 'Traceparent', 'KT-received-at'),
  fc.oneof(printable, anything),
)
const twice = fc.constantFrom<Header>(
  ['ce_id', 'another'],
  ['ce_type', 'another'],
  ['content-type', 'text/plain'],
  [TRACEPARENT, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
  [RECEIVED_AT, '1'],
  ['kt-tenant', 'another'],
)
/** Of versions that every handler takes. */
const schemas = fc
  .tuple(fc.oneof(printable, fc.constant('acme.ключ-“\ud83d\ude00”/')), fc.integer({ min: 1, max: 3 }))
  .map((both) => both.join('/'))
const tracestates = fc.oneof(fc.constantFrom<HeaderValue>('a=b', '', 'no list', null), anything)

const headers = fc
  .tuple(
    sometimes(header('ce_specversion', mostly(fc.constant('1.0'), fc.oneof(fc.constant('0.3'), anything))), 99),
    sometimes(header('ce_id', text), 99),
    sometimes(header('ce_source', mostly(uri, oddUri)), 99),
    sometimes(header('ce_type', fc.constantFrom(...types)), 99),
    sometimes(header('ce_subject', text), 60),
    sometimes(header('ce_time', mostly(times, oddTimes)), 70),
    sometimes(header('ce_dataschema', mostly(fc.constantFrom('https://schemas.example/order', 'urn:x:'), oddUri)), 20),
    sometimes(header('content-type', mostly(mediaTypes, oddMediaTypes)), 60),
    sometimes(header(TRACEPARENT, fc.oneof({ arbitrary: traceparents, weight: 9 }, oddTraceparents)), 50),
    sometimes(header('tracestate', tracestates), 4),
    sometimes(header(SCHEMA, fc.oneof(schemas, anything)), 30),
    sometimes(header(RECEIVED_AT, fc.oneof({ arbitrary: received, weight: 9 }, oddReceived)), 60),
    sometimes(twice, 4),
    sometimes(extension, 40),
    sometimes(extension, 40),
    sometimes(foreign, 30),
    sometimes(foreign, 30),
  )
  .chain((all) => {
    const list = all.filter((one) => one !== undefined)
    return fc.shuffledSubarray(list, { minLength: list.length })
  })

const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array))
const records = fc.record({
  partition: fc.nat(MOCK_PARTITIONS - 1),
  key: fc.oneof(fc.constant(null), fc.constant(Buffer.alloc(0)), bytes),
  value: fc.oneof(
    { arbitrary: bytes, weight: 2 },
    { arbitrary: fc.json().map((json) => Buffer.from(json)), weight: 3 },
    fc.constant(null),
    fc.constant(Buffer.alloc(0)),
  ),
  headers: headers.map((list) => ({ names: list.map(([name]) => name), values: list.map(([, value]) => value) })),
})

const COUNT = 8_000

/** Of so many records at least there must be an event that is passed on, for the test to show something. */
const SEEN = 20
const KINDS: Readonly<
  Record<string, (header: (name: string) => string | undefined, record: IncomingRecord) => boolean>
> = {
  'a type with quotes': (header) => /"/.test(header('ce_type') ?? ''),
  'a type with backslashes': (header) => /\\/.test(header('ce_type') ?? ''),
  'a subject with quotes and backslashes': (header) => /".*\\|\\.*"/.test(header('ce_subject') ?? ''),
  'a result': (header) => header('ce_type')?.startsWith('handled') === true,
  'a result in place of data with a schema': (header) =>
    header('ce_type')?.startsWith('handled') === true && header('ce_dataschema') !== undefined,
  'a result of raised data': (header) =>
    header('ce_type')?.startsWith(HANDLED[2]) === true && /.\/[12]$/.test(header(SCHEMA) ?? ''),
  'no subject': (header) => header('ce_subject') === undefined,
  'a leap day': (header) => /-02-29T/.test(header('ce_time') ?? ''),
  'the last of a month': (header) => /-3[01]T/.test(header('ce_time') ?? ''),
  'a time before 1970': (header) => /^(?:0|1[0-8]|19[0-6])/.test(header('ce_time') ?? ''),
  'an offset': (header) => /[+-]\d\d:\d\d$/.test(header('ce_time') ?? ''),
  'a long fraction': (header) => /\.\d{10}/.test(header('ce_time') ?? ''),
  'a long fraction that begins with zero': (header) => /\.0\d{9}/.test(header('ce_time') ?? ''),
  'a short fraction': (header) => /\.\d{1,2}\D/.test(header('ce_time') ?? ''),
  'a time without having been received': (header) =>
    header('ce_time') !== undefined && header(RECEIVED_AT) === undefined,
  'a time and having been received': (header) => header('ce_time') !== undefined && header(RECEIVED_AT) !== undefined,
  'no time': (header) => header('ce_time') === undefined,
  'a trace': (header) => header(TRACEPARENT) !== undefined,
  'a foreign context': (header) => header('kt-context') !== undefined,
  'a media type': (header) => header('content-type') !== undefined,
  'no media type': (header) => header('content-type') === undefined,
  'no data': (_, { value }) => value === null,
  'zero bytes of data': (_, { value }) => value?.length === 0,
  'no key': (_, { key }) => key === null,
  'an empty key': (_, { key }) => key?.length === 0,
}

test('an event that is passed on is written as if it was decoded, whatever it is', async () => {
  const topic = await newInput()
  const list = fc.sample(records, { numRuns: COUNT, seed: 20_261_129 })
  await produce(list.map((one) => recordOf(topic, one)))
  const plain = await expectSame(topic, list.length)
  for (const [kind, is] of Object.entries(KINDS)) {
    const those = plain.filter((record) => {
      const { names, values } = record.headers
      return is((name) => values[names.indexOf(name)]?.toString(), record)
    })
    if (those.length < SEEN) throw new Error(`${those.length} with ${kind}`)
  }
  // Both are there; otherwise the test would show little.
  expect(plain.length).toBeGreaterThan(COUNT * 0.3)
  expect(plain.length).toBeLessThan(COUNT * 0.9)
}, 60_000)

test('when an event was received counts up to an hour before and after its record was written', async () => {
  const topic = await newInput()
  const writtenMs = Date.now()
  const distances = [-HOUR_MS - 1, -HOUR_MS, 0, HOUR_MS, HOUR_MS + 1]
  const event = { ce_specversion: '1.0', ce_id: '1', ce_source: '/', ce_type: 'type', ce_time: '2026-11-29T00:00:00Z' }
  for (const ms of distances) {
    const all = { ...event, [RECEIVED_AT]: String(writtenMs + ms) }
    const headers = Object.entries(all).map(([name, value]) => ({ [name]: value }))
    await cluster.store(producer, topic, 0, Buffer.from('{}'), null, writtenMs, headers)
  }
  const plain = await expectSame(topic, distances.length)
  expect(plain.map(({ plain, timestampMs }) => (plain?.receivedAtMs ?? 0) - timestampMs)).toEqual([
    -HOUR_MS,
    0,
    HOUR_MS,
  ])
})

test('what every service of ours writes is passed on', async () => {
  const topic = await newInput()
  const usual = {
    ce_specversion: '1.0',
    ce_id: '01a20d94-ec12-7028-a1c5-ee30e638f749',
    ce_source: '/tenants/acme',
    ce_type: 'com.github.push',
    ce_subject: 'alice',
    ce_time: '2026-11-30T12:43:13.304Z',
    'content-type': 'application/json',
    [TRACEPARENT]: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00',
    'kt-tenant': 'acme',
    [RECEIVED_AT]: String(Date.now()),
  }
  await produce([recordOf(topic, { headers: headersOf(usual), key: 'alice', value: Buffer.from('{}') })])
  expect(await expectSame(topic, 1)).toHaveLength(1)
})
