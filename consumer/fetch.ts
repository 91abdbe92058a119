import type { IncomingRecord } from '../shared/events/record.ts'
import { type GroupConsumer, partitionName } from '../shared/kafka/types.ts'
import { MAX_AHEAD_OFFSETS } from './ahead.ts'
import type { ConsumerConfig } from './config.ts'
import { identityOf, keyOf } from './decode.ts'
import type { ConsumerMetrics } from './metrics.ts'
import type { FullReason, Held, Partition, Place, Source } from './partition-state.ts'

export interface FetchDeps {
  group: GroupConsumer
  /** What is read, by topic and partition. */
  sources: ReadonlyMap<string, Source>
  /** Of all partitions. */
  held: Held
  config: ConsumerConfig
  /** Whether partitions of another tenant are assigned. */
  hasOtherTenants(tenant: string): boolean
  metrics: ConsumerMetrics
  /** Takes a record that is to be decided. */
  onRecord(record: IncomingRecord, source: Source, place: Place): void
}

/** The most records fetched in one call. */
const FETCH_MAX_RECORDS = 500

/** How long one fetch waits for the first record. */
const FETCH_WAIT_MS = 100

/** How long fetching may wait for room before partitions are paused, so that polling continues. */
const FULL_PATIENCE_MS = 500

/** The same for the room of one partition; the others wait with it. */
const FILLED_PATIENCE_MS = 50

/** Fetches records while there is room for them, and pauses partitions that have used up theirs. */
export class Fetcher {
  #stopping = false
  /** Sources that are paused for a reason of their own. */
  readonly #full = new Set<Source>()
  /** Everything is paused for lack of room. */
  #paused = false
  #wake: (() => void) | undefined

  constructor(readonly deps: FetchDeps) {}

  /** Until {@link stop}. */
  async run(): Promise<void> {
    const { group } = this.deps
    while (!this.#stopping) {
      if (this.#isFull() && !this.#paused) {
        const filled = this.#filled()
        await this.#room(filled.length > 0 ? FILLED_PATIENCE_MS : FULL_PATIENCE_MS)
        // Rebalances are served by polling, so it must continue; paused partitions deliver no records to it.
        if (filled.length > 0) for (const source of this.#filled()) this.#pause(source, 'open')
        else if (this.#isFull()) this.#pauseAll(true)
        continue
      }
      if (this.#paused && !this.#isFull()) this.#pauseAll(false)
      this.#takeAll(await group.poll(FETCH_MAX_RECORDS, FETCH_WAIT_MS))
    }
  }

  /** Records of one partition arrive together, so its source is looked up, and its room checked, once for them. */
  #takeAll(records: readonly IncomingRecord[]): void {
    let source: Source | undefined
    for (const record of records) {
      if (source?.partition !== record.partition || source.topic !== record.topic) {
        if (source !== undefined) this.#balance(source)
        source = this.deps.sources.get(partitionName(record))
      }
      if (source === undefined) record.release?.()
      else this.#take(record, source)
    }
    if (source !== undefined) this.#balance(source)
  }

  stop(): void {
    this.#stopping = true
    this.#wake?.()
  }

  /** Records were committed or dropped: there may be room again, for any source. */
  committed(): void {
    for (const source of [...this.#full])
      if (source.owner.isOurs) this.#balance(source)
      else this.#full.delete(source)
    this.#wakeIfRoom()
  }

  #wakeIfRoom(): void {
    if (this.#wake !== undefined && !this.#isFull()) this.#wake()
  }

  /** Newly read sources are paused too while everything is paused, or their stream is. */
  added(sources: readonly Source[]): void {
    if (this.#paused) this.deps.group.pause(sources)
    for (const source of sources) this.#balance(source)
  }

  /**
   * What paused partitions hold takes no room from the others. A partition without room of its own is waited for before it is paused: the client
   * drops what it has read ahead for a paused partition, and has to read it again.
   */
  #isFull(): boolean {
    const { held, sources, config } = this.deps
    let { uncommitted } = held
    for (const source of sources.values()) {
      const { owner, role } = source
      if (this.#isFilled(source)) return true
      if (role === 'input' && owner.isPaused) uncommitted -= owner.held.uncommitted
    }
    return uncommitted >= 2 * config.MAX_TRANSACTION_RECORDS || held.unpaused.input >= config.MAX_HELD_BYTES
  }

  /** It has used up its own room, and is not paused. */
  #isFilled({ role, open, full }: Source): boolean {
    return role === 'input' && full === undefined && open >= this.deps.config.MAX_OPEN_RECORDS
  }

  #filled(): Source[] {
    return [...this.deps.sources.values()].filter((source) => this.#isFilled(source))
  }

  async #room(patienceMs: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, patienceMs)
      this.#wake = resolve
    })
    clearTimeout(timer)
    this.#wake = undefined
  }

  #pauseAll(paused: boolean): void {
    this.#paused = paused
    const { group, metrics, sources } = this.deps
    const others = [...sources.values()].filter(({ full }) => full === undefined)
    if (others.length === 0) return
    if (paused) group.pause(others)
    else group.resume(others)
    metrics.pauses.inc({ reason: 'memory' }, paused ? 1 : 0)
  }

