import type { Event } from '../../shared/events/event.ts'
import { redactor } from '../../shared/service/redact.ts'
import { type Context, createEnricher } from '../enrich.ts'
import { type Failure, failedBy } from '../retry.ts'
import { runAttempt } from './attempt.ts'
import { type Handler, handlerIndex } from './handler.ts'

/** An event to test with. Missing attributes get defaults; for a handler of a prefix, the type is required. */
export interface TestEvent extends Partial<Omit<Event, 'data'>> {
  /** A JSON value, or bytes, which are used as they are. */
  data?: unknown
}

/** What the consumer would do after this attempt. */
export type TestOutcome =
  /** The result goes to `.processed`. `type` is that of the event if the handler gives none; `data` was serialised to JSON and parsed. */
  | { kind: 'processed'; type: string; data: unknown }
  /** The event goes to `.dlq`. */
  | ({ kind: 'dead' } & Failure)
  /** Another attempt follows, if any are left. */
  | ({ kind: 'retry' } & Failure)

/** The default of `HANDLER_TIMEOUT_MS`. */
const TIMEOUT_MS = 30_000

/**
 * For unit tests of handlers: `import { testHandler } from 'kafkatrace/testing'`. Makes one attempt as the consumer does: checks the data by the handler's
 * schema, passes frozen copies of event and context, and checks and serialises the result.
 * @param given the number of the attempt, 1 by default, and the row of the reference table
 * @throws Error for an invalid handler, and for an event whose type it does not handle
 */
export async function testHandler(
  handler: Handler,
  { data, ...attributes }: TestEvent,
  given: { attempt?: number; lookups?: Context['lookups'] } = {},
): Promise<TestOutcome> {
  const event: Event = {
    id: '1',
    source: '/test',
    type: handler.type,
    extensions: {},
    ...attributes,
    data: data === undefined ? null : Buffer.from(data instanceof Uint8Array ? data : JSON.stringify(data)),
  }
  const registered = event.type.endsWith('*') ? undefined : handlerIndex([handler])(event.type)
  if (registered === undefined) throw new Error(`the handler of ${handler.type} takes no event of type ${event.type}`)
  const nowMs = Date.now()
  const origin = { tenant: 'test', stream: 'events', receivedAtMs: nowMs, timestampMs: nowMs }
  const context = createEnricher({ nowMs: () => nowMs })(event, origin, registered)
  if (given.lookups !== undefined) context.lookups = given.lookups
  try {
    const { signal } = new AbortController()
    const result = await runAttempt(
      registered,
      { data: event.data, event, context },
      given.attempt ?? 1,
      signal,
      TIMEOUT_MS,
    )
    return { kind: 'processed', type: result.type ?? event.type, data: JSON.parse(result.data) }
  } catch (error) {
    const { failure, isTerminal } = failedBy(error, redactor())
    return { kind: isTerminal ? 'dead' : 'retry', ...failure }
  }
}
