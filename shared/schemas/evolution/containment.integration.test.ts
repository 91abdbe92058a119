import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { checkCompatibility } from '../compatibility.ts'
import type { JsonSchema } from '../json-schema.ts'
import { compileSchema } from '../schema.ts'
import type { Schema } from '../verdict.ts'
import { accepts } from './accepts.ts'
import { Nodes } from './nodes.ts'
import { Samples } from './samples.ts'
import { OutOfWork, Work } from './work.ts'

const NAMES = ['a', 'b', 'ab'] as const
const PATTERNS = ['^a', 'b$', '^[ab]+$'] as const
const name = fc.constantFrom(...NAMES)
const count = fc.integer({ min: 0, max: 3 })
const scalar = fc.oneof(
  fc.constantFrom(null, true, false, '', 'a', 'b', 'ab', 'aab', 'c', '2024-02-29', '😀'),
  fc.integer({ min: -3, max: 6 }),
  fc.constantFrom(0.5, 1.5, 2.5, -0.5, 0.1, 0.3),
)
/** Data of the same few names and values, so that schemas take some of it and refuse some. */
const data: fc.Arbitrary<unknown> = fc.letrec<{ data: unknown }>((tie) => ({
  data: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.array(tie('data'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(name, fc.constantFrom('c', 'x')), tie('data'), { maxKeys: 4, noNullPrototype: true }),
  ),
})).data

const TYPES = ['null', 'boolean', 'integer', 'number', 'string', 'array', 'object'] as const
const limit = fc.oneof(fc.integer({ min: -2, max: 5 }), fc.constantFrom(0.5, 1.5))
const of = <K extends string>(keyword: K, value: fc.Arbitrary<unknown>): fc.Arbitrary<Record<string, unknown>> =>
  value.map((one) => ({ [keyword]: one }))

const reference = fc.constantFrom({ $ref: '#' }, { $ref: '#/$defs/a' })

const schemas = fc.letrec<{ schema: JsonSchema; keywords: Record<string, unknown> }>((tie) => {
  const sub = tie('schema')
  const byName = fc.dictionary(name, sub, { maxKeys: 3, noNullPrototype: true })
  const list = fc.array(sub, { minLength: 1, maxLength: 3 })
  const keyword = fc.oneof(
    of(
      'type',
      fc.oneof(fc.constantFrom(...TYPES), fc.uniqueArray(fc.constantFrom(...TYPES), { minLength: 1, maxLength: 4 })),
    ),
    of('enum', fc.uniqueArray(scalar, { minLength: 1, maxLength: 4 })),
    of('const', data),
    of('minimum', limit),
    of('maximum', limit),
    of('exclusiveMinimum', limit),
    of('exclusiveMaximum', limit),
    of('multipleOf', fc.constantFrom(1, 2, 4, 0.5, 0.1, 0.3)),
    of('minLength', count),
    of('maxLength', count),
    of('pattern', fc.constantFrom(...PATTERNS)),
    of('format', fc.constantFrom('date', 'email', 'int32', 'none-such')),
    of('minProperties', count),
    of('maxProperties', count),
    of('required', fc.uniqueArray(name, { maxLength: 2 })),
    of('properties', byName),
    of('properties', byName),
    of('patternProperties', fc.dictionary(fc.constantFrom(...PATTERNS), sub, { maxKeys: 2, noNullPrototype: true })),
    of('additionalProperties', sub),
    of('propertyNames', sub),
    of(
      'dependentRequired',
      fc.dictionary(name, fc.uniqueArray(name, { maxLength: 2 }), { maxKeys: 2, noNullPrototype: true }),
    ),
    of('dependentSchemas', fc.dictionary(name, sub, { maxKeys: 1, noNullPrototype: true })),
    of(
      'dependencies',
      fc.dictionary(name, fc.oneof(sub, fc.uniqueArray(name, { maxLength: 2 })), { maxKeys: 2, noNullPrototype: true }),
    ),
    of('unevaluatedProperties', sub),
    of('minItems', count),
    of('maxItems', count),
    of('uniqueItems', fc.boolean()),
    of('items', sub),
    of('prefixItems', list),
    of('unevaluatedItems', sub),
    fc.tuple(sub, count, count).map(([contains, minContains, maxContains]) => ({ contains, minContains, maxContains })),
    of('contains', sub),
    of('allOf', list),
    of('anyOf', list),
    of('oneOf', list),
    of('not', sub),
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    fc.tuple(sub, sub, sub).map(([one, yes, no]) => ({ if: one, then: yes, else: no })),
    // Where data gets smaller: a schema that applies itself to the same value has no verdict.
    of('items', reference),
    of('properties', fc.dictionary(name, reference, { minKeys: 1, maxKeys: 2, noNullPrototype: true })),
  )
  return {
    schema: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      fc.constantFrom<JsonSchema>(true, false, {}),
      tie('keywords'),
      tie('keywords'),
    ),
    keywords: fc.array(keyword, { minLength: 1, maxLength: 3 }).map((parts) => Object.assign({}, ...parts)),
  }
})

