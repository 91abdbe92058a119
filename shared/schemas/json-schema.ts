import { pointerTo } from '../events/json-pointer.ts'

/** The form of JSON Schema's documents, draft 2020-12 and draft-07. */

export type Draft = '2020-12' | 'draft-07'

/** A schema as a JSON value. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown }

/** Keywords whose value is a schema. */
const ONE = new Set([
  'additionalItems',
  'additionalProperties',
  'contains',
  'contentSchema',
  'else',
  'if',
  'items',
  'not',
  'propertyNames',
  'then',
  'unevaluatedItems',
  'unevaluatedProperties',
])
/** Keywords whose value is a list of schemas. */
const LIST = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems', 'items'])
/** Keywords whose value is an object of schemas. */
const BY_NAME = new Set(['$defs', 'definitions', 'dependencies', 'dependentSchemas', 'patternProperties', 'properties'])

/** A schema in a schema, and the pointer to it from there. */
export interface SubSchema {
  pointer: string
  schema: JsonSchema
  /** The keyword that it stands under. */
  keyword: string
}

export const isSchema = (value: unknown): value is JsonSchema =>
  typeof value === 'boolean' || (typeof value === 'object' && value !== null && !Array.isArray(value))

/** The schemas directly in a schema. Values of `enum`, `const`, `default` and the like are none. */
export function subSchemas(schema: JsonSchema): SubSchema[] {
  if (typeof schema === 'boolean') return []
  const found: SubSchema[] = []
  for (const [keyword, value] of Object.entries(schema)) {
    const at = pointerTo(keyword)
    if (ONE.has(keyword) && isSchema(value)) found.push({ pointer: at, schema: value, keyword })
    else if (LIST.has(keyword) && Array.isArray(value)) {
      for (const [index, one] of value.entries())
        if (isSchema(one)) found.push({ pointer: `${at}/${index}`, schema: one, keyword })
    } else if (BY_NAME.has(keyword) && isSchema(value) && typeof value === 'object')
      for (const [name, one] of Object.entries(value))
        if (isSchema(one)) found.push({ pointer: at + pointerTo(name), schema: one, keyword })
  }
  return found
}

/** A copy, with a change at each schema in it. Values that are no schemas are the same ones. */
export function mapSchemas(
  schema: JsonSchema,
  change: (schema: Exclude<JsonSchema, boolean>) => Record<string, unknown>,
): JsonSchema {
  if (typeof schema === 'boolean') return schema
  const changed = change(schema)
  for (const [keyword, value] of Object.entries(changed)) {
    if (ONE.has(keyword) && isSchema(value)) changed[keyword] = mapSchemas(value, change)
    else if (LIST.has(keyword) && Array.isArray(value))
      changed[keyword] = value.map((one) => (isSchema(one) ? mapSchemas(one, change) : one))
    else if (BY_NAME.has(keyword) && isSchema(value) && typeof value === 'object')
      changed[keyword] = Object.fromEntries(
        Object.entries(value).map(([name, one]) => [name, isSchema(one) ? mapSchemas(one, change) : one]),
      )
  }
  return changed
}
