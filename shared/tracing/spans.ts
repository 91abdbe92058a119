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

/**
 * OpenTelemetry spans, where `OTEL_EXPORTER_OTLP_ENDPOINT` says whereto; without it there is none of this and nothing is paid for it. Names and
 * attributes follow the semantic conventions for HTTP and messaging spans.
 */
export interface Tracing {
  /**
   * Begins a span; undefined when its parent is not sampled. One that begins a trace may turn out not to be recorded: its ids go on all the
   * same, with a flag that says so.
   */
  begin(
    name: string,
    kind: 'server' | 'consumer',
    parent: TraceContext | undefined,
    attributes: Attributes,
  ): Span | undefined
  end(span: Span, outcome: 'ok' | 'failed'): void
  /** Sends what has ended and is not sent yet. */
  stop(): Promise<void>
}

/** How long the collector may take to answer. Spans wait for it in memory, up to a number; further ones are dropped. No event waits. */
const EXPORT_TIMEOUT_MS = 5_000
const EXPORT_INTERVAL_MS = 1_000
const MAX_WAITING_SPANS = 8_192

const KINDS = { server: SpanKind.SERVER, consumer: SpanKind.CONSUMER }

/** @param told is told why span export failed */
export function exporterTo(endpoint: string, told: (reason: string) => void): SpanExporter {
  const tell = (message: string): void => told(reasonOf(message))
  const nothing = (): void => undefined
  diag.setLogger({ error: tell, warn: tell, info: nothing, debug: nothing, verbose: nothing }, DiagLogLevel.WARN)
  // OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP": the signal's path is appended to the base.
  return new OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, '')}/v1/traces`, timeoutMillis: EXPORT_TIMEOUT_MS })
}

/** The library tells an error as JSON of all its properties. */
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
      const options = { kind: KINDS[kind], attributes }
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
    // What cannot be sent any more is no reason to stop in another way.
    stop: () => provider.shutdown().catch((error: Error) => told(error.message)),
  }
}
