import { FormatRegistry, type SchemaOptions, type TUnsafe, Type } from '@sinclair/typebox'

/** What the console’s schemas are made of. */

/** A string of these. */
export const oneOf = <const T extends readonly string[]>(words: T, options: SchemaOptions = {}) =>
  // TypeBox cannot infer the union of a mapped list.
  Type.Union(
    words.map((word) => Type.Literal(word)),
    options,
  ) as unknown as TUnsafe<T[number]>

/** The formats that the schemas name: TypeBox knows none by itself, and refuses values of unknown ones. */

/** RFC 3339, section 5.6. */
const DATE_TIME = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/

FormatRegistry.Set('date-time', (text) => DATE_TIME.test(text) && !Number.isNaN(Date.parse(text)))
FormatRegistry.Set('uri', (text) => URL.canParse(text))
