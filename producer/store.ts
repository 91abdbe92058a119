import type { Span } from '@opentelemetry/api'
import type { Defaults } from '../shared/events/event-json.ts'
import { queuedBytes } from '../shared/events/record.ts'
import { inputTopic } from '../shared/events/topics.ts'
import type { Access } from '../shared/http/access.ts'
import { hasQueryKey } from '../shared/http/credentials.ts'
import { NOSNIFF, pathOf } from '../shared/http/http.ts'
import { PROBLEMS, type Problem } from '../shared/http/problem.ts'
import type { Tenant } from '../shared/http/tenants.ts'
import { type Delivery, type DeliveryResult, ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { type SchemaStore, subjectNames } from '../shared/schemas/store.ts'
import { turn } from '../shared/service/retry.ts'
import type { Tally } from '../shared/service/tally.ts'
import { isoTime } from '../shared/service/time.ts'
import type { SpanFault } from '../shared/tracing/spans.ts'
import { parseTraceparent, type TraceContext } from '../shared/tracing/trace-context.ts'
import { contextOf, exemplarOf, logIds } from '../shared/tracing/tracing.ts'
import { queueShare, type Stay } from './admit.ts'
import type { Answers, AnswersDeps, Context, Visit } from './answers.ts'
import { readBody } from './body.ts'
import type { ProducerConfig } from './config.ts'
import type { Head } from './head.ts'
import type { Encoding } from './media-type.ts'
import type { AnswerResult, EventsOutcome } from './metrics.ts'
import type { Parsed } from './parse.ts'
import type { QuotaScope } from './problem.ts'
import { admit, type Destination, type Origin, prepare, undelivered } from './publish.ts'
import { Meters, type QuotaClock, type QuotaKey, type Quotas, scopeOf } from './quota.ts'
import { receiptText } from './receipt.ts'
import { StreamSchemas } from './schemas.ts'
import type { Reply } from './sources/kind.ts'
import { Turns } from './turns.ts'
import { LIST, ONE_EVENT, type ValidEvent } from './validate.ts'

/** From a body to the answer once its events are stored: what requests with events and webhooks have in common. */

export interface StoreDeps extends AnswersDeps {
  config: ProducerConfig
  producer: RecordProducer
  answers: Answers
  /** undefined where no stream has schemas. */
  schemas: SchemaStore | undefined
  quotaClock: QuotaClock
  access: Pick<Access, 'onChange' | 'whileAllowed' | 'credentials'>
}

/** Parsing a body of this size takes the thread about a millisecond. */
const LARGE_BODY_BYTES = 64 * 1024

const LOGGED_FAULTS = 5

/** An id may be 16 KB long, and a request may have 1,000 of them. */
const LOGGED_ID_CHARS = 256

export const loggedIds = (ids: readonly string[]): string[] => ids.map((id) => id.slice(0, LOGGED_ID_CHARS))
const idsOf = (events: readonly ValidEvent[]): string[] => events.map(({ event }) => event.id)

/** A tenant's stream, with all that does not change from request to request. */
export interface Target extends Destination {
  tenant: Tenant
  topic: string
  /** Its tenant's requests, by result. */
  answers: Record<AnswerResult, Tally>
  /** Requests that found no room. */
  crowded: Tally
  /** Counts its tenant's requests over quota, by whose it is. */
  overQuota: Record<QuotaScope, Tally>
  counted: Record<EventsOutcome, Tally>
  defaults: Defaults & { nowMs: number | undefined }
}

/** A request that may write to the stream. */
export interface Posted {
  of: Visit
  head: Head
  target: Target
  origin: Origin
  /** For the log. */
  context: Context
  /** Of handing its events to Kafka; undefined before, and without spans. */
  send?: Span
}

/** What the plain form leaves out. `nowMs` undefined: the current time for each event. */
export const defaultsOf = (tenant: Tenant): Target['defaults'] => ({
  nowMs: undefined,
  source: `urn:kafkatrace:tenant:${tenant.name}`,
  id: () => Bun.randomUUIDv7(),
  time() {
    return isoTime(this.nowMs ?? Date.now())
  },
})

/** Events that were handed over to Kafka's client. */
export interface Published {
  events: readonly ValidEvent[]
  results: Promise<DeliveryResult[]>
  /** `performance.now()` */
  producedAt: number
}

export class Store {
  readonly #deps: StoreDeps
  readonly turns: Turns
  #targets = new WeakMap<Tenant, ReadonlyMap<string, Target>>()
  /** Of keys with a quota. */
  #targetsOfKeys = new WeakMap<Target, Map<string, Target>>()
  /** By tenant, whatever is declared of it: its requests in flight go on with it. */
  readonly #shares = new Map<string, RecordProducer>()
  readonly #meters: Meters

  constructor(deps: StoreDeps) {
    const { gate, access } = deps
    this.#deps = deps
    this.turns = new Turns(() => gate.shared)
    this.#meters = new Meters(deps.quotaClock)
    access.onChange((tenants) => this.#change(tenants))
  }

  #change(tenants: readonly Tenant[]): void {
    const { gate, access } = this.#deps
    const wasShared = gate.shared
    gate.serve(sendersAmong(tenants))
    if (gate.shared !== wasShared) this.#targets = new WeakMap()
    const names = new Set(tenants.map(({ name }) => name))
    for (const name of this.#shares.keys()) if (!names.has(name)) this.#shares.delete(name)
    this.#targetsOfKeys = new WeakMap()
    this.#meters.change(tenants, access.credentials().values())
  }

  /**
   * A request that may write to a stream, which its tenant has. Begins its span: what is not authenticated has none, or anybody could have requests recorded by
   * setting the sampled flag.
   * @param route for the span's name
   * @param context for the log
   * @param key that has a quota
   */
  begin(
    of: Visit,
    head: Head,
    tenant: Tenant,
    stream: string,
    route: string,
    context: Posted['context'],
    key?: QuotaKey,
  ): Posted {
    const shared = this.#targets.getOrInsertComputed(tenant, this.#targetsOf).get(stream) as Target
    const target = key === undefined ? shared : this.#targetOfKey(shared, stream, key)
    const origin: Origin = {
      tenant: tenant.name,
      stream,
      topic: target.topic,
      receivedAtMs: of.receivedAtMs,
      trace: traceOf(head),
    }
    of.tenantAnswers = target.answers
    const { tracing } = this.#deps
    of.span = tracing?.begin(`POST ${route}`, 'server', origin.trace, {
      'http.request.method': 'POST',
      'http.route': route,
      'url.path': pathOf(of.request),
      'url.scheme': of.request.url.startsWith('https:') ? 'https' : 'http',
      'kafkatrace.request_id': of.id,
      'kafkatrace.tenant': tenant.name,
      'kafkatrace.stream': stream,
    })
    return { of, head, target, origin, context }
  }

  /** Begins the span of handing over a request's events, which becomes the parent of their processing. One that nothing is handed over in is not ended. */
  beginSend(posted: Posted): void {
    const { tracing } = this.#deps
    const { of, target, origin } = posted
    if (tracing === undefined || of.span === undefined) return
    posted.send = tracing.begin(`send ${target.topic}`, 'producer', of.span, {
      ...tracing.messaging,
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
      'messaging.destination.name': target.topic,
    })
    const ours = contextOf(posted.send, origin.trace)
    origin.own = []
    // An event's own trace takes precedence over one that begins here.
    if (origin.trace === undefined) origin.begun = ours
    else origin.trace = ours
  }

  endSend({ send, origin }: Posted, events: number, fault: SpanFault | undefined): void {
    const { tracing } = this.#deps
    if (tracing === undefined || send === undefined) return
    send.setAttribute('messaging.batch.message_count', events)
    for (const own of origin.own ?? []) tracing.link(send, own)
    tracing.end(send, fault)
  }

  /** A tenant's targets, by stream. */
  readonly #targetsOf = (tenant: Tenant): ReadonlyMap<string, Target> => {
    const { config, gate, producer, metrics } = this.#deps
    const ofTenant = {
      tenant,
      producer: gate.shared ? this.#shares.getOrInsertComputed(tenant.name, () => queueShare(producer)) : producer,
      maxEventBytes: config.MAX_EVENT_BYTES,
      answers: metrics.answersOf(tenant.name),
      crowded: metrics.crowdedOf(tenant.name),
      overQuota: metrics.overQuotaOf(tenant.name),
      defaults: defaultsOf(tenant),
    }
    return new Map(
      [...tenant.streams].map((stream) => [
        stream,
        {
          ...ofTenant,
          topic: inputTopic(tenant.name, stream),
          quotas: this.#meters.of(tenant, stream),
          schemas: this.#schemasOf(tenant, stream),
          counted: metrics.eventsOf(tenant.name, stream),
        },
      ]),
    )
  }

  #targetOfKey(shared: Target, stream: string, key: QuotaKey): Target {
    return this.#targetsOfKeys
      .getOrInsertComputed(shared, () => new Map())
      .getOrInsertComputed(key.keyId, () => ({ ...shared, quotas: this.#meters.of(shared.tenant, stream, key) }))
  }

  #schemasOf(tenant: Tenant, stream: string): StreamSchemas | undefined {
    const { config, schemas, metrics, log, lines } = this.#deps
    const declared = tenant.schemas.get(stream)
    if (declared === undefined || schemas === undefined) return undefined
    return new StreamSchemas({
      declared,
      tenant: tenant.name,
      stream,
      subjectOf: subjectNames(config.SCHEMA_SUBJECT, tenant.name, stream),
      store: schemas,
      checks: metrics.checksOf(tenant.name, stream),
      log,
      lines,
    })
  }

  /**
   * Refuses a request. One that the client has to fix costs quota all the same.
   * @param bytes of the request that are known of
   * @param count of its events; 1 while their number is unknown
   */
  refuse({ of, head, target, context }: Posted, problem: Problem, bytes = head.bytes, count = 1): Response {
    if (problem.kind === 'overloaded') target.crowded.count++
    if (problem.kind === 'over-quota') target.overQuota[scopeOf(problem)].count++
    // Senders of webhooks drop what is answered 4xx, some of them 429 too.
    if (problem.kind === 'over-quota' && of.route === 'webhooks')
      return this.#deps.answers.refuse(of, { ...problem, kind: 'webhook-over-quota', outcome: 'not stored' }, context)
    if (problem.kind !== 'over-quota' && PROBLEMS[problem.kind].status < 500) target.quotas?.spend(count, bytes)
    // Who operates a service sees nothing of what its senders of webhooks are told.
    const faults =
      of.route === 'webhooks'
        ? problem.errors?.slice(0, LOGGED_FAULTS).map(({ pointer, detail }) => `${pointer} ${detail}`)
        : undefined
    return this.#deps.answers.refuse(of, problem, faults === undefined ? context : { ...context, faults })
  }

  /**
   * Reads a whole body.
   * @param timeoutMs from now
   * @param tenant whose large bodies take turns with those of others
   * @returns otherwise also the bytes that are known of
   */
  async read(
    of: Visit,
    head: Head,
    encoding: Encoding,
    stay: Stay,
    timeoutMs: number,
    tenant: string,
  ): Promise<{ ok: true; bytes: Buffer } | { ok: false; problem: Problem; cost: number }> {
    const { config, gate } = this.#deps
    const body = await readBody(of.request, encoding, {
      maxBytes: config.MAX_BODY_BYTES,
      timeoutMs,
      announcedBytes: head.contentLength,
      heldBytes: stay.bytes,
      hold: (bytes: number) => gate.hold(stay, bytes),
    }).catch(incomplete)
    if (!body.ok) return { ...body, cost: head.bytes + stay.bytes }
    gate.hold(stay, body.bytes.length)
    await turn()
    const waiting = body.bytes.length > LARGE_BODY_BYTES ? this.turns.next(tenant) : undefined
    if (waiting !== undefined) await waiting
    if (of.request.signal.aborted)
      return { ok: false, problem: MORE_THAN_A_REQUEST, cost: head.bytes + body.bytes.length }
    return body
  }

  /**
   * Hands a body's events to Kafka's client, or refuses the request. I4: a refused request has nothing in the log, since none of it has been produced.
   * @param cost bytes of the request that count against the quota
   */
  publish(posted: Posted, parse: () => Parsed, cost: number): Response | Published {
    const { target, origin } = posted
    const { quotas, counted } = target
    const over = overQuota(quotas, cost)
    if (over !== undefined) return this.refuse(posted, over, cost)
    const parsed = parse()
    if (!parsed.ok) return this.refuse(posted, parsed.problem, cost)
    const count = parsed.results.length
    this.beginSend(posted)
    const prepared = prepare(parsed.results, origin, target, parsed.isList ? LIST : ONE_EVENT)
    if (!prepared.ok) {
      const outcome = PROBLEMS[prepared.problem.kind].status < 500 ? 'refused' : 'not_stored'
      counted[outcome].count += count
      return this.refuse(posted, prepared.problem, cost, count)
    }
    const { events, records } = prepared
    let size = 0
    for (const record of records) size += queuedBytes(record)
    const { problem } = admit(target, target.topic, count, size, count, cost, 'request')
    if (problem !== undefined) {
      counted[problem.kind === 'over-quota' ? 'refused' : 'not_stored'].count += count
      return this.refuse(posted, problem, cost, count)
    }
    return { events, results: target.producer.produce(records), producedAt: performance.now() }
  }

  /** Counts what became of events. @returns how many are stored */
  count(posted: Posted, { events, producedAt }: Published, results: readonly DeliveryResult[]): number {
    const { counted } = posted.target
    let stored = 0
    let waitedForKafka = false
    for (const result of results)
      if (result instanceof ProduceError) {
        counted[result.outcome === 'unknown' ? 'unknown' : 'not_stored'].count++
        // A record that was refused at once says nothing about the time to an acknowledgement.
        if (result.outcome === 'unknown') waitedForKafka = true
      } else stored++
    if (waitedForKafka || stored > 0)
      this.#deps.metrics.ackSeconds.observe((performance.now() - producedAt) / 1_000, exemplarOf(posted.send))
    counted.stored.count += stored
    if (posted.send !== undefined) this.#sent(posted, posted.send, events, results)
    return stored
  }

  #sent(posted: Posted, send: Span, events: readonly ValidEvent[], results: readonly DeliveryResult[]): void {
    const [first] = results
    if (results.length === 1 && first !== undefined && !(first instanceof ProduceError))
      send.setAttributes({
        'messaging.destination.partition.id': String(first.partition),
        'messaging.kafka.offset': first.offset,
        'messaging.message.id': events[0]?.event.id ?? '',
      })
    const failed = results.find((result) => result instanceof ProduceError)
    this.endSend(posted, results.length, failed && { type: failed.fault, message: failed.message })
  }

  /** Refuses a request whose events were not all stored, or not yet. */
  refuseUndelivered(posted: Posted, { events }: Published, results: readonly DeliveryResult[]): Response {
    const { of, origin, context } = posted
    const ids = idsOf(events)
    return this.#deps.answers.refuse(of, undelivered(ids, results, origin.stream), {
      ...context,
      traceId: traceIdOf(origin),
      events: loggedIds(ids),
    })
  }

  /**
   * Answers with the events' receipts, or with what became of each. I1: a receipt only for a delivery that Kafka has acknowledged.
   * @param reply instead of the receipts
   */
  accept(posted: Posted, published: Published, results: readonly DeliveryResult[], reply?: Reply): Response {
    const { of, target, origin, context } = posted
    const { answers, log } = this.#deps
    const { quotas } = target
    const { events } = published
    if (this.count(posted, published, results) < results.length)
      return this.refuseUndelivered(posted, published, results)
    const traceId = traceIdOf(origin)
    const lost = of.request.signal.aborted
    const level = lost ? 'info' : 'debug'
    if (log.isLevelEnabled(level))
      log[level](
        { requestId: of.id, traceId, ...logIds(of.span), ...context, events: loggedIds(idsOf(events)) },
        lost ? STORED_UNANSWERED : 'stored',
      )
    if (reply !== undefined) return answers.reply(of, reply, quotas?.headers())
    const headers: Record<string, string> = { 'content-type': 'application/json', 'x-request-id': of.id, ...NOSNIFF }
    if (quotas !== undefined) Object.assign(headers, quotas.headers())
    if (hasQueryKey(of.request.url)) headers['cache-control'] = 'private'
    let receipts = ''
    for (let index = 0; index < events.length; index++) {
      const receipt = receiptText((events[index] as ValidEvent).event.id, origin.stream, results[index] as Delivery)
      receipts += index === 0 ? receipt : `,${receipt}`
    }
    return answers.finish(of, new Response(`{"receipts":[${receipts}]}`, { status: 202, headers }))
  }
}

/** How many tenants may send. No room has to be left for a disabled one. */
export const sendersAmong = (tenants: readonly Tenant[]): number => tenants.filter(({ enabled }) => enabled).length

const traceIdOf = ({ trace, begun }: Origin): string | undefined => (trace ?? begun)?.traceId

export const STORED_UNANSWERED = 'stored, but the connection closed before the response'
export const UNKNOWN_UNANSWERED = 'unknown whether stored: the connection closed before the response'

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
export const MORE_THAN_A_REQUEST: Problem = {
  kind: 'malformed',
  detail:
    'The connection has ended, or brought more than a request before its answer. Nothing of the request was stored.',
  closes: true,
}

/** The problem where there is no quota left for even one event. Asked before reading and before parsing, which both cost more than to refuse. */
export const overQuota = (quotas: Quotas | undefined, bytes: number): Problem | undefined =>
  quotas === undefined || quotas.wait(1, bytes) === 0 ? undefined : quotas.problem(1, bytes, 'request')

const traceOf = ({ traceparent, tracestate }: Head): TraceContext | undefined =>
  traceparent === undefined ? undefined : parseTraceparent(traceparent, tracestate)
