import type { Span } from '@opentelemetry/api'
import { type Context, Hono } from 'hono'
import type { Event } from '../shared/events/event.ts'
import type { Defaults } from '../shared/events/event-json.ts'
import type { OutgoingRecord } from '../shared/events/record.ts'
import { inputTopic } from '../shared/events/topics.ts'
import { type DeliveryResult, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { ambiguity, headAsGet, NOSNIFF, pathOf } from '../shared/service/http.ts'
import { type Logger, TenantLines } from '../shared/service/logger.ts'
import { turn } from '../shared/service/retry.ts'
import type { Tally } from '../shared/service/tally.ts'
import { isoTime } from '../shared/service/time.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'
import { contextOf } from '../shared/tracing/tracing.ts'
import { type Gate, holding, type Meter, type Meters, overQuota, type Stay, shareQueue } from './admit.ts'
import { type Authenticate, DEFAULT_STREAM, hasQueryKey } from './authenticate.ts'
import { announcedBytes, readBody, streamBody } from './body.ts'
import type { ProducerConfig } from './config.ts'
import { docsPage } from './docs.ts'
import { handshake } from './handshake.ts'
import { type Encoding, encodingOf, type Mode, modeOf } from './media-type.ts'
import type { EventsOutcome, Metrics, Route } from './metrics.ts'
import { answerStream } from './ndjson.ts'
import { openApi } from './openapi.ts'
import { parseBody } from './parse.ts'
import { PROBLEMS, type Problem, problemResponse, repeatedProblem } from './problem.ts'
import { cannotTake, type Origin, recordOf, traceOf, undelivered } from './publish.ts'
import { receiptText } from './receipt.ts'
import type { Tenant } from './tenants.ts'
import { Turns } from './turns.ts'
import { notTaken, tooLarge, validEvents } from './validate.ts'

export interface AppDeps {
  config: ProducerConfig
  producer: RecordProducer
  authenticate: Authenticate
  gate: Gate
  meters: Meters
  metrics: Metrics
  log: Logger
  /** undefined: no spans. */
  tracing: Tracing | undefined
  nowMs(): number
  /** Aborted when NDJSON streams have to end, since the process stops. */
  ending: AbortSignal
}

/** A request, and what is known of it so far. */
interface Visit {
  request: Request
  id: string
  route: Route
  receivedAtMs: number
  startedAt: number
  span: Span | undefined
  /** Whether its time says how long requests take: not where it was refused before its body was read, or for lack of room or quota. */
  isServed: boolean
}

/** An unread body up to this size is read and dropped to keep the connection; a larger one costs more than a new connection. */
const MAX_DROPPED_BYTES = 64 * 1024

/**
 * What a stream of lines holds at first. Of a fast sender Bun reads 1.6 MB before anybody asks for it, and does not say so; most send less at a time. 512 streams of
 * 64 KB each made 1.1 GB.
 */
const STREAM_BYTES = 256 * 1024

/** Reading a body of this size takes the thread for a millisecond, roughly. */
const LARGE_BODY_BYTES = 64 * 1024

/** An id may be 16 KB long, and a request have 1,000. */
const LOGGED_ID_CHARS = 256

const loggedIds = (ids: readonly string[]): string[] => ids.map((id) => id.slice(0, LOGGED_ID_CHARS))

/** The public HTTP interface. */
export function createApp(deps: AppDeps): Hono {
  const { config, gate, log, metrics } = deps
  const document = JSON.stringify(openApi(config))
  const page = docsPage()
  const app = new Hono({ getPath: pathOf })

  const bodyLimits = {
    maxBytes: config.MAX_BODY_BYTES,
    timeoutMs: config.REQUEST_TIMEOUT_MS - config.DELIVERY_TIMEOUT_MS,
  }
  const parseLimits = {
    maxDepth: config.MAX_NESTING_DEPTH,
    maxEvents: config.MAX_BATCH_EVENTS,
    strict: config.CLOUDEVENTS_STRICT === 'on',
  }
  const targets = new Map<Tenant, Map<string, Target>>()
  const turns = new Turns()
  const lines = new TenantLines()
  const producerOf = shareQueue(deps.producer, gate.tenants)

  /** Of a stream that the tenant has. */
  function targetOf(tenant: Tenant, stream: string): Target {
    const ofTenant = targets.get(tenant) ?? new Map<string, Target>()
    let target = ofTenant.get(stream)
    if (target === undefined) {
      target = {
        tenant,
        topic: inputTopic(tenant.name, stream),
        producer: producerOf(tenant.name),
        meter: deps.meters.of(tenant),
        crowded: metrics.crowdedOf(tenant.name),
        counted: metrics.eventsOf(tenant.name, stream),
        defaults: defaultsOf(tenant),
      }
      targets.set(tenant, ofTenant.set(stream, target))
    }
    return target
  }

  const visit = (request: Request, route: Route): Visit => ({
    request,
    id: requestId(request),
    route,
    receivedAtMs: deps.nowMs(),
    startedAt: performance.now(),
    span: undefined,
    isServed: route !== 'events',
  })

  /** The one place where an answer is counted. */
  function finish(of: Visit, response: Response): Response {
    answered(of, response.status)
    if (gate.draining || leavesBody(of.request)) response.headers.set('connection', 'close')
    return response
  }

  function answered({ route, span, startedAt, isServed }: Visit, status: number): void {
    metrics.answered(route, status, isServed ? (performance.now() - startedAt) / 1_000 : undefined)
    if (span === undefined) return
    span.setAttribute('http.response.status_code', status)
    deps.tracing?.end(span, status >= 500 ? 'failed' : 'ok')
  }

  function refuse(of: Visit, problem: Problem, context: { tenant?: string; [name: string]: unknown } = {}): Response {
    const { status } = PROBLEMS[problem.kind]
    const unserved = status === 503 && problem.kind !== 'undelivered'
    // Neither overload nor a sender that does not wait may fill the log; the metrics count it.
    const level = unserved || status === 429 ? 'debug' : status >= 500 ? 'warn' : lines.level(context.tenant, 'info')
    if (log.isLevelEnabled(level))
      log[level]({ requestId: of.id, status, problem: problem.kind, ...context }, problem.detail)
    if (unserved || status === 429) of.isServed = false
    return finish(of, problemResponse(problem, of.id))
  }

  const refusals = new Map<Problem, (closes: boolean) => Response>()

  /** Refuses a request for events that finds no room, at the least cost. */
  function refuseAtOnce(request: Request, problem: Problem): Response {
    let refusal = refusals.get(problem)
    if (refusal === undefined) {
      refusal = repeatedProblem(problem)
      refusals.set(problem, refusal)
    }
    metrics.answered('events', PROBLEMS[problem.kind].status, undefined)
    const announced = announcedBytes(request.headers)
    return refusal(gate.draining || announced === undefined || !(announced <= MAX_DROPPED_BYTES))
  }

  const logFailure = (of: Visit, error: unknown): void =>
    log.error({ requestId: of.id, err: error }, 'a request failed unexpectedly')

  function failed(of: Visit, error: unknown): Response {
    logFailure(of, error)
    of.isServed = true
    return refuse(of, {
      kind: 'internal',
      detail: 'The service failed; its log says why. It is unknown what of the request was stored.',
      outcome: 'unknown',
    })
  }

  /** Answers a request; what fails unexpectedly keeps what is known of it. */
  async function serve(of: Visit, answer: (of: Visit) => Response | Promise<Response>): Promise<Response> {
    try {
      return await answer(of)
    } catch (error) {
      return failed(of, error)
    }
  }

  async function post(of: Visit, stream: string): Promise<Response> {
    const { request } = of
    const { bytes: headerBytes, hasAttributes, hasTrailer, repeated } = headerFacts(request.headers)
    if (headerBytes > config.MAX_HEADER_BYTES) return refuse(of, headersTooLarge(config.MAX_HEADER_BYTES))
    // Only a chunked body has one.
    if (hasTrailer && request.headers.has('transfer-encoding')) return refuse(of, TRAILER)
    if (repeated !== undefined) return refuse(of, repeatedAttribute(repeated))
    const authenticated = deps.authenticate(request, stream)
    if (!authenticated.ok) return refuse(of, authenticated.problem)
    const { tenant, keyId } = authenticated
    const target = targetOf(tenant, stream)
    const trace = traceOfRequest(request.headers)
    // Not of those without a key: there is room for so many spans, and whoever says that a request is sampled has it recorded.
    of.span = deps.tracing?.begin(`POST ${STREAM_PATH}`, 'server', trace, {
      'http.request.method': 'POST',
      'http.route': STREAM_PATH,
      'kafkatrace.request_id': of.id,
      'kafkatrace.tenant': tenant.name,
      'messaging.system': 'kafka',
      'messaging.destination.name': target.topic,
    })
    const context = { tenant: tenant.name, stream, key: keyId }
    /** What is wrong with a request costs its tenant's quota all the same: so many bytes, and the events that it has, one where that is not known. */
    const refused = (problem: Problem, bytes = headerBytes, count = 1): Response => {
      if (problem.kind === 'overloaded') target.crowded.count++
      if (PROBLEMS[problem.kind].status < 500 && problem.kind !== 'over-quota') target.meter?.spend(count, bytes)
      return refuse(of, problem, context)
    }
    const mode = modeOf(request.headers, hasAttributes)
    if (!mode.ok) return refused(mode.problem)
    const encoding = encodingOf(request.headers)
    if (!encoding.ok) return refused(encoding.problem)
    const origin: Origin = {
      tenant: tenant.name,
      stream,
      topic: target.topic,
      receivedAtMs: of.receivedAtMs,
      trace,
    }
    if (of.span !== undefined) {
      const ours = contextOf(of.span, trace)
      // An event may carry a trace of its own, which comes before one that has begun here.
      if (trace === undefined) origin.begun = ours
      else origin.trace = ours
    }
    // Before the body is read, so that an outage costs neither memory nor the client's time.
    const blocked = cannotTake(target.producer, origin.topic, 1, 0)
    if (blocked !== undefined) return refused(blocked)
    const lines = mode.mode === 'ndjson'
    const announced = announcedBytes(request.headers) ?? (request.body === null ? 0 : undefined)
    const first = lines
      ? Math.min(STREAM_BYTES, config.NDJSON_WINDOW_BYTES)
      : gate.setAside(announced, config.MAX_BODY_BYTES)
    const entered = gate.enter(tenant.name, first, lines)
    if (!entered.ok) {
      if (of.span !== undefined) return refused(entered.problem)
      target.crowded.count++
      return refuseAtOnce(request, entered.problem)
    }
    const { stay } = entered
    of.isServed = true
    if (mode.mode === 'ndjson') {
      target.meter?.spend(0, headerBytes)
      return answerLines(of, encoding.encoding, origin, target, stay)
    }
    try {
      const over = overQuotaNow(target.meter, headerBytes)
      if (over !== undefined) return refuse(of, over, context)
      const limits = { ...bodyLimits, heldBytes: stay.bytes, hold: (bytes: number) => gate.hold(stay, bytes) }
      const body = await readBody(request, encoding.encoding, limits).catch(brokenOff)
      if (!body.ok) return refused(body.problem, headerBytes + stay.bytes)
      gate.hold(stay, body.bytes.length)
      const bytes = headerBytes + body.bytes.length
      await turn()
      const waiting = body.bytes.length > LARGE_BODY_BYTES ? turns.next(tenant.name) : undefined
      if (waiting !== undefined) await waiting
      if (request.signal.aborted) return refused(MORE_THAN_A_REQUEST, bytes)
      const prepared = prepare(of, mode.mode, body.bytes, bytes, origin, target)
      if (!prepared.ok) return refused(prepared.problem, bytes, prepared.count)
      const { events, records } = prepared
      of.span?.setAttribute('messaging.batch.message_count', events.length).addEvent('handed over to Kafka')
      const handedOver = performance.now()
      const results = await target.producer.produce(records)
      // What Kafka was not given, or has refused, was acknowledged by nobody, and soon.
      if (results.some((one) => !(one instanceof ProduceError) || one.outcome === 'unknown'))
        metrics.ackSeconds.observe((performance.now() - handedOver) / 1_000)
      return answer(of, events, results, origin, target, context)
    } finally {
      gate.leave(stay)
    }
  }

  /**
   * A body that is there as a whole, as records; or what is wrong with the request, of which nothing is stored then, and how many events it has.
   * @param cost bytes of the request that count against the quota
   */
  function prepare(
    of: Visit,
    mode: Exclude<Mode, 'ndjson'>,
    bytes: Buffer,
    cost: number,
    origin: Origin,
    { producer, meter, counted, defaults }: Target,
  ): { ok: true; events: Event[]; records: OutgoingRecord[] } | { ok: false; problem: Problem; count: number } {
    const over = overQuotaNow(meter, cost)
    if (over !== undefined) return { ok: false, problem: over, count: 0 }
    defaults.nowMs = of.receivedAtMs
    const parsed = parseBody(mode, of.request.headers, bytes, defaults, parseLimits)
    if (!parsed.ok) return { ...parsed, count: 1 }
    const count = parsed.results.length
    const refused = (problem: Problem, outcome: 'refused' | 'not_stored' = 'refused') => {
      counted[outcome].count += count
      return { ok: false, problem, count } as const
    }
    const valid = validEvents(parsed.results)
    if (!valid.ok) return refused(valid.problem)
    const { events } = valid
    const partitions = deps.producer.partitionCount(origin.topic) ?? 1
    const records: OutgoingRecord[] = []
    for (const event of events) records.push(recordOf(event, origin, traceOf(event, origin), partitions))
    const single = !parsed.isList
    const refusal =
      tooLarge(records, config.MAX_EVENT_BYTES, single) ?? notTaken(records, producer.settings(origin.topic), single)
    if (refusal !== undefined) return refused(refusal)
    const blocked = cannotTake(producer, origin.topic, count, bytes.length)
    if (blocked !== undefined) return refused(blocked, 'not_stored')
    const waitMs = meter?.take(count, cost) ?? 0
    if (waitMs > 0) return refused({ ...overQuota(waitMs), headers: meter?.headers() ?? {} })
    return { ok: true, events, records }
  }

  /** What became of the events of a request, told to whoever sent it. */
  function answer(
    of: Visit,
    events: readonly Event[],
    results: readonly DeliveryResult[],
    origin: Origin,
    { meter, counted }: Target,
    context: Record<string, unknown>,
  ): Response {
    let receipts = ''
    let stored = 0
    for (let index = 0; index < results.length; index++) {
      const result = results[index] as DeliveryResult
      if (result instanceof ProduceError) counted[result.outcome === 'unknown' ? 'unknown' : 'not_stored'].count++
      else {
        const receipt = receiptText((events[index] as Event).id, origin.stream, result)
        receipts += stored++ === 0 ? receipt : `,${receipt}`
      }
    }
    counted.stored.count += stored
    const traceId = (origin.trace ?? origin.begun)?.traceId
    if (stored < results.length)
      return refuse(of, undelivered(events, results, origin.stream), {
        ...context,
        traceId,
        events: loggedIds(events.map((event) => event.id)),
      })
    const lost = of.request.signal.aborted
    const level = lost ? 'info' : 'debug'
    if (log.isLevelEnabled(level))
      log[level](
        { requestId: of.id, traceId, ...context, events: loggedIds(events.map((event) => event.id)) },
        lost ? STORED_UNANSWERED : 'stored',
      )
    return finish(of, accepted(of, receipts, meter?.headers()))
  }

  function accepted(of: Visit, receipts: string, limits: Record<string, string> = {}): Response {
    const headers: Record<string, string> = {
      'content-type': 'application/json',
      'x-request-id': of.id,
      ...NOSNIFF,
      ...limits,
    }
    if (hasQueryKey(of.request.url)) headers['cache-control'] = 'private'
    return new Response(`{"receipts":[${receipts}]}`, { status: 202, headers })
  }

  /** The way of an NDJSON stream: the answer begins before the request has ended. */
  function answerLines(of: Visit, encoding: Encoding, origin: Origin, target: Target, stay: Stay): Response {
    const { tenant, producer, meter, counted } = target
    const windowBytes = config.NDJSON_WINDOW_BYTES
    const { body: raw, signal } = of.request
    const decodes = (bytes: number) => gate.holdDecoder(stay, bytes)
    const body = wellEnded(streamBody(raw ?? noBody(), encoding, decodes), signal)
    const stream = answerStream({
      body: holding(body, gate, stay, windowBytes),
      producer,
      meter,
      turns,
      origin,
      defaults: defaultsOf(tenant),
      limits: {
        maxLineBytes: config.NDJSON_MAX_LINE_BYTES,
        maxDepth: config.MAX_NESTING_DEPTH,
        maxEventBytes: config.MAX_EVENT_BYTES,
        windowEvents: config.NDJSON_WINDOW_EVENTS,
        get windowBytes() {
          return stay.bytes - stay.decoderBytes
        },
        progressTimeoutMs: config.NDJSON_PROGRESS_TIMEOUT_MS,
      },
      nowMs: deps.nowMs,
      ending: deps.ending,
      count: (outcome) => {
        counted[outcome].count++
      },
      failed: (error) => logFailure(of, error),
      ended: (summary, unanswered) => {
        gate.leave(stay)
        of.span?.setAttribute('messaging.batch.message_count', summary.events)
        answered(of, 200)
        const context = { requestId: of.id, traceId: origin.trace?.traceId, tenant: tenant.name, stream: origin.stream }
        log[summary.complete ? 'debug' : lines.level(tenant.name, 'info')](
          { ...context, ...summary },
          'an NDJSON stream has ended',
        )
        const { stored, unknown } = unanswered
        if (stored.length > 0) log.info({ ...context, events: loggedIds(stored) }, STORED_UNANSWERED)
        if (unknown.length > 0) log.warn({ ...context, events: loggedIds(unknown) }, UNKNOWN_UNANSWERED)
      },
    })
    return new Response(stream, {
      headers: {
        'content-type': 'application/x-ndjson',
        'cache-control': hasQueryKey(of.request.url) ? 'private, no-store' : 'no-store',
        'x-request-id': of.id,
        ...NOSNIFF,
        ...meter?.headers(),
        ...(gate.draining ? { connection: 'close' } : {}),
      },
    })
  }

  function options(of: Visit, stream: string): Response {
    const answered = handshake(of.request, stream, deps.authenticate)
    if (!answered.ok) return refuse(of, answered.problem)
    if (answered.granted) metrics.handshakes.inc()
    return finish(of, new Response(null, { headers: { ...answered.headers, ...NOSNIFF, 'x-request-id': of.id } }))
  }

  const wrongMethod = (request: Request, allow: string): Response =>
    refuse(visit(request, 'other'), {
      kind: 'method-not-allowed',
      detail: `${request.method} is not possible here: ${allow} ${allow.includes(',') ? 'are' : 'is'}.`,
      headers: { allow },
    })

  for (const path of ['/v1/events', STREAM_PATH] as const) {
    const stream = (c: Context): string => c.req.param('stream') ?? DEFAULT_STREAM
    app.post(path, (c) => serve(visit(c.req.raw, 'events'), (of) => post(of, stream(c))))
    app.options(path, (c) => serve(visit(c.req.raw, 'handshake'), (of) => options(of, stream(c))))
  }
  app.get('/openapi.json', (c) =>
    finish(
      visit(c.req.raw, 'openapi'),
      new Response(document, { headers: { 'content-type': 'application/json', ...NOSNIFF } }),
    ),
  )
  app.get('/docs', (c) => finish(visit(c.req.raw, 'docs'), new Response(page.html, { headers: page.headers })))
  // A second handler a path, for its other methods, would make every request go through the first one's `next`.
  app.notFound((c) => {
    if (EVENTS_PATH.test(c.req.path)) return wrongMethod(c.req.raw, 'POST, OPTIONS')
    if (c.req.path === '/openapi.json' || c.req.path === '/docs') return wrongMethod(c.req.raw, 'GET')
    return refuse(visit(c.req.raw, 'other'), {
      kind: 'not-found',
      detail: 'Events go to POST /v1/events or /v1/streams/{stream}/events; GET /docs shows how.',
    })
  })
  app.onError((error, c) => failed(visit(c.req.raw, 'other'), error))
  const routed = app.fetch
  // Before the request is even routed: under overload a refusal must cost next to nothing, or nothing is left for those who were let in.
  app.fetch = (request, ...rest) => {
    const { closed } = gate
    if (closed !== undefined && request.method === 'POST') return refuseAtOnce(request, closed)
    try {
      const fault = ambiguity(request.headers)
      if (fault === undefined) return routed(headAsGet(request), ...rest)
      return refuse(visit(request, 'other'), { kind: 'malformed', detail: fault, closes: true })
    } catch (error) {
      return failed(visit(request, 'other'), error)
    }
  }
  return app
}

const STORED_UNANSWERED = 'stored, but the connection had ended before the answer'
const UNKNOWN_UNANSWERED = 'unknown whether stored, and the connection had ended before the answer'

const STREAM_PATH = '/v1/streams/:stream/events'
const EVENTS_PATH = /^\/v1\/(?:events|streams\/[^/]+\/events)$/

const brokenOff = () =>
  ({
    ok: false,
    problem: { kind: 'malformed', detail: 'The body ended before it was complete.', closes: true },
  }) as const

/**
 * Bun reads on behind a request that is not answered yet. What is no request there, the trailer of a chunked body too, it answers by itself, 400, and
 * hangs up; another request makes it hang up. What comes together with the end of a body shows in the signal a turn later, before anything is stored.
 */
const MORE_THAN_A_REQUEST: Problem = {
  kind: 'malformed',
  detail:
    'The connection has ended, or brought more than a request before its answer. Nothing of the request was stored.',
  closes: true,
}

/** It may come when the event is stored already, and Bun would answer it, 400. */
const TRAILER: Problem = {
  kind: 'malformed',
  detail: 'Trailer fields are not taken: send the body without them.',
  closes: true,
}

/** A stream whose pieces are given on only when nothing came with them that has ended the connection. */
async function* wellEnded(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    await turn()
    if (signal.aborted) throw new Error(MORE_THAN_A_REQUEST.detail)
    yield piece
  }
}

