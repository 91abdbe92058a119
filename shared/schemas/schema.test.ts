import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { compileSchema, readSchema } from './schema.ts'
import { MAX_SCHEMA_BYTES, type Schema } from './verdict.ts'

function compiled(document: unknown): Schema {
  const result = compileSchema(document)
  if (!result.ok) throw new Error(result.faults.join('; '))
  return result.schema
}

const ORDER = {
  type: 'object',
  properties: {
    total: { type: 'number', minimum: 1 },
    state: { enum: ['open', 'paid'] },
    'a/b': { const: 1 },
    lines: {
      type: 'array',
      items: {
        type: 'object',
        required: ['sku'],
        additionalProperties: false,
        properties: { sku: { type: 'string', pattern: '^[a-z]+$' }, id: { type: 'string', format: 'uuid' } },
      },
    },
  },
  required: ['total'],
  dependentRequired: { state: ['at'] },
}

test('every fault is named by a pointer into the data', () => {
  const data = { total: 0, state: 'x', 'a/b': 2, lines: [{}, { sku: 'A', more: 1, id: 'x' }] }
  expect(
    compiled(ORDER)
      .faults(data)
      .map(({ pointer, detail }) => ({ pointer, detail })),
  ).toEqual([
    { pointer: '/total', detail: 'must be >= 1' },
    { pointer: '/state', detail: 'must be one of "open","paid"' },
    { pointer: '/a~1b', detail: 'must be 1' },
    { pointer: '/lines/0/sku', detail: 'is required' },
    { pointer: '/lines/1/more', detail: 'is not allowed' },
    { pointer: '/lines/1/sku', detail: 'must match pattern "^[a-z]+$"' },
    { pointer: '/lines/1/id', detail: 'must match format "uuid"' },
    { pointer: '/at', detail: 'is required where state is given' },
  ])
})

test.each([
  [ORDER, { total: 1 }, true],
  [ORDER, {}, false],
  [{ required: ['toString'] }, {}, false],
  [{ properties: { constructor: { type: 'string' } } }, {}, true],
  [{ dependentRequired: { valueOf: ['a'] } }, {}, true],
  [{ dependentSchemas: { valueOf: false } }, {}, true],
  [{ oneOf: [{ type: 'string' }, { type: 'number' }] }, true, false],
  // biome-ignore lint/suspicious/noThenProperty: a keyword
  [{ if: { type: 'string' }, then: { minLength: 2 }, else: { type: 'null' } }, 'x', false],
  [{ propertyNames: { maxLength: 1 } }, { ab: 1 }, false],
  [true, 'anything', true],
  [false, 'anything', false],
  [{ format: 'unknown-format', 'x-note': 'ours' }, 1, true],
  [
    { $schema: 'http://json-schema.org/draft-07/schema#', items: [{ type: 'string' }], additionalItems: false },
    ['a', 1],
    false,
  ],
  [{ prefixItems: [{ type: 'string' }], items: false }, ['a', 1], false],
  [{ prefixItems: [true, { type: 'string' }], contains: { type: 'integer' } }, [], false],
  [
    { $ref: '#/$defs/tree', $defs: { tree: { properties: { left: { $ref: '#/$defs/tree' } }, required: ['n'] } } },
    { n: 1, left: {} },
    false,
  ],
  [{ $ref: '#size', $defs: { a: { $anchor: 'size', type: 'integer' } } }, 1.5, false],
  [{ $ref: 'b', $defs: { a: { $id: 'b', type: 'integer' } } }, 1.5, false],
])('%j says of %j that it is valid: %p', (document, data, valid) => {
  const schema = compiled(document)
  expect(schema.check(data)).toBe(valid)
  expect(schema.faults(data).length > 0).toBe(!valid)
})

