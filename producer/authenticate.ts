import { type Credential, DEFAULT_TENANT, type Tenant, type Tenants } from '../shared/tenants.ts'
import type { Problem } from './problem.ts'

/** Who sends a request, and to which stream. */

/** The stream of `POST /v1/events`, and the one that there always is with AUTH=off. */
export const DEFAULT_STREAM = 'events'

export type Authenticated = { ok: true; tenant: Tenant; keyId: string | undefined } | { ok: false; problem: Problem }

/** Decides whether a request may write to a stream. */
export type Authenticate = (request: Request, stream: string) => Authenticated

/**
 * By key: `Authorization: Bearer` (RFC 6750), `X-API-Key`, or, for senders of webhooks that can set no header, the query parameter
 * `access_token` (CloudEvents webhooks 1.0.2, section 3.2). 401: no key or not one of ours. 403: the tenant is switched off, or the key is not for
 * this stream. 404: the tenant has no such stream; whether another has is not told.
 */
export const authenticateByKey =
  (tenants: Tenants): Authenticate =>
  (request, stream) => {
    const key = keyOf(request)
    if (key === undefined)
      return refusal('unauthenticated', 'Send a key: "Authorization: Bearer <key>" or "X-API-Key: <key>".', CHALLENGE)
    const credential = tenants.find(key)
    if (credential === undefined) return refusal('unauthenticated', 'The key is not known here.', CHALLENGE_INVALID)
    return authorise(credential, stream)
  }

function authorise({ tenant, keyId, streams }: Credential, stream: string): Authenticated {
  if (!tenant.enabled) return refusal('forbidden', `The tenant ${tenant.name} is switched off.`)
  if (!tenant.streams.has(stream)) return unknownStream(tenant)
  if (!streams.has(stream)) return refusal('forbidden', `The key ${keyId} is not for this stream.`)
  return { ok: true, tenant, keyId }
}

/** With AUTH=off: everybody is one tenant. */
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

function keyOf(request: Request): string | undefined {
  const authorization = request.headers.get('authorization')
  // RFC 9110, section 11.1: the scheme's case does not matter.
  if (authorization !== null) return /^bearer +(\S+) *$/i.exec(authorization)?.[1]
  return request.headers.get('x-api-key') ?? queryKey(request.url)
}

function queryKey(url: string): string | undefined {
  const query = url.indexOf('?')
  return query === -1 ? undefined : (new URLSearchParams(url.slice(query + 1)).get('access_token') ?? undefined)
}

/** Whether the key stands in the URL: such answers are private (section 3.2). */
export const hasQueryKey = (url: string): boolean => url.includes('?') && queryKey(url) !== undefined
