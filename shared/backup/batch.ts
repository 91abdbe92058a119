import { isUtf8 } from 'node:buffer'
import type { HeaderValue, RecordHeaders } from '../events/headers.ts'
import { crc32c } from './crc32c.ts'

/**
 * Kafka's record batches, format version 2 (https://kafka.apache.org/documentation/#messageformat): compressed with zstd, without the producers' ids,
 * sequences and transactions. Numbers are big-endian.
 */

/** A record as it is in a batch. */
export interface BatchRecord {
  offset: number
  /** ms since the epoch; -1: none. */
  timestampMs: number
  key: Buffer | null
  value: Buffer | null
  headers: RecordHeaders
}

/** Bytes before those that a batch's length counts: its offset and the length. */
const LENGTH_END = 12
/** Bytes before the records. */
export const HEAD_BYTES = 61
/** The checksum is of all that follows it. */
const SUMMED_FROM = 21

const AT = {
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
} as const

const MAGIC = 2
/** In the lowest three bits of the attributes. The others are 0: timestamps of creation, no transaction, no control records. */
const ZSTD = 4
/** No producer, no epoch, no sequence, as in batches that no idempotent producer wrote. */
const NONE = -1

/** Uncompressed; a batch has at least one record, however large. */
const BATCH_BYTES = 1024 * 1024

/** Offsets in a batch are 32-bit differences from its first one. */
const MAX_OFFSET_DELTA = 2 ** 31 - 1

/** More than the varints of a record take besides its headers: length, timestamp, offset, key, value, number of headers. */
const RECORD_OVERHEAD = 48
/** Of a header: two lengths. */
const HEADER_OVERHEAD = 10

/** UTF-8 takes at most so many bytes for a UTF-16 code unit. */
const MAX_BYTES_A_UNIT = 3

/** A batch that is ready, but for its compression. */
export interface OpenBatch {
  firstOffset: number
  lastOffset: number
  firstTimestampMs: number
  maxTimestampMs: number
  count: number
  /** The records, uncompressed. */
  records: Buffer
}

/** Gathers records into batches. */
export class BatchBuilder {
  #bytes = Buffer.allocUnsafeSlow(BATCH_BYTES + 64 * 1024)
  #length = 0
  #count = 0
  #firstOffset = 0
  #lastOffset = 0
  #firstTimestampMs = 0
  #maxTimestampMs = 0
  /** How many bytes the last record's length took: the next one's is likely to take as many. */
  #lengthBytes = 2

  /** Bytes of the records that were gathered. */
  get bytes(): number {
    return this.#length
  }

  /** Offsets have to ascend. @returns the batch before the record, when it does not go into that any more */
  add(record: BatchRecord): OpenBatch | undefined {
    const isFull = this.#length >= BATCH_BYTES || record.offset - this.#firstOffset > MAX_OFFSET_DELTA
    const before = isFull ? this.take() : undefined
    if (this.#count === 0) {
      this.#firstOffset = record.offset
      this.#firstTimestampMs = record.timestampMs
      this.#maxTimestampMs = record.timestampMs
    }
    this.#write(record)
    this.#count++
    this.#lastOffset = record.offset
    this.#maxTimestampMs = Math.max(this.#maxTimestampMs, record.timestampMs)
    return before
  }

