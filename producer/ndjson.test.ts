import { describe, expect, test } from 'bun:test'
import { createGzip } from 'node:zlib'
import fc from 'fast-check'
import { residentMemoryBytes } from '../shared/process-metrics.ts'
import { streamBody } from './body.ts'
import { linesOf } from './ndjson.ts'

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  let from = 0
  for (const cut of [...cuts, bytes.length].toSorted((a, b) => a - b)) {
    yield bytes.subarray(from, cut)
    from = cut
  }
}

async function split(text: string, cuts: readonly number[], maxBytes = 1_000): Promise<(string | null)[]> {
  const bytes = Buffer.from(text)
  const lines: (string | null)[] = []
  for await (const some of linesOf(
    chunksOf(
      bytes,
      cuts.map((cut) => cut % (bytes.length + 1)),
    ),
    maxBytes,
  )) {
    expect(some.length).toBeGreaterThan(0)
    for (const line of some) lines.push(line.kind === 'line' ? line.bytes.toString() : null)
  }
  return lines
}

describe('the lines of a stream', () => {
  test('are the same wherever the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme' }).map((line) => `{${line.replaceAll('\n', '')}`)),
        fc.boolean(),
        fc.array(fc.nat()),
        async (lines, ends, cuts) => {
          const text = lines.join('\n') + (ends && lines.length > 0 ? '\n' : '')
          expect(await split(text, cuts)).toEqual(lines)
        },
      ),
    )
  })

  test('are never longer than the bound, and those that are do not take their neighbours with them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(30), { minLength: 1 }), fc.array(fc.nat()), async (lengths, cuts) => {
        const text = lengths.map((length) => `{${'x'.repeat(length)}`).join('\n')
        const expected = lengths.map((length) => (length + 1 > 20 ? null : `{${'x'.repeat(length)}`))
        expect(await split(text, cuts, 20)).toEqual(expected)
      }),
    )
  })

  test('of white space only are empty', async () => {
    expect(await split('\r\n  \t\n{}\r\n\n', [])).toEqual(['', '', '{}\r', ''])
  })

  test('without an end take no memory', async () => {
    const chunk = Buffer.alloc(64 * 1024, 0x78)
    async function* endless() {
      for (let i = 0; i < 16_000; i++) yield chunk
    }
    const before = residentMemoryBytes() ?? 0
    const lines: unknown[] = []
    for await (const some of linesOf(endless(), 1_000_000)) lines.push(...some)
    expect(lines).toEqual([{ kind: 'too long' }])
    // Of a gigabyte; other tests' garbage is in this figure too.
    expect((residentMemoryBytes() ?? 0) - before).toBeLessThan(256 * 1024 * 1024)
  })

  test('of a bomb are read no faster than they are taken', async () => {
    const gzip = createGzip()
    const packed: Buffer[] = []
    gzip.on('data', (piece: Buffer) => packed.push(piece))
    for (let i = 0; i < 1_000; i++) gzip.write(Buffer.alloc(1024 * 1024))
    const ended = new Promise((resolve) => gzip.on('end', resolve))
    gzip.end()
    await ended
    const bomb = Buffer.concat(packed)
    let pulled = 0
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(bomb.subarray(pulled, pulled + 1_024))
          pulled += 1_024
        },
      },
      { highWaterMark: 0 },
    )
    let taken = 0
    for await (const piece of streamBody(body, 'gzip')) {
      taken += piece.length
      if (taken < 10 * 1024 * 1024) continue
      // Whoever would decode on has every chance to.
      for (let turn = 0; turn < 1_000; turn++) await new Promise((resolve) => setImmediate(resolve))
      break
    }
    // One byte is a thousand, so this much is what 10 MB come from and what the decoder's own buffers hold.
    expect(pulled).toBeLessThan(200 * 1_024)
  })
})
