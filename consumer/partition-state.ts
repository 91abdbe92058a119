import type { Span } from '@opentelemetry/api'
import type { IncomingRecord } from '../shared/events/record.ts'
import { siblingTopic, TOPIC_ROLES, type TopicRole } from '../shared/events/topics.ts'
import { type CommittedOffset, partitionName, type TopicPartition } from '../shared/kafka/types.ts'
import { encodeAhead } from './ahead.ts'
import type { DecidedOutcome, Job, PartitionView } from './consume.ts'
import { Deduplication } from './dedupe.ts'
import type { PartitionPast, SourcePast } from './partition-past.ts'

/**
 * The states of an assigned partition and of its records, and the only places where they change. Everything that wants to know whether a
 * partition is still this member's, or what is in hand, asks here.
 */

/** Why a partition is paused: its records cannot be read, or its outcomes cannot be written or committed. */
export const PAUSE_CAUSES = ['unreadable', 'unwritable'] as const
export type PauseCause = (typeof PAUSE_CAUSES)[number]

/** What is done with an assigned partition. */
export type PartitionState =
  /** What was done of it is being read from Kafka; `lasting`: that has not worked for long. */
  | { kind: 'restoring'; fault: string | undefined; lasting?: boolean }
  | { kind: 'reading' }
  /** Tried again after a while. */
  | { kind: 'paused'; cause: PauseCause; reason: string }
  /** It is about to be revoked: nothing new is begun. */
  | { kind: 'draining' }
  /** It is no longer this member's, or is being restored again as another object. Nothing of it is committed any more. */
  | { kind: 'revoked' }

const PARTITION_STEPS: Readonly<Record<PartitionState['kind'], readonly PartitionState['kind'][]>> = {
  restoring: ['restoring', 'reading', 'draining', 'revoked'],
  reading: ['paused', 'draining', 'revoked'],
  paused: ['paused', 'reading', 'draining', 'revoked'],
  draining: ['revoked'],
  revoked: [],
}

/** What has become of a record that was fetched. */
export type RecordState = 'open' | 'decided' | 'in transaction' | 'committed'

const RECORD_STEPS: Readonly<Record<RecordState, readonly RecordState[]>> = {
  open: ['decided'],
  decided: ['in transaction'],
  'in transaction': ['decided', 'committed'],
  committed: [],
}

/** A fault of ours that must not go unseen: a record or a partition would go astray. */
export class StateError extends Error {
  override readonly name = 'StateError'
}

/** A record between its fetch and the commit of its outcome. */
export interface Item {
  job: Job
  source: Source
  /** What it holds of the memory that is bounded. */
  heldBytes: number
  /** Set once it is decided. */
  outcome: DecidedOutcome | undefined
  /** Its first outcome, which was refused for its size. */
  refused: DecidedOutcome | undefined
  place: Place
  /** From fetch to commit; undefined when nobody records its trace. */
  span: Span | undefined
}

/** A record's place in the order of its source. */
export interface Place {
  readonly offset: number
  readonly timestampMs: number
  state: RecordState
}

/** Records that are held, by state, and their bytes; of one partition, or of all. */
export class Held {
  readonly records: Record<Exclude<RecordState, 'committed'>, number> = { open: 0, decided: 0, 'in transaction': 0 }
  readonly bytes = { input: 0, retry: 0 }
  /** Of all partitions those that are not paused, since what a paused one holds takes no room from others: in all, and by tenant. */
  readonly unpaused = { input: 0, retry: 0 }
  readonly byTenant = new Map<string, { input: number; retry: number }>()

  /** Decided, and not committed. */
  get uncommitted(): number {
    return this.records.decided + this.records['in transaction']
  }

  /** Takes away what another one holds of it. */
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

  addUnpaused(tenant: string, role: Source['role'], bytes: number): void {
    const own = this.byTenant.get(tenant) ?? { input: 0, retry: 0 }
    this.byTenant.set(tenant, own)
    own[role] += bytes
    this.unpaused[role] += bytes
    if (own[role] < 0) throw new StateError(`fewer than no bytes of ${role} are held`)
  }

  addBytes(role: Source['role'], bytes: number): void {
    this.bytes[role] += bytes
    if (this.bytes[role] < 0) throw new StateError(`fewer than no bytes of ${role} are held`)
  }
}

