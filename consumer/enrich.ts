import type { Event } from '../shared/events/event.ts'
import type { LookupResult, ReferenceTable } from './reference-table.ts'

/** What is known of an event besides itself; the header `kt-context` of the record in `.processed`, as JSON. */
export interface Context {
  tenant: string
  stream: string
  /** When the producer took it; absent when somebody else wrote the record. ms since the epoch. */
  receivedAtMs?: number
  /** When its handling began, ms since the epoch. */
  processedAtMs: number
  /** From the event's own `time` to its receipt (or to the record's timestamp); negative when a clock is ahead. Absent without `time`. */
  latenessMs?: number
  /** `type@version` of the handler, absent for an event that passed through. */
  handler?: string
  /** SHA-256 of type, source, subject and data, the first 128 bits as hex: equal for equal content, whatever the id and time. */
  fingerprint: string
  /** What the reference table says; absent without a table, and for an event without the attribute that it is looked up by. */
  lookups?: { reference: LookupResult }
}

/** Where an event's record was found. */
export interface RecordOrigin {
  tenant: string
  stream: string
  receivedAtMs: number | undefined
  /** The record's, ms since the epoch. */
  timestampMs: number
}

export type Enricher = (event: Event, origin: RecordOrigin, handler?: { type: string; version: string }) => Context

/** Makes the function that gives an event its context. */
export function createEnricher({
  reference,
  nowMs,
}: {
  reference?: Pick<ReferenceTable, 'find'> | undefined
  nowMs(): number
}): Enricher {
  return (event, origin, handler) => {
    const context: Context = {
      tenant: origin.tenant,
      stream: origin.stream,
      processedAtMs: nowMs(),
      fingerprint: fingerprint(event),
    }
    if (origin.receivedAtMs !== undefined) context.receivedAtMs = origin.receivedAtMs
    const late = latenessMs(event.time, origin.receivedAtMs ?? writtenMs(origin.timestampMs, context))
    if (late !== undefined) context.latenessMs = late
    if (handler !== undefined) context.handler = `${handler.type}@${handler.version}`
    const found = reference?.find(event)
    if (found !== undefined) context.lookups = { reference: found }
    return context
  }
}

/** Kafka's record timestamp may be -1: none. */
export const writtenMs = (timestampMs: number, { processedAtMs }: Pick<Context, 'processedAtMs'>): number =>
  timestampMs < 0 ? processedAtMs : timestampMs

/** undefined when there is no time, or one that no calendar has, such as a leap second. */
function latenessMs(time: string | undefined, referenceMs: number): number | undefined {
  if (time === undefined) return undefined
  const late = referenceMs - Date.parse(time)
  return Number.isNaN(late) ? undefined : late
}

const FINGERPRINT_HEX_DIGITS = 32

/** Used again and again: a digest ends what was hashed, and one for each event would keep its native memory until it is collected. */
const hasher = new Bun.CryptoHasher('sha256')

/** See {@link Context.fingerprint}. No data and zero bytes of it differ. */
export function fingerprint({ type, source, subject, data }: Event): string {
  // A JSON text ends where its brackets close, whatever follows: no two events can give the same bytes to hash.
  const framed = JSON.stringify([type, source, subject ?? null, data === null])
  hasher.update(framed)
  if (data !== null) hasher.update(data)
  return hasher.digest('hex').slice(0, FINGERPRINT_HEX_DIGITS)
}
