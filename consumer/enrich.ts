import type { Event } from '../shared/events/event.ts'
import type { LookupResult, ReferenceTable } from './reference-table.ts'

/** What is known about an event; as JSON, the header `kt-context` of its record in `.processed`. */
export interface Context {
  tenant: string
  stream: string
  /** When the producer received it, ms since the epoch; absent when another client wrote the record. */
  receivedAtMs?: number
  /** When processing started, ms since the epoch. */
  processedAtMs: number
  /** From the event's own `time` to its receipt (or to the record's timestamp); negative when a clock is ahead. Absent without `time`. */
  latenessMs?: number
  /** `type@version` of the handler, absent for an event that passed through. */
  handler?: string
  /** SHA-256 of type, source, subject and data, the first 128 bits as hex: equal for equal content, whatever the id and time. */
  fingerprint: string
  /** The row of the reference table; absent without a table, and for an event without the attribute that is looked up. */
  lookups?: { reference: LookupResult }
  /** Which version of which schema the data had, and to which they were raised for the handler; absent if they were not. */
  schema?: { subject: string; version: number; takes: number }
}

export interface RecordOrigin {
  tenant: string
  stream: string
  receivedAtMs: number | undefined
  /** The record's, ms since the epoch. */
  timestampMs: number
}

/** @param processedAtMs now, when absent */
export type Enricher = (
  event: Event,
  origin: RecordOrigin,
  handler?: { type: string; version: string },
  schema?: Context['schema'],
  processedAtMs?: number,
) => Context

export function createEnricher({
  reference,
  nowMs,
}: {
  reference?: Pick<ReferenceTable, 'find'> | undefined
  nowMs(): number
}): Enricher {
  return (event, origin, handler, schema, processedAtMs = nowMs()) => {
    const context: Context = {
      tenant: origin.tenant,
      stream: origin.stream,
      processedAtMs,
      fingerprint: fingerprint(event),
    }
    if (origin.receivedAtMs !== undefined) context.receivedAtMs = origin.receivedAtMs
    const late = latenessMs(event.time, origin.receivedAtMs ?? writtenMs(origin.timestampMs, context))
    if (late !== undefined) context.latenessMs = late
    if (handler !== undefined) context.handler = nameOf(handler)
    const found = reference?.find(event)
    if (found !== undefined) context.lookups = { reference: found }
    if (schema !== undefined) context.schema = schema
    return context
  }
}

/** `type@version` of a handler. */
export const nameOf = ({ type, version }: { type: string; version: string }): string => `${type}@${version}`

/** The JSON of a context, up to the fingerprint, of an event that is processed now; the addon adds what is known of the event (shared/kafka/native/shim/passing.cc). */
export type ContextStart = (tenant: string, stream: string) => { text: string; processedAtMs: number }

export function createContextStart(nowMs: () => number): ContextStart {
  // Records of one partition that are fetched together mostly have the same.
  let last = { tenant: '', stream: '', processedAtMs: 0, text: '' }
  return (tenant, stream) => {
    const processedAtMs = nowMs()
    if (last.processedAtMs !== processedAtMs || last.tenant !== tenant || last.stream !== stream) {
      const text = JSON.stringify({ tenant, stream, processedAtMs } satisfies Partial<Context>).slice(0, -1)
      last = { tenant, stream, processedAtMs, text }
    }
    return last
  }
}

/** What follows in the JSON of a context, without the last brace. */
export const contextEnd = (
  handler: { type: string; version: string } | undefined,
  schema?: Context['schema'],
): string =>
  handler === undefined
    ? ''
    : `,${JSON.stringify({ handler: nameOf(handler), ...(schema && { schema }) } satisfies Partial<Context>).slice(1, -1)}`

/** When the record was written, ms since the epoch; the time of processing for a record without a timestamp, -1. */
export const writtenMs = (timestampMs: number, { processedAtMs }: Pick<Context, 'processedAtMs'>): number =>
  timestampMs < 0 ? processedAtMs : timestampMs

/** undefined without a time, or for one that `Date` does not know, such as a leap second. */
function latenessMs(time: string | undefined, referenceMs: number): number | undefined {
  if (time === undefined) return undefined
  const late = referenceMs - Date.parse(time.length < LEAST_FINE_LENGTH ? time : time.replace(FINER_THAN_MS, '$1'))
  return Number.isNaN(late) ? undefined : late
}

/** Bun, as Node, drops leading zeros of a fraction with ten digits or more, which ECMAScript leaves open: it takes `.0123456789` for 123 ms. */
const LEAST_FINE_LENGTH = '0000-00-00T00:00:00.0123456789Z'.length
const FINER_THAN_MS = /(\.\d{3})\d+/

const FINGERPRINT_HEX_DIGITS = 32

/** Reused, which `digest` allows: a hasher for each event would hold native memory until it is collected. */
const hasher = new Bun.CryptoHasher('sha256')

/** See {@link Context.fingerprint}. No data and zero bytes of it differ. */
export function fingerprint({ type, source, subject, data }: Event): string {
  // JSON is self-delimiting, so two different events never give the same bytes.
  const framed = JSON.stringify([type, source, subject ?? null, data === null])
  hasher.update(framed)
  if (data !== null) hasher.update(data)
  return hasher.digest('hex').slice(0, FINGERPRINT_HEX_DIGITS)
}
