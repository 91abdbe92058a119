import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { isoTime } from './time.ts'

test('every time is told as Date tells it, also when times repeat and go back', () => {
  const times = fc.array(fc.oneof(fc.integer({ min: 0, max: 2 ** 42 }), fc.constantFrom(0, 1_700_000_000_000)))
  fc.assert(
    fc.property(times, (list) => {
      const twice = list.flatMap((ms) => [ms, ms])
      expect(twice.map(isoTime)).toEqual(twice.map((ms) => new Date(ms).toISOString()))
    }),
  )
})
