import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import pino from 'pino'
import { runKafkaTool } from '../shared/dev/brokers/kafka-distribution.ts'
import { alterTopic } from '../shared/dev/brokers/wire-admin.ts'
import { murmur2, partitionOfHash } from '../shared/events/partition.ts'
import { fromRecord, type IncomingRecord } from '../shared/events/record.ts'
import { inputTopic, streamTopics } from '../shared/events/topics.ts'
import { makeKey } from '../shared/http/tenants.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import type { RangeReader } from '../shared/kafka/types.ts'
import { residentMemoryBytes } from '../shared/service/process-metrics.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'
import { loadProducerConfig } from './config.ts'

/** The producer as a process on a real broker: every row of its HTTP contract, and the records in Kafka. */

const PARTITIONS = 5
const TEST_TIMEOUT_MS = 60_000
const MIB = 1024 * 1024

/** With a request for each topic, creating these took half a minute. */
const STREAMS = 200
const MANY_STREAMS_MS = 15_000

const brokers = testBrokers()
const tenant = uniqueName('contract')
const TOPIC = inputTopic(tenant, 'events')
const { key, sha256 } = makeKey(`${tenant}-key`.slice(0, 63))
const tenantsFile = join(mkdtempSync(join(tmpdir(), 'producer-')), 'tenants.json')
writeFileSync(
  tenantsFile,
  JSON.stringify({
    tenants: {
      [tenant]: {
        streams: ['events', 'orders', 'narrow', 'compacted'],
        keys: [{ id: `${tenant}-key`.slice(0, 63), sha256 }],
      },
    },
  }),
)
const ENV = {
  KAFKA_BROKERS: brokers,
  TENANTS_FILE: tenantsFile,
  TOPIC_PARTITIONS: String(PARTITIONS),
  MAX_EVENT_BYTES: String(3 * MIB),
}
let service: ServiceProcess
let reader: RangeReader

const url = (path: string, of = service) => `http://127.0.0.1:${of.started['port']}${path}`
const ops = (path: string, of = service) => fetch(`http://127.0.0.1:${of.started['opsPort']}${path}`)
const ready = (of: ServiceProcess) =>
  until(async () => (await ops('/readyz', of)).ok && of.started['port'] !== undefined, {
    timeoutMs: 30_000,
    what: 'readiness',
  })

const WIRE_TIMEOUT_MS = 10_000
const NARROW_BYTES = 100_000
const alter = (stream: string, name: string, value: string) =>
  alterTopic(brokers.split(',')[0] ?? '', WIRE_TIMEOUT_MS, inputTopic(tenant, stream), name, value)

beforeAll(async () => {
  const config = loadProducerConfig({ ...ENV })
  const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log: pino({ level: 'silent' }) })
  for (const stream of ['narrow', 'compacted'])
    await admin.ensureGroups([streamTopics(tenant, stream)], { partitions: PARTITIONS, replication: -1 })
  await admin.close()
  await alter('narrow', 'max.message.bytes', String(NARROW_BYTES))
  await alter('compacted', 'cleanup.policy', 'compact')
  service = await startService('producer', ENV)
  await ready(service)
  reader = createRangeReader({ config, clientId: uniqueName('reader'), log: pino({ level: 'silent' }) })
}, TEST_TIMEOUT_MS)

afterAll(async () => {
  await reader.close()
  expect(await service.stop()).toBe(0)
}, TEST_TIMEOUT_MS)

const post = (body: string | Uint8Array | ReadableStream, headers: Record<string, string>, path = '/v1/events') =>
  fetch(url(path), { method: 'POST', headers: { authorization: `Bearer ${key}`, ...headers }, body } as RequestInit)

interface Receipt {
  id: string
  stream: string
  partition: number
  offset: number
  time: string
}
const receipts = async (response: Response): Promise<Receipt[]> => {
  expect(response.status).toBe(202)
  return ((await response.json()) as { receipts: Receipt[] }).receipts
}

