import Ajv from 'ajv'
import { pointerTo, stepsOf } from '../../events/json-pointer.ts'
import { addBoundedFormats } from '../formats.ts'
import { type Draft, isSchema, type JsonSchema, subSchemas } from '../json-schema.ts'
import { type Pattern, patternOf } from '../patterns.ts'
import type { Schema } from '../verdict.ts'

/**
 * Schemas in one form, whatever their draft: a node is a list of assertions, which all have to hold. Annotations are gone. Both schemas of a comparison are in
 * one {@link Nodes}, so that their nodes can be told apart by number.
 */

/** JSON Schema's types as bits. Numbers are two: `integer` is the whole ones, so that `number` is both. */
export const KIND = { null: 1, boolean: 2, integer: 4, fraction: 8, string: 16, array: 32, object: 64 } as const
export const NUMBERS = KIND.integer | KIND.fraction
export const ALL_KINDS = 127

/** Which {@link KIND} a value is of. */
export function kindOf(value: unknown): number {
  if (value === null) return KIND.null
  if (Array.isArray(value)) return KIND.array
  switch (typeof value) {
    case 'boolean':
      return KIND.boolean
    case 'number':
      return Number.isInteger(value) ? KIND.integer : KIND.fraction
    case 'string':
      return KIND.string
    default:
      return KIND.object
  }
}

/** What the members of an object have to be: every schema whose name or pattern fits; `rest` where none fits. */
export interface Members {
  properties: ReadonlyMap<string, Node>
  patterns: readonly { text: string; pattern: Pattern; node: Node }[]
  /** undefined: anything. */
  rest: Node | undefined
}

/** What the elements of an array have to be. */
export interface Items {
  prefix: readonly Node[]
  /** Of those behind the prefix. undefined: anything. */
  rest: Node | undefined
}

export interface Contains {
  node: Node
  min: number
  max: number
}

export interface Bound {
  at: number
  /** Without the number itself. */
  open: boolean
}

export interface Format {
  name: string
  test(text: string): boolean
}

/** One assertion. Those about one type hold for data of any other. */
export type Assertion =
  | { is: 'kinds'; mask: number }
  | { is: 'values'; values: readonly unknown[] }
  | ({ is: 'lower' | 'upper' } & Bound)
  | { is: 'multipleOf'; of: number }
  | { is: 'minLength' | 'maxLength' | 'minItems' | 'maxItems' | 'minProperties' | 'maxProperties'; count: number }
  | { is: 'pattern'; text: string; pattern: Pattern }
  | { is: 'format'; format: Format }
  | ({ is: 'members' } & Members)
  | { is: 'required'; name: string }
  | { is: 'names'; node: Node }
  | { is: 'dependent'; name: string; node: Node }
  | ({ is: 'items' } & Items)
  | ({ is: 'contains' } & Contains)
  | { is: 'unique' }
  | { is: 'all'; node: Node }
  | { is: 'any' | 'one'; nodes: readonly Node[] }
  | { is: 'not'; node: Node }
  | { is: 'if'; condition: Node; yes: Node; no: Node }
  /** Beyond what can be reasoned about. With the same text, in schemas that are the same otherwise, it means the same. */
  | { is: 'opaque'; keyword: string; text: string; node: Node | undefined }

/** An assertion and the pointer to its keyword, in the schema that it is of. */
export type Atom = Assertion & { pointer: string }

export class Node {
  #atoms: readonly Atom[] | undefined

  constructor(
    readonly id: number,
    readonly pointer: string,
    private readonly make: () => readonly Atom[],
  ) {}

  /** Made when they are asked for, since schemas may refer to themselves. */
  get atoms(): readonly Atom[] {
    this.#atoms ??= this.make()
    return this.#atoms
  }
}

/** The same for the same nodes in whatever order. */
export const keyOf = (nodes: Iterable<Node>): string =>
  [...new Set([...nodes].map(({ id }) => id))].sort((one, other) => one - other).join(' ')

/** The nodes of a comparison. */
export class Nodes {
  #next = 0
  readonly #made = new Map<string, Node>()
  readonly always = this.add('', () => [])
  readonly never = this.add('', () => [{ is: 'kinds', mask: 0, pointer: '' }])

