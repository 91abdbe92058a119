import { chmod, chown, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { type TenantsFile, tenantsFaults, tenantsFileIn } from '../../shared/http/tenants.ts'
import { FailedError } from '../../shared/service/command-line.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import { secondOf } from './command.ts'

/** A tenants file that is read and changed, so that no service reads half of it and no other change gets lost. */

export interface Opened {
  /** As it was named. */
  path: string
  bytes: Buffer
  file: TenantsFile
}

/** @throws ConfigError naming every fault of the file */
export async function openFile(path: string): Promise<Opened> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new FailedError(`${path} cannot be read: ${messageOf(error)}`)
  })
  return { path, bytes, file: tenantsFileIn(bytes, path) }
}

/**
 * Replaces the file as a whole, with the same owner and mode.
 * @param edited what it will be
 * @param expected what that says
 * @throws FailedError where it cannot be replaced, would have a fault, or is not as it was read; it is as it was then
 */
export async function replaceFile({ path, bytes }: Opened, edited: Buffer, expected: TenantsFile): Promise<void> {
  const faults = tenantsFaults(expected)
  if (faults.length > 0) throw new FailedError(faults.join('\n'))
  if (!Bun.deepEquals(JSON.parse(edited.toString('utf8')), expected, true))
    throw new FailedError(`${path} is written in a way that cannot be kept; change it by hand`)
  const real = await realpath(path)
  if (isOfKubernetes(real)) throw new FailedError(OF_KUBERNETES(path))
  // Its name also keeps two of these commands apart. One that was left by a killed command is taken away by a person only: on a volume that hosts or containers
  // share, no process can tell whether another one is still there, and two at work at a time could lose a revocation.
  const beside = join(dirname(real), `.${basename(real)}.new`)
  const { mode, uid, gid } = await stat(real)
  const handle = await open(beside, 'wx', 0o600).catch(async (error: NodeJS.ErrnoException) => {
    throw new FailedError(error.code === 'EEXIST' ? await left(beside) : unchanged(path, error))
  })
  try {
    try {
      await handle.writeFile(edited)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await chown(beside, uid, gid)
    await chmod(beside, mode & 0o7777)
    if (!(await readFile(real)).equals(bytes))
      throw new FailedError(`${path} was changed by somebody else in the meantime, and is as they left it: try again`)
    await rename(beside, real)
  } catch (error) {
    await rm(beside, { force: true })
    throw error instanceof FailedError ? error : new FailedError(unchanged(path, error))
  }
}

/** The kubelet puts the files of a volume into a directory whose name begins with two dots, and links to them. */
const isOfKubernetes = (real: string): boolean =>
  dirname(real)
    .split(sep)
    .some((name) => name.startsWith('..'))

const OF_KUBERNETES = (
  path: string,
): string => `${path} is a file of a Kubernetes volume and cannot be changed there; nothing was changed. Change a copy, and the Secret with it:
  kubectl get secret NAME -o jsonpath='{.data.tenants\\.json}' | base64 -d > tenants.json
  the same command with --file tenants.json
  kubectl create secret generic NAME --from-file=tenants.json --dry-run=client -o yaml | kubectl apply -f -`

async function left(beside: string): Promise<string> {
  const found = await stat(beside).catch(() => undefined)
  const since = found === undefined ? '' : ` since ${secondOf(found.mtimeMs)}`
  return `${beside} is there${since}: another tenant-key is at work, which takes less than a second, or was killed; nothing was changed. If the file stays: rm '${beside}', and try again`
}

const unchanged = (path: string, error: unknown): string =>
  `${path} cannot be replaced: ${messageOf(error)}; nothing was changed. Change a copy with --file, or print the line for it with make … --file -`
