import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import fc from 'fast-check'
import { headersOf, headerText } from '../shared/headers.ts'
import type { HeaderValue, RecordHeaders } from '../shared/kafka/types.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { decode } from './decode.ts'
import { defineHandler } from './handlers/handler.ts'
import type { Pipeline } from './pipeline.ts'
import { FOREIGN_EVENT, foreignRecord } from './test-foreign-records.ts'
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

test('no sequence of records stops a partition, and each event has one outcome', async () => {
  const kafka = started()
  let written = 0
  // One partition for all of them: what one sequence leaves behind is there for the next.
  await fc.assert(
    fc.asyncProperty(fc.array(foreignRecord(['plain', 'fails']), { minLength: 1, maxLength: 30 }), async (records) => {
      for (const { headers, value } of records) write(kafka, headers, value)
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
}, 600_000)
