import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { type HeaderValue, headersOf, headerText, NO_HEADERS, type RecordHeaders } from '../shared/events/headers.ts'
import { generationOf } from '../shared/events/identity.ts'
import { recordBytes } from '../shared/events/record.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { parseTraceparent } from '../shared/tracing/trace-context.ts'
import { decode, identityOf, keyOf } from './decode.ts'
import { defineHandler } from './handlers/handler.ts'
import type { Pipeline } from './pipeline.ts'
import { FOREIGN_EVENT, foreignRecord } from './testing/foreign-records.ts'
import { startPipeline } from './testing/pipeline.ts'

/** Any Kafka client may write anything to a stream's own topic. FOREIGN_RUNS and FOREIGN_SEED run more, and other, cases. */
const RUNS = Number(process.env.FOREIGN_RUNS ?? 60)
const SEED = Number(process.env.FOREIGN_SEED ?? 11)

const INPUT = 'kt.acme.events'
/** The headers that we add to a result. */
const OF_RESULTS = ['kt-context', 'kt-received-at', 'kt-tenant', 'kt-transaction']
const running: Pipeline[] = []

afterEach(async () => {
  for (const pipeline of running.splice(0)) await pipeline.stop()
})

const calls: number[] = []
const handlers = [
  defineHandler({
    type: 'fails',
    version: '1',
    schema: Type.Unknown(),
    handle: (_, { attempt }) => {
      calls.push(attempt)
      throw new Error('no')
    },
  }),
]

function started(): FakeKafka {
  const kafka = new FakeKafka()
  running.push(
    startPipeline(kafka, handlers, {
      config: { DEDUPE_WINDOW_RECORDS: 1_000_000, RETRY_FIRST_MS: 2, RETRY_MAX_MS: 4 },
    }).pipeline,
  )
  return kafka
}

function write(kafka: FakeKafka, headers: RecordHeaders, value: Buffer | null = null): void {
  kafka.append({ topic: INPUT, partition: 0, key: 'k', value, headers })
}

const withMore = (more: Record<string, HeaderValue>) => headersOf({ ...FOREIGN_EVENT, ...more })
const all = (kafka: FakeKafka, role: 'processed' | 'dlq' | 'retry') => kafka.all(`${INPUT}.${role}`)

describe('headers of ours on a record of somebody else', () => {
  test('do not keep it waiting', async () => {
    const kafka = started()
    for (const [id, notBefore] of ['999999999999999', '1e9', '-1', `${Date.now() + 1e9}`].entries())
      write(kafka, withMore({ ce_id: String(id), 'kt-not-before': notBefore }))
    await until(() => all(kafka, 'processed').length === 4)
  })

  test('do not make it another’s copy: what is no event is put aside, each of it', async () => {
    const kafka = started()
    for (let record = 0; record < 3; record++) write(kafka, headersOf({ 'kt-origin': `${INPUT}/0/0` }))
    await until(() => all(kafka, 'dlq').length === 3)
    expect(all(kafka, 'dlq').map(({ headers }) => headerText(headers, 'kt-origin'))).toEqual(
      [0, 1, 2].map((offset) => `${INPUT}/0/${offset}`),
    )
  })

  test('do not take its attempts', async () => {
    const kafka = started()
    calls.length = 0
    write(kafka, withMore({ ce_type: 'fails', 'kt-attempt': '999999' }))
    await until(() => all(kafka, 'dlq').length === 1)
    expect(calls).toEqual([1, 2, 3, 4])
  })

  test('do not come out at the other end', async () => {
    const kafka = started()
    const forged = {
      'kt-context': '{"tenant":"other"}',
      'kt-tenant': 'other',
      'kt-error': '{}',
      'kt-attempts': '[]',
      'kt-transaction': 'x:1',
      'kt-origin': 'y',
      traceparent: '00-xyz',
      tracestate: 'x'.repeat(5_000),
    }
    write(kafka, withMore(forged))
    await until(() => all(kafka, 'processed').length === 1)
    const headers = all(kafka, 'processed')[0]?.headers ?? NO_HEADERS
    expect(headers.names.filter((name) => name.startsWith('kt-')).sort()).toEqual(OF_RESULTS)
    expect(headerText(headers, 'kt-tenant')).toBe('acme')
    expect(JSON.parse(headerText(headers, 'kt-context') ?? '')).toMatchObject({ tenant: 'acme' })
    expect(headers.names).not.toContain('traceparent')
    expect(headers.names).not.toContain('tracestate')
    write(kafka, withMore({ ...forged, ce_id: '2', ce_type: 'fails', 'kt-received-at': '0' }))
    await until(() => all(kafka, 'dlq').length === 1)
    const [dead] = all(kafka, 'dlq')
    expect(dead?.headers.names.filter((name) => name.startsWith('kt-')).sort()).toEqual([
      'kt-attempt',
      'kt-attempts',
      'kt-error',
      'kt-origin',
      'kt-transaction',
    ])
    expect(headerText(dead?.headers ?? NO_HEADERS, 'kt-origin')).toBe(`${INPUT}/0/1`)
  })

  test('say when it was received only where that fits the time of the record', () => {
    const decoded = (topic: string, timestampMs: number, received: string) => {
      const headers = withMore({ 'kt-received-at': received })
      const read = decode({ topic, partition: 0, offset: 0, timestampMs, key: null, value: null, headers })
      return read.ok && read.receivedAtMs
    }
    const nowMs = Date.now()
    for (const received of [nowMs, nowMs - 60_000, nowMs + 60_000])
      expect(decoded(INPUT, nowMs, String(received))).toBe(received)
    for (const received of [0, nowMs - 86_400_000, nowMs + 86_400_000, 999_999_999_999_999])
      expect(decoded(INPUT, nowMs, String(received))).toBeUndefined()
    // Records in the topics beside the stream's own were written by us, however late.
    expect(decoded(`${INPUT}.retry`, nowMs, String(nowMs - 86_400_000))).toBe(nowMs - 86_400_000)
  })
})

