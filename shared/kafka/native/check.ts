/** Checks that the installed addon fits this runtime. docs/upgrading.md lists its assumptions about Bun. Imports no packages. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hashOf, SEEDS } from '../identity-hash.ts'

export const ADDON_FILE = 'confluent-kafka-javascript.node'

/** In the addon's folder. */
export const MANIFEST_FILE = 'confluent-kafka-javascript.json'

/** Where the client looks for its addon. */
export const INSTALLED = join(import.meta.dir, '../../../node_modules/@confluentinc/kafka-javascript/build/Release')

/** Describes the build of an addon. */
export interface Manifest {
  key: string
  bun: string
  /** The Node version that Bun reports, whose headers were used. */
  node: string
  abi: string
  client: string
  librdkafka: string
  platform: string
  /** The distribution and its release; the platform where it is not Linux. */
  system: string
  /** librdkafka's options for libraries whose headers were missing. */
  optionsOff: string[]
  sources: string
}

/** The addon cannot be used. The message says what to do. */
export class AddonError extends Error {
  override readonly name = 'AddonError'
}

interface Handles {
  hold(value: unknown): number
  read(number: number): unknown
  release(): void
  counts(): { made: number; live: number }
}

/** The parts of the addon that are checked. */
export interface Checked {
  handles: Handles
  packed: { hash(identity: string, seeds: Uint8Array): Uint8Array }
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

/** How the runtime differs from the one that an addon was built for; undefined when it does not. */
export function mismatch(
  built: Pick<Manifest, 'bun' | 'abi' | 'platform'>,
  runtime: { bun: string; abi: string; platform: string },
): string | undefined {
  if (built.platform !== runtime.platform) return `it was built for ${built.platform} and this is ${runtime.platform}`
  if (built.abi !== runtime.abi)
    return `it was built for ABI ${built.abi} and Bun ${runtime.bun} has ABI ${runtime.abi}`
  // The shim depends on this version's layout of handles, which the ABI number does not cover.
  if (built.bun !== runtime.bun) return `it was built for Bun ${built.bun} and this is Bun ${runtime.bun}`
  return undefined
}

/**
 * Compares the build with the runtime, loads it, and checks that persistent handles survive a collection and are released, and that JavaScript and
 * C++ compute the same hash. Takes a few milliseconds.
 * @throws AddonError
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

/** @throws AddonError when an assumption about the runtime does not hold */
export function checkLoaded({ handles, packed }: Checked): void {
  checkHandles(handles)
  checkHash((text) => packed.hash(text, new Uint8Array(SEEDS.buffer)))
}

/** One string for each code path of Wyhash, which depends on the length. */
const HASHED = [0, 1, 3, 4, 8, 16, 17, 47, 48, 49, 96, 300].map((length) => 'kafkatrace\n'.repeat(30).slice(0, length))

/** @throws AddonError when C++ and JavaScript compute different hashes; duplicates would not be recognised */
export function checkHash(hash: (text: string) => Uint8Array): void {
  // hashOf is called last: its result is valid until the next call.
  const wrong = HASHED.filter((text) => !Buffer.from(hash(text)).equals(Buffer.from(hashOf(text).buffer)))
  if (wrong.length > 0)
    throw new AddonError(
      `Bun.hash.wyhash of Bun ${Bun.version} differs from the Kafka addon's (of ${wrong.length} of ${HASHED.length} texts): use the Bun version of package.json`,
    )
}

const load = (): Addon => require(join(INSTALLED, ADDON_FILE)) as Addon

const CHECKED_HANDLES = 64

/** Objects that overwrite those that the collection has freed. */
const OTHERS = 4_000

/** @throws AddonError when a handle is lost or changed by a collection, or is not released */
export function checkHandles(handles: Handles): void {
  const before = handles.counts()
  const numbers = Array.from({ length: CHECKED_HANDLES }, (_, index) => handles.hold({ index }))
  Bun.gc(true)
  // A freed value stays readable until it is overwritten.
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

/** By their names in librdkafka's `builtin.features`. */
const CODECS = ['gzip', 'snappy', 'lz4', 'zstd']

/** The capabilities of the installed build. @throws AddonError as {@link checkAddon} */
export function describeAddon() {
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
