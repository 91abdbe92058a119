import { Counter, Gauge, Registry } from 'prom-client'
import type { Access } from '../shared/http/access.ts'
import type { IssuerKeys } from '../shared/http/issuer.ts'
import { LATENCY_BUCKETS_SECONDS } from '../shared/http/ops.ts'
import { AUTHENTICATION_FAILURES, type AuthenticationFailure } from '../shared/http/problem.ts'
import type { Credential, Tenant } from '../shared/http/tenants.ts'
import type { RecordProducer } from '../shared/kafka/types.ts'
import type { SchemaStore } from '../shared/schemas/store.ts'
import { LatencyHistogram, type Tally, tallies } from '../shared/service/tally.ts'
import type { Gate } from './admit.ts'
import { QUOTA_SCOPES, type QuotaScope } from './problem.ts'
import { CHECKED, type Checks, UNCHECKED } from './schemas.ts'
import { REFUSALS } from './sources/kind.ts'

/** Label values of routes. Paths are not labels, since clients could make up any number of them. */
export const ROUTES = ['events', 'webhooks', 'handshake', 'preflight', 'openapi', 'docs', 'other'] as const
export type Route = (typeof ROUTES)[number]

/** Outcomes of an event for its sender. "refused" is every 4xx. */
export const OUTCOMES = ['stored', 'not_stored', 'unknown', 'refused'] as const
export type EventsOutcome = (typeof OUTCOMES)[number]

/**
 * What became of a webhook: taken (stored, or answered because it has no event), not taken for its sender's, refused for what is in it (4xx), or not taken
 * now (503).
 */
export const WEBHOOK_RESULTS = ['taken', ...REFUSALS, 'refused', 'unavailable'] as const
export type WebhookResult = (typeof WEBHOOK_RESULTS)[number]

/** What became of a tenant's request: answered as it asked, refused (4xx) or failed (5xx). */
export const ANSWER_RESULTS = ['ok', 'refused', 'failed'] as const
export type AnswerResult = (typeof ANSWER_RESULTS)[number]

/** Series that exist, with 0, before the first request. */
const STATUSES = [200, 202, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503]

/** Each is a series. */
const MAX_SHOWN_KEYS = 1_000

interface Observed {
  gate: Gate
  quotaReplicas(): number
  producer: RecordProducer
  topics(): readonly string[]
  schemas: SchemaStore
  access: Pick<Access, 'state'>
  /** With AUTH=jwt. */
  tokenKeys: Pick<IssuerKeys, 'state'> | undefined
  isDegraded(): boolean
}

