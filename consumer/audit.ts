import { siblingTopic, TOPIC_ROLES, type TopicRole } from '../shared/events/topics.ts'
import {
  type CommittedOffset,
  type KnownRecord,
  type PartitionEnds,
  partitionName,
  type RangeReader,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'
import { decodeAhead, encodeAhead } from './ahead.ts'
import { identityOf } from './decode.ts'
import { HashWindow } from './dedupe.ts'

/**
 * Checks that every event of a range has one outcome, in `.processed` or in `.dlq`. Committed offsets are a claim, outcomes are the fact: an event
 * that is committed as done but has neither an outcome nor a record in `.retry` is missing (I3).
 */

/** What became of an event, as far as Kafka tells. */
export const VERDICTS = [
  'processed',
  'dead',
  /** It is in `.retry`. */
  'waiting',
  /** It is not committed as done yet. */
  'pending',
  /** It is committed as done and has no outcome. */
  'missing',
  /** It has more than one outcome. */
  'doubled',
  /** No outcome was found: it may have been deleted, or be behind an open transaction. */
  'unknown',
] as const
export type Verdict = (typeof VERDICTS)[number]

/** The part of a reader that an audit needs. */
export type AuditReader = Pick<RangeReader, 'ends' | 'readIdentities'>

const ROLES = ['input', ...TOPIC_ROLES] as const
const OUTCOME_ROLES = ['dlq', 'processed'] as const satisfies readonly TopicRole[]

/** Pause between two checks whether a transaction has ended. */
const TRANSACTIONS_PAUSE_MS = 50

/**
 * How much later than its outcome an event's timestamp may be, since senders' clocks differ from ours. By default, brokers reject records whose timestamp
 * is further in the future (`message.timestamp.after.max.ms`).
 */
const CLOCK_SKEW_MS = 3_600_000

/** One outcome's timestamp is kept for each so many offsets. */
const TIME_SAMPLE_OFFSETS = 10_000

// ---- committed offsets and ends at one moment

/** What is committed of an input partition, and where its topics end. */
export interface Snapshot {
  at: TopicPartition
  /** What is committed of the input; offset -1: nothing. */
  committed: CommittedOffset
  /** Where reading resumes. */
  input: CommittedOffset
  retry: CommittedOffset
  ends: Record<'input' | TopicRole, PartitionEnds>
  /** The first output topic in which a transaction was still open after the time-out, and its first offset. */
  heldBack: { topic: string; offset: number } | undefined
}

const placeOf = ({ topic, partition }: TopicPartition, role: (typeof ROLES)[number]): TopicPartition => ({
  topic: role === 'input' ? topic : siblingTopic(topic, role),
  partition,
})

/**
 * The order matters: committed offsets first, then the ends of the outputs. Once the transactions below these ends have ended, every event that
 * was committed has its outcome, or its record in `.retry`, below them. Later commits only add outcomes.
 * @param committed asks for a group's offsets, without those of open transactions
 * @param timeoutMs how long open transactions may take to end
 * @returns in the order of the partitions
 */
export async function takeSnapshots(
  inputs: readonly TopicPartition[],
  committed: (partitions: readonly TopicPartition[]) => Promise<readonly CommittedOffset[]>,
  reader: AuditReader,
  timeoutMs: number,
): Promise<Snapshot[]> {
  const rows = await committed(inputs.flatMap((at) => [placeOf(at, 'input'), placeOf(at, 'retry')]))
  const byName = new Map(rows.map((row) => [partitionName(row), row]))
  const committedOf = (at: TopicPartition): CommittedOffset =>
    byName.get(partitionName(at)) ?? { ...at, offset: -1, metadata: '' }
  const allEnds = await stableEnds(inputs, reader, timeoutMs)
  return allEnds.map((ends, index) => {
    const at = placeOf(inputs[index] as TopicPartition, 'input')
    const held = TOPIC_ROLES.find((role) => ends[role].stable < ends[role].end)
    const input = committedOf(at)
    return {
      at,
      committed: input,
      input: startOf(input, ends.input),
      retry: startOf(committedOf(placeOf(at, 'retry')), ends.retry),
      ends,
      heldBack: held && { topic: siblingTopic(at.topic, held), offset: ends[held].stable },
    }
  })
}

/** Where reading of a partition resumes: at the committed offset, or at the beginning if that offset is gone. */
function startOf(committed: CommittedOffset, { beginning, end }: PartitionEnds): CommittedOffset {
  const { offset, metadata } = committed
  if (offset >= beginning && offset <= end) return committed
  // Beyond the end: the topic was recreated, or lost its last records.
  if (offset < 0 || offset > end) return { ...committed, offset: beginning, metadata: '' }
  const ahead = [...decodeAhead(offset, metadata)].filter((one) => one >= beginning)
  return { ...committed, offset: beginning, metadata: encodeAhead(beginning, ahead) }
}

/**
 * The ends of the inputs and the topics beside them. Where a transaction is open in an output, the end after it, since an aborted transaction's
 * outcomes may have been written again behind it; after the time-out, `stable` stays below `end`.
 */
async function stableEnds(
  inputs: readonly TopicPartition[],
  reader: AuditReader,
  timeoutMs: number,
): Promise<Snapshot['ends'][]> {
  const places = inputs.flatMap((at) => ROLES.map((role) => placeOf(at, role)))
  const ends = await reader.ends(places)
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const open = [...ends.entries()].filter(
      ([index, { stable, end }]) => ROLES[index % ROLES.length] !== 'input' && stable < end,
    )
    if (open.length === 0 || performance.now() >= deadlineMs) break
    await sleep(TRANSACTIONS_PAUSE_MS)
    const now = await reader.ends(open.map(([index]) => places[index] as TopicPartition))
    for (const [which, [index, { end }]] of open.entries()) {
      const { beginning, stable } = now[which] as PartitionEnds
      ends[index] = { beginning, end: Math.max(stable, end), stable }
    }
  }
  return inputs.map((_, input) => {
    const own = ROLES.map((role, which) => [role, ends[input * ROLES.length + which]])
    return Object.fromEntries(own) as Snapshot['ends']
  })
}