const document = fc
  .tuple(schemas.keywords, schemas.schema, fc.boolean())
  .map(([keywords, a, refers]) => ({ ...keywords, ...(refers ? { $ref: '#/$defs/a' } : {}), $defs: { a } }))
  .filter((json) => compiled(json) !== undefined)

function compiled(json: unknown): Schema | undefined {
  const result = compileSchema(json)
  return result.ok ? result.schema : undefined
}

/** What Ajv says. undefined: it cannot check it. */
function checked(schema: Schema, value: unknown): boolean | undefined {
  const [fault] = schema.faults(value)
  return fault?.detail.startsWith('cannot be checked') ? undefined : schema.check(value)
}

/** A schema and the same with one part exchanged, or two that have nothing to do with each other. */
const pair = fc.oneof(
  fc.tuple(document, document),
  fc
    .tuple(document, schemas.keywords, fc.nat())
    .map(([json, keywords, at]) => [json, exchanged(json, keywords, at)] as const)
    .filter(([, other]) => compiled(other) !== undefined),
)

/** The document where one of its schemas has other keywords besides. */
function exchanged(json: JsonSchema, keywords: object, at: number): JsonSchema {
  const copy = structuredClone(json) as Record<string, unknown>
  const places: Record<string, unknown>[] = []
  const collect = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    if (!Array.isArray(value)) places.push(value as Record<string, unknown>)
    for (const inner of Object.values(value)) collect(inner)
  }
  collect(copy)
  const place = places[at % places.length] as Record<string, unknown>
  const [removed] = Object.keys(place)
  if (at % 3 === 0 && removed !== undefined) delete place[removed]
  else Object.assign(place, keywords)
  return copy
}

const RUNS = 25

/** Samples of a schema, besides data of any kind. */
function samplesOf(schema: Schema): unknown[] {
  const arena = new Nodes()
  try {
    return new Samples(arena, new Work(20_000)).of([arena.of(schema)])
  } catch (error) {
    if (error instanceof OutOfWork) return []
    throw error
  }
}

describe('whatever the schemas', () => {
  test('what a node accepts is what Ajv does', () => {
    fc.assert(
      fc.property(document, fc.array(data, { minLength: 5, maxLength: 10 }), (json, values) => {
        const schema = compiled(json) as Schema
        const node = new Nodes().of(schema)
        for (const value of values) {
          const verdict = accepts(node, value, new Work(1_000_000))
          const expected = checked(schema, value)
          if (verdict !== undefined && expected !== undefined)
            expect({ value, verdict }).toEqual({ value, verdict: expected })
        }
      }),
      { numRuns: RUNS },
    )
  })

  test('no data is valid for the writer and invalid for a reader that is proven to take all, and examples show what they claim', () => {
    fc.assert(
      fc.property(pair, fc.array(data, { minLength: 5, maxLength: 15 }), ([one, other], values) => {
        const [older, newer] = [compiled(one) as Schema, compiled(other) as Schema]
        const found = checkCompatibility('BACKWARD', [{ version: 1, schema: older }], newer)
        for (const { example } of found)
          if (example !== undefined) {
            expect(older.check(example.data)).toBe(true)
            expect(newer.check(example.data)).toBe(false)
          }
        if (found.length > 0) return
        for (const value of [...values, ...samplesOf(older)])
          if (checked(older, value) === true)
            expect({ value, isRead: checked(newer, value) ?? true }).toEqual({ value, isRead: true })
      }),
      { numRuns: RUNS },
    )
  })

  test('a schema is compatible with itself, and with itself annotated', () => {
    fc.assert(
      fc.property(document, (json) => {
        const [schema, annotated] = [compiled(json) as Schema, compiled(withAnnotations(json)) as Schema]
        expect(checkCompatibility('FULL', [{ version: 1, schema }], schema)).toEqual([])
        expect(checkCompatibility('FULL', [{ version: 1, schema }], annotated)).toEqual([])
      }),
      { numRuns: RUNS },
    )
  })
})

/** Keywords whose value holds no schemas. */
const PLAIN = new Set(['enum', 'const', 'required', 'dependentRequired', 'type'])
const BY_NAME = new Set(['properties', 'patternProperties', '$defs', 'dependencies', 'dependentSchemas'])

function withAnnotations(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(withAnnotations)
  if (typeof json !== 'object' || json === null) return json
  const annotated = Object.entries(json).map(([keyword, value]) => {
    if (PLAIN.has(keyword)) return [keyword, value]
    if (!BY_NAME.has(keyword)) return [keyword, withAnnotations(value)]
    return [
      keyword,
      Object.fromEntries(Object.entries(value as object).map(([one, inner]) => [one, withAnnotations(inner)])),
    ]
  })
  return Object.fromEntries([
    ['title', 'T'],
    ...annotated.toReversed(),
    ['examples', [1]],
    ['$comment', 'c'],
    ['x-own', {}],
  ])
}
