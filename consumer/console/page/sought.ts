import type { Sought } from '../client.ts'
import { FORMATS } from '../names.ts'

/** What is looked for, from the address: what links name exactly, or what was typed into one field. */

const TRACE = /^[0-9a-f]{32}$/i
const RECEIPT = /^(\d+)\s*\/\s*(\d+)$/

/**
 * What to search for, one after the other until something is found. Links have `id`, `trace` or `at` (PARTITION/OFFSET). What is typed, `q`, is an id, unless it
 * looks like a trace or a receipt and no source or key is given; then it is tried as an id last. A key tells the partition only where the event was put there
 * as the producer would have, so the search goes on without it.
 */
export function soughtIn(parameters: Readonly<Record<string, string>>): Sought[] {
  const { q = '', id, trace, at, source, key, format } = parameters
  const shown = { format: FORMATS.find((one) => one === format) }
  const byId = (text: string): Sought[] => {
    const event = { id: text, source: source || undefined, ...shown }
    return key ? [{ ...event, key }, event] : [event]
  }
  const byPlace = (text: string): Sought[] => {
    const [, partition, offset] = RECEIPT.exec(text) ?? []
    return partition === undefined ? [] : [{ partition: Number(partition), offset: Number(offset), ...shown }]
  }
  if (id) return byId(id)
  if (trace) return [{ traceId: trace, ...shown }]
  if (at) return byPlace(at)
  const text = q.trim()
  if (text === '') return []
  if (source || key) return byId(text)
  return [...byPlace(text), ...(TRACE.test(text) ? [{ traceId: text.toLowerCase(), ...shown }] : []), ...byId(text)]
}

/** As it is written into the field. */
export const typedIn = ({ q, id, trace, at }: Readonly<Record<string, string>>): string => q || id || trace || at || ''
