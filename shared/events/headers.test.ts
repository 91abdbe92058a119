import { expect, test } from 'bun:test'
import { headersOf, headerText, NO_HEADERS, withHeaders } from './headers.ts'

test('the last header of a name counts, as bytes or as text', () => {
  const headers = withHeaders(headersOf({ a: Buffer.from('first'), b: 'other' }), { a: Buffer.from('läst') })
  expect(headerText(headers, 'a')).toBe('läst')
  expect(headerText(headers, 'b')).toBe('other')
})

test('an empty header is there, a missing one is not', () => {
  expect(headerText(headersOf({ a: '' }), 'a')).toBe('')
  expect(headerText(headersOf({ a: '' }), 'b')).toBeUndefined()
  expect(headerText(NO_HEADERS, 'a')).toBeUndefined()
})

test('names are compared exactly', () => {
  expect(headerText(headersOf({ Traceparent: 'x' }), 'traceparent')).toBeUndefined()
})

test('a header without a value is an empty text', () => {
  expect(headerText(headersOf({ a: null }), 'a')).toBe('')
})

test('more headers stand behind those that are there, which stay as they were', () => {
  const before = headersOf({ a: '1', b: null })
  expect(withHeaders(before, { a: '2', c: '3' })).toEqual({
    names: ['a', 'b', 'a', 'c'],
    values: ['1', null, '2', '3'],
  })
  expect(before).toEqual({ names: ['a', 'b'], values: ['1', null] })
})
