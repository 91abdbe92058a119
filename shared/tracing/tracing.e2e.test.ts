import { afterEach, expect, test } from 'bun:test'
import pino from 'pino'
import { embeddedPartitions, startEmbedded } from '../dev/brokers/embedded.ts'
import { headerText, TRACEPARENT } from '../events/headers.ts'
import { createRangeReader, readAll } from '../kafka/range-reader.ts'
import { commonConfig } from '../testing/common-config.ts'
import { startService } from '../testing/service-process.ts'
import { until } from '../testing/until.ts'
import { createTracing } from './tracing.ts'

const TIMEOUT_MS = 60_000
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const CLIENT_SPAN_ID = 'b7ad6b7169203331'

/** The parts of a span in OTLP's JSON that are checked. */
interface SentSpan {
  service: string
  name: string
  /** 2: SERVER, 4: PRODUCER, 5: CONSUMER. */
  kind: number
  traceId: string
  spanId: string
  parentSpanId?: string
  attributes: { key: string; value: { stringValue?: string; intValue?: number } }[]
}

/** A span's attributes. */
const told = (span: SentSpan | undefined) =>
  Object.fromEntries(span?.attributes.map(({ key, value }) => [key, value.stringValue]) ?? [])

interface Sent {
  resourceSpans: {
    resource: { attributes: { key: string; value: { stringValue: string } }[] }
    scopeSpans: { spans: Omit<SentSpan, 'service'>[] }[]
  }[]
}

const ending: (() => unknown)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** Receives spans like a collector. */
function startCollector(): { endpoint: string; spans: SentSpan[] } {
  const spans: SentSpan[] = []
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch(request) {
      if (new URL(request.url).pathname !== '/v1/traces') return new Response(null, { status: 404 })
      for (const { resource, scopeSpans } of ((await request.json()) as Sent).resourceSpans) {
        const service = resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue ?? ''
        for (const scope of scopeSpans) spans.push(...scope.spans.map((span) => ({ ...span, service })))
      }
      return Response.json({})
    },
  })
  ending.push(() => server.stop(true))
  return { endpoint: `http://127.0.0.1:${server.port}`, spans }
}

/** Answers what an item costs. */
function startPrices(): { url: string; traceparents: (string | null)[] } {
  const traceparents: (string | null)[] = []
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch(request) {
      traceparents.push(request.headers.get('traceparent'))
      return new Response('2')
    },
  })
  ending.push(() => server.stop(true))
  return { url: `http://127.0.0.1:${server.port}`, traceparents }
}

