import { afterAll, describe, expect, test } from 'bun:test'
import { connect, type Socket } from 'node:net'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import pino from 'pino'
import { Registry } from 'prom-client'
import { fromRecord } from '../shared/events/record.ts'
import { authoriseByKey, authoriseNobody } from '../shared/http/authorise.ts'
import { type Ops, serveOps } from '../shared/http/ops.ts'
import { makeKey, tenantsOf } from '../shared/http/tenants.ts'
import { UNCHANGING } from '../shared/testing/access.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { until } from '../shared/testing/until.ts'
import { Gate } from './admit.ts'
import { createApp } from './app.ts'
import { authenticateBy } from './authenticate.ts'
import { loadProducerConfig } from './config.ts'
import { createMetrics } from './metrics.ts'
import { createPublicPort } from './public-port.ts'

/** Requests as bytes on a socket, which no HTTP library would send. */

const TOPIC = 'kt.default.events'
const stops: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const stop of stops) await stop()
})

/** A public port with Kafka in memory. */
async function publicPort(authenticate = authenticateBy(authoriseNobody())) {
  const config = loadProducerConfig({
    KAFKA_BROKERS: 'localhost:9092',
    NODE_ENV: 'development',
    AUTH: 'off',
    HOST: '127.0.0.1',
    PORT: '0',
  })
  const kafka = new FakeKafka().createTopic(TOPIC, 1)
  const gate = new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES })
  const { promise, resolve } = Promise.withResolvers<number>()
  const logged: { events?: string[] }[] = []
  const log = pino(
    { level: 'info' },
    {
      write: (line) => {
        const entry = JSON.parse(line) as { port?: number; events?: string[] }
        logged.push(entry)
        if (entry.port !== undefined) resolve(entry.port)
      },
    },
  )
  const producer = kafka.producer({ maxRecords: 1_000, maxBytes: 1_000_000 })
  const app = createApp({
    config,
    producer,
    authenticate,
    schemas: undefined,
    access: UNCHANGING,
    sources: () => new Map(),
    refusedAfterMs: 0,
    gate,
    quotaClock: { nowMs: Date.now, replicas: () => 1 },
    metrics: createMetrics(),
    log,
    tracing: undefined,
    nowMs: Date.now,
    ending: new AbortController().signal,
  })
  const opened = createPublicPort({ config, gate, log, fetch: app.fetch, ready: () => true })
  await opened.open()
  stops.push(() => opened.close())
  const ids = () =>
    kafka.all(TOPIC).map((record) => {
      const read = fromRecord(record)
      return read.ok ? read.event.id : read.reason
    })
  return { port: await promise, kafka, producer, gate, logged, ids }
}

function opsPort(): number {
  const checks: Ops['checks'] = { kafka: () => ({ ok: true }) }
  const ops = serveOps({ registry: new Registry(), checks }, { hostname: '127.0.0.1', port: 0 })
  stops.push(ops.stop)
  return ops.port
}

/** Writes bytes, a character each, at once; returns the answer until the connection closes or the condition holds. */
async function send(port: number, text: string, enough: (received: string) => boolean = () => false): Promise<string> {
  let received = ''
  let closed = false
  const socket = connect(port, '127.0.0.1', () => void socket.write(text, 'latin1'))
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('error', () => undefined)
  socket.on('close', () => {
    closed = true
  })
  await until(() => closed || enough(received), { what: `the answer to ${text.slice(0, 80)}` })
  socket.destroy()
  return received
}

const statuses = (received: string): number[] =>
  [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => Number(match[1]))
const answered = (received: string): boolean => received.includes('\r\n\r\n')

const JSON_TYPE = 'Host: x\r\nContent-Type: application/json\r\n'
const EVENT = '{"type":"t","id":"1"}'
const POST = `POST /v1/events HTTP/1.1\r\n${JSON_TYPE}Content-Length: ${EVENT.length}\r\n\r\n${EVENT}`
const chunked = (type: string, body: string) =>
  `POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n`

