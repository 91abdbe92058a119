import { expect, test } from 'bun:test'
import { headerText } from './headers.ts'

test('the last header of a name counts, as bytes or as text', () => {
  const headers = [{ a: Buffer.from('first') }, { b: 'other' }, { a: Buffer.from('läst') }]
  expect(headerText(headers, 'a')).toBe('läst')
  expect(headerText(headers, 'b')).toBe('other')
})

test('an empty header is there, a missing one is not', () => {
  expect(headerText([{ a: '' }], 'a')).toBe('')
  expect(headerText([{ a: '' }], 'b')).toBeUndefined()
  expect(headerText([], 'a')).toBeUndefined()
})

test('names are compared exactly', () => {
  expect(headerText([{ Traceparent: 'x' }], 'traceparent')).toBeUndefined()
})
