import { GENERATION, headerText, type RecordHeaders } from './headers.ts'

/**
 * The identity of an event: its source and id (CloudEvents 1.0.2, section 3.1.1), and its generation, which is 0 for an event as it was sent and higher for a
 * redriven one. No source or id has a line feed, so identities of different events differ.
 */
export const eventIdentity = (source: string, id: string, generation = 0): string =>
  generation === 0 ? `${source}\n${id}` : `${source}\n${id}\n${generation}`

/** The identity of a record that is not an event. No source starts with a line feed. */
export const originIdentity = (origin: string): string => `\n${origin}`

export const MAX_GENERATION = 2 ** 31 - 1

/** A record's generation, by the last header of that name: 1 to 2^31-1. Without one, and for anything that is not written so, 0. */
export function generationOf(headers: RecordHeaders): number {
  const text = headerText(headers, GENERATION)
  if (text === undefined || !/^[1-9]\d{0,9}$/.test(text)) return 0
  const generation = Number(text)
  return generation <= MAX_GENERATION ? generation : 0
}
