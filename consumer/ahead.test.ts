import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { decodeAhead, encodeAhead, MAX_AHEAD_OFFSETS } from './ahead.ts'

const offsets = fc.uniqueArray(fc.integer({ min: 1, max: MAX_AHEAD_OFFSETS + 3_000 }), { maxLength: 500 })

test('what is ahead is read back as it was written, and fits into Kafka’s metadata', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 40 }), offsets, (committed, steps) => {
      const done = steps.toSorted((a, b) => a - b).map((step) => committed + step)
      const metadata = encodeAhead(committed, done)
      expect(Buffer.byteLength(metadata)).toBeLessThanOrEqual(4_096)
      expect([...decodeAhead(committed, metadata)]).toEqual(done)
    }),
  )
})

test('offsets too far ahead to be told are left out, not confused with others', () => {
  const metadata = encodeAhead(10, [12, 10 + 24_001])
  expect(Buffer.byteLength(metadata)).toBeLessThanOrEqual(4_096)
  expect([...decodeAhead(10, metadata)]).toEqual([12])
})

test('metadata of other tools says nothing', () => {
  for (const metadata of ['', 'reset by hand', 'kt2:AAAA']) expect(decodeAhead(5, metadata).size).toBe(0)
  expect(decodeAhead(-1, 'kt1:/w==').size).toBe(0)
})
