import type { IncomingRecord } from '../shared/events/record.ts'
import { parseTopic } from '../shared/events/topics.ts'
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
import type { Check } from '../shared/service/ops.ts'
import type { ConsumerMetrics } from './metrics.ts'
import { PAUSE_CAUSES, type PauseCause } from './partition-state.ts'
import type { Pipeline } from './pipeline.ts'

/** What is told of the consumer: whether it is ready, what it holds and how far it is behind. All of it is read from the partitions' states. */

/** How long decided records may wait for their commit before the consumer is not ready. */
const COMMIT_STALL_MS = 5_000

/** How many partitions are named in a reason. */
const MAX_NAMED = 20

/** How long records may be unread before it is looked up when they were written: most are fetched, or their partition is restored, sooner. */
const UNREAD_PATIENCE_MS = 10_000

/** Among so many offsets one is a record's: others are transactions' marks, or of records that were aborted or deleted. */
const UNREAD_SEARCHED_OFFSETS = 100

/** How long the watch on progress may not run: the pause between two clients is shorter. */
const WATCH_TIMEOUT_MS = 60_000

interface Working {
  pipeline: Pick<Pipeline, 'membership' | 'partitions' | 'stalledMs'>
  group: Pick<GroupConsumer, 'connection' | 'refusal'>
  transactor: Pick<Transactor, 'connection'>
}

/**
 * Ready: in the group, every assigned partition is restored, and commits go through or there is nothing to commit. A paused partition is one stream's
 * trouble, which a new process cannot fix: it is named, and makes no process unready that reads another.
 */
