import { type Logger, TenantLines } from '../service/logger.ts'
import type { Authorise, Authorised } from './authorise.ts'
import { networkOf, siteOf } from './client-address.ts'
import type { AuthenticationFailure, Problem } from './problem.ts'

/**
 * Requests that fail to authenticate: counted by reason, and limited by address. Keys have 256 random bits, so no limit is needed against guessing. This one
 * keeps one sender from filling the log, and tells a client that tries for ever to wait. A key is looked at all the same, and a right one is never refused:
 * whoever shares an address with others must not be locked out by them.
 */

/** How many may fail from an address within a minute before the others are answered 429. */
export const MAX_FAILURES = 60
/** How many from an IPv6 network of 48 bits, of those that were not answered 429: whoever has one has 65,536 that count as addresses. */
export const MAX_SITE_FAILURES = 600
const WINDOW_MS = 60_000

/** The most addresses that are remembered. The one whose minute began first is forgotten for another. */
const MAX_ADDRESSES = 10_000

export interface FailedAuthenticationsDeps {
  count(failure: AuthenticationFailure): void
  log: Pick<Logger, 'info' | 'debug'>
  /** Monotonic. */
  nowMs(): number
}

interface Failures {
  count: number
  sinceMs: number
}

export class FailedAuthentications {
  readonly #deps: FailedAuthenticationsDeps
  readonly #lines = new TenantLines()
  /** In the order in which their minutes began. */
  readonly #byNetwork = new Map<string, Failures>()

  constructor(deps: FailedAuthenticationsDeps) {
    this.#deps = deps
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#byNetwork.size
  }

  /**
   * Counts one.
   * @param address of the client; undefined: not known, and not limited
   * @returns what to answer: 429 where too many have failed
   */
  failed(problem: Problem, failure: AuthenticationFailure, address: string | undefined): Problem {
    this.#deps.count(failure)
    if (address === undefined) return problem
    const nowMs = this.#deps.nowMs()
    const site = siteOf(address)
    const ofSite = site === undefined ? undefined : this.#of(site, nowMs)
    // Before its network is remembered, so that whoever has many networks does not have others forgotten for them.
    if (site !== undefined && ofSite !== undefined && ofSite.count >= MAX_SITE_FAILURES) {
      ofSite.count++
      return this.#refused(ofSite, MAX_SITE_FAILURES, site, nowMs)
    }
    const failures = this.#of(networkOf(address), nowMs)
    failures.count++
    if (failures.count > MAX_FAILURES) return this.#refused(failures, MAX_FAILURES, address, nowMs)
    if (ofSite !== undefined) ofSite.count++
    return problem
  }

  #refused({ count, sinceMs }: Failures, most: number, address: string, nowMs: number): Problem {
    if (count === most + 1)
      this.#deps.log[this.#lines.level(undefined, 'info')](
        { address, failures: most },
        'requests from an address fail to authenticate; more of them are answered 429 for the rest of the minute',
      )
    return tooMany(most, sinceMs + WINDOW_MS - nowMs)
  }

  #of(network: string, nowMs: number): Failures {
    const known = this.#byNetwork
    const failures = known.get(network)
    if (failures !== undefined && nowMs - failures.sinceMs < WINDOW_MS) return failures
    known.delete(network)
    for (const [other, { sinceMs }] of known) {
      if (nowMs - sinceMs < WINDOW_MS && known.size < MAX_ADDRESSES) break
      known.delete(other)
    }
    const begun = { count: 0, sinceMs: nowMs }
    known.set(network, begun)
    return begun
  }
}

const tooMany = (most: number, waitMs: number): Problem => ({
  kind: 'too-many-failures',
  detail: `More than ${most} requests from this ${most === MAX_FAILURES ? 'address' : 'network'} have failed to authenticate within a minute. One with a right key is served at any time.`,
  retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1_000)),
})

/** Decides as another one does, and counts what fails. */
export function countingFailures(
  authorise: Authorise,
  failures: FailedAuthentications,
  addressOf: (request: Request) => string | undefined,
): Authorise {
  const counted = (request: Request, authorised: Authorised): Authorised => {
    if (authorised.ok) return authorised
    const { failure } = authorised.problem
    // The handshake of webhooks needs no key.
    if (failure === undefined || (failure === 'missing' && request.method === 'OPTIONS')) return authorised
    return { ok: false, problem: failures.failed(authorised.problem, failure, addressOf(request)) }
  }
  return (request, wanted) => {
    const authorised = authorise(request, wanted)
    return authorised instanceof Promise
      ? authorised.then((one) => counted(request, one))
      : counted(request, authorised)
  }
}
