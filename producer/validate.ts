import type { Fault } from '../shared/events/event.ts'
import type { EventResult } from '../shared/events/event-json.ts'
import { isLarger, type OutgoingRecord, recordBytes } from '../shared/events/record.ts'
import { MAX_NAMED_FAULTS, type Problem } from '../shared/http/problem.ts'
import type { TopicSettings } from '../shared/kafka/types.ts'
import { NOTHING_STORED, type Unit } from './problem.ts'

/** How problems of events are described. */
export interface Scope {
  unit: Unit
  /** Pointers begin with the event's index. */
  isList: boolean
  /** The most faults that are listed. */
  most: number
}

export const ONE_EVENT: Readonly<Scope> = { unit: 'request', isList: false, most: MAX_NAMED_FAULTS }
export const LIST: Readonly<Scope> = { ...ONE_EVENT, isList: true }

/** An event without a fault. */
export type ValidEvent = Extract<EventResult, { ok: true }>

export const isValid = (result: EventResult): result is ValidEvent => result.ok

/** The problem of events some of which are invalid. */
export function invalidEvents(results: readonly EventResult[], { unit, most }: Scope): Problem {
  const faults = results.flatMap((one) => (one.ok ? [] : one.faults))
  return {
    kind: 'invalid-event',
    detail: `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}${named(faults.length, most)}. ${NOTHING_STORED[unit]}`,
    errors: faults.slice(0, most),
  }
}

/** Says how many of the faults are listed, unless all are. */
function named(count: number, most: number): string {
  if (count <= most) return ''
  return most === 0 ? ', not named any more' : `, of which the first ${most} are named`
}

const larger = (count: number, most: number): string =>
  `${count} ${count === 1 ? 'event is' : 'events are'} larger${named(count, most)}`

/** The problem of records that are too large; undefined when none is. */
export function tooLarge(records: readonly OutgoingRecord[], maxBytes: number, scope: Scope): Problem | undefined {
  const found = largerThan(records, maxBytes, scope)
  if (found === undefined) return undefined
  return {
    kind: 'event-too-large',
    detail: `An event may take MAX_EVENT_BYTES=${maxBytes} bytes as a record; ${larger(found.count, scope.most)}. ${NOTHING_STORED[scope.unit]}`,
    errors: found.errors,
  }
}

function largerThan(records: readonly OutgoingRecord[], maxBytes: number, { isList, most }: Scope) {
  let found: { count: number; errors: Fault[] } | undefined
  for (let index = 0; index < records.length; index++) {
    const record = records[index] as OutgoingRecord
    if (!isLarger(record, maxBytes)) continue
    found ??= { count: 0, errors: [] }
    if (++found.count > most) continue
    found.errors.push({
      pointer: isList ? `/${index}` : '',
      detail: `takes ${recordBytes(record)} bytes as a record, attributes included`,
    })
  }
  return found
}

/** The size of a record batch without its records (KIP-98). */
const BATCH_OVERHEAD_BYTES = 61

/**
 * The problem of records that the topic is known to refuse; undefined when there is none. A single record that may be too large is left to Kafka, which
 * measures it compressed. Of several, it must be known before the others are stored.
 */
export function notTaken(
  records: readonly OutgoingRecord[],
  { maxMessageBytes, isCompacted }: TopicSettings,
  scope: Scope,
): Problem | undefined {
  const { unit, isList, most } = scope
  if (isCompacted && records.some(({ key }) => key === null)) {
    const keyless = records.flatMap(({ key }, index) => (key === null ? [index] : []))
    return {
      kind: 'invalid-event',
      detail: `The stream’s topic is compacted and takes only events with a key: a partitionkey or a subject. ${keyless.length} of ${records.length} have none. ${NOTHING_STORED[unit]}`,
      errors: keyless.slice(0, most).map((index) => ({
        pointer: `${isList ? `/${index}` : ''}/subject`,
        detail: 'is required, or partitionkey is: the topic is compacted',
      })),
    }
  }
  if (maxMessageBytes === undefined || records.length === 1) return undefined
  const found = largerThan(records, maxMessageBytes - BATCH_OVERHEAD_BYTES, scope)
  if (found === undefined) return undefined
  return {
    kind: 'event-too-large',
    detail: `The stream’s topic takes ${maxMessageBytes} bytes (max.message.bytes), and of several events none may be larger by itself, uncompressed: ${larger(found.count, most)}. Send it alone: Kafka counts it compressed. ${NOTHING_STORED[unit]}`,
    errors: found.errors,
  }
}
