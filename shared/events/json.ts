/**
 * A strict JSON scanner (RFC 8259) that finds the members of objects and the positions of their values without parsing the values. An event's data is passed on
 * byte for byte (a number beyond 2^53 stays as it is), no member name can reach a prototype, and no document is expensive to parse.
 */
import { isUtf8 } from 'node:buffer'

export type JsonKind = 'object' | 'array' | 'string' | 'number' | 'true' | 'false' | 'null'

/** A value's position in the document: bytes `start` to `end` (exclusive). */
export interface JsonSpan {
  kind: JsonKind
  start: number
  end: number
}

export interface JsonMember extends JsonSpan {
  name: string
}

export interface JsonElement extends JsonSpan {
  /** undefined: it is no object. */
  members: JsonMember[] | undefined
}

/** The outermost value. */
export type JsonOutline =
  | { root: 'object'; members: JsonMember[] }
  | { root: 'array'; elements: JsonElement[] }
  | { root: 'scalar' }

export interface JsonFault {
  /** All but "syntax": over one of the {@link JsonLimits}. */
  reason: 'syntax' | 'too deep' | 'too many' | 'too many members'
  detail: string
}

export interface JsonLimits {
  /** Of objects and arrays, the outermost included. */
  maxDepth: number
  maxElements: number
  /** Of all objects whose members are listed; each member takes memory many times its size. */
  maxMembers: number
  /** Of one such object: crafted names can make each one be compared with all before it. */
  maxObjectMembers: number
}

export type JsonResult = { ok: true; outline: JsonOutline } | { ok: false; fault: JsonFault }

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const MINUS = 0x2d
const PLUS = 0x2b
const POINT = 0x2e
const ZERO = 0x30
const NINE = 0x39

/**
 * Lists the members of the outermost object, or of the objects in the outermost array; checks and skips everything deeper.
 *
 * Refuses, besides what RFC 8259 refuses: bytes that are not UTF-8, a byte order mark, duplicate names of listed members, and whatever exceeds the limits.
 */
export function outlineJson(bytes: Buffer, limits: JsonLimits): JsonResult {
  if (!isUtf8(bytes))
    return { ok: false, fault: { reason: 'syntax', detail: `the text is not valid UTF-8${hint(bytes)}` } }
  const scanner = new Scanner(bytes, limits)
  try {
    return { ok: true, outline: scanner.document() }
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, fault: { reason: error.reason, detail: error.message } }
    throw error
  }
}

/** The string at a span of kind `string`. May contain unpaired surrogates, as JSON allows. */
export function stringAt(bytes: Buffer, span: Pick<JsonSpan, 'start' | 'end'>): string {
  const text = bytes.toString('utf8', span.start + 1, span.end - 1)
  return text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text
}

function hint(bytes: Buffer): string {
  const [first, second] = bytes
  const isUtf16 = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)
  return isUtf16 ? ': it begins with the byte order mark of UTF-16' : ''
}

/** Unwinds the scanner from any depth; {@link outlineJson} catches it. */
class Refusal extends Error {
  constructor(
    readonly reason: JsonFault['reason'],
    detail: string,
  ) {
    super(detail)
  }
}

class Scanner {
  #at = 0
  #depth = 0
  readonly #bytes: Buffer
  readonly #limits: JsonLimits
  #membersLeft: number

  constructor(bytes: Buffer, limits: JsonLimits) {
    this.#bytes = bytes
    this.#limits = limits
    this.#membersLeft = limits.maxMembers
  }

