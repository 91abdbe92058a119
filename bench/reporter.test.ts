import { expect, test } from 'bun:test'
import { exampleLatency } from './example-result.ts'
import { bar, clock, lineOf } from './reporter.ts'
import type { Run } from './result.ts'

const RUN: Run = {
  workload: 'ladder',
  system: 'kafkatrace',
  repetition: 2,
  step: 0.75,
  seconds: 5,
  requests: 50_000,
  events: 50_000,
  requestsPerSecond: 10_000,
  eventsPerSecond: 10_000,
  errors: {},
  processes: [],
}

test('a run is one line that says how it went', () => {
  expect(lineOf({ ...RUN, eventsPerCpuSecond: 12_345.6 })).toMatch(
    /^ladder ×0.75 +kafkatrace +2 {2}10,000 events\/s · 12,346 a CPU-second$/,
  )
})

test('a restart is told by its time and memory, a drain by what it keeps', () => {
  const restart = {
    outcomes: 600_000,
    toReadySeconds: 3,
    toReadingSeconds: 2.04,
    toOutcomeSeconds: 2.5,
    residentBytes: 150e6,
    idleResidentBytes: 80e6,
  }
  expect(lineOf({ ...RUN, restart })).toContain('  600,000 outcomes restored in 2.0 s · 70 MB over idle')
  expect(lineOf({ ...RUN, residentAfterBytes: 150e6 })).toContain(' · afterwards 150 MB')
})

test('look-ups are told by their times, followers by how late the last outcome came', () => {
  const latency = exampleLatency(40)
  const [uuid, slow] = [
    { ...latency, p95Ms: 120 },
    { ...latency, maxMs: 900 },
  ]
  const lookups = { uuid, key: uuid, id: slow, absent: { ...slow, maxMs: 950 }, together: slow }
  expect(lineOf({ ...RUN, lookups })).toContain('  UUIDv7 p95 120 ms · key p95 120 ms · whole log at most 950 ms')
  const followed = { followers: 20, outcomes: 10, missing: 0, excess: 0, delay: { ...latency, maxMs: 59 } }
  expect(lineOf({ ...RUN, followed })).toEndWith(' · to every follower within 59 ms')
  const faulty = lineOf({ ...RUN, followed: { ...followed, missing: 1, excess: 2 } })
  expect(faulty).toContain('MISSING AT FOLLOWERS 1')
  expect(faulty).toContain('DOUBLED AT FOLLOWERS 2')
})

test('what must not be is not left out', () => {
  const scan = { acknowledged: 10, inLog: 9, lost: 1, withoutOutcome: 2, doubled: 3 }
  const line = lineOf({ ...RUN, scan, errors: { '503': 1200 }, void: 'it rained' })
  for (const part of ['LOST 1', 'WITHOUT OUTCOME 2', 'DOUBLED 3', '503: 1,200', 'VOID: it rained'])
    expect(line).toContain(part)
})

test('the bar is as full as what is done', () => {
  expect(bar(0, 4)).toBe(`${'░'.repeat(24)} 0/4`)
  expect(bar(1, 4)).toBe(`${'█'.repeat(6)}${'░'.repeat(18)} 1/4`)
  expect(bar(4, 4)).toBe(`${'█'.repeat(24)} 4/4`)
})

test('time is minutes and seconds', () => {
  expect(clock(59.6)).toBe('1:00')
  expect(clock(61)).toBe('1:01')
})
