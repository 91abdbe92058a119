import type { Event } from '../../shared/events/event.ts'
import { redactor } from '../../shared/service/redact.ts'
import { type Context, createEnricher } from '../enrich.ts'
import { type Failure, failedBy } from '../retry.ts'
import { runAttempt } from './attempt.ts'
import { type Handler, handlerIndex } from './handler.ts'

/** For unit tests of handlers: `import { testHandler } from 'kafkatrace/testing'`. */

/** An event to test with. What is left out is filled in; of a handler for a prefix, the type is needed. */
export interface TestEvent extends Partial<Omit<Event, 'data'>> {
  /** Any JSON; bytes are taken as they are. */
  data?: unknown
}

/** What the consumer would do after this attempt. */
export type TestOutcome =
  /** The result goes to `.processed`: `type` is the event's own where the handler gives none, `data` has been JSON. */
  | { kind: 'processed'; type: string; data: unknown }
  /** The event goes to `.dlq`. */
  | ({ kind: 'dead' } & Failure)
  /** The attempt is followed by another, as long as there are any left. */
  | ({ kind: 'retry' } & Failure)

/** As `HANDLER_TIMEOUT_MS` is by default. */
const TIMEOUT_MS = 30_000

/**
 * Makes one attempt as the consumer does: the data is checked by the handler's schema, event and context are frozen copies, and the result is checked and
 * written as JSON.
 * @param given which attempt it is, the first where not given, and what the reference table says
 * @throws Error for what is no handler, and for an event of a type that it does not take
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
    const result = await runAttempt(registered, { event, context, attempt: given.attempt ?? 1 }, signal, TIMEOUT_MS)
    return { kind: 'processed', type: result.type ?? event.type, data: JSON.parse(result.data) }
  } catch (error) {
    const { failure, isTerminal } = failedBy(error, redactor())
    return { kind: isTerminal ? 'dead' : 'retry', ...failure }
  }
}
