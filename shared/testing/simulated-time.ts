import { jest, spyOn } from 'bun:test'

/**
 * Time that passes only when nothing is left to be done: timers, `Date.now` and `performance.now` are bun:test's own, and chance is a seeded
 * sequence, so that a run comes out the same each time. Whatever is called within must wait for timers and promises only.
 */
export interface SimulatedTime {
  /** A number from 0 to below 1. */
  random(): number
  /** Runs what is due within so many ms, in turn. */
  pass(ms: number): Promise<void>
  /** Lets time pass until the condition holds. @returns false when it does not within so many ms */
  until(condition: () => boolean, timeoutMs: number): Promise<boolean>
  /** Back to real time. */
  end(): void
}

/** Where simulated time begins. */
const START_MS = 1_700_000_000_000

/** How far time goes at once when the condition of {@link SimulatedTime.until} is looked at in between. */
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

/** Everything that waits for a promise only has gone on as far as it can. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A small generator of numbers that are random enough for tests. */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
