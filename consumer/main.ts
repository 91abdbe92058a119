/**
 * The consumer: Kafka → outcome. In the order in which an event passes through:
 *   assignment (restore, hanging) → fetch → decide → decode → dedupe → enrich (reference-table) → handlers/ → retry · dead-letter · processed → commit
 *   consume has every branch of a record's life; lanes keep a key in order; partition-state holds all state; ahead stores what is done out of order; event-trace: spans
 *   pipeline joins these; config: every variable; metrics: every metric; health: readiness and lag; run wires them and holds no logic
 */

import '../shared/service/signals.ts'

// A static import would be loaded before signals are handled, and loading takes most of the start.
await import('./run.ts')
