import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { auditOutcome } from './dependencies-audit.ts'
import { isMetBy, licenceFaults } from './dependencies-licences.ts'
import { installedPackages, notFromRegistry, type Package, parseLock } from './dependencies-packages.ts'
import { scriptFaults } from './dependencies-scripts.ts'

const LOCK = `{
  "workspaces": { "": { "dependencies": { "served": "1.0.0" }, "devDependencies": { "@dev/tool": "2.0.0" } } },
  "packages": {
    "served": ["served@1.0.0", "", { "dependencies": { "both": "^1.0.0" }, "optionalDependencies": { "elsewhere": "1" } }, "sha512-a=="],
    "both": ["both@2.0.0", "", {}, "sha512-b=="],
    "served/both": ["both@1.0.0", "", { "peerDependencies": { "peer": "*" } }, "sha512-c=="],
    "peer": ["peer@1.0.0", "", {}, "sha512-d=="],
    "elsewhere": ["elsewhere@1.0.0", "", { "dependencies": { "its-own": "1" }, "os": "none" }, "sha512-e=="],
    "its-own": ["its-own@1.0.0", "", {}, "sha512-f=="],
    "@dev/tool": ["@dev/tool@2.0.0", "", { "dependencies": { "both": "^2.0.0" } }, "sha512-g=="],
  },
}`
const INSTALLED = {
  'node_modules/served': 'served@1.0.0',
  'node_modules/served/node_modules/both': 'both@1.0.0',
  'node_modules/both': 'both@2.0.0',
  'node_modules/peer': 'peer@1.0.0',
  'node_modules/@dev/tool': '@dev/tool@2.0.0',
}
let root = ''

async function install(folder: string, id: string): Promise<void> {
  const at = id.lastIndexOf('@')
  await mkdir(join(root, folder), { recursive: true })
  await Bun.write(
    join(root, folder, 'package.json'),
    JSON.stringify({ name: id.slice(0, at), version: id.slice(at + 1) }),
  )
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kafkatrace-packages-'))
  for (const [folder, id] of Object.entries(INSTALLED)) await install(folder, id)
})
afterAll(() => rm(root, { recursive: true }))

describe('what is installed', () => {
  test('is what bun.lock has, without what is for another system; it is production’s if the services need it', () => {
    const { packages, faults } = installedPackages(root, parseLock(LOCK))
    expect(faults).toEqual([])
    expect(packages.map(({ folder, id, isProduction }) => [folder, id, isProduction]).toSorted()).toEqual([
      ['node_modules/@dev/tool', '@dev/tool@2.0.0', false],
      ['node_modules/both', 'both@2.0.0', false],
      ['node_modules/peer', 'peer@1.0.0', true],
      ['node_modules/served', 'served@1.0.0', true],
      ['node_modules/served/node_modules/both', 'both@1.0.0', true],
    ])
  })

  test('and is missing, another version, or not in bun.lock, is named', () => {
    const lock = LOCK.replace('"both@2.0.0"', '"both@2.0.1"').replace(/ {4}"peer".*\n/, '')
    const changed = lock.replace('"its-own": "1"', '').replace('"os": "none"', '"dependencies": {}')
    const needed = changed
      .replace('"optionalDependencies": { "elsewhere": "1" }', '"x": 1')
      .replace('"both": "^1.0.0"', '"both": "1", "elsewhere": "1"')
    expect(installedPackages(root, parseLock(needed)).faults).toEqual([
      'elsewhere@1.0.0 is not installed: run bun install --frozen-lockfile',
      'node_modules/both is both@2.0.0, and bun.lock has both@2.0.1: run bun install --frozen-lockfile',
      'node_modules/peer is installed, and bun.lock does not have it: remove node_modules and run bun install --frozen-lockfile',
    ])
  })

  test('comes from npm’s registry, by its hash', () => {
    const of = (locked: string) => notFromRegistry(parseLock(`{ "packages": { "a": ${locked} } }`))
    expect(of('["a@1.0.0", "", {}, "sha512-a=="]')).toEqual([])
    expect(of('["a@1.0.0", "https://npm.example/", {}, "sha512-a=="]')).toEqual(['a@1.0.0'])
    expect(of('["a@1.0.0", "", {}, "sha1-a="]')).toEqual(['a@1.0.0'])
    expect(of('["a@git+ssh://git@example.com/a.git#1", {}, "1"]')).toHaveLength(1)
    expect(of('["a@workspace:a"]')).toHaveLength(1)
  })
})