  add(pointer: string, make: () => readonly Atom[]): Node {
    return new Node(this.#next++, pointer, make)
  }

  of(schema: Schema): Node {
    return new Document(this, schema).root
  }

  /** What the node refuses. */
  not(node: Node): Node {
    return this.#once(`not ${node.id}`, node.pointer, () => [{ is: 'not', node, pointer: node.pointer }])
  }

  kinds(mask: number): Node {
    return this.#once(`kinds ${mask}`, '', () => [{ is: 'kinds', mask, pointer: '' }])
  }

  required(name: string): Node {
    return this.#once(`required ${name}`, '', () => [{ is: 'required', name, pointer: '' }])
  }

  pattern(text: string): Node {
    return this.#once(`pattern ${text}`, '', () => [{ is: 'pattern', text, pattern: patternOf(text), pointer: '' }])
  }

  value(value: unknown): Node {
    return this.#once(`value ${JSON.stringify(value)}`, '', () => [{ is: 'values', values: [value], pointer: '' }])
  }

  /** Asserts one atom of another node. */
  atom(of: Node, atom: Atom): Node {
    return this.#once(`atom ${of.id} ${of.atoms.indexOf(atom)}`, atom.pointer, () => [atom])
  }

  #once(key: string, pointer: string, make: () => readonly Atom[]): Node {
    return this.#made.getOrInsertComputed(key, () => this.add(pointer, make))
  }
}

type Keywords = Exclude<JsonSchema, boolean>

interface Place {
  json: JsonSchema
  pointer: string
  /** Base URI. */
  base: string
}

const NO_BASE = 'schema://document/'

class Document {
  readonly root: Node
  readonly #draft: Draft
  readonly #json: JsonSchema
  readonly #nodes = new Map<string, Node>()
  /** By absolute URI, with a fragment where it is an anchor. */
  readonly #targets = new Map<string, Place>()

  constructor(
    private readonly nodes: Nodes,
    schema: Schema,
  ) {
    this.#draft = schema.draft
    this.#json = schema.document
    const place = { json: schema.document, pointer: '', base: NO_BASE }
    this.#targets.set(NO_BASE, place)
    this.#index(place)
    this.root = this.#node(place)
  }

  /** Notes what references may name. */
  #index({ json, pointer, base }: Place): void {
    if (typeof json === 'boolean') return
    const inner = this.#baseIn(json, base)
    const place = { json, pointer, base }
    if (typeof json['$id'] === 'string') this.#targets.set(resolved(json['$id'], base).replace(/#$/, ''), place)
    for (const keyword of ['$anchor', '$dynamicAnchor'])
      if (typeof json[keyword] === 'string') this.#targets.set(`${inner}#${json[keyword]}`, place)
    for (const sub of subSchemas(json)) this.#index({ json: sub.schema, pointer: pointer + sub.pointer, base: inner })
  }

  #baseIn(json: Keywords, base: string): string {
    const id = json['$id']
    // Draft-07: an $id that is a fragment is an anchor.
    return typeof id === 'string' && !id.startsWith('#') ? resolved(id, base).replace(/#.*$/, '') : base
  }

  #target(reference: string, base: string): Place | undefined {
    const uri = resolved(reference, base).replace(/#$/, '')
    const named = this.#targets.get(uri)
    if (named !== undefined) return named
    const [document = '', fragment = ''] = uri.split('#')
    let place = this.#targets.get(document)
    if (place === undefined || !fragment.startsWith('/')) return undefined
    let found: unknown = place.json
    let { pointer, base: at } = place
    for (const step of stepsOf(decoded(fragment))) {
      if (typeof found !== 'object' || found === null || !Object.hasOwn(found, step)) return undefined
      if (!Array.isArray(found)) at = this.#baseIn(found as Keywords, at)
      found = (found as Keywords)[step]
      pointer += pointerTo(step)
    }
    place = { json: found as JsonSchema, pointer, base: at }
    return isSchema(found) ? place : undefined
  }

  #node(place: Place): Node {
    return this.#nodes.getOrInsertComputed(place.pointer, () =>
      this.nodes.add(place.pointer, () => {
        const { json, pointer } = place
        if (typeof json === 'boolean') return json ? [] : [{ is: 'kinds', mask: 0, pointer }]
        return new Reader(this.nodes, this.#draft, json, place, (at) => this.#node(at), this).atoms()
      }),
    )
  }

  referred(reference: string, json: Keywords, base: string): Place | undefined {
    return this.#target(reference, this.#baseIn(json, base))
  }

  baseIn(json: Keywords, base: string): string {
    return this.#baseIn(json, base)
  }

  get json(): JsonSchema {
    return this.#json
  }
}