/** Why a tenant has no quota even for one event: asked before its body is read and before that is parsed, since either costs more than refusing it. */
function overQuotaNow(meter: Meter | undefined, bytes: number): Problem | undefined {
  const waitMs = meter?.wait(1, bytes) ?? 0
  return waitMs === 0 ? undefined : { ...overQuota(waitMs), headers: meter?.headers() ?? {} }
}

/** A stream of a tenant, and what does not change from request to request. */
interface Target {
  tenant: Tenant
  topic: string
  /** The tenant's share of it. */
  producer: RecordProducer
  /** undefined: the tenant has no quota. */
  meter: Meter | undefined
  /** Requests that found no room. */
  crowded: Tally
  counted: Record<EventsOutcome, Tally>
  defaults: Defaults & { nowMs: number | undefined }
}

/** What the plain form leaves out. `nowMs` undefined: each event its own time. */
const defaultsOf = (tenant: Tenant): Target['defaults'] => ({
  nowMs: undefined,
  source: `urn:kafkatrace:tenant:${tenant.name}`,
  id: () => Bun.randomUUIDv7(),
  time() {
    return isoTime(this.nowMs ?? Date.now())
  },
})

function traceOfRequest(headers: Headers): TraceContext | undefined {
  const traceparent = headers.get('traceparent')
  return traceparent === null ? undefined : parseTraceparent(traceparent, headers.get('tracestate'))
}

