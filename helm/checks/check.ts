/** What `bun run check:deploy` is made of: checks of what is deployed, each of which counts what it looked at. */

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

export interface Ran {
  readonly exitCode: number
  readonly output: string
  readonly errors: string
}

/** Of commands that have no bound of their own: for what is downloaded and compiled on a slow machine. */
const RUN_TIMEOUT_MS = 1_800_000

/** Runs a command to its end, in the project's root unless told otherwise. It failing, or being ended by the time-out, is a result, not an error. */
export async function run(
  command: readonly [string, ...string[]],
  options: { cwd?: string; env?: Record<string, string>; input?: string; timeoutMs?: number } = {},
): Promise<Ran> {
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdin: options.input === undefined ? 'ignore' : Buffer.from(options.input),
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: options.timeoutMs ?? RUN_TIMEOUT_MS,
  })
  const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return { exitCode, output, errors }
}
