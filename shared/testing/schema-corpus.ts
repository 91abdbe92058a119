import type { Draft } from '../schemas/json-schema.ts'

/** Schemas of events as people write them, and what they change in them. The same seed gives the same schemas. */

export interface SchemaFamily {
  older: MutableSchema
  changed: { change: string; newer: MutableSchema }[]
}

type MutableSchema = { [keyword: string]: unknown }

/** Numbers from 0 to 1, by Mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const NAMES = [
  'id',
  'total',
  'currency',
  'status',
  'customer',
  'lines',
  'note',
  'createdAt',
  'country',
  'tags',
  'address',
  'sku',
]
const WORDS = ['new', 'open', 'paid', 'shipped', 'closed']
const PATTERNS = ['^[A-Z]{3}$', '^[a-z]+$', '^\\d{4}-\\d{2}$']
const FORMATS = ['date-time', 'uuid', 'email', 'date']

/** Makes the schemas of one seed. */
export class SchemaCorpus {
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = randomOf(seed)
  }

  /** A schema, and as many changes of it. */
  family(count: number): SchemaFamily {
    const draft: Draft = this.#chance(0.6) ? 'draft-07' : '2020-12'
    const older = this.#document(draft)
    return { older, changed: Array.from({ length: count }, () => this.#changed(older, draft)) }
  }

  #changed(older: MutableSchema, draft: Draft): { change: string; newer: MutableSchema } {
    const newer = structuredClone(older)
    // Some fit every schema.
    for (;;) {
      const change = this.#pick(Object.keys(CHANGES))
      if (this.#change(newer, change, draft)) return { change, newer }
    }
  }

  #chance(share: number): boolean {
    return this.#random() < share
  }

  #upTo(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#upTo(list.length)] as T
  }

  #some<T>(list: readonly T[], share: number): T[] {
    return list.filter(() => this.#chance(share))
  }

  #document(draft: Draft): MutableSchema {
    const definitions = draft === '2020-12' ? '$defs' : 'definitions'
    const $schema =
      draft === '2020-12' ? 'https://json-schema.org/draft/2020-12/schema' : 'http://json-schema.org/draft-07/schema#'
    const event = this.#object(draft, 0, definitions)
    const isUsed = (name: string): boolean => JSON.stringify(event).includes(`#/${definitions}/${name}`)
    const shared = {
      ...(isUsed('money') ? { money: this.#object(draft, 2) } : {}),
      ...(isUsed('code') ? { code: this.#leaf() } : {}),
    }
    return { $schema, ...event, ...(Object.keys(shared).length > 0 ? { [definitions]: shared } : {}) }
  }

  #object(draft: Draft, depth: number, definitions?: string): MutableSchema {
    const names = [...new Set(Array.from({ length: 1 + this.#upTo(4) }, () => this.#pick(NAMES)))]
    const properties = Object.fromEntries(names.map((name) => [name, this.#member(draft, depth, definitions)]))
    const required = this.#some(names, 0.5)
    const content = this.#random()
    return {
      type: 'object',
      properties,
      ...(required.length > 0 ? { required } : {}),
      ...(content < 0.4 ? { additionalProperties: false } : {}),
      ...(content > 0.85 ? { additionalProperties: this.#leaf() } : {}),
      ...(this.#chance(0.06) ? { patternProperties: { '^x-': this.#leaf() } } : {}),
      ...(this.#chance(0.05) ? { minProperties: 1 } : {}),
      ...(this.#chance(0.05) ? { maxProperties: 6 } : {}),
      ...(this.#chance(0.05) ? { propertyNames: { pattern: '^[a-zA-Z-]+$' } } : {}),
      ...(this.#chance(0.08) && names.length > 1
        ? { [dependencies(draft)]: { [names[0] as string]: [names[1]] } }
        : {}),
    }
  }

  #member(draft: Draft, depth: number, definitions?: string): MutableSchema {
    const kind = this.#random()
    if (depth < 2 && kind < 0.14) return this.#object(draft, depth + 1, definitions)
    if (kind < 0.26) return this.#array(draft, depth, definitions)
    if (kind < 0.33) return { anyOf: [{ type: 'null' }, this.#leaf()] }
    if (kind < 0.38)
      return {
        oneOf: [
          { type: 'integer', minimum: 0 },
          { type: 'string', maxLength: 10 },
        ],
      }
    if (kind < 0.41) return { allOf: [this.#leaf()] }
    if (kind < 0.5 && definitions !== undefined)
      return { $ref: `#/${definitions}/${this.#chance(0.5) ? 'money' : 'code'}` }
    return this.#leaf()
  }

  #array(draft: Draft, depth: number, definitions?: string): MutableSchema {
    if (this.#chance(0.15)) {
      const tuple = [this.#leaf(), this.#leaf()]
      const isClosed = this.#chance(0.5)
      return draft === '2020-12'
        ? { type: 'array', prefixItems: tuple, ...(isClosed ? { items: false } : {}) }
        : { type: 'array', items: tuple, ...(isClosed ? { additionalItems: false } : {}) }
    }
    const items = depth < 2 ? this.#member(draft, depth + 1, definitions) : this.#leaf()
    return {
      type: 'array',
      items,
      ...(this.#chance(0.3) ? { minItems: 1 } : {}),
      ...(this.#chance(0.2) ? { maxItems: 10 } : {}),
      ...(this.#chance(0.15) ? { uniqueItems: true } : {}),
      ...(this.#chance(0.06) ? { contains: structuredClone(items) } : {}),
    }
  }

  #leaf(): MutableSchema {
    switch (this.#upTo(13)) {
      case 0:
        return { type: 'string', minLength: 1, maxLength: 20 }
      case 1:
        return { type: 'string', enum: this.#some(WORDS, 0.7).concat('other') }
      case 2:
        return { type: 'string', format: this.#pick(FORMATS) }
      case 3:
        return { type: 'string', pattern: this.#pick(PATTERNS) }
      case 4:
        return { type: 'integer', minimum: 0 }
      case 5:
        return { type: 'integer', minimum: 1, maximum: 100 }
      case 6:
        return { type: 'number', minimum: 0 }
      case 7:
        return { type: 'number', exclusiveMinimum: 0, maximum: 1000 }
      case 8:
        return { type: ['string', 'null'] }
      case 9:
        return { type: 'boolean' }
      case 10:
        return { type: 'integer', multipleOf: 10 }
      case 11:
        return { const: this.#pick(WORDS) }
      default:
        return { type: this.#pick(['string', 'number', 'integer']) }
    }
  }

  #change(root: MutableSchema, name: string, draft: Draft): boolean {
    const change = CHANGES[name]
    if (change === undefined) return false
    const places = schemasIn(root).filter((schema) => change.fits(schema))
    if (places.length === 0) return false
    change.apply(this.#pick(places), {
      draft,
      leaf: () => this.#leaf(),
      pick: (list) => this.#pick(list),
      name: () => this.#pick(NAMES),
    })
    return true
  }
}

interface Tools {
  draft: Draft
  leaf(): MutableSchema
  pick<T>(list: readonly T[]): T
  name(): string
}

interface Change {
  fits(schema: MutableSchema): boolean
  apply(schema: MutableSchema, tools: Tools): void
}

const dependencies = (draft: Draft): string => (draft === '2020-12' ? 'dependentRequired' : 'dependencies')

const isObject = (value: unknown): value is MutableSchema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A document's schemas, itself first. */
function schemasIn(schema: unknown): MutableSchema[] {
  if (!isObject(schema)) return []
  const named = ['properties', 'patternProperties', '$defs', 'definitions'].flatMap((keyword) =>
    isObject(schema[keyword]) ? Object.values(schema[keyword]) : [],
  )
  const listed = ['items', 'prefixItems', 'anyOf', 'oneOf', 'allOf'].flatMap((keyword) => schema[keyword] ?? [])
  return [schema, ...[...named, ...listed, schema['additionalProperties']].flatMap(schemasIn)]
}

const has =
  (...keywords: string[]) =>
  (schema: MutableSchema): boolean =>
    keywords.every((keyword) => schema[keyword] !== undefined)

const lacks =
  (type: string, keyword: string) =>
  (schema: MutableSchema): boolean =>
    schema['type'] === type && schema[keyword] === undefined

const isType =
  (type: string) =>
  (schema: MutableSchema): boolean =>
    schema['type'] === type

/** Changes one keyword by a function of its value; undefined removes it. */
const edit = (keyword: string, change: (value: never, tools: Tools) => unknown, fits = has(keyword)): Change => ({
  fits,
  apply: (schema, tools) => {
    const value = change(schema[keyword] as never, tools)
    if (value === undefined) delete schema[keyword]
    else schema[keyword] = value
  },
})

const withMember = (properties: MutableSchema | undefined, name: string, schema: unknown): MutableSchema => ({
  ...properties,
  [name]: schema,
})

const without = <T>(list: readonly T[], one: T): T[] => list.filter((other) => other !== one)

const CHANGES: Readonly<Record<string, Change>> = {
  'add an optional property': edit('properties', (value: MutableSchema, { name, leaf }) =>
    withMember(value, `${name()}2`, leaf()),
  ),
  'add a property without constraints': edit('properties', (value: MutableSchema, { name }) =>
    withMember(value, `${name()}2`, {}),
  ),
  'add a required property': {
    fits: has('properties'),
    apply: (schema, { name, leaf }) => {
      const added = `${name()}3`
      schema['properties'] = withMember(schema['properties'] as MutableSchema, added, leaf())
      schema['required'] = [...((schema['required'] as string[] | undefined) ?? []), added]
    },
  },
  'remove a property': {
    fits: (schema) => isObject(schema['properties']) && Object.keys(schema['properties']).length > 1,
    apply: (schema, { pick }) => {
      const properties = schema['properties'] as MutableSchema
      const removed = pick(Object.keys(properties))
      delete properties[removed]
      if (Array.isArray(schema['required'])) schema['required'] = without(schema['required'] as string[], removed)
    },
  },
  'make a property required': {
    fits: has('properties'),
    apply: (schema, { pick }) => {
      const name = pick(Object.keys(schema['properties'] as MutableSchema))
      schema['required'] = [...new Set([...((schema['required'] as string[] | undefined) ?? []), name])]
    },
  },
  'make a property optional': edit('required', (value: string[], { pick }) => {
    const left = without(value, pick(value))
    return left.length > 0 ? left : undefined
  }),
  'close an object': edit('additionalProperties', () => false, lacks('object', 'additionalProperties')),
  'open an object': edit('additionalProperties', () => undefined),
  'give additional properties a schema': edit('additionalProperties', (_, { leaf }) => leaf(), isType('object')),
  'take null, too': edit(
    'type',
    (value: string) => [value, 'null'],
    (schema) => typeof schema['type'] === 'string' && schema['type'] !== 'null',
  ),
  'take one type less': edit(
    'type',
    ([first]: string[]) => first,
    (schema) => Array.isArray(schema['type']),
  ),
  'integer to number': edit('type', () => 'number', isType('integer')),
  'number to integer': edit('type', () => 'integer', isType('number')),
  'string to integer': {
    fits: (schema) => schema['type'] === 'string' && Object.keys(schema).length === 1,
    apply: (schema) => {
      schema['type'] = 'integer'
    },
  },
  'add a value': edit('enum', (value: string[]) => [...value, 'added']),
  'remove a value': edit('enum', (value: string[], { pick }) =>
    value.length > 1 ? without(value, pick(value)) : value,
  ),
  'const to enum': {
    fits: has('const'),
    apply: (schema) => {
      schema['enum'] = [schema['const'], 'more']
      delete schema['const']
    },
  },
  'change const': edit('const', () => 'changed'),
  'enum to any string': edit('enum', () => undefined),
  'raise minimum': edit('minimum', (value: number) => value + 1),
  'lower minimum': edit('minimum', (value: number) => value - 1),
  'remove minimum': edit('minimum', () => undefined),
  'raise maximum': edit('maximum', (value: number) => value + 1),
  'lower maximum': edit('maximum', (value: number) => value - 1),
  'exclude minimum': {
    fits: has('minimum'),
    apply: (schema) => {
      schema['exclusiveMinimum'] = schema['minimum']
      delete schema['minimum']
    },
  },
  'count integers from 1 instead of above 0': {
    fits: (schema) => schema['type'] === 'integer' && schema['minimum'] === 1,
    apply: (schema) => {
      schema['exclusiveMinimum'] = 0
      delete schema['minimum']
    },
  },
  'add maximum': edit('maximum', () => 1_000, lacks('integer', 'maximum')),
  'change multipleOf': edit('multipleOf', (_, { pick }) => pick([1, 2, 5, 20, 3])),
  'remove multipleOf': edit('multipleOf', () => undefined),
  'raise minLength': edit('minLength', (value: number) => value + 1),
  'lower minLength': edit('minLength', (value: number) => value - 1),
  'raise maxLength': edit('maxLength', (value: number) => value + 1),
  'lower maxLength': edit('maxLength', (value: number) => value - 1),
  'add maxLength': edit('maxLength', () => 50, lacks('string', 'maxLength')),
  'change pattern': edit('pattern', (_, { pick }) => pick(PATTERNS)),
  'remove pattern': edit('pattern', () => undefined),
  'add pattern': edit('pattern', (_, { pick }) => pick(PATTERNS), lacks('string', 'pattern')),
  'add format': edit('format', (_, { pick }) => pick(FORMATS), lacks('string', 'format')),
  'remove format': edit('format', () => undefined),
  'change format': edit('format', (_, { pick }) => pick(FORMATS)),
  'raise minItems': edit('minItems', (value: number) => value + 1),
  'add minItems': edit('minItems', () => 1, lacks('array', 'minItems')),
  'remove minItems': edit('minItems', () => undefined),
  'raise maxItems': edit('maxItems', (value: number) => value + 1),
  'lower maxItems': edit('maxItems', (value: number) => value - 1),
  'make elements unique': edit('uniqueItems', () => true, lacks('array', 'uniqueItems')),
  'allow equal elements': edit('uniqueItems', () => undefined),
  'remove contains': edit('contains', () => undefined),
  'add contains': {
    fits: (schema) => lacks('array', 'contains')(schema) && isObject(schema['items']),
    apply: (schema) => {
      schema['contains'] = structuredClone(schema['items'])
    },
  },
  'lengthen a tuple': {
    fits: (schema) => Array.isArray(schema['prefixItems'] ?? schema['items']),
    apply: (schema, { draft, leaf }) => {
      const keyword = draft === '2020-12' ? 'prefixItems' : 'items'
      schema[keyword] = [...(schema[keyword] as unknown[]), leaf()]
    },
  },
  'add a form': edit('anyOf', (value: unknown[], { leaf }) => [...value, leaf()]),
  'remove a form': edit('anyOf', (value: unknown[]) => (value.length > 1 ? value.slice(0, -1) : value)),
  'add a form to oneOf': edit('oneOf', (value: unknown[]) => [...value, { type: 'boolean' }]),
  'reorder forms': edit('anyOf', (value: unknown[]) => value.toReversed()),
  'anyOf to oneOf': {
    fits: has('anyOf'),
    apply: (schema) => {
      schema['oneOf'] = schema['anyOf']
      delete schema['anyOf']
    },
  },
  'forms to a list of types': {
    fits: (schema) =>
      Array.isArray(schema['anyOf']) && isObject(schema['anyOf'][1]) && Object.keys(schema['anyOf'][1]).length === 1,
    apply: (schema) => {
      const [, other] = schema['anyOf'] as MutableSchema[]
      schema['type'] = [...new Set(['null', other?.['type'] ?? 'string'].flat())]
      delete schema['anyOf']
    },
  },
  'wrap in allOf': {
    fits: (schema) =>
      typeof schema['type'] === 'string' && schema['type'] !== 'object' && schema['allOf'] === undefined,
    apply: (schema) => {
      const inner = { ...schema }
      for (const keyword of Object.keys(schema)) delete schema[keyword]
      schema['allOf'] = [inner]
    },
  },
  'add a dependency': {
    fits: (schema) => isObject(schema['properties']) && Object.keys(schema['properties']).length > 1,
    apply: (schema, { draft }) => {
      const [other = '', one = ''] = Object.keys(schema['properties'] as MutableSchema)
      schema[dependencies(draft)] = { [one]: [other] }
    },
  },
  'remove a dependency': {
    fits: (schema) => has('dependencies')(schema) || has('dependentRequired')(schema),
    apply: (schema) => {
      delete schema['dependencies']
      delete schema['dependentRequired']
    },
  },
  'change propertyNames': edit('propertyNames', () => ({ pattern: '^[a-z]+$' })),
  'remove propertyNames': edit('propertyNames', () => undefined),
  'raise minProperties': edit('minProperties', (value: number) => value + 1),
  'lower maxProperties': edit('maxProperties', (value: number) => value - 1),
  'refuse with not': edit('not', () => ({ type: 'null' }), has('type')),
  'add a condition': {
    fits: (schema) => isObject(schema['properties']),
    apply: (schema) => {
      schema['if'] = { required: ['status'] }
      schema['then'] = { required: ['createdAt'] }
    },
  },
  'describe it': edit(
    'description',
    () => 'What it is.',
    () => true,
  ),
  'give a default': edit('default', () => null, has('type')),
}
