/** Where downloads and builds are kept between checkouts. Uses nothing that has to be installed. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

type Environment = Readonly<Record<string, string | undefined>>

/** A user without a home folder, who names none. */
class NoCacheError extends Error {
  override readonly name = 'NoCacheError'
}

/**
 * KAFKATRACE_CACHE_DIR, else XDG_CACHE_HOME/kafkatrace, else ~/.cache/kafkatrace; a variable that is empty counts as unset.
 * @returns an absolute path
 * @throws NoCacheError
 */
export function cacheFolder(env: Environment = process.env, home: () => string = homedir): string {
  if (env.KAFKATRACE_CACHE_DIR) return resolve(env.KAFKATRACE_CACHE_DIR)
  if (env.XDG_CACHE_HOME) return resolve(env.XDG_CACHE_HOME, 'kafkatrace')
  let folder: string
  try {
    folder = home()
  } catch {
    // The user ID has no entry in the system's list of users, as in a container.
    throw new NoCacheError(
      'this user has no home folder to keep downloads and builds in; name a folder with KAFKATRACE_CACHE_DIR',
    )
  }
  return resolve(folder, '.cache', 'kafkatrace')
}

/** Makes the cache and writes to it. @returns a sentence that says why it cannot be written; undefined: it can be */
export function cacheFault(env: Environment = process.env, home: () => string = homedir): string | undefined {
  let folder: string
  try {
    folder = cacheFolder(env, home)
  } catch (error) {
    if (error instanceof NoCacheError) return error.message
    throw error
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