export function createChecks(current: () => Working, draining: AbortSignal): Record<string, Check> {
  const connected =
    (client: 'group' | 'transactor'): Check =>
    () => {
      const connection = current()[client].connection()
      if (connection.state === 'connected') return { ok: true }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    }
  return {
    draining: () => (draining.aborted ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
    kafka: connected('group'),
    transactions: connected('transactor'),
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
      const partitions = current().pipeline.partitions()
      const restoring: string[] = []
      const lasting: string[] = []
      for (const { name, state } of partitions)
        if (state.kind === 'paused') lasting.push(`${name} is paused: ${state.reason}`)
        else if (state.kind === 'restoring' && state.fault === undefined) restoring.push(`${name} is being restored`)
        else if (state.kind === 'restoring')
          (state.lasting ? lasting : restoring).push(`${name} cannot be restored: ${state.fault}`)
      const notRead = [...restoring, ...lasting]
      if (notRead.length === 0) return { ok: true }
      const more = notRead.length > MAX_NAMED ? `, and ${notRead.length - MAX_NAMED} more` : ''
      const reason = `not read: ${notRead.slice(0, MAX_NAMED).join(', ')}${more}`
      return restoring.length > 0 || lasting.length === partitions.length
        ? { ok: false, reason }
        : { ok: true, detail: reason }
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

/** Alive: the watch on progress runs, which replaces clients that do not go on, and new ones have helped. Kafka is not asked. */
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

/** Brings the gauges up to date. */
export function measure(
  pipeline: Pick<Pipeline, 'levels' | 'partitions' | 'stalledMs'>,
  metrics: ConsumerMetrics,
): void {
  const { open, decided, handlers, parkedBytes, heldBytes, waiting } = pipeline.levels()
  metrics.held.set({ state: 'open' }, open)
  metrics.held.set({ state: 'decided' }, decided)
  metrics.held.set({ state: 'waiting' }, waiting)
  metrics.heldBytes.set({ source: 'input' }, heldBytes)
  metrics.heldBytes.set({ source: 'retry' }, parkedBytes)
  metrics.handlers.set(handlers)
  metrics.stalledSeconds.set(pipeline.stalledMs() / 1000)
  const counts = { restoring: 0, reading: 0, paused: 0, draining: 0, revoked: 0 }
  const paused = new Map<string, Record<PauseCause, number>>()
  for (const { topic, state } of pipeline.partitions()) {
    counts[state.kind]++
    const ofTopic = paused.get(topic) ?? { unreadable: 0, unwritable: 0 }
    paused.set(topic, ofTopic)
    if (state.kind === 'paused') ofTopic[state.cause]++
  }
  for (const state of ['restoring', 'reading', 'paused', 'draining'] as const)
    metrics.partitions.set({ state }, counts[state])
  // A topic of which nothing is assigned any more has no series.
  metrics.pausedPartitions.reset()
  for (const [topic, ofTopic] of paused)
    for (const cause of PAUSE_CAUSES) metrics.pausedPartitions.set({ topic, cause }, ofTopic[cause])
}

/** The oldest record of a partition that is not even fetched. */
interface Unread {
  next: number
  /** When it was written; until that is found, when it was first seen that it is not read. */
  sinceMs: number
  isFound: boolean
  /** When it is looked for. */
  lookAtMs: number
}

/**
 * Asks the broker where the partitions end, and says how far they are behind: records that are fetched and not committed, and what a reader of
 * committed records has still to fetch. A transaction's mark at the end is no record: the client's position says that it has been passed. In an input a
 * transaction is another producer's: what stands behind it, acknowledged events among them, waits for it and counts.
 *
 * Where there are unread records and nothing is fetched for some time, when the oldest of them was written is read from the log, once.
 * @param nowMs since the epoch
 */
export function createLagMeter(metrics: Pick<ConsumerMetrics, 'lagRecords' | 'lagSeconds'>, nowMs: () => number) {
  /** By partition. */
  const unread = new Map<string, Unread>()
  let looking: Promise<void> | undefined

  /** One topic after the other: what makes one unreadable says nothing of the others. */
  async function look(
    due: readonly { range: Range; one: Unread }[],
    reader: Pick<RangeReader, 'readUncommitted'>,
  ): Promise<void> {
    for (const [, ofTopic] of Map.groupBy(due, ({ range }) => range.topic)) {
      const oneOf = new Map(ofTopic.map(({ range, one }) => [partitionName(range), one]))
      const found = (record: IncomingRecord): void => {
        const one = oneOf.get(partitionName(record))
        if (one === undefined || one.isFound) return
        one.sinceMs = record.timestampMs
        one.isFound = true
      }
      await reader
        .readUncommitted(
          ofTopic.map(({ range }) => range),
          found,
        )
        .catch(() => undefined)
    }
  }

  return async (
    pipeline: Pick<Pipeline, 'progress' | 'has' | 'endedBefore'>,
    reader: Pick<RangeReader, 'ends' | 'readUncommitted'>,
    positions: readonly Position[],
  ): Promise<void> => {
    const progress = pipeline.progress()
    const ends = await endsOf(progress, reader)
    const positionOf = new Map(positions.map((one) => [partitionName(one), one]))
    const timeMs = nowMs()
    const behind: string[] = []
    const due: { range: Range; one: Unread }[] = []
    const names = new Set(progress.map(partitionName))
    for (const name of unread.keys()) if (!names.has(name)) unread.delete(name)
    for (const [index, { topic, partition, next, uncommitted, oldestMs }] of progress.entries()) {
      const name = partitionName({ topic, partition })
      // Given up meanwhile: its lag is another's to tell.
      if (!pipeline.has({ topic, partition })) continue
      const labels = { topic, partition: String(partition) }
      const found = ends[index]
      // A broker that does not answer makes nothing shorter: what was last known stays.
      if (found !== undefined) {
        const { beginning, stable, end } = found
        if (end < next) behind.push(name)
        const isInput = parseTopic(topic)?.role === 'input'
        const position = positionOf.get(name)
        const isAhead = position !== undefined && position.next > next
        const last = isInput ? end : stable
        const toFetch = Math.max(0, last - (isAhead ? position.next : next)) + (isAhead ? position.queued : 0)
        metrics.lagRecords.set(labels, uncommitted + toFetch)
        let one = unread.get(name)
        if (toFetch === 0 || oldestMs !== undefined) unread.delete(name)
        else if (one?.next !== next) {
          one = { next, sinceMs: timeMs, isFound: false, lookAtMs: timeMs + UNREAD_PATIENCE_MS }
          unread.set(name, one)
        } else if (!one.isFound && one.lookAtMs <= timeMs && looking === undefined) {
          one.lookAtMs = timeMs + UNREAD_PATIENCE_MS
          const from = Math.max(next, beginning)
          due.push({ range: { topic, partition, from, to: Math.min(last, from + UNREAD_SEARCHED_OFFSETS) }, one })
        }
      }
      const sinceMs = oldestMs ?? unread.get(name)?.sinceMs
      if (sinceMs !== undefined || found !== undefined)
        metrics.lagSeconds.set(labels, Math.max(0, timeMs - (sinceMs ?? timeMs)) / 1000)
    }
    if (due.length > 0)
      looking = look(due, reader).finally(() => {
        looking = undefined
      })
    for (const name of behind) pipeline.endedBefore(name)
  }
}

/** A topic that cannot be asked for says nothing of the others. */
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
