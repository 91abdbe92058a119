import type { Event } from '../shared/events/event.ts'
import type { EventResult } from '../shared/events/event-json.ts'
import { keylessPartition } from '../shared/events/partition.ts'
import { type OutgoingRecord, toRecord } from '../shared/events/record.ts'
import type { OrProblem, Problem } from '../shared/http/problem.ts'
import { type DeliveryResult, ProduceError, type ProduceFault, type RecordProducer } from '../shared/kafka/types.ts'
import type { Version } from '../shared/schemas/catalog.ts'
import { newTraceContext, parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'
import { NOTHING_STORED, type Unit } from './problem.ts'
import type { Quotas } from './quota.ts'
import { type EventOutcome, receiptOf } from './receipt.ts'
import { REQUEST_CHECKS_MS, type StreamSchemas } from './schemas.ts'
import { invalidEvents, isValid, notTaken, type Scope, tooLarge, type ValidEvent } from './validate.ts'

/** From events of a request or a line to records in Kafka, and to what became of each. */

/** Where a tenant's events go. */
export interface Destination {
  /** With several tenants, one that has the tenant's share of the queue. */
  producer: RecordProducer
  /** Of the tenant, the stream and the key; undefined: none has one. */
  quotas: Quotas | undefined
  maxEventBytes: number
  /** undefined: events are not checked by schemas. */
  schemas: StreamSchemas | undefined
}

/** What the events of a request have in common. */
export interface Origin {
  tenant: string
  stream: string
  topic: string
  receivedAtMs: number
  /** The request's trace, from its headers. */
  trace: TraceContext | undefined
  /** Of a webhook: its source's name. */
  source?: string
  /** The request's body where it was a form, which the event's data is made of. */
  form?: string | undefined
  /** The trace of events that came without one; begun here when it is first needed. */
  begun?: TraceContext
  /** The traces that events brought themselves, for the span that sends them; undefined: there is none. */
  own?: TraceContext[]
}

export type Prepared = OrProblem<{ events: readonly ValidEvent[]; records: OutgoingRecord[] }>

/** Makes records of events if all of them are valid and may be stored; otherwise one problem for all. */
export function prepare(
  results: readonly EventResult[],
  origin: Origin,
  { producer, maxEventBytes, schemas }: Destination,
  scope: Scope,
): Prepared {
  const checked = schemas?.check(results, scope.isList, maxEventBytes)
  if (checked !== undefined && !checked.ok)
    return {
      ok: false,
      problem:
        checked.why === 'faults'
          ? invalidEvents(checked.results, scope)
          : checked.why === 'late'
            ? checkedTooLong(scope.unit)
            : schemasUnknown(scope.unit),
    }
  if (!results.every(isValid)) return { ok: false, problem: invalidEvents(results, scope) }
  const partitions = producer.partitionCount(origin.topic) ?? 1
  const areSeveral = scope.isList || scope.unit === 'line'
  const records: OutgoingRecord[] = []
  for (let index = 0; index < results.length; index++)
    records.push(
      recordOf((results[index] as ValidEvent).event, origin, partitions, checked?.versions[index], areSeveral),
    )
  const problem = tooLarge(records, maxEventBytes, scope) ?? notTaken(records, producer.settings(origin.topic), scope)
  return problem === undefined ? { ok: true, events: results, records } : { ok: false, problem }
}

/** OpenTelemetry's own limit for the links of a span. */
const MAX_LINKED_TRACES = 128

/**
 * The trace of an event: the request's, its own (CloudEvents distributed tracing extension), or one that begins here. Of several in a request, its own comes
 * first: the request's is of whoever has gathered them.
 */
function traceOf(event: Event, origin: Origin, isOneOfSeveral: boolean): TraceContext {
  if (origin.trace !== undefined && !isOneOfSeveral) return origin.trace
  const own = event.extensions['traceparent']
  const carried = own === undefined ? undefined : parseTraceparent(own, event.extensions['tracestate'])
  if (carried !== undefined) {
    if (origin.own !== undefined && origin.own.length < MAX_LINKED_TRACES) origin.own.push(carried)
    return carried
  }
  if (origin.trace !== undefined) return origin.trace
  origin.begun ??= newTraceContext()
  return origin.begun
}

/** The problem of events whose schemas cannot be told now. */
const schemasUnknown = (unit: Unit): Problem => ({
  kind: 'schema-unavailable',
  detail: `It cannot be told now which schema an event has: the schema registry cannot be reached, does not have the version yet, or has one that cannot be used, or the check takes too long now. ${NOTHING_STORED[unit]} Send the ${unit} again later, with the same ids.`,
  outcome: 'not stored',
  retryAfterSeconds: 5,
})

const checkedTooLong = (unit: Unit): Problem => ({
  kind: 'too-many-events',
  detail: `Checking the events by their schemas takes more than ${REQUEST_CHECKS_MS} ms. ${NOTHING_STORED[unit]} Send fewer events in a request.`,
})

function recordOf(
  event: Event,
  origin: Origin,
  partitions: number,
  checkedBy: Version | undefined,
  isOneOfSeveral: boolean,
): OutgoingRecord {
  const trace = traceOf(event, origin, isOneOfSeveral)
  if (checkedBy !== undefined) event.dataschema ??= checkedBy.urn
  const record = toRecord(event, {
    topic: origin.topic,
    tenant: origin.tenant,
    receivedAtMs: origin.receivedAtMs,
    traceparent: trace.traceparent,
    tracestate: trace.tracestate,
    source: origin.source,
    form: origin.form,
    schema: checkedBy?.header,
  })
  if (record.key === null) record.partition = keylessPartition(event, partitions)
  return record
}

/** Why so many records cannot be produced now; undefined when they can. Nothing has been sent then. */
export function cannotTake(
  producer: RecordProducer,
  topic: string,
  records: number,
  bytes: number,
  unit: Unit = 'request',
): Problem | undefined {
  const blocked = producer.blocked(topic)
  // Addresses of brokers and reasons of a failed log-in are for operators: in /readyz and in the log.
  if (blocked !== undefined)
    return {
      kind: 'kafka-unavailable',
      detail: `Kafka cannot take events now: ${producer.connection().state === 'connected' ? blocked : 'it cannot be reached'}. Send the ${unit} again later, with the same ids.`,
      outcome: 'not stored',
      retryAfterSeconds: 1,
    }
  const queue = producer.queue()
  if (queue.records + records > queue.maxRecords || queue.bytes + bytes > queue.maxBytes)
    return {
      kind: 'overloaded',
      detail: `Other events wait for Kafka, and there is no room for ${records} more (MAX_QUEUE_RECORDS=${queue.maxRecords}, MAX_QUEUE_BYTES=${queue.maxBytes}). Send the ${unit} again later.`,
      outcome: 'not stored',
      retryAfterSeconds: 1,
    }
  return undefined
}

/** Whether something is let in: `waitMs` 0, or else why not, and after how many ms to ask again. */
export interface Admission {
  waitMs: number
  problem?: Problem
}

const ADMITTED: Admission = { waitMs: 0 }

/** How long to wait before looking at a full queue again. */
const QUEUE_LOOK_MS = 5

/**
 * Asks for room in the queue of Kafka's client and, where there is room, for quota. The caller must produce what is let in before the event loop turns.
 * @param records that need room in the queue, `recordBytes` in all
 * @param events that count against the quota, with `bytes` of the request
 */
export function admit(
  { producer, quotas }: Destination,
  topic: string,
  records: number,
  recordBytes: number,
  events: number,
  bytes: number,
  unit: Unit,
): Admission {
  const problem = cannotTake(producer, topic, records, recordBytes, unit)
  if (problem !== undefined)
    return { waitMs: problem.kind === 'overloaded' ? QUEUE_LOOK_MS : Number.POSITIVE_INFINITY, problem }
  if (quotas === undefined) return ADMITTED
  const waitMs = quotas.take(events, bytes)
  return waitMs === 0 ? ADMITTED : { waitMs, problem: quotas.problem(events, bytes, unit) }
}

/** Faults of the record itself: sending it again is useless. */
const NEVER = new Set<ProduceFault>(['too large', 'invalid'])

const advice = (never: number, unit: Unit): string =>
  never === 0
    ? `Send the ${unit} again with the same ids: what is stored already takes effect once.`
    : `Kafka will never take ${never} of them, which have their detail below: send the others again with the same ids.`

function became(events: number, stored: number, notStored: number): string {
  if (events === 1) return notStored === 1 ? 'The event is not stored.' : 'It is unknown whether the event is stored.'
  return `Of ${events} events ${stored} are stored, ${notStored} are not, and of ${events - stored - notStored} it is unknown.`
}

/** The problem of a request, or a line, whose events were not all stored. */
export function undelivered(
  ids: readonly string[],
  results: readonly DeliveryResult[],
  stream: string,
  unit: Unit = 'request',
): Problem {
  const outcomes: EventOutcome[] = results.map((result, index) => {
    const id = ids[index] ?? ''
    return result instanceof ProduceError
      ? { id, outcome: result.outcome, detail: result.message }
      : { id, outcome: 'stored', receipt: receiptOf(id, stream, result) }
  })
  const failed = results.filter((one) => one instanceof ProduceError)
  const stored = results.length - failed.length
  const never = failed.filter((one) => NEVER.has(one.fault) && one.outcome === 'not stored')
  if (never.length === results.length)
    return never.every((one) => one.fault === 'too large')
      ? {
          kind: 'event-too-large',
          detail: `Kafka takes no events of this size (max.message.bytes). ${NOTHING_STORED[unit]}`,
        }
      : {
          kind: 'invalid-event',
          detail: `Kafka takes no such events, as one without a partitionkey or subject where the topic is compacted. ${NOTHING_STORED[unit]} (${never[0]?.message ?? ''})`,
        }
  const certain = failed.filter((one) => one.outcome === 'not stored').length
  const differ = stored > 0 || (certain > 0 && certain < failed.length)
  return {
    kind: failed.every((one) => one.fault === 'queue full') && !differ ? 'overloaded' : 'undelivered',
    detail: `${became(results.length, stored, certain)} ${advice(never.length, unit)} (${(never[0] ?? failed[0])?.message ?? ''})`,
    // Certain for the request only if it is certain for every event.
    outcome: certain === results.length ? 'not stored' : 'unknown',
    ...(differ || results.length > 1 ? { extensions: { events: outcomes } } : {}),
    retryAfterSeconds: 1,
  }
}
