import { describe, expect, test } from 'bun:test'
import { Counter, Gauge, Registry } from 'prom-client'
import { LatencyHistogram } from '../service/tally.ts'
import { settled } from '../testing/settled.ts'
import { type Check, createOpsApp, LATENCY_BUCKETS_SECONDS, serveOps } from './ops.ts'

/** An operations app with one check that can be switched. */
function createApp() {
  const kafka: { state: ReturnType<Check> } = { state: { ok: false, reason: 'no broker answers' } }
  const registry = new Registry()
  const counter = new Counter({ name: 'events_total', help: 'Events.', registers: [registry] })
  const app = createOpsApp({ registry, checks: { kafka: () => kafka.state, drain: () => ({ ok: true }) } })
  return { app, kafka, counter, registry }
}

describe('the operations port', () => {
  test('is live whatever the checks say', async () => {
    const { app } = createApp()
    expect((await app.request('/livez')).status).toBe(200)
  })

  test('says why it is not alive', async () => {
    const alive: Check = () => ({ ok: false, reason: 'nothing moves' })
    const answer = await createOpsApp({ registry: new Registry(), checks: {}, alive }).request('/livez')
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({ ok: false, reason: 'nothing moves' })
  })

  test('says why it is not ready, check by check', async () => {
    const { app } = createApp()
    const answer = await app.request('/readyz')
    expect(answer.status).toBe(503)
    expect(await answer.json()).toEqual({
      ok: false,
      checks: [
        { name: 'kafka', ok: false, reason: 'no broker answers' },
        { name: 'drain', ok: true },
      ],
    })
  })

  test('is ready when every check is fine, and not for longer than that', async () => {
    const { app, kafka } = createApp()
    kafka.state = { ok: true }
    expect((await app.request('/readyz')).status).toBe(200)
    kafka.state = { ok: false, reason: 'draining' }
    expect((await app.request('/readyz')).status).toBe(503)
  })

  test('is ready without what it can answer without, and says that it is not well', async () => {
    const { app, kafka } = createApp()
    kafka.state = { ok: false, reason: 'no broker answers', degraded: true }
    const answer = await app.request('/readyz')
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({
      ok: false,
      degraded: true,
      checks: [
        { name: 'kafka', ok: false, reason: 'no broker answers', degraded: true },
        { name: 'drain', ok: true },
      ],
    })
    // It was never well.
    expect((await app.request('/startupz')).status).toBe(503)
  })

  test('is not ready when anything else is wrong, too', async () => {
    const checks = {
      kafka: () => ({ ok: false, reason: 'no broker answers', degraded: true }) as const,
      drain: () => ({ ok: false, reason: 'the service is stopping' }) as const,
    }
    const answer = await createOpsApp({ registry: new Registry(), checks }).request('/readyz')
    expect(answer.status).toBe(503)
    expect(await answer.json()).toMatchObject({ ok: false })
  })

  test.each(['/startupz', '/readyz'])('has started once %s was fine, and stays so', async (path) => {
    const { app, kafka } = createApp()
    expect((await app.request('/startupz')).status).toBe(503)
    kafka.state = { ok: true }
    expect((await app.request(path)).status).toBe(200)
    kafka.state = { ok: false, reason: 'no broker answers' }
    expect((await app.request('/startupz')).status).toBe(200)
  })

  test('shows metrics as OpenMetrics, with exemplars of sampled traces, to whoever prefers that, and changes nothing for others', async () => {
    const { app, counter, registry } = createApp()
    counter.inc(3)
    new Gauge({ name: 'level', help: 'A "level".', labelNames: ['of'], registers: [registry] }).set(
      { of: 'a"b' },
      Infinity,
    )
    const seconds = new LatencyHistogram({
      name: 'took_seconds',
      help: 'Time.',
      buckets: [0.1, 1],
      registers: [registry],
    })
    const series = seconds.series({ route: 'events' })
    series.observe(0.05)
    series.observe(0.5, { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' })
    const ask = (accept?: string) => app.request('/metrics', { headers: accept === undefined ? {} : { accept } })
    const before = await (await ask()).text()
    const prometheus =
      'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2'
    const answer = await ask(prometheus)
    expect(answer.headers.get('content-type')).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
    expect((await answer.text()).replace(/ \d{10}\.\d+$/gm, ' AT').split('\n')).toEqual([
      '# TYPE events counter',
      '# HELP events Events.',
      'events_total 3',
      '# TYPE level gauge',
      '# HELP level A \\"level\\".',
      'level{of="a\\"b"} +Inf',
      '# TYPE took_seconds histogram',
      '# HELP took_seconds Time.',
      'took_seconds_bucket{le="0.1",route="events"} 1',
      'took_seconds_bucket{le="1",route="events"} 2 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"} 0.5 AT',
      'took_seconds_bucket{le="+Inf",route="events"} 2',
      'took_seconds_sum{route="events"} 0.55',
      'took_seconds_count{route="events"} 2',
      '# EOF',
      '',
    ])
    for (const accept of [
      undefined,
      '*/*',
      'text/plain',
      'application/openmetrics-text;version=0.0.1',
      'application/openmetrics-text;q=0',
      'text/plain, application/openmetrics-text;q=0.9',
    ]) {
      const other = await ask(accept)
      expect(other.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
      expect(await other.text()).toBe(before)
    }
    expect(before).not.toContain('trace_id')
  })

  test('shows metrics in the format of Prometheus', async () => {
    const { app, counter, registry } = createApp()
    counter.inc(3)
    const answer = await app.request('/metrics')
    expect(answer.headers.get('content-type')).toBe(registry.contentType)
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(await answer.text()).toContain('# TYPE events_total counter\nevents_total 3')
  })

  test('shows at /statusz what the service says of itself, if it does', async () => {
    const app = createOpsApp({ registry: new Registry(), checks: {}, status: () => ({ a: [1] }) })
    expect(await (await app.request('/statusz')).json()).toEqual({ a: [1] })
    expect((await createOpsApp({ registry: new Registry(), checks: {} }).request('/statusz')).status).toBe(404)
  })

  test('knows nothing else', async () => {
    expect((await createApp().app.request('/')).status).toBe(404)
  })

  test.each(['/livez', '/readyz', '/metrics', '/'])(
    '%s is not to be taken for something else by a browser',
    async (path) => {
      expect((await createApp().app.request(path)).headers.get('x-content-type-options')).toBe('nosniff')
    },
  )

  test('listens until it is stopped', async () => {
    const { registry } = createApp()
    const ops = serveOps({ registry, checks: {} }, { hostname: '127.0.0.1', port: 0 })
    const url = `http://127.0.0.1:${ops.port}/livez`
    expect((await fetch(url)).status).toBe(200)
    await ops.stop()
    expect(await settled(fetch(url))).toThrow()
  })
})

test('latency buckets grow, and resolve 1 ms to 10 s', () => {
  expect(LATENCY_BUCKETS_SECONDS).toEqual(LATENCY_BUCKETS_SECONDS.toSorted((a, b) => a - b))
  expect(LATENCY_BUCKETS_SECONDS[0]).toBe(0.001)
  expect(LATENCY_BUCKETS_SECONDS.at(-1)).toBe(10)
  // Buckets are at most a factor of two apart.
  for (const [index, bucket] of LATENCY_BUCKETS_SECONDS.entries())
    if (index > 0) expect(bucket / (LATENCY_BUCKETS_SECONDS[index - 1] ?? 0)).toBeLessThanOrEqual(2)
})
