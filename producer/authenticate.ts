import { DEFAULT_TENANT } from '../shared/events/topics.ts'
import { credentialOf } from '../shared/http/credentials.ts'
import { type OrProblem, refusal } from '../shared/http/problem.ts'
import type { Credential, Tenant, Tenants } from '../shared/http/tenants.ts'

/** Who sends a request, and to which stream. */

/** The stream of `POST /v1/events`. With AUTH=off it always exists. */
export const DEFAULT_STREAM = 'events'

export type Authenticated = OrProblem<{ tenant: Tenant; keyId: string | undefined }>

/** Decides whether a request may write to a stream. */
export type Authenticate = (request: Request, stream: string) => Authenticated

/**
 * By key. 400 and 401: as in `credentialOf`. 403: the tenant is disabled, or the key is not for this stream, whether or not the tenant has it. 404: the tenant
 * has no such stream, whether or not another has.
 */
export const authenticateByKey =
  (tenants: Tenants): Authenticate =>
  (request, stream) => {
    const found = credentialOf(request, tenants)
    return found.ok ? authorise(found.credential, stream) : found
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

const unknownStream = (tenant: Tenant): Authenticated =>
  refusal('unknown-stream', `The tenant ${tenant.name} has the streams: ${[...tenant.streams].join(', ')}.`)
