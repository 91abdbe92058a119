import { afterEach, describe, expect, test } from 'bun:test'
import pino from 'pino'
import { actsTopic, CONTROL_TOPIC, siblingTopic } from '../../shared/events/topics.ts'
import { authoriseByKey } from '../../shared/http/authorise.ts'
import type { Problem } from '../../shared/http/problem.ts'
import { tenantsOf } from '../../shared/http/tenants.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { Catalog } from '../../shared/schemas/catalog.ts'
import type { SchemaStore } from '../../shared/schemas/store.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { keyring } from '../../shared/testing/keyring.ts'
import { eachLine } from '../../shared/testing/service-process.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { until } from '../../shared/testing/until.ts'
import { consoleOn, type Given, outgoing } from '../testing/console.ts'
import { createApp } from './app.ts'
import { loadConsole } from './config.ts'
import { Hubs, type Outcome } from './follow.ts'
import { Jobs, type JobsDeps } from './jobs.ts'
import { createMetrics } from './metrics.ts'
import { openApi } from './openapi.ts'
import type { RouteDeps } from './route.ts'
import { routes } from './routes.ts'
import { UNSHARED } from './shares.ts'
import { Statuses } from './status.ts'

const INPUT = 'kt.acme.events'
const [PROCESSED, DLQ] = [siblingTopic(INPUT, 'processed'), siblingTopic(INPUT, 'dlq')]
const ACTS = actsTopic(INPUT)
const { config } = loadConsole({ KAFKA_BROKERS: 'x:1', AUTH: 'off', NODE_ENV: 'development' })
const { made, entry } = keyring()
const KEYS = [
  { ...entry('op'), roles: ['read' as const, 'operate' as const] },
  { ...entry('narrow'), roles: ['read' as const], streams: ['events'] },
]

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** A console with the streams `events`, which exists, and `late`, which does not yet. */
function consoleIn({
  redact = [] as string[],
  read = undefined as RangeReader['read'] | undefined,
  schemas = undefined as SchemaStore | undefined,
} = {}) {
  const kafka = new FakeKafka()
  const opened = kafka.reader()
  if (read !== undefined) kafka.reader = () => ({ ...opened, read })
  const { stream, readers, acts, end } = consoleOn(kafka, { redact })
  const logged: string[] = []
  const log = pino({ level: 'error' }, { write: (line) => void logged.push(line) })
  const stopping = new AbortController()
  const { signal } = stopping
  const none = () => undefined
  const isDeclared = () => true
  const jobsDeps: JobsDeps = { acts, readers, log, nowMs: Date.now, signal, isDeclared, onActed: none, onFault: none }
  const openReader = () => kafka.reader()
  const limits = { maxFollowers: 20, sharing: UNSHARED, followerMaxBytes: 2 ** 20 }
  const hubs = new Hubs({ readers, openReader, ...limits, log, signal, onSent: none, onCut: none })
  const statuses = new Statuses(readers, 'group', { statuses: async () => new Map() }, signal)
  const jobs = new Jobs(jobsDeps)
  const views = { hubs, statuses, schemas }
  const table = routes({ config, readers, acts, jobs, jobsDeps, ...views, log, nowMs: Date.now, onScanned: none })
  const acme = { streams: ['events', 'late'], keys: KEYS, redact: { events: redact }, schemas: { events: {} } }
  const lasting = new Set<(problem: Problem) => void>()
  const revoke = (problem: Problem): void => {
    for (const end of lasting) end(problem)
  }
  const app = createApp({
    routes: table,
    access: {
      authorise: authoriseByKey(tenantsOf({ tenants: { acme } })),
      whileAllowed: (_, ended) => {
        lasting.add(ended)
        return () => void lasting.delete(ended)
      },
    },
    isAuthOn: true,
    login: undefined,
    page: { answer: async () => undefined },
    metrics: createMetrics(table.map(({ name }) => name)),
    log,
    isDraining: () => false,
    kafkaFault: none,
  })
  ending.push(
    end,
    () => hubs.close(),
    () => stopping.abort(),
  )
  /** With a body, it is a POST. */
  const call = async (path: string, { body, headers, key = 'op', signal: gone }: Asked = {}): Promise<Response> =>
    app.request(`/v1/streams${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${made.get(key)}`, 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(gone && { signal: gone }),
    })
  const ask = async (path: string, body?: unknown) => {
    const answer = await call(`/events/${path}`, { body })
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
  }
  const append = (given: Given = {}) => kafka.append(outgoing(given))
  const letter = (given: Given = {}, reason = 'handler failed', handler = 'a@1') =>
    append({ topic: DLQ, headers: { 'kt-error': JSON.stringify({ reason, message: 'no', handler }) }, ...given })
  const actNames = async () => ((await ask('acts')).body['acts'] as { act: string }[]).map(({ act }) => act)
  return { kafka, stream, readers, acts, hubs, logged, call, ask, append, letter, actNames, revoke }
}

