import { expect, test } from 'bun:test'
import { join } from 'node:path'

const bench = (...args: string[]) => Bun.spawnSync([process.execPath, join(import.meta.dir, 'main.ts'), ...args])

test.each([
  [[], 'bun run bench [drain|console|schemas] [OPTION…]'],
  [['report'], 'bun run bench report'],
  [['compare'], 'bun run bench compare'],
  [['check'], 'bun run bench check [FILE]'],
])('bench %p explains itself, and refuses an option that there is not with 64', (command, usage) => {
  const help = bench(...command, '--help')
  expect(help.exitCode).toBe(0)
  expect(help.stdout.toString()).toContain(usage)
  const wrong = bench(...command, '--strict')
  expect(wrong.exitCode).toBe(64)
  expect(wrong.stderr.toString()).toContain(usage)
})
