import type { Event } from '../../shared/events/event.ts'
import { redactor } from '../../shared/service/redact.ts'
import { type Context, createEnricher, type RecordOrigin } from '../enrich.ts'
import { type Failure, failedBy } from '../retry.ts'
import { runAttempt } from './attempt.ts'
import type { RegisteredHandler } from './handler.ts'

/** What the consumer would do after an attempt. */
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
 * Makes one attempt as the consumer does, without Kafka: checks the data by the handler's schema, passes frozen copies of event and context, and checks and
 * serialises the result.
 */
export async function attemptOnce(
  registered: RegisteredHandler,
  event: Event,
  origin: RecordOrigin,
  { attempt = 1, lookups }: { attempt?: number; lookups?: Context['lookups'] } = {},
): Promise<TestOutcome> {
  const context = createEnricher({ nowMs: Date.now })(event, origin, registered)
  if (lookups !== undefined) context.lookups = lookups
  try {
    const { signal } = new AbortController()
    const result = await runAttempt(registered, { data: event.data, event, context }, attempt, signal, TIMEOUT_MS)
    return { kind: 'processed', type: result.type ?? event.type, data: JSON.parse(result.data) }
  } catch (error) {
    const { failure, isTerminal } = failedBy(error, redactor())
    return { kind: isTerminal ? 'dead' : 'retry', ...failure }
  }
}
