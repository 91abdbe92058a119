import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { movedBeyondNoise, pairedRatios, ratioOf, type Summary, summarise } from './statistics.ts'

const positive = fc.double({ min: 1e-3, max: 1e9, noNaN: true })
const repetitions = fc.array(positive, { minLength: 2, maxLength: 9 })
const summaryOf = (values: readonly number[]): Summary => summarise(values) as Summary

describe('a summary', () => {
  test('has the median, the range and the number of the values', () => {
    expect(summarise([5, 1, 9])).toEqual({ median: 5, min: 1, max: 9, count: 3 })
    expect(summarise([4, 1, 2, 10])).toEqual({ median: 3, min: 1, max: 10, count: 4 })
    expect(summarise([7])).toEqual({ median: 7, min: 7, max: 7, count: 1 })
  })

  test('of nothing is none', () => {
    expect(summarise([])).toBeUndefined()
  })

  test('has as many values on either side of its median, whatever their order', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 1 }), (values) => {
        const { median, min, max } = summaryOf(values)
        const below = values.filter((one) => one < median).length
        const above = values.filter((one) => one > median).length
        expect(Math.max(below, above)).toBeLessThanOrEqual(values.length / 2)
        expect([min, max]).toEqual([Math.min(...values), Math.max(...values)])
        expect(summarise([...values].reverse())).toEqual({ median, min, max, count: values.length })
      }),
    )
  })

  test('leaves the values as they were', () => {
    const values = [3, 1, 2]
    summarise(values)
    expect(values).toEqual([3, 1, 2])
  })
})

describe('ratios', () => {
  test('are of the same repetition; one whose other half is void counts for nothing', () => {
    const ours = new Map([
      [1, 30],
      [2, 44],
      [3, 90],
    ])
    const theirs = new Map([
      [2, 11],
      [1, 10],
      [4, 5],
    ])
    expect(pairedRatios(ours, theirs)).toEqual([3, 4])
  })

  test('by nothing are left out', () => {
    expect(pairedRatios(new Map([[1, 5]]), new Map([[1, 0]]))).toEqual([])
  })

  test('in pairs do not see a machine that is slower for both for a while', () => {
    fc.assert(
      fc.property(fc.array(positive, { minLength: 1, maxLength: 9 }), positive, (speeds, factor) => {
        const theirs = new Map(speeds.map((speed, index) => [index + 1, speed]))
        const ours = new Map(speeds.map((speed, index) => [index + 1, speed * factor]))
        for (const ratio of pairedRatios(ours, theirs)) expect(ratio / factor).toBeCloseTo(1, 6)
      }),
    )
  })

  test('of what was not made in pairs enclose the ratio of any two of the values', () => {
    fc.assert(
      fc.property(repetitions, repetitions, (a, b) => {
        const { min, max } = ratioOf(summaryOf(a), summaryOf(b))
        for (const one of a)
          for (const other of b) {
            expect(one / other).toBeGreaterThanOrEqual(min)
            expect(one / other).toBeLessThanOrEqual(max)
          }
      }),
    )
  })
})

describe('what moved', () => {
  test('moved by more than half of the wider range', () => {
    expect(movedBeyondNoise(summaryOf([90, 100, 110]), summaryOf([111, 111, 111]))).toBe(true)
    expect(movedBeyondNoise(summaryOf([90, 100, 110]), summaryOf([109, 109, 109]))).toBe(false)
    expect(movedBeyondNoise(summaryOf([100, 100, 100]), summaryOf([90, 109, 130]))).toBe(false)
  })

  test('moved by more than 3 %, however alike the repetitions are', () => {
    expect(movedBeyondNoise(summaryOf([100, 100]), summaryOf([102.9, 102.9]))).toBe(false)
    expect(movedBeyondNoise(summaryOf([100, 100]), summaryOf([103.1, 103.1]))).toBe(true)
    expect(movedBeyondNoise(summaryOf([100, 100]), summaryOf([96.9, 96.9]))).toBe(true)
  })

  test('cannot be told from a single repetition', () => {
    expect(movedBeyondNoise(summaryOf([100]), summaryOf([500, 500]))).toBe(false)
    expect(movedBeyondNoise(summaryOf([100, 100]), summaryOf([500]))).toBe(false)
  })

  test('is never a result beside itself', () => {
    fc.assert(
      fc.property(repetitions, (values) => {
        expect(movedBeyondNoise(summaryOf(values), summaryOf(values))).toBe(false)
      }),
    )
  })

  test('is what no longer overlaps, when both spread alike and the change is not small', () => {
    fc.assert(
      fc.property(repetitions, fc.double({ min: 0.04, max: 100, noNaN: true }), (values, share) => {
        const { min, max, median } = summaryOf(values)
        const further = values.map((value) => value + (max - min) + share * median)
        expect(movedBeyondNoise(summaryOf(values), summaryOf(further))).toBe(true)
      }),
    )
  })

  test('does not depend on the unit', () => {
    // By a power of two, so that nothing is rounded.
    fc.assert(
      fc.property(repetitions, repetitions, (before, after) => {
        const scaled = (values: readonly number[]): Summary => summaryOf(values.map((value) => value * 1024))
        expect(movedBeyondNoise(scaled(before), scaled(after))).toBe(
          movedBeyondNoise(summaryOf(before), summaryOf(after)),
        )
      }),
    )
  })
})
