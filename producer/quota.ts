import type { Problem } from '../shared/http/problem.ts'
import type { Credential, Quota, Rate, Tenant } from '../shared/http/tenants.ts'
import { NOTHING_STORED, QUOTA_SCOPES, type QuotaScope, type Unit } from './problem.ts'

/** Quotas of tenants, streams and keys. */

export interface QuotaClock {
  /** Monotonic. */
  nowMs(): number
  /** Among how many producers each quota is divided, at least 1. */
  replicas(): number
}

interface Bucket extends Rate {
  /** Below zero after something larger than the burst. */
  tokens: number
  atMs: number
}

/**
 * This producer's part of one quota, as token buckets: one for events and, if the quota limits them, one for bytes. When the number of producers changes, what
 * is left stays, up to the new part of the burst, so that the change grants nothing.
 */
export class Meter {
  readonly scope: QuotaScope
  readonly name: string
  readonly #clock: QuotaClock
  #events: Bucket
  #bytes: Bucket | undefined

  constructor(scope: QuotaScope, name: string, quota: Quota, clock: QuotaClock) {
    this.scope = scope
    this.name = name
    this.#clock = clock
    this.#events = this.#filled(quota.events)
    this.#bytes = quota.bytes === undefined ? undefined : this.#filled(quota.bytes)
  }

