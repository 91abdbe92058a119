import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { delayMs, sleep } from './retry.ts'

const backoff = { firstMs: 100, maxMs: 5_000 }
const [least, most] = [() => 0, () => 1 - Number.EPSILON]

describe('the delay before another try', () => {
  test('doubles from the first to the longest', () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8].map((attempt) => Math.round(delayMs(backoff, attempt, most)))).toEqual([
      100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000,
    ])
  })

  test('is at least half of that, and chance decides on the other half', () => {
    expect(delayMs(backoff, 1, least)).toBe(50)
    expect(delayMs(backoff, 2, () => 0.5)).toBe(150)
  })

  test('stays within its bounds however many tries have failed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60_000 }),
        fc.integer({ min: 1, max: 86_400_000 }),
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (firstMs, maxMs, attempt, chance) => {
          const delay = delayMs({ firstMs, maxMs }, attempt, () => chance)
          expect(delay).toBeGreaterThanOrEqual(Math.min(firstMs, maxMs) / 2)
          expect(delay).toBeLessThanOrEqual(maxMs)
        },
      ),
    )
  })

  test('differs between those who failed together', () => {
    expect(new Set(Array.from({ length: 100 }, () => delayMs(backoff, 1))).size).toBeGreaterThan(90)
  })
})

describe('sleep', () => {
  test('lasts as long as it should', async () => {
    const begun = performance.now()
    await sleep(30)
    expect(performance.now() - begun).toBeGreaterThanOrEqual(29)
  })

  test('ends when its signal is aborted, before or during', async () => {
    const begun = performance.now()
    const controller = new AbortController()
    const sleeping = sleep(60_000, controller.signal)
    controller.abort()
    await sleeping
    await sleep(60_000, controller.signal)
    expect(performance.now() - begun).toBeLessThan(1_000)
  })

  test('leaves no listener behind on a signal that lives on', async () => {
    const { signal } = new AbortController()
    let listeners = 0
    const counting = Object.assign(Object.create(signal), {
      addEventListener: () => listeners++,
      removeEventListener: () => listeners--,
    }) as AbortSignal
    Object.defineProperty(counting, 'aborted', { value: false })
    await sleep(1, counting)
    expect(listeners).toBe(0)
  })
})

test('a wait that is longer than a timer can be does not end at once', async () => {
  const ending = new AbortController()
  let isOver = false
  const waiting = [1e10, Number.POSITIVE_INFINITY].map(async (ms) => {
    await sleep(ms, ending.signal)
    isOver = true
  })
  await sleep(10)
  expect(isOver).toBe(false)
  ending.abort()
  await Promise.all(waiting)
})
