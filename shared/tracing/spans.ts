import {
  type Attributes,
  type Context,
  context,
  DiagLogLevel,
  diag,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type Sampler,
  SamplingDecision,
  type SpanExporter,
  type SpanProcessor,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { flagsOf, SAMPLED, type TraceContext } from './trace-context.ts'

/** Why a span has failed: `type` is one of few values, as for a metric's label. */
export interface SpanFault {
  type: string
  message?: string
}

/**
 * OpenTelemetry spans, with names and attributes by the semantic conventions for HTTP and messaging (1.44). Used only with `OTEL_EXPORTER_OTLP_ENDPOINT`.
 * A span whose trace is not sampled is recorded all the same, and exported only if it, or another of its trace in this process, fails ({@link KeepFailed}).
 */
export interface Tracing {
  /** Attributes of each span about messages. */
  readonly messaging: Readonly<Attributes>
  /**
   * Begins a span.
   * @param parent the span above it, here or in another process; undefined: it begins a trace
   * @param more `startedAt`: `performance.now()` of its beginning, if that was earlier. `follows`: the trace that led to this one, whose flag decides over it
   */
  begin(
    name: string,
    kind: keyof typeof KINDS,
    parent: TraceContext | Span | undefined,
    attributes: Attributes,
    more?: { startedAt?: number; follows?: TraceContext | undefined },
  ): Span
  /** @param fault undefined: it has not failed */
  end(span: Span, fault?: SpanFault): void
  /** Says that a span has to do with another trace. */
  link(span: Span, to: TraceContext): void
  /** Calls a function, for which the span is the active one, also after an `await`. Needs {@link Tracing.activate}. */
  within<T>(span: Span, call: () => T): T
  /** Lets spans that other code begins with OpenTelemetry's API become children of the active one. */
  activate(): void
  /** Exports the remaining spans. */
  stop(): Promise<void>
}

export interface TracingOptions {
  /** `producer`: the service is named `kafkatrace-producer`. */
  service: string
  /** Of Kafka's client, and of this process. */
  clientId: string
  /** KAFKA_BROKERS. */
  brokers: string
  /** The fraction of traces that is sampled, of those that begin here. */
  ratio: number
}

const KINDS = {
  server: SpanKind.SERVER,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
  client: SpanKind.CLIENT,
  internal: SpanKind.INTERNAL,
} as const

/** How long the collector may take to answer. Meanwhile spans are kept in memory, and further ones dropped; events do not wait. */
const EXPORT_TIMEOUT_MS = 5_000
const EXPORT_INTERVAL_MS = 1_000
const MAX_WAITING_SPANS = 8_192

/** Of a trace that is not sampled, in this process. Further ones that end before one has failed are lost. */
const MAX_HELD_SPANS = 64

/** Traces that are not sampled and have failed: when everything fails, some are enough. */
const MAX_KEPT_TRACES_PER_SECOND = 100

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

/** @param told called with the reason when the last export fails */
export function tracingTo(
  exporter: SpanExporter,
  { service, clientId, brokers, ratio }: TracingOptions,
  told: (reason: string) => void,
): Tracing {
  const batches = new BatchSpanProcessor({
    exporter,
    scheduledDelayMillis: EXPORT_INTERVAL_MS,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS,
    maxQueueSize: MAX_WAITING_SPANS,
  })
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': `kafkatrace-${service}`, 'service.instance.id': clientId }),
    sampler: recordingAll(ratio),
    spanProcessors: [new KeepFailed(batches)],
  })
  const tracer = provider.getTracer('kafkatrace')
  return {
    messaging: { 'messaging.system': 'kafka', 'messaging.client.id': clientId, ...serverIn(brokers) },
    begin(name, kind, parent, attributes, { startedAt = performance.now(), follows } = {}) {
      const links = follows === undefined ? [] : [{ context: remote(follows) }]
      return tracer.startSpan(
        name,
        { kind: KINDS[kind], attributes, startTime: startedAt, links },
        contextBelow(parent),
      )
    },
    end(span, fault) {
      if (fault !== undefined) {
        span.setAttribute('error.type', fault.type)
        span.setStatus({ code: SpanStatusCode.ERROR, ...(fault.message !== undefined && { message: fault.message }) })
      }
      span.end(performance.now())
    },
    link: (span, to) => void span.addLink({ context: remote(to) }),
    within: (span, call) => context.with(trace.setSpan(ROOT_CONTEXT, span), call),
    activate() {
      context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
      trace.setGlobalTracerProvider(provider)
      propagation.setGlobalPropagator(new W3CTraceContextPropagator())
    },
    // A failed export must not make stopping fail.
    stop: () => provider.shutdown().catch((error: Error) => told(error.message)),
  }
}

