import { expect, test } from 'bun:test'
import { context as active, propagation, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { keptSpans, shortly } from '../testing/spans.ts'
import { parseTraceparent, type TraceContext } from './trace-context.ts'
import { contextOf } from './tracing.ts'

const given = (flags: string): TraceContext =>
  parseTraceparent(`00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`, 'vendor=1') as TraceContext

const FAULT = { type: 'not done', message: 'it was not to be' }

/** The export after these spans have begun and ended. */
async function exported(ratio: number, parents: (TraceContext | undefined)[], fault?: typeof FAULT) {
  const { tracing, spans: kept } = keptSpans(ratio)
  const begun = parents.map((parent) => tracing.begin('work', 'server', parent, { a: 1 }))
  for (const span of begun) tracing.end(span, fault)
  await tracing.stop()
  return { begun, kept }
}

test('a span stands under its parent, with its name, kind, attributes and service', async () => {
  const { begun, kept } = await exported(0, [given('01')], FAULT)
  const [span] = kept
  expect(kept).toHaveLength(1)
  expect(span?.name).toBe('work')
  expect(span?.kind).toBe(SpanKind.SERVER)
  expect(span?.status.code).toBe(SpanStatusCode.ERROR)
  expect(span?.status.message).toBe('it was not to be')
  expect(span?.attributes).toEqual({ a: 1, 'error.type': 'not done' })
  expect(span?.resource.attributes['service.name']).toBe('kafkatrace-test')
  expect(span?.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c')
  expect(span?.parentSpanContext?.spanId).toBe('b7ad6b7169203331')
  const spanId = begun[0]?.spanContext().spanId
  expect(spanId).not.toBe('b7ad6b7169203331')
})

test.each(['01', '03'])(
  'what goes on behind a span names it, and keeps the flags %s and the state of other vendors',
  async (flags) => {
    const trace = given(flags)
    const { begun } = await exported(0, [trace])
    const span = begun[0] as Span
    const { traceId, spanId } = span.spanContext()
    expect(contextOf(span, trace)).toEqual({
      traceId,
      traceparent: `00-${traceId}-${spanId}-${flags}`,
      tracestate: 'vendor=1',
    })
  },
)

test('a client’s flag decides over its own traces, the ratio over those that begin here', async () => {
  expect((await exported(1, [given('00'), given('01')])).kept).toHaveLength(1)
  expect((await exported(1, [undefined, undefined])).kept).toHaveLength(2)
  const never = await exported(0, [undefined])
  expect(never.kept).toHaveLength(0)
  expect(contextOf(never.begun[0] as Span, undefined).traceparent).toMatch(
    /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/,
  )
})

test('a trace that follows from another is one of its own, which names it and is sampled as that was', async () => {
  const { tracing, spans } = keptSpans(1)
  for (const flags of ['00', '01'])
    tracing.end(tracing.begin(flags, 'consumer', undefined, {}, { follows: given(flags) }))
  await tracing.stop()
  expect(spans.map(({ name }) => name)).toEqual(['01'])
  expect(spans[0]?.parentSpanContext).toBeUndefined()
  expect(spans[0]?.links.map(({ context }) => context)).toMatchObject([
    { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' },
  ])
  expect(spans[0]?.spanContext().traceId).not.toBe('0af7651916cd43dd8448eb211c80319c')
})

test('of a trace that is not sampled, what ended before a failure, what fails and what ends after it are kept; of one that goes well, nothing', async () => {
  const { tracing, spans } = keptSpans(0)
  for (const fault of [undefined, FAULT]) {
    const root = tracing.begin('root', 'server', given('00'), {})
    tracing.end(tracing.begin('before', 'internal', root, {}))
    tracing.end(tracing.begin('it', 'internal', root, {}), fault)
    tracing.end(tracing.begin('after', 'internal', root, {}))
    tracing.end(root)
    tracing.end(tracing.begin('late', 'internal', root, {}))
  }
  await tracing.stop()
  expect(spans.map(shortly)).toEqual(['before', 'it: not done', 'after', 'root', 'late'])
  expect(new Set(spans.map(({ attributes }) => attributes['kafkatrace.kept']))).toEqual(new Set(['failed']))
  expect(new Set(spans.map((span) => span.spanContext().traceId))).toEqual(new Set([given('00').traceId]))
})

test('of traces that are not sampled, at most 100 a second are kept, and at most 64 spans before a failure', async () => {
  const { tracing, spans } = keptSpans(0)
  const root = tracing.begin('root', 'server', undefined, {})
  for (let nth = 0; nth < 70; nth++) tracing.end(tracing.begin('before', 'internal', root, {}))
  tracing.end(root, FAULT)
  for (let nth = 0; nth < 300; nth++) tracing.end(tracing.begin('other', 'server', undefined, {}), FAULT)
  await tracing.stop()
  expect(spans.filter(({ name }) => name === 'before')).toHaveLength(64)
  const kept = spans.filter(({ name }) => name !== 'before').length
  // The clock may begin another second meanwhile.
  expect(kept).toBeGreaterThanOrEqual(100)
  expect(kept).toBeLessThanOrEqual(200)
})

test('while a function runs, and after it has awaited, its span is the active one for code that uses the API', async () => {
  const { tracing, spans } = keptSpans(1)
  tracing.activate()
  try {
    const tracer = trace.getTracer('a handler')
    const work = async (name: string): Promise<Record<string, string>> => {
      await Promise.resolve()
      const span = tracer.startSpan(name)
      await new Promise((resolve) => setTimeout(resolve, 1))
      span.end()
      const headers = {}
      propagation.inject(active.active(), headers)
      return headers
    }
    const roots = ['one', 'two'].map((name) => tracing.begin(name, 'internal', undefined, {}))
    const carried = await Promise.all(roots.map((root, nth) => tracing.within(root, () => work(`in ${nth}`))))
    expect(trace.getActiveSpan()).toBeUndefined()
    for (const root of roots) tracing.end(root)
    await tracing.stop()
    for (const [nth, root] of roots.entries()) {
      const { traceId, spanId } = root.spanContext()
      expect(carried[nth]).toEqual({ traceparent: `00-${traceId}-${spanId}-01` })
      expect(spans.find(({ name }) => name === `in ${nth}`)?.parentSpanContext?.spanId).toBe(spanId)
    }
  } finally {
    active.disable()
    trace.disable()
    propagation.disable()
  }
})
