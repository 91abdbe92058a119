import { TypeGuard } from '@sinclair/typebox'
import { compileDataSchema, type DataCheck, type DataSchema } from './data-schema.ts'

/** @returns a string that says why what a handler gives as a schema is none: `is …` */
export function registerSchema(schema: DataSchema): DataCheck | string {
  const isDocument = typeof schema === 'object' && schema !== null && Object.hasOwn(schema, 'jsonSchema')
  if (isDocument || TypeGuard.IsSchema(schema)) return compileDataSchema(schema)
  // TypeBox says no more than that it is none of its own.
  return 'is neither one of TypeBox, such as Type.Object({ … }), nor jsonSchema(document): a JSON Schema is given as jsonSchema({ … }), and schemas of TypeBox have no plain objects in them'
}
