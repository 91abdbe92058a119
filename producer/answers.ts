import type { Span } from '@opentelemetry/api'
import type { ClientAddress } from '../shared/http/client-address.ts'
import { NOSNIFF, requestIdOf } from '../shared/http/http.ts'
import { PROBLEMS, type Problem, problemResponse, repeatedProblem } from '../shared/http/problem.ts'
import type { Logger, TenantLines } from '../shared/service/logger.ts'
import type { Tally } from '../shared/service/tally.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { exemplarOf, logIds } from '../shared/tracing/tracing.ts'
import type { Gate } from './admit.ts'
import type { AnswerResult, Metrics, Route } from './metrics.ts'
import type { Reply } from './sources/kind.ts'

/** What all answers have in common: they are counted, logged and traced, and their connections are kept or closed. */

/** A request that is not answered yet. */
export interface Visit {
  request: Request
  id: string
  route: Route
  receivedAtMs: number
  startedAt: number
  span: Span | undefined
  /** Its tenant's, once that is known. */
  tenantAnswers: Record<AnswerResult, Tally> | undefined
  /** Whether its duration counts in the histogram: not where it is refused (4xx) or finds no room, and not that of an NDJSON stream, which is as long as its client wants. */
  isServed: boolean
}

export interface AnswersDeps {
  gate: Gate
  metrics: Metrics
  log: Logger
  lines: TenantLines
  tracing: Tracing | undefined
  nowMs(): number
  /** Whether clients should try another producer, which a connection that stays open does not let them. */
  sendsAway?(): boolean
  /** For the log of what is refused for its sender. undefined: it has no addresses. */
  clientAddress?: ClientAddress
}

/** For the log. */
export interface Context {
  tenant?: string | undefined
  stream?: string
  [name: string]: unknown
}

/** An unread body up to this size is read and dropped to keep the connection. A larger one costs more than a new connection. */
const MAX_DROPPED_BYTES = 64 * 1024

export type Answers = ReturnType<typeof createAnswers>

export function createAnswers({ gate, metrics, log, lines, tracing, nowMs, sendsAway, clientAddress }: AnswersDeps) {
  const refusals = new Map<Problem, (closes: boolean) => Response>()

  function finish(of: Visit, response: Response): Response {
    answered(of, response.status)
    if (gate.draining || sendsAway?.() === true || leavesBody(of.request)) response.headers.set('connection', 'close')
    return response
  }

  /** @param countedAs in metrics */
  function answered(
    { route, span, startedAt, isServed, tenantAnswers }: Visit,
    status: number,
    countedAs = status,
  ): void {
    if (tenantAnswers !== undefined) tenantAnswers[resultOf(countedAs)].count++
    metrics.answered(route, countedAs, isServed ? (performance.now() - startedAt) / 1_000 : undefined, exemplarOf(span))
    if (span === undefined) return
    span.setAttribute('http.response.status_code', status)
    tracing?.end(span, status >= 500 ? { type: String(status) } : undefined)
  }

  /** @param whose log lines it counts as */
  function refuse(of: Visit, problem: Problem, context: Context = {}, whose = context.tenant): Response {
    const { status } = PROBLEMS[problem.kind]
    of.span?.setAttribute('kafkatrace.problem', problem.kind)
    const unserved = status === 503 && problem.kind !== 'undelivered' && problem.kind !== 'unverifiable'
    // Neither overload nor a client that ignores its quota may fill the log; metrics count these.
    const level =
      unserved || status === 429
        ? 'debug'
        : problem.kind === 'unverifiable'
          ? lines.level(whose, 'warn')
          : status >= 500
            ? 'warn'
            : lines.level(whose, 'info')
    if (log.isLevelEnabled(level)) {
      // Whoever guesses keys is found by it, and whoever tries what they may not. Nobody else's address is logged.
      const { by } = problem
      const client = status === 401 || status === 403 || by !== undefined ? clientAddress?.(of.request) : undefined
      log[level](
        {
          requestId: of.id,
          ...logIds(of.span),
          status,
          problem: problem.kind,
          ...(client && { client }),
          ...(by && { by }),
          ...context,
        },
        problem.detail,
      )
    }
    if (unserved || status < 500) of.isServed = false
    return finish(of, problemResponse(problem, of.id))
  }

  function reply(of: Visit, { status, headers, body }: Reply, more: Record<string, string> = {}): Response {
    return finish(
      of,
      new Response(body ?? null, { status, headers: { 'x-request-id': of.id, ...NOSNIFF, ...more, ...headers } }),
    )
  }

  const logFailure = (of: Visit, error: unknown): void =>
    log.error({ requestId: of.id, err: error }, 'a request failed unexpectedly')

  return {
    /** @param requestId the client's */
    visit: (request: Request, route: Route, requestId = request.headers.get('x-request-id')): Visit => ({
      request,
      id: requestIdOf(requestId),
      route,
      receivedAtMs: nowMs(),
      startedAt: performance.now(),
      span: undefined,
      tenantAnswers: undefined,
      isServed: route !== 'events' && route !== 'webhooks',
    }),
    answered,
    finish,
    refuse,
    reply,
    logFailure,

    /** Refuses a request for lack of room, at the least cost. */
    refuseAtOnce(request: Request, problem: Problem, route: 'events' | 'webhooks'): Response {
      const refusal = refusals.getOrInsertComputed(problem, repeatedProblem)
      metrics.answered(route, PROBLEMS[problem.kind].status, undefined)
      const announced = request.headers.get('content-length')
      return refusal(gate.draining || announced === null || !(Number(announced) <= MAX_DROPPED_BYTES))
    },

    failed(of: Visit, error: unknown): Response {
      logFailure(of, error)
      of.isServed = true
      return refuse(of, {
        kind: 'internal',
        detail: 'The service failed; its log says why. It is unknown what of the request was stored.',
        outcome: 'unknown',
      })
    },
  }
}

const resultOf = (status: number): AnswerResult => (status < 400 ? 'ok' : status < 500 ? 'refused' : 'failed')

/** Whether so much of the body is unread that closing the connection costs less than reading it. Bun has no `body` for a GET, and reading `body` creates a stream. */
function leavesBody(request: Request): boolean {
  if (request.bodyUsed) return false
  const announced = request.headers.get('content-length')
  if (announced !== null) return Number(announced) > MAX_DROPPED_BYTES
  return request.headers.has('transfer-encoding') || request.body !== null
}
