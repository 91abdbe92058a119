import type { Event, Fault } from '../shared/events/event.ts'
import type { EventResult } from '../shared/events/event-json.ts'
import { isLarger, type OutgoingRecord, recordBytes } from '../shared/events/record.ts'
import type { TopicSettings } from '../shared/kafka/types.ts'
import { faultsOf } from './parse.ts'
import { MAX_NAMED_FAULTS, NOTHING_STORED, type Problem, type Unit } from './problem.ts'

/**
 * All events, or one problem for all of them: nothing of a request with an invalid event goes on.
 * @param most so many faults are named
 */
export function validEvents(
  results: readonly EventResult[],
  unit: Unit = 'request',
  most = MAX_NAMED_FAULTS,
): { ok: true; events: Event[] } | { ok: false; problem: Problem } {
  const events: Event[] = []
  for (const one of results) if (one.ok) events.push(one.event)
  if (events.length === results.length) return { ok: true, events }
  const faults = faultsOf(results)
  return {
    ok: false,
    problem: {
      kind: 'invalid-event',
      detail: `${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}${named(faults.length, most)}. ${NOTHING_STORED[unit]}`,
      errors: faults.slice(0, most),
    },
  }
}

/** How many of the faults are named, where not all are. */
function named(count: number, most: number): string {
  if (count <= most) return ''
  return most === 0 ? ', not named any more' : `, of which the first ${most} are named`
}

const larger = (count: number, most: number): string =>
  `${count} ${count === 1 ? 'event is' : 'events are'} larger${named(count, most)}`

/** The problem of records that are too large; undefined when none is. */
export function tooLarge(
  records: readonly OutgoingRecord[],
  maxBytes: number,
  single: boolean,
  unit: Unit = 'request',
  most = MAX_NAMED_FAULTS,
): Problem | undefined {
  const { count, errors } = largerThan(records, maxBytes, single, most)
  if (count === 0) return undefined
  return {
    kind: 'event-too-large',
    detail: `An event may take MAX_EVENT_BYTES=${maxBytes} bytes as a record; ${larger(count, most)}. ${NOTHING_STORED[unit]}`,
    errors,
  }
}

function largerThan(records: readonly OutgoingRecord[], maxBytes: number, single: boolean, most: number) {
  const errors: Fault[] = []
  let count = 0
  records.forEach((record, index) => {
    if (!isLarger(record, maxBytes) || ++count > most) return
    errors.push({
      pointer: single ? '' : `/${index}`,
      detail: `takes ${recordBytes(record)} bytes as a record, attributes included`,
    })
  })
  return { count, errors }
}

/** What a batch takes beside its records (KIP-98). */
const BATCH_OVERHEAD_BYTES = 61

/**
 * The problem of records that the stream's topic would not take; undefined when nothing is known against any. One that is sent alone and may be too large is
 * left to Kafka, which judges it compressed. Of several it has to be known before the others are stored.
 */
export function notTaken(
  records: readonly OutgoingRecord[],
  { maxMessageBytes, isCompacted }: TopicSettings,
  single: boolean,
  unit: Unit = 'request',
  most = MAX_NAMED_FAULTS,
): Problem | undefined {
  const keyless = isCompacted ? records.flatMap(({ key }, index) => (key === null ? [index] : [])) : []
  if (keyless.length > 0)
    return {
      kind: 'invalid-event',
      detail: `The stream’s topic is compacted and takes only events with a key: a partitionkey or a subject. ${keyless.length} of ${records.length} have none. ${NOTHING_STORED[unit]}`,
      errors: keyless.slice(0, most).map((index) => ({
        pointer: `${single ? '' : `/${index}`}/subject`,
        detail: 'is required, or partitionkey is: the topic is compacted',
      })),
    }
  if (maxMessageBytes === undefined || records.length === 1) return undefined
  const { count, errors } = largerThan(records, maxMessageBytes - BATCH_OVERHEAD_BYTES, single, most)
  if (count === 0) return undefined
  return {
    kind: 'event-too-large',
    detail: `The stream’s topic takes ${maxMessageBytes} bytes (max.message.bytes), and of several events none may be larger by itself, uncompressed: ${larger(count, most)}. Send it alone: Kafka counts it compressed. ${NOTHING_STORED[unit]}`,
    errors,
  }
}
