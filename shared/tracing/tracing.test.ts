import { expect, test } from 'bun:test'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { InMemorySpanExporter, type ReadableSpan } from '@opentelemetry/sdk-trace'
import { tracingTo } from './spans.ts'
import { parseTraceparent, type TraceContext } from './trace-context.ts'
import { contextOf } from './tracing.ts'

const given = (flags: string): TraceContext =>
  parseTraceparent(`00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`, 'vendor=1') as TraceContext

/** The export after these spans have begun and ended. */
async function exported(ratio: number, parents: (TraceContext | undefined)[]) {
  const kept: ReadableSpan[] = []
  const exporter = new InMemorySpanExporter()
  const tracing = tracingTo(
    {
      export: (spans, done) => {
        kept.push(...spans)
        exporter.export(spans, done)
      },
      shutdown: () => exporter.shutdown(),
    },
    'test',
    { OTEL_TRACES_SAMPLER_ARG: ratio },
    (reason) => {
      throw new Error(reason)
    },
  )
  const begun = parents.map((parent) => tracing.begin('work', 'server', parent, { a: 1 }))
  for (const span of begun) if (span !== undefined) tracing.end(span, 'failed')
  await tracing.stop()
  return { begun, kept }
}

test('a span stands under its parent, with its name, kind, attributes and service', async () => {
  const { begun, kept } = await exported(0, [given('01')])
  const [span] = kept
  expect(kept).toHaveLength(1)
  expect(span?.name).toBe('work')
  expect(span?.kind).toBe(SpanKind.SERVER)
  expect(span?.status.code).toBe(SpanStatusCode.ERROR)
  expect(span?.attributes).toEqual({ a: 1 })
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
    const [span] = begun
    if (span === undefined) throw new Error('no span')
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
  const [span] = never.begun
  if (span === undefined) throw new Error('no span')
  expect(contextOf(span, undefined).traceparent).toMatch(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00$/)
})
