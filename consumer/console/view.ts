import { type Static, Type } from '@sinclair/typebox'
import {
  CONTEXT,
  EDITED,
  ERROR,
  FORM,
  headerText,
  NOT_BEFORE,
  REDRIVEN_FROM,
  SCHEMA,
} from '../../shared/events/headers.ts'
import { generationOf } from '../../shared/events/identity.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { parseTopic } from '../../shared/events/topics.ts'
import { parseSchemaHeader } from '../../shared/schemas/identity.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { decode, headerNumber, originIn, receivedAtMs, traceOf } from '../decode.ts'
import { attemptsIn } from '../failed-attempts.ts'
import { REASONS } from '../retry.ts'
import { eachPlace, jsonOf } from './json.ts'
import { type Format, LETTER_STATES, ROLES_OF_TOPICS } from './names.ts'

/** How records are shown. */

const Time = Type.String({ format: 'date-time', description: 'UTC, with milliseconds.' })

export const Place = Type.Object(
  {
    role: oneOf(ROLES_OF_TOPICS, { description: 'Which of the stream’s topics.' }),
    topic: Type.String(),
    partition: Type.Integer({ minimum: 0 }),
    offset: Type.Integer({ minimum: 0 }),
    time: Time,
  },
  { title: 'Place', description: 'Where a record is. The time is the record’s timestamp.' },
)
export type Place = Static<typeof Place>

export const Failure = Type.Object(
  {
    reason: Type.String({ examples: [...REASONS] }),
    message: Type.String(),
    handler: Type.Optional(Type.String({ description: 'The handler that failed, TYPE@VERSION.' })),
  },
  { title: 'Failure', description: 'Why an event was retried or put aside.' },
)
export type Failure = Static<typeof Failure>

export const Attempt = Type.Object(
  {
    attempt: Type.Integer({ minimum: 1 }),
    time: Time,
    reason: Type.String(),
    message: Type.String(),
  },
  { title: 'Attempt', description: 'A failed attempt of a handler.' },
)
export type Attempt = Static<typeof Attempt>

export const Data = Type.Union(
  [
    Type.Object({ format: Type.Literal('json'), json: Type.Unknown() }),
    Type.Object({ format: Type.Literal('text'), text: Type.String() }),
    Type.Object({ format: Type.Literal('hex'), hex: Type.String() }),
    Type.Object({
      format: Type.Literal('masked'),
      detail: Type.String({ description: 'Why nothing of the data is shown.' }),
    }),
  ],
  { title: 'Data', description: 'A record’s value, or its beginning where truncated says so.' },
)
export type Data = Static<typeof Data>

export const HeaderView = Type.Object(
  {
    name: Type.String(),
    value: Type.Optional(Type.String({ description: 'Where its bytes are UTF-8.' })),
    hex: Type.Optional(Type.String({ description: 'Where they are not.' })),
  },
  { title: 'Header', description: 'A record’s header. One without a value has neither value nor hex.' },
)

export const EventView = Type.Object(
  {
    id: Type.String(),
    source: Type.String(),
    type: Type.String(),
    subject: Type.Optional(Type.String()),
    time: Type.Optional(Type.String({ description: 'As its sender gave it.' })),
    datacontenttype: Type.Optional(Type.String()),
    dataschema: Type.Optional(Type.String()),
    extensions: Type.Record(Type.String(), Type.String()),
  },
  { title: 'EventAttributes', description: 'The attributes of a CloudEvent.' },
)

