import { describe, expect, test } from 'bun:test'
import type { Event } from './event.ts'
import { keylessPartition, murmur2, partitionOfHash, recordKey } from './partition.ts'

const event = (more: Partial<Event> = {}): Event => ({
  id: '1',
  source: '/s',
  type: 't',
  extensions: {},
  data: null,
  ...more,
})

describe('murmur2', () => {
  // Results of org.apache.kafka.common.utils.Utils.murmur2 in kafka-clients.
  test.each([
    ['', 275646681],
    ['21', -973932308],
    ['abc', 479470107],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['a', -1563381124],
    ['schlüssel €', 1314167818],
  ])('of %p is what Java says', (text, hash) => {
    expect(murmur2(Buffer.from(text))).toBe(hash)
  })

  test('chooses a partition as Java does: without the sign bit', () => {
    expect(partitionOfHash(-973932308, 6)).toBe((-973932308 & 0x7fffffff) % 6)
    expect(partitionOfHash(-1, 7)).toBe(2147483647 % 7)
    expect(partitionOfHash(5, 3)).toBe(2)
  })
})

describe('a record’s key', () => {
  test('is the partition key, else the subject, else none', () => {
    expect(recordKey(event({ extensions: { partitionkey: 'p' }, subject: 's' }))).toBe('p')
    expect(recordKey(event({ subject: 's' }))).toBe('s')
    expect(recordKey(event())).toBeNull()
  })

  test('when there is none, source and id choose the partition: the same event, the same partition', () => {
    const counts = new Array<number>(6).fill(0)
    for (let i = 0; i < 6_000; i++) {
      const partition = keylessPartition(event({ id: String(i) }), 6)
      expect(keylessPartition(event({ id: String(i), type: 'other', data: Buffer.from('x') }), 6)).toBe(partition)
      counts[partition] = (counts[partition] ?? 0) + 1
    }
    // Each partition has within a quarter of the even share.
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(250)
  })
})
