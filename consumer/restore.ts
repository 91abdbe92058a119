import { TOPIC_ROLES } from '../shared/events/topics.ts'
import { hashOf } from '../shared/kafka/identity-hash.ts'
import { RELEASED } from '../shared/kafka/transactor.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  HangingTransactionError,
  type KnownRecord,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import { sleep } from '../shared/service/retry.ts'
import { decodeAhead, isOurs, MAX_AHEAD_OFFSETS } from './ahead.ts'
import { Events, readEarlier, readOutcomes, type Search, startOf, type Verdict } from './audit.ts'
import { identityOf, keyOf } from './decode.ts'
import { type Deduplication, HashWindow } from './dedupe.ts'
import type { PartitionPast, SourcePast, Waiting } from './partition-past.ts'
import type { Partition } from './partition-state.ts'

/**
 * How long committed offsets are waited for: one that a transaction is about to change holds back all that are asked for with it, so that many
 * are soon asked for one by one.
 */
const COMMITTED_TIMEOUT_MS = 10_000
const COMMITTED_TOGETHER_TIMEOUT_MS = 2_000

/** How long a partition waits for the transactions in its topics to end, and how soon it is looked again. */
const TRANSACTIONS_TIMEOUT_MS = 5_000
const TRANSACTIONS_PAUSE_MS = 50

/**
 * Records may get their outcomes out of turn: by so many offsets at most, since a partition with more between its oldest open record and the
 * next one is paused (partitions are paused between two fetches, so a fetch more can come), and those that wait in `.retry` besides. An input
 * record's outcome is thus followed by at most so many outcomes of records before it.
 */
const MAX_OUT_OF_TURN = 3 * MAX_AHEAD_OFFSETS

/** Each transaction takes an offset for its own mark: in the worst case one an outcome. */
const MAX_OFFSETS_PER_OUTCOME = 2

/**
 * The most outcomes that are remembered of a partition that is read from its beginning though it has outcomes, such as for a new group: each
 * takes some 32 bytes.
 */
const MAX_REMEMBERED_OUTCOMES = 5_000_000

/** What a partition's restore needs to know beside its committed offsets. */
interface Ends {
  input: PartitionEnds
  retry: PartitionEnds
  dlq: PartitionEnds
  processed: PartitionEnds
}

/**
 * Learns from Kafka what of partitions has been done and what waits, whoever did it, and fills their windows.
 *
 * The order matters. Committed offsets come first: the broker answers only when no transaction is about to move them, so all outputs of
 * earlier owners that count are in the log by then, and those of a fenced one never will be. Only then are the ends taken up to which
 * outputs are read, and reading to an end waits for transactions below it.
 *
 * Committed offsets are a claim, outcomes are the fact: the records before the offset are read as far as the window reaches, and those
 * without an outcome are {@link PartitionPast.missing} (I3). The window is what I2 rests on after a restart or rebalance.
 * @param patient whether to wait for transactions that have not ended; without, a partition with one is left out
 * @returns by partition; none for those that were left out
 * @throws HangingTransactionError when transactions do not end, Error when Kafka does not tell
 */
export async function restore(
  partitions: readonly Partition[],
  group: Pick<GroupConsumer, 'committed'>,
  reader: RangeReader,
  patient: boolean,
): Promise<Map<Partition, PartitionPast>> {
  const timeoutMs = patient ? COMMITTED_TIMEOUT_MS : COMMITTED_TOGETHER_TIMEOUT_MS
  const places = partitions.flatMap((one) => one.both)
  const rows = new Map((await group.committed(places, timeoutMs)).map((row) => [partitionName(row), row]))
  for (const one of partitions)
    one.claimed = one.both.map((at) => rows.get(partitionName(at))?.offset ?? -1) as [number, number]
  const endsOf = await stableEnds(partitions, reader, patient)
  const pasts = new Map<Partition, PartitionPast>()
  for (const [partition, ends] of endsOf) {
    const [input, retry] = partition.both.map((at) => {
      const row = rows.get(partitionName(at))
      return row === undefined || row.metadata.startsWith(RELEASED) ? { ...at, offset: -1, metadata: '' } : row
    }) as [CommittedOffset, CommittedOffset]
    pasts.set(partition, pastOf(input, retry, ends))
  }
  await fillWindows(pasts, endsOf, reader)
  await findWaiting(pasts, endsOf, reader)
  await findMissing(pasts, endsOf, reader)
  for (const [partition, past] of pasts) past.doubtful = isDoubtful(partition, past, endsOf.get(partition) as Ends)
  return pasts
}

