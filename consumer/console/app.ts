import { Hono } from 'hono'
import type { Access } from '../../shared/http/access.ts'
import { actorOf } from '../../shared/http/authorise.ts'
import type { ClientAddress } from '../../shared/http/client-address.ts'
import { keyOf } from '../../shared/http/credentials.ts'
import { docsPage } from '../../shared/http/docs-page.ts'
import { ambiguity, NOSNIFF, pathOf, requestIdOf, websiteFault } from '../../shared/http/http.ts'
import { PROBLEMS, type Problem, ProblemError, problemResponse, refusal } from '../../shared/http/problem.ts'
import { type Logger, TenantLines } from '../../shared/service/logger.ts'
import type { Login } from './login.ts'
import type { ConsoleMetrics } from './metrics.ts'
import { openApi } from './openapi.ts'
import type { Page } from './page.ts'
import { readBody, readQuery } from './parameters.ts'
import type { Answer, Call, Route } from './route.ts'
import type { SessionFound } from './sessions.ts'

/** Who an act is by where nobody has a key. */
const ANYBODY = 'anyone'

/** No page but its own asks the console. */
const NO_ORIGINS: ReadonlySet<string> = new Set()

export interface AppDeps {
  routes: readonly Route[]
  access: Pick<Access, 'authorise' | 'whileAllowed'>
  isAuthOn: boolean
  /** undefined: nobody can log in. */
  login: Login | undefined
  page: Page
  metrics: ConsoleMetrics
  log: Logger
  isDraining(): boolean
  /** Why Kafka cannot be read; undefined while it can. */
  kafkaFault(): string | undefined
  /** For the log of what is refused for its sender. undefined: it has no addresses. */
  clientAddress?: ClientAddress
}

