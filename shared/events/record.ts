import { type Event, EventBuilder, type Fault, SPEC_VERSION, STRUCTURED } from './event.ts'
import { eventFromJson, NOT_AN_OBJECT } from './event-json.ts'
import {
  ATTEMPTS,
  ATTRIBUTE_PREFIX,
  CONTENT_TYPE,
  CONTEXT,
  FORM,
  GENERATION,
  type HeaderValue,
  headerText,
  NO_HEADERS,
  RECEIVED_AT,
  type RecordHeaders,
  SCHEMA,
  SOURCE,
  TENANT,
  TRACEPARENT,
  TRACESTATE,
} from './headers.ts'
import { generationOf } from './identity.ts'
import { outlineJson } from './json.ts'
import { recordKey } from './partition.ts'

/** Event to Kafka record and back: CloudEvents Kafka binding 1.0.2. */

/** A record on its way to Kafka. */
export interface OutgoingRecord {
  topic: string
  /** Absent: Java's murmur2 of the key chooses, or chance when there is no key. */
  partition?: number
  key: Buffer | string | null
  /** The bytes as they are to be stored; null is a tombstone. */
  value: Buffer | null
  headers: RecordHeaders
}

/** A record that was fetched. Do not spread it: key, value and headers are read from the batch on access. */
export interface IncomingRecord {
  topic: string
  partition: number
  offset: number
  /** CreateTime or LogAppendTime, by the topic's configuration, ms since the epoch. */
  timestampMs: number
  key: Buffer | null
  value: Buffer | null
  headers: RecordHeaders
  /** Memory of key, value and headers, where it is known without reading them. */
  readonly bytes?: number
  /** To be called once, when the record is not read any more: its memory may then be used for others. */
  release?(): void
  /** Present when the record is an event with plain attributes only, so that it can be passed on without being decoded. */
  readonly plain?: PlainEvent | undefined
}

/** What is known of a record's event without decoding it. */
export interface PlainEvent {
  readonly type: string
  /** When the producer received it, ms since the epoch. */
  readonly receivedAtMs: number | undefined
  /** The hash of its identity (shared/kafka/identity-hash.ts), valid until another one is read. */
  readonly identityHash: Uint32Array
}

/**
 * A record that goes on undecoded: its key, value, attributes and trace are those of `passed`, and so is its partition. The addon completes its context
 * (consumer/enrich.ts).
 */
export interface PassedRecord {
  topic: string
  passed: IncomingRecord
  tenant: string
  /** The JSON of its context up to the fingerprint. */
  contextStart: string
  /** The JSON of its context after what is known of the event, without the last brace. */
  contextEnd: string
  /** In place of the data, which is then JSON; `type` in place of the type, if there is one. */
  result?: { type: string | undefined; data: string }
}

/** What a record has besides its event. */
export interface RecordContext {
  topic: string
  /** Absent: the key chooses. */
  partition?: number
  tenant: string
  receivedAtMs: number
  traceparent?: string | undefined
  tracestate?: string | undefined
  /** Of a result: what enrichment found, as JSON. */
  context?: string
  /** Of the result of a redriven event; see identity.ts. */
  generation?: number
  /** Of the result of an event that had failed attempts: these, as JSON. */
  attempts?: string | undefined
  /** Of a webhook: its source's name. */
  source?: string | undefined
  /** Of a form-encoded webhook: the form as it came. */
  form?: string | undefined
  /** Of an event that was checked by a schema: its subject and version. */
  schema?: string | undefined
}

/** Record headers while they are gathered. */
interface HeaderLists {
  names: string[]
  values: HeaderValue[]
}

function add({ names, values }: HeaderLists, name: string, value: string | undefined): void {
  if (value === undefined) return
  names.push(name)
  values.push(value)
}

/** The required attributes as headers. */
const requiredHeaders = ({ id, source, type }: Event): HeaderLists => ({
  names: ['ce_specversion', 'ce_id', 'ce_source', 'ce_type'],
  values: [SPEC_VERSION, id, source, type],
})

/** The attributes as headers, without the media type of the data. */
function attributeHeaders(event: Event): HeaderLists {
  const headers = requiredHeaders(event)
  add(headers, 'ce_subject', event.subject)
  add(headers, 'ce_time', event.time)
  add(headers, 'ce_dataschema', event.dataschema)
  for (const name in event.extensions) add(headers, ATTRIBUTE_PREFIX + name, event.extensions[name])
  return headers
}

