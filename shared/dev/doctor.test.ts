import { expect, test } from 'bun:test'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }

test('the doctor says of every command that sets itself up what it needs', () => {
  const said = Bun.spawnSync([process.execPath, join(import.meta.dir, 'doctor.ts')]).stdout.toString()
  const commands = Object.entries(manifest.scripts).flatMap(([name, line]) => (/setup\.ts \S/.test(line) ? [name] : []))
  expect(commands.length).toBeGreaterThan(5)
  for (const name of commands) expect(said).toMatch(new RegExp(`^(ok|less) +${name} +needs `, 'm'))
})
