import type { Attributes, Span } from '@opentelemetry/api'
import type { CommonConfig } from './config.ts'
import type { Logger } from './logger.ts'
import { redactor } from './redact.ts'
import { flagsOf, RANDOM, SAMPLED, type TraceContext } from './telemetry.ts'

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

/** @returns undefined without `OTEL_EXPORTER_OTLP_ENDPOINT` */
export async function createTracing(config: CommonConfig, service: string, log: Logger): Promise<Tracing | undefined> {
  const endpoint = config.OTEL_EXPORTER_OTLP_ENDPOINT
  if (endpoint === undefined) return undefined
  // The libraries take some 20 MB, which only those who want spans should pay.
  const { exporterTo, tracingTo } = await import('./spans.ts')
  const shown = shownEndpoint(endpoint)
  const redact = redactor()
  const told = (reason: string): void =>
    log.warn({ reason: redact(reason.replaceAll(endpoint, shown)), endpoint: shown }, 'spans were not taken')
  return tracingTo(exporterTo(endpoint, told), service, config, told)
}

/** What goes on behind a span of a trace, or behind one that begins a trace. */
export function contextOf(span: Span, trace: TraceContext | undefined): TraceContext {
  const { traceId, spanId, traceFlags } = span.spanContext()
  const flags = (traceFlags & SAMPLED) | (trace === undefined ? 0 : flagsOf(trace) & RANDOM)
  const context: TraceContext = { traceId, traceparent: `00-${traceId}-${spanId}-0${flags}` }
  if (trace?.tracestate !== undefined) context.tracestate = trace.tracestate
  return context
}

/** What a log may show of a collector's address: neither user, password nor path, in which a key may stand. */
const shownEndpoint = (endpoint: string): string => new URL(endpoint).origin
