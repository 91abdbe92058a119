import { type Event, isJsonMediaType, parseMediaType } from '../events/event.ts'
import { fromRecord, type IncomingRecord } from '../events/record.ts'
import type { PartitionEnds, RangeReader } from '../kafka/types.ts'
import type { Inference } from './infer.ts'

/** Data of events, to infer a schema from. */

/** Offsets of a partition that are read at once, from its end backwards: few at first, since the newest often suffice. */
const FIRST_OFFSETS = 1_000
const MOST_OFFSETS = 64_000

export interface Sampled {
  /** Offsets that were looked at. */
  offsets: number
  /** Events of the type whose data is no JSON, or is none. */
  withoutJson: number
}

/**
 * Adds the data of the newest events of a type, by the timestamps of their records among those that are looked at together.
 * @param most events that are added, of all partitions together
 */
export async function sampleStream(
  inference: Inference,
  reader: Pick<RangeReader, 'ends' | 'read'>,
  wanted: { topic: string; partitions: number; type: string; most: number },
): Promise<Sampled> {
  const { topic, type, most } = wanted
  const at = Array.from({ length: wanted.partitions }, (_, partition) => ({ topic, partition }))
  const ends = await reader.ends(at)
  let left = at.map((one, index) => {
    const { beginning, stable } = ends[index] as PartitionEnds
    return { ...one, from: beginning, to: stable }
  })
  const sampled: Sampled = { offsets: 0, withoutJson: 0 }
  let found: { timestampMs: number; value: unknown }[] = []
  // Of those with one timestamp, the later ones first, too.
  const newest = (): typeof found =>
    found
      .toReversed()
      .toSorted((a, b) => b.timestampMs - a.timestampMs)
      .slice(0, most - inference.events)
  const take = (record: IncomingRecord): void => {
    const read = fromRecord(record)
    if (!read.ok || read.event.type !== type) return
    const data = dataOf(read.event)
    if (data === undefined) {
      sampled.withoutJson++
      return
    }
    found.push({ timestampMs: record.timestampMs, value: data.value })
    // Only so many are kept that sorting costs little for each.
    if (found.length > 2 * most) found = newest().toReversed()
  }
  for (let offsets = FIRST_OFFSETS; inference.events < most; offsets = Math.min(offsets * 4, MOST_OFFSETS)) {
    left = left.filter(({ from, to }) => from < to)
    if (left.length === 0) break
    const ranges = left.map((one) => ({ ...one, from: Math.max(one.from, one.to - offsets) }))
    await reader.read(ranges, take, { filter: { headers: [{ name: 'ce_type', value: type, how: 'equals' }] } })
    for (const { value } of newest()) inference.add(value)
    found = []
    for (const [index, { from, to }] of ranges.entries()) {
      sampled.offsets += to - from
      left[index] = { ...(left[index] as (typeof left)[number]), to: from }
    }
  }
  return sampled
}

/** undefined where it is no JSON. */
function dataOf({ datacontenttype, data }: Event): { value: unknown } | undefined {
  const isJson = datacontenttype === undefined || isJsonMediaType(parseMediaType(datacontenttype).essence)
  if (!isJson || data === null) return undefined
  try {
    return { value: JSON.parse(data.toString('utf8')) }
  } catch {
    return undefined
  }
}

/** Of a line of a file. */
const MAX_LINE_BYTES = 8 * 1024 * 1024

/**
 * Adds the data in lines of JSON.
 * @param type of the events that the lines are, as `send` takes them; undefined: each line is data
 * @throws Error naming the line that is no JSON, or no event
 */
export async function sampleLines(
  inference: Inference,
  bytes: AsyncIterable<Uint8Array>,
  { type, most }: { type: string | undefined; most: number },
): Promise<void> {
  let number = 0
  for await (const line of linesOf(bytes)) {
    number++
    if (line.trim() === '') continue
    if (inference.events >= most) return
    let value: unknown
    try {
      value = JSON.parse(line)
    } catch {
      throw new Error(`line ${number} is no JSON`)
    }
    if (type === undefined) inference.add(value)
    else {
      const event = value as { type?: unknown; data?: unknown } | null
      if (typeof event !== 'object' || typeof event?.type !== 'string') throw new Error(`line ${number} is no event`)
      if (event.type === type && event.data !== undefined) inference.add(event.data)
    }
  }
}

async function* linesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const part of bytes) {
    const lines = (rest + decoder.decode(part, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
    if (rest.length > MAX_LINE_BYTES) throw new Error(`a line has more than ${MAX_LINE_BYTES} bytes`)
  }
  yield rest
}