/** Printable ASCII without spaces, so that it can be a header and a field of a log anywhere. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

function requestId(request: Request): string {
  const given = request.headers.get('x-request-id')
  return given !== null && REQUEST_ID.test(given) ? given : Bun.randomUUIDv7()
}

/**
 * What a look at every header tells: how many bytes they are, each with its ": " and line end, whether some are an event's attributes, and which of
 * those that have one value was given twice; whether a trailer is announced.
 */
function headerFacts(headers: Headers): {
  bytes: number
  hasAttributes: boolean
  hasTrailer: boolean
  repeated: string | undefined
} {
  let bytes = 0
  let hasAttributes = false
  let hasTrailer = false
  let repeated: string | undefined
  headers.forEach((value, name) => {
    bytes += name.length + value.length + 4
    if (name === 'trailer') hasTrailer = true
    if (!name.startsWith('ce-')) return
    hasAttributes = true
    if (SINGLE.has(name) && value.includes(', ') && value.split(', ').every(isEncoded)) repeated = name
  })
  return { bytes, hasAttributes, hasTrailer, repeated }
}

/**
 * Bun joins fields of one name by a comma and a space. A sender that encodes sends no space, so that between two encoded values they stand for two
 * fields; where something else is not encoded either, for themselves.
 */
const SINGLE = new Set(['ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-time'])
const isEncoded = (value: string): boolean => /^(?:[!#$&-~]|%[0-9A-Fa-f]{2})*$/.test(value)

const repeatedAttribute = (name: string): Problem => ({
  kind: 'malformed',
  detail: `${name} is given twice, or has a comma and a space: send it once, percent-encoded.`,
})

/** RFC 6585, section 5. */
const headersTooLarge = (maxBytes: number): Problem => ({
  kind: 'headers-too-large',
  detail: `The header fields take more than MAX_HEADER_BYTES=${maxBytes}.`,
  closes: true,
})

/**
 * Whether answering now leaves so much of the body unread that the connection is better given up. Looking at `body` makes a stream of it, and Bun
 * shows none of a GET.
 */
function leavesBody(request: Request): boolean {
  if (request.bodyUsed) return false
  const announced = announcedBytes(request.headers)
  if (announced !== undefined) return announced > MAX_DROPPED_BYTES
  return request.headers.has('transfer-encoding') || request.body !== null
}

async function* noBody(): AsyncGenerator<Uint8Array> {}