describe('a record that is as large as its topic takes', () => {
  const LIMIT = 1_000_000
  interface Written {
    key: string
    value: Buffer | null
    headers: RecordHeaders
  }
  const withFilled = (more: Record<string, HeaderValue>): Written => ({
    key: 'k',
    value: null,
    headers: withMore(more),
  })
  /** Bytes of filler that make the record as large as it may be. */
  const filled = (of: (filler: string) => Written): Written =>
    of('x'.repeat(LIMIT - recordBytes({ topic: INPUT, ...of('') })))

  test.each<[string, (filler: string) => Written]>([
    ['headers', (filler) => withFilled({ filler })],
    ['headers, and no event', (filler) => ({ key: 'k', value: null, headers: headersOf({ filler }) })],
    ['headers, beside a value', (filler) => ({ ...withFilled({ filler }), value: Buffer.from('{}') })],
    ['headers, to be tried again', (filler) => withFilled({ ce_type: 'fails', filler })],
    ['key', (filler) => ({ ...withFilled({}), key: filler, value: Buffer.from('{}') })],
    ['key, and no event', (filler) => ({ key: filler, value: null, headers: headersOf({}) })],
    ['header’s name', (filler) => ({ key: 'k', value: null, headers: headersOf({ [filler]: '' }) })],
    ['attribute’s name', (filler) => withFilled({ [`ce_${filler}`]: '' })],
    [
      'attributes',
      (filler) =>
        withFilled(
          Object.fromEntries(
            Array.from({ length: 64 }, (_, at) => [`ce_a${at}`, filler.slice(at * 16_000, (at + 1) * 16_000)]),
          ),
        ),
    ],
    [
      'headers, of a structured event',
      (filler) => ({
        key: 'k',
        value: Buffer.from(JSON.stringify({ specversion: '1.0', id: 's', source: '/s', type: 't' })),
        headers: headersOf({ 'content-type': 'application/cloudevents+json', filler }),
      }),
    ],
    ['value', (filler) => ({ ...withFilled({}), value: Buffer.from(filler) })],
  ])('for its %s has its outcome, and its partition goes on', async (_, of) => {
    const kafka = started()
    // As the topics beside the stream's own do with the same `max.message.bytes`.
    kafka.refuses = (output) => (recordBytes(output) > LIMIT ? { reason: 'too large', tooLarge: true } : undefined)
    const record = { topic: INPUT, partition: 0, ...filled(of) }
    expect(recordBytes(record)).toBe(LIMIT)
    kafka.append(record)
    write(kafka, withMore({ ce_id: 'next' }))
    const outcomes = () => [...all(kafka, 'processed'), ...all(kafka, 'dlq')].map((one) => identityOf(one))
    await until(() => outcomes().length === 2)
    expect(outcomes().toSorted()).toEqual(
      kafka
        .all(INPUT)
        .map((one) => identityOf(one))
        .toSorted(),
    )
  })
})

