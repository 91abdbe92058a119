import { type Static, Type } from '@sinclair/typebox'
import { parseTopic } from '../shared/events/topics.ts'
import type { Check } from '../shared/http/ops.ts'
import { oneOf } from '../shared/service/one-of.ts'
import type { Pipeline } from './pipeline.ts'

/** What a consumer says of itself at `/statusz`, for the console. */

/** Of an assigned partition, in the words of Kafka's own clients where they have one. */
export const ASSIGNED_STATES = ['restoring', 'reading', 'paused', 'draining'] as const

export const ConsumerStatusz = Type.Object({
  clientId: Type.String(),
  ready: Type.Boolean(),
  /** Why it is not ready, of what concerns the whole consumer: the partitions of other tenants are not named. */
  faults: Type.Array(Type.String()),
  partitions: Type.Array(
    Type.Object({
      topic: Type.String(),
      partition: Type.Integer({ minimum: 0 }),
      state: oneOf(ASSIGNED_STATES),
      reason: Type.Optional(Type.String()),
    }),
  ),
  /** Of input topics, since the start. Absent in versions before this one, which a roll-out has beside it. */
  duplicates: Type.Optional(Type.Array(Type.Object({ topic: Type.String(), count: Type.Integer({ minimum: 0 }) }))),
})
export type ConsumerStatusz = Static<typeof ConsumerStatusz>
type Assigned = ConsumerStatusz['partitions'][number]

/** Checks whose reasons name streams. */
const OF_STREAMS: ReadonlySet<string> = new Set(['partitions', 'streams'])

export function statuszOf(
  clientId: string,
  checks: Readonly<Record<string, Check>>,
  pipeline: Pick<Pipeline, 'partitions'>,
  duplicates: ReadonlyMap<string, number>,
): ConsumerStatusz {
  const failed = Object.entries(checks).flatMap(([name, check]) => {
    const result = check()
    return result.ok ? [] : [{ name, reason: result.reason }]
  })
  return {
    clientId,
    ready: failed.length === 0,
    faults: failed.filter(({ name }) => !OF_STREAMS.has(name)).map(({ name, reason }) => `${name}: ${reason}`),
    partitions: pipeline
      .partitions()
      .flatMap(({ topic, partition, state, isPausedByOperator, backlog }): Assigned[] => {
        if (parseTopic(topic)?.role !== 'input' || state.kind === 'revoked') return []
        const at = { topic, partition }
        if (state.kind === 'paused') return [{ ...at, state: 'paused', reason: state.reason }]
        if (state.kind === 'restoring' && state.fault !== undefined)
          return [{ ...at, state: 'restoring', reason: state.fault }]
        if (state.kind === 'reading' && isPausedByOperator) return [{ ...at, state: 'paused' }]
        if (state.kind === 'reading' && backlog !== undefined) return [{ ...at, state: 'paused', reason: backlog }]
        return [{ ...at, state: state.kind }]
      }),
    duplicates: [...duplicates].map(([topic, count]) => ({ topic, count })),
  }
}
