import { expect, test } from 'bun:test'
import { parseTopic } from '../shared/events/topics.ts'
import { RELEASED } from '../shared/kafka/transactor.ts'
import type { CommittedOffset, KnownRecord, Range, RangeReader } from '../shared/kafka/types.ts'
import { withCompleted } from './ahead.ts'
import { Held, Partition } from './partition-state.ts'
import { restore } from './restore.ts'

const WINDOW = 80_000
const OUTCOMES = 400_000

/** A log of numbered events, each of which has its outcome at the offset of its number, unless it was lost. */
function logOf(
  repeats: ReadonlyMap<number, number>,
  lost: () => number = () => 0,
): { reader: RangeReader; read: Range[] } {
  const read: Range[] = []
  const roleOf = (topic: string) => parseTopic(topic)?.role
  const endOf = (topic: string): number => {
    const role = roleOf(topic)
    if (role === 'processed') return OUTCOMES - lost()
    return role === 'input' ? OUTCOMES : 0
  }
  const reader: Partial<RangeReader> = {
    ends: async (places) => places.map(({ topic }) => ({ beginning: 0, end: endOf(topic), stable: endOf(topic) })),
    read: async () => undefined,
    async readIdentities(ranges, _, onRecord) {
      const hash = new Uint32Array(4)
      const record = { range: 0, offset: 0, timestampMs: 0, hash } satisfies KnownRecord
      for (const [index, range] of ranges.entries()) {
        read.push(range)
        const isInput = roleOf(range.topic) === 'input'
        for (let { from: offset } = range; offset < Math.min(range.to, endOf(range.topic)); offset++) {
          const event = (isInput ? repeats.get(offset) : undefined) ?? offset
          hash.fill(Math.imul(event + 1, 0x9e3779b1))
          record.range = index
          record.offset = offset
          onRecord(record)
        }
      }
    },
  }
  return { reader: reader as RangeReader, read }
}

const newPartition = () => new Partition('kt.acme.events', 0, 'acme', 'events', WINDOW, new Held())

async function restored(repeats: ReadonlyMap<number, number>): Promise<{ missing: number[]; firstRead: number }> {
  const { reader, read } = logOf(repeats)
  const partition = newPartition()
  const committed = async (): Promise<CommittedOffset[]> =>
    partition.both.map((at) => ({ ...at, offset: at.topic === partition.topic ? OUTCOMES : 0, metadata: 'kt1:' }))
  const pasts = await restore([partition], { committed }, reader, true)
  const outcomes = read.filter(({ topic, from, to }) => parseTopic(topic)?.role === 'processed' && from < to)
  return {
    missing: pasts.get(partition)?.input.missing ?? [],
    firstRead: Math.min(...outcomes.map(({ from }) => from)),
  }
}

test.each([RELEASED, withCompleted(RELEASED, 'a transaction')])(
  'an offset that was to be aborted and is committed is none: every event that has an outcome is recognised (%s)',
  async (metadata) => {
    const { reader } = logOf(new Map())
    const partition = newPartition()
    const committed = async (): Promise<CommittedOffset[]> =>
      partition.both.map((at) => ({ ...at, offset: 0, metadata }))
    const past = (await restore([partition], { committed }, reader, true)).get(partition)
    expect(past).toMatchObject({ fresh: 'nothing committed', doubtful: true, input: { offset: 0 } })
    expect(partition.dedupe.size).toBe(OUTCOMES)
  },
)

test('an offset that another client has set back: every event that is read again is recognised', async () => {
  const { reader } = logOf(new Map())
  const partition = newPartition()
  const back = OUTCOMES - 2 * WINDOW
  const committed = async (): Promise<CommittedOffset[]> =>
    partition.both.map((at) => ({ ...at, offset: at.topic === partition.topic ? back : 0, metadata: '' }))
  const past = (await restore([partition], { committed }, reader, true)).get(partition)
  expect(past).toMatchObject({ foreign: true, fresh: undefined, input: { offset: back } })
  expect(partition.dedupe.size).toBe(3 * WINDOW)
})

test('for a repeated event no more outcomes are read than its first outcome can be back', async () => {
  // Dropped when it was read, since its outcome was then in the window; it no longer is.
  const repeats = new Map([[OUTCOMES - 15_000, OUTCOMES - 15_000 - WINDOW + 1]])
  expect(await restored(new Map())).toEqual({ missing: [], firstRead: OUTCOMES - 2 * WINDOW })
  expect(await restored(repeats)).toEqual({ missing: [], firstRead: OUTCOMES - 4 * WINDOW })
})

test('what an attempt has read, and was lost before the next, does not count as done', async () => {
  let lost = 0
  const { reader } = logOf(new Map(), () => lost)
  const partition = newPartition()
  const committed = async (): Promise<CommittedOffset[]> =>
    partition.both.map((at) => ({ ...at, offset: at.topic === partition.topic ? OUTCOMES : 0, metadata: 'kt1:' }))
  const missing = async () => (await restore([partition], { committed }, reader, true)).get(partition)?.input.missing
  expect(await missing()).toEqual([])
  lost = 2
  expect(await missing()).toEqual([OUTCOMES - 2, OUTCOMES - 1])
})

test('all outcomes are read before a record is said to have none', async () => {
  expect(await restored(new Map([[OUTCOMES - 5, OUTCOMES + 1]]))).toEqual({ missing: [OUTCOMES - 5], firstRead: 0 })
  expect(await restored(new Map([[OUTCOMES - 5, 7]]))).toEqual({ missing: [], firstRead: 0 })
})
