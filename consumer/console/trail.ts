import { ORIGIN } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader, RecordFilter, TopicPartition } from '../../shared/kafka/types.ts'
import { decodeAhead } from '../ahead.ts'
import { decode, originIn, originOf, receivedAtMs } from '../decode.ts'
import { answered, orProblem, type Readers } from './readers.ts'
import { type Budget, scan, type Wanted } from './scan.ts'
import { type Stream, topicOf } from './streams.ts'

/** What a record of the input led to. */
export interface Trail {
  outcome: IncomingRecord | undefined
  /** Its records in `.retry`, before the outcome. */
  retries: IncomingRecord[]
  /** Whether its offset is committed as done. */
  isCommitted: boolean
}

/** How much earlier than its record something of an event is mostly written at most: clocks differ. */
export const SKEW_MS = 1_000

/** Outcomes that are looked at first: those after the record was written, then those around the expected place; and dead letters, which are mostly few. */
const SOON_OFFSETS = 8_000
const NEAR_BEFORE_OFFSETS = 2_000
const NEAR_AFTER_OFFSETS = 6_000
const NEAR_LETTERS = 20_000

/** Offsets of one look at when an outcome's event came in: some are of transaction markers. */
const PROBED_OFFSETS = 20

/** How many times as far each next probe is from the last one, until the place is between two. */
const STEP_GROWTH = 4

const ROLES = ['processed', 'dlq', 'retry'] as const

/**
 * Finds the outcome of an input record, and its records in `.retry`, all of which are in partitions of the same number.
 * @param filter what the headers of the event's records are; undefined for what is no event, which is known by its place
 */
export async function trailOf(
  stream: Stream,
  record: IncomingRecord,
  filter: RecordFilter | undefined,
  reader: RangeReader,
  budget: Budget,
  readers: Readers,
): Promise<Trail> {
  const { topic, partition } = record
  const { identity } = decode(record)
  const places = ROLES.map((role) => ({ topic: topicOf(stream, role), partition }))
  const [processed, dlq, retry] = places as [TopicPartition, TopicPartition, TopicPartition]
  // Committed offsets first: what is committed by then has its outcome within the bounds.
  const [committed] = await answered(readers.meta.committed([{ topic, partition }]))
  const isCommitted =
    committed !== undefined &&
    (record.offset < committed.offset || decodeAhead(committed.offset, committed.metadata).has(record.offset))
  const [inputs = { from: 0, to: 0 }, ...bounds] = await readers.bounds([{ topic, partition }, ...places])
  const since = await readers.offsetsAt(places, record.timestampMs - SKEW_MS, bounds)
  const [all, allLetters, allRetries] = places.map((at, index) => {
    const { from, to } = bounds[index] ?? { from: 0, to: 0 }
    return { ...at, from, to, since: Math.min(to, Math.max(from, since?.[index] ?? from)) }
  }) as [Extent, Extent, Extent]
  let outcome: IncomingRecord | undefined
  const retries: IncomingRecord[] = []
  const take = (found: IncomingRecord): void => {
    if (decode(found, originIn(found)).identity !== identity) return
    if (found.topic === retry.topic) retries.push(found)
    else outcome ??= found
  }
  const headers = filter ?? { headers: [{ name: ORIGIN, value: originOf(record), how: 'equals' as const }] }
  const look = async (order: 'oldest' | 'newest', ...wanted: Wanted[]): Promise<void> => {
    if (outcome === undefined)
      await scan(reader, wanted, { order, filter: headers, budget, isEnough: () => outcome !== undefined }, take)
  }
  const letters = { from: allLetters.since, to: Math.min(allLetters.to, allLetters.since + NEAR_LETTERS) }
  const soon = { from: all.since, to: Math.min(all.to, all.since + SOON_OFFSETS) }
  await look('oldest', { ...processed, ...soon }, { ...dlq, ...letters })
  // Consumers lag behind, or many events came in at the time.
  const guess = guessed(all, record.offset, inputs)
  const near =
    isCommitted && outcome === undefined
      ? await nearOf({ ...all, since: soon.to }, guess, record, reader, budget)
      : soon
  await look('oldest', { ...processed, ...near })
  await look('oldest', { ...processed, from: near.to, to: all.to }, { ...dlq, from: letters.to, to: allLetters.to })
  await look('newest', { ...processed, from: soon.to, to: Math.max(soon.to, near.from) })
  // Written by a process whose clock is behind, or the record repeats an event that had its outcome before.
  if (isCommitted)
    await look(
      'newest',
      { ...processed, from: all.from, to: all.since },
      { ...dlq, from: allLetters.from, to: allLetters.since },
    )
  const until =
    outcome === undefined
      ? allRetries.to
      : ((await readers.offsetsAt([retry], outcome.timestampMs + SKEW_MS, [allRetries]))?.[0] ?? allRetries.to)
  const { since: from } = allRetries
  await scan(
    reader,
    [{ ...retry, from, to: Math.max(from, until) }],
    { order: 'oldest', filter: headers, budget },
    take,
  )
  return { outcome, retries, isCommitted }
}

interface Extent extends Wanted {
  /** The first offset at the time of the record. */
  since: number
}

/** The offset that is as far from the ends of its partition as the record's is. */
function guessed(outcomes: Wanted, offset: number, inputs: { from: number; to: number }): number {
  const share = (offset - inputs.from) / Math.max(1, inputs.to - inputs.from)
  return Math.floor(outcomes.from + share * (outcomes.to - outcomes.from))
}

/**
 * Where its outcome is, were all outcomes in the order in which their events came in: found by probes, first around the guess, then further and further from
 * it, and by bisection once it is between two of them.
 */
async function nearOf(
  { topic, partition, since, to }: Extent,
  guess: number,
  record: IncomingRecord,
  reader: RangeReader,
  budget: Budget,
): Promise<{ from: number; to: number }> {
  const wantedMs = receivedAtMs(record) ?? record.timestampMs
  let [low, high] = [since, to]
  let step = NEAR_AFTER_OFFSETS
  let next = guess - step / 2
  while (high - low > NEAR_AFTER_OFFSETS && !budget.isSpent) {
    const middle = Math.min(high - 1, Math.max(low + 1, next))
    let probe: IncomingRecord | undefined
    const range = { topic, partition, from: middle, to: Math.min(to, middle + PROBED_OFFSETS) }
    try {
      await orProblem(
        reader.read(
          [range],
          (found) => {
            probe ??= found
          },
          { signal: budget.signal },
        ),
      )
    } catch (error) {
      if (!budget.signal.aborted) throw error
    }
    if (probe === undefined) break
    if ((receivedAtMs(probe) ?? probe.timestampMs) < wantedMs) low = middle
    else high = middle
    const half = Math.floor((low + high) / 2)
    if (low === since) next = Math.max(half, high - step)
    else if (high === to) next = Math.min(half, low + step)
    else next = half
    step *= STEP_GROWTH
  }
  return {
    from: Math.max(since, low - NEAR_BEFORE_OFFSETS),
    to: Math.min(to, Math.max(high, low + NEAR_AFTER_OFFSETS)),
  }
}