export const RecordView = Type.Object(
  {
    ...Place.properties,
    key: Type.Optional(
      Type.String({ description: 'Absent: the record has no key. U+FFFD for bytes that are not UTF-8.' }),
    ),
    event: Type.Optional(EventView),
    undecodable: Type.Optional(Type.String({ description: 'Why the record is no event.' })),
    schema: Type.Optional(
      Type.Object(
        { subject: Type.String(), version: Type.Integer({ minimum: 1 }) },
        { description: 'What the event was checked by, as the header kt-schema says.' },
      ),
    ),
    generation: Type.Integer({ minimum: 0, description: '0 as it came in; each redrive adds one.' }),
    receivedAt: Type.Optional(Time),
    traceId: Type.Optional(Type.String()),
    error: Type.Optional(Failure),
    attempts: Type.Optional(Type.Array(Attempt, { description: 'The last failed attempts, oldest first.' })),
    notBefore: Type.Optional(Time),
    origin: Type.Optional(Type.String({ description: 'Of a copy: TOPIC/PARTITION/OFFSET of the original.' })),
    redrivenFrom: Type.Optional(
      Type.String({ description: 'Of a redrive: TOPIC/PARTITION/OFFSET of the dead letter.' }),
    ),
    edited: Type.Optional(Type.Boolean({ description: 'It was changed when it was redriven.' })),
    handler: Type.Optional(Type.String({ description: 'Of a result: the handler, TYPE@VERSION.' })),
    headers: Type.Array(HeaderView),
    data: Type.Optional(Data),
    bytes: Type.Integer({ minimum: 0, description: 'Of the value.' }),
    truncated: Type.Optional(Type.Boolean({ description: 'Only the beginning of the data is shown.' })),
    state: Type.Optional(oneOf(LETTER_STATES, { description: 'Of a dead letter in a list: what was done to it.' })),
  },
  { title: 'Record', description: 'A record of one of a stream’s topics.' },
)
export type RecordView = Static<typeof RecordView>

/** How data is shown. */
export interface Showing {
  format: Format
  /** More of a record's value is not shown. */
  maxDataBytes: number
  /** RFC 6901 pointers of what is masked; `*` stands for any member or element. */
  redact: readonly string[]
}

export const MASK = '***'

/** What is no time in ECMAScript is shown as the nearest one: other clients may have written it. */
export const timeOf = (ms: number): string => new Date(Math.min(Math.max(0, ms), MAX_TIME_MS)).toISOString()

/** ECMA-262, section 21.4.1.1. */
const MAX_TIME_MS = 8.64e15

export const placeOf = ({ topic, partition, offset, timestampMs }: IncomingRecord): Place => ({
  role: parseTopic(topic)?.role ?? 'input',
  topic,
  partition,
  offset,
  time: timeOf(timestampMs),
})

export function viewOf(record: IncomingRecord, showing: Showing): RecordView {
  const decoded = decode(record, originIn(record))
  const { headers, value } = record
  const received = receivedAtMs(record)
  const notBeforeMs = headerNumber(record, NOT_BEFORE)
  const error = failureIn(record)
  const attempts = attemptsOf(record)
  const trace = traceOf(record)
  const origin = originIn(record)
  const redrivenFrom = headerText(headers, REDRIVEN_FROM)
  const handler = handlerIn(record)
  const schema = parseSchemaHeader(headerText(headers, SCHEMA))
  const eventData = decoded.ok ? decoded.event.data : undefined
  // Of an event without data, the value of structured mode has nothing that may be masked.
  const isEmpty = value === null || (showing.redact.length > 0 && eventData === null)
  const shown = isEmpty ? undefined : dataOf(value, eventData, showing)
  return {
    ...placeOf(record),
    ...(record.key === null ? {} : { key: record.key.toString() }),
    ...(decoded.ok ? { event: attributesOf(decoded.event) } : { undecodable: decoded.reason }),
    ...(schema === undefined ? {} : { schema }),
    generation: generationOf(headers),
    ...(received === undefined ? {} : { receivedAt: timeOf(received) }),
    ...(trace === undefined ? {} : { traceId: trace.traceId }),
    ...(error === undefined ? {} : { error }),
    ...(attempts.length === 0 ? {} : { attempts }),
    ...(notBeforeMs === undefined ? {} : { notBefore: timeOf(notBeforeMs) }),
    ...(origin === undefined ? {} : { origin }),
    ...(redrivenFrom === undefined ? {} : { redrivenFrom }),
    ...(headers.names.includes(EDITED) ? { edited: true } : {}),
    ...(handler === undefined ? {} : { handler }),
    headers: headers.names.map((name, index) =>
      // The form that the data was made of has what is masked there.
      headerView(name, name === FORM && showing.redact.length > 0 ? MASK : (headers.values[index] ?? null)),
    ),
    ...(shown === undefined ? {} : { data: shown.data }),
    bytes: value?.length ?? 0,
    ...(shown?.truncated === true ? { truncated: true } : {}),
  }
}

