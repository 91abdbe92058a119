import type { Draft, JsonSchema } from './json-schema.ts'

/** What a schema says of data. Apart from what compiles schemas, which takes 10 MB and some 50 ms to load: not every service has any. */

/** How long a check may take. */
export const CHECK_TIMEOUT_MS = 100

/** What is wrong with one member of the data. */
export interface SchemaFault {
  /** RFC 6901, into the data. */
  pointer: string
  /** The same with `…` in place of every name that the schema does not name: such a name is the sender's, and must not be logged. */
  knownPointer: string
  detail: string
}

export interface Schema {
  readonly document: JsonSchema
  readonly draft: Draft
  /** Whether data is known to be valid. @param dataBytes as JSON; undefined where whoever calls limits the time */
  check(data: unknown, dataBytes?: number): boolean
  /** What is wrong with data: nothing, each fault, only the first where there may be very many, or {@link LATE}. Never throws. */
  faults(data: unknown, dataBytes?: number): readonly SchemaFault[]
}

export type Compiled = { ok: true; schema: Schema } | { ok: false; faults: string[] }

export const MAX_SCHEMA_BYTES = 256 * 1024

/** The check took longer than {@link CHECK_TIMEOUT_MS}: because of the data, or because the machine is busy. */
export const LATE: readonly SchemaFault[] = [
  { pointer: '', knownPointer: '', detail: `cannot be checked within ${CHECK_TIMEOUT_MS} ms by its schema` },
]
