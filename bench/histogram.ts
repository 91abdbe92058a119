import { build, type Histogram } from 'hdr-histogram-js'
import type { Latency } from './result.ts'

/** Times in an HdrHistogram: whole microseconds, three significant digits. */

const MICROSECONDS_A_MILLISECOND = 1_000
const SIGNIFICANT_DIGITS = 3
/** Longer times count as this long. */
const HIGHEST_MICROSECONDS = 600_000_000

/** Quantiles from the median outwards, each step halving the rest, for as far as there are values. */
const HALVINGS = 20
const POINTS_A_HALVING = 4

export interface Recorder {
  /** Negative times, which two processes' clocks can produce, count as 0. */
  record(milliseconds: number): void
  latency(): Latency
}

export function createRecorder(): Recorder {
  const histogram = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: HIGHEST_MICROSECONDS,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
    bitBucketSize: 32,
  })
  return {
    record(milliseconds) {
      const microseconds = Math.round(milliseconds * MICROSECONDS_A_MILLISECOND)
      histogram.recordValue(Math.min(Math.max(microseconds, 0), HIGHEST_MICROSECONDS))
    },
    latency: () => latencyOf(histogram),
  }
}

export function latencyOfValues(milliseconds: Iterable<number>): Latency {
  const recorder = createRecorder()
  for (const one of milliseconds) recorder.record(one)
  return recorder.latency()
}

function latencyOf(histogram: Histogram): Latency {
  const at = (quantile: number): number =>
    histogram.totalCount === 0 ? 0 : histogram.getValueAtPercentile(quantile * 100) / MICROSECONDS_A_MILLISECOND
  return {
    count: histogram.totalCount,
    meanMs: histogram.totalCount === 0 ? 0 : histogram.mean / MICROSECONDS_A_MILLISECOND,
    p50Ms: at(0.5),
    p75Ms: at(0.75),
    p90Ms: at(0.9),
    p95Ms: at(0.95),
    p99Ms: at(0.99),
    p999Ms: at(0.999),
    maxMs: at(1),
    curve: quantilesFor(histogram.totalCount).map((quantile) => [quantile, at(quantile)]),
  }
}

/** The quantiles that so many values can distinguish, from 0 to 1, rising. */
export function quantilesFor(count: number): number[] {
  if (count === 0) return []
  const quantiles = [0, 0.1, 0.2, 0.3, 0.4]
  for (let step = 0; step < HALVINGS * POINTS_A_HALVING; step++) {
    const above = 0.5 ** (1 + step / POINTS_A_HALVING)
    if (above * count < 1) break
    quantiles.push(1 - above)
  }
  return [...quantiles, 1]
}
