import { expect, test } from 'bun:test'
import { drained, restoredBy } from './measure-drain.ts'
import type { Run } from './result.ts'
import { brokenRuns, saturation } from './run.ts'

const run = (eventsPerSecond: number, more: Partial<Run> = {}): Run => ({
  workload: 'end-to-end',
  system: 'kafkatrace',
  repetition: 1,
  seconds: 1,
  requests: 1,
  events: 1,
  requestsPerSecond: 1,
  eventsPerSecond,
  errors: {},
  processes: [],
  ...more,
})

test('saturation is the median of the runs that count', () => {
  const runs = [run(5000), run(7000), run(6000), run(1, { void: 'late' }), run(9, { workload: 'drain' })]
  expect(saturation(runs, 'end-to-end', 'kafkatrace')).toBe(6000)
})

test('without a run that counts there is no saturation', () => {
  expect(() => saturation([run(1, { void: 'late' }), run(0)], 'end-to-end', 'kafkatrace')).toThrow('end-to-end')
})

test('a lost event breaks a run, whether it counts or not', () => {
  const scan = { acknowledged: 2, inLog: 1, lost: 1 }
  const broken = run(1, { scan, void: 'late' })
  expect(brokenRuns([run(1), broken, run(1, { scan: { ...scan, lost: 0 } })])).toEqual([broken])
})

test('a drain lasts from the end of its warm-up to the last outcome, and what came at that moment is not of those that came in that time', () => {
  expect(drained([2000, 1000, 1000, 3000], 0)).toEqual({ seconds: 2, events: 2 })
  expect(drained([2000, 1000, 1000, 3000], 0.5)).toEqual({ seconds: 1, events: 1 })
  expect(drained([1000], 0)).toEqual({ seconds: 0, events: 0 })
})

test('a restart is read from the log: from the first assignment with partitions to the last that is read', () => {
  const line = (second: number, msg: string, more: object) =>
    JSON.stringify({
      'log.level': 'info',
      '@timestamp': new Date(second * 1000).toISOString(),
      ...Object.fromEntries(Object.entries(more).map(([name, value]) => [`kafkatrace.${name}`, value])),
      message: msg,
    })
  const assigned = [
    line(1, 'assigned', { partitions: [] }),
    'not of the log',
    line(2, 'assigned', { partitions: ['a/0', 'a/1'] }),
    line(3, 'reading', { partition: 'a/0', known: 10 }),
  ]
  expect(restoredBy([...assigned, line(5, 'reading', { partition: 'a/1', known: 20 }), ''].join('\n'))).toEqual({
    assignedMs: 2000,
    readingMs: 5000,
    outcomes: 30,
  })
  expect(() => restoredBy(assigned.join('\n'))).toThrow('restored 1 of 2')
})
