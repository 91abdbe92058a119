/** The record headers that we write or read. */

/** CloudEvents Kafka binding 1.0.2, section 3.2.3: an attribute's header is its name after this prefix. */
export const ATTRIBUTE_PREFIX = 'ce_'

/** Section 3.2.1: the header of `datacontenttype`. */
export const CONTENT_TYPE = 'content-type'

/** W3C Trace Context, level 1. */
export const TRACEPARENT = 'traceparent'
export const TRACESTATE = 'tracestate'

/** The tenant whose credential sent the event. */
export const TENANT = 'kt-tenant'
/** When the producer received the request, ms since the epoch, decimal. */
export const RECEIVED_AT = 'kt-received-at'
/** On processed records: what enrichment found, a JSON object (see consumer/enrich.ts). */
export const CONTEXT = 'kt-context'
/** On retries and dead letters: how many times a handler was given the event, decimal. */
export const ATTEMPT = 'kt-attempt'
/** On results, retries and dead letters of events that had failed attempts: the last of these, a JSON array (see consumer/failed-attempts.ts). */
export const ATTEMPTS = 'kt-attempts'
/** On retries: the earliest time of the next attempt, ms since the epoch, decimal. */
export const NOT_BEFORE = 'kt-not-before'
/** On retries and dead letters: why, a JSON object `{reason, message}`. */
export const ERROR = 'kt-error'
/** On retries and dead letters: the original record's position, `topic/partition/offset`. */
export const ORIGIN = 'kt-origin'
/** On redriven events, in all four topics: how often the event was redriven, decimal; part of its identity (identity.ts). */
export const GENERATION = 'kt-generation'
/** On redriven events, not on their results: the position of the dead letter, `topic/partition/offset`. */
export const REDRIVEN_FROM = 'kt-redriven-from'
/** On redrives that were changed: `1`. */
export const EDITED = 'kt-edited'
/** On events of webhooks, not on their results: the source's name. */
export const SOURCE = 'kt-source'
/** On events of form-encoded webhooks, not on their results: the form as it came. */
export const FORM = 'kt-form'
/** On events whose data were checked, not on their results: by which version of which schema, `SUBJECT/VERSION` (see shared/schemas/identity.ts). */
export const SCHEMA = 'kt-schema'
/** On results, retries and dead letters: the transaction that wrote them, `TRANSACTIONAL-ID:CLIENT-NUMBER`. */
export const TRANSACTION = 'kt-transaction'

/** A header's value: a string where its bytes are UTF-8, else the bytes, so that it is always written back unchanged. null is no value, unlike an empty one. */
export type HeaderValue = string | Buffer | null

/** Record headers in order, with repeats. Two lists of the same length, since an object for each header would cost an allocation. */
export interface RecordHeaders {
  readonly names: readonly string[]
  readonly values: readonly HeaderValue[]
}

/** The last header of that name, with U+FFFD for bytes that are not UTF-8; empty without a value, undefined without such a header. Names are case-sensitive. */
export function headerText(headers: RecordHeaders, name: string): string | undefined {
  const value = headers.values[headers.names.lastIndexOf(name)]
  return value === null ? '' : value?.toString()
}

export const NO_HEADERS: RecordHeaders = { names: [], values: [] }

/** Headers from an object. */
export const headersOf = (values: Readonly<Record<string, HeaderValue>>): RecordHeaders => ({
  names: Object.keys(values),
  values: Object.values(values),
})

/** Appends headers. */
export const withHeaders = (headers: RecordHeaders, more: Readonly<Record<string, HeaderValue>>): RecordHeaders => ({
  names: [...headers.names, ...Object.keys(more)],
  values: [...headers.values, ...Object.values(more)],
})
