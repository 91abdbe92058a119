import type { IncomingRecord } from '../shared/events/record.ts'
import { CONTROL_TOPIC, parseTopic } from '../shared/events/topics.ts'
import type { Check } from '../shared/http/ops.ts'
import type { Position } from '../shared/kafka/statistics.ts'
import {
  type GroupConsumer,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import { type ConsumerMetrics, WAITING_REASONS } from './metrics.ts'
import { PAUSE_CAUSES } from './partition-state.ts'
import type { Pipeline } from './pipeline.ts'

/** Readiness, gauges and lag, all derived from the partitions' states. */

/** After decided records have waited this long for a commit, the consumer is not ready. */
const COMMIT_STALL_MS = 5_000

/** The most partitions named in a reason. */
const MAX_NAMED = 20

/** Only for records that are unread for so long, their timestamp is read from the log: most are fetched sooner. */
const UNREAD_PATIENCE_MS = 10_000

/** How many offsets are searched for a record: some are transaction markers, or of aborted or deleted records. */
const UNREAD_SEARCHED_OFFSETS = 100

/** How long the progress check may not run; the pause between two sets of clients is shorter. */
const WATCH_TIMEOUT_MS = 60_000

const unreached = (brokers: string): string => `a broker is unreachable: ${brokers}`

interface Working {
  pipeline: Pick<Pipeline, 'membership' | 'partitions' | 'pauses' | 'stalledMs'>
  group: Pick<GroupConsumer, 'connection' | 'refusal'>
  transactor: Pick<Transactor, 'connection'>
  /** Reads the log when partitions are restored. */
  reader: Pick<RangeReader, 'unreachable'>
}

/**
 * Ready: a member of the group, all assigned partitions are restored, and commits succeed or there is nothing to commit. A paused partition is a fault of
 * one stream that a new process would not fix: it is named, but the process stays ready if it reads another partition. Recreated
 * clients are named too, and do not make the process unready. Nor does a stream that an operator has paused, since that is no fault, nor an input whose events
 * wait in `.retry`: those are processed.
 * @param replaced why the clients were recreated, until the new ones have committed
 */
export function createChecks(
  current: () => Working,
  replaced: () => string | undefined,
  draining: AbortSignal,
): Record<string, Check> {
  const connected =
    (client: 'group' | 'transactor'): Check =>
    () => {
      const connection = current()[client].connection()
      if (connection.state === 'connected')
        return { ok: true, ...(connection.detail !== undefined && { detail: unreached(connection.detail) }) }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    }
  return {
    draining: () => (draining.aborted ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
    kafka: connected('group'),
    transactions: connected('transactor'),
    clients: () => {
      const reason = replaced()
      return { ok: true, ...(reason !== undefined && { detail: `recreated, nothing committed since: ${reason}` }) }
    },
    group: () => {
      switch (current().pipeline.membership()) {
        case 'member':
          return { ok: true }
        case 'no topics':
          return { ok: false, reason: 'no stream topic exists yet' }
        case 'not a member': {
          const refusal = current().group.refusal()
          return {
            ok: false,
            reason: `not a member of the group, or no assignment yet${refusal === undefined ? '' : `: ${refusal}`}`,
          }
        }
      }
    },
    partitions: () => {
      const { pipeline, reader } = current()
      const partitions = pipeline.partitions()
      const restoring: string[] = []
      const lasting: string[] = []
      const backlogs: string[] = []
      for (const { name, state, backlog } of partitions)
        if (state.kind === 'paused') lasting.push(`${name} is paused: ${state.reason}`)
        else if (state.kind === 'restoring' && state.fault === undefined) restoring.push(`${name} is being restored`)
        else if (state.kind === 'restoring')
          (state.lasting ? lasting : restoring).push(`${name} cannot be restored: ${state.fault}`)
        else if (backlog !== undefined) backlogs.push(`${name} is paused: ${backlog}`)
      const notRead = [...restoring, ...lasting, ...backlogs]
      if (notRead.length === 0) return { ok: true }
      const more = notRead.length > MAX_NAMED ? `, and ${notRead.length - MAX_NAMED} more` : ''
      const broker = restoring.length > 0 ? reader.unreachable() : undefined
      const because = broker === undefined ? '' : `; ${unreached(broker)}`
      const reason = `not read: ${notRead.slice(0, MAX_NAMED).join(', ')}${more}${because}`
      return restoring.length > 0 || lasting.length === partitions.length
        ? { ok: false, reason }
        : { ok: true, detail: reason }
    },
    streams: () => {
      const { streams, fault } = current().pipeline.pauses()
      const details = streams.slice(0, MAX_NAMED).map(({ tenant, stream, control: { by, atMs, reason } }) => {
        const since = new Date(atMs).toISOString()
        return `${tenant}/${stream} is paused by ${by} since ${since}: ${reason}`
      })
      if (streams.length > MAX_NAMED) details.push(`${streams.length - MAX_NAMED} more are paused`)
      if (fault !== undefined)
        details.push(`${CONTROL_TOPIC} cannot be read, so that streams stay as they are: ${fault}`)
      return { ok: true, ...(details.length > 0 && { detail: details.join(', ') }) }
    },
    commits: () => {
      const stalledMs = current().pipeline.stalledMs()
      if (stalledMs < COMMIT_STALL_MS) return { ok: true }
      return {
        ok: false,
        reason: `no commit for ${Math.round(stalledMs / 1000)} s although outcomes are ready`,
      }
    },
  }
}

/** Alive: the progress check runs, and replacing the clients has not failed too often. Does not depend on Kafka. */
export function createLiveness(
  current: () => { pipeline: Pick<Pipeline, 'unwatchedMs'> },
  gaveUp: () => boolean,
  draining: AbortSignal,
): Check {
  return () => {
    if (gaveUp()) return { ok: false, reason: 'recreating the Kafka clients did not help: exiting' }
    const unwatchedMs = draining.aborted ? 0 : current().pipeline.unwatchedMs()
    if (unwatchedMs < WATCH_TIMEOUT_MS) return { ok: true }
    return { ok: false, reason: `the progress watch has not run for ${Math.round(unwatchedMs / 1000)} s` }
  }
}

/** A partition may be paused by an operator and for a fault at the same time. */
const COUNTED_CAUSES = [...PAUSE_CAUSES, 'operator'] as const

/** Updates the gauges. */
export function measure(
  pipeline: Pick<Pipeline, 'levels' | 'partitions' | 'stalledMs' | 'waitingByReason'>,
  metrics: ConsumerMetrics,
): void {
  const { open, decided, handlers, parkedBytes, heldBytes, waiting } = pipeline.levels()
  metrics.held.set({ state: 'open' }, open)
  metrics.held.set({ state: 'decided' }, decided)
  metrics.held.set({ state: 'waiting' }, waiting)
  const waitingByReason = pipeline.waitingByReason()
  for (const reason of WAITING_REASONS) metrics.waiting.set({ reason }, waitingByReason.get(reason) ?? 0)
  metrics.heldBytes.set({ source: 'input' }, heldBytes)
  metrics.heldBytes.set({ source: 'retry' }, parkedBytes)
  metrics.handlers.set(handlers)
  metrics.stalledSeconds.set(pipeline.stalledMs() / 1000)
  const counts = { restoring: 0, reading: 0, paused: 0, draining: 0, revoked: 0 }
  const paused = new Map<string, Record<(typeof COUNTED_CAUSES)[number], number>>()
  for (const { topic, state, isPausedByOperator } of pipeline.partitions()) {
    counts[state.kind === 'reading' && isPausedByOperator ? 'paused' : state.kind]++
    const ofTopic = paused.get(topic) ?? { unreadable: 0, unwritable: 0, operator: 0 }
    paused.set(topic, ofTopic)
    if (state.kind === 'paused') ofTopic[state.cause]++
    if (isPausedByOperator) ofTopic.operator++
  }
  for (const state of ['restoring', 'reading', 'paused', 'draining'] as const)
    metrics.partitions.set({ state }, counts[state])
  // So that topics without assigned partitions have no series.
  metrics.pausedPartitions.reset()
  for (const [topic, ofTopic] of paused)
    for (const cause of COUNTED_CAUSES) metrics.pausedPartitions.set({ topic, cause }, ofTopic[cause])
}

/** The oldest record of a partition that is not fetched. */
interface Unread {
  next: number
  /** Its timestamp; until that is found, when it was first seen to be unread. */
  sinceMs: number
  isFound: boolean
  /** When to look for its timestamp. */
  lookAtMs: number
}

/**
 * Measures how far partitions are behind: records that are fetched and not committed, and records that a read_committed reader has still to
 * fetch. A transaction marker at the end is no record; the client's position shows that it was passed. In an input, an open transaction is another
 * producer's, and everything after its start counts as unread, including acknowledged events.
 *
 * When nothing is fetched for some time although there are unread records, the timestamp of the oldest is read from the log, once.
 */
export class LagMeter {
  /** By partition. */
  readonly #unread = new Map<string, Unread>()
  #looking: Promise<void> | undefined

  /** @param nowMs since the epoch */
  constructor(
    readonly metrics: Pick<ConsumerMetrics, 'lagRecords' | 'lagSeconds'>,
    readonly nowMs: () => number,
  ) {}

  async measure(
    pipeline: Pick<Pipeline, 'progress' | 'has' | 'endedBefore'>,
    reader: Pick<RangeReader, 'ends' | 'readUncommitted'>,
    positions: readonly Position[],
  ): Promise<void> {
    const { metrics } = this
    const progress = pipeline.progress()
    const ends = await endsOf(progress, reader)
    const positionOf = new Map(positions.map((one) => [partitionName(one), one]))
    const timeMs = this.nowMs()
    const behind: string[] = []
    const due: Due[] = []
    const names = new Set(progress.map(partitionName))
    for (const name of this.#unread.keys()) if (!names.has(name)) this.#unread.delete(name)
    for (const [index, { topic, partition, next, uncommitted, oldestMs }] of progress.entries()) {
      const name = partitionName({ topic, partition })
      // Revoked meanwhile: its new owner reports its lag.
      if (!pipeline.has({ topic, partition })) continue
      const labels = { topic, partition: String(partition) }
      const found = ends[index]
      // Without an answer from the broker, the last known lag stays.
      if (found !== undefined) {
        if (found.end < next) behind.push(name)
        const last = parseTopic(topic)?.role === 'input' ? found.end : found.stable
        const position = positionOf.get(name)
        const isAhead = position !== undefined && position.next > next
        const toFetch = Math.max(0, last - (isAhead ? position.next : next)) + (isAhead ? position.queued : 0)
        metrics.lagRecords.set(labels, uncommitted + toFetch)
        if (toFetch === 0 || oldestMs !== undefined) this.#unread.delete(name)
        else if (this.#isDue(name, next, timeMs)) {
          const from = Math.max(next, found.beginning)
          const to = Math.min(last, from + UNREAD_SEARCHED_OFFSETS)
          due.push({ range: { topic, partition, from, to }, one: this.#unread.get(name) as Unread })
        }
      }
      const sinceMs = oldestMs ?? this.#unread.get(name)?.sinceMs
      if (sinceMs !== undefined || found !== undefined)
        metrics.lagSeconds.set(labels, Math.max(0, timeMs - (sinceMs ?? timeMs)) / 1000)
    }
    if (due.length > 0)
      this.#looking = look(due, reader).finally(() => {
        this.#looking = undefined
      })
    for (const name of behind) pipeline.endedBefore(name)
  }

  /** Notes a partition's unread record. @returns whether its timestamp is to be looked for now */
  #isDue(name: string, next: number, timeMs: number): boolean {
    const one = this.#unread.get(name)
    const lookAtMs = timeMs + UNREAD_PATIENCE_MS
    if (one?.next !== next) {
      this.#unread.set(name, { next, sinceMs: timeMs, isFound: false, lookAtMs })
      return false
    }
    if (one.isFound || one.lookAtMs > timeMs || this.#looking !== undefined) return false
    one.lookAtMs = lookAtMs
    return true
  }
}

interface Due {
  range: Range
  one: Unread
}

/** Looks for the timestamps of unread records. One topic after the other, so that an unreadable one does not affect the others. */
async function look(due: readonly Due[], reader: Pick<RangeReader, 'readUncommitted'>): Promise<void> {
  for (const [, ofTopic] of Map.groupBy(due, ({ range }) => range.topic)) {
    const oneOf = new Map(ofTopic.map(({ range, one }) => [partitionName(range), one]))
    const ranges = ofTopic.map(({ range }) => range)
    const found = (record: IncomingRecord): void => {
      const one = oneOf.get(partitionName(record))
      if (one === undefined || one.isFound) return
      one.sinceMs = record.timestampMs
      one.isFound = true
    }
    await reader.readUncommitted(ranges, found).catch(() => undefined)
  }
}

/** If the request for all fails, asks topic by topic; undefined for those of a topic that fails. */
async function endsOf(
  partitions: readonly TopicPartition[],
  reader: Pick<RangeReader, 'ends'>,
): Promise<readonly (PartitionEnds | undefined)[]> {
  try {
    return await reader.ends(partitions)
  } catch {
    const found = new Map<string, PartitionEnds>()
    for (const [, own] of Map.groupBy(partitions, ({ topic }) => topic)) {
      const ends = await reader.ends(own).catch(() => [])
      for (const [index, one] of ends.entries()) found.set(partitionName(own[index] as TopicPartition), one)
    }
    return partitions.map((at) => found.get(partitionName(at)))
  }
}
