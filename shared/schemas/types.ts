import type { Options } from 'json-schema-to-typescript'
import type { SchemaVersion } from './identity.ts'
import { isSchema, type JsonSchema } from './json-schema.ts'

/** TypeScript for schemas: for each version its type, and a constant with its document. */

export interface Version extends SchemaVersion {
  document: JsonSchema
}

/** The first line of what it writes. */
export const HEADING =
  '// Written by `bun run schema types`. Do not change it: change the schemas, and write it again.\n'

/** @param versions in the order in which they are written. @throws Error naming the version that has no type */
export async function typesOf(versions: readonly Version[]): Promise<string> {
  const { compile } = await generator()
  const names = namesOf([...new Set(versions.map(({ subject }) => subject))])
  const parts = [HEADING]
  for (const { subject, version, document } of versions) {
    const name = `${names.get(subject)}V${version}`
    try {
      parts.push(
        `/** ${comment(subject)}, version ${version} */\n${await typeOf(document, name, compile)}`,
        `/** ${comment(subject)}, version ${version}: the document */\nexport const ${name}Schema = ${literal(document)}\n`,
      )
    } catch (error) {
      throw new Error(`version ${version} of ${subject} has no type: ${(error as Error).message}`)
    }
  }
  return parts.join('\n')
}

async function generator(): Promise<typeof import('json-schema-to-typescript')> {
  try {
    return await import('json-schema-to-typescript')
  } catch {
    throw new Error('the package json-schema-to-typescript is not there: use a checkout, where `bun install` was run')
  }
}

const comment = (text: string): string => text.replaceAll('*/', '*\\/').replaceAll(/\p{Cc}/gu, ' ')

/** In an object literal, `__proto__` would set the prototype. */
const literal = (document: JsonSchema): string =>
  JSON.stringify(document, null, 2).replaceAll(/^( *)"__proto__":/gm, '$1["__proto__"]:')

// ---- names

/** `TENANT.STREAM-TYPE`, where the stream ends at the first hyphen. */
const SUBJECT = /^[a-z0-9][a-z0-9-]*\.[a-z0-9]+-(.+)$/

/**
 * A name for each subject: that of its type, `OrderPlaced` for `acme.orders-order.placed`. Where several would have the same, each has that of its whole
 * subject, and where these are the same, too, a number in the order of the subjects.
 */
export function namesOf(subjects: readonly string[]): Map<string, string> {
  const short = (subject: string): string => pascal(SUBJECT.exec(subject)?.[1] ?? subject)
  const names = new Map<string, string>()
  const taken = new Set<string>()
  const byShort = Map.groupBy([...subjects].sort(), short)
  const alone = [...byShort].filter(([, [, other]]) => other === undefined)
  for (const [name, [subject = '']] of alone) {
    names.set(subject, name)
    taken.add(name)
  }
  for (const subject of [...byShort.values()].filter(({ length }) => length > 1).flat()) {
    const whole = pascal(subject)
    let name = whole
    for (let number = 2; taken.has(name); number++) name = `${whole}${number}`
    names.set(subject, name)
    taken.add(name)
  }
  return names
}

function pascal(text: string): string {
  const words = text.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
  const name = words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('')
  return /^[A-Za-z]/.test(name) ? name : `Schema${name}`
}

// ---- types

const OPTIONS = {
  bannerComment: '',
  // Everything is in the document: nothing is read or fetched.
  $refOptions: { resolve: { external: false } },
  style: { semi: false, singleQuote: true, bracketSpacing: true },
} satisfies Partial<Options>

type Compile = typeof import('json-schema-to-typescript').compile

async function typeOf(document: JsonSchema, name: string, compile: Compile): Promise<string> {
  if (typeof document === 'boolean') return `export type ${name} = ${document ? 'unknown' : 'never'}\n`
  const { $id } = document
  return compile(understood(document, typeof $id === 'string' ? $id : '') as Parameters<Compile>[0], name, {
    ...OPTIONS,
    // Other versions may have parts of the same names.
    customName: (schema, key) => {
      const own = key ?? schema.$id
      return own === undefined || own === name ? own : `${name}${pascal(own)}`
    },
  })
}

/**
 * Keywords that shape a type, or say something about it. Others are left out: some would put text of the schema into the code, and `$id` would change what
 * references mean.
 */
const KEPT = new Set([
  'const',
  'default',
  'deprecated',
  'description',
  'enum',
  'maxItems',
  'minItems',
  'required',
  'type',
])
const ONE = new Set(['additionalItems', 'additionalProperties', 'items', 'not'])
const LIST = new Set(['allOf', 'anyOf', 'items', 'oneOf'])
const BY_NAME = new Set(['$defs', 'definitions', 'patternProperties', 'properties'])

/** As the generator knows it, which is draft-07 with `$defs`. @param id of the whole document */
function understood(schema: JsonSchema, id: string): JsonSchema {
  if (typeof schema === 'boolean') return schema
  const found: Record<string, unknown> = {}
  for (const [keyword, value] of Object.entries(inDraft07(schema))) {
    if (keyword === '$ref') found[keyword] = inDocument(String(value), id)
    else if (KEPT.has(keyword)) found[keyword] = value
    else if (ONE.has(keyword) && isSchema(value)) found[keyword] = understood(value, id)
    else if (LIST.has(keyword) && Array.isArray(value))
      found[keyword] = value.map((one) => (isSchema(one) ? understood(one, id) : one))
    else if (BY_NAME.has(keyword) && isSchema(value) && typeof value === 'object') found[keyword] = byName(value, id)
  }
  return found
}

function byName(schemas: object, id: string): Record<string, unknown> {
  const found = Object.create(null) as Record<string, unknown>
  for (const [name, one] of Object.entries(schemas)) found[name] = isSchema(one) ? understood(one, id) : one
  return found
}

/** A reference to the document by its `$id`, as one without. */
const inDocument = (reference: string, id: string): string => {
  const base = id.replace(/#$/, '')
  return base !== '' && (reference === base || reference.startsWith(`${base}#`))
    ? reference.slice(base.length) || '#'
    : reference
}

/** Draft 2020-12 calls a tuple’s elements `prefixItems`, and those after them `items`. */
function inDraft07(schema: Exclude<JsonSchema, boolean>): Exclude<JsonSchema, boolean> {
  const { prefixItems, items, ...others } = schema
  if (prefixItems === undefined) return schema
  return { ...others, items: prefixItems, additionalItems: items ?? true }
}
