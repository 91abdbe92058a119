import { afterAll, beforeAll, describe, expect, spyOn, test } from 'bun:test'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changingRuns, exampleResult } from './example-result.ts'
import { judgeGoals } from './goals.ts'
import { plotsOf, reportCommand, reportOf, summaryOf } from './report.ts'

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

  test('has the goals of the workloads that were run, and counts the others', () => {
    const drains = GOOD.workloads.filter(({ name }) => name.startsWith('drain'))
    const text = summaryOf({ ...GOOD, workloads: drains })
    expect(text).toContain('Kafka Streams')
    expect(text).not.toContain('Single POST')
    const others = judgeGoals(GOOD).filter(({ workload }) => !workload.startsWith('drain')).length
    expect(text).toContain(`${others} goals belong to workloads that were not run.`)
    expect(summaryOf(GOOD)).not.toContain('were not run')
  })

  test('has columns only of what was measured', () => {
    const section = (title: string): string => render().split(`### ${title}\n`)[1]?.split('\n### ')[0] ?? ''
    expect(section('Restart with full windows')).toContain('| 600,000 |')
    expect(section('Restart with full windows')).not.toContain('events/s')
    expect(section('Backlog, without a handler')).not.toContain('requests/s')
    expect(section('Backlog of a million events')).toContain('MiB, lowest after')
    expect(section('Look-ups in the console')).toContain('by UUIDv7 p95')
    expect(section('Look-ups in the console')).not.toContain('events/s')
    expect(section('1,000 events a second, with 20 followers')).toContain('append to follower max')
    expect(section('1,000 events a second, without followers')).not.toContain('follower max')
    expect(section('1,000 events a second')).not.toContain('MiB of the console')
    expect(section('Backlog, with a handler that waits')).toContain('keys out of order')
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

describe('the command', () => {
  let folder = ''
  const output = spyOn(process.stdout, 'write')
  const errors = spyOn(process.stderr, 'write')
  const said = spyOn(console, 'log')
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kafkatrace-report-'))
    output.mockImplementation(() => true)
    errors.mockImplementation(() => true)
    said.mockImplementation(() => undefined)
  })
  afterAll(async () => {
    for (const spy of [output, errors, said]) spy.mockRestore()
    await rm(folder, { recursive: true, force: true })
  })
  const write = async (name: string): Promise<string> => {
    await Bun.write(join(folder, name), JSON.stringify(GOOD))
    return join(folder, name)
  }

  test('writes the page beside the result, and its plots in place of those that were there', async () => {
    const file = await write('one.json')
    await Bun.write(join(folder, 'one', 'of-old.svg'), '')
    expect(await reportCommand([file])).toBe(0)
    const plots = (await readdir(join(folder, 'one'))).sort()
    expect(plots).toEqual(
      plotsOf(GOOD)
        .map(({ name }) => `${name}.svg`)
        .sort(),
    )
    expect(await Bun.file(join(folder, 'one.md')).text()).toContain(`](one/${plots[0]})`)
    expect(said).toHaveBeenLastCalledWith(expect.stringContaining('one.md'))
  })

  test('leaves a result alone that has a name of another kind', async () => {
    const file = await write('result')
    expect(await reportCommand([file])).toBe(1)
    expect(await Bun.file(file).exists()).toBe(true)
  })

  test('prints the summary and writes nothing', async () => {
    const file = await write('two.json')
    expect(await reportCommand(['--summary', file])).toBe(0)
    expect(output).toHaveBeenLastCalledWith(summaryOf(GOOD))
    expect(await Bun.file(join(folder, 'two.md')).exists()).toBe(false)
  })

  test('ends with 1 for a file that is not there', async () => {
    expect(await reportCommand([join(folder, 'absent.json')])).toBe(1)
    expect(errors).toHaveBeenLastCalledWith(expect.stringContaining('is not there'))
  })
})
