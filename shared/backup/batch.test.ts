import { expect, test } from 'bun:test'
import fc from 'fast-check'
import type { HeaderValue } from '../events/headers.ts'
import { BatchBuilder, BatchError, type BatchRecord, batchBytes, decodeBatch, sealBatch } from './batch.ts'
import { crc32c } from './crc32c.ts'

/** As shared/kafka reads headers: text where the bytes are UTF-8. */
const value = (): fc.Arbitrary<HeaderValue> =>
  fc.oneof(
    fc.constant(null),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.constantFrom(Buffer.from([0xff]), Buffer.from([0xc0, 0x80]), Buffer.from([0xed, 0xa0, 0x80])),
  )

const bytes = fc.option(
  fc.uint8Array({ maxLength: 300 }).map((of) => Buffer.from(of)),
  { nil: null },
)

/** Names repeat. */
const headers = fc
  .array(
    fc.tuple(fc.oneof(fc.constantFrom('ce_id', 'a', ''), fc.string({ unit: 'binary', maxLength: 100 })), value()),
    {
      maxLength: 8,
    },
  )
  .map((pairs) => ({ names: pairs.map(([name]) => name), values: pairs.map(([, one]) => one) }))

const gap = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 3 }) }, fc.integer({ min: 1, max: 2 ** 32 }))

const timestamp = fc.oneof(
  fc.integer({ min: 1_700_000_000_000, max: 1_700_000_100_000 }),
  fc.constantFrom(-1, 0, 2 ** 27, -(2 ** 27), 2 ** 31, 2 ** 51),
)

const records = fc
  .tuple(
    fc.integer({ min: 0, max: 2 ** 50 }),
    fc.array(fc.record({ gap, timestampMs: timestamp, key: bytes, value: bytes, headers }), {
      minLength: 1,
      maxLength: 30,
    }),
  )
  .map(([first, parts]) => {
    let offset = first
    return parts.map(({ gap: more, ...rest }): BatchRecord => {
      offset += more
      return { offset, ...rest }
    })
  })

function batchesOf(given: readonly BatchRecord[]): Buffer[] {
  const builder = new BatchBuilder()
  const open = [...given.map((record) => builder.add(record)), builder.take()]
  return open.flatMap((batch) => (batch === undefined ? [] : [sealBatch(batch, Bun.zstdCompressSync(batch.records))]))
}

/** The bytes of what may be text, since text compares by code units. */
const plain = ({ offset, timestampMs, key, value: of, headers: { names, values } }: BatchRecord) => ({
  offset,
  timestampMs,
  key: key?.toString('hex'),
  value: of?.toString('hex'),
  names: names.map((name) => Buffer.from(name).toString('hex')),
  values: values.map((one) => (one === null ? null : Buffer.from(one).toString('hex'))),
})

test('any record is in a batch as it was', () => {
  fc.assert(
    fc.property(records, (given) => {
      const read = batchesOf(given).flatMap(decodeBatch)
      expect(read.map(plain)).toEqual(given.map(plain))
    }),
    { numRuns: 60 },
  )
})

test('a batch is as Kafka writes it: its head, and varints as short as can be', () => {
  const batch: BatchRecord[] = [
    { offset: 7, timestampMs: 1_000, key: Buffer.from('k'), value: null, headers: { names: ['h'], values: ['v'] } },
    { offset: 9, timestampMs: 999, key: null, value: Buffer.alloc(0), headers: { names: [], values: [] } },
  ]
  const [sealed] = batchesOf(batch) as [Buffer]
  // baseOffset, then what the length counts: partitionLeaderEpoch, magic, crc, attributes, lastOffsetDelta, baseTimestamp, maxTimestamp, producer, count.
  const crc = crc32c(sealed.subarray(21)).toString(16).padStart(8, '0')
  const length = (sealed.length - 12).toString(16).padStart(8, '0')
  expect(sealed.subarray(0, 61).toString('hex')).toBe(
    `0000000000000007${length}ffffffff02${crc}00040000000200000000000003e800000000000003e8ffffffffffffffffffffffffffff00000002`,
  )
  expect(batchBytes(sealed)).toBe(sealed.length)
  // length, attributes, timestamp, offset, key, value, headers
  expect(Bun.zstdDecompressSync(sealed.subarray(61)).toString('hex')).toBe(
    ['16', '00', '00', '00', '026b', '01', '02', '0268', '0276', '0c', '00', '01', '04', '01', '00', '00'].join(''),
  )
})

test('batches are bounded in bytes and in offsets, and a large record has one of its own', () => {
  const headersOf = { names: [], values: [] }
  const record = (offset: number, size: number): BatchRecord => ({
    offset,
    timestampMs: 0,
    key: null,
    value: Buffer.alloc(size),
    headers: headersOf,
  })
  const given = [record(0, 2 ** 19), record(1, 2 ** 19), record(2, 5 * 2 ** 20), record(3, 10), record(2 ** 31 + 3, 10)]
  const read = batchesOf(given).map((one) => decodeBatch(one).map(({ offset }) => offset))
  expect(read).toEqual([[0, 1], [2], [3], [2 ** 31 + 3]])
})

test('a changed bit is found wherever the checksum is of', () => {
  const [sealed] = batchesOf([
    { offset: 1, timestampMs: 1, key: null, value: Buffer.from('value'), headers: { names: [], values: [] } },
  ]) as [Buffer]
  for (let at = 16; at < sealed.length; at++) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] as number) ^ 4
    expect(() => decodeBatch(changed)).toThrow(BatchError)
  }
})

test('records that are not as their batch says are refused, whatever the checksum says', () => {
  const batch = { firstOffset: 0, lastOffset: 1, firstTimestampMs: 0, maxTimestampMs: 0, count: 1 }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 0, max: 3 }), (given, count) => {
      const sealed = sealBatch({ ...batch, count, records: Buffer.from(given) }, Bun.zstdCompressSync(given))
      try {
        expect(decodeBatch(sealed)).toHaveLength(count)
      } catch (error) {
        expect(error).toBeInstanceOf(BatchError)
      }
    }),
    { numRuns: 200 },
  )
})

test.each([
  // RFC 3720, B.4.
  [Buffer.alloc(32), 0x8a9136aa],
  [Buffer.alloc(32, 0xff), 0x62a8ab43],
  [Buffer.from(Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e],
  [Buffer.from('123456789'), 0xe3069283],
])('CRC-32C of %p', (given, sum) => {
  expect(crc32c(given)).toBe(sum)
  expect(crc32c(given.subarray(5), crc32c(given.subarray(0, 5)))).toBe(sum)
})
