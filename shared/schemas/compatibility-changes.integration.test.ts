import { describe, expect, test } from 'bun:test'
import { checkCompatibility, type Incompatibility } from './compatibility.ts'
import type { JsonSchema } from './json-schema.ts'
import type { Mode } from './modes.ts'
import { compileSchema } from './schema.ts'
import type { Schema } from './verdict.ts'

function compiled(document: unknown): Schema {
  const result = compileSchema(document)
  if (!result.ok) throw new Error(result.faults.join('; '))
  return result.schema
}

/** Of both directions; each example is checked with the schemas themselves. */
function compared(older: unknown, newer: unknown): Incompatibility[] {
  const [one, other] = [compiled(older), compiled(newer)]
  const found = checkCompatibility('FULL', [{ version: 1, schema: one }], other)
  for (const { direction, example } of found) {
    if (example === undefined) continue
    const [writer, reader] = direction === 'backward' ? [one, other] : [other, one]
    expect({ data: example.data, written: writer.check(example.data), read: reader.check(example.data) }).toEqual({
      data: example.data,
      written: true,
      read: false,
    })
  }
  return found
}

/** A direction's pointers, `?` behind those without an example. */
const pointers = (found: readonly Incompatibility[], direction: string): string[] =>
  found.filter((one) => one.direction === direction).map(({ pointer, example }) => `${pointer}${example ? '' : '?'}`)

const object = (properties: Record<string, unknown>, more: object = {}): JsonSchema => ({
  type: 'object',
  properties,
  ...more,
})
const closed = (properties: Record<string, unknown>, more: object = {}): JsonSchema =>
  object(properties, { additionalProperties: false, ...more })
const ref = (name: string, to: string) => ({ type: 'object', properties: { [name]: { $ref: `#/$defs/${to}` } } })
const evaluatedElsewhere = (more: object): JsonSchema => ({
  ...more,
  anyOf: [{ properties: { a: true } }, { properties: { b: true } }],
  properties: { child: { $ref: '#' } },
  unevaluatedProperties: false,
})
const draft7 = (schema: JsonSchema): JsonSchema => ({
  $schema: 'http://json-schema.org/draft-07/schema#',
  ...(schema as object),
})

const when = (condition: JsonSchema, yes: JsonSchema): JsonSchema =>
  Object.fromEntries([
    ['if', condition],
    ['then', yes],
  ])

/** More than are told apart. */
const manyPatterns = (properties: Record<string, unknown>): JsonSchema =>
  closed(properties, {
    patternProperties: Object.fromEntries(
      ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((one) => [`^${one}`, { type: 'string' }]),
    ),
    additionalProperties: { type: 'number' },
  })

const string = { type: 'string' }
const number = { type: 'number' }
const integer = { type: 'integer' }
const tree = (name: unknown): JsonSchema => ({
  $ref: '#/$defs/node',
  $defs: { node: closed({ name, children: { type: 'array', items: { $ref: '#/$defs/node' } } }) },
})

