import type { RecordProducer } from '../shared/kafka/types.ts'
import type { Check } from '../shared/ops.ts'

/** Whether events can be stored: what `/readyz` says, and what the public port waits for. */

/** What has become of the topics that are to be created. */
export interface Creation {
  /** Every topic was asked for at least once. */
  settled: boolean
  /** Why not all of them are there. */
  fault: string | undefined
}

/** How many streams a reason names. */
const NAMED_STREAMS = 5

/**
 * Kafka and the streams. One stream that cannot be written to is no reason to turn away the others' events: it is named, and its own events are
 * answered 503. Not ready while there is none that can, or while the topics are still being created.
 * @param topics the streams' own; those beside them are their readers' concern
 */
export function readinessChecks(
  topics: readonly string[],
  producer: Pick<RecordProducer, 'connection' | 'blocked'>,
  creation: Readonly<Creation>,
): { kafka: Check; streams: Check } {
  return {
    kafka: () => {
      const connection = producer.connection()
      if (connection.state === 'connected') return { ok: true }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    },
    streams: () => {
      const reasons = topics.flatMap((topic) => producer.blocked(topic) ?? [])
      if (reasons.length === 0) return { ok: true }
      const reason = summary(reasons, topics.length, creation.fault)
      return reasons.length < topics.length && creation.settled ? { ok: true, detail: reason } : { ok: false, reason }
    },
  }
}

function summary(reasons: readonly string[], streams: number, fault: string | undefined): string {
  const distinct = [...new Set(reasons)]
  const more = distinct.length > NAMED_STREAMS ? `; and ${distinct.length - NAMED_STREAMS} more reasons` : ''
  const why = `${distinct.slice(0, NAMED_STREAMS).join('; ')}${more}`
  return `${reasons.length} of ${streams} streams cannot be written to: ${why}${fault === undefined ? '' : `; ${fault}`}`
}
