import { type Static, type TObject, Type } from '@sinclair/typebox'
import { NOSNIFF } from './http.ts'

/** Errors as RFC 9457 problem documents: the table of all of them, and how they become responses. */

/** By the last part of the problem's `type`. */
export const PROBLEMS = {
  malformed: { status: 400, title: 'Malformed request' },
  'invalid-parameters': { status: 400, title: 'Invalid parameters' },
  unauthenticated: { status: 401, title: 'Authentication required' },
  forbidden: { status: 403, title: 'Not allowed for this key' },
  'not-found': { status: 404, title: 'Not found' },
  'unknown-tenant': { status: 404, title: 'Unknown tenant' },
  'unknown-stream': { status: 404, title: 'Unknown stream' },
  'event-not-found': { status: 404, title: 'Event not found' },
  'letter-not-found': { status: 404, title: 'Dead letter not found' },
  'job-not-found': { status: 404, title: 'Job not found' },
  'schema-not-found': { status: 404, title: 'Schema not found' },
  'method-not-allowed': { status: 405, title: 'Method not allowed' },
  'request-timeout': { status: 408, title: 'Request timeout' },
  conflict: { status: 409, title: 'Not possible in its state' },
  'unknown-position': { status: 409, title: 'Unknown position' },
  'body-too-large': { status: 413, title: 'Body too large' },
  'event-too-large': { status: 413, title: 'Event too large' },
  'too-many-events': { status: 413, title: 'Too many events' },
  'too-deep': { status: 413, title: 'JSON nested too deeply' },
  'unsupported-media-type': { status: 415, title: 'Unsupported media type' },
  'unsupported-encoding': { status: 415, title: 'Unsupported content encoding' },
  'invalid-event': { status: 422, title: 'Invalid event' },
  'invalid-body': { status: 422, title: 'Invalid body' },
  'invalid-edit': { status: 422, title: 'Invalid edit' },
  'over-quota': { status: 429, title: 'Quota exceeded' },
  'too-many-failures': { status: 429, title: 'Too many failed authentications' },
  'headers-too-large': { status: 431, title: 'Header fields too large' },
  'webhook-over-quota': { status: 503, title: 'Quota exceeded' },
  internal: { status: 500, title: 'Internal error' },
  overloaded: { status: 503, title: 'Overloaded' },
  draining: { status: 503, title: 'Shutting down' },
  'kafka-unavailable': { status: 503, title: 'Kafka unavailable' },
  'producer-unavailable': { status: 503, title: 'Producer unavailable' },
  'schema-unavailable': { status: 503, title: 'Schema unavailable' },
  unverifiable: { status: 503, title: 'Cannot be verified now' },
  undelivered: { status: 503, title: 'Not acknowledged by Kafka' },
} as const satisfies Record<string, { status: number; title: string }>

export type ProblemKind = keyof typeof PROBLEMS

/** The stable `type` URI of a problem. */
export const problemType = (kind: ProblemKind): string => `urn:kafkatrace:problem:${kind}`

/** The most faults that an answer lists, so that a hostile request cannot cause an answer larger than itself. */
export const MAX_NAMED_FAULTS = 100

/** Why a request is not authenticated, or is not for the tenant that it names, as a label. */
export const AUTHENTICATION_FAILURES = [
  'missing',
  'several',
  'unknown',
  'expired',
  'not_yet_valid',
  'wrong_tenant',
  'invalid_token',
  'session',
  'certificate',
] as const
export type AuthenticationFailure = (typeof AUTHENTICATION_FAILURES)[number]