/** A change, and what it is compatible with: the pointers at which a direction fails. */
const CHANGES: [string, older: unknown, newer: unknown, backward: string[], forward: string[]][] = [
  ['nothing', object({ a: string }), object({ a: string }), [], []],
  ['annotations', object({ a: string }), object({ a: { ...string, title: 'A', default: 'x', 'x-y': 1 } }), [], []],
  ['the order of keywords', object({ a: string, b: number }), object({ b: number, a: string }), [], []],
  // Types
  ['a type is widened', object({ a: integer }), object({ a: number }), [], ['/properties/a/type']],
  ['a type is added', object({ a: string }), object({ a: { type: ['string', 'null'] } }), [], ['/properties/a/type']],
  ['a type is changed', object({ a: string }), object({ a: number }), ['/properties/a/type'], ['/properties/a/type']],
  ['integer and number are number', { type: ['integer', 'number'] }, { type: 'number' }, [], []],
  ['types as anyOf', { type: ['string', 'integer'] }, { anyOf: [{ type: 'integer' }, string] }, [], []],
  ['keywords that are none of JSON Schema', { type: 'string', nullable: true }, string, [], []],
  // Properties of open and of closed objects
  [
    'an optional property is added to an open object',
    object({ a: string }),
    object({ a: string, b: string }),
    ['/properties/b/type'],
    [],
  ],
  [
    'a property without constraints is added to an open object',
    object({ a: string }),
    object({ a: string, b: true }),
    [],
    [],
  ],
  [
    'an optional property is added to a closed object',
    closed({ a: string }),
    closed({ a: string, b: string }),
    [],
    ['/additionalProperties'],
  ],
  [
    'a required property is added',
    closed({ a: string }),
    closed({ a: string, b: string }, { required: ['b'] }),
    ['/required/0'],
    ['/additionalProperties'],
  ],
  [
    'a property becomes optional',
    object({ a: string }, { required: ['a'] }),
    object({ a: string }),
    [],
    ['/required/0'],
  ],
  ['an object is closed', object({ a: string }), closed({ a: string }), ['/additionalProperties'], []],
  [
    'a property is removed from a closed object',
    closed({ a: string, b: string }),
    closed({ a: string }),
    ['/additionalProperties'],
    [],
  ],
  [
    'additional properties of the same schema',
    object({}, { additionalProperties: string }),
    object({ b: string }, { additionalProperties: string }),
    [],
    [],
  ],
  [
    'additional properties are narrowed',
    object({}, { additionalProperties: number }),
    object({}, { additionalProperties: integer }),
    ['/additionalProperties/type'],
    [],
  ],
  [
    'a pattern of properties takes over',
    closed({ s_a: string }),
    closed({}, { patternProperties: { '^s_': string } }),
    [],
    ['/additionalProperties'],
  ],
  [
    'partly open',
    closed({}, { patternProperties: { '^s_': string } }),
    closed({ s_a: string }, { patternProperties: { '^s_': string } }),
    [],
    [],
  ],
  [
    'a pattern of properties is narrowed',
    object({}, { patternProperties: { '^x': number } }),
    object({}, { patternProperties: { '^x': integer } }),
    ['/patternProperties/^x/type'],
    [],
  ],
  ['many patterns of properties', manyPatterns({}), manyPatterns({ a: true }), [], []],
  ['names are limited', object({}), object({}, { propertyNames: { maxLength: 3 } }), ['/propertyNames/maxLength'], []],
  [
    'names are a list',
    object({}, { propertyNames: { enum: ['a', 'b'] } }),
    { type: 'object', maxProperties: 2 },
    [],
    ['/propertyNames/enum'],
  ],
  [
    'counts of members',
    { minProperties: 2, maxProperties: 3 },
    { minProperties: 1, maxProperties: 4 },
    [],
    ['/minProperties', '/maxProperties'],
  ],
  [
    'required members count',
    object({}, { required: ['a', 'b'] }),
    { minProperties: 2 },
    [],
    ['/type', '/required/0', '/required/1'],
  ],
  ['closed objects count', closed({ a: true, b: true }), { maxProperties: 2 }, [], ['/type', '/additionalProperties']],
  ['a dependency is added', object({}), { dependentRequired: { a: ['b'] } }, ['/dependentRequired/a/0'], ['/type']],
  [
    'a dependency that always holds',
    object({}, { required: ['b'] }),
    object({}, { dependentRequired: { a: ['b'] } }),
    [],
    ['/required/0'],
  ],
  [
    'a dependency in both drafts',
    draft7(object({}, { dependencies: { a: ['b'] } })),
    object({}, { dependentRequired: { a: ['b'] } }),
    [],
    [],
  ],
  [
    'a dependent schema',
    object({}),
    object({}, { dependentSchemas: { a: { required: ['b'] } } }),
    ['/dependentSchemas/a/required/0'],
    [],
  ],
  [
    'a member that nothing fits',
    object({ a: false }),
    closed({}, { additionalProperties: true, properties: { a: string } }),
    [],
    ['/properties/a'],
  ],
  // Values
  ['a value is added to an enum', { enum: ['a', 'b'] }, { enum: ['a', 'b', 'c'] }, [], ['/enum']],
  ['const to enum', { const: 1 }, { enum: [2, 1] }, [], ['/const']],
  ['enum to its type', { enum: ['a', 'b'] }, string, [], ['/enum']],
  ['booleans are two values', { type: 'boolean' }, { enum: [true, false] }, [], []],
  ['a short range is a list', { type: 'integer', minimum: 1, maximum: 3 }, { enum: [1, 2, 3] }, [], []],
  ['enum in a range', { enum: [1, 5] }, { maximum: 5 }, [], ['/enum']],
  ['a value of an enum that its type refuses', { type: 'string', enum: ['a', 1] }, { const: 'a' }, [], []],
  ['1.0 is 1', { const: 1.0 }, integer, [], ['/const']],
  // Numbers
  ['a range is widened', { type: 'number', minimum: 1 }, { type: 'number', minimum: 0 }, [], ['/minimum']],
  [
    'a range becomes exclusive',
    { type: 'number', minimum: 1 },
    { type: 'number', exclusiveMinimum: 1 },
    ['/exclusiveMinimum'],
    [],
  ],
  ['an exclusive range of integers', { type: 'integer', exclusiveMinimum: 0 }, { type: 'integer', minimum: 1 }, [], []],
  [
    'an exclusive range of numbers',
    { type: 'number', exclusiveMaximum: 5 },
    { type: 'number', maximum: 4.9 },
    ['/maximum'],
    [],
  ],
  ['multiples', { type: 'integer', multipleOf: 10 }, { type: 'integer', multipleOf: 5 }, [], ['/multipleOf']],
  [
    'multiples of cents',
    { type: 'number', multipleOf: 0.05 },
    { type: 'number', multipleOf: 0.01 },
    [],
    ['/multipleOf'],
  ],
  ['integers in cents', integer, { multipleOf: 0.01 }, [], ['/type']],
  ['integers in halves', integer, { multipleOf: 0.5 }, [], ['/type']],
  ['multiples of a half are no integers', { type: 'number', multipleOf: 0.5 }, integer, ['/type'], []],
  ['multiples of integers are integers', { type: 'number', multipleOf: 10 }, integer, [], ['/multipleOf']],
  ['a bound and its refusal', { type: 'number', not: { minimum: 5 } }, { type: 'number', exclusiveMaximum: 5 }, [], []],
  ['int32', { type: 'integer', format: 'int32' }, { minimum: -2147483648 }, [], ['/type', '/format']],
  // Strings
  [
    'lengths',
    { type: 'string', minLength: 2, maxLength: 4 },
    { type: 'string', minLength: 1, maxLength: 5 },
    [],
    ['/minLength', '/maxLength'],
  ],
  [
    'lengths are in code points',
    { type: 'string', maxLength: 1 },
    { type: 'string', pattern: '^[^a]*$' },
    ['/pattern'],
    ['/maxLength'],
  ],
  ['a pattern is removed', { type: 'string', pattern: '^[a-f]{2}$' }, string, [], ['/pattern']],
  [
    'a pattern is changed',
    { type: 'string', pattern: '^[a-f]{2}$' },
    { type: 'string', pattern: '^[a-e]{2}$' },
    ['/pattern'],
    ['/pattern?'],
  ],
  [
    'a pattern has a length',
    { type: 'string', pattern: '^[A-Z]{3}$' },
    { type: 'string', minLength: 3, maxLength: 3 },
    [],
    ['/pattern'],
  ],
  [
    'a pattern without ends has no length',
    { type: 'string', pattern: '[a-z]{3}' },
    { type: 'string', maxLength: 3 },
    ['/maxLength'],
    ['/pattern'],
  ],
  [
    'a pattern of which each way has one end',
    { type: 'string', pattern: '^a|b$' },
    { type: 'string', maxLength: 1 },
    ['/maxLength'],
    ['/pattern'],
  ],
  ['a format is added', string, { type: 'string', format: 'date-time' }, ['/format'], []],
  ['an unknown format is added', string, { type: 'string', format: 'iban' }, [], []],
  // Arrays
  ['items are widened', { items: integer }, { items: number }, [], ['/items/type']],
  ['counts of elements', { minItems: 1, maxItems: 2 }, { minItems: 0, maxItems: 3 }, [], ['/minItems', '/maxItems']],
  [
    'a tuple in both drafts',
    draft7({ items: [string, number], additionalItems: false }),
    { prefixItems: [string, number], items: false },
    [],
    [],
  ],
  [
    'a tuple of a list',
    { type: 'array', prefixItems: [string], items: string },
    { type: 'array', items: string },
    [],
    [],
  ],
  [
    'an element is added to a closed tuple',
    { prefixItems: [string], items: false },
    { prefixItems: [string, number], items: false },
    [],
    ['/items'],
  ],
  [
    'an element is added to an open tuple',
    { prefixItems: [string] },
    { prefixItems: [string, number] },
    ['/prefixItems/1/type'],
    [],
  ],
  [
    'a closed tuple has a length',
    { prefixItems: [string], items: false },
    { maxItems: 1 },
    [],
    ['/prefixItems/0/type'],
  ],
  ['unique', { type: 'array' }, { type: 'array', uniqueItems: true }, ['/uniqueItems'], []],
  ['one element is unique', { maxItems: 1 }, { uniqueItems: true }, [], ['/maxItems']],
  [
    'two elements may be equal',
    { type: 'array', maxItems: 2 },
    { type: 'array', uniqueItems: true },
    ['/uniqueItems'],
    ['/maxItems'],
  ],
  ['contains', { contains: { const: 1 } }, { contains: integer }, [], ['/contains']],
  ['contains what all are', { items: string, minItems: 2 }, { contains: string, minContains: 2 }, [], ['/items/type']],
  [
    'contains at most',
    { contains: integer, maxContains: 2, minContains: 0 },
    { contains: { const: 1 }, maxContains: 3, minContains: 0 },
    [],
    ['/contains'],
  ],
  [
    'additionalItems say nothing in 2020-12',
    { type: 'array', additionalItems: false },
    { type: 'array', maxItems: 0 },
    ['/maxItems'],
    [],
  ],
  // Ajv lets arrays pass that are shorter than the tuple.
  [
    'contains beside a tuple',
    { type: 'array', prefixItems: [true, string], contains: integer },
    { type: 'array', contains: integer },
    ['/contains?'],
    ['/contains?', '/prefixItems/1/type'],
  ],
  [
    'additionalItems without a tuple say nothing',
    draft7({ type: 'array', items: string, additionalItems: false }),
    { type: 'array', items: string },
    [],
    [],
  ],
  // Combinations
  ['allOf is one schema', { allOf: [{ minimum: 1 }, { type: 'number' }] }, { type: 'number', minimum: 1 }, [], []],
  ['a form is added', { anyOf: [string, integer] }, { anyOf: [string, integer, { type: 'null' }] }, [], ['/anyOf']],
  [
    'a form is added to oneOf',
    { oneOf: [string, integer] },
    { oneOf: [string, integer, { type: 'null' }] },
    [],
    ['/oneOf'],
  ],
  [
    'forms of oneOf overlap now',
    { oneOf: [string, integer] },
    { oneOf: [string, integer, number] },
    ['/oneOf'],
    ['/oneOf'],
  ],
  [
    'forms told apart by a member',
    {
      oneOf: [
        object({ k: { const: 'a' } }, { required: ['k'] }),
        object({ k: { const: 'b' }, n: integer }, { required: ['k', 'n'] }),
      ],
    },
    {
      oneOf: [
        object({ k: { const: 'a' } }, { required: ['k'] }),
        object({ k: { const: 'b' }, n: number }, { required: ['k', 'n'] }),
      ],
    },
    [],
    ['/oneOf/1/properties/n/type'],
  ],
  [
    'an enum of kinds in forms',
    object({ k: { enum: ['a', 'b'] } }, { required: ['k'] }),
    { anyOf: [object({ k: { const: 'a' } }), object({ k: { const: 'b' } })] },
    [],
    ['/required/0'],
  ],
  ['not is widened', { not: { type: ['string', 'null'] } }, { not: string }, [], ['/not']],
  [
    'not, of members that are named and of others',
    { type: 'object', not: { properties: { a: string }, additionalProperties: integer } },
    { type: 'object', not: { properties: { a: string } } },
    ['/not'],
    [],
  ],
  ['not and the other types', { not: string }, { type: ['null', 'boolean', 'number', 'array', 'object'] }, [], []],
  ['a condition', { type: 'integer' }, when({ minimum: 10 }, { maximum: 20 }), ['/then/maximum'], ['/type']],
  [
    'a condition that always holds',
    object({ a: { const: 1 }, b: integer }, { required: ['a'] }),
    { if: { properties: { a: { const: 1 } } }, else: false },
    [],
    ['/type', '/required/0', '/properties/b/type'],
  ],
  [
    'the same condition',
    when({ minimum: 10 }, { maximum: 20 }),
    when({ minimum: 10 }, { maximum: 30 }),
    [],
    ['/then/maximum'],
  ],
  // References
  [
    'a reference in place of a schema',
    object({ a: string }),
    { ...(object({ a: { $ref: '#/$defs/s' } }) as object), $defs: { s: string } },
    [],
    [],
  ],
  ['a schema that refers to itself', tree(string), { ...(tree({ type: 'string' }) as object), title: 'T' }, [], []],
  ['a schema that refers to itself is widened', tree(string), tree(true), [], ['/$defs/node/properties/name/type']],
  ['an anchor', { $ref: '#s', $defs: { s: { $anchor: 's', type: 'string' } } }, string, [], []],
  [
    'no data has an end',
    { $ref: '#/$defs/n', $defs: { n: { type: 'object', required: ['n'], properties: { n: { $ref: '#/$defs/n' } } } } },
    {
      $ref: '#/$defs/n',
      $defs: { n: { type: 'object', required: ['n', 'm'], properties: { n: { $ref: '#/$defs/n' } } } },
    },
    ['/$defs/n/required/1?'],
    [],
  ],
  [
    'what was proven only if something else is, which is not',
    { ...ref('x', 'E'), $defs: { D: ref('next', 'E'), E: ref('back', 'D') } },
    {
      type: 'object',
      properties: { x: { anyOf: [{ $ref: '#/$defs/E' }, ref('back', 'D0')] } },
      $defs: {
        D0: ref('next', 'E'),
        D: { allOf: [{ $ref: '#/$defs/D0' }, { required: ['bad'] }] },
        E: ref('back', 'D'),
      },
    },
    ['/properties/x/anyOf'],
    [],
  ],
  // Nothing and everything
  ['nothing is in anything', false, string, [], ['']],
  ['a schema that nothing fits', { type: 'string', minLength: 3, maxLength: 2 }, integer, [], ['/type']],
  ['a form that nothing fits', { anyOf: [string, object({ a: false }, { required: ['a'] })] }, string, [], []],
  ['everything', true, {}, [], []],
  // Evaluated elsewhere
  [
    'unevaluatedProperties beside properties',
    object({ a: string }, { unevaluatedProperties: false }),
    closed({ a: string }),
    [],
    [],
  ],
  [
    'unevaluatedProperties over allOf',
    { allOf: [object({ a: string })], properties: { b: string }, unevaluatedProperties: false },
    closed({ a: string, b: string }),
    [],
    [],
  ],
  [
    'the same with itself inside, evaluated elsewhere',
    evaluatedElsewhere({}),
    evaluatedElsewhere({ title: 'T' }),
    [],
    [],
  ],
  [
    'unevaluatedProperties is added over anyOf',
    object({}, { anyOf: [object({ a: string }), object({ b: number })] }),
    object({}, { anyOf: [object({ a: string }), object({ b: number })], unevaluatedProperties: false }),
    ['/unevaluatedProperties'],
    [],
  ],
  [
    'unevaluatedProperties over anyOf',
    object({}, { anyOf: [object({ a: string }), object({ b: number })], unevaluatedProperties: false }),
    object({}, { anyOf: [object({ a: string }), object({ b: number })], unevaluatedProperties: false, title: 'x' }),
    [],
    [],
  ],
] as never