/** Reads the keywords of one schema. */
class Reader {
  readonly #atoms: Atom[] = []

  constructor(
    private readonly nodes: Nodes,
    private readonly draft: Draft,
    private readonly json: Keywords,
    private readonly place: Place,
    private readonly nodeAt: (place: Place) => Node,
    private readonly document: Document,
  ) {}

  atoms(): readonly Atom[] {
    this.#references()
    this.#types()
    this.#numbers()
    this.#strings()
    this.#objects()
    this.#arrays()
    this.#applicators()
    return this.#atoms
  }

  #add(keyword: string, assertion: Assertion): void {
    this.#atoms.push({ ...assertion, pointer: this.place.pointer + keyword })
  }

  #sub(pointer: string, json: unknown): Node {
    const base = this.document.baseIn(this.json, this.place.base)
    return this.nodeAt({ json: json as JsonSchema, pointer: this.place.pointer + pointer, base })
  }

  #one(keyword: string): Node | undefined {
    const json = this.json[keyword]
    return isSchema(json) ? this.#sub(`/${keyword}`, json) : undefined
  }

  #list(keyword: string): Node[] | undefined {
    const list = this.json[keyword]
    return Array.isArray(list) ? list.map((json, index) => this.#sub(`/${keyword}/${index}`, json)) : undefined
  }

  /** @returns name, schema and the pointer to it */
  #named(keyword: string): [string, Node][] {
    const members = this.json[keyword]
    if (typeof members !== 'object' || members === null) return []
    return Object.entries(members).map(([name, json]) => [name, this.#sub(`/${keyword}${pointerTo(name)}`, json)])
  }

  #opaque(keyword: string, text: string, node?: Node): void {
    this.#add(`/${keyword}`, { is: 'opaque', keyword, text, node })
  }

  #references(): void {
    const { $ref, $dynamicRef } = this.json
    if (typeof $ref === 'string') {
      const target = this.document.referred($ref, this.json, this.place.base)
      if (target === undefined) this.#opaque('$ref', $ref)
      else this.#add('/$ref', { is: 'all', node: this.nodeAt(target) })
    }
    // What it refers to depends on where a check came from, so it is the same as no other.
    if ($dynamicRef !== undefined && this.draft === '2020-12') this.#opaque('$dynamicRef', crypto.randomUUID())
  }

  #types(): void {
    const { type } = this.json
    if (type !== undefined)
      this.#add('/type', { is: 'kinds', mask: [type].flat().reduce((mask: number, name) => mask | maskOf(name), 0) })
    if (Array.isArray(this.json['enum'])) this.#add('/enum', { is: 'values', values: this.json['enum'] })
    if (Object.hasOwn(this.json, 'const')) this.#add('/const', { is: 'values', values: [this.json['const']] })
  }

  #number(keyword: string, use: (value: number) => Assertion | undefined): void {
    const value = this.json[keyword]
    const assertion = typeof value === 'number' ? use(value) : undefined
    if (assertion !== undefined) this.#add(`/${keyword}`, assertion)
  }

  #numbers(): void {
    this.#number('minimum', (at) => ({ is: 'lower', at, open: false }))
    this.#number('exclusiveMinimum', (at) => ({ is: 'lower', at, open: true }))
    this.#number('maximum', (at) => ({ is: 'upper', at, open: false }))
    this.#number('exclusiveMaximum', (at) => ({ is: 'upper', at, open: true }))
    this.#number('multipleOf', (of) => ({ is: 'multipleOf', of }))
  }

  #strings(): void {
    this.#number('minLength', (count) => (count > 0 ? { is: 'minLength', count } : undefined))
    this.#number('maxLength', (count) => ({ is: 'maxLength', count }))
    const { pattern, format } = this.json
    if (typeof pattern === 'string')
      this.#add('/pattern', { is: 'pattern', text: pattern, pattern: patternOf(pattern) })
    if (typeof format === 'string') for (const assertion of formatAssertions(format)) this.#add('/format', assertion)
  }

  #objects(): void {
    this.#number('minProperties', (count) => (count > 0 ? { is: 'minProperties', count } : undefined))
    this.#number('maxProperties', (count) => ({ is: 'maxProperties', count }))
    this.#members()
    const { required } = this.json
    if (Array.isArray(required))
      for (const [index, name] of required.entries()) this.#add(`/required/${index}`, { is: 'required', name })
    const names = this.#one('propertyNames')
    if (names !== undefined) this.#add('/propertyNames', { is: 'names', node: names })
    this.#dependents('dependencies')
    if (this.draft === 'draft-07') return
    this.#dependents('dependentRequired')
    this.#dependents('dependentSchemas')
  }

  #members(): void {
    const { properties, patternProperties } = this.json
    const rest = this.#one('additionalProperties')
    if (properties !== undefined || patternProperties !== undefined || rest !== undefined)
      this.#add('', {
        is: 'members',
        properties: new Map(this.#named('properties')),
        patterns: this.#named('patternProperties').map(([text, node]) => ({ text, pattern: patternOf(text), node })),
        rest,
      })
    const unevaluated = this.draft === '2020-12' ? this.#one('unevaluatedProperties') : undefined
    if (unevaluated === undefined || unevaluated.atoms.length === 0) return
    const seen = evaluatedNames(this.json, this.place.base, this.document)
    if (seen === 'all') return
    if (seen === 'depends') this.#opaque('unevaluatedProperties', '', unevaluated)
    else
      this.#add('', {
        is: 'members',
        properties: new Map([...seen.names].map((name) => [name, this.nodes.always])),
        patterns: [...seen.patterns].map((text) => ({ text, pattern: patternOf(text), node: this.nodes.always })),
        rest: unevaluated,
      })
  }

  #dependents(keyword: string): void {
    const members = this.json[keyword]
    if (typeof members !== 'object' || members === null) return
    for (const [name, value] of Object.entries(members as Record<string, unknown>)) {
      const at = `/${keyword}${pointerTo(name)}`
      const pointer = this.place.pointer + at
      const node = Array.isArray(value)
        ? this.nodes.add(pointer, () =>
            value.map((other: string, index) => ({ is: 'required', name: other, pointer: `${pointer}/${index}` })),
          )
        : this.#sub(at, value)
      this.#add(at, { is: 'dependent', name, node })
    }
  }

  #arrays(): void {
    this.#number('minItems', (count) => (count > 0 ? { is: 'minItems', count } : undefined))
    this.#number('maxItems', (count) => ({ is: 'maxItems', count }))
    if (this.json['uniqueItems'] === true) this.#add('/uniqueItems', { is: 'unique' })
    this.#items()
    const contains = this.#one('contains')
    if (contains === undefined) return
    const { minContains, maxContains } = this.draft === '2020-12' ? this.json : {}
    const min = typeof minContains === 'number' ? minContains : 1
    const max = typeof maxContains === 'number' ? maxContains : Number.POSITIVE_INFINITY
    // In both cases, Ajv lets some arrays pass that have too few.
    if (min > max || this.json['prefixItems'] !== undefined || Array.isArray(this.json['items']))
      this.#opaque('contains', `${min} ${max}`, contains)
    else if (min > 0 || max < Number.POSITIVE_INFINITY)
      this.#add('/contains', { is: 'contains', node: contains, min, max })
  }

  #items(): void {
    const isNew = this.draft === '2020-12'
    const prefix = this.#list(isNew ? 'prefixItems' : 'items')
    const rest = isNew || prefix === undefined ? this.#one('items') : this.#one('additionalItems')
    if (prefix !== undefined || rest !== undefined) this.#add('', { is: 'items', prefix: prefix ?? [], rest })
    const unevaluated = isNew ? this.#one('unevaluatedItems') : undefined
    if (unevaluated === undefined || unevaluated.atoms.length === 0 || rest !== undefined) return
    if (IN_PLACE.some((keyword) => Object.hasOwn(this.json, keyword)) || Object.hasOwn(this.json, 'contains'))
      this.#opaque('unevaluatedItems', '', unevaluated)
    else this.#add('', { is: 'items', prefix: (prefix ?? []).map(() => this.nodes.always), rest: unevaluated })
  }

  #applicators(): void {
    for (const [index, node] of (this.#list('allOf') ?? []).entries()) this.#add(`/allOf/${index}`, { is: 'all', node })
    const any = this.#list('anyOf')
    if (any !== undefined) this.#add('/anyOf', { is: 'any', nodes: any })
    const one = this.#list('oneOf')
    if (one !== undefined) this.#add('/oneOf', { is: 'one', nodes: one })
    const not = this.#one('not')
    if (not !== undefined) this.#add('/not', { is: 'not', node: not })
    const condition = this.#one('if')
    const [yes, no] = [this.#one('then'), this.#one('else')]
    if (condition !== undefined && (yes !== undefined || no !== undefined))
      this.#add('/if', { is: 'if', condition, yes: yes ?? this.nodes.always, no: no ?? this.nodes.always })
  }
}

/** Keywords that apply schemas to the same value. */
const IN_PLACE = ['$ref', '$dynamicRef', 'allOf', 'anyOf', 'oneOf', 'if', 'not', 'dependentSchemas', 'dependencies']

function maskOf(type: unknown): number {
  switch (type) {
    case 'number':
      return NUMBERS
    case 'null':
    case 'boolean':
    case 'integer':
    case 'string':
    case 'array':
    case 'object':
      return KIND[type]
    default:
      return 0
  }
}

const INT32 = 2 ** 31

/** As events are checked by. */
let formats: Ajv['formats'] | undefined

function formatAssertions(name: string): Assertion[] {
  if (name === 'int32')
    return [
      { is: 'kinds', mask: ALL_KINDS & ~KIND.fraction },
      { is: 'lower', at: -INT32, open: false },
      { is: 'upper', at: INT32 - 1, open: false },
    ]
  if (name === 'int64') return [{ is: 'kinds', mask: ALL_KINDS & ~KIND.fraction }]
  formats ??= addBoundedFormats(new Ajv()).formats
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined
  // Others say nothing, such as `password`.
  if (typeof format !== 'function') return []
  return [{ is: 'format', format: { name, test: (text) => (format as (text: string) => boolean)(text) } }]
}

type Evaluated = { names: Set<string>; patterns: Set<string> } | 'all' | 'depends'

/** Which members a schema's own keywords have evaluated, whatever the data. */
function evaluatedNames(json: Keywords, base: string, document: Document, open = new Set<JsonSchema>()): Evaluated {
  if (open.has(json) || open.size > 100) return 'depends'
  open.add(json)
  if (json['additionalProperties'] !== undefined) return 'all'
  if (open.size > 1 && json['unevaluatedProperties'] !== undefined) return 'all'
  if (
    ['$dynamicRef', 'anyOf', 'oneOf', 'if', 'dependentSchemas', 'dependencies'].some((key) => Object.hasOwn(json, key))
  )
    return 'depends'
  const names = new Set(Object.keys((json['properties'] ?? {}) as object))
  const patterns = new Set(Object.keys((json['patternProperties'] ?? {}) as object))
  const inner: Place[] = []
  const at = document.baseIn(json, base)
  for (const one of (json['allOf'] ?? []) as JsonSchema[]) inner.push({ json: one, pointer: '', base: at })
  if (typeof json['$ref'] === 'string') {
    const target = document.referred(json['$ref'], json, base)
    if (target === undefined) return 'depends'
    inner.push(target)
  }
  for (const place of inner) {
    if (typeof place.json === 'boolean') continue
    const found = evaluatedNames(place.json, place.base, document, open)
    if (typeof found === 'string') return found
    for (const name of found.names) names.add(name)
    for (const text of found.patterns) patterns.add(text)
  }
  return { names, patterns }
}

function resolved(reference: string, base: string): string {
  return URL.canParse(reference, base) ? new URL(reference, base).href : reference
}

function decoded(fragment: string): string {
  try {
    return decodeURIComponent(fragment)
  } catch {
    return fragment
  }
}
