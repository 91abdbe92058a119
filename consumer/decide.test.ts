import { expect, test } from 'bun:test'
import { SpanKind } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { GENERATION, headerText, SCHEMA, TRACEPARENT, withHeaders } from '../shared/events/headers.ts'
import { type IncomingRecord, toRecord } from '../shared/events/record.ts'
import { redactor } from '../shared/service/redact.ts'
import { keptSpans, shortly } from '../shared/testing/spans.ts'
import { until } from '../shared/testing/until.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { Decider } from './decide.ts'
import { createContextStart, createEnricher } from './enrich.ts'
import { type Handler, handlerIndex } from './handlers/handler.ts'
import { createMetrics } from './metrics.ts'
import { Held, type Item, Partition } from './partition-state.ts'
import { plainOf } from './testing/passing.ts'
import { testConfig } from './testing/pipeline.ts'

const INPUT = 'kt.acme.events'

/** The first line that is logged of an event with this handler. */
const logged = (handle: Handler['handle']): Promise<Record<string, unknown>> =>
  loggedOf(1, [{ type: 'a', version: '1', schema: Type.Unknown(), handle }])

interface Given {
  handlers?: readonly Handler[]
  UNHANDLED?: 'pass' | 'hold' | 'dead-letter'
  quickAttempts?: number
  tracing?: Tracing
}

