import { describe, expect, test } from 'bun:test'
import pino from 'pino'
import { type Authorise, authoriseByKey, authoriseNobody } from '../../shared/http/authorise.ts'
import { ROLES, type Role, type TenantsFile, tenantsOf } from '../../shared/http/tenants.ts'
import { UNCHANGING } from '../../shared/testing/access.ts'
import { keyring } from '../../shared/testing/keyring.ts'
import { createApp } from './app.ts'
import { createMetrics } from './metrics.ts'
import type { Call, Route, RouteDeps } from './route.ts'
import { routes } from './routes.ts'

/** Who may do what: every route, with every kind of key, for every kind of tenant and stream. */

/** The role that each route needs. It is written here a second time, so that a new route, or another role, has to be decided here, too. */
const ROUTES: Record<string, [method: 'GET' | 'POST', path: string, role: Role | 'any', body?: object]> = {
  getAccess: ['GET', '/v1/access', 'any'],
  listStreams: ['GET', '/v1/streams', 'read'],
  findEvent: ['GET', '/v1/streams/:stream/events/:id', 'read'],
  sendEvent: ['POST', '/v1/streams/:stream/events', 'send', { type: 'greeting' }],
  findEvents: ['GET', '/v1/streams/:stream/events', 'read'],
  waitForOutcome: ['GET', '/v1/streams/:stream/events/:id/outcome', 'read'],
  followOutcomes: ['GET', '/v1/streams/:stream/outcomes', 'read'],
  browseRecords: ['GET', '/v1/streams/:stream/records', 'read'],
  groupDeadLetters: ['GET', '/v1/streams/:stream/dead-letters', 'read'],
  getDeadLetter: ['GET', '/v1/streams/:stream/dead-letters/:partition/:offset', 'read'],
  redriveDeadLetter: ['POST', '/v1/streams/:stream/dead-letters/:partition/:offset/redrive', 'operate', {}],
  discardDeadLetter: [
    'POST',
    '/v1/streams/:stream/dead-letters/:partition/:offset/discard',
    'operate',
    { reason: 'none' },
  ],
  startJob: ['POST', '/v1/streams/:stream/jobs', 'operate', { filter: {} }],
  listJobs: ['GET', '/v1/streams/:stream/jobs', 'read'],
  getJob: ['GET', '/v1/streams/:stream/jobs/:job', 'read'],
  cancelJob: ['POST', '/v1/streams/:stream/jobs/:job/cancel', 'operate', {}],
  listActs: ['GET', '/v1/streams/:stream/acts', 'read'],
  getStatus: ['GET', '/v1/streams/:stream/status', 'read'],
  getHistory: ['GET', '/v1/streams/:stream/history', 'read'],
  listSchemas: ['GET', '/v1/streams/:stream/schemas', 'read'],
  getSchema: ['GET', '/v1/streams/:stream/schemas/:type/:version', 'read'],
  pauseStream: ['POST', '/v1/streams/:stream/pause', 'operate', { reason: 'none' }],
  resumeStream: ['POST', '/v1/streams/:stream/resume', 'operate', {}],
}

/** These tell nothing but what the service is: anybody may read them. */
const PUBLIC = ['/', '/assets/:name', '/openapi.json', '/docs']

const { made, entry } = keyring()

const file = {
  tenants: {
    acme: {
      streams: ['events', 'orders'],
      keys: [
        entry('plain'),
        { ...entry('sender'), roles: ['send'] },
        { ...entry('reader'), roles: ['read'] },
        { ...entry('worker'), roles: ['operate'] },
        { ...entry('both'), roles: ['read', 'operate'] },
        { ...entry('narrow'), roles: [...ROLES], streams: ['orders'] },
      ],
    },
    other: { streams: ['events', 'secret'], keys: [{ ...entry('stranger'), roles: [...ROLES] }] },
    gone: { enabled: false, streams: ['events'], keys: [{ ...entry('off'), roles: [...ROLES] }] },
  },
  operators: [
    { ...entry('watch'), roles: ['read'] },
    { ...entry('night'), roles: ['operate'] },
    { ...entry('chief'), roles: ['read', 'operate'] },
  ],
} satisfies TenantsFile

const log = pino({ level: 'silent' })

