import { isIPv6 } from 'node:net'
import { pointerTo } from './json-pointer.ts'

/**
 * A CloudEvent (CloudEvents 1.0.2, section 3): context attributes as canonical strings (section 3.1), data as bytes. The binary modes of the HTTP and Kafka
 * bindings carry it like this, so that neither service re-encodes data.
 */
export interface Event {
  id: string
  source: string
  type: string
  subject?: string
  /** RFC 3339 with an offset, as sent. */
  time?: string
  datacontenttype?: string
  dataschema?: string
  /** Extension attributes by name, each value in its canonical string form. */
  extensions: Readonly<Record<string, string>>
  /** null: no data, as opposed to zero bytes of it. */
  data: Buffer | null
}

/** A fault of one member of an event: an RFC 6901 pointer into the event's JSON form, and what is expected there. */
export interface Fault {
  pointer: string
  detail: string
}

/** The supported version of the specification. */
export const SPEC_VERSION = '1.0'

/** Builds an event from attributes in any order, with values as canonical strings, and validates each. Keeps all faults, so that a client sees them at once. */
export class EventBuilder {
  readonly faults: Fault[] = []
  #specversion: string | undefined
  #id: string | undefined
  #source: string | undefined
  #type: string | undefined
  #subject: string | undefined
  #time: string | undefined
  #datacontenttype: string | undefined
  #dataschema: string | undefined
  #extensions: Record<string, string> = NO_EXTENSIONS

  /** Adds a fault that the caller has found. */
  fault(member: string, detail: string): void {
    this.faults.push({ pointer: pointerTo(member), detail })
  }

  /** Sets an attribute. Setting one twice is a fault. */
  set(name: string, value: string): void {
    if (this.has(name)) {
      this.fault(name, 'is given twice')
      return
    }
    const detail = attributeFault(name, value)
    if (detail !== undefined) this.fault(name, detail)
    this.fill(name, value)
  }

