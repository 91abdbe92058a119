import { afterAll, beforeAll, describe, expect, spyOn, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { checkCommand, checkText } from './check.ts'
import { changingRuns, exampleResult } from './example-result.ts'
import { judgeGoals } from './goals.ts'
import type { Result } from './result.ts'

const GOOD = exampleResult()
const textOf = (result: Result): string => checkText('a.json', result, judgeGoals(result))

describe('what is said', () => {
  test('names every goal with its target, what was measured, and the sum', () => {
    const text = textOf(GOOD)
    expect(text).toContain(
      'met           Batches of 1,000: events a second, against librdkafka in C writing the same records\n',
    )
    expect(text).toMatch(/goal ≥ 60 %; measured 67 % \(\d+–\d+\); of kafka-producer-perf-test/)
    expect(text).toEndWith(`a.json: ${judgeGoals(GOOD).length} met, 0 missed, 0 not measured\n`)
  })

  test('gives the reason for what was not measured', () => {
    const text = textOf(changingRuns(GOOD, { workload: 'end-to-end' }, () => undefined))
    expect(text).toContain('measured – (KafkaTrace was not run in end-to-end)')
    expect(text).toEndWith('0 missed, 1 not measured; below the targets\n')
  })

  test('warns of quick runs', () => {
    expect(textOf({ ...GOOD, quick: true })).toContain('not to be quoted')
    expect(textOf(GOOD)).not.toContain('not to be quoted')
  })
})

describe('the command', () => {
  let folder = ''
  const output = spyOn(process.stdout, 'write')
  const errors = spyOn(process.stderr, 'write')
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kafkatrace-check-'))
    output.mockImplementation(() => true)
    errors.mockImplementation(() => true)
  })
  afterAll(async () => {
    output.mockRestore()
    errors.mockRestore()
    await rm(folder, { recursive: true, force: true })
  })

  const check = async (result: Result): Promise<number> => {
    const file = join(folder, 'result.json')
    await Bun.write(file, JSON.stringify(result))
    return await checkCommand([file])
  }

  test('ends with 0 when every goal is met', async () => {
    expect(await check(GOOD)).toBe(0)
  })

  test('ends with 1 when a goal is missed, or was not measured', async () => {
    expect(await check(changingRuns(GOOD, { workload: 'ndjson' }, (run) => ({ ...run, eventsPerSecond: 1 })))).toBe(1)
    expect(await check(changingRuns(GOOD, { workload: 'ndjson' }, () => undefined))).toBe(1)
  })

  test('ends with 1 for a file that is not there', async () => {
    expect(await checkCommand([join(folder, 'absent.json')])).toBe(1)
    expect(errors).toHaveBeenLastCalledWith(expect.stringContaining('is not there'))
  })
})
