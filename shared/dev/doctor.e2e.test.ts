import { expect, test } from 'bun:test'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }

test.each([
  ['--help', 0, 'stdout'],
  ['--bogus', 64, 'stderr'],
] as const)('%s ends with %d and the help, and looks at nothing', (option, exitCode, output) => {
  const child = Bun.spawnSync([process.execPath, join(import.meta.dir, 'doctor.ts'), option])
  expect(child.exitCode).toBe(exitCode)
  expect(child[output].toString()).toContain('bun run doctor\n\n  --help')
  expect(child.stdout.toString()).not.toContain('Kafka client')
})

test('the doctor says of every command that sets itself up what it needs', () => {
  const said = Bun.spawnSync([process.execPath, join(import.meta.dir, 'doctor.ts')]).stdout.toString()
  const commands = Object.entries(manifest.scripts).flatMap(([name, line]) => (/setup\.ts \S/.test(line) ? [name] : []))
  expect(commands.length).toBeGreaterThan(5)
  for (const name of commands) expect(said).toMatch(new RegExp(`^(ok|less) +${name} +needs `, 'm'))
})
