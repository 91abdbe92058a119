import type { Span } from '@opentelemetry/api'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { redactor } from '../service/redact.ts'
import type { Tracing } from './spans.ts'
import { flagsOf, RANDOM, SAMPLED, type TraceContext } from './trace-context.ts'

/**
 * @param clientId of Kafka's client
 * @returns undefined without `OTEL_EXPORTER_OTLP_ENDPOINT`
 */
export async function createTracing(
  config: CommonConfig,
  service: string,
  clientId: string,
  log: Logger,
): Promise<Tracing | undefined> {
  const endpoint = config.OTEL_EXPORTER_OTLP_ENDPOINT
  if (endpoint === undefined) return undefined
  // Imported here, since the libraries take some 20 MB.
  const { exporterTo, tracingTo } = await import('./spans.ts')
  // Without user, password and path, which may contain a key.
  const shown = new URL(endpoint).origin
  const redact = redactor()
  const told = (reason: string): void =>
    log.warn({ reason: redact(reason.replaceAll(endpoint, shown)), endpoint: shown }, 'span export failed')
  const { KAFKA_BROKERS: brokers, OTEL_TRACES_SAMPLER_ARG: ratio } = config
  return tracingTo(exporterTo(endpoint, told), { service, clientId, brokers, ratio }, told)
}

/** The context of a span's children. @param trace of the span's parent; undefined for a span that begins a trace */
export function contextOf(span: Span, trace: TraceContext | undefined): TraceContext {
  const { traceId, spanId, traceFlags } = span.spanContext()
  const flags = (traceFlags & SAMPLED) | (trace === undefined ? 0 : flagsOf(trace) & RANDOM)
  const context: TraceContext = { traceId, traceparent: `00-${traceId}-${spanId}-0${flags}` }
  if (trace?.tracestate !== undefined) context.tracestate = trace.tracestate
  return context
}

/** For a log line about what a span records. */
export function logIds(span: Span | undefined): { traceId?: string; spanId?: string } {
  if (span === undefined) return {}
  const { traceId, spanId } = span.spanContext()
  return { traceId, spanId }
}

/** What a metric can name as an example; undefined where it is not to be found. */
export const exemplarOf = (span: Span | undefined): { traceId: string; spanId: string } | undefined =>
  isSampledSpan(span) ? span.spanContext() : undefined

/** Whether a span is exported even if nothing fails. */
export const isSampledSpan = (span: Span | undefined): span is Span =>
  span !== undefined && (span.spanContext().traceFlags & SAMPLED) !== 0
