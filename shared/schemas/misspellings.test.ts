import { expect, test } from 'bun:test'
import { misspellings } from './misspellings.ts'

test.each([
  ['requierd', 'required'],
  ['typ', 'type'],
  ['Type', 'type'],
  ['minimun', 'minimum'],
  ['item', 'items'],
  ['propertes', 'properties'],
  ['additionalproperties', 'additionalProperties'],
  ['additonalPropertes', 'additionalProperties'],
  ['minLenght', 'minLength'],
  ['ref', '$ref'],
  ['enums', 'enum'],
  ['oneof', 'oneOf'],
])('%s is most likely %s', (keyword, meant) => {
  expect(misspellings({ [keyword]: 1 })).toEqual([`/${keyword}: is no keyword: did you mean "${meant}"?`])
})

test.each([
  ['datetime', 'date-time'],
  ['data-time', 'date-time'],
  ['e-mail', 'email'],
  ['UUID', 'uuid'],
])('the format %s is most likely %s', (format, meant) => {
  expect(misspellings({ format })).toEqual([
    `/format: "${format}" is no format that is known: did you mean "${meant}"?`,
  ])
})

test.each([
  ['x-required', 'note', 'when', 'nullable', 'discriminator', 'example', 'content', 'key', 'name', 'xml', 'tsType'],
  [
    '$defs',
    'definitions',
    'dependentRequired',
    '$comment',
    'default',
    'description',
    'title',
    'examples',
    'deprecated',
    'readOnly',
    'contentEncoding',
    'enumNames',
    'unit',
    'order',
    'tags',
    'owner',
    'no',
    '',
  ],
])('%s and the like are words of their own', (...keywords) => {
  expect(misspellings(Object.fromEntries(keywords.map((keyword) => [keyword, 1])))).toEqual([])
})

test.each(['iri', 'idn-email', 'guid', 'phone', 'int16', 'urn', 'decimal', 'timestamp', 'a'.repeat(100_000)])(
  'the format %p is one of its own, or unlike any',
  (format) => expect(misspellings({ format })).toEqual([]),
)

test('only keywords of schemas are looked at, wherever a schema is', () => {
  expect(
    misspellings({
      properties: { typ: { 'x/typ': 1, items: [{ formt: '' }] }, requierd: true },
      $defs: { minimun: { allOf: [{ not: { tpye: 'string' } }] } },
      enum: [{ typ: 1 }],
      default: { typ: 1 },
      examples: [{ format: 'datetime' }],
      'x-own': { typ: 1 },
    }),
  ).toEqual([
    '/properties/typ/items/0/formt: is no keyword: did you mean "format"?',
    '/$defs/minimun/allOf/0/not/tpye: is no keyword: did you mean "type"?',
  ])
})
