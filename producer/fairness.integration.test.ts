import { afterEach, expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { gzipSync } from 'node:zlib'
import pino from 'pino'
import { authoriseByKey } from '../shared/http/authorise.ts'
import { makeKey, tenantsOf } from '../shared/http/tenants.ts'
import { sleep } from '../shared/service/retry.ts'
import { UNCHANGING } from '../shared/testing/access.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { Gate } from './admit.ts'
import { createApp } from './app.ts'
import { authenticateBy } from './authenticate.ts'
import { loadProducerConfig } from './config.ts'
import { createMetrics } from './metrics.ts'

/** One tenant floods the service in every way it can; the other sends as before and must not notice. */

const [hostileKey, otherKey] = [makeKey('hostile'), makeKey('other')]

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

function serve(env: Record<string, string> = {}) {
  const config = loadProducerConfig({
    NODE_ENV: 'development',
    AUTH: 'on',
    TENANTS_FILE: 'tenants.json',
    KAFKA_BROKERS: 'localhost:9092',
    ...env,
  })
  const kafka = new FakeKafka().createTopic('kt.hostile.events').createTopic('kt.other.events')
  const producer = kafka.producer({ maxRecords: config.MAX_QUEUE_RECORDS, maxBytes: config.MAX_QUEUE_BYTES })
  const gate = new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES }, 2)
  const tenants = tenantsOf({
    tenants: {
      hostile: { streams: ['events'], keys: [{ id: 'hostile', sha256: hostileKey.sha256 }] },
      other: { streams: ['events'], keys: [{ id: 'other', sha256: otherKey.sha256 }] },
    },
  })
  const stop = new AbortController()
  const metrics = createMetrics()
  metrics.declare(tenants.list)
  const app = createApp({
    config,
    producer,
    authenticate: authenticateBy(authoriseByKey(tenants)),
    schemas: undefined,
    access: UNCHANGING,
    sources: () => new Map(),
    refusedAfterMs: 0,
    gate,
    quotaClock: { nowMs: () => performance.now(), replicas: () => 1 },
    metrics,
    log: pino({ level: 'silent' }),
    tracing: undefined,
    nowMs: Date.now,
    ending: stop.signal,
  })
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, maxRequestBodySize: 2 ** 40, fetch: app.fetch })
  ending.push(
    gate.watch(),
    () => server.stop(true),
    () => stop.abort(),
  )
  return { kafka, producer, gate, metrics, port: server.port ?? 0 }
}

type Service = ReturnType<typeof serve>

/** A connection that sends this and nothing more. */
function say(port: number, head: Record<string, string>, body: string | Buffer): Socket {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined)
  const fields = { host: 'h', 'x-api-key': hostileKey.key, ...head }
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`POST /v1/events HTTP/1.1\r\n${lines.join('')}\r\n`)
  socket.write(body)
  socket.resume()
  ending.push(() => socket.destroy())
  return socket
}

const MIB = 1024 * 1024

