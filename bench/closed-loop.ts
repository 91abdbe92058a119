import { join } from 'node:path'
import type { Latency } from './result.ts'
import { startWorker, type Worker } from './worker.ts'

/** Saturation: as many requests as connections are always under way, made by autocannon in a process of its own. */

/** What the process is told, as a file of JSON. */
export interface ClosedLoad {
  /** `http://host:port`. */
  origin: string
  connections: number
  warmUpSeconds: number
  seconds: number
  eventsPerRequest: number
  /** The answer is a stream of lines whose last says how many events are stored. */
  ndjson: boolean
  requests: LoadRequest[]
}

export interface LoadRequest {
  path: string
  headers: Record<string, string>
  body: string
}

/** What the process prints, in this order. Between `begun` and `ended` it measured. */
export type ClosedLine = { phase: 'begun' } | { phase: 'ended' } | ({ phase: 'done' } & ClosedOutcome)

export interface ClosedOutcome {
  seconds: number
  /** Answered with 2xx while it was measured, and what they acknowledged. */
  requests: number
  events: number
  toAnswer: Latency
  /** While it was measured, by kind. */
  errors: Record<string, number>
  /** Warm-up included. */
  acknowledgedEvents: number
}

/**
 * Node, where there is one: on it autocannon makes a quarter more requests a second of CPU time than on Bun (measured: 95 and 76 thousand), which
 * leaves more of the machine to what is measured.
 */
export const closedLoopRuntime = (): { name: string; path: string } => {
  const node = Bun.which('node')
  return node === null ? { name: 'Bun', path: process.execPath } : { name: 'Node', path: node }
}

/** Begins to load. @param directory for the plan and the program */
export async function startClosedLoop(load: ClosedLoad, directory: string): Promise<Worker<ClosedLine>> {
  const plan = join(directory, 'closed-loop.json')
  await Bun.write(plan, JSON.stringify(load))
  // Node reads no TypeScript, and nothing outside of the project finds its packages.
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

/** The requests of one of so many connections: together all, each as few as possible, since every connection holds a copy of its own. */
export function shareOf<T>(requests: readonly T[], connection: number, connections: number): T[] {
  const count = Math.max(1, Math.ceil(requests.length / connections))
  return Array.from(
    { length: count },
    (_, index) => requests[(connection + index * connections) % requests.length] as T,
  )
}

/** How many events the answer to an NDJSON stream acknowledges: what its summary says, and none without one. */
export function storedOf(status: number, body: string): number {
  if (status !== 200) return 0
  const stored = /"summary":\{[^{}]*"stored":(\d+)/.exec(body.slice(-SUMMARY_CHARACTERS))?.[1]
  return Number(stored ?? 0)
}

/** Longer than the line of the summary. */
const SUMMARY_CHARACTERS = 300
