import { afterAll, beforeAll, describe, expect, spyOn, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { compareByEcho, compareCommand, compareNumbers, comparisonText } from './compare.ts'
import { changingRuns, exampleResult } from './example-result.ts'
import type { Result, Run } from './result.ts'

const BEFORE = exampleResult()

const faster = (factor: number) => (run: Run) => ({
  ...run,
  eventsPerSecond: run.eventsPerSecond * factor,
  ...(run.eventsPerCpuSecond !== undefined && { eventsPerCpuSecond: run.eventsPerCpuSecond * factor }),
})

/** As on a machine that does everything so much faster. */
const onMachine = (result: Result, cpu: string, factor: number): Result => ({
  ...changingRuns(result, {}, faster(factor)),
  machine: { ...result.machine, cpu },
})

const textOf = (before: Result, after: Result): string =>
  comparisonText({ name: 'old.json', result: before }, { name: 'new.json', result: after })

describe('from one result to another', () => {
  test('nothing moves when nothing has changed', () => {
    const { moved, judged, onlyBefore, onlyAfter } = compareNumbers(BEFORE, BEFORE)
    expect(moved).toEqual([])
    expect(judged).toBeGreaterThan(100)
    expect([...onlyBefore, ...onlyAfter]).toEqual([])
  })

  test('what moved is named, with both medians and whether it is for the better', () => {
    const ndjson = { workload: 'ndjson', system: 'kafkatrace' }
    const { moved } = compareNumbers(BEFORE, changingRuns(BEFORE, ndjson, faster(0.8)))
    expect(moved.map(({ measure, verdict }) => `${measure} ${verdict}`)).toEqual([
      'events a second worse',
      'events per CPU-second worse',
    ])
    expect(moved[0]).toMatchObject({ ...ndjson, before: { count: 3 }, after: { count: 3 } })
    expect(moved[0]?.ratio).toBeCloseTo(0.8)
  })

  test('less is better of times and memory', () => {
    const slower = changingRuns(BEFORE, { workload: 'ladder', step: 0.75 }, (run) => ({
      ...run,
      ...(run.toCommitted && { toCommitted: { ...run.toCommitted, p99Ms: run.toCommitted.p99Ms * 2 } }),
      processes: run.processes.map((one) => ({ ...one, residentMeanBytes: one.residentMeanBytes / 2 })),
    }))
    const { moved } = compareNumbers(BEFORE, slower)
    expect(moved.map(({ step, measure, verdict }) => [step, measure, verdict])).toEqual([
      [0.75, 'to the outcome, p99 ms', 'worse'],
      [0.75, 'memory of the services, MiB', 'better'],
    ])
  })

  test('a failure where there was none is worse', () => {
    const failing = changingRuns(BEFORE, { workload: 'steady-1000' }, (run) => ({ ...run, errors: { timeout: 5 } }))
    const { moved } = compareNumbers(BEFORE, failing)
    expect(moved.map(({ workload, measure, verdict }) => [workload, measure, verdict])).toEqual([
      ['steady-1000', 'requests that failed, %', 'worse'],
    ])
    expect(textOf(BEFORE, failing)).toMatch(/requests that failed, % +0 \(0–0\) → 0\.0833 \(.*\) +∞×/)
  })

  test('what was measured in another way is said', () => {
    const after: Result = {
      ...BEFORE,
      broker: { ...BEFORE.broker, description: 'Apache Kafka 9' },
      workloads: BEFORE.workloads.map((one) => (one.name === 'ndjson' ? { ...one, load: 'another' } : one)),
      systems: BEFORE.systems.map((one) => (one.name === 'go-franz' ? { ...one, versions: { go: '9' } } : one)),
    }
    expect(textOf(BEFORE, after)).toContain(
      'Not the same in both, which moves numbers as well: the broker or its settings; the load of ndjson; versions or settings of go-franz\n',
    )
    expect(textOf(BEFORE, BEFORE)).not.toContain('Not the same in both')
  })

  test('void runs count for nothing', () => {
    const where = { workload: 'ndjson', system: 'kafkatrace' }
    // One far off would widen the range so much that nothing else could move beyond it.
    const worse = changingRuns(BEFORE, where, (run) =>
      run.repetition === 1 ? { ...faster(100)(run), void: 'the generator was late' } : faster(0.8)(run),
    )
    expect(compareNumbers(BEFORE, worse).moved.map(({ measure }) => measure)).toContain('events a second')
    const allVoid = changingRuns(BEFORE, where, (run) => ({ ...run, void: 'the generator was late' }))
    expect(compareNumbers(BEFORE, allVoid).onlyBefore).toEqual(['ndjson, kafkatrace'])
  })

  test('what was measured only once is not judged, and counted', () => {
    const once = changingRuns(BEFORE, { workload: 'ndjson' }, (run) =>
      run.repetition === 1 ? faster(3)(run) : undefined,
    )
    const { moved, tooFew } = compareNumbers(BEFORE, once)
    expect(moved).toEqual([])
    expect(tooFew - compareNumbers(BEFORE, BEFORE).tooFew).toBe(4)
    expect(textOf(BEFORE, once)).toContain(`${tooFew} were measured only once`)
  })

  test('what only one of them has is named', () => {
    const less = changingRuns(BEFORE, { system: 'librdkafka-drain' }, () => undefined)
    expect(textOf(BEFORE, less)).toContain('Only in old.json: drain, librdkafka-drain\n')
    expect(textOf(less, BEFORE)).toContain('Only in new.json: drain, librdkafka-drain\n')
  })
})

describe('from one machine to another', () => {
  const AFTER = onMachine(BEFORE, 'Another CPU', 2)

  test('everything moves in numbers, and nothing by Bun’s echo when only the machine is faster', () => {
    expect(compareNumbers(BEFORE, AFTER).moved.length).toBeGreaterThan(30)
    expect(compareByEcho(BEFORE, AFTER)).toMatchObject({ by: 'single-1kb', moved: [] })
  })

  test('what became slower than the machine became faster is seen by echo', () => {
    const worse = changingRuns(AFTER, { workload: 'ndjson' }, faster(0.7))
    const moved = compareByEcho(BEFORE, worse)?.moved.map(({ measure, verdict }) => `${measure} ${verdict}`)
    expect(moved).toEqual(['events a second, by echo worse', 'events per CPU-second, by echo worse'])
    const numbers = compareNumbers(BEFORE, worse).moved.filter(({ workload }) => workload === 'ndjson')
    expect(numbers.map(({ verdict }) => verdict)).toEqual(['better', 'better'])
  })

  test('is said, and that the echo would be needed where one of them has none', () => {
    expect(textOf(BEFORE, AFTER)).toContain('2 cores of An Example CPU → 2 cores of Another CPU')
    expect(textOf(BEFORE, AFTER)).toContain('By echo in single-1kb:\n0 of')
    const without = changingRuns(AFTER, { system: 'bun-echo' }, () => undefined)
    expect(textOf(BEFORE, without)).toContain('cannot be done: bun-echo is not in both')
    expect(textOf(BEFORE, BEFORE)).not.toContain('machines differ')
  })
})

test('the text has a line for each that moved', () => {
  const after = changingRuns(BEFORE, { workload: 'overload' }, faster(0.8))
  expect(textOf(BEFORE, after)).toMatch(
    /\n {2}worse {2}overload at 200 % {2}kafkatrace {2}events a second {8}20,000 \(.*\) → 16,000 \(.*\) +0\.8×\n/,
  )
})

describe('the command', () => {
  let folder = ''
  const output = spyOn(process.stdout, 'write')
  const errors = spyOn(process.stderr, 'write')
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kafkatrace-compare-'))
    output.mockImplementation(() => true)
    errors.mockImplementation(() => true)
  })
  afterAll(async () => {
    output.mockRestore()
    errors.mockRestore()
    await rm(folder, { recursive: true, force: true })
  })

  test('compares two files, and ends with 0 whatever moved', async () => {
    const [before, after] = [join(folder, 'before.json'), join(folder, 'after.json')]
    await Bun.write(before, JSON.stringify(BEFORE))
    await Bun.write(after, JSON.stringify(changingRuns(BEFORE, {}, faster(0.5))))
    expect(await compareCommand(['--baseline', before, after])).toBe(0)
    expect(output).toHaveBeenLastCalledWith(expect.stringMatching(/before\.json .* → .*after\.json [\s\S]*worse/))
    expect(await compareCommand(['--baseline', join(folder, 'absent.json'), after])).toBe(1)
    expect(errors).toHaveBeenLastCalledWith(expect.stringContaining('absent.json is not there'))
  })
})
