import { describe, expect, spyOn, test } from 'bun:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { Value } from '@sinclair/typebox/value'
import pino from 'pino'
import { headerText, NO_HEADERS } from '../shared/events/headers.ts'
import { fromRecord } from '../shared/events/record.ts'
import { authoriseByKey, authoriseNobody, onlyTenant } from '../shared/http/authorise.ts'
import type { Problem } from '../shared/http/problem.ts'
import { refusal } from '../shared/http/problem.ts'
import { makeKey, type Tenant, type TenantsFile, tenantsOf } from '../shared/http/tenants.ts'
import { ProduceError } from '../shared/kafka/types.ts'
import { UNCHANGING } from '../shared/testing/access.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { keptSpans, shortly } from '../shared/testing/spans.ts'
import { until } from '../shared/testing/until.ts'
import type { Tracing } from '../shared/tracing/spans.ts'
import { Gate } from './admit.ts'
import { type AppDeps, createApp } from './app.ts'
import { type Authenticate, authenticateBy } from './authenticate.ts'
import { loadProducerConfig, type ProducerConfig } from './config.ts'
import { createMetrics } from './metrics.ts'
import { ProblemDocument } from './problem.ts'
import { Receipts } from './receipt.ts'

const TOPIC = 'kt.default.events'
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

function service(
  options: {
    env?: Record<string, string>
    timeouts?: Partial<ProducerConfig>
    authenticate?: Authenticate
    access?: AppDeps['access']
    sendsAway?: () => boolean
    partitions?: number
    tracing?: Tracing
  } = {},
) {
  const kafka = new FakeKafka().createTopic(TOPIC, options.partitions ?? 3)
  // The loader refuses time-outs this short, but the in-memory broker is fast enough for them.
  const config = {
    ...loadProducerConfig({
      NODE_ENV: 'development',
      AUTH: 'off',
      KAFKA_BROKERS: 'localhost:9092',
      ...options.env,
    }),
    ...options.timeouts,
  }
  const producer = kafka.producer({ maxRecords: config.MAX_QUEUE_RECORDS, maxBytes: config.MAX_QUEUE_BYTES })
  const gate = new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES })
  const logged: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void logged.push(JSON.parse(line)) })
  const metrics = createMetrics()
  const clock = { nowMs: 1_700_000_000_000 }
  const stop = new AbortController()
  const app = createApp({
    config,
    producer,
    authenticate: options.authenticate ?? authenticateBy(authoriseNobody()),
    schemas: undefined,
    access: options.access ?? UNCHANGING,
    sources: () => new Map(),
    refusedAfterMs: 0,
    gate,
    quotaClock: { nowMs: () => clock.nowMs, replicas: () => 1 },
    metrics,
    log,
    tracing: options.tracing,
    nowMs: () => clock.nowMs,
    clientAddress: () => '198.51.100.7',
    ending: stop.signal,
    sendsAway: options.sendsAway ?? (() => false),
  })
  const post = (
    body: string | Uint8Array | ReadableStream | null,
    headers: Record<string, string> = {},
    path = '/v1/events',
  ) =>
    app.request(path, {
      method: 'POST',
      headers: {
        ...(typeof body === 'string' || body instanceof Uint8Array
          ? { 'content-length': String(Buffer.byteLength(body)) }
          : {}),
        ...headers,
      },
      body,
    })
  const events = () =>
    kafka.all(TOPIC).map((record) => {
      const read = fromRecord(record)
      if (!read.ok) throw new Error(read.reason)
      return read.event
    })
  return { app, kafka, producer, gate, logged, metrics, clock, stop, post, events, config }
}

const JSON_TYPE = { 'content-type': 'application/json' }
const STRUCTURED = { 'content-type': 'application/cloudevents+json' }
const BATCH = { 'content-type': 'application/cloudevents-batch+json' }
const NDJSON = { 'content-type': 'application/x-ndjson' }
const REQUIRED = { specversion: '1.0', id: '1', source: '/s', type: 't' }
const CE = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 't' }

/** A problem document's members, after checking it against its own schema. */
async function problem(response: Response) {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  const document = (await response.json()) as Record<string, unknown>
  expect([...Value.Errors(ProblemDocument, document)].filter((error) => !error.message.includes('format'))).toEqual([])
  expect(document['status']).toBe(response.status)
  return document as {
    type: string
    detail: string
    outcome?: string
    errors?: { pointer: string }[]
    events?: unknown[]
  }
}

/** As with AUTH=off, but it throws for one stream. */
const failingFor =
  (broken: string): Authenticate =>
  (request, stream) => {
    if (stream === broken) throw new TypeError('secret detail')
    return authenticateBy(authoriseNobody())(request, stream)
  }

const ndjson = async (response: Response) =>
  (await response.text())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, Record<string, unknown>>)

test('whoever is refused for their key is logged with their address, and nobody else', async () => {
  const refusing: Authenticate = (_, stream) => refusal(stream === 'closed' ? 'forbidden' : 'unauthenticated', 'No.')
  const unknown = service({ authenticate: refusing })
  await unknown.post('{"type":"t"}', JSON_TYPE)
  await unknown.post('{"type":"t"}', JSON_TYPE, '/v1/streams/closed/events')
  expect(unknown.logged.map(({ status, client }) => [status, client])).toEqual([
    [401, '198.51.100.7'],
    [403, '198.51.100.7'],
  ])
  const named = service({
    authenticate: () => ({ ok: false, problem: { kind: 'unknown-stream', detail: 'No.', by: 'jwt:alice' } }),
  })
  const answer = await named.post('{"type":"t"}', JSON_TYPE)
  expect(named.logged).toMatchObject([{ status: 404, client: '198.51.100.7', by: 'jwt:alice' }])
  expect(await answer.text()).not.toContain('alice')
  const known = service()
  for (const body of ['{"type":"t"}', '{}', 'no JSON']) await known.post(body, JSON_TYPE)
  expect(JSON.stringify(known.logged)).not.toContain('198.51.100.7')
})

