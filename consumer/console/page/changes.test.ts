import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { parseJson } from '../json.ts'
import { patched } from '../patch.ts'
import { changesBetween } from './changes.ts'

test('what is changed is named, and nothing else', () => {
  const before = { name: 'a', card: { number: '***', 'a/b~c': 1 }, items: [{ secret: '***', n: 1 }, 2, 3] }
  const after = { card: { number: '***', 'a/b~c': 2 }, items: [{ secret: '***', n: 1 }, 2], more: null }
  expect(changesBetween(before, after)).toEqual([
    { op: 'replace', path: '/card/a~1b~0c', value: 2 },
    { op: 'remove', path: '/items/2' },
    { op: 'remove', path: '/name' },
    { op: 'add', path: '/more', value: null },
  ])
  expect(changesBetween([1], { 0: 1 })).toEqual([{ op: 'replace', path: '', value: { 0: 1 } }])
  const digits = parseJson('{"n":12345678901234567890}')
  expect(changesBetween(digits, parseJson('{"n":12345678901234567890}'))).toEqual([])
  expect(JSON.stringify(changesBetween(digits, parseJson('{"n":12345678901234567891}')))).toContain('891')
})

test('of any two documents, the changes make the second of the first', () => {
  const documents = fc.letrec((tie) => ({
    any: fc.oneof({ maxDepth: 3 }, fc.constantFrom(null, 0, 1, 'a', true), tie('list'), tie('object')),
    list: fc.array(tie('any'), { maxLength: 4 }),
    object: fc.dictionary(fc.constantFrom('a', 'b', '', 'c/d~e', '0', '__proto__'), tie('any')),
  })).any
  fc.assert(
    fc.property(documents, documents, (before, after) => {
      const text = JSON.stringify(before)
      const result = patched(parseJson(text), changesBetween(parseJson(text), after))
      expect(result.ok && JSON.parse(JSON.stringify(result.value))).toEqual(JSON.parse(JSON.stringify(after)))
    }),
    { numRuns: 300 },
  )
})
