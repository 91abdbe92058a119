import { DEFAULT_TENANT } from '../shared/events/topics.ts'
import type { OrProblem, Problem } from './problem.ts'
import type { Credential, Tenant, Tenants } from './tenants.ts'

/** Who sends a request, and to which stream. */

/** The stream of `POST /v1/events`. With AUTH=off it always exists. */
export const DEFAULT_STREAM = 'events'

export type Authenticated = OrProblem<{ tenant: Tenant; keyId: string | undefined }>

/** Decides whether a request may write to a stream. */
export type Authenticate = (request: Request, stream: string) => Authenticated

/**
 * By key: `Authorization: Bearer` (RFC 6750), `X-API-Key`, or, for webhook senders that cannot set a header, the query parameter `access_token`
 * (CloudEvents webhooks 1.0.2, section 3.2). 400: keys that differ. 401: no key, or an unknown one. 403: the tenant is disabled, or the key is not for
 * this stream, whether or not the tenant has it. 404: the tenant has no such stream, whether or not another has.
 */
export const authenticateByKey =
  (tenants: Tenants): Authenticate =>
  (request, stream) => {
    const keys = keysOf(request)
    const [key] = keys
    if (keys.size > 1) return refusal('malformed', 'The request has keys that differ: send one of them.')
    if (key === undefined)
      return refusal('unauthenticated', 'Send a key: "Authorization: Bearer <key>" or "X-API-Key: <key>".', CHALLENGE)
    const credential = tenants.find(key)
    if (credential === undefined) return refusal('unauthenticated', 'The key is unknown.', CHALLENGE_INVALID)
    return authorise(credential, stream)
  }

function authorise({ tenant, keyId, streams }: Credential, stream: string): Authenticated {
  if (!tenant.enabled) return refusal('forbidden', `The tenant ${tenant.name} is switched off.`)
  if (streams.has(stream)) return { ok: true, tenant, keyId }
  if (streams.size === tenant.streams.size) return unknownStream(tenant)
  return refusal('forbidden', `The key ${keyId} is for these streams: ${[...streams].join(', ')}.`)
}

/** With AUTH=off: all requests belong to one tenant. */
export function authenticateNobody(streams: readonly string[]): { authenticate: Authenticate; tenant: Tenant } {
  const tenant: Tenant = { name: DEFAULT_TENANT, enabled: true, streams: new Set([DEFAULT_STREAM, ...streams]) }
  return {
    tenant,
    authenticate: (_request, stream) =>
      tenant.streams.has(stream) ? { ok: true, tenant, keyId: undefined } : unknownStream(tenant),
  }
}

/** RFC 6750, section 3. */
const CHALLENGE = { 'www-authenticate': 'Bearer realm="kafkatrace"' }
const CHALLENGE_INVALID = { 'www-authenticate': 'Bearer realm="kafkatrace", error="invalid_token"' }

const unknownStream = (tenant: Tenant): Authenticated =>
  refusal('unknown-stream', `The tenant ${tenant.name} has the streams: ${[...tenant.streams].join(', ')}.`)

const refusal = (kind: Problem['kind'], detail: string, headers?: Record<string, string>): Authenticated => ({
  ok: false,
  problem: headers === undefined ? { kind, detail } : { kind, detail, headers },
})

/** The distinct keys of a request, wherever they are. A proxy may have checked a different one than we would. */
function keysOf({ headers, url }: Request): Set<string> {
  const keys = new Set<string>(queryKeys(url))
  const authorization = headers.get('authorization')
  // RFC 9110, section 11.1: the scheme is case-insensitive. Bun joins repeated fields with a comma, which no key contains.
  if (authorization !== null)
    for (const one of authorization.split(',')) {
      const given = one.trim()
      const scheme = BEARER.exec(given)?.[0]
      if (scheme !== undefined) keys.add(given.slice(scheme.length))
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
