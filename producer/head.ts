import type { Problem } from '../shared/http/problem.ts'
import { trimEnd } from '../shared/service/trim.ts'

/** The header fields of a request for events, walked once. */

export interface Head {
  /** What all fields take, each with its ": " and line end. */
  bytes: number
  /** Without trailing semicolons: HTTP allows one without a parameter after it (RFC 9110, section 5.6.6), RFC 2046 does not. */
  contentType: string | undefined
  contentEncoding: string | undefined
  /** The body's announced length; undefined when it is chunked. */
  contentLength: number | undefined
  isChunked: boolean
  hasTrailer: boolean
  requestId: string | undefined
  traceparent: string | undefined
  tracestate: string | undefined
  /** `ce-` fields: attributes of an event in binary mode, names without the prefix, values as received. */
  attributes: readonly (readonly [name: string, value: string])[]
  /** A `ce-` field that was given twice. */
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

/** Bun joins repeated fields with a comma and a space. A percent-encoded value has no space, so one between encoded values joins two fields. */
const SINGLE = new Set(['ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-time'])
const isEncoded = (value: string): boolean => /^(?:[!#$&-~]|%[0-9A-Fa-f]{2})*$/.test(value)

/** Why a request is refused for its header fields alone; undefined when it is not. */
export function headFault({ bytes, hasTrailer, isChunked, repeated }: Head, maxBytes: number): Problem | undefined {
  // RFC 6585, section 5.
  if (bytes > maxBytes)
    return {
      kind: 'headers-too-large',
      detail: `The header fields take more than MAX_HEADER_BYTES=${maxBytes}.`,
      closes: true,
    }
  // A trailer may arrive after the event is stored, and Bun would answer it with 400. Only a chunked body has one.
  if (hasTrailer && isChunked)
    return { kind: 'malformed', detail: 'Trailer fields are not taken: send the body without them.', closes: true }
  if (repeated === undefined) return undefined
  const detail = `${repeated} is given twice, or has a comma and a space: send it once, percent-encoded.`
  return { kind: 'malformed', detail }
}
