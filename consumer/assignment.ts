import { parseTopic } from '../shared/events/topics.ts'
import {
  type GroupListener,
  HangingTransactionError,
  type Membership,
  partitionName,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { type Backoff, CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'
import type { ConsumerConfig } from './config.ts'
import { BorrowedId, type Clients, endHanging, recoveryIds, released, writersOf } from './hanging.ts'
import { Slots, Together } from './lanes.ts'
import { proveLeaders, waitForOffset } from './leaders.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { PartitionPast } from './partition-past.ts'
import { type Held, Partition, type Source } from './partition-state.ts'
import { restore } from './restore.ts'

export interface AssignmentDeps extends Clients {
  /** Of all partitions. */
  held: Held
  metrics: ConsumerMetrics
  log: Logger
  config: ConsumerConfig
  /** These clients replace others after a fatal error, so that something may have happened to a broker. */
  isReplacement: boolean
  /** Resolves when no transaction of ours that touches the partition is in progress. */
  free(partition: string): Promise<void>
  /** Resolves once it is known which streams an operator has paused; rejects with the reason when that takes too long. */
  pausesKnown(): Promise<void>
  /** @param topic the stream's own */
  isPausedByOperator(topic: string): boolean
  onPaused(partition: Partition): void
  onReading(partition: Partition): void
  /** A partition was revoked, or is restored again. */
  onDropped(partition: Partition): void
  /** The clients have to be replaced. */
  onFailed(reason: string): void
}

/** The share of the drain time-out in which revoked partitions finish; the rest is for leaving the group and closing. */
const REVOKE_SHARE = 0.5

/** The most partitions that are restored one by one at the same time. */
const MAX_RESTORED_ALONE = 16

/** How often an unreadable partition is tried again. */
const UNREADABLE_BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 }

/** A transaction of another id is aborted after it has failed this many attempts to restore a partition, each of which waits for it. */
const ATTEMPTS_BEFORE_TAKING_OVER = 3

/** For how long after an incident on a broker the leaders of newly assigned partitions are verified. */
const DISTURBED_FOR_MS = 60_000

/** A partition that could not be restored for this long counts as lastingly faulty. */
const LASTING_FAULT_MS = 60_000

/** The most offsets in one log line. */
const MAX_OFFSETS_LOGGED = 50

/** A partition that a transaction holds back, and which attempt to restore it found that. */
interface HeldBack {
  partition: Partition
  error: HangingTransactionError
  attempt: number
}

/** Assigned partitions: each is restored from Kafka before it is read. */
export class Assignments {
  readonly partitions = new Map<string, Partition>()
  /** What is read, by topic and partition. */
  readonly sources = new Map<string, Source>()
  /** Whether there has been an assignment, even an empty one. */
  assigned = false
  readonly #alone = new Slots(MAX_RESTORED_ALONE)
  /** Hanging transactions are ended one at a time: two clients of one id would fence each other. */
  readonly #releasing = new Slots(1)
  readonly #endTogether = new Together(this.#releasing, (all: readonly HeldBack[]) => this.#end(all))
  readonly #proveTogether = new Together(this.#releasing, (all: readonly Partition[]) => this.#proveLeaders(all))
  /** By partition, while its hanging transaction is being ended. */
  readonly #ends = new Map<string, Promise<unknown>>()
  /** Pending offsets of the group can be ended through any of its partitions. */
  #lastOwned: TopicPartition | undefined
  /** Ends the pending offsets of earlier clients of this id; undefined: to be done before the next restore. */
  #leftOversEnded: Promise<void> | undefined
  /**
   * Partitions whose brokers may no longer be the leaders, and which of their topics are proven to be read from leaders. A proof holds while the
   * partition is restored, since nobody else writes its outcomes.
   */
  readonly #proofs = new WeakMap<Partition, 'needed' | 'outputs' | 'all'>()
  /** Monotonic; when something last happened to a broker. */
  #disturbedMs: number
  readonly #ending = new AbortController()

  constructor(readonly deps: AssignmentDeps) {
    this.#disturbedMs = deps.isReplacement ? performance.now() : Number.NEGATIVE_INFINITY
  }

  /** Whether partitions of another tenant are assigned. */
  hasOtherTenants(tenant: string): boolean {
    for (const one of this.partitions.values()) if (one.tenant !== tenant) return true
    return false
  }

  listener(): GroupListener {
    return {
      assigned: (given) => {
        try {
          this.#assigned(given)
        } catch (error) {
          this.#failed(error)
        }
      },
      revoked: (taken, lost) =>
        this.#revoked(taken, lost).catch((error: unknown) => {
          this.#failed(error)
          throw error
        }),
      outOfRange: (at) => {
        const owner = this.sources.get(partitionName(at))?.owner
        if (owner !== undefined) this.again([owner], `${partitionName(at)} has no record where it was to be read on`)
      },
      unreadable: (at, reason) => {
        const owner = this.sources.get(partitionName(at))?.owner
        if (owner?.state.kind === 'reading')
          this.#unreadable(owner, `${partitionName(at)}: ${reason}`).catch(this.#failed)
      },
      failed: (reason) => this.deps.onFailed(reason),
    }
  }

  /** Restores partitions again from Kafka; their records in memory are dropped. */
  again(partitions: readonly Partition[], reason: string): void {
    const { group, log, onFailed } = this.deps
    const ours = partitions.filter((one) => one.isOurs)
    if (ours.length === 0) return
    log.warn({ partitions: ours.map((one) => one.name), reason }, 'restoring partitions again')
    // A draining partition is about to be revoked.
    const kept = ours.filter((one) => one.state.kind !== 'draining')
    for (const one of ours) this.#drop(one)
    const begun = kept.map((one) => this.#own(one))
    // An assignment comes from a coordinator that could write it to its log. Here nothing shows that the coordinator is still the leader.
    for (const one of begun) this.#proofs.set(one, 'needed')
    // Records that still arrive belong to no partition.
    group.stopReading(ours.flatMap((one) => one.both)).then(
      () => this.#restore(begun).catch(this.#failed),
      (error: Error) => onFailed(`partitions cannot be read anew: ${error.message}`),
    )
  }

  /** Restores all partitions again after an incident on a broker; transactions that may hang are ended first. */
  allAgain(reason: string): void {
    this.#disturbedMs = performance.now()
    this.#leftOversEnded = undefined
    this.again([...this.partitions.values()], reason)
  }

  /** Drops everything at once. */
  dropAll(): void {
    this.#ending.abort()
    for (const partition of [...this.partitions.values()]) this.#drop(partition)
  }

  /** A partition that is assigned but not restored would never be read; new clients get it assigned again. */
  readonly #failed = (error: unknown): void => this.deps.onFailed(`an assignment failed: ${messageOf(error)}`)

  #assigned(given: TopicPartition[]): void {
    if (this.#ending.signal.aborted) return
    this.assigned = true
    this.deps.metrics.rebalances.inc({ kind: 'assigned' })
    const partitions = given.flatMap(({ topic, partition }) => {
      const names = parseTopic(topic)
      return names === undefined ? [] : [this.#own({ topic, partition, ...names })]
    })
    if (performance.now() - this.#disturbedMs < DISTURBED_FOR_MS)
      for (const one of partitions) this.#proofs.set(one, 'needed')
    this.deps.log.info({ partitions: given.map(partitionName) }, 'assigned')
    this.#restore(partitions).catch(this.#failed)
  }

  #own({ topic, partition, tenant, stream }: Pick<Partition, 'topic' | 'partition' | 'tenant' | 'stream'>): Partition {
    const { config, held } = this.deps
    const owned = new Partition(topic, partition, tenant, stream, config.DEDUPE_WINDOW_RECORDS, held)
    this.#lastOwned = { topic, partition }
    // So that the series exists before the first round of the background audit.
    this.deps.metrics.doubled.inc({ topic }, 0)
    owned.setPausedByOperator(this.deps.isPausedByOperator(topic))
    this.partitions.set(owned.name, owned)
    return owned
  }

  async #revoked(taken: TopicPartition[], lost: boolean): Promise<TopicPartition[]> {
    this.deps.metrics.rebalances.inc({ kind: lost ? 'lost' : 'revoked' })
    if (lost) this.assigned = false
    const named = taken.map(partitionName)
    const ending = named.flatMap((name) => this.partitions.get(name) ?? [])
    if (!lost) await Promise.all(ending.map((one) => one.drain(REVOKE_SHARE * this.deps.config.DRAIN_TIMEOUT_MS)))
    // A partition that was restored again meanwhile is another object.
    const read = named.flatMap((name) => this.partitions.get(name) ?? []).flatMap((one) => one.both)
    for (const name of named) {
      const partition = this.partitions.get(name)
      if (partition !== undefined) this.#drop(partition)
    }
    this.deps.log.info({ partitions: named, lost }, lost ? 'lost' : 'revoked')
    return read
  }

  #drop(partition: Partition): void {
    for (const at of partition.both) {
      this.sources.delete(partitionName(at))
      this.deps.metrics.forget(at)
    }
    partition.revoke()
    this.partitions.delete(partition.name)
    this.deps.onDropped(partition)
  }

  // ---- restore

  /** Restores all partitions with few requests; then those that failed, one by one, until they succeed. */
  async #restore(partitions: readonly Partition[]): Promise<void> {
    const { group, reader, transactor, log } = this.deps
    if (partitions.length === 0) return
    const begun = performance.now()
    try {
      await this.#ready(partitions)
      await transactor.refresh()
      const unproven = partitions.filter((one) => isRestoring(one) && this.#proofs.get(one) === 'needed')
      const notProven = unproven.length === 0 ? new Map<Partition, Error>() : await this.#proveTogether.run(unproven)
      const known = partitions.filter((one) => isRestoring(one) && !notProven.has(one))
      const pasts = await restore(known, group, reader, false)
      for (const [one, { doubtful }] of pasts) if (doubtful) this.#proofs.set(one, 'needed')
      this.#begin(new Map([...pasts].filter(([, { doubtful }]) => !doubtful)), begun)
    } catch (error) {
      log.debug({ reason: (error as Error).message }, 'bulk restore failed; restoring partitions one by one')
    }
    await Promise.all(partitions.filter(isRestoring).map((one) => this.#restoreAlone(one)))
  }

  async #restoreAlone(partition: Partition): Promise<void> {
    const { group, reader, log } = this.deps
    const firstMs = performance.now()
    for (let attempt = 1; isRestoring(partition); attempt++) {
      const begun = performance.now()
      try {
        await this.#alone.run(async () => {
          await this.#ready([partition])
          if (this.#proofs.get(partition) === 'needed') {
            const error = (await this.#proveTogether.attempt(partition, attempt)).get(partition)
            if (error !== undefined) throw error
          }
          if (!isRestoring(partition)) return
          const pasts = await restore([partition], group, reader, true)
          const isBelieved = pasts.get(partition)?.doubtful !== true || this.#proofs.get(partition) === 'all'
          if (isBelieved) return this.#begin(pasts, begun)
          this.#proofs.set(partition, 'needed')
          throw new Error(
            'committed offsets and outcomes contradict each other; reading them again from verified leaders',
          )
        })
      } catch (error) {
        if (!isRestoring(partition)) return
        const fault = error instanceof Error ? error.message : String(error)
        partition.enter({ kind: 'restoring', fault, lasting: performance.now() - firstMs > LASTING_FAULT_MS })
        log.warn({ partition: partition.name, reason: fault }, 'partition restore failed; retrying')
        if (error instanceof HangingTransactionError) await this.#endInTurn(error, partition, attempt)
        await sleep(delayMs(CONNECT_BACKOFF, attempt), partition.ending.signal)
      }
    }
  }

  /**
   * Verifies that partitions are read from the leaders of their topics; each stream on its own, so that its faults do not affect others.
   * @returns the partitions for which this failed, with the error
   */
  async #proveLeaders(all: readonly Partition[]): Promise<Map<Partition, Error>> {
    const { reader, transactor, openTransactor } = this.deps
    const partitions = all.filter(isRestoring)
    const notProven = new Map<Partition, Error>()
    if (partitions.length === 0) return notProven
    // By an id that has nothing open: a hanging transaction's outcomes may count, so it must not be aborted here.
    const other = await openTransactor(`${transactor.transactionalId}-proof`)
    const write = (places: readonly TopicPartition[]) => released(other.release(places, 'records', this.#membership()))
    try {
      for (const [, ofStream] of Map.groupBy(partitions, ({ topic }) => topic)) {
        const outputs = ofStream.flatMap((one) => one.outputs)
        try {
          await Promise.all(
            ofStream.map(async ({ both: [input], claimed }) => {
              if (claimed !== undefined) await waitForOffset(input, claimed[0], reader)
            }),
          )
          await proveLeaders(outputs, reader, write)
          // The input is verified by the committed offset, once that is known.
          for (const one of ofStream) this.#proofs.set(one, one.claimed === undefined ? 'outputs' : 'all')
        } catch (error) {
          for (const one of ofStream) notProven.set(one, error as Error)
        }
      }
    } finally {
      await other.close()
    }
    return notProven
  }

  async #endInTurn(error: HangingTransactionError, partition: Partition, attempt: number): Promise<void> {
    const end = this.#endTogether.attempt({ partition, error, attempt }, attempt)
    this.#ends.set(partition.name, end)
    await end
    if (this.#ends.get(partition.name) === end) this.#ends.delete(partition.name)
  }

  /** Ends the transactions that hold partitions back, if nobody else will. */
  async #end(all: readonly HeldBack[]): Promise<void> {
    await this.#endPending(all.filter(({ error }) => error.offset === undefined))
    const hanging = all.filter(({ error }) => error.offset !== undefined)
    for (const [, ofStream] of Map.groupBy(hanging, ({ partition }) => partition.topic))
      await this.#endHanging(ofStream)
  }

  /**
   * Waits until no transaction of ours touches the partitions, and ends those that an earlier client left open; and until it is known whether they
   * are to be read.
   */
  async #ready(partitions: readonly Partition[]): Promise<void> {
    const [first] = partitions
    if (first === undefined) return
    await this.deps.pausesKnown()
    for (const { name } of partitions) {
      await this.deps.free(name)
      await this.#ends.get(name)
    }
    await this.#leftOvers(first)
  }

  /**
   * Pending offsets of this id block every later owner of the partitions. A member with partitions ends them before it restores the first; this
   * ends them for a member without partitions, and is to be called regularly.
   */
  async endLeftOversWithoutPartitions(): Promise<void> {
    const { group, log } = this.deps
    if (this.partitions.size > 0 || this.#leftOversEnded !== undefined || group.membership() === undefined) return
    await this.#leftOvers(this.#lastOwned).catch((error: Error) =>
      log.debug({ reason: error.message }, 'could not look for hanging transactions; retrying'),
    )
  }

  /**
   * Aborts offsets that earlier clients of this id left pending; once, unless it fails. With the next commit of a producer id, the broker commits
   * all offsets that are pending under it, including those of a transaction that it forgot to end; so this comes before any commit and any restore.
   */
  async #leftOvers(owned: TopicPartition | undefined): Promise<void> {
    this.#leftOversEnded ??= this.#endLeftOvers(owned)
    const ended = this.#leftOversEnded
    try {
      await ended
    } catch (error) {
      if (this.#leftOversEnded === ended) this.#leftOversEnded = undefined
      throw error
    }
  }

  async #endLeftOvers(owned: TopicPartition | undefined): Promise<void> {
    const { reader, transactor, onFailed } = this.deps
    const { topic, partition } = owned ?? { topic: [...(await reader.topics()).keys()].find(isInput), partition: 0 }
    if (topic === undefined) return
    const result = await transactor.release([{ topic, partition }], 'committed offset', this.#membership())
    if (result.kind === 'released') return
    if (result.kind === 'fatal') onFailed(result.reason)
    throw new Error(`what may be left open of transactions cannot be ended: ${result.reason}`)
  }

  /** Aborts offsets that are pending under ids whose processes may not come back. */
  async #abortPending(at: TopicPartition, ids: Iterable<string>): Promise<void> {
    const { log } = this.deps
    for (const id of ids) {
      const other = new BorrowedId(id, this.deps)
      try {
        await released(other.release([at], 'committed offset'))
        log.warn({ id, partition: partitionName(at) }, 'aborted the pending offsets of a hanging transaction')
      } catch (error) {
        log.warn(
          { id, reason: (error as Error).message },
          'could not abort the pending offsets of a hanging transaction',
        )
      } finally {
        await other.close()
      }
    }
  }

  #membership(): Membership {
    const membership = this.deps.group.membership()
    if (membership === undefined) throw new Error('not a member of the group')
    return membership
  }

  /** Starts to read restored partitions. */
  #begin(pasts: ReadonlyMap<Partition, PartitionPast>, begun: number): void {
    const { group, log, metrics, onReading } = this.deps
    const restored = [...pasts].filter(([partition]) => isRestoring(partition))
    if (restored.length === 0) return
    // First, since it throws when the client is being closed.
    group.startReading(restored.flatMap(([, { input, retry }]) => [input, retry]))
    const seconds = (performance.now() - begun) / 1000
    for (const [partition, past] of restored) {
      const sources = partition.read(past)
      for (const source of [sources.input, sources.retry]) this.sources.set(source.name, source)
      metrics.restored(partition, past, seconds)
      log.info(
        {
          partition: partition.name,
          from: past.input.offset,
          known: partition.dedupe.size,
          waiting: partition.waitingRecords,
          seconds: Number(seconds.toFixed(3)),
        },
        'reading',
      )
      this.#tell(partition, past)
      onReading(partition)
    }
  }

  #tell({ name, partition }: Partition, { skipped, fresh, foreign, unknown, input, retry }: PartitionPast): void {
    const { log } = this.deps
    if (foreign)
      log.warn(
        { partition: name, from: input.offset },
        'the committed offset was set by another client; events that already have an outcome are skipped',
      )
    if (skipped > 0)
      log.error({ partition: name, skipped, from: input.offset }, 'records were deleted before they were read')
    if (fresh === 'committed beyond the end')
      log.error(
        { partition: name },
        'the committed offset is beyond the end of the log: the topic was recreated or lost records',
      )
    if (unknown > 0)
      log.warn(
        { partition: name, records: unknown },
        'records before the committed offset have no outcome in the log; retention may have deleted it',
      )
    for (const { topic, missing } of [input, retry])
      if (missing.length > 0)
        log.error(
          { topic, partition, records: missing.length, offsets: missing.slice(0, MAX_OFFSETS_LOGGED) },
          'committed records have no outcome; processing them now',
        )
  }

  /** Our own pending offsets were ended before. Those of other ids end by themselves, unless their processes do not come back. */
  async #endPending(all: readonly HeldBack[]): Promise<void> {
    const { reader, transactor, log } = this.deps
    const patient = all.filter(
      ({ partition, attempt }) => isRestoring(partition) && attempt >= ATTEMPTS_BEFORE_TAKING_OVER,
    )
    const [first] = patient
    if (first === undefined) return
    const { at } = first.error
    try {
      // If the coordinator does not answer this either, the cause is not a transaction.
      await reader.committed([at])
      const own = transactor.transactionalId
      const ids = new Set<string>(recoveryIds(own))
      // Not in each attempt: a process that uses one of these ids is fenced and opens new clients.
      for (const { partition, attempt } of patient) {
        if (attempt % ATTEMPTS_BEFORE_TAKING_OVER !== 0) continue
        const writers = await writersOf(partition, reader).catch((error: Error) =>
          log.debug(
            { partition: partition.name, reason: error.message },
            'could not read which transactions wrote to the partition',
          ),
        )
        for (const id of writers ?? []) if (id !== own) ids.add(id)
      }
      await this.#abortPending(at, ids)
    } catch (error) {
      log.warn({ held: partitionName(at), reason: (error as Error).message }, 'could not abort a hanging transaction')
    }
  }

  /** Ends transactions that hold back partitions of a stream, if nobody else will. */
  async #endHanging(ofStream: readonly HeldBack[]): Promise<void> {
    const { group, reader, transactor, openTransactor, log, onFailed } = this.deps
    // Only partitions that are still ours when the membership is taken.
    const ours = ofStream.filter(({ partition }) => isRestoring(partition))
    if (ours.length === 0) return
    const partitions = ours.map(({ partition }) => partition)
    const mayTakeOver = (some: readonly Partition[]): boolean =>
      ours.some(({ partition, attempt }) => attempt >= ATTEMPTS_BEFORE_TAKING_OVER && some.includes(partition))
    try {
      const results = await endHanging(partitions, { group, reader, transactor, openTransactor, mayTakeOver })
      for (const result of results)
        if (result.kind === 'fatal') onFailed(result.reason)
        else log[result.kind === 'ended' ? 'warn' : 'error'](result, 'found a hanging transaction')
    } catch (error) {
      log.warn(
        { partitions: partitions.map(({ name }) => name), reason: (error as Error).message },
        'could not abort a hanging transaction',
      )
    } finally {
      // So that the next restore sees what was written again.
      for (const one of partitions) if (this.#proofs.has(one)) this.#proofs.set(one, 'needed')
    }
  }

  /** Pauses a partition that cannot be read, and restores it once it can. */
  async #unreadable(partition: Partition, reason: string): Promise<void> {
    const { reader, log, onPaused } = this.deps
    partition.enter({ kind: 'paused', cause: 'unreadable', reason })
    log.error({ partition: partition.name, reason }, 'paused')
    onPaused(partition)
    for (let attempt = 1; partition.isOpen; attempt++) {
      await sleep(delayMs(UNREADABLE_BACKOFF, attempt), partition.ending.signal)
      if (!partition.isOpen) return
      try {
        const ends = await reader.ends(partition.both)
        const next = [partition.sources?.input.next ?? 0, partition.sources?.retry.next ?? 0]
        await reader.read(
          partition.both.map((at, index) => {
            const { beginning = 0, stable = 0 } = ends[index] ?? {}
            // From where reading resumes: a readable record near the end would prove nothing.
            const from = Math.max(beginning, Math.min(next[index] ?? 0, stable - 1))
            return { ...at, from, to: Math.min(from + 1, stable) }
          }),
          () => undefined,
        )
        this.again([partition], 'it can be read again')
        return
      } catch (error) {
        log.debug(
          { partition: partition.name, reason: (error as Error).message },
          'partition cannot be read yet; retrying',
        )
      }
    }
  }
}

const isInput = (topic: string): boolean => parseTopic(topic)?.role === 'input'

const isRestoring = (partition: Partition): boolean => partition.state.kind === 'restoring'
