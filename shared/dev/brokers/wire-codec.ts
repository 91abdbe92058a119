/**
 * Kafka's protocol over one connection: requests with header v1, and the types of non-flexible versions. Types of flexible versions are named
 * `compact`; their tagged fields are written empty and skipped when read.
 */
import { connect } from 'node:net'

const maxResponseBytes = 16 * 1024 * 1024

/** A request's API key and version. */
export interface Api {
  readonly key: number
  readonly version: number
}

/** One request on a connection of its own. Rejects, with the address, when there is no answer in time. */
export function request(address: string, api: Api, body: Encoder, timeoutMs: number): Promise<Decoder> {
  const colon = address.lastIndexOf(':')
  const header = new Encoder().int16(api.key).int16(api.version).int32(1).string('kafkatrace-broker-check')
  const message = Buffer.concat([header.bytes(), body.bytes()])
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) })
    const fail = (why: string) => {
      clearTimeout(timer)
      socket.destroy()
      reject(new Error(`${address} ${why}`))
    }
    const timer = setTimeout(() => fail(`did not answer within ${timeoutMs} ms`), timeoutMs)
    let received = Buffer.alloc(0)
    socket.once('connect', () => socket.write(Buffer.concat([new Encoder().int32(message.length).bytes(), message])))
    socket.on('error', (error) => fail(`cannot be reached (${error.message})`))
    socket.on('close', () => fail('closed the connection'))
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length < 4) return
      const length = received.readInt32BE(0)
      if (length < 4 || length > maxResponseBytes) return fail('does not speak the Kafka protocol')
      if (received.length < 4 + length) return
      clearTimeout(timer)
      socket.destroy()
      resolve(new Decoder(received.subarray(8, 4 + length)))
    })
  })
}

export class Encoder {
  readonly #parts: Buffer[] = []

  int8(value: number): this {
    return this.#write(1, (buffer) => buffer.writeInt8(value))
  }

  int16(value: number): this {
    return this.#write(2, (buffer) => buffer.writeInt16BE(value))
  }

  int32(value: number): this {
    return this.#write(4, (buffer) => buffer.writeInt32BE(value))
  }

  int64(value: number): this {
    return this.#write(8, (buffer) => buffer.writeBigInt64BE(BigInt(value)))
  }

  string(value: string): this {
    const bytes = Buffer.from(value)
    this.int16(bytes.length)
    this.#parts.push(bytes)
    return this
  }

  array<Item>(items: readonly Item[], encode: (encoder: this, item: Item) => void): this {
    this.int32(items.length)
    for (const item of items) encode(this, item)
    return this
  }

  /** Of fewer than 127 bytes. */
  compactString(value: string): this {
    return this.compactBytes(Buffer.from(value))
  }

  /** At most 126. */
  compactBytes(bytes: Buffer): this {
    this.int8(bytes.length + 1)
    this.#parts.push(bytes)
    return this
  }

  /** Of fewer than 127 items. */
  compactArray<Item>(items: readonly Item[], encode: (encoder: this, item: Item) => void): this {
    this.int8(items.length + 1)
    for (const item of items) encode(this, item)
    return this
  }

  noTags(): this {
    return this.int8(0)
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts)
  }

  #write(bytes: number, write: (buffer: Buffer) => void): this {
    const buffer = Buffer.alloc(bytes)
    write(buffer)
    this.#parts.push(buffer)
    return this
  }
}

export class Decoder {
  readonly #bytes: Buffer
  #offset = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  int8(): number {
    return this.#bytes.readInt8(this.#advance(1))
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#advance(2))
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#advance(4))
  }

  int64(): number {
    return Number(this.#bytes.readBigInt64BE(this.#advance(8)))
  }

  string(): string | null {
    const length = this.int16()
    if (length < 0) return null
    const start = this.#advance(length)
    return this.#bytes.toString('utf8', start, start + length)
  }

  array<Item>(decode: () => Item): Item[] {
    const length = this.int32()
    const items: Item[] = []
    for (let index = 0; index < length; index++) items.push(decode())
    return items
  }

  compactString(): string | null {
    const length = this.#unsigned() - 1
    if (length < 0) return null
    const start = this.#advance(length)
    return this.#bytes.toString('utf8', start, start + length)
  }

  compactArray<Item>(decode: () => Item): Item[] {
    const length = this.#unsigned() - 1
    const items: Item[] = []
    for (let index = 0; index < length; index++) items.push(decode())
    return items
  }

  skipTags(): void {
    for (let left = this.#unsigned(); left > 0; left--) {
      this.#unsigned()
      this.#advance(this.#unsigned())
    }
  }

  /** An unsigned varint: seven bits a byte, the lowest first. */
  #unsigned(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.#bytes.readUInt8(this.#advance(1))
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
  }

  #advance(bytes: number): number {
    const at = this.#offset
    this.#offset += bytes
    return at
  }
}
