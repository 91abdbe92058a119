import { isUtf8 } from 'node:buffer'
import { attributeFault, type Event, type Fault } from '../../shared/events/event.ts'
import { pointerTo } from '../../shared/events/json-pointer.ts'
import { CallTimeoutError, callWithin } from '../../shared/service/call-within.ts'
import { messageOf } from '../../shared/service/thrown.ts'
import type { Context } from '../enrich.ts'
import { AttemptFault } from './attempt-fault.ts'
import { faultsIn } from './data-schema.ts'
import type { Handled, Handling, RegisteredHandler } from './handler.ts'
import { raise } from './versions.ts'

/** A handler's result, checked and serialised. */
export interface Result {
  type: string | undefined
  /** JSON. */
  data: string
}

/** The largest result, as JSON in UTF-8: many times the brokers' default limit. Results are held in memory until they are committed. */
export const MAX_RESULT_BYTES = 64 * 2 ** 20

/** The event as it was received: a handler gets a copy, so that its changes have no effect. `event` and `context` are read only if the handler reads them. */
export interface Given {
  data: Buffer | null
  /** The version of the data, where it is an older one than the handler takes. */
  raisedFrom?: number | undefined
  event: Event
  context: Context
}

/**
 * Makes one attempt, with a time limit, and its number, from 1. A handler that ignores its signal continues in the background; its result is dropped.
 * @returns no promise when the handler returns none
 * @throws AttemptFault for data that its schema refuses, an invalid result, or a time-out; and whatever the handler throws. So does the promise
 */
export function runAttempt(
  registered: RegisteredHandler,
  given: Given,
  attempt: number,
  partitionSignal: AbortSignal,
  timeoutMs: number,
): Result | Promise<Result> {
  const parsed = jsonData(given.data)
  const bytes = given.data?.length ?? 0
  const limit = new AttemptLimit(timeoutMs, partitionSignal)
  const handling = new Handed(given, attempt, limit)
  let data: unknown
  let isWaiting = false
  try {
    // Reading the returned object also runs the handler's code: it may have getters, and a `toJSON`.
    const first = limit.within(() => {
      data = taken(registered, parsed, given.raisedFrom, bytes)
      const returned = registered.handle(data, handling)
      return promisedBy(returned) ?? resultOf(registered, returned, data)
    })
    if (!(first instanceof Promise)) return first
    isWaiting = true
    return limited(first, limit, (handled) => resultOf(registered, handled, data))
  } finally {
    if (!isWaiting) limit.end()
  }
}

async function limited(
  first: Promise<unknown>,
  limit: AttemptLimit,
  result: (handled: unknown) => Result,
): Promise<Result> {
  try {
    const handled = await Promise.race([first, limit.reached()])
    return limit.within(() => result(handled))
  } finally {
    limit.end()
  }
}

/** What a handler gets beside the data. */
class Handed implements Handling {
  readonly #given: Given
  readonly #limit: AttemptLimit
  #event: Event | undefined
  #context: Context | undefined

  constructor(
    given: Given,
    readonly attempt: number,
    limit: AttemptLimit,
  ) {
    this.#given = given
    this.#limit = limit
  }

  get event(): Event {
    this.#event ??= copyOf(this.#open().event)
    return this.#event
  }

  get context(): Context {
    this.#context ??= frozen(this.#open().context)
    return this.#context
  }

  /** When the attempt is over, the memory of its record may be another one's. @throws Error then */
  #open(): Given {
    if (this.#limit.isOver) throw new Error('the attempt is over: `event` and `context` have to be read before')
    return this.#given
  }

  get signal(): AbortSignal {
    return this.#limit.signal
  }
}

/** What a handler takes: the data, raised if need be, and checked. */
function taken(
  { type, check, versions }: RegisteredHandler,
  data: unknown,
  raisedFrom: number | undefined,
  bytes: number,
): unknown {
  const isRaised = versions !== undefined && raisedFrom !== undefined
  const taken = isRaised ? raise(versions, data, raisedFrom, bytes) : data
  if (check.passes(taken)) return taken
  const what = isRaised ? `raised from version ${raisedFrom}, not what` : 'not what'
  throw new AttemptFault('invalid data', `${what} ${type} takes: ${faultsIn(check, taken, bytes)}`)
}

/** Thenables, such as query builders, are awaited too. `then` is read once, since a getter may return another value the second time. */
function promisedBy(returned: unknown): Promise<unknown> | undefined {
  if ((typeof returned !== 'object' || returned === null) && typeof returned !== 'function') return undefined
  const { then } = returned as { then?: unknown }
  if (typeof then !== 'function') return undefined
  return new Promise((resolve, reject) => then.call(returned, resolve, reject))
}

/** A copy for a handler. Few handlers read the data as bytes, so these are copied on first use. */
function copyOf(event: Event): Event {
  let data: Buffer | null | undefined
  return Object.freeze({
    ...event,
    extensions: Object.freeze(Object.assign(Object.create(null), event.extensions)),
    get data() {
      // In memory of its own, not in the pool of small buffers.
      if (data === undefined) data = event.data === null ? null : Buffer.from(new Uint8Array(event.data).buffer)
      return data
    },
  })
}

/** Deeply frozen. */
function frozen<T extends object>(value: T): T {
  if (Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) frozen(inner)
  return value
}

/** Limits for naming members that a result must not have. */
const NAMED_MEMBERS = 10
const NAME_CHARS = 100

/**
 * Checks and serialises what a handler returned.
 * @param data what the handler was given
 * @throws AttemptFault naming every fault
 */
