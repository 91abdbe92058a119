/**
 * The producer: HTTP → Kafka. In the order in which a request passes through:
 *   app → post: head → authenticate → media-type → admit → quota → body → turns → parse → publish: validate → receipt · problem
 *   webhooks does the same for senders that sign: a kind in sources/ verifies and names what came; store has what both have in common
 *   ndjson does the same for streams, line by line; answers counts and logs answers; handshake answers senders of CloudEvents that ask before they send; openapi and docs describe it all
 *   cors lets pages of other origins send; public-port opens when readiness allows it, and drains
 *   replicas says among how many producers quotas are divided; peers whether another one can store events; tenant-key is a command of its own
 *   config: every variable; metrics: every metric; run wires them
 */

import '../shared/service/signals.ts'

// A static import would be loaded before signals are handled, and loading takes most of the start.
await import('./run.ts')
