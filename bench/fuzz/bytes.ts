import type { Random } from '../faults/random.ts'

/** Changes of bytes, whatever they mean. */

/** Bytes that end or begin something in HTTP, JSON or UTF-8. */
const TELLING = [
  0x00, 0x09, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0x5c, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xc0, 0xed, 0xff,
] as const
const NUMBERS = [
  '0',
  '-1',
  '00',
  '1e999',
  '0x10',
  '2147483648',
  '4294967296',
  '9007199254740993',
  '99999999999999999999',
] as const
const MAX_INSERTED = 8
const MAX_FILLER = 4_096
const MAX_REPEATS = 8
const MAX_CHANGES = 4

type Change = (bytes: Buffer, random: Random, other: Buffer) => Buffer

/** A range of the bytes, which may be empty. */
function range(bytes: Buffer, random: Random): [from: number, to: number] {
  const from = random.integer(0, bytes.length)
  // Most are short.
  const length = Math.floor((bytes.length - from + 1) * random.next() ** 4)
  return [from, Math.min(bytes.length, from + length)]
}

const replaced = (bytes: Buffer, from: number, to: number, ...by: readonly Uint8Array[]): Buffer =>
  Buffer.concat([bytes.subarray(0, from), ...by, bytes.subarray(to)])

const CHANGES: readonly [Change, ...Change[]] = [
  (bytes, random) => {
    const at = random.integer(0, bytes.length)
    return replaced(bytes, at, at + 1, Buffer.from([(bytes[at] ?? 0) ^ (1 << random.integer(0, 7))]))
  },
  (bytes, random) => {
    const at = random.integer(0, bytes.length)
    return replaced(bytes, at, at + 1, Buffer.from([random.pick(TELLING)]))
  },
  (bytes, random) => {
    const at = random.integer(0, bytes.length)
    const inserted = Array.from({ length: random.integer(1, MAX_INSERTED) }, () => random.integer(0, 255))
    return replaced(bytes, at, at, Buffer.from(inserted))
  },
  (bytes, random) => {
    const at = random.integer(0, bytes.length)
    return replaced(bytes, at, at, Buffer.alloc(random.integer(1, MAX_FILLER), random.pick(TELLING)))
  },
  (bytes, random) => replaced(bytes, ...range(bytes, random)),
  (bytes, random) => {
    const [from, to] = range(bytes, random)
    return replaced(bytes, to, to, ...Array<Buffer>(random.integer(1, MAX_REPEATS)).fill(bytes.subarray(from, to)))
  },
  (bytes, random, other) => {
    const [from, to] = range(bytes, random)
    return replaced(bytes, from, to, other.subarray(...range(other, random)))
  },
  (bytes, random) => {
    const numbers = [...bytes.toString('latin1').matchAll(/\d+/g)]
    const number = numbers[random.integer(0, numbers.length)]
    if (number === undefined) return bytes
    return replaced(bytes, number.index, number.index + number[0].length, Buffer.from(random.pick(NUMBERS)))
  },
]

/** @param other where bytes are taken from for a splice */
export function changedBytes(bytes: Buffer, random: Random, other: Buffer): Buffer {
  let changed = bytes
  for (let left = random.integer(1, MAX_CHANGES); left > 0; left--)
    changed = random.pick(CHANGES)(changed, random, other)
  return changed
}
