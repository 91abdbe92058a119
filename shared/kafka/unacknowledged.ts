import type { Logger } from '../service/logger.ts'
import { Repeats } from '../service/repeats.ts'

/** How long a time-out says something of its topic where nothing else is sent to it. */
const COUNTS_MS = 60_000

const SAID_AGAIN_MS = 60_000

/**
 * Topics whose records time out. Such a topic is there, with leaders that answer, but for example with fewer in-sync replicas than it wants: the client tries
 * again until the delivery time-out is over, and does not say what the broker has answered.
 */
export class Unacknowledged {
  /** By topic: when a record last timed out, monotonic. None was acknowledged since. */
  readonly #timedOutMs = new Map<string, number>()
  readonly #repeats: Repeats

  constructor(
    private readonly log: Pick<Logger, 'warn'>,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.#repeats = new Repeats(SAID_AGAIN_MS, nowMs)
  }

  timedOut(topic: string): void {
    this.#timedOutMs.set(topic, this.nowMs())
    if (this.#repeats.isNew(topic)) this.log.warn({ topic }, 'records are not acknowledged in time')
  }

  acknowledged(topic: string): void {
    if (this.#timedOutMs.size > 0) this.#timedOutMs.delete(topic)
  }

  /** undefined: none has timed out lately, or one was acknowledged since. */
  reason(topic: string): string | undefined {
    const atMs = this.#timedOutMs.get(topic)
    if (atMs === undefined) return undefined
    if (this.nowMs() - atMs < COUNTS_MS)
      return `records of ${topic} are not acknowledged in time: too few in-sync replicas (min.insync.replicas), a full disk, or a broker that is too slow`
    this.#timedOutMs.delete(topic)
    return undefined
  }
}
