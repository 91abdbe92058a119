import { isMediaType, parseMediaType } from '../shared/events/event.ts'
import type { OrProblem } from '../shared/http/problem.ts'

/** How a request carries its events. */

export type Mode = 'binary' | 'structured' | 'batch' | 'plain' | 'ndjson'

export type ModeResult = OrProblem<{ mode: Mode }>

/**
 * CloudEvents HTTP binding 1.0.2, section 3: the media type decides first, case-insensitively, then `ce-` headers mean binary mode, then come our own
 * forms.
 * @param hasAttributes whether there are `ce-` headers
 */
export function modeOf(contentType: string | undefined, hasAttributes: boolean): ModeResult {
  if (contentType === 'application/json' && !hasAttributes) return PLAIN
  const { essence, charset } = contentType === undefined ? NOTHING : parseMediaType(contentType)
  const isCloudEvents = essence.startsWith('application/cloudevents')
  if (!isCloudEvents && hasAttributes) return { ok: true, mode: 'binary' }
  const mode = MODES[essence]
  if (mode === undefined || contentType === undefined || !isMediaType(contentType))
    return unsupported(
      contentType === undefined
        ? 'The Content-Type header is missing.'
        : isCloudEvents
          ? 'The event format is not supported.'
          : 'The Content-Type is not supported, and there is no ce- header, which would make the body an event’s data.',
    )
  // RFC 8259, section 8.1: JSON exchanged between systems is UTF-8.
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8')
    return unsupported('JSON is taken as UTF-8 only, without a charset parameter or with charset=utf-8.')
  return { ok: true, mode }
}

const PLAIN: ModeResult = { ok: true, mode: 'plain' }
const NOTHING = { essence: '', charset: undefined }

/** None is registered with IANA. The answer has the first one. */
export const LINES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'] as const

const MODES: Readonly<Record<string, Mode>> = Object.assign(Object.create(null), {
  'application/cloudevents+json': 'structured',
  'application/cloudevents-batch+json': 'batch',
  'application/json': 'plain',
  ...Object.fromEntries(LINES.map((type) => [type, 'ndjson' as const])),
} satisfies Record<string, Mode>)

/** The media types that a body may have, for the `Accept-Post` header. */
export const ACCEPTED = Object.keys(MODES).join(', ')

const unsupported = (why: string): ModeResult => ({
  ok: false,
  problem: {
    kind: 'unsupported-media-type',
    detail: `${why} Send ${ACCEPTED}, or any type with ce- headers (binary mode).`,
    headers: { 'accept-post': ACCEPTED },
  },
})

/** Content codings (RFC 9110, section 8.4). */
export type Encoding = 'identity' | 'gzip' | 'zstd'

/** @param value of the Content-Encoding field */
export function encodingOf(value: string | undefined): OrProblem<{ encoding: Encoding }> {
  switch (value?.trim().toLowerCase()) {
    case undefined:
    case '':
    case 'identity':
      return { ok: true, encoding: 'identity' }
    case 'gzip':
    // RFC 9110, section 8.4.1.3.
    case 'x-gzip':
      return { ok: true, encoding: 'gzip' }
    case 'zstd':
      return { ok: true, encoding: 'zstd' }
    default:
      return {
        ok: false,
        problem: {
          kind: 'unsupported-encoding',
          detail: 'The Content-Encoding is not supported: send gzip, zstd, or none.',
          headers: { 'accept-encoding': 'gzip, zstd' },
        },
      }
  }
}
