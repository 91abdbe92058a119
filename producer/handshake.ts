import type { Allowed } from '../shared/http/access.ts'
import type { OrProblem } from '../shared/http/problem.ts'
import type { Authenticate } from './authenticate.ts'

/** The validation handshake of CloudEvents webhooks 1.0.2, section 4: a sender asks by `OPTIONS` whether it may deliver here. */

export type Handshake = OrProblem<{ granted: boolean; headers: Record<string, string> }>

/** Section 4.1.2: a DNS expression; a port is allowed, too. */
const ORIGIN = /^[A-Za-z0-9*](?:[A-Za-z0-9.*-]{0,251}[A-Za-z0-9*])?(?::\d{1,5})?$/

/** Section 4.1.4. */
const RATE = /^[1-9]\d{0,9}$/

/**
 * Answers at once; a callback URL is never called. No key is needed, since the handshake protects the sender's targets and authenticates nobody; deliveries
 * need a key as always. A key that is given must be valid, and the lowest of its quotas is the allowed rate.
 */
export async function handshake(request: Request, stream: string, authenticate: Authenticate): Promise<Handshake> {
  const headers: Record<string, string> = { allow: 'POST, OPTIONS', 'cache-control': 'no-store' }
  const authenticated = await authenticate(request, stream)
  const withoutKey =
    !authenticated.ok && authenticated.problem.headers?.['www-authenticate']?.includes('error') === false
  if (!authenticated.ok && !withoutKey) return authenticated
  const origin = request.headers.get('webhook-request-origin')
  // Without the header it is an ordinary OPTIONS request; an invalid one is not granted (section 4.2).
  if (origin === null || !ORIGIN.test(origin)) return { ok: true, granted: false, headers }
  headers['webhook-allowed-origin'] = origin
  headers['webhook-allowed-rate'] = allowedRate(
    request.headers.get('webhook-request-rate'),
    authenticated.ok ? lowestRate(authenticated, stream) : undefined,
  )
  return { ok: true, granted: true, headers }
}

/** Events per second by the quotas of the tenant, the stream and the key. */
function lowestRate({ tenant, keyQuota }: Allowed, stream: string): number | undefined {
  const rates = [tenant.quota, tenant.streamQuotas.get(stream), keyQuota].flatMap(
    (quota) => quota?.events.perSecond ?? [],
  )
  return rates.length === 0 ? undefined : Math.min(...rates)
}

/** Requests per minute: what the sender asks for, within the quota; any number without a quota. */
function allowedRate(asked: string | null, perSecond: number | undefined): string {
  if (perSecond === undefined) return '*'
  const quota = Math.max(1, Math.floor(perSecond * 60))
  return String(asked !== null && RATE.test(asked) ? Math.min(Number(asked), quota) : quota)
}
