/** Tasks of one lane run one after the other, those of different lanes concurrently. I5: a key is a lane. */
export class Lanes<T> {
  /** Tasks behind a lane's running task; a lane without a running task has no entry. */
  readonly #queues = new Map<string, T[]>()

  /**
   * @param laneOf the lane of a task; undefined: it is ordered with nothing
   * @param run runs a task; it is finished when this returns undefined
   */
  constructor(
    readonly laneOf: (task: T) => string | undefined,
    readonly run: (task: T) => Promise<void> | undefined,
  ) {}

  /** Runs the task now, or after the unfinished ones of its lane. */
  submit(task: T): void {
    // Most tasks are finished at once while no lane is busy; their lanes need not be known.
    let lane = this.#queues.size === 0 ? undefined : this.laneOf(task)
    const queue = lane === undefined ? undefined : this.#queues.get(lane)
    if (queue !== undefined) {
      queue.push(task)
      return
    }
    const running = this.run(task)
    if (running === undefined) return
    lane ??= this.laneOf(task)
    if (lane === undefined) return
    const behind: T[] = []
    this.#queues.set(lane, behind)
    void this.#drain(lane, running, behind)
  }

  async #drain(lane: string, running: Promise<void>, behind: T[]): Promise<void> {
    await running
    for (let next = 0; next < behind.length; next++) {
      await this.run(behind[next] as T)
      // A lane may never become empty: drop finished tasks meanwhile.
      if (next >= COMPACT_AT) {
        behind.splice(0, next + 1)
        next = -1
      }
    }
    this.#queues.delete(lane)
  }
}

/** Finished entries are removed from the front of a list once there are this many. */
const COMPACT_AT = 1024

interface Caller {
  inside: number
  /** From `first`. Plain callbacks, since thousands may wait. */
  readonly waiting: (() => void)[]
  first: number
}

/**
 * Limits how many asynchronous calls run at a time; calls that return no promise take no slot. If there are several callers, none has more slots than are
 * left for the others, and the caller with the fewest goes first. A slot can be taken without a call, too.
 */
export class Slots {
  #inside = 0
  /** One for each tenant. */
  readonly #callers = new Map<string, Caller>()

  /** @param hasOthers whether there is another caller beside this one */
  constructor(
    readonly limit: number,
    readonly hasOthers: (caller: string) => boolean = () => false,
  ) {}

  get inside(): number {
    return this.#inside
  }

  /** Calls now, or when a slot is free. */
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

  /** How many more slots the caller can take now. */
  free(name: string): number {
    const free = this.limit - this.#inside
    const { inside } = this.#callerOf(name)
    // Each counts twice: the caller has one more, and one less is left for the others.
    return this.hasOthers(name) ? Math.max(0, Math.floor((free - inside + 1) / 2)) : free
  }

  /** Takes a slot now. @returns what gives it back; undefined where none is free for the caller */
  take(name: string): (() => void) | undefined {
    const caller = this.#callerOf(name)
    return caller.waiting.length === 0 && this.#isFree(name, caller.inside) ? this.#occupy(caller) : undefined
  }

  /** Takes a slot as soon as it is the caller's turn. @returns what gives it back; undefined where the end of waiting came first */
  async wait(name: string, end: Promise<unknown>): Promise<(() => void) | undefined> {
    const taken = this.take(name)
    if (taken !== undefined) return taken
    const caller = this.#callerOf(name)
    const { promise, resolve } = Promise.withResolvers<(() => void) | undefined>()
    const start = (): void => resolve(this.#occupy(caller))
    caller.waiting.push(start)
    void end.then(() => {
      const at = caller.waiting.indexOf(start, caller.first)
      if (at < 0) return
      caller.waiting.splice(at, 1)
      forgetStarted(caller)
      resolve(undefined)
    })
    return promise
  }

  #occupy(caller: Caller): () => void {
    this.#inside++
    caller.inside++
    let isGivenBack = false
    return () => {
      if (isGivenBack) return
      isGivenBack = true
      this.#inside--
      caller.inside--
      this.#startWaiting()
    }
  }

  #callerOf(name: string): Caller {
    const caller = this.#callers.get(name) ?? { inside: 0, waiting: [], first: 0 }
    this.#callers.set(name, caller)
    return caller
  }

  #enter<T>(call: () => T | Promise<T>, name: string): T | Promise<T> {
    const result = call()
    if (!(result instanceof Promise)) return result
    return result.finally(this.#occupy(this.#callerOf(name)))
  }

  /** A call that returns no promise, or throws, leaves its slot to the next. */
  #startWaiting(): void {
    for (let caller = this.#next(); caller !== undefined; caller = this.#next()) {
      const start = caller.waiting[caller.first++]
      forgetStarted(caller)
      start?.()
    }
  }

  /** The caller whose call starts next; undefined when none can. */
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
    // Moved to the end, so that callers with equally few slots take turns: with fewer slots than callers, some would never start.
    if (next !== undefined) {
      this.#callers.delete(nextName)
      this.#callers.set(nextName, next)
    }
    return next
  }
}

function forgetStarted(caller: Caller): void {
  if (caller.first < COMPACT_AT && caller.first < caller.waiting.length) return
  caller.waiting.splice(0, caller.first)
  caller.first = 0
}

/** Batches calls: items that arrive while a call waits for its slot become part of it. */
export class Together<T, R> {
  #next: { items: T[]; result: Promise<R> } | undefined

  constructor(
    readonly slots: Slots,
    readonly call: (items: readonly T[]) => Promise<R>,
  ) {}

  /**
   * {@link run} of one item; alone in every other attempt, since another item may make the call fail for all.
   * @param attempt from 1
   */
  async attempt(item: T, attempt: number): Promise<R> {
    return attempt % 2 === 1 ? this.run([item]) : this.slots.run(() => this.call([item]))
  }

  /** @returns the result of the call that the items were part of */
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
    // In a microtask, so that items that arrive in the same turn are part of the call.
    const result = Promise.resolve().then(() => this.slots.run(turn))
    this.#next = { items: taken, result }
    return result
  }
}
