import { expect, test } from 'bun:test'
import { NO_HEADERS } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { ORDERS, PageRecords } from './browse.ts'

const record = (partition: number, offset: number, timestampMs: number, bytes = 1): IncomingRecord => ({
  topic: 'kt.t.s',
  partition,
  offset,
  timestampMs,
  key: null,
  value: Buffer.alloc(bytes, '1'),
  headers: NO_HEADERS,
})

const page = (order: (typeof ORDERS)[number], limit: number) =>
  new PageRecords({ order, limit }, { format: 'json', maxDataBytes: 100, redact: [] })

test.each(ORDERS)('of many records, a page has the %s, and the next one begins behind them', (order) => {
  const found = page(order, 3)
  const offsets = Array.from({ length: 10_000 }, (_, index) => index)
  for (const offset of order === 'newest' ? offsets.reverse() : offsets) {
    found.add(record(0, offset, offset * 2))
    found.add(record(1, offset, offset * 2 + 1))
  }
  const places = found.shown().map(({ partition, offset }) => [partition, offset])
  if (order === 'newest')
    expect(places).toEqual([
      [1, 9_999],
      [0, 9_999],
      [1, 9_998],
    ])
  else
    expect(places).toEqual([
      [0, 0],
      [1, 0],
      [0, 1],
    ])
  expect([found.nextOf(0), found.nextOf(1), found.nextOf(2)]).toEqual(
    order === 'newest' ? [9_999, 9_998, undefined] : [2, 1, undefined],
  )
})

test('records of a search are not held beside what is shown of them', () => {
  const found = page('newest', 20)
  let reads = 0
  for (let offset = 0; offset < 200; offset++) {
    const { value, ...one } = record(0, offset, offset, 2 ** 20)
    found.add({
      ...one,
      get value() {
        reads++
        return value
      },
    })
  }
  const before = reads
  // What is shown was made while they were found.
  expect(found.shown()).toHaveLength(20)
  expect(reads - before).toBeLessThan(20)
})
