import { formatNames } from 'ajv-formats/dist/formats.js'
import { pointerTo } from '../events/json-pointer.ts'
import { type JsonSchema, subSchemas } from './json-schema.ts'

/** Keywords and formats that are not known are annotations: a misspelt one asserts nothing, and nobody is told. */

/** Keywords of both drafts that say which data is valid. */
const KEYWORDS = [
  ...['$anchor', '$defs', '$dynamicAnchor', '$dynamicRef', '$id', '$ref', '$schema', 'additionalItems'],
  ...['additionalProperties', 'allOf', 'anyOf', 'const', 'contains', 'definitions', 'dependencies'],
  ...['dependentRequired', 'dependentSchemas', 'else', 'enum', 'exclusiveMaximum', 'exclusiveMinimum', 'format', 'if'],
  ...['items', 'maxContains', 'maxItems', 'maxLength', 'maxProperties', 'maximum', 'minContains', 'minItems'],
  ...['minLength', 'minProperties', 'minimum', 'multipleOf', 'not', 'oneOf', 'pattern', 'patternProperties'],
  ...['prefixItems', 'properties', 'propertyNames', 'required', 'then', 'type', 'unevaluatedItems'],
  ...['unevaluatedProperties', 'uniqueItems'],
]
/** Those that are checked, and JSON Schema's others. */
const FORMATS = [...formatNames, 'idn-email', 'idn-hostname', 'iri', 'iri-reference']

/** Each with a pointer into the schema and what was most likely meant. */
export function misspellings(schema: JsonSchema, pointer = ''): string[] {
  if (typeof schema === 'boolean') return []
  const { format } = schema
  const found = Object.keys(schema).flatMap((keyword) =>
    meant(keyword, KEYWORDS).map((known) => `${pointer + pointerTo(keyword)}: is no keyword: did you mean "${known}"?`),
  )
  if (typeof format === 'string')
    for (const known of meant(format, FORMATS))
      found.push(`${pointer}/format: "${format}" is no format that is known: did you mean "${known}"?`)
  return [...found, ...subSchemas(schema).flatMap((inner) => misspellings(inner.schema, pointer + inner.pointer))]
}

const MAX_CHARS = 30
/** Almost every word of three letters is near to `not`. */
const LEAST_CHARS = 4
/** In longer words, two mistakes are a misspelling, and no other word. */
const LONG_CHARS = 6

/** The nearest known word, where one is near; none for a word that is known. */
function meant(word: string, known: readonly string[]): string[] {
  if (word.length > MAX_CHARS || known.includes(word)) return []
  const own = letters(word)
  let nearest: string[] = []
  let least = Number.POSITIVE_INFINITY
  for (const one of known) {
    const other = letters(one)
    const most = other.length < LEAST_CHARS ? 0 : other.length < LONG_CHARS ? 1 : 2
    if (own[0] !== other[0] || Math.abs(own.length - other.length) > most) continue
    const edits = editsBetween(own, other)
    if (edits > most || edits >= least) continue
    nearest = [one]
    least = edits
  }
  return nearest
}

const letters = (word: string): string => word.toLowerCase().replaceAll(/[^a-z0-9]/g, '')

/** Letters that are added, left out, replaced, or swapped with the next. */
function editsBetween(one: string, other: string): number {
  let before: number[] = []
  let last = Array.from({ length: other.length + 1 }, (_, at) => at)
  for (let at = 1; at <= one.length; at++) {
    const row = [at]
    for (let to = 1; to <= other.length; to++) {
      const isSame = one[at - 1] === other[to - 1]
      const isSwap = one[at - 1] === other[to - 2] && one[at - 2] === other[to - 1]
      row.push(
        Math.min(
          (last[to] ?? 0) + 1,
          (row[to - 1] ?? 0) + 1,
          (last[to - 1] ?? 0) + (isSame ? 0 : 1),
          at > 1 && to > 1 && isSwap ? (before[to - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      )
    }
    ;[before, last] = [last, row]
  }
  return last[other.length] ?? 0
}
