import { type OutgoingRecord, onlyIdentity, recordBytes, withoutValue } from '../shared/events/record.ts'
import type { CommittedOffset, GroupConsumer, TransactionResult, Transactor } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { type Backoff, CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import type { ConsumerConfig } from './config.ts'
import { deadLetter } from './dead-letter.ts'
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
  /** Roughly, of all that is held for them. One outcome alone may be more. */
  maxTransactionBytes: number
  /** Something may have happened to what is in the log: nothing is committed before it was looked at. */
  isDisturbed(): boolean
  onDisturbed(): void
  /** The state of a partition has changed. */
  onPaused(partition: Partition): void
  onCommitted(items: readonly Item[]): void
}

/**
 * Outcomes that are committed without waiting for others. Fewer wait a little: a transaction costs the broker the same whether it has ten outcomes or
 * a thousand, and transactions without a pause between them would take the broker's time from those who send.
 */
const WORTH_A_TRANSACTION_RECORDS = 500
const GATHER_MS = 4

/** When the outcomes of a partition that cannot be written are tried again. */
const PAUSE_BACKOFF: Backoff = { firstMs: 1_000, maxMs: 30_000 }

/** How often it is looked whether a paused partition's time has come. */
const PAUSED_LOOK_MS = 250

/** A transaction that is under way. */
interface Transaction {
  partitions: ReadonlySet<Partition>
  lost: AbortController
  ended: Promise<void>
}

/**
 * Commits outcomes and offsets in one transaction after the other. Decided records gather meanwhile, and go into the next one together. I2, I3: an outcome
 * and the offset that says so are committed together or not at all.
 */
export class Committer {
  /** Those that have decided records. */
  readonly #waiting = new Set<Partition>()
  /**
   * To be committed apart from the others until that has worked, and how many of its records at a time: something of it cannot be written, and it
   * is not known what.
   */
  readonly #apart = new Map<Partition, number>()
  readonly #paused = new Map<Partition, { attempt: number; untilMs: number }>()
  /** Whether a transaction was committed. */
  hasCommitted = false
  #current: Transaction | undefined
  #wake: (() => void) | undefined
  /** Failed in a row. */
  #attempt = 0
  /** Monotonic; when there was last nothing to commit of partitions that are not paused, or something was committed. */
  #movedMs = performance.now()
  readonly #stopped = new AbortController()

  constructor(readonly deps: CommitDeps) {}

  /** How long there has been something to commit of partitions that are not paused, and nothing was committed, ms. To be asked regularly. */
  stalledMs(): number {
    const pending = [...this.#waiting, ...(this.#current?.partitions ?? [])].some(
      (one) => one.held.uncommitted > 0 && !this.#paused.has(one),
    )
    if (!pending) this.#movedMs = performance.now()
    return performance.now() - this.#movedMs
  }

  /** Resolves when no transaction that touches the partition, by its name, is under way. */
  async free(name: string): Promise<void> {
    const { partitions, ended } = this.#current ?? {}
    if ([...(partitions ?? [])].some((one) => one.name === name)) await ended
  }

  /** A record was decided. */
  add({ source: { owner } }: Item): void {
    this.#waiting.add(owner)
    this.#wake?.()
  }

  /** The partition is no longer this member's: what is under way with it must not be committed. */
  drop(partition: Partition): void {
    this.#waiting.delete(partition)
    this.#apart.delete(partition)
    this.#paused.delete(partition)
    if (this.#current?.partitions.has(partition)) this.#current.lost.abort()
  }

  /** Until {@link stop}. @returns why it cannot go on; undefined after stop */
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

  /** Waits until a record is decided, or a paused partition's time may have come. */
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
    // By turns, so that those that are committed apart do not hold up the others.
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
      // What has more has its turn again behind the others.
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
      giveBack(items)
      this.#again(items)
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
    // What is given up at once, as without a connection, would make the others look fast.
    if (result.kind === 'committed') metrics.commitSeconds.observe((performance.now() - begun) / 1000)
    switch (result.kind) {
      case 'fatal':
        return result.reason
      case 'committed':
        this.#committed(items, partitions)
        return undefined
      case 'aborted':
        await this.#aborted(items, partitions, writing, result)
        return undefined
    }
  }

