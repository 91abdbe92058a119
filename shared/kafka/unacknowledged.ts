import type { Logger } from '../service/logger.ts'
import { Repeats } from '../service/repeats.ts'

/** Why a topic's records are not stored, by what the last one came to. */
const REASONS = {
  late: (topic: string) =>
    `records of ${topic} are not acknowledged in time: too few in-sync replicas (min.insync.replicas), a full disk, or a broker that is too slow`,
  time: (topic: string) =>
    `${topic} refuses the time of records: compare this host’s clock with the brokers’, and see the topic’s message.timestamp.before.max.ms and message.timestamp.after.max.ms`,
}

/** What the log says of it. */
const SAID: Readonly<Record<keyof typeof REASONS, string>> = {
  late: 'records are not acknowledged in time',
  time: 'the time of records is refused: compare this host’s clock with the brokers’',
}

/** How long a record that was not stored says something of its topic where nothing else is sent to it. */
const COUNTS_MS = 60_000

const SAID_AGAIN_MS = 60_000

/**
 * Topics whose records are not stored although such a topic is there, with leaders that answer. Records time out, for example with fewer in-sync replicas than it
 * wants: the client tries again until the delivery time-out is over, and does not say what the broker has answered. Or their time, which is this host's, is
 * further from the brokers' than the topic allows.
 */
export class Unacknowledged {
  /** By topic: when a record was last not stored, monotonic, and why. None was acknowledged since. */
  readonly #last = new Map<string, { atMs: number; why: keyof typeof REASONS }>()
  readonly #repeats: Repeats

  constructor(
    private readonly log: Pick<Logger, 'warn'>,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.#repeats = new Repeats(SAID_AGAIN_MS, nowMs)
  }

  failed(topic: string, why: keyof typeof REASONS): void {
    this.#last.set(topic, { atMs: this.nowMs(), why })
    if (this.#repeats.isNew(`${why} ${topic}`)) this.log.warn({ topic }, SAID[why])
  }

  acknowledged(topic: string): void {
    if (this.#last.size > 0) this.#last.delete(topic)
  }

  /** undefined: none has failed so lately, or one was acknowledged since. */
  reason(topic: string): string | undefined {
    const last = this.#last.get(topic)
    if (last === undefined) return undefined
    if (this.nowMs() - last.atMs < COUNTS_MS) return REASONS[last.why](topic)
    this.#last.delete(topic)
    return undefined
  }
}