interface Asked {
  body?: unknown
  headers?: Record<string, string>
  key?: string
  signal?: AbortSignal
}

test('a key is told the streams that it is for', async () => {
  const { call } = consoleIn()
  const streams = async (key: string) => {
    const { streams: told } = (await (await call('', { key })).json()) as { streams: { stream: string }[] }
    return told.map(({ stream }) => stream)
  }
  expect([await streams('op'), await streams('narrow')]).toEqual([['events', 'late'], ['events']])
})

test('the parameters of every path are described', () => {
  const { paths } = openApi(routes({} as RouteDeps), true) as { paths: Record<string, Record<string, Operation>> }
  interface Operation {
    parameters: { name: string; in: string; description?: string; schema?: object }[]
  }
  const inPaths = Object.entries(paths).map(([path, operations]) => {
    const described = Object.values(operations).map(({ parameters }) =>
      parameters
        .filter((one) => one.in === 'path' && one.description !== undefined && one.schema !== undefined)
        .map(({ name }) => `{${name}}`),
    )
    return [path, described]
  })
  expect(inPaths).toEqual(
    Object.entries(paths).map(([path, operations]) => [
      path,
      Object.values(operations).map(() => path.match(/\{\w+\}/g) ?? []),
    ]),
  )
  expect(Object.keys(paths)).toContain('/v1/streams/{stream}/schemas/{type}/{version}')
})

describe('data that is masked', () => {
  test('cannot be searched', async () => {
    const { ask, append } = consoleIn({ redact: ['/ssn'] })
    append({ value: '{"ssn":1}' })
    for (const where of ['/ssn=1', '/n=1']) {
      const { status, body } = await ask(`records?where=${where}`)
      expect([status, JSON.stringify(body).includes('records')]).toEqual([403, false])
    }
  })

  test('is not shown of an edit, whoever reads what was done', async () => {
    const { kafka, ask, letter } = consoleIn({ redact: ['/ssn'] })
    letter()
    expect((await ask('dead-letters/0/0/redrive', { edit: { data: { ssn: 's3cret' } } })).status).toBe(201)
    expect(kafka.records(INPUT)[0]?.value?.toString()).toBe('{"ssn":"s3cret"}')
    const { body } = await ask('acts')
    expect(body).toMatchObject({ acts: [{ act: 'redrive', by: 'op', letters: [[0, 0, 1]] }], complete: true })
    for (const path of ['acts', 'dead-letters/0/0', 'records', 'events/e1']) {
      const { status, body: shown } = await ask(path)
      expect([status, JSON.stringify(shown).includes('s3cret')], path).toEqual([200, false])
    }
  })
})

