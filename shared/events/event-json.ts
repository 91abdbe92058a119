import { type Event, EventBuilder, type Fault, isJsonMediaType, parseMediaType, SPEC_VERSION } from './event.ts'
import { type JsonMember, stringAt } from './json.ts'
import { pointerTo } from './json-pointer.ts'

/** JSON event format 1.0.2: from an object's members to an event. */

/** What the producer fills in for the plain form. */
export interface Defaults {
  source: string
  id(): string
  /** RFC 3339. */
  time(): string
}

export type EventResult = { ok: true; event: Event } | { ok: false; faults: Fault[] }

/**
 * Reads an event from an object that {@link outlineJson} has listed. JSON data is a slice of `bytes` (not a copy), a string of another media type becomes its
 * UTF-8 bytes, `data_base64` is decoded.
 * @param defaults for an event without a `specversion`; with one it has to be a complete CloudEvent
 */
export function eventFromJson(bytes: Buffer, members: readonly JsonMember[], defaults?: Defaults): EventResult {
  const builder = new EventBuilder()
  let data: JsonMember | undefined
  let base64: JsonMember | undefined
  for (const member of members) {
    // Section 3.1: a null `data` is data; any other null means absent (section 2.2).
    if (member.name === 'data') data = member
    else if (member.kind === 'null') continue
    else if (member.name === 'data_base64') base64 = member
    else setAttribute(builder, bytes, member)
  }
  if (data !== undefined && base64 !== undefined) builder.fault('data_base64', 'cannot be given together with data')
  if (defaults !== undefined && !builder.has('specversion')) {
    builder.fill('specversion', SPEC_VERSION)
    if (!builder.has('id')) builder.fill('id', defaults.id())
    if (!builder.has('source')) builder.fill('source', defaults.source)
    if (!builder.has('time')) builder.fill('time', defaults.time())
  }
  // Section 3.1.2: the format implies this media type, other bindings do not.
  if ((data !== undefined || base64 !== undefined) && !builder.has('datacontenttype'))
    builder.fill('datacontenttype', 'application/json')
  return builder.build(
    data !== undefined ? dataAt(builder, bytes, data) : base64 !== undefined ? base64At(builder, bytes, base64) : null,
  )
}

/** Section 2.2: strings, booleans and 32-bit integers; attributes of the specification are strings. */
function setAttribute(builder: EventBuilder, bytes: Buffer, member: JsonMember): void {
  if (member.kind === 'string') builder.set(member.name, stringAt(bytes, member))
  else if (STRINGS.has(member.name)) builder.fault(member.name, 'must be a string')
  else if (member.kind === 'true' || member.kind === 'false') builder.set(member.name, member.kind)
  else if (member.kind === 'number') {
    const text = bytes.toString('latin1', member.start, member.end)
    const value = Number(text)
    if (/^-?\d+$/.test(text) && value >= -(2 ** 31) && value < 2 ** 31) builder.set(member.name, String(value))
    else
      builder.fault(member.name, 'must be a whole number from -2147483648 to 2147483647, without fraction or exponent')
  } else builder.fault(member.name, 'must be a string, a boolean or a whole number: an attribute has no structure')
}

const STRINGS = new Set([
  'specversion',
  'id',
  'source',
  'type',
  'subject',
  'time',
  'datacontenttype',
  'dataschema',
  // Documented extensions that are strings; partitionkey becomes the record's key.
  'partitionkey',
  'traceparent',
  'tracestate',
])

/** Section 3.1: JSON as it is, or the content of a string when the media type is not JSON. */
function dataAt(builder: EventBuilder, bytes: Buffer, member: JsonMember): Buffer | null {
  const { essence, charset } = parseMediaType(builder.get('datacontenttype') ?? '')
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'us-ascii') {
    builder.fault('data', `cannot be given as text when datacontenttype has the charset ${charset}: send data_base64`)
    return null
  }
  if (isJsonMediaType(essence)) return bytes.subarray(member.start, member.end)
  if (member.kind !== 'string') {
    builder.fault('data', 'must be a string when datacontenttype is not JSON')
    return null
  }
  const text = stringAt(bytes, member)
  if (!text.isWellFormed()) {
    builder.fault('data', 'must not contain unpaired surrogates, which UTF-8 cannot encode')
    return null
  }
  return Buffer.from(text, 'utf8')
}

/** RFC 4648, section 4, strictly: padded, and no bits left over. */
function base64At(builder: EventBuilder, bytes: Buffer, member: JsonMember): Buffer | null {
  const text = member.kind === 'string' ? stringAt(bytes, member) : undefined
  const data = text === undefined ? undefined : Buffer.from(text, 'base64')
  if (data === undefined || data.toString('base64') !== text) {
    builder.fault('data_base64', 'must be a string of padded Base64 (RFC 4648, section 4)')
    return null
  }
  return data
}

/** The fault of an element that is not an object. */
export const NOT_AN_OBJECT: Fault = { pointer: '', detail: 'must be a JSON object' }

/** Prefixes the pointers of an event's faults with its index. */
export const atIndex = (faults: readonly Fault[], index: number): Fault[] =>
  faults.map(({ pointer, detail }) => ({ pointer: pointerTo(String(index)) + pointer, detail }))
