import { expect, test } from 'bun:test'
import { join } from 'node:path'

const MESSAGES = 1_000_000
const TIMEOUT_MS = 90_000

test(
  `${MESSAGES} records produced and consumed leave memory flat`,
  async () => {
    const child = Bun.spawn([process.execPath, join(import.meta.dir, 'soak.ts'), '--messages', String(MESSAGES)], {
      stdout: 'pipe',
      stderr: 'pipe',
      timeout: TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    const [said, exitCode] = await Promise.all([child.stdout.text(), child.exited])
    expect(said).toContain(`${MESSAGES} records of 200 B produced, reported and consumed`)
    expect(said.trimEnd().split('\n').at(-1)).toBe('good')
    expect(exitCode).toBe(0)
  },
  TIMEOUT_MS + 5_000,
)

test('wrong arguments are explained, with exit code 64', () => {
  for (const args of [['--messages', 'many'], ['--messages', '10'], ['--messages', '2147483648'], ['--wrong']]) {
    const { exitCode, stderr } = Bun.spawnSync([process.execPath, join(import.meta.dir, 'soak.ts'), ...args])
    expect({ exitCode, usage: stderr.toString().includes('Usage: bun shared/dev/soak.ts') }).toEqual({
      exitCode: 64,
      usage: true,
    })
  }
})
