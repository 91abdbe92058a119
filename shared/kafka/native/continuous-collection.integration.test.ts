import { expect, test } from 'bun:test'
import { join } from 'node:path'

/** Without continuous collection these take about twenty seconds. */
const TIMEOUT_MS = 120_000

const FILES = [
  'shim.integration.test.ts',
  'patch.integration.test.ts',
  'delivery.integration.test.ts',
  'work.integration.test.ts',
  '../packed.integration.test.ts',
]

/** The collector then runs all the time in a thread of its own: a handle whose value is not rooted is found soon. */
const COLLECT = { BUN_JSC_collectContinuously: '1' }

test(
  'the native addon keeps its promises while the collector runs all the time',
  async () => {
    const child = Bun.spawn([process.execPath, 'test', ...FILES.map((file) => join(import.meta.dir, file))], {
      env: { ...process.env, ...COLLECT },
      stdout: 'ignore',
      stderr: 'pipe',
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    const [said, exitCode] = await Promise.all([child.stderr.text(), child.exited])
    // Shows what failed in there, or how far it came.
    expect({ exitCode, failed: said.match(/^\(fail\).*|^panic.*|^error:.*/gm) ?? [] }).toEqual({
      exitCode: 0,
      failed: [],
    })
    expect(said).toContain(`across ${FILES.length} files`)
  },
  TIMEOUT_MS + 5_000,
)
