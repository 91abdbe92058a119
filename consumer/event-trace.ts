import type { Span } from '@opentelemetry/api'
import { TRACEPARENT } from '../shared/events/headers.ts'
import { generationOf } from '../shared/events/identity.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { isSampled, type TraceContext } from '../shared/tracing/trace-context.ts'
import { contextOf, exemplarOf, isSampledSpan, logIds } from '../shared/tracing/tracing.ts'
import { type Decoded, traceOf } from './decode.ts'
import type { Failure } from './retry.ts'

interface TracedJob {
  readonly record: IncomingRecord
  /** Decoded on first use. */
  readonly decoded: Decoded
}

interface Owner {
  readonly tenant: string
  readonly stream: string
}

/** What has become of an event. */
type TracedOutcome = { kind: 'dead'; failure: Failure } | { kind: 'processed' | 'retry' | 'duplicate' }

/**
 * The spans of a record's processing, from its fetch to its commit: `process`, and below it one for each attempt of a handler and one for the commit. Of an event
 * whose trace is not sampled, they begin only where they may have to be kept: with the first attempt, or when it becomes a dead letter.
 */
export class EventTrace {
  readonly #tracing: Tracing
  readonly #job: TracedJob
  readonly #owner: Owner
  readonly #group: string
  readonly #fetchedAt = performance.now()
  /** Of the event's record; undefined where another client has written none. */
  readonly #from: TraceContext | undefined
  readonly isSampled: boolean
  #span: Span | undefined
  /** An attempt has failed. */
  #hasFailed = false

  constructor(tracing: Tracing, job: TracedJob, owner: Owner, group: string) {
    this.#tracing = tracing
    this.#job = job
    this.#owner = owner
    this.#group = group
    this.#from = traceOf(job.record)
    this.isSampled = this.#from !== undefined && isSampled(this.#from)
    if (this.isSampled) this.#process()
  }

  #process(): Span {
    if (this.#span !== undefined) return this.#span
    const { record } = this.#job
    // What was redriven may be long ago, and somebody has decided it: that is another trace, which says from which one it follows.
    const isRedriven = generationOf(record.headers) > 0
    this.#span = this.#begin('process', 'process', 'consumer', isRedriven ? undefined : this.#from, {
      startedAt: this.#fetchedAt,
      follows: isRedriven ? this.#from : undefined,
    })
    this.#span.setAttributes({
      'messaging.kafka.offset': record.offset,
      'kafkatrace.tenant': this.#owner.tenant,
      'kafkatrace.stream': this.#owner.stream,
    })
    return this.#span
  }

  #begin(
    name: 'process' | 'commit',
    type: 'process' | 'settle',
    kind: 'consumer' | 'client',
    parent: TraceContext | Span | undefined,
    more: { startedAt: number; follows?: TraceContext | undefined },
  ): Span {
    const { topic, partition } = this.#job.record
    return this.#tracing.begin(
      `${name} ${topic}`,
      kind,
      parent,
      {
        ...this.#tracing.messaging,
        'messaging.operation.name': name,
        'messaging.operation.type': type,
        'messaging.destination.name': topic,
        'messaging.destination.partition.id': String(partition),
        'messaging.consumer.group.name': this.#group,
      },
      more,
    )
  }

  /** For log lines about the event: the ids of its span, or of the trace that it came with. */
  get logIds(): { traceId?: string | undefined; spanId?: string } {
    return this.#span === undefined ? { traceId: this.#from?.traceId } : logIds(this.#span)
  }

  /** For an exemplar; undefined where the trace is not sampled. */
  get sampled(): { traceId: string; spanId: string } | undefined {
    return exemplarOf(this.#span)
  }

  /**
   * Makes an attempt in a span that is the active one for the handler.
   * @param faultOf what an error means; undefined: the attempt was broken off, and has not failed
   */
  attempt<T>(
    number: number,
    handler: string,
    call: () => T | Promise<T>,
    faultOf: (error: unknown) => Failure | undefined,
  ): T | Promise<T> {
    const tracing = this.#tracing
    const span = tracing.begin(`attempt ${handler}`, 'internal', this.#process(), {
      'kafkatrace.attempt': number,
      'kafkatrace.handler': handler,
    })
    const ended = (result: T): T => {
      tracing.end(span)
      return result
    }
    const failed = (error: unknown): never => {
      const failure = faultOf(error)
      this.#hasFailed ||= failure !== undefined
      tracing.end(span, failure && faultIn(failure))
      throw error
    }
    try {
      const result = tracing.within(span, call)
      return result instanceof Promise ? result.then(ended, failed) : ended(result)
    } catch (error) {
      return failed(error)
    }
  }

  /** The event waits in `.retry` for another attempt, or for a handler. */
  waits({ reason }: Failure): void {
    this.#span?.setAttribute('kafkatrace.waits', reason)
  }

  /** The result continues the event's trace, as a child of the span that made it. */
  continueIn(output: OutgoingRecord): void {
    if (!this.isSampled || this.#span === undefined) return
    const { names, values } = output.headers
    const isSame = this.#span.spanContext().traceId === this.#from?.traceId
    const { traceparent } = contextOf(this.#span, isSame ? this.#from : undefined)
    output.headers = { names, values: values.with(names.indexOf(TRACEPARENT), traceparent) }
  }

  /** @param begunMs `performance.now()` of the beginning of the transaction with the outcome */
  committed(outcome: TracedOutcome, begunMs: number): void {
    const fault = outcome.kind === 'dead' ? faultIn(outcome.failure) : undefined
    const span = fault === undefined ? this.#span : this.#process()
    if (span === undefined) return
    // What is not exported need not be decoded.
    if (isSampledSpan(span) || this.#hasFailed || fault !== undefined) this.#describe(span, outcome.kind, begunMs)
    this.#tracing.end(span, fault)
  }

  #describe(span: Span, outcome: string, begunMs: number): void {
    const { decoded } = this.#job
    if (decoded.ok)
      span.setAttributes({
        'messaging.message.id': decoded.event.id,
        'cloudevents.event_id': decoded.event.id,
        'cloudevents.event_source': decoded.event.source,
        'cloudevents.event_type': decoded.event.type,
      })
    span.setAttribute('kafkatrace.outcome', outcome)
    this.#tracing.end(this.#begin('commit', 'settle', 'client', span, { startedAt: begunMs }))
  }

  /** The partition was revoked, or the process stops: another member processes the event. */
  abandoned(): void {
    if (this.#span === undefined) return
    this.#span.setAttribute('kafkatrace.outcome', 'abandoned')
    this.#tracing.end(this.#span)
  }
}

const faultIn = ({ reason, message }: Failure) => ({ type: reason, message })
