import { expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { toRecord } from '../shared/events/record.ts'
import { redactor } from '../shared/service/redact.ts'
import { until } from '../shared/testing/until.ts'
import { Decider } from './decide.ts'
import { createEnricher } from './enrich.ts'
import { type Handler, handlerIndex } from './handlers/handler.ts'
import { createMetrics } from './metrics.ts'
import { Held, Partition } from './partition-state.ts'
import { testConfig } from './testing/pipeline.ts'

const INPUT = 'kt.acme.events'

/** The first log line about an event of type "a" with this handler. */
async function logged(handle: Handler['handle'], type = 'a'): Promise<Record<string, unknown>> {
  const lines: Record<string, unknown>[] = []
  const decider = new Decider({
    metrics: createMetrics(),
    tracing: undefined,
    log: pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) }),
    hasOtherTenants: () => false,
    onDecided: () => undefined,
    onFailed: () => undefined,
    enrich: createEnricher({ nowMs: Date.now }),
    handlerOf: handlerIndex([{ type, version: '1', schema: Type.Unknown(), handle }]),
    config: testConfig({ QUICK_ATTEMPTS: 1, MAX_ATTEMPTS: 2, RETRY_FIRST_MS: 1, RETRY_MAX_MS: 1, UNHANDLED: 'hold' }),
    redact: redactor(),
    nowMs: Date.now,
  })
  const partition = new Partition(INPUT, 0, 'acme', 'events', 1_000, new Held())
  const [inputAt, retryAt] = partition.both
  const beginning = { offset: 0, done: new Set<number>(), missing: [] }
  const { input } = partition.read({
    input: { ...inputAt, ...beginning },
    retry: { ...retryAt, ...beginning },
    waiting: [],
    unknown: 0,
    skipped: 0,
    fresh: undefined,
    foreign: false,
    doubtful: false,
  })
  const { headers } = toRecord(
    {
      id: '1',
      source: '/test',
      type: 'a',
      extensions: {},
      data: Buffer.from('{}'),
      datacontenttype: 'application/json',
    },
    { topic: INPUT, partition: 0, tenant: 'acme', receivedAtMs: 0 },
  )
  const record = { topic: INPUT, partition: 0, offset: 0, timestampMs: 0, key: null, value: Buffer.from('{}'), headers }
  const place = input.add(record)
  if (place === undefined) throw new Error('there is nothing to be done with the record')
  decider.take(record, input, place)
  await until(() => lines.length > 0)
  return lines[0] as Record<string, unknown>
}

test.each([
  ['at once', (error: Error) => Promise.reject(error)],
  [
    'later',
    async (error: Error) => {
      await Bun.sleep(1)
      throw error
    },
  ],
])('what a handler has thrown %s is logged with where, without credentials, and within bounds', async (_, fail) => {
  const line = await logged(() => fail(new TypeError(`no: password=hunter2 ${'x'.repeat(5_000)}`)))
  expect(line).toMatchObject({ msg: 'attempts failed; moved to .retry', reason: 'handler failed', eventId: '1' })
  expect(line['stack']).toMatch(/^at .*decide\.test\.ts:\d+:\d+/)
  expect(JSON.stringify(line)).not.toContain('hunter2')
  expect(JSON.stringify(line).length).toBeLessThan(3_000)
})

test('what a call of a handler has thrown is logged with where', async () => {
  const line = await logged(() => ({ data: (1).toFixed(1_000) }))
  expect(line['stack']).toContain('decide.test.ts')
})

test.each([
  ['a text', 'a text'],
  ['an object that has another stack', { stack: 'password=hunter2' }],
])('%s that is thrown says of no place', async (_, thrown) => {
  const line = await logged(() => Promise.reject(thrown))
  expect([line['msg'], line['stack']]).toEqual(['attempts failed; moved to .retry', undefined])
})

test('an event that no handler has tried is not logged as one that failed', async () => {
  const line = await logged(() => ({ data: {} }), 'another')
  expect(line).toMatchObject({ msg: 'moved to .retry', reason: 'no handler' })
})

test('a result that is none has no place', async () => {
  const line = await logged(() => ({ data: undefined }))
  expect(line).toMatchObject({ msg: 'dead letter', reason: 'invalid result' })
  expect(line['stack']).toBeUndefined()
})
