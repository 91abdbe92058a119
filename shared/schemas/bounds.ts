import { pointerTo, stepsOf } from '../events/json-pointer.ts'
import { type Draft, isSchema, type JsonSchema, subSchemas } from './json-schema.ts'
import { patternOf } from './patterns.ts'

/** What a schema may cost: found before it is compiled, since whoever wrote it may mean harm. */
export interface Bounds {
  /** Each with a pointer into the schema. */
  faults: string[]
  /** A check takes a time that grows with the data alone, at a bounded rate. */
  isLinear: boolean
  /** It refers to its draft's own schema. */
  refersToDraft: boolean
  /** Of members that the schema names. */
  names: ReadonlySet<string>
}

/** Definitions are only looked at where something refers to them. */
const DEFINITIONS = new Set(['$defs', 'definitions'])

/** Each schema counts as often as something refers to it: ten that refer to ten twice over each are a thousand. */
const MAX_EXPANDED = 50_000
/** With more, a check of a small event may take milliseconds. */
const LINEAR_EXPANDED = 2_000
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
  #isLinear = true
  #refersToDraft = false

  constructor(private readonly draft: Draft) {}

  visit(schema: JsonSchema, pointer: string, outerBase: string): void {
    if (typeof schema === 'boolean') return
    this.#visited.add(schema)
    const base = this.#identify(schema, pointer, outerBase)
    if (pointer === '') this.#targets.set(NO_BASE, schema)
    const { $ref } = schema
    if (typeof $ref === 'string') {
      const to = resolved($ref, base)
      if (to === undefined) this.#faults.push(`${pointer}/$ref: ${$ref} is no URI reference`)
      else this.#references.set(schema, { to, pointer: `${pointer}/$ref` })
    }
    // What it refers to depends on how it was reached.
    if (schema['$dynamicRef'] !== undefined) this.#faults.push(`${pointer}/$dynamicRef: is not supported: use $ref`)
    // Ajv compares each element with each other one, unless it knows them to be scalars.
    if (schema['uniqueItems'] === true && !areScalars(schema['items'])) this.#isLinear = false
    this.#look(schema, pointer)
    for (const { pointer: at, schema: inner } of subSchemas(schema)) this.visit(inner, pointer + at, base)
  }

  /** Notes what references may name it by. @returns the base URI in it */
  #identify(schema: Exclude<JsonSchema, boolean>, pointer: string, outerBase: string): string {
    const { $id, $anchor, $dynamicAnchor } = schema
    let base = outerBase
    if (typeof $id === 'string') {
      const uri = resolved($id, outerBase)
      if (uri === undefined) this.#faults.push(`${pointer}/$id: ${$id} is no URI reference`)
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
    if (typeof pattern === 'string') this.#try(pattern, `${pointer}/pattern`)
    if (isSchema(patternProperties))
      for (const one of Object.keys(patternProperties)) this.#try(one, `${pointer}/patternProperties${pointerTo(one)}`)
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
    try {
      patternOf(pattern)
    } catch (error) {
      this.#faults.push(`${pointer}: ${(error as Error).message}`)
    }
  }

  bounds(root: JsonSchema): Bounds {
    const expanded = this.#expanded(root)
    if (expanded > MAX_EXPANDED)
      this.#faults.push(`has more than ${MAX_EXPANDED} schemas, each counted as often as something refers to it`)
    return {
      faults: this.#faults,
      refersToDraft: this.#refersToDraft,
      isLinear: this.#isLinear && expanded <= LINEAR_EXPANDED,
      names: this.#names,
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
        this.#isLinear = false
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
      this.#isLinear = false
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