  /** @returns what was gathered; undefined when that is nothing */
  take(): OpenBatch | undefined {
    if (this.#count === 0) return undefined
    const batch: OpenBatch = {
      firstOffset: this.#firstOffset,
      lastOffset: this.#lastOffset,
      firstTimestampMs: this.#firstTimestampMs,
      maxTimestampMs: this.#maxTimestampMs,
      count: this.#count,
      records: Buffer.from(this.#bytes.subarray(0, this.#length)),
    }
    // After a large record, the memory is not kept.
    if (this.#bytes.length > 4 * BATCH_BYTES) this.#bytes = Buffer.allocUnsafeSlow(BATCH_BYTES + 64 * 1024)
    this.#length = 0
    this.#count = 0
    return batch
  }

  #write({ offset, timestampMs, key, value, headers }: BatchRecord): void {
    const { names, values } = headers
    let most = RECORD_OVERHEAD + (key?.length ?? 0) + (value?.length ?? 0)
    for (let index = 0; index < names.length; index++)
      most += HEADER_OVERHEAD + MAX_BYTES_A_UNIT * (names[index] as string).length + mostBytes(values[index] ?? null)
    this.#reserve(most)
    const bytes = this.#bytes
    const begin = this.#length
    const body = begin + this.#lengthBytes
    let at = body
    // The record's attributes, of which there are none.
    bytes[at++] = 0
    at = putVarint(bytes, at, timestampMs - this.#firstTimestampMs)
    at = putVarint(bytes, at, offset - this.#firstOffset)
    at = putBytes(bytes, at, key)
    at = putBytes(bytes, at, value)
    at = putVarint(bytes, at, names.length)
    for (let index = 0; index < names.length; index++) {
      at = putText(bytes, at, names[index] as string)
      const one = values[index] ?? null
      at = typeof one === 'string' ? putText(bytes, at, one) : putBytes(bytes, at, one)
    }
    const length = at - body
    const lengthBytes = varintBytes(length)
    if (lengthBytes !== this.#lengthBytes) {
      bytes.copyWithin(begin + lengthBytes, body, at)
      this.#lengthBytes = lengthBytes
    }
    putVarint(bytes, begin, length)
    this.#length = begin + lengthBytes + length
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + more))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

const mostBytes = (value: HeaderValue): number =>
  value === null ? 0 : typeof value === 'string' ? MAX_BYTES_A_UNIT * value.length : value.length

/** @param compressed its records, compressed with zstd */
export function sealBatch(batch: OpenBatch, compressed: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + compressed.length)
  bytes.set(compressed, HEAD_BYTES)
  bytes.writeBigInt64BE(BigInt(batch.firstOffset), AT.baseOffset)
  bytes.writeInt32BE(bytes.length - LENGTH_END, AT.length)
  bytes.writeInt32BE(NONE, AT.leaderEpoch)
  bytes.writeInt8(MAGIC, AT.magic)
  bytes.writeInt16BE(ZSTD, AT.attributes)
  bytes.writeInt32BE(batch.lastOffset - batch.firstOffset, AT.lastOffsetDelta)
  bytes.writeBigInt64BE(BigInt(batch.firstTimestampMs), AT.baseTimestamp)
  bytes.writeBigInt64BE(BigInt(batch.maxTimestampMs), AT.maxTimestamp)
  bytes.writeBigInt64BE(BigInt(NONE), AT.producerId)
  bytes.writeInt16BE(NONE, AT.producerEpoch)
  bytes.writeInt32BE(NONE, AT.baseSequence)
  bytes.writeInt32BE(batch.count, AT.count)
  bytes.writeUInt32BE(crc32c(bytes.subarray(SUMMED_FROM)), AT.crc)
  return bytes
}

// ---- decoding

/** A batch is damaged. The message says how. */
export class BatchError extends Error {
  override readonly name = 'BatchError'
}

/** @param head its first {@link LENGTH_END} bytes or more. @returns the bytes of the whole batch. @throws BatchError */
export function batchBytes(head: Buffer): number {
  const bytes = LENGTH_END + head.readInt32BE(AT.length)
  if (bytes < HEAD_BYTES) throw new BatchError(`its length, ${bytes} bytes, is less than that of its head`)
  return bytes
}

/** @param bytes one whole batch. @throws BatchError */
export function decodeBatch(bytes: Buffer): BatchRecord[] {
  const magic = bytes.readInt8(AT.magic)
  if (magic !== MAGIC) throw new BatchError(`its format is version ${magic}, and not ${MAGIC}`)
  const [stated, counted] = [bytes.readUInt32BE(AT.crc), crc32c(bytes.subarray(SUMMED_FROM))]
  if (stated !== counted) throw new BatchError(`its checksum is ${hex(counted)}, and should be ${hex(stated)}`)
  const attributes = bytes.readInt16BE(AT.attributes)
  if (attributes !== ZSTD) throw new BatchError(`its attributes are ${attributes}, and not ${ZSTD} (zstd)`)
  let records: Buffer
  try {
    records = Bun.zstdDecompressSync(bytes.subarray(HEAD_BYTES))
  } catch (error) {
    throw new BatchError(`its records cannot be decompressed: ${(error as Error).message}`)
  }
  return decodeRecords(records, {
    baseOffset: Number(bytes.readBigInt64BE(AT.baseOffset)),
    baseTimestampMs: Number(bytes.readBigInt64BE(AT.baseTimestamp)),
    count: bytes.readInt32BE(AT.count),
  })
}

const hex = (crc: number): string => `0x${crc.toString(16).padStart(8, '0')}`

function decodeRecords(
  bytes: Buffer,
  { baseOffset, baseTimestampMs, count }: { baseOffset: number; baseTimestampMs: number; count: number },
): BatchRecord[] {
  const cursor = new Cursor(bytes)
  const records: BatchRecord[] = []
  let last = Number.NEGATIVE_INFINITY
  for (let index = 0; index < count; index++) {
    const length = cursor.varint()
    const end = cursor.at + length
    cursor.skip(1)
    const timestampMs = baseTimestampMs + cursor.varint()
    const offset = baseOffset + cursor.varint()
    const key = cursor.bytes()
    const value = cursor.bytes()
    const names: string[] = []
    const values: HeaderValue[] = []
    for (let left = cursor.varint(); left > 0; left--) {
      names.push(cursor.bytes()?.toString() ?? '')
      const one = cursor.bytes()
      values.push(one !== null && isUtf8(one) ? one.toString() : one)
    }
    if (cursor.at !== end) throw new BatchError(`record ${index} of ${count} is not as long as it says`)
    if (offset <= last) throw new BatchError(`offset ${offset} follows ${last}`)
    last = offset
    records.push({ offset, timestampMs, key, value, headers: { names, values } })
  }
  if (cursor.at !== bytes.length) throw new BatchError(`${bytes.length - cursor.at} bytes follow its last record`)
  return records
}

class Cursor {
  at = 0

  constructor(readonly given: Buffer) {}

  skip(bytes: number): void {
    this.at += bytes
  }

  /** null for the length -1. */
  bytes(): Buffer | null {
    const length = this.varint()
    if (length === -1) return null
    const end = this.at + length
    if (length < 0 || end > this.given.length) throw new BatchError('a length is beyond the end of its records')
    const part = this.given.subarray(this.at, end)
    this.at = end
    return part
  }

  /** Zigzag, of at most 53 bits. */
  varint(): number {
    let folded = 0n
    let low = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.given[this.at++]
      if (byte === undefined) throw new BatchError('its records end in a number')
      if (shift < 28) low |= (byte & 0x7f) << shift
      else folded |= BigInt(byte & 0x7f) << BigInt(shift)
      if (byte >= 0x80) continue
      if (shift < 28) return (low >>> 1) ^ -(low & 1)
      folded |= BigInt(low)
      return Number((folded >> 1n) ^ -(folded & 1n))
    }
    throw new BatchError('a number in its records does not end')
  }
}

// ---- numbers of variable length, and what is preceded by one

/** A zigzag fits into 28 bits below this. */
const SMALL = 2 ** 27

function putVarint(bytes: Buffer, from: number, value: number): number {
  let at = from
  if (value >= -SMALL && value < SMALL) {
    let folded = (value << 1) ^ (value >> 31)
    for (; folded >= 0x80; folded >>>= 7) bytes[at++] = (folded & 0x7f) | 0x80
    bytes[at++] = folded
    return at
  }
  const wide = BigInt(value)
  let folded = BigInt.asUintN(64, (wide << 1n) ^ (wide >> 63n))
  for (; folded >= 0x80n; folded >>= 7n) bytes[at++] = Number(folded & 0x7fn) | 0x80
  bytes[at++] = Number(folded)
  return at
}

/** Of a number that is not negative. */
const varintBytes = (value: number): number =>
  value < 2 ** 6 ? 1 : value < 2 ** 13 ? 2 : value < 2 ** 20 ? 3 : value < 2 ** 27 ? 4 : 5

function putBytes(bytes: Buffer, from: number, value: Buffer | null): number {
  const at = putVarint(bytes, from, value === null ? -1 : value.length)
  if (value !== null) bytes.set(value, at)
  return at + (value?.length ?? 0)
}

/** Texts whose length takes one byte have at most so many code units. */
const SHORT_UNITS = 63

function putText(bytes: Buffer, from: number, text: string): number {
  if (text.length <= SHORT_UNITS) {
    const length = bytes.write(text, from + 1)
    if (length <= SHORT_UNITS) {
      bytes[from] = length << 1
      return from + 1 + length
    }
  }
  const at = putVarint(bytes, from, Buffer.byteLength(text))
  return at + bytes.write(text, at)
}