const ATTRIBUTES = '"specversion":"1.0","source":"/s","type":"t"'
/** Every way to send events: header fields, body, and the number of events. */
const WAYS: [way: string, head: string, body: string, events: number][] = [
  ['plain', 'Content-Type: application/json\r\n', '{"type":"t"}', 1],
  ['several', 'Content-Type: application/json\r\n', '[{"type":"t"},{"type":"t"}]', 2],
  ['structured', 'Content-Type: application/cloudevents+json\r\n', `{${ATTRIBUTES},"id":"1"}`, 1],
  ['a batch', 'Content-Type: application/cloudevents-batch+json\r\n', `[{${ATTRIBUTES},"id":"1"}]`, 1],
  ['binary', 'ce-specversion: 1.0\r\nce-source: /s\r\nce-type: t\r\nce-id: 1\r\nContent-Type: a/b\r\n', 'x', 1],
  ['lines', 'Content-Type: application/x-ndjson\r\n', '{"type":"t"}\n{"type":"t"}', 2],
  ...([['gzip', gzipSync] as const, ['zstd', zstdCompressSync] as const] as const).flatMap(([coding, compress]) => {
    const head = `Content-Encoding: ${coding}\r\n`
    const body = compress('{"type":"t"}').toString('latin1')
    return [
      [coding, `${head}Content-Type: application/json\r\n`, body, 1],
      [`lines, ${coding}`, `${head}Content-Type: application/x-ndjson\r\n`, body, 1],
    ] satisfies [string, string, string, number][]
  }),
]
const FRAMINGS: ((body: string) => string)[] = [
  (body) => `Content-Length: ${body.length}\r\n\r\n${body}`,
  (body) => `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
]
const request = (head: string, framed: string) => `POST /v1/events HTTP/1.1\r\nHost: x\r\n${head}${framed}`

describe('what comes together with a request', () => {
  test.each([
    ['an empty line', `${POST}\r\n`, [400]],
    ['what is no request', `${POST}nothing of ours\r\n\r\n`, [400]],
    ['zero bytes', `${POST}\0\0`, [400]],
    ['a trailer', `${chunked('application/json', EVENT)}0\r\nX-Checksum: 1\r\n\r\n`, [400]],
    ['another request', POST + POST, []],
    ['the head of another request', POST + POST.slice(0, -EVENT.length), []],
  ])('%s: the connection ends, and nothing is stored', async (_, text, expected) => {
    const { port, kafka, gate } = await publicPort()
    expect(statuses(await send(port, text))).toEqual(expected)
    await until(() => gate.level.requests === 0, { what: 'the request to be given up' })
    expect(kafka.all(TOPIC)).toHaveLength(0)
  })

  test.each([
    ['a part of the next request', POST.slice(0, 30), POST.slice(30), [202, 202], 2],
    ['what is not yet a line', 'XX', '\r\n\r\n', [202, 400], 1],
  ])('%s waits: the request is stored and answered', async (_, first, rest, expected, stored) => {
    const { port, kafka } = await publicPort()
    let [received, closed] = ['', false]
    const socket = connect(port, '127.0.0.1', () => void socket.write(POST + first, 'latin1'))
    socket.on('data', (chunk) => {
      received += chunk
    })
    socket.on('close', () => {
      closed = true
    })
    await until(() => statuses(received).length > 0, { what: 'the answer' })
    expect(kafka.all(TOPIC)).toHaveLength(1)
    socket.write(rest)
    await until(() => closed || statuses(received).length === 2, { what: 'the second answer, or the end' })
    socket.destroy()
    expect(statuses(received)).toEqual(expected)
    expect(kafka.all(TOPIC)).toHaveLength(stored)
  })

  test.each(WAYS)('however it is sent, nothing of it is stored: %s', async (_, head, body) => {
    const { port, kafka, gate } = await publicPort()
    for (const framed of FRAMINGS) {
      const text = request(head, framed(body))
      for (const more of ['\r\n', 'no request\r\n\r\n', text])
        expect(await send(port, text + more)).not.toContain('receipt')
    }
    await until(() => gate.level.requests === 0, { what: 'the requests to be given up' })
    expect(kafka.all(TOPIC)).toHaveLength(0)
  })

  test('other connections have nothing to do with it', async () => {
    const { port, kafka } = await publicPort()
    const received = await Promise.all(
      Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? send(port, POST, answered) : send(port, `${POST}\r\n`))),
    )
    expect(received.flatMap(statuses)).toEqual(received.map((_, i) => (i % 2 === 0 ? 202 : 400)))
    expect(kafka.all(TOPIC)).toHaveLength(50)
  })

  test.each(WAYS)(
    'a trailer that is announced is refused before anything is stored, however late it comes: %s',
    async (_, head, body) => {
      const { port, kafka, gate } = await publicPort()
      const text = request(`Trailer: X-Checksum\r\n${head}`, (FRAMINGS[1] as (body: string) => string)(body))
      for (const received of [
        await send(port, text.replace(/\r\n$/, 'X-Checksum: 1\r\n\r\n')),
        await send(port, text.slice(0, text.indexOf('\r\n\r\n') + 4)),
      ]) {
        expect(statuses(received)[0]).toBe(400)
        expect(received).toContain('Trailer fields are not taken')
      }
      expect(gate.level.requests).toBe(0)
      expect(kafka.all(TOPIC)).toHaveLength(0)
    },
  )

  test('a trailer of a stream: what came in the same piece is not stored, what was answered before is', async () => {
    const { port, kafka, gate } = await publicPort()
    const received = await send(port, `${chunked('application/x-ndjson', `${EVENT}\n`)}0\r\nX-Checksum: 1\r\n\r\n`)
    expect(received).not.toContain('receipt')
    await until(() => gate.level.requests === 0, { what: 'the stream to be given up' })
    expect(kafka.all(TOPIC)).toHaveLength(0)
  })

  describe.each<[string, (socket: Socket) => void]>([
    ['is no request', (socket) => void socket.write('\r\n')],
    ['is another request', (socket) => void socket.write(POST)],
    ['is the end of the connection', (socket) => void socket.end()],
  ])('what comes later and %s: the log names what was stored without an answer', (_, more) => {
    test.each(WAYS)('%s', async (_, head, body, events) => {
      const { port, kafka, producer, gate, logged, ids } = await publicPort()
      const { promise: acknowledged, resolve: acknowledge } = Promise.withResolvers<void>()
      kafka.hold = acknowledged
      const text = request(head, (FRAMINGS[0] as (body: string) => string)(body))
      const socket = connect(port, '127.0.0.1', () => void socket.write(text, 'latin1'))
      const closed = new Promise<void>((resolve) => void socket.resume().once('close', () => resolve()))
      await until(() => producer.queue().records === events, { what: 'the records to be handed over' })
      more(socket)
      await closed
      acknowledge()
      await until(() => gate.level.requests === 0, { what: 'the request to be done' })
      expect(ids()).toHaveLength(events)
      expect(logged.at(-1)?.events).toEqual(ids())
    })
  })

  test.each([
    ['no request', '\r\n'],
    ['another request', POST],
  ])('after Connection: close, %s is passed over, also when it comes later', async (_, more) => {
    const { port, kafka, producer } = await publicPort()
    const last = POST.replace('Host: x\r\n', 'Host: x\r\nConnection: close\r\n')
    expect(statuses(await send(port, last + more))).toEqual([202])
    const { promise: acknowledged, resolve: acknowledge } = Promise.withResolvers<void>()
    kafka.hold = acknowledged
    let received = ''
    const socket = connect(port, '127.0.0.1', () => void socket.write(last))
    socket.on('data', (chunk) => {
      received += chunk
    })
    const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()))
    await until(() => producer.queue().records === 1, { what: 'the record to be handed over' })
    socket.write(more)
    // The answer to a later request shows that the server has had time to read the additional bytes before Kafka acknowledges.
    await send(port, 'GET /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    acknowledge()
    await closed
    expect(statuses(received)).toEqual([202])
    expect(kafka.all(TOPIC)).toHaveLength(2)
  })

  test('nothing: it is stored', async () => {
    const { port, kafka } = await publicPort()
    expect(statuses(await send(port, POST, answered))).toEqual([202])
    expect(statuses(await send(port, `${chunked('application/json', EVENT)}0\r\n\r\n`, answered))).toEqual([202])
    expect(kafka.all(TOPIC)).toHaveLength(2)
  })
})

describe('a request that can be understood in two ways is 400', () => {
  test.each([
    ['a length twice', `Host: x\r\nContent-Length: ${EVENT.length}\r\nContent-Length: ${EVENT.length}\r\n`],
    ['a host twice', `Host: a\r\nHost: b\r\nContent-Length: ${EVENT.length}\r\n`],
    ['the same host twice', `Host: a\r\nHost: a\r\nContent-Length: ${EVENT.length}\r\n`],
    ['a host with a path', `Host: a/v1\r\nContent-Length: ${EVENT.length}\r\n`],
    ...[
      ['an id twice', 'ce-id: a\r\nce-id: b\r\n'],
      ['an id twice, empty at first', 'ce-id:\r\nce-id: a\r\n'],
      ['an id twice, then empty', 'ce-id: a\r\nce-id:\r\n'],
    ].map(([what, id]) => [
      what,
      `Host: x\r\nce-specversion: 1.0\r\nce-type: t\r\nce-source: /s\r\n${id}Content-Length: ${EVENT.length}\r\n`,
    ]),
  ])('%s', async (_, head) => {
    const { port, kafka, gate } = await publicPort()
    const text = `POST /v1/events HTTP/1.1\r\n${head}Content-Type: application/json\r\n\r\n${EVENT}`
    const received = await send(port, text, answered)
    expect(statuses(received)).toEqual([400])
    expect(received).toContain('urn:kafkatrace:problem:malformed')
    expect(kafka.all(TOPIC)).toHaveLength(0)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test.each([
    '/v1/sources/..\\events',
    '/v1/sources/x\\..\\..\\streams\\events\\events',
    '/v1\\events',
    '/v1/streams/../events',
    '/v1/streams/%2e%2E/events',
    '/v1/./events',
    '/v1/events/x/..',
    '/v1/x/../events/',
    '/v1//../events',
    `${'/x'.repeat(20)}${'/..'.repeat(20)}/v1/events`,
    `${'/x'.repeat(9)}\\..${'/..'.repeat(9)}/v1/events`,
    'http://x/v1/x/../events',
    '/v1/events#',
  ])('a path that is not as it was sent: %s', async (path) => {
    const { port, kafka, gate } = await publicPort()
    for (const host of ['x', '', '_x_']) {
      const received = await send(port, POST.replace('/v1/events', path).replace('Host: x', `Host: ${host}`), answered)
      expect(statuses(received)).toEqual([400])
      expect(received).toContain('urn:kafkatrace:problem:malformed')
    }
    expect(kafka.all(TOPIC)).toHaveLength(0)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test.each(['/livez\\..\\metrics', '/x/../metrics', '/%2e/metrics', '/x/../metrics/'])(
    'a path that is not as it was sent, on the operations port: %s',
    async (path) => {
      expect(statuses(await send(opsPort(), `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, answered))).toEqual([400])
    },
  )

  test('a host twice, on the operations port', async () => {
    expect(statuses(await send(opsPort(), 'GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', answered))).toEqual([
      400,
    ])
  })
})

