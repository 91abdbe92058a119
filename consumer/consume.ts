import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import type { TopicRole } from '../shared/events/topics.ts'
import type { Redact } from '../shared/service/redact.ts'
import { sleep } from '../shared/service/retry.ts'
import type { ConsumerConfig } from './config.ts'
import { deadLetter } from './dead-letter.ts'
import { type Decoded, decode, keyOf } from './decode.ts'
import type { Deduplication } from './dedupe.ts'
import type { Enricher } from './enrich.ts'
import { type Result, runAttempt } from './handlers/attempt.ts'
import type { RegisteredHandler } from './handlers/handler.ts'
import { processedRecord } from './processed.ts'
import { BEGINNING, decide, type Failure, failedBy, type Past, pastOf, retryRecord } from './retry.ts'

/**
 * What becomes of a record. All branching of a record's life is in {@link consume}; everything it calls computes and returns.
 */
export type Outcome =
  | { kind: 'processed'; output: OutgoingRecord; receivedAtMs: number | undefined }
  /** `cause`: what our own code has thrown; `stack`, here and below: where a handler has. */
  | { kind: 'dead'; output: OutgoingRecord; failure: Failure; stack?: string | undefined; cause?: unknown }
  /** Goes to `.retry`; it, and what comes after it of the same key, is done from there. */
  | { kind: 'retry'; output: OutgoingRecord; failure: Failure; stack?: string | undefined }
  /** Seen before: nothing is written. `ofDead`: sent again, though its event is a dead letter. */
  | { kind: 'duplicate'; ofDead: boolean }
  /** Stays where it is, in `.retry`, and is tried again. */
  | { kind: 'later'; past: Past; failure: Failure; stack?: string | undefined }
  /** The process gives the record up; its offset is not committed, and whoever gets the partition does it. */
  | { kind: 'abandoned' }

/** What goes into a transaction. */
export type DecidedOutcome = Exclude<Outcome, { kind: 'later' | 'abandoned' }>

/** A record between its fetch and its outcome. */
export interface Job {
  record: IncomingRecord
  /** The stream's own topic, whichever of its topics the record is from. */
  input: string
  role: Extract<TopicRole, 'retry'> | 'input'
  tenant: string
  stream: string
  /** Made when it is asked for first. */
  readonly decoded: Decoded
  past: Past
  key: string | undefined
}

type JobPlace = Pick<Job, 'input' | 'role' | 'tenant' | 'stream'>

/** What of the partition's state a decision rests on. */
export interface PartitionView {
  dedupe: Deduplication
  /** Whether an earlier event of that key waits in `.retry`. */
  waits(key: string): boolean
  /** Aborted when the partition or the process is given up. */
  signal: AbortSignal
}

export interface ConsumeDeps {
  enrich: Enricher
  handlerOf(type: string): RegisteredHandler | undefined
  config: ConsumerConfig
  /** Leaves credentials out of what handlers' errors say. */
  redact: Redact
  nowMs(): number
  /** Told of every attempt that failed and is followed by another at once. */
  onQuickRetry(job: Job, failure: Failure): void
}

/** A record that is decoded when somebody asks: what is made of it takes several times its own memory, and many wait for their turn. */
class RecordJob implements Job {
  readonly input: string
  readonly role: Job['role']
  readonly tenant: string
  readonly stream: string
  readonly key: string | undefined
  #decoded: Decoded | undefined
  #past: Past | undefined

  constructor(
    readonly record: IncomingRecord,
    { input, role, tenant, stream }: JobPlace,
  ) {
    this.input = input
    this.role = role
    this.tenant = tenant
    this.stream = stream
    // Without a key nothing orders the records, so each is on its own.
    this.key = keyOf(record)
  }

  get decoded(): Decoded {
    this.#decoded ??= decode(this.record, this.past.origin)
    return this.#decoded
  }

  get past(): Past {
    this.#past ??= this.role === 'retry' ? pastOf(this.record) : BEGINNING
    return this.#past
  }

  set past(past: Past) {
    this.#past = past
  }
}

/** Makes a job of a record, which is decoded when its turn comes. */
export const jobOf = (record: IncomingRecord, place: JobPlace): Job => new RecordJob(record, place)

/**
 * Decides a record's outcome; I3: every record has one. Synchronous where nothing has to be waited for, since most records pass through without. It never throws: a record
 * that our own code cannot do is a dead letter like any other, and keeps nothing from going on.
 */
