import { expect, test } from 'bun:test'
import { Value } from '@sinclair/typebox/value'
import { createRecorder, latencyOfValues, quantilesFor } from './histogram.ts'
import { Latency } from './result.ts'

test('quantiles are those of all values, to three digits', () => {
  const latency = latencyOfValues(Array.from({ length: 1000 }, (_, index) => index + 1))
  expect(latency.count).toBe(1000)
  expect(latency.p50Ms).toBeCloseTo(500, -1)
  expect(latency.p99Ms).toBeCloseTo(990, -1)
  expect(latency.p999Ms).toBeCloseTo(999, -1)
  expect(latency.maxMs).toBeCloseTo(1000, -1)
  expect(latency.meanMs).toBeCloseTo(500.5, -1)
})

test('a time of microseconds is told from another', () => {
  const latency = latencyOfValues([0.012, 0.012, 0.034])
  expect(latency.p50Ms).toBe(0.012)
  expect(latency.maxMs).toBe(0.034)
})

test('what clocks put before its beginning counts as nothing, and what takes for ever as the longest', () => {
  const recorder = createRecorder()
  recorder.record(-3)
  recorder.record(1e9)
  const { count, p50Ms, maxMs } = recorder.latency()
  expect({ count, p50Ms }).toEqual({ count: 2, p50Ms: 0 })
  expect(maxMs).toBeCloseTo(600_000, -3)
})

test('the curve rises from 0 to 1 and is what a result takes', () => {
  const latency = latencyOfValues(Array.from({ length: 5000 }, (_, index) => (index * 7919) % 5000))
  expect(Value.Check(Latency, latency)).toBe(true)
  for (const [index, [quantile, ms]] of latency.curve.entries()) {
    const [before, beforeMs] = latency.curve[index - 1] ?? [-1, -1]
    expect(quantile).toBeGreaterThan(before)
    expect(ms).toBeGreaterThanOrEqual(beforeMs)
  }
  expect(latency.curve.at(-1)?.[0]).toBe(1)
})

test('a curve shows no finer quantile than there are values', () => {
  expect(quantilesFor(0)).toEqual([])
  expect(quantilesFor(100).at(-2)).toBeLessThanOrEqual(0.99)
  expect(quantilesFor(100_000).at(-2)).toBeGreaterThan(0.9999)
})

test('of no values there is a latency of nothing', () => {
  expect(latencyOfValues([])).toMatchObject({ count: 0, meanMs: 0, p99Ms: 0, curve: [] })
})
