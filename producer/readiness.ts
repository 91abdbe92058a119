import type { RecordProducer } from '../shared/kafka/types.ts'
import type { Check } from '../shared/service/ops.ts'

/** Whether events can be stored: what `/readyz` says, and what the public port waits for. */

/** How many reasons are named. */
const NAMED_REASONS = 5

/** Once the first stream can be written to, the others are waited for until so long none has followed. */
const START_PATIENCE_MS = 5_000

/**
 * The same while brokers make topics, as they do for many seconds for hundreds of streams: several partitions of a hundred topics one after the other,
 * with none that is new among them.
 */
const MAKING_PATIENCE_MS = 60_000

/**
 * Kafka and the streams. Not ready while no stream can be written to and, at the start, until all can or no more come. Later, one stream that cannot is no
 * reason to turn away the others' events: it is named, and its own events are answered 503.
 * @param topics the streams' own; those beside them are their readers' concern
 */
export function readinessChecks(deps: {
  topics: readonly string[]
  producer: Pick<RecordProducer, 'connection' | 'blocked' | 'making' | 'settings'>
  /** Why not all topics could be created. */
  creationFault(): string | undefined
  /** Monotonic. */
  nowMs(): number
}): { kafka: Check; streams: Check } {
  const { topics, producer, creationFault, nowMs } = deps
  /** When the fewest streams were blocked so far, and how many. */
  let fewest = { streams: topics.length, sinceMs: nowMs() }
  let complete = false
  return {
    kafka: () => {
      const connection = producer.connection()
      if (connection.state === 'connected') return { ok: true }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    },
    streams: () => {
      if (producer.connection().state !== 'connected')
        return { ok: false, reason: 'unknown while Kafka is unreachable' }
      const reasons = topics.flatMap((topic) => producer.blocked(topic) ?? [])
      if (reasons.length < fewest.streams) fewest = { streams: reasons.length, sinceMs: nowMs() }
      complete ||= reasons.length === 0
      const compacted = compactedOf(topics.filter((topic) => producer.settings(topic).isCompacted))
      if (reasons.length === 0) return { ok: true, ...(compacted === undefined ? {} : { detail: compacted }) }
      const blocked = summary(reasons, topics.length, creationFault())
      const reason = compacted === undefined ? blocked : `${blocked}; ${compacted}`
      const patienceMs = producer.making() > 0 ? MAKING_PATIENCE_MS : START_PATIENCE_MS
      const waited = complete || (fewest.streams < topics.length && nowMs() - fewest.sinceMs >= patienceMs)
      return waited && reasons.length < topics.length ? { ok: true, detail: reason } : { ok: false, reason }
    },
  }
}

/** No reason not to be ready: the topics take all events that have a key. */
function compactedOf(topics: readonly string[]): string | undefined {
  if (topics.length === 0) return undefined
  const named = topics.slice(0, NAMED_REASONS).join(', ')
  const more = topics.length - NAMED_REASONS
  return `compacted (cleanup.policy), so that events without a key are refused: ${named}${more > 0 ? ` and ${more} more` : ''}`
}

function summary(reasons: readonly string[], streams: number, creationFault: string | undefined): string {
  const distinct = [...new Set(reasons)]
  const named = distinct.slice(0, NAMED_REASONS)
  if (distinct.length > NAMED_REASONS) named.push(`and ${distinct.length - NAMED_REASONS} more reasons`)
  if (creationFault !== undefined) named.push(creationFault)
  return `${reasons.length} of ${streams} streams cannot be written to: ${named.join('; ')}`
}
