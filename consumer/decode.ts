import type { Event } from '../shared/events/event.ts'
import { headerText, ORIGIN, RECEIVED_AT, TRACEPARENT, TRACESTATE } from '../shared/events/headers.ts'
import { eventIdentity, generationOf, originIdentity } from '../shared/events/identity.ts'
import { type FromRecord, fromRecord, type IncomingRecord } from '../shared/events/record.ts'
import { parseTopic } from '../shared/events/topics.ts'
import type { TopicPartitionOffset } from '../shared/kafka/types.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'

export type Decoded =
  | { ok: true; identity: string; generation: number; event: Event; receivedAtMs: number | undefined }
  /** Not an event; identified by its place. */
  | { ok: false; identity: string; reason: string }

/** `topic/partition/offset`, as in the `kt-origin` header. */
export const originOf = (record: TopicPartitionOffset): string => `${record.topic}/${record.partition}/${record.offset}`

/** The place that {@link originOf} wrote; undefined for other text. */
export function placeIn(text: string | undefined): TopicPartitionOffset | undefined {
  const [, topic, partition, offset] = /^(.+)\/(\d{1,9})\/(\d{1,15})$/.exec(text ?? '') ?? []
  return topic === undefined ? undefined : { topic, partition: Number(partition), offset: Number(offset) }
}

/**
 * Reads a record as an event; never throws.
 * @param origin the place of the original record, for a copy in `.retry` or `.dlq`
 */
export function decode(record: IncomingRecord, origin?: string): Decoded {
  const read = readable(record)
  if (!read.ok) return { ok: false, identity: originIdentity(origin ?? originOf(record)), reason: read.reason }
  const { event } = read
  const generation = generationOf(record.headers)
  return {
    ok: true,
    identity: eventIdentity(event.source, event.id, generation),
    generation,
    event,
    receivedAtMs: receivedAtMs(record),
  }
}

function readable(record: IncomingRecord): FromRecord {
  try {
    return fromRecord(record)
  } catch (error) {
    return { ok: false, reason: `reading it failed: ${(error as Error).message}` }
  }
}

/** The identity of a record's event; a copy has that of its original. */
export const identityOf = (record: IncomingRecord): string => decode(record, originIn(record)).identity

/** The place of the original record; undefined for an original. In a stream's own topic the header is ignored, since other clients write there. */
export const originIn = ({ topic, headers }: IncomingRecord): string | undefined =>
  parseTopic(topic)?.role === 'input' ? undefined : headerText(headers, ORIGIN)

/** A record's key as a string; undefined without a key. A long key is replaced by its hash, since many keys are held in memory. */
export const keyOf = ({ key }: Pick<IncomingRecord, 'key'>): string | undefined =>
  key === null ? undefined : key.length <= MAX_KEPT_KEY_BYTES ? key.toString('latin1') : hashOfLong(key)

const MAX_KEPT_KEY_BYTES = 256
const hashOfLong = (key: Buffer): string => `sha256 ${new Bun.CryptoHasher('sha256').update(key).digest('hex')}`

/** A record's trace context; undefined if its headers have no valid one. */
export const traceOf = ({ headers }: IncomingRecord): TraceContext | undefined =>
  parseTraceparent(headerText(headers, TRACEPARENT), headerText(headers, TRACESTATE))

/**
 * When the producer received the event, ms since the epoch. Other clients may set this header in a stream's own topic, or copy an older record. There
 * it counts only if it is close to the record's timestamp.
 */
export function receivedAtMs(record: IncomingRecord): number | undefined {
  const atMs = headerNumber(record, RECEIVED_AT)
  if (atMs === undefined || Math.abs(record.timestampMs - atMs) <= MAX_DELIVERY_MS) return atMs
  return parseTopic(record.topic)?.role === 'input' ? undefined : atMs
}

/** More than a delivery takes, and more than the clocks of producers and brokers differ. */
const MAX_DELIVERY_MS = 3_600_000

/** A header's whole number; undefined for anything else. */
export function headerNumber(record: IncomingRecord, name: string): number | undefined {
  const text = headerText(record.headers, name)
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}