/** What went wrong with a request, or with one line of a stream. */
export interface Problem {
  kind: ProblemKind
  detail: string
  /** Of invalid events: the first faults. */
  errors?: { pointer: string; detail: string }[]
  /** Whether any of the request may be in the log; absent where the client has to fix the request. */
  outcome?: 'not stored' | 'unknown'
  /** Further members of the document (RFC 9457, section 3.2). */
  extensions?: Readonly<Record<string, unknown>>
  retryAfterSeconds?: number
  headers?: Record<string, string>
  /** For metrics; not in the document. */
  failure?: AuthenticationFailure
  /** For the log, not in the document: who is refused, once that is proved: the id of a key or certificate, or `jwt:` and a subject. */
  by?: string
  /** The rest of the body is not read, so the connection cannot be reused. */
  closes?: boolean
}

/** A value, or the problem that prevented it. */
export type OrProblem<T> = ({ ok: true } & T) | { ok: false; problem: Problem }

export const refusal = (
  kind: ProblemKind,
  detail: string,
  headers?: Record<string, string>,
  failure?: AuthenticationFailure,
): { ok: false; problem: Problem } => ({
  ok: false,
  problem: {
    kind,
    detail,
    ...(headers === undefined ? {} : { headers }),
    ...(failure === undefined ? {} : { failure }),
  },
})

/** The same, of somebody who has proved who they are. */
export const refusedTo = (
  by: string | undefined,
  { problem }: { problem: Problem },
): { ok: false; problem: Problem } => ({ ok: false, problem: by === undefined ? problem : { ...problem, by } })

/** Thrown where a problem cannot be returned, such as from a stream. */
export class ProblemError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail)
  }
}

export const EventFault = Type.Object(
  {
    pointer: Type.String({
      description: 'RFC 6901 pointer to the member; in arrays it begins with the event’s index.',
      examples: ['/0/time'],
    }),
    detail: Type.String(),
  },
  { title: 'EventFault', description: 'What is wrong with one member of an event.' },
)

/** The members of every problem document, for OpenAPI descriptions. */
export const PROBLEM_MEMBERS = {
  type: Type.String({
    format: 'uri',
    description: 'Which problem; stable.',
    examples: [problemType('invalid-event')],
  }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String({ description: 'What happened this time and what to do about it.' }),
  requestId: Type.Optional(Type.String({ description: 'Also in the X-Request-Id header and in the service’s log.' })),
}

export type ProblemDocument = Static<TObject<typeof PROBLEM_MEMBERS>> & Pick<Problem, 'errors' | 'outcome'>

export function problemDocument(problem: Problem, requestId?: string): ProblemDocument {
  const { status, title } = PROBLEMS[problem.kind]
  return {
    type: problemType(problem.kind),
    title,
    status,
    detail: problem.detail,
    ...(requestId === undefined ? {} : { requestId }),
    ...(problem.errors === undefined ? {} : { errors: problem.errors }),
    ...(problem.outcome === undefined ? {} : { outcome: problem.outcome }),
    ...problem.extensions,
  }
}

export const problemResponse = (problem: Problem, requestId: string): Response =>
  new Response(JSON.stringify(problemDocument(problem, requestId)), {
    status: PROBLEMS[problem.kind].status,
    headers: { 'x-request-id': requestId, ...problemHeaders(problem) },
  })

function problemHeaders(problem: Problem): Record<string, string> {
  const headers: Record<string, string> = {
    'content-type': 'application/problem+json',
    'cache-control': 'no-store',
    ...NOSNIFF,
    ...problem.headers,
  }
  if (problem.retryAfterSeconds !== undefined) headers['retry-after'] = String(problem.retryAfterSeconds)
  if (problem.closes === true) headers['connection'] = 'close'
  return headers
}

/**
 * Responses of a problem that is serialised only once, for refusing requests at the least cost under overload. They have no request id; there would be no log
 * line to find by it.
 */
export function repeatedProblem(problem: Problem): (closes: boolean) => Response {
  const text = JSON.stringify(problemDocument(problem))
  const init = (closes: boolean) => ({
    status: PROBLEMS[problem.kind].status,
    headers: new Headers(problemHeaders(closes ? { ...problem, closes } : problem)),
  })
  const [keeping, closing] = [init(false), init(true)]
  return (closes) => new Response(text, closes ? closing : keeping)
}
