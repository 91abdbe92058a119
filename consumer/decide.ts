import { type IncomingRecord, recordBytes } from '../shared/events/record.ts'
import { type Logger, TenantLines } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { type ConsumeDeps, consume, Job, type Outcome } from './consume.ts'
import { traceOf } from './decode.ts'
import { EventTrace } from './event-trace.ts'
import { Lanes, Slots } from './lanes.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { Item, Place, Source } from './partition-state.ts'
import { type Failure, newerSchemaUntilMs, type Reason, reasonIn, WITHOUT_ATTEMPT } from './retry.ts'

export interface DecideDeps extends Omit<ConsumeDeps, 'onQuickRetry'> {
  metrics: ConsumerMetrics
  /** undefined: no spans. */
  tracing: Tracing | undefined
  log: Logger
  /** Whether partitions of another tenant are assigned. */
  hasOtherTenants(tenant: string): boolean
  /** The record has an outcome to commit. */
  onDecided(item: Item): void
  /** A fault of our own that no record caused. */
  onFailed(reason: string): void
}

/** Roughly what our objects and strings for a record take until its outcome is committed, beside the record's own bytes. */
const RECORD_OVERHEAD_BYTES = 4_096

/** In place of an outcome. */
const NOT_BEGUN = Symbol('not begun')