  /** Pauses or resumes both sources of a partition, depending on their room, the partition's state, and whether an operator has paused its stream. */
  balance({ sources }: Partition): void {
    if (sources === undefined) return
    this.#balance(sources.input)
    this.#balance(sources.retry)
  }

  /** The partition was paused or resumed: once it is paused, what it holds takes no room from others. */
  changed(partition: Partition): void {
    this.balance(partition)
    this.committed()
  }

  /** A record of the source was decided. */
  decided(source: Source): void {
    const { owner } = source
    // For most records nothing can have changed.
    if (source.full !== undefined || owner.waitingRecords > 0) this.balance(owner)
    // Only when it has room again.
    if (source.open === this.deps.config.MAX_OPEN_RECORDS - 1) this.#wakeIfRoom()
  }

  /** Pauses a source that has used up its room, and resumes it once enough is free. */
  #balance(source: Source): void {
    const { config, group } = this.deps
    const { open } = source
    const reason = this.#reasonToPause(source)
    if (reason !== undefined && source.full !== undefined) source.full = reason
    else if (reason !== undefined) this.#pause(source, reason)
    else if (
      source.full !== undefined &&
      (source.role === 'retry' || open <= config.MAX_OPEN_RECORDS / 2) &&
      source.span < MAX_AHEAD_OFFSETS / 2
    ) {
      source.full = undefined
      this.#full.delete(source)
      if (!this.#paused) group.resume([source])
    }
  }

  #pause(source: Source, reason: FullReason): void {
    const { group, metrics } = this.deps
    source.full = reason
    this.#full.add(source)
    if (!this.#paused) group.pause([source])
    metrics.pauses.inc({ reason })
  }

  #reasonToPause(source: Source): FullReason | undefined {
    const { config, held } = this.deps
    const { owner, role, span } = source
    if (owner.state.kind !== 'reading' || owner.isPausedByOperator) return 'state'
    if (span >= MAX_AHEAD_OFFSETS) return 'open'
    if (role === 'retry') {
      if (held.bytes.retry >= config.MAX_PARKED_BYTES) return 'parked'
      return this.#hasItsShare(source, config.MAX_PARKED_BYTES) ? 'parked' : undefined
    }
    if (owner.waitingRecords >= config.MAX_RETRY_BACKLOG_RECORDS) return 'retry-backlog'
    return this.#hasItsShare(source, config.MAX_HELD_BYTES) ? 'memory' : undefined
  }

  /** Whether its tenant holds more bytes than are left for all others; once the source is paused, more than half of that. */
  #hasItsShare({ owner: { tenant }, role, full }: Source, maxBytes: number): boolean {
    const { held, hasOtherTenants } = this.deps
    const own = held.byTenant.get(tenant)?.[role] ?? 0
    const free = Math.max(0, maxBytes - held.unpaused[role])
    return own > (full === undefined ? free : free / 2) && hasOtherTenants(tenant)
  }

  #take(record: IncomingRecord, source: Source): void {
    const { owner } = source
    const place = owner.ending.signal.aborted ? undefined : source.add(record)
    if (place === undefined) {
      record.release?.()
      return
    }
    // Most events in `.retry` are known, from the restore or because this member moved them. Not known are those that were committed as done, and
    // those that another owner moved meanwhile.
    if (source.role === 'retry') {
      const identity = identityOf(record)
      owner.dedupe.claim(identity)
      owner.addWaiting(identity, keyOf(record))
    }
    this.deps.onRecord(source.role === 'retry' ? detached(record) : record, source, place)
  }
}

/** The record alone: a batch's buffer can be used again, and one that waits for its retry would keep it for long. */
function detached(record: IncomingRecord): IncomingRecord {
  const { topic, partition, offset, timestampMs, key, value, headers } = record
  record.release?.()
  return { topic, partition, offset, timestampMs, key, value, headers }
}
