import { expect, test } from 'bun:test'
import { counted, sortBySuite } from './suites.ts'

test('a test file belongs to the suite that its name says', () => {
  expect(sortBySuite(['b.test.ts', 'a.test.ts', 'c.integration.test.ts', 'd.e2e.test.ts'])).toEqual({
    unit: ['a.test.ts', 'b.test.ts'],
    integration: ['c.integration.test.ts'],
    e2e: ['d.e2e.test.ts'],
  })
})

test('failures and skipped tests are not counted as passed', () => {
  const report =
    '<?xml version="1.0"?>\n<testsuites name="bun test" tests="7" assertions="9" failures="2" skipped="1" time="1">'
  expect(counted(report)).toEqual({ passed: 4, failed: 2, skipped: 1 })
})

test('a run that left no report has passed nothing', () => {
  expect(counted('')).toEqual({ passed: 0, failed: 0, skipped: 0 })
})
