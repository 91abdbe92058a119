import type { Allowed } from '../shared/http/access.ts'
import type { Authorised } from '../shared/http/authorise.ts'
import { hasQueryKey } from '../shared/http/credentials.ts'
import { NOSNIFF } from '../shared/http/http.ts'
import { turn } from '../shared/service/retry.ts'
import { isSampledSpan, logIds } from '../shared/tracing/tracing.ts'
import { holding, type Stay } from './admit.ts'
import type { Visit } from './answers.ts'
import type { Authenticate } from './authenticate.ts'
import { streamBody } from './body.ts'
import { type Head, headFault, headOf } from './head.ts'
import { type Encoding, encodingOf, type Mode, modeOf } from './media-type.ts'
import { answerStream } from './ndjson.ts'
import { type Parsed, parseBody } from './parse.ts'
import { cannotTake } from './publish.ts'
import {
  defaultsOf,
  loggedIds,
  MORE_THAN_A_REQUEST,
  overQuota,
  type Posted,
  STORED_UNANSWERED,
  type Store,
  type StoreDeps,
  UNKNOWN_UNANSWERED,
} from './store.ts'

export interface PostDeps extends StoreDeps {
  store: Store
  authenticate: Authenticate
  /** Aborted when NDJSON streams have to end because the process stops. */
  ending: AbortSignal
}

export const STREAM_PATH = '/v1/streams/:stream/events'

/**
 * What an NDJSON stream holds at first. Bun reads up to 1.6 MB ahead from a fast sender, without showing it; most send less at a time. 512 streams that held
 * 64 KB each took 1.1 GB.
 */
const STREAM_BYTES = 256 * 1024

/** Answers requests with events for a stream: by their header fields alone where those do, else once their events are stored. */
export class EventsRoute {
  readonly #deps: PostDeps
  readonly #store: Store

  constructor(deps: PostDeps) {
    this.#deps = deps
    this.#store = deps.store
  }

