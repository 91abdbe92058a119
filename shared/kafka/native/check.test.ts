import { afterAll, describe, expect, test } from 'bun:test'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hashOf } from '../identity-hash.ts'
import { AddonError, checkAddon, checkHandles, checkHash, describeAddon, MANIFEST_FILE, mismatch } from './check.ts'

const built = { bun: '1.4.5', abi: '147', platform: 'linux-x64' }

describe('mismatch', () => {
  test('finds nothing wrong with the runtime that the addon was built for', () => {
    expect(mismatch(built, built)).toBeUndefined()
  })

  test('names both platforms', () => {
    expect(mismatch(built, { ...built, platform: 'linux-arm64' })).toBe(
      'it was built for linux-x64 and this is linux-arm64',
    )
  })

  test('names both ABIs, and the Bun that has the other one', () => {
    expect(mismatch(built, { ...built, bun: '1.5.0', abi: '150' })).toBe(
      'it was built for ABI 147 and Bun 1.5.0 has ABI 150',
    )
  })

  test('refuses another Bun with the same ABI', () => {
    expect(mismatch(built, { ...built, bun: '1.4.6' })).toBe('it was built for Bun 1.4.5 and this is Bun 1.4.6')
  })
})

/** Handles as they ought to be, with a fault put in. */
function fakeHandles(fault: { lost?: (number: number) => unknown; leaked?: number } = {}) {
  const held: unknown[] = []
  return {
    hold: (value: unknown) => held.push(value) - 1,
    read: (number: number) => (fault.lost === undefined ? held[number] : fault.lost(number)),
    release: () => {
      held.length = fault.leaked ?? 0
    },
    counts: () => ({ made: 0, live: held.length }),
  }
}

describe('checkHandles', () => {
  test('is content with handles that keep their values and are given back', () => {
    expect(() => checkHandles(fakeHandles())).not.toThrow()
  })

  test('sees handles that lose their values', () => {
    expect(() => checkHandles(fakeHandles({ lost: () => undefined }))).toThrow(/64 of 64 lost, 0 not given back/)
  })

  test('sees handles that read as each other', () => {
    expect(() => checkHandles(fakeHandles({ lost: (number) => ({ index: number ^ 1 }) }))).toThrow(/64 of 64 lost/)
  })

  test('sees a single handle that is not given back, and says what to do', () => {
    expect(() => checkHandles(fakeHandles({ leaked: 1 }))).toThrow(AddonError)
    expect(() => checkHandles(fakeHandles({ leaked: 1 }))).toThrow(
      /0 of 64 lost, 1 not given back\): use the Bun version of package\.json/,
    )
  })
})

describe('checkHash', () => {
  test('is content with the same hashes', () => {
    expect(() => checkHash((text) => new Uint8Array(hashOf(text).slice().buffer))).not.toThrow()
  })

  test('sees a hash that differs', () => {
    expect(() => checkHash((text) => new Uint8Array(hashOf(text.slice(0, 48)).slice().buffer))).toThrow(
      /differs from the Kafka addon's \(of 3 of 12 texts\)/,
    )
  })
})

describe('checkAddon', () => {
  const checkout = mkdtempSync(join(tmpdir(), 'kafkatrace-check-'))
  afterAll(() => rmSync(checkout, { recursive: true, force: true }))

  /** What a checkout without an addon, or with that manifest in place of one, says. */
  function saidIn(manifest?: object): string {
    const native = join(checkout, 'shared/kafka/native')
    mkdirSync(native, { recursive: true })
    cpSync(join(import.meta.dir, 'check.ts'), join(native, 'check.ts'))
    cpSync(join(import.meta.dir, '../identity-hash.ts'), join(native, '../identity-hash.ts'))
    const release = join(checkout, 'node_modules/@confluentinc/kafka-javascript/build/Release')
    rmSync(release, { recursive: true, force: true })
    if (manifest !== undefined) {
      mkdirSync(release, { recursive: true })
      writeFileSync(join(release, MANIFEST_FILE), JSON.stringify(manifest))
    }
    const child = Bun.spawnSync({
      cmd: [
        process.execPath,
        '-e',
        `import(${JSON.stringify(join(native, 'check.ts'))}).then((check) => check.checkAddon()).catch((error) => console.log(error.name + ': ' + error.message))`,
      ],
      cwd: checkout,
    })
    return child.stdout.toString().trim()
  }

  test('says how to get an addon that is not built', () => {
    expect(saidIn()).toBe(
      "AddonError: the Kafka client's native addon is not built: run `bun shared/kafka/native/build.ts`",
    )
  })

  test('does not load an addon for another Bun, and says what to do', () => {
    const runtime = { abi: process.versions.modules, platform: `${process.platform}-${process.arch}` }
    expect(saidIn({ ...runtime, bun: '0.0.0' })).toBe(
      `AddonError: the Kafka client's native addon does not fit: it was built for Bun 0.0.0 and this is Bun ${Bun.version}; run \`bun shared/kafka/native/build.ts\`, or use Bun 0.0.0`,
    )
  })

  test('passes on this machine', () => {
    expect(() => checkAddon()).not.toThrow()
  })

  test('describes what this build can do', () => {
    const { manifest, librdkafka, codecs, sasl } = describeAddon()
    expect(manifest.bun).toBe(Bun.version)
    expect(librdkafka).toMatch(/^\d+\.\d+\.\d+/)
    expect(codecs).toContain('lz4')
    expect(sasl).toContain('PLAIN')
  })
})
