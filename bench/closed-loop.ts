import { join } from 'node:path'
import type { Latency } from './result.ts'
import { startWorker, type Worker } from './worker.ts'

/** Saturation: every connection always has one request under way. autocannon generates the load in its own process. */

/** The process's input, a JSON file. */
export interface ClosedLoad {
  /** `http://host:port`. */
  origin: string
  connections: number
  warmUpSeconds: number
  seconds: number
  eventsPerRequest: number
  /** The response is a stream of lines. Its last line says how many events are stored. */
  ndjson: boolean
  requests: LoadRequest[]
}

export interface LoadRequest {
  path: string
  headers: Record<string, string>
  body: string
}

/** What the process prints, in this order. It measures between `begun` and `ended`. */
export type ClosedLine = { phase: 'begun' } | { phase: 'ended' } | ({ phase: 'done' } & ClosedOutcome)

export interface ClosedOutcome {
  seconds: number
  /** Requests answered with 2xx during the measurement, and the events that they acknowledged. */
  requests: number
  events: number
  toAnswer: Latency
  /** During the measurement, by kind. */
  errors: Record<string, number>
  /** Including the warm-up. */
  acknowledgedEvents: number
}

/**
 * Node where it is installed: there autocannon makes a quarter more requests a second of CPU time than on Bun (measured: 95 and 76 thousand), which
 * leaves more of the machine to the measured system.
 */
export const closedLoopRuntime = (): { name: string; path: string } => {
  const node = Bun.which('node')
  return node === null ? { name: 'Bun', path: process.execPath } : { name: 'Node', path: node }
}

/** Starts the load. @param directory for the plan and the program */
export async function startClosedLoop(load: ClosedLoad, directory: string): Promise<Worker<ClosedLine>> {
  const plan = join(directory, 'closed-loop.json')
  await Bun.write(plan, JSON.stringify(load))
  // Node does not load TypeScript, and packages do not resolve outside the project.
  const { outputs } = await Bun.build({
    entrypoints: [join(import.meta.dir, 'closed-loop-worker.ts')],
    target: 'node',
    format: 'esm',
    outdir: directory,
    naming: '[name].mjs',
  })
  const program = outputs[0]?.path
  if (program === undefined) throw new Error('the closed-loop generator could not be bundled')
  return startWorker<ClosedLine>('the closed-loop generator', [closedLoopRuntime().path, program, plan])
}

/** The requests of one connection. All connections together send all requests; each gets as few as possible, since it holds its own copies. */
export function shareOf<T>(requests: readonly T[], connection: number, connections: number): T[] {
  const count = Math.max(1, Math.ceil(requests.length / connections))
  return Array.from(
    { length: count },
    (_, index) => requests[(connection + index * connections) % requests.length] as T,
  )
}

/** How many events an NDJSON response acknowledges, from its summary; 0 without one. */
export function storedOf(status: number, body: string): number {
  if (status !== 200) return 0
  const stored = /"summary":\{[^{}]*"stored":(\d+)/.exec(body.slice(-SUMMARY_CHARACTERS))?.[1]
  return Number(stored ?? 0)
}

/** Longer than the summary line. */
const SUMMARY_CHARACTERS = 300
