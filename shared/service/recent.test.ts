import { expect, test } from 'bun:test'
import { Recent } from './recent.ts'

test('what was asked for lately is kept, and no more than twice the number', () => {
  const recent = new Recent<number>(10)
  recent.set('used', -1)
  for (let one = 0; one < 1_000; one++) {
    recent.set(String(one), one)
    expect(recent.get('used')).toBe(-1)
  }
  const kept = Array.from({ length: 1_000 }, (_, one) => recent.get(String(one))).filter((one) => one !== undefined)
  expect(kept.length).toBeLessThanOrEqual(20)
  expect(recent.get('999')).toBe(999)
  recent.clear()
  expect([recent.get('used'), recent.get('999')]).toEqual([undefined, undefined])
})
