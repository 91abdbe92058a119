import { judgeFlatness } from '../faults/memory.ts'

/**
 * How much more memory the last fifth of a run may take than the second (the first is for warming up): a share, and what the runtime may not have given back yet.
 * Odd records differ in size by a factor of a thousand, and what is held of them at a time with it.
 */
const MAX_GROWTH = 0.25
const UNSETTLED_BYTES = 64 * 2 ** 20
/** Fewer samples say nothing. */
const LEAST_SAMPLES = 60

/** @param samples of resident memory in bytes, at equal intervals */
export function memoryFaults(service: string, samples: readonly number[]): string[] {
  if (samples.length < LEAST_SAMPLES) return []
  const { secondFifthBytes, lastFifthBytes } = judgeFlatness(samples)
  const [before, after] = [secondFifthBytes, lastFifthBytes].map((bytes) => Math.round(bytes / 2 ** 20))
  return lastFifthBytes > secondFifthBytes * (1 + MAX_GROWTH) + UNSETTLED_BYTES
    ? [`the ${service}'s memory grew from ${before} to ${after} MB`]
    : []
}
