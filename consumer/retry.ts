import {
  ATTEMPT,
  ATTEMPTS,
  CONTEXT,
  ERROR,
  headerText,
  NOT_BEFORE,
  ORIGIN,
  RECEIVED_AT,
  type RecordHeaders,
  TENANT,
  TRANSACTION,
  withHeaders,
} from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { parseTopic, siblingTopic } from '../shared/events/topics.ts'
import type { Redact } from '../shared/service/redact.ts'
import { delayMs } from '../shared/service/retry.ts'
import { callsOf, messageOf } from '../shared/service/thrown.ts'
import type { ConsumerConfig } from './config.ts'
import { headerNumber, originOf, receivedAtMs } from './decode.ts'
import { type Attempt, attemptsIn, attemptsText, NO_ATTEMPTS } from './failed-attempts.ts'
import { holds } from './handlers/attempt.ts'
import { AttemptFault } from './handlers/attempt-fault.ts'
import { TerminalError } from './handlers/handler.ts'

/** The retry policy: a few attempts in a row, then attempts from `.retry`, then a dead letter. */
export type RetryConfig = Pick<
  ConsumerConfig,
  'QUICK_ATTEMPTS' | 'QUICK_RETRY_FIRST_MS' | 'QUICK_RETRY_MAX_MS' | 'MAX_ATTEMPTS' | 'RETRY_FIRST_MS' | 'RETRY_MAX_MS'
>

/** Why an event goes to `.retry` or `.dlq`. */
export const REASONS = [
  'undecodable',
  'invalid data',
  'invalid result',
  'handler failed',
  'handler timed out',
  'out of attempts',
  'waits behind its key',
  'no handler',
  /** Of a version that the handler does not take yet. */
  'newer schema',
  /** Of a version from which the handler has no upcaster. */
  'no upcaster',
  'result too large',
  /** An error of our own code. */
  'internal error',
] as const

export type Reason = (typeof REASONS)[number]

/** Reasons for `.retry` that are no failed attempt. */
export const WITHOUT_ATTEMPT: ReadonlySet<Reason> = new Set(['waits behind its key', 'no handler', 'newer schema'])

/** Until when a record of `.retry` waits for a handler that takes its version of the schema, ms since the epoch. */
export const newerSchemaUntilMs = (
  { timestampMs }: Pick<IncomingRecord, 'timestampMs'>,
  { NEWER_SCHEMA_TIMEOUT_MS }: Pick<ConsumerConfig, 'NEWER_SCHEMA_TIMEOUT_MS'>,
): number => timestampMs + NEWER_SCHEMA_TIMEOUT_MS

/** Why an event was retried or put aside: the `kt-error` header, as JSON. */
export interface Failure {
  reason: Reason
  message: string
  /** `type@version` of the handler that failed; absent where none was called. */
  handler?: string
}

/** The reason in the `kt-error` header; undefined where that is not as we write it. */
export function reasonIn({ headers }: Pick<IncomingRecord, 'headers'>): Reason | undefined {
  try {
    const { reason } = JSON.parse(headerText(headers, ERROR) ?? '{}')
    return REASONS.find((one) => one === reason)
  } catch {
    return undefined
  }
}

/** What follows a failed attempt. */
export type Decision =
  | { kind: 'again'; delayMs: number; failure: Failure }
  | { kind: 'later'; delayMs: number; failure: Failure }
  | { kind: 'dead'; failure: Failure }

/** A failed attempt. */
export interface Failed {
  failure: Failure
  /** Another attempt would fail, too. */
  isTerminal: boolean
  /** Where the handler threw, for the log; undefined when that is not known. */
  stack?: string | undefined
}

/** An {@link AttemptFault} may list many faults, and bounds its lists itself. */
const MAX_FAULT_CHARS = 2_500

/** Classifies what a handler threw, which may be anything. */
export function failedBy(thrown: unknown, redact: Redact): Failed {
  if (holds(() => thrown instanceof AttemptFault)) {
    const { reason } = thrown as AttemptFault
    const message = redact(messageOf(thrown, MAX_FAULT_CHARS))
    return { failure: { reason, message }, isTerminal: reason !== 'handler timed out' }
  }
  return {
    failure: { reason: 'handler failed', message: redact(messageOf(thrown)) },
    // By name, too: bundled handlers have their own copy of the class.
    isTerminal:
      holds(() => thrown instanceof TerminalError) ||
      holds(() => (thrown as { name?: unknown }).name === 'TerminalError'),
    stack: redact(callsOf(thrown) ?? '') || undefined,
  }
}

