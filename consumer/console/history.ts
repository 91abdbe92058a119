import { type Static, Type } from '@sinclair/typebox'
import type { RangeReader, TopicPartition } from '../../shared/kafka/types.ts'
import { receivedAtMs } from '../decode.ts'
import { orProblem, type Readers } from './readers.ts'
import type { Budget } from './scan.ts'
import { partitionsOf, type Stream, topicOf } from './streams.ts'

/** What came in and what became of it, minute by minute, from the log alone. */

const MINUTE_MS = 60_000

/** A partition's offsets of a minute are all read if there are at most so many. Of more, only some are read, and the rest is estimated from these. */
const MAX_COUNTED_OFFSETS = 1_000
const SAMPLED_OFFSETS = 200

const isCounted = (offsets: number): boolean => offsets <= MAX_COUNTED_OFFSETS
const readOf = (offsets: number): number => (isCounted(offsets) ? offsets : SAMPLED_OFFSETS)

/** A minute is remembered once nothing can be added to it any more: clocks of brokers differ, and a transaction may still be open. */
const SETTLED_MS = 30_000

/** The most minutes of one answer, and streams that are remembered. */
export const MAX_MINUTES = 180
const MAX_STREAMS = 50

const OUTPUTS = ['processed', 'dlq', 'retry'] as const

const Minute = Type.Object(
  {
    time: Type.String({ format: 'date-time', description: 'When it begins.' }),
    in: Type.Integer({ minimum: 0, description: 'Records into the stream.' }),
    processed: Type.Integer({ minimum: 0 }),
    dead: Type.Integer({ minimum: 0 }),
    retried: Type.Integer({ minimum: 0, description: 'Records into .retry.' }),
    estimated: Type.Optional(
      Type.Boolean({
        description: 'It has so many outcomes that only some were read, and the others estimated from these.',
      }),
    ),
    latencyMs: Type.Optional(
      Type.Object(
        { p50: Type.Integer(), p95: Type.Integer(), of: Type.Integer({ description: 'As many outcomes.' }) },
        { description: 'From the producer’s receipt of an event to its outcome in .processed.' },
      ),
    ),
  },
  { title: 'Minute' },
)
type Minute = Static<typeof Minute>

export const History = Type.Object(
  {
    minutes: Type.Array(Minute, { description: 'Oldest first. The last is not over yet.' }),
    complete: Type.Boolean({
      description:
        'false: the oldest are missing, since the search ended at a limit, or the broker does not search by time.',
    }),
  },
  { title: 'History' },
)
export type History = Static<typeof History>

export class Histories {
  /** Minutes that are over, by stream and by when they begin. */
  readonly #known = new Map<string, Map<number, Minute>>()

  constructor(readonly readers: Readers) {}

  /** @throws ProblemError when Kafka cannot be read */
  async of(stream: Stream, count: number, nowMs: number, budget: Budget): Promise<History> {
    const { readers } = this
    const known = this.#knownOf(stream)
    const last = Math.floor(nowMs / MINUTE_MS) * MINUTE_MS
    const first = last - (count - 1) * MINUTE_MS
    for (const begin of known.keys()) if (begin < last - MAX_MINUTES * MINUTE_MS) known.delete(begin)
    const places = [...partitionsOf(stream, 'input'), ...OUTPUTS.flatMap((role) => partitionsOf(stream, role))]
    const bounds = await readers.bounds(places)
    const minutes: Minute[] = []
    /** Not behind an open transaction, where nothing can be read. */
    const at = async (ms: number): Promise<number[] | undefined> =>
      (await readers.offsetsAt(places, ms, bounds))?.map((offset, index) => Math.min(offset, bounds[index]?.to ?? 0))
    return readers.use(budget, async (reader) => {
      let ends: readonly number[] = bounds.map(({ to }) => to)
      let areEnds = last + MINUTE_MS
      // Newest first: what is looked at most comes before a limit.
      for (let begin = last; begin >= first; begin -= MINUTE_MS) {
        const found = known.get(begin)
        if (found !== undefined) {
          minutes.unshift(found)
          continue
        }
        if (budget.isSpent) return { minutes, complete: false }
        if (areEnds !== begin + MINUTE_MS) ends = (await at(begin + MINUTE_MS)) ?? []
        const begins = await at(begin)
        if (begins === undefined) return { minutes, complete: false }
        const minute = await minuteOf(stream, begin, places, begins, ends, reader, budget)
        if (minute === undefined) return { minutes, complete: false }
        if (begin + MINUTE_MS + SETTLED_MS < nowMs) known.set(begin, minute)
        minutes.unshift(minute)
        ends = begins
        areEnds = begin
      }
      return { minutes, complete: true }
    })
  }

  #knownOf({ input }: Stream): Map<number, Minute> {
    const known = this.#known.get(input) ?? new Map<number, Minute>()
    this.#known.delete(input)
    this.#known.set(input, known)
    const [oldest] = this.#known.keys()
    if (this.#known.size > MAX_STREAMS && oldest !== undefined) this.#known.delete(oldest)
    return known
  }
}

/** undefined: the time for the request is over. */
async function minuteOf(
  stream: Stream,
  begin: number,
  places: readonly TopicPartition[],
  begins: readonly number[],
  ends: readonly number[],
  reader: RangeReader,
  budget: Budget,
): Promise<Minute | undefined> {
  const input = topicOf(stream, 'input')
  const extents = places.map((at, index) => {
    const from = begins[index] ?? 0
    return { ...at, from, offsets: Math.max(0, (ends[index] ?? 0) - from), read: 0 }
  })
  const sampled = extents
    .filter(({ topic, offsets }) => topic !== input && offsets > 0)
    .map((extent) => ({ ...extent, to: extent.from + readOf(extent.offsets), extent }))
  const byPlace = new Map(sampled.map(({ topic, partition, extent }) => [`${topic}/${partition}`, extent]))
  const processed = topicOf(stream, 'processed')
  const latencies: number[] = []
  if (sampled.length > 0) {
    try {
      await orProblem(
        reader.read(
          sampled,
          (record) => {
            const extent = byPlace.get(`${record.topic}/${record.partition}`)
            if (extent !== undefined) extent.read++
            const receivedMs = record.topic === processed ? receivedAtMs(record) : undefined
            if (receivedMs !== undefined) latencies.push(Math.max(0, record.timestampMs - receivedMs))
          },
          { signal: budget.signal },
        ),
      )
    } catch (error) {
      if (budget.signal.aborted) return undefined
      throw error
    }
    budget.pass(sampled.reduce((sum, { from, to }) => sum + to - from, 0))
  }
  const sum = (topic: string): number => {
    let total = 0
    for (const extent of extents) {
      if (extent.topic !== topic) continue
      // The ends of transactions take offsets, too: as many among the others as among those that were read.
      const share = topic === input ? 1 : extent.read / Math.max(1, readOf(extent.offsets))
      total += extent.offsets * share
    }
    return Math.round(total)
  }
  latencies.sort((a, b) => a - b)
  const quantile = (q: number): number =>
    Math.round(latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] ?? 0)
  return {
    time: new Date(begin).toISOString(),
    in: sum(input),
    processed: sum(processed),
    dead: sum(topicOf(stream, 'dlq')),
    retried: sum(topicOf(stream, 'retry')),
    ...(sampled.some(({ extent }) => !isCounted(extent.offsets)) ? { estimated: true } : {}),
    ...(latencies.length === 0 ? {} : { latencyMs: { p50: quantile(0.5), p95: quantile(0.95), of: latencies.length } }),
  }
}