test.each(['gzip', 'zstd'])('an empty body is nothing that is compressed: %s', async (coding) => {
  const { port } = await publicPort()
  for (const framed of ['Content-Length: 0\r\n\r\n', 'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n', '\r\n']) {
    const encoded = (type: string) => request(`Content-Encoding: ${coding}\r\nContent-Type: ${type}\r\n`, framed)
    expect(statuses(await send(port, encoded('application/json'), answered))).toEqual([400])
    const lines = await send(port, encoded('application/x-ndjson'), (received) => received.includes('summary'))
    expect(lines).toContain('"complete":false')
  }
})

test('the operations port reads no body', async () => {
  for (const length of ['Content-Length: 60000000', 'Transfer-Encoding: chunked'])
    expect(await send(opsPort(), `GET /livez HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n`)).toMatch(/connection: close/i)
})

describe('whatever the host', () => {
  const hosts = [
    ['none', 'HTTP/1.0\r\n'],
    ['an empty one', 'HTTP/1.1\r\nHost:\r\n'],
    ['an address', 'HTTP/1.1\r\nHost: [::1]:80\r\n'],
    ['a name with an underscore', 'HTTP/1.1\r\nHost: kafka_trace:8080\r\n'],
  ] as const

  test.each(hosts)('%s: the public port answers', async (_, version) => {
    const { port, kafka } = await publicPort()
    const get = (path: string) => send(port, `GET ${path} ${version}\r\n`, answered)
    expect(statuses(await get('/openapi.json'))).toEqual([200])
    expect(statuses(await get('/openapi.json?x=/y'))).toEqual([200])
    expect(statuses(await get('/nothing'))).toEqual([404])
    const text = `POST /v1/streams/events/events ${version}Content-Type: application/json;\r\nContent-Length: ${EVENT.length}\r\n\r\n${EVENT}`
    expect(statuses(await send(port, text, answered))).toEqual([202])
    expect(kafka.all(TOPIC)).toHaveLength(1)
  })

  test.each(hosts)('%s: the operations port answers', async (_, version) => {
    const port = opsPort()
    for (const path of ['/livez', '/readyz', '/readyz/', '/metrics'])
      expect(statuses(await send(port, `GET ${path} ${version}\r\n`, answered))).toEqual([200])
  })
})

