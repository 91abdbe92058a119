/** The parts of `bun run check:deploy` and `bun run check:cluster`: checks of deployments, each of which counts what it checked. */
import { run as runToEnd } from '../../shared/dev/run.ts'

export interface Outcome {
  /** How many things were right. */
  readonly passed: number
  /** What was wrong, one string each: where, what, and what to do. */
  readonly faults: readonly string[]
  /** What this machine could not look at, and who does instead. It counts neither as passed nor as failed. */
  readonly notChecked?: readonly string[]
}

export interface Check {
  readonly name: string
  /** What is counted, in the plural: "rule files". */
  readonly counts: string
  /** @param say reports the progress of a long check */
  run(say: (progress: string) => void): Promise<Outcome>
}

/** The outcome when each fault is one of the things that were checked. */
export const outcome = (count: number, faults: readonly string[]): Outcome => ({
  passed: Math.max(0, count - faults.length),
  faults,
})

/** The checks of one area: images, charts, monitoring, delivery. */
export interface Area {
  readonly name: string
  readonly checks: readonly Check[]
  /** Ends what its checks share and have started. Called once, after those that were run. @param hasFaults whether logs are worth keeping */
  readonly end?: (hasFaults: boolean) => Promise<void>
}

export const root = new URL('../..', import.meta.url).pathname.replace(/\/$/, '')

/** The default time-out, for downloads and compilation on a slow machine. */
const RUN_TIMEOUT_MS = 1_800_000

/** Runs a command to its end, by default in the project's root. */
export const run: typeof runToEnd = (command, options) =>
  runToEnd(command, { cwd: root, timeoutMs: RUN_TIMEOUT_MS, ...options })
