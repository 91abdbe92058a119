import { attributeFault, EventBuilder, SPEC_VERSION } from '../shared/events/event.ts'
import { atIndex, type EventResult } from '../shared/events/event-json.ts'
import { type Problem, ProblemError } from '../shared/http/problem.ts'
import { ProduceError } from '../shared/kafka/types.ts'
import { mapWithin, sleep, TimeoutError, within } from '../shared/service/retry.ts'
import type { Tally } from '../shared/service/tally.ts'
import { isoTime } from '../shared/service/time.ts'
import { anybodysOf, type Stay } from './admit.ts'
import type { Visit } from './answers.ts'
import { type Head, headFault, headOf } from './head.ts'
import { type Encoding, encodingOf } from './media-type.ts'
import type { WebhookResult } from './metrics.ts'
import type { Parsed } from './parse.ts'
import { cannotTake } from './publish.ts'
import type { Source } from './sources/declared.ts'
import { type Identity, REFUSALS, type Refusal, type Reply, type Verdict } from './sources/kind.ts'
import { Webhook } from './sources/webhook.ts'
import type { Posted, Published, Store, StoreDeps } from './store.ts'

/** Webhooks, as their senders send them: verified by their source's kind, in place of a key. */

export interface WebhooksDeps extends StoreDeps {
  store: Store
  /** Of now, by name. */
  sources(): ReadonlyMap<string, Source>
  /** {@link REFUSED_AFTER_MS} */
  refusedAfterMs: number
}

export const SOURCES_PREFIX = '/v1/sources/'
export const SOURCE_PATH = `${SOURCES_PREFIX}:source` as const

/** Senders are services with a good connection, and wait for few seconds. The same for all sources, known or not. */
const BODY_TIMEOUT_MS = 5_000

/**
 * A webhook that is not taken for its sender's is answered this long after its body has arrived, so that the time does not tell whether the source exists, nor
 * how it verifies.
 */
export const REFUSED_AFTER_MS = 50

/** Of the time that a sender waits, ours; the rest is the network's. */
const OUR_SHARE = 0.8

/** Of the time that a sender waits, a verdict's. */
const VERDICT_SHARE = 0.4

/** One answer whether the source does not exist or the signature is wrong. */
const NOT_VERIFIED: Problem = {
  kind: 'unauthenticated',
  detail:
    'There is no such source, or the webhook has no valid signature or token of it, or an old one. The log of the service says which.',
  // RFC 9110, section 15.5.2.
  headers: { 'www-authenticate': 'Webhook realm="kafkatrace"' },
}

/** No name of a source is longer. */
const LOGGED_NAME_CHARS = 63

const unknown = (name: string): Verdict => ({
  ok: false,
  reason: 'wrong',
  detail: `no source ${JSON.stringify(name.slice(0, LOGGED_NAME_CHARS))} is declared`,
})

interface Answered {
  response: Response
  /** Where the webhook was not taken for its sender's. */
  refused?: Refusal
  /** Settles when the request has ended that was answered before. */
  end?: Promise<void>
}

export class WebhooksRoute {
  readonly #deps: WebhooksDeps
  /** By name: of sources whose last webhooks were answered 503. */
  readonly #troubles = new Map<string, { sinceMs: number; webhooks: number }>()
  readonly #counted = new WeakMap<Source, Record<WebhookResult, Tally>>()
  readonly #countedUnknown: Record<WebhookResult, Tally>

