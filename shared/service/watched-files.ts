import { stat } from 'node:fs/promises'
import { sleep } from './retry.ts'

/** How often files are looked at. Notifications do not come from network file systems, nor when a volume of a Secret or ConfigMap is switched. */
export const FILES_POLL_MS = 1_000

/**
 * Calls `read` now and after each change of the files, until `ending` is aborted. Links are followed, so that the switch of a Kubernetes volume is a change. A
 * file that is missing is watched, too. Resolves after the first call.
 * @param read one call at a time: it is awaited before the files are looked at again; it handles its own errors
 */
export async function watchFiles(
  paths: readonly string[],
  read: () => void | Promise<void>,
  ending: AbortSignal,
  pollMs = FILES_POLL_MS,
): Promise<void> {
  // Before they are read, so that no change is missed.
  let seen = await stampOfAll(paths)
  if (ending.aborted) return
  await read()
  const watch = async (): Promise<void> => {
    while (!ending.aborted) {
      await sleep(pollMs, ending)
      const stamp = await stampOfAll(paths)
      if (ending.aborted || stamp === seen) continue
      seen = stamp
      await read()
    }
  }
  void watch()
}

/** Changes whenever one of the files does. */
export async function stampOfAll(paths: readonly string[]): Promise<string> {
  const stamps: string[] = []
  for (const path of paths) stamps.push(`${path} ${await stampOf(path)}`)
  return stamps.join('\n')
}

/** Changes whenever the file does. Size and time alone would miss a replacement of the same size within one tick of the clock; the inode shows it. */
export async function stampOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(':')
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
  }
}
