import { attributeFault, EventBuilder } from '../shared/events/event.ts'
import { atIndex, type Defaults, type EventResult, eventFromJson, NOT_AN_OBJECT } from '../shared/events/event-json.ts'
import { type JsonFault, type JsonLimits, type JsonMember, outlineJson } from '../shared/events/json.ts'
import type { OrProblem, Problem } from '../shared/http/problem.ts'
import type { ProducerConfig } from './config.ts'
import type { Head } from './head.ts'
import type { Mode } from './media-type.ts'

/** A body to events. */

/** Limits of a body. */
type ParseConfig = Pick<ProducerConfig, 'MAX_NESTING_DEPTH' | 'MAX_BATCH_EVENTS' | 'CLOUDEVENTS_STRICT'>

/** The most members of an event: each but its data becomes a header of its record. */
const MAX_MEMBERS = 1_000

/** The most members of a body, for each event that it may have: listing millions would block the event loop. */
const MEMBERS_AN_EVENT = 32

/** The events in order; pointers to faults of a list's events begin with their index. */
export type Parsed = OrProblem<{ results: EventResult[]; isList: boolean }>

/** Reads a whole body. */
export function parseBody(
  mode: Exclude<Mode, 'ndjson'>,
  head: Head,
  bytes: Buffer,
  defaults: Defaults,
  config: ParseConfig,
): Parsed {
  if (mode === 'binary') return one(parseBinary(head, bytes, config.CLOUDEVENTS_STRICT === 'on'))
  const limits = {
    maxDepth: config.MAX_NESTING_DEPTH,
    maxElements: config.MAX_BATCH_EVENTS,
    maxMembers: Math.max(MAX_MEMBERS, config.MAX_BATCH_EVENTS * MEMBERS_AN_EVENT),
    maxObjectMembers: MAX_MEMBERS,
  }
  const parsed = outlineJson(bytes, limits)
  if (!parsed.ok) return { ok: false, problem: problemOf(parsed.fault, limits, 'body') }
  const { outline } = parsed
  if (outline.root === 'object' && mode !== 'batch')
    return one(eventFromJson(bytes, outline.members, mode === 'plain' ? defaults : undefined))
  if (outline.root === 'array' && mode !== 'structured')
    return {
      ok: true,
      isList: true,
      results: outline.elements.map(({ members }, index) =>
        numbered(element(bytes, members, mode === 'plain' ? defaults : undefined), index),
      ),
    }
  return one({ ok: false, faults: [{ pointer: '', detail: EXPECTED[mode] }] })
}

const one = (result: EventResult): Parsed => ({ ok: true, isList: false, results: [result] })

const EXPECTED = {
  structured: 'must be a JSON object',
  batch: 'must be a JSON array of objects',
  plain: 'must be a JSON object or an array of them',
}

/** Reads a line of an NDJSON stream. */
export function parseLine(
  line: Buffer,
  defaults: Defaults,
  maxDepth: number,
): EventResult | { ok: false; problem: Problem } {
  const limits = {
    maxDepth,
    maxElements: Number.POSITIVE_INFINITY,
    maxMembers: MAX_MEMBERS,
    maxObjectMembers: MAX_MEMBERS,
  }
  const parsed = outlineJson(line, limits)
  if (!parsed.ok) return { ok: false, problem: problemOf(parsed.fault, limits, 'line') }
  return element(line, parsed.outline.root === 'object' ? parsed.outline.members : undefined, defaults)
}

const element = (bytes: Buffer, members: JsonMember[] | undefined, defaults: Defaults | undefined): EventResult =>
  members === undefined ? { ok: false, faults: [NOT_AN_OBJECT] } : eventFromJson(bytes, members, defaults)

const numbered = (result: EventResult, index: number): EventResult =>
  result.ok ? result : { ok: false, faults: atIndex(result.faults, index) }

