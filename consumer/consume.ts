import type { Event } from '../shared/events/event.ts'
import type { IncomingRecord, OutgoingRecord, PassedRecord } from '../shared/events/record.ts'
import type { Redact } from '../shared/service/redact.ts'
import { sleep } from '../shared/service/retry.ts'
import type { ConsumerConfig } from './config.ts'
import { deadLetter } from './dead-letter.ts'
import { type Decoded, decode, keyOf } from './decode.ts'
import type { Deduplication } from './dedupe.ts'
import { type Context, type ContextStart, contextEnd, type Enricher, nameOf, type RecordOrigin } from './enrich.ts'
import type { EventTrace } from './event-trace.ts'
import { type Attempt, withAttempt } from './failed-attempts.ts'
import { type Given, type Result, runAttempt } from './handlers/attempt.ts'
import type { RegisteredHandler } from './handlers/handler.ts'
import { fitOf } from './handlers/versions.ts'
import { processedRecord } from './processed.ts'
import {
  BEGINNING,
  decide,
  type Failure,
  failedBy,
  newerSchemaUntilMs,
  type Past,
  pastOf,
  retryRecord,
} from './retry.ts'

/** What happens to a record. {@link consume} has all branches of a record's life; everything that it calls computes and returns. */
export type Outcome =
  | { kind: 'processed'; output: OutgoingRecord | PassedRecord }
  /** `cause`: an error of our own code; `stack`, here and below: where a handler threw its error. */
  | { kind: 'dead'; output: OutgoingRecord; failure: Failure; stack?: string | undefined; cause?: unknown }
  /** Goes to `.retry`. It, and later events of its key, are processed from there. */
  | { kind: 'retry'; output: OutgoingRecord; failure: Failure; stack?: string | undefined }
  /** Seen before: nothing is written. `ofDead`: the earlier event is a dead letter. */
  | { kind: 'duplicate'; ofDead: boolean }
  /** Stays in `.retry` and is tried again. */
  | { kind: 'later'; past: Past; failure: Failure; stack?: string | undefined }
  /** The partition was revoked, or the process stops. The offset is not committed, so the partition's next owner processes the record. */
  | { kind: 'abandoned' }

/** An outcome that goes into a transaction. */
export type DecidedOutcome = Exclude<Outcome, { kind: 'later' | 'abandoned' }>

/** The part of a partition's state that a decision depends on. */
export interface PartitionView {
  /** The stream's own topic, also for records from `.retry`. */
  topic: string
  processedTopic: string
  tenant: string
  stream: string
  dedupe: Deduplication
  /** How many events wait in `.retry`. */
  waitingRecords: number
  /** Whether an earlier event of that key waits in `.retry`. */
  waits(key: string): boolean
  /** Aborted when the partition or the process stops work at once. */
  signal: AbortSignal
}

export interface ConsumeDeps {
  enrich: Enricher
  /** undefined: every event has to be decoded, since the reference table looks at its attributes. */
  contextStart: ContextStart | undefined
  handlerOf(type: string): RegisteredHandler | undefined
  config: ConsumerConfig
  /** Removes credentials from handlers' error messages. */
  redact: Redact
  nowMs(): number
  /** Called for each failed attempt that is followed by another at once. */
  onQuickRetry(): void
}

/** A record between its fetch and its outcome. Decoded on first use: many records wait, and a decoded one takes several times the memory. */
export class Job {
  /** undefined: no spans. */
  trace: EventTrace | undefined
  #key: string | null | undefined
  #decoded: Decoded | undefined
  #past: Past | undefined

  constructor(
    readonly record: IncomingRecord,
    readonly role: 'input' | 'retry',
  ) {}

