import { type Static, Type } from '@sinclair/typebox'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { RangeReader, ReadOptions, RecordFilter, TopicPartition } from '../../shared/kafka/types.ts'
import { type Asking, orProblem, type Readers } from './readers.ts'

/** Reading the log for requests: in windows from one end of each partition, several partitions at once, within bounds. */

/** Offsets of the first window, over all partitions; each next one is so many times as large, up to a bound. */
const FIRST_WINDOW_OFFSETS = 6_000
const WINDOW_GROWTH = 4
const MAX_WINDOW_OFFSETS = 600_000

/** A window of one partition that has as many offsets is read by so many clients, as far as they are free. */
const SHARED_OFFSETS = 20_000
const MAX_CLIENTS = 3

export interface Wanted extends TopicPartition {
  /** The first offset, and the one after the last. */
  from: number
  to: number
}

const OffsetRange = Type.Object({
  from: Type.Integer({ minimum: 0, description: 'The first offset.' }),
  to: Type.Integer({ minimum: 0, description: 'The offset after the last.' }),
})

export const Searched = Type.Object(
  {
    topic: Type.String(),
    partition: Type.Integer({ minimum: 0 }),
    wanted: OffsetRange,
    searched: OffsetRange,
  },
  { title: 'Searched', description: 'Which offsets of a partition were to be searched, and which were.' },
)
export type Searched = Static<typeof Searched>

type FreeReaders = Pick<Readers, 'free' | 'useFree'>

/** What a request may cost. */
export class Budget implements Asking {
  readonly #deadlineMs: number
  readonly #timeout: AbortController
  readonly #timer: ReturnType<typeof setTimeout>
  /** Aborted when the client is gone, or the time is over. */
  readonly signal: AbortSignal
  readonly caller: string
  /** Offsets that were passed so far, and what they are of. */
  passed = 0
  wanted = 0

