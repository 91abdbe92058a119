import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { attributeFault } from '../events/event.ts'
import { MAX_VERSION, parseSchemaHeader, parseSchemaUrn, schemaHeader, schemaUrn } from './identity.ts'

const subjects = fc.string({ unit: 'binary', minLength: 1, maxLength: 100 })
const versions = fc.integer({ min: 1, max: MAX_VERSION })

test('a header says which version of which subject, whatever the subject’s name', () => {
  fc.assert(
    fc.property(subjects, versions, (subject, version) => {
      expect(parseSchemaHeader(schemaHeader(subject, version))).toEqual({ subject, version })
    }),
  )
  expect(schemaHeader('acme.orders-order.placed', 2)).toBe('acme.orders-order.placed/2')
  expect(parseSchemaHeader('a/b/3')).toEqual({ subject: 'a/b', version: 3 })
})

test('so does a URN, which is a valid dataschema', () => {
  fc.assert(
    fc.property(subjects, versions, (subject, version) => {
      const urn = schemaUrn(subject, version)
      expect(attributeFault('dataschema', urn)).toBeUndefined()
      expect(parseSchemaUrn(urn)).toEqual({ subject, version })
    }),
  )
  expect(schemaUrn('acme.orders-a:b c/d', 7)).toBe('urn:kafkatrace:schema:acme.orders-a%3Ab%20c%2Fd:7')
  expect(parseSchemaUrn('URN:KafkaTrace:schema:a:7')).toEqual({ subject: 'a', version: 7 })
  expect(parseSchemaUrn(schemaUrn('\ud800', 1))).toEqual({ subject: '\ufffd', version: 1 })
})

describe('what is written otherwise names no version', () => {
  const LONG = 'x'.repeat(16_512)
  const numbers = ['0', '-1', '+1', '01', '1.0', '1e3', ' 1', '1 ', '2147483648', '9'.repeat(40), '１', 'latest', '']

  test('in a header', () => {
    for (const text of ['', '1', '/1', 'a', 'a/', `${LONG}x/1`, ...numbers.map((one) => `a/${one}`)])
      expect([text, parseSchemaHeader(text)]).toEqual([text, undefined])
    expect(parseSchemaHeader(undefined)).toBeUndefined()
    expect(parseSchemaHeader(`${LONG}/1`)).toBeDefined()
  })

  test('in a dataschema', () => {
    const urns = [
      'a',
      ':1',
      'a:1#b',
      'a:1?=b',
      'a:b:1',
      '%ff:1',
      '%:1',
      `${LONG}x:1`,
      ...numbers.map((one) => `a:${one}`),
    ]
    const others = ['urn:other:schema:a:1', 'https://example.com/a/1', 'kafkatrace:schema:a:1', '']
    for (const text of [...urns.map((one) => `urn:kafkatrace:schema:${one}`), ...others])
      expect([text, parseSchemaUrn(text)]).toEqual([text, undefined])
    expect(parseSchemaUrn(undefined)).toBeUndefined()
  })
})
