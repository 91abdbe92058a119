import { expect, test } from 'bun:test'
import { placesOf, seenOf } from './observer.ts'

test('a record was seen when the end of its line came', () => {
  const seen = seenOf(
    placesOf([
      { text: '0 1\n5 ', atMs: 10 },
      { text: '77\n0 2\n', atMs: 20 },
    ]).buffer,
  )
  expect(seen.count).toBe(3)
  expect(seen.at(0, 1)).toBe(10)
  expect(seen.at(5, 77)).toBe(20)
  expect(seen.at(0, 2)).toBe(20)
  expect(seen.at(0, 77)).toBeUndefined()
})

test('a line that was cut off is no record', () => {
  expect(seenOf(placesOf([{ text: '0 1\n0 2', atMs: 1 }]).buffer).count).toBe(1)
})
