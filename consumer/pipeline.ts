import { parseTopic } from '../shared/events/topics.ts'
import { partitionName, type RangeReader, type TopicPartition } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { Assignments } from './assignment.ts'
import { BackgroundAudit } from './background-audit.ts'
import { Committer } from './commit.ts'
import type { ConsumeDeps } from './consume.ts'
import { type ControlledStream, StreamPauses } from './control.ts'
import { Decider } from './decide.ts'
import { Fetcher } from './fetch.ts'
import type { Clients } from './hanging.ts'
import type { ConsumerMetrics } from './metrics.ts'
import { Held, type Item, type Partition } from './partition-state.ts'
import type { Reason } from './retry.ts'

/** Limits without a variable. */
export interface PipelineBounds {
  /** Roughly, the most memory held for the outcomes of one transaction. */
  maxTransactionBytes: number
  /** How long, beyond two session time-outs, this client may be connected without being a member: other members may be slow to leave. */
  membershipGraceMs: number
  /** The share of time, from 0 to 1, in which the background audit may work; and the least pause between two of its rounds. */
  auditShare: number
  auditPauseMs: number
  /** How often the control topic is looked at. */
  controlPauseMs: number
}

const BOUNDS: PipelineBounds = {
  // A quarter of the client's queue: a transaction that does not fit into the queue is aborted.
  maxTransactionBytes: 256 * 2 ** 20,
  membershipGraceMs: 30_000,
  auditShare: 0.01,
  auditPauseMs: 10_000,
  controlPauseMs: 1_000,
}

export interface PipelineDeps extends Omit<ConsumeDeps, 'onQuickRetry'>, Clients {
  /** For the background audit; made for the group. */
  auditReader: RangeReader
  /** For the control topic. */
  controlReader: RangeReader
  /** Matches the streams' own topics. */
  topics: RegExp
  metrics: ConsumerMetrics
  /** undefined: no spans. */
  tracing: Tracing | undefined
  bounds?: Partial<PipelineBounds>
  /** These clients replace others after a fatal error, so that something may have happened to a broker. */
  isReplacement: boolean
  log: Logger
}

/** How much longer than a transaction's time-out decided records may wait for their commit before the clients are replaced. */
const COMMIT_STALL_GRACE_MS = 10_000

/** How often progress is checked. */
const LOOK_INTERVAL_MS = 500

/** How often topic ids are looked up, to detect recreated topics. */
const TOPICS_INTERVAL_MS = 5_000

/**
 * The flow of records: fetch (fetch.ts), decide (decide.ts), and commit outcomes and offsets in one transaction (commit.ts), for the assigned
 * partitions (assignment.ts). They share the partitions and their states (partition-state.ts).
 */
export class Pipeline {
  readonly #held = new Held()
  readonly #bounds: PipelineBounds
  readonly #assignments: Assignments
  readonly #fetcher: Fetcher
  readonly #decider: Decider
  readonly #committer: Committer
  readonly #audit: BackgroundAudit
  readonly #pauses: StreamPauses
  readonly #failed = Promise.withResolvers<string>()
  /** The transactor's count of lost connections when everything was last restored. */
  #disconnects = 0
  readonly #topicIds = new Map<string, string>()
  /** Whether a topic matches; assumed until a broker has answered. Without one the client does not join the group. */
  #hasTopics = true
  #fetching: Promise<void> = Promise.resolve()
  #looking: ReturnType<typeof setInterval> | undefined
  /** Monotonic; when progress was last checked. */
  #lookedMs: number | undefined
  /** Monotonic; when this client was last a member of its group, or not connected. */
  #memberMs = 0
  readonly #stopping = new AbortController()
  #ending: Promise<void> | undefined

