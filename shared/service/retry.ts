/** Retries: exponential back-off with jitter. */

/** Delays double from `firstMs` to at most `maxMs`. */
export interface Backoff {
  firstMs: number
  maxMs: number
}

/** For connections to Kafka: quick at first, then slow enough for a cluster that restarts under many clients. */
export const CONNECT_BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 }

/**
 * How long to wait before attempt `attempt + 1`, ms. "Equal jitter": half of the delay is fixed, so that it is never close to zero, and half is random, so that
 * clients that failed together do not retry together.
 * @param attempt how many attempts have failed, from 1
 */
export function delayMs(backoff: Backoff, attempt: number, random: () => number = Math.random): number {
  const full = Math.min(backoff.maxMs, backoff.firstMs * 2 ** Math.min(attempt - 1, 52))
  return full / 2 + (full / 2) * random()
}

/** The longest time of a timer, some 24 days: over it, the timer would end at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Resolves after `ms`, at most 24 days, or as soon as the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, Math.min(Math.max(0, ms), MAX_TIMER_MS))
    signal?.addEventListener('abort', done)
  })
}

let turning: Promise<void> | undefined

/** Resolves in the next turn of the event loop. All calls of one turn share a promise. */
export function turn(): Promise<void> {
  turning ??= new Promise((done) => {
    setImmediate(() => {
      turning = undefined
      done()
    })
  })
  return turning
}

export class TimeoutError extends Error {
  override readonly name = 'TimeoutError'
}

/**
 * Settles like the promise, or rejects when that takes too long. The operation continues in the background, and its later rejection is ignored.
 * @throws TimeoutError
 */
export function within<T>(timeoutMs: number, promise: Promise<T>, what = 'no answer'): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`${what} within ${timeoutMs} ms`)), timeoutMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Maps the promise's value, or undefined once `ms` are over. One promise, where `Promise.race` would take several for every request. */
export function mapWithin<T, R>(promise: Promise<T>, ms: number, result: (value: T | undefined) => R): Promise<R> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(result(undefined)), Math.max(0, ms))
    promise.then(
      (value) => {
        clearTimeout(timer)
        resolve(result(value))
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}