describe('records', () => {
  test('are found by their data, as text and as numbers, and by their headers', async () => {
    const { ask, append } = consoleIn()
    append({ value: '{"a":"b=c","n":1}' })
    append({ value: '{"a":"b","n":1}', headers: { 'x-of': 'a:b' } })
    const offsets = async (query: string) =>
      ((await ask(`records?${query}`)).body['records'] as { offset: number }[]).map(({ offset }) => offset)
    expect(await offsets('where=/a=b=c')).toEqual([0])
    expect(await offsets('where=/n=1&where=/a=b')).toEqual([1])
    expect(await offsets('header=x-of:a:b')).toEqual([1])
    expect(await offsets('where=/n=2')).toEqual([])
  })

  test.each(['records?offset=1', 'events', 'events?partition=0', 'events?offset=0'])(
    '%s does not say which, and is refused',
    async (path) => {
      expect((await consoleIn().ask(path)).status).toBe(400)
    },
  )

  test('an event is found by its receipt or its trace, but not by both', async () => {
    const { ask, append } = consoleIn()
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
    append({ id: 'e0' })
    append({ headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` } })
    for (const query of ['partition=0&offset=1', `traceId=${traceId}`])
      expect((await ask(`events?${query}`)).body).toMatchObject({ events: [{ id: 'e1' }] })
    expect((await ask(`events?traceId=${traceId}&partition=0&offset=1`)).status).toBe(400)
  })
})

describe('schemas', () => {
  async function storeOf(state: ReturnType<SchemaStore['state']> = { ok: true }): Promise<SchemaStore> {
    const catalog = new Catalog()
    const text = (version: number) => ({
      subject: 'acme.events-a/b c',
      version,
      bytes: Buffer.from(JSON.stringify({ title: `version ${version}`, type: 'object' })),
      place: '',
    })
    await catalog.replace([text(1), text(3)], () => true)
    return {
      find: (subject) => catalog.subjects.get(subject) ?? (state.ok ? undefined : 'unknown'),
      subjects: () => catalog.subjects.keys(),
      state: () => state,
      versions: () => 2,
      mayLag: false,
      start: async () => undefined,
      stop: () => undefined,
    }
  }

  test('one is given in full, by its type and version', async () => {
    const { call } = consoleIn({ schemas: await storeOf() })
    const of = async (path: string) => {
      const answer = await call(`/events/schemas/${path}`)
      return [answer.status, await answer.json()] as const
    }
    expect(await of('a%2Fb%20c/3')).toEqual([
      200,
      {
        type: 'a/b c',
        subject: 'acme.events-a/b c',
        version: 3,
        draft: '2020-12',
        document: { title: 'version 3', type: 'object' },
      },
    ])
    const missing = ['a%2Fb%20c/2', 'a%2Fb%20c/0', 'a%2Fb%20c/03', 'a%2Fb%20c/3e0', 'a%2Fb%20c/latest', 'other/1']
    for (const path of missing)
      expect(await of(path)).toMatchObject([404, { type: 'urn:kafkatrace:problem:schema-not-found' }])
    expect(await of('a%2Fb%20c/2')).toMatchObject([404, { detail: expect.stringContaining('The latest is 3.') }])
  })

  test('one that may be there, but is not read yet, is not said to be missing', async () => {
    const { call } = consoleIn({ schemas: await storeOf({ ok: false, reason: 's3cret' }) })
    const answer = await call('/events/schemas/other/1')
    const text = await answer.text()
    expect([answer.status, text.includes('schema-unavailable'), text.includes('s3cret')]).toEqual([503, true, false])
    expect(answer.headers.get('retry-after')).toBe('5')
  })

  test('as many records are counted as are asked for, and no more than a request may read', async () => {
    const { append, ask } = consoleIn()
    for (let index = 0; index < 3; index++) append()
    expect((await ask('schemas?most=2')).body).toMatchObject({ read: { records: 2, complete: false } })
    expect((await ask('schemas')).body).toMatchObject({ read: { records: 3, complete: true } })
    for (const most of [0, 1_000_001]) expect((await ask(`schemas?most=${most}`)).status).toBe(400)
  })
})

describe('a dead letter', () => {
  test.each(['0/1', '1/0', '0/x', 'x/0', '0/-1', '-0/0', '0/0e0', '0/0x0'])('at %s is not there', async (place) => {
    const { ask, letter } = consoleIn()
    letter()
    for (const body of [undefined, { reason: 'r' }])
      expect((await ask(`dead-letters/${place}${body === undefined ? '' : '/discard'}`, body)).status).toBe(404)
  })

  test('is acted on once, and says by whom and why', async () => {
    const { kafka, ask, letter } = consoleIn()
    letter()
    const act = { act: 'discard', by: 'op', reason: 'a test' }
    expect(await ask('dead-letters/0/0')).toMatchObject({ status: 200, body: { state: 'open' } })
    const first = await ask('dead-letters/0/0/discard', { reason: 'a test' })
    expect(first).toMatchObject({ status: 201, body: { done: true, act } })
    expect(await ask('dead-letters/0/0/redrive', {})).toMatchObject({ status: 200, body: { done: false, act } })
    expect((await ask('dead-letters/0/0')).body).toMatchObject({ state: 'discarded', act })
    expect(kafka.records(INPUT)).toEqual([])
  })

  test('is counted in the state that is asked for, open unless it is said', async () => {
    const { ask, letter } = consoleIn()
    for (const id of ['e0', 'e1', 'e2']) letter({ id })
    await ask('dead-letters/0/0/discard', { reason: 'a test' })
    await ask('dead-letters/0/1/redrive', {})
    const groups = async (query: string) =>
      ((await ask(`dead-letters${query}`)).body['groups'] as { state: string; count: number }[])
        .map(({ state, count }) => `${count} ${state}`)
        .toSorted()
    expect(await groups('')).toEqual(['1 open'])
    expect(await groups('?state=discarded')).toEqual(['1 discarded'])
    expect(await groups('?state=all')).toEqual(['1 discarded', '1 open', '1 redriven'])
  })
})

test.each([
  ['jobs', { filter: { typ: 'x' } }, '/filter/typ'],
  ['jobs', { filter: {}, dryrun: true }, '/dryrun'],
  ['jobs', { filter: {}, ratePerSecond: 1e9 }, '/ratePerSecond'],
  ['jobs', { filter: {}, ratePerSecond: 0 }, '/ratePerSecond'],
  ['jobs', { filter: {}, action: 'discard' }, '/reason'],
  ['jobs', { filter: {}, action: 'discard', reason: '' }, '/reason'],
  ['jobs', {}, '/filter'],
  ['dead-letters/0/0/redrive', { edit: { typ: 'x' } }, '/edit/typ'],
  ['dead-letters/0/0/redrive', { edits: {} }, '/edits'],
  ['dead-letters/0/0/discard', {}, '/reason'],
  ['dead-letters/0/0/discard', { reason: '' }, '/reason'],
  ['pause', {}, '/reason'],
  ['pause', { reason: '' }, '/reason'],
  ['pause', { reason: 'r', for: '1h' }, '/for'],
  ['resume', { until: 'now' }, '/until'],
])('%s with %j is refused for %s, and does nothing', async (path, body, pointer) => {
  const { kafka, ask, letter } = consoleIn()
  letter()
  const answer = await ask(path, body)
  expect(answer.status).toBe(422)
  expect((answer.body['errors'] as { pointer: string }[]).map((one) => one.pointer)).toContain(pointer)
  expect(kafka.transactions).toEqual([])
})

describe('a job', () => {
  const SLOW = { filter: {}, ratePerSecond: 0.001 }

  /** Letters of which one was acted on; a job of this rate then waits for long. */
  async function waiting(letters: number) {
    const parts = consoleIn()
    for (let index = 0; index < letters; index++) parts.letter({ id: `e${index}` })
    const started = await parts.ask('jobs', SLOW)
    expect(started).toMatchObject({ status: 201, body: { state: 'running', by: 'op', acted: 0, of: letters } })
    const path = `jobs/${started.body['id']}`
    await until(async () => (await parts.ask(path)).body['acted'] === 1)
    return { ...parts, path }
  }

  test('is cancelled once, and says by whom and why', async () => {
    const { kafka, ask, path } = await waiting(3)
    const cancelled = await ask(`${path}/cancel`, { reason: 'wrong' })
    expect(cancelled).toMatchObject({
      status: 200,
      body: { state: 'cancelled', endedBy: 'op', detail: 'wrong', acted: 1 },
    })
    const records = kafka.records(ACTS).length
    expect(await ask(`${path}/cancel`, { reason: 'again' })).toEqual(cancelled)
    expect(await ask(path)).toEqual(cancelled)
    expect((await ask('jobs')).body).toEqual({ jobs: [cancelled.body] })
    expect(kafka.records(ACTS)).toHaveLength(records)
  })

  test('that is not known is 404', async () => {
    const { kafka, ask } = consoleIn()
    for (const [path, body] of [['jobs/nope'], ['jobs/nope/cancel', {}]] as const)
      expect(await ask(path, body)).toMatchObject({
        status: 404,
        body: { type: 'urn:kafkatrace:problem:job-not-found' },
      })
    expect((await kafka.reader().topics()).has(ACTS)).toBe(false)
  })

  test('is not begun while ten run, until one of them has ended', async () => {
    const { ask, path } = await waiting(30)
    for (let index = 2; index <= 10; index++) expect((await ask('jobs', SLOW)).status).toBe(201)
    expect((await ask('jobs', SLOW)).status).toBe(409)
    expect((await ask('jobs')).body['jobs']).toHaveLength(10)
    await ask(`${path}/cancel`, {})
    expect((await ask('jobs', SLOW)).status).toBe(201)
  })

  test('that is only counted concerns open letters that match exactly', async () => {
    const { kafka, ask, letter } = consoleIn()
    letter({ id: 'e0', type: 'order.placed' }, 'handler failed', 'a@1')
    letter({ id: 'e1', type: 'order.paid' }, 'out of attempts', 'b@1')
    letter({ id: 'e2', type: 'my.order.placed' }, 'handler failed', 'b@2')
    letter({ id: 'e3', type: 'order.placed' }, 'handler failed', 'bb@1')
    await ask('dead-letters/0/3/discard', { reason: 'a test' })
    const written = kafka.transactions.length
    const counted = async (filter: object, more: object = {}) => {
      const { status, body } = await ask('jobs', { filter, dryRun: true, ...more })
      return [status, body['matches'], body['complete']]
    }
    expect(await counted({})).toEqual([200, 3, true])
    expect(await counted({ handler: 'b' })).toEqual([200, 2, true])
    expect(await counted({ handler: 'b@1' })).toEqual([200, 1, true])
    expect(await counted({ type: 'order.*' })).toEqual([200, 2, true])
    expect(await counted({ type: 'order.placed' })).toEqual([200, 1, true])
    expect(await counted({ reason: 'out of attempts', type: 'my.*' })).toEqual([200, 0, true])
    expect(await counted({ id: 'e1' }, { action: 'discard' })).toEqual([200, 1, true])
    expect(kafka.transactions).toHaveLength(written)
  })

  test('acts on what its filter matches, and nothing else', async () => {
    const { kafka, ask, letter } = consoleIn()
    letter({ id: 'e0', type: 'order.placed' })
    letter({ id: 'e1', type: 'my.order.placed' })
    const { body } = await ask('jobs', { filter: { type: 'order.*' }, reason: 'a test' })
    await until(async () => (await ask(`jobs/${body['id']}`)).body['state'] === 'done')
    expect((await ask(`jobs/${body['id']}`)).body).toMatchObject({ acted: 1, looked: 2, of: 2, reason: 'a test' })
    expect(kafka.records(INPUT)).toHaveLength(1)
    expect((await ask('dead-letters/0/1')).body['state']).toBe('open')
  })

  test.each([
    ['dead-letters/0/1/redrive', {}, 201, { done: true }],
    ['dead-letters/0/1/discard', { reason: 'a test' }, 201, { done: true }],
    ['jobs', SLOW, 201, { state: 'running' }],
    ['cancel', {}, 200, { state: 'cancelled' }],
  ])('%s is answered though nothing can be read once it was done', async (path, body, status, expected) => {
    const { kafka, ask, path: job } = await waiting(3)
    blindOnceWritten(kafka)
    expect(await ask(path === 'cancel' ? `${job}/${path}` : path, body)).toMatchObject({ status, body: expected })
  })
})

/** After the next transaction, nothing can be read. */
function blindOnceWritten(kafka: FakeKafka): void {
  kafka.onStep = async ({ name }) => {
    if (name === 'answer') kafka.latency = () => Promise.reject(new Error('no leader'))
    return undefined
  }
}

describe('a pause', () => {
  test('is told to consumers, kept with who and why, and ended by a resume', async () => {
    const { kafka, ask } = consoleIn()
    const paused = { by: 'op', reason: 'a test' }
    expect(await ask('pause', { reason: 'a test' })).toMatchObject({ status: 200, body: { stream: 'events', paused } })
    expect((await ask('status')).body).toMatchObject({ paused })
    expect((await ask('resume', {})).body).not.toHaveProperty('paused')
    expect((await ask('status')).body).not.toHaveProperty('paused')
    expect(kafka.records(CONTROL_TOPIC).map(({ value }) => JSON.parse(String(value)))).toMatchObject([
      { state: 'paused', ...paused },
      { state: 'running', by: 'op', reason: '' },
    ])
    expect((await ask('acts')).body).toMatchObject({ acts: [{ act: 'resume' }, { act: 'pause', ...paused }] })
    expect((await ask('acts?limit=1')).body).toMatchObject({ acts: [{ act: 'resume' }], complete: false })
  })

  test.each([
    ['pause', { reason: 'a test' }, 'The stream is paused, and its status cannot be read: '],
    ['resume', {}, 'The stream is resumed, and its status cannot be read: '],
  ])('or resume whose status cannot be read is done, and the answer says so: %s', async (act, body, words) => {
    const { readers, ask, actNames } = consoleIn()
    readers.meta.group = () => Promise.reject(new Error('no coordinator'))
    expect(await ask(act, body)).toMatchObject({
      status: 503,
      body: {
        type: 'urn:kafkatrace:problem:kafka-unavailable',
        detail: `${words}Kafka cannot be read now: no coordinator.`,
      },
    })
    expect(await actNames()).toEqual([act])
  })

  test('that was not done is not said to be', async () => {
    const { kafka, ask, actNames } = consoleIn()
    kafka.refuses = ({ topic }) => (topic === CONTROL_TOPIC ? { reason: 'not allowed', tooLarge: false } : undefined)
    const { status, body } = await ask('pause', { reason: 'a test' })
    expect([status, body['detail'], body['outcome']]).toEqual([503, 'Kafka refused it: not allowed.', 'not stored'])
    expect(await actNames()).toEqual([])
  })
})

describe('outcomes', () => {
  /** A client that reads as they come. */
  function follower({ call }: Pick<ReturnType<typeof consoleIn>, 'call'>) {
    return async (query: string, headers: Record<string, string> = {}) => {
      const gone = new AbortController()
      ending.push(() => gone.abort())
      const answer = await call(`/events/outcomes${query}`, { headers, signal: gone.signal })
      expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
      const lines: string[] = []
      const ended = eachLine(answer.body as ReadableStream<Uint8Array>, (line) => void lines.push(line))
      const ids = () =>
        lines.flatMap((line) =>
          line.startsWith('data: {"outcome"') ? [(JSON.parse(line.slice(6)) as Outcome).id] : [],
        )
      return { ids, ended }
    }
  }

  test('are only those that are asked for', async () => {
    const parts = consoleIn()
    const follow = follower(parts)
    const wanted = [
      ['outcome=dead', ['d1', 'd2']],
      ['outcome=processed', ['p1', 'p2']],
      ['reason=out of attempts', ['d2']],
      ['type=order.*', ['p1', 'd1']],
      ['type=order.paid', ['d1']],
      ['source=/other', ['p2']],
      ['subject=s', ['p2']],
      ['key=k', ['p1', 'd1']],
      ['id=d1', ['d1']],
      ['key=k&outcome=dead', ['d1']],
      ['id=nope', []],
    ] as [string, string[]][]
    const followers = await Promise.all(wanted.map(([query]) => follow(`?${query}`)))
    const all = await follow('')
    parts.append({ topic: PROCESSED, id: 'p1', key: 'k' })
    parts.letter({ id: 'd1', type: 'order.paid', key: 'k' })
    parts.append({ topic: PROCESSED, id: 'p2', type: 'my.order.x', source: '/other', headers: { ce_subject: 's' } })
    parts.letter({ id: 'd2', type: 'my.order.x' }, 'out of attempts')
    await until(() => all.ids().length === 4)
    await parts.hubs.close()
    await Promise.all(followers.map(({ ended }) => ended))
    expect(followers.map(({ ids }, index) => [wanted[index]?.[0], ids()])).toEqual(wanted)
  })

  test.each([
    ['', { 'last-event-id': '1_0' }, ['b', 'c']],
    ['?since=1_0', {}, ['b', 'c']],
    ['?since=0_0', { 'last-event-id': '1_0' }, ['b', 'c']],
    ['?since=0_0', {}, ['a', 'b', 'c']],
    ['', {}, ['c']],
    ['', { 'last-event-id': '' }, ['c']],
  ])('begin where the client was: %p and %j', async (query, headers, expected) => {
    const parts = consoleIn()
    for (const id of ['a', 'b']) parts.append({ topic: PROCESSED, id })
    const one = await follower(parts)(query, headers as Record<string, string>)
    parts.append({ topic: PROCESSED, id: 'c' })
    await until(() => one.ids().includes('c'))
    expect(one.ids()).toEqual(expected)
  })

  test.each([
    ['?since=x', {}, 400],
    ['', { 'last-event-id': 'x' }, 400],
    ['?since=9_0', {}, 409],
  ])('do not begin at a position that is none: %p and %j', async (query, headers, status) => {
    const { call, hubs } = consoleIn()
    const answer = await call(`/events/outcomes${query}`, { headers: headers as Record<string, string> })
    expect([answer.status, hubs.followers]).toEqual([status, 0])
  })
})

describe('a wait for an outcome', () => {
  const wait = (query: string) => `events/e1/outcome?${query}`

  test('ends with that of the source and the generation', async () => {
    const { hubs, ask, append } = consoleIn()
    for (const source of ['/a', '/b']) append({ source })
    const asked = ask(wait('wait=60&source=/b&generation=1'))
    await until(() => hubs.followers === 1)
    const again = { 'kt-generation': '1' }
    append({ topic: PROCESSED, source: '/a', headers: again })
    append({ topic: PROCESSED, source: '/b' })
    append({ topic: PROCESSED, source: '/b', id: 'e2', headers: again })
    append({ topic: PROCESSED, source: '/b', headers: again })
    const { status, body } = await asked
    expect([status, body['state']]).toEqual([200, 'processed'])
    expect(body['outcome']).toMatchObject({ offset: 3, generation: 1, event: { id: 'e1', source: '/b' } })
    expect(hubs.followers).toBe(0)
  })

  test('is for the newest generation, unless one is named', async () => {
    const { ask, append, letter } = consoleIn()
    append()
    letter()
    expect((await ask('dead-letters/0/0/redrive', {})).status).toBe(201)
    expect((await ask(wait(''))).body).toEqual({ state: 'pending' })
    const { body } = await ask(wait('generation=0'))
    expect(body).toMatchObject({ state: 'dead', outcome: { role: 'dlq', error: { reason: 'handler failed' } } })
    expect(await ask(wait('generation=2'))).toMatchObject({
      status: 404,
      body: { detail: 'The event e1 was found, but not its generation 2: it has 0, 1.' },
    })
  })

  test('of no time follows nothing', async () => {
    const { hubs, ask, append } = consoleIn()
    const of = hubs.of.bind(hubs)
    let followed = 0
    hubs.of = (stream, caller) => {
      followed++
      return of(stream, caller)
    }
    expect((await ask(wait('wait=0'))).status).toBe(404)
    append()
    expect(await ask(wait('wait=0'))).toMatchObject({ status: 200, body: { state: 'pending' } })
    append({ topic: PROCESSED })
    expect((await ask(wait(''))).body).toMatchObject({ state: 'processed', outcome: { offset: 0, role: 'processed' } })
    expect(followed).toBe(0)
  })

  test.each([
    [true, 200],
    [false, 404],
  ])('that ends without an outcome says how the event is (it came in: %p)', async (comesIn, status) => {
    const time = simulateTime(1)
    try {
      const { hubs, ask, append } = consoleIn()
      let answer: Awaited<ReturnType<typeof ask>> | undefined
      void ask(wait('wait=30')).then((one) => {
        answer = one
      })
      expect(await time.until(() => hubs.followers === 1, 1_000)).toBe(true)
      if (comesIn) append()
      await time.pass(29_000)
      expect(answer).toBeUndefined()
      await time.pass(2_000)
      expect(answer?.status).toBe(status)
      expect(answer?.body['state']).toBe(comesIn ? 'pending' : undefined)
    } finally {
      time.end()
    }
  })
})

test('a wait for an outcome ends with the key', async () => {
  const { hubs, call, revoke } = consoleIn()
  const asked = call('/events/events/e1/outcome?wait=30')
  await until(() => hubs.followers === 1)
  revoke({ kind: 'unauthenticated', detail: 'The key op is not accepted any more.' })
  const answer = await asked
  expect([answer.status, await answer.json()]).toMatchObject([401, { detail: 'The key op is not accepted any more.' }])
  expect(hubs.followers).toBe(0)
})

describe('a search as lines', () => {
  const LINES = { accept: 'application/x-ndjson' }

  async function linesOf(answer: Response) {
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, LINES.accept])
    const lines: Record<string, unknown>[] = []
    await eachLine(answer.body as ReadableStream<Uint8Array>, (line) => void lines.push(JSON.parse(line)))
    return lines
  }

  test('ends with the result, or with the problem', async () => {
    const { call, append } = consoleIn()
    append()
    const found = await linesOf(await call('/events/events/e1', { headers: LINES }))
    expect(found.at(-1)).toMatchObject({ result: { events: [{ id: 'e1', state: 'pending' }] } })
    const missing = await linesOf(await call('/events/events/nope', { headers: LINES }))
    const problem = { status: 404, type: 'urn:kafkatrace:problem:event-not-found', complete: true }
    expect(missing.at(-1)).toMatchObject({ problem })
  })

  test('is one only where the client accepts it', async () => {
    const { call, append } = consoleIn()
    append()
    for (const accept of ['application/json', '*/*']) {
      const answer = await call('/events/events/e1', { headers: { accept } })
      expect(await answer.json()).toMatchObject({ events: [{ id: 'e1' }] })
    }
  })

  test('tells what failed unexpectedly to the log, and not to the client', async () => {
    const { acts, call, append, letter, logged } = consoleIn()
    append()
    letter()
    acts.of = () => {
      throw new Error('s3cret')
    }
    const lines = await linesOf(await call('/events/events/e1', { headers: LINES }))
    expect(lines.at(-1)).toMatchObject({ problem: { status: 500, type: 'urn:kafkatrace:problem:internal' } })
    expect(JSON.stringify(lines)).not.toContain('s3cret')
    expect(logged.join()).toContain('s3cret')
  })

  test.each([
    ['its answer is not read any more', LINES, 'cancel'],
    ['it is as lines', LINES, 'abort'],
    ['it is not', {}, 'abort'],
  ])('ends when the client is gone: %s', async (_, headers, how) => {
    const { readers, call, append } = consoleIn({
      read: (_ranges, _onRecord, { signal } = {}) =>
        new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
    })
    append()
    const gone = new AbortController()
    const asked = call('/events/events/e1', { headers: headers as Record<string, string>, signal: gone.signal })
    await until(() => readers.busy === 1)
    if (how === 'cancel') await (await asked).body?.cancel()
    else gone.abort()
    await until(() => readers.busy === 0, { timeoutMs: 2_000 })
  })
})