/** Decides records of a partition of the input. */
function createDecider({ handlers = [], UNHANDLED = 'pass', quickAttempts = 1, tracing }: Given) {
  const lines: Record<string, unknown>[] = []
  const decided: Item[] = []
  const decider = new Decider({
    metrics: createMetrics(),
    tracing,
    log: pino({ base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) }),
    hasOtherTenants: () => false,
    onDecided: (item) => decided.push(item),
    onFailed: () => undefined,
    enrich: createEnricher({ nowMs: Date.now }),
    contextStart: createContextStart(Date.now),
    handlerOf: handlerIndex(handlers),
    config: testConfig({
      UNHANDLED,
      QUICK_ATTEMPTS: quickAttempts,
      MAX_ATTEMPTS: 2,
      RETRY_FIRST_MS: 1,
      RETRY_MAX_MS: 1,
    }),
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
  const take = (record: IncomingRecord): void => {
    const place = input.add(record)
    if (place === undefined) throw new Error('there is nothing to be done with the record')
    decider.take(record, input, place)
  }
  const commit = (): void => {
    for (const item of decided) decider.committed(item, performance.now())
  }
  return { lines, decided, partition, take, commit }
}

/** An event of a key that all have. */
function recordOf(offset: number, traceparent?: string): IncomingRecord {
  const { headers } = toRecord(
    {
      id: String(offset + 1),
      source: '/test',
      type: 'a',
      extensions: {},
      data: Buffer.from('{}'),
      datacontenttype: 'application/json',
    },
    { topic: INPUT, partition: 0, tenant: 'acme', receivedAtMs: 0, traceparent },
  )
  const value = Buffer.from('{}')
  return { topic: INPUT, partition: 0, offset, timestampMs: 0, key: Buffer.from('k'), value, headers }
}

/** The last line that is logged of so many events of one key. */
async function loggedOf(
  events: number,
  handlers: readonly Handler[],
  UNHANDLED: 'pass' | 'hold' = 'pass',
): Promise<Record<string, unknown>> {
  const { lines, take } = createDecider({ handlers, UNHANDLED })
  for (let offset = 0; offset < events; offset++) take(recordOf(offset))
  await until(() => lines.length >= events)
  return lines[events - 1] as Record<string, unknown>
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

test('a result that is none has no place', async () => {
  const line = await logged(() => ({ data: undefined }))
  expect(line).toMatchObject({ msg: 'dead letter', reason: 'invalid result' })
  expect(line['stack']).toBeUndefined()
})

test('an event that moves to .retry without an attempt is not said to have failed', async () => {
  expect(await loggedOf(1, [], 'hold')).toMatchObject({ msg: 'moved to .retry', reason: 'no handler', eventId: '1' })
  const behind = { msg: 'moved to .retry', reason: 'waits behind its key', eventId: '2' }
  expect(await loggedOf(2, [], 'hold')).toMatchObject(behind)
  const handler: Handler = { type: 'a', version: '1', schema: Type.Unknown(), takes: 3, handle: () => ({ data: 1 }) }
  const { lines, take } = createDecider({ handlers: [handler] })
  const record = recordOf(0)
  take({ ...record, headers: withHeaders(record.headers, { [SCHEMA]: 'acme.events-a/4' }) })
  await until(() => lines.length === 1)
  expect(lines[0]).toMatchObject({ msg: 'moved to .retry', reason: 'newer schema', eventId: '1' })
})

const parentOf = (flags: '00' | '01'): string => `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-${flags}`

test('an event whose trace is sampled is decoded, since its result continues the trace behind its span; others are passed on', () => {
  const { tracing } = keptSpans()
  const outcomesOf = (given: Given): unknown[] => {
    const { decided, partition, take } = createDecider(given)
    for (const [offset, traceparent] of [undefined, parentOf('00'), parentOf('01')].entries()) {
      const record = recordOf(offset, traceparent)
      take({ ...record, plain: plainOf(record) })
    }
    expect(partition.dedupe.size).toBe(3)
    return decided.map(({ outcome }) => {
      if (outcome?.kind !== 'processed') return outcome
      return 'passed' in outcome.output ? 'passed' : headerText(outcome.output.headers, TRACEPARENT)
    })
  }
  expect(outcomesOf({})).toEqual(['passed', 'passed', 'passed'])
  const traced = outcomesOf({ tracing })
  expect(traced).toEqual(['passed', 'passed', expect.stringMatching(/^00-4bf92f3577b34da6a3ce929d0e0e4736-.{16}-01$/)])
  expect(traced[2]).not.toBe(parentOf('01'))
})

/** A handler that fails so often. */
function failingHandler(times: number): Handler {
  let left = times
  const handle = async () => {
    await Promise.resolve()
    if (left-- > 0) throw new Error('no: password=hunter2')
    return { data: 1 }
  }
  return { type: 'a', version: '1', schema: Type.Unknown(), handle }
}

/** The spans of an event's processing, by a tracing that samples none that begin here. */
async function spansOf(record: IncomingRecord, given: Given): Promise<ReadableSpan[]> {
  const { tracing, spans } = keptSpans(0)
  const { decided, take, commit } = createDecider({ ...given, tracing })
  take(record)
  await until(() => decided.length === 1)
  commit()
  await tracing.stop()
  return spans
}

const PROCESS = 'process kt.acme.events'
const COMMIT = 'commit kt.acme.events'

test('the processing of a sampled event is a span below the one that sent it, and has one for each attempt and one for the commit', async () => {
  const spans = await spansOf(recordOf(0, parentOf('01')), { handlers: [failingHandler(1)], quickAttempts: 2 })
  expect(spans.map(shortly)).toEqual(['attempt a@1: handler failed', 'attempt a@1', COMMIT, PROCESS])
  const [failed, second, commit, process] = spans
  expect(process?.kind).toBe(SpanKind.CONSUMER)
  expect(process?.parentSpanContext?.spanId).toBe('00f067aa0ba902b7')
  expect(process?.attributes).toEqual({
    'messaging.system': 'kafka',
    'messaging.client.id': 'test-1',
    'messaging.operation.name': 'process',
    'messaging.operation.type': 'process',
    'messaging.destination.name': INPUT,
    'messaging.destination.partition.id': '0',
    'messaging.consumer.group.name': 'kafkatrace',
    'messaging.kafka.offset': 0,
    'messaging.message.id': '1',
    'server.address': 'broker.test',
    'server.port': 9092,
    'cloudevents.event_id': '1',
    'cloudevents.event_source': '/test',
    'cloudevents.event_type': 'a',
    'kafkatrace.tenant': 'acme',
    'kafkatrace.stream': 'events',
    'kafkatrace.outcome': 'processed',
  })
  expect(commit?.kind).toBe(SpanKind.CLIENT)
  expect(commit?.attributes).toMatchObject({
    'messaging.operation.name': 'commit',
    'messaging.operation.type': 'settle',
  })
  for (const below of [failed, second, commit])
    expect(below?.parentSpanContext?.spanId).toBe(process?.spanContext().spanId ?? '')
  expect([failed, second].map((span) => span?.attributes['kafkatrace.attempt'])).toEqual([1, 2])
  expect(second?.attributes['kafkatrace.handler']).toBe('a@1')
  expect(failed?.status.message).toContain('no: ')
  expect(JSON.stringify(failed?.status)).not.toContain('hunter2')
})

test('of events that are not sampled, the spans of those are kept that have failed, and lines about them name their trace', async () => {
  for (const traceparent of [undefined, parentOf('00')]) {
    expect(await spansOf(recordOf(0, traceparent), { handlers: [failingHandler(0)] })).toEqual([])
    expect(await spansOf(recordOf(0, traceparent), {})).toEqual([])
    const retried = await spansOf(recordOf(0, traceparent), { handlers: [failingHandler(1)] })
    expect(retried.map(shortly)).toEqual(['attempt a@1: handler failed', COMMIT, PROCESS])
    const dead = await spansOf(recordOf(0, traceparent), { UNHANDLED: 'dead-letter' })
    expect(dead.map(shortly)).toEqual([COMMIT, `${PROCESS}: no handler`])
    expect(dead[1]?.attributes).toMatchObject({ 'kafkatrace.outcome': 'dead', 'messaging.message.id': '1' })
  }
  const { tracing, spans } = keptSpans(0)
  const { lines, take, commit } = createDecider({ handlers: [failingHandler(1)], tracing })
  take(recordOf(0, parentOf('00')))
  await until(() => lines.length === 1)
  commit()
  await tracing.stop()
  const { traceId, spanId } = spans.at(-1)?.spanContext() ?? {}
  expect(traceId).toBe('4bf92f3577b34da6a3ce929d0e0e4736')
  expect(lines[0]).toMatchObject({ traceId, spanId })
})

test('a redriven event is processed in a trace of its own, which names that of the event', async () => {
  const record = recordOf(0, parentOf('01'))
  const headers = withHeaders(record.headers, { [GENERATION]: '1' })
  const spans = await spansOf({ ...record, headers }, {})
  const process = spans.at(-1)
  expect(process?.name).toBe(PROCESS)
  expect(process?.parentSpanContext).toBeUndefined()
  expect(process?.links.map(({ context }) => context)).toMatchObject([
    { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' },
  ])
})

test('an event that could be passed on waits for the handler of an earlier one of its key, and for no other', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const handler: Handler = {
    type: 'b',
    version: '1',
    schema: Type.Unknown(),
    async handle() {
      await promise
      return { data: 1 }
    },
  }
  const { decided, take } = createDecider({ handlers: [handler] })
  const first = recordOf(0)
  const ofHandler = { ...first, headers: { ...first.headers, values: first.headers.values.with(3, 'b') } }
  const others = [{ ...recordOf(1), key: Buffer.from('other') }, recordOf(2)]
  for (const record of [ofHandler, ...others]) take({ ...record, plain: plainOf(record) })
  const offsets = (): number[] => decided.map(({ place }) => place.offset)
  expect(offsets()).toEqual([1])
  resolve()
  await until(() => decided.length === 3)
  expect(offsets()).toEqual([1, 0, 2])
})
