import { type OrProblem, refusal } from './problem.ts'
import type { Credential, Tenants } from './tenants.ts'

/** The key of a request. */

/** RFC 6750, section 3. */
const CHALLENGE = { 'www-authenticate': 'Bearer realm="kafkatrace"' }
export const CHALLENGE_INVALID = { 'www-authenticate': 'Bearer realm="kafkatrace", error="invalid_token"' }

/**
 * What a request has as its key, or as its token: `Authorization: Bearer` (RFC 6750), `X-API-Key`, or, for webhook senders that cannot set a header, the query
 * parameter `access_token` (CloudEvents webhooks 1.0.2, section 3.2). 400: keys that differ. 401: none.
 */
export function givenIn(request: Request, what: Expected = 'key'): OrProblem<{ key: string }> {
  const keys = keysOf(request)
  const [key] = keys
  if (keys.size > 1)
    return refusal(
      'malformed',
      'The request has keys that differ, or something behind one: send one key alone.',
      undefined,
      'several',
    )
  if (key === undefined)
    return refusal(
      'unauthenticated',
      `Send a ${what}: "Authorization: Bearer <${what.replace(' a ', ' ')}>" or "X-API-Key: <key>".`,
      CHALLENGE,
      'missing',
    )
  return { ok: true, key }
}

/** What a request may have. */
type Expected = 'key' | 'key or a token'

/** As `makeKey` makes them. */
const FORM = /^kt\.[a-z0-9_-]+\.[\w-]+$/

/** What is sent is not repeated: a part of it may be a key. */
export const notOfForm = (what: Expected): string =>
  `This does not look like a ${what.replace('key', 'key (kt.ID.…)')}: send it without quotes, brackets or “Bearer” around it.`

/** 401: it is unknown. */
export function credentialOf(key: string, tenants: Tenants): OrProblem<{ credential: Credential }> {
  const credential = tenants.find(key)
  if (credential === undefined)
    return refusal(
      'unauthenticated',
      FORM.test(key) ? 'The key is unknown.' : notOfForm('key'),
      CHALLENGE_INVALID,
      'unknown',
    )
  return { ok: true, credential }
}

/** The key of a request that was authenticated, to act for whoever sent it; undefined where there is none. */
export const keyOf = (request: Request): string | undefined => [...keysOf(request)][0]

export const hasKey = (request: Request): boolean => keysOf(request).size > 0

/** The distinct keys of a request, wherever they are. A proxy may have checked a different one than we would. */
function keysOf({ headers, url }: Request): Set<string> {
  const keys = new Set<string>(queryKeys(url))
  const authorization = headers.get('authorization')
  // RFC 9110, section 11.1: the scheme is case-insensitive. Bun joins repeated fields with a comma, which no key contains. An empty part counts as a key: a proxy may have taken the comma for a part of the other.
  if (authorization !== null)
    for (const one of authorization.split(',')) {
      const given = one.trim()
      const scheme = BEARER.exec(given)?.[0]
      if (scheme !== undefined) keys.add(given.slice(scheme.length))
      else if (given === '') keys.add('')
    }
  const apiKey = headers.get('x-api-key')
  if (apiKey !== null) for (const one of apiKey.split(',')) keys.add(one.trim())
  return keys
}

const BEARER = /^bearer(?: +|$)/i

function queryKeys(url: string): string[] {
  const query = url.indexOf('?')
  return query === -1 ? [] : new URLSearchParams(url.slice(query + 1)).getAll('access_token')
}

/** Whether the URL has a key: such answers are private (section 3.2). */
export const hasQueryKey = (url: string): boolean => url.includes('?') && queryKeys(url).length > 0
