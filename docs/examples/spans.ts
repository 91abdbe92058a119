/**
 * A handler with spans of its own, which asks another service in the event's trace. Run it with
 * `PRICES_URL=http://localhost:3000 OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 bun run dev --handlers docs/examples/spans.ts`.
 */
import { context, propagation, SpanStatusCode, trace } from '@opentelemetry/api'
import { defineHandler, RetryableError, Type } from 'kafkatrace'

const tracer = trace.getTracer('orders')

/** The price of an item, in a span below the one of the attempt. */
const priceOf = (item: string, signal: AbortSignal): Promise<number> =>
  tracer.startActiveSpan('GET price', async (span) => {
    try {
      const headers: Record<string, string> = {}
      // The other service's spans stand below this one.
      propagation.inject(context.active(), headers)
      const url = `${process.env['PRICES_URL']}/${encodeURIComponent(item)}`
      const answer = await fetch(url, { headers, signal })
      span.setAttribute('http.response.status_code', answer.status)
      if (!answer.ok) throw new RetryableError(`prices: ${answer.status}`)
      return Number(await answer.text())
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) })
      throw error
    } finally {
      span.end()
    }
  })

export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '1',
    schema: Type.Object({ item: Type.String(), count: Type.Integer({ minimum: 1 }) }),
    async handle({ item, count }, { signal }) {
      return { type: 'order.priced', data: { item, count, total: count * (await priceOf(item, signal)) } }
    },
  }),
]
