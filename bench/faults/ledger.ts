import { eventIdentity } from '../../shared/events/identity.ts'
/** What was sent and what was answered: besides the log, the only basis for judging the services. */

/** What a response says about one event. */
export type Answer =
  /** 202, or a receipt's line: the event is stored at this position. */
  | { kind: 'acknowledged'; partition: number; offset: number }
  /** 4xx, or 503 with "not stored": the event is not in the log. */
  | { kind: 'refused'; status: number }
  /** No response, an incomplete one, or 503 with "unknown". */
  | { kind: 'unknown'; reason: string }

/** An event, and each time it was sent. */
export interface Entry {
  readonly source: string
  readonly id: string
  /** The expected record key; null for none. */
  readonly key: string | null
  /** The expected outcome once it is in the log. */
  readonly expected: 'processed' | 'dead'
  readonly answers: Answer[]
}

/** Entries are added before the request is sent, so that the ledger has every event in the log. */
export class Ledger {
  readonly #entries = new Map<string, Entry>()

  /** Notes that an event is about to be sent, possibly again. @returns a function that takes the answer, which is unknown until then */
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

  /** Forgets everything that was judged. */
  clear(): void {
    this.#entries.clear()
  }

  get size(): number {
    return this.#entries.size
  }
}