/** The console’s app; each route only says that it was reached. */
function appWith(authorise: Authorise = authoriseByKey(tenantsOf(file)), isDraining = () => false, run?: Route['run']) {
  const table = routes({} as RouteDeps).map((route) => ({
    ...route,
    run:
      run ??
      (async ({ tenant, streams, by }: Call) => ({
        status: 200,
        body: { reached: route.name, tenant: tenant.name, streams: [...streams], by },
      })),
  }))
  return createApp({
    routes: table,
    access: { ...UNCHANGING, authorise },
    isAuthOn: true,
    login: undefined,
    page: { answer: async (_, path) => (path === '/assets/nothing.js' ? undefined : new Response('the page')) },
    metrics: createMetrics(table.map(({ name }) => name)),
    log,
    isDraining,
    kafkaFault: () => undefined,
  })
}

const app = appWith()

interface Asking {
  key?: string | undefined
  tenant?: string | undefined
  stream?: string
  method?: string
  headers?: Record<string, string>
  query?: string
}

function ask(name: string, { key, tenant, stream = 'events', method, headers = {}, query = '' }: Asking, of = app) {
  const [own, path, , body] = ROUTES[name] as (typeof ROUTES)[string]
  const at = path
    .replace(':stream', stream)
    .replace(':id', 'some')
    .replace(':job', 'some')
    .replace(':type', 'some')
    .replace(':version', '1')
    .replace(':partition', '0')
    .replace(':offset', '7')
  const secret = key === undefined ? undefined : (made.get(key) ?? key)
  return of.request(`${at}?${tenant === undefined ? '' : `tenant=${tenant}`}${query}`, {
    method: method ?? own,
    headers: {
      ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
}

/** The tenant that was reached, else the status and the problem. */
async function answerOf(response: Response): Promise<string> {
  const body = (await response.json()) as { tenant?: string; reached?: string; type?: string }
  if (response.status === 200) return body.tenant ?? ''
  return `${response.status} ${body.type?.split(':').pop()}`
}

test('every route that the app has is in the table above, with its role', () => {
  const table = routes({} as RouteDeps)
  expect(Object.fromEntries(table.map(({ name, role }) => [name, role]))).toEqual(
    Object.fromEntries(Object.entries(ROUTES).map(([name, [, , role]]) => [name, role])),
  )
  const registered = app.routes.map(({ method, path }) => `${method} ${path}`)
  const known = Object.values(ROUTES).map(([method, path]) => `${method} ${path}`)
  expect(registered.sort()).toEqual([...known, ...PUBLIC.map((path) => `GET ${path}`)].sort())
})

const NO = '403 forbidden'
const UNKNOWN = '401 unauthenticated'
const NO_STREAM = '404 unknown-stream'
const NO_TENANT = '404 unknown-tenant'
const UNNAMED = '400 malformed'

/** `list` is what routes without a stream answer, where that differs. */
type Case = [
  key: string | undefined,
  tenant: string | undefined,
  stream: string,
  read: string,
  operate: string,
  list?: string,
]

const CASES: Case[] = [
  [undefined, undefined, 'events', UNKNOWN, UNKNOWN],
  [undefined, 'acme', 'nope', UNKNOWN, UNKNOWN],
  ['kt.both.wrong', undefined, 'events', UNKNOWN, UNKNOWN],
  ['kt.chief.wrong', 'acme', 'events', UNKNOWN, UNKNOWN],
  ['nonsense', 'other', 'nope', UNKNOWN, UNKNOWN],
  ['plain', undefined, 'events', NO, NO],
  ['plain', 'acme', 'events', NO, NO],
  ['plain', 'other', 'events', NO, NO],
  ['sender', undefined, 'events', NO, NO],
  ['sender', undefined, 'nope', NO, NO],
  ['sender', 'nope', 'events', NO, NO],
  ['reader', undefined, 'events', 'acme', NO],
  ['reader', 'acme', 'orders', 'acme', NO],
  ['reader', undefined, 'nope', NO_STREAM, NO, 'acme'],
  ['reader', undefined, 'secret', NO_STREAM, NO, 'acme'],
  ['reader', 'other', 'events', NO, NO],
  ['reader', 'nope', 'events', NO, NO],
  ['reader', '', 'events', NO, NO],
  ['worker', undefined, 'events', NO, 'acme'],
  ['worker', undefined, 'nope', NO, NO_STREAM],
  ['worker', 'other', 'secret', NO, NO],
  ['both', undefined, 'events', 'acme', 'acme'],
  ['both', 'acme', 'orders', 'acme', 'acme'],
  ['both', 'other', 'events', NO, NO],
  ['both', 'gone', 'events', NO, NO],
  ['narrow', undefined, 'orders', 'acme', 'acme'],
  ['narrow', undefined, 'events', NO, NO, 'acme'],
  ['narrow', undefined, 'nope', NO, NO, 'acme'],
  ['narrow', 'other', 'orders', NO, NO],
  ['stranger', undefined, 'events', 'other', 'other'],
  ['stranger', undefined, 'orders', NO_STREAM, NO_STREAM, 'other'],
  ['stranger', 'acme', 'events', NO, NO],
  ['off', undefined, 'events', NO, NO],
  ['off', 'gone', 'events', NO, NO],
  ['watch', undefined, 'events', UNNAMED, NO],
  ['watch', 'acme', 'events', 'acme', NO],
  ['watch', 'other', 'secret', 'other', NO],
  ['watch', 'gone', 'events', 'gone', NO],
  ['watch', 'acme', 'secret', NO_STREAM, NO, 'acme'],
  ['watch', 'nope', 'events', NO_TENANT, NO],
  ['night', undefined, 'events', NO, UNNAMED],
  ['night', 'acme', 'events', NO, 'acme'],
  ['night', 'gone', 'events', NO, 'gone'],
  ['night', 'nope', 'events', NO, NO_TENANT],
  ['night', 'acme', 'nope', NO, NO_STREAM],
  ['chief', undefined, 'events', UNNAMED, UNNAMED],
  ['chief', 'acme', 'orders', 'acme', 'acme'],
  ['chief', 'other', 'events', 'other', 'other'],
  ['chief', 'nope', 'nope', NO_TENANT, NO_TENANT],
  ['chief', '', 'events', NO_TENANT, NO_TENANT],
]

test('each key may ask what it is for', async () => {
  const { run } = routes({ config: { AUTH: 'on' } } as RouteDeps).find(({ name }) => name === 'getAccess') as Route
  const asked = appWith(undefined, undefined, run)
  const told = async (key: string | undefined, tenant?: string): Promise<unknown> => {
    const response = await ask('getAccess', { key, tenant }, asked)
    return response.status === 200 ? response.json() : answerOf(response)
  }
  const acme = { name: 'acme', enabled: true, streams: ['events', 'orders'] }
  const key = { auth: 'on', isLoggedIn: false, sends: false }
  expect(await told('sender')).toEqual({ ...key, by: 'sender', roles: ['send'], tenants: [acme] })
  expect(await told('both', 'acme')).toMatchObject({ roles: ['read', 'operate'], tenants: [acme] })
  expect(await told('narrow')).toMatchObject({ tenants: [{ ...acme, streams: ['orders'] }] })
  const all = [
    acme,
    { name: 'other', enabled: true, streams: ['events', 'secret'] },
    { name: 'gone', enabled: false, streams: ['events'] },
  ]
  expect(await told('night')).toEqual({ ...key, by: 'night', roles: ['operate'], tenants: all })
  expect(await told('chief', 'other')).toMatchObject({ tenants: all })
  expect(await told('chief', 'nope')).toBe(NO_TENANT)
  expect(await told(undefined)).toBe(UNKNOWN)
  expect(await told('kt.both.wrong')).toBe(UNKNOWN)
  expect(await told('both', 'other')).toBe(NO)
  expect(await told('off')).toBe(NO)
})

/** What a route of the role `send` answers: the keys that have it have no other one, or all. */
function sendOf(key: string | undefined, tenant: string | undefined, stream: string, read: string): string {
  if (read === UNKNOWN || ['narrow', 'stranger', 'off'].includes(key ?? '')) return read
  if (!['plain', 'sender'].includes(key ?? '') || (tenant ?? 'acme') !== 'acme') return NO
  return ['events', 'orders'].includes(stream) ? 'acme' : NO_STREAM
}

/** A key that has the role, and no other. */
const HAS = { send: 'sender', read: 'reader', operate: 'worker' } as const

describe.each(Object.keys(ROUTES).filter((name) => ROUTES[name]?.[2] !== 'any'))('%s', (name) => {
  const [, path, role] = ROUTES[name] as [method: string, path: string, role: Role]

  test('answers each kind of key as the table says, however the stream is written', async () => {
    const expected: Record<string, string> = {}
    const answered: Record<string, string> = {}
    for (const [key, tenant, stream, read, operate, list] of CASES) {
      const encoded = [...stream].map((one) => `%${one.charCodeAt(0).toString(16)}`).join('')
      for (const written of [stream, encoded]) {
        const what = `${key} asks for ${tenant ?? 'no tenant'}, ${written}`
        expected[what] =
          role === 'operate'
            ? operate
            : role === 'send'
              ? sendOf(key, tenant, stream, read)
              : path.includes(':stream')
                ? read
                : (list ?? read)
        answered[what] = await answerOf(await ask(name, { key, tenant, stream: written }))
      }
    }
    expect(answered).toEqual(expected)
  })

  test('tells nobody whether another tenant, or a stream of it, exists', async () => {
    const words = async (asking: Asking): Promise<unknown> => {
      const response = await ask(name, { ...asking, headers: { 'x-request-id': 'same' } })
      return { status: response.status, headers: [...response.headers], body: await response.text() }
    }
    for (const key of ['plain', 'reader', 'worker', 'both', 'narrow', 'off']) {
      expect(await words({ key, tenant: 'other' })).toEqual(await words({ key, tenant: 'nope' }))
      // Its own tenant, which is switched off, it is told of.
      if (key !== 'off') expect(await words({ key, tenant: 'gone' })).toEqual(await words({ key, tenant: 'nope' }))
      expect(await words({ key, tenant: 'other', stream: 'secret' })).toEqual(
        await words({ key, tenant: 'other', stream: 'nope' }),
      )
      expect(await words({ key, stream: 'secret' })).toEqual(await words({ key, stream: 'nope' }))
    }
    expect(await words({ key: 'narrow', stream: 'events' })).toEqual(await words({ key: 'narrow', stream: 'nope' }))
    expect(await words({ tenant: 'acme' })).toEqual(await words({ tenant: 'nope' }))
  })

  test('takes the key from X-API-Key or access_token, too, and refuses keys that differ', async () => {
    const id = HAS[role]
    const own = made.get(id) ?? ''
    const wrong = made.get(role === 'send' ? 'reader' : 'sender') ?? ''
    const header = (value: string) => ({ headers: { 'x-api-key': value } })
    expect(await answerOf(await ask(name, header(own)))).toBe('acme')
    expect(await answerOf(await ask(name, header(wrong)))).toBe(NO)
    expect(await answerOf(await ask(name, { query: `&access_token=${own}` }))).toBe('acme')
    expect(await answerOf(await ask(name, { query: `&access_token=${wrong}` }))).toBe(NO)
    expect(await answerOf(await ask(name, { key: id, ...header(own) }))).toBe('acme')
    expect(await answerOf(await ask(name, { key: id, ...header(wrong) }))).toBe('400 malformed')
    expect(await answerOf(await ask(name, { key: id, query: `&access_token=${wrong}` }))).toBe('400 malformed')
  })

  test('is of one tenant: two are refused', async () => {
    for (const query of ['&tenant=other', '&tenant=acme'])
      expect(await answerOf(await ask(name, { key: HAS[role], tenant: 'acme', query }))).toBe('400 invalid-parameters')
    // No operator sends.
    if (role === 'send') return
    expect(await answerOf(await ask(name, { key: 'chief', tenant: 'acme', query: '&tenant=other' }))).toBe(
      '400 invalid-parameters',
    )
  })

  test('no other method is answered, nor one that an X- header names', async () => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].filter(
      (one) => one !== ROUTES[name]?.[0],
    )) {
      const response = await app.request(path.replace(':stream', 'events').replace(':job', 'x'), { method })
      // Another route may have the path.
      expect([401, 405]).toContain(response.status)
    }
    const named = { 'x-http-method-override': 'POST', 'x-http-method': 'POST' }
    expect(await answerOf(await ask(name, { key: 'reader', headers: named }))).toBe(role === 'read' ? 'acme' : NO)
  })

  test('checks the key before it looks at parameters or at the body', async () => {
    const response = await ask(name, { query: '&nonsense=1', headers: { 'content-type': 'text/plain' } })
    expect(await answerOf(response)).toBe(UNKNOWN)
  })

  test('answers HEAD only to who may GET', async () => {
    if (role !== 'read') return
    const head = (key: string | undefined) => ask(name, { key, method: 'HEAD' })
    expect((await head(undefined)).status).toBe(401)
    expect((await head('worker')).status).toBe(403)
    expect((await head('reader')).status).toBe(200)
  })
})

