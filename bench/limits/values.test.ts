import { expect, test } from 'bun:test'
import { SUBJECTS } from '../payloads.ts'
import { valuesOfBytes } from './values.ts'

test('values have exactly the bytes that are asked for, and are JSON on one line', () => {
  for (const bytes of [200, 300, 1024, 8192]) {
    const values = valuesOfBytes(bytes)
    expect(values).toHaveLength(SUBJECTS)
    for (const value of values) {
      expect(Buffer.byteLength(value)).toBe(bytes)
      expect(value).not.toContain('\n')
      expect(JSON.parse(value)).toBeObject()
    }
  }
})

test('values differ from each other', () => {
  expect(new Set(valuesOfBytes(300)).size).toBe(SUBJECTS)
})
