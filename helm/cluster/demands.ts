import type { Outcome } from '../checks/check.ts'

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