const JSON_TYPE = { 'content-type': 'application/json' }
const NDJSON = { 'content-type': 'application/x-ndjson', 'transfer-encoding': 'chunked' }
const chunk = (body: string | Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${Buffer.byteLength(body).toString(16)}\r\n`), Buffer.from(body), Buffer.from('\r\n')])

/** A zstd block (RFC 8878, section 3.1.1.2): raw bytes, or one byte repeated. */
function block(content: Buffer | number): Buffer {
  const header = Buffer.alloc(3)
  header.writeUIntLE(typeof content === 'number' ? (content << 3) | 2 : content.length << 3, 0, 3)
  return Buffer.concat([header, typeof content === 'number' ? Buffer.from('\n') : content])
}

/** 0.4 KB of zstd: line feeds that fill the largest window, between two events. */
const WINDOW = Buffer.concat([
  Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (23 - 10) << 3]),
  block(Buffer.from('{"type":"t"}\n')),
  ...Array.from({ length: 70 }, () => block(128 * 1024)),
  block(Buffer.from('{"type":"t"}\n')),
])

const post = (port: number, key: string, body: string | Buffer, headers: Record<string, string> = JSON_TYPE) =>
  fetch(`http://127.0.0.1:${port}/v1/events`, { method: 'POST', headers: { ...headers, 'x-api-key': key }, body })

/** Keeps so many requests in flight until the test ends. */
function flood(at: number, send: () => Promise<Response>): void {
  let over = false
  const one = async (): Promise<void> => {
    while (!over)
      await send().then(
        (response) => response.arrayBuffer(),
        () => sleep(5),
      )
  }
  const all = Array.from({ length: at }, one)
  ending.push(async () => {
    over = true
    await Promise.all(all)
  })
}

const hostility: [name: string, env: Record<string, string>, begin: (service: Service) => unknown][] = [
  [
    'keeps streams open that send next to nothing',
    {},
    async ({ port, gate, metrics }) => {
      for (let i = 0; i < 700; i++) say(port, NDJSON, chunk('{"type":"t"}\n'))
      await until(() => gate.level.requests > 100)
      await until(async () => /crowded_requests_total\{tenant="hostile"\} [1-9]/.test(await metrics.registry.metrics()))
    },
  ],
  [
    'keeps streams open in the middle of a long line',
    {},
    async ({ port, gate }) => {
      for (let i = 0; i < 60; i++) say(port, NDJSON, chunk(`{"type":"${'x'.repeat(1_400_000)}`))
      await until(() => gate.level.bytes > 28 * MIB)
    },
  ],
  [
    'announces bodies that do not come',
    {},
    async ({ port, gate }) => {
      for (let i = 0; i < 700; i++) say(port, { ...JSON_TYPE, 'content-length': String(4 * MIB) }, '[')
      await until(() => gate.level.bytes > 28 * MIB)
    },
  ],
  [
    'stops short of the end of large bodies',
    {},
    async ({ port, gate }) => {
      for (let i = 0; i < 20; i++)
        say(port, { ...JSON_TYPE, 'content-length': String(4 * MIB) }, Buffer.alloc(4 * MIB - 1_000, 0x20))
      await until(() => gate.level.bytes > 28 * MIB)
    },
  ],
  [
    'keeps streams open whose decoders take 8 MB each',
    {},
    async ({ port, gate }) => {
      const headers = { ...NDJSON, 'content-encoding': 'zstd' }
      for (let i = 0; i < 100; i++) say(port, headers, chunk(WINDOW))
      // The requests without room have ended.
      await until(() => gate.level.requests < 5 && gate.level.bytes > 16 * MIB)
    },
  ],
  [
    'fills Kafka’s queue',
    { MAX_QUEUE_RECORDS: '3000', MAX_IN_FLIGHT_REQUESTS: '100' },
    async ({ port, kafka, producer }) => {
      const held = Promise.withResolvers<void>()
      ending.push(() => held.resolve())
      kafka.hold = held.promise
      const batch = JSON.stringify(Array.from({ length: 500 }, () => ({ type: 't' })))
      for (let i = 0; i < 10; i++) void post(port, hostileKey.key, batch).catch(() => undefined)
      await until(() => producer.queue().records >= 1_500)
      // The records that are queued stay there; later ones are delivered.
      kafka.hold = undefined
    },
  ],
  [
    'waits for Kafka with as many requests as it can',
    { MAX_IN_FLIGHT_REQUESTS: '64' },
    ({ port, kafka }) => {
      Object.defineProperty(kafka, 'hold', { get: () => sleep(20) })
      flood(100, () => post(port, hostileKey.key, '{"type":"t"}'))
    },
  ],
  [
    'makes the thread late',
    {},
    async ({ port, kafka, gate }) => {
      Object.defineProperty(kafka, 'hold', { get: () => sleep(50) })
      flood(200, () => post(port, hostileKey.key, '{"type":"t"}'))
      await until(() => gate.level.requests === 200)
      const late = setInterval(() => gate.adapt(60), 1)
      ending.push(() => clearInterval(late))
      await until(() => gate.admitted < 100)
    },
  ],
  [
    'floods with what is compressed well',
    {},
    ({ port }) => {
      const body = gzipSync(Buffer.alloc(3_000_000, 0x20))
      flood(30, () => post(port, hostileKey.key, body, { ...JSON_TYPE, 'content-encoding': 'gzip' }))
    },
  ],
]

test.each(hostility)(
  'a tenant that %s keeps no event of another out',
  async (_, env, begin) => {
    const service = serve(env)
    await begin(service)
    const statuses: Promise<number>[] = []
    const begunMs = performance.now()
    for (let i = 0; i < 30; i++) {
      const dueMs = begunMs + i * 10
      if (performance.now() < dueMs) await sleep(dueMs - performance.now())
      statuses.push(post(service.port, otherKey.key, '{"type":"t"}').then(({ status }) => status))
    }
    expect([...new Set(await Promise.all(statuses))]).toEqual([202])
    expect(await service.metrics.registry.metrics()).toContain('crowded_requests_total{tenant="other"} 0')
    const lines = await post(service.port, otherKey.key, '{"type":"t"}\n'.repeat(1_000), NDJSON_WHOLE)
    expect(await lines.text()).toContain('"stored":1000,"notStored":0')
    const large = await post(service.port, otherKey.key, JSON.stringify([{ type: 't', data: 'x'.repeat(500_000) }]))
    expect(large.status).toBe(202)
  },
  20_000,
)

const NDJSON_WHOLE = { 'content-type': 'application/x-ndjson' }
