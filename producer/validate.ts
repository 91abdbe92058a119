import type { Event } from '../shared/event.ts'
import type { EventResult } from '../shared/event-json.ts'
import type { OutgoingRecord } from '../shared/kafka/types.ts'
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
  const errors: { pointer: string; detail: string }[] = []
  records.forEach((record, index) => {
    if (isLarger(record, maxBytes))
      errors.push({
        pointer: single ? '' : `/${index}`,
        detail: `takes ${recordBytes(record)} bytes as a record, attributes included`,
      })
  })
  if (errors.length === 0) return undefined
  return {
    kind: 'event-too-large',
    detail: `An event may take MAX_EVENT_BYTES=${maxBytes} bytes as a record. Nothing of the request was stored.`,
    errors: errors.slice(0, MAX_LISTED_FAULTS),
  }
}
