import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { type KafkaCluster, startKafka } from '../shared/dev/brokers/kafka.ts'
import { headerText } from '../shared/events/headers.ts'
import { inputTopic } from '../shared/events/topics.ts'
import type { TenantsFile } from '../shared/http/tenants.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import { keyring } from '../shared/testing/keyring.ts'
import { eachLine, type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'
import { loadProducerConfig } from './config.ts'

/** The tenants file is replaced, as Kubernetes replaces a Secret's, while a producer, a console and a consumer run on Apache Kafka. */

setDefaultTimeout(120_000)

const PATIENCE = { timeoutMs: 60_000 }
const SWITCHES = 20
/** A busy machine is no reason for an answer that is not the file's. */
const PATIENT = { DELIVERY_TIMEOUT_MS: '50000', REQUEST_TIMEOUT_MS: '60000', NDJSON_PROGRESS_TIMEOUT_MS: '60000' }
/** From the switch of the file to its effect. */
const SOON_MS = 3_000
const PARTITIONS = 2
/** Between two requests of a sender. */
const PAUSE_MS = 5

const { made, entry } = keyring()
type Tenant = TenantsFile['tenants'][string]

let folder: string
let kafka: KafkaCluster
let producer: ServiceProcess
let consumer: ServiceProcess
let console_: ServiceProcess
let revision = 0

/** Writes the file into a new folder, and switches a link to it, as the kubelet does. */
async function publish(text: string): Promise<void> {
  const name = `..${revision++}`
  await mkdir(join(folder, name))
  await writeFile(join(folder, name, 'tenants.json'), text)
  await symlink(name, join(folder, '..data_tmp'))
  await rename(join(folder, '..data_tmp'), join(folder, '..data'))
  await rm(join(folder, `..${revision - 2}`), { recursive: true, force: true })
}

const STAYING: Readonly<Record<string, Tenant>> = {
  acme: { streams: ['events', 'orders'], keys: [entry('acme-1'), { ...entry('acme-2'), streams: ['orders'] }] },
  shop: {
    streams: ['events'],
    quota: { eventsPerSecond: 100_000 },
    keys: [entry('shop-1'), { ...entry('shop-support'), roles: ['read'] }],
  },
}
const fileOf = (more: Readonly<Record<string, Tenant>> = {}): string =>
  JSON.stringify({ tenants: { ...STAYING, ...more } })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-tenants-'))
  await publish(fileOf())
  const TENANTS_FILE = join(folder, 'tenants.json')
  await symlink('..data/tenants.json', TENANTS_FILE)
  kafka = await startKafka()
  const env = {
    KAFKA_BROKERS: kafka.bootstrapServers,
    AUTH: 'on',
    TENANTS_FILE,
    TRUSTED_PROXIES: '127.0.0.1/32',
    LOG_LEVEL: 'debug',
  }
  producer = await startService('producer', { ...env, ...PATIENT, TOPIC_PARTITIONS: String(PARTITIONS) })
  consumer = await startService('consumer', { KAFKA_BROKERS: kafka.bootstrapServers, INSTANCE_ID: 'one' })
  console_ = await startService('console', env)
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  await until(async () => (await readyz(console_)).status === 200, PATIENCE)
})

afterAll(async () => {
  await Promise.all([console_, consumer, producer].map((one) => one?.stop()))
  await kafka?.stop()
  await rm(folder, { recursive: true, force: true })
})

async function readyz(of: ServiceProcess): Promise<{ status: number; tenants: string }> {
  const response = await fetch(`http://127.0.0.1:${of.started['opsPort']}/readyz`)
  const { checks } = (await response.json()) as { checks: { name: string; detail?: string }[] }
  return { status: response.status, tenants: checks.find(({ name }) => name === 'tenants')?.detail ?? '' }
}

async function metric(of: ServiceProcess, wanted: RegExp): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${of.started['opsPort']}/metrics`)).text()
  return text.split('\n').reduce((sum, line) => (wanted.test(line) ? sum + Number(line.split(' ').at(-1)) : sum), 0)
}

let clients = 0

/** Each request of another client: failures are limited by address, and most of these ask until a change counts. */
const bearer = (key: string) => ({
  authorization: `Bearer ${made.get(key)}`,
  'x-forwarded-for': `2001:db8:${(clients++ % 65_536).toString(16)}::1`,
})

const post = (key: string, stream: string, id: string): Promise<Response> =>
  fetch(`http://127.0.0.1:${producer.started['port']}/v1/streams/${stream}/events`, {
    method: 'POST',
    headers: { ...bearer(key), 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'a.test', id, subject: id }),
  })

async function statusOf(key: string, stream = 'events', id: string = crypto.randomUUID()): Promise<number> {
  const response = await post(key, stream, id)
  await response.arrayBuffer()
  return response.status
}