/** The routes of the public port. Every route of the table asks for its role before anything else. */
export function createApp(deps: AppDeps): Hono {
  const { routes, access, isAuthOn, login, page, metrics, log, isDraining, kafkaFault, clientAddress } = deps
  const lines = new TenantLines()
  const document = JSON.stringify(openApi(routes, isAuthOn))
  const docs = docsPage()
  const app = new Hono({ getPath: pathOf })

  const refuse = (
    request: Request,
    name: string,
    problem: Problem,
    context: Record<string, unknown> = {},
  ): Response => {
    const { status } = PROBLEMS[problem.kind]
    const id = requestIdOf(request.headers.get('x-request-id'))
    // A client that fails to authenticate again and again may not fill the log; metrics count these.
    const level =
      status >= 500 ? 'warn' : status === 429 ? 'debug' : lines.level(context['tenant'] as string | undefined, 'info')
    // Whoever guesses keys is found by it, and whoever tries what they may not. Nobody else's address is logged.
    const { by } = problem
    const client = status === 401 || status === 403 || by !== undefined ? clientAddress?.(request) : undefined
    log[level](
      {
        requestId: id,
        route: name,
        status,
        problem: problem.kind,
        ...(client && { client }),
        ...(by && { by }),
        ...context,
      },
      problem.detail,
    )
    metrics.answered(name, status, undefined)
    if (problem.kind !== 'unauthenticated' || login === undefined) return problemResponse(problem, id)
    return problemResponse({ ...problem, extensions: { ...problem.extensions, login: login.url } }, id)
  }

  /** Of somebody who has logged in. A key or a token counts before the cookie, and the cookie only where no other site can have sent it. */
  async function sessionOf(request: Request): Promise<SessionFound | undefined> {
    if (login === undefined || keyOf(request) !== undefined) return undefined
    if (!login.sessions.isIn(request)) return undefined
    const fault = login.crossSiteFault(request)
    return fault === undefined ? login.sessions.of(request) : refusal('forbidden', fault)
  }

  async function answer(request: Request, route: Route, path: Record<string, string>): Promise<Response> {
    const session = await sessionOf(request)
    const response = await answerTo(request, session, route, path)
    const cookie = session?.ok === true ? session.session.cookie : session?.cookie
    if (cookie !== undefined) response.headers.append('set-cookie', cookie)
    return response
  }

  async function answerTo(
    request: Request,
    session: SessionFound | undefined,
    route: Route,
    path: Record<string, string>,
  ): Promise<Response> {
    const { name } = route
    const begunMs = performance.now()
    let context: Record<string, unknown> = {}
    try {
      if (isDraining())
        throw new ProblemError({
          kind: 'draining',
          detail: 'The service is stopping. Try again.',
          retryAfterSeconds: 1,
        })
      const tenantName = new URLSearchParams(new URL(request.url, 'http://localhost').search).get('tenant') ?? undefined
      const wanted = {
        role: route.role === 'any' ? undefined : route.role,
        tenant: tenantName,
        stream: path['stream'],
      }
      if (session?.ok === false) return refuse(request, name, session.problem)
      const allowed = await (session === undefined
        ? access.authorise(request, wanted)
        : session.session.authorise(wanted))
      if (!allowed.ok) return refuse(request, name, allowed.problem)
      const { tenant, streams, keyId, roles, everything } = allowed
      context = { tenant: tenant.name, stream: path['stream'], key: keyId }
      const fault = kafkaFault()
      // At once, and not after a time-out. Who may do what does not stand in Kafka.
      if (fault !== undefined && route.role !== 'any')
        throw new ProblemError({ kind: 'kafka-unavailable', detail: `${fault}.`, retryAfterSeconds: 5 })
      const call: Call<unknown, unknown> = {
        request,
        tenant,
        streams,
        roles,
        everything,
        whileAllowed: (ended) => access.whileAllowed(allowed, ended),
        by: actorOf(allowed) ?? ANYBODY,
        name: allowed.name,
        isLoggedIn: session !== undefined,
        bearer: async () => (session === undefined ? keyOf(request) : session.session.accessToken()),
        path,
        query: readQuery(route.query, request.url),
        body: route.body === undefined ? undefined : await readBody(route.body, request),
      }
      let answered = await route.run(call as Call<never, never>)
      if (request.method === 'HEAD' && answered.stream !== undefined) {
        // Nobody reads it, so that nothing else would ever end it.
        await answered.stream.cancel()
        answered = { status: answered.status, ...(answered.contentType && { contentType: answered.contentType }) }
      }
      const id = requestIdOf(request.headers.get('x-request-id'))
      if (route.method !== 'get') log.info({ requestId: id, route: name, status: answered.status, ...context }, 'acted')
      metrics.answered(name, answered.status, route.isLong === true ? undefined : (performance.now() - begunMs) / 1000)
      return responseOf(answered, id)
    } catch (error) {
      if (error instanceof ProblemError) return refuse(request, name, error.problem, context)
      // What a client that is gone has caused is no failure.
      if (!request.signal.aborted) log.error({ route: name, err: error, ...context }, 'a request failed unexpectedly')
      return refuse(request, name, {
        kind: 'internal',
        detail: 'The service failed; its log says why. Doing the same again has its effect once.',
      })
    }
  }

  for (const route of routes)
    app.on(route.method.toUpperCase(), honoPath(route.path), (c) =>
      answer(c.req.raw, route, c.req.param() as Record<string, string>),
    )

  app.get('/openapi.json', () => {
    metrics.answered('openapi', 200, undefined)
    return new Response(document, { headers: { 'content-type': 'application/json', ...NOSNIFF } })
  })
  app.get('/docs', () => {
    metrics.answered('docs', 200, undefined)
    return new Response(docs.html, { headers: docs.headers })
  })
  if (login !== undefined) {
    const counted = (name: string, response: Response): Response => {
      metrics.answered(name, response.status, undefined)
      return response
    }
    app.get('/auth/login', async (c) => counted('login', await login.begin(c.req.raw)))
    app.get('/auth/callback', async (c) => counted('login', await login.finish(c.req.raw)))
    app.post('/auth/logout', async (c) => {
      const ended = await login.end(c.req.raw)
      return ended.ok ? counted('logout', ended.response) : refuse(c.req.raw, 'logout', ended.problem)
    })
  }
  const missing = (request: Request): Response =>
    refuse(request, 'other', { kind: 'not-found', detail: 'There is nothing here; GET /docs shows what there is.' })
  for (const path of ['/', '/assets/:name'])
    app.get(path, async (c) => {
      const found = await page.answer(c.req.raw, c.req.path)
      if (found === undefined) return missing(c.req.raw)
      metrics.answered('page', found.status, undefined)
      return found
    })
  const methods = [...new Set(app.routes.map(({ method }) => method))]
  app.notFound((c) => {
    const allowed = methods.filter((method) => app.router.match(method, c.req.path)[0].length > 0)
    if (allowed.length === 0) return missing(c.req.raw)
    const allow = allowed.join(', ')
    return refuse(c.req.raw, 'other', {
      kind: 'method-not-allowed',
      detail: `${c.req.method} is not allowed here. Allowed: ${allow}.`,
      headers: { allow },
    })
  })
  app.onError((error, c) => {
    log.error({ err: error }, 'a request failed unexpectedly')
    return refuse(c.req.raw, 'other', { kind: 'internal', detail: 'The service failed; its log says why.' })
  })

  const routed = app.fetch
  app.fetch = (request, ...rest) => {
    const fault = ambiguity(request)
    const website = isAuthOn ? undefined : websiteFault(request.headers, NO_ORIGINS)
    if (fault === undefined && website !== undefined)
      return refuse(request, 'other', { kind: 'forbidden', detail: website })
    if (fault === undefined) return routed(request, ...rest)
    return refuse(request, 'other', { kind: 'malformed', detail: fault, closes: true })
  }
  return app
}

const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ':$1')

function responseOf(
  { status, body, stream, contentType = 'application/json', headers: own = {} }: Answer,
  requestId: string,
): Response {
  const headers = {
    ...own,
    'content-type': contentType,
    // Event data may be confidential.
    'cache-control': 'no-store',
    'x-request-id': requestId,
    ...NOSNIFF,
    // Proxies such as NGINX would hold back a stream otherwise.
    ...(stream === undefined ? {} : { 'x-accel-buffering': 'no' }),
  }
  return new Response(stream ?? JSON.stringify(body), { status, headers })
}
