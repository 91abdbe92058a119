/** What `bun run check:deploy` is made of: checks of what is deployed, each of which counts what it looked at. */
import { run as runToEnd } from '../../shared/dev/run.ts'

export interface Outcome {
  /** How many things were found right. */
  readonly passed: number
  /** What was found wrong, one text a thing: where, what, and what to do. */
  readonly faults: readonly string[]
}

export interface Check {
  readonly name: string
  /** What is counted, in the plural: "rule files". */
  readonly counts: string
  /** @param say tells what a long check is at */
  run(say: (progress: string) => void): Promise<Outcome>
}

/** Of so many things that were looked at, a fault each. */
export const outcome = (count: number, faults: readonly string[]): Outcome => ({
  passed: Math.max(0, count - faults.length),
  faults,
})

/** The checks of one area: images, charts, monitoring, delivery. */
export interface Area {
  readonly name: string
  readonly checks: readonly Check[]
}

export const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')

/** Of commands that have no bound of their own: for what is downloaded and compiled on a slow machine. */
const RUN_TIMEOUT_MS = 1_800_000

/** Runs a command to its end, in the project's root unless told otherwise. */
export const run: typeof runToEnd = (command, options) =>
  runToEnd(command, { cwd: root, timeoutMs: RUN_TIMEOUT_MS, ...options })
