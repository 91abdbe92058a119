import { expect, test } from 'bun:test'
import { changesOf } from './changes.ts'
import type { JsonSchema } from './json-schema.ts'

const object = (properties: object, required: string[] = []): JsonSchema => ({ type: 'object', properties, required })

test.each<[string, JsonSchema, JsonSchema, string[]]>([
  ['nothing', object({ a: true }), object({ a: true }), []],
  ['a new member', object({}), object({ a: { type: 'string' } }), ['/properties/a is new: optional, string']],
  [
    'a new required member',
    object({}),
    object({ a: { enum: [1, 2] } }, ['a']),
    ['/properties/a is new: required, one of 1, 2'],
  ],
  [
    'a member that is gone',
    object({ 'a/b': { type: ['string', 'null'] } }),
    object({}),
    ['/properties/a~1b is gone; was optional, string or null'],
  ],
  ['required now', object({ a: true }), object({ a: true }, ['a']), ['/properties/a is required now']],
  ['no longer required', object({ a: true }, ['a']), object({ a: true }), ['/properties/a is optional now']],
  ['required without being a property', object({}), object({}, ['a']), ['/required has "a" now']],
  ['another type', { type: 'string' }, { type: ['string', 'null'] }, ['/type is ["string","null"], was "string"']],
  ['values of an enum', { enum: ['a', 'b'] }, { enum: ['b', 'c'] }, ['/enum has "c" now', '/enum no longer has "a"']],
  ['a limit', { maximum: 5 }, { maximum: 4 }, ['/maximum is 4, was 5']],
  ['a new limit', {}, { maximum: 4 }, ['/maximum is new: 4']],
  ['a limit that is gone', { maximum: 5 }, {}, ['/maximum is gone; was 5']],
  [
    'words',
    { title: 'a' },
    { title: 'b', description: 'c' },
    ['/title is another; data is not affected', '/description is new; data is not affected'],
  ],
  [
    'a closed object',
    object({}),
    { ...(object({}) as object), additionalProperties: false },
    ['/additionalProperties is new: nothing'],
  ],
  [
    'something deep',
    object({ a: object({ b: { minLength: 1 } }) }),
    object({ a: object({ b: { minLength: 2 } }) }),
    ['/properties/a/properties/b/minLength is 2, was 1'],
  ],
  [
    'a branch',
    { anyOf: [{ type: 'string' }] },
    { anyOf: [{ type: 'string' }, { $ref: '#/$defs/a' }] },
    ['/anyOf/1 is new: #/$defs/a'],
  ],
  ['a boolean schema', true, { type: 'string' }, [' takes string, took anything']],
  [
    'a member that is called as a keyword',
    object({ required: { const: 1 } }),
    object({ required: { const: 2 } }),
    ['/properties/required/const is 2, was 1'],
  ],
])('%s', (_, older, newer, changes) => {
  expect(changesOf(older, newer).map(({ pointer, detail }) => `${pointer} ${detail}`)).toEqual(changes)
})

test('long lists are compared at once, and not named whole', () => {
  const numbers = (from: number): JsonSchema => ({ enum: Array.from({ length: 15_000 }, (_, index) => [from + index]) })
  const many = Array.from({ length: 1_000 }, (_, index) => `[${index + 1}]`)
  expect(changesOf(numbers(1), numbers(1_001)).map(({ detail }) => detail)).toEqual([
    `has ${many
      .map((_, index) => `[${index + 15_001}]`)
      .slice(0, 20)
      .join(', ')} and 980 more now`,
    `no longer has ${many.slice(0, 20).join(', ')} and 980 more`,
  ])
})