/** The producer's own metrics. */
export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ name: `kafkatrace_producer_${name}`, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ name: `kafkatrace_producer_${name}`, help, labelNames, registers })
  const histogram = (name: string, help: string) =>
    new LatencyHistogram({ name: `kafkatrace_producer_${name}`, help, buckets: LATENCY_BUCKETS_SECONDS, registers })

  const table = {
    requests: counter(
      'http_requests_total',
      'Requests by route and status. An NDJSON stream with events that were not stored, or may not be, counts as 503.',
      ['route', 'status'],
    ),
    events: counter(
      'events_total',
      'Events by outcome: stored, not_stored, unknown or refused (4xx). Events of requests that are refused unread are not counted.',
      ['tenant', 'stream', 'outcome'],
    ),
    tenantRequests: counter(
      'tenant_requests_total',
      'Requests for events, by tenant and result: ok, refused (4xx) or failed (5xx). Requests whose tenant is not known, such as those that overload refuses unread, are not counted.',
      ['tenant', 'result'],
    ),
    crowded: counter(
      'crowded_requests_total',
      'Requests refused with 503 for lack of room, by tenant. With several tenants, a tenant may use no more room than stays free for the others.',
      ['tenant'],
    ),
    overQuota: counter(
      'over_quota_requests_total',
      'Requests that were refused with 429, or with 503 for webhooks, by tenant and by whose quota was used up: the tenant’s, the stream’s or the key’s. Not lines of a stream, which wait for quota.',
      ['tenant', 'quota'],
    ),
    quotaReplicas: gauge('quota_replicas', 'Producers among which quotas are divided.'),
    authenticationFailures: counter(
      'authentication_failures_total',
      'Requests without a key, with several or an unknown one, with one that has expired or is not valid yet, or with one of another tenant than they name.',
      ['reason'],
    ),
    keyExpiry: gauge(
      'key_expiry_timestamp_seconds',
      `When a key expires, as Unix time. Of operators’ keys, the tenant is empty. Keys without an end are not shown, and at most the ${MAX_SHOWN_KEYS} that expire next are.`,
      ['tenant', 'key'],
    ),
    requestSeconds: histogram(
      'request_seconds',
      'Time from a request’s arrival to its answer. NDJSON streams are not counted, nor are requests that are refused: with 4xx, or for lack of room or Kafka.',
    ),
    ackSeconds: histogram(
      'ack_seconds',
      'Time from passing a request’s events to the Kafka client to the last acknowledgement, or to the end of the wait for it.',
    ),
    inFlightRequests: gauge('in_flight_requests', 'Requests being served.'),
    inFlightBytes: gauge('in_flight_bytes', 'Bytes reserved for the bodies of requests being served.'),
    queueRecords: gauge('queue_records', 'Records waiting for acknowledgement by Kafka.'),
    queueBytes: gauge('queue_bytes', 'Bytes of records waiting for acknowledgement by Kafka.'),
    admittedRequests: gauge(
      'admitted_requests',
      'Requests that may be served concurrently, without NDJSON streams. Below the limit while the thread does not keep up.',
    ),
    limit: gauge('limit', 'Configured limit, by level.', ['level']),
    connected: gauge('kafka_connected', '1 while Kafka is reachable, else 0.'),
    degraded: gauge(
      'degraded',
      '1 while the service is ready although it can store no event, so that requests are answered 503 and not refused, else 0.',
    ),
    blockedStreams: gauge(
      'blocked_streams',
      'Streams that cannot be written to: Kafka, a producer id, the topic, or permission to write to it is missing, or their last records were not acknowledged in time or had a time that the topic refuses.',
    ),
    handshakes: counter('webhook_handshakes_total', 'CloudEvents webhook validation requests granted.'),
    webhooks: counter(
      'webhooks_total',
      'Requests to /v1/sources by result: taken (stored, or without an event), unsigned, wrong (signature or token), stale, refused (4xx for what is in them) or unavailable (503). Those for a source that is not declared have no tenant and no source.',
      ['tenant', 'source', 'result'],
    ),
    schemaChecks: counter(
      'schema_checks_total',
      'Events of streams with schemas by the type and version that they were checked by, and result: valid or invalid; without type and version: no_schema, or unknown while it cannot be told.',
      ['tenant', 'stream', 'type', 'version', 'result'],
    ),
    schemas: gauge('schemas', 'Versions of schemas that are in use.'),
    schemasCurrent: gauge(
      'schemas_current',
      '0 while /readyz says that something is wrong with the schemas of SCHEMAS_DIR or the registry, else 1.',
    ),
    tenantsCurrent: gauge(
      'tenants_current',
      '0 while /readyz says that TENANTS_FILE is not used and what it said before is, else 1.',
    ),
    tokenKeysCurrent: gauge(
      'token_keys_current',
      '0 while /readyz says that the keys of JWT_ISSUER cannot be read, else 1.',
    ),
  }
  const requestTally = tallies(table.requests)
  const eventTally = tallies(table.events)
  const answersTally = tallies(table.tenantRequests)
  const answersOf = (tenant: string) =>
    Object.fromEntries(ANSWER_RESULTS.map((result) => [result, answersTally({ tenant, result })])) as Record<
      AnswerResult,
      Tally
    >
  const crowdedTally = tallies(table.crowded)
  const crowdedOf = (tenant: string): Tally => crowdedTally({ tenant })
  const overQuotaTally = tallies(table.overQuota)
  const overQuotaOf = (tenant: string) =>
    Object.fromEntries(QUOTA_SCOPES.map((quota) => [quota, overQuotaTally({ tenant, quota })])) as Record<
      QuotaScope,
      Tally
    >
  const eventsOf = (tenant: string, stream: string) =>
    Object.fromEntries(OUTCOMES.map((outcome) => [outcome, eventTally({ tenant, stream, outcome })])) as Record<
      EventsOutcome,
      Tally
    >
  const schemaTally = tallies(table.schemaChecks)
  const checksOf = (tenant: string, stream: string): Checks => {
    const results = <R extends string>(of: readonly R[], type: string, version: string) =>
      Object.fromEntries(
        of.map((result) => [result, schemaTally({ tenant, stream, type, version, result })]),
      ) as Record<R, Tally>
    return {
      of: (type, version) => results(CHECKED, type, String(version)),
      others: () => results(UNCHECKED, '', ''),
    }
  }
  const webhookTally = tallies(table.webhooks)
  const webhooksOf = (tenant: string, source: string) =>
    Object.fromEntries(WEBHOOK_RESULTS.map((result) => [result, webhookTally({ tenant, source, result })])) as Record<
      WebhookResult,
      Tally
    >
  for (const reason of AUTHENTICATION_FAILURES) table.authenticationFailures.inc({ reason }, 0)
  const ackSeconds = table.ackSeconds.series()
  const statusOf = (route: Route, status: number): Tally => requestTally({ route, status: String(status) })
  const seriesOf = (route: Route) => ({
    seconds: table.requestSeconds.series({ route }),
    statuses: new Map(
      (route === 'events' || route === 'webhooks' ? STATUSES : [200]).map((status) => [
        status,
        statusOf(route, status),
      ]),
    ),
  })
  const byRoute = Object.fromEntries(ROUTES.map((route) => [route, seriesOf(route)])) as Record<
    Route,
    ReturnType<typeof seriesOf>
  >
  return {
    registry,
    handshakes: table.handshakes,
    ackSeconds,
    /** Tallies of a stream's events, by outcome. */
    eventsOf,
    /** Tallies of a stream's events that were, or were not, checked by a schema. */
    checksOf,
    /** Tallies of a source's webhooks, by result. */
    webhooksOf,
    /** The tallies of a tenant's requests, by result. */
    answersOf,
    /** The tally of a tenant's requests that found no room. */
    crowdedOf,
    /** The tallies of a tenant's requests over quota, by whose it is. */
    overQuotaOf,
    /** Counts an answer. `seconds` undefined: refused early, so its time says nothing of how long requests take. */
    answered(
      route: Route,
      status: number,
      seconds: number | undefined,
      trace?: { traceId: string; spanId: string },
    ): void {
      const { statuses, seconds: series } = byRoute[route]
      let tally = statuses.get(status)
      if (tally === undefined) {
        tally = statusOf(route, status)
        statuses.set(status, tally)
      }
      tally.count++
      if (seconds !== undefined) series.observe(seconds, trace)
    },
    /**
     * Makes the series of every tenant and stream, so that they are there before the first request. Those of tenants and streams that are gone stay until a
     * restart: they count what was, and one that comes back goes on counting.
     */
    declare(tenants: readonly Tenant[]): void {
      for (const { name: tenant, streams } of tenants) {
        answersOf(tenant)
        crowdedOf(tenant)
        overQuotaOf(tenant)
        for (const stream of streams) eventsOf(tenant, stream)
      }
    },
    authenticationFailed: (reason: AuthenticationFailure): void => table.authenticationFailures.inc({ reason }),
    /** Shows when these keys expire, and no others. One that has expired is shown until it expires no more. */
    showKeys(credentials: Iterable<Credential>): void {
      table.keyExpiry.reset()
      const expiring = [...credentials].flatMap(({ keyId, tenant, validUntilMs }) =>
        validUntilMs === undefined ? [] : [{ key: keyId, tenant: tenant?.name ?? '', untilMs: validUntilMs }],
      )
      const nowMs = Date.now()
      // Those that have expired already come last.
      const order = (untilMs: number): number => (untilMs > nowMs ? untilMs : Number.POSITIVE_INFINITY)
      expiring.sort((one, other) => order(one.untilMs) - order(other.untilMs))
      for (const { key, tenant, untilMs } of expiring.slice(0, MAX_SHOWN_KEYS))
        table.keyExpiry.set({ tenant, key }, untilMs / 1_000)
    },
    /** Reads the levels at each scrape. @param topics the streams' input topics */
    observe({ gate, quotaReplicas, producer, topics, schemas, access, tokenKeys, isDegraded }: Observed): void {
      const { maxRecords, maxBytes } = producer.queue()
      table.limit.set({ level: 'in_flight_requests' }, gate.limits.maxRequests)
      table.limit.set({ level: 'in_flight_bytes' }, gate.limits.maxBytes)
      table.limit.set({ level: 'queue_records' }, maxRecords)
      table.limit.set({ level: 'queue_bytes' }, maxBytes)
      const read = (): void => {
        table.inFlightRequests.set(gate.level.requests)
        table.quotaReplicas.set(quotaReplicas())
        table.admittedRequests.set(gate.admitted)
        table.inFlightBytes.set(gate.level.bytes)
        const queue = producer.queue()
        table.queueRecords.set(queue.records)
        table.queueBytes.set(queue.bytes)
        table.connected.set(producer.connection().state === 'connected' ? 1 : 0)
        table.degraded.set(isDegraded() ? 1 : 0)
        const state = schemas.state()
        table.schemas.set(schemas.versions())
        table.schemasCurrent.set(state.ok && state.detail === undefined ? 1 : 0)
        table.tenantsCurrent.set(access.state().detail === undefined ? 1 : 0)
        table.tokenKeysCurrent.set(tokenKeys?.state().detail === undefined ? 1 : 0)
        table.blockedStreams.set(
          topics().filter((topic) => (producer.blocked(topic) ?? producer.unacknowledged(topic)) !== undefined).length,
        )
      }
      read()
      // prom-client collects each metric by itself; one of them reads all levels, so that they are of one moment.
      Object.assign(table.inFlightRequests, { collect: read })
    },
  }
}

export type Metrics = ReturnType<typeof createMetrics>
