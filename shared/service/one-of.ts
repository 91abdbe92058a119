import { type SchemaOptions, type TUnsafe, Type } from '@sinclair/typebox'

/** The schema of a string that is one of these. */
export const oneOf = <const T extends readonly string[]>(words: T, options: SchemaOptions = {}) =>
  // TypeBox cannot infer the union of a mapped list.
  Type.Union(
    words.map((word) => Type.Literal(word)),
    options,
  ) as unknown as TUnsafe<T[number]>