  document(): JsonOutline {
    this.#space()
    const outline = this.#root()
    this.#space()
    if (this.#at < this.#bytes.length) this.#unexpected('the end of the text')
    return outline
  }

  #root(): JsonOutline {
    const first = this.#bytes[this.#at]
    if (first === OPEN_BRACE) {
      const members: JsonMember[] = []
      this.#object(members)
      return { root: 'object', members }
    }
    if (first === OPEN_BRACKET) {
      const elements: JsonElement[] = []
      this.#array(elements)
      return { root: 'array', elements }
    }
    // RFC 8259, section 8.1.
    if (first === 0xef && this.#bytes[this.#at + 1] === 0xbb && this.#bytes[this.#at + 2] === 0xbf)
      this.#refuse('a byte order mark (EF BB BF) stands before the text: leave it out')
    this.#skip()
    return { root: 'scalar' }
  }

  /** Checks an array. With `elements`, lists the members of its objects there. */
  #array(elements?: JsonElement[]): void {
    this.#enter()
    this.#space()
    if (this.#bytes[this.#at] !== CLOSE_BRACKET) {
      for (;;) {
        this.#space()
        if (elements?.length === this.#limits.maxElements)
          throw new Refusal('too many', `the array has more than ${this.#limits.maxElements} elements`)
        const members: JsonMember[] | undefined =
          elements !== undefined && this.#bytes[this.#at] === OPEN_BRACE ? [] : undefined
        const start = this.#at
        let kind: JsonKind = 'object'
        if (members === undefined) kind = this.#skip()
        else this.#object(members)
        elements?.push({ kind, start, end: this.#at, members })
        this.#space()
        const next = this.#bytes[this.#at]
        if (next === CLOSE_BRACKET) break
        if (next !== COMMA) this.#unexpected('"," or "]"')
        this.#at++
      }
    }
    this.#leave()
  }

  /** Checks an object. With `members`, lists its members there. */
  #object(members?: JsonMember[]): void {
    this.#enter()
    this.#space()
    if (this.#bytes[this.#at] !== CLOSE_BRACE) {
      // A Set pays only for many members, and most events have few.
      let names: Set<string> | undefined
      for (;;) {
        this.#space()
        if (members !== undefined && (--this.#membersLeft < 0 || members.length === this.#limits.maxObjectMembers))
          throw new Refusal('too many members', 'the text has more members than are listed')
        const nameAt = this.#at
        if (this.#bytes[nameAt] !== QUOTE) this.#unexpected('a member name in double quotes')
        this.#string()
        let name = ''
        if (members !== undefined) {
          name = this.#common(nameAt + 1, this.#at - 1) ?? stringAt(this.#bytes, { start: nameAt, end: this.#at })
          if (members.length === FEW) names = new Set(members.map((one) => one.name))
          if (names === undefined ? has(members, name) : names.has(name)) this.#refuse('a member is given twice')
          names?.add(name)
        }
        this.#space()
        if (this.#bytes[this.#at] !== COLON) this.#unexpected('":"')
        this.#at++
        this.#space()
        const start = this.#at
        const kind = this.#skip()
        members?.push({ name, kind, start, end: this.#at })
        this.#space()
        const next = this.#bytes[this.#at]
        if (next === CLOSE_BRACE) break
        if (next !== COMMA) this.#unexpected('"," or "}"')
        this.#at++
      }
    }
    this.#leave()
  }

  /** One of the common names, without decoding a string. */
  #common(start: number, end: number): string | undefined {
    const candidates = COMMON_NAMES[end - start]
    if (candidates === undefined) return undefined
    const bytes = this.#bytes
    next: for (const name of candidates) {
      for (let index = 0; index < name.length; index++)
        if (bytes[start + index] !== name.charCodeAt(index)) continue next
      return name
    }
    return undefined
  }

  /** Checks the value that starts here and moves past it. */
  #skip(): JsonKind {
    const byte = this.#bytes[this.#at]
    switch (byte) {
      case QUOTE:
        this.#string()
        return 'string'
      case OPEN_BRACE:
        this.#object()
        return 'object'
      case OPEN_BRACKET:
        this.#array()
        return 'array'
      case 0x74:
        this.#word('true')
        return 'true'
      case 0x66:
        this.#word('false')
        return 'false'
      case 0x6e:
        this.#word('null')
        return 'null'
      default:
        if (byte !== MINUS && (byte === undefined || byte < ZERO || byte > NINE)) this.#unexpected('a value')
        this.#number()
        return 'number'
    }
  }

  #enter(): void {
    if (++this.#depth > this.#limits.maxDepth)
      throw new Refusal('too deep', `the text is nested more than ${this.#limits.maxDepth} levels deep`)
    this.#at++
  }

  #leave(): void {
    this.#depth--
    this.#at++
  }

  #space(): void {
    const bytes = this.#bytes
    let at = this.#at
    for (;;) {
      const byte = bytes[at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break
      at++
    }
    this.#at = at
  }

  #string(): void {
    const bytes = this.#bytes
    let at = this.#at + 1
    const longAt = at + SHORT_STRING_BYTES
    for (;;) {
      if (at === longAt) at = this.#plainEnd(at)
      const byte = bytes[at]
      if (byte === undefined || byte < 0x20) {
        this.#at = at
        this.#unexpected('the rest of a string')
      }
      at++
      if (byte === QUOTE) break
      if (byte !== BACKSLASH) continue
      const escaped = bytes[at++]
      if (escaped === 0x75) {
        for (let digit = 0; digit < 4; digit++, at++) {
          if (!isHex(bytes[at])) {
            this.#at = at
            this.#unexpected('four hexadecimal digits')
          }
        }
      } else if (escaped === undefined || !ESCAPES.has(escaped)) {
        this.#at = at - 1
        this.#unexpected('a valid escape')
      }
    }
    this.#at = at
  }

  /** The position of the string's end or of its next special character, whichever is first. */
  #plainEnd(at: number): number {
    const end = this.#bytes.indexOf(QUOTE, at)
    if (end === -1) return at
    const special = this.#bytes.toString('latin1', at, end).search(NOT_PLAIN)
    return special === -1 ? end : at + special
  }

  #number(): void {
    if (this.#bytes[this.#at] === MINUS) this.#at++
    if (this.#bytes[this.#at] === ZERO) this.#at++
    else this.#digits()
    if (this.#bytes[this.#at] === POINT) {
      this.#at++
      this.#digits()
    }
    const exponent = this.#bytes[this.#at]
    if (exponent === 0x65 || exponent === 0x45) {
      this.#at++
      const sign = this.#bytes[this.#at]
      if (sign === PLUS || sign === MINUS) this.#at++
      this.#digits()
    }
  }

  #digits(): void {
    const from = this.#at
    for (;;) {
      const byte = this.#bytes[this.#at]
      if (byte === undefined || byte < ZERO || byte > NINE) break
      this.#at++
    }
    if (this.#at === from) this.#unexpected('a digit')
  }

  #word(word: string): void {
    for (let i = 0; i < word.length; i++) {
      if (this.#bytes[this.#at] !== word.charCodeAt(i)) this.#unexpected(word)
      this.#at++
    }
  }

  #unexpected(wanted: string): never {
    return this.#refuse(
      this.#at >= this.#bytes.length ? `the text ends where ${wanted} is expected` : `${wanted} is expected`,
    )
  }

  // With the position, not the content: problem documents are logged, payloads are not.
  #refuse(detail: string): never {
    throw new Refusal('syntax', `${detail} (byte ${this.#at})`)
  }
}

function has(members: readonly JsonMember[], name: string): boolean {
  for (let index = 0; index < members.length; index++) if (members[index]?.name === name) return true
  return false
}

/** By length. */
const COMMON_NAMES = ['specversion', 'id', 'source', 'type', 'subject', 'time', 'datacontenttype', 'data'].reduce<
  string[][]
>((table, name) => {
  table[name.length] = [...(table[name.length] ?? []), name]
  return table
}, [])

/** Up to so many members, comparing one by one is faster than a Set. */
const FEW = 16

/** Longer strings are searched natively, which takes half the time for 0.9 KB. */
const SHORT_STRING_BYTES = 32

// biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 8259, section 7: these are not allowed in a string as they are.
const NOT_PLAIN = /[\0-\x1f\\]/

const ESCAPES = new Set([...'"\\/bfnrt'].map((character) => character.charCodeAt(0)))

const isHex = (byte: number | undefined): boolean =>
  byte !== undefined &&
  ((byte >= ZERO && byte <= NINE) || (byte >= 0x61 && byte <= 0x66) || (byte >= 0x41 && byte <= 0x46))

/** Limits that are about the depth alone. */
export const anyJson = (maxDepth: number): JsonLimits => ({
  maxDepth,
  maxElements: Number.POSITIVE_INFINITY,
  maxMembers: Number.POSITIVE_INFINITY,
  maxObjectMembers: Number.POSITIVE_INFINITY,
})

/** What a fault says, with line and column in place of the byte, for texts that people write. */
export function placed(detail: string, bytes: Buffer): string {
  const at = Number(/byte (\d+)/.exec(detail)?.[1] ?? 0)
  const lines = bytes.toString('utf8', 0, at).split('\n')
  return `${detail.replace(/ \(byte \d+\)/, '')}, in line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1}`
}
