import { Recent } from './recent.ts'

const KEPT = 200

/** Tells what is said again from what is new, for logs of what is tried again and again. */
export class Repeats {
  readonly #saidMs = new Recent<number>(KEPT)

  constructor(
    private readonly everyMs: number,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** Whether this was not said in the time before. If so, it counts as said now. */
  isNew(what: string): boolean {
    const nowMs = this.nowMs()
    const saidMs = this.#saidMs.get(what)
    if (saidMs !== undefined && nowMs - saidMs < this.everyMs) return false
    this.#saidMs.set(what, nowMs)
    return true
  }
}