/** Runs `consume` for records: in order within a key, concurrently across keys. */
export class Decider {
  readonly #lanes = new Lanes<Item>(
    ({ job, source }) => (job.key === undefined ? undefined : `${source.name}\n${job.key}`),
    (item) => this.#attempt(item),
  )
  readonly #slots: Slots
  readonly #consumeDeps: ConsumeDeps
  readonly #lines = new TenantLines()
  /** Whether each event is logged; looked up once instead of for each event. */
  readonly #logsAll: boolean

  constructor(readonly deps: DecideDeps) {
    this.#consumeDeps = { ...deps, onQuickRetry: () => deps.metrics.retries.inc({ kind: 'quick' }) }
    this.#logsAll = deps.log.isLevelEnabled('debug')
    this.#slots = new Slots(deps.config.MAX_CONCURRENT_HANDLERS, deps.hasOtherTenants)
  }

  /** Handlers running now. */
  get handlers(): number {
    return this.#slots.inside
  }

  /** Takes a fetched record. */
  take(record: IncomingRecord, source: Source, place: Place): void {
    const { owner, role } = source
    const job = new Job(record, role)
    if (this.deps.tracing !== undefined)
      job.trace = new EventTrace(this.deps.tracing, job, source.owner, this.deps.config.GROUP_ID)
    const heldBytes = (record.bytes ?? recordBytes(record)) + RECORD_OVERHEAD_BYTES
    const item: Item = {
      job,
      source,
      heldBytes,
      outcome: undefined,
      refused: undefined,
      place,
    }
    owner.hold(item)
    this.deps.metrics.fetched(item)
    this.#lanes.submit(item)
  }

  /** The record's outcome is committed. @param begunMs `performance.now()` of the beginning of its transaction */
  committed(item: Item, begunMs: number): void {
    const { outcome, source } = item
    if (outcome === undefined) return
    item.job.trace?.committed(outcome, begunMs)
    const { log } = this.deps
    if (outcome.kind === 'duplicate' && outcome.ofDead) {
      const { topic, partition } = source.owner.sibling('dlq')
      log[this.#lines.level(source.owner.tenant, 'info')](
        { ...logFields(item), deadLetterTopic: topic, deadLetterPartition: partition },
        'dropped as a duplicate: its event is a dead letter',
      )
    } else if (this.#logsAll && outcome.kind === 'processed') log.debug(logFields(item), 'processed')
    else if (this.#logsAll && outcome.kind === 'duplicate') log.debug(logFields(item), 'dropped as a duplicate')
  }

  /** An error here is a fault of our own: the clients are replaced, and the record is read again. */
  #attempt(item: Item): Promise<void> | undefined {
    try {
      return this.#decide(item)?.catch(this.#failed)
    } catch (error) {
      this.#failed(error)
      return undefined
    }
  }

  readonly #failed = (error: unknown): void => this.deps.onFailed(`deciding failed: ${messageOf(error)}`)

  /** @param reason why it waits, if it has been decided that it does */
  #decide(item: Item, reason?: Reason): Promise<void> | undefined {
    // Only records in `.retry` have a time to wait for; others are not decoded before their turn.
    if (item.source.role === 'retry') {
      const { config, nowMs } = this.deps
      const { past, record } = item.job
      const now = nowMs()
      // The member that wrote the time may have another clock.
      const waitMs = Math.min(past.notBeforeMs - now, config.RETRY_MAX_MS)
      if (waitMs > 0) {
        const why = reason ?? reasonIn(record)
        // It may have had another configuration, too.
        const mostMs = why === 'newer schema' ? newerSchemaUntilMs(record, config) - now : waitMs
        if (mostMs > 0) return this.#decideLater(item, Math.min(waitMs, mostMs), why)
      }
    }
    return this.#decideNow(item)
  }

  async #decideLater(item: Item, waitMs: number, reason: Reason | undefined): Promise<void> {
    const { owner } = item.source
    if (reason !== undefined) owner.countWaiting(reason, 1)
    await sleep(waitMs, owner.ending.signal)
    if (reason !== undefined) owner.countWaiting(reason, -1)
    await this.#decideNow(item)
  }

  #decideNow(item: Item): Promise<void> | undefined {
    const { owner } = item.source
    if (owner.ending.signal.aborted) return undefined
    if (owner.isPausedByOperator) return this.#decideResumed(item)
    owner.running++
    // The stream may be paused while the record waits for a slot.
    const outcome = this.#slots.run(
      () => (owner.isPausedByOperator ? NOT_BEGUN : consume(item.job, owner, this.#consumeDeps)),
      owner.tenant,
    )
    if (outcome instanceof Promise) return outcome.then((later) => this.#settled(item, later))
    return this.#settled(item, outcome)
  }

  async #decideResumed(item: Item): Promise<void> {
    await item.source.owner.resumed()
    await this.#decideNow(item)
  }

  #settled(item: Item, outcome: Outcome | typeof NOT_BEGUN): Promise<void> | undefined {
    const { owner, role } = item.source
    owner.running--
    if (!owner.isOurs) return undefined
    if (outcome === NOT_BEGUN) {
      owner.settle()
      return this.#decideNow(item)
    }
    this.deps.metrics.decided(outcome)
    switch (outcome.kind) {
      case 'abandoned':
        item.job.trace?.abandoned()
        owner.settle()
        return undefined
      case 'later':
        // An event that waits for a handler was already logged when it moved to .retry.
        this.deps.log[isAttempted(outcome.failure) ? this.#lines.level(owner.tenant, 'info') : 'debug'](
          { ...logFields(item), attempts: outcome.past.attempts, ...outcome.failure, stack: outcome.stack },
          laterText(outcome.failure),
        )
        item.job.past = outcome.past
        item.job.trace?.waits(outcome.failure)
        owner.settle()
        return this.#decide(item, outcome.failure.reason)
      case 'retry':
        this.deps.log[this.#lines.level(owner.tenant, 'info')](
          { ...logFields(item), ...outcome.failure, stack: outcome.stack },
          isAttempted(outcome.failure) ? 'attempts failed; moved to .retry' : 'moved to .retry',
        )
        owner.addWaiting(item.job.decoded.identity, item.job.key)
        break
      case 'dead':
        if (outcome.failure.reason === 'internal error')
          this.deps.log.error(
            { ...logFields(item), err: outcome.cause },
            'dead letter because of an internal error: please report it',
          )
        else
          this.deps.log[this.#lines.level(owner.tenant, 'warn')](
            { ...logFields(item), ...outcome.failure, stack: outcome.stack },
            'dead letter',
          )
        owner.dedupe.finish(item.job.decoded.identity, true)
        break
      case 'processed':
        if ('passed' in outcome.output) {
          // Without a result, the event was finished in one step. It has no span.
          const { passed, result } = outcome.output
          if (result !== undefined && passed.plain !== undefined)
            owner.dedupe.finishHash(passed.plain.identityHash, false)
          break
        }
        owner.dedupe.finish(item.job.decoded.identity, false)
        item.job.trace?.continueIn(outcome.output)
        break
      case 'duplicate':
        break
    }
    if (role === 'retry') owner.removeWaiting(item.job.decoded.identity, item.job.key)
    item.outcome = outcome
    owner.move(item, 'decided')
    this.deps.onDecided(item)
    return undefined
  }
}

/** Whether the handler was called, and failed. */
const isAttempted = ({ reason }: Failure): boolean => !WITHOUT_ATTEMPT.has(reason)

const laterText = (failure: Failure): string =>
  isAttempted(failure) ? 'attempt failed; retrying later' : 'still waits in .retry'

/** The log fields of a record: its place, its event's identity and its trace, never its data. */
function logFields({ job: { record, decoded, trace } }: Item): Record<string, unknown> {
  const { topic, partition, offset } = record
  const ids = trace?.logIds ?? { traceId: traceOf(record)?.traceId }
  return {
    topic,
    partition,
    offset,
    ...(decoded.ok ? { eventId: decoded.event.id, source: decoded.event.source, type: decoded.event.type } : {}),
    ...(ids.traceId === undefined ? {} : ids),
  }
}