const addGeneration = (headers: HeaderLists, generation = 0): void => {
  if (generation > 0) add(headers, GENERATION, String(generation))
}

/** Binary content mode (section 3.2): the data is the value, attributes are `ce_` headers, followed by our own headers. */
export function toRecord(event: Event, at: RecordContext): OutgoingRecord {
  const headers = attributeHeaders(event)
  add(headers, CONTENT_TYPE, event.datacontenttype)
  add(headers, TRACEPARENT, at.traceparent)
  add(headers, TRACESTATE, at.tracestate)
  add(headers, TENANT, at.tenant)
  add(headers, RECEIVED_AT, String(at.receivedAtMs))
  add(headers, CONTEXT, at.context)
  addGeneration(headers, at.generation)
  add(headers, ATTEMPTS, at.attempts)
  add(headers, SOURCE, at.source)
  add(headers, FORM, at.form)
  add(headers, SCHEMA, at.schema)
  const record: OutgoingRecord = { topic: at.topic, key: recordKey(event), value: event.data, headers }
  if (at.partition !== undefined) record.partition = at.partition
  return record
}

/** A record without its value. The headers have the event's attributes: those of binary mode, if the record was in structured mode. */
export function withoutValue(record: IncomingRecord, event: Event | undefined): IncomingRecord {
  const { topic, partition, offset, timestampMs, key, headers } = record
  const kept = { topic, partition, offset, timestampMs, key, value: null, headers }
  if (event === undefined || !STRUCTURED.test(headerText(headers, CONTENT_TYPE) ?? '')) return kept
  return { ...kept, headers: withOthers(attributeHeaders(event), headers) }
}

/** Adds those of a record's headers that are not of its event. */
function withOthers(
  { names, values }: HeaderLists,
  headers: RecordHeaders,
  except: readonly string[] = [],
): HeaderLists {
  for (const [index, name] of headers.names.entries()) {
    if (name === CONTENT_TYPE || except.includes(name) || name.startsWith(ATTRIBUTE_PREFIX)) continue
    names.push(name)
    values.push(headers.values[index] ?? null)
  }
  return { names, values }
}

/** A record with another event in binary mode, and its other headers, except what is no longer true: the form that it was made of, and the schema that its data were checked by. */
export function withAttributes(record: IncomingRecord, event: Event): IncomingRecord {
  const { topic, partition, offset, timestampMs, key } = record
  const headers = attributeHeaders(event)
  add(headers, CONTENT_TYPE, event.datacontenttype)
  return {
    topic,
    partition,
    offset,
    timestampMs,
    key,
    value: event.data,
    headers: withOthers(headers, record.headers, [FORM, SCHEMA]),
  }
}

/** A record with only the required attributes of its event, and its generation; empty if it is not an event. */
export function onlyIdentity(record: IncomingRecord, event: Event | undefined): IncomingRecord {
  const { topic, partition, offset, timestampMs } = record
  const kept = { topic, partition, offset, timestampMs, key: null, value: null }
  if (event === undefined) return { ...kept, headers: NO_HEADERS }
  const headers = requiredHeaders(event)
  addGeneration(headers, generationOf(record.headers))
  return { ...kept, headers }
}

export type FromRecord = { ok: true; event: Event } | { ok: false; reason: string }

/**
 * The event in a record of any writer: binary mode, or structured mode with the JSON event format (section 3.3). Anything else gives a reason, never an
 * exception. Header names are case-sensitive; only the media type of structured mode is not (section 3).
 */
export function fromRecord(record: IncomingRecord): FromRecord {
  const builder = new EventBuilder()
  let contentType: string | undefined
  const { names, values } = record.headers
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string
    if (name !== CONTENT_TYPE && !name.startsWith(ATTRIBUTE_PREFIX)) continue
    const value = textOf(values[index])
    if (value === undefined) return { ok: false, reason: `the header ${shown(name)} is not valid UTF-8` }
    if (name === CONTENT_TYPE) {
      if (contentType !== undefined) return { ok: false, reason: `the header ${CONTENT_TYPE} is given twice` }
      contentType = value
    } else {
      const attribute = name.slice(ATTRIBUTE_PREFIX.length)
      if (attribute === 'datacontenttype') builder.fault(attribute, `belongs into the header ${CONTENT_TYPE}`)
      else builder.set(attribute, value)
    }
  }
  if (contentType !== undefined && STRUCTURED.test(contentType)) return fromStructured(contentType, record.value)
  if (contentType !== undefined) builder.set('datacontenttype', contentType)
  const result = builder.build(record.value)
  return result.ok ? result : { ok: false, reason: reasonOf(result.faults) }
}