function problemOf(fault: JsonFault, limits: JsonLimits, text: 'body' | 'line'): Problem {
  switch (fault.reason) {
    case 'syntax':
      return { kind: 'malformed', detail: `The ${text} is not valid JSON: ${fault.detail}.` }
    case 'too deep':
      return {
        kind: 'too-deep',
        detail: `The ${text} is nested more than MAX_NESTING_DEPTH=${limits.maxDepth} levels deep.`,
      }
    case 'too many':
      return {
        kind: 'too-many-events',
        detail: `The ${text} has more than MAX_BATCH_EVENTS=${limits.maxElements} events: send smaller batches, or application/x-ndjson.`,
      }
    case 'too many members':
      return {
        kind: text === 'line' ? 'event-too-large' : 'body-too-large',
        detail: `An event of the ${text} has more than ${MAX_MEMBERS} members${text === 'line' ? '' : `, or all have more than ${limits.maxMembers}, which is ${MEMBERS_AN_EVENT} for each of MAX_BATCH_EVENTS`}: put what they say into data.`,
      }
  }
}

/**
 * Binary mode (HTTP binding 1.0.2, section 3.1): `ce-` headers are attributes, `Content-Type` is `datacontenttype`, the body is the data, byte for byte. HTTP
 * does not distinguish an empty body from none: with a Content-Type it is zero bytes of data, without one there is no data.
 */
function parseBinary({ attributes, contentType }: Head, bytes: Buffer, strict: boolean): EventResult {
  const builder = new EventBuilder()
  for (const [name, value] of attributes) setAttribute(builder, name, value, strict)
  if (contentType !== undefined) builder.set('datacontenttype', contentType)
  return builder.build(bytes.length === 0 && contentType === undefined ? null : bytes)
}

function setAttribute(builder: EventBuilder, name: string, value: string, strict: boolean): void {
  // Section 3.1.1.
  if (name === 'datacontenttype') {
    builder.fault(name, 'must not be given as a ce- header: in binary mode it is the Content-Type')
    return
  }
  const decoded = decodeHeader(value, strict)
  // A URI such as "/a%20b" that its sender did not encode again decodes to something that is not a URI.
  const isUnencodedUri = (): boolean =>
    URIS.has(name) && value.includes('%') && (!decoded.ok || attributeFault(name, decoded.value) !== undefined)
  if (!strict && isUnencodedUri()) builder.set(name, value)
  else if (decoded.ok) builder.set(name, decoded.value)
  else builder.fault(name, decoded.detail)
}

const URIS = new Set(['source', 'dataschema'])

/**
 * Section 3.1.3.2: a quoted value is unescaped first (RFC 7230, section 3.2.6), then percent-decoded once. SDKs send values unencoded, so whatever no
 * encoding sender can have meant is taken literally: a percent sign without two hexadecimal digits, a double quote that is not one of a pair around the
 * value, and UTF-8. Bytes that are not UTF-8 are refused, encoded or not.
 * @param value a character a byte, as in `Headers`
 * @param strict refuses everything that the section requires to be encoded
 */
export function decodeHeader(
  value: string,
  strict: boolean,
): { ok: true; value: string } | { ok: false; detail: string } {
  if (PLAIN.test(value) && !(strict && value.includes(' '))) return { ok: true, value }
  if (strict && !PRINTABLE.test(value))
    return { ok: false, detail: 'must be printable ASCII in a header: percent-encode the rest' }
  const text = ENCLOSED.test(value) ? value.slice(1, -1).replace(/\\(.)/g, '$1') : value
  if (strict && text === value && value.includes('"'))
    return { ok: false, detail: 'has a double quote that is not one of two around the whole value: percent-encode it' }
  // Bun joins repeated fields with a comma and a space.
  if (strict && text === value && value.includes(' '))
    return { ok: false, detail: 'has a space, or is given twice: percent-encode it, and send it once' }
  if (strict && /%(?![0-9A-Fa-f]{2})/.test(text))
    return { ok: false, detail: 'has a per cent sign without two hexadecimal digits' }
  const bytes = text.replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 16)),
  )
  if (ASCII.test(bytes)) return { ok: true, value: bytes }
  try {
    return { ok: true, value: utf8.decode(Buffer.from(bytes, 'latin1')) }
  } catch {
    return { ok: false, detail: 'is not valid UTF-8: percent-encode it, or send the event in structured mode' }
  }
}

const PLAIN = /^[\x20\x21\x23\x24\x26-\x7e]*$/
const PRINTABLE = /^[\x20-\x7e]*$/
const ASCII = /^[\0-\x7f]*$/
const ENCLOSED = /^"(?:[^"\\]|\\.)*"$/
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
