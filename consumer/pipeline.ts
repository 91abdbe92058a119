import { parseTopic } from '../shared/events/topics.ts'
import {
  type GroupConsumer,
  partitionName,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { Assignments } from './assignment.ts'
import { BackgroundAudit } from './background-audit.ts'
import { Committer } from './commit.ts'
import type { ConsumeDeps } from './consume.ts'
import { Decider } from './decide.ts'
import { Fetcher } from './fetch.ts'
import type { ConsumerMetrics } from './metrics.ts'
import { Held, type Item, type PartitionState } from './partition-state.ts'

/** What no variable sets. */
export interface PipelineBounds {
  /** Roughly, of all that is held for the outcomes of one transaction. */
  maxTransactionBytes: number
  /** How much longer than two session time-outs this client may be no member of its group, though connected to Kafka: others may be slow to leave. */
  membershipGraceMs: number
  /** How much of the time the check in the background may be at work, from 0 to 1; and the least time between two rounds of it. */
  auditShare: number
  auditPauseMs: number
}

const BOUNDS: PipelineBounds = {
  // A quarter of what the client's queue holds: it gives up a transaction of which it cannot take all.
  maxTransactionBytes: 256 * 2 ** 20,
  membershipGraceMs: 30_000,
  auditShare: 0.01,
  auditPauseMs: 10_000,
}

export interface PipelineDeps extends Omit<ConsumeDeps, 'onQuickRetry'> {
  group: GroupConsumer
  transactor: Transactor
  /** Made for the group. */
  reader: RangeReader
  /** Another one, for the check in the background; made for the group. */
  auditReader: RangeReader
  /** A client for another transactional id, connected; it is closed by who asked for it. */
  openTransactor(transactionalId: string): Promise<Transactor>
  /** The streams' own topics that are read. */
  topics: RegExp
  metrics: ConsumerMetrics
  /** undefined: no spans. */
  tracing: Tracing | undefined
  /** In place of the usual ones. */
  bounds?: Partial<PipelineBounds>
  /** These clients take the place of others that could not go on: something may have happened to a broker. */
  isReplacement: boolean
  log: Logger
}

/** How much longer than a transaction may take decided records may wait for their commit before the clients are replaced. */
const COMMIT_STALL_GRACE_MS = 10_000

/** How often it is looked whether everything goes on. */
const LOOK_INTERVAL_MS = 500

/** How often the topics are looked up, to see whether one was made anew. */
const TOPICS_INTERVAL_MS = 5_000

/**
 * The flow of records: fetch (fetch.ts), decide (decide.ts), commit outcomes and offsets in one transaction (commit.ts), for the partitions that
 * are this member's (assignment.ts). What they share is the partitions and their states (partition.ts).
 */
export class Pipeline {
  readonly #held = new Held()
  readonly #bounds: PipelineBounds
  readonly #assignments: Assignments
  readonly #fetcher: Fetcher
  readonly #decider: Decider
  readonly #committer: Committer
  readonly #failed = Promise.withResolvers<string>()
  /** The lost connections of the transactor when everything was last restored. */
  #disconnects = 0
  readonly #topicIds = new Map<string, string>()
  /** Whether there is a topic to be read, as long as brokers have not said otherwise; without one the client does not join the group. */
  #hasTopics = true
  #fetching: Promise<void> = Promise.resolve()
  #looking: ReturnType<typeof setInterval> | undefined
  /** Monotonic; when it was last looked whether everything goes on. */
  #lookedMs: number | undefined
  /** Monotonic; when this client was last a member of its group, or Kafka could not be reached. */
  #memberMs = 0
  readonly #stopping = new AbortController()
  #ending: Promise<void> | undefined

  constructor(readonly deps: PipelineDeps) {
    const { group, transactor, metrics, log, config } = deps
    const held = this.#held
    this.#bounds = { ...BOUNDS, ...deps.bounds }
    this.#assignments = new Assignments({
      ...deps,
      held,
      free: (partition) => this.#committer.free(partition),
      onPaused: (partition) => this.#fetcher.changed(partition),
      onReading: ({ sources }) => this.#fetcher.added(sources === undefined ? [] : Object.values(sources)),
      onDropped: (partition) => {
        this.#committer.drop(partition)
        this.#fetcher.committed()
      },
      onFailed: (reason) => this.fail(reason),
    })
    this.#decider = new Decider({
      ...deps,
      hasOtherTenants: (tenant) => this.#assignments.hasOtherTenants(tenant),
      onDecided: (item) => this.#decided(item),
      onFailed: (reason) => this.fail(reason),
    })
    this.#fetcher = new Fetcher({
      group,
      sources: this.#assignments.sources,
      held,
      config,
      hasOtherTenants: (tenant) => this.#assignments.hasOtherTenants(tenant),
      metrics,
      onRecord: (record, source, place) => this.#decider.take(record, source, place),
    })
    this.#committer = new Committer({
      group,
      transactor,
      held,
      metrics,
      log,
      config,
      maxTransactionBytes: this.#bounds.maxTransactionBytes,
      isDisturbed: () => transactor.disconnects() !== this.#disconnects,
      onDisturbed: () => this.#disturbed(),
      onPaused: (partition) => this.#fetcher.changed(partition),
      onCommitted: (items) => this.#committed(items),
    })
  }

  /**
   * Joins the group and works until {@link stop}, or until the clients cannot go on: they are then left to themselves.
   * @returns why it cannot go on; undefined after stop
   */
  async run(): Promise<string | undefined> {
    try {
      return await this.#run()
    } catch (error) {
      if (this.#ending !== undefined) return undefined
      this.#abandon()
      return `beginning failed: ${messageOf(error)}`
    }
  }

  async #run(): Promise<string | undefined> {
    const { group, transactor } = this.deps
    const transactions = transactor.start()
    // Connecting takes time; a member is one only where transactions can be made.
    group.start(this.deps.topics, this.#assignments.listener(), transactions)
    const early = await Promise.race([transactions.then(() => undefined), this.#failed.promise])
    if (this.#ending !== undefined) return undefined
    if (early !== undefined) {
      this.#abandon()
      return early
    }
    this.#disconnects = transactor.disconnects()
    this.#fetching = this.#fetcher.run().catch((error: unknown) => this.fail(`fetching failed: ${messageOf(error)}`))
    const committing = this.#committer.run().catch((error: unknown) => `committing failed: ${messageOf(error)}`)
    this.#memberMs = performance.now()
    this.#lookedMs = this.#memberMs
    this.#looking = setInterval(() => {
      try {
        this.#look()
      } catch (error) {
        this.fail(`the watch on progress failed: ${messageOf(error)}`)
      }
    }, LOOK_INTERVAL_MS)
    void this.#watchTopics()
    void this.#audit()
    const failure = await Promise.race([committing, this.#failed.promise])
    if (failure !== undefined) this.#abandon()
    return failure
  }

  /** Ends the run: the clients cannot go on, or do not. */
  fail(reason: string): void {
    this.#failed.resolve(reason)
  }

  /** Stops fetching, finishes or gives up what is in hand within the limit, commits, and leaves the group; within a bound. */
  stop(): Promise<void> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  async #end(): Promise<void> {
    const { group, transactor, reader, auditReader } = this.deps
    this.#stopping.abort()
    clearInterval(this.#looking)
    this.#fetcher.stop()
    await this.#fetching
    await group.close()
    this.#committer.stop()
    await Promise.all([transactor.close(), reader.close(), auditReader.close()])
  }

  /** Nothing is waited for: what is broken may never answer. */
  #abandon(): void {
    this.#ending ??= Promise.resolve()
    const { group, transactor, reader, auditReader, log } = this.deps
    this.#stopping.abort()
    clearInterval(this.#looking)
    this.#fetcher.stop()
    this.#committer.stop()
    this.#assignments.dropAll()
    for (const client of [group, transactor, reader, auditReader])
      client.close().catch((error: Error) => log.warn({ reason: error.message }, 'a Kafka client did not close'))
  }

  /** Every assigned partition with its state. */
  partitions(): { name: string; topic: string; state: PartitionState }[] {
    return [...this.#assignments.partitions.values()].map(({ name, topic, state }) => ({ name, topic, state }))
  }

  /** Whether the group has told what is this member's, be it nothing, and this client is still a member. */
  membership(): 'member' | 'not a member' | 'no topics' {
    if (this.#assignments.assigned && this.deps.group.membership() !== undefined) return 'member'
    return this.#hasTopics ? 'not a member' : 'no topics'
  }

  /** How long there has been something to commit and nothing was committed, ms. */
  stalledMs(): number {
    return this.#committer.stalledMs()
  }

  /** How long it has not been looked whether everything goes on, ms; 0 before the clients are ready to work. */
  unwatchedMs(): number {
    return this.#lookedMs === undefined ? 0 : performance.now() - this.#lookedMs
  }

  /** Records that are held in memory, by what they wait for. */
  levels(): {
    open: number
    decided: number
    handlers: number
    parkedBytes: number
    heldBytes: number
    waiting: number
  } {
    const { records, bytes, uncommitted } = this.#held
    let waiting = 0
    for (const { waitingRecords } of this.#assignments.partitions.values()) waiting += waitingRecords
    return {
      open: records.open,
      decided: uncommitted,
      handlers: this.#decider.handlers,
      parkedBytes: bytes.retry,
      heldBytes: bytes.input,
      waiting,
    }
  }

  /**
   * What is read at the moment, for lag: the next offset to be fetched, how many records are fetched and not committed, and when the oldest of
   * these was written.
   */
  progress(): { topic: string; partition: number; next: number; uncommitted: number; oldestMs: number | undefined }[] {
    return [...this.#assignments.partitions.values()].flatMap(({ both, sources, claimed }) => {
      if (sources !== undefined)
        return [sources.input, sources.retry].map(({ topic, partition, next, uncommitted, oldest }) => ({
          topic,
          partition,
          next,
          uncommitted,
          oldestMs: oldest?.timestampMs,
        }))
      if (claimed === undefined) return []
      return both.map((at, index) => ({
        ...at,
        next: Math.max(0, claimed[index] ?? 0),
        uncommitted: 0,
        oldestMs: undefined,
      }))
    })
  }

  /** Whether a partition, of the input or of `.retry`, is this member's at this moment. */
  has({ topic, partition }: TopicPartition): boolean {
    return this.#assignments.partitions.has(partitionName({ topic: parseTopic(topic)?.input ?? topic, partition }))
  }

  /** The broker says that a partition ends before what was read of it: the topic was made anew, or has lost records. */
  endedBefore(name: string): void {
    const owner = this.#assignments.sources.get(name)?.owner
    if (owner !== undefined) this.#assignments.again([owner], `${name} ends before what was read of it`)
  }

  /** Whether a transaction was committed in this run. */
  hasCommitted(): boolean {
    return this.#committer.hasCommitted
  }

  #decided(item: Item): void {
    this.#fetcher.decided(item.source)
    this.#committer.add(item)
  }

  #committed(items: readonly Item[]): void {
    const nowMs = this.deps.nowMs()
    for (const item of items) {
      this.deps.metrics.committed(item, nowMs)
      this.#decider.committed(item)
      // What had too many records beyond the committed offset may go on.
      if (item.source.full && item.source.owner.isOurs) this.#fetcher.balance(item.source.owner)
    }
    this.#fetcher.committed()
  }

  /** A connection to a broker was lost: what is in the log may not be what this process has been told. */
  #disturbed(): void {
    this.#disconnects = this.deps.transactor.disconnects()
    this.#assignments.allAgain('a connection to a broker was lost')
  }

  #look(): void {
    const { group, transactor, config } = this.deps
    // That one client reaches Kafka is enough: the other may have given up.
    const isReached = [group, transactor].some((one) => one.connection().state === 'connected')
    if (this.membership() !== 'not a member' || !isReached) this.#memberMs = performance.now()
    else if (performance.now() - this.#memberMs > 2 * config.SESSION_TIMEOUT_MS + this.#bounds.membershipGraceMs)
      this.fail(
        `this client has not been a member of the group for ${Math.round((performance.now() - this.#memberMs) / 1000)} s`,
      )
    if (transactor.disconnects() !== this.#disconnects && transactor.connection().state === 'connected')
      this.#disturbed()
    void this.#assignments.endLeftOversWithoutPartitions()
    const stalledMs = this.#committer.stalledMs()
    if (stalledMs > config.TRANSACTION_TIMEOUT_MS + COMMIT_STALL_GRACE_MS)
      this.fail(`nothing was committed for ${Math.round(stalledMs / 1000)} s although outcomes are ready`)
    this.#lookedMs = performance.now()
  }

  /** Whether what was done has its outcomes is looked at again and again. */
  async #audit(): Promise<void> {
    const { auditReader, metrics, log } = this.deps
    await new BackgroundAudit({
      reader: auditReader,
      partitions: () => [...this.#assignments.partitions.values()],
      again: (partition, reason) => this.#assignments.again([partition], reason),
      metrics,
      log,
      share: this.#bounds.auditShare,
      pauseMs: this.#bounds.auditPauseMs,
    }).run(this.#stopping.signal)
  }

  /** A topic that was made anew has another id: the client would go on reading where the old one was. */
  async #watchTopics(): Promise<void> {
    const { reader, topics: pattern, log } = this.deps
    while (this.#ending === undefined) {
      try {
        this.#hasTopics = (await reader.topics()).some((topic) => pattern.test(topic))
        const ours = [...this.#assignments.partitions.values()].flatMap((one) => [
          ...one.both,
          one.sibling('dlq'),
          one.sibling('processed'),
        ])
        const names = new Set(ours.map(({ topic }) => topic))
        for (const [topic, id] of names.size === 0 ? [] : await reader.topicIds([...names])) {
          const before = this.#topicIds.get(topic)
          this.#topicIds.set(topic, id)
          if (before !== undefined && before !== id) this.fail(`${topic} was deleted and made anew`)
        }
      } catch (error) {
        log.debug({ reason: (error as Error).message }, 'topic metadata request failed')
      }
      await sleep(TOPICS_INTERVAL_MS, this.#stopping.signal)
    }
  }
}
