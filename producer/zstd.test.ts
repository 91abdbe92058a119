import { describe, expect, test } from 'bun:test'
import { constants, createZstdCompress, type ZstdOptions, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { ZstdFrames } from './zstd.ts'

/** The fault of data in pieces of so many bytes. */
function verdict(bytes: Uint8Array, pieceBytes = bytes.length): string | undefined {
  const frames = new ZstdFrames()
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const fault = frames.push(bytes.subarray(at, at + pieceBytes))
    if (fault !== undefined) return fault
  }
  return frames.end()
}

const noise = Buffer.from(Array.from({ length: 300_000 }, (_, i) => Math.floor(Math.abs(Math.sin(i) * 1e6)) % 256))
const compressed = (bytes: Buffer, checksum = false) =>
  zstdCompressSync(bytes, { params: { [constants.ZSTD_c_checksumFlag]: checksum ? 1 : 0 } })
const SKIPPABLE = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3])

describe('the frames of Zstandard data', () => {
  const frames: [string, Buffer][] = [
    ['nothing', compressed(Buffer.alloc(0))],
    ['a few bytes', compressed(Buffer.from('hello'))],
    ['a few bytes, with a checksum', compressed(Buffer.from('hello'), true)],
    ['one byte again and again', compressed(Buffer.alloc(1_000_000, 'x'))],
    ['many blocks', compressed(noise)],
    ['many blocks, with a checksum', compressed(noise, true)],
  ]

  test.each(frames)('of %s: whole they are fine, and cut anywhere they are not', (_, frame) => {
    for (const pieceBytes of [1, 7, frame.length]) expect(verdict(frame, pieceBytes)).toBeUndefined()
    const step = Math.max(1, Math.floor(frame.length / 500))
    for (let end = 1; end < frame.length; end += step)
      expect(verdict(frame.subarray(0, end))).toBe('it ends within a frame')
    expect(verdict(frame.subarray(0, frame.length - 1))).toBe('it ends within a frame')
  })

  test('several frames, and skippable ones among them, are fine in whatever pieces they come', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constant(SKIPPABLE), fc.constantFrom(...frames.slice(0, 4).map(([, frame]) => frame)))),
        fc.integer({ min: 1, max: 50 }),
        fc.boolean(),
        (parts, pieceBytes, cut) => {
          const whole = Buffer.concat(parts)
          const hasFrame = parts.some((part) => part !== SKIPPABLE)
          if (cut && whole.length > 0) expect(verdict(whole.subarray(0, -1), pieceBytes)).toBe('it ends within a frame')
          else expect(verdict(whole, pieceBytes)).toBe(hasFrame ? undefined : 'it holds no frame')
        },
      ),
      { numRuns: 50 },
    )
  })

  test('what is no frame is told from what is cut', () => {
    expect(verdict(Buffer.from('no zstd'))).toBe('it does not begin with a frame')
    const frame = compressed(noise)
    expect(verdict(Buffer.concat([frame, Buffer.from('garbage')]))).toBe('what follows a frame is none')
    expect(verdict(Buffer.concat([frame, Buffer.alloc(64)]))).toBe('what follows a frame is none')
    expect(verdict(Buffer.alloc(0))).toBe('it holds no frame')
  })

  test.each([
    ['its window', { [constants.ZSTD_c_windowLog]: 23 }, undefined, 2 ** 23],
    [
      'a window that is no power of two',
      undefined,
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (11 << 3) | 5]),
      2 ** 21 * 1.625,
    ],
    ['its size, of one byte', {}, compressed(Buffer.alloc(200)), 200],
    ['its size, of two bytes', {}, compressed(Buffer.alloc(300)), 300],
    ['its size, of four bytes', {}, compressed(noise), noise.length],
    ['its size, of eight bytes', {}, Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe0, 1, 0, 0, 0, 1, 0, 0, 0]), 2 ** 32 + 1],
  ])('a decoder needs %s', async (_, params, bytes, expected) => {
    const frame = bytes ?? (await streamed({ params: params ?? {} }))
    for (const pieceBytes of [1, frame.length]) {
      const frames = new ZstdFrames()
      for (let at = 0; at < frame.length; at += pieceBytes) frames.push(frame.subarray(at, at + pieceBytes))
      frames.push(compressed(Buffer.alloc(10)))
      expect(frames.windowBytes).toBe(expected)
    }
  })
})

/** Compressed without knowing its size. */
async function streamed(options: ZstdOptions): Promise<Buffer> {
  const compress = createZstdCompress(options)
  const pieces: Buffer[] = []
  compress.on('data', (piece: Buffer) => pieces.push(piece))
  for (let i = 0; i < 3; i++) compress.write(Buffer.alloc(100_000, 'x'))
  await new Promise<void>((resolve) => compress.on('end', resolve).end())
  return Buffer.concat(pieces)
}
