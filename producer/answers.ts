import type { Span } from '@opentelemetry/api'
import type { Logger, TenantLines } from '../shared/service/logger.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import type { Gate } from './admit.ts'
import type { Metrics, Route } from './metrics.ts'
import { PROBLEMS, type Problem, problemResponse, repeatedProblem } from './problem.ts'

/** Requests from their arrival to their answers, whatever they ask for: counted, logged, traced, and their connections kept or closed. */

/** A request, and what is known of it so far. */
export interface Visit {
  request: Request
  id: string
  route: Route
  receivedAtMs: number
  startedAt: number
  span: Span | undefined
  /** Whether its time says how long requests take: not where it was refused before its body was read, or for lack of room or quota. */
  isServed: boolean
}

export interface AnswersDeps {
  gate: Gate
  metrics: Metrics
  log: Logger
  lines: TenantLines
  tracing: Tracing | undefined
  nowMs(): number
}

/** An unread body up to this size is read and dropped to keep the connection; a larger one costs more than a new connection. */
const MAX_DROPPED_BYTES = 64 * 1024

export type Answers = ReturnType<typeof createAnswers>

export function createAnswers({ gate, metrics, log, lines, tracing, nowMs }: AnswersDeps) {
  const refusals = new Map<Problem, (closes: boolean) => Response>()

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
    tracing?.end(span, status >= 500 ? 'failed' : 'ok')
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

  const logFailure = (of: Visit, error: unknown): void =>
    log.error({ requestId: of.id, err: error }, 'a request failed unexpectedly')

  return {
    /** @param requestId as its sender has named it */
    visit: (request: Request, route: Route, requestId = request.headers.get('x-request-id')): Visit => ({
      request,
      id: requestId !== null && REQUEST_ID.test(requestId) ? requestId : Bun.randomUUIDv7(),
      route,
      receivedAtMs: nowMs(),
      startedAt: performance.now(),
      span: undefined,
      isServed: route !== 'events',
    }),
    answered,
    finish,
    refuse,
    logFailure,

    /** Refuses a request for events that finds no room, at the least cost. */
    refuseAtOnce(request: Request, problem: Problem): Response {
      let refusal = refusals.get(problem)
      if (refusal === undefined) {
        refusal = repeatedProblem(problem)
        refusals.set(problem, refusal)
      }
      metrics.answered('events', PROBLEMS[problem.kind].status, undefined)
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

/** Printable ASCII without spaces, so that it can be a header and a field of a log anywhere. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/

/**
 * Whether answering now leaves so much of the body unread that the connection is better given up. Looking at `body` makes a stream of it, and Bun
 * shows none of a GET.
 */
function leavesBody(request: Request): boolean {
  if (request.bodyUsed) return false
  const announced = request.headers.get('content-length')
  if (announced !== null) return Number(announced) > MAX_DROPPED_BYTES
  return request.headers.has('transfer-encoding') || request.body !== null
}