test.each<[string, unknown, RegExp]>([
  ['a list', [], /no schema/],
  ['a draft that is not known', { $schema: 'http://json-schema.org/draft-04/schema#' }, /draft-04.*not known/],
  ['a reference to elsewhere', { $ref: 'http://127.0.0.1:1/x' }, /^\/\$ref: http:\/\/127\.0\.0\.1:1\/x is not in this/],
  [
    'a reference to what is not there',
    { properties: { a: { $ref: '#/$defs/a' } } },
    /^\/properties\/a\/\$ref: #\/\$defs\/a/,
  ],
  ['a reference that is no URI', { $ref: 'http://[' }, /no URI reference/],
  [
    'an expression with look-ahead',
    { properties: { a: { pattern: '(?=a)b' } } },
    /^\/properties\/a\/pattern: .*linear/,
  ],
  ['a name by such an expression', { patternProperties: { '(?=a)b': {} } }, /^\/patternProperties\/\(\?=a\)b: /],
  ['a circle', { $ref: '#' }, /without a step into the data/],
  [
    'a longer circle',
    { $ref: '#/$defs/a', $defs: { a: { anyOf: [{ $ref: '#/$defs/b' }] }, b: { not: { $ref: '#/$defs/a' } } } },
    /without a step/,
  ],
  ['a draft’s own recursion', { properties: { a: { $recursiveRef: '#' } } }, /^\/properties\/a\/\$recursiveRef/],
  ['too many schemas', { anyOf: Array.from({ length: 2_001 }, () => ({})) }, /more than 2000 schemas/],
  [
    'too many where no keyword leads to',
    { $ref: '#/x/a', x: { a: { anyOf: Array.from({ length: 2_001 }, () => ({})) } } },
    /more than 2000 schemas/,
  ],
  ['a circle where no keyword leads to', { $ref: '#/x/a', x: { a: { allOf: [{ $ref: '#/x/a' }] } } }, /without a step/],
  ['too many $id', { allOf: Array.from({ length: 101 }, (_, n) => ({ $id: `a${n}` })) }, /more than 100 \$id/],
  ['a long $id', { $id: 'x'.repeat(1_001) }, /^\/\$id: x{100}… is no URI/],
  [
    'much to compile',
    { allOf: Array.from({ length: 30 }, (_, n) => ({ pattern: `${n}${'(a|b)'.repeat(190)}` })) },
    /20000 characters/,
  ],
  ['an expression that repeats too much', { pattern: '(a{0,30}bcdef){0,30}' }, /^\/pattern: repeats too much/],
  ['references that double', { $ref: '#/$defs/0', $defs: doubling(40) }, /50000/],
  ['the same where no keyword leads to', { $ref: '#/x/0', x: doubling(40, '#/x/') }, /50000/],
])('%s is refused', (_, document, fault) => {
  const result = compileSchema(document)
  expect(result.ok ? [] : result.faults).toEqual([expect.stringMatching(fault)])
})

test('what its draft says of a schema is told by pointer', () => {
  const result = compileSchema({ properties: { a: { type: 'strng' } } })
  expect(result.ok ? [] : result.faults).toEqual([
    expect.stringMatching(/^\/properties\/a\/type: must be one of "array"/),
  ])
})

test.each([
  [{ $async: true, type: 'object', required: ['a'] }, {}, { a: 1 }],
  [{ $ref: '#/$defs/a', $defs: { a: { $async: true, type: 'string' } } }, 1, 'a'],
  [{ properties: { a: { type: 'string', nullable: true } } }, { a: null }, { a: 'a' }],
  [{ properties: { a: { id: 'x', nullable: true } }, maxProperties: 1 }, { a: 1, b: 1 }, { a: 1 }],
  [{ properties: { id: { type: 'string' }, nullable: { type: 'string' } } }, { id: 1 }, { id: 'a', nullable: 'a' }],
  [{ discriminator: { propertyName: 'a' }, oneOf: [{ const: 1 }] }, 2, 1],
])('what Ajv alone knows means nothing: %j', (document, invalid, valid) => {
  const schema = compiled(document)
  expect([schema.check(invalid), schema.check(valid)]).toEqual([false, true])
  expect(schema.faults(invalid).length).toBeGreaterThan(0)
})

test('formatMinimum is an annotation', () => {
  expect(compiled({ type: 'string', format: 'date', formatMinimum: '2026-01-01' }).check('2025-01-01')).toBe(true)
})

test('amounts with cents are multiples of a cent', () => {
  const schema = compiled({ multipleOf: 0.01 })
  for (let cents = 0; cents < 10_000; cents++) expect(schema.check(cents / 100)).toBe(true)
  expect([0.001, 19.995, 19.990_01, 1e-300].map((value) => schema.check(value))).toEqual([false, false, false, false])
  expect([123_456_789.07, 1e300, 0, -0.07].map((value) => schema.check(value))).toEqual([true, true, true, true])
  expect(schema.faults(0.001)).toMatchObject([{ pointer: '', detail: 'must be a multiple of 0.01' }])
})