describe('a change is compatible or not', () => {
  test.each(CHANGES)('%s', (_name, older, newer, backward, forward) => {
    const found = compared(older, newer)
    const seen = (direction: string): string[] => pointers(found, direction)
    expect({ backward: seen('backward'), forward: seen('forward') }).toEqual({ backward, forward })
  })
})

describe('modes', () => {
  const [one, two, three] = [
    closed({ a: string }),
    closed({ a: string, b: string }),
    closed({ a: string, b: string, c: string }),
  ].map(compiled)
  const older = [
    { version: 1, schema: one as Schema },
    { version: 4, schema: two as Schema },
  ]
  const told = (mode: Mode): string[] =>
    checkCompatibility(mode, older, three as Schema).map(({ direction, version }) => `${direction} ${version}`)

  test('say which versions are compared, and in which direction', () => {
    expect(told('NONE')).toEqual([])
    expect(told('BACKWARD')).toEqual([])
    expect(told('FORWARD')).toEqual(['forward 4'])
    expect(told('FULL')).toEqual(['forward 4'])
    expect(told('BACKWARD_TRANSITIVE')).toEqual([])
    expect(told('FORWARD_TRANSITIVE')).toEqual(['forward 1', 'forward 1', 'forward 4'])
    expect(told('FULL_TRANSITIVE')).toEqual(['forward 1', 'forward 1', 'forward 4'])
  })

  test('a first version is compatible with nothing', () => {
    expect(checkCompatibility('FULL_TRANSITIVE', [], one as Schema)).toEqual([])
  })
})

