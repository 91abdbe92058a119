import { hashOf } from '../shared/kafka/identity-hash.ts'
import { RELEASED } from '../shared/kafka/transactor.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  HangingTransactionError,
  type KnownRecord,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import { decodeAhead, isOurs, MAX_AHEAD_OFFSETS } from './ahead.ts'
import { Events, readEarlier, readOutcomes, type Search, type Snapshot, takeSnapshots, type Verdict } from './audit.ts'
import { identityOf, keyOf } from './decode.ts'
import { type Deduplication, HashWindow } from './dedupe.ts'
import type { PartitionPast, SourcePast, Waiting } from './partition-past.ts'
import type { Partition } from './partition-state.ts'

/**
 * How long to wait for committed offsets. One that an open transaction is about to change delays the answer for all that are asked for with it, so
 * a request for many soon gives way to requests for each.
 */
const COMMITTED_TIMEOUT_MS = 10_000
const COMMITTED_TOGETHER_TIMEOUT_MS = 2_000

/** How long a partition waits for open transactions in its topics to end. */
const TRANSACTIONS_TIMEOUT_MS = 5_000

/**
 * How far out of order outcomes can be: at most this many outcomes of earlier records follow an input record's outcome. A partition with more
 * offsets between its oldest open record and its next one is paused, but only between two fetches; and records in `.retry` come on top.
 */
const MAX_OUT_OF_TURN = 3 * MAX_AHEAD_OFFSETS

/** Each transaction takes one offset for its marker: in the worst case, one for each outcome. */
const MAX_OFFSETS_PER_OUTCOME = 2

/**
 * The most outcomes remembered of a partition that is read from its beginning although it has outcomes, as for a new group: each takes some 32 bytes.
 */
const MAX_REMEMBERED_OUTCOMES = 5_000_000

/** A partition while it is restored. */
interface Restoring {
  partition: Partition
  snapshot: Snapshot
  past: PartitionPast
}

/**
 * Reads from Kafka which events of partitions are done and which wait, whichever member did them, and fills the partitions' windows.
 *
 * The order matters. Committed offsets come first: the broker answers only when no transaction is about to change them, so all outputs of earlier
 * owners that count are in the log by then, and those of a fenced owner never will be. The ends up to which outputs are read are taken after that, and
 * reading to an end waits for the transactions below it.
 *
 * Committed offsets are a claim, outcomes are the fact: the records before the offset are read as far back as the window reaches, and those
 * without an outcome are {@link SourcePast.missing} (I3). The window is what I2 rests on after a restart or rebalance.
 * @param patient whether to wait for open transactions; if not, partitions that have one are left out
 * @returns by partition; without those that were left out
 * @throws HangingTransactionError when a transaction does not end, Error when Kafka does not answer
 */
export async function restore(
  partitions: readonly Partition[],
  group: Pick<GroupConsumer, 'committed'>,
  reader: RangeReader,
  patient: boolean,
): Promise<Map<Partition, PartitionPast>> {
  const committed = async (places: readonly TopicPartition[]): Promise<CommittedOffset[]> => {
    const rows = await group.committed(places, patient ? COMMITTED_TIMEOUT_MS : COMMITTED_TOGETHER_TIMEOUT_MS)
    const offsets = new Map(rows.map((row) => [partitionName(row), row.offset]))
    for (const one of partitions)
      one.claimed = one.both.map((at) => offsets.get(partitionName(at)) ?? -1) as [number, number]
    // A release writes offsets only to abort them. If one is committed all the same, it says nothing.
    return rows.filter(({ metadata }) => !metadata.startsWith(RELEASED))
  }
  const snapshots = await takeSnapshots(partitions, committed, reader, patient ? TRANSACTIONS_TIMEOUT_MS : 0)
  const all = snapshots.flatMap((snapshot, index): Restoring[] => {
    const { at, heldBack } = snapshot
    if (heldBack === undefined) return [{ partition: partitions[index] as Partition, snapshot, past: pastOf(snapshot) }]
    if (!patient) return []
    throw new HangingTransactionError({ topic: heldBack.topic, partition: at.partition }, heldBack.offset)
  })
  await fillWindows(all, reader)
  await findWaiting(all, reader)
  await findMissing(all, reader)
  for (const one of all) one.past.doubtful = isDoubtful(one)
  return new Map(all.map(({ partition, past }) => [partition, past]))
}

const isDoubtful = ({ partition, past: { input, retry, fresh }, snapshot: { ends } }: Restoring): boolean =>
  input.missing.length + retry.missing.length > 0 ||
  fresh === 'committed beyond the end' ||
  (fresh !== undefined && ends.dlq.end + ends.processed.end > 0) ||
  (partition.claimed?.[1] ?? -1) > ends.retry.end

