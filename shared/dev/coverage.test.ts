import { expect, test } from 'bun:test'
import { leastCovered, mergeLcov, summarise } from './coverage.ts'

const lcov = (file: string, ...lines: [number, number][]) =>
  `TN:\nSF:${file}\n${lines.map(([line, count]) => `DA:${line},${count}\n`).join('')}LF:9\nLH:9\nend_of_record\n`

test('a line that one of several runs reached counts as covered', () => {
  const coverage = mergeLcov([lcov('a.ts', [1, 0], [2, 3]), lcov('a.ts', [1, 1], [2, 0], [3, 0])])
  expect([...(coverage.get('a.ts') ?? [])]).toEqual([
    [1, 1],
    [2, 3],
    [3, 0],
  ])
  expect(summarise(coverage)).toEqual({ lines: 3, covered: 2, percent: (100 * 2) / 3 })
})

test('several files in one run are kept apart', () => {
  const coverage = mergeLcov([lcov('a.ts', [1, 1]) + lcov('b.ts', [1, 0], [2, 1])])
  expect(leastCovered(coverage, 90)).toEqual([{ file: 'b.ts', percent: 50 }])
})

test('a run that covers nothing is at 0 percent, not at 100', () => {
  expect(summarise(mergeLcov([''])).percent).toBe(0)
})