  answer(request: Request, stream: string): Response | Promise<Response> {
    const { answers } = this.#deps
    const head = headOf(request.headers)
    const of = answers.visit(request, 'events', head.requestId ?? null)
    try {
      const fault = headFault(head, this.#deps.config.MAX_HEADER_BYTES)
      if (fault !== undefined) return answers.refuse(of, fault)
      const authenticated = this.#deps.authenticate(request, stream)
      if (!(authenticated instanceof Promise)) return this.#enter(of, head, stream, authenticated)
      return authenticated
        .then((authenticated) => this.#enter(of, head, stream, authenticated))
        .catch((error) => answers.failed(of, error))
    } catch (error) {
      return answers.failed(of, error)
    }
  }

  /** Decides by the header fields whether the request is let in. */
  #enter(of: Visit, head: Head, stream: string, authenticated: Authorised): Response | Promise<Response> {
    const { config, gate, answers } = this.#deps
    if (!authenticated.ok) return answers.refuse(of, authenticated.problem)
    const { tenant, keyId, keyQuota } = authenticated
    const key = keyId === undefined || keyQuota === undefined ? undefined : { keyId, quota: keyQuota }
    const context = { tenant: tenant.name, stream, key: keyId }
    const posted = this.#store.begin(of, head, tenant, stream, STREAM_PATH, context, key)
    const { target } = posted
    const mode = modeOf(head.contentType, head.attributes.length > 0)
    if (!mode.ok) return this.#store.refuse(posted, mode.problem)
    const encoding = encodingOf(head.contentEncoding)
    if (!encoding.ok) return this.#store.refuse(posted, encoding.problem)
    // Before the body is read, so that an outage costs neither memory nor the client's time.
    const blocked = cannotTake(target.producer, target.topic, 1, 0)
    if (blocked !== undefined) return this.#store.refuse(posted, blocked)
    const isStream = mode.mode === 'ndjson'
    const announced = head.contentLength ?? (of.request.body === null ? 0 : undefined)
    const firstBytes = isStream
      ? Math.min(STREAM_BYTES, config.NDJSON_WINDOW_BYTES)
      : gate.setAside(announced, config.MAX_BODY_BYTES, tenant.name)
    const entered = gate.enter(tenant.name, firstBytes, isStream)
    if (!entered.ok) {
      if (isSampledSpan(of.span)) return this.#store.refuse(posted, entered.problem)
      target.crowded.count++
      target.answers.failed.count++
      return answers.refuseAtOnce(of.request, entered.problem, 'events')
    }
    if (mode.mode === 'ndjson') return this.#answerLines(posted, authenticated, encoding.encoding, entered.stay)
    of.isServed = true
    return this.#answerWhole(posted, mode.mode, encoding.encoding, entered.stay)
  }

  /** Reads a whole body, stores its events and answers. */
  async #answerWhole(posted: Posted, mode: Exclude<Mode, 'ndjson'>, encoding: Encoding, stay: Stay): Promise<Response> {
    const { config, gate, answers } = this.#deps
    const { of, head, target } = posted
    const store = this.#store
    try {
      const over = overQuota(target.quotas, head.bytes)
      if (over !== undefined) return store.refuse(posted, over)
      const timeoutMs = config.REQUEST_TIMEOUT_MS - config.DELIVERY_TIMEOUT_MS
      const body = await store.read(of, head, encoding, stay, timeoutMs, target.tenant.name)
      if (!body.ok) return store.refuse(posted, body.problem, body.cost)
      const { bytes } = body
      const parse = (): Parsed => {
        target.defaults.nowMs = of.receivedAtMs
        return parseBody(mode, head, bytes, target.defaults, config)
      }
      const published = store.publish(posted, parse, head.bytes + bytes.length)
      if (published instanceof Response) return published
      return store.accept(posted, published, await published.results)
    } catch (error) {
      return answers.failed(of, error)
    } finally {
      gate.leave(stay)
    }
  }

  /** Answers an NDJSON stream: the answer begins before the request has ended. */
  #answerLines(posted: Posted, allowed: Allowed, encoding: Encoding, stay: Stay): Response {
    const { config, gate, access, answers, log, lines, nowMs, ending } = this.#deps
    const { of, head, target, origin } = posted
    const { tenant, quotas, counted } = target
    quotas?.spend(0, head.bytes)
    this.#store.beginSend(posted)
    const { body: raw, signal } = of.request
    const decodes = (bytes: number) => gate.holdDecoder(stay, bytes)
    const body = wellEnded(streamBody(raw ?? noBody(), encoding, decodes), signal)
    const stream = answerStream({
      body: holding(body, gate, stay, config.NDJSON_WINDOW_BYTES),
      to: target,
      turns: this.#store.turns,
      origin,
      defaults: defaultsOf(tenant),
      config,
      windowBytes: () => stay.bytes - stay.decoderBytes,
      nowMs,
      ending,
      whileAllowed: (ended) => access.whileAllowed(allowed, ended),
      count: (outcome) => {
        counted[outcome].count++
      },
      failed: (error) => answers.logFailure(of, error),
      ended: (summary, unanswered) => {
        gate.leave(stay)
        const failed = summary.notStored + summary.unknown
        this.#store.endSend(posted, summary.events, failed === 0 ? undefined : { type: 'undelivered' })
        // The status was sent before that was known.
        answers.answered(of, 200, failed === 0 ? 200 : 503)
        const context = {
          requestId: of.id,
          traceId: origin.trace?.traceId,
          ...logIds(of.span),
          tenant: tenant.name,
          stream: origin.stream,
        }
        log[summary.complete ? 'debug' : lines.level(tenant.name, 'info')](
          { ...context, summary },
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
        ...quotas?.headers(),
        ...(gate.draining ? { connection: 'close' } : {}),
      },
    })
  }
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
