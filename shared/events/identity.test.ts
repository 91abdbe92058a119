import { expect, test } from 'bun:test'
import { GENERATION, type HeaderValue, headersOf, NO_HEADERS } from './headers.ts'
import { eventIdentity, generationOf } from './identity.ts'

const generation = (...values: HeaderValue[]): number => generationOf({ names: values.map(() => GENERATION), values })

test('a generation is a decimal number from 1 to 2^31-1 without a leading zero; anything else counts as 0', () => {
  expect(['1', '2', '10', '2147483647'].map((text) => generation(text))).toEqual([1, 2, 10, 2147483647])
  const odd = [
    '',
    '0',
    '01',
    '-1',
    '+1',
    '1e9',
    '1.0',
    '0x1',
    ' 1',
    '1\n',
    '１',
    '2147483648',
    '4294967297',
    '9'.repeat(400),
  ]
  expect(odd.map((text) => generation(text))).toEqual(odd.map(() => 0))
  expect([generation(null), generation(Buffer.from([0x31, 0xff])), generation(Buffer.from([0xff]))]).toEqual([0, 0, 0])
  expect([generationOf(NO_HEADERS), generationOf(headersOf({ 'Kt-Generation': '1' }))]).toEqual([0, 0])
})

test('of several generations in one record, the last header decides', () => {
  expect([generation('1', '2'), generation('-1', '2'), generation('2', '-1'), generation('2', null)]).toEqual([
    2, 2, 0, 0,
  ])
})

test('an event that was not redriven is known by its source and id alone, and each generation is another', () => {
  expect(eventIdentity('/s', '1')).toBe('/s\n1')
  expect(eventIdentity('/s', '1', 0)).toBe('/s\n1')
  const all = [0, 1, 2, 11].flatMap((one) => ['1', '11'].map((id) => eventIdentity('/s', id, one)))
  expect(new Set(all).size).toBe(all.length)
})
