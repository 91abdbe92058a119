import type { Event } from '../../shared/events/event.ts'
import { headersOf, SCHEMA } from '../../shared/events/headers.ts'
import { redactor } from '../../shared/service/redact.ts'
import { type Context, createEnricher, type RecordOrigin } from '../enrich.ts'
import { type Failure, failedBy } from '../retry.ts'
import { runAttempt } from './attempt.ts'
import type { RegisteredHandler } from './handler.ts'
import { fitOf } from './versions.ts'

/** What the consumer would do after an attempt. */
export type TestOutcome =
  /** The result goes to `.processed`. `type` is that of the event if the handler gives none; `data` was serialised to JSON and parsed. */
  | { kind: 'processed'; type: string; data: unknown }
  /** The event goes to `.dlq`. */
  | ({ kind: 'dead' } & Failure)
  /** Another attempt follows, if any are left. */
  | ({ kind: 'retry' } & Failure)
  /** The event waits in `.retry` for a handler that takes its version, within `NEWER_SCHEMA_TIMEOUT_MS`. */
  | ({ kind: 'waits' } & Failure)

/** The default of `HANDLER_TIMEOUT_MS`. */
const TIMEOUT_MS = 30_000

/**
 * Makes one attempt as the consumer does, without Kafka: raises data of an older version, checks them by the handler's schema, passes frozen copies of event and
 * context, and checks and serialises the result.
 * @param given `schema`: the value of the event's header `kt-schema`
 */
export async function attemptOnce(
  registered: RegisteredHandler,
  event: Event,
  origin: RecordOrigin,
  given: { attempt?: number; lookups?: Context['lookups']; schema?: string | undefined } = {},
): Promise<TestOutcome> {
  const { attempt = 1, lookups, schema } = given
  const fit = fitOf(registered, { headers: headersOf(schema === undefined ? {} : { [SCHEMA]: schema }) }, event)
  if (fit.kind === 'newer') return { kind: 'waits', reason: 'newer schema', message: fit.message }
  if (fit.kind === 'no upcaster') return { kind: 'dead', reason: fit.kind, message: fit.message }
  const { raised } = fit
  const context = createEnricher({ nowMs: Date.now })(event, origin, registered, raised)
  if (lookups !== undefined) context.lookups = lookups
  try {
    const { signal } = new AbortController()
    const work = { data: event.data, raisedFrom: raised?.version, event, context }
    const result = await runAttempt(registered, work, attempt, signal, TIMEOUT_MS)
    return { kind: 'processed', type: result.type ?? event.type, data: JSON.parse(result.data) }
  } catch (error) {
    const { failure, isTerminal } = failedBy(error, redactor())
    return { kind: isTerminal ? 'dead' : 'retry', ...failure }
  }
}
