import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { FailedError } from '../service/command-line.ts'
import { sleep } from '../service/retry.ts'
import type { Repository } from './repository.ts'

/**
 * One run at a time writes to a backup. A run that was killed leaves its lock: it is known by its process, if that was on this machine, and else by its
 * not being renewed. Clocks are not compared.
 */

const LOCK = 'running.json'

const RENEW_MS = 5_000
/** Several times {@link RENEW_MS}, since a busy machine or storage is slow. */
const WATCH_MS = 30_000
const LOOK_MS = 500

export interface Lock {
  /** @throws FailedError when another run has taken it, as after this process was stopped for long */
  check(): Promise<void>
  release(): Promise<void>
}

/** @throws FailedError when another run has it */
export async function takeLock(
  repository: Repository,
  onWaiting: (holder: string) => void,
  watchMs = WATCH_MS,
): Promise<Lock> {
  const id = randomUUID()
  const since = new Date().toISOString()
  let renewed = 0
  const content = (): string =>
    `${JSON.stringify({ host: hostname(), process: process.pid, since, renewed: renewed++, id })}\n`
  while (!(await repository.createNew(LOCK, content()))) {
    const found = await repository.readText(LOCK)
    if (found === undefined) continue
    if (!isOfDeadProcess(found)) {
      onWaiting(holderIn(found))
      if (await isRenewed(repository, found, watchMs))
        throw new FailedError(`${repository.name}: another backup is running: ${holderIn(found)}`)
    }
    await repository.remove(LOCK)
  }
  const isOurs = async (): Promise<boolean> => (await repository.readText(LOCK))?.includes(id) === true
  const check = async (): Promise<void> => {
    if (!(await isOurs())) throw new FailedError(`${repository.name}: another backup has begun meanwhile`)
  }
  let renewing = Promise.resolve()
  const timer = setInterval(() => {
    // What goes wrong is found by the next check.
    renewing = isOurs()
      .then((ours) => (ours ? repository.replace(LOCK, content()) : undefined))
      .catch(() => undefined)
  }, RENEW_MS)
  return {
    check,
    async release() {
      clearInterval(timer)
      await renewing
      if (await isOurs()) await repository.remove(LOCK)
    },
  }
}

interface Holder {
  host?: unknown
  process?: unknown
  since?: unknown
}

function parsed(lock: string): Holder {
  try {
    return (JSON.parse(lock) as Holder | null) ?? {}
  } catch {
    return {}
  }
}

function holderIn(lock: string): string {
  const { host, process, since } = parsed(lock)
  return `process ${String(process)} on ${String(host)}, since ${String(since)}`
}

function isOfDeadProcess(lock: string): boolean {
  const { host, process: pid } = parsed(lock)
  if (host !== hostname() || typeof pid !== 'number') return false
  // A container that was started again has the number of the process that was killed.
  if (pid === process.pid) return true
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

async function isRenewed(repository: Repository, before: string, watchMs: number): Promise<boolean> {
  const endMs = performance.now() + watchMs
  while (performance.now() < endMs) {
    await sleep(Math.min(LOOK_MS, watchMs / 10))
    const now = await repository.readText(LOCK)
    if (now !== before) return now !== undefined
  }
  return false
}