  constructor(readonly deps: PipelineDeps) {
    const { transactor } = deps
    const held = this.#held
    this.#bounds = { ...BOUNDS, ...deps.bounds }
    this.#pauses = new StreamPauses({
      ...deps,
      pauseMs: this.#bounds.controlPauseMs,
      onChanged: () => this.#pausesChanged(),
    })
    this.#assignments = new Assignments({
      ...deps,
      held,
      pausesKnown: () => this.#pauses.known(),
      isPausedByOperator: (topic) => this.#pauses.isPaused(topic),
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
      ...deps,
      sources: this.#assignments.sources,
      held,
      hasOtherTenants: (tenant) => this.#assignments.hasOtherTenants(tenant),
      onRecord: (record, source, place) => this.#decider.take(record, source, place),
    })
    this.#committer = new Committer({
      ...deps,
      held,
      maxTransactionBytes: this.#bounds.maxTransactionBytes,
      isDisturbed: () => transactor.disconnects() !== this.#disconnects,
      onDisturbed: () => this.#disturbed(),
      onPaused: (partition) => this.#fetcher.changed(partition),
      onCommitted: (items, begunMs) => this.#committed(items, begunMs),
    })
    this.#audit = new BackgroundAudit({
      ...deps,
      reader: deps.auditReader,
      partitions: () => [...this.#assignments.partitions.values()],
      again: (partition, reason) => this.#assignments.again([partition], reason),
      share: this.#bounds.auditShare,
      pauseMs: this.#bounds.auditPauseMs,
    })
  }

  /**
   * Joins the group and works until {@link stop}, or until a fatal error; then the clients are closed without waiting for them.
   * @returns the fatal error; undefined after stop
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
    void this.#pauses.run(this.#stopping.signal)
    const transactions = transactor.start()
    // It joins only once it can make transactions.
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
    void this.#audit.run(this.#stopping.signal)
    const failure = await Promise.race([committing, this.#failed.promise])
    if (failure !== undefined) this.#abandon()
    return failure
  }

  /** Ends the run: the clients have to be replaced. */
  fail(reason: string): void {
    this.#failed.resolve(reason)
  }

  /** Stops fetching, finishes and commits what it can within the drain time-out, and leaves the group. */
  stop(): Promise<void> {
    this.#ending ??= this.#end()
    return this.#ending
  }

  async #end(): Promise<void> {
    const { group, transactor, reader, auditReader, controlReader } = this.deps
    this.#halt()
    await this.#fetching
    await group.close()
    this.#committer.stop()
    await Promise.all([transactor, reader, auditReader, controlReader].map((client) => client.close()))
  }

  /** Fetches nothing more, and ends what runs in the background. */
  #halt(): void {
    this.#stopping.abort()
    clearInterval(this.#looking)
    this.#fetcher.stop()
  }

  /** Waits for nothing: broken clients may never answer. */
  #abandon(): void {
    this.#ending ??= Promise.resolve()
    const { group, transactor, reader, auditReader, controlReader, log } = this.deps
    this.#halt()
    this.#committer.stop()
    this.#assignments.dropAll()
    for (const client of [group, transactor, reader, auditReader, controlReader])
      client.close().catch((error: Error) => log.warn({ reason: error.message }, 'a Kafka client did not close'))
  }

  /** The assigned partitions. */
  partitions(): Pick<Partition, 'name' | 'topic' | 'partition' | 'state' | 'isPausedByOperator' | 'backlog'>[] {
    return [...this.#assignments.partitions.values()]
  }

  /** The streams that an operator has paused, and why that cannot be read now. */
  pauses(): { streams: ControlledStream[]; fault: string | undefined } {
    return { streams: this.#pauses.paused(), fault: this.#pauses.fault }
  }

  /** A member has had an assignment, even an empty one, and is still in the group. */
  membership(): 'member' | 'not a member' | 'no topics' {
    if (this.#assignments.assigned && this.deps.group.membership() !== undefined) return 'member'
    return this.#hasTopics ? 'not a member' : 'no topics'
  }

  /** How long outcomes have waited for a commit while none succeeded, ms. */
  stalledMs(): number {
    return this.#committer.stalledMs()
  }

  /** How long ago progress was last checked, ms; 0 before the clients are ready. */
  unwatchedMs(): number {
    return this.#lookedMs === undefined ? 0 : performance.now() - this.#lookedMs
  }

  /** Records and bytes that are held in memory, handlers that run, and records that wait in `.retry`. */
  levels() {
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

  /** How many records in `.retry` wait for a time of their own, by reason. */
  waitingByReason(): ReadonlyMap<Reason, number> {
    const all = new Map<Reason, number>()
    for (const { waitingByReason } of this.#assignments.partitions.values())
      for (const [reason, count] of waitingByReason) all.set(reason, (all.get(reason) ?? 0) + count)
    return all
  }

  /**
   * For lag: of each partition that is read, the next offset to fetch, how many fetched records are not committed, and the timestamp of the oldest
   * of these.
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

  /** Whether a partition of an input or of its `.retry` is assigned to this member now. */
  has({ topic, partition }: TopicPartition): boolean {
    return this.#assignments.partitions.has(partitionName({ topic: parseTopic(topic)?.input ?? topic, partition }))
  }

  /** A partition ends before the next offset to fetch: the topic was recreated, or lost records. */
  endedBefore(name: string): void {
    const owner = this.#assignments.sources.get(name)?.owner
    if (owner !== undefined) this.#assignments.again([owner], `${name} ends before what was read of it`)
  }

  /** Whether a transaction was committed in this run. */
  hasCommitted(): boolean {
    return this.#committer.hasCommitted
  }

  #pausesChanged(): void {
    for (const partition of this.#assignments.partitions.values()) {
      partition.setPausedByOperator(this.#pauses.isPaused(partition.topic))
      this.#fetcher.changed(partition)
    }
  }

  #decided(item: Item): void {
    this.#fetcher.decided(item.source)
    this.#committer.add(item)
  }

  #committed(items: readonly Item[], begunMs: number): void {
    const nowMs = this.deps.nowMs()
    for (const item of items) {
      this.deps.metrics.committed(item, nowMs)
      this.#decider.committed(item, begunMs)
      // A source that had too many records beyond the committed offset may be resumed.
      if (item.source.full !== undefined && item.source.owner.isOurs) this.#fetcher.balance(item.source.owner)
      item.job.record.release?.()
    }
    this.#fetcher.committed()
  }

  /** A connection to a broker was lost: the log may differ from what this process knows of it. */
  #disturbed(): void {
    this.#disconnects = this.deps.transactor.disconnects()
    this.#assignments.allAgain('a connection to a broker was lost')
  }

  #look(): void {
    const { group, transactor, config } = this.deps
    // One connected client is enough: the other may have failed for good.
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

  /** A recreated topic has another id. The client would not notice, and would read on at its old offset. */
  async #watchTopics(): Promise<void> {
    const { reader, topics: pattern, log } = this.deps
    while (this.#ending === undefined) {
      try {
        this.#hasTopics = [...(await reader.topics()).keys()].some((topic) => pattern.test(topic))
        const ours = [...this.#assignments.partitions.values()].flatMap((one) => [one, ...one.outputs])
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