test('of names that are not allowed each is named once', () => {
  expect(compiled({ propertyNames: { maxLength: 2 } }).faults({ long: 1 })).toMatchObject([
    { pointer: '/long', detail: 'is no name that is allowed' },
  ])
})

test('schemas that refer to themselves, by the names of versions before, and to their draft', () => {
  const tree = (type: string) =>
    compiled({
      properties: { next: { $ref: '#' }, v: { $ref: 'https://example.com/v' } },
      $defs: { v: { $id: 'https://example.com/v', type } },
    })
  expect(tree('string').check({ next: { v: 'a' } })).toBe(true)
  expect(tree('number').check({ next: { v: 'a' } })).toBe(false)
  const meta = compiled({ $ref: 'https://json-schema.org/draft/2020-12/schema' })
  expect([meta.check({ type: 'string' }), meta.check({ type: 'strng' })]).toEqual([true, false])
})

/** Each refers to the next one twice. */
function doubling(count: number, at = '#/$defs/'): Record<string, unknown> {
  const next = (index: number) => ({ $ref: `${at}${index + 1}` })
  const defs: Record<string, unknown> = { [count]: { type: 'string' } }
  for (let index = 0; index < count; index++) defs[index] = { allOf: [next(index), next(index)] }
  return defs
}

test.each<[string, string, RegExp]>([
  ['no JSON', '{"type":', /no JSON/],
  ['too many bytes', JSON.stringify({ description: 'x'.repeat(MAX_SCHEMA_BYTES) }), /bytes/],
  ['too deep', `${'{"not":'.repeat(70)}true${'}'.repeat(70)}`, /levels/],
])('a text with %s is refused', (_, text, fault) => {
  const result = readSchema(Buffer.from(text))
  expect(result.ok ? [] : result.faults).toEqual([expect.stringMatching(fault)])
})

test.each([
  ['uri', 'https://example.com/a?b#c', '/a'],
  ['url', 'https://example.com', 'mailto:a@example.com'],
  ['email', 'a.b@example.com', 'a.b'],
  ['date-time', '2026-01-31T00:00:00Z', '2026-01-32T00:00:00Z'],
  ['duration', 'P1DT2H', 'P'],
  ['ipv6', '::1', '::g'],
])('%s: %p is one, %p is none', (format, good, bad) => {
  const schema = compiled({ format })
  expect([schema.check(good), schema.check(bad), schema.check(1)]).toEqual([true, false, true])
})

test('of large data the first fault is named: there may be one for each element', () => {
  const schema = compiled({ items: { type: 'string' } })
  const data = Array.from({ length: 100_000 }, () => 1)
  expect(schema.faults(data, 200_000)).toMatchObject([{ pointer: '/0', detail: 'must be string' }])
})

test('names that only the data has are not in pointers for the log', () => {
  const data = { lines: [{ sku: 'a' }, { sku: 'A', 'of a patient': 1, 4711: 1 }] }
  const known = compiled(ORDER)
    .faults(data)
    .map((fault) => fault.knownPointer)
  expect(known.sort()).toEqual(['/lines/1/sku', '/lines/1/…', '/lines/1/…', '/total'])
})

test('two versions with the same $id do not meet', () => {
  const of = (type: string) => compiled({ $id: 'https://example.com/order', type })
  const [text, number] = [of('string'), of('number')]
  expect([text.check('a'), number.check('a'), of('string').check('a')]).toEqual([true, false, true])
})

test('whatever the text, it is compiled or refused', () => {
  const keyword = fc.constantFrom(
    'type',
    '$ref',
    'items',
    'properties',
    'pattern',
    '$id',
    'allOf',
    'enum',
    'required',
    '$defs',
  )
  const value = fc.letrec((tie) => ({
    schema: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<unknown>(true, 'string', '#', '#/$defs/a', 'x y', -1, null, []),
      fc.array(tie('schema'), { maxLength: 3 }),
      fc.dictionary(keyword, tie('schema'), { maxKeys: 3 }),
    ),
  })).schema
  fc.assert(
    fc.property(value, fc.jsonValue(), (document, data) => {
      const result = compileSchema(document)
      if (result.ok) expect(result.schema.faults(data).length > 0).toBe(!result.schema.check(data))
      else expect(result.faults.length).toBeGreaterThan(0)
    }),
    { numRuns: 50 },
  )
})
