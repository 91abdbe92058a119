import type { Check, Outcome } from '../checks/check.ts'

/** Counts what holds, and keeps in words what does not. */
export class Demands {
  passed = 0
  readonly faults: string[] = []

  demand(holds: boolean, fault: string): void {
    if (holds) this.passed++
    else this.faults.push(fault)
  }

  outcome(): Outcome {
    return { passed: this.passed, faults: this.faults }
  }
}

type Say = (progress: string) => void

/**
 * A check that demands something of what its area has started.
 * @param start starts that, or returns what is there
 * @param counts what is demanded, in the plural
 */
export const demanding = <Started>(
  name: string,
  start: (say: Say) => Promise<Started>,
  play: (started: Started, demands: Demands, say: Say) => Promise<void>,
  counts = 'demands',
): Check => ({
  name,
  counts,
  async run(say) {
    const started = await start(say)
    const demands = new Demands()
    await play(started, demands, say)
    return demands.outcome()
  },
})
