import type { Sought } from '../client.ts'
import { FORMATS } from '../names.ts'

/** What is looked for, as it is written into one field. */

const TRACE = /^[0-9a-f]{32}$/i
const RECEIPT = /^(\d+)\s*\/\s*(\d+)$/

/** An id, unless it is written as a trace or as a receipt, PARTITION/OFFSET. */
export function soughtIn({ q = '', source, key, format }: Readonly<Record<string, string>>): Sought | undefined {
  const text = q.trim()
  if (text === '') return undefined
  const shown = { format: FORMATS.find((one) => one === format) }
  const [, partition, offset] = RECEIPT.exec(text) ?? []
  if (partition !== undefined) return { partition: Number(partition), offset: Number(offset), ...shown }
  if (TRACE.test(text)) return { traceId: text.toLowerCase(), ...shown }
  return { id: text, source: source || undefined, key: key || undefined, ...shown }
}
