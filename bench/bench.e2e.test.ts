import { expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findBrowser } from '../shared/dev/requirements.ts'
import { parseResult } from './result.ts'

/** Several times what it takes on two cores that nobody else uses. */
const TIMEOUT_MS = 240_000

test(
  'a bench runs from its command to a result in which nothing is lost and every outcome is there once',
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-bench-test-'))
    try {
      const file = join(directory, 'result.json')
      const ofPage = findBrowser() === null && !process.env.CI ? [] : ['console-page']
      const ofConsole = ['console-lookup', 'console-unfollowed', 'console-followed', ...ofPage]
      const drains = ['drain', 'drain-waits', 'drain-restart']
      const names = ['single-1kb', 'ndjson', 'tenants', 'steady-1000', ...drains, ...ofConsole]
      const child = Bun.spawn(
        [
          ...[process.execPath, join(import.meta.dir, 'main.ts'), '--quick', '--system', 'kafkatrace', '--out', file],
          ...names.flatMap((name) => ['--workload', name]),
        ],
        { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' },
      )
      const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
      expect({ exitCode, errors: exitCode === 0 ? '' : errors + output }).toEqual({ exitCode: 0, errors: '' })
      const { runs, systems } = parseResult(await Bun.file(file).json(), file)
      expect(systems.map(({ name }) => name)).toEqual(['kafkatrace'])
      expect(runs.map(({ workload }) => workload)).toEqual(names)
      // How late a generator is depends on the machine; everything else may not make a run void.
      for (const run of runs) expect(run.void ?? 'the generator was late').toStartWith('the generator was late')
      for (const { scan } of runs) {
        expect(scan?.lost).toBe(0)
        expect(scan?.withoutOutcome ?? 0).toBe(0)
        expect(scan?.doubled ?? 0).toBe(0)
        expect(scan?.acknowledged).toBeGreaterThan(0)
      }
      const steady = runs.find(({ workload }) => workload === 'steady-1000')
      expect(steady?.toCommitted?.count).toBe(steady?.requests as number)
      expect(steady?.appendToCommitted?.count).toBe(steady?.requests as number)
      expect(steady?.processes.map(({ role }) => role).sort()).toEqual([
        'broker',
        'generator',
        'observer',
        'service',
        'service',
      ])
      expect(runs.find(({ workload }) => workload === 'drain-waits')?.scan?.outOfOrder).toBe(0)
      const restart = runs.find(({ workload }) => workload === 'drain-restart')?.restart
      expect(restart?.outcomes).toBe(20_000)
      expect(restart?.toOutcomeSeconds).toBeGreaterThan(restart?.toReadingSeconds as number)
      expect(restart?.residentBytes).toBeGreaterThan(restart?.idleResidentBytes as number)
      for (const { workload, eventsPerCpuSecond } of runs)
        if (workload !== 'drain-restart' && workload !== 'console-lookup') expect(eventsPerCpuSecond).toBeGreaterThan(0)
      const lookup = runs.find(({ workload }) => workload === 'console-lookup')
      expect(lookup?.errors).toEqual({})
      expect(Object.values(lookup?.lookups ?? {}).map(({ count }) => count)).toEqual([100, 100, 20, 20, 20])
      const [unfollowed, followed] = ofConsole.slice(1).map((name) => runs.find(({ workload }) => workload === name))
      expect(unfollowed?.followed).toBeUndefined()
      expect(followed?.followed).toMatchObject({ followers: 20, missing: 0, excess: 0 })
      expect(followed?.followed?.outcomes).toBe(followed?.scan?.inLog as number)
      const page = runs.find(({ workload }) => workload === 'console-page')?.page
      if (ofPage.length > 0) {
        expect(page?.firstPaint.count).toBe(20)
        expect(page?.compressedBytes).toBeGreaterThan(10_000)
        expect(page?.shown).toBe(page?.outcomes as number)
      }
      for (const run of [lookup, unfollowed, followed])
        expect(run?.processes.find(({ name }) => name === 'console')?.residentMaxBytes).toBeGreaterThan(0)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  },
  TIMEOUT_MS,
)
