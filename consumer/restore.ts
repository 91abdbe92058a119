import { headerText, ORIGIN } from '../shared/headers.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  HeldBackError,
  type IncomingRecord,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
} from '../shared/kafka/types.ts'
import { sleep } from '../shared/retry.ts'
import { decodeAhead, encodeAhead, MAX_AHEAD_OFFSETS } from './ahead.ts'
import { decode } from './decode.ts'
import type { Deduplication } from './dedupe.ts'
import type { Partition } from './partition.ts'

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

/**
 * The most outcomes that are remembered of a partition that is read from its beginning though it has outcomes, such as for a new group: each
 * takes some 32 bytes.
 */
const MAX_REMEMBERED_OUTCOMES = 5_000_000

/** What Kafka says of a partition's past. */
export interface Past {
  /** Where reading goes on. */
  input: CommittedOffset
  retry: CommittedOffset
  /** Events that wait in `.retry`. */
  waiting: { identity: string; key: string | undefined }[]
  /** Records before the committed offset that have no outcome; in their order. */
  missing: IncomingRecord[]
  /** Whether what a commit calls done beyond its offset can be looked up among the outcomes. */
  canCheckAhead: boolean
  /** How many offsets were deleted before they were read. */
  skipped: number
  /** Nothing that is committed says where to go on: reading begins at the beginning. */
  fresh: 'nothing committed' | 'committed beyond the end' | undefined
}

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
 * without an outcome are {@link Past.missing}.
 * @param patient whether to wait for transactions that have not ended; without, a partition with one is left out
 * @returns by partition; none for those that were left out
 * @throws HeldBackError when transactions do not end, Error when Kafka does not tell
 */
export async function restore(
  partitions: readonly Partition[],
  group: Pick<GroupConsumer, 'committed'>,
  reader: RangeReader,
  patient: boolean,
): Promise<Map<Partition, Past>> {
  const timeoutMs = patient ? COMMITTED_TIMEOUT_MS : COMMITTED_TOGETHER_TIMEOUT_MS
  const places = partitions.flatMap((one) => one.both)
  const rows = new Map((await group.committed(places, timeoutMs)).map((row) => [partitionName(row), row]))
  for (const one of partitions)
    one.claimed = one.both.map((at) => rows.get(partitionName(at))?.offset ?? -1) as [number, number]
  const endsOf = await stableEnds(partitions, reader, patient)
  const pasts = new Map<Partition, Past>()
  for (const [partition, ends] of endsOf) {
    const [input, retry] = partition.both.map(
      (at) => rows.get(partitionName(at)) ?? { ...at, offset: -1, metadata: '' },
    ) as [CommittedOffset, CommittedOffset]
    pasts.set(partition, pastOf(input, retry, ends))
  }
  await readOutcomes(pasts, endsOf, reader)
  await readWaiting(pasts, endsOf, reader)
  await findMissing(pasts, endsOf, reader)
  return pasts
}

/** Where reading begins, of what the group has committed and what is there. */
function pastOf(input: CommittedOffset, retry: CommittedOffset, ends: Ends): Past {
  const { beginning, end } = ends.input
  // Beyond the end: the topic was made anew, or has lost its last records.
  const fresh = input.offset < 0 ? 'nothing committed' : input.offset > end ? 'committed beyond the end' : undefined
  return {
    input: startOf(input, ends.input),
    retry: startOf(retry, ends.retry),
    waiting: [],
    missing: [],
    canCheckAhead: false,
    skipped: fresh === undefined ? Math.max(0, beginning - input.offset) : 0,
    fresh,
  }
}

function startOf(committed: CommittedOffset, { beginning, end }: PartitionEnds): CommittedOffset {
  const { offset, metadata } = committed
  if (offset >= beginning && offset <= end) return committed
  if (offset < 0 || offset > end) return { ...committed, offset: beginning, metadata: '' }
  const ahead = [...decodeAhead(offset, metadata)].filter((one) => one > beginning)
  return { ...committed, offset: beginning, metadata: encodeAhead(beginning, ahead) }
}

/** The ends of a partition's topics, once no transaction is open below them. */
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
    for (const [role, { end, stable }] of Object.entries(outputs) as ['retry' | 'dlq' | 'processed', PartitionEnds][])
      if (stable < end) {
        if (patient) await transactionsEnded(partition.sibling(role), end, reader, deadlineMs)
        else isStable = false
      }
    if (isStable) found.set(partition, { input, ...outputs })
  }
  return found
}

async function transactionsEnded(
  at: TopicPartition,
  to: number,
  reader: RangeReader,
  deadlineMs: number,
): Promise<void> {
  for (;;) {
    const [ends] = await reader.ends([at])
    if (ends === undefined || ends.stable >= to) return
    if (performance.now() > deadlineMs) throw new HeldBackError(at, ends.stable)
    await sleep(TRANSACTIONS_PAUSE_MS)
  }
}

/** Fills the windows with the latest outcomes. */
async function readOutcomes(
  pasts: ReadonlyMap<Partition, Past>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const byTopic = new Map<string, Outcomes>()
  const ranges: { dlq: Range[]; processed: Range[] } = { dlq: [], processed: [] }
  for (const [partition, past] of pasts) {
    const { dlq, processed } = endsOf.get(partition) as Ends
    const there = dlq.end - dlq.beginning + (processed.end - processed.beginning)
    if (past.fresh !== undefined && there > MAX_REMEMBERED_OUTCOMES)
      throw new Error(
        `${partition.name}: ${there} outcomes are there, and nothing that this group has committed: it would give every event another outcome. Is GROUP_ID another one than before?`,
      )
    // Nothing says where to go on: every event that has an outcome is to be recognised.
    if (past.fresh !== undefined) partition.remember(there)
    const { capacity } = partition.dedupe
    const outcomes = new Outcomes(partition.dedupe)
    for (const [role, { beginning, end }] of [['dlq', dlq] as const, ['processed', processed] as const]) {
      const at = partition.sibling(role)
      // Each transaction takes an offset for its own mark: in the worst case one a record.
      const from = Math.max(beginning, end - 2 * capacity)
      ranges[role].push({ ...at, from, to: end })
      byTopic.set(partitionName(at), outcomes)
    }
  }
  const of = (record: IncomingRecord): Outcomes => byTopic.get(partitionName(record)) as Outcomes
  await reader.read(ranges.dlq, (record) => of(record).addDead(record))
  await reader.read(ranges.processed, (record) => of(record).add(record))
  for (const outcomes of new Set(byTopic.values())) outcomes.finish()
}