function pastOf({ committed: { offset, metadata }, input, retry, ends }: Snapshot): PartitionPast {
  const { beginning, end } = ends.input
  // Beyond the end: the topic was recreated, or lost its last records.
  const fresh = offset < 0 ? 'nothing committed' : offset > end ? 'committed beyond the end' : undefined
  return {
    input: sourcePastOf(input),
    retry: sourcePastOf(retry),
    waiting: [],
    unknown: 0,
    skipped: fresh === undefined ? Math.max(0, beginning - offset) : 0,
    fresh,
    foreign: fresh === undefined && !isOurs(metadata),
    doubtful: false,
  }
}

const sourcePastOf = ({ topic, partition, offset, metadata }: CommittedOffset): SourcePast => ({
  topic,
  partition,
  offset,
  done: decodeAhead(offset, metadata),
  missing: [],
})

/** Offsets from the beginnings of the outcome topics to their ends. */
const outcomeOffsets = ({ dlq, processed }: Snapshot['ends']): number =>
  dlq.end - dlq.beginning + (processed.end - processed.beginning)

/** Fills the windows with the latest outcomes. */
async function fillWindows(all: readonly Restoring[], reader: RangeReader): Promise<void> {
  for (const one of all) {
    const { partition } = one
    const wanted = outcomesToRemember(one)
    // The window may hold outcomes that an earlier attempt read and that were lost since.
    if (wanted > partition.dedupe.capacity || partition.dedupe.size > 0) partition.remember(wanted)
  }
  const outcomes = all.map(({ partition }) => new Outcomes(partition.dedupe))
  const rangesOf = (role: 'dlq' | 'processed'): Range[] =>
    all.map(({ partition, snapshot: { ends } }) => {
      const { beginning, end } = ends[role]
      const from = Math.max(beginning, end - MAX_OFFSETS_PER_OUTCOME * partition.dedupe.capacity)
      return { ...partition.sibling(role), from, to: end }
    })
  await reader.readIdentities(rangesOf('dlq'), identityOf, (record) => outcomes[record.range]?.addDead(record))
  await reader.readIdentities(rangesOf('processed'), identityOf, (record) => outcomes[record.range]?.add(record))
  for (const one of outcomes) one.addDeadUntil(Number.POSITIVE_INFINITY)
}

/**
 * How many outcomes the window has to hold, if more than usual: without an offset of ours, every event that has an outcome must be recognised, or
 * every one that will be read again.
 */
function outcomesToRemember({ partition, past, snapshot: { ends } }: Restoring): number {
  const { fresh, foreign, input } = past
  if (fresh === undefined && !foreign) return 0
  const there = outcomeOffsets(ends)
  const wanted = foreign ? Math.min(there, ends.input.end - input.offset + partition.dedupe.capacity) : there
  if (wanted > MAX_REMEMBERED_OUTCOMES)
    throw new Error(
      foreign
        ? `${partition.name}: another client has set the group’s offset back to ${input.offset}, before ${wanted} outcomes, more than can be remembered: events would have another one. Set it forward.`
        : `${partition.name}: ${there} outcomes are there, and nothing that this group has committed: it would give every event another outcome. Is GROUP_ID another one than before?`,
    )
  return wanted
}

/** Merges dead letters into the results by timestamp, so that the oldest outcomes leave the window first. Dead letters, which are fewer, are read first. */
class Outcomes {
  readonly #dead: { timestampMs: number; hash: Uint32Array }[] = []
  #next = 0

  constructor(readonly dedupe: Deduplication) {}

  addDead({ timestampMs, hash }: Readonly<KnownRecord>): void {
    this.#dead.push({ timestampMs, hash: hash.slice() })
  }

  add({ timestampMs, hash }: Readonly<KnownRecord>): void {
    this.addDeadUntil(timestampMs)
    this.dedupe.addDone(hash, false)
  }

  addDeadUntil(timestampMs: number): void {
    for (
      let one = this.#dead[this.#next];
      one !== undefined && one.timestampMs <= timestampMs;
      one = this.#dead[++this.#next]
    )
      this.dedupe.addDone(one.hash, true)
  }
}

