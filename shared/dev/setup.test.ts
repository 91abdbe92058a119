import { expect, test } from 'bun:test'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { installFault, installStamp, needsAddon, needsOf, temporaryFault } from './setup.ts'

test('dependencies are installed again when package.json or bun.lock changes, and only then', () => {
  const stamp = installStamp('a', 'b')
  expect(installStamp('a', 'b')).toBe(stamp)
  expect(installStamp('a', 'c')).not.toBe(stamp)
  expect(installStamp('c', 'b')).not.toBe(stamp)
  expect(installStamp('ab', '')).not.toBe(installStamp('a', 'b'))
})

test('a command needs of the machine what it is going to use, and no more', () => {
  const dev = 'shared/dev/dev.ts'
  expect(needsOf(dev, [], false)).toEqual([])
  expect(needsOf(dev, ['--broker', 'embedded'], false)).toEqual([])
  expect(needsOf(dev, ['--broker', 'kafka'], false)).toEqual(['kafka'])
  expect(needsOf(dev, ['--broker=kafka'], false)).toEqual(['kafka'])
  const tests = 'shared/dev/test.ts'
  expect(needsOf(tests, ['--unit', 'producer'], false)).toEqual(['unit'])
  expect(needsOf(tests, ['--unit', '--e2e'], false)).toEqual(['tests', 'kafka'])
  expect(needsOf(tests, [], false)).toEqual(['tests', 'kafka'])
  const bench = 'bench/main.ts'
  expect(needsOf(bench, ['--quick'], false)).toEqual(['tests', 'kafka'])
  expect(needsOf(bench, [], false)).toEqual(['tests', 'kafka'])
  for (const reads of ['report', 'compare', 'check', '--list']) expect(needsOf(bench, [reads], false)).toEqual([])
  expect(needsOf('bench/test.ts', [], false)).toEqual([])
  expect(needsOf(undefined, [], false)).toEqual(['tests', 'kafka'])
  expect(needsOf(tests, [], true)).toEqual(['tests', 'kafka', 'tests in CI'])
  expect(needsOf('helm/checks/main.ts', [], false)).toEqual(['tests', 'kafka', 'deployment'])
  expect(needsOf('helm/cluster/main.ts', [], false)).toEqual(['tests', 'kafka', 'deployment', 'cluster'])
  expect(needsOf('shared/dev/native-try.ts', [], false)).toEqual(['addon', 'tests', 'kafka'])
})

test('only what talks to Kafka needs the addon', () => {
  const schema = 'shared/schemas/command.ts'
  expect(needsAddon(schema, ['check', 'a', 'b'])).toBe(false)
  expect(needsAddon(schema, ['infer', '--stream', 'a/b'])).toBe(true)
  expect(needsAddon(schema, ['infer', '--stream=a/b'])).toBe(true)
  expect(needsAddon('shared/dev/dev.ts', [])).toBe(true)
  expect(needsAddon(undefined, [])).toBe(true)
})

test('a lock file that another Bun has rewritten is told from a registry that does not answer', () => {
  expect(installFault('error: lockfile had changes, but lockfile is frozen')).toContain(
    `Another Bun than ${Bun.version} may have rewritten bun.lock: git checkout bun.lock`,
  )
  expect(installFault('error: ConnectionRefused downloading package manifest pino')).toBe(
    'is the npm registry reachable?',
  )
})

test('a folder for temporary files that is not there is named; one that is there is left as it was', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-setup-test-'))
  try {
    expect(temporaryFault(folder)).toBeUndefined()
    expect(readdirSync(folder)).toEqual([])
  } finally {
    rmSync(folder, { recursive: true })
  }
  expect(temporaryFault(folder)).toBe(
    `the folder for temporary files, ${folder}, cannot be written (ENOENT); name another with TMPDIR`,
  )
})

test.each([
  ['--help', 0, 'stdout', '--no-install'],
  ['--frob', 64, 'stderr', 'there is no option --frob'],
] as const)('%s without a command ends with %d and says what there is', (option, exitCode, output, said) => {
  const child = Bun.spawnSync([process.execPath, join(import.meta.dir, 'setup.ts'), option])
  expect(child.exitCode).toBe(exitCode)
  expect(child[output].toString()).toContain(said)
})

test('scripts run where Bun was started by its path, and the path has no bun', () => {
  const { npm_execpath: _, ...env } = process.env
  const child = Bun.spawnSync([process.execPath, 'run', 'build:native', '--help'], {
    cwd: join(import.meta.dir, '..', '..'),
    env: { ...env, PATH: '/usr/bin:/bin' },
  })
  expect(child.stdout.toString()).toStartWith('Builds the Kafka client')
  expect(child.exitCode).toBe(0)
})
