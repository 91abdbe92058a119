import type { Event } from '../shared/events/event.ts'
import type { IncomingRecord, OutgoingRecord, PassedRecord } from '../shared/events/record.ts'
import type { Redact } from '../shared/service/redact.ts'
import { sleep } from '../shared/service/retry.ts'
import type { ConsumerConfig } from './config.ts'
import { deadLetter } from './dead-letter.ts'
import { type Decoded, decode, keyOf } from './decode.ts'
import type { Deduplication } from './dedupe.ts'
import type { Context, ContextStart, Enricher } from './enrich.ts'
import { type Result, runAttempt } from './handlers/attempt.ts'
import type { RegisteredHandler } from './handlers/handler.ts'
import { processedRecord } from './processed.ts'
import { BEGINNING, decide, type Failure, failedBy, type Past, pastOf, retryRecord } from './retry.ts'

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
  /** Its outcome continues the trace of its processing. */
  isTraced = false
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
  const { tenant, stream, dedupe } = partition
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
  const origin = { tenant, stream, receivedAtMs, timestampMs: record.timestampMs }
  const context = deps.enrich(event, origin, registered)
  if (registered !== undefined) return handle(job, event, context, registered, partition, deps)
  return { kind: 'processed', output: processedRecord(record, event, partition.processedTopic, context, undefined) }
}

/**
 * The outcome of an event that is only passed on, without decoding it: most of a backlog.
 * @returns undefined where its attributes or its key are needed
 */
function passOn({ record, role, isTraced }: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | undefined {
  const { plain } = record
  if (plain === undefined || role === 'retry' || isTraced || partition.waitingRecords > 0) return undefined
  if (deps.contextStart === undefined || deps.config.UNHANDLED !== 'pass' || deps.handlerOf(plain.type) !== undefined)
    return undefined
  const { processedTopic, tenant, stream, dedupe } = partition
  if (!dedupe.finishNew(plain.identityHash)) return undefined
  const contextStart = deps.contextStart(tenant, stream)
  return { kind: 'processed', output: { topic: processedTopic, passed: record, tenant, contextStart } }
}

/** Calls the handler, several times while its failures are to be retried at once. */
async function handle(
  job: Job,
  event: Event,
  context: Context,
  registered: RegisteredHandler,
  partition: PartitionView,
  deps: ConsumeDeps,
): Promise<Outcome> {
  const { record, role, past } = job
  const { signal, processedTopic } = partition
  const { config } = deps
  for (let quickAttempt = 1; ; quickAttempt++) {
    const attempt = past.attempts + quickAttempt
    let handled: Result
    try {
      handled = await runAttempt(registered, { event, context, attempt }, signal, config.HANDLER_TIMEOUT_MS)
    } catch (error) {
      if (signal.aborted) return { kind: 'abandoned' }
      const failed = failedBy(error, deps.redact)
      const tried: Past = { ...past, attempts: attempt }
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
    return { kind: 'processed', output: processedRecord(record, event, processedTopic, context, handled) }
  }
}
