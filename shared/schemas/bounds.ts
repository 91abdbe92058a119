import { pointerTo, stepsOf } from '../events/json-pointer.ts'
import { type Draft, isSchema, type JsonSchema, subSchemas } from './json-schema.ts'
import { patternOf } from './patterns.ts'

/** What a schema may cost: found before it is compiled, since whoever wrote it may mean harm. */
export interface Bounds {
  /** Each with a pointer into the schema. */
  faults: string[]
  /** How many steps a check takes for a byte of data, at most; infinite where that depends on the data. */
  weight: number
  usesContains: boolean
  /** It refers to its draft's own schema. */
  refersToDraft: boolean
  /** Of members that the schema names. */
  names: ReadonlySet<string>
}

/** Keywords whose schemas are about the same data as the schema that they stand in. */
const IN_PLACE = new Set(['allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentSchemas', 'dependencies'])

/** Definitions are only looked at where something refers to them. */
const DEFINITIONS = new Set(['$defs', 'definitions'])

/** Each schema counts as often as something refers to it: ten that refer to ten twice over each are a thousand. */
const MAX_EXPANDED = 50_000
/** Compiling more takes the thread for seconds. */
const MAX_SCHEMAS = 2_000
const MAX_IDS = 100
const MAX_REFERENCE_CHARS = 1_000
/** Of all expressions of a schema. */
const MAX_PATTERNS_CHARS = 20_000
/** What a reference to a draft's own schema stands for. */
const META_EXPANDED = 200

/** Keywords whose value is an object by members' names. */
const NAMES_MEMBERS = ['properties', 'dependentRequired', 'dependentSchemas', 'dependencies']

const META = /^https?:\/\/json-schema\.org\/draft(?:\/2020-12\/(?:schema|meta\/)|-07\/schema)/
const NO_BASE = 'schema://document/'

/** Looks through a whole schema. */
export function schemaBounds(root: JsonSchema, draft: Draft): Bounds {
  const walk = new Walk(draft)
  walk.visit(root, '', NO_BASE)
  return walk.bounds(root)
}

class Walk {
  readonly #faults: string[] = []
  readonly #names = new Set<string>()
  /** By absolute URI, with a fragment where it is an anchor. */
  readonly #targets = new Map<string, JsonSchema>()
  readonly #references = new Map<JsonSchema, { to: string; pointer: string }>()
  readonly #visited = new Set<JsonSchema>()
  #isBounded = true
  #schemas = 0
  #ids = 0
  #patternChars = 0
  /** Of values that are compared one after the other. */
  #values = 0
  #refersToDraft = false
  #usesContains = false

  constructor(private readonly draft: Draft) {}

  visit(schema: JsonSchema, pointer: string, outerBase: string): void {
    if (typeof schema === 'boolean') return
    this.#visited.add(schema)
    // One too many is enough for its fault.
    if (++this.#schemas > MAX_SCHEMAS) return
    const base = this.#identify(schema, pointer, outerBase)
    if (pointer === '') this.#targets.set(NO_BASE, schema)
    const { $ref } = schema
    if (typeof $ref === 'string') {
      const to = $ref.length > MAX_REFERENCE_CHARS ? undefined : resolved($ref, base)
      if (to === undefined) this.#faults.push(`${pointer}/$ref: ${shown($ref)} is no URI reference`)
      else this.#references.set(schema, { to, pointer: `${pointer}/$ref` })
    }
    // What it refers to depends on how it was reached.
    for (const keyword of ['$dynamicRef', '$recursiveRef'])
      if (schema[keyword] !== undefined) this.#faults.push(`${pointer}/${keyword}: is not supported: use $ref`)
    // Ajv compares each element with each other one, unless it knows them to be scalars.
    if (schema['uniqueItems'] === true && !areScalars(schema['items'])) this.#isBounded = false
    this.#look(schema, pointer)
    for (const { pointer: at, schema: inner } of subSchemas(schema)) this.visit(inner, pointer + at, base)
  }

  /** Notes what references may name it by. @returns the base URI in it */
  #identify(schema: Exclude<JsonSchema, boolean>, pointer: string, outerBase: string): string {
    const { $id, $anchor, $dynamicAnchor } = schema
    let base = outerBase
    if (typeof $id === 'string') {
      this.#ids++
      const uri = $id.length > MAX_REFERENCE_CHARS ? undefined : resolved($id, outerBase)
      if (uri === undefined) this.#faults.push(`${pointer}/$id: ${shown($id)} is no URI reference`)
      else {
        this.#targets.set(uri.replace(/#$/, ''), schema)
        // Draft-07: an $id that is a fragment is an anchor.
        if (!$id.startsWith('#')) base = uri.replace(/#.*$/, '')
      }
    }
    for (const anchor of [$anchor, $dynamicAnchor])
      if (typeof anchor === 'string') this.#targets.set(`${base}#${anchor}`, schema)
    return base
  }

  /** Its regular expressions and the names in it. */
  #look(schema: Exclude<JsonSchema, boolean>, pointer: string): void {
    const { pattern, patternProperties, required } = schema
    if (schema['contains'] !== undefined) this.#usesContains = true
    if (Array.isArray(schema['enum'])) this.#values += schema['enum'].length
    if (typeof pattern === 'string') this.#try(pattern, `${pointer}/pattern`)
    if (isSchema(patternProperties))
      for (const one of Object.keys(patternProperties)) this.#try(one, `${pointer}/patternProperties${pointerTo(one)}`)
    if (Array.isArray(required)) this.#values += required.length
    this.#addNames(required)
    for (const keyword of NAMES_MEMBERS) {
      const value = schema[keyword]
      if (typeof value !== 'object' || value === null) continue
      this.#addNames(Object.keys(value))
      for (const inner of Object.values(value)) this.#addNames(inner)
    }
  }

