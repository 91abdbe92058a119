import { expect, test } from 'bun:test'
import { differences, endsOf } from './client-suite.ts'

const report = (tests: object[]): string => `told by the client\n${JSON.stringify({ stats: {}, tests }, null, 2)}`

test('tests are told by their file and title, whatever stands before the report', () => {
  const tests = [
    { fullTitle: 'Producer connects', err: {} },
    { fullTitle: 'Producer sends', err: { message: 'it does not' } },
  ]
  expect([...endsOf('e2e/a.js', report(tests))]).toEqual([
    ['e2e/a.js: Producer connects', 'passed'],
    ['e2e/a.js: Producer sends', 'failed'],
  ])
})

test('a process that ends before its report is one failed test', () => {
  for (const cut of [undefined, '', 'panic', report([]).slice(0, -3)])
    expect([...endsOf('e2e/a.js', cut)]).toEqual([['e2e/a.js: the process', 'failed']])
})

test('only what ends differently on Bun is told', () => {
  const node = new Map([
    ['same', 'passed'],
    ['better', 'failed'],
    ['worse', 'passed'],
    ['left out', 'passed'],
  ] as const)
  const bun = new Map([
    ['same', 'passed'],
    ['better', 'passed'],
    ['worse', 'failed'],
  ] as const)
  expect(differences(node, bun)).toEqual({ better: 'passed', 'left out': 'not run', worse: 'failed' })
})