/** One of the two partitions that are read for an input partition: the stream's own, and its `.retry`. */
export class Source implements TopicPartition {
  /** In order of offset, from the oldest that is not committed. */
  readonly #places: Place[] = []
  #head = 0
  /** The next offset to come. */
  #next: number
  /** Offsets beyond the committed one that an earlier owner has done. */
  readonly #ahead: Set<number>
  /** Fetched and not decided. */
  open = 0
  /** Too many of its records are in hand: nothing more is fetched. */
  full = false

  constructor(
    readonly owner: Partition,
    readonly role: 'input' | 'retry',
    { topic, partition, offset, done }: SourcePast,
  ) {
    this.topic = topic
    this.partition = partition
    this.name = partitionName(this)
    this.#next = Math.max(0, offset)
    this.#ahead = done
  }

  readonly topic: string
  readonly partition: number
  readonly name: string

  /** The next offset to come. */
  get next(): number {
    return this.#next
  }

  /** @returns its place; undefined for a record that needs nothing: a resumed partition brought it again, or an earlier owner has done it */
  add({ offset, timestampMs }: Pick<IncomingRecord, 'offset' | 'timestampMs'>): Place | undefined {
    if (offset < this.#next) return undefined
    this.#next = offset + 1
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

  /** How many records are fetched and not committed. */
  get uncommitted(): number {
    let count = 0
    for (let index = this.#head; index < this.#places.length; index++)
      if (this.#places[index]?.state !== 'committed') count++
    return count
  }

  /** How many offsets lie between the oldest record that is not committed and the next to come. */
  get span(): number {
    const { oldest } = this
    return oldest === undefined ? 0 : this.#next - oldest.offset
  }

  /**
   * What the transaction that is being made commits: the offset of the oldest record that is in none, so that no record is ever skipped (I3), and
   * which later ones are in this one or in one before.
   */
  commit(): CommittedOffset {
    const { topic, partition } = this
    const places = this.#places
    let index = this.oldest === undefined ? places.length : this.#head
    while (index < places.length && isTaken(places[index])) index++
    const offset = places[index]?.offset ?? this.#next
    const done: number[] = []
    for (index++; index < places.length; index++) if (isTaken(places[index])) done.push((places[index] as Place).offset)
    for (const ahead of this.#ahead) if (ahead >= offset) done.push(ahead)
    return {
      topic,
      partition,
      offset,
      metadata: encodeAhead(
        offset,
        done.sort((a, b) => a - b),
      ),
    }
  }
}

const isTaken = (place: Place | undefined): boolean => place?.state === 'committed' || place?.state === 'in transaction'

/** Committed places at the front of a source that are worth moving the others for. */
const COMPACT_AT = 1024

/** What an outcome takes of memory beside its record: a handler may make much of little. */
function madeBytes({ outcome, job: { record } }: Item): number {
  const made = outcome === undefined || outcome.kind === 'duplicate' ? null : outcome.output.value
  return made === null || made.buffer === record.value?.buffer ? 0 : made.length
}

/** All state of one assigned input partition. It lives as long as the assignment and is restored from Kafka at the next. */
export class Partition implements PartitionView, TopicPartition {
  #dedupe: Deduplication
  /** Events that wait in `.retry`, by key: later ones of the key go there too, or they would overtake. */
  readonly #waiting = new Map<string, number>()
  /** Identities of the events in `.retry` that are not done, with or without a key. */
  readonly #inRetry = new Set<string>()
  /** Aborted when nothing new is to be begun. */
  readonly ending = new AbortController()
  /** Aborted when what runs is given up too, and nothing is committed any more. */
  readonly abandoning = new AbortController()
  /** Set by {@link read}. */
  #sources: { input: Source; retry: Source } | undefined
  #state: PartitionState = { kind: 'restoring', fault: undefined }
  readonly held = new Held()
  /** Decided and in no transaction, in the order of their decisions. */
  readonly decided: Item[] = []
  /** What was committed of it, and of its `.retry`, when that was last asked for; -1: nothing. */
  claimed: readonly [number, number] | undefined
  /** Decisions that are being made. */
  running = 0
  #idle: (() => void) | undefined
  readonly name: string
  /** The input partition and the one of `.retry` that belongs to it. */
  readonly both: readonly [TopicPartition, TopicPartition]
  /** The partitions of `.retry`, `.dlq` and `.processed` that belong to it. */
  readonly outputs: readonly TopicPartition[]

  /** @param all what is held of all partitions; this one's is counted in */
  constructor(
    readonly topic: string,
    readonly partition: number,
    readonly tenant: string,
    readonly stream: string,
    dedupeWindowRecords: number,
    readonly all: Held,
  ) {
    this.#dedupe = new Deduplication(dedupeWindowRecords)
    this.name = partitionName(this)
    this.both = [{ topic, partition }, this.sibling('retry')]
    this.outputs = TOPIC_ROLES.map((role) => this.sibling(role))
  }

  /** What of it has been done, and is being done. */
  get dedupe(): Deduplication {
    return this.#dedupe
  }

  /** Begins with an empty window that holds at least so many outcomes. */
  remember(outcomes: number): void {
    this.#dedupe = new Deduplication(Math.max(outcomes, this.#dedupe.capacity))
  }

  get state(): PartitionState {
    return this.#state
  }

  /** @throws StateError for a step that there is not */
  enter(next: PartitionState): void {
    if (!PARTITION_STEPS[this.#state.kind].includes(next.kind))
      throw new StateError(`${this.name} is ${this.#state.kind} and cannot be ${next.kind}`)
    const isPaused = Number(next.kind === 'paused')
    const wasPaused = Number(this.#state.kind === 'paused')
    this.#state = next
    this.#share(wasPaused - isPaused)
  }

  /** Counts what it holds once more, or no more, among what is not paused. */
  #share(times: number): void {
    if (times === 0) return
    for (const role of ['input', 'retry'] as const)
      this.all.addUnpaused(this.tenant, role, times * this.held.bytes[role])
  }

  /** Whether this member may commit for it. */
  get isOurs(): boolean {
    return this.#state.kind !== 'revoked'
  }

  /** Whether new records of it are taken on. */
  get isOpen(): boolean {
    const { kind } = this.#state
    return kind === 'reading' || kind === 'paused'
  }

  get signal(): AbortSignal {
    return this.abandoning.signal
  }

  get sources(): { input: Source; retry: Source } | undefined {
    return this.#sources
  }

  /** Its past is known: from here on it is read. */
  read({ input, retry, waiting }: PartitionPast): { input: Source; retry: Source } {
    this.enter({ kind: 'reading' })
    for (const { identity, key } of waiting) {
      this.#dedupe.claim(identity)
      this.addWaiting(identity, key)
    }
    this.#sources = { input: new Source(this, 'input', input), retry: new Source(this, 'retry', retry) }
    return this.#sources
  }

  sibling(role: TopicRole): TopicPartition {
    return { topic: siblingTopic(this.topic, role), partition: this.partition }
  }

  /** I5: what comes after a waiting event of its key goes behind it, and other keys go on. */
  waits(key: string): boolean {
    return this.#waiting.has(key)
  }

  /** Records in `.retry` that are not done. */
  get waitingRecords(): number {
    return this.#inRetry.size
  }

  /** An event was, or is found to be, in `.retry`. Said again, it changes nothing. */
  addWaiting(identity: string, key: string | undefined): void {
    if (this.#inRetry.has(identity)) return
    this.#inRetry.add(identity)
    if (key !== undefined) this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1)
  }

  /** An event in `.retry` has its outcome. Of one that is not there, it says nothing. */
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

  /**
   * A record's next state.
   * @throws StateError for a step that there is not
   */
  move(item: Item, to: RecordState): void {
    const { place, source } = item
    const from = place.state
    if (!RECORD_STEPS[from].includes(to))
      throw new StateError(`${source.name}/${place.offset} is ${from} and cannot be ${to}`)
    place.state = to
    // What was given up has given everything back.
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
    if (this.#state.kind !== 'paused') this.all.addUnpaused(this.tenant, source.role, bytes)
  }

  /** Told whenever a decision has ended or a record was committed. */
  settle(): void {
    if (this.running === 0 && this.held.uncommitted === 0) this.#idle?.()
  }

  /**
   * Begins nothing more, and waits until all that was begun is decided and committed.
   * @param timeoutMs after half of it, handlers that still run are given up, so that the other half is left for what is decided
   */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#state.kind === 'draining' || this.#state.kind === 'revoked') return
    this.enter({ kind: 'draining' })
    this.ending.abort()
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

  /** Gives up everything at once: nothing of it is committed any more. */
  revoke(): void {
    if (!this.isOurs) return
    this.enter({ kind: 'revoked' })
    this.ending.abort()
    this.abandoning.abort()
    this.#share(-1)
    this.all.subtract(this.held)
    this.decided.length = 0
    this.#idle?.()
  }
}
