/**
 * The structure of Zstandard data (RFC 8878, section 3.1): where its frames end. `node:zlib` of Bun 1.4.5 decodes a frame that is cut off, and drops other bytes
 * after a frame, without an error for either.
 */

const FRAME = 0xfd2fb528
/** The last four bits are arbitrary. */
const SKIPPABLE = 0x184d2a50

/** Bytes of the frame's dictionary id and of its content's size, by their flags. */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4]
const CONTENT_SIZE_BYTES = [0, 2, 4, 8]

/** Window, dictionary id and content size. */
const MOST_HEADER_BYTES = 1 + 4 + 8

const RLE_BLOCK = 1

/** Follows compressed data from its first byte on, in pieces of any size. */
export class ZstdFrames {
  /** Reads the next header, once all its bytes are gathered. */
  #next: (header: Buffer) => void = this.#magic
  #header = Buffer.alloc(MOST_HEADER_BYTES)
  #gathered = 0
  #wanted = 4
  /** Bytes left of a block, a checksum or a skippable frame. */
  #skipped = 0
  #descriptor = 0
  #frames = 0
  /** The largest window that a frame so far needs. */
  windowBytes = 0
  #fault: string | undefined

  /** The fault of the data so far; undefined when there is none. */
  push(bytes: Uint8Array): string | undefined {
    let at = 0
    while (at < bytes.length && this.#fault === undefined) {
      if (this.#skipped > 0) {
        const passed = Math.min(this.#skipped, bytes.length - at)
        this.#skipped -= passed
        at += passed
        continue
      }
      this.#header[this.#gathered++] = bytes[at++] ?? 0
      if (this.#gathered < this.#wanted) continue
      this.#gathered = 0
      this.#next(this.#header)
    }
    return this.#fault
  }

  /** The fault of the data as a whole, after all of it was pushed. */
  end(): string | undefined {
    if (this.#fault !== undefined) return this.#fault
    if (this.#gathered > 0 || this.#skipped > 0 || this.#next !== this.#magic) return 'it ends within a frame'
    return this.#frames === 0 ? 'it holds no frame' : undefined
  }

  #expect(bytes: number, next: (header: Buffer) => void): void {
    this.#wanted = bytes
    this.#next = next
  }

  #magic(header: Buffer): void {
    const magic = header.readUInt32LE(0)
    if (magic === FRAME) this.#expect(1, this.#frame)
    else if (magic - (magic % 16) === SKIPPABLE) this.#expect(4, this.#skippable)
    else this.#fault = this.#frames === 0 ? 'it does not begin with a frame' : 'what follows a frame is none'
  }

  #skippable(header: Buffer): void {
    this.#skipped = header.readUInt32LE(0)
    this.#expect(4, this.#magic)
  }

  #frame(header: Buffer): void {
    this.#descriptor = header[0] ?? 0
    const { window, dictionary, size } = this.#fields()
    this.#expect(window + dictionary + size, this.#window)
  }

  /** Lengths of the frame header's fields, in bytes. Without a window field, the content size is the window. */
  #fields(): { window: number; dictionary: number; size: number } {
    const isSingleSegment = (this.#descriptor & 0x20) !== 0
    const sizeFlag = this.#descriptor >> 6
    return {
      window: isSingleSegment ? 0 : 1,
      dictionary: DICTIONARY_ID_BYTES[this.#descriptor & 0x03] ?? 0,
      size: isSingleSegment && sizeFlag === 0 ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0),
    }
  }

  #window(header: Buffer): void {
    const { window, dictionary, size } = this.#fields()
    const exponent = (header[0] ?? 0) >> 3
    const mantissa = (header[0] ?? 0) & 0x07
    const needed = window === 1 ? 2 ** (10 + exponent) * (1 + mantissa / 8) : sizeAt(header, dictionary, size)
    this.windowBytes = Math.max(this.windowBytes, needed)
    this.#expect(3, this.#block)
  }

  #block(header: Buffer): void {
    const block = header.readUIntLE(0, 3)
    this.#skipped = ((block >> 1) & 0x03) === RLE_BLOCK ? 1 : block >> 3
    if ((block & 1) === 0) return
    this.#frames++
    if ((this.#descriptor & 0x04) !== 0) this.#skipped += 4
    this.#expect(4, this.#magic)
  }
}

/** Section 3.1.1.1.4. */
function sizeAt(header: Buffer, at: number, bytes: number): number {
  if (bytes === 8) return header.readUInt32LE(at) + 2 ** 32 * header.readUInt32LE(at + 4)
  return header.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0)
}
