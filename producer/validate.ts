import type { Event } from '../shared/event.ts'
import type { EventResult } from '../shared/event-json.ts'
import type { OutgoingRecord, TopicSettings } from '../shared/kafka/types.ts'
import { isLarger, recordBytes } from '../shared/record.ts'
import { faultsOf } from './parse.ts'
import type { Problem } from './problem.ts'

/** The most faults that a problem document lists: a hostile batch must not make a larger answer than itself. */
const MAX_LISTED_FAULTS = 100

/** All events, or one problem for all of them: nothing of a request with an invalid event goes on. */
export function validEvents(
  results: readonly EventResult[],
): { ok: true; events: Event[] } | { ok: false; problem: Problem } {
  const events: Event[] = []
  for (const one of results) if (one.ok) events.push(one.event)
  if (events.length === results.length) return { ok: true, events }
  const faults = faultsOf(results)
  const listed = faults.slice(0, MAX_LISTED_FAULTS)
  const more = faults.length - listed.length
  return {
    ok: false,
    problem: {
      kind: 'invalid-event',
      detail: `${faults.length} fault${faults.length === 1 ? '' : 's'}${more > 0 ? `, of which the first ${MAX_LISTED_FAULTS} are listed` : ''}. Nothing of the request was stored.`,
      errors: listed,
    },
  }
}

/** The problem of records that are too large; undefined when none is. */
export function tooLarge(records: readonly OutgoingRecord[], maxBytes: number, single: boolean): Problem | undefined {
  const errors = largerThan(records, maxBytes, single)
  if (errors.length === 0) return undefined
  return {
    kind: 'event-too-large',
    detail: `An event may take MAX_EVENT_BYTES=${maxBytes} bytes as a record. Nothing of the request was stored.`,
    errors,
  }
}

function largerThan(records: readonly OutgoingRecord[], maxBytes: number, single: boolean) {
  const errors: { pointer: string; detail: string }[] = []
  records.forEach((record, index) => {
    if (isLarger(record, maxBytes) && errors.length < MAX_LISTED_FAULTS)
      errors.push({
        pointer: single ? '' : `/${index}`,
        detail: `takes ${recordBytes(record)} bytes as a record, attributes included`,
      })
  })
  return errors
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
): Problem | undefined {
  const keyless = isCompacted ? records.flatMap(({ key }, index) => (key === null ? [index] : [])) : []
  if (keyless.length > 0)
    return {
      kind: 'invalid-event',
      detail: `The stream’s topic is compacted and takes only events with a key: a partitionkey or a subject. ${keyless.length} of ${records.length} have none. Nothing of the request was stored.`,
      errors: keyless.slice(0, MAX_LISTED_FAULTS).map((index) => ({
        pointer: `${single ? '' : `/${index}`}/subject`,
        detail: 'is required, or partitionkey is: the topic is compacted',
      })),
    }
  if (maxMessageBytes === undefined || records.length === 1) return undefined
  const errors = largerThan(records, maxMessageBytes - BATCH_OVERHEAD_BYTES, single)
  if (errors.length === 0) return undefined
  return {
    kind: 'event-too-large',
    detail: `The stream’s topic takes ${maxMessageBytes} bytes (max.message.bytes), and of several events none may be larger by itself, uncompressed. Send it alone: Kafka counts it compressed. Nothing of the request was stored.`,
    errors,
  }
}