  constructor(deps: WebhooksDeps) {
    this.#deps = deps
    this.#countedUnknown = deps.metrics.webhooksOf('', '')
    this.#declare()
    deps.access.onChange(() => this.#declare())
  }

  /** Makes the series of all sources, so that they are there before the first webhook. */
  #declare(): void {
    const sources = this.#deps.sources()
    for (const source of sources.values()) this.#countedOf(source)
    for (const name of this.#troubles.keys()) if (!sources.has(name)) this.#troubles.delete(name)
  }

  #countedOf(source: Source | undefined): Record<WebhookResult, Tally> {
    if (source === undefined) return this.#countedUnknown
    return this.#counted.getOrInsertComputed(source, () =>
      this.#deps.metrics.webhooksOf(source.tenant.name, source.name),
    )
  }

  async answer(request: Request, name: string): Promise<Response> {
    const { answers, sources } = this.#deps
    const head = headOf(request.headers)
    const of = answers.visit(request, 'webhooks', head.requestId ?? null)
    const source = sources().get(name)
    const answered = await this.#enter(of, head, source ?? name).catch(
      (error): Answered => ({ response: answers.failed(of, error) }),
    )
    const { response, refused } = answered
    const result = refused ?? resultOf(response.status)
    this.#countedOf(source)[result].count++
    if (source !== undefined) this.#tellTrouble(source, result)
    return response
  }

  /** Says from when to when webhooks of a source were answered 503: some senders have to be told to send them again. */
  #tellTrouble(source: Source, result: WebhookResult): void {
    const { lines, log, nowMs } = this.#deps
    // Who is not verified may cause it.
    const level = (): 'warn' | 'debug' => lines.level(anybodysOf(source.name), 'warn')
    const trouble = this.#troubles.get(source.name)
    if (result === 'unavailable') {
      if (trouble !== undefined) trouble.webhooks++
      else {
        this.#troubles.set(source.name, { sinceMs: nowMs(), webhooks: 1 })
        log[level()](logged(source), 'webhooks are answered 503 from now on: their sender may not send them again')
      }
    } else if (result === 'taken' && trouble !== undefined) {
      this.#troubles.delete(source.name)
      const { sinceMs, webhooks } = trouble
      log[level()]({ ...logged(source), since: isoTime(sinceMs), webhooks }, 'webhooks are taken again')
    }
  }

  /**
   * Lets a webhook in as anybody's: whose it is, is not known yet.
   * @param source the name of one that is not declared
   */
  async #enter(of: Visit, head: Head, source: Source | string): Promise<Answered> {
    const { config, gate, answers } = this.#deps
    const fault = headFault(head, config.MAX_HEADER_BYTES)
    if (fault !== undefined) return { response: answers.refuse(of, fault) }
    const encoding = encodingOf(head.contentEncoding)
    if (!encoding.ok) return { response: answers.refuse(of, encoding.problem) }
    const announced = head.contentLength ?? (of.request.body === null ? 0 : undefined)
    const name = anybodysOf(typeof source === 'string' ? undefined : source.name)
    const entered = gate.enter(name, gate.setAside(announced, config.MAX_BODY_BYTES, name), false)
    if (!entered.ok) return { response: answers.refuseAtOnce(of.request, entered.problem, 'webhooks') }
    of.isServed = true
    const { stay } = entered
    let answered: Answered | undefined
    try {
      answered = await this.#read(of, head, encoding.encoding, source, stay)
      return answered
    } finally {
      // Its bytes are in memory until then.
      if (answered?.end === undefined) gate.leave(stay)
      else void answered.end.finally(() => gate.leave(stay))
    }
  }

  async #read(of: Visit, head: Head, encoding: Encoding, called: Source | string, stay: Stay): Promise<Answered> {
    const source = typeof called === 'string' ? undefined : called
    const { config, gate, answers, nowMs, store } = this.#deps
    const timeoutMs = Math.min(BODY_TIMEOUT_MS, config.REQUEST_TIMEOUT_MS - config.DELIVERY_TIMEOUT_MS)
    const body = await store.read(of, head, encoding, stay, timeoutMs, source?.tenant.name ?? '')
    if (!body.ok) return { response: answers.refuse(of, body.problem, logged(source)) }
    const arrivedAt = performance.now()
    const webhook = new Webhook(of.request, body.bytes, nowMs(), config.MAX_NESTING_DEPTH)
    const given = typeof called === 'string' ? unknown(called) : this.#verify(of, webhook, called)
    const verdict = given instanceof Promise ? await given : given
    if (verdict.ok !== true) return this.#notVerified(of, verdict, source, arrivedAt)
    // Only a declared source has been verified.
    const { tenant, stream, name } = source as Source
    gate.verified(stay, tenant.name)
    const posted = store.begin(of, head, tenant, stream, SOURCE_PATH, { tenant: tenant.name, stream, source: name })
    if (!tenant.enabled) {
      const detail = `The tenant ${tenant.name} is switched off.`
      return { response: store.refuse(posted, { kind: 'forbidden', detail }) }
    }
    return this.#take(posted, webhook, source as Source, head.bytes + body.bytes.length)
  }

  /** What a kind throws refuses the webhook: anybody may have made it. */
  #verify(of: Visit, webhook: Webhook, source: Source): Verdict | Promise<Verdict> {
    const { kind, options } = source
    try {
      const verdict = kind.verify(webhook, options)
      if (!(verdict instanceof Promise)) return checked(verdict)
      return within(kind.timeoutMs * VERDICT_SHARE, verdict, 'no verdict')
        .then(checked)
        .catch((error) => this.#noVerdict(of, source, error))
    } catch (error) {
      return this.#noVerdict(of, source, error)
    }
  }

  #noVerdict(of: Visit, { name, kind }: Source, error: unknown): Verdict {
    if (error instanceof TimeoutError) return { ok: false, reason: 'unavailable', detail: error.message }
    if (error instanceof ProblemError) return { ok: false, reason: 'wrong', detail: error.message }
    this.#deps.log.error({ requestId: of.id, source: name, err: error }, `the kind ${kind.name} failed to verify`)
    return { ok: false, reason: 'wrong', detail: 'its kind failed to verify it' }
  }

  async #notVerified(
    of: Visit,
    { reason, detail }: Exclude<Verdict, { ok: true }>,
    source: Source | undefined,
    arrivedAt: number,
  ): Promise<Answered> {
    const { answers } = this.#deps
    const context = logged(source)
    const whose = anybodysOf(source?.name)
    if (reason === 'unavailable') {
      const problem = unavailable('The webhook cannot be verified now.')
      return { response: answers.refuse(of, problem, { ...context, reason, because: detail }, whose) }
    }
    await sleep(arrivedAt + this.#deps.refusedAfterMs - performance.now())
    // That says nothing of how long requests take.
    of.isServed = false
    // Who is not verified must not use up the lines of the tenant.
    const response = answers.refuse(of, NOT_VERIFIED, { ...context, reason, because: detail }, whose)
    return { response, refused: reason }
  }

  /** Stores a verified webhook's events, and answers before its sender gives up. */
  async #take(posted: Posted, webhook: Webhook, source: Source, cost: number): Promise<Answered> {
    const { config, store, answers, log } = this.#deps
    const { of, target, origin, context } = posted
    const { kind, options } = source
    const leftMs = () => OUR_SHARE * kind.timeoutMs - (performance.now() - of.startedAt)
    const replied = async (): Promise<Reply | undefined> => {
      if (kind.respond === undefined) return undefined
      const reply = await within(leftMs(), Promise.resolve(kind.respond(webhook, options)), 'no reply')
      if (!(reply.status >= 200 && reply.status <= 599)) throw new RangeError(`${reply.status} is no status`)
      if (reply.note !== undefined) log.info({ requestId: of.id, ...context }, reply.note)
      return reply
    }
    let parsed: Parsed
    try {
      parsed = eventsOf(kind.identify(webhook, options) ?? [], webhook, source, config.MAX_BATCH_EVENTS)
    } catch (error) {
      if (error instanceof ProblemError) return { response: store.refuse(posted, error.problem, cost) }
      log.error({ requestId: of.id, ...context, err: error }, `the kind ${kind.name} failed to identify a webhook`)
      return { response: store.refuse(posted, NOT_IDENTIFIED, cost) }
    }
    if (parsed.ok && parsed.results.length === 0) {
      try {
        return { response: answers.reply(of, (await replied()) ?? { status: 200 }) }
      } catch (error) {
        log.warn({ requestId: of.id, ...context, err: error }, 'a webhook without an event was not answered')
        return { response: store.refuse(posted, unavailable('The webhook cannot be answered now.')) }
      }
    }
    const blocked = cannotTake(target.producer, target.topic, 1, 0)
    if (blocked !== undefined) return { response: store.refuse(posted, blocked) }
    origin.source = source.name
    if (webhook.isForm) origin.form = webhook.body.toString('utf8')
    const published = store.publish(posted, () => parsed, cost)
    if (published instanceof Response) return { response: published }
    const results = await mapWithin(published.results, leftMs(), (settled) => settled)
    if (results === undefined) return this.#late(posted, published)
    if (kind.respond === undefined) return { response: store.accept(posted, published, results) }
    const reply = await replied().catch((error) => {
      log.error({ requestId: of.id, ...context, err: error }, `the kind ${kind.name} failed to reply`)
      return undefined
    })
    return { response: store.accept(posted, published, results, reply) }
  }

  /** Answers a webhook whose events Kafka has not acknowledged in the sender's time. They may be stored yet. */
  #late(posted: Posted, published: Published): Answered {
    const { store } = this.#deps
    const unknown = new ProduceError(
      'timed out',
      'unknown',
      'Kafka has not acknowledged it in the time that the sender waits',
    )
    return {
      response: store.refuseUndelivered(
        posted,
        published,
        published.events.map(() => unknown),
      ),
      end: published.results.then(
        (results) => void store.count(posted, published, results),
        (error) => this.#deps.answers.logFailure(posted.of, error),
      ),
    }
  }
}