export function consume(job: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | Promise<Outcome> {
  const failed = (error: unknown): Outcome => {
    if (partition.signal.aborted) return { kind: 'abandoned' }
    const failure: Failure = { ...failedBy(error, deps.redact).failure, reason: 'internal error' }
    return { kind: 'dead', output: deadLetter(job.record, job.input, job.past, failure), failure, cause: error }
  }
  try {
    const outcome = outcomeOf(job, partition, deps)
    return outcome instanceof Promise ? outcome.catch(failed) : outcome
  } catch (error) {
    return failed(error)
  }
}

function outcomeOf(job: Job, partition: PartitionView, deps: ConsumeDeps): Outcome | Promise<Outcome> {
  const { decoded, record, input, role, past, key } = job
  // It may have waited for its turn while the partition was given up.
  if (partition.signal.aborted) return { kind: 'abandoned' }
  const { dedupe } = partition
  // A copy in `.retry` was claimed by the record that put it there; only its outcome makes it a duplicate.
  if (role === 'input' ? !dedupe.claim(decoded.identity) : dedupe.isDone(decoded.identity))
    return { kind: 'duplicate', ofDead: role === 'input' && dedupe.isDead(decoded.identity) }
  if (!decoded.ok) {
    const failure: Failure = { reason: 'undecodable', message: decoded.reason }
    return { kind: 'dead', output: deadLetter(record, input, past, failure), failure }
  }
  if (role === 'input' && key !== undefined && partition.waits(key)) {
    const failure: Failure = {
      reason: 'waits behind its key',
      message: 'an earlier event of the same key is being retried',
    }
    return { kind: 'retry', output: retryRecord(record, input, past, failure), failure }
  }
  const { event, receivedAtMs } = decoded
  const registered = deps.handlerOf(event.type)
  if (registered === undefined && deps.config.UNHANDLED !== 'pass') {
    const failure: Failure = { reason: 'no handler', message: 'this consumer has no handler for its type' }
    if (deps.config.UNHANDLED === 'dead-letter')
      return { kind: 'dead', output: deadLetter(record, input, past, failure), failure }
    // That is no attempt, so however long it waits, it never runs out of them.
    const waiting = { ...past, notBeforeMs: deps.nowMs() + deps.config.RETRY_MAX_MS }
    if (role === 'retry') return { kind: 'later', past: waiting, failure }
    return { kind: 'retry', output: retryRecord(record, input, waiting, failure), failure }
  }
  const context = deps.enrich(
    event,
    { tenant: job.tenant, stream: job.stream, receivedAtMs, timestampMs: record.timestampMs },
    registered,
  )
  if (registered === undefined)
    return { kind: 'processed', output: processedRecord(record, event, input, context, undefined), receivedAtMs }

  const handle = async (): Promise<Outcome> => {
    for (let quickAttempt = 1; ; quickAttempt++) {
      const attempt = past.attempts + quickAttempt
      const tried: Past = { ...past, attempts: attempt }
      let handled: Result
      try {
        handled = await runAttempt(
          registered,
          { event, context, attempt },
          partition.signal,
          deps.config.HANDLER_TIMEOUT_MS,
        )
      } catch (error) {
        if (partition.signal.aborted) return { kind: 'abandoned' }
        const failed = failedBy(error, deps.redact)
        const { stack } = failed
        const decision = decide(
          deps.config,
          failed,
          attempt,
          role === 'retry' ? deps.config.QUICK_ATTEMPTS : quickAttempt,
        )
        switch (decision.kind) {
          case 'dead':
            return {
              kind: 'dead',
              output: deadLetter(record, input, tried, decision.failure),
              failure: decision.failure,
              stack,
            }
          case 'later': {
            const waiting = { ...tried, notBeforeMs: deps.nowMs() + Math.round(decision.delayMs) }
            if (role === 'retry') return { kind: 'later', past: waiting, failure: decision.failure, stack }
            return {
              kind: 'retry',
              output: retryRecord(record, input, waiting, decision.failure),
              failure: decision.failure,
              stack,
            }
          }
          case 'again':
            deps.onQuickRetry(job, decision.failure)
            await sleep(decision.delayMs, partition.signal)
            if (partition.signal.aborted) return { kind: 'abandoned' }
            continue
        }
      }
      return { kind: 'processed', output: processedRecord(record, event, input, context, handled), receivedAtMs }
    }
  }
  return handle()
}
