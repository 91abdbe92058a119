import { describe, expect, test } from 'bun:test'
import { until } from '../../shared/testing/until.ts'
import { FLAT_GROWTH_LIMIT_BYTES, judgeFlatness, sampleMemory } from './memory.ts'

const MB = 1024 * 1024
const samples = (megabytes: (at: number) => number) => Array.from({ length: 600 }, (_, at) => megabytes(at / 600) * MB)

describe('memory is', () => {
  test('flat when it grows at first and breathes afterwards', () => {
    expect(judgeFlatness(samples((at) => (at < 0.15 ? 50 + 400 * at : 110) + 20 * Math.sin(at * 200))).flat).toBe(true)
  })

  test('not flat when it creeps, though less than it breathes', () => {
    const limit = FLAT_GROWTH_LIMIT_BYTES / MB
    // Between the middles of the second and the last fifth lie three fifths of the run.
    const creeping = (total: number) =>
      judgeFlatness(samples((at) => 100 + (total / 0.6) * at + 20 * Math.sin(at * 200)))
    expect(creeping(limit * 1.3).flat).toBe(false)
    expect(creeping(limit * 0.7).flat).toBe(true)
  })

  test('flat when it shrinks', () => {
    expect(judgeFlatness(samples((at) => 200 - 100 * at))).toMatchObject({
      flat: true,
      growthBytes: expect.any(Number),
    })
  })

  test('not to be judged by a handful of samples', () => {
    expect(() => judgeFlatness([1, 2, 3])).toThrow(RangeError)
  })
})

test('samples are those of the process, in bytes', async () => {
  const sampling = sampleMemory([process.pid], 5)
  await until(() => (sampling.samples[0]?.length ?? 0) >= 5)
  sampling.stop()
  for (const bytes of sampling.samples[0] ?? []) expect(bytes).toBeWithin(10 * MB, 4096 * MB)
})
