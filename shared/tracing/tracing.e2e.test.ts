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
  traceId: string
  spanId: string
  parentSpanId?: string
  attributes: { key: string; value: { stringValue?: string; intValue?: number } }[]
}

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

test(
  'an event’s trace goes from its client through both services to its outcome, and to the collector',
  async () => {
    const collector = startCollector()
    const broker = await startEmbedded()
    ending.push(() => broker.stop())
    const env = {
      NODE_ENV: 'development',
      KAFKA_BROKERS: broker.bootstrapServers,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      OTEL_TRACES_SAMPLER_ARG: '0',
    }
    const producer = await startService('producer', { ...env, AUTH: 'off' })
    const consumer = await startService('consumer', { ...env, GROUP_ID: 'tracing', INSTANCE_ID: 'one' })
    const post = (flags: string): Promise<Response> =>
      fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          traceparent: `00-${TRACE_ID}-${CLIENT_SPAN_ID}-${flags}`,
        },
        body: JSON.stringify({ type: 'traced', id: `traced-${flags}`, subject: 'one key' }),
      })
    await until(() => producer.started['port'] !== undefined, { timeoutMs: TIMEOUT_MS, what: 'the public port' })
    expect((await post('00')).status).toBe(202)
    expect((await post('01')).status).toBe(202)
    await until(() => collector.spans.length >= 2, { timeoutMs: TIMEOUT_MS, what: 'both services’ spans' })
    expect(await consumer.stop()).toBe(0)
    expect(await producer.stop()).toBe(0)

    const [server, process] = ['kafkatrace-producer', 'kafkatrace-consumer'].map((service) =>
      collector.spans.find((span) => span.service === service),
    )
    // Exactly the requests that their clients have sampled.
    expect(collector.spans).toHaveLength(2)
    expect(server).toMatchObject({ name: 'POST /v1/streams/:stream/events', traceId: TRACE_ID })
    expect(server?.parentSpanId).toBe(CLIENT_SPAN_ID)
    expect(process).toMatchObject({ name: 'process kt.default.events', traceId: TRACE_ID })
    expect(process?.parentSpanId).toBe(server?.spanId ?? '')
    const told = Object.fromEntries(process?.attributes.map(({ key, value }) => [key, value.stringValue]) ?? [])
    expect(told).toMatchObject({ 'cloudevents.event_id': 'traced-01', 'kafkatrace.outcome': 'processed' })

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
    expect(carried).toContain(`00-${TRACE_ID}-${process?.spanId}-01`)
    expect(carried).toContain(`00-${TRACE_ID}-${CLIENT_SPAN_ID}-00`)
  },
  TIMEOUT_MS,
)

test('a collector that is not there costs the spans and a line in the log, and stopping is not held up', async () => {
  const told: Record<string, unknown>[] = []
  const log = pino({}, { write: (line: string) => void told.push(JSON.parse(line)) })
  const endpoint = 'http://user:s3cret@127.0.0.1:1'
  const config = commonConfig({
    KAFKA_BROKERS: 'localhost:9092',
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_SAMPLER_ARG: '1',
  })
  const tracing = await createTracing(config, 'test', log)
  const span = tracing?.begin('work', 'server', undefined, {})
  if (tracing === undefined || span === undefined) throw new Error('no span')
  tracing.end(span, 'ok')
  await tracing.stop()
  expect(told.length).toBeGreaterThan(0)
  for (const { reason, msg, ...rest } of told) {
    expect(msg).toBe('span export failed')
    expect(reason).toBe('connect ECONNREFUSED 127.0.0.1:1')
    // The address without the credentials in it.
    expect(rest['endpoint']).toBe('http://127.0.0.1:1')
  }
  expect(JSON.stringify(told)).not.toContain('s3cret')
})
