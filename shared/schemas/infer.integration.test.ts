import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { Inference } from './infer.ts'
import { compileSchema } from './schema.ts'

type Keywords = Record<string, unknown>

function inferred(...data: readonly unknown[]): Keywords {
  const inference = new Inference()
  for (const one of data) inference.add(one)
  const { $schema: _, $comment: __, ...rest } = inference.schema() as Keywords
  return rest
}

const property = (name: string, ...values: readonly unknown[]): unknown =>
  (inferred(...values.map((value) => ({ [name]: value })))['properties'] as Keywords)[name]

const times = (count: number, values: readonly unknown[]): unknown[] =>
  Array.from({ length: count }, (_, index) => values[index % values.length])

test('a member is required when every object has it', () => {
  expect(inferred({ id: 1, note: 'x' }, { id: 2 })).toEqual({
    type: 'object',
    required: ['id'],
    properties: { id: { type: 'integer' }, note: { type: 'string' } },
  })
})

test('the draft says of how many events it is, and leaves other members open', () => {
  const inference = new Inference()
  inference.add({ a: 1 })
  inference.add({ a: 2 })
  const schema = inference.schema() as Keywords
  expect(schema['$comment']).toStartWith('Inferred from 2 events')
  const compiled = compileSchema(schema)
  expect(compiled.ok && compiled.schema.check({ a: 3, other: true })).toBe(true)
})

test.each([
  [[1, 2], { type: 'integer' }],
  [[1, 2.5], { type: 'number' }],
  [[1, null], { type: ['integer', 'null'] }],
  [['a', true], { type: ['boolean', 'string'] }],
  [[[], []], { type: 'array' }],
  [[[1], ['a']], { type: 'array', items: { type: ['integer', 'string'] } }],
  [
    [[{ a: 1, b: 1 }, { a: 2 }], [{ a: 3 }]],
    {
      type: 'array',
      items: { type: 'object', required: ['a'], properties: { a: { type: 'integer' }, b: { type: 'integer' } } },
    },
  ],
])('values %j have %j', (values, schema) => {
  expect(property('of', ...values)).toEqual(schema)
})