describe('a licence', () => {
  test.each<[string, boolean | undefined]>([
    ['MIT', true],
    ['GPL-3.0-only', false],
    ['(MIT)', true],
    ['MIT OR GPL-3.0-only', true],
    ['GPL-3.0-only OR MIT', true],
    ['MIT AND GPL-3.0-only', false],
    ['MIT AND ISC', true],
    ['(GPL-3.0-only AND MIT) OR ISC', true],
    ['GPL-3.0-only AND (MIT OR ISC)', false],
    // AND binds more tightly.
    ['MIT OR ISC AND GPL-3.0-only', true],
    ['GPL-2.0-only WITH Classpath-exception-2.0', false],
    ['MIT WITH LLVM-exception', true],
    ['', undefined],
    ['MIT OR', undefined],
    ['OR MIT', undefined],
    ['(MIT', undefined],
    ['MIT)', undefined],
    ['MIT ISC', undefined],
    ['MIT WITH', undefined],
    ['SEE LICENSE IN LICENSE.md', undefined],
    ['MIT, ISC', undefined],
  ])('%p is met by MIT or ISC: %p', (expression, met) => {
    expect(isMetBy(expression, new Set(['MIT', 'ISC']))).toBe(met)
  })

  const of = (license: unknown, isProduction = true): Package => ({
    id: 'a@1.0.0',
    name: 'a',
    folder: 'node_modules/a',
    manifest: { name: 'a', license },
    isProduction,
    hasBindingGyp: false,
  })
  const faultsOf = (one: Package) => licenceFaults([one]).filter((fault) => fault.startsWith('a@'))

  test('that is not allowed, or missing, is a fault of its package', () => {
    expect(faultsOf(of('MIT'))).toEqual([])
    expect(faultsOf(of('AGPL-3.0-only'))).toHaveLength(1)
    expect(faultsOf(of('UNLICENSED'))).toHaveLength(1)
    expect(faultsOf(of(undefined))).toEqual(['a@1.0.0 names no SPDX licence in its package.json (undefined)'])
    expect(faultsOf(of({ type: 'MIT' }))).toHaveLength(1)
    expect(faultsOf(of('see README'))).toEqual(['a@1.0.0: its licence see README is no SPDX expression'])
  })

  test('whose source has to be offered is allowed only of what is not handed on', () => {
    expect(faultsOf(of('MPL-2.0', false))).toEqual([])
    expect(faultsOf(of('MPL-2.0'))).toHaveLength(1)
  })

  test('that is stated for a package that is gone is a fault', () => {
    expect(licenceFaults([of('MIT')]).some((fault) => fault.startsWith('tv4 is not installed any more'))).toBe(true)
  })
})

describe('code that runs on install', () => {
  const of = (name: string, scripts?: Record<string, string>, hasBindingGyp = false): Package => ({
    id: `${name}@1.0.0`,
    name,
    folder: name,
    manifest: { name, ...(scripts && { scripts }) },
    isProduction: true,
    hasBindingGyp,
  })
  const known = [of('@confluentinc/kafka-javascript', { install: 'x' }, true), of('protobufjs', { postinstall: 'x' })]

  test('is known by its package', () => {
    expect(scriptFaults([...known, of('a', { test: 'x', prepare: 'x' })], [])).toEqual([])
  })

  test.each<[string, Package]>([
    ['preinstall', of('a', { preinstall: 'x' })],
    ['install', of('a', { install: 'x' })],
    ['postinstall', of('a', { postinstall: 'x' })],
    ['binding.gyp', of('a', undefined, true)],
  ])('and is new, as %s, is named', (what, one) => {
    expect(scriptFaults([...known, one], [])).toEqual([
      `a@1.0.0 has ${what}: read it, and say in helm/checks/dependencies-scripts.ts why it is there`,
    ])
  })

  test('is run of no package', () => {
    expect(scriptFaults(known, ['protobufjs'])).toEqual(['package.json trusts protobufjs to run its scripts'])
    expect(scriptFaults(known, undefined)).toHaveLength(1)
  })

  test('and is gone, is not listed', () => {
    expect(scriptFaults(known.slice(1), [])).toHaveLength(1)
  })
})

describe('known faults', () => {
  test('are named, with where to read of them', () => {
    const output = JSON.stringify({ a: [{ title: 'bad', severity: 'high', url: 'https://example.com/1' }] })
    expect(auditOutcome({ output, errors: '' }, 10)).toEqual({
      passed: 9,
      faults: ['a: bad (high): https://example.com/1'],
    })
    expect(auditOutcome({ output: '{}\n', errors: '' }, 10)).toEqual({ passed: 10, faults: [] })
  })

  test.each(['', 'bun audit v1.4.5\n', '[]', 'null', '7'])(
    'are not said to be none where %p was answered',
    (output) => {
      const { passed, faults, notChecked } = auditOutcome({ output, errors: 'error: POST https://x - 405\n' }, 10)
      expect([passed, faults.length]).toEqual([0, 0])
      expect(notChecked?.[0]).toStartWith('POST https://x - 405;')
    },
  )
})
