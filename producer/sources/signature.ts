import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Verdict } from './kind.ts'
import type { Webhook } from './webhook.ts'

/** How senders show that a webhook is theirs. Comparisons take the same time whatever is compared. */

/** How much the time that a sender has signed may differ from ours: what the libraries of Stripe, Slack and Standard Webhooks allow. */
export const TOLERANCE_SECONDS = 300

export const OK: Verdict = { ok: true }
export const unsigned = (detail: string): Verdict => ({ ok: false, reason: 'unsigned', detail })
export const wrong = (detail: string): Verdict => ({ ok: false, reason: 'wrong', detail })

export interface Signing {
  algorithm: 'sha1' | 'sha256' | 'sha512'
  encoding: 'hex' | 'base64' | 'base64url'
  /** One is enough. */
  secrets: readonly (string | Buffer)[]
  /** What is signed, in order. */
  parts: readonly (string | Buffer)[]
}

/** Whether one of the given signatures is the HMAC (RFC 2104) with one of the secrets. */
export function isSigned(given: readonly string[], { algorithm, encoding, secrets, parts }: Signing): boolean {
  let found = false
  for (const secret of secrets) {
    const hmac = createHmac(algorithm, secret)
    for (const part of parts) hmac.update(part)
    const expected = Buffer.from(hmac.digest(encoding), 'latin1')
    for (const signature of given) {
      const bytes = Buffer.from(encoding === 'hex' ? signature.toLowerCase() : signature, 'utf8')
      found = (bytes.length === expected.length && timingSafeEqual(bytes, expected)) || found
    }
  }
  return found
}

/** The verdict on a header field with one signature. @param prefix before the signature, such as `sha256=` */
export function signedBy(header: string, given: string | undefined, signing: Signing, prefix = ''): Verdict {
  if (given === undefined) return unsigned(`${header} is missing`)
  if (!given.startsWith(prefix)) return wrong(`${header} does not begin with ${prefix}`)
  return isSigned([given.slice(prefix.length)], signing) ? OK : wrong(`${header} fits none of the secrets`)
}

/** The SHA-256 of a text, hex: an id where the sender has none. */
export const sha256 = (text: Buffer | string): string => createHash('sha256').update(text).digest('hex')

/** Whether a token is one of the secrets. */
export function isSecret(given: string, secrets: readonly string[]): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest()
  const digest = hash(given)
  let found = false
  for (const secret of secrets) found = timingSafeEqual(digest, hash(secret)) || found
  return found
}

/** The verdict on a time that a signature covers. @param seconds Unix time, as it was signed */
export function timely(seconds: string | undefined, nowMs: number, toleranceSeconds = TOLERANCE_SECONDS): Verdict {
  if (seconds === undefined) return unsigned('the time is missing')
  if (!/^\d{1,12}$/.test(seconds)) return wrong('the time is no Unix time in seconds')
  const offSeconds = Math.round(nowMs / 1_000 - Number(seconds))
  if (Math.abs(offSeconds) <= toleranceSeconds) return OK
  const off = offSeconds > 0 ? `${offSeconds} s ago` : `${-offSeconds} s ahead of this machine's clock`
  return { ok: false, reason: 'stale', detail: `it was signed ${off}, and the tolerance is ${toleranceSeconds} s` }
}

/**
 * The verdict on a sender that has a secret of ours and signs nothing: in `Authorization`, as a bearer token (RFC 6750) or the password of Basic (RFC 7617), in
 * a header field of its own, or, for senders that can set only a URL, in the query parameter `access_token`.
 * @param header lower case
 */
export function holdsSecret(webhook: Webhook, secrets: readonly string[], header = 'x-api-key'): Verdict {
  const given = [
    tokenIn(webhook.header('authorization')),
    webhook.header(header),
    ...new URLSearchParams(webhook.url.split('?')[1]).getAll('access_token'),
  ].filter((token) => token !== undefined)
  const [token, ...more] = given
  if (token === undefined) return unsigned(`neither Authorization nor ${header} nor access_token has a token`)
  if (more.length > 0) return wrong('there is more than one token')
  return isSecret(token, secrets) ? OK : wrong('the token is none of the secrets')
}

/** RFC 9110, section 11.1: the scheme is case-insensitive. */
function tokenIn(authorization: string | undefined): string | undefined {
  const [, scheme = '', token = ''] = /^(bearer|basic) +(\S+)$/i.exec(authorization ?? '') ?? []
  if (scheme.toLowerCase() !== 'basic') return token || undefined
  const [, ...password] = Buffer.from(token, 'base64').toString('utf8').split(':')
  return password.join(':') || undefined
}
