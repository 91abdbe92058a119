import { trimEnd } from '../shared/service/trim.ts'
import type { Problem } from './problem.ts'

/** The header fields of a request for events, walked once. */

export interface Head {
  /** What all fields take, each with its ": " and line end. */
  bytes: number
  /** Without semicolons at its end: behind one, HTTP lets the parameter be missing (RFC 9110, section 5.6.6), RFC 2046 does not. */
  contentType: string | undefined
  contentEncoding: string | undefined
  /** What the body takes, as announced; undefined when it is sent in chunks. */
  contentLength: number | undefined
  isChunked: boolean
  hasTrailer: boolean
  requestId: string | undefined
  traceparent: string | undefined
  tracestate: string | undefined
  /** `ce-` fields: attributes of an event in binary mode, by their names without the prefix, with their values as they came. */
  attributes: readonly (readonly [name: string, value: string])[]
  /** A field with an attribute that was given twice. */
  repeated: string | undefined
}

type Attributes = [name: string, value: string][]

export function headOf(headers: Headers): Head {
  const head: Head = {
    bytes: 0,
    contentType: undefined,
    contentEncoding: undefined,
    contentLength: undefined,
    isChunked: false,
    hasTrailer: false,
    requestId: undefined,
    traceparent: undefined,
    tracestate: undefined,
    attributes: NO_ATTRIBUTES,
    repeated: undefined,
  }
  let attributes: Attributes | undefined
  headers.forEach((value, name) => {
    head.bytes += name.length + value.length + 4
    switch (name) {
      case 'content-type':
        head.contentType = value.endsWith(';') ? trimEnd(value, ' \t;') : value
        break
      case 'content-encoding':
        head.contentEncoding = value
        break
      case 'content-length':
        head.contentLength = Number(value)
        break
      case 'transfer-encoding':
        head.isChunked = true
        break
      case 'trailer':
        head.hasTrailer = true
        break
      case 'x-request-id':
        head.requestId = value
        break
      case 'traceparent':
        head.traceparent = value
        break
      case 'tracestate':
        head.tracestate = value
        break
      default:
        if (!name.startsWith('ce-')) return
        attributes ??= []
        attributes.push([name.slice(3), value])
        if (SINGLE.has(name) && value.includes(', ') && value.split(', ').every(isEncoded)) head.repeated = name
    }
  })
  if (attributes !== undefined) head.attributes = attributes
  return head
}

const NO_ATTRIBUTES: Attributes = []

/**
 * Bun joins fields of one name by a comma and a space. A sender that encodes sends no space, so that between two encoded values they stand for two
 * fields; where something else is not encoded either, for themselves.
 */
const SINGLE = new Set(['ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-time'])
const isEncoded = (value: string): boolean => /^(?:[!#$&-~]|%[0-9A-Fa-f]{2})*$/.test(value)

/** Why a request is refused for its header fields alone; undefined when it is not. */
export function headFault({ bytes, hasTrailer, isChunked, repeated }: Head, maxBytes: number): Problem | undefined {
  if (bytes > maxBytes) return tooLarge(maxBytes)
  // Only a chunked body has one.
  if (hasTrailer && isChunked) return TRAILER
  return repeated === undefined ? undefined : givenTwice(repeated)
}

/** RFC 6585, section 5. */
const tooLarge = (maxBytes: number): Problem => ({
  kind: 'headers-too-large',
  detail: `The header fields take more than MAX_HEADER_BYTES=${maxBytes}.`,
  closes: true,
})

/** It may come when the event is stored already, and Bun would answer it, 400. */
const TRAILER: Problem = {
  kind: 'malformed',
  detail: 'Trailer fields are not taken: send the body without them.',
  closes: true,
}

const givenTwice = (name: string): Problem => ({
  kind: 'malformed',
  detail: `${name} is given twice, or has a comma and a space: send it once, percent-encoded.`,
})
