import { join } from 'node:path'
import { type BoundChild, endBoundChild, endOf, isRunning, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { lastLines } from '../../shared/dev/run.ts'
import type { RunningSystem } from './system.ts'

const READY_TIMEOUT_MS = 30_000
const PROBE_PAUSE_MS = 20
const PROBE_TIMEOUT_MS = 2_000
const STOP_GRACE_MS = 20_000

export interface HttpProcess {
  name: string
  command: readonly string[]
  env: Record<string, string>
  port: number
  /** Gets its log. */
  directory: string
}

/**
 * A system that is one process: it takes PORT from its environment, listens on loopback, and answers `GET /ready` with 200 when it can take requests.
 * @throws Error with the last lines of its log, when it ends or is not ready in time
 */
export async function startHttpProcess(options: HttpProcess): Promise<RunningSystem> {
  const { name, port } = options
  const log = Bun.file(join(options.directory, `${name}.log`))
  const child = spawnBoundChild(options.command, {
    stdout: log,
    stderr: log,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], PORT: String(port), ...options.env },
  })
  const base = `http://127.0.0.1:${port}`
  try {
    await ready(name, child, `${base}/ready`)
  } catch (error) {
    await endBoundChild(child, 0)
    throw new Error(`${(error as Error).message}; it logged:\n${lastLines(await log.text())}`)
  }
  return {
    url: `${base}/v1/events`,
    processes: [{ name, pid: child.pid }],
    async stop() {
      await endBoundChild(child, STOP_GRACE_MS)
    },
  }
}

async function ready(name: string, child: BoundChild, url: string): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  for (;;) {
    if (!isRunning(child)) throw new Error(`${name} ended (${endOf(child)})`)
    if (performance.now() > deadline) throw new Error(`${name} is not ready after ${READY_TIMEOUT_MS} ms`)
    const answer = await fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).catch(() => undefined)
    if (answer?.ok) return
    await Bun.sleep(PROBE_PAUSE_MS)
  }
}