describe('what is told', () => {
  test('an optional property that is added to an open object names the way out', () => {
    expect(compared(object({ a: string }), object({ a: string, country: string }))).toEqual([
      {
        direction: 'backward',
        version: 1,
        pointer: '/properties/country/type',
        detail:
          '`/country`: version 1 leaves additional properties open, so its data may have anything there, and the new version takes only strings. To add a property compatibly, close the version before it ("additionalProperties": false) or let it hold additional properties to the same schema; or add the property without constraints (true)',
        example: { data: { country: expect.anything() } },
      },
    ])
  })

  test('a required property names the member, not the keyword alone', () => {
    const [first] = compared(closed({ a: string }), closed({ a: string }, { required: ['a'] }))
    expect(first).toMatchObject({ pointer: '/required/0', example: { data: {} } })
    expect(first?.detail).toBe(
      '`/a` is required by the new version, and version 1 lets it be absent: leave it optional',
    )
  })

  test('an example is whole data, with all that the writer asks for around the place', () => {
    const order = (price: object): JsonSchema =>
      closed(
        {
          id: { type: 'string', format: 'uuid' },
          lines: {
            type: 'array',
            minItems: 2,
            items: closed(
              { sku: { type: 'string', pattern: '^[A-Z]{3}-\\d{4}$' }, price },
              { required: ['sku', 'price'] },
            ),
          },
        },
        { required: ['id', 'lines'] },
      )
    const [found, ...others] = compared(
      order({ type: 'number', minimum: 0 }),
      order({ type: 'number', exclusiveMinimum: 0 }),
    )
    expect(others).toEqual([])
    expect(found?.pointer).toBe('/properties/lines/items/properties/price/exclusiveMinimum')
    expect(found?.example?.data).toMatchObject({ lines: [{ price: 0 }, { sku: expect.any(String) }] })
  })

  test('a check that took too long is no example', () => {
    const [older, newer] = [
      compiled({ type: 'string', pattern: '^a+$' }),
      compiled({ type: 'string', pattern: '^aa*$' }),
    ]
    const slow: Schema = {
      document: newer.document,
      draft: newer.draft,
      check: () => false,
      faults: () => [],
    }
    const [found] = checkCompatibility('BACKWARD', [{ version: 1, schema: older }], slow)
    expect(found).toMatchObject({ pointer: '/pattern' })
    expect(found?.example).toBeUndefined()
  })

  test('what is not shown says so', () => {
    const [found] = compared({ type: 'string', pattern: '^a+$' }, { type: 'string', pattern: '^aa*$' })
    expect(found?.example).toBeUndefined()
    expect(found?.detail).toContain('not shown by an example: patterns are compared by their text')
  })
})

