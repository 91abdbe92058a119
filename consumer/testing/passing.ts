import { STRUCTURED } from '../../shared/events/event.ts'
import {
  ATTRIBUTE_PREFIX,
  CONTENT_TYPE,
  GENERATION,
  headerText,
  RECEIVED_AT,
  TRACEPARENT,
  TRACESTATE,
} from '../../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord, PassedRecord, PlainEvent } from '../../shared/events/record.ts'
import { siblingTopic } from '../../shared/events/topics.ts'
import { hashOf } from '../../shared/kafka/identity-hash.ts'
import type { FakePassing } from '../../shared/testing/fake-kafka.ts'
import { decode, traceOf } from '../decode.ts'
import { type Context, createEnricher } from '../enrich.ts'
import { processedRecord } from '../processed.ts'

/** What the addon does with events that are passed on, by decoding them (shared/kafka/native/shim/: identity.cc, packed.cc and passing.cc). */

const PRINTABLE_ASCII = /^[\x20-\x7e]+$/

/** What the addon tells of an event, unless something about it is unusual. */
export function plainOf(record: IncomingRecord): PlainEvent | undefined {
  const decoded = decode(record)
  const { headers } = record
  if (!decoded.ok || headers.names.includes(GENERATION) || STRUCTURED.test(headerText(headers, CONTENT_TYPE) ?? ''))
    return undefined
  const { identity, event, receivedAtMs } = decoded
  const isPrintable = headers.names.every(
    (name, index) => !name.startsWith(ATTRIBUTE_PREFIX) || PRINTABLE_ASCII.test(String(headers.values[index])),
  )
  const saysWhen = headerText(headers, RECEIVED_AT) === receivedAtMs?.toString()
  const isOfTrace = headerText(headers, TRACEPARENT) === traceOf(record)?.traceparent
  if (!isPrintable || !saysWhen || !isOfTrace || headerText(headers, TRACESTATE) !== undefined) return undefined
  return {
    type: event.type,
    receivedAtMs,
    get identityHash() {
      return hashOf(identity)
    },
  }
}

/**
 * What the addon writes for a record that is passed on.
 * @throws Error where it is no event, or its partition is another than it says
 */
export function written({ passed, topic, tenant, contextStart, contextEnd, result }: PassedRecord): OutgoingRecord {
  const decoded = decode(passed)
  if (!decoded.ok) throw new Error(`what is no event is passed on: ${decoded.reason}`)
  const { stream, processedAtMs, handler, schema, ...begun } = JSON.parse(`${contextStart}${contextEnd}}`) as Context
  if (begun.tenant !== tenant) throw new Error(`the context of ${begun.tenant} for an event of ${tenant}`)
  const { event, receivedAtMs } = decoded
  const enrich = createEnricher({ nowMs: () => processedAtMs })
  const context = enrich(event, { tenant, stream, receivedAtMs, timestampMs: passed.timestampMs })
  if (handler !== undefined) context.handler = handler
  if (schema !== undefined) context.schema = schema
  if (topic !== siblingTopic(passed.topic, 'processed')) throw new Error(`an event of ${passed.topic} for ${topic}`)
  return processedRecord(passed, event, topic, context, result)
}

/** Tells something of every usual event. */
export const PASSING: FakePassing = { plainOf, written }

/** Tells nothing of every third record, so that copies of an event are decided by both paths. */
export const SOMETIMES_PASSING: FakePassing = {
  plainOf: (record) => (record.offset % 3 === 2 ? undefined : plainOf(record)),
  written,
}
