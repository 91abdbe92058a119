import { pathOf } from '../shared/http/http.ts'
import type { Tenant } from '../shared/http/tenants.ts'
import type { Logger } from '../shared/service/logger.ts'
import type { Authenticate } from './authenticate.ts'

/**
 * Which pages of other origins may send events and read the answers (Fetch, "CORS protocol"): those that tenants name. It protects whoever visits a page, not
 * this service, which is protected by keys: whoever is not a browser sends any Origin.
 */

/** Webhooks come from servers. */
const EVENTS_PATH = /^\/v1\/(?:events|streams\/[^/]+\/events)$/

/** How long a browser remembers what a preflight said, and so how long a page may still send after its origin was removed. */
const MAX_AGE_SECONDS = 600

/** What a page may send besides what every page may: keys, traces, and attributes of events. */
const SENDABLE =
  /^(?:authorization|x-api-key|content-type|content-encoding|x-request-id|traceparent|tracestate|ce-[a-z0-9]+)$/

/** What a page may read besides what every page may. */
const READABLE = 'x-request-id, retry-after, ratelimit, ratelimit-policy, www-authenticate'

/** Of refused origins, whose number anybody can make as large as they like. */
const MAX_LOGGED_ORIGINS = 100
const MAX_ORIGIN_CHARS = 200

type Fetch = (request: Request) => Response | Promise<Response>

export class Cors {
  readonly #tenants: () => readonly Tenant[]
  /** Those of which the origins were collected. */
  #collectedOf: readonly Tenant[] = []
  #origins: ReadonlySet<string> = new Set()
  /** Of requests whose key was recognised. */
  readonly #tenantOf = new WeakMap<Request, Tenant>()
  /** Of those that no tenant names, by the tenants of now. */
  readonly #refused = new Set<string>()
  /** @param answered counts preflights */
  readonly #answered: () => void
  readonly #log: Pick<Logger, 'info'>

  constructor(tenants: () => readonly Tenant[], answered: () => void, log: Pick<Logger, 'info'>) {
    this.#tenants = tenants
    this.#answered = answered
    this.#log = log
  }

  /** Notes the tenant of each request that a page may read the answer of. */
  authenticating(authenticate: Authenticate): Authenticate {
    return (request, stream) => {
      const decided = authenticate(request, stream)
      if (this.#all().size === 0 || !request.headers.has('origin')) return decided
      const note = (authorised: Awaited<typeof decided>) => {
        if (authorised.ok) this.#tenantOf.set(request, authorised.tenant)
        return authorised
      }
      return decided instanceof Promise ? decided.then(note) : note(decided)
    }
  }

  /** Adds what browsers ask for. An answer can be read by a page of the tenant's, or where no key was recognised, of any tenant's. */
  answering(fetch: Fetch): Fetch {
    return (request) => {
      const all = this.#all()
      if (all.size === 0 && request.method !== 'OPTIONS') return fetch(request)
      const origin = request.headers.get('origin')
      if (origin === null || !EVENTS_PATH.test(pathOf(request))) return fetch(request)
      // It has no key. The handshake of CloudEvents, which uses the same method, does not name a method.
      if (request.method === 'OPTIONS' && request.headers.has('access-control-request-method')) {
        if (all.has(origin)) return this.#preflight(request, origin)
        this.#refuse(origin)
      }
      if (all.size === 0) return fetch(request)
      const allow = (response: Response): Response => {
        response.headers.append('vary', 'origin')
        const origins = this.#tenantOf.get(request)?.origins ?? all
        if (request.method !== 'POST' || !origins.has(origin)) return response
        response.headers.set('access-control-allow-origin', origin)
        response.headers.set('access-control-expose-headers', READABLE)
        return response
      }
      const answered = fetch(request)
      return answered instanceof Promise ? answered.then(allow) : allow(answered)
    }
  }

  /** The browser tells the page nothing, and whoever looks for the reason looks here. */
  #refuse(given: string): void {
    const origin = given.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, MAX_ORIGIN_CHARS)
    if (this.#refused.has(origin) || this.#refused.size >= MAX_LOGGED_ORIGINS) return
    this.#refused.add(origin)
    this.#log.info({ origin }, 'pages of an origin may not send events: no tenant that is enabled names it in origins')
  }

  #preflight({ headers }: Request, origin: string): Response {
    this.#answered()
    const asked = headers.get('access-control-request-headers')?.split(',') ?? []
    const sendable = asked.map((name) => name.trim().toLowerCase()).filter((name) => SENDABLE.test(name))
    return new Response(null, {
      status: 204,
      headers: {
        vary: 'origin, access-control-request-headers',
        'access-control-allow-origin': origin,
        'access-control-allow-methods': 'POST',
        ...(sendable.length === 0 ? {} : { 'access-control-allow-headers': sendable.join(', ') }),
        'access-control-max-age': String(MAX_AGE_SECONDS),
        'cache-control': 'no-store',
      },
    })
  }

  /** The origins of all tenants that are enabled. */
  #all(): ReadonlySet<string> {
    const tenants = this.#tenants()
    if (tenants !== this.#collectedOf) {
      this.#collectedOf = tenants
      this.#refused.clear()
      this.#origins = new Set(tenants.flatMap(({ enabled, origins }) => (enabled ? [...origins] : [])))
    }
    return this.#origins
  }
}
