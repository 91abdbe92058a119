import { expect, test } from 'bun:test'
import { headersOf, type RecordHeaders } from '../events/headers.ts'
import { partitionName, type RangeReader } from '../kafka/types.ts'
import { createOutcomeReader } from './outcomes.ts'

const headers = (id: string, type: string): RecordHeaders => headersOf({ ce_id: id, ce_type: type })

/** A reader of topics that are lists of headers, which notes from where it was asked to read. */
function readerOf(topics: Record<string, RecordHeaders[]>) {
  const reads: string[] = []
  const reader: Pick<RangeReader, 'ends' | 'read'> = {
    ends: async (partitions) =>
      partitions.map((at) => {
        const end = topics[partitionName(at)]?.length ?? 0
        return { beginning: 0, stable: end, end }
      }),
    async read(ranges, visit) {
      for (const { topic, partition, from, to } of ranges) {
        const name = partitionName({ topic, partition })
        if (to > from) reads.push(`${name} ${from}-${to}`)
        for (let offset = from; offset < to; offset++) {
          const found = topics[name]?.[offset]
          if (found === undefined) throw new RangeError(`${name} has no offset ${offset}`)
          visit({ topic, partition, offset, timestampMs: 0, key: null, value: null, headers: found })
        }
      }
    },
  }
  return { reader, reads }
}

test('outcomes are found in every partition, by type, and what has been read is not read again', async () => {
  const topics: Record<string, RecordHeaders[]> = {
    'kt.default.events.processed/0': [headers('1', 'activity'), headers('2', 'activity')],
    'kt.default.events.dlq/1': [headers('3', 'push')],
  }
  const { reader, reads } = readerOf(topics)
  const outcomes = createOutcomeReader(reader, 'kt.default.events', 2)
  const events = ['1', '2', '3', '4'].map((id) => ({ id, type: id === '4' ? 'fork' : 'push' }))
  expect(outcomes.known(events)).toBe(0)

  await outcomes.update()
  expect(outcomes.known(events)).toBe(3)
  expect(outcomes.byType(events)).toEqual([{ type: 'push', processed: 2, dead: 1, becomes: 'activity' }])

  topics['kt.default.events.processed/1'] = [headers('4', 'fork'), headers('somebody else’s', 'fork')]
  await outcomes.update()
  expect(reads).toEqual([
    'kt.default.events.processed/0 0-2',
    'kt.default.events.dlq/1 0-1',
    'kt.default.events.processed/1 0-2',
  ])
  expect(outcomes.byType(events)).toEqual([
    { type: 'push', processed: 2, dead: 1, becomes: 'activity' },
    { type: 'fork', processed: 1, dead: 0, becomes: undefined },
  ])
})
