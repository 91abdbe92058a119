import type { Event } from '../shared/events/event.ts'

/**
 * Look-ups add to an event what is known elsewhere: of its customer, its repository, its sensor. A look-up may be slow, wrong or down, and an
 * event waits for none of that: `guardLookup` puts a cache, a circuit breaker and a time-out, in this order, before it.
 */

/** Where something is looked up. */
export interface Lookup {
  /** The result's name in an event's context. */
  name: string
  /** What to look up for the event; undefined when it is none of this look-up's business. */
  keyOf(event: Event): string | undefined
  /**
   * What is known under the key, as JSON; undefined when nothing is. An answer from memory is given as it is, without a promise, and is not
   * cached. The signal is aborted when nobody waits any longer.
   */
  get(key: string, signal: AbortSignal): unknown
}

/** What a look-up gave. */
export type LookupResult =
  | { status: 'found'; value: unknown }
  | { status: 'missing' }
  /** Timed out, failed, or its circuit is open; enrichment never holds an event back. */
  | { status: 'unavailable'; reason: string }

/** A look-up that has a result for every event that it concerns, in bounded time, and never throws. */
export interface GuardedLookup {
  name: string
  /** undefined: the event is none of its business. A promise only where the answer is not at hand. */
  find(event: Event): LookupResult | undefined | Promise<LookupResult>
}

/** How an event's look-up was answered: by asking, by an earlier answer, by one that another event waits for, or not; for metrics. */
export const LOOKUP_OUTCOMES = [
  'found',
  'missing',
  'cached',
  'shared',
  'timed out',
  'failed',
  'circuit open',
  'too many',
] as const
export type LookupOutcome = (typeof LOOKUP_OUTCOMES)[number]

/** Is told what look-ups do; for metrics. */
export interface LookupObserver {
  answered(lookup: string, outcome: LookupOutcome): void
  circuitChanged(lookup: string, state: CircuitState): void
}

/** How long an event waits for one look-up. */
export const LOOKUP_TIMEOUT_MS = 500
/** How long an answer is believed, one that found nothing as well. */
export const LOOKUP_CACHE_TTL_MS = 60_000
/** How many answers are kept for each look-up; the one that was used longest ago goes first. */
export const LOOKUP_CACHE_ENTRIES = 10_000
/** How many keys are asked for at once. */
export const LOOKUP_MAX_IN_FLIGHT = 256
/** After how many failures in a row a look-up is left alone. */
export const CIRCUIT_FAILURE_THRESHOLD = 5
/** For how long it is left alone before one event tries again. */
export const CIRCUIT_OPEN_MS = 10_000

