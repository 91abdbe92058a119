import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { makeKey, ROLES, type TenantsFile } from '../../shared/http/tenants.ts'
import { eachLine, type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { FAULT_TYPE } from '../testing/faulty-handlers.ts'

/** Producer, consumer and console as processes on Apache Kafka, as their clients see them. */

setDefaultTimeout(120_000)

const PATIENCE = { timeoutMs: 60_000 }
const DRAIN_TIMEOUT_MS = 8_000
/** Its handler needs `failures` and `workMs`. */
const TYPE = `${FAULT_TYPE}sometimes`
const SOUND = { failures: 0, workMs: 0 }

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-console-'))
let kafka: KafkaCluster
let env: Record<string, string>
let producer: ServiceProcess
let consumer: ServiceProcess
let console_: ServiceProcess

const [sender, reader, worker, stranger, overseer] = ['sender', 'reader', 'worker', 'stranger', 'overseer'].map(
  makeKey,
) as [Key, Key, Key, Key, Key]
type Key = ReturnType<typeof makeKey>

beforeAll(async () => {
  kafka = await startKafka()
  const file: TenantsFile = {
    tenants: {
      acme: {
        streams: ['events', 'private'],
        keys: [
          { id: 'sender', sha256: sender.sha256 },
          { id: 'reader', sha256: reader.sha256, roles: ['read'] },
          { id: 'worker', sha256: worker.sha256, roles: ['read', 'operate'] },
        ],
        redact: { private: ['/ssn'] },
      },
      other: { streams: ['events'], keys: [{ id: 'stranger', sha256: stranger.sha256, roles: [...ROLES] }] },
    },
    operators: [{ id: 'overseer', sha256: overseer.sha256, roles: ['read', 'operate'] }],
  }
  const path = join(folder, 'tenants.json')
  writeFileSync(path, JSON.stringify(file))
  env = { KAFKA_BROKERS: kafka.bootstrapServers, DRAIN_TIMEOUT_MS: String(DRAIN_TIMEOUT_MS) }
  const auth = { AUTH: 'on', TENANTS_FILE: path }
  producer = await startService('producer', { ...env, ...auth, TOPIC_PARTITIONS: '2' })
  consumer = await startService('consumer', {
    ...env,
    INSTANCE_ID: 'one',
    HANDLERS_MODULE: join(import.meta.dir, '../testing/faulty-handlers.ts'),
  })
  env = { ...env, ...auth, CONSUMER_STATUS_PORT: String(consumer.started['opsPort']) }
  console_ = await startService('console', env)
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  await until(async () => (await ready()).status === 200, PATIENCE)
})

afterAll(async () => {
  await Promise.all([console_, consumer, producer].map((one) => one?.stop()))
  await kafka?.stop()
  rmSync(folder, { recursive: true })
})

const ready = (of = console_) => fetch(`http://127.0.0.1:${of.started['opsPort']}/readyz`)

interface Asking {
  key?: Key
  body?: object
  signal?: AbortSignal
  of?: ServiceProcess
}

const ask = (path: string, { key = worker, body, signal, of = console_ }: Asking = {}) =>
  fetch(`http://127.0.0.1:${of.started['port']}/v1/streams/${path}`, {
    headers: {
      authorization: `Bearer ${key.key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  })

async function json<T = Record<string, unknown>>(response: Promise<Response>, status = 200): Promise<T> {
  const answered = await response
  const text = await answered.text()
  expect(answered.status, text).toBe(status)
  return JSON.parse(text) as T
}

async function send(id: string, data: unknown, { stream = 'events', type = TYPE } = {}): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/streams/${stream}/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${sender.key}`, 'content-type': 'application/cloudevents+json' },
    body: JSON.stringify({ specversion: '1.0', id, source: '/e2e', type, data }),
  })
  expect(response.status, await response.text()).toBe(202)
}

interface Outcome {
  state: string
  outcome?: {
    partition: number
    offset: number
    generation: number
    data?: { json?: unknown }
    error?: { reason: string }
  }
}

const outcomeOf = (id: string, stream = 'events', wait = 10): Promise<Outcome> =>
  json<Outcome>(ask(`${stream}/events/${id}/outcome?wait=${wait}&source=/e2e`))

test('an event that was just sent: its outcome is waited for, and its life is found', async () => {
  // The first event makes the topics.
  await send('first', SOUND)
  await until(async () => (await ask('events/events/first')).status === 200, PATIENCE)
  await outcomeOf('first', 'events', 30)
  await send('a', SOUND)
  expect(await outcomeOf('a')).toMatchObject({
    state: 'processed',
    outcome: { role: 'processed', data: { json: { attempt: 1 } } },
  })
  const { events } = await json<{ events: object[] }>(ask('events/events/a', { key: reader }))
  expect(events).toMatchObject([
    {
      tenant: 'acme',
      stream: 'events',
      id: 'a',
      state: 'processed',
      generations: [
        { generation: 0, places: [{ role: 'input' }, { role: 'processed' }], outcome: { handler: `${TYPE}@1` } },
      ],
    },
  ])
  const missing = await json<{ type: string; searched: object[] }>(ask('events/events/nope'), 404)
  expect(missing.type).toEndWith(':event-not-found')
  expect(missing.searched.length).toBeGreaterThan(0)
})

