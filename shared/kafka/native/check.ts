/**
 * Whether the addon that is installed fits the runtime that is about to load it. docs/upgrading.md lists what the addon assumes of Bun. Uses nothing that
 * has to be installed.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hashOf, SEEDS } from '../identity-hash.ts'

export const ADDON_FILE = 'confluent-kafka-javascript.node'

/** Lies beside the addon. */
export const MANIFEST_FILE = 'confluent-kafka-javascript.json'

/** Where the client looks for its addon. */
export const INSTALLED = join(import.meta.dir, '../../../node_modules/@confluentinc/kafka-javascript/build/Release')

/** What an addon was built for and from. */
export interface Manifest {
  key: string
  bun: string
  /** The Node version that this Bun reports; its headers were used. */
  node: string
  abi: string
  client: string
  librdkafka: string
  platform: string
  /** The distribution and its release; on others than Linux, the platform. */
  system: string
  /** librdkafka's options that were off because a header was missing. */
  optionsOff: string[]
  sources: string
}

/** The addon cannot be used; the message says what to do. */
export class AddonError extends Error {
  override readonly name = 'AddonError'
}

/** What the shim exports for the check. */
interface Handles {
  hold(value: unknown): number
  read(number: number): unknown
  release(): void
  counts(): { made: number; live: number }
}

/** What the check looks at. */
export interface Checked {
  handles: Handles
  packed: {
    /** A text as an identity's hash. */
    hash(text: string, seeds: Uint8Array): Uint8Array
  }
}

interface Addon extends Checked {
  features(): string
  librdkafkaVersion: string
}

const REBUILD = 'run `bun shared/kafka/native/build.ts`'

function manifest(): Manifest {
  const path = join(INSTALLED, MANIFEST_FILE)
  if (!existsSync(path)) throw new AddonError(`the Kafka client's native addon is not built: ${REBUILD}`)
  return JSON.parse(readFileSync(path, 'utf8')) as Manifest
}

/** How the runtime compares with what an addon was built for: a fault to show, or undefined. */
export function mismatch(
  built: Pick<Manifest, 'bun' | 'abi' | 'platform'>,
  runtime: { bun: string; abi: string; platform: string },
): string | undefined {
  if (built.platform !== runtime.platform) return `it was built for ${built.platform} and this is ${runtime.platform}`
  if (built.abi !== runtime.abi)
    return `it was built for ABI ${built.abi} and Bun ${runtime.bun} has ABI ${runtime.abi}`
  // The shim relies on how this very version lays out handles; the ABI number alone does not promise that.
  if (built.bun !== runtime.bun) return `it was built for Bun ${built.bun} and this is Bun ${runtime.bun}`
  return undefined
}

/**
 * Checks the build against the runtime, loads it, and checks what it assumes: that persistent handles survive a collection and are given back, and that both
 * languages make the same hash. Takes a few milliseconds.
 * @throws AddonError that says what is wrong and what to do
 */
export function checkAddon(): void {
  const built = manifest()
  const fault = mismatch(built, {
    bun: Bun.version,
    abi: process.versions.modules,
    platform: `${process.platform}-${process.arch}`,
  })
  if (fault !== undefined)
    throw new AddonError(`the Kafka client's native addon does not fit: ${fault}; ${REBUILD}, or use Bun ${built.bun}`)
  checkLoaded(load())
}

/** @throws AddonError when what the addon assumes of this runtime does not hold */
export function checkLoaded({ handles, packed }: Checked): void {
  checkHandles(handles)
  checkHash((text) => packed.hash(text, new Uint8Array(SEEDS.buffer)))
}

/** Of each length at which Wyhash takes another way. */
const HASHED = [0, 1, 3, 4, 8, 16, 17, 47, 48, 49, 96, 300].map((length) => 'kafkatrace\n'.repeat(30).slice(0, length))

/**
 * Duplicates are recognised by hashes that either language makes.
 * @throws AddonError when they make another of the same text
 */
export function checkHash(hash: (text: string) => Uint8Array): void {
  // The other's first, since ours is valid until the next one.
  const wrong = HASHED.filter((text) => !Buffer.from(hash(text)).equals(Buffer.from(hashOf(text).buffer)))
  if (wrong.length > 0)
    throw new AddonError(
      `Bun.hash.wyhash of Bun ${Bun.version} differs from the Kafka addon's (of ${wrong.length} of ${HASHED.length} texts): use the Bun version of package.json`,
    )
}

const load = (): Addon => require(join(INSTALLED, ADDON_FILE)) as Addon

/** How many handles the check makes. */
const CHECKED_HANDLES = 64

/** How many objects take the place of what the check's collection found unused. */
const OTHERS = 4_000

/** @throws AddonError when a handle is lost in a collection, reads as something else, or is not given back */
export function checkHandles(handles: Handles): void {
  const before = handles.counts()
  const numbers = Array.from({ length: CHECKED_HANDLES }, (_, index) => handles.hold({ index }))
  Bun.gc(true)
  // A value that was lost stays readable until others of its kind take its place.
  Array.from({ length: OTHERS }, () => ({ index: -1 }))
  const wrong = numbers.filter(
    (number, index) => (handles.read(number) as { index?: number } | undefined)?.index !== index,
  )
  handles.release()
  const { live } = handles.counts()
  if (wrong.length > 0 || live !== before.live)
    throw new AddonError(
      `Bun ${Bun.version} does not keep native handles as the Kafka addon needs (${wrong.length} of ${CHECKED_HANDLES} lost, ${live - before.live} not given back): use the Bun version of package.json`,
    )
}

/** Compression codecs by the name in librdkafka's `builtin.features`. */
const CODECS = ['gzip', 'snappy', 'lz4', 'zstd']

/** What this build can do. */
export function describeAddon(): {
  manifest: Manifest
  librdkafka: string
  codecs: string[]
  ssl: boolean
  sasl: string[]
} {
  checkAddon()
  const { features, librdkafkaVersion } = load()
  const list = features().split(',')
  const sasl: [feature: string, mechanism: string][] = [
    ['sasl_plain', 'PLAIN'],
    ['sasl_scram', 'SCRAM-SHA-256, SCRAM-SHA-512'],
    ['sasl_oauthbearer', 'OAUTHBEARER'],
    ['oidc', 'OAUTHBEARER over OIDC'],
  ]
  return {
    manifest: manifest(),
    librdkafka: librdkafkaVersion,
    codecs: CODECS.filter((codec) => list.includes(codec)),
    ssl: list.includes('ssl'),
    sasl: sasl.filter(([feature]) => list.includes(feature)).map(([, mechanism]) => mechanism),
  }
}