describe('the content modes', () => {
  test('plain JSON: one event is filled in, stored, and its receipt says where', async () => {
    const { post, kafka, events } = service()
    const response = await post('{"type":"t","data":{"big":12345678901234567890,"x": 1}}', JSON_TYPE)
    expect(response.status).toBe(202)
    const body = (await response.json()) as { receipts: { id: string; partition: number; offset: number }[] }
    expect([...Value.Errors(Receipts, body)].every((error) => error.message.includes('format'))).toBe(true)
    const [event] = events()
    expect(event).toMatchObject({
      type: 't',
      source: 'urn:kafkatrace:tenant:default',
      time: '2023-11-14T22:13:20.000Z',
      datacontenttype: 'application/json',
    })
    expect(event?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/)
    expect(event?.data?.toString()).toBe('{"big":12345678901234567890,"x": 1}')
    const [receipt] = body.receipts
    expect(receipt?.id).toBe(event?.id ?? '')
    expect(kafka.records(TOPIC, receipt?.partition)[receipt?.offset ?? -1]).toBeDefined()
  })

  test('plain JSON: an array gives a receipt each, in order', async () => {
    const { post } = service()
    const ids = ['a', 'b', 'c', 'd']
    const response = await post(JSON.stringify(ids.map((id) => ({ type: 't', id }))), JSON_TYPE)
    const body = (await response.json()) as { receipts: { id: string }[] }
    expect(body.receipts.map((one) => one.id)).toEqual(ids)
  })

  test('structured: the media type counts whatever its case, and also with ce- headers', async () => {
    const { post, events } = service()
    const response = await post(JSON.stringify({ ...REQUIRED, ext: true }), {
      'content-type': 'Application/CloudEvents+JSON; charset=UTF-8',
      'ce-id': 'ignored',
    })
    expect(response.status).toBe(202)
    expect(events()[0]).toMatchObject({ id: '1', extensions: { ext: 'true' } })
  })

  test('batch: any number of events, also none', async () => {
    const { post, events } = service()
    expect((await post(JSON.stringify([REQUIRED, { ...REQUIRED, id: '2' }]), BATCH)).status).toBe(202)
    const empty = await post('[]', BATCH)
    expect(empty.status).toBe(202)
    expect(await empty.json()).toEqual({ receipts: [] })
    expect(events()).toHaveLength(2)
  })

  test('binary: the body is the data, byte for byte, and headers are percent-decoded', async () => {
    const { post, events } = service()
    const data = Buffer.from([0, 255, 10, 13, 128])
    const response = await post(data, {
      ...CE,
      'content-type': 'image/png',
      'ce-subject': 'Euro%20%E2%82%AC%20%F0%9F%98%80',
      'ce-quoted': '"a \\"b\\" c"',
      'ce-lower': '%c3%a9',
    })
    expect(response.status).toBe(202)
    const [event] = events()
    expect(event?.data?.equals(data)).toBe(true)
    expect(event).toMatchObject({
      subject: 'Euro € 😀',
      datacontenttype: 'image/png',
      extensions: { quoted: 'a "b" c', lower: 'é' },
    })
  })

  test('binary: JSON by media type is still data when ce- headers say so', async () => {
    const { post, events } = service()
    expect((await post('not json', { ...CE, ...JSON_TYPE })).status).toBe(202)
    expect(events()[0]?.data?.toString()).toBe('not json')
  })

  test('binary: no body and no media type is no data; a media type makes it zero bytes', async () => {
    const { post, kafka } = service()
    await post(null, CE)
    await post('', { ...CE, 'ce-id': '2', 'content-type': 'text/plain' })
    const values = kafka.all(TOPIC).map((record) => record.value?.length ?? null)
    expect(values.toSorted()).toEqual([0, null])
  })

  test.each([
    ['a ce-datacontenttype header', { 'ce-datacontenttype': 'a/b' }, '/datacontenttype'],
    ['overlong UTF-8', { 'ce-subject': '%C0%A0' }, '/subject'],
    ['an encoded control character', { 'ce-subject': 'a%0Ab' }, '/subject'],
    ['raw Latin-1', { 'ce-subject': 'é' }, '/subject'],
    ['an attribute name with a hyphen', { 'ce-my-ext': 'x' }, '/my-ext'],
    ['data as an attribute', { 'ce-data': 'x' }, '/data'],
    ['an empty id', { 'ce-id': '' }, '/id'],
    ['another version', { 'ce-specversion': '1.1' }, '/specversion'],
    ['a broken media type', { 'content-type': 'json' }, '/datacontenttype'],
  ])('binary: %s is refused', async (_, headers, pointer) => {
    const { post, kafka } = service()
    const response = await post('x', { ...CE, ...headers })
    expect(response.status).toBe(422)
    expect((await problem(response)).errors?.map((one) => one.pointer)).toEqual([pointer])
    expect(kafka.all(TOPIC)).toHaveLength(0)
  })

  const bytesOf = (text: string): string => Buffer.from(text).toString('latin1')

  test.each([
    ['UTF-8', bytesOf('日本語 é'), '日本語 é'],
    ['UTF-8 beside what is percent-encoded', bytesOf('é%C3%A9'), 'éé'],
    ['a byte order mark', bytesOf('\u{feff}x'), '\u{feff}x'],
    ['a per cent sign at the end', '100%', '100%'],
    ['per cent signs before other characters', '5%, 6%a, %zz, %%41', '5%, 6%a, %zz, %A'],
    ['quotes inside', 'a "q" b', 'a "q" b'],
    ['JSON', '{"json":1}', '{"json":1}'],
    ['a quote without its partner', '"x', '"x'],
    ['quotes at both ends that are two pairs', '"a" or "b"', '"a" or "b"'],
    ['a quote that is escaped at the end', '"a\\"', '"a\\"'],
    ['a backslash outside of quotes', 'a\\b', 'a\\b'],
  ])(
    'binary: %s, as SDKs send it, is taken for itself; CLOUDEVENTS_STRICT=on refuses it',
    async (what, sent, meant) => {
      const { post, events } = service()
      expect((await post('x', { ...CE, 'ce-id': sent, 'ce-subject': sent, 'ce-ext': sent })).status).toBe(202)
      expect(events()[0]).toMatchObject({ id: meant, subject: meant, extensions: { ext: meant } })
      const strict = service({ env: { CLOUDEVENTS_STRICT: 'on' } })
      const response = await strict.post('x', { ...CE, 'ce-subject': sent })
      if (what === 'a backslash outside of quotes') return expect(response.status).toBe(202)
      expect(response.status).toBe(422)
      expect((await problem(response)).errors?.map((one) => one.pointer)).toEqual(['/subject'])
    },
  )

  test('binary: a pair of quotes around the whole is taken off, what is encoded is decoded, strict or not', async () => {
    for (const CLOUDEVENTS_STRICT of ['on', 'off']) {
      const { post, events } = service({ env: { CLOUDEVENTS_STRICT } })
      const headers = { 'ce-subject': '"a \\"b\\" \\\\ %C3%A9"', 'ce-quote': '%22x%22', 'ce-sign': '100%25' }
      expect((await post('x', { ...CE, ...headers })).status).toBe(202)
      expect(events()[0]).toMatchObject({ subject: 'a "b" \\ é', extensions: { quote: '"x"', sign: '100%' } })
    }
  })

  test.each([
    ['a source with a space', 'ce-source', '/a%20b', 'source'],
    ['a source with letters beyond ASCII', 'ce-source', '/caf%C3%A9', 'source'],
    ['a source with bytes that are no text', 'ce-source', '/%FF', 'source'],
    ['a schema', 'ce-dataschema', 'https://example.com/a%20b', 'dataschema'],
  ] as const)('binary: %s that was encoded once, as SDKs do, stays a URI', async (_, header, sent, attribute) => {
    const { post, events } = service()
    expect((await post('x', { ...CE, [header]: sent })).status).toBe(202)
    expect(events()[0]?.[attribute]).toBe(sent)
    expect((await post('x', { ...CE, [header]: sent.replaceAll('%', '%25') })).status).toBe(202)
    expect(events()[1]?.[attribute]).toBe(sent)
    const strict = service({ env: { CLOUDEVENTS_STRICT: 'on' } })
    expect((await strict.post('x', { ...CE, [header]: sent })).status).toBe(422)
  })

  test('NDJSON: each line is answered in order, blank lines are passed over, and a summary comes last', async () => {
    const { post, events } = service()
    const lines = [
      '{"type":"a","id":"1"}',
      '',
      'no json',
      JSON.stringify({ ...REQUIRED, id: '2' }),
      '[]',
      '{"type":"z","id":"3"}',
    ]
    const response = await post(lines.join('\r\n'), NDJSON)
    expect(response.status).toBe(200)
    const answers = await ndjson(response)
    expect(answers.map((one) => [one['line'], one['receipt']?.['id'] ?? one['problem']?.['status']])).toEqual([
      [1, '1'],
      [3, 400],
      [4, '2'],
      [5, 422],
      [6, '3'],
      [undefined, undefined],
    ] as never)
    expect(answers.at(-1)?.['summary']).toEqual({
      events: 5,
      stored: 3,
      notStored: 0,
      unknown: 0,
      refused: 2,
      complete: true,
    })
    expect(
      events()
        .map((event) => event.id)
        .toSorted(),
    ).toEqual(['1', '2', '3'])
  })

  test('compressed bodies are taken, compressed once', async () => {
    const { post, events } = service()
    const text = '{"type":"t"}'
    expect((await post(gzipSync(text), { ...JSON_TYPE, 'content-encoding': 'gzip' })).status).toBe(202)
    expect((await post(zstdCompressSync(text), { ...JSON_TYPE, 'content-encoding': 'ZSTD' })).status).toBe(202)
    const lines = `${text}\n${text}\n`
    for (const [encoding, body] of [
      ['gzip', gzipSync(lines)],
      ['zstd', zstdCompressSync(lines)],
    ] as const)
      expect((await ndjson(await post(body, { ...NDJSON, 'content-encoding': encoding }))).at(-1)).toMatchObject({
        summary: { stored: 2, complete: true },
      })
    expect(events()).toHaveLength(6)
    const unknown = await post('x', { ...JSON_TYPE, 'content-encoding': 'br' })
    expect(unknown.status).toBe(415)
    expect(unknown.headers.get('accept-encoding')).toBe('gzip, zstd')
  })
})

describe('what cannot be read', () => {
  test.each([
    ['broken JSON', '{"type":', JSON_TYPE, 400],
    ['NaN', '{"type":"t","data":NaN}', JSON_TYPE, 400],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), JSON_TYPE, 400],
    ['a repeated member', '{"type":"t","type":"u"}', JSON_TYPE, 400],
    ['nothing', '', JSON_TYPE, 400],
    ['what is not gzip', 'x', { ...JSON_TYPE, 'content-encoding': 'gzip' }, 400],
    ['cut gzip', gzipSync('{"type":"t"}').subarray(0, 12), { ...JSON_TYPE, 'content-encoding': 'gzip' }, 400],
    ['cut zstd', zstdCompressSync('{"type":"t"}').subarray(0, 12), { ...JSON_TYPE, 'content-encoding': 'zstd' }, 400],
    ['no media type', '{"type":"t"}', { 'content-type': '' }, 415],
    ['another media type', 'a=b', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
    ['an unknown event format', '', { 'content-type': 'application/cloudevents+avro' }, 415],
    ['an unknown event format with ce- headers', '', { ...CE, 'content-type': 'application/cloudevents+avro' }, 415],
    ['another charset', '{}', { 'content-type': 'application/json; charset=utf-16' }, 415],
    ['a batch where one event belongs', '[]', STRUCTURED, 422],
    ['one event where a batch belongs', '{}', BATCH, 422],
    ['a number', '5', JSON_TYPE, 422],
  ])('%s is refused with a problem', async (_, body, headers, status) => {
    const { post, kafka } = service()
    const response = await post(body, headers)
    expect(response.status).toBe(status)
    await problem(response)
    expect(kafka.all(TOPIC)).toHaveLength(0)
  })

  test('an invalid event: every fault of every event is listed, and nothing is stored', async () => {
    const { post, kafka, metrics } = service()
    const response = await post(
      JSON.stringify([REQUIRED, { ...REQUIRED, time: 'now', Bad: 1 }, 5, { type: 't', specversion: '1.0' }]),
      BATCH,
    )
    expect(response.status).toBe(422)
    const document = await problem(response)
    expect(document.type).toBe('urn:kafkatrace:problem:invalid-event')
    expect(document.errors?.map((one) => one.pointer)).toEqual(['/1/time', '/1/Bad', '/2', '/3/id', '/3/source'])
    expect(kafka.all(TOPIC)).toHaveLength(0)
    expect(await metrics.registry.metrics()).toContain('outcome="refused"} 4')
  })

  test('a hostile batch does not get an answer larger than itself', async () => {
    const { post } = service()
    const document = await problem(await post(JSON.stringify(Array(1_000).fill({})), BATCH))
    expect(document.errors).toHaveLength(100)
    expect(document.detail).toContain('4000 faults')
  })

  test('prototype-pollution keys are inert', async () => {
    const { post, events } = service()
    const response = await post('{"type":"t","__proto__":{"polluted":1},"constructor":"x"}', JSON_TYPE)
    expect(response.status).toBe(422)
    await post('{"type":"t","constructor":"x","data":{"__proto__":{"polluted":1}}}', JSON_TYPE)
    expect(events()[0]?.extensions['constructor']).toBe('x')
    expect(({} as { polluted?: number }).polluted).toBeUndefined()
  })
})

