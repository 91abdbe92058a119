import { Hono } from 'hono'
import type { Registry } from 'prom-client'
import type { Certificates } from './certificates.ts'
import { ambiguity, headAsGet, NOSNIFF, pathOf } from './http.ts'
import { listen } from './listener.ts'
import { OPENMETRICS_TYPE, openMetricsText, wantsOpenMetrics } from './openmetrics.ts'

/** The operations port: `/livez`, `/readyz`, `/startupz`, `/metrics`, and of some services `/statusz`. */

/** Buckets of every latency histogram: from 1 ms to 10 s, three to five a decade. */
export const LATENCY_BUCKETS_SECONDS = [
  0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2,
  3, 5, 7.5, 10,
]

/**
 * Whether one condition of readiness holds, and why not. `detail`: what is wrong although it holds. `degraded`: it does not hold, and requests are answered all
 * the same, with 503, so that load balancers need not keep them away.
 */
export type Check = () => { ok: true; detail?: string } | { ok: false; reason: string; degraded?: true }

export interface Ops {
  registry: Registry
  /** By name; all must hold. */
  checks: Readonly<Record<string, Check>>
  /** Whether the process itself works, whatever Kafka does, so that an outage of Kafka restarts nothing. Absent: always. */
  alive?: Check
  /** What the service says of itself at `/statusz`, as JSON. Absent: nothing. */
  status?: () => unknown
}

/** The app behind the operations port. */
export function createOpsApp({ registry, checks, alive = () => ({ ok: true }), status }: Ops): Hono {
  let started = false
  const readiness = () => {
    const results = Object.entries(checks).map(([name, check]) => ({ name, ...check() }))
    const ok = results.every((one) => one.ok)
    started ||= ok
    const degraded = !ok && results.every((one) => one.ok || one.degraded)
    // The status is for load balancers. Whoever reads the body is never told that all is well when it is not.
    return { isReady: ok || degraded, body: { ok, ...(degraded && { degraded }), checks: results } }
  }
  const app = new Hono({ getPath: pathOf })
    .use(async (c, next) => {
      await next()
      for (const [name, value] of Object.entries(NOSNIFF)) c.header(name, value)
      // No request here needs a body, and none is read.
      if (c.req.header('transfer-encoding') !== undefined || Number(c.req.header('content-length') ?? 0) > 0)
        c.header('connection', 'close')
    })
    .get('/livez', (c) => {
      const state = alive()
      return c.json(state, state.ok ? 200 : 503)
    })
    .get('/readyz', (c) => {
      const { isReady, body } = readiness()
      return c.json(body, isReady ? 200 : 503)
    })
    .get('/startupz', (c) => {
      const { checks } = readiness().body
      return c.json({ ok: started, checks }, started ? 200 : 503)
    })
    .get('/metrics', async (c) => {
      const isOpen = wantsOpenMetrics(c.req.header('accept'))
      return c.body(await (isOpen ? openMetricsText(registry) : registry.metrics()), 200, {
        'content-type': isOpen ? OPENMETRICS_TYPE : registry.contentType,
        'cache-control': 'no-store',
        vary: 'accept',
      })
    })
  if (status !== undefined) app.get('/statusz', (c) => c.json(status() as object, 200, { 'cache-control': 'no-store' }))
  const routed = app.fetch
  app.fetch = (request, ...rest) => {
    const fault = ambiguity(request)
    if (fault !== undefined)
      return new Response(`${fault}\n`, { status: 400, headers: { connection: 'close', ...NOSNIFF } })
    return routed(headAsGet(request), ...rest)
  }
  return app
}

/**
 * Serves the operations port; 0 takes a free one. `stop` closes it at once.
 * @param certificates undefined: plain HTTP. Probes and scrapes show no certificate, so that none is asked for
 */
export function serveOps(
  ops: Ops,
  address: { hostname: string; port: number },
  certificates?: Certificates,
): { port: number; stop(): Promise<void> } {
  const listener = listen({ ...address, certificates, fetch: createOpsApp(ops).fetch })
  return { port: listener.port, stop: () => listener.stop(true) }
}
