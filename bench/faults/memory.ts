import { residentMemoryBytes } from '../../shared/service/process-metrics.ts'

/** Whether a process's resident memory is stable, from samples of `VmRSS` at equal intervals. */

/**
 * How much the median of the last fifth may exceed that of the second: normal variation of a heap. The first fifth is warm-up.
 * 16 MB over eight minutes at 1,000 events a second are 35 bytes an event.
 */
export const FLAT_GROWTH_LIMIT_BYTES = 16 * 1024 * 1024

export interface Flatness {
  secondFifthBytes: number
  lastFifthBytes: number
  peakBytes: number
  growthBytes: number
  flat: boolean
}

const FIFTHS = 5

/** @throws RangeError for fewer samples than fifths */
export function judgeFlatness(samples: readonly number[]): Flatness {
  if (samples.length < FIFTHS) throw new RangeError(`${samples.length} samples of memory are too few`)
  const fifth = (index: number): number =>
    median(
      samples.slice(Math.floor((samples.length * index) / FIFTHS), Math.floor((samples.length * (index + 1)) / FIFTHS)),
    )
  const secondFifthBytes = fifth(1)
  const lastFifthBytes = fifth(FIFTHS - 1)
  const growthBytes = lastFifthBytes - secondFifthBytes
  return {
    secondFifthBytes,
    lastFifthBytes,
    peakBytes: Math.max(...samples),
    growthBytes,
    flat: growthBytes <= FLAT_GROWTH_LIMIT_BYTES,
  }
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle) - 1] ?? 0)) / 2
}

/** Samples each process every `intervalMs` until stopped. */
export function sampleMemory(pids: readonly number[], intervalMs: number): { samples: number[][]; stop(): void } {
  const samples: number[][] = pids.map(() => [])
  const timer = setInterval(() => {
    for (const [index, pid] of pids.entries()) {
      const bytes = residentMemoryBytes(pid)
      if (bytes !== undefined) samples[index]?.push(bytes)
    }
  }, intervalMs)
  return { samples, stop: () => clearInterval(timer) }
}
