/**
 * How long large work may run in one turn of the event loop before other work gets its turn. With shorter turns NDJSON streams are a tenth slower, so a sole
 * tenant has longer ones: only its own requests and probes wait for them.
 */
const SHARED_TURN_MS = 5
const SOLE_TURN_MS = 20

/** Limits how much of each turn of the event loop goes to NDJSON streams and large bodies, and shares that among tenants in round-robin order. */
export class Turns {
  /** By tenant, in the order of their turns. */
  readonly #waiting = new Map<string, (() => void)[]>()
  readonly #isShared: () => boolean
  #hasBegun = false
  #endsMs = 0

  /** @param isShared whether several tenants may send now */
  constructor(isShared: () => boolean) {
    this.#isShared = isShared
  }

  /** To be called before each piece of work: undefined if it may run now, else a promise of its turn. */
  next(tenant: string): Promise<void> | undefined {
    if (!this.#hasBegun) this.#begin()
    else if (performance.now() >= this.#endsMs)
      return new Promise((resolve) => {
        const before = this.#waiting.get(tenant)
        if (before === undefined) this.#waiting.set(tenant, [resolve])
        else before.push(resolve)
      })
    return undefined
  }

  #begin(): void {
    this.#hasBegun = true
    this.#endsMs = performance.now() + (this.#isShared() ? SHARED_TURN_MS : SOLE_TURN_MS)
    setImmediate(() => this.#end())
  }

  #end(): void {
    this.#hasBegun = false
    const [first] = this.#waiting
    if (first === undefined) return
    const [tenant, waiting] = first
    const go = waiting.shift()
    this.#waiting.delete(tenant)
    if (waiting.length > 0) this.#waiting.set(tenant, waiting)
    this.#begin()
    go?.()
  }
}