/** The first broker: which one a record goes to is the client's business. */
function serverIn(brokers: string): Attributes {
  const [first = ''] = brokers.split(',')
  const colon = first.lastIndexOf(':')
  return {
    'server.address': first.slice(0, colon).replace(/^\[|\]$/g, ''),
    'server.port': Number(first.slice(colon + 1)),
  }
}

function contextBelow(parent: TraceContext | Span | undefined): Context {
  if (parent === undefined) return ROOT_CONTEXT
  return 'traceparent' in parent
    ? trace.setSpanContext(ROOT_CONTEXT, remote(parent))
    : trace.setSpan(ROOT_CONTEXT, parent)
}

function remote(parent: TraceContext): SpanContext {
  const [, traceId = '', spanId = ''] = parent.traceparent.split('-')
  return { traceId, spanId, traceFlags: flagsOf(parent) & SAMPLED, isRemote: true }
}

/** Follows the flag of the parent, or of the trace that led to this one; decides by the ratio where there is neither. What is not sampled is recorded. */
function recordingAll(ratio: number): Sampler {
  const begun = new TraceIdRatioBasedSampler(ratio)
  return {
    shouldSample(above, traceId, _name, _kind, _attributes, [link]) {
      const from = trace.getSpanContext(above) ?? link?.context
      const isSampled =
        from === undefined
          ? begun.shouldSample(above, traceId).decision === SamplingDecision.RECORD_AND_SAMPLED
          : (from.traceFlags & TraceFlags.SAMPLED) !== 0
      return { decision: isSampled ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.RECORD }
    },
    toString: () => `recording all, sampling ${begun}`,
  }
}

/** The spans of a trace in this process, below the one that has its parent elsewhere or none. */
interface Local {
  readonly root: unknown
  fate: 'open' | 'kept' | 'dropped'
  /** That have ended, while none has failed. */
  held: ReadableSpan[]
}

/**
 * Exports the spans of sampled traces. Of others, it holds the spans of this process until one of them fails: then it exports those, and all that end later.
 * They are dropped when their root ends well. What other processes recorded of the trace is not known here, and is exported only if it failed there, too.
 */
class KeepFailed implements SpanProcessor {
  readonly #locals = new WeakMap<object, Local>()
  readonly #exports: SpanProcessor
  #second = 0
  #kept = 0

  constructor(exports: SpanProcessor) {
    this.#exports = exports
  }

  onStart(span: Parameters<SpanProcessor['onStart']>[0], above: Context): void {
    if (isExported(span.spanContext())) return
    const parent = trace.getSpan(above)
    const local = parent && this.#locals.get(parent)
    this.#locals.set(span, local ?? { root: span, fate: 'open', held: [] })
  }

  onEnd(span: ReadableSpan): void {
    const local = this.#locals.get(span)
    if (local === undefined) {
      this.#exports.onEnd(span)
      return
    }
    if (local.fate === 'open' && span.status.code === SpanStatusCode.ERROR) {
      local.fate = this.#mayKeep() ? 'kept' : 'dropped'
      if (local.fate === 'kept') for (const earlier of local.held) this.#exports.onEnd(asSampled(earlier))
      local.held = []
    }
    if (local.fate === 'kept') this.#exports.onEnd(asSampled(span))
    else if (span === local.root) {
      local.fate = 'dropped'
      local.held = []
    } else if (local.fate === 'open' && local.held.length < MAX_HELD_SPANS) local.held.push(span)
  }

  #mayKeep(): boolean {
    const second = Math.floor(performance.now() / 1_000)
    if (second !== this.#second) this.#kept = 0
    this.#second = second
    return ++this.#kept <= MAX_KEPT_TRACES_PER_SECOND
  }

  forceFlush(): Promise<void> {
    return this.#exports.forceFlush()
  }

  shutdown(): Promise<void> {
    return this.#exports.shutdown()
  }
}

const isExported = ({ traceFlags }: SpanContext): boolean => (traceFlags & TraceFlags.SAMPLED) !== 0

/** Only sampled spans are exported. The attribute tells these from others, so that shares and rates can be counted without them. */
const asSampled = (span: ReadableSpan): ReadableSpan =>
  Object.create(span, {
    spanContext: { value: () => ({ ...span.spanContext(), traceFlags: TraceFlags.SAMPLED }) },
    attributes: { value: { ...span.attributes, 'kafkatrace.kept': 'failed' } },
  }) as ReadableSpan
