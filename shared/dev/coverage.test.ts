import { expect, test } from 'bun:test'
import fc from 'fast-check'
import { coverageOf, linesThatRun, mergeLcov, percentCovered } from './coverage.ts'

const lcov = (file: string, ...lines: (readonly [number, number])[]) =>
  `TN:\nSF:${file}\n${lines.map(([line, count]) => `DA:${line},${count}\n`).join('')}LF:9\nLH:9\nend_of_record\n`

const neverAsked = (file: string): number => {
  throw new Error(`${file} was loaded: its lines are known`)
}

test('a line that one of several runs reached counts as covered', () => {
  const coverage = mergeLcov([lcov('a.ts', [1, 0], [2, 3]), lcov('a.ts', [1, 1], [2, 0], [3, 0])])
  expect([...(coverage.get('a.ts') ?? [])]).toEqual([
    [1, 1],
    [2, 3],
    [3, 0],
  ])
  expect(coverageOf(coverage, ['a.ts'], neverAsked)).toEqual([{ file: 'a.ts', lines: 3, covered: 2 }])
})

test('several files in one run are kept apart, the worst first, and those that are not asked for left out', () => {
  const coverage = mergeLcov([lcov('a.ts', [1, 1]) + lcov('b.ts', [1, 0], [2, 1]) + lcov('a.test.ts', [1, 0])])
  expect(coverageOf(coverage, ['a.ts', 'b.ts'], neverAsked)).toEqual([
    { file: 'b.ts', lines: 2, covered: 1 },
    { file: 'a.ts', lines: 1, covered: 1 },
  ])
})

test('a file that no run loaded counts with all of its lines', () => {
  const rows = coverageOf(mergeLcov([lcov('a.ts', [1, 1])]), ['a.ts', 'forgotten.ts'], () => 9)
  expect(rows[0]).toEqual({ file: 'forgotten.ts', lines: 9, covered: 0 })
  expect(percentCovered(rows)).toBe(10)
})

test('a run that covers nothing is at 0 percent, not at 100', () => {
  expect(percentCovered(coverageOf(mergeLcov(['']), [], neverAsked))).toBe(0)
})

test('what is not lcov is refused, not taken for nothing', () => {
  expect(() => mergeLcov(['SF:a.ts\nDA:one,1\n'])).toThrow('not a row of an lcov file: DA:one,1')
})

test('the order of the runs does not matter', () => {
  const run = fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 3 })))
  fc.assert(
    fc.property(fc.array(run), (runs) => {
      const files = runs.map((lines) => lcov('a.ts', ...lines))
      const there = coverageOf(mergeLcov(files), ['a.ts'], () => 0)
      expect(coverageOf(mergeLcov(files.toReversed()), ['a.ts'], () => 0)).toEqual(there)
      const reached = runs.flat().filter(([, count]) => count > 0)
      expect(there[0]?.covered).toBe(new Set(reached.map(([line]) => line)).size)
    }),
  )
})

test('types and comments are no lines that run', () => {
  expect(linesThatRun('/** why */\nexport interface A { a: number }\nexport type B = A\n')).toBe(0)
  expect(linesThatRun("import type { A } from './a.ts'\nexport const a: A = 1\n")).toBe(1)
})
