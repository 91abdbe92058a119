import { expect, test } from 'bun:test'
import { jsonOf } from './json.ts'
import { type Operation, patched } from './patch.ts'

const apply = (document: string, ...patch: Operation[]): string => {
  const result = patched(jsonOf(document)?.value, patch)
  return result.ok ? JSON.stringify(result.value) : `${result.index}: ${result.detail}`
}

test('a patch adds, removes, replaces, moves, copies and tests', () => {
  expect(apply('{"a":[1,2]}', { op: 'add', path: '/a/1', value: 9 })).toBe('{"a":[1,9,2]}')
  expect(apply('{"a":[1,2]}', { op: 'add', path: '/a/-', value: 9 })).toBe('{"a":[1,2,9]}')
  expect(apply('{"a":1,"b":2}', { op: 'remove', path: '/a' })).toBe('{"b":2}')
  expect(apply('{"a/b":{"~":1}}', { op: 'replace', path: '/a~1b/~0', value: null })).toBe('{"a/b":{"~":null}}')
  expect(apply('{"a":{"b":1}}', { op: 'move', from: '/a/b', path: '/c' })).toBe('{"a":{},"c":1}')
  expect(apply('{"a":{"b":1}}', { op: 'copy', from: '/a', path: '/c' })).toBe('{"a":{"b":1},"c":{"b":1}}')
  expect(apply('{"a":{"b":1,"c":[2]}}', { op: 'test', path: '/a', value: { c: [2], b: 1 } })).toStartWith('{')
  expect(apply('1', { op: 'replace', path: '', value: [] })).toBe('[]')
})

test('an operation that does not apply is named, and says nothing of the values', () => {
  expect(apply('{"a":"hidden"}', { op: 'test', path: '/a', value: 1 })).toBe('0: the value at /a is another')
  expect(apply('{"a":1}', { op: 'remove', path: '/a' }, { op: 'remove', path: '/a' })).toBe('1: there is nothing at /a')
  expect(apply('{"a":[1]}', { op: 'add', path: '/a/2', value: 1 })).toBe('0: /a/2 is no place in the array')
  expect(apply('{"a":[1]}', { op: 'replace', path: '/a/length', value: 0 })).toBe('0: there is nothing at /a/length')
  expect(apply('{"a":{}}', { op: 'move', from: '/a', path: '/a/b' })).toBe('0: /a cannot be moved into itself')
  expect(apply('{}', { op: 'add', path: '/a' })).toBe('0: `value` is required')
})

test.each([
  ['{"a":1,"b":2}', '{"a":1}'],
  ['{"a":1}', '{"a":1,"b":2}'],
  ['{"a":1}', '{"b":1}'],
  ['{}', '[]'],
  ['[]', '{}'],
  ['["x"]', '{"0":"x"}'],
  ['[1,2]', '[2,1]'],
  ['1', '"1"'],
  ['null', '{}'],
])('the value %s is not %s', (document, value) => {
  const test: Operation = { op: 'test', path: '/v', value: jsonOf(value)?.value }
  expect(apply(`{"v":${document}}`, test)).toBe('0: the value at /v is another')
})

test('no pointer leads out of the document', () => {
  for (const name of ['toString', 'constructor', 'hasOwnProperty', '__proto__']) {
    const was = Object.getOwnPropertyNames(Object.prototype.toString).length
    expect(apply('{"a":1}', { op: 'add', path: `/${name}/x`, value: 1 })).toBe(`0: there is nothing at /${name}/x`)
    expect(apply('{"a":1}', { op: 'replace', path: `/${name}`, value: 1 })).toBe(`0: there is nothing at /${name}`)
    expect(Object.getOwnPropertyNames(Object.prototype.toString)).toHaveLength(was)
  }
  expect(apply('{"a":1}', { op: 'add', path: '/__proto__', value: { b: 2 } })).toBe('{"a":1,"__proto__":{"b":2}}')
})

test('copies that double the document have a bound', () => {
  const doubling = Array.from({ length: 60 }, (_, index): Operation => ({ op: 'copy', from: '', path: `/${index}` }))
  expect(apply('{"a":"0123456789"}', ...doubling)).toContain('the patch copies more than')
})

test('numbers keep their digits', () => {
  const value = jsonOf('12345678901234567890.10')?.value
  expect(apply('{"a":1.0,"b":1}', { op: 'replace', path: '/b', value })).toBe('{"a":1.0,"b":12345678901234567890.10}')
  expect(apply('{"a":1.0}', { op: 'copy', from: '/a', path: '/b' })).toBe('{"a":1.0,"b":1.0}')
  expect(apply('{"a":1.0}', { op: 'test', path: '/a', value: 1 })).toBe('{"a":1.0}')
  const other = jsonOf('12345678901234567891')?.value
  expect(apply('{"a":12345678901234567890}', { op: 'test', path: '/a', value: other })).toContain('another')
})
