import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { withVersions } from './native-try.ts'

const COMMAND = join(import.meta.dir, 'native-try.ts')

test('the copy names the versions that are tried, and is the same otherwise', () => {
  const project = {
    name: 'kafkatrace',
    packageManager: 'bun@1.0.0',
    engines: { bun: '1.0.0' },
    dependencies: { '@confluentinc/kafka-javascript': '1.0.0', hono: '4.0.0' },
  }
  expect(JSON.parse(withVersions(JSON.stringify(project), { bun: '2.0.0', client: '3.0.0' }))).toEqual({
    name: 'kafkatrace',
    packageManager: 'bun@2.0.0',
    engines: { bun: '2.0.0' },
    dependencies: { '@confluentinc/kafka-javascript': '3.0.0', hono: '4.0.0' },
  })
})

test.each([
  ['--help', 0, 'stdout', 'Usage: bun run native:try [--bun VERSION] [--client VERSION]'],
  ['--bnu', 64, 'stderr', "Unknown option '--bnu'"],
] as const)('%s ends with %d and says what there is', (option, exitCode, output, said) => {
  const child = Bun.spawnSync([process.execPath, COMMAND, option])
  expect(child.exitCode).toBe(exitCode)
  expect(child[output].toString()).toContain(said)
})