/** Dead letters are the fewer; held back and put in among the results by their time, they leave the window oldest first. */
class Outcomes {
  readonly #dead: { timestampMs: number; identity: string }[] = []
  #next = 0

  constructor(readonly dedupe: Deduplication) {}

  addDead(record: IncomingRecord): void {
    this.#dead.push({ timestampMs: record.timestampMs, identity: identityOf(record) })
  }

  add(record: IncomingRecord): void {
    this.#addDeadUntil(record.timestampMs)
    this.dedupe.finish(identityOf(record))
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
      this.dedupe.finish(one.identity)
  }
}

/** Finds the events that wait in `.retry`. */
async function readWaiting(
  pasts: ReadonlyMap<Partition, Past>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const found = new Map<string, { past: Past; done: Set<number> }>()
  const ranges: Range[] = []
  for (const [partition, past] of pasts) {
    const { retry } = past
    const { end } = (endsOf.get(partition) as Ends).retry
    found.set(partitionName(retry), { past, done: decodeAhead(retry.offset, retry.metadata) })
    ranges.push({ topic: retry.topic, partition: retry.partition, from: retry.offset, to: end })
  }
  await reader.read(ranges, (record) => {
    const { past, done } = found.get(partitionName(record)) as { past: Past; done: Set<number> }
    if (!done.has(record.offset))
      past.waiting.push({ identity: identityOf(record), key: record.key?.toString('latin1') })
  })
}

/** Looks for an outcome of every input record before the committed offset, as far as the window reaches. */
async function findMissing(
  pasts: ReadonlyMap<Partition, Past>,
  endsOf: ReadonlyMap<Partition, Ends>,
  reader: RangeReader,
): Promise<void> {
  const ranges: Range[] = []
  const found = new Map<
    string,
    { partition: Partition; past: Past; ends: Ends; complete: boolean; waiting: Set<string> }
  >()
  for (const [partition, past] of pasts) {
    const ends = endsOf.get(partition) as Ends
    const { input, dlq, processed } = ends
    const { size, capacity } = partition.dedupe
    const there = dlq.end - dlq.beginning + (processed.end - processed.beginning)
    // All outcomes that there ever were are known, so what has none among them has none.
    const complete = dlq.beginning === 0 && processed.beginning === 0 && there <= capacity
    const reach = complete ? capacity : Math.max(0, size - MAX_OUT_OF_TURN)
    // A repeated event beyond the committed offset has no outcome of its own: only where all outcomes are known is it told from one that is missing.
    past.canCheckAhead = complete
    const from = Math.max(input.beginning, past.input.offset - reach)
    ranges.push({ topic: partition.topic, partition: partition.partition, from, to: past.input.offset })
    const waiting = new Set(past.waiting.map(({ identity }) => identity))
    found.set(partition.name, { partition, past, ends, complete, waiting })
  }
  await reader.read(ranges, (record) => {
    const { partition, past, waiting } = found.get(partitionName(record)) as {
      partition: Partition
      past: Past
      waiting: Set<string>
    }
    const identity = identityOf(record)
    if (!partition.dedupe.isDone(identity) && !waiting.has(identity)) past.missing.push(copyOf(record))
  })
  for (const { partition, past, ends, complete } of found.values())
    if (past.missing.length > 0 && !complete) await leaveOutOlder(partition, past, ends, reader)
}

/**
 * What has no outcome among the latest may be a repeated event whose outcome is older than those. Such are left out: the whole of the
 * outcomes is read for them, and where the oldest have been deleted, the whole of the input for an earlier copy.
 */
async function leaveOutOlder(partition: Partition, past: Past, ends: Ends, reader: RangeReader): Promise<void> {
  const searched = new Set(past.missing.map(identityOf))
  const older = new Set<string>()
  const note = (record: IncomingRecord): void => {
    const identity = identityOf(record)
    if (searched.has(identity)) older.add(identity)
  }
  for (const role of ['dlq', 'processed'] as const) {
    const { beginning, end } = ends[role]
    await reader.read([{ ...partition.sibling(role), from: beginning, to: end }], note)
  }
  if (ends.dlq.beginning > 0 || ends.processed.beginning > 0) {
    const to = past.missing[0]?.offset ?? 0
    await reader.read(
      [{ topic: partition.topic, partition: partition.partition, from: ends.input.beginning, to }],
      note,
    )
  }
  past.missing = past.missing.filter((record) => !older.has(identityOf(record)))
}

/** Of its own, so that it does not keep its whole batch in memory. */
const copyOf = ({ topic, partition, offset, timestampMs, key, value, headers }: IncomingRecord): IncomingRecord => ({
  topic,
  partition,
  offset,
  timestampMs,
  key: key === null ? null : Buffer.from(key),
  value: value === null ? null : Buffer.from(value),
  headers,
})

/** A copy is known by what the original was known by. */
export const identityOf = (record: IncomingRecord): string =>
  decode(record, headerText(record.headers, ORIGIN)).identity
