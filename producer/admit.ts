import type { Quota, Tenant } from '../shared/tenants.ts'
import type { Problem } from './problem.ts'

/** Who may come in: the service's own limits, and each tenant's quota. */

export interface GateLimits {
  maxRequests: number
  maxBytes: number
}

/** How often the gate looks whether the thread keeps up. */
const LOOK_MS = 10

/** A thread that comes this much too late to a timer has more to do than it can. Most of that time a new request would wait. */
const MOST_LATE_MS = 20

/** So many requests are served at a time, however late the thread is. */
const LEAST_ADMITTED = 64

/**
 * Counts requests and the bytes of their bodies; full, or shut when the process stops, it refuses at once. While the thread does not
 * keep up it lets fewer in, since a longer queue makes everybody wait and nobody faster: additive increase, multiplicative decrease.
 */
export class Gate {
  #requests = 0
  #streams = 0
  #bytes = 0
  #admitted: number
  #draining = false
  #shut = false
  #idle: (() => void)[] = []
  readonly limits: GateLimits
  readonly #tooManyRequests: Problem

  constructor(limits: GateLimits) {
    this.limits = limits
    this.#admitted = limits.maxRequests
    this.#tooManyRequests = overloaded(`MAX_IN_FLIGHT_REQUESTS=${limits.maxRequests} requests are being served.`)
  }

