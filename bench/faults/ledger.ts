import { eventIdentity } from '../../shared/events/identity.ts'
/** What was sent, and what was answered: the only thing that a verdict about the services may rest on beside the log itself. */

/** What a request's answer says of one event. */
export type Answer =
  /** 202, or a receipt's line: it is said to stand there. */
  | { kind: 'acknowledged'; partition: number; offset: number }
  /** 4xx, or 503 with "not stored": it is said not to be in the log. */
  | { kind: 'refused'; status: number }
  /** No answer, one that was cut off, or 503 with "unknown". */
  | { kind: 'unknown'; reason: string }

/** An event, and each time it was sent. */
export interface Entry {
  readonly source: string
  readonly id: string
  /** The record key that it must have; null for none. */
  readonly key: string | null
  /** What is to become of it once it is in the log. */
  readonly expected: 'processed' | 'dead'
  readonly answers: Answer[]
}

/** A ledger is written before the request leaves, so that no event can be in the log that is not in here. */
export class Ledger {
  readonly #entries = new Map<string, Entry>()

  /** Notes that an event is about to be sent, again or for the first time. Returns what takes the answer; until then it is unknown. */
  send(event: Omit<Entry, 'answers'>): (answer: Answer) => void {
    const identity = eventIdentity(event.source, event.id)
    let entry = this.#entries.get(identity)
    if (entry === undefined) {
      entry = { ...event, answers: [] }
      this.#entries.set(identity, entry)
    }
    const { answers } = entry
    const turn = answers.push({ kind: 'unknown', reason: 'not answered' }) - 1
    return (answer) => {
      answers[turn] = answer
    }
  }

  entries(): Entry[] {
    return [...this.#entries.values()]
  }

  /** All answers, by what they say. */
  answers(): Record<Answer['kind'], number> {
    const counts = { acknowledged: 0, unknown: 0, refused: 0 }
    for (const { answers } of this.#entries.values()) for (const { kind } of answers) counts[kind]++
    return counts
  }

  /** Forgets everything: what has been judged, and is not there to be judged again. */
  clear(): void {
    this.#entries.clear()
  }

  get size(): number {
    return this.#entries.size
  }
}
