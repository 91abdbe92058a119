import { jest, spyOn } from 'bun:test'

/**
 * Time that advances only when there is nothing left to do. Timers, `Date.now` and `performance.now` are bun:test's fakes, and random numbers come
 * from a seed, so that every run is the same. The code under test must wait for timers and promises only.
 */
export interface SimulatedTime {
  /** A random number in [0, 1). */
  random(): number
  /** Runs what is due within so many ms, in order. */
  pass(ms: number): Promise<void>
  /** Advances time until the condition holds. @returns false when it does not within so many ms */
  until(condition: () => boolean, timeoutMs: number): Promise<boolean>
  /** Restores real time. */
  end(): void
}

/** Where simulated time begins. */
const START_MS = 1_700_000_000_000

/** The step between two checks of the condition in {@link SimulatedTime.until}. */
const LOOK_MS = 50

export function simulateTime(seed: number): SimulatedTime {
  jest.useFakeTimers({ now: START_MS })
  const random = mulberry32(seed)
  const chance = spyOn(Math, 'random').mockImplementation(random)
  const passTo = async (toMs: number): Promise<void> => {
    await settled()
    let isThere = false
    setTimeout(() => {
      isThere = true
    }, toMs - Date.now())
    while (!isThere) {
      jest.advanceTimersToNextTimer()
      await settled()
    }
  }
  return {
    random,
    pass: (ms) => passTo(Date.now() + ms),
    async until(condition, timeoutMs) {
      const deadlineMs = Date.now() + timeoutMs
      for (;;) {
        await settled()
        if (condition()) return true
        if (Date.now() >= deadlineMs) return false
        await passTo(Date.now() + LOOK_MS)
      }
    },
    end() {
      jest.useRealTimers()
      chance.mockRestore()
    },
  }
}

/** Lets everything run that only waits for promises. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A small random number generator, good enough for tests. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
