import type { OrProblem, Problem } from '../shared/http/problem.ts'
import type { RecordProducer } from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'

/** Admission: the service's own limits, and a tenant's share of them. */

export interface GateLimits {
  maxRequests: number
  maxBytes: number
}

/** How often the gate measures how late the event loop is. */
const LOOK_MS = 10

/** A timer that is later than this shows an overloaded event loop, in which a new request would mostly wait. */
const MOST_LATE_MS = 20

/** For how long timers must have been late, one after the other, before fewer requests are let in. A pause of the machine makes a single one late. */
const LATE_FOR_MS = 100

/** The fewest requests that are served at a time, however late the event loop is. */
const LEAST_ADMITTED = 64

/** Set aside for a body before any of it has arrived: what one read returns. */
const PIECE_BYTES = 64 * 1024

/** What is in the service now, of a tenant, of a source's webhooks that are not verified, or of all. */
interface Holding {
  requests: number
  streams: number
  bytes: number
  /** Whether it has to leave as much for others as it takes. */
  shared: boolean
}

const nothing = (shared = false): Holding => ({ requests: 0, streams: 0, bytes: 0, shared })

/** Under which a source's webhooks are counted until they are verified: they may be anybody's. No tenant has such a name. */
export const anybodysOf = (source = ''): string => `/${source}`

const isAnybodys = (name: string): boolean => name.startsWith('/')

/** How much of an announced body that may be anybody's is set aside before it has arrived. */
const ANYBODYS_PIECE_BYTES = 16 * 1024

/** A request that was let in. */
export interface Stay {
  tenant: Holding
  readonly stream: boolean
  bytes: number
  /** Of these, what its decoder takes. */
  decoderBytes: number
  inside: boolean
}

/**
 * Whether a tenant that has `own` of a limit may have `more` of it. With several tenants, a tenant may have at most as much as stays free, so that there is
 * room for the next tenant however many others hold their share.
 */
function isFree(more: number, own: number, used: number, limit: number, shared: boolean): boolean {
  const free = limit - used - more
  return free >= 0 && (!shared || own <= free)
}

/**
 * Counts requests and their bytes, by tenant and in all, and refuses at once when it is full, or shut because the process stops. While the event loop does not
 * keep up it lets fewer requests in, since a longer queue only makes all of them wait: additive increase, multiplicative decrease.
 */
export class Gate {
  readonly #all = nothing()
  readonly #tenants = new Map<string, Holding>()
  /** How many tenants have requests in flight, NDJSON streams not counted. */
  #active = 0
  #admitted: number
  /** Since the first of the timers that were late in a row; undefined when the last one was not. */
  #lateForMs: number | undefined
  #draining = false
  #shut = false
  #idle: (() => void)[] = []
  readonly limits: GateLimits
  #shared: boolean
  readonly #full: Readonly<Record<'sole' | 'shared', Full>>