  #addNames(names: unknown): void {
    if (Array.isArray(names)) for (const name of names) if (typeof name === 'string') this.#names.add(name)
  }

  #try(pattern: string, pointer: string): void {
    this.#patternChars += pattern.length
    if (this.#patternChars > MAX_PATTERNS_CHARS) return
    try {
      patternOf(pattern)
    } catch (error) {
      this.#faults.push(`${pointer}: ${(error as Error).message}`)
    }
  }

  bounds(root: JsonSchema): Bounds {
    const most = (count: number, limit: number, what: string): void => {
      if (count > limit) this.#faults.push(`has more than ${limit} ${what}`)
    }
    // What is too large is not looked at further.
    const expanded = this.#schemas > MAX_SCHEMAS ? 0 : this.#expanded(root)
    // After that, since it also visits what only a reference leads to.
    most(this.#schemas, MAX_SCHEMAS, 'schemas in it')
    most(this.#ids, MAX_IDS, '$id')
    most(this.#patternChars, MAX_PATTERNS_CHARS, 'characters of regular expressions')
    most(expanded, MAX_EXPANDED, 'schemas, each counted as often as something refers to it')
    if (this.#faults.length === 0) this.#findCircle()
    return {
      faults: this.#faults,
      refersToDraft: this.#refersToDraft,
      usesContains: this.#usesContains,
      weight: this.#isBounded ? expanded + this.#values : Number.POSITIVE_INFINITY,
      names: this.#names,
    }
  }

  /** Finds a schema that refers to itself without a step into the data: checking by it would never end. */
  #findCircle(): void {
    const states = new Map<JsonSchema, 'under way' | 'done'>()
    const follow = (schema: JsonSchema): boolean => {
      if (typeof schema === 'boolean' || states.get(schema) === 'done') return false
      if (states.get(schema) === 'under way') return true
      states.set(schema, 'under way')
      const reference = this.#references.get(schema)
      const target = reference === undefined ? undefined : this.#targetOf(reference.to)
      const next = subSchemas(schema).flatMap((one) => (IN_PLACE.has(one.keyword) ? one.schema : []))
      const isCircle = [...next, ...(target === undefined ? [] : [target])].some((one) => follow(one as JsonSchema))
      states.set(schema, 'done')
      return isCircle
    }
    for (const schema of this.#visited)
      if (follow(schema)) {
        this.#faults.push('refers to itself without a step into the data, as {"$ref": "#"} does')
        return
      }
  }

  /** How many schemas it stands for. */
  #expanded(root: JsonSchema): number {
    const counts = new Map<JsonSchema, number | 'under way'>()
    const count = (schema: JsonSchema): number => {
      if (typeof schema === 'boolean') return 1
      const known = counts.get(schema)
      if (known === 'under way') {
        // It refers to itself: how often depends on the data, and where it branches, the time may double with each level.
        this.#isBounded = false
        return 0
      }
      if (known !== undefined) return known
      counts.set(schema, 'under way')
      let sum = 1
      for (const { schema: inner, keyword } of subSchemas(schema)) if (!DEFINITIONS.has(keyword)) sum += count(inner)
      const reference = this.#references.get(schema)
      if (reference !== undefined) sum += this.#refers(reference.to, reference.pointer, count)
      counts.set(schema, Math.min(sum, MAX_EXPANDED + 1))
      return Math.min(sum, MAX_EXPANDED + 1)
    }
    return count(root)
  }

  #refers(to: string, pointer: string, count: (schema: JsonSchema) => number): number {
    const target = this.#targetOf(to)
    // It may stand where no keyword leads to.
    if (target !== undefined && !this.#visited.has(target)) this.visit(target, pointer, to.replace(/#.*$/, ''))
    if (target !== undefined) return count(target)
    if (META.test(to)) {
      this.#isBounded = false
      this.#refersToDraft = true
      return META_EXPANDED
    }
    this.#faults.push(
      `${pointer}: ${to.replace(NO_BASE, '')} is not in this ${this.draft} schema, and nothing is fetched: put it under $defs`,
    )
    return 0
  }

  #targetOf(to: string): JsonSchema | undefined {
    const named = this.#targets.get(to.replace(/#$/, ''))
    if (named !== undefined) return named
    const at = to.indexOf('#')
    if (at === -1) return undefined
    const fragment = to.slice(at + 1)
    if (!fragment.startsWith('/')) return undefined
    let found: unknown = this.#targets.get(to.slice(0, at))
    for (const step of stepsOf(decoded(fragment)))
      found =
        typeof found === 'object' && found !== null && Object.hasOwn(found, step)
          ? (found as Record<string, unknown>)[step]
          : undefined
    return isSchema(found) ? found : undefined
  }
}

const SCALARS = new Set(['string', 'number', 'integer', 'boolean', 'null'])

function areScalars(items: unknown): boolean {
  const type = isSchema(items) && typeof items === 'object' ? items['type'] : undefined
  const types = Array.isArray(type) ? type : [type]
  return types.every((one) => SCALARS.has(String(one)))
}

const shown = (text: string): string => (text.length <= 100 ? text : `${text.slice(0, 100).toWellFormed()}…`)

function resolved(reference: string, base: string): string | undefined {
  try {
    return new URL(reference, base).href
  } catch {
    return undefined
  }
}

function decoded(fragment: string): string {
  try {
    return decodeURIComponent(fragment)
  } catch {
    return fragment
  }
}
