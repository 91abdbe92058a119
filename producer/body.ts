import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { constants, createGunzip, createZstdDecompress, gunzip, zstdDecompress } from 'node:zlib'
import type { Encoding } from './media-type.ts'
import type { Problem } from './problem.ts'

/** The bytes of a request: read within a deadline and a bound, decompressed within the same bound. */

export type BodyResult = { ok: true; bytes: Buffer } | { ok: false; problem: Problem }

export interface BodyLimits {
  maxBytes: number
  /** How long from now the body may take. */
  timeoutMs: number
}

/** RFC 8878, section 3.1.1.1.2: a decoder should take windows of 8 MB; a frame must not make it set aside more. */
const ZSTD_WINDOW = { [constants.ZSTD_d_windowLogMax]: 23 }

const inflate = { gzip: promisify(gunzip), zstd: promisify(zstdDecompress) }

/** The length that a request announces; undefined when it is sent in chunks. */
export function announcedBytes(headers: Headers): number | undefined {
  const value = headers.get('content-length')
  return value === null ? undefined : Number(value)
}

/** Reads and decompresses a body. Rejects when the client went away. */
export async function readBody(request: Request, encoding: Encoding, limits: BodyLimits): Promise<BodyResult> {
  const read = await readRaw(request, limits)
  if (!read.ok || encoding === 'identity') return read
  try {
    const options = { maxOutputLength: limits.maxBytes, ...(encoding === 'zstd' ? { params: ZSTD_WINDOW } : {}) }
    return { ok: true, bytes: await inflate[encoding](read.bytes, options) }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
      ? tooLarge(limits, ' after decompression')
      : { ok: false, problem: { kind: 'malformed', detail: `The body is not valid ${encoding}.` } }
  }
}

async function readRaw(request: Request, limits: BodyLimits): Promise<BodyResult> {
  if (request.body === null) return { ok: true, bytes: Buffer.alloc(0) }
  const announced = announcedBytes(request.headers)
  if (announced !== undefined && announced > limits.maxBytes) return tooLarge(limits, '', true)
  const deadline = deadlineIn(limits.timeoutMs)
  try {
    // The length that was announced is the length that comes: HTTP/1.1 knows no more of the body than that.
    if (announced !== undefined) {
      const bytes = await Promise.race([request.arrayBuffer(), deadline.passed])
      return bytes === undefined ? timedOut(limits) : { ok: true, bytes: Buffer.from(bytes) }
    }
    return await readChunks(request.body, limits, deadline.passed)
  } finally {
    deadline.clear()
  }
}

/** Counts while reading, so that a body without a length is cut off at the bound and not after it. */
async function readChunks(
  body: ReadableStream<Uint8Array>,
  limits: BodyLimits,
  passed: Promise<undefined>,
): Promise<BodyResult> {
  const reader = body.getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  for (;;) {
    const next = await Promise.race([reader.read(), passed])
    if (next === undefined) {
      void reader.cancel().catch(() => undefined)
      return timedOut(limits)
    }
    if (next.done) return { ok: true, bytes: Buffer.concat(chunks, length) }
    length += next.value.length
    if (length > limits.maxBytes) {
      void reader.cancel().catch(() => undefined)
      return tooLarge(limits, '', true)
    }
    chunks.push(next.value)
  }
}

/** A body as a stream of decompressed pieces, read only as fast as they are taken. Fails when it is not what its encoding says. */
export function streamBody(body: ReadableStream<Uint8Array>, encoding: Encoding): AsyncIterable<Uint8Array> {
  if (encoding === 'identity') return body
  const decoder = encoding === 'gzip' ? createGunzip() : createZstdDecompress({ params: ZSTD_WINDOW })
  const source = Readable.from(body)
  // pipe() forwards no errors, and a decoder that waits for a source that is gone would wait for ever.
  source.on('error', (error) => decoder.destroy(error))
  decoder.on('close', () => source.destroy())
  return source.pipe(decoder)
}

const tooLarge = (limits: BodyLimits, when: string, closes = false): BodyResult => ({
  ok: false,
  problem: {
    kind: 'body-too-large',
    detail: `The body is larger than MAX_BODY_BYTES=${limits.maxBytes}${when}: send smaller batches, or application/x-ndjson.`,
    closes,
  },
})

const timedOut = (limits: BodyLimits): BodyResult => ({
  ok: false,
  problem: {
    kind: 'request-timeout',
    detail: `The body has not arrived within ${limits.timeoutMs} ms (REQUEST_TIMEOUT_MS less DELIVERY_TIMEOUT_MS).`,
    closes: true,
  },
})

/** A promise that resolves when the time is over. */
function deadlineIn(ms: number): { passed: Promise<undefined>; clear(): void } {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const timer = setTimeout(resolve, ms)
  return { passed: promise, clear: () => clearTimeout(timer) }
}
