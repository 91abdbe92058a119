/**
 * The addon that a release carries, so that most users need not compile it. The libraries that it is linked with may be missing, so it is tried
 * before it is kept.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import project from '../../../package.json' with { type: 'json' }
import { ADDON_FILE, MANIFEST_FILE, type Manifest } from './check.ts'
import { whyUnusable } from './trial.ts'

/** Without libcurl, which depends on a dozen libraries that a machine may not have. */
export const RELEASE_OPTIONS_OFF = ['--disable-curl'] as const

/** In place of the system in the key: built on an old system, it is loaded on others. */
export const RELEASE_SYSTEM = 'release'

/** A published manifest. */
export interface ReleasedManifest extends Manifest {
  /** Of the addon, uncompressed; hexadecimal. */
  sha256: string
}

/** The release's URL without a slash at its end. KAFKATRACE_ADDON_URL replaces it; empty means none. */
function releaseUrl(): string | undefined {
  const { KAFKATRACE_ADDON_URL: other } = process.env
  if (other !== undefined) return other === '' ? undefined : other.replace(/\/+$/, '')
  return `https://github.com/kafkatrace/kafkatrace/releases/download/v${project.version}`
}

const MANIFEST_TIMEOUT_MS = 5_000
const ADDON_TIMEOUT_MS = 60_000
const LOADING_TIMEOUT_MS = 30_000

/** The names of a release's two files. */
export const releasedFiles = (key: string): { manifest: string; addon: string } => ({
  manifest: `${key}.json`,
  addon: `${key}.node.gz`,
})

/**
 * The cache's folder of the release's addon, which is downloaded when the cache does not have it intact.
 * @returns undefined when the release has none that can be used here; the reason is written to standard error
 */
export async function releasedAddon(cache: string, { key }: Pick<Manifest, 'key'>): Promise<string | undefined> {
  const kept = join(cache, key)
  if (isLoadable(kept)) return kept
  const from = releaseUrl()
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

/** The release has no usable addon for this machine; the message says why. */
class UnusableError extends Error {}

/** @throws UnusableError */
async function download(from: string, key: string): Promise<{ manifest: ReleasedManifest; addon: Uint8Array }> {
  const files = releasedFiles(key)
  const parse = (bytes: Uint8Array): ReleasedManifest => JSON.parse(new TextDecoder().decode(bytes)) as ReleasedManifest
  const manifest = await get(`${from}/${files.manifest}`, MANIFEST_TIMEOUT_MS, parse)
  say(`fetching it from the release at ${from}`)
  const addon = await get(`${from}/${files.addon}`, ADDON_TIMEOUT_MS, Bun.gunzipSync)
  const sha256 = createHash('sha256').update(addon).digest('hex')
  if (manifest?.key !== key || sha256 !== manifest.sha256)
    throw new UnusableError(`${from}/${files.addon} is not what its manifest says: its SHA-256 is ${sha256}`)
  return { manifest, addon }
}

/** @throws UnusableError when there is no answer in time, an answer other than 2xx, or one that cannot be decoded */
async function get<T>(url: string, timeoutMs: number, decode: (body: Uint8Array<ArrayBuffer>) => T): Promise<T> {
  let body: Uint8Array<ArrayBuffer>
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) })
    if (!response.ok) throw new UnusableError(`no addon at ${url}: ${response.status}`)
    body = new Uint8Array(await response.arrayBuffer())
  } catch (error) {
    if (error instanceof UnusableError) throw error
    const { name, code, message } = error as NodeJS.ErrnoException
    const reason = name === 'TimeoutError' ? `no answer within ${timeoutMs / 1000} s` : (code ?? message)
    throw new UnusableError(`no addon at ${url}: ${reason}`)
  }
  try {
    return decode(body)
  } catch {
    throw new UnusableError(`what ${url} answered is not a release’s file`)
  }
}

/** Moves a folder into the cache in place of a damaged one. Several processes can do so at the same time. */
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
    // Another process was faster; its result is the same.
    if (!isLoadable(kept)) throw error
  } finally {
    rmSync(damaged, { recursive: true, force: true })
  }
}

/** Whether a folder of the cache has an addon that loads here. Tried in a child process, which loading may end. */
export const isLoadable = (folder: string): boolean =>
  existsSync(join(folder, MANIFEST_FILE)) &&
  Bun.spawnSync([process.execPath, '-e', `require(${JSON.stringify(join(folder, ADDON_FILE))})`], {
    stdio: ['ignore', 'ignore', 'ignore'],
    timeout: LOADING_TIMEOUT_MS,
  }).success

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