test('long keys order records as others do, and take little while one of their events waits', () => {
  const long = Buffer.alloc(1_000_000, 'k')
  const keys = [
    null,
    Buffer.alloc(0),
    Buffer.from([0xff]),
    Buffer.from('k'),
    long,
    Buffer.from(long).fill('x', 999_999),
  ]
  const texts = keys.map((key) => keyOf({ key }))
  expect(texts[0]).toBeUndefined()
  expect(new Set(texts).size).toBe(keys.length)
  expect(keyOf({ key: Buffer.from(long) })).toBe(texts[4] ?? '')
  for (const text of texts) expect(text?.length ?? 0).toBeLessThan(300)
})

test('what headers and keys take counts among what is held', async () => {
  const kafka = new FakeKafka()
  kafka.hold = new Promise(() => undefined)
  const { pipeline } = startPipeline(kafka)
  running.push(pipeline)
  const filler = 'x'.repeat(300_000)
  kafka.append({ topic: INPUT, partition: 0, key: filler, value: null, headers: withMore({ [filler]: filler }) })
  await until(() => pipeline.levels().heldBytes > 900_000)
})

test('why a record is no event is told within bounds', async () => {
  const kafka = started()
  const names = Array.from({ length: 20_000 }, (_, at) => `ce_${at}-`)
  write(kafka, { names, values: names })
  write(kafka, headersOf({ [`ce_${'n'.repeat(100_000)}`]: Buffer.from([0xff]) }))
  await until(() => kafka.committedOffset(INPUT) === 2)
  const told = all(kafka, 'dlq').map(({ headers }) => headerText(headers, 'kt-error') ?? '')
  expect(told.map((one) => one.length > 4_000)).toEqual([false, false])
  expect(told[0]).toContain('20004 faults')
})

test('no sequence of records stops a partition, and each event has one outcome', async () => {
  const kafka = started()
  let written = 0
  // One partition for all sequences: what one leaves behind affects the next.
  await fc.assert(
    fc.asyncProperty(fc.array(foreignRecord(['plain', 'fails']), { minLength: 1, maxLength: 30 }), async (records) => {
      for (const record of records) kafka.append({ topic: INPUT, partition: 0, ...record })
      written += records.length
      const isDone = () =>
        kafka.committedOffset(INPUT) === written &&
        (all(kafka, 'retry').at(-1)?.offset ?? -1) < kafka.committedOffset(`${INPUT}.retry`)
      await until(isDone, { timeoutMs: 30_000, what: `the outcomes of ${written} records` })
    }),
    { numRuns: RUNS, seed: SEED, endOnFailure: true },
  )
  const identities = kafka.all(INPUT).map((one) => decode(one).identity)
  const outcomes = [
    ...all(kafka, 'processed').map((one) => decode(one).identity),
    ...all(kafka, 'dlq').map((one) => decode(one, headerText(one.headers, 'kt-origin')).identity),
  ]
  expect(outcomes.toSorted()).toEqual([...new Set(identities)].toSorted())
  for (const { headers } of all(kafka, 'processed')) {
    const [traceparent, tracestate] = [headerText(headers, 'traceparent'), headerText(headers, 'tracestate')]
    expect(parseTraceparent(traceparent, tracestate)?.traceparent).toBe(traceparent as string)
    expect(parseTraceparent(traceparent, tracestate)?.tracestate).toBe(tracestate as string)
    expect(new Set(headers.names).size).toBe(headers.names.length)
    // Of what others write, the generation alone counts, where it is one.
    const ofRedrive = generationOf(headers) > 0 ? ['kt-generation'] : []
    expect(headers.names.filter((name) => name.startsWith('kt-')).toSorted()).toEqual(
      [...OF_RESULTS, ...ofRedrive].toSorted(),
    )
  }
  for (const { headers } of all(kafka, 'dlq'))
    for (const name of ['kt-attempt', 'kt-error', 'kt-origin', 'kt-transaction', 'kt-context', 'kt-not-before'])
      expect([name, headers.names.filter((one) => one === name).length]).toEqual([
        name,
        name === 'kt-context' || name === 'kt-not-before' ? 0 : 1,
      ])
}, 600_000)
