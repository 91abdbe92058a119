import { Readable } from 'node:stream'
import { constants, createGunzip, createZstdDecompress, gunzip, type Zlib, zstdDecompress } from 'node:zlib'
import { type OrProblem, type Problem, ProblemError } from '../shared/http/problem.ts'
import { mapWithin } from '../shared/service/retry.ts'
import type { Encoding } from './media-type.ts'
import { ZstdFrames } from './zstd.ts'

/** Reads and decompresses bodies within a deadline and a bound on their size. */

export type BodyResult = OrProblem<{ bytes: Buffer }>

export interface BodyLimits {
  maxBytes: number
  timeoutMs: number
  /** The body's announced length; undefined when it is chunked. */
  announcedBytes: number | undefined
  /** Bytes that are set aside already. */
  heldBytes: number
  /** Sets aside so many in all, or returns why there is no room. */
  hold(bytes: number): Problem | undefined
}

/** RFC 8878, section 3.1.1.1.2: a decoder should support windows of 8 MB. A frame must not make it allocate more. */
const ZSTD_WINDOW_LOG = 23
const ZSTD_PARAMS = { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG }

type Compression = Exclude<Encoding, 'identity'>

/** Reads and decompresses a body. Rejects when the client disconnects. */
export function readBody(request: Request, encoding: Encoding, limits: BodyLimits): Promise<BodyResult> {
  const raw = readRaw(request, limits)
  return encoding === 'identity' ? raw : raw.then((read) => (read.ok ? decompress(read.bytes, encoding, limits) : read))
}

/** Both decoders of Bun 1.4.5 miss something without an error: a zstd frame that is cut off, and bytes that follow zeros after gzip. */
async function decompress(bytes: Buffer, encoding: Compression, limits: BodyLimits): Promise<BodyResult> {
  if (encoding === 'zstd') {
    const frames = new ZstdFrames()
    const fault = frames.push(bytes) ?? frames.end()
    if (fault !== undefined) return { ok: false, problem: notValid(encoding, fault) }
  }
  const full = noRoom(limits.hold(limits.maxBytes))
  if (full !== undefined) return full
  try {
    const { buffer, engine } = await inflate(bytes, encoding, limits.maxBytes)
    return engine.bytesWritten < bytes.length
      ? { ok: false, problem: notValid(encoding, MORE_FOLLOWS) }
      : { ok: true, bytes: buffer }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
      ? tooLarge(limits, ' after decompression')
      : { ok: false, problem: decodingProblem(encoding, error as Error) }
  }
}

function inflate(bytes: Buffer, encoding: Compression, maxOutputLength: number): Promise<Inflated> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, result: unknown) =>
      error === null ? resolve(result as Inflated) : reject(error)
    if (encoding === 'gzip') gunzip(bytes, { maxOutputLength, info: true }, done)
    else zstdDecompress(bytes, { maxOutputLength, info: true, params: ZSTD_PARAMS }, done)
  })
}

/** The result of zlib with `info`. */
interface Inflated {
  buffer: Buffer
  engine: Zlib
}

const MORE_FOLLOWS = 'more bytes follow it'

const notValid = (encoding: Compression, why: string): Problem => ({
  kind: 'malformed',
  detail: `The body is not valid ${encoding}: ${why}.`,
})

function decodingProblem(encoding: Compression, error: NodeJS.ErrnoException): Problem {
  if (error.code === 'ZSTD_error_frameParameter_windowTooLarge')
    return {
      kind: 'malformed',
      detail: `The body needs a zstd window of more than ${2 ** ZSTD_WINDOW_LOG} bytes to decompress (RFC 8878, section 3.1.1.1.2): compress it with a smaller one, such as without --long and --ultra.`,
    }
  return notValid(encoding, error.message)
}

function readRaw(request: Request, limits: BodyLimits): Promise<BodyResult> {
  const announced = limits.announcedBytes
  if (announced !== undefined && announced > limits.maxBytes) return Promise.resolve(tooLarge(limits, '', true))
  // The announced length may be wrong: where it is not set aside, the body is counted as it arrives.
  if (announced === undefined || !(announced <= limits.heldBytes))
    return request.body === null
      ? Promise.resolve({ ok: true, bytes: Buffer.alloc(0) })
      : readChunks(request.body, limits)
  return mapWithin(request.arrayBuffer(), limits.timeoutMs, (bytes) =>
    bytes === undefined ? timedOut(limits) : { ok: true, bytes: Buffer.from(bytes) },
  )
}

