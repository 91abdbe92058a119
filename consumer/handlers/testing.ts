import type { Event } from '../../shared/events/event.ts'
import { schemaHeader } from '../../shared/schemas/identity.ts'
import type { Context } from '../enrich.ts'
import { attemptOnce, type TestOutcome } from './attempt-once.ts'
import { type Handler, handlerIndex } from './handler.ts'

export type { TestOutcome } from './attempt-once.ts'

/** An event to test with. Missing attributes get defaults; for a handler of a prefix, the type is required. */
export interface TestEvent extends Partial<Omit<Event, 'data'>> {
  /** A JSON value, or bytes, which are used as they are. */
  data?: unknown
}

/**
 * For unit tests of handlers: `import { testHandler } from 'kafkatrace/testing'`. Makes one attempt as the consumer does: raises data of an older version of the
 * schema, checks them by the handler's, passes frozen copies of event and context, and checks and serialises the result.
 * @param given the number of the attempt, 1 by default; the row of the reference table; and the version of the event's schema, if the event says one
 * @throws Error for an invalid handler, and for an event whose type it does not handle
 */
export async function testHandler(
  handler: Handler,
  { data, ...attributes }: TestEvent,
  given: { attempt?: number; lookups?: Context['lookups']; schemaVersion?: number } = {},
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
  const { schemaVersion } = given
  const schema = schemaVersion === undefined ? undefined : schemaHeader(`test.events-${event.type}`, schemaVersion)
  return attemptOnce(registered, event, origin, { ...given, schema })
}
