import type { Event } from '../shared/event.ts'
import { type OutgoingRecord, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { keylessPartition, recordKey } from '../shared/partition.ts'
import { toRecord } from '../shared/record.ts'
import { newTraceContext, parseTraceparent, type TraceContext } from '../shared/telemetry.ts'
import type { Problem } from './problem.ts'
import { type EventOutcome, type Receipt, receiptOf } from './receipt.ts'

/** Events to Kafka, and what became of each. */

/** What all events of a request have in common. */
export interface Origin {
  tenant: string
  stream: string
  topic: string
  receivedAtMs: number
  /** The trace that the request belongs to, as its headers say. */
  trace: TraceContext | undefined
  /** The trace that began here because nobody had begun one; made when it is first needed. */
  begun?: TraceContext
}

/** The trace that an event goes on with: the request's, its own (CloudEvents distributed tracing extension), or one that begins here. */
export function traceOf(event: Event, origin: Origin): TraceContext {
  if (origin.trace !== undefined) return origin.trace
  const own = event.extensions['traceparent']
  const carried = own === undefined ? undefined : parseTraceparent(own, event.extensions['tracestate'])
  if (carried !== undefined) return carried
  origin.begun ??= newTraceContext()
  return origin.begun
}

/** An event's record, ready to be sent. `partitions`: the topic's. */
export function recordOf(event: Event, origin: Origin, trace: TraceContext, partitions: number): OutgoingRecord {
  const at = {
    topic: origin.topic,
    tenant: origin.tenant,
    receivedAtMs: origin.receivedAtMs,
    traceparent: trace.traceparent,
    ...(trace.tracestate === undefined ? {} : { tracestate: trace.tracestate }),
  }
  return toRecord(event, recordKey(event) === null ? { ...at, partition: keylessPartition(event, partitions) } : at)
}

/** Why nothing can be taken at this moment; undefined when so much can. Certain and immediate: nothing has been sent. */
export function cannotTake(
  producer: RecordProducer,
  topic: string,
  load: { records: number; bytes: number },
): Problem | undefined {
  const connection = producer.connection()
  if (connection.state !== 'connected')
    return unavailable(connection.state === 'connecting' ? connection.reason : 'the connection is closed')
  if (producer.partitionCount(topic) === undefined) return unavailable(`the topic ${topic} is not there (yet)`)
  const queue = producer.queue()
  if (queue.records + load.records > queue.maxRecords || queue.bytes + load.bytes > queue.maxBytes)
    return {
      kind: 'overloaded',
      detail: `${queue.records} records wait for Kafka, and there is no room for ${load.records} more (MAX_QUEUE_RECORDS=${queue.maxRecords}, MAX_QUEUE_BYTES=${queue.maxBytes}). Send the request again later.`,
      outcome: 'not stored',
      retryAfterSeconds: 1,
    }
  return undefined
}

const unavailable = (reason: string): Problem => ({
  kind: 'kafka-unavailable',
  detail: `Kafka cannot take events now: ${reason}. Send the request again later, with the same ids.`,
  outcome: 'not stored',
  retryAfterSeconds: 1,
})

export type Delivered = { ok: true; receipt: Receipt } | { ok: false; error: ProduceError }

/** Sends the records of these events. Never rejects for an expected reason. */
export async function deliver(
  producer: RecordProducer,
  records: readonly OutgoingRecord[],
  events: readonly Event[],
  stream: string,
): Promise<Delivered[]> {
  const results = await producer.produce(records)
  return results.map((result, index) =>
    result instanceof ProduceError
      ? { ok: false, error: result }
      : { ok: true, receipt: receiptOf(events[index]?.id ?? '', stream, result) },
  )
}

/** The problem of a request whose events were not all stored. */
export function undelivered(events: readonly Event[], results: readonly Delivered[]): Problem {
  const outcomes: EventOutcome[] = results.map((result, index) => {
    const id = events[index]?.id ?? ''
    return result.ok
      ? { id, outcome: 'stored', receipt: result.receipt }
      : { id, outcome: result.error.outcome, detail: result.error.message }
  })
  const failed = results.flatMap((one) => (one.ok ? [] : one.error))
  const stored = results.length - failed.length
  // Smaller than our limit and larger than the topic's: sending it again helps nobody.
  if (stored === 0 && failed.every((one) => one.fault === 'too large' && one.outcome === 'not stored'))
    return {
      kind: 'event-too-large',
      detail: 'Kafka takes no events of this size (max.message.bytes). Nothing of the request was stored.',
    }
  const certain = failed.filter((one) => one.outcome === 'not stored').length
  const differ = stored > 0 || (certain > 0 && certain < failed.length)
  return {
    kind: failed.every((one) => one.fault === 'queue full') && !differ ? 'overloaded' : 'undelivered',
    detail: `Of ${results.length} events ${stored} are stored, ${certain} are not, and of ${failed.length - certain} it is unknown. Send the request again with the same ids: what is stored already takes effect once. (${failed[0]?.message ?? ''})`,
    // Of the request as a whole it is certain only when it is of every event.
    outcome: certain === results.length ? 'not stored' : 'unknown',
    ...(differ || results.length > 1 ? { events: outcomes } : {}),
    retryAfterSeconds: 1,
  }
}
