/**
 * The addon as a release carries it, so that most people need not compile. It is linked with libraries that current distributions have; what
 * it was linked with may be missing all the same, so it is loaded once before it is kept.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADDON_FILE, MANIFEST_FILE, type Manifest } from './check.ts'

/** Without libcurl, which has a dozen libraries behind it that a machine may not have. */
export const RELEASE_OPTIONS_OFF = ['--disable-curl'] as const

/**
 * Stands in place of the system in the key: whichever it is built on, an old one, others are to load it.
 */
export const RELEASE_SYSTEM = 'release'

/** The manifest as it is published: with the addon's own checksum. */
export interface ReleasedManifest extends Manifest {
  /** Of the addon, uncompressed; hexadecimal. */
  sha256: string
}

/** Where releases are; KAFKATRACE_ADDON_URL names another place, and none when it is empty. */
function place(): string | undefined {
  const { KAFKATRACE_ADDON_URL: other } = process.env
  if (other !== undefined) return other === '' ? undefined : other
  const { version } = JSON.parse(readFileSync(join(import.meta.dir, '../../../package.json'), 'utf8')) as {
    version: string
  }
  return `https://github.com/kafkatrace/kafkatrace/releases/download/v${version}`
}

const MANIFEST_TIMEOUT_MS = 5_000
const ADDON_TIMEOUT_MS = 60_000

/** Names of the two files of a release. */
export const releasedFiles = (key: string): { manifest: string; addon: string } => ({
  manifest: `${key}.json`,
  addon: `${key}.node.gz`,
})

/**
 * The folder of the cache in which the release's addon is, taken from the release where the cache does not have it.
 * @returns undefined where there is none, it is damaged, or it cannot be loaded here; what is damaged, or cannot be loaded, is said
 */
export async function releasedAddon(cache: string, { key }: Pick<Manifest, 'key'>): Promise<string | undefined> {
  const kept = join(cache, key)
  if (existsSync(join(kept, MANIFEST_FILE)) && whyNotLoadable(join(kept, ADDON_FILE)) === undefined) return kept
  const from = place()
  if (from === undefined) return undefined
  const files = releasedFiles(key)
  const described = await fetch(`${from}/${files.manifest}`, {
    signal: AbortSignal.timeout(MANIFEST_TIMEOUT_MS),
  }).catch(() => undefined)
  // No release has been made of this, or it cannot be reached: it is compiled.
  if (described?.ok !== true) return undefined
  const next = `${kept}.${process.pid}`
  try {
    const manifest = (await described.json()) as ReleasedManifest
    const response = await fetch(`${from}/${files.addon}`, { signal: AbortSignal.timeout(ADDON_TIMEOUT_MS) })
    if (!response.ok) throw new Error(`${files.addon}: ${response.status}`)
    const addon = Bun.gunzipSync(new Uint8Array(await response.arrayBuffer()))
    const sha256 = createHash('sha256').update(addon).digest('hex')
    if (manifest.key !== key || sha256 !== manifest.sha256)
      throw new Error(`${files.addon} is not what its manifest says: its SHA-256 is ${sha256}`)
    mkdirSync(next, { recursive: true })
    writeFileSync(join(next, ADDON_FILE), addon)
    writeFileSync(join(next, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`)
    const fault = whyNotLoadable(join(next, ADDON_FILE))
    if (fault !== undefined) throw new Error(`it cannot be loaded here: ${fault}`)
    try {
      renameSync(next, kept)
    } catch (error) {
      // Somebody else was quicker; theirs is the same.
      if (!existsSync(join(kept, MANIFEST_FILE))) throw error
    }
    process.stderr.write(`kafka addon: taken from the release at ${from}\n`)
    return kept
  } catch (error) {
    process.stderr.write(`kafka addon: the release’s cannot be used: ${(error as Error).message}\n`)
    return undefined
  } finally {
    rmSync(next, { recursive: true, force: true })
  }
}

/** What the linker says against loading it; undefined when it was loaded. In a process of its own, which it may end. */
function whyNotLoadable(addon: string): string | undefined {
  const child = Bun.spawnSync([process.execPath, '-e', `require(${JSON.stringify(addon)})`], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
  })
  if (child.success) return undefined
  const said = child.stderr
    .toString()
    .split('\n')
    .find((line) => /error/i.test(line))
  return said?.trim() ?? `exit code ${child.exitCode ?? child.signalCode}`
}

/** Writes a compiled addon as a release carries it. */
export function writeReleased(compiled: string, folder: string): void {
  const addon = readFileSync(join(compiled, ADDON_FILE))
  const manifest = JSON.parse(readFileSync(join(compiled, MANIFEST_FILE), 'utf8')) as Manifest
  const released: ReleasedManifest = { ...manifest, sha256: createHash('sha256').update(addon).digest('hex') }
  const files = releasedFiles(manifest.key)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, files.manifest), `${JSON.stringify(released, null, 2)}\n`)
  writeFileSync(join(folder, files.addon), Bun.gzipSync(new Uint8Array(addon)))
}