/** Finds the events that wait in `.retry`. */
async function findWaiting(all: readonly Restoring[], reader: RangeReader): Promise<void> {
  const searches = all.map((one) => ({ ...one, waiting: [] as Waiting[], unproven: [] as Waiting[] }))
  const byName = new Map(searches.map((search) => [partitionName(search.past.retry), search]))
  const ranges = all.map(({ partition, past, snapshot: { ends } }): Range => {
    return { ...partition.sibling('retry'), from: past.retry.offset, to: ends.retry.end }
  })
  await reader.read(ranges, (record) => {
    const { partition, past, waiting, unproven } = byName.get(partitionName(record)) as (typeof searches)[number]
    const { offset } = record
    const event = { offset, identity: identityOf(record), key: keyOf(record) }
    if (!past.retry.done.has(offset)) waiting.push(event)
    else if (!partition.dedupe.isDone(event.identity)) unproven.push(event)
  })
  for (const { partition, past, snapshot, waiting, unproven } of searches) {
    // An event that was written to `.retry` again waits at its new offset.
    const again = new Set(waiting.map(({ identity }) => identity))
    const { complete } = reachOf(partition.dedupe, snapshot.ends)
    const undone = complete ? unproven.filter(({ identity }) => !again.has(identity)) : []
    past.waiting = [...waiting, ...undone]
    past.retry.missing = undone.map(({ offset }) => offset)
    for (const { offset } of undone) past.retry.done.delete(offset)
  }
}

/**
 * How many records before the committed offset can be judged by the window, and whether it holds all outcomes that there ever were: then an
 * event that is not in it has none.
 */
export function reachOf(
  { size, capacity }: Pick<Deduplication, 'size' | 'capacity'>,
  ends: Snapshot['ends'],
): { complete: boolean; reach: number } {
  const complete = ends.dlq.beginning === 0 && ends.processed.beginning === 0 && outcomeOffsets(ends) <= capacity
  return { complete, reach: complete ? capacity : Math.max(0, size - MAX_OUT_OF_TURN) }
}

/**
 * How many of a topic's latest offsets are searched first: records are judged as far back as a window reaches, and a duplicate among them was dropped
 * because its outcome was then in the window.
 */
export const searchedOffsets = ({ capacity }: Pick<Deduplication, 'capacity'>): number =>
  2 * MAX_OFFSETS_PER_OUTCOME * capacity

/** Looks for an outcome of every input record that is committed as done, as far back as the window reaches. */
async function findMissing(all: readonly Restoring[], reader: RangeReader): Promise<void> {
  const searches = all.map(({ partition, past, snapshot }) => {
    const { at, ends } = snapshot
    const { complete, reach } = reachOf(partition.dedupe, ends)
    const { offset, done } = past.input
    const to = reach === 0 ? offset : Math.min(ends.input.end, Math.max(offset - 1, ...done) + 1)
    // Events that wait in `.retry`, and those after the committed offset that are not done: their duplicates have no outcome of their own.
    const undone = new HashWindow(Math.max(1, past.waiting.length + to - offset))
    for (const { identity } of past.waiting) undone.add(hashOf(identity))
    const events = new Events(Math.max(0, to - ends.input.beginning))
    const range = { ...at, from: Math.max(ends.input.beginning, offset - reach), to }
    return { partition, past, snapshot, complete, events, undone, range }
  })
  await reader.readIdentities(
    searches.map(({ range }) => range),
    identityOf,
    (record) => {
      const { partition, past, events, undone } = searches[record.range] as (typeof searches)[number]
      const { offset, hash } = record
      if (offset >= past.input.offset && !past.input.done.has(offset)) undone.add(hash)
      else if (!partition.dedupe.hasDone(hash) && !undone.has(hash)) events.add(record, true)
    },
  )
  for (const { partition, past, complete, ...search } of searches) {
    if (search.events.size === 0) continue
    const { input } = past
    await judge(search, complete ? undefined : reader, searchedOffsets(partition.dedupe), (verdict, offset) => {
      if (verdict === 'missing') input.missing.push(offset)
      else if (verdict === 'unknown') past.unknown++
    })
    goBack(input)
  }
}

/** Reading resumes at the first missing record; the others after it stay done. */
function goBack(input: SourcePast): void {
  const { offset, done, missing } = input
  const [first = offset] = missing
  for (let between = first; between < offset; between++) done.add(between)
  for (const one of missing) done.delete(one)
  input.offset = Math.min(first, offset)
}

/**
 * An event without an outcome among the latest may be a duplicate whose outcome is older. More outcomes are read for such events, in the end all; and
 * if the oldest outcomes were deleted, the whole input is read for an earlier record of the event.
 * @param reader undefined: all outcomes were looked at already
 * @param latest as in {@link readOutcomes}
 */
async function judge(
  search: Search,
  reader: RangeReader | undefined,
  latest: number,
  onEvent: (verdict: Verdict, offset: number) => void,
): Promise<void> {
  let knownSinceMs: number | undefined = Number.NEGATIVE_INFINITY
  if (reader !== undefined) {
    knownSinceMs = (await readOutcomes([search], reader, latest))[0]
    const { first, unresolved } = search.events
    if (unresolved > 0 && Number.isFinite(knownSinceMs) && first !== undefined)
      await readEarlier([{ ...search, from: first }], reader)
  }
  search.events.each(knownSinceMs, onEvent)
}