const isDoubtful = (
  { claimed }: Partition,
  { input, retry: waiting, fresh }: PartitionPast,
  { retry, dlq, processed }: Ends,
): boolean =>
  input.missing.length + waiting.missing.length > 0 ||
  fresh === 'committed beyond the end' ||
  (fresh !== undefined && dlq.end + processed.end > 0) ||
  (claimed?.[1] ?? -1) > retry.end

/** Where reading begins, of what the group has committed and what is there. */
function pastOf(input: CommittedOffset, retry: CommittedOffset, ends: Ends): PartitionPast {
  const { beginning, end } = ends.input
  // Beyond the end: the topic was made anew, or has lost its last records.
  const fresh = input.offset < 0 ? 'nothing committed' : input.offset > end ? 'committed beyond the end' : undefined
  return {
    input: sourcePastOf(startOf(input, ends.input)),
    retry: sourcePastOf(startOf(retry, ends.retry)),
    waiting: [],
    unknown: 0,
    skipped: fresh === undefined ? Math.max(0, beginning - input.offset) : 0,
    fresh,
    foreign: fresh === undefined && !isOurs(input.metadata),
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

/**
 * The ends of a partition's topics, once no transaction is open below them. Where one was, they are those of after its end: it may have been aborted, and its
 * outcomes written again behind it.
 */
async function stableEnds(
  partitions: readonly Partition[],
  reader: RangeReader,
  patient: boolean,
): Promise<Map<Partition, Ends>> {
  const places = partitions.flatMap((one) => [
    ...one.both,
    one.sibling('dlq'),
    one.sibling('processed'),
  ]) as TopicPartition[]
  const ends = await reader.ends(places)
  const found = new Map<Partition, Ends>()
  const deadlineMs = performance.now() + TRANSACTIONS_TIMEOUT_MS
  for (const [index, partition] of partitions.entries()) {
    const [input, retry, dlq, processed] = ends.slice(index * 4, index * 4 + 4) as [
      PartitionEnds,
      PartitionEnds,
      PartitionEnds,
      PartitionEnds,
    ]
    const outputs = { retry, dlq, processed }
    let isStable = true
    for (const role of TOPIC_ROLES) {
      if (outputs[role].stable >= outputs[role].end) continue
      if (!patient) isStable = false
      else outputs[role] = await transactionsEnded(partition.sibling(role), outputs[role], reader, deadlineMs)
    }
    if (isStable) found.set(partition, { input, ...outputs })
  }
  return found
}

async function transactionsEnded(
  at: TopicPartition,
  before: PartitionEnds,
  reader: RangeReader,
  deadlineMs: number,
): Promise<PartitionEnds> {
  for (;;) {
    const [ends = before] = await reader.ends([at])
    if (ends.stable >= before.end) return { ...ends, end: ends.stable }
    if (performance.now() > deadlineMs) throw new HangingTransactionError(at, ends.stable)
    await sleep(TRANSACTIONS_PAUSE_MS)
  }
}

/** Fills the windows with the latest outcomes. */
async function fillWindows(
  pasts: ReadonlyMap<Partition, PartitionPast>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const all: Outcomes[] = []
  const ranges: { dlq: Range[]; processed: Range[] } = { dlq: [], processed: [] }
  for (const [partition, past] of pasts) {
    const { dlq, processed } = endsOf.get(partition) as Ends
    const there = dlq.end - dlq.beginning + (processed.end - processed.beginning)
    // Nothing says where to go on: every event that has an outcome is to be recognised, or every one that is going to be read.
    const wanted =
      past.fresh !== undefined
        ? there
        : past.foreign
          ? Math.min(there, (endsOf.get(partition) as Ends).input.end - past.input.offset + partition.dedupe.capacity)
          : 0
    if (wanted > MAX_REMEMBERED_OUTCOMES)
      throw new Error(
        past.foreign
          ? `${partition.name}: another client has set the group’s offset back to ${past.input.offset}, before ${wanted} outcomes, more than can be remembered: events would have another one. Set it forward.`
          : `${partition.name}: ${there} outcomes are there, and nothing that this group has committed: it would give every event another outcome. Is GROUP_ID another one than before?`,
      )
    // What an attempt before has read may have been lost since.
    if (wanted > partition.dedupe.capacity || partition.dedupe.size > 0) partition.remember(wanted)
    all.push(new Outcomes(partition.dedupe))
    for (const [role, { beginning, end }] of [['dlq', dlq] as const, ['processed', processed] as const])
      ranges[role].push({
        ...partition.sibling(role),
        from: Math.max(beginning, end - MAX_OFFSETS_PER_OUTCOME * partition.dedupe.capacity),
        to: end,
      })
  }
  const of = ({ range }: Readonly<KnownRecord>): Outcomes => all[range] as Outcomes
  await reader.readIdentities(ranges.dlq, identityOf, (record) => of(record).addDead(record))
  await reader.readIdentities(ranges.processed, identityOf, (record) => of(record).add(record))
  for (const outcomes of all) outcomes.finish()
}

/** Dead letters are the fewer; held back and put in among the results by their time, they leave the window oldest first. */
class Outcomes {
  readonly #dead: { timestampMs: number; hash: Uint32Array }[] = []
  #next = 0

  constructor(readonly dedupe: Deduplication) {}

  addDead({ timestampMs, hash }: Readonly<KnownRecord>): void {
    this.#dead.push({ timestampMs, hash: hash.slice() })
  }

  add({ timestampMs, hash }: Readonly<KnownRecord>): void {
    this.#addDeadUntil(timestampMs)
    this.dedupe.addDone(hash, false)
  }

  finish(): void {
    this.#addDeadUntil(Number.POSITIVE_INFINITY)
  }

  #addDeadUntil(timestampMs: number): void {
    for (
      let one = this.#dead[this.#next];
      one !== undefined && one.timestampMs <= timestampMs;
      one = this.#dead[++this.#next]
    )
      this.dedupe.addDone(one.hash, true)
  }
}

/** Finds the events that wait in `.retry`. */
async function findWaiting(
  pasts: ReadonlyMap<Partition, PartitionPast>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const all = [...pasts].map(([{ dedupe }, { retry }]) => ({
    dedupe,
    done: retry.done,
    waiting: [] as Waiting[],
    unproven: [] as Waiting[],
  }))
  const ranges = [...pasts].map(([partition, { retry }]): Range => {
    const { end } = (endsOf.get(partition) as Ends).retry
    return { topic: retry.topic, partition: retry.partition, from: retry.offset, to: end }
  })
  const places = new Map(ranges.map((range, index) => [partitionName(range), index]))
  await reader.read(ranges, (record) => {
    const { dedupe, done, waiting, unproven } = all[places.get(partitionName(record)) as number] as (typeof all)[number]
    const { offset } = record
    const event = { offset, identity: identityOf(record), key: keyOf(record) }
    if (!done.has(offset)) waiting.push(event)
    else if (!dedupe.isDone(event.identity)) unproven.push(event)
  })
  for (const [index, [partition, past]] of [...pasts].entries()) {
    const { waiting, unproven } = all[index] as (typeof all)[number]
    // One that was written to `.retry` again waits there.
    const again = new Set(waiting.map(({ identity }) => identity))
    const { complete } = reachOf(partition.dedupe, endsOf.get(partition) as Ends)
    const undone = complete ? unproven.filter(({ identity }) => !again.has(identity)) : []
    past.waiting = [...waiting, ...undone]
    past.retry.missing = undone.map(({ offset }) => offset)
    for (const { offset } of undone) past.retry.done.delete(offset)
  }
}

/** How far before the committed offset records are looked at, and whether all outcomes are known that there ever were: what has none among them has none. */
export function reachOf(
  { size, capacity }: Pick<Deduplication, 'size' | 'capacity'>,
  { dlq, processed }: Pick<Ends, 'dlq' | 'processed'>,
): { complete: boolean; reach: number } {
  const there = dlq.end - dlq.beginning + (processed.end - processed.beginning)
  const complete = dlq.beginning === 0 && processed.beginning === 0 && there <= capacity
  return { complete, reach: complete ? capacity : Math.max(0, size - MAX_OUT_OF_TURN) }
}

/**
 * In how many of the latest offsets of a topic an outcome is looked for first: records are looked at as far back as a window reaches, and whoever passed
 * one of them over, as a repeated event, had its outcome in the window of then.
 */
export const searchedOffsets = ({ capacity }: Pick<Deduplication, 'capacity'>): number =>
  2 * MAX_OFFSETS_PER_OUTCOME * capacity

/** Looks for an outcome of every input record that is called done, as far as the window reaches. */
async function findMissing(
  pasts: ReadonlyMap<Partition, PartitionPast>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const all = [...pasts].map(([partition, past]) => {
    const ends = endsOf.get(partition) as Ends
    const { complete, reach } = reachOf(partition.dedupe, ends)
    const { offset, done } = past.input
    const to = reach === 0 ? offset : Math.min(ends.input.end, Math.max(offset - 1, ...done) + 1)
    // What waits in `.retry`, and what is not done beyond the committed offset: a record that repeats it has no outcome of its own.
    const owed = new HashWindow(Math.max(1, past.waiting.length + to - offset))
    for (const { identity } of past.waiting) owed.add(hashOf(identity))
    const events = new Events(Math.max(0, to - ends.input.beginning))
    const range = { ...place(partition), from: Math.max(ends.input.beginning, offset - reach), to }
    return { partition, past, ends, complete, events, owed, range }
  })
  await reader.readIdentities(
    all.map(({ range }) => range),
    identityOf,
    (record) => {
      const { partition, past, events, owed } = all[record.range] as (typeof all)[number]
      const { offset, hash } = record
      if (offset >= past.input.offset && !past.input.done.has(offset)) owed.add(hash)
      else if (!partition.dedupe.hasDone(hash) && !owed.has(hash)) events.add(record, true)
    },
  )
  for (const { partition, past, ends, complete, events } of all) {
    if (events.size === 0) continue
    const { input } = past
    const search = { events, snapshot: { at: partition, ends, heldBack: undefined } }
    await judge(search, complete ? undefined : reader, searchedOffsets(partition.dedupe), (verdict, offset) => {
      if (verdict === 'missing') input.missing.push(offset)
      else if (verdict === 'unknown') past.unknown++
    })
    goBack(input)
  }
}

/** Reading goes on at the first record that is missing; those behind it that are not are done. */
function goBack(input: SourcePast): void {
  const { offset, done, missing } = input
  const [first = offset] = missing
  for (let between = first; between < offset; between++) done.add(between)
  for (const one of missing) done.delete(one)
  input.offset = Math.min(first, offset)
}

const place = ({ topic, partition }: TopicPartition): TopicPartition => ({ topic, partition })

/**
 * What has no outcome among the latest may be a repeated event whose outcome is older than those: more outcomes are read for them, in the end all, and
 * where the oldest have been deleted, the whole of the input for an earlier copy.
 * @param reader undefined: all outcomes have been looked at already
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
