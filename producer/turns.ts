/**
 * How long work that can wait may go on in a turn of the event loop; then whatever else has arrived is done first. Shorter turns cost streams a tenth of their
 * rate, so that a tenant who is alone has longer ones: nobody waits for them but its own requests, and probes.
 */
const SHARED_TURN_MS = 5
const SOLE_TURN_MS = 20

/**
 * The thread for those who have more to do than others can wait for, which are streams of lines and large bodies: so much of it in a turn of the event loop, and where that
 * is not enough for all, tenant after tenant.
 */
export class Turns {
  /** By tenant, in the order in which they have their turn. */
  readonly #waiting = new Map<string, (() => void)[]>()
  readonly #turnMs: number
  #hasBegun = false
  #endsMs = 0

  /** @param tenants how many may send */
  constructor(tenants: number) {
    this.#turnMs = tenants > 1 ? SHARED_TURN_MS : SOLE_TURN_MS
  }

  /** To be asked before each piece of work. undefined: it is to be done at once, else when the promise resolves. */
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
    this.#endsMs = performance.now() + this.#turnMs
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