  /** How many requests may be served at a time now, streams apart. */
  get admitted(): number {
    return Math.floor(this.#admitted)
  }

  /** Looks at how late a timer of the thread was, ms. With few requests being served it was not they who held it up, but a pause of the machine. */
  adapt(lateMs: number): void {
    const { maxRequests } = this.limits
    const served = this.#requests - this.#streams
    if (lateMs <= MOST_LATE_MS) this.#admitted += maxRequests / 100
    else if (served > LEAST_ADMITTED) this.#admitted = 0.8 * Math.min(this.#admitted, served)
    this.#admitted = Math.min(Math.max(this.#admitted, LEAST_ADMITTED), maxRequests)
  }

  /** Adapts until the function that is returned is called. */
  watch(): () => void {
    let dueMs = performance.now() + LOOK_MS
    const timer = setInterval(() => {
      const now = performance.now()
      this.adapt(now - dueMs)
      dueMs = now + LOOK_MS
    }, LOOK_MS)
    return () => clearInterval(timer)
  }

  get level(): { requests: number; bytes: number } {
    return { requests: this.#requests, bytes: this.#bytes }
  }

  /** Whether whoever is answered is to close its connection. */
  get draining(): boolean {
    return this.#draining
  }

  drain(): void {
    this.#draining = true
  }

  /** Why nobody can be let in, whatever the request; undefined when somebody can. */
  get closed(): Problem | undefined {
    if (this.#shut) return DRAINING
    if (this.#requests >= this.limits.maxRequests) return this.#tooManyRequests
    return this.#requests - this.#streams >= this.#admitted ? BUSY : undefined
  }

  /**
   * Lets a request in that may hold so many bytes, or says why not. Whoever was let in must leave, once. A stream is not counted among those
   * that may be served at a time: it lasts, and takes more only as it is answered.
   */
  enter(bytes: number, stream: boolean): Problem | undefined {
    const { closed } = this
    if (closed !== undefined) return closed
    if (this.#bytes + bytes > this.limits.maxBytes)
      return overloaded(
        `The bodies of other requests leave no room within MAX_IN_FLIGHT_BYTES=${this.limits.maxBytes}.`,
      )
    this.#requests++
    if (stream) this.#streams++
    this.#bytes += bytes
    return undefined
  }

  /** Gives back what a body was expected to take and did not. */
  shrink(from: number, to: number): void {
    this.#bytes -= from - to
  }

  leave(bytes: number, stream: boolean): void {
    this.#requests--
    if (stream) this.#streams--
    this.#bytes -= bytes
    if (this.#requests === 0) for (const wake of this.#idle.splice(0)) wake()
  }

  /** Refuses from now on, and resolves when all that were let in have left. */
  async shut(): Promise<void> {
    this.#draining = true
    this.#shut = true
    if (this.#requests > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }
}

const DRAINING: Problem = {
  kind: 'draining',
  detail: 'This instance is stopping: send the request again, to another one.',
  outcome: 'not stored',
  retryAfterSeconds: 1,
  closes: true,
}

const overloaded = (why: string): Problem => ({
  kind: 'overloaded',
  detail: `${why} Send the request again later.`,
  outcome: 'not stored',
  retryAfterSeconds: 1,
})

const BUSY = overloaded(
  'The service has more to do than it can, and lets in fewer requests at a time until it keeps up.',
)

/** What comes to this process; several processes grant the quota each. */
interface Bucket {
  perSecond: number
  burst: number
  /** Below zero after something larger than the burst. */
  tokens: number
  atMs: number
}

/** A tenant's quota as token buckets: one of events and, where bounded, one of bytes. */
export class Meter {
  readonly #events: Bucket
  readonly #bytes: Bucket | undefined
  readonly #nowMs: () => number

  constructor(quota: Quota, nowMs: () => number) {
    this.#nowMs = nowMs
    const full = (of: { perSecond: number; burst: number }): Bucket => ({ ...of, tokens: of.burst, atMs: nowMs() })
    this.#events = full(quota.events)
    this.#bytes = quota.bytes === undefined ? undefined : full(quota.bytes)
  }

  /**
   * Takes what a request costs; or takes nothing, and says after how many ms it would be granted. A request that costs more than the burst
   * is granted when the bucket is full, and leaves it in debt: refused, it would be so for ever.
   */
  take(events: number, bytes: number): number {
    const nowMs = this.#nowMs()
    refill(this.#events, nowMs)
    if (this.#bytes !== undefined) refill(this.#bytes, nowMs)
    const waitMs = Math.max(wait(this.#events, events), this.#bytes === undefined ? 0 : wait(this.#bytes, bytes))
    if (waitMs > 0) return waitMs
    this.#events.tokens -= events
    if (this.#bytes !== undefined) this.#bytes.tokens -= bytes
    return 0
  }

  /** The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers-10). */
  headers(): Record<string, string> {
    const nowMs = this.#nowMs()
    const policies: string[] = []
    const limits: string[] = []
    for (const [name, unit, bucket] of [
      ['events', '', this.#events],
      ['bytes', ';qu="content-bytes"', this.#bytes],
    ] as const) {
      if (bucket === undefined) continue
      refill(bucket, nowMs)
      const windowSeconds = Math.max(1, Math.ceil(bucket.burst / bucket.perSecond))
      policies.push(`"${name}";q=${Math.floor(bucket.burst)};w=${windowSeconds}${unit}`)
      const untilFull = Math.ceil((bucket.burst - bucket.tokens) / bucket.perSecond)
      limits.push(`"${name}";r=${Math.max(0, Math.floor(bucket.tokens))};t=${untilFull}`)
    }
    return { 'ratelimit-policy': policies.join(', '), ratelimit: limits.join(', ') }
  }
}

function refill(bucket: Bucket, nowMs: number): void {
  // A clock that was set back grants nothing, and takes nothing either.
  const elapsedMs = Math.max(0, nowMs - bucket.atMs)
  bucket.tokens = Math.min(bucket.burst, bucket.tokens + (elapsedMs / 1_000) * bucket.perSecond)
  bucket.atMs = nowMs
}

/** What sums of fractions may be off by: somebody who has waited as long as was said must not be told to wait again. */
const ROUNDING_TOKENS = 1e-6

/** How long until the cost is there, ms; 0: it is. */
function wait(bucket: Bucket, cost: number): number {
  const missing = Math.min(cost, bucket.burst) - bucket.tokens
  return missing <= ROUNDING_TOKENS ? 0 : Math.max(1, Math.ceil((missing / bucket.perSecond) * 1_000))
}

export const overQuota = (waitMs: number): Problem => ({
  kind: 'over-quota',
  detail: `The tenant’s quota is used up for now: wait ${waitMs} ms. Nothing of the request was stored.`,
  retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1_000)),
})

/** Each tenant's meter, made when it first sends. */
export class Meters {
  readonly #meters = new Map<string, Meter>()

  constructor(private readonly nowMs: () => number) {}

  /** undefined: the tenant has no quota. */
  of({ name, quota }: Tenant): Meter | undefined {
    if (quota === undefined) return undefined
    let meter = this.#meters.get(name)
    if (meter === undefined) {
      meter = new Meter(quota, this.nowMs)
      this.#meters.set(name, meter)
    }
    return meter
  }
}
