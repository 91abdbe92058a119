import type { Event } from '../shared/events/event.ts'
import { type IncomingRecord, type OutgoingRecord, toRecord } from '../shared/events/record.ts'
import { siblingTopic } from '../shared/events/topics.ts'
import { traceOf } from './decode.ts'
import { type Context, writtenMs } from './enrich.ts'
import type { Result } from './handlers/attempt.ts'

/**
 * The record in `.processed`: a CloudEvent with the `id` and `source` of the one that came in and, where a handler made something of it, that
 * as its data; on the same partition, with the context in a header of its own so that data passes through byte for byte.
 */
export function processedRecord(
  record: IncomingRecord,
  event: Event,
  input: string,
  context: Context,
  handled: Result | undefined,
): OutgoingRecord {
  const result = handled === undefined ? event : resultEvent(event, handled)
  const trace = traceOf(record)
  const made = toRecord(result, {
    topic: siblingTopic(input, 'processed'),
    partition: record.partition,
    tenant: context.tenant,
    receivedAtMs: context.receivedAtMs ?? writtenMs(record.timestampMs, context),
    traceparent: trace?.traceparent,
    tracestate: trace?.tracestate,
    context: JSON.stringify(context),
  })
  // The key stays the input's own, whoever wrote it, or the order of a key would end here.
  made.key = record.key
  return made
}

/** What `dataschema` describes is the data that came in, and not what was made of it. */
function resultEvent({ dataschema: _, ...event }: Event, { type = event.type, data }: Result): Event {
  return { ...event, type, datacontenttype: 'application/json', data: Buffer.from(data) }
}