/**
 * Whether and when a failed attempt is followed by another.
 * @param attempt the number of attempts so far, including this one
 * @param quickAttempt the number of them in this row; attempts from `.retry` are single
 */
export function decide(
  config: RetryConfig,
  { failure, isTerminal }: Failed,
  attempt: number,
  quickAttempt: number,
  random: () => number = Math.random,
): Decision {
  // Another attempt would fail, too.
  if (isTerminal) return { kind: 'dead', failure }
  // Anything else may be temporary, but attempts are limited.
  if (attempt >= config.MAX_ATTEMPTS)
    return {
      kind: 'dead',
      failure: { ...failure, reason: 'out of attempts', message: `${attempt} attempts, the last: ${failure.message}` },
    }
  // A short outage may end before an event has gone through `.retry`.
  if (quickAttempt < config.QUICK_ATTEMPTS) {
    const quick = { firstMs: config.QUICK_RETRY_FIRST_MS, maxMs: config.QUICK_RETRY_MAX_MS }
    return { kind: 'again', delayMs: delayMs(quick, quickAttempt, random), failure }
  }
  // A longer outage: other keys go first. An event that waited behind its key comes from `.retry` with fewer attempts than a row has.
  const slowAttempt = Math.max(1, attempt - config.QUICK_ATTEMPTS + 1)
  const slow = { firstMs: config.RETRY_FIRST_MS, maxMs: config.RETRY_MAX_MS }
  return { kind: 'later', delayMs: delayMs(slow, slowAttempt, random), failure }
}

/** An event's earlier attempts. */
export interface Past {
  attempts: number
  notBeforeMs: number
  /** The place of the original record; undefined for an original. */
  origin: string | undefined
  /** The last of the attempts that failed. */
  failed: readonly Attempt[]
}

/** What a copy says of its past. */
export type CopyPast = Pick<Past, 'attempts' | 'origin' | 'failed'>

/** For records of a stream's own topic. Other clients write there, so headers that look like ours are ignored. */
export const BEGINNING: Readonly<Past> = { attempts: 0, notBeforeMs: 0, origin: undefined, failed: NO_ATTEMPTS }

/** For records of `.retry`, from their headers. */
export function pastOf(record: IncomingRecord): Past {
  return {
    attempts: headerNumber(record, ATTEMPT) ?? 0,
    notBeforeMs: headerNumber(record, NOT_BEFORE) ?? 0,
    origin: headerText(record.headers, ORIGIN),
    failed: attemptsIn(record.headers),
  }
}

const OURS = new Set<string>([ATTEMPT, ATTEMPTS, NOT_BEFORE, ERROR, ORIGIN, TRANSACTION, CONTEXT])

/** A record's headers without those that the consumer adds, and without those of other clients that only look like the producer's. */
export function originalHeaders(record: IncomingRecord): RecordHeaders {
  const { names, values } = record.headers
  const tenant = parseTopic(record.topic)?.tenant
  const isReceived = receivedAtMs(record) !== undefined
  const kept = names.map(
    (name, index) =>
      !OURS.has(name) && (name !== TENANT || values[index] === tenant) && (name !== RECEIVED_AT || isReceived),
  )
  return { names: names.filter((_, index) => kept[index]), values: values.filter((_, index) => kept[index]) }
}

/** A copy of a record, byte for byte, for a topic beside its own and the same partition, with headers about its past. */
export const copyOf = (record: IncomingRecord, topic: string, past: CopyPast, failure: Failure): OutgoingRecord => {
  const attempts = attemptsText(past.failed)
  return {
    topic,
    partition: record.partition,
    key: record.key,
    value: record.value,
    headers: withHeaders(originalHeaders(record), {
      [ATTEMPT]: String(past.attempts),
      [ERROR]: JSON.stringify(failure),
      [ORIGIN]: past.origin ?? originOf(record),
      ...(attempts !== undefined && { [ATTEMPTS]: attempts }),
    }),
  }
}

/** A record for `.retry`. */
export function retryRecord(record: IncomingRecord, input: string, past: Past, failure: Failure): OutgoingRecord {
  const copy = copyOf(record, siblingTopic(input, 'retry'), past, failure)
  return { ...copy, headers: withHeaders(copy.headers, { [NOT_BEFORE]: String(past.notBeforeMs) }) }
}