/** Counts while reading, so that a body without a length is not read beyond the bound. */
async function readChunks(body: ReadableStream<Uint8Array>, limits: BodyLimits): Promise<BodyResult> {
  const reader = body.getReader()
  const deadlineMs = performance.now() + limits.timeoutMs
  const gathered = new Gathered()
  for (;;) {
    const next = await mapWithin(reader.read(), deadlineMs - performance.now(), (read) => read)
    if (next === undefined) {
      void reader.cancel().catch(() => undefined)
      return timedOut(limits)
    }
    if (next.done) return { ok: true, bytes: gathered.take() }
    const length = gathered.length + next.value.length
    const refused =
      length > limits.maxBytes ? tooLarge(limits, '', true) : noRoom(limits.hold(Math.max(length, limits.heldBytes)))
    if (refused !== undefined) {
      void reader.cancel().catch(() => undefined)
      return refused
    }
    gathered.add(next.value)
  }
}

const noRoom = (problem: Problem | undefined): BodyResult | undefined =>
  problem === undefined ? undefined : { ok: false, problem: { ...problem, closes: true } }

/**
 * Joins pieces, without a copy where there is only one. More are copied as they arrive: each piece kept would take 0.2 KB besides, and a client may send single
 * bytes.
 */
export class Gathered {
  #bytes = NONE
  length = 0

  add(piece: Uint8Array): void {
    if (this.length === 0) this.#bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    else {
      const needed = this.length + piece.length
      if (needed > this.#bytes.length) {
        const larger = Buffer.allocUnsafe(Math.max(needed, 2 * this.length))
        this.#bytes.copy(larger, 0, 0, this.length)
        this.#bytes = larger
      }
      this.#bytes.set(piece, this.length)
    }
    this.length += piece.length
  }

  /** The bytes since the last call. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.length)
    this.#bytes = NONE
    this.length = 0
    return taken
  }
}

const NONE: Buffer = Buffer.alloc(0)

/**
 * A body as a stream of decompressed pieces, read only as fast as they are taken.
 * @param decodes sets aside what the decoder needs, bytes; returns why there is no room
 * @throws ProblemError when the body is not validly encoded or there is no room; the body's own error when the client breaks off
 */
export function streamBody(
  body: AsyncIterable<Uint8Array>,
  encoding: Encoding,
  decodes: (bytes: number) => Problem | undefined,
): AsyncIterable<Uint8Array> {
  return encoding === 'identity' ? body : decoded(body, encoding, decodes)
}

async function* decoded(
  body: AsyncIterable<Uint8Array>,
  encoding: Compression,
  decodes: (bytes: number) => Problem | undefined,
): AsyncGenerator<Uint8Array> {
  const decoder = encoding === 'gzip' ? createGunzip() : createZstdDecompress({ params: ZSTD_PARAMS })
  const frames = encoding === 'zstd' ? new ZstdFrames() : undefined
  let readBytes = 0
  let windowBytes = 0
  async function* watched(): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      readBytes += piece.length
      const fault = frames?.push(piece)
      if (fault !== undefined) throw new ProblemError(notValid(encoding, fault))
      // The decoder itself refuses a larger window.
      const needed = Math.min(frames?.windowBytes ?? 0, 2 ** ZSTD_WINDOW_LOG)
      if (needed > windowBytes) {
        windowBytes = needed
        const full = decodes(needed)
        if (full !== undefined) throw new ProblemError(full)
      }
      yield piece
    }
    const fault = frames?.end()
    if (fault !== undefined) throw new ProblemError(notValid(encoding, fault))
  }
  const source = Readable.from(watched())
  let sourceFailed = false
  // pipe() forwards no errors; without this the decoder would wait indefinitely for a source that has failed.
  source.on('error', (error) => {
    sourceFailed = true
    decoder.destroy(error)
  })
  decoder.on('close', () => source.destroy())
  try {
    yield* source.pipe(decoder)
  } catch (error) {
    throw sourceFailed ? error : new ProblemError(decodingProblem(encoding, error as Error))
  }
  if (decoder.bytesWritten < readBytes) throw new ProblemError(notValid(encoding, MORE_FOLLOWS))
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