describe('beside the routes', () => {
  test('the description and its page are public, and tell of no tenant', async () => {
    for (const path of PUBLIC)
      for (const key of [undefined, 'kt.both.wrong', made.get('plain')]) {
        const response = await app.request(path, {
          headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
        })
        expect(response.status).toBe(200)
        expect(await response.text()).not.toMatch(/acme|secret|stranger/)
      }
  })

  test('unknown paths are 404 for everybody, without asking for a key', async () => {
    for (const path of [
      '/v1',
      '/v1/stream',
      '/v1/streams/events',
      '/v1/streams/events/nope',
      '/metrics',
      '/readyz',
      '/v2/streams',
      '/V1/STREAMS',
      '/openapi.json/x',
      '/assets/nothing.js',
      '/assets',
    ])
      for (const key of [undefined, made.get('chief')]) {
        const response = await app.request(path, {
          headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
        })
        expect(await answerOf(response)).toBe('404 not-found')
      }
  })

  test('a path with other slashes or dots reaches no route without its key', async () => {
    for (const path of [
      '/v1/streams/',
      '//v1/streams',
      '/v1//streams',
      '/v1/./streams',
      '/docs/../v1/streams',
      '/v1/streams/events%2Fstatus',
      '/v1/streams/..%2Fevents/status',
      '/openapi.json/../v1/streams',
    ])
      expect([401, 404]).toContain((await app.request(path)).status)
    const slash = await app.request('/v1/streams/', { headers: { authorization: `Bearer ${made.get('reader')}` } })
    expect(await answerOf(slash)).toBe('acme')
  })

  test('a key for some streams is told of these only', async () => {
    expect(await (await ask('listStreams', { key: 'narrow' })).json()).toEqual({
      reached: 'listStreams',
      tenant: 'acme',
      streams: ['orders'],
      by: 'narrow',
    })
  })

  test('acts are by the id of the key, and by "anyone" with AUTH=off', async () => {
    const by = async (response: Response) => ((await response.json()) as { by: string }).by
    expect(await by(await ask('pauseStream', { key: 'worker' }))).toBe('worker')
    const open = appWith(authoriseNobody())
    expect(await by(await ask('pauseStream', {}, open))).toBe('anyone')
    expect(await answerOf(await ask('pauseStream', { tenant: 'acme' }, open))).toBe(NO_TENANT)
  })

  test('while it stops, it answers no route', async () => {
    const response = await ask(
      'getStatus',
      { key: 'reader' },
      appWith(undefined, () => true),
    )
    expect(await answerOf(response)).toBe('503 draining')
    expect(response.headers.get('retry-after')).toBe('1')
  })

  test('a request that proxies may understand otherwise is refused', async () => {
    const response = await ask('getStatus', { key: 'reader', headers: { host: 'a, b' } })
    expect(await answerOf(response)).toBe('400 malformed')
    expect(response.headers.get('connection')).toBe('close')
  })

  test('HEAD for a stream ends the stream, which nobody reads', async () => {
    let ended = 0
    const streaming = appWith(undefined, undefined, async () => ({
      status: 200,
      contentType: 'text/event-stream',
      stream: new ReadableStream({ cancel: () => void ended++ }),
    }))
    const response = await ask('followOutcomes', { key: 'reader', method: 'HEAD' }, streaming)
    expect([response.status, await response.text(), ended]).toEqual([200, '', 1])
    await ask('followOutcomes', { key: 'reader' }, streaming)
    expect(ended).toBe(1)
  })

  test('nothing of an answer is kept by caches', async () => {
    for (const key of ['reader', undefined]) {
      const { headers } = await ask('getStatus', { key })
      expect(headers.get('cache-control')).toBe('no-store')
      expect(headers.get('x-content-type-options')).toBe('nosniff')
    }
  })
})
