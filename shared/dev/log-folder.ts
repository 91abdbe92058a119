import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

const PREFIX = 'kafkatrace-dev-'
/** Contains the ID of the process that made it. */
const OURS = new RegExp(`^${PREFIX}(\\d+)-\\w{6}$`)

/**
 * Makes a folder for the services' logs, and removes those of this user's finished runs.
 * @param parent the folder for temporary files
 */
export function makeLogFolder(parent: string): string {
  for (const name of readdirSync(parent)) {
    const pid = OURS.exec(name)?.[1]
    if (pid === undefined || isAlive(Number(pid))) continue
    const folder = join(parent, name)
    // Another run may remove it at the same time.
    if (statSync(folder, { throwIfNoEntry: false })?.uid === process.getuid?.())
      rmSync(folder, { recursive: true, force: true })
  }
  return mkdtempSync(join(parent, `${PREFIX}${process.pid}-`))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
