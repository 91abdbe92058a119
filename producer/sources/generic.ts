import { Type } from '@sinclair/typebox'
import { isTimestamp } from '../../shared/events/event.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { defineKind, HeaderName, Secrets } from './kind.ts'
import { sha256, signedBy, timely, unsigned, wrong } from './signature.ts'
import type { Webhook } from './webhook.ts'

/** Text with places: `{/pointer}` (RFC 6901) is what is there in the JSON, `{header:NAME}` a header field. */
const Template = Type.String({
  description: 'text with places such as {/pointer} or {header:NAME}',
  pattern: "^(?:[^{}]|\\{(?:/[^{}]*|header:[A-Za-z0-9!#$%&'*+.^_`|~-]+)\\})+$",
})

const closed = { additionalProperties: false }

/** Any sender that signs with an HMAC. The declaration says how, and what an event's attributes are. */
export const generic = defineKind({
  name: 'generic',
  // The shortest of the senders that docs/sources/generic.md names.
  timeoutMs: 5_000,
  options: {
    secrets: Secrets,
    signature: Type.Object(
      {
        header: HeaderName,
        algorithm: oneOf(['sha1', 'sha256', 'sha512']),
        encoding: oneOf(['hex', 'base64', 'base64url']),
        prefix: Type.Optional(Type.String({ minLength: 1 })),
      },
      closed,
    ),
    /** Without it, the body alone is signed. */
    timestamp: Type.Optional(
      Type.Object(
        {
          /** Unix time in seconds or milliseconds, or RFC 3339. */
          header: HeaderName,
          /** Both have to be signed, or an old webhook could be sent with a new time. */
          signed: Type.String({
            pattern: '^(?=.*\\{timestamp\\})(?=.*\\{body\\})(?:[^{}]|\\{timestamp\\}|\\{body\\})+$',
          }),
          toleranceSeconds: Type.Optional(Type.Integer({ minimum: 1 })),
        },
        closed,
      ),
    ),
    fields: Type.Object(
      {
        /** Without it: the body's hash. */
        id: Type.Optional(Template),
        type: Template,
        source: Type.Optional(Template),
        time: Type.Optional(Template),
      },
      closed,
    ),
  },
  verify(webhook, { secrets, signature: { header, algorithm, encoding, prefix }, timestamp }) {
    const time = timestamp && webhook.header(timestamp.header)
    if (timestamp !== undefined && time === undefined) return unsigned(`${timestamp.header} is missing`)
    const verdict = signedBy(
      header,
      webhook.header(header),
      { algorithm, encoding, secrets, parts: partsOf(timestamp?.signed ?? '{body}', time, webhook.body) },
      prefix,
    )
    if (!verdict.ok || timestamp === undefined || time === undefined) return verdict
    const seconds = secondsOf(time)
    if (seconds === undefined) return wrong(`${timestamp.header} is neither a Unix time nor RFC 3339`)
    return timely(seconds, webhook.receivedAtMs, timestamp.toleranceSeconds)
  },
  identify(webhook, { fields: { id, type, source, time } }) {
    return {
      id: id === undefined ? sha256(webhook.body) : fill(id, webhook),
      type: fill(type, webhook),
      source: source && fill(source, webhook),
      time: time && fill(time, webhook),
    }
  },
  /** Some senders, such as Linear, take no other answer for a success. */
  respond: () => ({ status: 200 }),
})

const partsOf = (signed: string, time: string | undefined, body: Buffer): (string | Buffer)[] =>
  signed
    .split(/(\{timestamp\}|\{body\})/)
    .map((part) => (part === '{body}' ? body : part === '{timestamp}' ? (time ?? '') : part))

function secondsOf(time: string): string | undefined {
  if (isTimestamp(time)) return String(Math.floor(Date.parse(time) / 1_000))
  if (/^\d{13}$/.test(time)) return time.slice(0, -3)
  return /^\d{1,12}$/.test(time) ? time : undefined
}

/** The text with its places filled in; undefined where one of them is empty. */
function fill(template: string, webhook: Webhook): string | undefined {
  let isWhole = true
  const text = template.replace(/\{([^}]+)\}/g, (_, place: string) => {
    const value = place.startsWith('/') ? webhook.json.text(place) : webhook.header(place.slice('header:'.length))
    if (value === undefined || value === '') isWhole = false
    return value ?? ''
  })
  return isWhole ? text : undefined
}