  constructor(
    readonly maxRecords: number,
    timeoutMs: number,
    { signal: gone, caller }: Asking,
    readonly onProgress: () => void = () => undefined,
  ) {
    this.caller = caller
    this.#deadlineMs = performance.now() + timeoutMs
    this.#timeout = new AbortController()
    this.#timer = setTimeout(() => this.#timeout.abort(), timeoutMs)
    this.signal = AbortSignal.any([gone, this.#timeout.signal])
  }

  get isSpent(): boolean {
    return this.passed >= this.maxRecords || performance.now() >= this.#deadlineMs || this.signal.aborted
  }

  get isLate(): boolean {
    return this.#timeout.signal.aborted
  }

  pass(offsets: number): void {
    this.passed += offsets
    this.onProgress()
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

/**
 * Calls back for the records of ranges, in windows. Within a window, records of a partition come in the order of their offsets.
 * @param how.readers lends further clients; with it, records of a window come in no order
 * @param how.isDone is asked between windows
 * @param how.isEnough is asked after each record: then nothing more is read, and the last window does not count as searched
 * @returns what was searched, in the order of the ranges
 */
export async function scan(
  reader: RangeReader,
  wanted: readonly Wanted[],
  how: {
    order: 'newest' | 'oldest'
    filter?: RecordFilter | undefined
    budget: Budget
    readers?: FreeReaders
    isDone?(searched: readonly Searched[]): boolean
    isEnough?(): boolean
  },
  onRecord: (record: IncomingRecord) => void,
): Promise<Searched[]> {
  const { order, filter, budget, readers, isDone = () => false, isEnough = () => false } = how
  const enough = new AbortController()
  const signal = AbortSignal.any([budget.signal, enough.signal])
  const take = (record: IncomingRecord): void => {
    if (enough.signal.aborted) return
    onRecord(record)
    if (isEnough()) enough.abort()
  }
  const searched = wanted.map(({ topic, partition, from, to }) => ({
    topic,
    partition,
    wanted: { from, to },
    searched: order === 'newest' ? { from: to, to } : { from, to: from },
  }))
  budget.wanted += wanted.reduce((sum, { from, to }) => sum + Math.max(0, to - from), 0)
  for (let offsets = FIRST_WINDOW_OFFSETS; ; offsets = Math.min(MAX_WINDOW_OFFSETS, offsets * WINDOW_GROWTH)) {
    const left = searched.filter((one) => leftOf(one) > 0)
    if (left.length === 0 || budget.isSpent || enough.signal.aborted || isDone(searched)) return searched
    const each = Math.max(1, Math.ceil(Math.min(offsets, budget.maxRecords - budget.passed) / left.length))
    const window = left.map(({ topic, partition, wanted: { from, to }, searched: done }) =>
      order === 'newest'
        ? { topic, partition, from: Math.max(from, done.from - each), to: done.from }
        : { topic, partition, from: done.to, to: Math.min(to, done.to + each) },
    )
    let passed = 0
    const onProgress = (now: number): void => {
      budget.pass(now - passed)
      passed = now
    }
    try {
      await orProblem(
        readWindow([reader, readers, budget.caller], window, take, { ...(filter && { filter }), signal, onProgress }),
      )
    } catch (error) {
      // A window that was broken off does not count as searched.
      if (signal.aborted) return searched
      throw error
    }
    onProgress(window.reduce((sum, { from, to }) => sum + to - from, 0))
    for (const [index, one] of left.entries()) {
      const { from, to } = window[index] as Wanted
      if (order === 'newest') one.searched.from = from
      else one.searched.to = to
    }
  }
}

/** Reads a large window of one partition in parts at the same time, as far as clients are free. */
async function readWindow(
  [reader, readers, caller]: [RangeReader, FreeReaders | undefined, string],
  window: readonly Wanted[],
  take: (record: IncomingRecord) => void,
  options: ReadOptions,
): Promise<void> {
  const [one, ...others] = window
  if (readers === undefined || one === undefined || others.length > 0 || one.to - one.from < SHARED_OFFSETS)
    return reader.read(window, take, options)
  let passed = 0
  const read = (by: RangeReader, range: Wanted): Promise<void> => {
    let before = 0
    const onProgress = (now: number): void => {
      passed += now - before
      before = now
      options.onProgress?.(passed)
    }
    return by.read([range], take, { ...options, onProgress })
  }
  const clients = Math.min(MAX_CLIENTS, 1 + readers.free(caller))
  const cut = (part: number): number => one.from + Math.floor(((one.to - one.from) * part) / clients)
  const parts = Array.from({ length: clients }, (_, part) => {
    const range = { ...one, from: cut(part), to: cut(part + 1) }
    return part === 0 ? read(reader, range) : readers.useFree(caller, (another) => read(another, range))
  })
  await Promise.all(parts)
}

const leftOf = ({ wanted, searched }: Searched): number => wanted.to - wanted.from - (searched.to - searched.from)

/** Whether everything that was wanted was searched. */
export const isComplete = (searched: readonly Searched[]): boolean => searched.every((one) => leftOf(one) <= 0)

/** Adjacent ranges of a partition as one. Those with nothing in them are left out. */
export function merged(searched: readonly Searched[]): Searched[] {
  const byPartition = Map.groupBy(searched, ({ topic, partition }) => `${topic}/${partition}`)
  return [...byPartition.values()].flatMap((ranges) => {
    const kept: Searched[] = []
    for (const one of ranges
      .filter(({ wanted: { from, to } }) => from < to)
      .sort((a, b) => a.wanted.from - b.wanted.from)) {
      const last = kept.at(-1)
      const joins = last !== undefined && last.wanted.to === one.wanted.from && last.searched.to === one.searched.from
      if (!joins) kept.push(structuredClone(one))
      else {
        last.wanted.to = one.wanted.to
        last.searched.to = one.searched.to
      }
    }
    return kept
  })
}
