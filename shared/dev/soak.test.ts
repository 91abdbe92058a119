import { describe, expect, test } from 'bun:test'
import { faults, growthBytes } from './soak.ts'

const MEBIBYTE = 2 ** 20

/** One sample a per cent. */
const samples = (residentMebibytes: (percent: number) => number) =>
  Array.from({ length: 100 }, (_, i) => ({ percent: i + 1, residentBytes: residentMebibytes(i + 1) * MEBIBYTE }))

const all = { records: 4, sum: 0 + 1 + 2 + 3 }
const flat = samples(() => 100)

describe('the verdict on a soak', () => {
  test('is good when every record came back and memory stayed flat', () => {
    expect(faults(4, all, all, flat, 0)).toEqual([])
  })

  test('does not count what warming up took, nor a short peak', () => {
    expect(growthBytes(samples((percent) => (percent <= 50 ? 50 + percent : percent === 97 ? 400 : 100)))).toBe(0)
  })

  test('sees memory that grows with the records', () => {
    const growing = samples((percent) => 100 + percent)
    expect(growthBytes(growing)).toBe(40 * MEBIBYTE)
    expect(faults(4, all, all, growing, 0)).toEqual(['the last half added 40.0 MiB of memory; 32.0 MiB are allowed'])
  })

  test('sees that it was not measured', () => {
    expect(faults(4, all, all, [], 0)).toHaveLength(1)
  })

  test('sees a record that is missing, one that is there twice, and one that was not delivered', () => {
    expect(faults(4, all, { records: 3, sum: 3 }, flat, 0)).toHaveLength(1)
    expect(faults(4, { records: 4, sum: 0 + 1 + 1 + 2 }, all, flat, 0)).toHaveLength(1)
    expect(faults(4, all, all, flat, 1)).toEqual(['1 records were not delivered'])
  })
})
