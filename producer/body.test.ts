import { heapStats } from 'bun:jsc'
import { describe, expect, test } from 'bun:test'
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { type Problem, ProblemError } from '../shared/http/problem.ts'
import { settled } from '../shared/testing/settled.ts'
import { Gathered, readBody, streamBody } from './body.ts'
import type { Encoding } from './media-type.ts'
import { linesOf } from './ndjson.ts'

const LIMITS = {
  maxBytes: 4_000_000,
  timeoutMs: 1_000,
  announcedBytes: undefined,
  heldBytes: 4_000_000,
  hold: () => undefined,
}

const text = Buffer.from(Array.from({ length: 20_000 }, (_, i) => `{"type":"t","x":${Math.sin(i)}}\n`).join(''))
const [gzip, zstd] = [gzipSync(text), zstdCompressSync(text)]
const CHECKSUM = { params: { [constants.ZSTD_c_checksumFlag]: 1 } }
const checked = zstdCompressSync(text, CHECKSUM)
const [shortGzip, shortZstd] = [gzipSync('more'), zstdCompressSync('more')]

/** Reads a whole body: its length, or why it is refused. */
async function whole(encoding: Encoding, bytes: Buffer): Promise<number | string> {
  const request = new Request('http://localhost/', {
    method: 'POST',
    headers: { 'content-length': String(bytes.length) },
    body: bytes,
  })
  const read = await readBody(request, encoding, { ...LIMITS, announcedBytes: bytes.length })
  return read.ok ? read.bytes.length : read.problem.detail
}

/** The same as a stream, in arbitrary pieces. */
async function streamed(encoding: Encoding, bytes: Buffer, pieceBytes = 1_009): Promise<number | string> {
  let at = 0
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) return controller.close()
      controller.enqueue(bytes.subarray(at, at + pieceBytes))
      at += pieceBytes
    },
  })
  let length = 0
  try {
    for await (const piece of streamBody(body, encoding, () => undefined)) length += piece.length
    return length
  } catch (error) {
    if (error instanceof ProblemError) return error.problem.detail
    throw error
  }
}