  /** @param tenants how many may send: a single one need not leave room for others */
  constructor(limits: GateLimits, tenants = 1) {
    this.limits = limits
    this.#admitted = limits.maxRequests
    this.#shared = tenants > 1
    this.#full = {
      sole: full(limits, ''),
      shared: full(limits, ' One of several tenants may have as much as stays free for the others.'),
    }
  }

  /** Whether several tenants may send. */
  get shared(): boolean {
    return this.#shared
  }

  /** Another number of tenants may send from now on. One that then has more than its share keeps what it has. */
  serve(tenants: number): void {
    this.#shared = tenants > 1
    for (const [name, holding] of this.#tenants) holding.shared = this.#isShared(name)
  }

  #isShared(name: string): boolean {
    return this.#shared || isAnybodys(name)
  }

  get #problems(): Full {
    return this.#full[this.#shared ? 'shared' : 'sole']
  }

  /** How many requests may be served at a time now, NDJSON streams not counted. */
  get admitted(): number {
    return Math.floor(this.#admitted)
  }

  /**
   * Adapts to how late a timer was, ms. With only few requests in flight, a late timer means that the machine paused, and so does a single one unless fewer
   * requests are let in already.
   */
  adapt(lateMs: number): void {
    const { maxRequests } = this.limits
    const served = this.#served
    if (lateMs <= MOST_LATE_MS) {
      this.#lateForMs = undefined
      this.#admitted += maxRequests / 100
    } else {
      this.#lateForMs = this.#lateForMs === undefined ? 0 : this.#lateForMs + LOOK_MS + lateMs
      const isOverloaded = this.#admitted < maxRequests || this.#lateForMs >= LATE_FOR_MS
      if (isOverloaded && served > LEAST_ADMITTED) this.#admitted = 0.8 * Math.min(this.#admitted, served)
    }
    this.#admitted = Math.min(Math.max(this.#admitted, LEAST_ADMITTED), maxRequests)
  }

  /** Adapts until the returned function is called. */
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
    return { requests: this.#all.requests, bytes: this.#all.bytes }
  }

  /** Whether answers are to close their connections. */
  get draining(): boolean {
    return this.#draining
  }

  drain(): void {
    this.#draining = true
  }

  /** Why no request of any tenant can be let in; undefined when one may be. */
  get closed(): Problem | undefined {
    if (this.#shut) return DRAINING
    if (this.#all.requests >= this.limits.maxRequests) return this.#problems.requests
    return !this.#shared && this.#served >= this.#admitted ? BUSY : undefined
  }

  get #served(): number {
    return this.#all.requests - this.#all.streams
  }

  /**
   * How many bytes to set aside for a body before any of it has arrived: the announced length while half of the room is free, since reading a body at once
   * costs less than counting it piece by piece.
   */
  setAside(announced: number | undefined, maxBytes: number, name: string): number {
    // Otherwise a few who announce much and send nothing would take all the room.
    if (isAnybodys(name)) return Math.min(announced ?? ANYBODYS_PIECE_BYTES, ANYBODYS_PIECE_BYTES)
    const expected = Math.min(announced ?? maxBytes, maxBytes)
    if (expected <= PIECE_BYTES) return expected
    const believed = announced !== undefined && this.#all.bytes + expected <= this.limits.maxBytes / 2
    return believed ? expected : PIECE_BYTES
  }

  /**
   * Lets a tenant's request in, which must leave later, or returns why not. An NDJSON stream is not counted in {@link admitted}: it lasts, and reads more only as
   * it is answered.
   * @param name of its tenant, or {@link anybodysOf} its source
   * @param bytes that it holds at first
   */
  enter(name: string, bytes: number, stream: boolean): OrProblem<{ stay: Stay }> {
    const { closed } = this
    if (closed !== undefined) return { ok: false, problem: closed }
    const tenant = this.#holdingOf(name)
    if (!isFree(1, tenant.requests, this.#all.requests, this.limits.maxRequests, tenant.shared))
      return { ok: false, problem: this.#problems.requests }
    if (!stream && this.#isBusyFor(tenant)) return { ok: false, problem: BUSY }
    const stay: Stay = { tenant, stream, bytes: 0, decoderBytes: 0, inside: true }
    const full = this.hold(stay, bytes)
    if (full !== undefined) return { ok: false, problem: full }
    this.#count(tenant, stream)
    this.#all.requests++
    if (stream) this.#all.streams++
    return { ok: true, stay }
  }

  #holdingOf(name: string): Holding {
    return this.#tenants.getOrInsertComputed(name, () => nothing(this.#isShared(name)))
  }

  #count(tenant: Holding, stream: boolean): void {
    if (!stream && tenant.requests === tenant.streams) this.#active++
    tenant.requests++
    if (stream) tenant.streams++
  }

  #uncount(tenant: Holding, stream: boolean): void {
    tenant.requests--
    if (stream) tenant.streams--
    else if (tenant.requests === tenant.streams) this.#active--
  }

  /** Counts a verified webhook as its tenant's from now on. It is inside already, so the tenant may then have more than its share. */
  verified(stay: Stay, name: string): void {
    const { tenant, stream, bytes } = stay
    this.#uncount(tenant, stream)
    tenant.bytes -= bytes
    stay.tenant = this.#holdingOf(name)
    stay.tenant.bytes += bytes
    this.#count(stay.tenant, stream)
  }

  /** Whether the event loop is too busy for another request of a tenant. A tenant with less than an equal share of the admitted requests gets in. */
  #isBusyFor({ requests, streams }: Holding): boolean {
    return this.#served >= this.#admitted && (requests - streams) * this.#active >= this.#admitted
  }

  /**
   * Sets how many bytes a request holds in all, or returns why it cannot have more.
   * @throws RangeError for an invalid number of bytes: NaN in a sum would disable the limits
   */
  hold(stay: Stay, bytes: number): Problem | undefined {
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new RangeError(`${bytes} is no number of bytes`)
    if (!stay.inside) return undefined
    const more = bytes - stay.bytes
    if (more > 0 && !isFree(more, stay.tenant.bytes, this.#all.bytes, this.limits.maxBytes, stay.tenant.shared))
      return this.#problems.bytes
    stay.tenant.bytes += more
    this.#all.bytes += more
    stay.bytes = bytes
    return undefined
  }

  /** Sets how many bytes a request holds for its decoder besides, or returns why it cannot have more. */
  holdDecoder(stay: Stay, bytes: number): Problem | undefined {
    const full = this.hold(stay, stay.bytes - stay.decoderBytes + bytes)
    if (full === undefined) stay.decoderBytes = bytes
    return full
  }

  /** Idempotent. */
  leave(stay: Stay): void {
    if (!stay.inside) return
    this.hold(stay, 0)
    stay.inside = false
    this.#uncount(stay.tenant, stay.stream)
    this.#all.requests--
    if (stay.stream) this.#all.streams--
    if (this.#all.requests === 0) for (const wake of this.#idle.splice(0)) wake()
  }

  /** Refuses from now on; resolves when all requests that were let in have left. */
  async shut(): Promise<void> {
    this.#draining = true
    this.#shut = true
    if (this.#all.requests > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
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

/** Why there is no room. Each is one object, since what refuses at the least cost is made once for each. */
type Full = Readonly<Record<'requests' | 'bytes', Problem>>

const full = ({ maxRequests, maxBytes }: GateLimits, share: string): Full => ({
  requests: overloaded(`There is no room for another request within MAX_IN_FLIGHT_REQUESTS=${maxRequests}.${share}`),
  bytes: overloaded(`There is no room for the body within MAX_IN_FLIGHT_BYTES=${maxBytes}.${share}`),
})

const BUSY = overloaded(
  'The service has more to do than it can, and lets in fewer requests at a time until it keeps up.',
)

/** How often to check whether there is room for a line. */
const ROOM_LOOK_MS = 20

const NEWLINE = 0x0a

/**
 * The body of a stream, whose request holds what has arrived, up to the window. Without room for more the stream continues with what it holds; only a line
 * longer than that waits.
 */
export async function* holding(
  body: AsyncIterable<Uint8Array>,
  gate: Gate,
  stay: Stay,
  windowBytes: number,
): AsyncGenerator<Uint8Array> {
  const has = (bytes: number): boolean => {
    const wanted = Math.min(bytes, windowBytes) + stay.decoderBytes
    return wanted <= stay.bytes || gate.hold(stay, wanted) === undefined
  }
  let arrived = 0
  let line = 0
  for await (const piece of body) {
    arrived += piece.length
    const feed = piece.lastIndexOf(NEWLINE)
    line = feed === -1 ? line + piece.length : piece.length - feed - 1
    if (!has(arrived)) while (!has(line)) await sleep(ROOM_LOOK_MS)
    yield piece
  }
}

/**
 * One tenant's share of the queue of Kafka's client, where there are several tenants: full once the tenant has as many records or bytes queued as are still
 * free for the others.
 */
export function queueShare(producer: RecordProducer): RecordProducer {
  const own = { records: 0, bytes: 0 }
  return {
    ...producer,
    async produce(records) {
      const before = producer.queue()
      const results = producer.produce(records)
      const after = producer.queue()
      const added = { records: after.records - before.records, bytes: after.bytes - before.bytes }
      own.records += added.records
      own.bytes += added.bytes
      try {
        return await results
      } finally {
        own.records -= added.records
        own.bytes -= added.bytes
      }
    },
    // The tenant's own share counts twice: as in `isFree`, as much has to stay free for the others.
    queue() {
      const { records, bytes, ...limits } = producer.queue()
      return { records: records + own.records, bytes: bytes + own.bytes, ...limits }
    },
  }
}
