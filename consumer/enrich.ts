/** What is known of an event besides itself; the header `kt-context` of the record in `.processed`, as JSON. */
export interface Context {
  tenant: string
  stream: string
  /** When the producer took it; absent when somebody else wrote the record. ms since the epoch. */
  receivedAtMs?: number
  /** When its handling began, ms since the epoch. */
  processedAtMs: number
  /** From the event's own `time` to its receipt (or to the record's timestamp); negative when a clock is ahead. Absent without `time`. */
  latenessMs?: number
  /** `type@version` of the handler, absent for an event that passed through. */
  handler?: string
  /** SHA-256 of type, source, subject and data, the first 128 bits as hex: equal for equal content, whatever the id and time. */
  fingerprint: string
  /** What each look-up found, by the look-up's name. */
  lookups?: Record<string, LookupResult>
}

/** What a look-up gave. */
export type LookupResult =
  | { status: 'found'; value: unknown }
  | { status: 'missing' }
  /** Timed out, failed, or its circuit is open; enrichment never holds an event back. */
  | { status: 'unavailable'; reason: string }