  /** Sets an attribute to a value that is known to be valid. */
  fill(name: string, value: string): void {
    switch (name) {
      case 'specversion':
        this.#specversion = value
        break
      case 'id':
        this.#id = value
        break
      case 'source':
        this.#source = value
        break
      case 'type':
        this.#type = value
        break
      case 'subject':
        this.#subject = value
        break
      case 'time':
        this.#time = value
        break
      case 'datacontenttype':
        this.#datacontenttype = value
        break
      case 'dataschema':
        this.#dataschema = value
        break
      default:
        // Without a prototype, "constructor" is a name like any other; "__proto__" is not a valid name.
        if (this.#extensions === NO_EXTENSIONS) this.#extensions = Object.create(null) as Record<string, string>
        this.#extensions[name] = value
    }
  }

  has(name: string): boolean {
    return this.get(name) !== undefined
  }

  get(name: string): string | undefined {
    switch (name) {
      case 'specversion':
        return this.#specversion
      case 'id':
        return this.#id
      case 'source':
        return this.#source
      case 'type':
        return this.#type
      case 'subject':
        return this.#subject
      case 'time':
        return this.#time
      case 'datacontenttype':
        return this.#datacontenttype
      case 'dataschema':
        return this.#dataschema
      default:
        return this.#extensions[name]
    }
  }

  /** The event, or every fault. Attributes that are required (section 3.2) and missing are faults. */
  build(data: Buffer | null): { ok: true; event: Event } | { ok: false; faults: Fault[] } {
    if (this.#specversion === undefined) this.#missing('specversion')
    if (this.#id === undefined) this.#missing('id')
    if (this.#source === undefined) this.#missing('source')
    if (this.#type === undefined) this.#missing('type')
    if (this.faults.length > 0) return { ok: false, faults: this.faults }
    const event: Event = {
      id: this.#id ?? '',
      source: this.#source ?? '',
      type: this.#type ?? '',
      extensions: this.#extensions,
      data,
    }
    if (this.#subject !== undefined) event.subject = this.#subject
    if (this.#time !== undefined) event.time = this.#time
    if (this.#datacontenttype !== undefined) event.datacontenttype = this.#datacontenttype
    if (this.#dataschema !== undefined) event.dataschema = this.#dataschema
    return { ok: true, event }
  }

  #missing(name: string): void {
    // An attribute with an invalid value has its fault already.
    if (!this.faults.some((fault) => fault.pointer === pointerTo(name))) this.fault(name, 'is required')
  }
}

const NO_EXTENSIONS: Record<string, string> = Object.freeze(Object.create(null) as Record<string, string>)

/** The longest value of an attribute, in UTF-16 code units. Bounds the cost of matching the patterns below. */
export const MAX_ATTRIBUTE_LENGTH = 16_384

/** The media types of structured events and batches (Kafka binding 1.0.2, section 3), which data in binary mode cannot have. */
export const STRUCTURED = /^application\/cloudevents/i

/** The fault of an attribute; undefined when there is none. */
export function attributeFault(name: string, value: string): string | undefined {
  if (value.length > MAX_ATTRIBUTE_LENGTH) return `must not be longer than ${MAX_ATTRIBUTE_LENGTH} characters`
  switch (name) {
    case 'specversion':
      return value === SPEC_VERSION ? undefined : 'must be "1.0"'
    case 'id':
    case 'type':
    case 'subject':
    // Partitioning extension: a non-empty string.
    case 'partitionkey':
      return value === '' ? 'must not be empty' : stringFault(value)
    case 'source':
      if (value === '') return 'must not be empty'
      return isUriReference(value) ? undefined : 'must be a URI-reference (RFC 3986, section 4.1)'
    case 'dataschema':
      return isAbsoluteUri(value)
        ? undefined
        : 'must be an absolute URI without a fragment (RFC 3986, section 4.3), such as https://example.com/schemas/order'
    case 'time':
      return isTimestamp(value) ? undefined : 'must be an RFC 3339 timestamp, such as 2026-01-31T23:59:59Z'
    case 'datacontenttype':
      if (STRUCTURED.test(value)) return 'must not be a media type of CloudEvents: Kafka tells structured events by it'
      return isMediaType(value) ? undefined : 'must be a media type (RFC 2046), such as application/json'
    case 'data':
      return 'is a reserved name (CloudEvents 1.0.2, section 3.1) and cannot be an attribute'
    default:
      return ATTRIBUTE_NAME.test(name)
        ? stringFault(value)
        : 'is not a valid attribute name: only a-z and 0-9 (CloudEvents 1.0.2, section 3.1)'
  }
}

const ATTRIBUTE_NAME = /^[a-z0-9]+$/

const PRINTABLE_ASCII = /^[\x20-\x7e]*$/
// CloudEvents 1.0.2, "Type System", String: control characters, noncharacters and surrogates without a partner.
const DISALLOWED = /[\p{Cc}\p{Noncharacter_Code_Point}\p{Cs}]/u

function stringFault(value: string): string | undefined {
  return PRINTABLE_ASCII.test(value) || !DISALLOWED.test(value)
    ? undefined
    : 'must not contain control characters, Unicode noncharacters or unpaired surrogates'
}

// RFC 3986, appendix A. The alternatives of each repetition start with different characters, so that matching takes linear time.
const UNRESERVED_SUB_DELIMS = "A-Za-z0-9\\-._~!$&'()*+,;="
const pchars = (more: string, count: '*' | '+') => `(?:[${UNRESERVED_SUB_DELIMS}${more}]|%[0-9A-Fa-f]{2})${count}`
const AUTHORITY = `(?:${pchars(':', '*')}@)?(?:\\[([^\\]]*)\\]|${pchars('', '*')})(?::[0-9]*)?`
const PATH_CHARACTERS = pchars(':@/', '*')
const QUERY = `(?:\\?${pchars(':@/?', '*')})?`
const FRAGMENT = `(?:#${pchars(':@/?', '*')})?`
const HIERARCHY = `(?://${AUTHORITY}(?:/${PATH_CHARACTERS})?|(?!//)${PATH_CHARACTERS})`
const SCHEME = '[A-Za-z][A-Za-z0-9+.\\-]*:'
const ABSOLUTE_URI = new RegExp(`^${SCHEME}${HIERARCHY}${QUERY}$`)
// A colon in the first segment would make it a scheme (section 4.2).
const URI_REFERENCE = new RegExp(
  `^(?:${SCHEME}${HIERARCHY}|//${AUTHORITY}(?:/${PATH_CHARACTERS})?|(?!//)(?![^/?#]*:)${PATH_CHARACTERS})${QUERY}${FRAGMENT}$`,
)
// Section 3.2.2: IPvFuture.
const FUTURE_ADDRESS = new RegExp(`^v[0-9A-Fa-f]+\\.[${UNRESERVED_SUB_DELIMS}:]+$`, 'i')

const addressIsValid = (literal: string | undefined): boolean =>
  literal === undefined || (isIPv6(literal) && !literal.includes('%')) || FUTURE_ADDRESS.test(literal)

/** RFC 3986, section 4.1. */
export function isUriReference(value: string): boolean {
  const match = URI_REFERENCE.exec(value)
  return match !== null && addressIsValid(match[1]) && addressIsValid(match[2])
}

/** RFC 3986, section 4.3: with a scheme, without a fragment. */
export function isAbsoluteUri(value: string): boolean {
  const match = ABSOLUTE_URI.exec(value)
  return match !== null && addressIsValid(match[1])
}

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/i
const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** RFC 3339, section 5.6, with the days of each month, and leap seconds (section 5.7) at 23:59:60 UTC, which `Date.parse` does not accept. */
export function isTimestamp(value: string): boolean {
  if (!TIMESTAMP.test(value)) return false
  const digits = (at: number): number => (value.charCodeAt(at) - 48) * 10 + value.charCodeAt(at + 1) - 48
  const year = digits(0) * 100 + digits(2)
  const month = digits(5)
  const day = digits(8)
  const hour = digits(11)
  const minute = digits(14)
  const second = digits(17)
  const utc = value.endsWith('Z') || value.endsWith('z')
  const offsetHour = utc ? 0 : digits(value.length - 5)
  const offsetMinute = utc ? 0 : digits(value.length - 2)
  const leapYear = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
  const days = month === 2 && leapYear ? 29 : (DAYS[month - 1] ?? 0)
  if (day < 1 || day > days || hour > 23 || minute > 59 || offsetHour > 23 || offsetMinute > 59) return false
  if (second < 60) return true
  const offsetMinutes = (offsetHour * 60 + offsetMinute) * (/-\d\d:\d\d$/.test(value) ? -1 : 1)
  const utcMinutes = (hour * 60 + minute - offsetMinutes + 2 * MINUTES_A_DAY) % MINUTES_A_DAY
  return second === 60 && utcMinutes === MINUTES_A_DAY - 1
}

const MINUTES_A_DAY = 24 * 60

/** The same without leap seconds, which ECMAScript does not know. */
export const isTime = (text: string): boolean => isTimestamp(text) && !Number.isNaN(Date.parse(text))

// RFC 2045, section 5.1, with RFC 7231's optional white space around the semicolons.
const TOKEN = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"
const QUOTED = '"(?:[\\x20\\x21\\x23-\\x5b\\x5d-\\x7e]|\\\\[\\x20-\\x7e])*"'
export const MEDIA_TYPE_PATTERN = `^${TOKEN}/${TOKEN}(?:[ \\t]*;[ \\t]*${TOKEN}=(?:${TOKEN}|${QUOTED}))*$`
const MEDIA_TYPE = new RegExp(MEDIA_TYPE_PATTERN)

/** RFC 2046 by way of RFC 2045's grammar, all ASCII. */
export const isMediaType = (value: string): boolean => COMMON_MEDIA_TYPES.has(value) || MEDIA_TYPE.test(value)

// Nearly every event has one of these, and a lookup is faster than matching.
const COMMON_MEDIA_TYPES = new Set(['application/json', 'application/json; charset=utf-8', 'text/plain'])

export interface MediaType {
  /** `type/subtype` in lower case, without parameters. */
  essence: string
  /** The `charset` parameter in lower case, without quotes. */
  charset: string | undefined
}

/** Parses a valid media type. */
export function parseMediaType(value: string): MediaType {
  const end = value.indexOf(';')
  if (end === -1) return { essence: value.trim().toLowerCase(), charset: undefined }
  const charset = /;[ \t]*charset=(?:"([^"]*)"|([^;\s]*))/i.exec(value)
  return {
    essence: value.slice(0, end).trim().toLowerCase(),
    charset: (charset?.[1] ?? charset?.[2])?.toLowerCase(),
  }
}

/** JSON event format 1.0.2, section 3.1.1: the subtype is `json` or ends with `+json`. */
export const isJsonMediaType = (essence: string): boolean => essence.endsWith('/json') || essence.endsWith('+json')
