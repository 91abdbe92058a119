/**
 * Order and concurrency: tasks of one lane run one after the other, different lanes beside each other.
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

/** Done tasks at the front of a lane that are worth moving the others for. */
const COMPACT_AT = 1024

/** Lets at most so many asynchronous calls run at a time; those that return at once take no place. */
export class Gate {
  #inside = 0
  readonly #waiting: (() => void)[] = []

  constructor(readonly limit: number) {}

  get inside(): number {
    return this.#inside
  }

  /** Calls now, or when a place is free. */
  run<T>(call: () => T | Promise<T>): T | Promise<T> {
    return this.#inside < this.limit ? this.#enter(call) : this.#later(call)
  }

  #enter<T>(call: () => T | Promise<T>): T | Promise<T> {
    const result = call()
    if (!(result instanceof Promise)) return result
    this.#inside++
    return result.finally(() => {
      this.#inside--
      this.#waiting.shift()?.()
    })
  }

  async #later<T>(call: () => T | Promise<T>): Promise<T> {
    while (this.#inside >= this.limit) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await this.#enter(call)
    } finally {
      // A call that took no place, or threw before it could, passes on the one that was freed for it.
      if (this.#inside < this.limit) this.#waiting.shift()?.()
    }
  }
}
