import type { TSchema } from '@sinclair/typebox'
import type { Event } from '../../shared/events/event.ts'
import type { Context } from '../enrich.ts'
import type { DataCheck, DataOf, DataSchema } from './data-schema.ts'
import { registerSchema } from './registered-schema.ts'
import { registerVersions, type Upcaster, type Versions } from './versions.ts'

/** The event can never be handled: it becomes a dead letter at once. Any error with this `name` has the same effect. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError'
}

/** Handling may succeed later. Any other error that a handler throws counts as this. */
export class RetryableError extends Error {
  override readonly name = 'RetryableError'
}

/**
 * A handler's result: the data of the record in `.processed`, which keeps the event's `id` and `source`. Any other result makes the event a dead
 * letter, “invalid result”.
 */
export interface Handled<D = unknown> {
  /** The CloudEvents type of the result; that of the event when absent. */
  type?: string
  /** Stored as `JSON.stringify` writes it. Values that it cannot write (`undefined`, functions, BigInt, cycles) are invalid. */
  data: D
}

/** What a handler gets beside the data: frozen copies, so that it cannot change what is stored. */
export interface Handling {
  /** Like `context`, it has to be read before the attempt is over, that is, before the handler answers or its time is up. */
  event: Readonly<Event>
  context: Readonly<Context>
  /** From 1. */
  attempt: number
  /** Aborted when the handler's time is over, or its partition is revoked; the result is then not used. */
  signal: AbortSignal
}

export interface Handler<S extends DataSchema = DataSchema, R extends DataSchema = DataSchema> {
  /** An event type, or a prefix of event types and `*`. */
  type: string
  /** Part of the context of every event it handled: change it whenever results change. */
  version: string
  /** The schema of the event's JSON data; an event with other data becomes a dead letter. */
  schema: S
  /**
   * The version of the event type's schema that it takes, as in the header `kt-schema`: data of an older version are raised by `upcasters`, and an event of a
   * newer one waits for a newer handler. Absent: data of any version are taken as they are.
   */
  takes?: number
  /** From each older version, one or several in a row have to lead to the one that is taken. */
  upcasters?: readonly Upcaster[]
  /** The schema of the result's data as they are stored; an event with another result becomes a dead letter. */
  result?: R
  handle(data: DataOf<S>, handling: Handling): Handled<DataOf<R>> | Promise<Handled<DataOf<R>>>
}

/** A copy of a handler at its registration, with the compiled checks of its schemas. */
export interface RegisteredHandler extends Pick<Handler, 'type' | 'version' | 'handle'> {
  check: DataCheck
  versions: Versions | undefined
  /** Of its result's data. */
  resultCheck: DataCheck | undefined
}

/** Types the `data` of `handle` by the schema, and that of its result by the result's. */
export const defineHandler = <S extends DataSchema, R extends DataSchema = TSchema>(
  handler: Handler<S, R>,
): Handler<S, R> => handler

/**
 * Finds the handler of an event type: an exact type before a prefix, a longer prefix before a shorter one.
 * @throws Error naming every invalid handler, and each type that two of them claim
 */
export function handlerIndex(handlers: readonly Handler[]): (type: string) => RegisteredHandler | undefined {
  const byType = new Map<string, RegisteredHandler>()
  const faults: string[] = []
  for (const [index, handler] of handlers.entries()) {
    const registered = register(handler)
    if (typeof registered === 'string') faults.push(`handlers[${index}] ${registered}`)
    else if (byType.has(registered.type))
      faults.push(
        `two handlers claim the event type ${registered.type}: remove one; BUILT_IN_HANDLERS=off removes those that are built in`,
      )
    else byType.set(registered.type, registered)
  }
  if (faults.length > 0) throw new Error(faults.join('; '))
  const prefixes = [...byType.values()]
    .filter(({ type }) => type.endsWith('*'))
    .map((registered) => ({ prefix: registered.type.slice(0, -1), registered }))
    .sort((a, b) => b.prefix.length - a.prefix.length)
  return (type) => byType.get(type) ?? prefixes.find(({ prefix }) => type.startsWith(prefix))?.registered
}

/** @returns a string that says what is wrong with it, if anything is */
function register(handler: Handler): RegisteredHandler | string {
  if (typeof handler !== 'object' || handler === null) return 'is no handler: { type, version, schema, handle }'
  const { type, version, schema, takes, upcasters, result } = handler
  if (typeof type !== 'string' || type === '') return 'has no type'
  if (typeof version !== 'string') return `(${type}) has no version that is a string`
  if (typeof handler.handle !== 'function') return `(${type}) has no function \`handle\``
  if (schema === undefined) return `(${type}) has no schema: Type.Unknown() takes all data`
  const versions = registerVersions(takes, upcasters)
  if (Array.isArray(versions)) return `(${type}) ${versions.join('; ')}`
  const check = registerSchema(schema)
  if (typeof check === 'string') return `(${type}) has a schema that ${check}`
  const resultCheck = result === undefined ? undefined : registerSchema(result)
  if (typeof resultCheck === 'string') return `(${type}) has a \`result\` that ${resultCheck}`
  return { type, version, handle: (data, handling) => handler.handle(data, handling), check, versions, resultCheck }
}