  #committed(items: readonly Item[], partitions: ReadonlySet<Partition>): void {
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
    this.deps.onCommitted(items)
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
    giveBack(ours)
    this.#again(ours)
    log.warn({ reason, records: items.length, attempt: ++this.#attempt }, 'transaction aborted; retrying')
    const unwritable = new Map<Partition, string>()
    const batches = Map.groupBy(writing, batchOf)
    for (const [owner, own] of Map.groupBy(failed, ([index]) => writing[index]?.source.owner)) {
      if (owner?.isOurs !== true) continue
      const records = items.filter(({ source }) => source.owner === owner).length
      // No more than these, since each that is added may be refused, too.
      this.#apart.set(owner, records)
      for (const [index, { reason: why, tooLarge }] of own) {
        const item = writing[index] as Item
        // The broker's limit is on a batch, of which all are refused; only of one that is alone in it is it known that it is too large.
        if (tooLarge && (batches.get(batchOf(item))?.length ?? 0) > 1) this.#apart.set(owner, Math.ceil(records / 2))
        else if (!tooLarge || !refuse(item, why)) unwritable.set(owner, unwritable.get(owner) ?? why)
      }
    }
    for (const [partition, why] of unwritable) this.#pause(partition, `its outcomes cannot be written: ${why}`)
    // A transaction without what was refused is another one, and is made at once.
    if (failed.size > 0 && unwritable.size === 0) return
    if (failed.size === 0 && !passing) {
      const [only] = partitions
      if (partitions.size > 1)
        for (const one of partitions) this.#apart.set(one, this.deps.config.MAX_TRANSACTION_RECORDS)
      else if (only?.isOurs === true) this.#pause(only, `its outcomes cannot be committed: ${reason}`)
    }
    if (passing) await sleep(delayMs(CONNECT_BACKOFF, this.#attempt), this.#stopped.signal)
  }

  /** Its records wait for a while, longer each time; the other partitions go on. */
  #pause(partition: Partition, reason: string): void {
    const attempt = (this.#paused.get(partition)?.attempt ?? 0) + 1
    const before = partition.state
    this.#paused.set(partition, { attempt, untilMs: performance.now() + delayMs(PAUSE_BACKOFF, attempt) })
    // One that is being given up is tried as long as it may be. One that cannot be read either is restored once it can.
    if (before.kind === 'draining' || (before.kind === 'paused' && before.cause === 'unreadable')) return
    if (before.kind !== 'paused' || before.reason !== reason)
      this.deps.log.error({ partition: partition.name, reason }, 'paused')
    partition.enter({ kind: 'paused', cause: 'unwritable', reason })
    this.deps.onPaused(partition)
  }

  #again(items: readonly Item[]): void {
    for (const { source } of items) if (source.owner.isOurs) this.#waiting.add(source.owner)
  }
}

/** How long nothing is to be done before it is looked again whether that is so. */
const IDLE_LOOK_MS = 5_000

/** Records go back to where they were: before those of their partition that were decided since. */
function giveBack(items: readonly Item[]): void {
  for (const [owner, own] of Map.groupBy(items, (item) => item.source.owner))
    if (owner.isOurs) owner.decided.unshift(...own)
}

/** What is written together: a topic and its partition, which is that of the input. */
const batchOf = ({ source: { owner }, outcome }: Item): string => `${outputOf(outcome)?.topic ?? ''}/${owner.partition}`

const outputOf = (outcome: Item['outcome']): OutgoingRecord | undefined =>
  outcome === undefined || outcome.kind === 'duplicate' ? undefined : outcome.output

/**
 * The offsets that go with these outcomes. Both sources of every partition that is touched are named, moved or not: the offsets are what makes
 * the broker check that the partition is still ours, and those of `.retry`, which the group does not subscribe to, would expire
 * `offsets.retention.minutes` after their last commit (KIP-211).
 */
function offsetsOf(partitions: ReadonlySet<Partition>): CommittedOffset[] {
  return [...partitions].flatMap(({ sources }) =>
    sources === undefined ? [] : [sources.input.commit(), sources.retry.commit()],
  )
}

/**
 * The broker will never take this output. A result that is too large makes its event a dead letter; a dead letter or a retry that is too large
 * with our headers leaves its value where `kt-origin` says, then all but what its event is known by: whoever writes to the stream's own topic may have
 * filled a record with its key or its headers.
 * @returns false when nothing smaller can be made of it
 */
function refuse(item: Item, message: string): boolean {
  const { record, past, key, decoded } = item.job
  const { outcome } = item
  const { owner } = item.source
  if (outcome === undefined || outcome.kind === 'duplicate') return false
  const failure: Failure = { reason: 'result too large', message }
  const event = decoded.ok ? decoded.event : undefined
  const smaller = [withoutValue(record, event), onlyIdentity(record, event)].map((kept) =>
    deadLetter(kept, owner.topic, past, failure),
  )
  const bytes = recordBytes(outcome.output)
  const output =
    outcome.kind === 'processed'
      ? deadLetter(record, owner.topic, past, failure)
      : smaller.find((one) => recordBytes(one) < bytes)
  if (output === undefined) {
    // Not even that is taken, so that it is not for its size: once the topic takes records again, it is to have what it was to have.
    item.outcome = item.refused ?? outcome
    item.refused = undefined
    if (item.outcome.kind === 'processed') owner.dedupe.finish(decoded.identity, false)
    return false
  }
  if (outcome.kind !== 'retry') item.refused ??= outcome
  // It does not wait in .retry after all, and its key's later events need not wait behind it.
  if (outcome.kind === 'retry') owner.removeWaiting(decoded.identity, key)
  owner.dedupe.finish(decoded.identity, true)
  item.outcome = { kind: 'dead', output, failure }
  return true
}