test.each(['/v1/events?a=\\..\\b&c=/../d', '/v1/events/', '/v1/%65vents'])(
  'a path that is as it was sent is taken: %s',
  async (path) => {
    const { port } = await publicPort()
    expect(statuses(await send(port, POST.replace('/v1/events', path), answered))).toEqual([202])
  },
)

test('a whole URL as target is answered as its path, whatever its host, on both ports', async () => {
  const { port, kafka } = await publicPort()
  expect(statuses(await send(port, POST.replace('/v1/events', 'http://x/v1/events'), answered))).toEqual([202])
  expect(statuses(await send(port, POST.replace('/v1/events', 'http://y/v1/events'), answered))).toEqual([202])
  expect(kafka.all(TOPIC)).toHaveLength(2)
  expect(statuses(await send(opsPort(), 'GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n', answered))).toEqual([200])
})

test('lines over HTTP/1.0 are answered up to the end of the connection, not in chunks', async () => {
  const { port } = await publicPort()
  const head = 'POST /v1/events HTTP/1.0\r\nContent-Type: application/x-ndjson\r\n'
  const socket = connect(port, '127.0.0.1', () => {
    socket.write(`${head}Content-Length: ${2 * EVENT.length + 1}\r\n\r\n${EVENT}\n`)
  })
  let received = ''
  socket.on('data', (chunk) => {
    if (!received.includes('"line":1,') && `${received}${chunk}`.includes('"line":1,')) socket.write(EVENT)
    received += chunk
  })
  await new Promise<void>((resolve) => void socket.once('close', () => resolve()))
  expect(received).not.toMatch(/transfer-encoding/i)
  expect(received).toMatch(/\r\n\r\n\{"line":1,"receipt".*\n\{"line":2,"receipt".*\n\{"summary".*\n$/)
})

describe('an answer', () => {
  test('to HEAD has the length that GET’s has, on both ports', async () => {
    const { port } = await publicPort()
    for (const [at, path] of [
      [port, '/docs'],
      [port, '/openapi.json'],
      [port, '/nothing'],
      [opsPort(), '/livez'],
    ] as const) {
      const [head, get] = [
        await send(at, `HEAD ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, answered),
        await send(at, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`, answered),
      ]
      const length = (received: string) => /content-length: (\d+)/i.exec(received)?.[1]
      expect(length(head)).toBe(length(get) ?? '')
      expect(head.endsWith('\r\n\r\n')).toBe(true)
    }
  })

  test.each(['%%%', 'a:99999', '[zz]', ''])('to HEAD is GET’s, whatever the host is: %s', async (host) => {
    const { port } = await publicPort()
    for (const [at, path, status] of [
      [port, '/docs', 200],
      [port, '/nothing', 404],
      [port, '//[?a=%', 404],
      [port, '/x%5c..%5Cdocs', 404],
      [opsPort(), '/x%5c..%5Clivez', 404],
      [opsPort(), '/livez', 200],
    ] as const)
      expect(statuses(await send(at, `HEAD ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`, answered))).toEqual([status])
  })

  test('that leaves a large body unread is the last one of its connection', async () => {
    const key = makeKey('a')
    const tenants = tenantsOf({ tenants: { a: { streams: ['events'], keys: [{ id: 'a', sha256: key.sha256 }] } } })
    const { port } = await publicPort(authenticateBy(authoriseByKey(tenants)))
    for (const [method, path] of [
      ['GET', '/docs'],
      ['OPTIONS', '/v1/events'],
      ['POST', '/v1/events'],
      ['PUT', '/v1/events'],
    ])
      for (const length of ['Content-Length: 60000000', 'Transfer-Encoding: chunked'])
        expect(await send(port, `${method} ${path} HTTP/1.1\r\nHost: x\r\n${length}\r\n\r\n`)).toMatch(
          /connection: close/i,
        )
  })
})
