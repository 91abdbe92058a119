/** Elements of a list that are looked through in the time of a step. */
const ELEMENTS_A_STEP = 64

/** What is left of the steps that a comparison may take, so that it ends whatever the schemas. */
export class Work {
  constructor(private left: number) {}

  get remaining(): number {
    return Math.max(0, this.left)
  }

  /** @throws OutOfWork when none is left */
  spend(steps = 1): void {
    this.left -= steps
    if (this.left < 0) throw new OutOfWork()
  }

  /** For a list that is copied or looked through. @throws OutOfWork when none is left */
  spendOn(elements: number): void {
    this.spend(Math.floor(elements / ELEMENTS_A_STEP))
  }
}

export class OutOfWork extends Error {
  override readonly name = 'OutOfWork'
}
