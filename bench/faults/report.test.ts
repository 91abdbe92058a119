import { expect, test } from 'bun:test'
import { judge } from './judge.ts'
import { formatReport, longestSeconds } from './report.ts'

const facts = {
  fault: 'kill-x',
  nodes: 3,
  seed: 7,
  seconds: 12.34,
  requests: 9,
  repeated: 2,
  answers: { acknowledged: 1, unknown: 2, refused: 3 },
  done: { 'x killed': 3 },
  rounds: [
    { what: 'x came back', seconds: 1.25, limitSeconds: 30 },
    { what: 'x came back', seconds: 0.5, limitSeconds: 30 },
  ],
  stops: [2, 3.04],
}
const empty = { topic: 't', input: [], retry: [], dlq: [], processed: [] }
const lost = Array.from({ length: 25 }, (_, offset) => ({
  source: '/s',
  id: `${offset}`,
  key: null,
  expected: 'processed' as const,
  answers: [{ kind: 'acknowledged' as const, partition: 0, offset }],
}))

test('a report has every figure, the seed to play it again, and what was done', () => {
  const text = formatReport(facts, judge([], empty), 0, false)
  expect(text).toContain('kill-x: holds   nodes 3, seed 7, 12.3 s, 9 requests (2 repeats)')
  expect(text).toContain('x killed 3×')
  expect(text).toContain('1.3 s at the longest after recovery; by round: 1.3 s, 0.5 s')
  expect(text).toContain('3.0 s at the longest of 2')
  expect(text).toContain('lost 0, doubled 0, out of order 0')
})

test('a broken run says so, names violations up to a bound, and is coloured only when asked to be', () => {
  const verdict = judge(lost, empty)
  const text = formatReport(facts, verdict, 0, false)
  expect(text).toContain('kill-x: BROKEN')
  expect(text).toContain('lost 25')
  expect(text.match(/was acknowledged at/g)?.length).toBe(20)
  expect(text).toContain('… and 5 more')
  expect(text).not.toContain('\u001b')
  expect(formatReport(facts, verdict, 0, true)).toContain('\u001b[31mBROKEN')
})

test('a run is broken, too, when something else was wrong, such as a commit that never came', () => {
  const rounds = [...facts.rounds, { what: 'x came back', seconds: undefined, limitSeconds: 30 }]
  const text = formatReport({ ...facts, rounds }, judge([], empty), 1, false)
  expect(text).toContain('kill-x: BROKEN')
  expect(text).toContain('never at the longest after recovery')
  expect(longestSeconds([])).toBeUndefined()
})
