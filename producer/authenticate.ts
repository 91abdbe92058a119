import { type Authorised, authoriseByKey, authoriseNobody } from '../shared/http/authorise.ts'
import type { Tenant, Tenants } from '../shared/http/tenants.ts'

/** Who sends a request, and to which stream. The key needs the role `send`. */

/** Decides whether a request may write to a stream. */
export type Authenticate = (request: Request, stream: string) => Authorised

export function authenticateByKey(tenants: Tenants): Authenticate {
  const authorise = authoriseByKey(tenants)
  return (request, stream) => authorise(request, { role: 'send', tenant: undefined, stream })
}

/** With AUTH=off: all requests belong to one tenant. */
export function authenticateNobody(streams: readonly string[]): { authenticate: Authenticate; tenant: Tenant } {
  const { authorise, tenant } = authoriseNobody(streams)
  return { tenant, authenticate: (request, stream) => authorise(request, { role: 'send', tenant: undefined, stream }) }
}
