import { FormatRegistry, type SchemaOptions, type TUnsafe, Type } from '@sinclair/typebox'
import { isTimestamp } from '../../shared/events/event.ts'

/** What the console’s schemas are made of. */

/** A string of these. */
export const oneOf = <const T extends readonly string[]>(words: T, options: SchemaOptions = {}) =>
  // TypeBox cannot infer the union of a mapped list.
  Type.Union(
    words.map((word) => Type.Literal(word)),
    options,
  ) as unknown as TUnsafe<T[number]>

/** RFC 3339, section 5.6; but no leap seconds, which ECMAScript does not know. */
export function isTime(text: string): boolean {
  return isTimestamp(text) && !Number.isNaN(Date.parse(text))
}

/** The formats that the schemas name: TypeBox knows none by itself, and refuses values of unknown ones. */

FormatRegistry.Set('date-time', isTime)
FormatRegistry.Set('uri', (text) => URL.canParse(text))