const STRUCTURED_JSON = /^application\/cloudevents\+json[ \t]*(?:;|$)/i

/** These protect the stack and the time to compare member names; Kafka limits the size. */
const STRUCTURED_LIMITS = { maxDepth: 512, maxElements: 0, maxMembers: 10_000, maxObjectMembers: 10_000 }

function fromStructured(contentType: string, value: Buffer | null): FromRecord {
  // Section 3.3 has no batches, and no other format is supported.
  if (!STRUCTURED_JSON.test(contentType))
    return { ok: false, reason: `the event format of ${CONTENT_TYPE} is not application/cloudevents+json` }
  if (value === null) return { ok: false, reason: 'a structured event has no value' }
  const parsed = outlineJson(value, STRUCTURED_LIMITS)
  if (!parsed.ok) return { ok: false, reason: `the value is not an event in JSON: ${parsed.fault.detail}` }
  if (parsed.outline.root !== 'object') return { ok: false, reason: `the value ${NOT_AN_OBJECT.detail}` }
  const result = eventFromJson(value, parsed.outline.members)
  return result.ok ? result : { ok: false, reason: reasonOf(result.faults) }
}

/** Short, since it goes into a header and into the log. */
function reasonOf(faults: readonly Fault[]): string {
  const told = faults.slice(0, MAX_TOLD_FAULTS).map(({ pointer, detail }) => `${shown(pointer.slice(1))} ${detail}`)
  const more = faults.length > told.length ? `; ${faults.length} faults in all` : ''
  return `not a valid CloudEvent: ${told.join('; ')}${more}`
}

const MAX_TOLD_FAULTS = 10
const MAX_SHOWN_CHARS = 100

const shown = (name: string): string =>
  name.length <= MAX_SHOWN_CHARS ? name : `${name.slice(0, MAX_SHOWN_CHARS).toWellFormed()}…`

/** A header value as a string; undefined for bytes that are not UTF-8. */
function textOf(value: HeaderValue | undefined): string | undefined {
  // Kafka allows headers without a value; the attribute is then empty.
  if (value === null || value === undefined) return ''
  return typeof value === 'string' ? value : undefined
}

/** Whether {@link recordBytes} is more than `maxBytes`. Strings are measured only where their length leaves it open. */
export const isLarger = (record: OutgoingRecord, maxBytes: number): boolean =>
  mostRecordBytes(record) > maxBytes && recordBytes(record) > maxBytes

/** Upper bound of {@link recordBytes} that looks at no character: a UTF-16 code unit takes at most three bytes of UTF-8. */
export const mostRecordBytes = (record: OutgoingRecord): number => measured(record, false)

/** Bytes of a record, uncompressed: key, value, headers, and the record format's own (KIP-98, with varints at their longest). */
export const recordBytes = (record: OutgoingRecord): number => measured(record, true)

function measured({ key, value, headers }: OutgoingRecord, exact: boolean): number {
  let bytes = RECORD_OVERHEAD + byteLength(key, exact) + byteLength(value)
  const { names, values } = headers
  for (let index = 0; index < names.length; index++)
    bytes += HEADER_OVERHEAD + byteLength(names[index] as string, exact) + byteLength(values[index] ?? null, exact)
  return bytes
}

/** Bytes of a record in the queue of Kafka's client, which counts key and value. */
export const queuedBytes = ({ key, value }: OutgoingRecord): number => byteLength(key) + byteLength(value)

const RECORD_OVERHEAD = 32
const HEADER_OVERHEAD = 8

/** @param exact false: the most that it can be */
function byteLength(value: Buffer | string | null, exact = true): number {
  if (typeof value !== 'string') return value === null ? 0 : value.length
  return exact ? Buffer.byteLength(value, 'utf8') : MAX_BYTES_A_UNIT * value.length
}

const MAX_BYTES_A_UNIT = 3