/** The record that a receipt names. */
async function stored({ stream, partition, offset }: Receipt): Promise<IncomingRecord> {
  const found: IncomingRecord[] = []
  const topic = inputTopic(tenant, stream)
  await reader.read([{ topic, partition, from: offset, to: offset + 1 }], (record) => found.push(record))
  const [record] = found
  if (record === undefined) throw new Error(`nothing at ${topic}/${partition}/${offset}`)
  return record
}

const partitionsOf = (topic: string) => Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))

const ends = async (topic = TOPIC): Promise<number> => {
  return (await reader.ends(partitionsOf(topic))).reduce((sum, { end }) => sum + end, 0)
}

const JSON_TYPE = { 'content-type': 'application/json' }
const CE = { 'ce-specversion': '1.0', 'ce-id': '1', 'ce-source': '/s', 'ce-type': 't' }

describe('what is answered 202', () => {
  test(
    'stands at its receipt: plain JSON, byte for byte',
    async () => {
      const [receipt] = await receipts(
        await post('{"type":"t","subject":"k","data": {"n":12345678901234567890, "x":[ ]}}', JSON_TYPE),
      )
      if (receipt === undefined) throw new Error('no receipt')
      const record = await stored(receipt)
      expect(record.value?.toString()).toBe('{"n":12345678901234567890, "x":[ ]}')
      expect(record.key?.toString()).toBe('k')
      expect(record.partition).toBe(partitionOfHash(murmur2(Buffer.from('k')), PARTITIONS))
      expect(new Date(receipt.time).getTime()).toBe(record.timestampMs)
      expect(fromRecord(record)).toMatchObject({
        ok: true,
        event: { id: receipt.id, subject: 'k', datacontenttype: 'application/json' },
      })
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'binary mode: any bytes, no data, and zero bytes of data',
    async () => {
      const data = randomBytes(900_000)
      const [big] = await receipts(await post(data, { ...CE, 'content-type': 'image/png', 'ce-subject': 'caf%C3%A9' }))
      const [none] = await receipts(
        await fetch(url('/v1/events'), { method: 'POST', headers: { 'x-api-key': key, ...CE } }),
      )
      const [zero] = await receipts(await post('', { ...CE, 'content-type': 'text/plain' }))
      if (big === undefined || none === undefined || zero === undefined) throw new Error('a receipt is missing')
      const record = await stored(big)
      expect(record.value?.equals(data)).toBe(true)
      expect(fromRecord(record)).toMatchObject({ event: { subject: 'café', datacontenttype: 'image/png' } })
      expect((await stored(none)).value).toBeNull()
      expect((await stored(zero)).value?.length).toBe(0)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'structured, batch and compressed bodies, on a stream of its own',
    async () => {
      const event = { specversion: '1.0', id: 'a', source: '/s', type: 't', data_base64: 'AAEC', ext: 7 }
      const path = '/v1/streams/orders/events'
      const [one] = await receipts(
        await post(JSON.stringify(event), { 'content-type': 'application/cloudevents+json' }, path),
      )
      const batch = await receipts(
        await post(
          gzipSync(JSON.stringify([event, { ...event, id: 'b', partitionkey: 'p' }])),
          { 'content-type': 'application/cloudevents-batch+json', 'content-encoding': 'gzip' },
          path,
        ),
      )
      expect(batch.map((receipt) => receipt.id)).toEqual(['a', 'b'])
      const [again, keyed] = batch
      if (one === undefined || again === undefined || keyed === undefined) throw new Error('a receipt is missing')
      expect(one.stream).toBe('orders')
      expect([...((await stored(one)).value ?? [])]).toEqual([0, 1, 2])
      // Without a key, a repeated event goes to the same partition.
      expect(again.partition).toBe(one.partition)
      expect((await stored(again)).key).toBeNull()
      expect((await stored(keyed)).key?.toString()).toBe('p')
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'goes where Java’s partitioner puts the same keys, as a Java client sees it',
    async () => {
      const keys = Array.from({ length: 40 }, (_, i) => `key-${i}-${'é€'.repeat(i % 4)}`)
      const topic = inputTopic(tenant, uniqueName('java'))
      const admin = createTopicAdmin({
        config: loadProducerConfig(ENV),
        clientId: uniqueName('admin'),
        log: pino({ level: 'silent' }),
      })
      await admin.ensureGroups([[topic]], { partitions: PARTITIONS, replication: -1 })
      await admin.close()
      await runKafkaTool(
        brokers,
        'console-producer',
        ['--topic', topic, '--reader-property', 'parse.key=true', '--reader-property', 'key.separator=|'],
        keys.map((one) => `${one}|x`).join('\n'),
      )
      const java = new Map<string, number>()
      await readAll(reader, partitionsOf(topic), ({ key, partition }) => java.set(key?.toString() ?? '', partition))
      const ours = await receipts(
        await post(JSON.stringify(keys.map((partitionkey) => ({ type: 't', partitionkey }))), JSON_TYPE),
      )
      expect(java.size).toBe(keys.length)
      expect(keys.map((one) => java.get(one))).toEqual(ours.map((receipt) => receipt.partition))
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'NDJSON: thousands of lines, each answered in order where it stands, one key in order',
    async () => {
      const count = 5_000
      const lines = Array.from({ length: count }, (_, i) =>
        JSON.stringify({ type: 't', id: `n${i}`, subject: `s${i % 7}`, data: i }),
      )
      const response = await post(lines.join('\n'), { 'content-type': 'application/x-ndjson' })
      expect(response.status).toBe(200)
      const answers = (await response.text())
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { line?: number; receipt?: Receipt; summary?: unknown })
      expect(answers.at(-1)?.summary).toEqual({
        events: count,
        stored: count,
        notStored: 0,
        unknown: 0,
        refused: 0,
        complete: true,
      })
      const given = answers.slice(0, -1)
      expect(given.map((answer) => answer.receipt?.id)).toEqual(Array.from({ length: count }, (_, i) => `n${i}`))
      const last = new Map<string, number>()
      for (const [index, { receipt }] of given.entries()) {
        const subject = `s${index % 7}`
        expect(receipt?.offset ?? -1).toBeGreaterThan(last.get(subject) ?? -1)
        last.set(subject, receipt?.offset ?? -1)
      }
    },
    TEST_TIMEOUT_MS,
  )
})

describe('what is refused', () => {
  test(
    'is not in the log: 400, 401, 404, 413, 415, 422',
    async () => {
      const before = await ends()
      const statuses: number[] = []
      const refused = async (response: Promise<Response>) => {
        const { status, headers } = await response
        expect(headers.get('content-type')).toBe('application/problem+json')
        statuses.push(status)
      }
      await refused(post('{', JSON_TYPE))
      await refused(post('{"type":"t"}', { ...JSON_TYPE, authorization: 'Bearer nobody' }))
      await refused(post('{"type":"t"}', JSON_TYPE, '/v1/streams/nope/events'))
      await refused(post(Buffer.alloc(5 * MIB), { ...JSON_TYPE }))
      await refused(post('x', { 'content-type': 'text/css' }))
      await refused(post('[{"type":"t"},{"type":""}]', JSON_TYPE))
      // Within our limit, above the topic's, and incompressible.
      await refused(post(randomBytes(2 * MIB), { ...CE, 'content-type': 'image/png' }))
      expect(statuses).toEqual([400, 401, 404, 413, 415, 422, 413])
      expect(await ends()).toBe(before)
    },
    TEST_TIMEOUT_MS,
  )
})

describe('a topic with settings of its own', () => {
  /** Incompressible events of 1.1 KB with two alternating keys. */
  const events = (count: number, from: string) =>
    Array.from({ length: count }, (_, at) => ({
      type: 't',
      id: `${from}-${at}`,
      subject: `s${at % 2}`,
      data: randomBytes(825).toString('base64'),
    }))

  /** The ids of each key in the order of the log. */
  async function idsOf(stream: string): Promise<Map<string, string[]>> {
    const ids = new Map<string, string[]>()
    for (const at of await reader.ends(partitionsOf(inputTopic(tenant, stream))).then((all) => all.entries()))
      await reader.read(
        [{ topic: inputTopic(tenant, stream), partition: at[0], from: at[1].beginning, to: at[1].end }],
        (record) => {
          const read = fromRecord(record)
          if (!read.ok) throw new Error('not readable')
          const subject = read.event.subject ?? ''
          ids.set(subject, [...(ids.get(subject) ?? []), read.event.id])
        },
      )
    return ids
  }

  test(
    'max.message.bytes: events that are larger together are stored, in the order of their keys, as an array and as lines',
    async () => {
      const path = '/v1/streams/narrow/events'
      const array = events(1_000, 'array')
      expect(await receipts(await post(JSON.stringify(array), JSON_TYPE, path))).toHaveLength(1_000)
      const lines = events(1_000, 'line')
      const response = await post(
        lines.map((event) => JSON.stringify(event)).join('\n'),
        { 'content-type': 'application/x-ndjson' },
        path,
      )
      expect((await response.text()).trimEnd().split('\n').at(-1)).toBe(
        '{"summary":{"events":1000,"stored":1000,"notStored":0,"unknown":0,"refused":0,"complete":true}}',
      )
      const expected = [...array, ...lines]
      for (const [subject, ids] of await idsOf('narrow'))
        expect(ids).toEqual(expected.filter((event) => event.subject === subject).map(({ id }) => id))
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'max.message.bytes: only what is too large by itself is 413, of several with nothing stored',
    async () => {
      const path = '/v1/streams/narrow/events'
      const large = { type: 't', id: 'large', data: randomBytes(120_000).toString('base64') }
      const before = await ends(inputTopic(tenant, 'narrow'))
      expect((await post(JSON.stringify(large), JSON_TYPE, path)).status).toBe(413)
      const small = events(50, 'beside')
      expect((await post(JSON.stringify([...small, large]), JSON_TYPE, path)).status).toBe(413)
      expect(await ends(inputTopic(tenant, 'narrow'))).toBe(before)
      const lines = [...small, large].map((event) => JSON.stringify(event)).join('\n')
      const answers = (await (await post(lines, { 'content-type': 'application/x-ndjson' }, path)).text())
        .trimEnd()
        .split('\n')
      expect(answers.filter((line) => line.includes('"receipt"'))).toHaveLength(50)
      expect(answers[50]).toContain('"status":413')
      expect(await ends(inputTopic(tenant, 'narrow'))).toBe(before + 50)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'cleanup.policy=compact: an event without a key is 422, and /readyz names the topic',
    async () => {
      const path = '/v1/streams/compacted/events'
      const keyless = await post('{"type":"t"}', JSON_TYPE, path)
      expect(keyless.status).toBe(422)
      expect((await post('[{"type":"t","subject":"k"},{"type":"t"}]', JSON_TYPE, path)).status).toBe(422)
      expect(await ends(inputTopic(tenant, 'compacted'))).toBe(0)
      expect((await post('{"type":"t","subject":"k"}', JSON_TYPE, path)).status).toBe(202)
      await until(async () =>
        (await (await ops('/readyz')).text()).includes(`refused: ${inputTopic(tenant, 'compacted')}`),
      )
    },
    TEST_TIMEOUT_MS,
  )
})

/** Writes raw bytes and returns the answer until the connection closes or the condition holds. */
function raw(
  write: string,
  done: (answer: string) => boolean = () => false,
  timeoutMs = 10_000,
): Promise<{ answer: string; closed: boolean }> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(Number(service.started['port']), '127.0.0.1', () => socket.write(write))
    const timer = setTimeout(() => finish(false), timeoutMs)
    const finish = (closed: boolean) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ answer, closed })
    }
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
      if (done(answer)) finish(false)
    })
    socket.on('end', () => finish(true))
    socket.on('error', reject)
  })
}