  /** undefined for a record without a key, which is ordered with nothing. */
  get key(): string | undefined {
    if (this.#key === undefined) this.#key = keyOf(this.record) ?? null
    return this.#key ?? undefined
  }

  get decoded(): Decoded {
    this.#decoded ??= decode(this.record, this.past.origin)
    return this.#decoded
  }

  /** When the producer received the event, ms since the epoch; undefined for what is no event. */
  get receivedAtMs(): number | undefined {
    if (this.#decoded === undefined && this.record.plain !== undefined) return this.record.plain.receivedAtMs
    return this.decoded.ok ? this.decoded.receivedAtMs : undefined
  }

  get past(): Past {
    this.#past ??= this.role === 'retry' ? pastOf(this.record) : BEGINNING
    return this.#past
  }

  set past(past: Past) {
    this.#past = past
  }
}

/**
 * Decides a record's outcome; I3: every record has one. Returns no promise where nothing has to be waited for, as for most events without a handler.
 * Never throws: when our own code fails for a record, the record becomes a dead letter and does not block its partition.
 */
export function consume(job: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | Promise<Outcome> {
  const failed = (error: unknown): Outcome => {
    if (partition.signal.aborted) return { kind: 'abandoned' }
    const failure: Failure = { ...failedBy(error, deps.redact).failure, reason: 'internal error' }
    return { ...dead(job, partition, job.past, failure), cause: error }
  }
  try {
    const outcome = outcomeOf(job, partition, deps)
    return outcome instanceof Promise ? outcome.catch(failed) : outcome
  } catch (error) {
    return failed(error)
  }
}

const dead = ({ record }: Job, { topic }: PartitionView, past: Past, failure: Failure, stack?: string) => ({
  kind: 'dead' as const,
  output: deadLetter(record, topic, past, failure),
  failure,
  stack,
})

const retry = ({ record }: Job, { topic }: PartitionView, past: Past, failure: Failure, stack?: string) => ({
  kind: 'retry' as const,
  output: retryRecord(record, topic, past, failure),
  failure,
  stack,
})

/** The event is tried again at `past.notBeforeMs`: an input record goes to `.retry` for that, a record in `.retry` stays there. */
function later(job: Job, partition: PartitionView, past: Past, failure: Failure, stack?: string): Outcome {
  return job.role === 'retry' ? { kind: 'later', past, failure, stack } : retry(job, partition, past, failure, stack)
}

function outcomeOf(job: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | Promise<Outcome> {
  // The partition may have been revoked while the record waited for its turn.
  if (partition.signal.aborted) return { kind: 'abandoned' }
  const passed = passOn(job, partition, deps)
  if (passed !== undefined) return passed
  const { decoded, record, role, past, key } = job
  const { processedTopic, dedupe } = partition
  // A record in `.retry` was claimed by the input record that it is a copy of, so only an outcome makes it a duplicate.
  if (role === 'input' ? !dedupe.claim(decoded.identity) : dedupe.isDone(decoded.identity))
    return { kind: 'duplicate', ofDead: role === 'input' && dedupe.isDead(decoded.identity) }
  if (!decoded.ok) return dead(job, partition, past, { reason: 'undecodable', message: decoded.reason })
  if (role === 'input' && key !== undefined && partition.waits(key))
    return retry(job, partition, past, {
      reason: 'waits behind its key',
      message: 'an earlier event of the same key is being retried',
    })
  const { event, receivedAtMs } = decoded
  const registered = deps.handlerOf(event.type)
  if (registered === undefined && deps.config.UNHANDLED !== 'pass') {
    const failure: Failure = { reason: 'no handler', message: 'this consumer has no handler for its type' }
    if (deps.config.UNHANDLED === 'dead-letter') return dead(job, partition, past, failure)
    // This is no attempt, so an event never runs out of attempts by waiting.
    return later(job, partition, { ...past, notBeforeMs: deps.nowMs() + deps.config.RETRY_MAX_MS }, failure)
  }
  const fit = registered && fitOf(registered, record, event)
  if (fit?.kind === 'newer') return tooNew(job, partition, fit.message, deps)
  if (fit?.kind === 'no upcaster') return dead(job, partition, past, { reason: fit.kind, message: fit.message })
  const context = deps.enrich(event, originOf(record, partition, receivedAtMs), registered, fit?.raised)
  if (registered === undefined)
    return {
      kind: 'processed',
      output: processedRecord(record, event, processedTopic, context, undefined, past.failed),
    }
  const work: Work = {
    data: event.data,
    raisedFrom: fit?.raised?.version,
    event,
    context,
    output: (handled, failed) => processedRecord(record, event, processedTopic, context, handled, failed),
  }
  return handle(job, work, registered, partition, deps)
}

/** Waits for a handler that takes its version: not as an attempt, and not for ever. */
function tooNew(job: Job, partition: PartitionView, message: string, { config, nowMs }: ConsumeDeps): Outcome {
  const { past, record, role } = job
  const now = nowMs()
  const { NEWER_SCHEMA_TIMEOUT_MS } = config
  const leftMs = role === 'retry' ? newerSchemaUntilMs(record, config) - now : NEWER_SCHEMA_TIMEOUT_MS
  if (leftMs > 0)
    return later(
      job,
      partition,
      { ...past, notBeforeMs: now + Math.min(config.RETRY_MAX_MS, leftMs) },
      { reason: 'newer schema', message },
    )
  return dead(job, partition, past, {
    reason: 'newer schema',
    message: `${message}; it has waited for one for ${NEWER_SCHEMA_TIMEOUT_MS - leftMs} ms, and may for ${NEWER_SCHEMA_TIMEOUT_MS} ms`,
  })
}

const originOf = (
  { timestampMs }: IncomingRecord,
  { tenant, stream }: PartitionView,
  receivedAtMs: number | undefined,
): RecordOrigin => ({ tenant, stream, receivedAtMs, timestampMs })

/**
 * The outcome of an event that need not be decoded: most of a backlog.
 * @returns undefined where all of its attributes or its key are needed
 */
function passOn(job: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | Promise<Outcome> | undefined {
  const { record, role, trace } = job
  const { plain } = record
  if (plain === undefined || role === 'retry' || trace?.isSampled === true || partition.waitingRecords > 0)
    return undefined
  if (deps.contextStart === undefined) return undefined
  const registered = deps.handlerOf(plain.type)
  if (registered === undefined && deps.config.UNHANDLED !== 'pass') return undefined
  const fit = registered && fitOf(registered, record, undefined)
  if (fit !== undefined && fit.kind !== 'taken') return undefined
  const { processedTopic, tenant, stream, dedupe } = partition
  // Duplicates are left to those who know the identity.
  const isNew = registered === undefined ? dedupe.finishNew(plain.identityHash) : dedupe.claimHash(plain.identityHash)
  if (!isNew) return undefined
  const { text, processedAtMs } = deps.contextStart(tenant, stream)
  const output = {
    topic: processedTopic,
    passed: record,
    tenant,
    contextStart: text,
    contextEnd: contextEnd(registered, fit?.raised),
  }
  if (registered === undefined) return { kind: 'processed', output }
  return handle(
    job,
    new PlainWork(job, output, registered, fit?.raised, processedAtMs, partition, deps),
    registered,
    partition,
    deps,
  )
}

/** What a handler works on, and what becomes of its result. */
interface Work extends Given {
  /** @param failed the attempts before */
  output(handled: Result, failed: readonly Attempt[]): OutgoingRecord | PassedRecord
}

/** An event that is decoded if its handler wants it. */
class PlainWork implements Work {
  constructor(
    readonly job: Job,
    readonly passed: PassedRecord,
    readonly registered: RegisteredHandler,
    readonly raised: Context['schema'],
    readonly processedAtMs: number,
    readonly partition: PartitionView,
    readonly deps: ConsumeDeps,
  ) {}

  get data(): Buffer | null {
    return this.job.record.value
  }

  get raisedFrom(): number | undefined {
    return this.raised?.version
  }

  get event(): Event {
    const { decoded } = this.job
    if (!decoded.ok) throw new Error(`a plain event is not decoded: ${decoded.reason}`)
    return decoded.event
  }

  get context(): Context {
    const { job, partition, registered, raised, processedAtMs } = this
    const origin = originOf(job.record, partition, job.receivedAtMs)
    return this.deps.enrich(this.event, origin, registered, raised, processedAtMs)
  }

  output(result: Result, failed: readonly Attempt[]): OutgoingRecord | PassedRecord {
    if (failed.length === 0) return { ...this.passed, result }
    return processedRecord(this.job.record, this.event, this.passed.topic, this.context, result, failed)
  }
}

/** Calls the handler, several times while its failures are to be retried at once. */
function handle(
  job: Job,
  work: Work,
  registered: RegisteredHandler,
  partition: PartitionView,
  deps: ConsumeDeps,
): Outcome | Promise<Outcome> {
  const { trace } = job
  const run = (number: number): Result | Promise<Result> =>
    runAttempt(registered, work, number, partition.signal, deps.config.HANDLER_TIMEOUT_MS)
  const attempt =
    trace === undefined
      ? run
      : (number: number) =>
          trace.attempt(
            number,
            nameOf(registered),
            () => run(number),
            (error) => (partition.signal.aborted ? undefined : failedBy(error, deps.redact).failure),
          )
  let first: Result | Promise<Result>
  try {
    first = attempt(job.past.attempts + 1)
  } catch (error) {
    first = Promise.reject(error)
  }
  if (first instanceof Promise) return attempts(first, attempt, registered, job, work, partition, deps)
  return { kind: 'processed', output: work.output(first, job.past.failed) }
}

/** The first attempt has failed, or its handler has not answered yet. */
async function attempts(
  first: Promise<Result>,
  attemptAgain: (number: number) => Result | Promise<Result>,
  registered: RegisteredHandler,
  job: Job,
  work: Work,
  partition: PartitionView,
  deps: ConsumeDeps,
): Promise<Outcome> {
  const { role } = job
  const { signal } = partition
  const { config } = deps
  for (let quickAttempt = 1; ; quickAttempt++) {
    const { past } = job
    const attempt = past.attempts + 1
    let handled: Result
    try {
      handled = await (quickAttempt === 1 ? first : attemptAgain(attempt))
    } catch (error) {
      if (signal.aborted) return { kind: 'abandoned' }
      const failed = failedBy(error, deps.redact)
      failed.failure.handler = nameOf(registered)
      const tried: Past = {
        ...past,
        attempts: attempt,
        failed: withAttempt(past.failed, attempt, deps.nowMs(), failed.failure),
      }
      job.past = tried
      const decision = decide(config, failed, attempt, role === 'retry' ? config.QUICK_ATTEMPTS : quickAttempt)
      switch (decision.kind) {
        case 'dead':
          return dead(job, partition, tried, decision.failure, failed.stack)
        case 'later': {
          const waiting = { ...tried, notBeforeMs: deps.nowMs() + Math.round(decision.delayMs) }
          return later(job, partition, waiting, decision.failure, failed.stack)
        }
        case 'again':
          deps.onQuickRetry()
          await sleep(decision.delayMs, signal)
          if (signal.aborted) return { kind: 'abandoned' }
          continue
      }
    }
    return { kind: 'processed', output: work.output(handled, job.past.failed) }
  }
}
