import type { Check } from '../shared/http/ops.ts'
import { NOT_THERE, type RecordProducer } from '../shared/kafka/types.ts'

/**
 * Whether events can be stored: what `/readyz` says, and what the public port waits for. run.ts says what it means for the status of `/readyz` once the port is
 * open.
 */

/** The most reasons that are listed. */
const NAMED_REASONS = 5

/** At the start, after the first stream can be written to: how long to wait for the next one. */
const START_PATIENCE_MS = 5_000

/** The same while topics are being created. For hundreds of streams the brokers may take many seconds until the next one is complete. */
const MAKING_PATIENCE_MS = 60_000

const CREATE_ADVICE = 'create missing topics with `bun producer/create-topics.ts`, or set CREATE_TOPICS=on'

/**
 * `streams` does not hold while no stream can be written to and, at the start, until all can be or no more follow. After that it holds although one stream
 * cannot be written to: that is listed, and its own events are answered with 503.
 * @param topics the streams' input topics, of now
 */
export function readinessChecks(deps: {
  topics(): readonly string[]
  producer: Pick<RecordProducer, 'connection' | 'blocked' | 'unacknowledged' | 'making' | 'settings'>
  /** Whether this service creates missing topics. */
  createsTopics: boolean
  /** Why not all topics could be created. */
  creationFault(): string | undefined
  /** Monotonic. */
  nowMs(): number
}): { kafka: Check; streams: Check } {
  const { producer, createsTopics, creationFault, nowMs } = deps
  /** The fewest streams that were blocked so far, and since when. */
  let fewest = { streams: Number.POSITIVE_INFINITY, sinceMs: nowMs() }
  let complete = false
  return {
    kafka: () => {
      const connection = producer.connection()
      if (connection.state === 'connected') {
        const { detail } = connection
        return { ok: true, ...(detail !== undefined && { detail: `a broker is unreachable: ${detail}` }) }
      }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    },
    streams: () => {
      if (producer.connection().state !== 'connected')
        return { ok: false, reason: 'unknown while Kafka is unreachable' }
      const topics = deps.topics()
      const reasons = topics.flatMap((topic) => producer.blocked(topic) ?? producer.unacknowledged(topic) ?? [])
      if (reasons.length < fewest.streams) fewest = { streams: reasons.length, sinceMs: nowMs() }
      complete ||= reasons.length === 0
      const compacted = compactedOf(topics.filter((topic) => producer.settings(topic).isCompacted))
      if (reasons.length === 0) return { ok: true, ...(compacted === undefined ? {} : { detail: compacted }) }
      const isMissing = topics.some((topic) => producer.blocked(topic) === NOT_THERE(topic))
      const advice = isMissing && !createsTopics ? CREATE_ADVICE : creationFault()
      const blocked = summary(reasons, topics.length, advice)
      const reason = compacted === undefined ? blocked : `${blocked}; ${compacted}`
      const patienceMs = producer.making() > 0 ? MAKING_PATIENCE_MS : START_PATIENCE_MS
      const waited = complete || (fewest.streams < topics.length && nowMs() - fewest.sinceMs >= patienceMs)
      return waited && reasons.length < topics.length ? { ok: true, detail: reason } : { ok: false, reason }
    },
  }
}

/** Not a reason to be unready: the topics take all events that have a key. */
function compactedOf(topics: readonly string[]): string | undefined {
  if (topics.length === 0) return undefined
  const named = topics.slice(0, NAMED_REASONS).join(', ')
  const more = topics.length - NAMED_REASONS
  return `compacted (cleanup.policy), so that events without a key are refused: ${named}${more > 0 ? ` and ${more} more` : ''}`
}

function summary(reasons: readonly string[], streams: number, advice: string | undefined): string {
  const distinct = [...new Set(reasons)]
  const named = distinct.slice(0, NAMED_REASONS)
  if (distinct.length > NAMED_REASONS) named.push(`and ${distinct.length - NAMED_REASONS} more reasons`)
  if (advice !== undefined) named.push(advice)
  return `${reasons.length} of ${streams} streams cannot be written to: ${named.join('; ')}`
}
