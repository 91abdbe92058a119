import { type Static, Type } from '@sinclair/typebox'
import { siblingTopic } from '../../shared/events/topics.ts'
import {
  type CommittedOffset,
  type PartitionEnds,
  partitionName,
  type TopicPartition,
} from '../../shared/kafka/types.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { decodeAhead } from '../ahead.ts'
import { ASSIGNED_STATES, type ConsumerStatusz } from '../statusz.ts'
import type { LetterAct } from './acts-log.ts'
import type { Consumers } from './consumers.ts'
import { answered, orProblem, type Readers } from './readers.ts'
import { partitionsOf, type Stream } from './streams.ts'

/** How a stream is doing: lag, rates, and which consumer reads what, from what Kafka and the consumers tell. */

const Time = Type.String({ format: 'date-time' })

export const PartitionStatus = Type.Object(
  {
    partition: Type.Integer({ minimum: 0 }),
    state: oneOf(['not assigned', 'assigned', 'unknown', ...ASSIGNED_STATES], {
      description:
        'As its consumer says. assigned: the consumer could not be asked. unknown: the broker describes no groups. restoring: it reads what it has to know first. paused: by an operator, or for the reason. draining: it is given to another.',
    }),
    reason: Type.Optional(Type.String({ description: 'Why it is paused, or cannot be restored.' })),
    consumer: Type.Optional(Type.String({ description: 'The client id of the consumer that it is assigned to.' })),
    committed: Type.Integer({ minimum: -1, description: 'The next offset to process; -1: nothing was committed yet.' }),
    end: Type.Integer({ minimum: 0 }),
    lag: Type.Integer({
      minimum: 0,
      description:
        'Records of the stream’s own topic that no consumer has committed; over 200 offsets, with markers of transactions.',
    }),
    waiting: Type.Integer({
      minimum: 0,
      description: 'The same of .retry.',
    }),
  },
  { title: 'PartitionStatus' },
)
type PartitionStatus = Static<typeof PartitionStatus>

export const StreamStatus = Type.Object(
  {
    tenant: Type.String(),
    stream: Type.String(),
    paused: Type.Optional(
      Type.Object(
        { by: Type.String(), time: Time, reason: Type.Optional(Type.String()) },
        { description: 'Present while it is paused.' },
      ),
    ),
    group: Type.Object({
      id: Type.String(),
      state: Type.String({
        description: 'As Kafka names it; Unknown on a broker that describes no groups.',
        examples: ['Stable', 'Empty'],
      }),
    }),
    consumers: Type.Array(
      Type.Object({
        clientId: Type.String(),
        host: Type.String({ description: 'As Kafka sees it.' }),
        ready: Type.Optional(Type.Boolean({ description: 'Absent: it could not be asked.' })),
        faults: Type.Optional(
          Type.Array(Type.String(), { description: 'Why it is not ready, besides its partitions.' }),
        ),
        partitions: Type.Array(Type.Integer(), { description: 'Of this stream.' }),
      }),
      { description: 'All members of the group.' },
    ),
    lag: Type.Integer({ minimum: 0 }),
    waiting: Type.Integer({ minimum: 0 }),
    duplicates: Type.Optional(
      Type.Integer({
        minimum: 0,
        description:
          'Events that came again and were dropped, by consumers that run now, since they started; absent where none could be asked.',
      }),
    ),
    rates: Type.Object(
      {
        seconds: Type.Number({ description: 'Over how long they were measured.' }),
        in: Type.Optional(
          Type.Number({
            description: 'Records a second into the stream; absent on a broker that does not search by time.',
          }),
        ),
        done: Type.Optional(
          Type.Number({
            description: 'Records a second that were committed; absent until the stream was asked for twice.',
          }),
        ),
      },
      { title: 'Rates' },
    ),
    partitions: Type.Array(PartitionStatus),
  },
  { title: 'StreamStatus' },
)
export type StreamStatus = Static<typeof StreamStatus>

/** The incoming rate is that of so long. */
const RATE_SECONDS = 60

/** Samples of committed offsets closer together than this tell no rate; older ones than that are replaced. */
const LEAST_SAMPLE_MS = 1_000
const MOST_SAMPLE_MS = 60_000

/** A partition’s lag of at most so many offsets is counted. */
const MAX_COUNTED_OFFSETS = 200

/** What was committed of a stream at one moment. */
interface Sample {
  atMs: number
  done: number
  /** Up to then. */
  rate?: number
}

export class Statuses {
  readonly #samples = new Map<string, Sample>()

  constructor(
    readonly readers: Readers,
    readonly groupId: string,
    readonly consumers: Pick<Consumers, 'statuses'>,
    readonly signal: AbortSignal,
  ) {}

