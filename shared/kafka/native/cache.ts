/** The folder for downloads and builds, shared between checkouts. Imports no packages. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

type Environment = Readonly<Record<string, string | undefined>>

/**
 * KAFKATRACE_CACHE_DIR, else XDG_CACHE_HOME/kafkatrace, else ~/.cache/kafkatrace; a variable that is empty counts as unset.
 * @returns an absolute path
 * @throws Error when the user has no home folder and no variable names a cache
 */
export function cacheFolder(env: Environment = process.env, home: () => string = homedir): string {
  if (env.KAFKATRACE_CACHE_DIR) return resolve(env.KAFKATRACE_CACHE_DIR)
  if (env.XDG_CACHE_HOME) return resolve(env.XDG_CACHE_HOME, 'kafkatrace')
  try {
    return resolve(home(), '.cache', 'kafkatrace')
  } catch {
    // The user ID is unknown to the system, as in a container.
    throw new Error(
      'this user has no home folder to keep downloads and builds in; name a folder with KAFKATRACE_CACHE_DIR',
    )
  }
}

/** Creates the cache and writes to it. @returns why it is not writable; undefined when it is */
export function cacheFault(env: Environment = process.env, home: () => string = homedir): string | undefined {
  let folder: string
  try {
    folder = cacheFolder(env, home)
  } catch (error) {
    return (error as Error).message
  }
  const probe = join(folder, `.probe-${process.pid}`)
  try {
    mkdirSync(folder, { recursive: true })
    writeFileSync(probe, '')
    rmSync(probe)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return `the cache ${folder} cannot be written (${code ?? String(error)}); name another with KAFKATRACE_CACHE_DIR`
  }
}
