import { expect, test } from 'bun:test'
import { chooseWorkloads, expectedSeconds, type Participant, planRuns, secondsLeft, workloadsOf } from './plan.ts'
import { WORKLOADS } from './workloads.ts'

const SYSTEMS: Participant[] = [
  { name: 'ours', kind: 'subject' },
  { name: 'theirs', kind: 'peer' },
  { name: 'echo', kind: 'limit' },
  { name: 'writer', kind: 'limit', task: 'produce' },
  { name: 'streams', kind: 'peer', task: 'drain', handler: true },
  { name: 'copier', kind: 'limit', task: 'drain', handler: false },
]

const plan = (name: string, repetitions?: number) =>
  planRuns({
    workloads: WORKLOADS.filter((workload) => workload.name === name),
    systems: SYSTEMS,
    quick: false,
    ...(repetitions !== undefined && { repetitions }),
  }).map(({ system, repetition, share }) => [system, repetition, ...(share === undefined ? [] : [share])].join(' '))

test('systems alternate within a workload', () => {
  expect(plan('single-300b', 2)).toEqual(['ours 1', 'theirs 1', 'echo 1', 'ours 2', 'theirs 2', 'echo 2'])
})

test('peers are compared at least five times', () => {
  for (const workload of WORKLOADS)
    if (workload.kind === 'closed' && workload.systems !== 'subject') expect(workload.repetitions).toBeGreaterThan(4)
})

test('what stores nothing takes no part where storing is measured', () => {
  expect(plan('batch-100', 1)).toEqual(['ours 1', 'theirs 1'])
  expect(plan('webhooks', 1)).toEqual(['ours 1'])
})

test('tools take part in what they can do', () => {
  expect(plan('drain', 1)).toEqual(['ours 1', 'streams 1', 'copier 1'])
  expect(plan('drain-handler', 1)).toEqual(['ours 1', 'streams 1'])
  expect(plan('drain-24', 1)).toEqual(['ours 1'])
  expect(plan('produce-limit', 1)).toEqual(['writer 1'])
})

test('a ladder goes up in every repetition', () => {
  expect(plan('ladder', 2)).toEqual(
    [0.1, 0.25, 0.5, 0.75, 0.9, 0.1, 0.25, 0.5, 0.75, 0.9].map((share, index) => `ours ${index < 5 ? 1 : 2} ${share}`),
  )
})

test('a workload that takes shares of another brings it along, before itself', () => {
  const names = (...chosen: string[]) => chooseWorkloads(WORKLOADS, chosen).map(({ name }) => name)
  expect(names('ladder')).toEqual(['end-to-end', 'ladder'])
  expect(names('overload', 'drain')).toEqual(['single-1kb', 'overload', 'drain'])
  expect(names()).toEqual(WORKLOADS.map(({ name }) => name))
  for (const [index, { name }] of WORKLOADS.entries()) {
    const chosen = names(name)
    expect(chosen.at(-1)).toBe(name)
    expect(WORKLOADS.slice(0, index + 1).map((one) => one.name)).toEqual(expect.arrayContaining(chosen))
  }
})

test('followers alternate with none, and bring those runs along', () => {
  const names = chooseWorkloads(WORKLOADS, ['console-followed']).map(({ name }) => name)
  expect(names).toEqual(['console-unfollowed', 'console-followed'])
  const runs = planRuns({
    workloads: chooseWorkloads(WORKLOADS, ['console-lookup', 'console-followed']),
    systems: SYSTEMS,
    quick: false,
  })
  expect(runs.map(({ workload, repetition }) => `${workload.name} ${repetition}`)).toEqual([
    'console-lookup 1',
    ...[1, 2, 3].flatMap((repetition) => [`console-unfollowed ${repetition}`, `console-followed ${repetition}`]),
  ])
})

test('a suite has its own workloads only, which a bench without one has where it has time for them', () => {
  const names = (...[suite, how]: [Parameters<typeof workloadsOf>[1], Parameters<typeof workloadsOf>[2]]) =>
    workloadsOf(WORKLOADS, suite, how).map(({ name }) => name)
  const unnamed = { quick: false, named: false }
  const ofConsole = ['console-lookup', 'console-unfollowed', 'console-followed']
  expect(names('console', unnamed)).toEqual(ofConsole)
  expect(names('console', { quick: false, named: true })).toEqual([...ofConsole, 'console-page'])
  const ofSchemas = ['unchecked-single', 'checked-single', 'unchecked-batch', 'checked-batch']
  expect(names('schemas', unnamed)).toEqual(ofSchemas)
  expect(names('drain', unnamed)).toEqual(['drain', 'drain-handler', 'drain-24', 'drain-waits'])
  expect(names('drain', { quick: false, named: true })).toContain('drain-restart')
  const all = WORKLOADS.map(({ name }) => name)
  expect(names(undefined, unnamed)).toEqual(
    all.filter((name) => ![...ofConsole, ...ofSchemas, 'console-page'].includes(name)),
  )
  expect(names(undefined, { quick: true, named: false })).not.toContain('drain-million')
  expect(names(undefined, { quick: true, named: true })).toEqual(all)
})

test('a workload that is not there is named', () => {
  expect(() => chooseWorkloads(WORKLOADS, ['faster'])).toThrow('"faster"')
})

test('a full bench with ten systems takes less than 40 minutes, a quick one with four less than two, the console’s less than seven', () => {
  const minutes = (quick: boolean, peers: number, limits: number, suite?: 'console') => {
    const systems: Participant[] = [
      { name: 'ours', kind: 'subject' },
      ...Array.from({ length: peers }, (_, index) => ({ name: `peer ${index}`, kind: 'peer' as const })),
      ...Array.from({ length: limits }, (_, index) => ({ name: `limit ${index}`, kind: 'limit' as const })),
    ]
    const runs = planRuns({ workloads: workloadsOf(WORKLOADS, suite, { quick, named: false }), systems, quick })
    return runs.reduce((sum, run) => sum + expectedSeconds(run, quick), 0) / 60
  }
  expect(minutes(false, 7, 2)).toBeLessThan(40)
  expect(minutes(true, 1, 2)).toBeLessThan(2)
  expect(minutes(false, 0, 0, 'console')).toBeLessThan(7)
})

test('the time that is left follows from how long the runs before took', () => {
  expect(secondsLeft([10, 10, 20], 0, 0)).toBe(40)
  expect(secondsLeft([10, 10, 20], 2, 40)).toBe(40)
  expect(secondsLeft([10, 10, 20], 3, 80)).toBe(0)
})
