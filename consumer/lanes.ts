/**
 * Order and concurrency: tasks of one lane run one after the other, different lanes beside each other. I5: a key is a lane.
 */
export class Lanes {
  /** What waits behind a lane's running task; a lane without a running task has no entry. */
  readonly #queues = new Map<string, (() => Promise<void> | undefined)[]>()

  /**
   * Runs the task now, or after those of its lane that are not done. A task that returns undefined is done when it returns.
   * @param lane undefined: ordered with nothing
   */
  submit(lane: string | undefined, task: () => Promise<void> | undefined): void {
    if (lane === undefined) {
      void task()
      return
    }
    const queue = this.#queues.get(lane)
    if (queue !== undefined) {
      queue.push(task)
      return
    }
    const running = task()
    if (running === undefined) return
    const behind: (() => Promise<void> | undefined)[] = []
    this.#queues.set(lane, behind)
    void this.#drain(lane, running, behind)
  }

  async #drain(lane: string, running: Promise<void>, behind: (() => Promise<void> | undefined)[]): Promise<void> {
    await running
    for (let next = 0; next < behind.length; next++) {
      await behind[next]?.()
      // A lane that is never empty must not keep what it has done.
      if (next >= COMPACT_AT) {
        behind.splice(0, next + 1)
        next = -1
      }
    }
    this.#queues.delete(lane)
  }
}

/** What is done at the front of a list that is worth moving the others for. */
const COMPACT_AT = 1024

/** Of those whose calls the slots let in, one. */
interface Caller {
  inside: number
  /** What waits is started by who leaves: thousands may wait, and each is no more than an entry here. */
  readonly waiting: (() => void)[]
  first: number
}

/**
 * Lets at most so many asynchronous calls run at a time; those that return at once take no place. Where there are several callers, one has no more places than stay
 * free for the others, and whoever has the fewest is let in first.
 */
export class Slots {
  #inside = 0
  /** As many as there are tenants. */
  readonly #callers = new Map<string, Caller>()

  /** @param hasOthers whether there is another caller than this one */
  constructor(
    readonly limit: number,
    readonly hasOthers: (caller: string) => boolean = () => false,
  ) {}

  get inside(): number {
    return this.#inside
  }

  /** Calls now, or when a place is free. */
  run<T>(call: () => T | Promise<T>, name = ''): T | Promise<T> {
    const caller = this.#callers.get(name)
    if ((caller === undefined || caller.waiting.length === 0) && this.#isFree(name, caller?.inside ?? 0))
      return this.#enter(call, name)
    return new Promise((resolve, reject) => {
      this.#callerOf(name).waiting.push(() => {
        try {
          resolve(this.#enter(call, name))
        } catch (error) {
          reject(error)
        }
      })
    })
  }

  #isFree(name: string, inside: number): boolean {
    const free = this.limit - this.#inside - 1
    return free >= 0 && (inside <= free || !this.hasOthers(name))
  }

  #callerOf(name: string): Caller {
    let caller = this.#callers.get(name)
    if (caller === undefined) {
      caller = { inside: 0, waiting: [], first: 0 }
      this.#callers.set(name, caller)
    }
    return caller
  }

  #enter<T>(call: () => T | Promise<T>, name: string): T | Promise<T> {
    const result = call()
    if (!(result instanceof Promise)) return result
    const caller = this.#callerOf(name)
    this.#inside++
    caller.inside++
    return result.finally(() => {
      this.#inside--
      caller.inside--
      this.#startWaiting()
    })
  }

  /** A call that takes no place, or throws before it could, passes it on to the next. */
  #startWaiting(): void {
    for (let caller = this.#next(); caller !== undefined; caller = this.#next()) {
      const start = caller.waiting[caller.first++]
      if (caller.first >= COMPACT_AT || caller.first === caller.waiting.length) {
        caller.waiting.splice(0, caller.first)
        caller.first = 0
      }
      start?.()
    }
  }

  /** Whose call is let in next; undefined when nobody's is. */
  #next(): Caller | undefined {
    let next: Caller | undefined
    let nextName = ''
    for (const [name, caller] of this.#callers)
      if (
        caller.waiting.length > 0 &&
        (next === undefined || caller.inside < next.inside) &&
        this.#isFree(name, caller.inside)
      )
        [nextName, next] = [name, caller]
    // Of those with as few, the one that was let in last is the last: with fewer places than callers the others would never be.
    if (next !== undefined) {
      this.#callers.delete(nextName)
      this.#callers.set(nextName, next)
    }
    return next
  }
}

/** Calls one after the other, through slots that others may share: what comes while one waits for its turn is made part of it. */
export class Together<T, R> {
  #next: { items: T[]; result: Promise<R> } | undefined

  constructor(
    readonly slots: Slots,
    readonly call: (items: readonly T[]) => Promise<R>,
  ) {}

  /**
   * {@link run} of one item, in every other attempt alone: another one may make the call fail for all.
   * @param attempt from 1
   */
  async attempt(item: T, attempt: number): Promise<R> {
    return attempt % 2 === 1 ? this.run([item]) : this.slots.run(() => this.call([item]))
  }

  /** @returns the result of the call that these were part of */
  run(items: readonly T[]): Promise<R> {
    if (this.#next !== undefined) {
      this.#next.items.push(...items)
      return this.#next.result
    }
    const taken = [...items]
    const turn = async (): Promise<R> => {
      this.#next = undefined
      return this.call(taken)
    }
    // Not at once, so that what comes in the same moment is part of it.
    const result = Promise.resolve().then(() => this.slots.run(turn))
    this.#next = { items: taken, result }
    return result
  }
}
