import type { Event } from '../shared/events/event.ts'
import { headerText, ORIGIN, RECEIVED_AT, TRACEPARENT, TRACESTATE } from '../shared/events/headers.ts'
import { eventIdentity, originIdentity } from '../shared/events/identity.ts'
import { type FromRecord, fromRecord, type IncomingRecord } from '../shared/events/record.ts'
import { parseTopic } from '../shared/events/topics.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'

/** A record as the consumer goes on with it. */
export type Decoded =
  | { ok: true; identity: string; event: Event; receivedAtMs: number | undefined }
  /** Nobody can read it as an event; it is known by where it stands. */
  | { ok: false; identity: string; reason: string }

/** Where a record stands, as in the `kt-origin` header. */
export const originOf = (record: { topic: string; partition: number; offset: number }): string =>
  `${record.topic}/${record.partition}/${record.offset}`

/**
 * Reads a record as an event.
 * @param origin where the original stands, when this is a copy of it in `.retry` or `.dlq`
 */
export function decode(record: IncomingRecord, origin?: string): Decoded {
  const read = readable(record)
  if (!read.ok) return { ok: false, identity: originIdentity(origin ?? originOf(record)), reason: read.reason }
  const { event } = read
  return {
    ok: true,
    identity: eventIdentity(event.source, event.id),
    event,
    receivedAtMs: receivedAtMs(record),
  }
}

/** Whatever is in a record, it can be told what it is. */
function readable(record: IncomingRecord): FromRecord {
  try {
    return fromRecord(record)
  } catch (error) {
    return { ok: false, reason: `reading it failed: ${(error as Error).message}` }
  }
}

/** What a record, or a copy of one, is known by: a copy by what the original was known by. */
export const identityOf = (record: IncomingRecord): string => decode(record, originIn(record)).identity

/** Where the original stands; undefined when this is it. On a stream's own topic, which others write to, such a header says nothing. */
export const originIn = ({ topic, headers }: IncomingRecord): string | undefined =>
  parseTopic(topic)?.role === 'input' ? undefined : headerText(headers, ORIGIN)

/** What orders records, as text; undefined where nothing does. Many are remembered at a time, so that a long key is known by its hash. */
export const keyOf = ({ key }: Pick<IncomingRecord, 'key'>): string | undefined =>
  key === null ? undefined : key.length <= MAX_KEPT_KEY_BYTES ? key.toString('latin1') : hashOfLong(key)

const MAX_KEPT_KEY_BYTES = 256
const hashOfLong = (key: Buffer): string => `sha256 ${new Bun.CryptoHasher('sha256').update(key).digest('hex')}`

/** The trace that a record belongs to; undefined where what its headers say is none. */
export const traceOf = ({ headers }: IncomingRecord): TraceContext | undefined =>
  parseTraceparent(headerText(headers, TRACEPARENT), headerText(headers, TRACESTATE))

/**
 * When the producer took it, ms since the epoch. Whoever writes to a stream's own topic may have said so, or have copied an older record: there it counts
 * only next to the time at which the record was written.
 */
export function receivedAtMs(record: IncomingRecord): number | undefined {
  const atMs = headerNumber(record, RECEIVED_AT)
  if (atMs === undefined || Math.abs(record.timestampMs - atMs) <= MAX_DELIVERY_MS) return atMs
  return parseTopic(record.topic)?.role === 'input' ? undefined : atMs
}

/** A delivery takes less, and the clocks of producers and brokers differ by less. */
const MAX_DELIVERY_MS = 3_600_000

/** A header that holds a whole number; undefined when it is absent or holds something else. */
export function headerNumber(record: IncomingRecord, name: string): number | undefined {
  const text = headerText(record.headers, name)
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}
