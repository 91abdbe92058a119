import { isUtf8 } from 'node:buffer'
import { Script } from 'node:vm'
import type { TSchema } from '@sinclair/typebox'
import { attributeFault, type Event, type Fault, pointerTo } from '../../shared/event.ts'
import type { Context } from '../enrich.ts'
import type { Handled, Handling, RegisteredHandler } from './handler.ts'

/** What a handler made of an event, checked and written. */
export interface Result {
  type: string | undefined
  /** JSON. */
  data: string
}

/** Why an attempt failed, other than by what the handler threw. */
export class AttemptFault extends Error {
  override readonly name = 'AttemptFault'

  constructor(
    readonly reason: 'invalid data' | 'invalid result' | 'handler timed out',
    message: string,
  ) {
    super(message)
  }
}

/** The event as it came in; what a handler does to its own copy changes nothing. */
export interface Given {
  event: Event
  context: Context
  attempt: number
}

/**
 * One attempt, bounded in time. A handler that does not heed its signal goes on in the background; its result is dropped.
 * @throws AttemptFault for data that is not what the handler takes, a result that is none, or none in time; and whatever the handler throws
 */
export async function runAttempt(
  registered: RegisteredHandler,
  given: Given,
  partitionSignal: AbortSignal,
  timeoutMs: number,
): Promise<Result> {
  const data = jsonData(given.event.data)
  const fault = registered.check.Check(data) ? undefined : registered.check.Errors(data).First()
  if (fault !== undefined)
    throw new AttemptFault(
      'invalid data',
      `not what ${registered.type} takes: ${knownPath(registered.check.Schema(), fault.path)} ${fault.message}`,
    )
  const limit = new AttemptLimit(timeoutMs, partitionSignal)
  try {
    const handling: Handling = {
      event: copyOf(given.event),
      context: frozen(given.context),
      attempt: given.attempt,
      get signal() {
        return limit.signal
      },
    }
    const returned = withinTime(() => registered.handle(data, handling), timeoutMs)
    // Query builders and the like are no promises, and are waited for as such.
    const handled = isThenable(returned) ? await Promise.race([returned, limit.reached()]) : returned
    return resultOf(handled)
  } finally {
    limit.end()
  }
}

/** Calls what `call` holds. Only what runs as a script can be stopped while it keeps the thread. */
const CALLER = new Script('globalThis[Symbol.for("kafkatrace.call")]()')
const CALL = Symbol.for('kafkatrace.call')
const globals = globalThis as unknown as Record<symbol, unknown>

/** @throws AttemptFault when it keeps the thread for longer than that */
function withinTime<T>(call: () => T, timeoutMs: number): T {
  globals[CALL] = call
  try {
    return CALLER.runInThisContext({ timeout: timeoutMs }) as T
  } catch (error) {
    if ((error as { code?: unknown } | null | undefined)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
    throw new AttemptFault('handler timed out', `kept the thread for ${timeoutMs} ms`)
  } finally {
    globals[CALL] = undefined
  }
}

const isThenable = (value: unknown): value is PromiseLike<Handled> =>
  ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
  typeof (value as { then?: unknown }).then === 'function'

/** An event that a handler may do with as it likes. Few look at its data in bytes, so they are copied when one does. */
function copyOf(event: Event): Event {
  let data: Buffer | null | undefined
  return Object.freeze({
    ...event,
    extensions: Object.freeze(Object.assign(Object.create(null), event.extensions)),
    get data() {
      // In memory of its own, not in the pool that small buffers share.
      if (data === undefined) data = event.data === null ? null : Buffer.from(new Uint8Array(event.data).buffer)
      return data
    },
  })
}

/** With all that is in it. */
function frozen<T extends object>(value: T): T {
  if (Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) frozen(inner)
  return value
}

/** @throws AttemptFault naming everything that is wrong with it */
function resultOf(returned: unknown): Result {
  const faults: Fault[] = []
  const fault = (member: string, detail: string) => void faults.push({ pointer: pointerTo(member), detail })
  // Of bytes each is a member, and nothing ends the reading of millions of members.
  if (typeof returned !== 'object' || returned === null || Array.isArray(returned) || ArrayBuffer.isView(returned))
    throw new AttemptFault('invalid result', `the handler returned ${kindOf(returned)}, not an object { type?, data }`)
  const { type, data, ...others } = read(returned)
  for (const name of Object.keys(others)) fault(name, 'is no member of a result: { type?, data }')
  if (type !== undefined) {
    const detail = typeof type === 'string' ? attributeFault('type', type) : `must be a text, not ${kindOf(type)}`
    if (detail !== undefined) fault('type', detail)
  }
  const json = jsonOf(data)
  if (json.text === undefined) fault('data', json.fault)
  if (faults.length > 0 || json.text === undefined)
    throw new AttemptFault('invalid result', faults.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; '))
  return { type: type as string | undefined, data: json.text }
}

/** Its own members, each read once: the second time it might be another. */
function read(returned: object): Partial<Handled> {
  try {
    return { ...returned }
  } catch {
    throw new AttemptFault('invalid result', 'the handler returned an object that cannot be read')
  }
}

function jsonOf(data: unknown): { text: string } | { text: undefined; fault: string } {
  try {
    const text: string | undefined = JSON.stringify(data)
    return text === undefined ? { text, fault: `must be JSON, not ${kindOf(data)}` } : { text }
  } catch (error) {
    // What a `toJSON` throws may be anything.
    return {
      text: undefined,
      fault: `cannot be written as JSON${error instanceof TypeError ? `: ${error.message}` : ''}`,
    }
  }
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return 'an array'
  if (ArrayBuffer.isView(value)) return 'bytes'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** As far as the schema names it: what the sender has named is data, and goes into no log. */
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

function jsonData(data: Buffer | null): unknown {
  if (data === null) return undefined
  // Decoding replaces what is not UTF-8.
  if (!isUtf8(data)) throw new AttemptFault('invalid data', 'not JSON: not UTF-8')
  try {
    return JSON.parse(data.toString('utf8'))
  } catch {
    // Without the parser's own words: they quote the data.
    throw new AttemptFault('invalid data', 'not JSON')
  }
}

/**
 * The end of an attempt's time, or of its partition. Most handlers never look at the signal, so it is made when somebody asks for it. An
 * `AbortSignal.timeout` would stay in memory, with the attempt's event, until its time has come.
 */
class AttemptLimit {
  #controller: AbortController | undefined
  #reject: ((reason: Error) => void) | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #reason: Error | undefined
  readonly #givenUp = (): void => this.#end(new Error('given up'))

  constructor(
    readonly timeoutMs: number,
    readonly partitionSignal: AbortSignal,
  ) {}

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#watch()
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  /** Rejects when the limit is reached, with the reason. */
  reached(): Promise<never> {
    this.#watch()
    return new Promise((_, reject) => {
      if (this.#reason !== undefined) reject(this.#reason)
      else this.#reject = reject
    })
  }

  /** The attempt is over. */
  end(): void {
    clearTimeout(this.#timer)
    this.partitionSignal.removeEventListener('abort', this.#givenUp)
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#reason !== undefined) return
    if (this.partitionSignal.aborted) {
      this.#givenUp()
      return
    }
    this.partitionSignal.addEventListener('abort', this.#givenUp)
    this.#timer = setTimeout(
      () => this.#end(new AttemptFault('handler timed out', `no result within ${this.timeoutMs} ms`)),
      this.timeoutMs,
    )
  }

  #end(reason: Error): void {
    this.#reason ??= reason
    this.#controller?.abort(this.#reason)
    this.#reject?.(this.#reason)
  }
}
