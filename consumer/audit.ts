import { siblingTopic, type TopicRole } from '../shared/events/topics.ts'
import {
  type CommittedOffset,
  type KnownRecord,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'
import { decodeAhead, encodeAhead } from './ahead.ts'
import { identityOf } from './decode.ts'
import { HashWindow } from './dedupe.ts'

/**
 * Whether every event of a range has what it is to have: one outcome, in `.processed` or in `.dlq`. Committed offsets are a claim, outcomes are the
 * fact: what is called done and has neither an outcome nor a place in `.retry` is missing.
 */

/** What has become of an event, as far as Kafka tells. */
export type Verdict =
  | 'processed'
  | 'dead'
  /** It waits in `.retry`. */
  | 'waiting'
  /** It is not committed as done yet. */
  | 'pending'
  /** It is committed as done, and has no outcome. */
  | 'missing'
  /** It has more than one outcome. */
  | 'doubled'
  /** It has none, and its outcome may have been deleted since, or stands behind a transaction that has not ended. */
  | 'unknown'

export const VERDICTS = [
  'processed',
  'dead',
  'waiting',
  'pending',
  'missing',
  'doubled',
  'unknown',
] as const satisfies readonly Verdict[]

/** What of the reader an audit needs. */
export type AuditReader = Pick<RangeReader, 'ends' | 'readIdentities'>

/** The topics that outcomes are in. */
const OUTCOME_ROLES = ['dlq', 'processed'] as const satisfies readonly TopicRole[]

/** How often it is looked whether a transaction has ended. */
const TRANSACTIONS_PAUSE_MS = 50

/**
 * By how much an event's timestamp may be later than its outcome's: senders' clocks are not ours. Brokers take no record that is further in the future
 * unless they are told to (`message.timestamp.after.max.ms`).
 */
const CLOCK_SKEW_MS = 3_600_000

/** How close together the times are kept at which outcomes were written, in offsets. */
const TIME_SAMPLE_OFFSETS = 10_000

// ---- what Kafka says at one moment

/** What is committed of an input partition and where its topics end, asked for in the order that makes the answers fit together. */
export interface Snapshot {
  at: TopicPartition
  /** Where reading goes on. */
  input: CommittedOffset
  retry: CommittedOffset
  ends: Readonly<Record<'input' | TopicRole, PartitionEnds>>
  /** Where one of its outputs cannot be read any further, for a transaction that has not ended in time. */
  heldBack: { topic: string; offset: number } | undefined
}

/**
 * Committed offsets are asked for first, and only then where the outputs end: whatever is committed by then has its outcome, or its place in `.retry`,
 * below these ends once the transactions below them have ended. What is committed meanwhile only adds to the outcomes.
 * @param committed of a group, as of transactions that have ended
 * @param timeoutMs how long transactions may take to end
 * @returns in the order of the partitions
 */
export async function takeSnapshots(
  inputs: readonly TopicPartition[],
  committed: (partitions: readonly TopicPartition[]) => Promise<readonly CommittedOffset[]>,
  reader: AuditReader,
  timeoutMs: number,
): Promise<Snapshot[]> {
  const places = inputs.flatMap(({ topic, partition }) => [
    { topic, partition },
    { topic: siblingTopic(topic, 'retry'), partition },
  ])
  const rows = new Map((await committed(places)).map((row) => [partitionName(row), row]))
  const [inputEnds, retryEnds, dlqEnds, processedEnds] = await Promise.all([
    reader.ends(inputs),
    ...(['retry', ...OUTCOME_ROLES] as const).map((role) => stableEnds(inputs, role, reader, timeoutMs)),
  ])
  return inputs.map((at, index) => {
    const [input, retry] = places
      .slice(index * 2, index * 2 + 2)
      .map((place) => rows.get(partitionName(place)) ?? { ...place, offset: -1, metadata: '' })
    const ends = {
      input: inputEnds?.[index],
      retry: retryEnds?.[index],
      dlq: dlqEnds?.[index],
      processed: processedEnds?.[index],
    } as Snapshot['ends']
    const held = (['retry', ...OUTCOME_ROLES] as const).find((role) => ends[role].stable < ends[role].end)
    return {
      at,
      input: startOf(input as CommittedOffset, ends.input),
      retry: startOf(retry as CommittedOffset, ends.retry),
      ends,
      heldBack: held === undefined ? undefined : { topic: siblingTopic(at.topic, held), offset: ends[held].stable },
    }
  })
}

/** Where a partition is read on: what is committed, as far as it is still there. */
export function startOf(committed: CommittedOffset, { beginning, end }: PartitionEnds): CommittedOffset {
  const { offset, metadata } = committed
  if (offset >= beginning && offset <= end) return committed
  // Beyond the end: the topic was made anew, or has lost its last records.
  if (offset < 0 || offset > end) return { ...committed, offset: beginning, metadata: '' }
  const ahead = [...decodeAhead(offset, metadata)].filter((one) => one >= beginning)
  return { ...committed, offset: beginning, metadata: encodeAhead(beginning, ahead) }
}

/**
 * The ends of one of the topics beside the inputs, as of when what was open below them has ended, since its outcomes may have been written again behind
 * it; or as of the time-out.
 */
async function stableEnds(
  inputs: readonly TopicPartition[],
  role: TopicRole,
  reader: AuditReader,
  timeoutMs: number,
): Promise<PartitionEnds[]> {
  const places = inputs.map(({ topic, partition }) => ({ topic: siblingTopic(topic, role), partition }))
  const ends = await reader.ends(places)
  const deadlineMs = performance.now() + timeoutMs
  for (;;) {
    const unstable = [...ends.keys()].filter((index) => {
      const { stable, end } = ends[index] as PartitionEnds
      return stable < end
    })
    if (unstable.length === 0 || performance.now() > deadlineMs) return ends
    await sleep(TRANSACTIONS_PAUSE_MS)
    const now = await reader.ends(unstable.map((index) => places[index] as TopicPartition))
    for (const [which, index] of unstable.entries()) {
      const { end } = ends[index] as PartitionEnds
      const { beginning, stable } = now[which] as PartitionEnds
      ends[index] = { beginning, end: Math.max(stable, end), stable }
    }
  }
}

// ---- events and what is found of each

const FOUND = { claimed: 1, waiting: 2, processed: 4, dead: 8, twice: 16 } as const
const OUTCOMES = FOUND.processed | FOUND.dead

/** Places that there is room for at first. */
const FIRST_PLACES = 64

/** Events of a partition by what they are known by, and what is found of each. A million take some 45 MB. */
export class Events {
  readonly #places: HashWindow
  /** By place. */
  #found = new Uint8Array(FIRST_PLACES)
  #offsets = new Float64Array(FIRST_PLACES)
  #timesMs = new Float64Array(FIRST_PLACES)
  /** Those that have neither an outcome nor a place in `.retry`. */
  #unresolved = 0

  /** @param most events that are added at most */
  constructor(most: number) {
    this.#places = new HashWindow(Math.max(1, most))
  }

  get size(): number {
    return this.#places.size
  }

  get unresolved(): number {
    return this.#unresolved
  }

  /** The lowest offset. */
  get first(): number | undefined {
    return this.size === 0 ? undefined : this.#offsets[0]
  }

  /**
   * A record of the input, in their order. One that repeats an event changes nothing: what is done is the first.
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

  addOutcome(hash: Uint32Array, kind: 'processed' | 'dead'): void {
    const place = this.#places.placeOf(hash)
    if (place === undefined) return
    const found = this.#found[place] as number
    if ((found & (OUTCOMES | FOUND.waiting)) === 0) this.#unresolved--
    this.#found[place] = found | ((found & OUTCOMES) === 0 ? FOUND[kind] : FOUND.twice)
  }

  addWaiting(hash: Uint32Array): void {
    const place = this.#places.placeOf(hash)
    if (place === undefined) return
    const found = this.#found[place] as number
    if ((found & (OUTCOMES | FOUND.waiting)) === 0) this.#unresolved--
    this.#found[place] = found | FOUND.waiting
  }

  /** The event is there already before the range: its outcome may be as old as that. */
  addEarlier({ timestampMs, hash }: Pick<KnownRecord, 'timestampMs' | 'hash'>): void {
    const place = this.#places.placeOf(hash)
    if (place !== undefined) this.#timesMs[place] = Math.min(this.#timesMs[place] as number, timestampMs)
  }

  /** @param knownSinceMs from when on outcomes are all there; undefined when it is not known of any */
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

// ---- reading what is found of them

/** Events whose outcomes are looked for, and where. */
export interface Search {
  events: Events
  snapshot: Pick<Snapshot, 'at' | 'ends' | 'heldBack'>
}

/**
 * Reads outcomes.
 * @param latest so many offsets of the latest in each topic are read first, and the others only where an event has none among these
 * @returns for each search, from which time on an event's outcome would still be there; undefined when nothing is known of that
 */
export async function readOutcomes(
  searches: readonly Search[],
  reader: AuditReader,
  latest = Number.POSITIVE_INFINITY,
): Promise<(number | undefined)[]> {
  const times = searches.map(() => ({ dlq: new Times(), processed: new Times() }))
  const rangesOf = (
    role: (typeof OUTCOME_ROLES)[number],
    boundsOf: (ends: PartitionEnds, search: Search) => [from: number, to: number],
  ): Range[] =>
    searches.map((search) => {
      const { at, ends } = search.snapshot
      const [from, to] = boundsOf(ends[role], search)
      return { topic: siblingTopic(at.topic, role), partition: at.partition, from, to }
    })
  const read = async (boundsOf: Parameters<typeof rangesOf>[1]): Promise<void> => {
    for (const role of OUTCOME_ROLES) {
      const kind = role === 'dlq' ? 'dead' : 'processed'
      await reader.readIdentities(rangesOf(role, boundsOf), identityOf, ({ range, offset, timestampMs, hash }) => {
        searches[range]?.events.addOutcome(hash, kind)
        times[range]?.[role].add(offset, timestampMs)
      })
    }
  }
  const latestOf = ({ beginning, stable }: PartitionEnds): number => Math.max(beginning, stable - latest)
  await read((ends) => [latestOf(ends), ends.stable])
  if (Number.isFinite(latest))
    await read((ends, { events }) => [ends.beginning, events.unresolved > 0 ? latestOf(ends) : ends.beginning])
  // Asked for behind the reading: what was deleted meanwhile may not have been read.
  const beginnings = await Promise.all(OUTCOME_ROLES.map((role) => reader.ends(rangesOf(role, () => [0, 0]))))
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

/** When records were written, a few of them. */
class Times {
  /** The first of every so many offsets. */
  readonly #samples = new Map<number, { offset: number; timestampMs: number }>()

  add(offset: number, timestampMs: number): void {
    const key = Math.floor(offset / TIME_SAMPLE_OFFSETS)
    const known = this.#samples.get(key)
    if (known === undefined || offset < known.offset) this.#samples.set(key, { offset, timestampMs })
  }

  /** The time of one of the first records from an offset on; undefined when there is none. */
  since(offset: number): number | undefined {
    let first: { offset: number; timestampMs: number } | undefined
    for (const one of this.#samples.values())
      if (one.offset >= offset && (first === undefined || one.offset < first.offset)) first = one
    return first?.timestampMs
  }
}

/** Reads what waits in `.retry`. */
export async function readWaiting(
  searches: readonly { events: Events; snapshot: Snapshot }[],
  reader: AuditReader,
): Promise<void> {
  const done = searches.map(({ snapshot: { retry } }) => decodeAhead(retry.offset, retry.metadata))
  const ranges = searches.map(({ snapshot: { retry, ends } }) => ({
    topic: retry.topic,
    partition: retry.partition,
    from: Math.max(ends.retry.beginning, retry.offset),
    to: ends.retry.stable,
  }))
  await reader.readIdentities(ranges, identityOf, ({ range, offset, hash }) => {
    if (done[range]?.has(offset) !== true) searches[range]?.events.addWaiting(hash)
  })
}

/** Reads the input before a range for events of it that are there already. */
export async function readEarlier(
  searches: readonly (Search & { from: number })[],
  reader: AuditReader,
): Promise<void> {
  const ranges = searches.map(({ snapshot: { at, ends }, from }) => ({ ...at, from: ends.input.beginning, to: from }))
  await reader.readIdentities(ranges, identityOf, (record) => searches[record.range]?.events.addEarlier(record))
}

// ---- an audit

/** Records of an input partition, `from` up to `to`, which is not among them; below the end for readers of committed records. */
export interface AuditRange {
  snapshot: Snapshot
  from: number
  to: number
}

export interface Findings extends AuditRange {
  /** Records in the range. */
  records: number
  /** Events in the range, each once, by what has become of them. */
  counts: Record<Verdict, number>
  /** Offsets of the first of those that are missing, and of the doubled ones. */
  missing: number[]
  doubled: number[]
}

/**
 * Judges the events of ranges.
 * @param maxEvents that are held in memory; where there are more, everything is read more often
 * @param maxNamed how many offsets are told of each range's missing and doubled events
 * @param latest of the outcomes, as in {@link readOutcomes}; an event is then doubled when both of its outcomes were read
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
    // First, since what waits needs no outcome to be looked for.
    await readWaiting(searches, reader)
    const knownSince = await readOutcomes(searches, reader, latest)
    // Where all outcomes are still there, no time matters; where none is known to be, none does either.
    const doubtful = searches.filter(({ events }, index) => events.unresolved > 0 && Number.isFinite(knownSince[index]))
    await readEarlier(doubtful, reader)
    for (const [index, { events }] of searches.entries()) {
      const found = findings[index] as Findings
      events.each(knownSince[index], (verdict, offset) => {
        found.counts[verdict]++
        if (verdict === 'missing' || verdict === 'doubled') addLowest(found[verdict], offset, maxNamed)
      })
    }
  }
  return findings
}

/** Into how many shares, by their hashes, events are divided so that one share of them fits into memory. */
export const shareCount = (ranges: readonly Pick<AuditRange, 'from' | 'to'>[], maxEvents: number): number =>
  Math.max(1, Math.ceil(ranges.reduce((sum, { from, to }) => sum + Math.max(0, to - from), 0) / maxEvents))

export const noCounts = (): Record<Verdict, number> =>
  Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0])) as Record<Verdict, number>

/**
 * Which records are committed as done. Those that the metadata names may repeat events that are open: that can be told only where everything from the
 * committed offset on is looked at.
 */
export function claimsOf(committed: CommittedOffset, from: number): (offset: number) => boolean {
  const ahead = from <= committed.offset ? decodeAhead(committed.offset, committed.metadata) : new Set<number>()
  return (offset) => offset < committed.offset || ahead.has(offset)
}

/** Keeps the lowest of the offsets, rising. */
function addLowest(offsets: number[], offset: number, most: number): void {
  const last = offsets.at(-1)
  if (offsets.length === most && (last === undefined || offset > last)) return
  const at = offsets.findLastIndex((one) => one < offset) + 1
  offsets.splice(at, 0, offset)
  if (offsets.length > most) offsets.pop()
}