// ---- events and what was found of each

const FOUND = { claimed: 1, waiting: 2, processed: 4, dead: 8, twice: 16 } as const
const OUTCOMES = FOUND.processed | FOUND.dead

/** Initial capacity, in events. */
const FIRST_PLACES = 64

/** The events of a partition by identity, and what was found of each. A million take some 45 MB. */
export class Events {
  readonly #places: HashWindow
  /** By place, as the next two. */
  #found = new Uint8Array(FIRST_PLACES)
  #offsets = new Float64Array(FIRST_PLACES)
  #timesMs = new Float64Array(FIRST_PLACES)
  #unresolved = 0

  /** @param most the most events that will be added */
  constructor(most: number) {
    this.#places = new HashWindow(Math.max(1, most))
  }

  get size(): number {
    return this.#places.size
  }

  /** Events that have neither an outcome nor a record in `.retry`. */
  get unresolved(): number {
    return this.#unresolved
  }

  /** The lowest offset. */
  get first(): number | undefined {
    return this.size === 0 ? undefined : this.#offsets[0]
  }

  /**
   * Adds an input record; to be called in the order of offsets. A record that repeats an event changes nothing: its first record counts.
   * @param isClaimed whether it is committed as done
   */
  add({ offset, timestampMs, hash }: Pick<KnownRecord, 'offset' | 'timestampMs' | 'hash'>, isClaimed: boolean): void {
    const place = this.#places.size
    this.#places.add(hash)
    if (this.#places.size === place) return
    if (place === this.#found.length) this.#grow(place * 2)
    this.#found[place] = isClaimed ? FOUND.claimed : 0
    this.#offsets[place] = offset
    this.#timesMs[place] = timestampMs
    this.#unresolved++
  }

  #grow(places: number): void {
    const larger = <A extends Uint8Array | Float64Array>(grown: A, from: A): A => {
      grown.set(from)
      return grown
    }
    this.#found = larger(new Uint8Array(places), this.#found)
    this.#offsets = larger(new Float64Array(places), this.#offsets)
    this.#timesMs = larger(new Float64Array(places), this.#timesMs)
  }

  /** Notes an outcome, or a record in `.retry`. Those of other events are ignored. */
  addFound(hash: Uint32Array, kind: 'processed' | 'dead' | 'waiting'): void {
    const place = this.#places.placeOf(hash)
    if (place === undefined) return
    const found = this.#found[place] as number
    if ((found & (OUTCOMES | FOUND.waiting)) === 0) this.#unresolved--
    const isSecond = kind !== 'waiting' && (found & OUTCOMES) !== 0
    this.#found[place] = found | (isSecond ? FOUND.twice : FOUND[kind])
  }

  /** Notes an earlier record of the event, before the range: its outcome may be as old as that. */
  addEarlier({ timestampMs, hash }: Pick<KnownRecord, 'timestampMs' | 'hash'>): void {
    const place = this.#places.placeOf(hash)
    if (place !== undefined) this.#timesMs[place] = Math.min(this.#timesMs[place] as number, timestampMs)
  }

  /** @param knownSinceMs since when all outcomes are still in the log; undefined when that is not known */
  each(knownSinceMs: number | undefined, onEvent: (verdict: Verdict, offset: number) => void): void {
    for (let place = 0; place < this.size; place++)
      onEvent(this.#verdict(place, knownSinceMs), this.#offsets[place] as number)
  }

  #verdict(place: number, knownSinceMs: number | undefined): Verdict {
    const found = this.#found[place] as number
    if ((found & FOUND.twice) !== 0) return 'doubled'
    if ((found & FOUND.processed) !== 0) return 'processed'
    if ((found & FOUND.dead) !== 0) return 'dead'
    if ((found & FOUND.waiting) !== 0) return 'waiting'
    if ((found & FOUND.claimed) === 0) return 'pending'
    return knownSinceMs === undefined || (this.#timesMs[place] as number) < knownSinceMs ? 'unknown' : 'missing'
  }
}

// ---- reading outcomes

/** Events whose outcomes are looked for, and where. */
export interface Search {
  events: Events
  snapshot: Pick<Snapshot, 'at' | 'ends' | 'heldBack'>
}

/**
 * Reads outcomes.
 * @param latest reads this many of each topic's latest offsets first, and older ones only for events that have no outcome among these
 * @returns for each search, since when all outcomes are still in the log; undefined when that is not known
 */
export async function readOutcomes(
  searches: readonly Search[],
  reader: AuditReader,
  latest = Number.POSITIVE_INFINITY,
): Promise<(number | undefined)[]> {
  const times = searches.map(() => ({ dlq: new Times(), processed: new Times() }))
  const read = async (boundsOf: (ends: PartitionEnds, events: Events) => [from: number, to: number]): Promise<void> => {
    for (const role of OUTCOME_ROLES) {
      const kind = role === 'dlq' ? 'dead' : 'processed'
      const ranges = searches.map(({ events, snapshot: { at, ends } }) => {
        const [from, to] = boundsOf(ends[role], events)
        return { ...placeOf(at, role), from, to }
      })
      await reader.readIdentities(ranges, identityOf, ({ range, offset, timestampMs, hash }) => {
        searches[range]?.events.addFound(hash, kind)
        times[range]?.[role].add(offset, timestampMs)
      })
    }
  }
  const latestOf = ({ beginning, stable }: PartitionEnds): number => Math.max(beginning, stable - latest)
  await read((ends) => [latestOf(ends), ends.stable])
  if (Number.isFinite(latest))
    await read((ends, events) => [ends.beginning, events.unresolved > 0 ? latestOf(ends) : ends.beginning])
  // Asked for after reading: records that were deleted meanwhile may not have been read.
  const beginnings = await Promise.all(
    OUTCOME_ROLES.map((role) => reader.ends(searches.map(({ snapshot: { at } }) => placeOf(at, role)))),
  )
  return searches.map(({ snapshot }, index) => {
    if (snapshot.heldBack !== undefined) return undefined
    let knownSinceMs = Number.NEGATIVE_INFINITY
    for (const [which, role] of OUTCOME_ROLES.entries()) {
      const { beginning = 0 } = beginnings[which]?.[index] ?? {}
      if (beginning === 0) continue
      const oldestMs = times[index]?.[role].since(beginning)
      if (oldestMs === undefined) return undefined
      knownSinceMs = Math.max(knownSinceMs, oldestMs + CLOCK_SKEW_MS)
    }
    return knownSinceMs
  })
}

/** A sample of when records were written. */
class Times {
  /** The first record of each {@link TIME_SAMPLE_OFFSETS}. */
  readonly #samples = new Map<number, { offset: number; timestampMs: number }>()

  add(offset: number, timestampMs: number): void {
    const key = Math.floor(offset / TIME_SAMPLE_OFFSETS)
    const known = this.#samples.get(key)
    if (known === undefined || offset < known.offset) this.#samples.set(key, { offset, timestampMs })
  }

  /** The timestamp of the first sample at or after the offset; undefined when there is none. */
  since(offset: number): number | undefined {
    let first: { offset: number; timestampMs: number } | undefined
    for (const one of this.#samples.values())
      if (one.offset >= offset && (first === undefined || one.offset < first.offset)) first = one
    return first?.timestampMs
  }
}

/** Reads the events that wait in `.retry`. */
export async function readWaiting(
  searches: readonly { events: Events; snapshot: Snapshot }[],
  reader: AuditReader,
): Promise<void> {
  const done = searches.map(({ snapshot: { retry } }) => decodeAhead(retry.offset, retry.metadata))
  const ranges = searches.map(({ snapshot: { at, retry, ends } }) => ({
    ...placeOf(at, 'retry'),
    from: Math.max(ends.retry.beginning, retry.offset),
    to: ends.retry.stable,
  }))
  await reader.readIdentities(ranges, identityOf, ({ range, offset, hash }) => {
    if (done[range]?.has(offset) !== true) searches[range]?.events.addFound(hash, 'waiting')
  })
}

/** Reads the input before a range, for earlier records of its events. */
export async function readEarlier(
  searches: readonly (Search & { from: number })[],
  reader: AuditReader,
): Promise<void> {
  const ranges = searches.map(({ snapshot: { at, ends }, from }) => ({ ...at, from: ends.input.beginning, to: from }))
  await reader.readIdentities(ranges, identityOf, (record) => searches[record.range]?.events.addEarlier(record))
}

// ---- an audit

/** Records of an input partition with offsets in [`from`, `to`), below its end for readers of committed records. */
export interface AuditRange {
  snapshot: Snapshot
  from: number
  to: number
}

export interface Findings extends AuditRange {
  /** Records in the range. */
  records: number
  /** Events in the range by verdict, each counted once. */
  counts: Record<Verdict, number>
  /** The lowest offsets of missing and of doubled events, ascending. */
  missing: number[]
  doubled: number[]
}

/**
 * Judges the events of ranges.
 * @param maxEvents the most events held in memory; for more, everything is read several times
 * @param maxNamed the most offsets returned of each range's missing and of its doubled events
 * @param latest as in {@link readOutcomes}; an event then counts as doubled only if both of its outcomes were read
 * @returns in the order of the ranges
 */
export async function audit(
  ranges: readonly AuditRange[],
  reader: AuditReader,
  { maxEvents, maxNamed, latest }: { maxEvents: number; maxNamed: number; latest?: number },
): Promise<Findings[]> {
  const findings = ranges.map(
    (range): Findings => ({ ...range, records: 0, counts: noCounts(), missing: [], doubled: [] }),
  )
  const claims = ranges.map(({ snapshot: { input }, from }) => claimsOf(input, from))
  const shares = shareCount(ranges, maxEvents)
  for (let share = 0; share < shares; share++) {
    const searches = ranges.map(({ snapshot, from, to }) => ({ snapshot, from, events: new Events(to - from) }))
    await reader.readIdentities(
      ranges.map(({ snapshot: { at }, from, to }) => ({ ...at, from, to })),
      identityOf,
      (record) => {
        const { range, offset, hash } = record
        if (share === 0) (findings[range] as Findings).records++
        if (shares > 1 && (hash[3] as number) % shares !== share) return
        searches[range]?.events.add(record, claims[range]?.(offset) === true)
      },
    )
    // First, since waiting events need no search for an outcome.
    await readWaiting(searches, reader)
    const knownSince = await readOutcomes(searches, reader, latest)
    // An infinite time means that all outcomes are still in the log; an undefined one, that none may be. Earlier records matter in neither case.
    const doubtful = searches.filter(({ events }, index) => events.unresolved > 0 && Number.isFinite(knownSince[index]))
    await readEarlier(doubtful, reader)
    for (const [index, { events }] of searches.entries()) {
      const found = findings[index] as Findings
      events.each(knownSince[index], (verdict, offset) => {
        found.counts[verdict]++
        if (verdict === 'missing' || verdict === 'doubled') found[verdict].push(offset)
      })
      for (const verdict of ['missing', 'doubled'] as const)
        found[verdict] = found[verdict].sort((a, b) => a - b).slice(0, maxNamed)
    }
  }
  return findings
}

/** Into how many shares, by hash, events are divided so that one share fits into memory. */
export const shareCount = (ranges: readonly Pick<AuditRange, 'from' | 'to'>[], maxEvents: number): number =>
  Math.max(1, Math.ceil(ranges.reduce((sum, { from, to }) => sum + Math.max(0, to - from), 0) / maxEvents))

export const noCounts = (): Record<Verdict, number> =>
  Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0])) as Record<Verdict, number>

/**
 * Which records are committed as done. A record that the metadata names may be a duplicate of an open event, so metadata counts only where
 * everything since the committed offset is read.
 */
export function claimsOf(committed: CommittedOffset, from: number): (offset: number) => boolean {
  const ahead = from <= committed.offset ? decodeAhead(committed.offset, committed.metadata) : new Set<number>()
  return (offset) => offset < committed.offset || ahead.has(offset)
}
