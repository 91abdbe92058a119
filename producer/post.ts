import type { Defaults } from '../shared/events/event-json.ts'
import { queuedBytes } from '../shared/events/record.ts'
import { inputTopic } from '../shared/events/topics.ts'
import { type DeliveryResult, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { NOSNIFF } from '../shared/service/http.ts'
import type { Logger, TenantLines } from '../shared/service/logger.ts'
import { turn } from '../shared/service/retry.ts'
import type { Tally } from '../shared/service/tally.ts'
import { isoTime } from '../shared/service/time.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'
import { contextOf } from '../shared/tracing/tracing.ts'
import { type Gate, holding, type Meter, type Meters, overQuota, type Stay, shareQueue } from './admit.ts'
import type { Answers, Visit } from './answers.ts'
import { type Authenticate, hasQueryKey } from './authenticate.ts'
import { readBody, streamBody } from './body.ts'
import type { ProducerConfig } from './config.ts'
import { type Head, headFault, headOf } from './head.ts'
import { type Encoding, encodingOf, type Mode, modeOf } from './media-type.ts'
import type { EventsOutcome, Metrics } from './metrics.ts'
import { answerStream } from './ndjson.ts'
import { parseBody } from './parse.ts'
import { PROBLEMS, type Problem } from './problem.ts'
import { admit, cannotTake, type Destination, type Origin, prepare, undelivered } from './publish.ts'
import { receiptText } from './receipt.ts'
import type { Tenant } from './tenants.ts'
import { Turns } from './turns.ts'
import { LIST, ONE_EVENT, type ValidEvent } from './validate.ts'

/** The way of a request with events: checked by its head, admitted, read, stored, answered; a stream of lines has its own way from there on. */

export interface PostDeps {
  config: ProducerConfig
  producer: RecordProducer
  authenticate: Authenticate
  gate: Gate
  meters: Meters
  metrics: Metrics
  answers: Answers
  log: Logger
  lines: TenantLines
  /** undefined: no spans. */
  tracing: Tracing | undefined
  nowMs(): number
  /** Aborted when NDJSON streams have to end, since the process stops. */
  ending: AbortSignal
}

export const STREAM_PATH = '/v1/streams/:stream/events'

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
const idsOf = (events: readonly ValidEvent[]): string[] => events.map(({ event }) => event.id)

/** A stream of a tenant, and what does not change from request to request. */
interface Target extends Destination {
  tenant: Tenant
  topic: string
  /** Requests that found no room. */
  crowded: Tally
  counted: Record<EventsOutcome, Tally>
  defaults: Defaults & { nowMs: number | undefined }
}

/** A request whose sender may write to the stream. */
interface Posted {
  of: Visit
  head: Head
  target: Target
  origin: Origin
  /** For the log. */
  context: { tenant: string; stream: string; key: string | undefined }
}

/** Answers a request with events for a stream. */
export function createPost(deps: PostDeps): (request: Request, stream: string) => Response | Promise<Response> {
  const { config, gate, log, metrics, lines, tracing } = deps
  const { finish, refuse, failed } = deps.answers
  const bodyLimits = {
    maxBytes: config.MAX_BODY_BYTES,
    timeoutMs: config.REQUEST_TIMEOUT_MS - config.DELIVERY_TIMEOUT_MS,
  }
  const parseLimits = {
    maxDepth: config.MAX_NESTING_DEPTH,
    maxEvents: config.MAX_BATCH_EVENTS,
    strict: config.CLOUDEVENTS_STRICT === 'on',
  }
  const turns = new Turns(gate.tenants)
  const targetOf = targets(deps)

  /** What is wrong with a request costs its tenant's quota all the same: so many bytes, and the events that it has, one where that is not known. */
  function refusePosted(
    { of, head, target, context }: Posted,
    problem: Problem,
    bytes = head.bytes,
    count = 1,
  ): Response {
    if (problem.kind === 'overloaded') target.crowded.count++
    if (PROBLEMS[problem.kind].status < 500 && problem.kind !== 'over-quota') target.meter?.spend(count, bytes)
    return refuse(of, problem, context)
  }

  /** Begins the span of a request, which its events go on with. Not of those without a key: whoever says that a request is sampled has it recorded. */
  function trace({ of, target, origin }: Posted): void {
    of.span = tracing?.begin(`POST ${STREAM_PATH}`, 'server', origin.trace, {
      'http.request.method': 'POST',
      'http.route': STREAM_PATH,
      'kafkatrace.request_id': of.id,
      'kafkatrace.tenant': target.tenant.name,
      'messaging.system': 'kafka',
      'messaging.destination.name': target.topic,
    })
    if (of.span === undefined) return
    const ours = contextOf(of.span, origin.trace)
    // An event may carry a trace of its own, which comes before one that has begun here.
    if (origin.trace === undefined) origin.begun = ours
    else origin.trace = ours
  }

  /** Decides by the head alone whether the request is let in. */
  function enter(of: Visit, head: Head, stream: string): Response | Promise<Response> {
    const fault = headFault(head, config.MAX_HEADER_BYTES)
    if (fault !== undefined) return refuse(of, fault)
    const authenticated = deps.authenticate(of.request, stream)
    if (!authenticated.ok) return refuse(of, authenticated.problem)
    const { tenant, keyId } = authenticated
    const target = targetOf(tenant, stream)
    const posted: Posted = {
      of,
      head,
      target,
      origin: {
        tenant: tenant.name,
        stream,
        topic: target.topic,
        receivedAtMs: of.receivedAtMs,
        trace: traceOf(head),
      },
      context: { tenant: tenant.name, stream, key: keyId },
    }
    if (tracing !== undefined) trace(posted)
    const mode = modeOf(head.contentType, head.attributes.length > 0)
    if (!mode.ok) return refusePosted(posted, mode.problem)
    const encoding = encodingOf(head.contentEncoding)
    if (!encoding.ok) return refusePosted(posted, encoding.problem)
    // Before the body is read, so that an outage costs neither memory nor the client's time.
    const blocked = cannotTake(target.producer, target.topic, 1, 0)
    if (blocked !== undefined) return refusePosted(posted, blocked)
    const isStream = mode.mode === 'ndjson'
    const announced = head.contentLength ?? (of.request.body === null ? 0 : undefined)
    const first = isStream
      ? Math.min(STREAM_BYTES, config.NDJSON_WINDOW_BYTES)
      : gate.setAside(announced, config.MAX_BODY_BYTES)
    const entered = gate.enter(tenant.name, first, isStream)
    if (!entered.ok) {
      if (of.span !== undefined) return refusePosted(posted, entered.problem)
      target.crowded.count++
      return deps.answers.refuseAtOnce(of.request, entered.problem)
    }
    of.isServed = true
    if (mode.mode === 'ndjson') return answerLines(posted, encoding.encoding, entered.stay)
    return store(posted, mode.mode, encoding.encoding, entered.stay)
  }

  /** Reads a body as a whole, stores its events and answers. */
  async function store(posted: Posted, mode: Exclude<Mode, 'ndjson'>, encoding: Encoding, stay: Stay) {
    const { of, head, target } = posted
    try {
      const over = overQuotaNow(target.meter, head.bytes)
      if (over !== undefined) return refuse(of, over, posted.context)
      const limits = {
        ...bodyLimits,
        announcedBytes: head.contentLength,
        heldBytes: stay.bytes,
        hold: (bytes: number) => gate.hold(stay, bytes),
      }
      const body = await readBody(of.request, encoding, limits).catch(brokenOff)
      if (!body.ok) return refusePosted(posted, body.problem, head.bytes + stay.bytes)
      gate.hold(stay, body.bytes.length)
      await turn()
      const waiting = body.bytes.length > LARGE_BODY_BYTES ? turns.next(target.tenant.name) : undefined
      if (waiting !== undefined) await waiting
      const cost = head.bytes + body.bytes.length
      if (of.request.signal.aborted) return refusePosted(posted, MORE_THAN_A_REQUEST, cost)
      const publishing = publish(posted, mode, body.bytes, cost)
      if (!publishing.ok) return refusePosted(posted, publishing.problem, cost, publishing.count)
      const handedOver = performance.now()
      return answer(posted, publishing.events, await publishing.results, handedOver)
    } catch (error) {
      return failed(of, error)
    } finally {
      gate.leave(stay)
    }
  }

  /**
   * Hands a body's events to Kafka; or says what is wrong with the request, and how many events it has. I4: nothing of it is stored then, since nothing has
   * been sent.
   * @param cost bytes of the request that count against the quota
   */
  function publish(
    { of, head, target, origin }: Posted,
    mode: Exclude<Mode, 'ndjson'>,
    bytes: Buffer,
    cost: number,
  ):
    | { ok: true; events: readonly ValidEvent[]; results: Promise<DeliveryResult[]> }
    | { ok: false; problem: Problem; count: number } {
    const { producer, meter, counted, defaults } = target
    const over = overQuotaNow(meter, cost)
    if (over !== undefined) return { ok: false, problem: over, count: 0 }
    defaults.nowMs = of.receivedAtMs
    const parsed = parseBody(mode, head, bytes, defaults, parseLimits)
    if (!parsed.ok) return { ...parsed, count: 1 }
    const count = parsed.results.length
    const prepared = prepare(parsed.results, origin, target, parsed.isList ? LIST : ONE_EVENT)
    if (!prepared.ok) {
      counted.refused.count += count
      return { ...prepared, count }
    }
    const { events, records } = prepared
    let size = 0
    for (const record of records) size += queuedBytes(record)
    const { waitMs, problem } = admit(target, target.topic, count, size, count, cost, 'request')
    if (waitMs > 0) {
      counted[problem === undefined ? 'refused' : 'not_stored'].count += count
      return { ok: false, problem: problem ?? { ...overQuota(waitMs), headers: meter?.headers() ?? {} }, count }
    }
    of.span?.setAttribute('messaging.batch.message_count', count).addEvent('handed over to Kafka')
    return { ok: true, events, results: producer.produce(records) }
  }

  /** What became of the events of a request, told to whoever sent it. I1: a receipt only for a delivery that Kafka has acknowledged. */
  function answer(
    { of, target, origin, context }: Posted,
    events: readonly ValidEvent[],
    results: readonly DeliveryResult[],
    handedOver: number,
  ): Response {
    const { counted } = target
    let receipts = ''
    let stored = 0
    let isAnswered = false
    for (let index = 0; index < results.length; index++) {
      const result = results[index] as DeliveryResult
      if (result instanceof ProduceError) {
        counted[result.outcome === 'unknown' ? 'unknown' : 'not_stored'].count++
        // What Kafka was not given, or has refused, was acknowledged by nobody, and soon.
        if (result.outcome === 'unknown') isAnswered = true
      } else {
        const receipt = receiptText((events[index] as ValidEvent).event.id, origin.stream, result)
        receipts += stored++ === 0 ? receipt : `,${receipt}`
      }
    }
    if (isAnswered || stored > 0) metrics.ackSeconds.observe((performance.now() - handedOver) / 1_000)
    counted.stored.count += stored
    const traceId = (origin.trace ?? origin.begun)?.traceId
    if (stored < results.length) {
      const ids = idsOf(events)
      return refuse(of, undelivered(ids, results, origin.stream), { ...context, traceId, events: loggedIds(ids) })
    }
    const lost = of.request.signal.aborted
    const level = lost ? 'info' : 'debug'
    if (log.isLevelEnabled(level))
      log[level](
        { requestId: of.id, traceId, ...context, events: loggedIds(idsOf(events)) },
        lost ? STORED_UNANSWERED : 'stored',
      )
    return finish(of, accepted(of, receipts, target.meter))
  }

  /** The way of an NDJSON stream: the answer begins before the request has ended. */
  function answerLines({ of, head, target, origin }: Posted, encoding: Encoding, stay: Stay): Response {
    const { tenant, meter, counted } = target
    meter?.spend(0, head.bytes)
    const { body: raw, signal } = of.request
    const decodes = (bytes: number) => gate.holdDecoder(stay, bytes)
    const body = wellEnded(streamBody(raw ?? noBody(), encoding, decodes), signal)
    const stream = answerStream({
      body: holding(body, gate, stay, config.NDJSON_WINDOW_BYTES),
      to: target,
      turns,
      origin,
      defaults: defaultsOf(tenant),
      limits: {
        maxLineBytes: config.NDJSON_MAX_LINE_BYTES,
        maxDepth: config.MAX_NESTING_DEPTH,
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
      failed: (error) => deps.answers.logFailure(of, error),
      ended: (summary, unanswered) => {
        gate.leave(stay)
        of.span?.setAttribute('messaging.batch.message_count', summary.events)
        deps.answers.answered(of, 200)
        const context = { requestId: of.id, traceId: origin.trace?.traceId, tenant: tenant.name, stream: origin.stream }
        log[summary.complete ? 'debug' : lines.level(tenant.name, 'info')](
          { ...context, ...summary },
          'NDJSON stream ended',
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

  return (request, stream) => {
    const head = headOf(request.headers)
    const of = deps.answers.visit(request, 'events', head.requestId ?? null)
    try {
      return enter(of, head, stream)
    } catch (error) {
      return failed(of, error)
    }
  }
}

/** Gives the target of a stream that a tenant has. */
function targets({ config, producer, gate, meters, metrics }: PostDeps): (tenant: Tenant, stream: string) => Target {
  const known = new Map<Tenant, Map<string, Target>>()
  const producerOf = shareQueue(producer, gate.tenants)
  return (tenant, stream) => {
    const ofTenant = known.get(tenant) ?? new Map<string, Target>()
    let target = ofTenant.get(stream)
    if (target === undefined) {
      target = {
        tenant,
        topic: inputTopic(tenant.name, stream),
        producer: producerOf(tenant.name),
        meter: meters.of(tenant),
        maxEventBytes: config.MAX_EVENT_BYTES,
        crowded: metrics.crowdedOf(tenant.name),
        counted: metrics.eventsOf(tenant.name, stream),
        defaults: defaultsOf(tenant),
      }
      known.set(tenant, ofTenant.set(stream, target))
    }
    return target
  }
}

function accepted(of: Visit, receipts: string, meter: Meter | undefined): Response {
  const headers: Record<string, string> = { 'content-type': 'application/json', 'x-request-id': of.id, ...NOSNIFF }
  if (meter !== undefined) Object.assign(headers, meter.headers())
  if (hasQueryKey(of.request.url)) headers['cache-control'] = 'private'
  return new Response(`{"receipts":[${receipts}]}`, { status: 202, headers })
}

const STORED_UNANSWERED = 'stored, but the connection closed before the response'
const UNKNOWN_UNANSWERED = 'unknown whether stored: the connection closed before the response'

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

/** A stream whose pieces are given on only when nothing came with them that has ended the connection. */
async function* wellEnded(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    await turn()
    if (signal.aborted) throw new Error(MORE_THAN_A_REQUEST.detail)
    yield piece
  }
}

async function* noBody(): AsyncGenerator<Uint8Array> {}

/** Why a tenant has no quota even for one event: asked before its body is read and before that is parsed, since either costs more than refusing it. */
function overQuotaNow(meter: Meter | undefined, bytes: number): Problem | undefined {
  const waitMs = meter?.wait(1, bytes) ?? 0
  return waitMs === 0 ? undefined : { ...overQuota(waitMs), headers: meter?.headers() ?? {} }
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

const traceOf = ({ traceparent, tracestate }: Head): TraceContext | undefined =>
  traceparent === undefined ? undefined : parseTraceparent(traceparent, tracestate)
