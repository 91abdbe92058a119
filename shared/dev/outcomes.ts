import { headerText } from '../events/headers.ts'
import { generationOf } from '../events/identity.ts'
import { siblingTopic } from '../events/topics.ts'
import { partitionName, type RangeReader } from '../kafka/types.ts'

/** The outcomes of one type's events. */
export interface TypeOutcome {
  /** The event's type. */
  type: string
  processed: number
  dead: number
  /** The type of the results, where a handler returned another one. */
  becomes: string | undefined
}

/**
 * Reads outcomes of events from `.processed` and `.dlq`, as any consumer of those topics could. Each call continues where the last one
 * ended.
 */
export function createOutcomeReader(reader: Pick<RangeReader, 'ends' | 'read'>, input: string, partitions: number) {
  const position = new Map<string, number>()
  const outcomes = new Map<string, { role: 'processed' | 'dlq'; type: string; generation: number }>()
  return {
    /** Reads new records. */
    async update(): Promise<void> {
      for (const role of ['processed', 'dlq'] as const) {
        const topic = siblingTopic(input, role)
        const places = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
        const ends = await reader.ends(places)
        const ranges = places.map((at, index) => ({
          ...at,
          from: position.get(partitionName(at)) ?? 0,
          to: ends[index]?.stable ?? 0,
        }))
        await reader.read(ranges, ({ headers }) => {
          const id = headerText(headers, 'ce_id') ?? ''
          const generation = generationOf(headers)
          // Of a redriven event, the outcome of its last generation counts.
          if ((outcomes.get(id)?.generation ?? 0) > generation) return
          outcomes.set(id, { role, type: headerText(headers, 'ce_type') ?? '', generation })
        })
        for (const range of ranges) position.set(partitionName(range), range.to)
      }
    },
    /** How many of these ids have an outcome. */
    known: (events: readonly { id: string }[]): number => events.filter(({ id }) => outcomes.has(id)).length,
    /** The outcomes of these events by the type that was sent, the most frequent first. */
    byType(events: readonly { id: string; type: string }[]): TypeOutcome[] {
      const rows = new Map<string, TypeOutcome>()
      for (const { id, type } of events) {
        const outcome = outcomes.get(id)
        if (outcome === undefined) continue
        const row = rows.get(type) ?? { type, processed: 0, dead: 0, becomes: undefined }
        rows.set(type, row)
        if (outcome.role === 'dlq') row.dead++
        else {
          row.processed++
          if (outcome.type !== type) row.becomes = outcome.type
        }
      }
      return [...rows.values()].sort(
        (a, b) => b.processed + b.dead - (a.processed + a.dead) || a.type.localeCompare(b.type),
      )
    },
  }
}