/** Makes a look-up safe to use for every event; see {@link GuardedLookup} for what that means. */
export function guardLookup(
  lookup: Lookup,
  { nowMs, observer }: { nowMs(): number; observer: LookupObserver },
): GuardedLookup {
  const { name } = lookup
  const cache = createTtlCache<LookupResult>(LOOKUP_CACHE_ENTRIES, LOOKUP_CACHE_TTL_MS, nowMs)
  const circuit = createCircuit(nowMs, (state) => observer.circuitChanged(name, state))
  // Events of one key that come together ask once.
  const inFlight = new Map<string, Promise<LookupResult>>()

  const found = (value: unknown): LookupResult => {
    circuit.succeeded()
    const result: LookupResult = value === undefined ? { status: 'missing' } : { status: 'found', value }
    observer.answered(name, result.status === 'found' ? 'found' : 'missing')
    return result
  }
  const failed = (error: unknown): LookupResult => {
    const reason = error instanceof Error ? error.message : String(error)
    circuit.failed(reason)
    observer.answered(name, error instanceof LookupTimeoutError ? 'timed out' : 'failed')
    return { status: 'unavailable', reason }
  }

  const ask = (key: string): LookupResult | Promise<LookupResult> => {
    const patience = new AbortController()
    let answer: unknown
    try {
      answer = lookup.get(key, patience.signal)
    } catch (error) {
      return failed(error)
    }
    if (!isThenable(answer)) return found(answer)
    const pending = withTimeout(Promise.resolve(answer), LOOKUP_TIMEOUT_MS, patience)
      .then((value) => {
        const result = found(value)
        cache.set(key, result)
        return result
      }, failed)
      .finally(() => inFlight.delete(key))
    inFlight.set(key, pending)
    return pending
  }

  return {
    name,
    find(event) {
      let key: string | undefined
      try {
        key = lookup.keyOf(event)
      } catch (error) {
        return failed(error)
      }
      if (key === undefined) return undefined
      const cached = cache.get(key)
      if (cached !== undefined) {
        observer.answered(name, 'cached')
        return cached
      }
      const pending = inFlight.get(key)
      if (pending !== undefined) {
        observer.answered(name, 'shared')
        return pending
      }
      if (inFlight.size >= LOOKUP_MAX_IN_FLIGHT) {
        observer.answered(name, 'too many')
        return { status: 'unavailable', reason: `${LOOKUP_MAX_IN_FLIGHT} look-ups are under way` }
      }
      const pass = circuit.pass()
      if (!pass.ok) {
        observer.answered(name, 'circuit open')
        return { status: 'unavailable', reason: pass.reason }
      }
      return ask(key)
    },
  }
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof (value as { then?: unknown } | null | undefined)?.then === 'function'

/** A look-up did not answer in time. */
class LookupTimeoutError extends Error {
  override readonly name = 'LookupTimeoutError'
}

/** The promise's outcome, or a {@link LookupTimeoutError} and an aborted controller after that long. */
function withTimeout<T>(promise: Promise<T>, timeoutMs: number, controller: AbortController): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new LookupTimeoutError(`no answer within ${timeoutMs} ms`))
      controller.abort()
    }, timeoutMs)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/** Keeps at most `maxEntries` values for `ttlMs` each; drops the least recently used. */
export function createTtlCache<V>(maxEntries: number, ttlMs: number, nowMs: () => number) {
  // A Map iterates in the order of insertion: what is used is put in again, so that the first entry is the least recently used.
  const entries = new Map<string, { value: V; expiresAtMs: number }>()
  return {
    get(key: string): V | undefined {
      const entry = entries.get(key)
      if (entry === undefined) return undefined
      entries.delete(key)
      if (entry.expiresAtMs <= nowMs()) return undefined
      entries.set(key, entry)
      return entry.value
    },
    set(key: string, value: V): void {
      entries.delete(key)
      entries.set(key, { value, expiresAtMs: nowMs() + ttlMs })
      if (entries.size <= maxEntries) return
      for (const oldest of entries.keys()) {
        entries.delete(oldest)
        break
      }
    },
    size: () => entries.size,
  }
}

/** closed: calls pass. open: none does. half-open: one has passed, and what becomes of it decides. */
export type CircuitState = 'closed' | 'open' | 'half-open'

/** A circuit breaker, so that something that is down is not asked, and waited for, at every event. */
export function createCircuit(nowMs: () => number, changed: (state: CircuitState) => void) {
  let state: CircuitState = 'closed'
  let failures = 0
  let lastReason = ''
  let openedAtMs = 0
  const enter = (next: CircuitState): void => {
    if (state === next) return
    state = next
    changed(next)
  }
  return {
    state: () => state,
    /** Whether a call may be made now. One that may must be followed by {@link succeeded} or {@link failed}. */
    pass(): { ok: true } | { ok: false; reason: string } {
      if (state === 'closed') return { ok: true }
      if (state === 'open' && nowMs() - openedAtMs >= CIRCUIT_OPEN_MS) {
        enter('half-open')
        return { ok: true }
      }
      return { ok: false, reason: `circuit open after ${failures} failures, the last: ${lastReason}` }
    },
    succeeded(): void {
      failures = 0
      enter('closed')
    },
    failed(reason: string): void {
      failures++
      lastReason = reason
      if (state === 'closed' && failures < CIRCUIT_FAILURE_THRESHOLD) return
      openedAtMs = nowMs()
      enter('open')
    },
  }
}
