import addFormats from 'ajv-formats'
import type { JsonSchema } from './json-schema.ts'

/**
 * A first draft of a schema, from data: types, names that are always there, formats that all values have. It takes everything that it was made from, says
 * nothing of other names, and keeps a bounded number of them.
 */

/** Of one schema, in all of its objects together, with those of one more event. */
const MAX_NAMES = 1_000
/** An object with more has data for names, such as ids. */
const MAX_NAMES_OF_OBJECT = 200
const MAX_NAME_CHARS = 100
/** Names that are numbers, addresses or ids. */
const DATA_NAME = /^\d+$|@|^[0-9a-f-]{16,}$/i
/** Of more names than this, one at least is in half of the objects, or they are data. */
const MAX_RARE_NAMES = 20
const MAX_DEPTH = 24

/** Values become an enum when they are few, at least two, and each is repeated. */
const MAX_ENUM_VALUES = 8
const MIN_REPEATS = 3
const MIN_ENUM_SAMPLES = 20
const MAX_ENUM_CHARS = 32
/** Words of a program: no digits, which ids and secrets have, and no capitals, which names of people have. */
const WORD = /^[a-z]+(?:[._-][a-z]+)*$/
/** Members whose values may be of a person, or secret: never an enum. */
const PRIVATE =
  /account|address|author|birth|contact|cookie|credential|customer|key|login|mail|member|name|owner|password|passwd|person|phone|pwd|secret|session|signature|street|token|user/i

const FORMATS = ['date-time', 'uuid', 'email', 'uri'] as const
type FormatName = (typeof FORMATS)[number]
/** Longer strings have none of these. */
const MAX_FORMAT_CHARS = 2_000

type TypeName = 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean' | 'null'

interface ObjectPart {
  count: number
  /** undefined: they are data, or too many. */
  members: Map<string, { count: number; node: Node }> | undefined
}

interface StringPart {
  count: number
  formats: FormatName[]
  /** How often each was seen; undefined: no words, or too many. */
  words: Map<string, number> | undefined
}

interface Node {
  types: Set<TypeName>
  object: ObjectPart | undefined
  string: StringPart | undefined
  items: Node | undefined
}

export class Inference {
  #events = 0
  #names = 0
  /** Names were left out, since there were too many. */
  #isPart = false
  readonly #root: Node = emptyNode()

  /** How many have been added. */
  get events(): number {
    return this.#events
  }

  /** @param data a value as `JSON.parse` gives it */
  add(data: unknown): void {
    this.#events++
    this.#take(this.#root, data, '', 0)
  }

  /** The schema of everything that was added. */
  schema(): JsonSchema {
    const notes = [
      `Inferred from ${this.#events} event${this.#events === 1 ? '' : 's'}: a draft to be read and narrowed by hand.`,
      ...(this.#isPart
        ? ['Objects whose names are data, such as ids, and what is nested very deep, are left open.']
        : []),
    ]
    return {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      $comment: notes.join(' '),
      ...schemaOf(this.#root),
    }
  }

  /** @param name of the member that it is the value of, or that its list is */
  #take(node: Node, value: unknown, name: string, depth: number): void {
    const type = typeOf(value)
    node.types.add(type)
    if (type === 'string') takeString(node, value as string, name)
    else if (type === 'array') {
      if (!this.#mayEnter(depth)) return
      for (const element of value as unknown[]) {
        node.items ??= emptyNode()
        this.#take(node.items, element, name, depth + 1)
      }
    } else if (type === 'object' && this.#mayEnter(depth)) this.#takeObject(node, value as object, depth)
  }

  #mayEnter(depth: number): boolean {
    if (depth < MAX_DEPTH) return true
    this.#isPart = true
    return false
  }

  #takeObject(node: Node, value: object, depth: number): void {
    node.object ??= { count: 0, members: new Map() }
    const part = node.object
    part.count++
    if (part.members === undefined) return
    for (const [name, inner] of Object.entries(value)) {
      // Making room may have left it open meanwhile.
      const { members } = part
      if (members === undefined) return
      let member = members.get(name)
      if (member === undefined) {
        if (name.length > MAX_NAME_CHARS || DATA_NAME.test(name) || members.size >= MAX_NAMES_OF_OBJECT) {
          this.#leaveOpen(part)
          return
        }
        member = { count: 0, node: emptyNode() }
        members.set(name, member)
        this.#names++
      }
      member.count++
      this.#take(member.node, inner, name, depth + 1)
    }
    if (this.#names > MAX_NAMES) this.#makeRoom()
  }

  #leaveOpen(part: ObjectPart): void {
    part.members = undefined
    this.#isPart = true
    this.#names = partsIn(this.#root).reduce((sum, { members }) => sum + (members?.size ?? 0), 0)
  }