/** Verdicts that registries have got wrong, or that have surprised their users, each with the report. */
const REPORTED: [string, older: unknown, newer: unknown, isBackward: boolean, isForward: boolean][] = [
  [
    'Apicurio 1444: an optional property is removed from an open object',
    draft7(object({ postal_code: number, street: string })),
    draft7(object({ street: string })),
    true,
    false,
  ],
  [
    'Apicurio 2882, Confluent 1458: an optional property is added to an open object',
    draft7(object({ street: string })),
    draft7(object({ street: string, country: string })),
    false,
    true,
  ],
  [
    'Apicurio 5355: the same beside a required one',
    draft7(object({ id: integer }, { required: ['id'] })),
    draft7(object({ id: integer, new_prop: integer }, { required: ['id'] })),
    false,
    true,
  ],
  [
    'Apicurio 1395: additional properties are allowed, and a property is added',
    draft7(closed({ street: string })),
    draft7(object({ street: string, country: string })),
    true,
    false,
  ],
  [
    'Apicurio 4965: a property of the schema that additional properties have',
    object({ foo: string }, { required: ['foo'], additionalProperties: string }),
    object({ foo: string, bar: string }, { required: ['foo'], additionalProperties: string }),
    true,
    true,
  ],
  [
    'Apicurio 2835: a type becomes a list',
    draft7(object({ test: string })),
    draft7(object({ test: { type: ['string', 'number'] } })),
    true,
    false,
  ],
  [
    'Apicurio 2835: a type becomes anyOf',
    draft7(object({ test: string })),
    draft7(object({ test: { anyOf: [string, number] } })),
    true,
    false,
  ],
  [
    'Apicurio 1367: allOf to anyOf',
    draft7({ type: 'number', allOf: [{ maximum: 100 }, { multipleOf: 6 }] }),
    draft7({ type: 'number', anyOf: [{ maximum: 100 }, { multipleOf: 6 }] }),
    true,
    false,
  ],
  [
    'Apicurio 1367: oneOf to anyOf',
    draft7({ type: 'number', oneOf: [{ maximum: 100 }, { multipleOf: 6 }] }),
    draft7({ type: 'number', anyOf: [{ maximum: 100 }, { multipleOf: 6 }] }),
    true,
    false,
  ],
  [
    'Apicurio 1347: a closed tuple is opened and grows',
    draft7({ type: 'array', items: [string, number], additionalItems: false }),
    draft7({ type: 'array', items: [string, number, { type: 'boolean' }], additionalItems: true }),
    true,
    false,
  ],
  [
    'Apicurio 1406: a dependency is added',
    draft7(object({ a: string })),
    draft7(object({ a: string }, { dependencies: { a: ['b'] } })),
    false,
    true,
  ],
  ['Redpanda 22326: another draft', draft7(closed({ a: string })), closed({ a: string }), true, true],
  [
    'Redpanda 22326: keywords that a draft does not know',
    draft7({ type: 'array', prefixItems: [string] }),
    { type: 'array', prefixItems: [string] },
    false,
    true,
  ],
  [
    'Redpanda 23101: a pattern of properties',
    { type: 'object', patternProperties: { '^a': integer } },
    { type: 'object', patternProperties: { '^a': string } },
    false,
    false,
  ],
  [
    'Redpanda 21354: forms match in pairs only',
    {
      anyOf: [
        { type: 'integer', minimum: 1 },
        { type: 'integer', maximum: -1 },
      ],
    },
    { anyOf: [integer, string] },
    true,
    false,
  ],
  [
    'Redpanda 30398: a required property that the older version does not name',
    object({ name: string }, { required: ['name'] }),
    object({ name: string, id: true }, { required: ['name', 'id'] }),
    false,
    true,
  ],
  [
    'Confluent 1802: a property without constraints is added to an open object',
    object({ a: string }),
    object({ a: string, b: {} }),
    true,
    true,
  ],
] as never

