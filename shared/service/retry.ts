/** The project's one way to try again: exponential back-off with jitter. */

/** Delays double from `firstMs` to at most `maxMs`. */
export interface Backoff {
  firstMs: number
  maxMs: number
}

/** For connections to Kafka: quick at first, then gentle on a cluster that comes back to many clients. */
export const CONNECT_BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 }

/**
 * How long to wait before try `attempt + 1`, ms. "Equal jitter": half of the delay is fixed, so that a wait is never next to nothing, and
 * half is chance, so that those who failed together do not come back together.
 * @param attempt how many tries have failed, from 1
 */
export function delayMs(backoff: Backoff, attempt: number, random: () => number = Math.random): number {
  const full = Math.min(backoff.maxMs, backoff.firstMs * 2 ** Math.min(attempt - 1, 52))
  return full / 2 + (full / 2) * random()
}

/** Resolves after `ms`, or as soon as the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, Math.max(0, ms))
    signal?.addEventListener('abort', done)
  })
}

let turning: Promise<void> | undefined

/** Resolves when what has arrived in this turn of the event loop is dealt with. Whoever asks in one turn waits for the same, since many do. */
export function turn(): Promise<void> {
  turning ??= new Promise((done) => {
    setImmediate(() => {
      turning = undefined
      done()
    })
  })
  return turning
}

/** Something did not come in the time that it had. */
export class TimeoutError extends Error {
  override readonly name = 'TimeoutError'
}

/**
 * The promise, or a rejection once it has not settled for so long. What it stands for goes on in the background; its later rejection is nobody's.
 * @throws TimeoutError
 */
export function within<T>(timeoutMs: number, promise: Promise<T>, what = 'no answer'): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`${what} within ${timeoutMs} ms`)), timeoutMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
