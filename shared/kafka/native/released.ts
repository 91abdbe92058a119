/**
 * The addon as a release carries it, so that most people need not compile. It is linked with libraries that current distributions have; what
 * it was linked with may be missing all the same, so it is tried before it is kept.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADDON_FILE, MANIFEST_FILE, type Manifest } from './check.ts'
import { faultIn, whyUnusable } from './trial.ts'

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

/** Where releases are, without a slash at its end; KAFKATRACE_ADDON_URL names another place, and none when it is empty. */
function place(): string | undefined {
  const { KAFKATRACE_ADDON_URL: other } = process.env
  if (other !== undefined) return other === '' ? undefined : other.replace(/\/+$/, '')
  const { version } = JSON.parse(readFileSync(join(import.meta.dir, '../../../package.json'), 'utf8')) as {
    version: string
  }
  return `https://github.com/kafkatrace/kafkatrace/releases/download/v${version}`
}

const MANIFEST_TIMEOUT_MS = 5_000
const ADDON_TIMEOUT_MS = 60_000
const LOADING_TIMEOUT_MS = 30_000

/** Names of the two files of a release. */
export const releasedFiles = (key: string): { manifest: string; addon: string } => ({
  manifest: `${key}.json`,
  addon: `${key}.node.gz`,
})

/**
 * The folder of the cache in which the release's addon is, taken from the release where the cache does not have it, or has it damaged.
 * @returns undefined where there is none, it is damaged, or it cannot be loaded here; why is said, and that it has to be compiled
 */
export async function releasedAddon(cache: string, { key }: Pick<Manifest, 'key'>): Promise<string | undefined> {
  const kept = join(cache, key)
  if (isLoadable(kept)) return kept
  const from = place()
  if (from === undefined) return undefined
  const next = `${kept}.${process.pid}`
  try {
    const { manifest, addon } = await download(from, key)
    mkdirSync(next, { recursive: true })
    writeFileSync(join(next, ADDON_FILE), addon)
    writeFileSync(join(next, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`)
    const fault = await whyUnusable(join(next, ADDON_FILE))
    if (fault !== undefined) throw new UnusableError(`the release’s cannot be used here: ${fault}`)
    if (!isLoadable(kept)) replace(next, kept)
    say(`taken from the release at ${from}`)
    return kept
  } catch (error) {
    if (!(error instanceof UnusableError)) throw error
    say(`${error.message}; it has to be compiled`)
    return undefined
  } finally {
    rmSync(next, { recursive: true, force: true })
  }
}

const say = (text: string): boolean => process.stderr.write(`kafka addon: ${text}\n`)

/** The release has nothing for this machine; the message says why. */
class UnusableError extends Error {}

/** @throws UnusableError */
async function download(from: string, key: string): Promise<{ manifest: ReleasedManifest; addon: Uint8Array }> {
  const files = releasedFiles(key)
  const described = await answer(`${from}/${files.manifest}`, MANIFEST_TIMEOUT_MS)
  let manifest: ReleasedManifest
  try {
    manifest = JSON.parse(new TextDecoder().decode(described)) as ReleasedManifest
  } catch {
    throw new UnusableError(`what ${from}/${files.manifest} answered is not a release’s file`)
  }
  say(`fetching it from the release at ${from}`)
  const packed = await answer(`${from}/${files.addon}`, ADDON_TIMEOUT_MS)
  let addon: Uint8Array
  try {
    addon = Bun.gunzipSync(packed)
  } catch {
    throw new UnusableError(`what ${from}/${files.addon} answered is not a release’s file`)
  }
  const sha256 = createHash('sha256').update(addon).digest('hex')
  if (manifest?.key !== key || sha256 !== manifest.sha256)
    throw new UnusableError(`${from}/${files.addon} is not what its manifest says: its SHA-256 is ${sha256}`)
  return { manifest, addon }
}

/** @throws UnusableError when there is no answer in time, or another than 200 */
async function answer(url: string, timeoutMs: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) })
    if (!response.ok) throw new UnusableError(`no addon at ${url}: ${response.status}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (error) {
    if (error instanceof UnusableError) throw error
    const { name, code, message } = error as NodeJS.ErrnoException
    const reason = name === 'TimeoutError' ? `no answer within ${timeoutMs / 1000} s` : (code ?? message)
    throw new UnusableError(`no addon at ${url}: ${reason}`)
  }
}

/** Puts a folder into the cache, in place of one that is damaged. Others may do the same at the same time. */
export function replace(next: string, kept: string): void {
  const damaged = `${next}.damaged`
  try {
    renameSync(kept, damaged)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  try {
    renameSync(next, kept)
  } catch (error) {
    // Somebody else was quicker; theirs is the same.
    if (!isLoadable(kept)) throw error
  } finally {
    rmSync(damaged, { recursive: true, force: true })
  }
}

/** Whether a folder of the cache has an addon that can be used here. */
export const isLoadable = (folder: string): boolean =>
  existsSync(join(folder, MANIFEST_FILE)) && whyNotLoadable(join(folder, ADDON_FILE)) === undefined

/** What the linker says against loading it; undefined when it was loaded. In a process of its own, which it may end. */
function whyNotLoadable(addon: string): string | undefined {
  const child = Bun.spawnSync([process.execPath, '-e', `require(${JSON.stringify(addon)})`], {
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
    timeout: LOADING_TIMEOUT_MS,
  })
  if (child.success) return undefined
  return faultIn(child.stderr.toString()) ?? `exit code ${child.exitCode ?? child.signalCode}`
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
