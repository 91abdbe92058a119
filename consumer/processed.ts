import type { Event } from '../shared/events/event.ts'
import { generationOf } from '../shared/events/identity.ts'
import { type IncomingRecord, type OutgoingRecord, toRecord } from '../shared/events/record.ts'
import { traceOf } from './decode.ts'
import { type Context, writtenMs } from './enrich.ts'
import { type Attempt, attemptsText, NO_ATTEMPTS } from './failed-attempts.ts'
import type { Result } from './handlers/attempt.ts'

/**
 * A record for `.processed`: a CloudEvent with the event's `id` and `source`, and the handler's result as its data, if there is one; on the same
 * partition. The context has a header of its own, so that data passes through byte for byte.
 * @param failed the attempts before
 */
export function processedRecord(
  record: IncomingRecord,
  event: Event,
  topic: string,
  context: Context,
  handled?: Result,
  failed: readonly Attempt[] = NO_ATTEMPTS,
): OutgoingRecord {
  const result = handled === undefined ? event : resultEvent(event, handled)
  const trace = traceOf(record)
  const made = toRecord(result, {
    topic,
    partition: record.partition,
    tenant: context.tenant,
    receivedAtMs: context.receivedAtMs ?? writtenMs(record.timestampMs, context),
    traceparent: trace?.traceparent,
    tracestate: trace?.tracestate,
    context: JSON.stringify(context),
    generation: generationOf(record.headers),
    attempts: attemptsText(failed),
  })
  // The key of the input record, which another client may have chosen; otherwise a key's order would be lost.
  made.key = record.key
  return made
}

/** Without `dataschema`, which describes the event's data and not the result. */
function resultEvent({ dataschema: _, ...event }: Event, { type = event.type, data }: Result): Event {
  return { ...event, type, datacontenttype: 'application/json', data: Buffer.from(data) }
}
