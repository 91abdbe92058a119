import { expect, test } from 'bun:test'
import { faultNamed } from './faults.ts'
import { type NodeCount, runFault, seedOf } from './stage.ts'

/** Several times what a run takes on two idle cores. */
const TIMEOUT_MS = 300_000

/** A test that runs a fault in its short form and prints its report. Set FAULT_SEED to repeat a run. */
export function faultTest(name: string, promise: string, nodes?: NodeCount): void {
  test(
    promise,
    async () => {
      const { verdict, wrong } = await runFault(
        faultNamed(name),
        { seed: seedOf(), short: true, ...(nodes === undefined ? {} : { nodes }) },
        (text) => void process.stderr.write(`${text}\n`),
      )
      expect({ violations: verdict.violations, wrong }).toEqual({ violations: [], wrong: [] })
    },
    TIMEOUT_MS,
  )
}