test.each([
  ['date-time', ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.5+01:00']],
  ['uuid', ['01a20d94-ec12-7028-a1c5-ee30e638f749']],
  ['uri', ['https://example.com/a', 'urn:isbn:1']],
  ['email', ['a@example.com', 'b@example.com']],
])('strings that all are %s have that format', (format, values) => {
  expect(property('of', ...values)).toEqual({ type: 'string', format })
  expect(property('of', ...values, 'something else')).toEqual({ type: 'string' })
})

test('what only looks like a URI is none', () => {
  expect(property('of', 'shop:1', 'shop:2')).toEqual({ type: 'string' })
})

test('few words, each repeated, are an enum', () => {
  expect(property('state', ...times(40, ['paid', 'on_hold', 'in-transit']))).toEqual({
    type: 'string',
    enum: ['in-transit', 'on_hold', 'paid'],
  })
})

test.each([
  ['values that are always the same', 'state', times(40, ['paid'])],
  ['too few samples', 'state', times(10, ['paid', 'open'])],
  ['a value that is not repeated', 'state', [...times(40, ['paid']), 'open']],
  ['too many values', 'state', times(90, ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'])],
  ['words with capitals, as names of people have', 'state', times(40, ['Alice', 'Bob'])],
  ['words with digits, as secrets have', 'state', times(40, ['sk_live_4eC39HqLyjWDarjtT1zdp7dc', 'a1'])],
  ['sentences', 'state', times(40, ['to be paid', 'paid'])],
  ['members that are of a person', 'userName', times(40, ['alice', 'bob'])],
  ['members that are secret', 'api_token', times(40, ['hunter', 'correct'])],
  ['lists of members that are of a person', 'names', times(40, [['alice'], ['bob']])],
  ['long words', 'state', times(40, ['a'.repeat(33)])],
])('%s are no enum', (_, name, values) => {
  expect(JSON.stringify(property(name, ...values))).not.toContain('enum')
})

test('an object with ids for names is left open, whatever they are', () => {
  const inference = new Inference()
  for (let event = 0; event < 3_000; event++)
    inference.add({ id: event, byId: { [`id-${event}`]: { [`deep-${event}`]: event } } })
  const schema = inference.schema() as Keywords
  expect(schema['properties']).toEqual({ id: { type: 'integer' }, byId: { type: 'object' } })
  expect(schema['$comment']).toContain('left open')
})

test.each([
  ['numbers', (event: number) => String(event)],
  ['addresses', (event: number) => `a${event}@example.com`],
  ['ids', () => crypto.randomUUID()],
  ['words that are never the same', (event: number) => `word${event}`],
])('an object with %s for names is left open, also when there are few', (_, name) => {
  const events = Array.from({ length: 40 }, (_, event) => ({ [name(event)]: 1 }))
  expect(property('scores', ...events)).toEqual({ type: 'object' })
})

test('where there are too many names, the objects with most of them are left open, and no others', () => {
  const inference = new Inference()
  for (let event = 0; event < 1_000; event++) {
    const deep = { a: 1, b: 2, c: 3, d: { e: 4, f: 5, g: 6, h: 7 } }
    inference.add({ map: { [`m${event}`]: deep }, [`k${event % 40}`]: deep })
  }
  const { properties } = inference.schema() as { properties: Record<string, Keywords> }
  expect(properties['map']).toEqual({ type: 'object' })
  expect(Object.keys(properties)).toHaveLength(41)
  expect(properties['k39']).toHaveProperty(['properties', 'd', 'properties', 'h'], { type: 'integer' })
})

test('an event with very many names is taken, and most of it left open', () => {
  const inference = new Inference()
  const wide = (names: number, of: unknown) =>
    Object.fromEntries(Array.from({ length: names }, (_, name) => [`n${name}`, of]))
  const event = { id: 1, wide: wide(190, wide(150, 1)) }
  inference.add(event)
  inference.add({ ...event, id: 'a' })
  const schema = inference.schema() as { properties: Record<string, Keywords> }
  expect(schema.properties['id']).toEqual({ type: ['integer', 'string'] })
  expect(JSON.stringify(schema).length).toBeLessThan(100_000)
})

test('data that is nested without end is taken to a depth', () => {
  let deep: unknown = 1
  for (let level = 0; level < 1_000; level++) deep = level % 2 === 0 ? { a: deep } : [deep]
  const compiled = compileSchema(new Inference().schema())
  expect(compiled.ok).toBe(true)
  const inference = new Inference()
  inference.add(deep)
  const schema = compileSchema(inference.schema())
  expect(schema.ok && schema.schema.check(deep)).toBe(true)
})

test('the schema takes all that it was inferred from', () => {
  const word = fc.constantFrom('paid', 'open', 'a@example.com', 'urn:a:b', '2026-01-31T12:00:00Z', 'x y', '')
  const name = fc.constantFrom('id', 'state', 'toString', 'items', 'required', 'a/b', '')
  const { data } = fc.letrec<{ data: unknown }>((tie) => ({
    data: fc.oneof(
      { maxDepth: 4 },
      word,
      fc.double(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('data'), { maxLength: 4 }),
      fc.dictionary(name, tie('data'), { maxKeys: 5 }),
    ),
  }))
  fc.assert(
    fc.property(fc.array(data, { minLength: 1, maxLength: 30 }), (drawn) => {
      // As it comes from events: NaN and the like are no JSON.
      const events = drawn.map((one) => JSON.parse(JSON.stringify(one)) as unknown)
      const inference = new Inference()
      for (const event of events) inference.add(event)
      const compiled = compileSchema(inference.schema())
      if (!compiled.ok) throw new Error(compiled.faults.join())
      for (const event of events) expect(compiled.schema.faults(event)).toEqual([])
    }),
    { numRuns: 25 },
  )
})
