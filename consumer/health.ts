import type { Position } from '../shared/kafka/statistics.ts'
import {
  type GroupConsumer,
  type PartitionEnds,
  partitionName,
  type RangeReader,
  type TopicPartition,
  type Transactor,
} from '../shared/kafka/types.ts'
import type { Check } from '../shared/ops.ts'
import type { ConsumerMetrics } from './metrics.ts'
import { PAUSE_CAUSES, type PauseCause } from './partition.ts'
import type { Pipeline } from './pipeline.ts'

/** What is told of the consumer: whether it is ready, what it holds and how far it is behind. All of it is read from the partitions' states. */

/** How long decided records may wait for their commit before the consumer is not ready. */
const COMMIT_STALL_MS = 5_000

/** How many partitions are named in a reason. */
const MAX_NAMED = 20

interface Working {
  pipeline: Pick<Pipeline, 'membership' | 'partitions' | 'stalledMs'>
  group: Pick<GroupConsumer, 'connection'>
  transactor: Pick<Transactor, 'connection'>
}

/**
 * Ready: in the group, every assigned partition is restored, and commits go through or there is nothing to commit. A paused partition is one stream's
 * trouble, which a new process cannot mend: it is named, and makes no process unready that reads another.
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
          return { ok: false, reason: 'there is no topic of a stream yet' }
        case 'not a member':
          return { ok: false, reason: 'not a member of the group, or not told yet which partitions to read' }
      }
    },
    partitions: () => {
      const partitions = current().pipeline.partitions()
      const restoring = partitions.flatMap(({ name, state }) => {
        if (state.kind !== 'restoring') return []
        return state.fault === undefined ? `${name} is being restored` : `${name} cannot be restored: ${state.fault}`
      })
      const paused = partitions.flatMap(({ name, state }) =>
        state.kind === 'paused' ? `${name} is paused: ${state.reason}` : [],
      )
      const notRead = [...restoring, ...paused]
      if (notRead.length === 0) return { ok: true }
      const more = notRead.length > MAX_NAMED ? `, and ${notRead.length - MAX_NAMED} more` : ''
      const reason = `not read: ${notRead.slice(0, MAX_NAMED).join(', ')}${more}`
      return restoring.length > 0 || paused.length === partitions.length
        ? { ok: false, reason }
        : { ok: true, detail: reason }
    },
    commits: () => {
      const stalledMs = current().pipeline.stalledMs()
      if (stalledMs < COMMIT_STALL_MS) return { ok: true }
      return {
        ok: false,
        reason: `nothing has been committed for ${Math.round(stalledMs / 1000)} s, though records are decided`,
      }
    },
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

/**
 * Asks the broker where the partitions end, and says how far they are behind: records that are fetched and not committed, and what a reader of
 * committed records has still to fetch. A transaction's mark at the end is no record: the client's position says that it has been passed.
 */
export async function measureLag(
  pipeline: Pick<Pipeline, 'progress' | 'has' | 'endedBefore'>,
  reader: Pick<RangeReader, 'ends'>,
  positions: readonly Position[],
  metrics: ConsumerMetrics,
): Promise<void> {
  const progress = pipeline.progress()
  const ends = await endsOf(progress, reader)
  const positionOf = new Map(positions.map((one) => [partitionName(one), one]))
  const nowMs = Date.now()
  const behind: string[] = []
  for (const [index, { topic, partition, next, uncommitted, oldestMs }] of progress.entries()) {
    const name = partitionName({ topic, partition })
    // Given up meanwhile: its lag is another's to tell.
    if (!pipeline.has({ topic, partition })) continue
    const labels = { topic, partition: String(partition) }
    metrics.lagSeconds.set(labels, oldestMs === undefined ? 0 : Math.max(0, nowMs - oldestMs) / 1000)
    const found = ends[index]
    // A broker that does not answer makes nothing shorter: what was last known stays.
    if (found === undefined) continue
    if (found.end < next) behind.push(name)
    const position = positionOf.get(name)
    const isAhead = position !== undefined && position.next > next
    const toFetch = Math.max(0, found.stable - (isAhead ? position.next : next)) + (isAhead ? position.queued : 0)
    metrics.lagRecords.set(labels, uncommitted + toFetch)
  }
  for (const name of behind) pipeline.endedBefore(name)
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