describe('on the wire', () => {
  const head = (more: string) =>
    `POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\n${more}\r\n`

  test('a body announced too large is refused before it is sent, and the connection ends', async () => {
    const { answer, closed } = await raw(head(`Content-Length: ${100 * MIB}\r\n`))
    expect(answer).toStartWith('HTTP/1.1 413')
    expect(closed).toBe(true)
  })

  test('a body in chunks is cut off at the bound', async () => {
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`
    const { answer, closed } = await raw(head('Transfer-Encoding: chunked\r\n') + chunk.repeat(80))
    expect(answer).toStartWith('HTTP/1.1 413')
    expect(closed).toBe(true)
  })

  test('header fields over the bound are 431, with a problem or, far over it, from the runtime', async () => {
    expect((await raw(`${head(`X-Long: ${'x'.repeat(17_000)}\r\nContent-Length: 2\r\n`)}{}`)).answer).toMatch(
      /^HTTP\/1.1 431[\s\S]*headers-too-large/,
    )
    expect((await raw(`${head(`X-Long: ${'x'.repeat(100_000)}\r\nContent-Length: 2\r\n`)}{}`)).answer).toStartWith(
      'HTTP/1.1 431',
    )
  })

  test('an error that leaves little unread keeps the connection', async () => {
    const request = `POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}`
    const { answer } = await raw(request + request, (text) => (text.match(/HTTP\/1.1 404/g)?.length ?? 0) === 2)
    expect(answer.match(/HTTP\/1.1 404/g)).toHaveLength(2)
  })

  test(
    'endless NDJSON, with and without line feeds, leaves memory flat',
    async () => {
      const lines = Buffer.from(`${'{"type":"t","data":"0123456789"}\n'.repeat(2_000)}`)
      const send = async (piece: Buffer, totalBytes: number) => {
        let sent = 0
        const body = new ReadableStream({
          pull(controller) {
            if (sent >= totalBytes) return controller.close()
            sent += piece.length
            controller.enqueue(piece)
          },
        })
        const response = await post(body, { 'content-type': 'application/x-ndjson' })
        let bytes = 0
        for await (const chunk of response.body ?? []) bytes += chunk.length
        expect(bytes).toBeGreaterThan(0)
      }
      await send(lines, MIB)
      const before = residentMemoryBytes(service.pid) ?? 0
      await send(Buffer.alloc(64 * 1024, 0x78), 200 * MIB)
      await send(lines, 3 * MIB)
      expect((residentMemoryBytes(service.pid) ?? 0) - before).toBeLessThan(100 * MIB)
    },
    TEST_TIMEOUT_MS,
  )
})

describe('a process', () => {
  test('with a wrong environment lists every fault and exits 78', async () => {
    const { PATH = '', HOME = '' } = process.env
    const child = Bun.spawn([process.execPath, join(import.meta.dir, 'main.ts')], {
      env: { PATH, HOME, AUTH: 'off', PORT: 'x' },
      stderr: 'pipe',
    })
    expect(await child.exited).toBe(78)
    const text = await child.stderr.text()
    for (const name of ['PORT', 'KAFKA_BROKERS']) expect(text).toContain(name)
  })

  test(
    'without a broker is alive, says why it is not ready, and leaves its public port closed',
    async () => {
      const alone = await startService('producer', {
        NODE_ENV: 'development',
        AUTH: 'off',
        KAFKA_BROKERS: '127.0.0.1:1',
      })
      expect((await ops('/livez', alone)).status).toBe(200)
      const reason = '127.0.0.1:1: connection refused: nothing listens at this address'
      await until(async () => (await (await ops('/readyz', alone)).text()).includes(reason))
      const readiness = await ops('/readyz', alone)
      expect(readiness.status).toBe(503)
      expect(await readiness.json()).toMatchObject({
        ok: false,
        checks: [
          { name: 'draining', ok: true },
          { name: 'kafka', ok: false, reason },
          { name: 'credentials', ok: true },
          { name: 'streams', ok: false },
          { name: 'tenants', ok: true },
          { name: 'port', ok: false },
        ],
      })
      expect(alone.started['port']).toBeUndefined()
      expect(await alone.stop()).toBe(0)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'whose public port is taken says so and ends with 1',
    async () => {
      const taken = Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data: () => undefined } })
      const { PATH = '', HOME = '' } = process.env
      const child = Bun.spawn([process.execPath, join(import.meta.dir, 'main.ts')], {
        env: {
          ...{ PATH, HOME, NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: brokers, OPS_PORT: '0' },
          ...{ HOST: '127.0.0.1', PORT: String(taken.port), LOG_FORMAT: 'json' },
        },
        stdout: 'pipe',
      })
      const [output, code] = await Promise.all([child.stdout.text(), child.exited])
      taken.stop(true)
      expect(code).toBe(1)
      expect(output).toContain('cannot listen on the public port')
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'with many streams, none of whose topics is there, is ready in seconds',
    async () => {
      const streams = Array.from({ length: STREAMS }, (_, index) => uniqueName(`s${index}`))
      const begun = performance.now()
      const many = await startService('producer', {
        KAFKA_BROKERS: brokers,
        NODE_ENV: 'development',
        AUTH: 'off',
        STREAMS: streams.join(),
        TOPIC_PARTITIONS: '1',
      })
      await ready(many)
      expect(performance.now() - begun).toBeLessThan(MANY_STREAMS_MS)
      const send = (stream: string) =>
        fetch(url(`/v1/streams/${stream}/events`, many), { method: 'POST', headers: JSON_TYPE, body: '{"type":"t"}' })
      const statuses: number[] = []
      // Few at a time: this does not test throughput.
      for (let from = 0; from < STREAMS; from += 40)
        for (const { status } of await Promise.all(streams.slice(from, from + 40).map(send))) statuses.push(status)
      expect(statuses).toEqual(streams.map(() => 202))
      expect(await many.stop()).toBe(0)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'that is stopped under load answers what it has begun, and everything answered 202 is in the log',
    async () => {
      const own = uniqueName('drain')
      const stopping = await startService('producer', {
        ...ENV,
        NODE_ENV: 'development',
        AUTH: 'off',
        TENANTS_FILE: '',
        STREAMS: own,
        LINGER_MS: '20',
      })
      await ready(stopping)
      const acknowledged: Receipt[] = []
      const other: string[] = []
      let going = true
      const load = Array.from({ length: 20 }, async () => {
        while (going) {
          try {
            const response = await fetch(url(`/v1/streams/${own}/events`, stopping), {
              method: 'POST',
              headers: JSON_TYPE,
              body: '{"type":"t"}',
            })
            if (response.status === 202)
              acknowledged.push(...((await response.json()) as { receipts: Receipt[] }).receipts)
            else {
              const { outcome } = (await response.json()) as { outcome: string }
              other.push(`${response.status} ${outcome} ${response.headers.get('connection')}`)
              going = false
            }
          } catch {
            going = false
          }
        }
      })
      await until(() => acknowledged.length > 500, { timeoutMs: 30_000, what: 'load' })
      const code = stopping.stop()
      await Promise.all(load)
      expect(await code).toBe(0)
      expect(new Set(other)).toEqual(other.length === 0 ? new Set() : new Set(['503 not stored close']))
      const topic = inputTopic('default', own)
      const ids = new Set<string>()
      await readAll(reader, partitionsOf(topic), (record) => {
        const read = fromRecord(record)
        if (read.ok) ids.add(read.event.id)
      })
      expect(acknowledged.filter((receipt) => !ids.has(receipt.id))).toEqual([])
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'has made all four topics of each stream, with as many partitions',
    async () => {
      const text = await runKafkaTool(brokers, 'topics', ['--describe', '--topic', `kt[.]${tenant}[.].*`])
      for (const topic of [...streamTopics(tenant, 'events'), ...streamTopics(tenant, 'orders')])
        expect(text).toMatch(new RegExp(`Topic: ${topic.replaceAll('.', '[.]')}\\s.*PartitionCount: ${PARTITIONS}\\s`))
    },
    TEST_TIMEOUT_MS,
  )
})
