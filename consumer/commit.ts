import {
  type OutgoingRecord,
  onlyIdentity,
  type PassedRecord,
  recordBytes,
  withoutValue,
} from '../shared/events/record.ts'
import type { CommittedOffset, GroupConsumer, TransactionResult, Transactor } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { Repeats } from '../shared/service/repeats.ts'
import { type Backoff, CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import type { ConsumerConfig } from './config.ts'
import { deadLetter } from './dead-letter.ts'
import { NO_ATTEMPTS } from './failed-attempts.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { Held, Item, Partition } from './partition-state.ts'
import type { Failure } from './retry.ts'

export interface CommitDeps {
  group: Pick<GroupConsumer, 'membership'>
  transactor: Transactor
  held: Held
  metrics: ConsumerMetrics
  log: Logger
  config: ConsumerConfig
  /** Roughly, the most memory held for a transaction's outcomes. A single outcome may be larger. */
  maxTransactionBytes: number
  /** The log may differ from what is known of it: nothing is committed until the partitions are restored again. */
  isDisturbed(): boolean
  onDisturbed(): void
  onPaused(partition: Partition): void
  /** @param begunMs `performance.now()` of the transaction's beginning */
  onCommitted(items: readonly Item[], begunMs: number): void
}

/**
 * So many outcomes are committed at once; fewer wait a little for more. A transaction costs the broker the same for ten outcomes as for a thousand, and
 * transactions without a pause would take the broker's time from producers.
 */
const WORTH_A_TRANSACTION_RECORDS = 500
const GATHER_MS = 4

/** How often a partition whose outcomes cannot be written is tried again. */
const PAUSE_BACKOFF: Backoff = { firstMs: 1_000, maxMs: 30_000 }

/** How often the same reason of aborted transactions is logged. */
const SAID_AGAIN_MS = 60_000

/** How often paused partitions are checked for being due. */
const PAUSED_LOOK_MS = 250

/** A transaction in progress. */
interface Transaction {
  partitions: ReadonlySet<Partition>
  lost: AbortController
  ended: Promise<void>
}

/**
 * Commits outcomes and offsets, one transaction at a time. Records that are decided meanwhile go into the next one. I2, I3: an outcome and its offset
 * are committed together or not at all.
 */
export class Committer {
  /** Partitions that have decided records. */
  readonly #waiting = new Set<Partition>()
  /**
   * Partitions that are committed in transactions of their own, with at most so many records, until one succeeds: one of their outcomes cannot be
   * written, and it is not known which.
   */
  readonly #apart = new Map<Partition, number>()
  readonly #paused = new Map<Partition, { attempt: number; untilMs: number }>()
  hasCommitted = false
  #current: Transaction | undefined
  #wake: (() => void) | undefined
  /** Failed transactions in a row. */
  #attempt = 0
  readonly #repeats = new Repeats(SAID_AGAIN_MS)
  /** Monotonic; when a transaction was last committed, or nothing was waiting for a commit. */
  #movedMs = performance.now()
  readonly #stopped = new AbortController()

  constructor(readonly deps: CommitDeps) {}

  /** How long outcomes of partitions that are not paused have waited while nothing was committed, ms. To be called regularly. */
  stalledMs(): number {
    const pending = [...this.#waiting, ...(this.#current?.partitions ?? [])].some(
      (one) => one.held.uncommitted > 0 && !this.#paused.has(one),
    )
    if (!pending) this.#movedMs = performance.now()
    return performance.now() - this.#movedMs
  }

  /** Resolves when no transaction in progress has outcomes of the partition. */
  async free(name: string): Promise<void> {
    const { partitions, ended } = this.#current ?? {}
    if ([...(partitions ?? [])].some((one) => one.name === name)) await ended
  }

  /** A record was decided. */
  add({ source: { owner } }: Item): void {
    this.#waiting.add(owner)
    this.#wake?.()
  }

  /** The partition is revoked: a transaction in progress with its outcomes must not be committed. */
  drop(partition: Partition): void {
    this.#waiting.delete(partition)
    this.#apart.delete(partition)
    this.#paused.delete(partition)
    if (this.#current?.partitions.has(partition)) this.#current.lost.abort()
  }

  /** Runs until {@link stop}. @returns a fatal error; undefined after stop */
  async run(): Promise<string | undefined> {
    const { signal } = this.#stopped
    while (!signal.aborted) {
      if (this.#ready().length === 0) {
        await this.#work()
        continue
      }
      if (this.deps.held.records.decided < WORTH_A_TRANSACTION_RECORDS) await sleep(GATHER_MS, signal)
      if (this.deps.isDisturbed()) {
        this.deps.onDisturbed()
        continue
      }
      const reason = await this.#transaction(this.#take())
      if (reason !== undefined) return reason
    }
    return undefined
  }

  stop(): void {
    this.#stopped.abort()
    this.#wake?.()
  }

  /** Waits until a record is decided, or a paused partition may be due. */
  async #work(): Promise<void> {
    const timer = setTimeout(() => this.#wake?.(), this.#paused.size > 0 ? PAUSED_LOOK_MS : IDLE_LOOK_MS)
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    clearTimeout(timer)
    this.#wake = undefined
  }

  /** Partitions whose records may be committed now. */
  #ready(): Partition[] {
    const nowMs = performance.now()
    const ready: Partition[] = []
    for (const partition of this.#waiting) {
      if (partition.decided.length === 0) this.#waiting.delete(partition)
      else if ((this.#paused.get(partition)?.untilMs ?? 0) <= nowMs) ready.push(partition)
    }
    return ready
  }

  /** The records of the next transaction, oldest decisions of each partition first. */
  #take(): Item[] {
    const ready = this.#ready()
    const [first] = ready
    const isAlone = (one: Partition): boolean => this.#apart.has(one) || this.#paused.has(one)
    // In turns, so that partitions with transactions of their own do not hold up the others.
    const taken = first !== undefined && isAlone(first) ? [first] : ready.filter((one) => !isAlone(one))
    const items: Item[] = []
    let bytes = 0
    for (const partition of taken) {
      const room = this.deps.config.MAX_TRANSACTION_RECORDS - items.length
      const most = Math.min(room, this.#apart.get(partition) ?? room, partition.decided.length)
      let count = 0
      for (; count < most; count++) {
        const { heldBytes } = partition.decided[count] as Item
        if (items.length + count > 0 && bytes + heldBytes > this.deps.maxTransactionBytes) break
        bytes += heldBytes
      }
      if (count === 0) break
      for (const item of partition.decided.splice(0, count)) items.push(item)
      // A partition with more records goes to the end of the queue.
      this.#waiting.delete(partition)
      if (partition.decided.length > 0) this.#waiting.add(partition)
    }
    return items
  }

  async #transaction(items: readonly Item[]): Promise<string | undefined> {
    const { transactor, group, metrics, log } = this.deps
    if (items.length === 0) return undefined
    const membership = group.membership()
    if (membership === undefined) {
      this.#giveBack(items)
      log.warn({ records: items.length }, 'not a member of the group: nothing can be committed')
      await sleep(delayMs(CONNECT_BACKOFF, ++this.#attempt), this.#stopped.signal)
      return undefined
    }
    const begun = performance.now()
    const partitions = new Set(items.map((item) => item.source.owner))
    for (const item of items) item.source.owner.move(item, 'in transaction')
    const writing = items.filter((item) => item.outcome?.kind !== 'duplicate')
    const lost = new AbortController()
    const { promise: ended, resolve: end } = Promise.withResolvers<void>()
    this.#current = { partitions, lost, ended }
    const outputs = writing.flatMap((item) => outputOf(item.outcome) ?? [])
    const result = await transactor.commit(outputs, offsetsOf(partitions), membership, lost.signal)
    this.#current = undefined
    end()
    metrics.transactions.inc({ result: result.kind })
    // Transactions that fail at once, as without a connection, would lower the figures.
    if (result.kind === 'committed') metrics.commitSeconds.observe((performance.now() - begun) / 1000)
    switch (result.kind) {
      case 'fatal':
        return result.reason
      case 'committed':
        this.#committed(items, partitions, begun)
        return undefined
      case 'aborted':
        await this.#aborted(items, partitions, writing, result)
        return undefined
    }
  }

  #committed(items: readonly Item[], partitions: ReadonlySet<Partition>, begunMs: number): void {
    this.#attempt = 0
    this.hasCommitted = true
    this.#movedMs = performance.now()
    for (const item of items) item.source.owner.move(item, 'committed')
    for (const partition of partitions) {
      const apart = this.#apart.get(partition)
      if (apart !== undefined && 2 * apart < this.deps.config.MAX_TRANSACTION_RECORDS)
        this.#apart.set(partition, 2 * apart)
      else this.#apart.delete(partition)
      const { state } = partition
      if (this.#paused.delete(partition) && state.kind === 'paused' && state.cause === 'unwritable') {
        partition.enter({ kind: 'reading' })
        this.deps.log.info({ partition: partition.name }, 'partition writable again')
        this.deps.onPaused(partition)
      }
      partition.settle()
    }
    this.deps.onCommitted(items, begunMs)
  }

  async #aborted(
    items: readonly Item[],
    partitions: ReadonlySet<Partition>,
    writing: readonly Item[],
    { reason, failed, passing }: Extract<TransactionResult, { kind: 'aborted' }>,
  ): Promise<void> {
    const { log } = this.deps
    const ours = items.filter((item) => item.source.owner.isOurs)
    for (const item of ours) item.source.owner.move(item, 'decided')
    this.#giveBack(ours)
    this.#attempt++
    if (this.#repeats.isNew(reason))
      log.warn({ reason, records: items.length, attempt: this.#attempt }, 'transaction aborted; retrying')
    const unwritable = new Map<Partition, string>()
    const batches = Map.groupBy(writing, batchOf)
    for (const [owner, own] of Map.groupBy(failed, ([index]) => writing[index]?.source.owner)) {
      if (owner?.isOurs !== true) continue
      const records = items.filter(({ source }) => source.owner === owner).length
      // Not more than now, since each added outcome may be refused, too.
      this.#apart.set(owner, records)
      for (const [index, { reason: why, tooLarge }] of own) {
        const item = writing[index] as Item
        // The broker's limit is on a batch, and it refuses the whole batch. Only an outcome that is alone in its batch is known to be too large.
        if (tooLarge && (batches.get(batchOf(item))?.length ?? 0) > 1) this.#apart.set(owner, Math.ceil(records / 2))
        else if (!tooLarge || !refuse(item, why)) unwritable.set(owner, unwritable.get(owner) ?? why)
      }
    }
    for (const [partition, why] of unwritable) this.#pause(partition, `its outcomes cannot be written: ${why}`)
    // The next transaction has replacements for the refused outcomes, so it need not wait.
    if (failed.size > 0 && unwritable.size === 0) return
    if (failed.size === 0 && !passing) {
      const [only] = partitions
      if (partitions.size > 1)
        for (const one of partitions) this.#apart.set(one, this.deps.config.MAX_TRANSACTION_RECORDS)
      else if (only?.isOurs === true) this.#pause(only, `its outcomes cannot be committed: ${reason}`)
    }
    if (passing) await sleep(delayMs(CONNECT_BACKOFF, this.#attempt), this.#stopped.signal)
  }

  /** The partition's outcomes wait, with back-off; the other partitions are not affected. */
  #pause(partition: Partition, reason: string): void {
    const attempt = (this.#paused.get(partition)?.attempt ?? 0) + 1
    const before = partition.state
    this.#paused.set(partition, { attempt, untilMs: performance.now() + delayMs(PAUSE_BACKOFF, attempt) })
    // A draining partition is tried until its time is over. An unreadable one is restored once it can be read.
    if (before.kind === 'draining' || (before.kind === 'paused' && before.cause === 'unreadable')) return
    if (before.kind !== 'paused' || before.reason !== reason)
      this.deps.log.error({ partition: partition.name, reason }, 'paused')
    partition.enter({ kind: 'paused', cause: 'unwritable', reason })
    this.deps.onPaused(partition)
  }

  /** Puts records back before those of their partition that were decided since. */
  #giveBack(items: readonly Item[]): void {
    for (const [owner, own] of Map.groupBy(items, (item) => item.source.owner)) {
      if (!owner.isOurs) continue
      owner.decided.unshift(...own)
      this.#waiting.add(owner)
    }
  }
}

/** How often an idle committer checks for work. */
const IDLE_LOOK_MS = 5_000

/** The partition that an outcome is written to: the broker receives its outcomes as one batch. */
const batchOf = ({ source: { owner }, outcome }: Item): string => `${outputOf(outcome)?.topic ?? ''}/${owner.partition}`

const outputOf = (outcome: Item['outcome']): OutgoingRecord | PassedRecord | undefined =>
  outcome === undefined || outcome.kind === 'duplicate' ? undefined : outcome.output

/**
 * The offsets of both sources of each partition, even if unchanged. They make the broker check that the partition is still assigned to this member; and
 * those of `.retry`, which the group does not subscribe to, would expire `offsets.retention.minutes` after their last commit (KIP-211).
 */
function offsetsOf(partitions: ReadonlySet<Partition>): CommittedOffset[] {
  return [...partitions].flatMap(({ sources }) =>
    sources === undefined ? [] : [sources.input.commit(), sources.retry.commit()],
  )
}

/**
 * Replaces an output that the broker will never take. A result that is too large makes its event a dead letter. A dead letter or a retry that is too
 * large with our headers is written without its value, which stays where `kt-origin` says; then with the event's identity only, since other
 * clients' records may have keys or headers of any size.
 * @returns false when no smaller output is possible
 */
function refuse(item: Item, message: string): boolean {
  const { record, past, key, decoded } = item.job
  const { outcome } = item
  const { owner } = item.source
  if (outcome === undefined || outcome.kind === 'duplicate') return false
  const failure: Failure = { reason: 'result too large', message }
  const event = decoded.ok ? decoded.event : undefined
  const smaller = [
    deadLetter(withoutValue(record, event), owner.topic, past, failure),
    deadLetter(onlyIdentity(record, event), owner.topic, { ...past, failed: NO_ATTEMPTS }, failure),
  ]
  const bytes = outcome.kind === 'processed' ? 0 : recordBytes(outcome.output)
  const output =
    outcome.kind === 'processed'
      ? deadLetter(record, owner.topic, past, failure)
      : smaller.find((one) => recordBytes(one) < bytes)
  if (output === undefined) {
    // Even the smallest output was refused, so size is not the reason. The first outcome is written once the topic takes records again.
    item.outcome = item.refused ?? outcome
    item.refused = undefined
    if (item.outcome.kind === 'processed') owner.dedupe.finish(decoded.identity, false)
    return false
  }
  if (outcome.kind !== 'retry') item.refused ??= outcome
  // The event does not wait in .retry after all, so later events of its key need not wait for it.
  if (outcome.kind === 'retry') owner.removeWaiting(decoded.identity, key)
  owner.dedupe.finish(decoded.identity, true)
  item.outcome = { kind: 'dead', output, failure }
  return true
}