describe('what registries have got wrong', () => {
  test.each(REPORTED)('%s', (_name, older, newer, isBackward, isForward) => {
    const found = compared(older, newer)
    const fails = (direction: string): boolean => found.some((one) => one.direction === direction)
    expect({ isBackward: !fails('backward'), isForward: !fails('forward') }).toEqual({ isBackward, isForward })
    expect(found.filter(({ example }) => example === undefined)).toEqual([])
  })
})

describe('a comparison ends', () => {
  /** Forms of which each has to be compared with each. */
  const forms = (by: number): JsonSchema => ({
    anyOf: Array.from({ length: 18 }, (_, form) =>
      object({
        a: { anyOf: Array.from({ length: 15 }, (__, at) => ({ minimum: form + at, maximum: form + at + by })) },
      }),
    ),
  })

  test('whatever the schemas, and says that they were not compared', () => {
    const older = [{ version: 1, schema: compiled(forms(0.25)) }]
    const [found, ...others] = checkCompatibility('BACKWARD', older, compiled(forms(0.5)))
    expect(others).toEqual([])
    expect(found?.pointer).toBe('')
    expect(found?.detail).toStartWith('the schemas are too complex to be compared')
  })

  test('of long lists of objects, at once', () => {
    const values = (from: number): JsonSchema => ({
      enum: Array.from({ length: 4_000 }, (_, index) => ({ id: from + index, at: [0] })),
    })
    const found = compared(values(1), values(2))
    expect(found.map(({ direction, example }) => ({ direction, example }))).toEqual([
      { direction: 'backward', example: { data: { id: 1, at: [0] } } },
      { direction: 'forward', example: { data: { id: 4_001, at: [0] } } },
    ])
  })

  test('and says how many places it does not name', () => {
    const all = (schema: JsonSchema): JsonSchema =>
      object(Object.fromEntries(Array.from({ length: 53 }, (_, index) => [`m${index}`, schema])))
    const found = checkCompatibility('BACKWARD', [{ version: 1, schema: compiled(all(number)) }], compiled(all(string)))
    expect(found).toHaveLength(21)
    expect(found.at(-1)).toMatchObject({ pointer: '', detail: 'places besides these where data may be refused: 33' })
  })

  test('with the forms in forms that are told apart by a member', () => {
    const nested = (levels: number, last: JsonSchema): JsonSchema => {
      if (levels === 0) return last
      const below = nested(levels - 1, last)
      const form = (kind: number): JsonSchema =>
        object({ below, kind: { const: kind } }, { required: ['kind', 'below'] })
      return { oneOf: [form(1), form(2)] }
    }
    expect(pointers(compared(nested(2, integer), nested(2, number)), 'backward')).toEqual([])
    expect(pointers(compared(nested(2, integer), nested(2, number)), 'forward')).toHaveLength(4)
  })
})
