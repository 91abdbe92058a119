import { expect, test } from 'bun:test'
import { compileSchema } from './schema.ts'
import { LATE, type Schema } from './verdict.ts'

/** Checks that could take for ever end: in a suite of its own, since their limits are times. */

function compiled(document: unknown): Schema {
  const result = compileSchema(document)
  if (!result.ok) throw new Error(result.faults.join('; '))
  return result.schema
}

const branch = (required: string) => ({
  allOf: [{ properties: { x: { $ref: '#/$defs/a' } } }, { required: [required] }],
})
test.each<[string, unknown, unknown]>([
  [
    'doubles with each level',
    { $ref: '#/$defs/a', $defs: { a: { anyOf: [branch('y'), branch('z')] } } },
    JSON.parse(`${'{"x":'.repeat(60)}{}${'}'.repeat(60)}`),
  ],
  ['compares each with each', { uniqueItems: true }, Array.from({ length: 60_000 }, (_, id) => ({ id }))],
])('a check that %s ends', (_, document, data) => {
  const schema = compiled(document)
  const begun = performance.now()
  expect(schema.check(data, 1)).toBe(false)
  expect(schema.faults(data, 1)).toBe(LATE)
  expect(performance.now() - begun).toBeLessThan(5_000)
})

const array = (length: number, value: unknown) => Array.from({ length }, () => value)
test.each<[string, unknown, unknown]>([
  ['long enums', { items: { enum: array(40_000, 0).map((_, n) => n) } }, array(20_000, 39_999)],
  ['many schemas', { items: { allOf: array(600, { minimum: 0 }) } }, array(40_000, 1)],
])('a check of much data by %s is given up in time', (_, document, data) => {
  const schema = compiled(document)
  const begun = performance.now()
  expect(schema.faults(data, JSON.stringify(data).length)).toBe(LATE)
  expect(performance.now() - begun).toBeLessThan(3_000)
})

test.each([
  ['url', `http://[${':'.repeat(100_000)}`],
  ['email', `a${'1D'.repeat(1_000)}\n`],
  ['uri-template', '{'.repeat(2_000)],
  ['hostname', `${'a-'.repeat(1_000)}!`],
  ['uri', `a:${'//'.repeat(1_000)} `],
])('the format %s takes no longer than its text is long', (format, text) => {
  const schema = compiled({ format })
  const begun = performance.now()
  for (let n = 0; n < 20; n++) expect(schema.check(text)).toBe(false)
  expect(performance.now() - begun).toBeLessThan(1_000)
})
