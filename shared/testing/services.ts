import { join } from 'node:path'
import { type BoundChild, endBoundChild, endOf, isRunning, spawnBoundChild } from '../dev/bound-child.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import { MAIN, type Readiness, type ServiceKind } from './service-process.ts'

/** The services as child processes that can be killed and restarted with the same environment. */

export interface Service {
  readonly name: string
  /** The public port, or the operations port of a service without a public one. */
  readonly port: number
  readonly opsPort: number
  /** The ID of the current process, or the last one. */
  pid(): number
  running(): boolean
  start(): void
  /** Resolves when every check of `/readyz` holds. @throws Error with the last lines of the log, when that takes too long or the process has ended */
  ready(): Promise<void>
  /** Whether every check of `/readyz` holds now. */
  isReady(): Promise<boolean>
  /** What `/readyz` says is wrong, or why it does not answer; undefined when it is ready. */
  unready(): Promise<string | undefined>
  /** Sends SIGKILL, like a crash between any two instructions. */
  kill(): Promise<void>
  /** Sends SIGTERM, then SIGKILL after the limit. */
  terminate(): Promise<Ending>
  /** Sends SIGSTOP: the process keeps its connections and does nothing. */
  freeze(): void
  /** Sends SIGCONT: the process continues, unaware of the time in between. */
  thaw(): void
  frozen(): boolean
  /** The sum of a metric over all labels. */
  metric(name: string): Promise<number>
  /** Everything that the current process, or the last one, has logged. */
  log(): Promise<string>
  /** Releases its ports. Call it after the last stop. */
  releasePorts(): void
  /** The last lines of its log, without routine ones. */
  lastLines(): Promise<string>
  /** How many lines that it has logged have the text. */
  linesWith(text: string): Promise<number>
}

/** How a process ended, and how long after SIGTERM. */
export interface Ending {
  /** The exit code, or the signal that ended it. */
  code: number | NodeJS.Signals
  seconds: number
}

const READY_TIMEOUT_MS = 45_000
const PROBE_PAUSE_MS = 20
const PROBE_TIMEOUT_MS = 2_000
const DRAIN_TIMEOUT_MS = 15_000
/** A service must end within this time of SIGTERM, whatever is unavailable. */
export const STOP_LIMIT_SECONDS = DRAIN_TIMEOUT_MS / 1_000 + 5
/** Longer than the limit: a SIGKILL means that the limit was exceeded. */
const TERMINATE_GRACE_MS = STOP_LIMIT_SECONDS * 1_000 + 5_000
const LINES_SHOWN = 15

const ROOT = join(import.meta.dir, '..', '..')

/** The environment of every service, besides its own variables. */
const COMMON_ENV = {
  NODE_ENV: 'development',
  LOG_FORMAT: 'json',
  OPS_HOST: '127.0.0.1',
  DRAIN_TIMEOUT_MS: String(DRAIN_TIMEOUT_MS),
}

/**
 * Prepares a service without starting it. Its ports are chosen once, so that a restart uses the same ones.
 * @param logDirectory receives a file with the output of all its processes
 * @param sharedPort the public port of another producer, to share with SO_REUSEPORT
 */
export async function createService(
  kind: ServiceKind,
  name: string,
  env: Record<string, string>,
  logDirectory: string,
  sharedPort?: number,
): Promise<Service> {
  const ports = await findFreePorts(sharedPort === undefined ? 2 : 1)
  const [opsPort = 0, port = sharedPort ?? 0] = ports
  const lives: { child: BoundChild; log: Bun.BunFile }[] = []
  let frozen = false
  const child = (): BoundChild => {
    const life = lives.at(-1)
    if (life === undefined) throw new Error(`${name} has not been started`)
    return life.child
  }
  const unready = async (): Promise<string | undefined> => {
    try {
      const response = await fetch(`http://127.0.0.1:${opsPort}/readyz`, {
        signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
      })
      const text = await response.text()
      return (JSON.parse(text) as Readiness).ok ? undefined : text
    } catch (error) {
      return (error as Error).message
    }
  }
  const lastLines = async (): Promise<string> => {
    const text = await Promise.all(lives.slice(-2).map(({ log }) => log.text().catch(() => '')))
    // Routine lines are in the file; here they would hide the others.
    const telling = text
      .join('')
      .trimEnd()
      .split('\n')
      .filter((line) => !line.startsWith('{"log.level":"info"'))
    return telling.slice(-LINES_SHOWN).join('\n') || '(nothing but ordinary steps)'
  }
  return {
    name,
    port: kind === 'consumer' ? opsPort : port,
    opsPort,
    pid: () => child().pid,
    running: () => lives.length > 0 && isRunning(child()),
    start() {
      if (lives.length > 0 && isRunning(child())) throw new Error(`${name} is running`)
      const log = Bun.file(join(logDirectory, `${name}-${lives.length + 1}.log`))
      const ports = kind !== 'consumer' ? { HOST: '127.0.0.1', PORT: String(port) } : {}
      const started = spawnBoundChild([process.execPath, join(ROOT, MAIN[kind])], {
        stdout: log,
        stderr: log,
        env: {
          PATH: process.env['PATH'],
          HOME: process.env['HOME'],
          ...COMMON_ENV,
          ...ports,
          OPS_PORT: String(opsPort),
          ...env,
        },
      })
      lives.push({ child: started, log })
      frozen = false
    },
    isReady: async () => (await unready()) === undefined,
    unready,
    async ready() {
      const deadline = performance.now() + READY_TIMEOUT_MS
      for (let why = await unready(); why !== undefined; why = await unready()) {
        const ended = !isRunning(child())
        if (ended || performance.now() > deadline) {
          const what = ended ? `ended (${endOf(child())})` : `is not ready after ${READY_TIMEOUT_MS} ms (${why})`
          throw new Error(`${name} ${what}; it logged:\n${await lastLines()}`)
        }
        await Bun.sleep(PROBE_PAUSE_MS)
      }
    },
    async kill() {
      child().kill('SIGKILL')
      await child().exited
    },
    freeze() {
      child().kill('SIGSTOP')
      frozen = true
    },
    thaw() {
      child().kill('SIGCONT')
      frozen = false
    },
    frozen: () => frozen,
    releasePorts: () => releasePorts(ports),
    async metric(wanted) {
      const response = await fetch(`http://127.0.0.1:${opsPort}/metrics`, {
        signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
      })
      const samples = (await response.text()).matchAll(/^(\w+)(?:\{.*\})? (\S+)$/gm)
      return [...samples].reduce((sum, [, found, value]) => (found === wanted ? sum + Number(value) : sum), 0)
    },
    log: async () => (await lives.at(-1)?.log.text()) ?? '',
    async terminate() {
      const begunMs = performance.now()
      await endBoundChild(child(), TERMINATE_GRACE_MS)
      return { code: endOf(child()), seconds: (performance.now() - begunMs) / 1000 }
    },
    lastLines,
    linesWith: async (text) => {
      const logs = await Promise.all(lives.map(({ log }) => log.text().catch(() => '')))
      return logs
        .join('')
        .split('\n')
        .filter((line) => line.includes(text)).length
    },
  }
}
