import type { Static, TSchema } from '@sinclair/typebox'
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler'
import type { Event } from '../../shared/events/event.ts'
import type { Context } from '../enrich.ts'

/** The event can never be handled: it is put aside as a dead letter at once. So is it for any error of this name. */
export class TerminalError extends Error {
  override readonly name = 'TerminalError'
}

/** Handling may succeed later. Any other error that a handler throws counts as this. */
export class RetryableError extends Error {
  override readonly name = 'RetryableError'
}

/**
 * What a handler makes of an event: the data of the record in `.processed`, which keeps the event's `id` and `source`. A result that is anything
 * else makes the event a dead letter, “invalid result”.
 */
export interface Handled {
  /** The CloudEvents type of the result; the event's own when absent. */
  type?: string
  /** Stored as `JSON.stringify` writes it; what that cannot write (`undefined`, functions, BigInt, circles) is no result. */
  data: unknown
}

/** What a handler is given beside the data: frozen, and copies, so that nothing it does to them changes what is stored. */
export interface Handling {
  event: Readonly<Event>
  context: Readonly<Context>
  /** 1 for the first time. */
  attempt: number
  /** Aborted when the handler's time is over or the process gives the event up; its result is then not used. */
  signal: AbortSignal
}

/** One kind of event and what is done with it. */
export interface Handler<S extends TSchema = TSchema> {
  /** An event type, or a prefix of event types followed by `*`. */
  type: string
  /** Goes into the context of every event it handled: change it whenever the result changes. */
  version: string
  /** What the event's JSON data must be; data that is not becomes a dead letter. */
  schema: S
  handle(data: Static<S>, handling: Handling): Handled | Promise<Handled>
}

/** A handler as it was when it was registered, with its compiled check. */
export interface RegisteredHandler extends Pick<Handler, 'type' | 'version' | 'handle'> {
  check: TypeCheck<TSchema>
}

/** Gives `handle` the type of its schema. */
export const defineHandler = <S extends TSchema>(handler: Handler<S>): Handler<S> => handler

/**
 * Finds the handler of an event type: an exact one before prefixes, the longest prefix before shorter ones.
 * @throws Error naming everything that is no handler, and types that two of them claim
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

/** @returns what keeps it from being one */
function register(handler: Handler): RegisteredHandler | string {
  if (typeof handler !== 'object' || handler === null) return 'is no handler: { type, version, schema, handle }'
  const { type, version, schema } = handler
  if (typeof type !== 'string' || type === '') return 'has no type'
  if (typeof version !== 'string') return `(${type}) has no version that is a string`
  if (typeof handler.handle !== 'function') return `(${type}) has no function \`handle\``
  if (schema === undefined) return `(${type}) has no schema: Type.Unknown() takes all data`
  try {
    return {
      type,
      version,
      handle: (data, handling) => handler.handle(data, handling),
      check: TypeCompiler.Compile(schema),
    }
  } catch (error) {
    return `(${type}) has a schema that is none of TypeBox, such as Type.Object({ … }): ${(error as Error).message}`
  }
}
