import type { IncomingRecord } from '../shared/events/record.ts'
import { siblingTopic, TOPIC_ROLES, type TopicRole } from '../shared/events/topics.ts'
import { type CommittedOffset, partitionName, type TopicPartition } from '../shared/kafka/types.ts'
import { encodeAhead } from './ahead.ts'
import type { DecidedOutcome, Job, PartitionView } from './consume.ts'
import { Deduplication } from './dedupe.ts'
import type { PartitionPast, SourcePast } from './partition-past.ts'
import type { Reason } from './retry.ts'

/** The states of an assigned partition and of its records; they change nowhere else. */

/**
 * A partition is paused because its records cannot be read, or because its outcomes cannot be written or committed. That an operator has paused its
 * stream is no state: it says nothing of what can be read or written, and both can be the case.
 */
export const PAUSE_CAUSES = ['unreadable', 'unwritable'] as const
export type PauseCause = (typeof PAUSE_CAUSES)[number]

/** Why the fetcher has paused a source: its partition’s state, or that it has used up its room. */
export type FullReason = 'state' | 'open' | 'retry-backlog' | 'parked' | 'memory'

export type PartitionState =
  /** Its past is being read from Kafka. `lasting`: that has failed for long. */
  | { kind: 'restoring'; fault: string | undefined; lasting?: boolean }
  | { kind: 'reading' }
  /** Tried again, with back-off. */
  | { kind: 'paused'; cause: PauseCause; reason: string }
  /** About to be revoked: no new work is started. */
  | { kind: 'draining' }
  /** No longer assigned, or being restored again as another object: nothing more is committed. */
  | { kind: 'revoked' }

const PARTITION_STEPS: Readonly<Record<PartitionState['kind'], readonly PartitionState['kind'][]>> = {
  restoring: ['restoring', 'reading', 'draining', 'revoked'],
  reading: ['paused', 'draining', 'revoked'],
  paused: ['paused', 'reading', 'draining', 'revoked'],
  draining: ['revoked'],
  revoked: [],
}

/** The states of a fetched record. */
export type RecordState = 'open' | 'decided' | 'in transaction' | 'committed'

const RECORD_STEPS: Readonly<Record<RecordState, readonly RecordState[]>> = {
  open: ['decided'],
  decided: ['in transaction'],
  'in transaction': ['decided', 'committed'],
  committed: [],
}

/** A bug of ours: going on could lose a record or a partition. */
export class StateError extends Error {
  override readonly name = 'StateError'
}

/** A record between its fetch and the commit of its outcome. */
export interface Item {
  job: Job
  source: Source
  /** What it adds to the bounded memory. */
  heldBytes: number
  /** Set when it is decided. */
  outcome: DecidedOutcome | undefined
  /** Its first outcome, if the broker refused that for its size. */
  refused: DecidedOutcome | undefined
  place: Place
}

/** A record's place in the order of its source. */
export interface Place {
  readonly offset: number
  readonly timestampMs: number
  state: RecordState
}

/** Records in memory by state, and their bytes; of one partition, or of all. */
export class Held {
  readonly records: Record<Exclude<RecordState, 'committed'>, number> = { open: 0, decided: 0, 'in transaction': 0 }
  readonly bytes = { input: 0, retry: 0 }
  /** Bytes of partitions that are not paused by anything, in total and by tenant: what a paused partition holds takes no room from others. */
  readonly unpaused = { input: 0, retry: 0 }
  readonly byTenant = new Map<string, { input: number; retry: number }>()

  /** Records that are decided and not committed. */
  get uncommitted(): number {
    return this.records.decided + this.records['in transaction']
  }

  /** Removes what a partition holds from the total. */
  subtract({ records, bytes }: Held): void {
    for (const state of ['open', 'decided', 'in transaction'] as const) this.add(state, -records[state])
    this.addBytes('input', -bytes.input)
    this.addBytes('retry', -bytes.retry)
  }

  add(state: RecordState, count: number): void {
    if (state === 'committed') return
    this.records[state] += count
    if (this.records[state] < 0) throw new StateError(`fewer than no records are ${state}`)
  }

  /** What is held of a tenant; the same object for as long as this one is used. */
  ofTenant(tenant: string): { input: number; retry: number } {
    const own = this.byTenant.get(tenant) ?? { input: 0, retry: 0 }
    this.byTenant.set(tenant, own)
    return own
  }

