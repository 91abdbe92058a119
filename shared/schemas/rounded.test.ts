import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { roundedValues } from './rounded.ts'

test('numbers in const and enum that JavaScript does not have are found, wherever the schema is', () => {
  const text = `{
    "const": {"a": [1e400, "1e400"]}, "enum": [9007199254740993, 0.12345678901234567890, -1e-999],
    "maximum": 18446744073709551615, "default": 1e400,
    "properties": {"const": {"enum": [12345678901234567890]}, "a/b": {"items": {"const": -9007199254740993}}}
  }`
  expect(roundedValues(text)).toEqual([
    '/const: 1e400 is Infinity in JavaScript',
    '/enum: 9007199254740993 is 9007199254740992 in JavaScript',
    '/enum: 0.12345678901234567890 is 0.12345678901234568 in JavaScript',
    '/enum: -1e-999 is 0 in JavaScript',
    '/properties/const/enum: 12345678901234567890 is 12345678901234567000 in JavaScript',
    '/properties/a~1b/items/const: -9007199254740993 is -9007199254740992 in JavaScript',
  ])
})

test.each([
  '0',
  '-0',
  '0.0',
  '0e5',
  '1.0',
  '100',
  '1e2',
  '10E+1',
  '1000e-1',
  '0.10',
  '1e21',
  '5e-324',
  'true',
  '"1e400"',
])('%s is as it stands', (value) => expect(roundedValues(`{"const":${value}}`)).toEqual([]))

test('what JavaScript writes is as it stands', () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
      for (const text of [JSON.stringify(number), number.toExponential()])
        expect(roundedValues(`{"const":${text}}`)).toEqual([])
    }),
  )
})

test('another last digit is found', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 2n ** 53n, max: 10n ** 20n }), (number) => {
      expect(roundedValues(`{"const":${number}}`).length === 0).toBe(String(Number(number)) === String(number))
    }),
  )
})
