import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { isChanged } from './target.ts'

const DOTS = /^(?:\.|%2e){1,2}$/i

/** What Bun's router and its URL make of a path. */
const seen = (path: string) =>
  [
    Object.fromEntries(
      path
        .slice(1)
        .split('/')
        .map((segment, i) => [`s${i}`, decodeURIComponent(segment)]),
    ),
    new URL(`http://x${path}`).href,
  ] as const

test('a path is changed by backslashes, dot segments and fragments, and by nothing else', () => {
  const part = fc.constantFrom('a', '.', '..', '\\', '%5c', '%5C', '%2e', '%2F', '%25', '%', '#', 'é', '"', ';', '*')
  const segment = fc
    .array(part, { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join(''))
    .filter((text) => URL.canParse(`http://x/${text}`) && isDecodable(text))
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 5 }), (segments) => {
      const expected = segments.some((one) => DOTS.test(one) || one.includes('\\') || one.includes('#'))
      expect(isChanged(...seen(`/${segments.join('/')}`))).toBe(expected)
    }),
    { examples: [[['x\\..\\b']], [['%5c', '%5C']], [['%5c', '..', '\\']]] },
  )
})

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

test('a backslash in what cannot be decoded counts as sent', () => {
  expect(isChanged({ s0: '\\%5c\ufffd' }, 'http://x/%5c%ff')).toBe(true)
  expect(isChanged({ s0: '\\\ufffd' }, 'http://x/%5c%ff')).toBe(true)
})

test('a URL that is only the path counts as sent', () => {
  expect(isChanged({ s0: 'a\\b' }, '/a\\b')).toBe(true)
  expect(isChanged({ s0: 'a\\b' }, '/a%5Cb')).toBe(false)
})

test('a query is no path, and a last slash no segment', () => {
  expect(isChanged({ s0: '\\' }, 'http://x/%5c/?a=\\')).toBe(false)
  expect(isChanged({ s0: 'a' }, 'http://x/a?b=\\..')).toBe(false)
})