test('only who has a key of the tenant with the role gets in', async () => {
  for (const [key, path, status] of [
    [sender, 'events/events/a', 403],
    [stranger, 'events/events/a', 404],
    [stranger, 'events/events/a?tenant=acme', 403],
    [{ ...reader, key: 'kt.reader.wrong' }, 'events/events/a', 401],
  ] as [Key, string, number][])
    await json(ask(path, { key }), status)
  await json(ask('events/pause', { key: reader, body: { reason: 'x' } }), 403)
})

test('a dead letter that is redriven with an edit is processed as the next generation, once', async () => {
  await send('broken', { workMs: 0 })
  const dead = await outcomeOf('broken')
  expect(dead).toMatchObject({ state: 'dead', outcome: { error: { reason: 'invalid data' } } })
  const { partition, offset } = dead.outcome ?? {}
  const letter = `events/dead-letters/${partition}/${offset}`
  expect(await json(ask(letter))).toMatchObject({ state: 'open' })
  const wrong = await json(
    ask(`${letter}/redrive`, { body: { edit: { patch: [{ op: 'remove', path: '/nope' }] } } }),
    422,
  )
  expect(wrong['type']).toEndWith(':invalid-edit')
  const edit = { patch: [{ op: 'add', path: '/failures', value: 0 }] }
  const done = await json(ask(`${letter}/redrive`, { body: { reason: 'it lacked failures', edit } }), 201)
  expect(done).toMatchObject({
    done: true,
    act: { act: 'redrive', by: 'worker', edited: true, reason: 'it lacked failures' },
  })
  expect(await json(ask(`${letter}/redrive`, { body: { edit } }))).toMatchObject({ done: false })
  expect(await json(ask(`${letter}/discard`, { body: { reason: 'too late' } }))).toMatchObject({
    done: false,
    act: { act: 'redrive' },
  })
  const redriven = await json<Outcome>(ask('events/events/broken/outcome?wait=10&generation=1&source=/e2e'))
  expect(redriven).toMatchObject({ state: 'processed', outcome: { generation: 1, data: { json: { attempt: 1 } } } })
  const { events } = await json<{ events: { state: string; generations: object[] }[] }>(ask('events/events/broken'))
  expect(events[0]).toMatchObject({
    state: 'processed',
    generations: [
      { generation: 0, state: 'dead', act: { act: 'redrive' } },
      {
        generation: 1,
        state: 'processed',
        record: { edited: true, redrivenFrom: `kt.acme.events.dlq/${partition}/${offset}` },
      },
    ],
  })
  expect(await json(ask('events/acts'))).toMatchObject({ acts: [{ act: 'redrive', by: 'worker' }], complete: true })
})

test('a job redrives what its filter matches, and is done', async () => {
  for (const id of ['j1', 'j2', 'j3']) {
    await send(id, { workMs: 0 })
    expect(await outcomeOf(id, 'events', 30)).toMatchObject({ state: 'dead' })
  }
  const filter = { reason: 'invalid data', type: TYPE }
  expect(await json(ask('events/jobs', { body: { filter, dryRun: true } }))).toMatchObject({
    matches: 3,
    complete: true,
  })
  const job = await json<{ id: string }>(ask('events/jobs', { body: { filter } }), 201)
  await until(async () => (await json(ask(`events/jobs/${job.id}`)))['state'] === 'done', PATIENCE)
  expect(await json(ask(`events/jobs/${job.id}`))).toMatchObject({ acted: 3 })
  // Unchanged, they die again.
  expect(await json(ask('events/events/j2/outcome?wait=10&generation=1'))).toMatchObject({ state: 'dead' })
})

test('masked data is in no answer', async () => {
  const data = { ssn: 's3cret', workMs: 0 }
  await send('p1', data, { stream: 'private' })
  await until(async () => (await ask('private/events/p1')).status === 200, PATIENCE)
  const { outcome } = await outcomeOf('p1', 'private', 30)
  for (const path of [
    'events/p1',
    'events/p1?format=text',
    'records',
    'records?topic=dlq&format=hex',
    `dead-letters/${outcome?.partition}/${outcome?.offset}`,
    'dead-letters',
  ]) {
    const text = await (await ask(`private/${path}`)).text()
    expect(text).not.toContain('s3cret')
    expect(text).not.toContain(Buffer.from('s3cret').toString('hex'))
  }
  expect(await json(ask('private/events/p1'))).toMatchObject({
    events: [{ generations: [{ record: { data: { json: { ssn: '***', workMs: 0 } } } }] }],
  })
  const letter = `private/dead-letters/${outcome?.partition}/${outcome?.offset}`
  await json(ask(`${letter}/redrive`, { body: { edit: { data: { ...SOUND, ssn: '***' } } } }), 422)
  await json(ask(`${letter}/redrive`, { body: { edit: { patch: [{ op: 'add', path: '/failures', value: 0 }] } } }), 201)
  expect((await json<Outcome>(ask('private/events/p1/outcome?wait=10&generation=1'))).state).toBe('processed')
})

