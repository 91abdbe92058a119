import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { isSimple, patternOf } from './patterns.ts'

test.each([
  '^[a-z0-9-]+$',
  '^\\d{4}-\\d{2}-\\d{2}$',
  '^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$',
  '^ord-[0-9]{1,9}',
  '^a\\.b?$',
])('%p is left to the runtime', (pattern) => expect(isSimple(pattern)).toBe(true))

test.each([
  'abc',
  '^a+b+$',
  '^(ab)+$',
  '^a|b$',
  '^a{2}+$',
  '^a*?$',
  '^(?=a)',
  `^a*${'b'.repeat(65)}$`,
  '^a*b{65}$',
  '^[[a]]$',
  '^.*x.*$',
  '^\\1$',
])('%p is left to RE2', (pattern) => expect(isSimple(pattern)).toBe(false))

test.each(['(a+)+$', '(a|a)*$', '^(.*?,){11}P', '(x+x+)+y', '.*foo.*', '\\s+$'])(
  '%p takes no longer than its text is long',
  (pattern) => {
    const { test } = patternOf(pattern)
    const took = (chars: number): number => {
      const begun = performance.now()
      patternOf(pattern).test(`${' a,x'.repeat(chars / 4)}!`)
      return performance.now() - begun
    }
    expect(test).toBeFunction()
    took(1_000)
    // The runtime's engine would take years for most of these.
    expect(took(40_000)).toBeLessThan(2_000)
  },
)

test.each(['(?=a)b', '(?<!a)b', '(a)\\1', 'a{1001}', 'a'.repeat(1_001), '(', '[b-a]'])(
  '%p is refused with a reason',
  (pattern) => expect(() => patternOf(pattern)).toThrow(/longer than|linear time/),
)

test.each([
  ['^\\s$', '\u00a0', true],
  ['^[\\sx]$', '\u2003', true],
  ['^\\S$', '\u3000', false],
  ['^.$', '😀', true],
  ['a.b', 'a\u2028b', false],
  ['^\\u0041\\x42$', 'AB', true],
  ['^\\p{L}+$', 'größe', true],
  ['^[^]$|x', '\n', true],
  ['\\-', '-', true],
  ['$', '', true],
])('%p on %p is %p, as ECMAScript says', (pattern, text, expected) =>
  expect(patternOf(pattern).test(text)).toBe(expected),
)

test('RE2 and the runtime say the same of what both take', () => {
  const atom = fc.constantFrom('a', 'b', '[ab]', '[^a]', '\\d', '\\w', '.', '-')
  const repeat = fc.constantFrom('', '*', '+', '?', '{2}', '{1,3}')
  const part = fc.tuple(atom, repeat).map((both) => both.join(''))
  const whole = fc.tuple(
    fc.constantFrom('', '^'),
    fc.array(
      fc.oneof(
        part,
        fc.tuple(part, part).map(([a, b]) => `(${a}|${b})`),
      ),
      { minLength: 1, maxLength: 4 },
    ),
    fc.constantFrom('', '$'),
  )
  fc.assert(
    fc.property(
      whole,
      fc.string({ unit: fc.constantFrom('a', 'b', '1', '-', '_', '\n'), maxLength: 8 }),
      (parts, text) => {
        const pattern = parts.flat().join('')
        expect(patternOf(pattern).test(text)).toBe(new RegExp(pattern, 'u').test(text))
      },
    ),
    { numRuns: 300 },
  )
})
