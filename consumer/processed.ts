import type { Event } from '../shared/events/event.ts'
import { type IncomingRecord, type OutgoingRecord, type PassedRecord, toRecord } from '../shared/events/record.ts'
import { siblingTopic } from '../shared/events/topics.ts'
import { traceOf } from './decode.ts'
import { type Context, writtenMs } from './enrich.ts'
import type { Result } from './handlers/attempt.ts'

/**
 * A record for `.processed`: a CloudEvent with the event's `id` and `source`, and the handler's result as its data, if there is one; on the same
 * partition. The context has a header of its own, so that data passes through byte for byte.
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
  // The key of the input record, which another client may have chosen; otherwise a key's order would be lost.
  made.key = record.key
  return made
}

/** The same for an event without a handler, whose record need not be decoded for it. */
export const passedRecord = (
  passed: IncomingRecord,
  input: string,
  tenant: string,
  contextStart: string,
): PassedRecord => ({ topic: siblingTopic(input, 'processed'), passed, tenant, contextStart })

/** Without `dataschema`, which describes the event's data and not the result. */
function resultEvent({ dataschema: _, ...event }: Event, { type = event.type, data }: Result): Event {
  return { ...event, type, datacontenttype: 'application/json', data: Buffer.from(data) }
}
