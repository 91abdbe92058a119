import { describe, expect, test } from 'bun:test'
import { changingRuns, exampleResult } from './example-result.ts'
import { judgeGoals } from './goals.ts'
import { plotsOf, reportOf, summaryOf } from './report.ts'

const GOOD = exampleResult()
const render = (result = GOOD): string => reportOf(result, 'folder', plotsOf(result))

describe('the report', () => {
  test('has every goal with what was measured, every workload and every system', () => {
    const page = render()
    for (const { what, target, measured } of judgeGoals(GOOD))
      expect(page).toContain(`| ${what} | ${target} | ${measured}`)
    for (const { title } of GOOD.workloads) expect(page).toContain(`### ${title}\n`)
    for (const { title } of GOOD.systems) expect(page).toContain(title)
    expect(page).toContain(GOOD.machine.cpu)
    expect(page).not.toMatch(/undefined|NaN|\[object/)
  })

  test('links every plot that there is, and no other', () => {
    const linked = [...render().matchAll(/\]\(folder\/([^)]+)\.svg\)/g)].map((match) => match[1])
    expect(linked).toEqual(plotsOf(GOOD).map(({ name }) => name))
    expect(linked).toContain('single-1kb-cpu')
    expect(linked).toContain('ladder')
  })

  test('says which goals were missed', () => {
    const slow = changingRuns(GOOD, { workload: 'overload', system: 'kafkatrace' }, (run) => ({
      ...run,
      eventsPerSecond: run.eventsPerSecond / 10,
    }))
    expect(render(slow)).toContain('**missed**')
    expect(render()).not.toContain('**missed**')
  })

  test('names void runs with their reason and leaves their numbers out', () => {
    const page = render(
      changingRuns(GOOD, { workload: 'batch-10', system: 'kafkatrace' }, (run) => ({ ...run, void: 'for a test' })),
    )
    expect(page).toContain('No run of it counts.')
    expect(page).toContain('- batch-10, kafkatrace, repetition 1: for a test')
    expect(render()).toContain('Every run counts.')
  })

  test('gives the reason for which a peer was not measured', () => {
    const systems = GOOD.systems.map((one) => (one.name === 'go-franz' ? { ...one, unavailable: 'no Go here' } : one))
    expect(render({ ...GOOD, systems })).toMatch(/^- .*: no Go here$/m)
  })

  test('says when its numbers are not to be quoted', () => {
    expect(render({ ...GOOD, quick: true })).toContain('not to be quoted')
    expect(render()).not.toContain('not to be quoted')
  })

  test('gives the median of the repetitions and their range', () => {
    let number = 0
    const spread = changingRuns(GOOD, { workload: 'batch-10', system: 'kafkatrace' }, (run) => ({
      ...run,
      eventsPerSecond: [1000, 3000, 2000][number++ % 3] as number,
    }))
    expect(render(spread)).toContain('2,000 (1,000–3,000)')
  })

  test('has no plot of what was not measured', () => {
    expect(plotsOf({ ...GOOD, runs: [] })).toEqual([])
    expect(render({ ...GOOD, runs: [] })).not.toContain('.svg')
  })
})

test('the summary is the goals and the machine', () => {
  const text = summaryOf(GOOD)
  expect(text).toStartWith('| | goal | measured | |\n')
  expect(text).toContain(GOOD.machine.cpu)
})