  addUnpaused(own: { input: number; retry: number }, role: Source['role'], bytes: number): void {
    own[role] += bytes
    this.unpaused[role] += bytes
    if (own[role] < 0) throw new StateError(`fewer than no bytes of ${role} are held`)
  }

  addBytes(role: Source['role'], bytes: number): void {
    this.bytes[role] += bytes
    if (this.bytes[role] < 0) throw new StateError(`fewer than no bytes of ${role} are held`)
  }
}

/** One of the two partitions that are read for an input partition: its own, and the one of `.retry`. */
export class Source implements TopicPartition {
  /** In order of offset; those before `#head` are committed. */
  readonly #places: Place[] = []
  #head = 0
  /** The next offset to fetch. */
  next: number
  /** Offsets beyond the committed one that an earlier owner has committed as done. */
  readonly #ahead: Set<number>
  /** Records that are fetched and not decided. */
  open = 0
  /** Paused by the fetcher for a reason of its own. */
  full: FullReason | undefined

  constructor(
    readonly owner: Partition,
    readonly role: 'input' | 'retry',
    { topic, partition, offset, done }: SourcePast,
  ) {
    this.topic = topic
    this.partition = partition
    this.name = partitionName(this)
    this.next = Math.max(0, offset)
    this.#ahead = done
  }

  readonly topic: string
  readonly partition: number
  readonly name: string

  /** @returns undefined for a record that needs no work: a resumed partition delivered it again, or an earlier owner committed it as done */
  add({ offset, timestampMs }: Pick<IncomingRecord, 'offset' | 'timestampMs'>): Place | undefined {
    if (offset < this.next) return undefined
    this.next = offset + 1
    const done = this.#ahead.delete(offset)
    const place: Place = { offset, timestampMs, state: done ? 'committed' : 'open' }
    this.#places.push(place)
    return done ? undefined : place
  }