/** @throws TypeError for what is no verdict: a kind need not be TypeScript */
function checked(verdict: Verdict): Verdict {
  if (verdict.ok === true || REASONS.has(verdict.reason)) return verdict
  throw new TypeError('what it returned is no verdict')
}

const REASONS: ReadonlySet<unknown> = new Set([...REFUSALS, 'unavailable'])

/** For the log. */
const logged = (source: Source | undefined) => ({ tenant: source?.tenant.name, source: source?.name })

const resultOf = (status: number): WebhookResult => (status < 400 ? 'taken' : status >= 500 ? 'unavailable' : 'refused')

const unavailable = (detail: string): Problem => ({
  kind: 'unverifiable',
  detail: `${detail} Send it again later.`,
  outcome: 'not stored',
  retryAfterSeconds: 1,
})

const NOT_IDENTIFIED: Problem = {
  kind: 'invalid-event',
  detail: 'The kind of this source cannot read the webhook; the log of the service says why. Nothing of it was stored.',
}

/**
 * The events of a webhook, with the attributes that are its source's.
 * @throws ProblemError when the data is no JSON, or has too many events
 */
function eventsOf(
  identified: Identity | Iterable<Identity>,
  webhook: Webhook,
  source: Source,
  maxEvents: number,
): Parsed {
  const results: EventResult[] = []
  for (const identity of Symbol.iterator in identified ? identified : [identified]) {
    if (results.length === maxEvents) throw new ProblemError(tooMany(maxEvents))
    results.push(eventOf(identity, webhook, source))
  }
  const isList = results.length > 1
  const numbered = (result: EventResult, index: number): EventResult =>
    result.ok ? result : { ok: false, faults: atIndex(result.faults, index) }
  return { ok: true, isList, results: isList ? results.map(numbered) : results }
}

