import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { lengthOf } from './accepts.ts'
import { lengthsMatching, textsMatching } from './pattern-samples.ts'

const INFINITE = Number.POSITIVE_INFINITY

/** With the lengths of what they match. */
const PATTERNS: [string, least: number, most: number][] = [
  ['^[A-Z]{3}$', 3, 3],
  ['^[A-Z]{3}-\\d{4,6}$', 8, 10],
  ['[A-Z]{3}', 3, INFINITE],
  ['^a|b$', 1, INFINITE],
  ['^(?:a|bc)+$', 1, INFINITE],
  ['^(a|(b|c)d)?$', 0, 2],
  ['^\\(|a\\)$', 1, INFINITE],
  ['^[|]a$', 2, 2],
  ['^a\\$', 2, INFINITE],
  ['^[^a-z\\d]{2}$', 2, 2],
  ['^\\w+@\\w+\\.[a-z]{2,}$', 6, INFINITE],
  ['^\\u00e9\\x41.$', 3, 3],
  ['^(?<year>\\d{4})$', 4, 4],
  ['^😀$', 1, 1],
  ['^\\s?[\\s\\-_]$', 1, 2],
  ['.*', 0, INFINITE],
]

test.each(PATTERNS)('texts are made that match %s', (pattern, least, most) => {
  const texts = textsMatching(pattern)
  expect(texts.length).toBeGreaterThan(0)
  for (const text of texts) expect(new RegExp(pattern, 'u').test(text)).toBe(true)
  expect(lengthsMatching(pattern)).toEqual({ least, most })
})

test.each(PATTERNS)('no text that matches %s has another length', (pattern) => {
  const { least, most } = lengthsMatching(pattern)
  fc.assert(
    fc.property(fc.stringMatching(new RegExp(pattern, 'u')), (text) => {
      const length = lengthOf(text)
      expect(length >= least && length <= most).toBe(true)
    }),
    { numRuns: 10 },
  )
})

test.each(['^(?=a)', '(a)\\1', '^\\p{L}$', '(?<!a)b', '^\\ud83d\\ude00$'])('of %s nothing is known', (pattern) => {
  expect(lengthsMatching(pattern)).toEqual({ least: 0, most: INFINITE })
})
