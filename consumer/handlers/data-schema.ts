import type { Static, TSchema } from '@sinclair/typebox'
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler'
import type { Schema } from '../../shared/schemas/verdict.ts'
import { messageOf } from '../../shared/service/thrown.ts'

/** The schema of data that a handler takes or gives: one of TypeBox, or a JSON Schema. */
export type DataSchema = TSchema | DocumentSchema

/** A JSON Schema; `T` is the type of the data that it describes. */
export interface DocumentSchema<T = unknown> {
  /** The document, draft 2020-12 or draft-07. */
  readonly jsonSchema: unknown
  /** Never there; it holds the type. */
  readonly describes?: T
}

/** The type of the data that a schema describes. */
export type DataOf<S> = S extends TSchema ? Static<S> : S extends DocumentSchema<infer T> ? T : never

/**
 * Makes a schema of a handler from a JSON Schema document, which gives the same verdict here as at the producer. The document is checked when the handler is
 * loaded.
 */
export const jsonSchema = <T = unknown>(document: unknown): DocumentSchema<T> => ({ jsonSchema: document })

/** The check of a {@link DataSchema}. */
export interface DataCheck {
  passes(data: unknown): boolean
  /**
   * What is wrong with data that do not pass.
   * @param bytes of the data as JSON
   */
  faults(data: unknown, bytes: number): Iterable<DataFault>
}

interface DataFault {
  /** Where, without names that only the sender has chosen: these are data, and must not be logged. */
  path: string
  message: string
}

/** @returns a string that says why it is no schema, if it is none: `is …` */
export function compileDataSchema(schema: DataSchema): DataCheck | string {
  if (!isDocument(schema))
    try {
      return new TypeBoxCheck(TypeCompiler.Compile(schema))
    } catch (error) {
      return `is neither one of TypeBox, such as Type.Object({ … }), nor jsonSchema(document): ${messageOf(error)}`
    }
  // Not loaded before it is used: it takes 16 MB and 0.1 s.
  const { compileSchema } = require('../../shared/schemas/schema.ts') as typeof import('../../shared/schemas/schema.ts')
  const compiled = compileSchema(schema.jsonSchema)
  return compiled.ok ? new DocumentCheck(compiled.schema) : `is no JSON Schema: ${compiled.faults.join('; ')}`
}

/** By its form: a bundled handler has its own copy of whatever made it. */
const isDocument = (schema: DataSchema): schema is DocumentSchema =>
  typeof schema === 'object' && schema !== null && Object.hasOwn(schema, 'jsonSchema')

class TypeBoxCheck implements DataCheck {
  constructor(readonly check: TypeCheck<TSchema>) {}

  passes(data: unknown): boolean {
    return this.check.Check(data)
  }

  *faults(data: unknown): Iterable<DataFault> {
    const seen = new Set<string>()
    for (const { path, message } of this.check.Errors(data)) {
      // A missing member is reported twice, as missing and as not of its type.
      if (seen.has(path)) continue
      seen.add(path)
      yield { path: knownPath(this.check.Schema(), path), message }
    }
  }
}

/** The part of the path that the schema names. */
function knownPath(schema: TSchema, path: string): string {
  let at: TSchema | undefined = schema
  const known: string[] = []
  for (const name of path.split('/').slice(1)) {
    at =
      at?.['type'] === 'array'
        ? at['items']
        : Object.hasOwn(at?.['properties'] ?? {}, name)
          ? at?.['properties'][name]
          : undefined
    if (at === undefined) return `/${[...known, '…'].join('/')}`
    known.push(name)
  }
  return `/${known.join('/')}`
}

class DocumentCheck implements DataCheck {
  constructor(readonly schema: Schema) {}

  passes(data: unknown): boolean {
    return this.schema.check(data)
  }

  faults(data: unknown, bytes: number): DataFault[] {
    return this.schema
      .faults(data, bytes)
      .map(({ knownPointer, detail }) => ({ path: knownPointer || '/', message: detail }))
  }
}

/** At most so many faults of data are named, in so many characters each and in all, and so many are looked at: large data may have a fault in each item. */
const NAMED_FAULTS = 20
const FAULT_CHARS = 300
const ALL_FAULT_CHARS = 1_500
const COUNTED_FAULTS = 1_000

/**
 * Names what is wrong with data that do not pass, within bounds.
 * @param bytes of the data as JSON
 * @param within the pointer of the data in what is named
 */
export function faultsIn(check: DataCheck, data: unknown, bytes: number, within = ''): string {
  const named = new Set<string>()
  let looked = 0
  let chars = 0
  let more = 0
  for (const { path, message } of check.faults(data, bytes)) {
    if (looked === COUNTED_FAULTS) break
    looked++
    const fault = `${within}${within === '' || path !== '/' ? path : ''} ${message}`.slice(0, FAULT_CHARS)
    if (named.has(fault)) continue
    if (named.size < NAMED_FAULTS && chars + fault.length <= ALL_FAULT_CHARS) {
      named.add(fault)
      chars += fault.length
    } else more++
  }
  const faults = [...named]
  if (more > 0) faults.push(`and ${looked === COUNTED_FAULTS ? 'at least ' : ''}${more} more`)
  return faults.join('; ') || 'refused by its schema'
}
