/**
 * The structure of Zstandard data (RFC 8878, section 3.1): where its frames end. `node:zlib` of Bun 1.4.5 decodes what is there of a frame that is
 * cut, and drops what follows a frame and is none, without an error for either.
 */

const FRAME = 0xfd2fb528
/** The last four bits are anybody's. */
const SKIPPABLE = 0x184d2a50

/** Bytes of the frame's dictionary id and of its content's size, by their flags. */
const DICTIONARY_ID_BYTES = [0, 1, 2, 4]
const CONTENT_SIZE_BYTES = [0, 2, 4, 8]

const RLE_BLOCK = 1

/** Follows compressed data from its first byte on, whatever pieces it comes in. */
export class ZstdFrames {
  /** What comes next: a header, whose bytes are gathered, and what is done with it. */
  #next: (header: Buffer) => void = this.#magic
  #header = Buffer.alloc(4)
  #gathered = 0
  #wanted = 4
  /** Bytes of a block, a checksum or a skippable frame, which say nothing about the structure. */
  #skipped = 0
  #hasChecksum = false
  #frames = 0
  #fault: string | undefined

  /** What is wrong with the data up to here; undefined when nothing is. */
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

  /** What is wrong with the data as a whole, once all of it was given. */
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
    if (magic === FRAME) this.#expect(1, this.#descriptor)
    else if (magic - (magic % 16) === SKIPPABLE) this.#expect(4, this.#skippable)
    else this.#fault = this.#frames === 0 ? 'it does not begin with a frame' : 'what follows a frame is none'
  }

  #skippable(header: Buffer): void {
    this.#skipped = header.readUInt32LE(0)
    this.#expect(4, this.#magic)
  }

  #descriptor(header: Buffer): void {
    const descriptor = header[0] ?? 0
    const isSingleSegment = (descriptor & 0x20) !== 0
    const sizeFlag = descriptor >> 6
    this.#hasChecksum = (descriptor & 0x04) !== 0
    this.#skipped =
      (isSingleSegment ? 0 : 1) +
      (DICTIONARY_ID_BYTES[descriptor & 0x03] ?? 0) +
      (isSingleSegment && sizeFlag === 0 ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0))
    this.#expect(3, this.#block)
  }

  #block(header: Buffer): void {
    const block = header.readUIntLE(0, 3)
    this.#skipped = ((block >> 1) & 0x03) === RLE_BLOCK ? 1 : block >> 3
    if ((block & 1) === 0) return
    this.#frames++
    if (this.#hasChecksum) this.#skipped += 4
    this.#expect(4, this.#magic)
  }
}
