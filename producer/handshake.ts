import type { Authenticate } from './authenticate.ts'
import type { Problem } from './problem.ts'

/** The validation handshake of CloudEvents webhooks 1.0.2, section 4: whether a sender may deliver here, asked by `OPTIONS`. */

export type Handshake =
  | { ok: true; granted: boolean; headers: Record<string, string> }
  | { ok: false; problem: Problem }

/** Section 4.1.2: a DNS expression; a port does no harm. */
const ORIGIN = /^[A-Za-z0-9*](?:[A-Za-z0-9.*-]{0,251}[A-Za-z0-9*])?(?::\d{1,5})?$/

/** Section 4.1.4. */
const RATE = /^[1-9]\d{0,9}$/

const SECONDS_A_MINUTE = 60

/**
 * The handshake protects the sender's victims and authenticates nobody, so no key is needed; deliveries need theirs as always. A key that is
 * given, in whichever way, must be right, and its tenant's quota is the rate. A callback URL is never called: permission is given at once.
 */
export function handshake(request: Request, stream: string, authenticate: Authenticate): Handshake {
  const headers: Record<string, string> = { allow: 'POST, OPTIONS', 'cache-control': 'no-store' }
  const authenticated = authenticate(request, stream)
  const withoutKey =
    !authenticated.ok && authenticated.problem.headers?.['www-authenticate']?.includes('error') === false
  if (!authenticated.ok && !withoutKey) return authenticated
  const origin = request.headers.get('webhook-request-origin')
  // Without the header it is an ordinary OPTIONS request; a wrong one gets no consent (section 4.2).
  if (origin === null || !ORIGIN.test(origin)) return { ok: true, granted: false, headers }
  headers['webhook-allowed-origin'] = origin
  headers['webhook-allowed-rate'] = allowedRate(
    request.headers.get('webhook-request-rate'),
    authenticated.ok ? authenticated.tenant.quota?.events.perSecond : undefined,
  )
  return { ok: true, granted: true, headers }
}

/** Requests per minute: what is asked for within the quota; without a quota there is no bound to name. */
function allowedRate(asked: string | null, perSecond: number | undefined): string {
  if (perSecond === undefined) return '*'
  const quota = Math.max(1, Math.floor(perSecond * SECONDS_A_MINUTE))
  return String(asked !== null && RATE.test(asked) ? Math.min(Number(asked), quota) : quota)
}
