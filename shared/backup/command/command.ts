import { stat } from 'node:fs/promises'
import { type Command as CommandOf, type Output, only, UnreadableError } from '../../service/command-line.ts'
import { MANIFEST, type Manifest } from '../manifest.ts'
import { folderRepository, type Repository } from '../repository.ts'
import { readManifest } from '../take.ts'
import { NO_MANIFEST } from '../verify.ts'

/** What every command of `backup` has, and what it gets. */

/** @throws UsageError, FailedError, UnreadableError, ManifestError, UnavailableError, ConfigError */
export type Command = CommandOf<Io>

/** The world around a command, so that tests can give it another. */
export interface Io extends Output {
  env: Readonly<Record<string, string | undefined>>
}

/** @throws UnreadableError where there is no folder, or no manifest in it; ManifestError */
export async function backupIn(
  positionals: readonly string[],
): Promise<{ repository: Repository; manifest: Manifest }> {
  const folder = only('DIR', positionals)
  const found = await stat(folder).catch(() => undefined)
  if (found?.isDirectory() !== true) throw new UnreadableError(`${folder}: there is no such folder`)
  const repository = folderRepository(folder)
  const manifest = await readManifest(repository, MANIFEST)
  if (manifest === undefined) throw new UnreadableError(`${folder}: ${NO_MANIFEST}`)
  return { repository, manifest }
}

export const plural = (count: number, one: string): string =>
  `${count.toLocaleString('en')} ${one}${count === 1 ? '' : 's'}`

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB']

/** In units of 1,000. */
export function sizeText(bytes: number): string {
  let left = bytes
  let unit = 0
  for (; left >= 999.5 && unit < UNITS.length - 1; unit++) left /= 1_000
  return `${unit === 0 || left >= 99.5 ? Math.round(left) : left.toFixed(1)} ${UNITS[unit]}`
}

export const timeText = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
