import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Makes a folder that may go once this process has ended, and removes such folders of this user's processes that have.
 * @param prefix of its name, with a hyphen at its end
 * @param parent default: the folder for temporary files
 */
export function makeOwnFolder(prefix: string, parent = tmpdir()): string {
  // The ID of the process that made it.
  const ours = new RegExp(`^${prefix}(\\d+)-\\w{6}$`)
  for (const name of readdirSync(parent)) {
    const pid = ours.exec(name)?.[1]
    if (pid === undefined || isAlive(Number(pid))) continue
    const folder = join(parent, name)
    // Another process may remove it at the same time.
    if (statSync(folder, { throwIfNoEntry: false })?.uid === process.getuid?.())
      rmSync(folder, { recursive: true, force: true })
  }
  return mkdtempSync(join(parent, `${prefix}${process.pid}-`))
}

/** For the logs of the programs that a command starts. */
export const makeLogFolder = (): string => makeOwnFolder('kafkatrace-dev-')

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
