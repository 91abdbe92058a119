import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { receiptOf, receiptText } from './receipt.ts'

test('a receipt written by hand is the receipt as JSON, whatever the id', () => {
  fc.assert(
    fc.property(
      fc.string({
        unit: fc.oneof(
          fc.string({ unit: 'binary', maxLength: 2 }),
          fc.constantFrom('"', '\\', '\n', '\u2028', '\ud800'),
        ),
      }),
      fc.nat(1_000),
      fc.nat(),
      fc.integer({ min: 0, max: 4_102_444_800_000 }),
      (id, partition, offset, timestampMs) => {
        const delivery = { topic: 't', partition, offset, timestampMs }
        expect(receiptText(id, 'a-stream', delivery)).toBe(JSON.stringify(receiptOf(id, 'a-stream', delivery)))
      },
    ),
  )
})