test(
  'an event’s trace goes from its client through both services and its handler to its outcome, and to the collector',
  async () => {
    const collector = startCollector()
    const prices = startPrices()
    const broker = await startEmbedded()
    ending.push(() => broker.stop())
    const env = {
      NODE_ENV: 'development',
      KAFKA_BROKERS: broker.bootstrapServers,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      OTEL_TRACES_SAMPLER_ARG: '0',
    }
    const producer = await startService('producer', { ...env, AUTH: 'off' })
    const consumer = await startService('consumer', {
      ...env,
      GROUP_ID: 'tracing',
      INSTANCE_ID: 'one',
      HANDLERS_MODULE: 'docs/examples/spans.ts',
      PRICES_URL: prices.url,
    })
    const post = (id: string, flags: string, data: object): Promise<Response> =>
      fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          traceparent: `00-${TRACE_ID}-${CLIENT_SPAN_ID}-${flags}`,
        },
        body: JSON.stringify({ type: 'order.placed', id, subject: 'one key', data }),
      })
    await until(() => producer.started['port'] !== undefined, { timeoutMs: TIMEOUT_MS, what: 'the public port' })
    const order = { item: 'pen', count: 1 }
    expect((await post('unsampled', '00', order)).status).toBe(202)
    expect((await post('sampled', '01', order)).status).toBe(202)
    expect((await post('unsampled and bad', '00', { item: 'pen' })).status).toBe(202)
    const isProcess = ({ name }: SentSpan): boolean => name === 'process kt.default.events'
    await until(() => collector.spans.filter(isProcess).length === 2, {
      timeoutMs: TIMEOUT_MS,
      what: 'the consumer’s spans',
    })
    expect(await consumer.stop()).toBe(0)
    expect(await producer.stop()).toBe(0)

    const [request, send] = ['POST /v1/streams/:stream/events', 'send kt.default.events'].map((name) => {
      const [span, ...others] = collector.spans.filter((one) => one.name === name)
      // Exactly the request that its client has sampled.
      expect(others).toEqual([])
      expect(span).toMatchObject({ service: 'kafkatrace-producer', traceId: TRACE_ID })
      return span
    })
    expect(request?.parentSpanId).toBe(CLIENT_SPAN_ID)
    expect(send?.parentSpanId).toBe(request?.spanId ?? '')
    const processed = collector.spans.filter(isProcess)
    expect(processed.map((span) => told(span)['messaging.message.id'])).toEqual(['sampled', 'unsampled and bad'])
    const [process, dead] = processed
    expect(process).toMatchObject({ service: 'kafkatrace-consumer', parentSpanId: send?.spanId, kind: 5 })
    expect(told(process)).toMatchObject({ 'kafkatrace.outcome': 'processed' })
    expect(told(dead)).toMatchObject({
      'kafkatrace.outcome': 'dead',
      'kafkatrace.kept': 'failed',
      'error.type': 'invalid data',
    })
    const below = (span: SentSpan | undefined): SentSpan[] =>
      collector.spans.filter(({ parentSpanId }) => parentSpanId === span?.spanId)
    expect(below(process).map(({ name }) => name)).toEqual(['attempt order.placed@1', 'commit kt.default.events'])
    expect(below(dead).map(({ name }) => name)).toEqual(['attempt order.placed@1', 'commit kt.default.events'])
    const [ask, ...others] = below(below(process)[0])
    expect(others).toEqual([])
    expect(ask?.name).toBe('GET price')
    expect(prices.traceparents).toEqual([
      expect.stringMatching(new RegExp(`^00-${TRACE_ID}-.{16}-00$`)),
      `00-${TRACE_ID}-${ask?.spanId}-01`,
    ])
    // One resource a process.
    expect(new Set(collector.spans.map(({ service }) => service)).size).toBe(2)
    const [line] = consumer.log.filter(({ msg }) => msg === 'dead letter')
    expect(line).toMatchObject({ traceId: TRACE_ID, spanId: dead?.spanId, eventId: 'unsampled and bad' })

    const reader = createRangeReader({
      config: commonConfig({ KAFKA_BROKERS: broker.bootstrapServers }),
      clientId: 'tracing-test',
      log: pino({ level: 'silent' }),
    })
    ending.push(() => reader.close())
    const carried: (string | undefined)[] = []
    const partitions = Array.from({ length: embeddedPartitions }, (_, partition) => ({
      topic: 'kt.default.events.processed',
      partition,
    }))
    await readAll(reader, partitions, ({ headers }) => carried.push(headerText(headers, TRACEPARENT)))
    expect(carried).toEqual([
      expect.stringMatching(new RegExp(`^00-${TRACE_ID}-.{16}-00$`)),
      `00-${TRACE_ID}-${process?.spanId}-01`,
    ])
  },
  TIMEOUT_MS,
)

test('a collector that hangs holds up a stop for a tenth of the time that stopping has, and is said once', async () => {
  const told: Record<string, unknown>[] = []
  const log = pino({}, { write: (line: string) => void told.push(JSON.parse(line)) })
  const collector = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Promise<Response>(() => undefined) })
  ending.push(() => collector.stop(true))
  const config = commonConfig({
    KAFKA_BROKERS: 'localhost:9092',
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
    OTEL_TRACES_SAMPLER_ARG: '1',
    DRAIN_TIMEOUT_MS: '1000',
  })
  const tracing = await createTracing(config, 'test', 'test-1', log)
  if (tracing === undefined) throw new Error('no tracing')
  for (let nth = 0; nth < 2_000; nth++) tracing.end(tracing.begin('work', 'server', undefined, {}))
  const begunMs = performance.now()
  await tracing.stop()
  expect(performance.now() - begunMs).toBeLessThan(1_000)
  expect(told.map(({ reason }) => reason)).toEqual(['the last spans are not sent within 100 ms'])
})

test(
  'a collector that is not there costs the spans and a line in the log, and stopping is not held up',
  async () => {
    const told: Record<string, unknown>[] = []
    const log = pino({}, { write: (line: string) => void told.push(JSON.parse(line)) })
    const endpoint = 'http://user:s3cret@127.0.0.1:1'
    const config = commonConfig({
      KAFKA_BROKERS: 'localhost:9092',
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_TRACES_SAMPLER_ARG: '1',
      DRAIN_TIMEOUT_MS: '60000',
    })
    const tracing = await createTracing(config, 'test', 'test-1', log)
    if (tracing === undefined) throw new Error('no tracing')
    // Several exports, of which each fails.
    for (let nth = 0; nth < 2_000; nth++) tracing.end(tracing.begin('work', 'server', undefined, {}))
    await tracing.stop()
    // Each reason once.
    const reasons = told.map(({ reason }) => reason)
    expect(reasons).toContain('connect ECONNREFUSED 127.0.0.1:1')
    expect(new Set(reasons).size).toBe(reasons.length)
    for (const { msg, ...rest } of told) {
      expect(msg).toBe('span export failed')
      // The address without the credentials in it.
      expect(rest['endpoint']).toBe('http://127.0.0.1:1')
    }
    expect(JSON.stringify(told)).not.toContain('s3cret')
  },
  TIMEOUT_MS,
)
