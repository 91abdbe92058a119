import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { type Tracing, tracingTo } from '../tracing/spans.ts'

/** Spans that are kept instead of sent; they are there once `stop` has resolved. @param ratio as OTEL_TRACES_SAMPLER_ARG */
export function keptSpans(ratio = 1): { tracing: Tracing; spans: ReadableSpan[] } {
  const spans: ReadableSpan[] = []
  const tracing = tracingTo(
    {
      export(ended, done) {
        spans.push(...ended)
        done({ code: 0 })
      },
      shutdown: async () => undefined,
    },
    { service: 'test', clientId: 'test-1', brokers: 'broker.test:9092,other.test:9093', ratio },
    (reason) => {
      throw new Error(reason)
    },
  )
  return { tracing, spans }
}

/** How a span ended, in short. */
export const shortly = ({ name, status, attributes }: ReadableSpan): string =>
  `${name}${status.code === 2 ? `: ${attributes['error.type']}` : ''}`
