import { ATTEMPTS, headerText, type RecordHeaders } from '../shared/events/headers.ts'

/** A failed attempt, as in the `kt-attempts` header. */
export interface Attempt {
  /** Counted from 1. */
  attempt: number
  /** When it failed, ms since the epoch. */
  atMs: number
  reason: string
  /** Without credentials, at most {@link MAX_MESSAGE_CHARS}. */
  message: string
}

export const NO_ATTEMPTS: readonly Attempt[] = []

const MAX_ATTEMPTS_KEPT = 10
const MAX_MESSAGE_CHARS = 200
const MAX_REASON_CHARS = 50

/** The attempts with another one behind them; the oldest are dropped. */
export const withAttempt = (
  before: readonly Attempt[],
  attempt: number,
  atMs: number,
  { reason, message }: Pick<Attempt, 'reason' | 'message'>,
): readonly Attempt[] => [
  ...before.slice(1 - MAX_ATTEMPTS_KEPT),
  { attempt, atMs, reason, message: message.slice(0, MAX_MESSAGE_CHARS).toWellFormed() },
]

/** The `kt-attempts` header's value; undefined without a failed attempt. */
export const attemptsText = (failed: readonly Attempt[]): string | undefined =>
  failed.length === 0 ? undefined : JSON.stringify(failed)

/** The failed attempts that a record of ours tells of, oldest first; none where the header is not as we write it. */
export function attemptsIn(headers: RecordHeaders): readonly Attempt[] {
  const text = headerText(headers, ATTEMPTS)
  if (text === undefined) return NO_ATTEMPTS
  try {
    const read: unknown = JSON.parse(text)
    return Array.isArray(read) && read.length <= MAX_ATTEMPTS_KEPT && read.every(isAttempt) ? read : NO_ATTEMPTS
  } catch {
    return NO_ATTEMPTS
  }
}

function isAttempt(read: unknown): read is Attempt {
  if (typeof read !== 'object' || read === null) return false
  const { attempt, atMs, reason, message } = read as Partial<Record<keyof Attempt, unknown>>
  return (
    Number.isSafeInteger(attempt) &&
    Number.isSafeInteger(atMs) &&
    typeof reason === 'string' &&
    reason.length <= MAX_REASON_CHARS &&
    typeof message === 'string' &&
    message.length <= MAX_MESSAGE_CHARS
  )
}
