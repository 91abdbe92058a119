import { parseTopic, TOPIC_ROLES } from '../shared/events/topics.ts'
import {
  type GroupConsumer,
  type GroupListener,
  HangingTransactionError,
  type Membership,
  partitionName,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { type Backoff, CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'
import type { ConsumerConfig } from './config.ts'
import { BorrowedId, endHanging, recoveryIds, released, writersOf } from './hanging.ts'
import { Slots, Together } from './lanes.ts'
import { proveLeaders, waitForOffset } from './leaders.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { PartitionPast } from './partition-past.ts'
import { type Held, Partition, type Source } from './partition-state.ts'
import { restore } from './restore.ts'

export interface AssignmentDeps {
  group: GroupConsumer
  transactor: Transactor
  reader: RangeReader
  /** A client for another transactional id, connected; it is closed by who asked for it. */
  openTransactor(transactionalId: string): Promise<Transactor>
  /** Of all partitions. */
  held: Held
  metrics: ConsumerMetrics
  log: Logger
  config: ConsumerConfig
  /** These clients take the place of others that could not go on: something may have happened to a broker. */
  isReplacement: boolean
  /** Resolves when no transaction of ours that touches the partition is under way. */
  free(partition: string): Promise<void>
  /** A partition is paused. */
  onPaused(partition: Partition): void
  /** A partition begins to be read. */
  onReading(partition: Partition): void
  /** A partition is no longer this member's, or begins anew. */
  onDropped(partition: Partition): void
  /** The clients cannot go on. */
  onFailed(reason: string): void
}

/** How much of the time for a stop revoked partitions may take to finish; the rest is for leaving the group and closing. */
const REVOKE_SHARE = 0.5

/** Partitions that are restored one by one at a time. */
const MAX_RESTORED_ALONE = 16

/** How often a partition that could not be read is tried. */
const UNREADABLE_BACKOFF: Backoff = { firstMs: 500, maxMs: 10_000 }

/** A transaction of another id is aborted in its place when it has held a partition back for so many attempts, each of which waits for it. */
const ATTEMPTS_BEFORE_TAKING_OVER = 3

/** For how long after something has happened to a broker those that are assigned are restored with care. */
const DISTURBED_FOR_MS = 60_000

/** After how long what keeps a partition from being restored is taken for something that lasts. */
const LASTING_FAULT_MS = 60_000

/** What of the missing is named in one line of the log. */
const MAX_OFFSETS_LOGGED = 50

/** What holds a partition back, and in which attempt to restore it that was found. */
interface HeldBack {
  partition: Partition
  error: HangingTransactionError
  attempt: number
}

/** Partitions as they come and go: what is known of one is restored from Kafka before it is read. */
export class Assignments {
  readonly partitions = new Map<string, Partition>()
  /** What is read, by topic and partition. */
  readonly sources = new Map<string, Source>()
  /** Whether the group has told what is this member's, be it nothing. */
  assigned = false
  readonly #alone = new Slots(MAX_RESTORED_ALONE)
  /** What hangs is ended one after the other: clients of the same id would fence each other. */
  readonly #releasing = new Slots(1)
  readonly #endTogether = new Together(this.#releasing, (all: readonly HeldBack[]) => this.#end(all))
  readonly #proveTogether = new Together(this.#releasing, (all: readonly Partition[]) => this.#proveLeaders(all))
  /** By partition, while something that hangs in it is being ended. */
  readonly #ends = new Map<string, Promise<unknown>>()
  /** Of the group's offsets, any will do to end those that are pending. */
  #lastOwned: TopicPartition | undefined
  /** What an earlier client of this id has left open among committed offsets is ended; undefined: to be done before anything is restored. */
  #leftOversEnded: Promise<void> | undefined
  /**
   * For which partitions brokers may answer that lead no more, and which of their topics are proven to be read from their leaders. That lasts while a
   * partition is restored, since nobody else writes outcomes of it.
   */
  readonly #proofs = new WeakMap<Partition, 'needed' | 'outputs' | 'all'>()
  /** Monotonic; when something was last seen to happen to a broker. */
  #disturbedMs: number
  readonly #ending = new AbortController()

  constructor(readonly deps: AssignmentDeps) {
    this.#disturbedMs = deps.isReplacement ? performance.now() : Number.NEGATIVE_INFINITY
  }

  /** Whether partitions of another tenant than this one are this member's. */
  hasOtherTenants(tenant: string): boolean {
    for (const one of this.partitions.values()) if (one.tenant !== tenant) return true
    return false
  }

  /** What the group tells. */
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

  /** Restores partitions anew, from what is in Kafka; what is in hand of them is given up. */
  again(partitions: readonly Partition[], reason: string): void {
    const { group, log, onFailed } = this.deps
    const ours = partitions.filter((one) => one.isOurs)
    if (ours.length === 0) return
    log.warn({ partitions: ours.map((one) => one.name), reason }, 'restoring partitions again')
    // One that is being given up is not begun again.
    const kept = ours.filter((one) => one.state.kind !== 'draining')
    for (const one of ours) this.#drop(one)
    const begun = kept.map((one) => this.#own(one))
    // Nothing says that the group's coordinator, which is asked for offsets, leads: partitions that are assigned come from one that could write so down.
    for (const one of begun) this.#proofs.set(one, 'needed')
    // What still comes of them belongs to none.
    group.stopReading(ours.flatMap((one) => one.both)).then(
      () => this.#restore(begun).catch(this.#failed),
      (error: Error) => onFailed(`partitions cannot be read anew: ${error.message}`),
    )
  }

  /** The same for all, since something has happened to a broker; what transactions may have left open is ended first. */
  allAgain(reason: string): void {
    this.#disturbedMs = performance.now()
    this.#leftOversEnded = undefined
    this.again([...this.partitions.values()], reason)
  }

  /** Gives up everything at once. */
  dropAll(): void {
    this.#ending.abort()
    for (const partition of [...this.partitions.values()]) this.#drop(partition)
  }

  /** A partition that is assigned and not read would never be: with new clients it is assigned again. */
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
    // From the first second, not from the first round of the check in the background.
    this.deps.metrics.doubled.inc({ topic }, 0)
    this.partitions.set(owned.name, owned)
    return owned
  }

  async #revoked(taken: TopicPartition[], lost: boolean): Promise<TopicPartition[]> {
    this.deps.metrics.rebalances.inc({ kind: lost ? 'lost' : 'revoked' })
    if (lost) this.assigned = false
    const named = taken.map(partitionName)
    const ending = named.flatMap((name) => this.partitions.get(name) ?? [])
    if (!lost) await Promise.all(ending.map((one) => one.drain(REVOKE_SHARE * this.deps.config.DRAIN_TIMEOUT_MS)))
    // One that began another restore meanwhile is another object.
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

  /** All together, which takes few questions; those for which that does not work one by one, as long as it takes. */
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
          throw new Error('what Kafka says does not fit together: it is asked again, of brokers that prove to lead')
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
   * What is read of the partitions is read from brokers that lead their topics.
   * @returns those of which that cannot be told, and why: one stream's trouble is its own
   */
  async #proveLeaders(all: readonly Partition[]): Promise<Map<Partition, Error>> {
    const { reader, transactor, openTransactor } = this.deps
    const partitions = all.filter(isRestoring)
    const notProven = new Map<Partition, Error>()
    if (partitions.length === 0) return notProven
    // By an id that has nothing open there: what hangs may count, and is not to be aborted.
    const other = await openTransactor(`${transactor.transactionalId}-proof`)
    const write = (places: readonly TopicPartition[]) => released(other.release(places, 'records', this.#membership()))
    try {
      for (const [, ofStream] of Map.groupBy(partitions, ({ topic }) => topic)) {
        const outputs = ofStream.flatMap((one) => TOPIC_ROLES.map((role) => one.sibling(role)))
        try {
          await Promise.all(
            ofStream.map(async ({ both: [input], claimed }) => {
              if (claimed !== undefined) await waitForOffset(input, claimed[0], reader)
            }),
          )
          await proveLeaders(outputs, reader, write)
          // Whether the input has what is committed can be told once that is known.
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

  /** Ends what holds partitions back, should nobody else be going to. */
  async #end(all: readonly HeldBack[]): Promise<void> {
    await this.#endPending(all.filter(({ error }) => error.offset === undefined))
    const hanging = all.filter(({ error }) => error.offset !== undefined)
    // One stream's trouble is its own.
    for (const [, ofStream] of Map.groupBy(hanging, ({ partition }) => partition.topic))
      await this.#endHanging(ofStream)
  }

  /** Nothing of ours that touches the partitions is under way, nor left open. */
  async #ready(partitions: readonly Partition[]): Promise<void> {
    const [first] = partitions
    if (first === undefined) return
    for (const { name } of partitions) {
      await this.deps.free(name)
      await this.#ends.get(name)
    }
    this.#leftOversEnded ??= this.#endLeftOvers(first)
    const ended = this.#leftOversEnded
    try {
      await ended
    } catch (error) {
      if (this.#leftOversEnded === ended) this.#leftOversEnded = undefined
      throw error
    }
  }

  /**
   * What is pending of this id holds back whoever has the partitions now. With a partition of its own, a member ends it before the first is restored;
   * without one it is to be ended all the same. To be called regularly.
   */
  async endLeftOversWithoutPartitions(): Promise<void> {
    const { group, reader, log } = this.deps
    if (this.partitions.size > 0 || this.#leftOversEnded !== undefined || group.membership() === undefined) return
    const ended = (async () => {
      const at = this.#lastOwned ?? (await anyInput(reader))
      if (at !== undefined) await this.#endLeftOvers(at)
    })()
    this.#leftOversEnded = ended
    try {
      await ended
    } catch (error) {
      if (this.#leftOversEnded === ended) this.#leftOversEnded = undefined
      log.debug({ reason: (error as Error).message }, 'could not look for hanging transactions; retrying')
    }
  }

  /** Aborts offsets that are pending under ids that may not come back to do so. */
  async #abortPending(at: TopicPartition, ids: Iterable<string>): Promise<void> {
    const { log } = this.deps
    const { topic, partition } = at
    for (const id of ids) {
      const other = new BorrowedId(id, this.deps)
      try {
        await released(other.release([{ topic, partition }], 'committed offset'))
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

  /**
   * The broker makes all offsets that are pending under a producer id committed with the next commit of it, also those of a transaction that it
   * has forgotten to end. Therefore nothing is committed, and nothing believed, before these are aborted.
   */
  async #endLeftOvers({ topic, partition }: TopicPartition): Promise<void> {
    const { transactor, onFailed } = this.deps
    const result = await transactor.release([{ topic, partition }], 'committed offset', this.#membership())
    if (result.kind === 'released') return
    if (result.kind === 'fatal') onFailed(result.reason)
    throw new Error(`what may be left open of transactions cannot be ended: ${result.reason}`)
  }

  #membership(): Membership {
    const membership = this.deps.group.membership()
    if (membership === undefined) throw new Error('not a member of the group')
    return membership
  }

  /** Begins to read the partitions whose past is known. */
  #begin(pasts: ReadonlyMap<Partition, PartitionPast>, begun: number): void {
    const { group, log, metrics, onReading } = this.deps
    const restored = [...pasts].filter(([partition]) => isRestoring(partition))
    if (restored.length === 0) return
    // First of all, since it throws when the client is being closed.
    group.startReading(restored.flatMap(([, { input, retry }]) => [input, retry]))
    const seconds = (performance.now() - begun) / 1000
    for (const [partition, past] of restored) {
      const sources = partition.read(past)
      for (const source of [sources.input, sources.retry]) this.sources.set(source.name, source)
      metrics.restored(past, seconds)
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

  /** What is pending of ours was ended, and that of others ends by itself, unless they do not come back. */
  async #endPending(all: readonly HeldBack[]): Promise<void> {
    const { reader, transactor, log } = this.deps
    const patient = all.filter(
      ({ partition, attempt }) => isRestoring(partition) && attempt >= ATTEMPTS_BEFORE_TAKING_OVER,
    )
    const [first] = patient
    if (first === undefined) return
    const { at } = first.error
    try {
      // Where the group's coordinator says nothing at all, it is not a transaction that is waited for.
      await reader.committed([at])
      const own = transactor.transactionalId
      const ids = new Set<string>(recoveryIds(own))
      // Now and then only: whoever uses one of these ids opens new clients then.
      for (const { partition, attempt } of patient)
        if (attempt % ATTEMPTS_BEFORE_TAKING_OVER === 0)
          for (const id of await this.#writersOf(partition)) if (id !== own) ids.add(id)
      await this.#abortPending(at, ids)
    } catch (error) {
      log.warn({ held: partitionName(at), reason: (error as Error).message }, 'could not abort a hanging transaction')
    }
  }

  /** None where that cannot be told. */
  async #writersOf(partition: Partition): Promise<Iterable<string>> {
    const { reader, log } = this.deps
    try {
      return await writersOf(partition, reader)
    } catch (error) {
      log.debug(
        { partition: partition.name, reason: (error as Error).message },
        'could not read which transactions wrote to the partition',
      )
      return []
    }
  }

  /** Transactions that hold partitions of a stream back are ended, should nobody else be going to. */
  async #endHanging(ofStream: readonly HeldBack[]): Promise<void> {
    const { group, reader, transactor, openTransactor, log, onFailed } = this.deps
    // In the moment in which the membership is taken they are ours.
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
      // What was written again is to be seen.
      for (const one of partitions) if (this.#proofs.has(one)) this.#proofs.set(one, 'needed')
    }
  }

  /** The partition is not read for a reason that lasts. It is restored once it can be read again. */
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
            // Where reading is to go on, or what can be read at the end says nothing of it.
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

/** A partition of a stream, whichever. */
async function anyInput(reader: RangeReader): Promise<TopicPartition | undefined> {
  const topic = (await reader.topics()).find((name) => parseTopic(name)?.role === 'input')
  return topic === undefined ? undefined : { topic, partition: 0 }
}

const isRestoring = (partition: Partition): boolean => partition.state.kind === 'restoring'
