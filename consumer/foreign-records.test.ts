import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { headerText } from '../shared/headers.ts'
import type { HeaderValue } from '../shared/kafka/types.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { decode } from './decode.ts'
import { defineHandler } from './handlers/handler.ts'
import type { Pipeline } from './pipeline.ts'
import { startPipeline } from './test-pipeline.ts'

/** Any Kafka client may write to a stream's own topic, whatever it likes. FOREIGN_RUNS and FOREIGN_SEED play more, and others. */
const RUNS = Number(process.env.FOREIGN_RUNS ?? 200)
const SEED = Number(process.env.FOREIGN_SEED ?? 11)

const INPUT = 'kt.acme.events'
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
  running.push(startPipeline(kafka, handlers, { dedupeWindowRecords: 1_000_000 }, 2).pipeline)
  return kafka
}

const EVENT = { ce_specversion: '1.0', ce_id: '1', ce_source: '/elsewhere', ce_type: 'plain' }

function write(
  kafka: FakeKafka,
  headers: readonly (readonly [string, HeaderValue])[],
  value: Buffer | null = null,
): void {
  kafka.append({
    topic: INPUT,
    partition: 0,
    key: 'k',
    value,
    headers: { names: headers.map(([name]) => name), values: headers.map(([, text]) => text) },
  })
}

const withMore = (more: Record<string, HeaderValue>) => Object.entries({ ...EVENT, ...more })
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
    for (let record = 0; record < 3; record++) write(kafka, [['kt-origin', `${INPUT}/0/0`]])
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
      'kt-transaction': 'x:1',
      'kt-origin': 'y',
      traceparent: '00-xyz',
      tracestate: 'x'.repeat(5_000),
    }
    write(kafka, withMore(forged))
    await until(() => all(kafka, 'processed').length === 1)
    const [{ headers } = { headers: { names: [], values: [] } }] = all(kafka, 'processed')
    expect(headers.names.filter((name) => name.startsWith('kt-')).sort()).toEqual([
      'kt-context',
      'kt-received-at',
      'kt-tenant',
      'kt-transaction',
    ])
    expect(headerText(headers, 'kt-tenant')).toBe('acme')
    expect(JSON.parse(headerText(headers, 'kt-context') ?? '')).toMatchObject({ tenant: 'acme' })
    expect(headers.names).not.toContain('traceparent')
    expect(headers.names).not.toContain('tracestate')
  })
})

const NAMES = [
  ...[
    'id',
    'source',
    'type',
    'specversion',
    'subject',
    'time',
    'dataschema',
    'datacontenttype',
    'data',
    'ext',
    'Ext',
    '',
    '__proto__',
  ].map((name) => `ce_${name}`),
  ...['attempt', 'not-before', 'error', 'origin', 'transaction', 'context', 'tenant', 'received-at', 'new'].map(
    (name) => `kt-${name}`,
  ),
  ...['content-type', 'traceparent', 'tracestate', 'constructor', '', 'Content-Type', 'é'],
]
const VALUES: HeaderValue[] = [
  '',
  '1.0',
  '0',
  '-1',
  '999999999999999',
  '99999999999999999999',
  '/',
  'a',
  'a\nb',
  'é',
  '\u0000',
  '{}',
  '[]',
  '{"reason":7}',
  'application/json',
  'application/cloudevents+json',
  'application/cloudevents+json; charset=utf-16',
  'application/cloudevents-batch+json',
  'text/plain',
  '2026-01-01T00:00:00Z',
  '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'kt.acme.events/0/0',
  'kt.acme.events/0/99',
  'fails',
  null,
  Buffer.from([0xff, 0xfe]),
  'x'.repeat(20_000),
]
const BODIES = [
  '',
  '{}',
  '[]',
  'null',
  '{"specversion":"1.0","id":"s","source":"/s","type":"fails"}',
  '{"specversion":"1.0","id":"s","source":"/s","type":"t","data":{"a":[1]}}',
  '{"id":"s","id":"s"}',
  `${'['.repeat(600)}`,
  '\ufeff{}',
  '"\ud800"',
]

const header = fc.tuple(
  fc.constantFrom(...NAMES),
  fc.oneof(
    fc.constantFrom(...VALUES),
    fc.string(),
    fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes) as HeaderValue),
  ),
)
const record = fc.record({
  /** Half of them are events, whatever stands beside. */
  event: fc.option(fc.constantFrom('plain', 'fails')),
  id: fc.constantFrom('1', '2', '3'),
  headers: fc.array(header, { maxLength: 8 }),
  value: fc.option(
    fc.oneof(
      fc.constantFrom(...BODIES).map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    ),
  ),
})

test('no sequence of records stops a partition, and each event has one outcome', async () => {
  const kafka = started()
  let written = 0
  // One partition for all of them: what one sequence leaves behind is there for the next.
  await fc.assert(
    fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 30 }), async (records) => {
      for (const { event, id, headers, value } of records)
        write(
          kafka,
          [...(event === null ? [] : Object.entries({ ...EVENT, ce_id: id, ce_type: event })), ...headers],
          value,
        )
      written += records.length
      const isDone = () =>
        kafka.committedOffset(INPUT) === written &&
        kafka.committedOffset(`${INPUT}.retry`) === all(kafka, 'retry').length
      await until(isDone, { what: `the outcomes of ${written} records` })
    }),
    { numRuns: RUNS, seed: SEED, endOnFailure: true },
  )
  const identities = kafka.all(INPUT).map((one) => decode(one).identity)
  const outcomes = [
    ...all(kafka, 'processed').map((one) => decode(one).identity),
    ...all(kafka, 'dlq').map((one) => decode(one, headerText(one.headers, 'kt-origin')).identity),
  ]
  expect(outcomes.toSorted()).toEqual([...new Set(identities)].toSorted())
}, 600_000)