const tooMany = (maxEvents: number): Problem => ({
  kind: 'too-many-events',
  detail: `The webhook has more than MAX_BATCH_EVENTS=${maxEvents} events: have its sender send fewer at a time. Nothing of it was stored.`,
})

function eventOf(identity: Identity, webhook: Webhook, { name, subject }: Source): EventResult {
  const builder = new EventBuilder()
  const data = identity.data ?? webhook.data
  builder.fill('specversion', SPEC_VERSION)
  for (const attribute of ['id', 'type'] as const) {
    const value = identity[attribute]
    if (typeof value === 'string') builder.set(attribute, value)
    // A kind need not be TypeScript.
    else if (value !== undefined) builder.fault(attribute, 'must be a string')
  }
  const optional = (attribute: string, value: string | undefined): boolean => {
    // One that is not valid would make the sender try again for ever.
    if (typeof value !== 'string' || attributeFault(attribute, value) !== undefined) return false
    builder.fill(attribute, value)
    return true
  }
  if (!optional('source', identity.source)) builder.fill('source', `urn:kafkatrace:source:${name}`)
  const fields = webhook.parse(data)
  optional('subject', subject === undefined ? identity.subject : fields.text(subject))
  optional('time', identity.time)
  builder.fill('datacontenttype', 'application/json')
  return builder.build(data)
}
