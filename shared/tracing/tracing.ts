import type { Span } from '@opentelemetry/api'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { redactor } from '../service/redact.ts'
import { Repeats } from '../service/repeats.ts'
import { within } from '../service/retry.ts'
import type { Tracing } from './spans.ts'
import { flagsOf, RANDOM, SAMPLED, type TraceContext } from './trace-context.ts'

/** A collector that is away for hours does not fill the log. */
const SAID_AGAIN_MS = 60_000

/** Of DRAIN_TIMEOUT_MS, for the last spans: what comes before needs the rest. */
const STOP_SHARE = 0.1

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
  const repeats = new Repeats(SAID_AGAIN_MS)
  const told = (message: string): void => {
    const reason = redact(message.replaceAll(endpoint, shown))
    if (repeats.isNew(reason)) log.warn({ reason, endpoint: shown }, 'span export failed')
  }
  const { KAFKA_BROKERS: brokers, OTEL_TRACES_SAMPLER_ARG: ratio, DRAIN_TIMEOUT_MS } = config
  const tracing = tracingTo(exporterTo(endpoint, told), { service, clientId, brokers, ratio }, told)
  return {
    ...tracing,
    // A collector that hangs must not make stopping late, nor fail.
    stop: () =>
      within(DRAIN_TIMEOUT_MS * STOP_SHARE, tracing.stop(), 'the last spans are not sent').catch((error: Error) =>
        told(error.message),
      ),
  }
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
