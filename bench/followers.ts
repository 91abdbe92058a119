import { join } from 'node:path'
import { latencyOfValues } from './histogram.ts'
import { startCounting } from './observer.ts'
import type { Followed } from './result.ts'
import type { Scanned } from './scan.ts'

/** Clients that follow outcomes in the console as any client does, in a process of their own that does nothing but note what arrives when. */

/** A frame of the console's server-sent events, parsed: the result's place and timestamp. */
export interface Arrival {
  follower: number
  partition: number
  offset: number
  /** The record's timestamp, and when it arrived; ms since the epoch. */
  timestampMs: number
  atMs: number
}

export interface Followers {
  readonly pid: number
  readonly count: number
  /** Resolves when so many outcomes have arrived, of all followers together, or none for so long. */
  until(count: number, patienceMs: number): Promise<boolean>
  end(): Promise<Arrival[]>
}

/** Starts followers, and returns when all are connected: they get every outcome from then on. @param directory for their file */
export async function startFollowers(consoleUrl: string, count: number, directory: string): Promise<Followers> {
  const url = `${consoleUrl}/v1/streams/events/outcomes`
  const file = join(directory, 'arrivals')
  const counting = startCounting('the followers', 'followers-worker.ts', [url, String(count)], file)
  try {
    await counting.heard()
  } catch (error) {
    await counting.end().catch(() => undefined)
    throw error
  }
  return { ...counting, count, end: async () => decodeArrivals(await counting.end()) }
}

const NUMBERS = ['follower', 'partition', 'offset', 'timestampMs', 'atMs'] as const

export const encodeArrivals = (arrivals: readonly Arrival[]): Float64Array<ArrayBuffer> =>
  Float64Array.from(arrivals.flatMap((one) => NUMBERS.map((name) => one[name])))

export function decodeArrivals(bytes: ArrayBuffer): Arrival[] {
  const numbers = new Float64Array(bytes)
  return Array.from({ length: numbers.length / NUMBERS.length }, (_, row) => {
    const [follower = 0, partition = 0, offset = 0, timestampMs = 0, atMs = 0] = numbers.subarray(
      row * NUMBERS.length,
      (row + 1) * NUMBERS.length,
    )
    return { follower, partition, offset, timestampMs, atMs }
  })
}

/** The outcomes of one answer, which comes in pieces. */
export class OutcomeFrames {
  #rest = ''

  /** @returns the outcomes that are whole with this piece */
  push(text: string): Omit<Arrival, 'follower' | 'atMs'>[] {
    const frames = (this.#rest + text).split('\n\n')
    this.#rest = frames.pop() ?? ''
    return frames.flatMap((frame) => {
      if (!frame.startsWith('event: outcome\n')) return []
      const data = frame.slice(frame.indexOf(DATA) + DATA.length)
      const { partition, offset, time } = JSON.parse(data) as { partition: number; offset: number; time: string }
      return [{ partition, offset, timestampMs: Date.parse(time) }]
    })
  }
}

const DATA = '\ndata: '

/**
 * What each follower should have received, against what it did.
 * @param processed all committed results; all events have one there
 * @param fromMs the delays of results from then on count
 */
export function followedOf(
  arrivals: readonly Arrival[],
  followers: number,
  processed: Pick<Scanned, 'partitions' | 'offsets'>,
  fromMs: number,
): Followed {
  const committed = new Set(
    processed.offsets.map((offset, index) => placeOf(processed.partitions[index] ?? -1, offset)),
  )
  const got = Array.from({ length: followers }, () => new Set<string>())
  let excess = 0
  for (const { follower, partition, offset } of arrivals) {
    const place = placeOf(partition, offset)
    const before = got[follower]
    if (before === undefined || before.has(place) || !committed.has(place)) excess++
    else before.add(place)
  }
  const delays = arrivals.filter(({ timestampMs }) => timestampMs >= fromMs)
  return {
    followers,
    outcomes: committed.size,
    missing: got.reduce((sum, one) => sum + committed.size - one.size, 0),
    excess,
    delay: latencyOfValues(delays.map(({ atMs, timestampMs }) => atMs - timestampMs)),
  }
}

const placeOf = (partition: number, offset: number): string => `${partition}/${offset}`
