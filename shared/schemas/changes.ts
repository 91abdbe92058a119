import { pointerTo, stepsOf } from '../events/json-pointer.ts'
import { isAmong } from './evolution/accepts.ts'
import { isSchema, type JsonSchema, subSchemas } from './json-schema.ts'

/** What is different in two schemas, as their documents have it. */

export interface Change {
  /** RFC 6901, into the newer schema; into the older one for what is gone. */
  pointer: string
  detail: string
}

/** Keywords that say something to people only. */
const ANNOTATIONS = new Set([
  '$comment',
  'default',
  'deprecated',
  'description',
  'examples',
  'readOnly',
  'title',
  'writeOnly',
])
const MAX_VALUE_CHARS = 120
const MAX_NAMED_VALUES = 20

type Keywords = Exclude<JsonSchema, boolean>

/** In the order of the older schema, then of the newer one. */
export function changesOf(older: JsonSchema, newer: JsonSchema): Change[] {
  const changes: Change[] = []
  walk(older, newer, '', changes)
  return changes
}

function walk(older: JsonSchema, newer: JsonSchema, pointer: string, changes: Change[]): void {
  if (Bun.deepEquals(older, newer)) return
  if (typeof older === 'boolean' || typeof newer === 'boolean') {
    changes.push({ pointer, detail: `takes ${nameOf(newer)}, took ${nameOf(older)}` })
    return
  }
  const inner = { older: innerOf(older), newer: innerOf(newer) }
  for (const [at, { schema, required }] of inner.older) {
    const now = inner.newer.get(at)
    if (now === undefined)
      changes.push({ pointer: pointer + at, detail: `is gone; was ${required}${nameOf(schema)}`.trimEnd() })
    else {
      if (now.required !== required)
        changes.push({
          pointer: pointer + at,
          detail: now.required === REQUIRED ? 'is required now' : 'is optional now',
        })
      walk(schema, now.schema, pointer + at, changes)
    }
  }
  for (const [at, { schema, required }] of inner.newer)
    if (!inner.older.has(at)) changes.push({ pointer: pointer + at, detail: `is new: ${required}${nameOf(schema)}` })
  for (const keyword of new Set([...Object.keys(older), ...Object.keys(newer)]))
    changes.push(...valueChanges(keyword, older, newer).map((one) => ({ ...one, pointer: pointer + one.pointer })))
}

const REQUIRED = 'required, '
const OPTIONAL = 'optional, '

/** The schemas directly in a schema, by pointer; of properties, whether they are required. */
function innerOf(schema: Keywords): Map<string, { schema: JsonSchema; required: string }> {
  const required = requiredOf(schema)
  return new Map(
    subSchemas(schema).map(({ pointer, schema: inner, keyword }) => [
      pointer,
      {
        schema: inner,
        required: keyword !== 'properties' ? '' : required.has(stepsOf(pointer).at(-1) ?? '') ? REQUIRED : OPTIONAL,
      },
    ]),
  )
}

const requiredOf = ({ required }: Keywords): Set<string> =>
  new Set(Array.isArray(required) ? required.filter((one) => typeof one === 'string') : [])

/** Of a keyword whose value is no schema and has none. */
function valueChanges(keyword: string, older: Keywords, newer: Keywords): Change[] {
  const [was, is] = [older[keyword], newer[keyword]]
  if (Bun.deepEquals(was, is)) return []
  const pointer = pointerTo(keyword)
  if (keyword === 'required') return requiredChanges(older, newer)
  if ([was, is].some((value) => hasSchemas(keyword, value))) return []
  if (ANNOTATIONS.has(keyword))
    return [
      {
        pointer,
        detail: `${is === undefined ? 'is gone' : was === undefined ? 'is new' : 'is another'}; data is not affected`,
      },
    ]
  if (keyword === 'enum' && Array.isArray(was) && Array.isArray(is)) return enumChanges(was, is)
  if (was === undefined) return [{ pointer, detail: `is new: ${shown(is)}` }]
  if (is === undefined) return [{ pointer, detail: `is gone; was ${shown(was)}` }]
  return [{ pointer, detail: `is ${shown(is)}, was ${shown(was)}` }]
}

const hasSchemas = (keyword: string, value: unknown): boolean =>
  value !== undefined && subSchemas({ [keyword]: value }).length > 0

/** Of members that are required without being among the properties. */
function requiredChanges(older: Keywords, newer: Keywords): Change[] {
  const [was, is] = [requiredOf(older), requiredOf(newer)]
  const isProperty = (name: string): boolean =>
    [older, newer].some(({ properties }) => isSchema(properties) && Object.hasOwn(Object(properties), name))
  return [
    ...[...is.difference(was)]
      .filter((name) => !isProperty(name))
      .map((name) => ({ pointer: '/required', detail: `has ${shown(name)} now` })),
    ...[...was.difference(is)]
      .filter((name) => !isProperty(name))
      .map((name) => ({ pointer: '/required', detail: `no longer has ${shown(name)}` })),
  ]
}

function enumChanges(was: readonly unknown[], is: readonly unknown[]): Change[] {
  const without = (some: readonly unknown[], others: readonly unknown[]): string => {
    const left = some.filter((one) => !isAmong(others, one))
    const named = left.slice(0, MAX_NAMED_VALUES).map(shown).join(', ')
    return left.length > MAX_NAMED_VALUES ? `${named} and ${left.length - MAX_NAMED_VALUES} more` : named
  }
  const [added, gone] = [without(is, was), without(was, is)]
  return [
    ...(added === '' ? [] : [{ pointer: '/enum', detail: `has ${added} now` }]),
    ...(gone === '' ? [] : [{ pointer: '/enum', detail: `no longer has ${gone}` }]),
  ]
}

/** What it takes, in a few words. */
function nameOf(schema: JsonSchema): string {
  if (typeof schema === 'boolean') return schema ? 'anything' : 'nothing'
  if ('const' in schema) return shown(schema['const'])
  if (Array.isArray(schema['enum']))
    return shortened(`one of ${schema['enum'].slice(0, MAX_NAMED_VALUES).map(shown).join(', ')}`)
  if (typeof schema['$ref'] === 'string') return schema['$ref']
  const types = [schema['type']].flat().filter((type) => typeof type === 'string')
  return types.length === 0 ? 'a schema' : types.join(' or ')
}

const shown = (value: unknown): string => shortened(JSON.stringify(value))

const shortened = (text: string): string =>
  text.length <= MAX_VALUE_CHARS ? text : `${text.slice(0, MAX_VALUE_CHARS).toWellFormed()}…`
