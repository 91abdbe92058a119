import { expect, test } from 'bun:test'
import { beginningOf, escaped } from './text.ts'

test('of a long text the beginning is shown: so many lines, and so many characters', () => {
  expect(beginningOf('')).toBe('')
  expect(beginningOf('one\ntwo')).toBe('one\ntwo')
  const lines = (count: number): string => 'x\n'.repeat(count)
  expect(beginningOf(`${lines(4_999)}y`)).toBe(`${lines(4_999)}y`)
  expect(beginningOf(lines(6_000))).toBe(lines(5_000).slice(0, -1))
  expect(beginningOf('x'.repeat(300_000))).toHaveLength(200_000)
})

test('characters that are not seen, or turn others around, are escapes in JSON, and mean the same', () => {
  const value = { 'na\u202eme': '\u202e001', nothing: '\u200b\ufeff', arabic: 'مرحبا' }
  const shown = escaped(JSON.stringify(value))
  expect(shown).toContain('"na\\u202eme":"\\u202e001"')
  expect(shown).toContain('"\\u200b\\ufeff"')
  expect(shown).toContain('مرحبا')
  expect(JSON.parse(shown)).toEqual(value)
})
