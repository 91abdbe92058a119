import { type Context, Hono } from 'hono'
import { DEFAULT_STREAM } from '../shared/http/authorise.ts'
import { docsPage } from '../shared/http/docs-page.ts'
import { ambiguity, headAsGet, NOSNIFF, pathOf } from '../shared/http/http.ts'
import { TenantLines } from '../shared/service/logger.ts'
import { type AnswersDeps, createAnswers, type Visit } from './answers.ts'
import { handshake } from './handshake.ts'
import { openApi } from './openapi.ts'
import { EventsRoute, type PostDeps, STREAM_PATH } from './post.ts'
import { Store } from './store.ts'
import { SOURCE_PATH, SOURCES_PREFIX, type WebhooksDeps, WebhooksRoute } from './webhooks.ts'

export type AppDeps = Omit<PostDeps & WebhooksDeps, 'answers' | 'lines' | 'store'> &
  Pick<AnswersDeps, 'clientAddress' | 'sendsAway'>

/** The routes of the public port. */
export function createApp(deps: AppDeps): Hono {
  const { gate, metrics } = deps
  const lines = new TenantLines()
  const answers = createAnswers({ ...deps, lines })
  const { visit, finish, refuse, failed } = answers
  const store = new Store({ ...deps, answers, lines })
  const events = new EventsRoute({ ...deps, answers, lines, store })
  const webhooks = new WebhooksRoute({ ...deps, answers, lines, store })
  const app = new Hono({ getPath: pathOf })

  async function options(of: Visit, stream: string): Promise<Response> {
    const answered = await handshake(of.request, stream, deps.authenticate)
    if (!answered.ok) return refuse(of, answered.problem)
    if (answered.granted) metrics.handshakes.inc()
    return finish(of, new Response(null, { headers: { ...answered.headers, ...NOSNIFF, 'x-request-id': of.id } }))
  }

  for (const path of ['/v1/events', STREAM_PATH] as const) {
    const stream = (c: Context): string => c.req.param('stream') ?? DEFAULT_STREAM
    app.post(path, (c) => events.answer(c.req.raw, stream(c)))
    app.options(path, (c) => {
      const of = visit(c.req.raw, 'handshake')
      return options(of, stream(c)).catch((error) => failed(of, error))
    })
  }
  app.post(SOURCE_PATH, (c) => webhooks.answer(c.req.raw, c.req.param('source')))
  // Made when they are first asked for.
  let document: string | undefined
  app.get('/openapi.json', (c) => {
    document ??= JSON.stringify(openApi(deps.config))
    const headers = { 'content-type': 'application/json', ...NOSNIFF }
    return finish(visit(c.req.raw, 'openapi'), new Response(document, { headers }))
  })
  let page: ReturnType<typeof docsPage> | undefined
  app.get('/docs', (c) => {
    page ??= docsPage()
    return finish(visit(c.req.raw, 'docs'), new Response(page.html, { headers: page.headers }))
  })

  // Here and not in a middleware, which would be a second handler for every request.
  const methods = [...new Set(app.routes.map(({ method }) => method))]
  app.notFound((c) => {
    const of = visit(c.req.raw, 'other')
    const allowed = methods.filter((method) => app.router.match(method, c.req.path)[0].length > 0)
    if (allowed.length === 0)
      return refuse(of, {
        kind: 'not-found',
        detail:
          'Events go to POST /v1/events or /v1/streams/{stream}/events, webhooks to /v1/sources/{source}; GET /docs shows how.',
      })
    const allow = allowed.join(', ')
    return refuse(of, {
      kind: 'method-not-allowed',
      detail: `${c.req.method} is not allowed here. Allowed: ${allow}.`,
      headers: { allow },
    })
  })
  app.onError((error, c) => failed(visit(c.req.raw, 'other'), error))

  const routed = app.fetch
  // Before routing: under overload a refusal must cost next to nothing, or too little CPU is left for the requests that were let in.
  app.fetch = (request, ...rest) => {
    const { closed } = gate
    if (closed !== undefined && request.method === 'POST')
      return answers.refuseAtOnce(request, closed, request.url.includes(SOURCES_PREFIX) ? 'webhooks' : 'events')
    try {
      const fault = ambiguity(request)
      if (fault === undefined) return routed(headAsGet(request), ...rest)
      return refuse(visit(request, 'other'), { kind: 'malformed', detail: fault, closes: true })
    } catch (error) {
      return failed(visit(request, 'other'), error)
    }
  }
  return app
}
