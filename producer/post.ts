import type { Defaults } from '../shared/events/event-json.ts'
import { queuedBytes } from '../shared/events/record.ts'
import { inputTopic } from '../shared/events/topics.ts'
import { hasQueryKey } from '../shared/http/credentials.ts'
import { NOSNIFF } from '../shared/http/http.ts'
import { PROBLEMS, type Problem } from '../shared/http/problem.ts'
import type { Tenant } from '../shared/http/tenants.ts'
import { type DeliveryResult, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { turn } from '../shared/service/retry.ts'
import type { Tally } from '../shared/service/tally.ts'
import { isoTime } from '../shared/service/time.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'
import { contextOf } from '../shared/tracing/tracing.ts'
import { holding, Meter, queueShare, type Stay } from './admit.ts'
import type { Answers, AnswersDeps, Visit } from './answers.ts'
import type { Authenticate } from './authenticate.ts'
import { readBody, streamBody } from './body.ts'
import type { ProducerConfig } from './config.ts'
import { type Head, headFault, headOf } from './head.ts'
import { type Encoding, encodingOf, type Mode, modeOf } from './media-type.ts'
import type { EventsOutcome } from './metrics.ts'
import { answerStream } from './ndjson.ts'
import { parseBody } from './parse.ts'
import { admit, cannotTake, type Destination, type Origin, prepare, undelivered } from './publish.ts'
import { receiptText } from './receipt.ts'
import { Turns } from './turns.ts'
import { LIST, ONE_EVENT, type ValidEvent } from './validate.ts'

export interface PostDeps extends AnswersDeps {
  config: ProducerConfig
  producer: RecordProducer
  authenticate: Authenticate
  answers: Answers
  /** The clock of quotas, monotonic. */
  quotaMs(): number
  /** Aborted when NDJSON streams have to end because the process stops. */
  ending: AbortSignal
}

export const STREAM_PATH = '/v1/streams/:stream/events'

/**
 * What an NDJSON stream holds at first. Bun reads up to 1.6 MB ahead from a fast sender, without showing it; most send less at a time. 512 streams that held
 * 64 KB each took 1.1 GB.
 */
const STREAM_BYTES = 256 * 1024

/** Parsing a body of this size takes the thread about a millisecond. */
const LARGE_BODY_BYTES = 64 * 1024

/** An id may be 16 KB long, and a request may have 1,000 of them. */
const LOGGED_ID_CHARS = 256

const loggedIds = (ids: readonly string[]): string[] => ids.map((id) => id.slice(0, LOGGED_ID_CHARS))
const idsOf = (events: readonly ValidEvent[]): string[] => events.map(({ event }) => event.id)

/** A tenant's stream, with all that does not change from request to request. */
interface Target extends Destination {
  tenant: Tenant
  topic: string
  /** Requests that found no room. */
  crowded: Tally
  /** Counts its tenant's requests over quota. */
  overQuota: Tally
  counted: Record<EventsOutcome, Tally>
  defaults: Defaults & { nowMs: number | undefined }
}

/** A request that may write to the stream. */
interface Posted {
  of: Visit
  head: Head
  target: Target
  origin: Origin
  /** For the log. */
  context: { tenant: string; stream: string; key: string | undefined }
}

/** Answers requests with events for a stream: by their header fields alone where those do, else once their events are stored. */
export class EventsRoute {
  readonly #deps: PostDeps
  readonly #turns: Turns
  readonly #targets = new Map<Tenant, ReadonlyMap<string, Target>>()

  constructor(deps: PostDeps) {
    this.#deps = deps
    this.#turns = new Turns(deps.gate.tenants)
  }

  /** A tenant's targets, by stream. */
  readonly #targetsOf = (tenant: Tenant): ReadonlyMap<string, Target> => {
    const { config, gate, producer, metrics, quotaMs } = this.#deps
    const ofTenant = {
      tenant,
      producer: gate.tenants > 1 ? queueShare(producer) : producer,
      meter: tenant.quota === undefined ? undefined : new Meter(tenant.quota, quotaMs),
      maxEventBytes: config.MAX_EVENT_BYTES,
      crowded: metrics.crowdedOf(tenant.name),
      overQuota: metrics.overQuotaOf(tenant.name),
      defaults: defaultsOf(tenant),
    }
    return new Map(
      [...tenant.streams].map((stream) => [
        stream,
        { ...ofTenant, topic: inputTopic(tenant.name, stream), counted: metrics.eventsOf(tenant.name, stream) },
      ]),
    )
  }

  answer(request: Request, stream: string): Response | Promise<Response> {
    const { answers } = this.#deps
    const head = headOf(request.headers)
    const of = answers.visit(request, 'events', head.requestId ?? null)
    try {
      return this.#enter(of, head, stream)
    } catch (error) {
      return answers.failed(of, error)
    }
  }

  /** Decides by the header fields whether the request is let in. */
  #enter(of: Visit, head: Head, stream: string): Response | Promise<Response> {
    const { config, gate, answers, authenticate, tracing } = this.#deps
    const fault = headFault(head, config.MAX_HEADER_BYTES)
    if (fault !== undefined) return answers.refuse(of, fault)
    const authenticated = authenticate(of.request, stream)
    if (!authenticated.ok) return answers.refuse(of, authenticated.problem)
    const { tenant, keyId } = authenticated
    // Authentication has checked that the tenant has the stream.
    const target = this.#targets.getOrInsertComputed(tenant, this.#targetsOf).get(stream) as Target
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
    if (tracing !== undefined) trace(tracing, posted)
    const mode = modeOf(head.contentType, head.attributes.length > 0)
    if (!mode.ok) return this.#refuse(posted, mode.problem)
    const encoding = encodingOf(head.contentEncoding)
    if (!encoding.ok) return this.#refuse(posted, encoding.problem)
    // Before the body is read, so that an outage costs neither memory nor the client's time.
    const blocked = cannotTake(target.producer, target.topic, 1, 0)
    if (blocked !== undefined) return this.#refuse(posted, blocked)
    const isStream = mode.mode === 'ndjson'
    const announced = head.contentLength ?? (of.request.body === null ? 0 : undefined)
    const firstBytes = isStream
      ? Math.min(STREAM_BYTES, config.NDJSON_WINDOW_BYTES)
      : gate.setAside(announced, config.MAX_BODY_BYTES)
    const entered = gate.enter(tenant.name, firstBytes, isStream)
    if (!entered.ok) {
      if (of.span !== undefined) return this.#refuse(posted, entered.problem)
      target.crowded.count++
      return answers.refuseAtOnce(of.request, entered.problem)
    }
    of.isServed = true
    if (mode.mode === 'ndjson') return this.#answerLines(posted, encoding.encoding, entered.stay)
    return this.#store(posted, mode.mode, encoding.encoding, entered.stay)
  }

  /**
   * Refuses a request. One that the client has to fix costs quota all the same.
   * @param bytes of the request that are known of
   * @param count of its events; 1 while their number is unknown
   */
  #refuse({ of, head, target, context }: Posted, problem: Problem, bytes = head.bytes, count = 1): Response {
    if (problem.kind === 'overloaded') target.crowded.count++
    if (problem.kind === 'over-quota') target.overQuota.count++
    else if (PROBLEMS[problem.kind].status < 500) target.meter?.spend(count, bytes)
    return this.#deps.answers.refuse(of, problem, context)
  }

  /** Reads a whole body, stores its events and answers. */
  async #store(posted: Posted, mode: Exclude<Mode, 'ndjson'>, encoding: Encoding, stay: Stay): Promise<Response> {
    const { config, gate, answers } = this.#deps
    const { of, head, target } = posted
    try {
      const over = overQuota(target.meter, head.bytes)
      if (over !== undefined) return this.#refuse(posted, over)
      const limits = {
        maxBytes: config.MAX_BODY_BYTES,
        timeoutMs: config.REQUEST_TIMEOUT_MS - config.DELIVERY_TIMEOUT_MS,
        announcedBytes: head.contentLength,
        heldBytes: stay.bytes,
        hold: (bytes: number) => gate.hold(stay, bytes),
      }
      const body = await readBody(of.request, encoding, limits).catch(incomplete)
      if (!body.ok) return this.#refuse(posted, body.problem, head.bytes + stay.bytes)
      gate.hold(stay, body.bytes.length)
      await turn()
      const waiting = body.bytes.length > LARGE_BODY_BYTES ? this.#turns.next(target.tenant.name) : undefined
      if (waiting !== undefined) await waiting
      const cost = head.bytes + body.bytes.length
      if (of.request.signal.aborted) return this.#refuse(posted, MORE_THAN_A_REQUEST, cost)
      const published = this.#publish(posted, mode, body.bytes, cost)
      if (published instanceof Response) return published
      const producedAt = performance.now()
      return this.#accept(posted, published.events, await published.results, producedAt)
    } catch (error) {
      return answers.failed(of, error)
    } finally {
      gate.leave(stay)
    }
  }

  /**
   * Hands a body's events to Kafka's client, or refuses the request. I4: a refused request has nothing in the log, since none of it has been produced.
   * @param cost bytes of the request that count against the quota
   */
  #publish(
    posted: Posted,
    mode: Exclude<Mode, 'ndjson'>,
    bytes: Buffer,
    cost: number,
  ): Response | { events: readonly ValidEvent[]; results: Promise<DeliveryResult[]> } {
    const { of, head, target, origin } = posted
    const { meter, counted, defaults } = target
    const over = overQuota(meter, cost)
    if (over !== undefined) return this.#refuse(posted, over, cost)
    defaults.nowMs = of.receivedAtMs
    const parsed = parseBody(mode, head, bytes, defaults, this.#deps.config)
    if (!parsed.ok) return this.#refuse(posted, parsed.problem, cost)
    const count = parsed.results.length
    const prepared = prepare(parsed.results, origin, target, parsed.isList ? LIST : ONE_EVENT)
    if (!prepared.ok) {
      counted.refused.count += count
      return this.#refuse(posted, prepared.problem, cost, count)
    }
    const { events, records } = prepared
    let size = 0
    for (const record of records) size += queuedBytes(record)
    const { problem } = admit(target, target.topic, count, size, count, cost, 'request')
    if (problem !== undefined) {
      counted[problem.kind === 'over-quota' ? 'refused' : 'not_stored'].count += count
      return this.#refuse(posted, problem, cost, count)
    }
    of.span?.setAttribute('messaging.batch.message_count', count).addEvent('handed over to Kafka')
    return { events, results: target.producer.produce(records) }
  }

  /** Answers with the events' receipts, or with what became of each. I1: a receipt only for a delivery that Kafka has acknowledged. */
  #accept(
    posted: Posted,
    events: readonly ValidEvent[],
    results: readonly DeliveryResult[],
    producedAt: number,
  ): Response {
    const { of, target, origin, context } = posted
    const { answers, log, metrics } = this.#deps
    const { counted, meter } = target
    let receipts = ''
    let stored = 0
    let waitedForKafka = false
    for (let index = 0; index < results.length; index++) {
      const result = results[index] as DeliveryResult
      if (result instanceof ProduceError) {
        counted[result.outcome === 'unknown' ? 'unknown' : 'not_stored'].count++
        // A record that was refused at once says nothing about the time to an acknowledgement.
        if (result.outcome === 'unknown') waitedForKafka = true
      } else {
        const receipt = receiptText((events[index] as ValidEvent).event.id, origin.stream, result)
        receipts += stored++ === 0 ? receipt : `,${receipt}`
      }
    }
    if (waitedForKafka || stored > 0) metrics.ackSeconds.observe((performance.now() - producedAt) / 1_000)
    counted.stored.count += stored
    const traceId = (origin.trace ?? origin.begun)?.traceId
    if (stored < results.length) {
      const ids = idsOf(events)
      return answers.refuse(of, undelivered(ids, results, origin.stream), {
        ...context,
        traceId,
        events: loggedIds(ids),
      })
    }
    const lost = of.request.signal.aborted
    const level = lost ? 'info' : 'debug'
    if (log.isLevelEnabled(level))
      log[level](
        { requestId: of.id, traceId, ...context, events: loggedIds(idsOf(events)) },
        lost ? STORED_UNANSWERED : 'stored',
      )
    const headers: Record<string, string> = { 'content-type': 'application/json', 'x-request-id': of.id, ...NOSNIFF }
    if (meter !== undefined) Object.assign(headers, meter.headers())
    if (hasQueryKey(of.request.url)) headers['cache-control'] = 'private'
    return answers.finish(of, new Response(`{"receipts":[${receipts}]}`, { status: 202, headers }))
  }

  /** Answers an NDJSON stream: the answer begins before the request has ended. */
  #answerLines({ of, head, target, origin }: Posted, encoding: Encoding, stay: Stay): Response {
    const { config, gate, answers, log, lines, nowMs, ending } = this.#deps
    const { tenant, meter, counted } = target
    meter?.spend(0, head.bytes)
    const { body: raw, signal } = of.request
    const decodes = (bytes: number) => gate.holdDecoder(stay, bytes)
    const body = wellEnded(streamBody(raw ?? noBody(), encoding, decodes), signal)
    const stream = answerStream({
      body: holding(body, gate, stay, config.NDJSON_WINDOW_BYTES),
      to: target,
      turns: this.#turns,
      origin,
      defaults: defaultsOf(tenant),
      config,
      windowBytes: () => stay.bytes - stay.decoderBytes,
      nowMs,
      ending,
      count: (outcome) => {
        counted[outcome].count++
      },
      failed: (error) => answers.logFailure(of, error),
      ended: (summary, unanswered) => {
        gate.leave(stay)
        of.span?.setAttribute('messaging.batch.message_count', summary.events)
        answers.answered(of, 200)
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
}

/**
 * Begins the span of a request, which becomes the parent of its events. Requests without a valid key have none: anybody could have them recorded by
 * setting the sampled flag.
 */
function trace(tracing: Tracing, { of, target, origin }: Posted): void {
  of.span = tracing.begin(`POST ${STREAM_PATH}`, 'server', origin.trace, {
    'http.request.method': 'POST',
    'http.route': STREAM_PATH,
    'kafkatrace.request_id': of.id,
    'kafkatrace.tenant': target.tenant.name,
    'messaging.system': 'kafka',
    'messaging.destination.name': target.topic,
  })
  if (of.span === undefined) return
  const ours = contextOf(of.span, origin.trace)
  // An event's own trace takes precedence over one that begins here.
  if (origin.trace === undefined) origin.begun = ours
  else origin.trace = ours
}

const STORED_UNANSWERED = 'stored, but the connection closed before the response'
const UNKNOWN_UNANSWERED = 'unknown whether stored: the connection closed before the response'

const incomplete = () =>
  ({
    ok: false,
    problem: { kind: 'malformed', detail: 'The body ended before it was complete.', closes: true },
  }) as const

/**
 * Bun reads on while a request is not answered yet. To bytes that are no request, such as the trailer of a chunked body, it answers 400 by itself and closes
 * the connection; it also closes it at another request. The abort signal shows this one turn of the event loop after the end of the body, before anything is
 * stored.
 */
const MORE_THAN_A_REQUEST: Problem = {
  kind: 'malformed',
  detail:
    'The connection has ended, or brought more than a request before its answer. Nothing of the request was stored.',
  closes: true,
}

/** Passes each piece on only if nothing that came with it has ended the connection. */
async function* wellEnded(body: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    await turn()
    if (signal.aborted) throw new Error(MORE_THAN_A_REQUEST.detail)
    yield piece
  }
}

async function* noBody(): AsyncGenerator<Uint8Array> {}

/** The problem of a tenant that has no quota left for even one event. Asked before reading and before parsing, which both cost more than to refuse. */
function overQuota(meter: Meter | undefined, bytes: number): Problem | undefined {
  if (meter === undefined) return undefined
  const waitMs = meter.wait(1, bytes)
  return waitMs === 0 ? undefined : meter.problem(waitMs, 'request')
}

/** What the plain form leaves out. `nowMs` undefined: the current time for each event. */
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
