import { expect, test } from 'bun:test'
import { bytes, counted, duration, inShort, rate, timeOf } from './words.ts'

test.each([
  [0, '0 ms'],
  [87.4, '87 ms'],
  [-12, '−12 ms'],
  [999.6, '1000 ms'],
  [1_240, '1.24 s'],
  [59_900, '59.9 s'],
  [60_000, '1 min'],
  [200_000, '3 min 20 s'],
  [3_600_000, '1 h'],
  [18_180_000, '5 h 3 min'],
  [187_200_000, '2 d 4 h'],
])('%d ms are %s', (ms, words) => {
  expect(duration(ms)).toBe(words)
})

test('numbers are short, and have their units', () => {
  expect([0, 9_999, 12_345, 1_234_567].map(inShort)).toEqual(['0', '9,999', '12.3K', '1.2M'])
  expect([0, 1.234, 45.678, 123.4, 12_345].map(rate)).toEqual(['0/s', '1.23/s', '45.7/s', '123/s', '12.3K/s'])
  expect([0, 1_023, 1_024, 5_000_000].map(bytes)).toEqual(['0 B', '1023 B', '1 KiB', '4.77 MiB'])
  expect([counted(1, 'letter'), counted(2_000, 'letter'), counted(2, 'entry', 'entries')]).toEqual([
    '1 letter',
    '2,000 letters',
    '2 entries',
  ])
})

test('a time is the viewer’s, with its date unless that is today', () => {
  const at = new Date(2026, 0, 31, 4, 5, 6, 7)
  expect(timeOf(at.toISOString(), new Date(2026, 0, 31, 23))).toBe('04:05:06.007')
  expect(timeOf(at.toISOString(), new Date(2026, 1, 1))).toBe('2026-01-31 04:05:06.007')
  expect(timeOf('yesterday')).toBe('yesterday')
})
