import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { atOnce } from '../service/slices.ts'
import { readJson, TwiceError } from './json-in-slices.ts'

const DEPTH = 64
const read = (text: string | Buffer): unknown => atOnce(readJson(Buffer.from(text), DEPTH))
const orError = (work: () => unknown): unknown => {
  try {
    return work()
  } catch (error) {
    return error instanceof SyntaxError ? 'no JSON' : error
  }
}

describe('JSON in slices', () => {
  test('is what JSON.parse reads, however it is written', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), fc.nat(4), (text, indent) => {
        const value: unknown = JSON.parse(text)
        expect(read(text)).toEqual(value)
        expect(read(` ${JSON.stringify(value, undefined, indent)}\r\n\t`)).toEqual(value)
      }),
    )
    expect(read('{"__proto__":1,"é\\u0041\\"":[]}')).toEqual(JSON.parse('{"__proto__":1,"é\\u0041\\"":[]}'))
    expect(Object.keys(read('{"__proto__":{"a":1}}') as object)).toEqual(['__proto__'])
  })

  test('what is none to JSON.parse is none', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"a"',
      '1',
      '-',
      'e5',
      'true',
      'nul',
      ' ',
      '\n',
      '\u0000',
      'é',
    )
    const texts = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))
    const cut = fc.json().chain((text) => fc.nat(text.length).map((at) => text.slice(0, at)))
    fc.assert(
      fc.property(fc.oneof(texts, cut), (text) => {
        const found = orError(() => read(text))
        if (!(found instanceof TwiceError)) expect(found).toEqual(orError(() => JSON.parse(text)))
      }),
      { numRuns: 1_000 },
    )
  })

  test.each([
    '[1;2]',
    '[[];1]',
    '{"a":[];"b":1}',
    '[1 2]',
    '{"a";1}',
    '{"a" 1}',
    '{"a":1;"b":2}',
    '{a:1}',
    '[1,]',
    '[,1]',
    '{"a":1,}',
    '{,}',
    '01',
    '1.',
    '+1',
    'NaN',
    "'a'",
    '"\n"',
    '[1]]',
    '',
  ])('is not %j', (text) => {
    expect(orError(() => read(text))).toBe('no JSON')
  })

  test('is no member twice, wherever that is', () => {
    const at = (text: string) => (orError(() => read(text)) as TwiceError).pointer
    expect(at('{"a":1,"a":2}')).toBe('')
    expect(at('{"x":[{},{"a~/":{"b":1,"\\u0062":2}}]}')).toBe('/x/1/a~0~1')
  })

  test('is UTF-8, and not nested deeper than it may be', () => {
    expect(orError(() => read(Buffer.from([0x22, 0xff, 0x22])))).toBe('no JSON')
    const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
    expect(read(nested(DEPTH))).toEqual(JSON.parse(nested(DEPTH)))
    expect(orError(() => read(nested(DEPTH + 1)))).toBe('no JSON')
  })

  test('is read in slices', () => {
    const reading = readJson(Buffer.from(JSON.stringify(Array.from({ length: 1_000 }, (_, one) => ({ one })))), DEPTH)
    let slices = 0
    while (reading.next().done !== true) slices++
    expect(slices).toBeGreaterThan(50)
  })
})
