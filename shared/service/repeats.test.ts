import { expect, test } from 'bun:test'
import { Repeats } from './repeats.ts'

test('the same is new once in a time', () => {
  let nowMs = 0
  const repeats = new Repeats(1_000, () => nowMs)
  expect([repeats.isNew('a'), repeats.isNew('a'), repeats.isNew('b')]).toEqual([true, false, true])
  nowMs = 999
  expect(repeats.isNew('a')).toBe(false)
  nowMs = 1_000
  expect([repeats.isNew('a'), repeats.isNew('a'), repeats.isNew('b')]).toEqual([true, false, true])
})

test('what is said often is bounded', () => {
  const repeats = new Repeats(1_000, () => 0)
  for (let one = 0; one < 100_000; one++) repeats.isNew(`${one}`)
  expect(repeats.isNew('0')).toBe(true)
  expect(repeats.isNew('99999')).toBe(false)
})