  /** Leaves those objects open that have most names. */
  #makeRoom(): void {
    const size = ({ members }: ObjectPart): number => members?.size ?? 0
    while (this.#names > MAX_NAMES) {
      const [first, ...others] = partsIn(this.#root)
      if (first === undefined) return
      this.#leaveOpen(others.reduce((most, part) => (size(part) > size(most) ? part : most), first))
    }
  }
}

const emptyNode = (): Node => ({ types: new Set(), object: undefined, string: undefined, items: undefined })

function partsIn({ object, items }: Node): ObjectPart[] {
  const inner = items === undefined ? [] : partsIn(items)
  if (object === undefined) return inner
  return [object, ...[...(object.members?.values() ?? [])].flatMap(({ node }) => partsIn(node)), ...inner]
}

function typeOf(value: unknown): TypeName {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value as TypeName
}

function takeString(node: Node, text: string, name: string): void {
  node.string ??= { count: 0, formats: [...FORMATS], words: PRIVATE.test(name) ? undefined : new Map() }
  const part = node.string
  part.count++
  part.formats = part.formats.filter((format) => text.length <= MAX_FORMAT_CHARS && hasFormat(format, text))
  if (part.words === undefined) return
  const seen = part.words.get(text)
  const fits = seen !== undefined || (text.length <= MAX_ENUM_CHARS && WORD.test(text))
  if (!fits || (seen === undefined && part.words.size === MAX_ENUM_VALUES)) part.words = undefined
  else part.words.set(text, (seen ?? 0) + 1)
}

/** `shop:1` is a URI, too, and hardly meant as one. */
const MEANT_AS_URI = /^(?:[a-z][a-z0-9+.-]*:\/\/|urn:)/i

/** By the functions that schemas are checked with. */
function hasFormat(name: FormatName, text: string): boolean {
  if (name === 'uri' && !MEANT_AS_URI.test(text)) return false
  const format = addFormats.get(name) as RegExp | ((text: string) => boolean) | { validate: unknown }
  if (format instanceof RegExp) return format.test(text)
  const validate = typeof format === 'function' ? format : (format.validate as (text: string) => boolean)
  return validate(text)
}

function schemaOf({ types, object, string, items }: Node): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  // Each integer is a number.
  const names = [...types].filter((type) => type !== 'integer' || !types.has('number')).sort()
  if (names.length > 0) found['type'] = names.length === 1 ? names[0] : names
  if (string !== undefined) Object.assign(found, stringPart(string, types))
  if (object?.members !== undefined && object.members.size > 0) Object.assign(found, objectPart(object))
  if (items !== undefined) found['items'] = schemaOf(items)
  return found
}

function stringPart({ count, formats: [format], words }: StringPart, types: ReadonlySet<TypeName>): object {
  if (format !== undefined) return { format }
  const isEnum =
    types.size === 1 &&
    words !== undefined &&
    words.size > 1 &&
    count >= MIN_ENUM_SAMPLES &&
    [...words.values()].every((times) => times >= MIN_REPEATS)
  return isEnum ? { enum: [...words.keys()].sort() } : {}
}

function objectPart({ count, members = new Map() }: ObjectPart): object {
  const names = [...members.keys()].sort()
  if (names.length > MAX_RARE_NAMES && [...members.values()].every((member) => member.count < count / 2)) return {}
  const required = names.filter((name) => members.get(name)?.count === count)
  // Without a prototype, a member may have any name.
  const properties = Object.create(null) as Record<string, unknown>
  for (const name of names) properties[name] = schemaOf(members.get(name)?.node ?? emptyNode())
  return { ...(required.length > 0 ? { required } : {}), properties }
}