  /** The oldest record that is not committed. */
  get oldest(): Readonly<Place> | undefined {
    while (this.#places[this.#head]?.state === 'committed') this.#head++
    if (this.#head > COMPACT_AT) {
      this.#places.splice(0, this.#head)
      this.#head = 0
    }
    return this.#places[this.#head]
  }

  /** How many fetched records are not committed. */
  get uncommitted(): number {
    let count = 0
    for (let index = this.#head; index < this.#places.length; index++)
      if (this.#places[index]?.state !== 'committed') count++
    return count
  }

  /** How many offsets there are from the oldest record that is not committed to the next to fetch. */
  get span(): number {
    const { oldest } = this
    return oldest === undefined ? 0 : this.next - oldest.offset
  }

  /**
   * What the current transaction commits: the offset of the oldest record that is in no transaction, so that no record is ever skipped (I3), and
   * which later records are done.
   */
  commit(): CommittedOffset {
    const { topic, partition } = this
    const places = this.#places
    let index = this.oldest === undefined ? places.length : this.#head
    while (index < places.length && isTaken(places[index])) index++
    const offset = places[index]?.offset ?? this.next
    const done: number[] = []
    for (index++; index < places.length; index++) if (isTaken(places[index])) done.push((places[index] as Place).offset)
    for (const ahead of this.#ahead) if (ahead >= offset) done.push(ahead)
    done.sort((a, b) => a - b)
    return { topic, partition, offset, metadata: encodeAhead(offset, done) }
  }
}

const isTaken = (place: Place | undefined): boolean => place?.state === 'committed' || place?.state === 'in transaction'

/** Committed places are removed from the front once there are this many. */
const COMPACT_AT = 1024

/** What an outcome takes beside its record: a handler's result may be much larger than its event. */
function madeBytes({ outcome, job: { record } }: Item): number {
  if (outcome === undefined || outcome.kind === 'duplicate') return 0
  if ('passed' in outcome.output) return Buffer.byteLength(outcome.output.result?.data ?? '')
  const made = outcome.output.value
  return made === null || made === record.value ? 0 : made.length
}

/** All state of one assigned input partition, from its assignment to its revocation. */
export class Partition implements PartitionView, TopicPartition {
  /** Events of it that are done or being processed. */
  dedupe: Deduplication
  /** How many events wait in `.retry`, by key: later events of the key must go there too. */
  readonly #waiting = new Map<string, number>()
  /** Identities of events that wait in `.retry`, with or without a key. */
  readonly #inRetry = new Set<string>()
  /** How many of these wait for a time of their own, by reason. */
  readonly waitingByReason = new Map<Reason, number>()
  /** Aborted when no new work may start. */
  readonly ending = new AbortController()
  /** Aborted when running work is dropped, too. */
  readonly abandoning = new AbortController()
  /** Set by {@link read}. */
  sources: { input: Source; retry: Source } | undefined
  #state: PartitionState = { kind: 'restoring', fault: undefined }
  readonly held = new Held()
  /** Records that are decided and in no transaction, in the order of their decisions. */
  readonly decided: Item[] = []
  /** The committed offsets of the input and of `.retry` when they were last asked for; -1: none. */
  claimed: readonly [number, number] | undefined
  /** Records that are being decided. */
  running = 0
  /** While an operator has paused its stream. */
  #resumed: ReturnType<typeof Promise.withResolvers<void>> | undefined
  #idle: (() => void) | undefined
  readonly #ofTenant: { input: number; retry: number }
  readonly name: string
  readonly processedTopic: string
  /** The input partition and the one of `.retry` that belongs to it. */
  readonly both: readonly [TopicPartition, TopicPartition]
  /** The partitions of `.retry`, `.dlq` and `.processed` that belong to it. */
  readonly outputs: readonly TopicPartition[]

  /** @param all the total of all partitions, in which this one is counted */
  constructor(
    readonly topic: string,
    readonly partition: number,
    readonly tenant: string,
    readonly stream: string,
    dedupeWindowRecords: number,
    readonly all: Held,
  ) {
    this.dedupe = new Deduplication(dedupeWindowRecords)
    this.name = partitionName(this)
    this.processedTopic = siblingTopic(topic, 'processed')
    this.#ofTenant = all.ofTenant(tenant)
    this.both = [{ topic, partition }, this.sibling('retry')]
    this.outputs = TOPIC_ROLES.map((role) => this.sibling(role))
  }

  /** Starts an empty window that holds at least so many outcomes. */
  remember(outcomes: number): void {
    this.dedupe = new Deduplication(Math.max(outcomes, this.dedupe.capacity))
  }

  get state(): PartitionState {
    return this.#state
  }

  /** @throws StateError for a transition that is not allowed */
  enter(next: PartitionState): void {
    if (!PARTITION_STEPS[this.#state.kind].includes(next.kind))
      throw new StateError(`${this.name} is ${this.#state.kind} and cannot be ${next.kind}`)
    const wasPaused = this.isPaused
    this.#state = next
    this.#share(Number(wasPaused) - Number(this.isPaused))
  }

  /** Whether no records are fetched, for either reason. */
  get isPaused(): boolean {
    return this.#state.kind === 'paused' || this.isPausedByOperator
  }

  get isPausedByOperator(): boolean {
    return this.#resumed !== undefined
  }

  /** Its stream is paused or resumed. While it is paused, no decision begins; what is running or decided is finished and committed. */
  setPausedByOperator(paused: boolean): void {
    if (paused === this.isPausedByOperator || !this.isOurs) return
    const wasPaused = this.isPaused
    this.#resumed?.resolve()
    this.#resumed = paused ? Promise.withResolvers<void>() : undefined
    this.#share(Number(wasPaused) - Number(this.isPaused))
  }

  /** Resolves when a decision may begin, or when none will. */
  async resumed(): Promise<void> {
    await this.#resumed?.promise
  }

  /** Adds its bytes to those of partitions that are not paused, or removes them. */
  #share(times: number): void {
    if (times === 0) return
    for (const role of ['input', 'retry'] as const)
      this.all.addUnpaused(this.#ofTenant, role, times * this.held.bytes[role])
  }

  /** Whether this member may commit for it. */
  get isOurs(): boolean {
    return this.#state.kind !== 'revoked'
  }

  /** Whether new records are taken. */
  get isOpen(): boolean {
    const { kind } = this.#state
    return kind === 'reading' || kind === 'paused'
  }

  get signal(): AbortSignal {
    return this.abandoning.signal
  }

  /** It is restored, and is read from now on. */
  read({ input, retry, waiting }: PartitionPast): { input: Source; retry: Source } {
    this.enter({ kind: 'reading' })
    for (const { identity, key } of waiting) {
      this.dedupe.claim(identity)
      this.addWaiting(identity, key)
    }
    this.sources = { input: new Source(this, 'input', input), retry: new Source(this, 'retry', retry) }
    return this.sources
  }

  sibling(role: TopicRole): TopicPartition {
    return { topic: siblingTopic(this.topic, role), partition: this.partition }
  }

  /** I5: later events of a key wait behind its event in `.retry`; other keys are not affected. */
  waits(key: string): boolean {
    return this.#waiting.has(key)
  }

  /** Events that wait in `.retry`. */
  get waitingRecords(): number {
    return this.#inRetry.size
  }

  /** Why its input is paused, if that is because too many events wait in `.retry`. */
  get backlog(): string | undefined {
    if (this.sources?.input.full !== 'retry-backlog') return undefined
    const reasons = [...this.waitingByReason].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)
    const why = reasons.map(([reason, count]) => `, ${count} of them with the reason “${reason}”`).join('')
    return `${this.waitingRecords} events wait in .retry${why}, and MAX_RETRY_BACKLOG_RECORDS allows no more`
  }

  /** An event in `.retry` begins to wait for a time of its own, or ends to. */
  countWaiting(reason: Reason, count: 1 | -1): void {
    this.waitingByReason.set(reason, (this.waitingByReason.get(reason) ?? 0) + count)
  }

  /** An event is in `.retry`. Idempotent. */
  addWaiting(identity: string, key: string | undefined): void {
    if (this.#inRetry.has(identity)) return
    this.#inRetry.add(identity)
    if (key !== undefined) this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1)
  }

  /** An event in `.retry` has its outcome. No effect for other events. */
  removeWaiting(identity: string, key: string | undefined): void {
    if (!this.#inRetry.delete(identity) || key === undefined) return
    const left = (this.#waiting.get(key) ?? 1) - 1
    if (left === 0) this.#waiting.delete(key)
    else this.#waiting.set(key, left)
  }

  /** A record was fetched. */
  hold(item: Item): void {
    item.source.open++
    this.#count('open', 1)
    this.#countBytes(item, item.heldBytes)
  }

  /** @throws StateError for a transition that is not allowed */
  move(item: Item, to: RecordState): void {
    const { place, source } = item
    const from = place.state
    if (!RECORD_STEPS[from].includes(to))
      throw new StateError(`${source.name}/${place.offset} is ${from} and cannot be ${to}`)
    place.state = to
    // Revocation has already subtracted everything that the partition held.
    if (!this.isOurs) return
    if (from === 'open') source.open--
    this.#count(from, -1)
    this.#count(to, 1)
    if (from === 'open') {
      this.decided.push(item)
      const bytes = madeBytes(item)
      item.heldBytes += bytes
      this.#countBytes(item, bytes)
    }
    if (to === 'committed') this.#countBytes(item, -item.heldBytes)
  }

  #count(state: RecordState, by: 1 | -1): void {
    this.held.add(state, by)
    this.all.add(state, by)
  }

  #countBytes({ source }: Item, bytes: number): void {
    this.held.addBytes(source.role, bytes)
    this.all.addBytes(source.role, bytes)
    if (!this.isPaused) this.all.addUnpaused(this.#ofTenant, source.role, bytes)
  }

  /** To be called whenever a decision has ended or a record was committed. */
  settle(): void {
    if (this.running === 0 && this.held.uncommitted === 0) this.#idle?.()
  }

  /**
   * Starts no new work, and waits until all started work is decided and committed.
   * @param timeoutMs after half of it, handlers that still run are aborted, so that the other half is left to commit what is decided
   */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#state.kind === 'draining' || this.#state.kind === 'revoked') return
    this.enter({ kind: 'draining' })
    this.#end()
    if (this.running === 0 && this.held.uncommitted === 0) return
    const abandon = setTimeout(() => this.abandoning.abort(), timeoutMs / 2)
    let overdue: ReturnType<typeof setTimeout> | undefined
    await new Promise<void>((resolve) => {
      this.#idle = resolve
      overdue = setTimeout(resolve, timeoutMs)
    })
    clearTimeout(abandon)
    clearTimeout(overdue)
  }

  #end(): void {
    this.ending.abort()
    this.#resumed?.resolve()
  }

  /** Drops everything at once: nothing more is committed. */
  revoke(): void {
    if (!this.isOurs) return
    this.enter({ kind: 'revoked' })
    this.#end()
    this.abandoning.abort()
    if (!this.isPaused) this.#share(-1)
    this.all.subtract(this.held)
    this.decided.length = 0
    this.#idle?.()
  }
}
