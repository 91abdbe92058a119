import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { pointerTo } from '../../shared/events/json-pointer.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import { Fields } from './fields.ts'

const fields = (text: string, maxDepth = 64): Fields => new Fields(Buffer.from(text), maxDepth)

/** Every scalar of a value, by its pointer. */
function* scalars(value: unknown, pointer = ''): Generator<[pointer: string, text: string | undefined]> {
  if (typeof value === 'object' && value !== null)
    for (const [name, one] of Object.entries(value)) yield* scalars(one, pointer + pointerTo(name))
  else if (pointer !== '') yield [pointer, value === null ? undefined : String(value)]
}

describe('fields of JSON', () => {
  test('are what JSON.parse finds there', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const text = JSON.stringify(value)
        const read = fields(text)
        for (const [pointer, expected] of scalars(JSON.parse(text))) {
          const found = read.text(pointer)
          // A number is as it is written.
          if (expected !== undefined && found !== expected) expect(Number(found)).toBe(Number(expected))
          else expect(found).toBe(expected)
        }
      }),
      { numRuns: 40 },
    )
  })

  test('keep every digit, and may be anywhere', () => {
    const read = fields('{"a":{"b/c":[10000000000000000000001,{"~":1e400}]},"t":true,"n":null}')
    expect(
      ['/a/b~1c/0', '/a/b~1c/1/~0', '/t', '/n', '/a', '/a/b~1c/2', '/a/b~1c/00', '/x/y', ''].map((p) => read.text(p)),
    ).toEqual([
      '10000000000000000000001',
      '1e400',
      'true',
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ])
  })

  test('as JSON are the bytes', () => {
    const read = fields('{ "a" : [ 1.0 , {"b": "\\u0041"} ] }')
    expect(read.json('/a')?.toString()).toBe('[ 1.0 , {"b": "\\u0041"} ]')
    expect([read.count('/a'), read.count(''), read.count('/a/1'), read.count('/none/at/all')]).toEqual([2, 0, 0, 0])
    expect(fields('[1,2]').count('')).toBe(2)
    expect(fields('[{"a":"x"}]').text('/0/a')).toBe('x')
  })

  test('know no prototype', () => {
    const read = fields('{"__proto__":{"x":"y"},"a":1}')
    expect([read.text('/__proto__/x'), read.text('/constructor'), read.text('/a/length')]).toEqual([
      'y',
      undefined,
      undefined,
    ])
  })

  test.each([
    ['no JSON', '{', 'malformed'],
    ['a name given twice', '{"a":1,"a":2}', 'malformed'],
    ['nested too deeply', '[[[1]]]', 'too-deep'],
    ['too many elements', `[${'1,'.repeat(100_000)}1]`, 'body-too-large'],
    ['too many members', `[${'{"a":1},'.repeat(99_999)}{"a":1,"b":2}]`, 'body-too-large'],
  ])('of %s are a problem', (_, text, kind) => {
    expect(() => fields(text, 2)).toThrow(ProblemError)
    try {
      fields(text, 2)
    } catch (error) {
      expect((error as ProblemError).problem.kind).toBe(kind as 'malformed')
    }
  })
})