describe('limits', () => {
  const kind = async (response: Response) => (await problem(response)).type.split(':').at(-1)

  test.each([
    ['by length', '{"type":"t","data":"0123456789"}', JSON_TYPE],
    ['in chunks', null, JSON_TYPE],
    [
      'after decompression',
      gzipSync(JSON.stringify({ type: 't', data: 'x'.repeat(500) })),
      { ...JSON_TYPE, 'content-encoding': 'gzip' },
    ],
    [
      'after decompression with zstd',
      zstdCompressSync(JSON.stringify({ type: 't', data: 'x'.repeat(500) })),
      { ...JSON_TYPE, 'content-encoding': 'zstd' },
    ],
  ])('a body over MAX_BODY_BYTES is 413 (%s)', async (how, body, headers) => {
    const bytes = how === 'by length' ? 20 : 100
    const { post } = service({ env: { MAX_BODY_BYTES: String(bytes) } })
    const chunks = () =>
      new ReadableStream({
        pull: (controller) => controller.enqueue(Buffer.alloc(40, 0x20)),
      })
    const response = await post(body ?? chunks(), headers)
    expect(response.status).toBe(413)
    expect(await kind(response)).toBe('body-too-large')
  })

  test('more than MAX_BATCH_EVENTS is 413, in both kinds of array', async () => {
    const { post } = service({ env: { MAX_BATCH_EVENTS: '2' } })
    for (const headers of [JSON_TYPE, BATCH]) {
      const response = await post(JSON.stringify(Array(3).fill(REQUIRED)), headers)
      expect([response.status, await kind(response)]).toEqual([413, 'too-many-events'])
      expect((await post(JSON.stringify(Array(2).fill(REQUIRED)), headers)).status).toBe(202)
    }
  })

  test('deeper than MAX_NESTING_DEPTH is 413', async () => {
    const { post } = service({ env: { MAX_NESTING_DEPTH: '4' } })
    const response = await post('{"type":"t","data":[[[[]]]]}', JSON_TYPE)
    expect([response.status, await kind(response)]).toEqual([413, 'too-deep'])
    expect((await post('{"type":"t","data":[[[]]]}', JSON_TYPE)).status).toBe(202)
  })

  test('an event over MAX_EVENT_BYTES is 413 and names it; nothing of its batch is stored', async () => {
    const { post, kafka } = service({ env: { MAX_EVENT_BYTES: '1000' } })
    const response = await post(JSON.stringify([REQUIRED, { ...REQUIRED, data: 'x'.repeat(1_000) }]), BATCH)
    expect(response.status).toBe(413)
    const document = await problem(response)
    expect(document.errors?.[0]?.pointer).toBe('/1')
    expect(kafka.all(TOPIC)).toHaveLength(0)
    // Only the events of a list have an index.
    for (const headers of [JSON_TYPE, STRUCTURED]) {
      const single = await problem(await post(JSON.stringify({ ...REQUIRED, data: 'x'.repeat(1_000) }), headers))
      expect(single.errors?.[0]?.pointer).toBe('')
    }
  })

  test('headers over MAX_HEADER_BYTES are 431', async () => {
    const { post } = service({ env: { MAX_HEADER_BYTES: '1024' } })
    const response = await post('{"type":"t"}', { ...JSON_TYPE, 'x-long': 'x'.repeat(1_000) })
    expect([response.status, await kind(response)]).toEqual([431, 'headers-too-large'])
  })

  test('over MAX_IN_FLIGHT_REQUESTS is 503 at once, and there is room again afterwards', async () => {
    const { post, kafka, app, metrics } = service({ env: { MAX_IN_FLIGHT_REQUESTS: '1' } })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const first = post('{"type":"t"}', JSON_TYPE)
    const second = await post('{"type":"t"}', JSON_TYPE)
    expect([second.status, await kind(second), second.headers.get('retry-after')]).toEqual([503, 'overloaded', '1'])
    expect(second.headers.has('connection')).toBe(false)
    const large = await post(new Uint8Array(100_000), JSON_TYPE)
    expect([large.status, large.headers.get('connection')]).toEqual([503, 'close'])
    expect((await app.request('/docs')).status).toBe(200)
    expect(await metrics.registry.metrics()).toContain(
      'kafkatrace_producer_http_requests_total{route="events",status="503"} 2',
    )
    resolve()
    expect((await first).status).toBe(202)
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(202)
  })

  test('requests are counted by tenant', async () => {
    const { post, kafka, metrics } = service({
      authenticate: authenticateBy(authoriseNobody({ list: [onlyTenant(['events', 'late'])] })),
    })
    for (const [body, path, status, fault] of [
      ['{"type":"t"}', '/v1/events', 202],
      ['no JSON', '/v1/events', 400],
      ['{"type":"t"}', '/v1/streams/late/events', 503],
      ['{"type":"t"}\nno JSON\n', '/v1/events', 200],
      ['{"type":"t"}\n', '/v1/events', 200, 'timed out'],
    ] as const) {
      if (fault !== undefined) kafka.produceFaults.push(new ProduceError(fault, 'unknown', fault))
      const answer = await post(body, status === 200 ? NDJSON : JSON_TYPE, path)
      expect(answer.status).toBe(status)
      await answer.text()
    }
    const text = await metrics.registry.metrics()
    // A stream with an event that is not stored for sure is one that we failed, although its status is 200.
    for (const [result, count] of Object.entries({ ok: 2, refused: 1, failed: 2 }))
      expect(text).toContain(`kafkatrace_producer_tenant_requests_total{tenant="default",result="${result}"} ${count}`)
    for (const [status, count] of Object.entries({ 200: 1, 202: 1, 400: 1, 503: 2 }))
      expect(text).toContain(`kafkatrace_producer_http_requests_total{route="events",status="${status}"} ${count}`)
  })

  test('a refusal takes no time, and a stream as long as its client wants: neither is a measure of how long requests take', async () => {
    const { post, kafka, metrics } = service({ env: { MAX_IN_FLIGHT_REQUESTS: '1' } })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const first = post('{"type":"t"}', JSON_TYPE)
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(503)
    resolve()
    await first
    kafka.connection = { state: 'connecting', reason: 'no broker' }
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(503)
    kafka.connection = { state: 'connected' }
    expect((await post('{"type":""}', JSON_TYPE)).status).toBe(422)
    kafka.produceFaults.push(new ProduceError('timed out', 'unknown', 'no answer'))
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(503)
    expect(await ndjson(await post('{"type":""}\n', NDJSON))).toHaveLength(2)
    const text = await metrics.registry.metrics()
    expect(text).toContain('kafkatrace_producer_http_requests_total{route="events",status="503"} 3')
    expect(text).toContain('kafkatrace_producer_http_requests_total{route="events",status="200"} 1')
    // One stored, one not acknowledged in time.
    expect(text).toContain('kafkatrace_producer_request_seconds_count{route="events"} 2')
    // Two were produced. The one that was not acknowledged counts with its time-out.
    expect(text).toContain('kafkatrace_producer_ack_seconds_count 2')
  })

  test('what Kafka is not given has no time of acknowledgement', async () => {
    const { post, kafka, metrics } = service({})
    for (const fault of ['queue full', 'unavailable', 'too large'] as const) {
      kafka.produceFaults.push(new ProduceError(fault, 'not stored', 'no'))
      expect((await post('{"type":"t"}', JSON_TYPE)).status).not.toBe(202)
    }
    expect(await metrics.registry.metrics()).toContain('kafkatrace_producer_ack_seconds_count 0')
  })

  test('over MAX_IN_FLIGHT_BYTES is 503; a body without a length counts as the largest', async () => {
    const { post, kafka, gate, metrics } = service({
      env: {
        MAX_IN_FLIGHT_BYTES: '100',
        MAX_BODY_BYTES: '100',
        NDJSON_WINDOW_BYTES: '100',
        NDJSON_MAX_LINE_BYTES: '100',
      },
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const first = post('{"type":"t"}', JSON_TYPE)
    const chunked = await post(new ReadableStream({ pull: (c) => c.enqueue(Buffer.from('x')) }), JSON_TYPE)
    expect(chunked.status).toBe(503)
    expect(await metrics.registry.metrics()).toContain('crowded_requests_total{tenant="default"} 1')
    const small = post('{"type":"t"}', JSON_TYPE)
    resolve()
    expect([(await first).status, (await small).status]).toEqual([202, 202])
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('bodies that are announced and do not come leave room for those that do', async () => {
    const { post, gate } = service({ timeouts: { REQUEST_TIMEOUT_MS: 150, DELIVERY_TIMEOUT_MS: 100 } })
    const silent = Array.from({ length: 40 }, () =>
      post(new ReadableStream(), { ...JSON_TYPE, 'content-length': String(4 * 2 ** 20) }),
    )
    await until(() => gate.level.requests === 40)
    expect(gate.level.bytes).toBeLessThan(36 * 2 ** 20)
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(202)
    expect((await post(JSON.stringify({ type: 't', data: 'x'.repeat(800_000) }), JSON_TYPE)).status).toBe(202)
    for (const one of silent) expect((await one).status).toBe(408)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('what was set aside for a body without a length, or a compressed one, is given back', async () => {
    const { post, gate, kafka } = service()
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const chunks = new ReadableStream({
      start(controller) {
        controller.enqueue(Buffer.from('{"type":'))
        controller.enqueue(Buffer.from('"t"}'))
        controller.close()
      },
    })
    const answers = [
      post(chunks, JSON_TYPE),
      post(gzipSync('{"type":"t"}'), { ...JSON_TYPE, 'content-encoding': 'gzip' }),
    ]
    await until(() => gate.level.requests === 2 && gate.level.bytes === 24)
    resolve()
    for (const answer of answers) expect((await answer).status).toBe(202)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('a body that does not arrive is 408', async () => {
    const { post } = service({ timeouts: { REQUEST_TIMEOUT_MS: 150, DELIVERY_TIMEOUT_MS: 100 } })
    const response = await post(new ReadableStream({ start: (c) => c.enqueue(Buffer.from('{')) }), JSON_TYPE)
    expect([response.status, await kind(response), response.headers.get('connection')]).toEqual([
      408,
      'request-timeout',
      'close',
    ])
  })

  test('a body that breaks off is a 400, never a 500', async () => {
    const { post, gate } = service()
    const response = await post(new ReadableStream({ start: (c) => c.error(new Error('reset')) }), JSON_TYPE)
    expect(response.status).toBe(400)
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('an NDJSON line over its bound is answered by itself, and the stream goes on', async () => {
    const { post } = service({ env: { NDJSON_MAX_LINE_BYTES: '50' } })
    const response = await post(`{"type":"t","data":"${'x'.repeat(100)}"}\n{"type":"t"}\n${'y'.repeat(200)}`, NDJSON)
    const answers = await ndjson(response)
    expect(answers.map((one) => one['problem']?.['status'] ?? 'ok')).toEqual([413, 'ok', 413, 'ok'])
  })

  test('an NDJSON stream without progress is ended with a reason', async () => {
    const { post, gate } = service({ timeouts: { NDJSON_PROGRESS_TIMEOUT_MS: 150 } })
    const body = new ReadableStream({ start: (c) => c.enqueue(Buffer.from('{"type":"t"}\n{"ty')) })
    const answers = await ndjson(await post(body, NDJSON))
    expect(answers[0]?.['receipt']).toBeDefined()
    expect(answers[1]?.['problem']?.['type']).toBe('urn:kafkatrace:problem:request-timeout')
    expect(answers[2]?.['summary']).toMatchObject({ stored: 1, complete: false })
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('an NDJSON stream is read no further than its window while nothing is acknowledged', async () => {
    const { post, kafka } = service({ env: { NDJSON_WINDOW_EVENTS: '10' } })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    let sent = 0
    const body = new ReadableStream(
      {
        pull(controller) {
          if (sent === 100) controller.close()
          else controller.enqueue(Buffer.from(`{"type":"t","id":"${sent++}"}\n`))
        },
      },
      { highWaterMark: 0 },
    )
    const response = await post(body, NDJSON)
    await until(() => sent >= 10)
    // Time enough to read more, if anything still did.
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(sent).toBeLessThanOrEqual(14)
    resolve()
    expect((await ndjson(response)).at(-1)).toMatchObject({ summary: { stored: 100, complete: true } })
  })

  test('a client that reads no answers is given up, and what it held is given back', async () => {
    const { post, gate } = service({
      env: { NDJSON_WINDOW_EVENTS: '2' },
      timeouts: { NDJSON_PROGRESS_TIMEOUT_MS: 150 },
    })
    const response = await post('{"type":"t"}\n'.repeat(100), NDJSON)
    await until(() => gate.level.requests === 0)
    expect(await response.text().catch((error: Error) => error.message)).toContain('does not read')
  })
})

describe('Kafka’s answers', () => {
  test('not connected: 503 at once, nothing stored, and the body is not read', async () => {
    const { post, kafka } = service()
    kafka.connection = { state: 'connecting', reason: 'no broker' }
    let pulled = false
    const body = new ReadableStream(
      {
        pull: () => {
          pulled = true
        },
      },
      { highWaterMark: 0 },
    )
    const response = await post(body, JSON_TYPE)
    expect(response.status).toBe(503)
    expect(await problem(response)).toMatchObject({
      type: 'urn:kafkatrace:problem:kafka-unavailable',
      outcome: 'not stored',
    })
    expect(response.headers.get('retry-after')).toBe('1')
    expect(pulled).toBe(false)
  })

  test('a topic that is not there is 503', async () => {
    const { post } = service({ authenticate: authenticateBy(authoriseNobody({ list: [onlyTenant(['late'])] })) })
    const response = await post('{"type":"t"}', JSON_TYPE, '/v1/streams/late/events')
    expect(await problem(response)).toMatchObject({
      type: 'urn:kafkatrace:problem:kafka-unavailable',
      outcome: 'not stored',
    })
  })

  test('while another producer can store events, the connection is closed', async () => {
    let isBetter = false
    const list = [onlyTenant(['late'])]
    const { post } = service({
      authenticate: authenticateBy(authoriseNobody({ list })),
      sendsAway: () => isBetter,
    })
    const connection = async () =>
      (await post('{"type":"t"}', JSON_TYPE, '/v1/streams/late/events')).headers.get('connection')
    expect(await connection()).toBeNull()
    isBetter = true
    expect(await connection()).toBe('close')
  })

  test('a queue without room for all of a batch takes none of it', async () => {
    const { post, kafka, metrics } = service({ env: { MAX_QUEUE_RECORDS: '2', MAX_BATCH_EVENTS: '2' } })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const first = post('{"type":"t"}', JSON_TYPE)
    const second = await post('[{"type":"t"},{"type":"t"}]', JSON_TYPE)
    expect(await problem(second)).toMatchObject({ type: 'urn:kafkatrace:problem:overloaded', outcome: 'not stored' })
    resolve()
    expect((await first).status).toBe(202)
    expect(kafka.all(TOPIC)).toHaveLength(1)
    expect(await metrics.registry.metrics()).toContain('crowded_requests_total{tenant="default"} 1')
  })

  test('a single tenant may fill the whole queue', async () => {
    const { post, kafka } = service({ env: { MAX_QUEUE_RECORDS: '3', MAX_BATCH_EVENTS: '2' } })
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const first = post('[{"type":"t"},{"type":"t"}]', JSON_TYPE)
    const second = post('{"type":"t"}', JSON_TYPE)
    resolve()
    expect([(await first).status, (await second).status]).toEqual([202, 202])
  })

  test('outcomes that differ are told per event, with receipts for what is stored', async () => {
    const { post, kafka, metrics } = service()
    kafka.produceFaults.push(
      new ProduceError('timed out', 'unknown', 'no answer'),
      new ProduceError('queue full', 'not stored', 'full'),
    )
    const response = await post(JSON.stringify(['a', 'b', 'c'].map((id) => ({ type: 't', id }))), JSON_TYPE)
    expect(response.status).toBe(503)
    const document = await problem(response)
    expect(document.outcome).toBe('unknown')
    expect(document.events).toMatchObject([
      { id: 'a', outcome: 'unknown' },
      { id: 'b', outcome: 'not stored' },
      { id: 'c', outcome: 'stored', receipt: { id: 'c', stream: 'events' } },
    ])
    const text = await metrics.registry.metrics()
    for (const outcome of ['stored', 'not_stored', 'unknown'])
      expect(text).toContain(
        `kafkatrace_producer_events_total{tenant="default",stream="events",outcome="${outcome}"} 1`,
      )
  })

  test('only where it is certain of every event is the request "not stored"', async () => {
    const { post, kafka } = service()
    kafka.produceFaults.push(new ProduceError('queue full', 'not stored', 'full'))
    expect(await problem(await post('{"type":"t"}', JSON_TYPE))).toMatchObject({ outcome: 'not stored' })
    kafka.produceFaults.push(new ProduceError('timed out', 'unknown', 'no answer'))
    expect(await problem(await post('{"type":"t"}', JSON_TYPE))).toMatchObject({ outcome: 'unknown' })
  })

  test('an event that only Kafka finds too large is 413', async () => {
    const { post, kafka } = service()
    kafka.produceFaults.push(new ProduceError('too large', 'not stored', 'max.message.bytes'))
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(413)
  })

  test('of several events none may be larger than the topic’s batches; one alone is Kafka’s to judge', async () => {
    const { post, kafka } = service()
    kafka.settings.set(TOPIC, { maxMessageBytes: 1_000, isCompacted: false })
    const small = Array.from({ length: 5 }, () => ({ type: 't', data: 'x'.repeat(500) }))
    const large = { type: 't', data: 'x'.repeat(1_000) }
    const refused = await post(JSON.stringify([...small, large]), JSON_TYPE)
    expect([refused.status, (await problem(refused)).errors?.map(({ pointer }) => pointer)]).toEqual([413, ['/5']])
    expect(kafka.all(TOPIC)).toHaveLength(0)
    expect((await post(JSON.stringify(small), JSON_TYPE)).status).toBe(202)
    expect((await post(JSON.stringify(large), JSON_TYPE)).status).toBe(202)
    expect((await post(JSON.stringify([large]), JSON_TYPE)).status).toBe(202)
    expect((await ndjson(await post(`${JSON.stringify(large)}\n`, NDJSON)))[0]).toHaveProperty('receipt')
  })

  test('an event without a key for a compacted topic is 422, each is named, and nothing of its request is stored', async () => {
    const { post, kafka } = service()
    kafka.settings.set(TOPIC, { maxMessageBytes: undefined, isCompacted: true })
    const keyed = { type: 't', subject: 's' }
    const several = await post(JSON.stringify([keyed, { type: 't' }, { type: 't' }]), JSON_TYPE)
    const document = await problem(several)
    expect([several.status, document.errors?.map(({ pointer }) => pointer)]).toEqual([
      422,
      ['/1/subject', '/2/subject'],
    ])
    expect(kafka.all(TOPIC)).toHaveLength(0)
    const lines = await ndjson(await post(`{"type":"t"}\n${JSON.stringify(keyed)}\n`, NDJSON))
    expect(lines.slice(0, 2).map((line) => line['problem']?.['status'] ?? 'stored')).toEqual([422, 'stored'])
    expect((await post(JSON.stringify({ type: 't', partitionkey: 'k' }), JSON_TYPE)).status).toBe(202)
  })

  test('an event that only Kafka finds invalid is 422; among others that are stored it is named and they are not to be sent again for it', async () => {
    const { post, kafka } = service()
    const invalid = new ProduceError('invalid', 'not stored', 'Broker failed to validate record')
    kafka.produceFaults.push(invalid)
    expect((await post('{"type":"t"}', JSON_TYPE)).status).toBe(422)
    kafka.produceFaults.push(invalid)
    const response = await post('[{"type":"a"},{"type":"b"}]', JSON_TYPE)
    const document = await problem(response)
    expect(response.status).toBe(503)
    expect(document.detail).toContain('Kafka will never take 1 of them')
    expect((document.events as { outcome: string }[]).map(({ outcome }) => outcome)).toEqual(['not stored', 'stored'])
  })

  test('a stream of lines is answered in its own order, whatever is acknowledged first', async () => {
    const { post, kafka, producer } = service()
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
    const writer = writable.getWriter()
    const answered = post(readable, NDJSON)
    await writer.write(Buffer.from('{"type":"t","id":"slow"}\n'))
    const response = await answered
    await until(() => producer.queue().records === 1)
    kafka.hold = undefined
    await writer.write(Buffer.from('{"type":"t","id":"fast"}\n'))
    void writer.close()
    await until(() => kafka.all(TOPIC).length === 1)
    resolve()
    const answers = await ndjson(response)
    expect(answers.map((one) => one['receipt']?.['id'])).toEqual(['slow', 'fast', undefined])
  })

  test('in a stream of lines each line has its own outcome', async () => {
    const { post, kafka } = service()
    kafka.produceFaults.push(new ProduceError('timed out', 'unknown', 'no answer'))
    const answers = await ndjson(await post('{"type":"a"}\n{"type":"b"}\n', NDJSON))
    expect(answers[0]?.['problem']).toMatchObject({ status: 503, outcome: 'unknown' })
    expect(answers[1]?.['receipt']).toBeDefined()
    expect(answers[2]?.['summary']).toMatchObject({ unknown: 1, stored: 1 })
  })

  test('a fault of ours is a 500 that tells nothing of it, and stands in the log', async () => {
    const { post, producer, logged, gate } = service()
    producer.produce = () => Promise.reject(new TypeError('secret detail'))
    const response = await post('{"type":"t"}', { ...JSON_TYPE, 'x-request-id': 'mine' })
    expect(response.status).toBe(500)
    const document = await problem(response)
    expect(document).toMatchObject({ type: 'urn:kafkatrace:problem:internal', outcome: 'unknown' })
    expect(JSON.stringify(document)).not.toContain('secret detail')
    // It is in the log, so there was something to report.
    expect(logged).toContainEqual(
      expect.objectContaining({
        level: 50,
        requestId: 'mine',
        err: expect.objectContaining({ message: 'secret detail' }),
      }),
    )
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('a request that fails unexpectedly keeps its route, its time and its span', async () => {
    const { tracing, spans: kept } = keptSpans()
    const { app, post, producer, metrics } = service({ tracing, authenticate: failingFor('broken') })
    const { promise, reject } = Promise.withResolvers<never>()
    producer.produce = () => promise
    const answer = post('{"type":"t"}', JSON_TYPE)
    const begunMs = performance.now()
    await until(() => performance.now() - begunMs > 20)
    reject(new TypeError('secret detail'))
    expect((await answer).status).toBe(500)
    for (const method of ['POST', 'OPTIONS'])
      expect((await app.request('/v1/streams/broken/events', { method })).status).toBe(500)
    await tracing.stop()
    expect(kept.map((span) => [span.attributes['http.response.status_code'], span.status.code])).toEqual([
      [500, SpanStatusCode.ERROR],
    ])
    const text = await metrics.registry.metrics()
    expect(text).toContain('kafkatrace_producer_http_requests_total{route="events",status="500"} 2')
    expect(text).toContain('kafkatrace_producer_http_requests_total{route="handshake",status="500"} 1')
    const seconds = Number(/request_seconds_sum\{route="events"\} (\S+)/.exec(text)?.[1])
    expect(seconds).toBeGreaterThan(0.02)
  })
})

describe('keys and order', () => {
  test('the partition key, else the subject, is the record’s key; without one the same event goes to the same partition', async () => {
    const { post, kafka } = service({ partitions: 8 })
    await post(JSON.stringify({ ...REQUIRED, subject: 's', partitionkey: 'p' }), STRUCTURED)
    await post(JSON.stringify({ ...REQUIRED, subject: 's' }), STRUCTURED)
    expect(
      kafka
        .all(TOPIC)
        .map((record) => record.key?.toString())
        .toSorted(),
    ).toEqual(['p', 's'])
    const partitions = new Set<number>()
    for (let i = 0; i < 5; i++) {
      const response = await post(JSON.stringify({ ...REQUIRED, id: 'again' }), STRUCTURED)
      partitions.add(((await response.json()) as { receipts: { partition: number }[] }).receipts[0]?.partition ?? -1)
    }
    expect(partitions.size).toBe(1)
    expect(kafka.all(TOPIC).filter((record) => record.key === null)).toHaveLength(5)
  })

  test('events of one key keep the order of their batch', async () => {
    const { post, events } = service()
    await post(
      JSON.stringify(Array.from({ length: 50 }, (_, i) => ({ type: 't', id: String(i), subject: 'k' }))),
      JSON_TYPE,
    )
    expect(events().map((event) => event.id)).toEqual(Array.from({ length: 50 }, (_, i) => String(i)))
  })
})

describe('who may send', () => {
  const acme = makeKey('acme-ci')
  const narrow = makeKey('acme-narrow')
  const off = makeKey('off')
  const other = makeKey('other')
  const reader = makeKey('reader')
  const operator = makeKey('operator')
  const file: TenantsFile = {
    tenants: {
      acme: {
        streams: ['events', 'orders'],
        quota: { eventsPerSecond: 10, burstEvents: 20, bytesPerSecond: 10_000 },
        keys: [
          { id: 'acme-ci', sha256: acme.sha256 },
          { id: 'acme-narrow', sha256: narrow.sha256, streams: ['orders'] },
          { id: 'reader', sha256: reader.sha256, roles: ['read', 'operate'] },
        ],
      },
      gone: { enabled: false, streams: ['events'], keys: [{ id: 'off', sha256: off.sha256 }] },
      other: {
        streams: ['events'],
        quota: { eventsPerSecond: 10, burstEvents: 20 },
        keys: [{ id: 'other', sha256: other.sha256 }],
      },
    },
    operators: [{ id: 'operator', sha256: operator.sha256, roles: ['read', 'operate'] }],
  }
  function acmeService() {
    const made = service({ authenticate: authenticateBy(authoriseByKey(tenantsOf(file))) })
    made.kafka.createTopic('kt.acme.events', 2).createTopic('kt.acme.orders', 2)
    return made
  }
  const bearer = (key: string) => ({ ...JSON_TYPE, authorization: `Bearer ${key}` })

  test('a key is taken from Authorization, X-API-Key or access_token', async () => {
    const { post, kafka } = acmeService()
    expect((await post('{"type":"t"}', bearer(acme.key))).status).toBe(202)
    expect((await post('{"type":"t"}', { ...JSON_TYPE, authorization: `bearer ${acme.key}` })).status).toBe(202)
    expect((await post('{"type":"t"}', { ...JSON_TYPE, 'x-api-key': acme.key })).status).toBe(202)
    const byQuery = await post('{"type":"t"}', JSON_TYPE, `/v1/streams/orders/events?access_token=${acme.key}`)
    expect([byQuery.status, byQuery.headers.get('cache-control')]).toEqual([202, 'private'])
    expect(kafka.all('kt.acme.events')).toHaveLength(3)
    expect(kafka.all('kt.acme.orders')).toHaveLength(1)
  })

  test.each([
    ['none', {}, 401],
    ['an unknown one', { authorization: 'Bearer kt.acme-ci.wrong' }, 401],
    ['an unknown id', { authorization: `Bearer ${makeKey('nobody').key}` }, 401],
    ['Basic', { authorization: 'Basic YTpi' }, 401],
    ['an empty one', { 'x-api-key': '' }, 401],
    ['of a tenant that is switched off', { authorization: `Bearer ${off.key}` }, 403],
    ['for other streams', { authorization: `Bearer ${narrow.key}` }, 403],
    ['without the role send', { authorization: `Bearer ${reader.key}` }, 403],
    ['of an operator', { authorization: `Bearer ${operator.key}` }, 403],
  ])('no key or a wrong one is refused: %s', async (_, headers, status) => {
    const { post, kafka } = acmeService()
    const response = await post('{"type":"t"}', { ...JSON_TYPE, ...headers })
    expect(response.status).toBe(status)
    await problem(response)
    if (status === 401) expect(response.headers.get('www-authenticate')).toStartWith('Bearer')
    expect(kafka.all('kt.acme.events')).toHaveLength(0)
  })

  test.each([
    ['Authorization and X-API-Key', { authorization: `Bearer ${acme.key}`, 'x-api-key': narrow.key }, ''],
    ['X-API-Key and access_token', { 'x-api-key': acme.key }, `?access_token=${narrow.key}`],
    ['access_token twice', {}, `?access_token=${acme.key}&access_token=${narrow.key}`],
    // As Bun joins repeated fields.
    ['Authorization twice', { authorization: `Bearer ${acme.key}, Bearer ${narrow.key}` }, ''],
    ['something behind it', { authorization: `Bearer ${acme.key},` }, ''],
    ['a right and a wrong one', { authorization: `Bearer ${acme.key}`, 'x-api-key': 'wrong' }, ''],
    ['a right and an empty one', { authorization: `Bearer ${acme.key}`, 'x-api-key': '' }, ''],
  ])('keys that differ are 400: %s', async (_, headers, query) => {
    const { app, post, kafka } = acmeService()
    const response = await post('{"type":"t"}', { ...JSON_TYPE, ...headers }, `/v1/events${query}`)
    expect([response.status, (await problem(response)).type]).toEqual([400, 'urn:kafkatrace:problem:malformed'])
    expect((await app.request(`/v1/events${query}`, { method: 'OPTIONS', headers })).status).toBe(400)
    expect(kafka.all('kt.acme.events')).toHaveLength(0)
  })

  test('the same key twice is one', async () => {
    const { post } = acmeService()
    const headers = { ...JSON_TYPE, authorization: `Bearer ${acme.key}`, 'x-api-key': acme.key }
    expect((await post('{"type":"t"}', headers, `/v1/events?access_token=${acme.key}`)).status).toBe(202)
  })

  test('a key for some streams is told neither of others nor whether there are such', async () => {
    const { post } = acmeService()
    const of = async (stream: string) => {
      const response = await post('{"type":"t"}', bearer(narrow.key), `/v1/streams/${stream}/events`)
      return { status: response.status, ...(await problem(response)), requestId: undefined }
    }
    const there = await of('events')
    expect(there.status).toBe(403)
    expect(there.detail).toContain('orders')
    expect(await of('nope')).toEqual(there)
  })

  test('a stream that the tenant has not is 404', async () => {
    const { post } = acmeService()
    const response = await post('{"type":"t"}', bearer(acme.key), '/v1/streams/nope/events')
    expect(response.status).toBe(404)
    expect((await problem(response)).type).toBe('urn:kafkatrace:problem:unknown-stream')
  })

  test('a quota refuses with 429, Retry-After and RateLimit, and grants again with time', async () => {
    const { post, clock, kafka, metrics } = acmeService()
    const batch = JSON.stringify(Array(15).fill({ type: 't' }))
    const first = await post(batch, bearer(acme.key))
    expect(first.status).toBe(202)
    expect(first.headers.get('ratelimit-policy')).toBe('"events";q=20;w=2, "bytes";q=10000;w=1;qu="content-bytes"')
    expect(first.headers.get('ratelimit')).toStartWith('"events";r=5;t=2')
    const second = await post(batch, bearer(acme.key))
    expect([second.status, second.headers.get('retry-after')]).toEqual([429, '1'])
    expect(second.headers.get('ratelimit')).toStartWith('"events";r=5')
    expect(kafka.all('kt.acme.events')).toHaveLength(15)
    expect(await metrics.registry.metrics()).toContain('over_quota_requests_total{tenant="acme",quota="tenant"} 1')
    clock.nowMs += 1_000
    expect((await post(batch, bearer(acme.key))).status).toBe(202)
  })

  test('when tenants are read again, quotas go on with what is left, and requests in flight with what they have', async () => {
    let tenants = tenantsOf(file)
    const listeners: ((now: readonly Tenant[]) => void)[] = []
    const made = service({
      authenticate: (request, stream) => authenticateBy(authoriseByKey(tenants))(request, stream),
      access: {
        ...UNCHANGING,
        onChange: (listener) => void listeners.push(listener),
      },
    })
    const { post, kafka, gate, metrics } = made
    for (const topic of ['events', 'orders', 'late']) kafka.createTopic(`kt.acme.${topic}`, 2)
    const change = (acmeNow: Partial<TenantsFile['tenants'][string]>, others = file.tenants): void => {
      const { acme = { streams: [], keys: [] } } = file.tenants
      tenants = tenantsOf({ ...file, tenants: { ...others, acme: { ...acme, ...acmeNow } } }, tenants)
      for (const listener of listeners) listener(tenants.list)
    }
    const left = async (stream = 'events'): Promise<string | undefined> => {
      const answer = await post('{"type":"t"}', bearer(acme.key), `/v1/streams/${stream}/events`)
      return `${answer.status} ${/"events";r=\d+/.exec(answer.headers.get('ratelimit') ?? '')?.[0]}`
    }
    expect(await left()).toBe('202 "events";r=19')
    // Of the quota, nothing has changed.
    change({ streams: ['events', 'orders', 'late'] })
    expect([await left('late'), await left()]).toEqual(['202 "events";r=18', '202 "events";r=17'])
    change({ quota: { eventsPerSecond: 1, burstEvents: 5 } })
    expect(await left()).toBe('202 "events";r=4')
    const { promise, resolve } = Promise.withResolvers<void>()
    kafka.hold = promise
    const inFlight = post('{"type":"t"}', bearer(acme.key))
    await until(() => gate.level.requests === 1)
    change({ keys: [] }, { other: file.tenants['other'] ?? { streams: [], keys: [] } })
    expect(gate.shared).toBe(true)
    change({ enabled: false }, {})
    expect(gate.shared).toBe(false)
    resolve()
    expect((await inFlight).status).toBe(202)
    expect((await post('{"type":"t"}', bearer(acme.key))).status).toBe(403)
    change({}, {})
    expect(await left()).toBe('202 "events";r=2')
    expect(await metrics.registry.metrics()).toContain('events_total{tenant="acme",stream="events",outcome="stored"} 5')
  })

  test('a key has its quota besides its tenant’s, as the tenants file says it now', async () => {
    const fileWith = (quota?: { eventsPerSecond: number }): TenantsFile => ({
      tenants: {
        acme: {
          streams: ['events'],
          quota: { eventsPerSecond: 20 },
          keys: [
            { id: 'acme-ci', sha256: acme.sha256 },
            { id: 'other', sha256: other.sha256, ...(quota === undefined ? {} : { quota }) },
          ],
        },
      },
    })
    let tenants = tenantsOf(fileWith({ eventsPerSecond: 5 }))
    const listeners: ((now: readonly Tenant[]) => void)[] = []
    const { app, post, kafka } = service({
      authenticate: (request, stream) => authenticateBy(authoriseByKey(tenants))(request, stream),
      access: {
        ...UNCHANGING,
        onChange: (listener) => void listeners.push(listener),
        credentials: () => tenants.credentials,
      },
    })
    kafka.createTopic('kt.acme.events', 2)
    const change = (quota?: { eventsPerSecond: number }): void => {
      tenants = tenantsOf(fileWith(quota), tenants)
      for (const listener of listeners) listener(tenants.list)
    }
    const left = async (key: string, events = 1): Promise<string[]> => {
      const answer = await post(JSON.stringify(Array(events).fill({ type: 't' })), bearer(key))
      const limits = [...(answer.headers.get('ratelimit') ?? '').matchAll(/"([\w-]+)";r=(\d+)/g)]
      return [String(answer.status), ...limits.map(([, name, count]) => `${name} ${count}`)]
    }
    expect(await left(other.key, 3)).toEqual(['202', 'events 17', 'key-events 2'])
    expect(await left(acme.key)).toEqual(['202', 'events 16'])
    expect(await left(other.key, 3)).toEqual(['429', 'events 16', 'key-events 2'])
    change({ eventsPerSecond: 1 })
    expect(await left(other.key)).toEqual(['202', 'events 15', 'key-events 0'])
    change()
    expect(await left(other.key)).toEqual(['202', 'events 14'])
    change({ eventsPerSecond: 4 })
    expect(await left(other.key)).toEqual(['202', 'events 13', 'key-events 3'])
    const asked = await app.request('/v1/events', {
      method: 'OPTIONS',
      headers: { ...bearer(other.key), 'webhook-request-origin': 'example.com' },
    })
    expect(asked.headers.get('webhook-allowed-rate')).toBe('240')
  })

  test('all streams of a tenant share its quota, and another tenant has its own', async () => {
    const { post, kafka } = acmeService()
    kafka.createTopic('kt.other.events', 2)
    const batch = JSON.stringify(Array(15).fill({ type: 't' }))
    expect((await post(batch, bearer(acme.key))).status).toBe(202)
    expect((await post(batch, bearer(acme.key), '/v1/streams/orders/events')).status).toBe(429)
    expect((await post(batch, bearer(other.key))).status).toBe(202)
  })

  test('a refusal, before the body is read or after, is no measure of how long requests take', async () => {
    const { post, metrics, kafka } = acmeService()
    const mine = bearer(acme.key)
    const refused = async (status: number, headers: Record<string, string>, stream = 'events', body = '{"type":"t"}') =>
      expect((await post(body, headers, `/v1/streams/${stream}/events`)).status).toBe(status)
    await refused(401, JSON_TYPE)
    await refused(401, bearer('wrong'))
    await refused(403, bearer(narrow.key))
    await refused(404, mine, 'none')
    await refused(415, { ...mine, 'content-type': 'application/x-www-form-urlencoded' })
    await refused(429, mine, 'events', JSON.stringify(Array(30).fill({ type: 't' })))
    expect(kafka.all('kt.acme.events')).toHaveLength(0)
    const count = 'kafkatrace_producer_request_seconds_count{route="events"}'
    expect(await metrics.registry.metrics()).toContain(`${count} 0`)
    expect((await post('{"type":"t"}', mine)).status).toBe(202)
    await refused(422, mine, 'events', '{"type":""}')
    expect(await metrics.registry.metrics()).toContain(`${count} 1`)
  })

  test('what is refused costs quota, too: each event of it, one where their number is not known, and its bytes', async () => {
    const three = JSON.stringify([REQUIRED, { ...REQUIRED, id: '' }, {}])
    for (const [body, headers, status, costs] of [
      ['{"type":""}', {}, 422, 1],
      [three, BATCH, 422, 3],
      ['{"type":', {}, 400, 1],
      ['a=b', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 1],
      ['x', { 'content-encoding': 'gzip' }, 400, 1],
    ] as const) {
      const { post } = acmeService()
      const counted = async (): Promise<string | null> => (await post('[]', bearer(acme.key))).headers.get('ratelimit')
      expect(await counted()).toContain('"events";r=20')
      expect((await post(body, { ...bearer(acme.key), ...headers })).status).toBe(status)
      expect(await counted()).toContain(`"events";r=${20 - costs}`)
    }
    const { post, clock, logged } = acmeService()
    const statuses: number[] = []
    for (let i = 0; i < 30; i++) statuses.push((await post('{"type":""}', bearer(acme.key))).status)
    expect(statuses).toEqual([...Array(20).fill(422), ...Array(10).fill(429)])
    clock.nowMs += 100
    expect((await post('{"type":"t"}', bearer(acme.key))).status).toBe(202)
    // A tenant that ignores its quota does not fill the log.
    expect(logged.filter((line) => line['status'] === 429).map((line) => line['level'])).toEqual(Array(10).fill(20))
  })

  test('header fields count in the quota of bytes, as attributes in a body do', async () => {
    const { post, clock } = acmeService()
    const headers = { ...CE, ...bearer(acme.key), 'ce-long': 'x'.repeat(12_000) }
    expect((await post(null, headers)).status).toBe(202)
    const refused = await post(null, headers)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '2'])
    clock.nowMs += 2_000
    expect((await post(null, headers)).status).toBe(202)
  })

  test('without quota for a single event, the body is not even read', async () => {
    const { post, gate, metrics } = acmeService()
    expect((await post(JSON.stringify(Array(30).fill({ type: 't' })), bearer(acme.key))).status).toBe(202)
    let pulled = false
    const body = new ReadableStream(
      {
        pull: () => {
          pulled = true
        },
      },
      { highWaterMark: 0 },
    )
    const refused = await post(body, bearer(acme.key))
    expect([refused.status, refused.headers.get('connection'), pulled]).toEqual([429, 'close', false])
    expect(await metrics.registry.metrics()).toContain('over_quota_requests_total{tenant="acme",quota="tenant"} 1')
    expect(gate.level).toEqual({ requests: 0, bytes: 0 })
  })

  test('a sender of nothing but faults neither fills the log nor keeps others out of it', async () => {
    const { post, logged } = acmeService()
    const lines = (status: number) => logged.filter((line) => line['status'] === status && line['level'] === 30).length
    for (let i = 0; i < 300; i++) await post('{"type":"t"}', JSON_TYPE)
    expect(lines(401)).toBeWithin(100, 300)
    await post('{"type":""}', bearer(acme.key))
    expect(lines(422)).toBe(1)
  })

  test('ids in the log are cut', async () => {
    const { post, logged } = acmeService()
    const ids = Array.from({ length: 3 }, (_, i) => `${i}${'x'.repeat(2_000)}`)
    await post(JSON.stringify(ids.map((id) => ({ type: 't', id }))), bearer(acme.key))
    const [stored] = logged.filter((line) => line['msg'] === 'stored') as { events?: string[] }[]
    expect(stored?.events).toEqual(ids.map((id) => id.slice(0, 256)))
  })

  test('neither keys nor payloads are logged', async () => {
    const { post, logged } = acmeService()
    await post('{"type":"t","data":"s3cret-payload"}', bearer(acme.key))
    await post('{"type":"t","data":"s3cret-payload"', bearer(acme.key))
    await post('{"s3cret-payload":1,"s3cret-payload":2}', bearer(acme.key))
    await post('{"type":"t","s3cret-payload":1}', bearer(acme.key))
    await post('{"type":"t"}', { ...bearer(acme.key), ...CE, 'ce-s3cret-payload': 's3cret-payload' })
    await post('{"type":"t","data":"s3cret-payload"}', bearer(`${acme.key}x`))
    await post('{}', JSON_TYPE, `/v1/events?access_token=${acme.key}`)
    const text = JSON.stringify(logged)
    expect(logged.length).toBeGreaterThan(2)
    expect(text).not.toContain('s3cret-payload')
    expect(text).not.toContain(acme.key)
  })

  test('the webhook handshake grants by the quota, and refuses a wrong key only', async () => {
    const { app } = acmeService()
    const ask = (headers: Record<string, string>, path = '/v1/events') =>
      app.request(path, { method: 'OPTIONS', headers })
    const origin = { 'webhook-request-origin': 'emitter.example.com' }
    const granted = await ask({ ...origin, 'x-api-key': acme.key, 'webhook-request-rate': '120' })
    expect(granted.status).toBe(200)
    expect(granted.headers.get('webhook-allowed-origin')).toBe('emitter.example.com')
    expect(granted.headers.get('webhook-allowed-rate')).toBe('120')
    expect(granted.headers.get('allow')).toBe('POST, OPTIONS')
    expect(
      (await ask({ ...origin, 'x-api-key': acme.key, 'webhook-request-rate': '99999' })).headers.get(
        'webhook-allowed-rate',
      ),
    ).toBe('600')
    const anonymous = await ask(origin)
    expect([anonymous.status, anonymous.headers.get('webhook-allowed-rate')]).toEqual([200, '*'])
    expect((await ask({ ...origin, 'x-api-key': 'wrong' })).status).toBe(401)
    expect((await ask({ ...origin, 'x-api-key': acme.key }, '/v1/streams/nope/events')).status).toBe(404)
    for (const headers of [{}, { 'webhook-request-origin': 'http://evil/\u00e9' }]) {
      const plain = await ask(headers as Record<string, string>)
      expect([plain.status, plain.headers.has('webhook-allowed-origin')]).toEqual([200, false])
    }
  })
})

describe('around it', () => {
  test('a request id and a trace are taken, or made, and go on with the event', async () => {
    const { post, kafka, logged } = service()
    const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const response = await post('{"type":"t"}', {
      ...JSON_TYPE,
      'x-request-id': 'mine',
      traceparent: trace,
      tracestate: 'a=b',
    })
    expect(response.headers.get('x-request-id')).toBe('mine')
    const bad = await post('{"type":"t"}', { ...JSON_TYPE, 'x-request-id': 'a b', traceparent: 'nonsense' })
    expect(bad.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    const long = await post('{"type":"t"}', { ...JSON_TYPE, 'x-request-id': 'x'.repeat(129) })
    expect([long.status, long.headers.get('x-request-id')?.length]).toEqual([202, 36])
    const own = '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await post(JSON.stringify({ type: 't', traceparent: own }), JSON_TYPE)
    const headers = kafka
      .all(TOPIC)
      .toSorted((a, b) => a.timestampMs - b.timestampMs)
      .map((record) => record.headers)
    const traces = headers.map((one) => headerText(one, 'traceparent'))
    expect(traces).toContain(trace)
    expect(traces).toContain(own)
    expect(traces.every((one) => /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(one ?? ''))).toBe(true)
    const traced = headers.find((one) => headerText(one, 'traceparent') === trace) ?? NO_HEADERS
    expect(headerText(traced, 'tracestate')).toBe('a=b')
    expect(headers.every((one) => headerText(one, 'kt-received-at') === '1700000000000')).toBe(true)
    expect(
      logged.some((line) => line['requestId'] === 'mine' && line['traceId'] === '0af7651916cd43dd8448eb211c80319c'),
    ).toBe(true)
  })

  test('of several events in a request, each goes on in the trace of its own, and without one in the request’s', async () => {
    const own = (digit: number) => `00-${digit}af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`
    for (const kept of [undefined, keptSpans()]) {
      const { post, kafka } = service({ partitions: 1, ...(kept && { tracing: kept.tracing }) })
      const events = [
        { ...REQUIRED, id: 'a', traceparent: own(1) },
        { ...REQUIRED, id: 'b', traceparent: own(2) },
        REQUIRED,
      ]
      await post(JSON.stringify(events), { ...BATCH, traceparent: own(9) })
      const lines = events.map((event) => `${JSON.stringify(event)}\n`).join('')
      await ndjson(await post(lines, { ...NDJSON, traceparent: own(9) }))
      await post(JSON.stringify(events[0]), { ...STRUCTURED, traceparent: own(9) })
      await kept?.tracing.stop()
      const traces = kafka.all(TOPIC).map((record) => headerText(record.headers, 'traceparent')?.slice(0, 4))
      expect(traces).toEqual(['00-1', '00-2', '00-9', '00-1', '00-2', '00-9', '00-9'])
      const linked = kept?.spans.filter(({ name }) => name.startsWith('send')).map(({ links }) => links.length)
      expect(linked ?? [2, 2, 0]).toEqual([2, 2, 0])
    }
  })

  test('with spans, an event goes on behind the one that sends it, or in the trace of its own, which that one names', async () => {
    const { tracing, spans } = keptSpans()
    const { post, kafka } = service({ tracing, partitions: 1 })
    const given = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03'
    const own = '00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await post('{"type":"t","id":"first"}', { ...JSON_TYPE, traceparent: given, tracestate: 'a=b' })
    await post('{"type":"t"}', JSON_TYPE)
    await post(JSON.stringify({ type: 't', traceparent: own }), JSON_TYPE)
    await post('not json', JSON_TYPE)
    await ndjson(await post('{"type":"t"}\n{"type":"t"}\n', NDJSON))
    await tracing.stop()

    const SEND = 'send kt.default.events'
    const POST = 'POST /v1/streams/:stream/events'
    expect(spans.map(shortly)).toEqual([SEND, POST, SEND, POST, SEND, POST, POST, SEND, POST])
    const sent = spans.filter(({ name }) => name === SEND)
    const behind = (at: number, flags = '01') =>
      `00-${sent[at]?.spanContext().traceId}-${sent[at]?.spanContext().spanId}-${flags}`
    expect(kafka.all(TOPIC).map((record) => headerText(record.headers, 'traceparent'))).toEqual([
      behind(0, '03'),
      behind(1),
      own,
      behind(3),
      behind(3),
    ])
    expect(headerText(kafka.all(TOPIC)[0]?.headers ?? NO_HEADERS, 'tracestate')).toBe('a=b')
    const [send, request] = spans
    expect(request?.kind).toBe(SpanKind.SERVER)
    expect(request?.spanContext().traceId).toBe('0af7651916cd43dd8448eb211c80319c')
    expect(request?.attributes).toMatchObject({
      'http.request.method': 'POST',
      'http.response.status_code': 202,
      'http.route': '/v1/streams/:stream/events',
      'url.path': '/v1/events',
      'url.scheme': 'http',
    })
    expect(send?.kind).toBe(SpanKind.PRODUCER)
    expect(send?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
    expect(send?.attributes).toEqual({
      'messaging.system': 'kafka',
      'messaging.client.id': 'test-1',
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
      'messaging.destination.name': TOPIC,
      'messaging.destination.partition.id': '0',
      'messaging.kafka.offset': 0,
      'messaging.message.id': 'first',
      'messaging.batch.message_count': 1,
      'server.address': 'broker.test',
      'server.port': 9092,
    })
    expect(sent.map(({ links }) => links.map(({ context }) => context.traceId))).toEqual([
      [],
      [],
      ['1af7651916cd43dd8448eb211c80319c'],
      [],
    ])
    expect(spans.map(({ attributes }) => attributes['messaging.batch.message_count'])).toEqual([
      1,
      undefined,
      1,
      undefined,
      1,
      undefined,
      undefined,
      2,
      undefined,
    ])
  })

  test('of requests that are not sampled, those are kept that fail with 5xx, with what was not sent', async () => {
    const { tracing, spans } = keptSpans(0)
    const { post, producer, kafka, logged } = service({ tracing })
    const unsampled = TRACE.replace(/01$/, '00')
    expect((await post('{"type":"t"}', { ...JSON_TYPE, traceparent: unsampled })).status).toBe(202)
    expect((await post('not json', JSON_TYPE)).status).toBe(400)
    producer.produce = async (records) =>
      records.map(() => new ProduceError('timed out', 'unknown', 'no acknowledgement'))
    expect((await post('{"type":"t"}', { ...JSON_TYPE, traceparent: unsampled })).status).toBe(503)
    await tracing.stop()
    expect(spans.map(shortly)).toEqual(['send kt.default.events: timed out', 'POST /v1/streams/:stream/events: 503'])
    const [send, request] = spans
    expect(send?.status.message).toBe('timed out: no acknowledgement')
    expect(request?.parentSpanContext?.spanId).toBe('b7ad6b7169203331')
    expect(request?.attributes['kafkatrace.kept']).toBe('failed')
    // Others need not record it for that.
    expect(headerText(kafka.all(TOPIC)[0]?.headers ?? NO_HEADERS, 'traceparent')).toMatch(
      /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$/,
    )
    expect(logged).toContainEqual(
      expect.objectContaining({ problem: 'undelivered', spanId: request?.spanContext().spanId }),
    )
  })

  test('a request without a key has no span, whatever it says of its trace', async () => {
    const { tracing, spans: kept } = keptSpans()
    const { post } = service({ tracing, authenticate: authenticateBy(authoriseByKey(tenantsOf({ tenants: {} }))) })
    expect((await post('{"type":"t"}', { ...JSON_TYPE, traceparent: TRACE })).status).toBe(401)
    await tracing.stop()
    expect(kept).toEqual([])
  })

  test('a stream whose key is removed ends with the reason, and its body is not read on', async () => {
    const lasting = new Set<(problem: Problem) => void>()
    const access: AppDeps['access'] = {
      ...UNCHANGING,
      whileAllowed: (_, ended) => {
        lasting.add(ended)
        return () => void lasting.delete(ended)
      },
    }
    const { post, kafka, gate } = service({ access })
    const body = new ReadableStream({ start: (c) => c.enqueue(Buffer.from('{"type":"t"}\n')) })
    const response = await post(body, NDJSON)
    await until(() => kafka.all(TOPIC).length === 1)
    for (const end of lasting) end({ kind: 'unauthenticated', detail: 'The key ci is not accepted any more.' })
    expect((await ndjson(response)).slice(1)).toMatchObject([
      { problem: { status: 401, detail: 'The key ci is not accepted any more.' } },
      { summary: { stored: 1, complete: false } },
    ])
    expect([lasting.size, gate.level.requests]).toEqual([0, 0])
  })

  test('while draining requests are served, and whoever is answered is told to close the connection', async () => {
    const { app, post, gate } = service()
    gate.drain()
    const answers = [
      await post('{"type":"t"}', JSON_TYPE),
      await post('{"type":"t"}\n', NDJSON),
      await post('{', JSON_TYPE),
      await app.request('/docs'),
      await app.request('/nope'),
    ]
    expect(answers.map((one) => [one.status, one.headers.get('connection')])).toEqual(
      [202, 200, 400, 200, 404].map((status) => [status, 'close']),
    )
    expect((await ndjson(answers[1] as Response)).at(-1)?.['summary']).toMatchObject({ stored: 1, complete: true })
  })

  test('a stream that waits for quota ends with a summary as soon as the service stops', async () => {
    const { key, sha256 } = makeKey('a')
    const quota = { eventsPerSecond: 0.01, burstEvents: 1 }
    const tenants = tenantsOf({ tenants: { a: { streams: ['events'], quota, keys: [{ id: 'a', sha256 }] } } })
    const { post, kafka, producer, stop } = service({ authenticate: authenticateBy(authoriseByKey(tenants)) })
    kafka.createTopic('kt.a.events')
    expect((await post('{"type":"t"}', { ...JSON_TYPE, 'x-api-key': key })).status).toBe(202)
    const asked = spyOn(producer, 'blocked')
    const answers = (async () => ndjson(await post('{"type":"t"}\n', { ...NDJSON, 'x-api-key': key })))()
    // Called for the request and for its line, which then waits.
    await until(() => asked.mock.calls.length === 2)
    stop.abort()
    expect((await answers).at(-1)?.['summary']).toMatchObject({ events: 1, notStored: 1, complete: false })
  })

  test('once shut every request is refused at once, and streams are ended', async () => {
    const { post, gate, stop, kafka } = service()
    const body = new ReadableStream({ start: (c) => c.enqueue(Buffer.from('{"type":"t"}\n')) })
    const stream = await post(body, NDJSON)
    await until(() => kafka.all(TOPIC).length === 1, { timeoutMs: 5_000, what: 'the line' })
    const drained = gate.shut()
    const refused = await post('{"type":"t"}', JSON_TYPE)
    expect([refused.status, refused.headers.get('connection')]).toEqual([503, 'close'])
    expect(await problem(refused)).toMatchObject({ type: 'urn:kafkatrace:problem:draining', outcome: 'not stored' })
    stop.abort()
    const answers = await ndjson(stream)
    expect(answers.at(-2)?.['problem']?.['type']).toBe('urn:kafkatrace:problem:draining')
    expect(answers.at(-1)?.['summary']).toMatchObject({ stored: 1, complete: false })
    await drained
  })

  test.each<[string, Record<string, string>, string]>([
    ['a key', { authorization: `Bearer a${' '.repeat(15_000)}b` }, '{"type":"t"}'],
    ['a trace', { traceparent: TRACE, tracestate: `a=${' '.repeat(15_000)}b` }, '{"type":"t"}'],
    ['a media type', { 'content-type': `a/b${';'.repeat(15_000)}x;` }, '{"type":"t"}'],
    ['an attribute', { ...CE, 'ce-id': `"${'\\a'.repeat(7_500)}` }, ''],
    ['a URI', { ...CE, 'ce-source': `${'a'.repeat(15_000)} ` }, ''],
    [
      'traces of events',
      {},
      JSON.stringify(Array(10).fill({ type: 't', traceparent: TRACE, tracestate: `a=${' '.repeat(15_000)}b` })),
    ],
  ])('%s that is made to cost time costs next to none', async (_, headers, body) => {
    const byKey =
      'authorization' in headers ? { authenticate: authenticateBy(authoriseByKey(tenantsOf({ tenants: {} }))) } : {}
    const { post } = service(byKey)
    await post('{"type":"t"}', JSON_TYPE)
    const began = process.cpuUsage()
    for (let i = 0; i < 5; i++) await post(body, { ...JSON_TYPE, ...headers })
    const { user, system } = process.cpuUsage(began)
    // With quadratic matching 0.1 s each.
    expect((user + system) / 1_000).toBeLessThan(250)
  })

  test('what is not there is 404, a wrong method 405, both as problems', async () => {
    const { app } = service()
    const missing = await app.request('/nope')
    expect([missing.status, (await problem(missing)).type]).toEqual([404, 'urn:kafkatrace:problem:not-found'])
    for (const [path, method, allow] of [
      ['/v1/events', 'GET', 'POST, OPTIONS'],
      ['/v1/streams/events/events/', 'PUT', 'POST, OPTIONS'],
      ['/openapi.json', 'POST', 'GET'],
      ['/docs', 'DELETE', 'GET'],
    ] as const) {
      const response = await app.request(path, { method })
      expect([response.status, response.headers.get('allow')]).toEqual([405, allow])
      await problem(response)
    }
  })

  test('every path that takes something is in the document that is served, and no other', async () => {
    const { app } = service()
    const { paths } = (await (await app.request('/openapi.json')).json()) as { paths: Record<string, object> }
    const described = Object.keys(paths).filter((path) => 'post' in (paths[path] ?? {}))
    const taken = app.routes.flatMap(({ method, path }) => (method === 'POST' ? path.replace(/:(\w+)/g, '{$1}') : []))
    expect(described.sort()).toEqual(taken.sort())
  })

  test('no answer is to be taken for something else by a browser', async () => {
    const { app, post, gate } = service()
    const answers = [
      await post('{"type":"t"}', JSON_TYPE),
      await post('{"type":"t"}\n', NDJSON),
      await post('{', JSON_TYPE),
      await app.request('/v1/events', { method: 'OPTIONS' }),
      ...(await Promise.all(['/docs', '/openapi.json', '/nope'].map((path) => app.request(path)))),
    ]
    void gate.shut()
    answers.push(await post('{"type":"t"}', JSON_TYPE))
    for (const one of answers) expect(one.headers.get('x-content-type-options')).toBe('nosniff')
  })

  test('a path may end with a slash, a Content-Type with a semicolon', async () => {
    const { post, events } = service()
    expect((await post('{"type":"t","data":1}', { 'content-type': 'application/json;' }, '/v1/events/')).status).toBe(
      202,
    )
    expect((await post('x', { ...CE, 'content-type': 'text/plain ; ' }, '/v1/streams/events/events/')).status).toBe(202)
    expect(events().map((event) => event.datacontenttype)).toEqual(['application/json', 'text/plain'])
  })

  test('metrics are there with 0 before the first event', async () => {
    const { metrics } = service()
    metrics.declare([onlyTenant()])
    const text = await metrics.registry.metrics()
    expect(text).toContain('kafkatrace_producer_events_total{tenant="default",stream="events",outcome="stored"} 0')
    expect(text).toContain('kafkatrace_producer_http_requests_total{route="events",status="202"} 0')
    expect(text).toContain('kafkatrace_producer_request_seconds_count{route="events"} 0')
  })
})
