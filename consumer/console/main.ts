/**
 * The console: what is in Kafka, for people. In the order in which a request passes through:
 *   app → parameters → routes, the table of everything that it answers
 *   reading: life (an event's, by id, receipt or trace), browse, follow (outcomes as they come), letters, status, schemas (who sends which), on scan and readers; view shows a record
 *   acting: jobs and redrive, on acts (one transaction each) and acts-log (their records, and the state that follows from them)
 *   config: every variable; metrics: every metric; openapi describes the routes; run wires them
 */

import '../../shared/service/signals.ts'

// A static import would be loaded before signals are handled, and loading takes most of the start.
await import('./run.ts')
