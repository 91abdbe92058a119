import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { appendElement, removeElement, setMember } from './json-text.ts'

const changed = (text: string, change: (json: Buffer) => Buffer): string => change(Buffer.from(text)).toString()

test.each([
  ['one line', '{"a":[{"b":1},{"b":2}]}', '{"a":[{"b":1},{"b":2},{"b":3,"c":["d","e"]}]}'],
  ['one line, with spaces', '{ "a": [ { "b": 1 } ] }', '{ "a": [ { "b": 1 }, { "b": 3, "c": ["d", "e"] } ] }'],
  [
    'a line each',
    '{"a": [\n  {"b": 1},\n  {"b": 2}\n]}',
    '{"a": [\n  {"b": 1},\n  {"b": 2},\n  {"b": 3, "c": ["d", "e"]}\n]}',
  ],
  ['a line for the first', '{"a": [\n\t{"b": 1}\n]}', '{"a": [\n\t{"b": 1},\n\t{"b": 3, "c": ["d", "e"]}\n]}'],
  [
    'several lines each',
    JSON.stringify({ a: [{ b: 1 }] }, null, 4),
    JSON.stringify({ a: [{ b: 1 }, { b: 3, c: ['d', 'e'] }] }, null, 4),
  ],
  ['none, on one line', '{"a": []}', '{"a": [{"b": 3, "c": ["d", "e"]}]}'],
  ['none, in lines', '{\n  "a": [ ]\n}\n', '{\n  "a": [\n    {"b": 3, "c": ["d", "e"]}\n  ]\n}\n'],
])('an element is added as the others are: %s', (_, before, after) => {
  expect(changed(before, (json) => appendElement(json, ['a'], { b: 3, c: ['d', 'e'] }))).toBe(after)
})

test.each([
  ['[{"b":1}]', '[{"b":1,"c":"x"}]'],
  ['[{"b": 1, "d": 2}]', '[{"b": 1, "d": 2, "c": "x"}]'],
  ['[{"b": 1, "c" : null, "d": 2}]', '[{"b": 1, "c" : "x", "d": 2}]'],
  ['[\n  {\n    "b": 1,\n    "d": "é\\"}"\n  }\n]', '[\n  {\n    "b": 1,\n    "d": "é\\"}",\n    "c": "x"\n  }\n]'],
])('a member is set where it is, or after the others: %s', (before, after) => {
  expect(changed(before, (json) => setMember(json, [0], 'c', 'x'))).toBe(after)
})

test.each([
  [0, '{"a": [ 1, 2, 3 ]}', '{"a": [ 2, 3 ]}'],
  [1, '{"a": [ 1, 2, 3 ]}', '{"a": [ 1, 3 ]}'],
  [2, '{"a": [\n  1,\n  2,\n  3\n]}', '{"a": [\n  1,\n  2\n]}'],
  [0, '{"a": [\n  1\n]}', '{"a": []}'],
])('element %d is taken out with its comma: %s', (index, before, after) => {
  expect(changed(before, (json) => removeElement(json, ['a'], index))).toBe(after)
})

test('what is not there is not made up', () => {
  const json = Buffer.from('{"a": [1]}')
  expect(() => removeElement(json, ['a'], 1)).toThrow('there is no element 1')
  expect(() => appendElement(json, ['b'], 1)).toThrow('there is no b')
  expect(() => setMember(json, ['a'], 'b', 1)).toThrow('no object')
})

const space = fc.stringMatching(/^[ \t\n]{0,4}$/)

/** A document with white space of its own at each place that may have some. */
const document = fc
  .tuple(
    fc.array(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { minKeys: 1, maxKeys: 3 }), { maxLength: 4 }),
    fc.infiniteStream(space),
    fc.jsonValue({ maxDepth: 1 }),
  )
  .map(([list, spaces, other]) => {
    const next = (): string => spaces.next().value ?? ''
    const written = (value: unknown): string => {
      const inner = Array.isArray(value)
        ? `[${value.map(written).join(',') || next()}]`
        : typeof value === 'object' && value !== null
          ? `{${
              Object.entries(value)
                .map(([name, one]) => `${next()}${JSON.stringify(name)}${next()}:${written(one)}`)
                .join(',') || next()
            }}`
          : JSON.stringify(value)
      return next() + inner + next()
    }
    return { list, text: written({ other, list }), other }
  })

test('whatever a document looks like, a change says what it is to say, and all else stays', () => {
  fc.assert(
    fc.property(
      document,
      fc.jsonValue({ maxDepth: 2 }),
      fc.string(),
      fc.nat(),
      ({ list, text, other }, value, name, number) => {
        const plain = <T>(of: T): T => JSON.parse(JSON.stringify(of)) as T
        const appended = changed(text, (json) => appendElement(json, ['list'], value))
        expect(JSON.parse(appended)).toEqual(plain({ other, list: [...list, value] }))
        if (list.length === 0) return
        expect(isWithin(text, appended)).toBe(true)
        const index = number % list.length
        const removed = changed(text, (json) => removeElement(json, ['list'], index))
        expect(JSON.parse(removed)).toEqual(plain({ other, list: list.toSpliced(index, 1) }))
        expect(isWithin(removed, text)).toBe(true)
        const set = changed(text, (json) => setMember(json, ['list', index], name, value))
        const expected = plain({ other, list })
        const isNew = !Object.hasOwn(expected.list[index] ?? {}, name)
        Object.defineProperty(expected.list[index], name, {
          value: plain(value),
          enumerable: true,
          writable: true,
          configurable: true,
        })
        expect(JSON.parse(set)).toEqual(expected)
        if (isNew) expect(isWithin(text, set)).toBe(true)
      },
    ),
    { numRuns: 60 },
  )
})

/** Whether one text is the other with something added at one place. */
function isWithin(one: string, other: string): boolean {
  let start = 0
  while (start < one.length && one[start] === other[start]) start++
  const rest = one.slice(start)
  return other.endsWith(rest) && other.length >= one.length
}