describe('a compressed body', () => {
  test.each<[string, Encoding, Buffer, number]>([
    ['gzip', 'gzip', gzip, text.length],
    ['two gzip members', 'gzip', Buffer.concat([gzip, shortGzip]), text.length + 4],
    ['zstd', 'zstd', zstd, text.length],
    ['two zstd frames', 'zstd', Buffer.concat([zstd, shortZstd]), text.length + 4],
  ])('is taken whole: %s', async (_, encoding, bytes, length) => {
    expect(await whole(encoding, bytes)).toBe(length)
    expect(await streamed(encoding, bytes)).toBe(length)
  })

  test.each<[string, Encoding, Buffer, string]>([
    ['half of gzip', 'gzip', gzip.subarray(0, gzip.length / 2), 'unexpected end of file'],
    ['gzip without its last byte', 'gzip', gzip.subarray(0, -1), 'unexpected end of file'],
    [
      'half of a second gzip member',
      'gzip',
      Buffer.concat([gzip, shortGzip.subarray(0, 12)]),
      'unexpected end of file',
    ],
    ['garbage after gzip', 'gzip', Buffer.concat([gzip, Buffer.from('garbage')]), 'incorrect header check'],
    ['a gzip member behind zeros', 'gzip', Buffer.concat([gzip, Buffer.alloc(4), shortGzip]), 'more bytes follow it'],
    ['no gzip', 'gzip', Buffer.from('no gzip'), 'incorrect header check'],
    ['nothing of gzip', 'gzip', Buffer.alloc(0), 'unexpected end of file'],
    ['half of zstd', 'zstd', zstd.subarray(0, zstd.length / 2), 'it ends within a frame'],
    ['zstd without its last byte', 'zstd', zstd.subarray(0, -1), 'it ends within a frame'],
    ['half of a second zstd frame', 'zstd', Buffer.concat([zstd, shortZstd.subarray(0, 5)]), 'it ends within a frame'],
    ['garbage after zstd', 'zstd', Buffer.concat([zstd, Buffer.from('garbage')]), 'what follows a frame is none'],
    ['zeros after zstd', 'zstd', Buffer.concat([zstd, Buffer.alloc(9)]), 'what follows a frame is none'],
    ['no zstd', 'zstd', Buffer.from('no zstd'), 'it does not begin with a frame'],
    ['nothing of zstd', 'zstd', Buffer.alloc(0), 'it holds no frame'],
    ['zstd that is not what its checksum says', 'zstd', checked.fill(0, checked.length - 2), 'checksum'],
  ])('that is not what its encoding says is refused with the reason: %s', async (_, encoding, bytes, reason) => {
    const detail = expect.stringMatching(new RegExp(`^The body is not valid ${encoding}: .*${reason}`))
    expect(await whole(encoding, bytes)).toEqual(detail)
    for (const pieceBytes of [1_009, 1_000_000]) expect(await streamed(encoding, bytes, pieceBytes)).toEqual(detail)
  })

  test('of zstd that was changed anywhere is refused, or is what a strict decoder makes of it', async () => {
    const bases = [shortZstd, Buffer.concat([shortZstd, zstdCompressSync(text.subarray(0, 2_000), CHECKSUM)])]
    const change = fc.oneof(
      fc.record({ at: fc.nat(), byte: fc.nat(255) }),
      fc.record({ at: fc.nat(), without: fc.integer({ min: 1, max: 5 }) }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...bases),
        fc.array(change, { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 1, max: 99 }),
        async (base, changes, pieceBytes) => {
          let bytes = Buffer.from(base)
          for (const one of changes) {
            const at = one.at % bytes.length
            if ('byte' in one) bytes[at] = one.byte
            else bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + one.without)])
            fc.pre(bytes.length > 0)
          }
          const strict = await Bun.zstdDecompress(bytes).then(
            ({ length }) => length,
            () => undefined,
          )
          for (const read of [await whole('zstd', bytes), await streamed('zstd', bytes, pieceBytes)])
            expect(typeof read === 'number' ? read : undefined).toBe(strict)
        },
      ),
      { numRuns: 100 },
    )
  })

  test('with a zstd window over 8 MB is told that', async () => {
    const compress = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: 24 } })
    const pieces: Buffer[] = []
    compress.on('data', (piece: Buffer) => pieces.push(piece))
    for (let i = 0; i < 3; i++) compress.write(Buffer.alloc(100_000, 'x'))
    await new Promise<void>((resolve) => compress.on('end', resolve).end())
    const bytes = Buffer.concat(pieces)
    const detail =
      'The body needs a zstd window of more than 8388608 bytes to decompress (RFC 8878, section 3.1.1.1.2): compress it with a smaller one, such as without --long and --ultra.'
    expect(await whole('zstd', bytes)).toBe(detail)
    expect(await streamed('zstd', bytes)).toBe(detail)
  })

  test('is decoded only where there is room for what its decoder needs', async () => {
    const full: Problem = { kind: 'overloaded', detail: 'no room' }
    const asked: number[] = []
    const read = async (most: number) => {
      const body = new Response(Buffer.concat([zstd, zstd])).body as ReadableStream<Uint8Array>
      const decodes = (bytes: number) => (asked.push(bytes) > 0 && bytes > most ? full : undefined)
      for await (const _ of streamBody(body, 'zstd', decodes));
    }
    await read(text.length)
    expect(await settled(read(text.length - 1))).toThrow('no room')
    expect(asked).toEqual([text.length, text.length])
  })

  test('whose sender breaks off is none that is wrong', async () => {
    for (const encoding of ['identity', 'gzip', 'zstd'] as const) {
      const body = new ReadableStream<Uint8Array>({ pull: (c) => c.error(new Error('reset')) })
      const read = async () => {
        for await (const _ of streamBody(body, encoding, () => undefined));
      }
      expect(await settled(read())).toThrow('reset')
    }
  })
})

describe('pieces', () => {
  test('are one whole, wherever it was cut', () => {
    const gathered = new Gathered()
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
        for (const piece of pieces) gathered.add(piece)
        expect(gathered.length).toBe(Buffer.concat(pieces).length)
        expect(gathered.take()).toEqual(Buffer.concat(pieces))
        expect(gathered.length).toBe(0)
      }),
    )
  })

  /** How many pieces are in memory when the last one has arrived. */
  function ofOneByte(count: number): { body: ReadableStream<Uint8Array>; kept: Promise<number> } {
    const inMemory = (): number => {
      Bun.gc(true)
      return heapStats().objectTypeCounts['Uint8Array'] ?? 0
    }
    const before = inMemory()
    const { promise: kept, resolve } = Promise.withResolvers<number>()
    let left = count
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(Buffer.alloc(1, '{'))
          if (--left > 0) return
          resolve(inMemory() - before)
          controller.close()
        },
      },
      { highWaterMark: 0 },
    )
    return { body, kept }
  }

  test('of one byte take no more room than their bytes', async () => {
    const whole = ofOneByte(5_000)
    const read = await readBody(
      new Request('http://localhost/', { method: 'POST', body: whole.body }),
      'identity',
      LIMITS,
    )
    expect(read).toMatchObject({ ok: true, bytes: Buffer.alloc(5_000, '{') })
    expect(await whole.kept).toBeLessThan(2_000)
    const line = ofOneByte(5_000)
    for await (const [one] of linesOf(line.body, 10_000)) expect(one?.readBytes).toBe(5_000)
    expect(await line.kept).toBeLessThan(2_000)
  })
})