  async of(
    stream: Stream,
    paused: Pick<LetterAct, 'by' | 'time' | 'reason'> | undefined,
    caller = stream.tenant,
  ): Promise<StreamStatus> {
    const { readers } = this
    const inputs = partitionsOf(stream, 'input')
    const retries = inputs.map(({ partition }) => ({ topic: siblingTopic(stream.input, 'retry'), partition }))
    const committed = await answered(readers.meta.committed([...inputs, ...retries]))
    const [ends, group] = await answered(
      Promise.all([readers.meta.ends([...inputs, ...retries]), readers.meta.group()]),
    )
    const bounds = ends.map(({ beginning, end }) => ({ from: beginning, to: end }))
    const since = await readers.offsetsAt(inputs, Date.now() - RATE_SECONDS * 1000, bounds)
    const described = group?.members ?? []
    const told = await this.consumers.statuses(described.map(({ host }) => host))
    const members = described.map(({ clientId, host, partitions }) => ({
      clientId,
      host,
      ...readinessOf(told.get(clientId)),
      partitions: partitions.flatMap(({ topic, partition }) => (topic === stream.input ? [partition] : [])),
    }))
    const lags = await this.#lags([...inputs, ...retries], committed, ends, caller)
    const lagOf = (index: number): number => lags[index] ?? 0
    const partitions = inputs.map(({ partition }, index) => {
      const consumer = members.find((member) => member.partitions.includes(partition))?.clientId
      return {
        partition,
        ...(group === undefined
          ? { state: paused === undefined ? ('unknown' as const) : ('paused' as const) }
          : stateOf(
              stream,
              partition,
              consumer === undefined ? undefined : { told: told.get(consumer) },
              paused !== undefined,
            )),
        ...(consumer === undefined ? {} : { consumer }),
        committed: committed[index]?.offset ?? -1,
        end: ends[index]?.end ?? 0,
        lag: lagOf(index),
        waiting: lagOf(inputs.length + index),
      }
    })
    const arrived =
      since && inputs.reduce((sum, _, index) => sum + Math.max(0, (ends[index]?.end ?? 0) - (since[index] ?? 0)), 0)
    const done = this.#doneRate(stream, inputs, committed)
    return {
      tenant: stream.tenant,
      stream: stream.name,
      ...(paused === undefined
        ? {}
        : {
            paused: {
              by: paused.by,
              time: paused.time,
              ...(paused.reason === undefined ? {} : { reason: paused.reason }),
            },
          }),
      group: { id: this.groupId, state: group?.state ?? 'Unknown' },
      consumers: members.sort((a, b) => a.clientId.localeCompare(b.clientId)),
      lag: partitions.reduce((sum, one) => sum + one.lag, 0),
      waiting: partitions.reduce((sum, one) => sum + one.waiting, 0),
      ...duplicatesOf(stream, [...told.values()]),
      rates: {
        seconds: RATE_SECONDS,
        ...(arrived === undefined ? {} : { in: round(arrived / RATE_SECONDS) }),
        ...(done === undefined ? {} : { done }),
      },
      partitions,
    }
  }

  /** Records without a committed outcome. Small numbers are counted in the log, where the ends of transactions take offsets, too. */
  async #lags(
    partitions: readonly TopicPartition[],
    committed: readonly CommittedOffset[],
    ends: readonly PartitionEnds[],
    caller: string,
  ): Promise<number[]> {
    const open = partitions.map((at, index) => {
      const { beginning = 0, end = 0, stable = 0 } = ends[index] ?? {}
      const { offset = 0, metadata = '' } = committed[index] ?? {}
      const from = Math.max(beginning, offset)
      const done = decodeAhead(offset, metadata)
      return { ...at, from, to: Math.max(from, stable), end, done, count: 0 }
    })
    const counted = open.filter(({ from, end }) => end > from && end - from <= MAX_COUNTED_OFFSETS)
    const byName = new Map(counted.map((one) => [partitionName(one), one]))
    if (counted.length > 0)
      await this.readers.use({ signal: this.signal, caller }, (reader) =>
        orProblem(
          reader.read(counted, (record) => {
            const of = byName.get(partitionName(record))
            if (of !== undefined && !of.done.has(record.offset)) of.count++
          }),
        ),
      )
    return open.map((one) => {
      if (byName.has(partitionName(one))) return one.count + Math.max(0, one.end - one.to)
      const ahead = [...one.done].filter((offset) => offset >= one.from).length
      return Math.max(0, one.end - one.from - ahead)
    })
  }

  /** Between this call and an earlier one. */
  #doneRate(
    stream: Stream,
    inputs: readonly TopicPartition[],
    committed: readonly CommittedOffset[],
  ): number | undefined {
    const nowMs = performance.now()
    const done = inputs.reduce((sum, _, index) => sum + Math.max(0, committed[index]?.offset ?? 0), 0)
    const before = this.#samples.get(stream.input)
    const age = nowMs - (before?.atMs ?? 0)
    // Whoever asks soon after somebody else gets the same answer.
    if (before !== undefined && age < LEAST_SAMPLE_MS) return before.rate
    const rate =
      before === undefined || age > MOST_SAMPLE_MS ? undefined : round(Math.max(0, done - before.done) / (age / 1000))
    this.#samples.set(stream.input, { atMs: nowMs, done, ...(rate === undefined ? {} : { rate }) })
    return rate
  }
}

const readinessOf = (told: ConsumerStatusz | undefined) =>
  told === undefined ? {} : { ready: told.ready, ...(told.faults.length === 0 ? {} : { faults: told.faults }) }

function duplicatesOf({ input }: Stream, told: readonly ConsumerStatusz[]): { duplicates?: number } {
  const counts = told.flatMap(({ duplicates }) => (duplicates === undefined ? [] : [duplicates]))
  if (counts.length === 0) return {}
  const ofStream = counts.flat().filter(({ topic }) => topic === input)
  return { duplicates: ofStream.reduce((sum, { count }) => sum + count, 0) }
}

/** @param consumer which has it, with what it says of itself */
function stateOf(
  { input }: Stream,
  partition: number,
  consumer: { told: ConsumerStatusz | undefined } | undefined,
  isPaused: boolean,
): Pick<PartitionStatus, 'state' | 'reason'> {
  if (consumer === undefined) return { state: 'not assigned' }
  const told = consumer.told?.partitions.find((one) => one.topic === input && one.partition === partition)
  if (told !== undefined) return { state: told.state, ...(told.reason === undefined ? {} : { reason: told.reason }) }
  return { state: isPaused ? 'paused' : 'assigned' }
}

const round = (rate: number): number => Number(rate.toFixed(1))
