import { Type } from '@sinclair/typebox'
import { type Handler, RetryableError, TerminalError } from '../handlers/handler.ts'

/** Handlers that fail in various ways. Loaded by the consumer through HANDLERS_MODULE. */

export const FAULT_TYPE = 'dev.kafkatrace.fault.'

/** The variable of consumers in which the handler "unmended" works. */
export const MENDED = 'MENDED'

const Data = Type.Object({
  /** How many attempts fail before one succeeds. */
  failures: Type.Integer({ minimum: 0 }),
  /** How long an attempt takes. */
  workMs: Type.Integer({ minimum: 0 }),
})

const handler = (name: string, handle: Handler<typeof Data>['handle']): Handler => ({
  type: FAULT_TYPE + name,
  version: '1',
  schema: Data,
  handle: handle as Handler['handle'],
})

export const handlers: readonly Handler[] = [
  handler('always', () => {
    throw new RetryableError('this one never works')
  }),
  handler('sometimes', (data, { attempt }) => {
    if (attempt <= data.failures) throw new RetryableError(`attempt ${attempt} of those that fail`)
    return { data: { attempt } }
  }),
  handler('slow', async (data, { attempt, signal }) => {
    const awake = Promise.withResolvers<void>()
    const timer = setTimeout(awake.resolve, data.workMs)
    signal.addEventListener('abort', () => awake.resolve())
    await awake.promise
    clearTimeout(timer)
    signal.throwIfAborted()
    if (attempt <= data.failures) throw new Error('slow, and then not even a result')
    return { data: { attempt } }
  }),
  // It ignores the signal, so only the consumer's time-out ends the wait.
  handler('stuck', () => new Promise(() => {})),
  handler('hopeless', () => {
    throw new TerminalError('this can never work')
  }),
  // Fails in every consumer that is not told that its cause is mended.
  handler('unmended', () => {
    if (process.env[MENDED] === undefined) throw new TerminalError('its cause is not mended yet')
    return { data: {} }
  }),
  handler('stray', () => {
    void Promise.reject(new Error('nobody waits for this one'))
    return { data: {} }
  }),
  handler('odd', () => {
    // A handler may throw something that is not an Error.
    throw 'a text'
  }),
]
