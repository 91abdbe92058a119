import { join } from 'node:path'
import { isRunning, spawnBoundChild } from '../dev/bound-child.ts'
import { shortLine } from '../service/log-schema.ts'
import { until } from './until.ts'

/** How long a service may take to start, including the first load of the native addon. */
const START_TIMEOUT_MS = 20_000

/** A service as a process of its own. */
export interface ServiceProcess {
  pid: number
  /** The fields of its start-up line and, of a producer whose public port is open, that `port`. */
  readonly started: Record<string, unknown>
  /** Every line it has logged, with the code's names for the fields. */
  log: Record<string, unknown>[]
  /** The same lines as they were printed. */
  readonly lines: readonly Record<string, unknown>[]
  /** All that it has printed. */
  readonly output: string
  running(): boolean
  /** Sends the signal and waits for the end. @returns the exit code */
  stop(signal?: NodeJS.Signals): Promise<number>
}

/** Where each service begins, from the root of the checkout. */
export const MAIN = {
  producer: 'producer/main.ts',
  consumer: 'consumer/main.ts',
  console: 'consumer/console/main.ts',
} as const

export type ServiceKind = keyof typeof MAIN

/** Starts a service on free ports, with only this environment. */
export async function startService(service: ServiceKind, env: Record<string, string>): Promise<ServiceProcess> {
  const { PATH = '', HOME = '' } = process.env
  // The child ends with this process, also when a test fails before it stops it.
  const child = spawnBoundChild([process.execPath, join(import.meta.dir, '../..', MAIN[service])], {
    env: { PATH, HOME, PORT: '0', OPS_PORT: '0', LOG_FORMAT: 'json', ...env },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const lines: Record<string, unknown>[] = []
  const log: Record<string, unknown>[] = []
  let errors = ''
  const reading = [
    eachLine(child.stdout, (text) => {
      const line = JSON.parse(text) as Record<string, unknown>
      lines.push(line)
      log.push(shortLine(line))
    }),
    eachLine(child.stderr, (line) => {
      errors += `${line}\n`
    }),
  ]
  const line = () => log.find((one) => one['msg'] === `${service} started`)
  await until(() => line() !== undefined || child.exitCode !== null, {
    timeoutMs: START_TIMEOUT_MS,
    what: `${service} to start: ${errors}`,
  })
  const started = line()
  if (started === undefined) throw new Error(`${service} ended with ${child.exitCode}:\n${errors}`)
  return {
    pid: child.pid,
    get started() {
      return { ...started, ...log.find((one) => one['msg'] === 'listening on the public port') }
    },
    log,
    lines,
    running: () => isRunning(child),
    get output() {
      return `${log.map((one) => JSON.stringify(one)).join('\n')}\n${errors}`
    },
    async stop(signal = 'SIGTERM') {
      child.kill(signal)
      const code = await child.exited
      await Promise.all(reading)
      return code
    },
  }
}

/** What `/readyz` says. */
export interface Readiness {
  ok: boolean
  degraded?: boolean
  checks: { name: string; ok: boolean; reason?: string; detail?: string }[]
}

export const readinessOf = async ({ started }: Pick<ServiceProcess, 'started'>): Promise<Readiness> =>
  (await fetch(`http://127.0.0.1:${started['opsPort']}/readyz`)).json() as Promise<Readiness>

/** Calls `take` with each non-empty line of a stream, until the stream ends. */
export async function eachLine(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') take(line)
  }
}
