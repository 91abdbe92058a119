import {
  type Attributes,
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { CommonConfig } from '../service/config.ts'
import { isSampled, type TraceContext } from './trace-context.ts'

/** OpenTelemetry spans, with names and attributes by the semantic conventions for HTTP and messaging. Used only with `OTEL_EXPORTER_OTLP_ENDPOINT`. */
export interface Tracing {
  /** Begins a span; undefined when its parent is not sampled. A span that begins a trace may be unsampled; its ids are passed on all the same. */
  begin(
    name: string,
    kind: 'server' | 'consumer',
    parent: TraceContext | undefined,
    attributes: Attributes,
  ): Span | undefined
  end(span: Span, outcome: 'ok' | 'failed'): void
  /** Exports the remaining spans. */
  stop(): Promise<void>
}

/** How long the collector may take to answer. Meanwhile spans are kept in memory, and further ones dropped; events do not wait. */
const EXPORT_TIMEOUT_MS = 5_000
const EXPORT_INTERVAL_MS = 1_000
const MAX_WAITING_SPANS = 8_192

/** @param told called with the reason when an export fails */
export function exporterTo(endpoint: string, told: (reason: string) => void): SpanExporter {
  const tell = (message: string): void => told(reasonOf(message))
  const nothing = (): void => undefined
  diag.setLogger({ error: tell, warn: tell, info: nothing, debug: nothing, verbose: nothing }, DiagLogLevel.WARN)
  // OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP": the signal's path is appended to the base.
  return new OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, '')}/v1/traces`, timeoutMillis: EXPORT_TIMEOUT_MS })
}

/** The library reports an error as JSON of all its properties. */
function reasonOf(message: string): string {
  try {
    const { message: reason } = JSON.parse(message) as { message?: unknown }
    return typeof reason === 'string' ? reason : message
  } catch {
    return message
  }
}

export function tracingTo(
  exporter: SpanExporter,
  service: string,
  { OTEL_TRACES_SAMPLER_ARG: ratio }: Pick<CommonConfig, 'OTEL_TRACES_SAMPLER_ARG'>,
  told: (reason: string) => void,
): Tracing {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': `kafkatrace-${service}` }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        scheduledDelayMillis: EXPORT_INTERVAL_MS,
        exportTimeoutMillis: EXPORT_TIMEOUT_MS,
        maxQueueSize: MAX_WAITING_SPANS,
      }),
    ],
  })
  const tracer = provider.getTracer('kafkatrace')
  return {
    begin(name, kind, parent, attributes) {
      const options = { kind: kind === 'server' ? SpanKind.SERVER : SpanKind.CONSUMER, attributes }
      if (parent === undefined) return tracer.startSpan(name, options, ROOT_CONTEXT)
      if (!isSampled(parent)) return undefined
      const [, traceId = '', spanId = ''] = parent.traceparent.split('-')
      const remote = { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
      return tracer.startSpan(name, options, trace.setSpanContext(ROOT_CONTEXT, remote))
    },
    end(span, outcome) {
      if (outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    },
    // A failed export must not make stopping fail.
    stop: () => provider.shutdown().catch((error: Error) => told(error.message)),
  }
}
