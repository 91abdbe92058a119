import { afterEach, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endBoundChild, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { installedTool, tool } from './tools.ts'

/** Spans in a real Jaeger, asked by its query API. */

const TIMEOUT_MS = 30_000
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const CLIENT_SPAN_ID = 'b7ad6b7169203331'
const END_MS = 5_000

/** The parts of Jaeger's answers that are checked. */
interface JaegerTrace {
  traceID: string
  spans: {
    spanID: string
    operationName: string
    processID: string
    references: { refType: string; traceID: string; spanID: string }[]
    tags: { key: string; value: unknown }[]
  }[]
  processes: Record<string, { serviceName: string }>
}

const ending: (() => unknown)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
}, TIMEOUT_MS)

/** @returns where spans are received, and a function that asks the query API */
async function startJaeger(program: string) {
  const [otlp = 0, http = 0, grpc = 0] = await findFreePorts(3)
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-jaeger-'))
  ending.push(() => rm(folder, { recursive: true, force: true }))
  const at = (port: number) => ({ endpoint: `127.0.0.1:${port}` })
  const config = {
    service: {
      extensions: ['jaeger_storage', 'jaeger_query'],
      pipelines: { traces: { receivers: ['otlp'], exporters: ['jaeger_storage_exporter'] } },
      telemetry: { metrics: { level: 'none' }, logs: { level: 'warn' } },
    },
    extensions: {
      jaeger_storage: { backends: { memory: { memory: { max_traces: 1_000 } } } },
      jaeger_query: { storage: { traces: 'memory' }, http: at(http), grpc: at(grpc) },
    },
    receivers: { otlp: { protocols: { http: at(otlp) } } },
    exporters: { jaeger_storage_exporter: { trace_storage: 'memory' } },
  }
  const file = join(folder, 'jaeger.yaml')
  // JSON is YAML.
  await Bun.write(file, JSON.stringify(config))
  const log = join(folder, 'jaeger.log')
  const child = spawnBoundChild([program, `--config=${file}`], { stdout: 'ignore', stderr: Bun.file(log) })
  ending.push(() => endBoundChild(child, END_MS))
  const ask = async <T>(path: string): Promise<T | undefined> => {
    const answer = await fetch(`http://127.0.0.1:${http}${path}`).catch(() => undefined)
    return answer?.ok ? ((await answer.json()) as { data: T }).data : undefined
  }
  await until(async () => child.exitCode !== null || (await ask('/api/services')) !== undefined, {
    timeoutMs: TIMEOUT_MS,
    what: 'Jaeger to answer',
  })
  if (child.exitCode !== null) throw new Error(`Jaeger ended with ${child.exitCode}:\n${await Bun.file(log).text()}`)
  return { endpoint: `http://127.0.0.1:${otlp}`, ask }
}

const name = 'the way of an event is one trace in Jaeger, and a failure is found there though its trace was not sampled'

async function follow(program: string): Promise<void> {
  const jaeger = await startJaeger(program)
  const prices = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Response('2') })
  ending.push(() => prices.stop(true))
  const broker = await startEmbedded()
  ending.push(() => broker.stop())
  const env = {
    NODE_ENV: 'development',
    KAFKA_BROKERS: broker.bootstrapServers,
    OTEL_EXPORTER_OTLP_ENDPOINT: jaeger.endpoint,
    OTEL_TRACES_SAMPLER_ARG: '0',
  }
  const producer = await startService('producer', { ...env, AUTH: 'off' })
  ending.push(() => producer.stop())
  const consumer = await startService('consumer', {
    ...env,
    GROUP_ID: 'traces',
    INSTANCE_ID: 'one',
    HANDLERS_MODULE: 'docs/examples/spans.ts',
    PRICES_URL: `http://127.0.0.1:${prices.port}`,
  })
  ending.push(() => consumer.stop())
  await until(() => producer.started['port'] !== undefined, { timeoutMs: TIMEOUT_MS, what: 'the public port' })
  const post = async (data: object, headers: Record<string, string>): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ type: 'order.placed', subject: 'one key', data }),
    })
    expect(answer.status).toBe(202)
  }
  await post({ item: 'pen', count: 1 }, { traceparent: `00-${TRACE_ID}-${CLIENT_SPAN_ID}-01` })
  await post({ item: 'pen' }, {})

  let trace: JaegerTrace | undefined
  await until(
    async () => {
      trace = (await jaeger.ask<JaegerTrace[]>(`/api/traces/${TRACE_ID}`))?.[0]
      return trace?.spans.length === 6
    },
    { timeoutMs: TIMEOUT_MS, what: 'the trace in Jaeger' },
  )
  const { spans, processes } = trace as JaegerTrace
  const parentOf = (operation: string): string | undefined => {
    const [reference] = spans.find(({ operationName }) => operationName === operation)?.references ?? []
    return spans.find(({ spanID }) => spanID === reference?.spanID)?.operationName ?? reference?.spanID
  }
  const way = [
    'GET price',
    'attempt order.placed@1',
    'process kt.default.events',
    'send kt.default.events',
    'POST /v1/streams/:stream/events',
  ]
  expect(way.map(parentOf)).toEqual([...way.slice(1), CLIENT_SPAN_ID])
  expect(parentOf('commit kt.default.events')).toBe('process kt.default.events')
  expect(new Set(Object.values(processes).map(({ serviceName }) => serviceName))).toEqual(
    new Set(['kafkatrace-producer', 'kafkatrace-consumer']),
  )

  const tags = encodeURIComponent(JSON.stringify({ 'kafkatrace.kept': 'failed' }))
  let failed: JaegerTrace[] = []
  await until(
    async () => {
      failed = (await jaeger.ask<JaegerTrace[]>(`/api/traces?service=kafkatrace-consumer&tags=${tags}`)) ?? []
      return failed[0]?.spans.length === 3
    },
    { timeoutMs: TIMEOUT_MS, what: 'the failure in Jaeger' },
  )
  const tagsOf = (operation: string) =>
    Object.fromEntries(
      failed[0]?.spans
        .find(({ operationName }) => operationName === operation)
        ?.tags.map(({ key, value }) => [key, value]) ?? [],
    )
  expect(failed).toHaveLength(1)
  expect(tagsOf('process kt.default.events')).toMatchObject({
    'error.type': 'invalid data',
    'kafkatrace.outcome': 'dead',
    'span.kind': 'consumer',
  })
}

// Building it takes ten minutes: where CI is set, it is built.
const installed = installedTool('jaeger')
if (installed !== undefined || process.env['CI'])
  test(name, async () => follow(await tool('jaeger', () => undefined)), 10 * TIMEOUT_MS)
else test.skip(`${name} (jaeger is not built; where CI is set, it is)`, () => undefined)
