/**
 * What of one input partition has been done, and what is being done: an event whose identity is in here is a duplicate.
 *
 * Done identities are a window over the latest outcomes. It is rebuilt from `.processed` and `.dlq` when the partition is assigned, and must
 * reach back further than the input is ever read again after a crash; how far beyond that it reaches decides how late a client may repeat
 * an event.
 */
export class Deduplication {
  readonly #done = new Set<string>()
  readonly #claimed = new Set<string>()

  /** @param capacity how many outcomes are remembered; the oldest is forgotten first */
  constructor(readonly capacity: number) {}

  /** Whether the event has had its outcome. */
  isDone(identity: string): boolean {
    return this.#done.has(identity)
  }

  /** Takes an event that is neither done nor in hand; false for a duplicate. */
  claim(identity: string): boolean {
    if (this.#done.has(identity) || this.#claimed.has(identity)) return false
    this.#claimed.add(identity)
    return true
  }

  /** The event has its outcome. */
  finish(identity: string): void {
    this.#claimed.delete(identity)
    this.#done.add(identity)
    if (this.#done.size <= this.capacity) return
    // A Set iterates in order of insertion: the first is the oldest.
    for (const oldest of this.#done) {
      this.#done.delete(oldest)
      break
    }
  }

  get size(): number {
    return this.#done.size
  }
}