const headerView = (name: string, value: string | Buffer | null): Static<typeof HeaderView> =>
  value === null ? { name } : typeof value === 'string' ? { name, value } : { name, hex: value.toString('hex') }

function attributesOf(event: Static<typeof EventView> & { data: Buffer | null }): Static<typeof EventView> {
  const { data: _, ...attributes } = event
  return attributes
}

/** Of a retry or a dead letter; undefined for others, and for what is not as our consumer writes it. */
export function failureIn({ headers }: IncomingRecord): Failure | undefined {
  const { reason, message, handler } = objectIn(headerText(headers, ERROR))
  if (typeof reason !== 'string' || typeof message !== 'string') return undefined
  return { reason, message, ...(typeof handler === 'string' ? { handler } : {}) }
}

/** Failed attempts, oldest first. */
export const attemptsOf = ({ headers }: IncomingRecord): Attempt[] =>
  attemptsIn(headers).map(({ attempt, atMs, reason, message }) => ({ attempt, time: timeOf(atMs), reason, message }))

/** The handler of a result. */
export function handlerIn({ headers }: IncomingRecord): string | undefined {
  const { handler } = objectIn(headerText(headers, CONTEXT))
  return typeof handler === 'string' ? handler : undefined
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}

function objectIn(text: string | undefined): Record<string, unknown> {
  const value = parsed(text)
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

// ---- data

/** @returns undefined where the bytes are no UTF-8 */
function textOf(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

/** @param eventData undefined where the value is no event */
function dataOf(
  value: Buffer,
  eventData: Buffer | null | undefined,
  showing: Showing,
): { data: Data; truncated: boolean } {
  const { format, maxDataBytes, redact } = showing
  if (redact.length > 0) return { data: maskedData(value, eventData, showing), truncated: false }
  const text = format === 'hex' ? undefined : textOf(value)
  const truncated = value.length > maxDataBytes
  if (format === 'json' && !truncated && text !== undefined && !isDeep(text)) {
    const json = jsonOf(text)
    if (json !== undefined) return { data: { format: 'json', json: json.value }, truncated }
  }
  if (text === undefined) return { data: { format: 'hex', hex: value.toString('hex', 0, maxDataBytes) }, truncated }
  return { data: { format: 'text', text: truncated ? beginningOf(value, maxDataBytes) : text }, truncated }
}

/** Of the data of an event only: pointers say nothing of other values, such as a whole event in structured mode. */
function maskedData(
  value: Buffer,
  eventData: Buffer | null | undefined,
  { format, maxDataBytes, redact }: Showing,
): Data {
  if (format !== 'json' || value.length > maxDataBytes)
    return {
      format: 'masked',
      detail: 'Parts of this stream’s data are masked: one record alone can be shown, as JSON.',
    }
  const text = eventData == null ? undefined : textOf(eventData)
  const json = text === undefined || isDeep(text) ? undefined : jsonOf(text)
  return json === undefined
    ? { format: 'masked', detail: 'Parts of this stream’s data are masked, and this data is no JSON of an event.' }
    : { format: 'json', json: masked(json.value, redact) }
}

/** Deeper JSON is shown as text: readers of JSON, browsers' among them, have limits of their own. */
const MAX_DEPTH = 512

function isDeep(text: string): boolean {
  let depth = 0
  let isString = false
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) isString = !isString
    else if (isString) at += code === 0x5c ? 1 : 0
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > MAX_DEPTH) return true
    } else if (code === 0x5d || code === 0x7d) depth--
  }
  return false
}

/** At most so many bytes, without a cut character. */
const beginningOf = (value: Buffer, maxBytes: number): string =>
  new TextDecoder('utf-8').decode(value.subarray(0, maxBytes), { stream: true })

/** Replaces what the pointers name. The value may be changed. */
export function masked(value: unknown, pointers: readonly string[]): unknown {
  const root = { value }
  eachPlace(root, pointers, (holder, name) => {
    holder[name] = MASK
  })
  return root.value
}
