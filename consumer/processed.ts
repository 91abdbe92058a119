import { attributeFault, type Event } from '../shared/event.ts'
import { headerText, TRACEPARENT, TRACESTATE } from '../shared/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/kafka/types.ts'
import { toRecord } from '../shared/record.ts'
import { siblingTopic } from '../shared/topics.ts'
import type { Context } from './enrich.ts'
import { type Handled, TerminalError } from './handlers/handler.ts'

/**
 * The record in `.processed`: a CloudEvent with the `id` and `source` of the one that came in and, where a handler made something of it, that
 * as its data; on the same partition, with the context in a header of its own so that data passes through byte for byte.
 * @throws TerminalError when the handler gives a type that no event may have: nobody could tell whose outcome that is
 */
export function processedRecord(
  record: IncomingRecord,
  event: Event,
  input: string,
  context: Context,
  handled: Handled | undefined,
): OutgoingRecord {
  const type = handled?.type
  const fault =
    type === undefined ? undefined : typeof type === 'string' ? attributeFault('type', type) : 'must be a text'
  if (fault !== undefined) throw new TerminalError(`the type of the handler's result ${fault}`)
  const result: Event =
    handled === undefined
      ? event
      : {
          ...event,
          type: type ?? event.type,
          datacontenttype: 'application/json',
          data: Buffer.from(JSON.stringify(handled.data) ?? 'null'),
        }
  const made = toRecord(result, {
    topic: siblingTopic(input, 'processed'),
    partition: record.partition,
    tenant: context.tenant,
    receivedAtMs: context.receivedAtMs ?? record.timestampMs,
    traceparent: headerText(record.headers, TRACEPARENT),
    tracestate: headerText(record.headers, TRACESTATE),
    context: JSON.stringify(context),
  })
  // The key stays the input's own, whoever wrote it, or the order of a key would end here.
  made.key = record.key
  return made
}