test('a stream that is paused goes on when it is resumed', async () => {
  const allAre = (wanted: string) =>
    until(async () => {
      const { partitions } = await json<{ partitions: { state: string }[] }>(ask('events/status'))
      return partitions.every(({ state }) => state === wanted)
    }, PATIENCE)
  await allAre('reading')
  expect(await json(ask('events/pause', { body: { reason: 'a look' } }))).toMatchObject({
    consumers: [{ clientId: 'kafkatrace-consumer-one', ready: true }],
    paused: { by: 'worker', reason: 'a look' },
  })
  await allAre('paused')
  const stopped = async (): Promise<boolean> => {
    const id = crypto.randomUUID()
    await send(id, SOUND)
    return (await outcomeOf(id, 'events', 1)).state === 'pending'
  }
  await until(stopped, PATIENCE)
  await send('paused', SOUND)
  expect((await outcomeOf('paused', 'events', 1)).state).toBe('pending')
  expect(await json(ask('events/resume', { body: {} }))).not.toHaveProperty('paused')
  expect((await outcomeOf('paused', 'events', 30)).state).toBe('processed')
  await allAre('reading')
})

test('one tenant’s key keeps nobody out, however many requests follow with it', async () => {
  const one = await startService('console', { ...env, MAX_FOLLOWERS: '10' })
  await until(async () => (await ready(one)).status === 200, PATIENCE)
  const gone = new AbortController()
  const follow = (key: Key) => ask('events/outcomes', { key, of: one, signal: gone.signal })
  const followed = await Promise.all(Array.from({ length: 11 }, () => follow(reader)))
  expect(followed.map(({ status }) => status).toSorted()).toEqual([
    ...Array.from({ length: 5 }, () => 200),
    ...Array.from({ length: 6 }, () => 503),
  ])
  const refused = followed.find(({ status }) => status === 503)
  expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(await refused?.text()).toContain('One of several tenants may have as many as stay free for the others.')
  await until(async () => (await ask('events/status', { key: stranger, of: one })).status === 200, PATIENCE)
  expect((await follow(stranger)).status).toBe(200)
  expect((await follow(overseer)).status).toBe(400)
  const all = await ask('events/outcomes?tenant=acme', { key: overseer, of: one, signal: gone.signal })
  expect(all.status).toBe(200)
  const metrics = await (await fetch(`http://127.0.0.1:${one.started['opsPort']}/metrics`)).text()
  expect(metrics).toContain('kafkatrace_console_crowded_requests_total{tenant="acme"} 6')
  gone.abort()
  await one.stop()
})

test('SIGTERM ends it within its time while a client follows, which is told so', async () => {
  const other = await startService('console', env)
  await until(async () => (await ready(other)).status === 200, PATIENCE)
  const response = await ask('events/outcomes', { of: other })
  expect(response.headers.get('content-type')).toBe('text/event-stream')
  const lines: string[] = []
  const read = eachLine(response.body as ReadableStream<Uint8Array>, (line) => lines.push(line))
  await send('followed', SOUND)
  await until(() => lines.some((line) => line.includes('"followed"')), PATIENCE)
  const begunMs = performance.now()
  expect(await other.stop()).toBe(0)
  expect(performance.now() - begunMs).toBeLessThan(DRAIN_TIMEOUT_MS)
  await read
  expect(lines).toContain('event: end')
  expect(lines.at(-1)).toContain('"reason":"draining"')
  // Another console goes on from there.
  const last = lines.findLast((line) => line.startsWith('id: '))?.slice(4) ?? ''
  await send('after', SOUND)
  const gone = new AbortController()
  const resumed = await ask(`events/outcomes?since=${last}`, { signal: gone.signal })
  const more: string[] = []
  void eachLine(resumed.body as ReadableStream<Uint8Array>, (line) => more.push(line)).catch(() => undefined)
  await until(() => more.some((line) => line.includes('"after"')), PATIENCE)
  expect(more.some((line) => line.includes('"followed"'))).toBe(false)
  gone.abort()
})

test('without Kafka it says so, and recovers by itself', async () => {
  await kafka.kill(0)
  await until(async () => (await ready()).status === 503, PATIENCE)
  expect(await (await ready()).text()).toContain('Kafka cannot be read')
  expect((await fetch(`http://127.0.0.1:${console_.started['opsPort']}/livez`)).status).toBe(200)
  const answers = await Promise.all([
    ask('events/status'),
    ask('events/events/a'),
    ask('events/records'),
    ask('events/dead-letters'),
    ask('events/resume', { body: {} }),
  ])
  for (const response of answers) {
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await response.json()).toMatchObject({ type: 'urn:kafkatrace:problem:kafka-unavailable' })
  }
  await kafka.restart(0)
  await until(async () => (await ready()).status === 200, PATIENCE)
  await until(async () => (await ask('events/events/a')).status === 200, PATIENCE)
  await json(ask('events/resume', { body: {} }))
})