/** The ids of a stream's events, each as often as it is stored. */
async function storedIds(tenant: string, stream: string): Promise<string[]> {
  const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: kafka.bootstrapServers })
  const reader = createRangeReader({ config, clientId: 'ids', log: pino({ level: 'silent' }) })
  const topic = inputTopic(tenant, stream)
  const ids: string[] = []
  await readAll(
    reader,
    Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition })),
    ({ headers }) => void ids.push(headerText(headers, 'ce_id') ?? ''),
  )
  await reader.close()
  return ids.sort()
}

const chunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`

/** An NDJSON stream that sends lines until it is ended. */
async function lineStream(key: string, stream: string) {
  const socket = connect(producer.started['port'] as number, '127.0.0.1')
  let received = ''
  socket.on('data', (piece) => {
    received += String(piece)
  })
  socket.write(
    `POST /v1/streams/${stream}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${made.get(key)}\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n`,
  )
  let sent = 0
  let isOver = false
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()).on('error', () => undefined))
  const sending = (async () => {
    while (!isOver && !socket.destroyed) {
      socket.write(chunk(`${JSON.stringify({ type: 'a.line', id: `line-${key}-${sent++}` })}\n`))
      await Bun.sleep(PAUSE_MS)
    }
  })()
  const answers = () =>
    received
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line))
  const isAnswered = (): boolean => received.includes('\r\n0\r\n\r\n')
  return {
    sent: () => sent,
    receipts: (): string[] => answers().flatMap(({ receipt }) => receipt?.id ?? []),
    /** What is no receipt. */
    others: () => answers().filter(({ receipt }) => receipt === undefined),
    isAnswered,
    async end(): Promise<void> {
      isOver = true
      await sending
      socket.write('0\r\n\r\n')
      await until(isAnswered, PATIENCE)
      socket.destroy()
      await closed
    },
  }
}

test('while the file is switched again and again under load, keys that stay are never refused, and every event is counted once', async () => {
  const ending = new AbortController()
  const acknowledged = new Map<string, string[]>()
  const refused: string[] = []
  const senders = (
    [
      ['acme-1', 'acme', 'events'],
      ['acme-1', 'acme', 'orders'],
      ['acme-2', 'acme', 'orders'],
      ['shop-1', 'shop', 'events'],
    ] as const
  ).map(async ([key, tenant, stream]) => {
    const ids = acknowledged.getOrInsertComputed(`${tenant}/${stream}`, () => [])
    while (!ending.signal.aborted) {
      const id = crypto.randomUUID()
      const response = await post(key, stream, id)
      const text = await response.text()
      if (response.status === 202) ids.push(id)
      else refused.push(`${key} ${response.status} ${text}`)
      await Bun.sleep(PAUSE_MS)
    }
  })
  const lines = await lineStream('shop-1', 'events')
  const took: number[] = []
  for (let turn = 0; turn < SWITCHES; turn++) {
    const key = `guest-${turn}`
    const guest: Tenant = { streams: ['events', `only-${turn}`], keys: [entry(key)] }
    // What stays of the others changes in between as well, and every fourth file has a fault.
    const shop: Tenant = { ...(STAYING['shop'] as Tenant), quota: { eventsPerSecond: 100_000 + turn } }
    if (turn % 4 === 3) {
      await publish(fileOf({ guest }).slice(0, -turn))
      await until(async () => (await readyz(producer)).tenants.includes('is no JSON'), PATIENCE)
      expect(await statusOf(key)).toBe(401)
      continue
    }
    const switchedMs = performance.now()
    await publish(fileOf({ [`guest-${turn % 2}`]: guest, shop }))
    const seen = new Set<number>()
    await until(async () => {
      const status = await statusOf(key, `only-${turn}`)
      seen.add(status)
      return status !== 401
    }, PATIENCE)
    took.push(performance.now() - switchedMs)
    await until(async () => {
      const response = await post(key, `only-${turn}`, crypto.randomUUID())
      await response.arrayBuffer()
      seen.add(response.status)
      if (response.status === 503) expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
      return response.status === 202
    }, PATIENCE)
    // Until its topic is there, a stream that is new is neither unknown nor does an event vanish.
    expect([...seen].filter((status) => ![401, 503, 202].includes(status))).toEqual([])
  }
  ending.abort()
  await Promise.all(senders)
  await lines.end()
  expect(refused).toEqual([])
  expect(Math.max(...took)).toBeLessThan(SOON_MS)
  expect(lines.others()).toEqual([{ summary: expect.objectContaining({ complete: true, stored: lines.sent() }) }])
  for (const [name, ids] of acknowledged) {
    const [tenant = '', stream = ''] = name.split('/')
    const all = name === 'shop/events' ? [...ids, ...lines.receipts()] : ids
    expect(await storedIds(tenant, stream)).toEqual([...all].sort())
    const counted = await metric(
      producer,
      new RegExp(`events_total\\{tenant="${tenant}",stream="${stream}",outcome="stored"`),
    )
    expect(counted).toBe(all.length)
  }
  expect(acknowledged.get('shop/events')?.length).toBeGreaterThan(100)
})

test('what is removed is refused within seconds: requests, an open NDJSON stream, and who follows outcomes', async () => {
  const guest: Tenant = { streams: ['events'], keys: [entry('sender'), { ...entry('watcher'), roles: ['read'] }] }
  await publish(fileOf({ guest }))
  await until(async () => (await statusOf('sender')) === 202, PATIENCE)
  const outcomes = `http://127.0.0.1:${console_.started['port']}/v1/streams/events/outcomes`
  const follow = () => fetch(outcomes, { headers: bearer('watcher') })
  await until(async () => {
    const response = await follow()
    await response.body?.cancel()
    return response.status === 200
  }, PATIENCE)
  const told: string[] = []
  const followed = eachLine((await follow()).body as ReadableStream<Uint8Array>, (line) => told.push(line))
  const lines = await lineStream('sender', 'events')
  await until(() => lines.receipts().length > 10, PATIENCE)

  const switchedMs = performance.now()
  await publish(fileOf({ guest: { ...guest, keys: [] } }))
  await until(async () => (await statusOf('sender')) === 401, PATIENCE)
  await until(lines.isAnswered, PATIENCE)
  await followed
  expect(performance.now() - switchedMs).toBeLessThan(SOON_MS)
  await lines.end()
  expect(lines.others()).toEqual([
    {
      problem: expect.objectContaining({
        status: 401,
        detail: 'The key sender is not accepted any more: it was removed.',
      }),
    },
    {
      summary: expect.objectContaining({ complete: false, stored: lines.receipts().length, unknown: 0, notStored: 0 }),
    },
  ])
  const stored = (await storedIds('guest', 'events')).filter((id) => id.startsWith('line-'))
  expect(stored).toEqual([...lines.receipts()].sort())
  const end = told.indexOf('event: end')
  expect(JSON.parse(told[end + 1]?.slice('data: '.length) ?? '')).toMatchObject({
    reason: 'refused',
    detail: 'The key watcher is not accepted any more: it was removed.',
  })
  expect((await follow()).status).toBe(401)
})