function resultOf({ type: handled, resultCheck }: RegisteredHandler, returned: unknown, data: unknown): Result {
  const faults: Fault[] = []
  const fault = (member: string, detail: string) => void faults.push({ pointer: pointerTo(member), detail })
  const { type, data: made, ...others } = read(returned)
  const names = Object.keys(others)
  for (const name of names.slice(0, NAMED_MEMBERS)) {
    // A handler may return the event's data as it is, and names that the sender chose must not be logged.
    const isSenders = typeof data === 'object' && data !== null && Object.hasOwn(data, name)
    fault(isSenders ? '…' : name.slice(0, NAME_CHARS), 'is no member of a result: { type?, data }')
  }
  if (names.length > NAMED_MEMBERS) fault('…', `and ${names.length - NAMED_MEMBERS} more are none`)
  if (type !== undefined) {
    const detail = typeof type === 'string' ? attributeFault('type', type) : `must be a text, not ${kindOf(type)}`
    if (detail !== undefined) fault('type', detail)
  }
  const json = jsonOf(made)
  if (json.text === undefined) fault('data', json.fault)
  if (faults.length > 0 || json.text === undefined)
    throw new AttemptFault('invalid result', faults.map(({ pointer, detail }) => `${pointer} ${detail}`).join('; '))
  if (json.text.length > MAX_RESULT_BYTES || Buffer.byteLength(json.text) > MAX_RESULT_BYTES)
    throw new AttemptFault('result too large', `its data is over ${MAX_RESULT_BYTES} bytes`)
  if (resultCheck !== undefined) {
    // As they are stored: a Date is a text there.
    const stored: unknown = JSON.parse(json.text)
    if (!resultCheck.passes(stored))
      throw new AttemptFault(
        'invalid result',
        `not what ${handled} gives: ${faultsIn(resultCheck, stored, json.text.length, '/data')}`,
      )
  }
  return { type: type as string | undefined, data: json.text }
}

/** Its own members, each read once, since a getter may return another value the second time. */
function read(returned: unknown): Partial<Handled> {
  try {
    // In a typed array each byte is a member, and reading millions of members cannot be stopped.
    const isObject = typeof returned === 'object' && returned !== null && !ArrayBuffer.isView(returned)
    if (isObject && !Array.isArray(returned)) return { ...returned }
  } catch {
    throw new AttemptFault('invalid result', 'the handler returned an object that cannot be read')
  }
  throw new AttemptFault('invalid result', `the handler returned ${kindOf(returned)}, not an object { type?, data }`)
}

function jsonOf(data: unknown): { text: string } | { text: undefined; fault: string } {
  try {
    const text: string | undefined = JSON.stringify(data)
    return text === undefined ? { text, fault: `must be JSON, not ${kindOf(data)}` } : { text }
  } catch (error) {
    // A `toJSON` may throw anything.
    return { text: undefined, fault: `cannot be written as JSON: ${messageOf(error)}` }
  }
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  if (ArrayBuffer.isView(value)) return 'bytes'
  try {
    return Array.isArray(value) ? 'an array' : 'an object'
  } catch {
    return 'an object that cannot be read'
  }
}

function jsonData(data: Buffer | null): unknown {
  if (data === null) return undefined
  // Decoding would replace invalid UTF-8.
  if (!isUtf8(data)) throw new AttemptFault('invalid data', 'not JSON: not UTF-8')
  try {
    return JSON.parse(data.toString('utf8'))
  } catch {
    // Without the parser's message, which quotes the data.
    throw new AttemptFault('invalid data', 'not JSON')
  }
}

/** A check of something that a handler threw. A proxy may throw when it is inspected; then it is false. */
export function holds(check: () => boolean): boolean {
  try {
    return check()
  } catch {
    return false
  }
}

/**
 * Ends an attempt when its time is over or its partition is revoked. Most handlers never use the signal, so it is made on first use. An
 * `AbortSignal.timeout` would stay in memory, with the attempt's event, until it fires.
 */
class AttemptLimit {
  #controller: AbortController | undefined
  #reject: ((reason: Error) => void) | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #reason: Error | undefined
  #isOver = false
  readonly #abandoned = (): void => this.#end(new Error('the partition was revoked, or the service is stopping'))

  constructor(
    readonly timeoutMs: number,
    readonly partitionSignal: AbortSignal,
  ) {}

  get isOver(): boolean {
    return this.#isOver
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#watch()
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    }
    return this.#controller.signal
  }

  /** Calls a function, and stops it if it blocks the thread for longer than the limit. */
  within<T>(call: () => T): T {
    try {
      return callWithin(this.timeoutMs, call)
    } catch (error) {
      if (!holds(() => error instanceof CallTimeoutError)) throw error
      const fault = new AttemptFault('handler timed out', (error as CallTimeoutError).message)
      this.#end(fault)
      throw fault
    }
  }

  /** Rejects when the limit is reached, with the reason. */
  reached(): Promise<never> {
    this.#watch()
    return new Promise((_, reject) => {
      if (this.#reason !== undefined) reject(this.#reason)
      else this.#reject = reject
    })
  }

  /** The attempt is over. A signal that is requested later is aborted. */
  end(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer)
      this.partitionSignal.removeEventListener('abort', this.#abandoned)
    }
    this.#reason ??= new Error('the attempt is over')
    this.#isOver = true
  }

  #watch(): void {
    if (this.#timer !== undefined || this.#reason !== undefined) return
    if (this.partitionSignal.aborted) {
      this.#abandoned()
      return
    }
    this.partitionSignal.addEventListener('abort', this.#abandoned)
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
