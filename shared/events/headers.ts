/** Names of the record headers that we write or read; nothing else in the project spells one. */

/** CloudEvents Kafka binding 1.0.2, section 3.2.3: an attribute's header is its name after this prefix. */
export const ATTRIBUTE_PREFIX = 'ce_'

/** Section 3.2.1: `datacontenttype` has a header of its own. */
export const CONTENT_TYPE = 'content-type'

/** W3C Trace Context, level 1. */
export const TRACEPARENT = 'traceparent'
export const TRACESTATE = 'tracestate'

/** The tenant whose credential sent the event. */
export const TENANT = 'kt-tenant'
/** When the producer took the request, ms since the epoch, decimal. */
export const RECEIVED_AT = 'kt-received-at'
/** On processed records: what enrichment found, a JSON object (see consumer/enrich.ts). */
export const CONTEXT = 'kt-context'
/** On retries and dead letters: how many times a handler was given the event, decimal. */
export const ATTEMPT = 'kt-attempt'
/** On retries: not to be handled before, ms since the epoch, decimal. */
export const NOT_BEFORE = 'kt-not-before'
/** On retries and dead letters: why, a JSON object `{reason, message}`. */
export const ERROR = 'kt-error'
/** On retries and dead letters: where the original record stands, `topic/partition/offset`. */
export const ORIGIN = 'kt-origin'
/** On results, retries and dead letters: the transaction that wrote them, `TRANSACTIONAL-ID:CLIENT-NUMBER`. */
export const TRANSACTION = 'kt-transaction'

/**
 * A header's value. What was read is text where its bytes are UTF-8, else the bytes, so that either way it is written again as it was. null is
 * no value, which Kafka tells from an empty one.
 */
export type HeaderValue = string | Buffer | null

/** Record headers, in order, repeats allowed: each name and, in the same place, its value. Two lists, since a pair a header costs an allocation. */
export interface RecordHeaders {
  readonly names: readonly string[]
  readonly values: readonly HeaderValue[]
}

/** The last header of that name, as text; undefined when there is none. Names are compared exactly, as Kafka does. */
export function headerText(headers: RecordHeaders, name: string): string | undefined {
  const at = headers.names.lastIndexOf(name)
  return at === -1 ? undefined : valueText(headers.values[at] ?? null)
}

/** As text, with U+FFFD for bytes that are not UTF-8; no value is an empty text. */
const valueText = (value: HeaderValue): string =>
  value === null ? '' : typeof value === 'string' ? value : value.toString('utf8')

export const NO_HEADERS: RecordHeaders = { names: [], values: [] }

/** Headers from an object, for those that have no name twice. */
export const headersOf = (values: Readonly<Record<string, HeaderValue>>): RecordHeaders => ({
  names: Object.keys(values),
  values: Object.values(values),
})

/** These, and others behind them. */
export const withHeaders = (headers: RecordHeaders, more: Readonly<Record<string, HeaderValue>>): RecordHeaders => ({
  names: [...headers.names, ...Object.keys(more)],
  values: [...headers.values, ...Object.values(more)],
})