test('a key is accepted until it expires, and another one beside it from when it is valid', async () => {
  const changeMs = Date.now() + 4_000
  const at = new Date(changeMs).toISOString()
  const guest: Tenant = {
    streams: ['events'],
    keys: [
      { ...entry('old'), expiresAt: at },
      { ...entry('new'), notBefore: at, name: 'the next one' },
    ],
  }
  await publish(fileOf({ guest }))
  await until(async () => (await statusOf('old')) === 202, PATIENCE)
  const early = await (await post('new', 'events', 'early')).json()
  expect(early).toMatchObject({ status: 401, detail: `The key new is not valid yet: it will be from ${at} on.` })
  await until(async () => (await statusOf('new')) === 202, PATIENCE)
  expect(Date.now()).toBeGreaterThanOrEqual(changeMs)
  const late = await (await post('old', 'events', 'late')).json()
  expect(late).toMatchObject({ status: 401, detail: `The key old has expired: it was valid until ${at}.` })
})

test('a file that is not used is said by each service, and what it said before goes on', async () => {
  await publish('{"tenants":{}}')
  for (const [one, name] of [
    [producer, 'producer'],
    [console_, 'console'],
  ] as const) {
    await until(async () => (await readyz(one)).tenants.includes('it has no tenants any more'), PATIENCE)
    expect((await readyz(one)).status).toBe(200)
    expect(await metric(one, new RegExp(`^kafkatrace_${name}_tenants_current `))).toBe(0)
  }
  expect(await statusOf('shop-1')).toBe(202)
  await publish(fileOf())
  for (const [one, name] of [
    [producer, 'producer'],
    [console_, 'console'],
  ] as const)
    await until(async () => (await metric(one, new RegExp(`^kafkatrace_${name}_tenants_current `))) === 1, PATIENCE)
})

test('a stream that is new is processed without a restart of the consumer', async () => {
  const guest: Tenant = { streams: ['events', 'fresh'], keys: [{ ...entry('fresh'), roles: ['send', 'read'] }] }
  await publish(fileOf({ guest }))
  await until(async () => (await statusOf('fresh', 'fresh', 'first')) === 202, PATIENCE)
  const outcome = async (): Promise<string> => {
    const url = `http://127.0.0.1:${console_.started['port']}/v1/streams/fresh/events/first/outcome?wait=1&key=first`
    const response = await fetch(url, { headers: bearer('fresh') })
    return response.ok ? ((await response.json()) as { state: string }).state : String(response.status)
  }
  await until(async () => (await outcome()) === 'processed', PATIENCE)
})

test('no key is in what the services have written', () => {
  const written = JSON.stringify([producer, console_, consumer].map(({ log }) => log))
  expect(written).toContain('tenants were read again')
  expect(
    [...made.values()].filter((key) => written.includes(key) || written.includes(key.split('.')[2] ?? key)),
  ).toEqual([])
})
