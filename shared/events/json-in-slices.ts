import { isUtf8 } from 'node:buffer'
import type { Sliced } from '../service/slices.ts'
import { pointerTo } from './json-pointer.ts'

/** JSON files of any size, read without keeping the thread. */

/** An object has a member twice, of which JSON.parse would take the last. */
export class TwiceError extends Error {
  /** @param pointer RFC 6901, to the object @param member its name, cut */
  constructor(
    readonly pointer: string,
    readonly member: string,
  ) {
    super(`a member is there twice, at ${pointer}`)
  }
}

/**
 * The same as of JSON.parse.
 * @throws TwiceError @throws SyntaxError for what is no JSON (RFC 8259) or is nested deeper
 */
export function* readJson(bytes: Buffer, maxDepth: number): Sliced<unknown> {
  if (!isUtf8(bytes)) throw new SyntaxError('it is not UTF-8')
  return yield* new Reader(bytes, maxDepth).whole()
}

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]

const isSpace = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
const endsScalar = (byte: number | undefined): boolean =>
  byte === undefined || byte === COMMA || byte === CLOSE_BRACE || byte === CLOSE_BRACKET || isSpace(byte)

/** So many values are read in one go. */
const VALUES_AT_ONCE = 32

class Reader {
  #at = 0
  #values = 0

  constructor(
    private readonly bytes: Buffer,
    private readonly maxDepth: number,
  ) {}

  *whole(): Sliced<unknown> {
    const value = yield* this.#value('', 0)
    this.#next()
    if (this.#at < this.bytes.length) throw new SyntaxError('something follows the value')
    return value
  }

  *#value(pointer: string, depth: number): Sliced<unknown> {
    if (++this.#values % VALUES_AT_ONCE === 0) yield
    const first = this.#next()
    if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return this.#scalar()
    if (depth === this.maxDepth) throw new SyntaxError('it is nested too deeply')
    this.#at++
    return yield* first === OPEN_BRACE ? this.#object(pointer, depth + 1) : this.#array(pointer, depth + 1)
  }

  *#object(pointer: string, depth: number): Sliced<unknown> {
    const object: Record<string, unknown> = {}
    for (let isFirst = true; !this.#ends(CLOSE_BRACE, isFirst); isFirst = false) {
      if (this.#next() !== QUOTE) throw new SyntaxError('a name is expected')
      const name = this.#scalar() as string
      if (Object.hasOwn(object, name)) throw new TwiceError(pointer, name.slice(0, 100))
      if (this.#next() !== COLON) throw new SyntaxError('a colon is expected')
      this.#at++
      const value = yield* this.#value(pointer + pointerTo(name), depth)
      // An assignment would set the prototype.
      if (name === '__proto__')
        Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
      else object[name] = value
    }
    return object
  }

  *#array(pointer: string, depth: number): Sliced<unknown> {
    const array: unknown[] = []
    for (let isFirst = true; !this.#ends(CLOSE_BRACKET, isFirst); isFirst = false)
      array.push(yield* this.#value(pointer + pointerTo(String(array.length)), depth))
    return array
  }

  /** Passes the end of an object or array, else the comma before what is next. */
  #ends(end: number, isFirst: boolean): boolean {
    const next = this.#next()
    if (next === end) {
      this.#at++
      return true
    }
    if (isFirst) return false
    if (next !== COMMA) throw new SyntaxError('a comma is expected')
    this.#at++
    return false
  }

  /** The first byte that is no space. */
  #next(): number | undefined {
    while (isSpace(this.bytes[this.#at])) this.#at++
    return this.bytes[this.#at]
  }

  #scalar(): unknown {
    const { bytes } = this
    const from = this.#at
    let end = from + 1
    if (bytes[from] !== QUOTE) while (!endsScalar(bytes[end])) end++
    else {
      for (; bytes[end] !== QUOTE; end++) {
        if (end >= bytes.length) throw new SyntaxError('a text does not end')
        if (bytes[end] === BACKSLASH) end++
      }
      end++
    }
    this.#at = end
    return JSON.parse(bytes.toString('utf8', from, end))
  }
}