  #filled(rate: Rate): Bucket {
    return { ...rate, tokens: partOf(rate, this.#clock.replicas()).burst, atMs: this.#clock.nowMs() }
  }

  /** Other limits from now on. What is left of those before stays, up to the new bursts, so that no change of the file grants anything at once. */
  limit({ events, bytes }: Quota): void {
    const limited = (bucket: Bucket | undefined, rate: Rate): Bucket => {
      if (bucket === undefined) return this.#filled(rate)
      this.#refill(bucket)
      const { burst } = partOf(rate, this.#clock.replicas())
      return { ...rate, tokens: Math.min(bucket.tokens, burst), atMs: bucket.atMs }
    }
    this.#events = limited(this.#events, events)
    this.#bytes = bytes === undefined ? undefined : limited(this.#bytes, bytes)
  }

  /** After how many ms this much would be granted; 0: now. */
  wait(events: number, bytes: number): number {
    const ofEvents = wait(this.#refill(this.#events), this.#events, events)
    return this.#bytes === undefined
      ? ofEvents
      : Math.max(ofEvents, wait(this.#refill(this.#bytes), this.#bytes, bytes))
  }

  /** Takes what was granted. */
  deduct(events: number, bytes: number): void {
    this.#events.tokens -= events
    if (this.#bytes !== undefined) this.#bytes.tokens -= bytes
  }

  /** Takes the cost of a refused request. The debt is at most the burst, so that a client recovers from a mistake soon. */
  spend(events: number, bytes: number): void {
    const replicas = this.#clock.replicas()
    spend(this.#events, events, replicas)
    if (this.#bytes !== undefined) spend(this.#bytes, bytes, replicas)
  }

  /** Adds what the `RateLimit` and `RateLimit-Policy` fields say of it. */
  describe(policies: string[], limits: string[]): void {
    const prefix = this.scope === 'tenant' ? '' : `${this.scope}-`
    for (const [name, unit, bucket] of [
      ['events', '', this.#events],
      ['bytes', ';qu="content-bytes"', this.#bytes],
    ] as const) {
      if (bucket === undefined) continue
      const { burst, perSecond } = this.#refill(bucket)
      const windowSeconds = Math.max(1, Math.ceil(burst / perSecond))
      policies.push(`"${prefix}${name}";q=${Math.floor(burst)};w=${windowSeconds}${unit}`)
      const untilFull = Math.ceil((burst - bucket.tokens) / perSecond)
      limits.push(`"${prefix}${name}";r=${Math.max(0, Math.floor(bucket.tokens))};t=${untilFull}`)
    }
  }

  /** @returns this producer's part */
  #refill(bucket: Bucket): Rate {
    const nowMs = this.#clock.nowMs()
    const part = partOf(bucket, this.#clock.replicas())
    // A clock that is set back grants nothing, and takes nothing either.
    const elapsedMs = Math.max(0, nowMs - bucket.atMs)
    bucket.tokens = Math.min(part.burst, bucket.tokens + (elapsedMs / 1_000) * part.perSecond)
    bucket.atMs = nowMs
    return part
  }
}

/** With less than 1, a producer could grant an event only on credit. */
const partOf = ({ perSecond, burst }: Rate, replicas: number): Rate => ({
  perSecond: perSecond / replicas,
  burst: Math.max(1, burst / replicas),
})

/** Tolerance for rounding: a client that has waited as long as it was told must not be told to wait again. */
const ROUNDING_TOKENS = 1e-6

/** How many ms until the bucket has the cost. */
function wait({ burst, perSecond }: Rate, { tokens }: Bucket, cost: number): number {
  const missing = Math.min(cost, burst) - tokens
  return missing <= ROUNDING_TOKENS ? 0 : Math.max(1, Math.ceil((missing / perSecond) * 1_000))
}

function spend(bucket: Bucket, cost: number, replicas: number): void {
  const { burst } = partOf(bucket, replicas)
  bucket.tokens = Math.min(bucket.tokens, Math.max(bucket.tokens - cost, -burst))
}

/** All quotas that a request counts against: all of them must have room for it, and then it is taken from all. */
export class Quotas {
  readonly #meters: readonly Meter[]

  /** @param meters at least one */
  constructor(meters: readonly Meter[]) {
    this.#meters = meters
  }

  /**
   * Takes what a request costs and returns 0, or takes nothing and returns after how many ms it would be granted. A request that costs more than a burst is
   * granted when the bucket is full and leaves it in debt; otherwise it could never be granted.
   */
  take(events: number, bytes: number): number {
    const waitMs = this.wait(events, bytes)
    if (waitMs === 0) for (const meter of this.#meters) meter.deduct(events, bytes)
    return waitMs
  }

  /** After how many ms this much would be granted. */
  wait(events: number, bytes: number): number {
    let longest = 0
    for (const meter of this.#meters) longest = Math.max(longest, meter.wait(events, bytes))
    return longest
  }

  /** Takes the cost of a refused request from all. */
  spend(events: number, bytes: number): void {
    for (const meter of this.#meters) meter.spend(events, bytes)
  }

  /** The problem of a request or line of this cost, which names the quota that it has to wait for longest. */
  problem(events: number, bytes: number, unit: Unit): Problem {
    const waits = this.#meters.map((meter) => meter.wait(events, bytes))
    const waitMs = Math.max(...waits)
    const { scope, name } = this.#meters[waits.indexOf(waitMs)] as Meter
    return {
      kind: 'over-quota',
      detail: `The quota of the ${scope} ${name} is exceeded for now: wait ${waitMs} ms. ${NOTHING_STORED[unit]}`,
      extensions: { quota: scope },
      retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1_000)),
      headers: this.headers(),
    }
  }

  /** The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers-10). */
  headers(): Record<string, string> {
    const [policies, limits]: [string[], string[]] = [[], []]
    for (const meter of this.#meters) meter.describe(policies, limits)
    return { 'ratelimit-policy': policies.join(', '), ratelimit: limits.join(', ') }
  }
}

/** Which quota a problem names. */
export const scopeOf = ({ extensions }: Problem): QuotaScope =>
  QUOTA_SCOPES.find((scope) => scope === extensions?.['quota']) ?? 'tenant'

/** A key with a quota of its own. */
export interface QuotaKey {
  keyId: string
  quota: Quota
}

/** The meters of all quotas. One outlives changes of the tenants file: what is left of it stays, and requests in flight go on with it. */
export class Meters {
  readonly #clock: QuotaClock
  /** By scope and name. */
  readonly #meters = new Map<string, Meter>()

  constructor(clock: QuotaClock) {
    this.#clock = clock
  }

  /** What applies to what is sent to a stream of a tenant with a key; undefined: nothing does. */
  of(tenant: Tenant, stream: string, key?: QuotaKey): Quotas | undefined {
    const meters = quotasOf(tenant, [stream], key === undefined ? [] : [key]).map(({ id, scope, name, quota }) =>
      this.#meters.getOrInsertComputed(id, () => new Meter(scope, name, quota, this.#clock)),
    )
    return meters.length === 0 ? undefined : new Quotas(meters)
  }

  /** Other quotas from now on: those that are there change, and those that are gone are forgotten. */
  change(tenants: readonly Tenant[], credentials: Iterable<Credential>): void {
    const declared = new Map<string, Quota>()
    const keys = Map.groupBy(credentials, ({ tenant }) => tenant)
    for (const tenant of tenants)
      for (const { id, quota } of quotasOf(tenant, tenant.streams, keys.get(tenant) ?? [])) declared.set(id, quota)
    for (const [id, meter] of this.#meters) {
      const quota = declared.get(id)
      if (quota === undefined) this.#meters.delete(id)
      else meter.limit(quota)
    }
  }
}

interface Declared {
  id: string
  scope: QuotaScope
  name: string
  quota: Quota
}

function quotasOf(
  tenant: Tenant,
  streams: Iterable<string>,
  keys: Iterable<Pick<Credential, 'keyId' | 'quota'>>,
): Declared[] {
  const found: Declared[] = []
  const add = (scope: QuotaScope, name: string, quota: Quota | undefined): void => {
    if (quota !== undefined) found.push({ id: `${tenant.name}/${scope}/${name}`, scope, name, quota })
  }
  add('tenant', tenant.name, tenant.quota)
  for (const stream of streams) add('stream', stream, tenant.streamQuotas.get(stream))
  for (const { keyId, quota } of keys) add('key', keyId, quota)
  return found
}
