import { expect, test } from 'bun:test'
import { counted, failedTests, skippedTests, slowness, sortBySuite, undisturbedMs } from './suites.ts'

test('a test file belongs to the suite that its name says', () => {
  expect(sortBySuite(['b.test.ts', 'a.test.ts', 'c.integration.test.ts', 'd.e2e.test.ts'])).toEqual({
    unit: ['a.test.ts', 'b.test.ts'],
    integration: ['c.integration.test.ts'],
    e2e: ['d.e2e.test.ts'],
  })
})

test('a suite that is too slow fails in CI, and is said to do so elsewhere', () => {
  expect(slowness(30_000, 30_000, true)).toBeUndefined()
  expect(slowness(30_001, 30_000, true)).toBe('took more than 30.0 s')
  expect(slowness(30_001, 30_000, false)).toBe('slower than 30.0 s; fails in CI only')
})

test('a suite does not count as slow for what others did on the machine meanwhile', () => {
  expect(undisturbedMs(25_000, 40_000, 10_000, 2)).toBe(25_000)
  expect(undisturbedMs(40_000, 40_000, 10_000, 2)).toBe(25_000)
  expect(undisturbedMs(40_000, 60_000, 20_000, 2)).toBe(40_000)
  // Clocks of processes and of cores differ a little.
  expect(undisturbedMs(20_000, 40_000, 1_000, 2)).toBe(20_000)
})

test('failures and skipped tests are not counted as passed', () => {
  const report =
    '<?xml version="1.0"?>\n<testsuites name="bun test" tests="7" assertions="9" failures="2" skipped="1" time="1">'
  expect(counted(report)).toEqual({ passed: 4, failed: 2, skipped: 1 })
})

test('a run that left no report has passed nothing', () => {
  expect(counted('')).toEqual({ passed: 0, failed: 0, skipped: 0 })
})

test('failed and skipped tests are named, failed ones with where they stand and why they failed', () => {
  const report = `<testsuites tests="4" failures="2">
    <testcase name="is &quot;a&quot; &amp; b" time="0.1" file="a.test.ts" line="2">
      <failure type="AssertionError" message="expect(received).toBe(expected)&#10;&#10;Expected: 2&#10;Received: 1&#10;">…</failure>
    </testcase>
    <testcase name="passes" file="a.test.ts" line="3" />
    <testcase name="is left out" file="a.test.ts" line="4">
      <skipped />
    </testcase>
    <testcase name="is late" file="b.test.ts" line="5">
      <failure type="TimeoutError" message="test timed out" />
    </testcase></testsuites>`
  expect(failedTests(report)).toEqual([
    'a.test.ts:2 is "a" & b: expect(received).toBe(expected) Expected: 2 Received: 1',
    'b.test.ts:5 is late: test timed out',
  ])
  expect(skippedTests(report)).toEqual(['is left out'])
  expect(failedTests('')).toEqual([])
  expect(skippedTests('')).toEqual([])
})
