/** Medians, ranges and ratios of a few repetitions. For three to five of them, a range is more honest than a standard deviation. */

export interface Summary {
  median: number
  min: number
  max: number
  count: number
}

/** @returns undefined without values */
export function summarise(values: readonly number[]): Summary | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const [min, max, low, high] = [sorted.at(0), sorted.at(-1), sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  if (min === undefined || max === undefined || low === undefined || high === undefined) return undefined
  return { median: (low + high) / 2, min, max, count: sorted.length }
}

/** Values of a measure by repetition. */
export type ByRepetition = ReadonlyMap<number, number>

/**
 * A's value divided by B's of the same repetition, made at nearly the same time. Repetitions that only one of them has, since the other's is void,
 * are left out, and so are those where B's value is 0.
 */
export function pairedRatios(a: ByRepetition, b: ByRepetition): number[] {
  return [...a].flatMap(([repetition, value]) => {
    const by = b.get(repetition)
    return by === undefined || by === 0 ? [] : [value / by]
  })
}

/** For positive values without pairs: the ratio of the medians, and the widest range that the two ranges allow. */
export function ratioOf(a: Summary, b: Summary): Summary {
  return { median: a.median / b.median, min: a.min / b.max, max: a.max / b.min, count: Math.min(a.count, b.count) }
}

/** A smaller change of a median is noise of the machine. */
export const LEAST_CHANGE = 0.03

/** A single value says nothing about its noise. */
export const LEAST_REPETITIONS = 2

/**
 * Whether the medians differ by more than half of the wider range, and by more than LEAST_CHANGE of the first. False when either has fewer
 * values than LEAST_REPETITIONS.
 */
export function movedBeyondNoise(before: Summary, after: Summary): boolean {
  if (Math.min(before.count, after.count) < LEAST_REPETITIONS) return false
  const noise = Math.max(
    (before.max - before.min) / 2,
    (after.max - after.min) / 2,
    LEAST_CHANGE * Math.abs(before.median),
  )
  return Math.abs(after.median - before.median) > noise
}
