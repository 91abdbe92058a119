import { describe, expect, test } from 'bun:test'
import pino from 'pino'
import { authoriseByKey } from '../../shared/http/authorise.ts'
import { FailedAuthentications, MAX_FAILURES } from '../../shared/http/failed-authentications.ts'
import { type Tenant, tenantsOf } from '../../shared/http/tenants.ts'
import type { TokenFound } from '../../shared/http/tokens.ts'
import { keyring } from '../../shared/testing/keyring.ts'
import { until } from '../../shared/testing/until.ts'
import { createApp } from './app.ts'
import { cookieIn, cookieOf } from './cookies.ts'
import { Login, type LoginDeps } from './login.ts'
import { createMetrics, type LoginResult } from './metrics.ts'
import { type Checks, type Granted, IssuerError, type Oidc, RefusedError } from './oidc.ts'
import type { Route, RouteDeps } from './route.ts'
import { routes } from './routes.ts'
import { Sealed } from './sealed.ts'
import { Sessions } from './sessions.ts'

/** People who log in at an issuer that a test plays. */

const SECRET = 'a secret of more than thirty-two characters'
const PUBLIC_URL = 'https://console.example.com/kt'
const ORIGIN = 'https://console.example.com'
const AT = { issuer: 'https://login.example.com', audience: 'api', clientId: 'page', publicUrl: PUBLIC_URL }
const CHECKS: Checks = { state: 'the-state', nonce: 'the-nonce', verifier: 'the-verifier' }
const MINUTE_MS = 60_000

const { made, entry } = keyring()
const file = tenantsOf({
  tenants: {
    acme: { streams: ['events', 'orders'], keys: [{ ...entry('reader'), roles: ['read'] }] },
    other: { streams: ['events'], keys: [] },
  },
})

const SAME_ORIGIN = { 'sec-fetch-site': 'same-origin' }

/** A console, and the issuer as it is now. */
function consoleOf({
  secret = SECRET,
  publicUrl = PUBLIC_URL,
  at = {},
  now = { ms: Date.parse('2026-11-30T12:00:00Z') },
} = {}) {
  const issuer = {
    /** What the access token grants; a problem where it grants nothing. */
    found: {
      ok: true,
      bearer: {
        id: 'jwt:5f3c',
        name: 'alice',
        tenant: 'acme',
        streams: undefined,
        roles: new Set(['read', 'operate']),
        expiresAtMs: now.ms + 5 * MINUTE_MS,
      },
    } as TokenFound,
    refreshToken: 'refresh-1' as string | undefined,
    fault: undefined as Error | undefined,
    /** Until it is settled, the issuer does not answer. */
    answers: Promise.resolve(),
    renewed: [] as string[],
    revoked: [] as string[],
    finished: [] as [string, Checks][],
  }
  const granted = (): Granted => ({
    accessToken: 'access',
    expiresInSeconds: 300,
    refreshToken: issuer.refreshToken,
    idToken: { text: 'id-token', claims: { sub: '5f3c' } },
  })
  const orFault = <T>(value: T): Promise<T> =>
    issuer.fault === undefined ? Promise.resolve(value) : Promise.reject(issuer.fault)
  const oidc: Pick<Oidc, 'begin' | 'finish' | 'renew' | 'revoke' | 'logoutUrl'> = {
    begin: (asksAnew) =>
      orFault({ url: `https://login.example.com/auth?x=${asksAnew === true ? 'anew' : '1'}`, checks: CHECKS }),
    finish: (query, checks) => {
      issuer.finished.push([query, checks])
      return orFault(granted())
    },
    async renew(token) {
      issuer.renewed.push(token)
      await issuer.answers
      return orFault(granted())
    },
    revoke: async (token) => void issuer.revoked.push(token),
    logoutUrl: (idToken) => orFault(`https://login.example.com/logout?hint=${idToken}`),
  }
  const logged: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void logged.push(JSON.parse(line)) })
  const results: LoginResult[] = []
  const tenants = { list: file.list as readonly Tenant[] }
  const counted: string[] = []
  const failures = new FailedAuthentications({ count: (why) => counted.push(why), log, nowMs: () => now.ms })
  const failed: LoginDeps['failed'] = (problem) => failures.failed(problem, 'session', '192.0.2.1')
  const common = {
    failed,
    sealingKey: { secret, at: { ...AT, publicUrl, ...at } },
    place: { isSecure: publicUrl.startsWith('https') },
    log,
    nowMs: () => now.ms,
  }
  const sessions = new Sessions({
    ...common,
    oidc,
    tokens: { find: () => issuer.found },
    tenants: () => tenants.list,
    maxMs: 480 * MINUTE_MS,
    askEveryMs: 5 * MINUTE_MS,
  })
  const login = new Login({
    ...common,
    oidc,
    sessions,
    publicUrl,
    onLogin: (result) => void results.push(result),
    clientAddress: () => '198.51.100.7',
  })
  const table: Route[] = routes({ config: { AUTH: 'jwt' } } as RouteDeps).map((route) =>
    route.name === 'getAccess'
      ? route
      : { ...route, run: async ({ by, tenant }) => ({ status: 200, body: { by, tenant: tenant.name } }) },
  )
  const app = createApp({
    routes: table,
    access: { authorise: authoriseByKey(file), whileAllowed: () => () => undefined },
    isAuthOn: true,
    login,
    page: { answer: async () => new Response('the page') },
    metrics: createMetrics(table.map(({ name }) => name)),
    log,
    isDraining: () => false,
    kafkaFault: () => undefined,
    clientAddress: () => '198.51.100.7',
  })
  /** Cookies of a browser, by name. */
  const jar = new Map<string, string>()
  const ask = async (
    path: string,
    init: RequestInit & { headers?: Record<string, string> } = {},
  ): Promise<Response> => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = { ...(cookie === '' ? {} : { cookie }), ...init.headers }
    const response = await app.request(path, { ...init, headers })
    for (const set of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? []
      if (set.includes('Max-Age=0')) jar.delete(name)
      else jar.set(name, value)
    }
    return response
  }
  const logIn = async (to = ''): Promise<Response> => {
    await ask(`/auth/login?to=${encodeURIComponent(to)}`)
    return ask(`/auth/callback?code=c&state=${CHECKS.state}`)
  }
  const access = async (): Promise<string> => {
    const response = await ask('/v1/access', { headers: SAME_ORIGIN })
    const body = (await response.json()) as { by?: string; detail?: string }
    return response.status === 200 ? String(body.by) : `${response.status} ${body.detail}`
  }
  return { issuer, now, ask, logIn, access, jar, logged, counted, results, tenants, login, sessions }
}

describe('a log-in', () => {
  test('leads to the issuer and back to where one was, with what belongs together in a cookie of this browser', async () => {
    const { ask, jar, issuer, results, logged } = consoleOf()
    const begun = await ask('/auth/login?to=%23%2Fletters%3Fstream%3Dorders')
    expect([begun.status, begun.headers.get('location')]).toEqual([303, 'https://login.example.com/auth?x=1'])
    expect(begun.headers.get('set-cookie')).toMatch(
      /^__Host-kafkatrace-login=[^;]+; Path=\/; HttpOnly; SameSite=lax; Secure$/,
    )
    const back = await ask('/auth/callback?code=c&state=the-state&iss=i')
    expect([back.status, back.headers.get('location')]).toEqual([303, `${PUBLIC_URL}/#/letters?stream=orders`])
    expect(back.headers.getSetCookie()[0]).toMatch(
      /^__Host-kafkatrace-session=[^;]+; Path=\/; HttpOnly; SameSite=strict; Secure$/,
    )
    expect(issuer.finished).toEqual([['?code=c&state=the-state&iss=i', expect.objectContaining(CHECKS)]])
    expect([...jar.keys()]).toEqual(['__Host-kafkatrace-session'])
    expect(results).toEqual(['done'])
    expect(JSON.stringify(logged)).not.toMatch(/refresh-1|"access"|id-token|the-verifier/)
  })

  test('shows who it is, and acts are theirs', async () => {
    const { ask, logIn } = consoleOf()
    await logIn()
    const response = await ask('/v1/access', { headers: SAME_ORIGIN })
    expect(await response.json()).toMatchObject({ by: 'jwt:5f3c (alice)', name: 'alice', isLoggedIn: true, auth: 'on' })
    const act = await ask('/v1/streams/events/pause', {
      method: 'POST',
      headers: { ...SAME_ORIGIN, origin: ORIGIN, 'content-type': 'application/json' },
      body: '{"reason":"none"}',
    })
    expect(await act.json()).toEqual({ by: 'jwt:5f3c (alice)', tenant: 'acme' })
  })

  test.each([
    'https://evil.example',
    '//evil.example',
    '/\\evil.example',
    'javascript:alert(1)',
    '#a\r\nset-cookie: x=1',
    `#${'x'.repeat(2_001)}`,
  ])('leads nowhere but to the page, whatever %j asks for', async (to) => {
    const { logIn } = consoleOf()
    expect((await logIn(to)).headers.get('location')).toBe(`${PUBLIC_URL}/`)
  })

  test('that begins at another name than PUBLIC_URL goes there first, once', async () => {
    const { ask, jar } = consoleOf()
    const at = async (host: string, query: string) => (await ask(`/auth/login${query}`, { headers: { host } })).headers
    const moved = (await at('127.0.0.1:8081', '?to=%23%2Fletters&prompt=login')).get('location') ?? ''
    expect(moved).toBe(`${PUBLIC_URL}/auth/login?to=%23%2Fletters&prompt=login&moved=`)
    expect(jar.size).toBe(0)
    for (const host of ['console.example.com', 'CONSOLE.example.com:443'])
      expect((await at(host, '')).get('location')).toStartWith('https://login.example.com/auth')
    // A proxy that changes the name.
    expect((await at('internal:8081', new URL(moved).search)).get('location')).toBe(
      'https://login.example.com/auth?x=anew',
    )
  })

  test.each([
    ['of another browser, which has no cookie of it', '/auth/callback?code=c&state=the-state', true],
    ['with a foreign state', '/auth/callback?code=c&state=other', false],
    ['without a state', '/auth/callback?code=c', false],
  ])('%s is refused, and the issuer is not asked', async (_, path, isForeign) => {
    const { ask, issuer, jar, results } = consoleOf()
    await ask('/auth/login')
    if (isForeign) jar.clear()
    const back = await ask(path)
    expect(back.status).toBe(403)
    expect(await back.text()).toContain('not the answer to a log-in that was begun in this browser')
    expect([issuer.finished, jar.has('__Host-kafkatrace-session'), results]).toEqual([[], false, ['refused']])
  })

  test('that took too long is refused', async () => {
    const { ask, now } = consoleOf()
    await ask('/auth/login')
    now.ms += 10 * MINUTE_MS + 1_000
    expect((await ask('/auth/callback?code=c&state=the-state')).status).toBe(403)
  })

  test('asks the issuer once, whatever comes with a copy of its cookie', async () => {
    const { ask, issuer, jar } = consoleOf()
    await ask('/auth/login')
    const cookie = `__Host-kafkatrace-login=${jar.get('__Host-kafkatrace-login')}`
    issuer.fault = new RefusedError('the issuer says invalid_grant')
    const back = (code: number) => ask(`/auth/callback?code=${code}&state=the-state`, { headers: { cookie } })
    const answers = await Promise.all([back(1), back(2), back(3)])
    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403])
    expect(issuer.finished).toHaveLength(1)
  })

  test('that is refused counts as a failed authentication of its address, and more of them are answered 429', async () => {
    const { ask, counted, results } = consoleOf()
    const back = () => ask('/auth/callback?code=c&state=other')
    for (let time = 0; time < MAX_FAILURES; time++) expect((await back()).status).toBe(403)
    const limited = await back()
    expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '60'])
    expect(await limited.text()).toContain('Too many failed authentications')
    expect(counted).toEqual(Array(MAX_FAILURES + 1).fill('session'))
    expect(results).toHaveLength(MAX_FAILURES + 1)
  })

  test('cannot be answered twice', async () => {
    const { ask, logIn } = consoleOf()
    await logIn()
    expect((await ask('/auth/callback?code=c&state=the-state')).status).toBe(403)
  })

  test.each([
    [
      'that the issuer refuses',
      new RefusedError('the issuer says access_denied'),
      403,
      'the issuer says access_denied.',
    ],
    [
      'whose issuer is away',
      new IssuerError('Unable to connect (ConnectionRefused)'),
      503,
      'the log of the console says more',
    ],
  ])('%s is answered with a page that says so', async (_, fault, status, words) => {
    const { ask, issuer, logged } = consoleOf()
    await ask('/auth/login')
    issuer.fault = fault
    const back = await ask('/auth/callback?error=x&state=the-state')
    expect([back.status, back.headers.get('content-type')]).toEqual([status, 'text/html;charset=utf-8'])
    expect(await back.text()).toContain(words)
    expect(JSON.stringify(logged)).toContain(fault.message)
  })

  test('with a token that grants nothing is refused, and what it says is only text', async () => {
    const { ask, issuer } = consoleOf()
    issuer.found = { ok: false, problem: { kind: 'forbidden', detail: 'no <script>alert(1)</script>' } }
    await ask('/auth/login')
    const back = await ask('/auth/callback?code=c&state=the-state')
    expect(back.status).toBe(403)
    const text = await back.text()
    expect(text).toContain('no &lt;script&gt;')
    expect(text).toContain('Your administrator has to give you a tenant')
    // The issuer knows them: without this, it would send them back at once.
    const [, link = ''] = /href="([^"]*)"/.exec(text) ?? []
    expect(link).toBe(`${PUBLIC_URL}/auth/login?prompt=login`)
    const again = await ask(new URL(link).pathname.replace('/kt', '') + new URL(link).search)
    expect(again.headers.get('location')).toBe('https://login.example.com/auth?x=anew')
  })

  test('that is refused is logged with who it was, by the token or by the ID token, and from where', async () => {
    const problem = { kind: 'forbidden', detail: 'It grants nothing.' } as const
    const refused = async (set: (issuer: ReturnType<typeof consoleOf>['issuer']) => void) => {
      const { ask, issuer, logged } = consoleOf()
      await ask('/auth/login')
      set(issuer)
      await ask(`/auth/callback?code=c&state=${CHECKS.state}`)
      const { by, client } = logged.find(({ msg }) => msg === 'a log-in was refused') ?? {}
      return [by, client]
    }
    expect(
      await refused((issuer) => {
        issuer.found = { ok: false, problem: { ...problem, by: 'jwt:x' } }
      }),
    ).toEqual(['jwt:x', '198.51.100.7'])
    expect(
      await refused((issuer) => {
        issuer.found = { ok: false, problem }
      }),
    ).toEqual(['jwt:5f3c', '198.51.100.7'])
    expect(
      await refused((issuer) => {
        issuer.fault = new RefusedError('the issuer says access_denied')
      }),
    ).toEqual([undefined, '198.51.100.7'])
  })

  test('whose rights do not suffice for a request is logged with who it is, and from where', async () => {
    const { ask, logIn, logged } = consoleOf()
    await logIn()
    expect((await ask('/v1/streams/none/status', { headers: SAME_ORIGIN })).status).toBe(404)
    expect(logged.at(-1)).toMatchObject({ status: 404, by: 'jwt:5f3c', client: '198.51.100.7' })
  })

  test('without TLS in development has cookies that browsers keep there', async () => {
    const { ask } = consoleOf({ publicUrl: 'http://127.0.0.1:8081' })
    const cookie = (await ask('/auth/login')).headers.get('set-cookie') ?? ''
    expect(cookie).toStartWith('kafkatrace-login=')
    expect(cookie).not.toContain('Secure')
  })
})

describe('a session', () => {
  test('is known to every console with the same secret, and to no other', async () => {
    const one = consoleOf()
    await one.logIn()
    const [same, other] = [consoleOf({ now: one.now }), consoleOf({ secret: `${SECRET}.`, now: one.now })]
    for (const [name, value] of one.jar) for (const { jar } of [same, other]) jar.set(name, value)
    expect(await same.access()).toBe('jwt:5f3c (alice)')
    expect(await other.access()).toStartWith('401 The session has ended')
    // What is worthless is forgotten.
    expect(other.jar.size).toBe(0)
  })

  test.each([
    { issuer: 'https://login.example.com/other' },
    { audience: 'other' },
    { clientId: 'other' },
    { publicUrl: `${PUBLIC_URL}-of-others` },
    // What is between two of them is no part of either.
    { issuer: `${AT.issuer}a`, audience: 'pi' },
  ])('is none where people log in to something else, though the secret be the same: %j', async (at) => {
    const one = consoleOf()
    await one.logIn()
    const other = consoleOf({ at, now: one.now })
    for (const [name, value] of one.jar) other.jar.set(name, value)
    expect(await other.access()).toStartWith('401 The session has ended')
  })

  test('is not what a log-in leaves with the browser, though both are encrypted', async () => {
    const { ask, jar, access } = consoleOf()
    await ask('/auth/login')
    jar.set('__Host-kafkatrace-session', jar.get('__Host-kafkatrace-login') ?? '')
    expect(await access()).toStartWith('401 The session has ended')
  })

  test('that is made up counts as a failed authentication, and more of them are answered 429; a right one is served', async () => {
    const { logIn, ask, access, jar, counted } = consoleOf()
    await logIn()
    const right = jar.get('__Host-kafkatrace-session') ?? ''
    const madeUp = { ...SAME_ORIGIN, cookie: '__Host-kafkatrace-session=made-up' }
    for (let time = 0; time < MAX_FAILURES; time++)
      expect((await ask('/v1/access', { headers: madeUp })).status).toBe(401)
    const limited = await ask('/v1/access', { headers: madeUp })
    expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '60'])
    expect(counted).toHaveLength(MAX_FAILURES + 1)
    jar.set('__Host-kafkatrace-session', right)
    expect(await access()).toBe('jwt:5f3c (alice)')
  })

  test('says nothing to whoever reads the cookie, and does not count with any change', async () => {
    const { logIn, jar, access } = consoleOf()
    await logIn()
    const sealed = jar.get('__Host-kafkatrace-session') ?? ''
    const parts = sealed.split('.')
    const clear = parts.map((part) => Buffer.from(part, 'base64url').toString('latin1')).join()
    expect(clear).not.toMatch(/acme|alice|refresh/)
    for (const at of [3, 4]) {
      const changed = [...parts]
      changed[at] = `${changed[at]?.startsWith('A') ? 'B' : 'A'}${changed[at]?.slice(1)}`
      jar.set('__Host-kafkatrace-session', changed.join('.'))
      expect(await access()).toStartWith('401 ')
    }
  })

  test('asks the issuer every few minutes, once for all requests of a moment, and gives the browser what is new', async () => {
    const { logIn, access, issuer, jar, now } = consoleOf()
    await logIn()
    const before = jar.get('__Host-kafkatrace-session')
    now.ms += 5 * MINUTE_MS - 1
    await access()
    expect(issuer.renewed).toEqual([])
    now.ms += 1
    issuer.refreshToken = 'refresh-2'
    const answer = Promise.withResolvers<void>()
    issuer.answers = answer.promise
    const asked = [access(), access(), access()]
    // All of them have come as far as to the question.
    for (const _ of asked) await new Sealed({ secret: SECRET, at: AT }, 'session').open(before ?? '', now.ms)
    await until(() => issuer.renewed.length > 0)
    answer.resolve()
    await Promise.all(asked)
    expect(issuer.renewed).toEqual(['refresh-1'])
    expect(jar.get('__Host-kafkatrace-session')).not.toBe(before)
    now.ms += 5 * MINUTE_MS
    await access()
    expect(issuer.renewed).toEqual(['refresh-1', 'refresh-2'])
  })

  test('of somebody who is disabled at the issuer ends with the next question, and stays ended', async () => {
    const { logIn, access, issuer, now, jar, logged } = consoleOf()
    await logIn()
    const cookie = jar.get('__Host-kafkatrace-session') ?? ''
    issuer.fault = new RefusedError('the issuer says invalid_grant')
    now.ms += 5 * MINUTE_MS
    expect(await access()).toBe('401 The session has ended: the issuer says invalid_grant. Log in again.')
    issuer.fault = undefined
    jar.set('__Host-kafkatrace-session', cookie)
    expect(await access()).toStartWith('401 ')
    expect(logged.filter(({ msg }) => msg === 'a session has ended')).toHaveLength(1)
  })

  test('goes on where its new access token can only be verified later', async () => {
    const { logIn, access, issuer, now } = consoleOf()
    await logIn()
    const { found } = issuer
    const problem = { kind: 'unauthenticated', detail: 'The key of the token is not known yet.', retryAfterSeconds: 10 }
    issuer.found = { ok: false, problem } as TokenFound
    now.ms += 5 * MINUTE_MS
    expect(await access()).toBe('jwt:5f3c (alice)')
    issuer.found = found
    now.ms += 15_000
    expect(await access()).toBe('jwt:5f3c (alice)')
    expect(issuer.renewed).toHaveLength(2)
  })

  test('has the roles that the issuer gives now', async () => {
    const { logIn, ask, issuer, now } = consoleOf()
    await logIn()
    if (issuer.found.ok) issuer.found = { ok: true, bearer: { ...issuer.found.bearer, roles: new Set(['read']) } }
    now.ms += 5 * MINUTE_MS
    const act = {
      method: 'POST',
      headers: { ...SAME_ORIGIN, 'content-type': 'application/json' },
      body: '{"reason":"x"}',
    }
    expect((await ask('/v1/streams/events/pause', act)).status).toBe(403)
    expect((await ask('/v1/streams', { headers: SAME_ORIGIN })).status).toBe(200)
  })

  test('goes on for an hour while the issuer is away, then waits for it', async () => {
    const { logIn, access, issuer, now } = consoleOf()
    await logIn()
    issuer.fault = new IssuerError('Unable to connect (ConnectionRefused)')
    now.ms += 60 * MINUTE_MS
    expect(await access()).toBe('jwt:5f3c (alice)')
    now.ms += 5 * MINUTE_MS + 1
    expect(await access()).toStartWith('503 The issuer has not answered for so long')
    issuer.fault = undefined
    now.ms += MINUTE_MS
    expect(await access()).toBe('jwt:5f3c (alice)')
  })

  test('does not ask an issuer that is away with each request', async () => {
    const { logIn, access, issuer, now } = consoleOf()
    await logIn()
    issuer.fault = new IssuerError('away')
    now.ms += 5 * MINUTE_MS
    for (let asked = 0; asked < 5; asked++) await access()
    expect(issuer.renewed).toHaveLength(1)
  })

  test('ends after its longest time, whatever the issuer says', async () => {
    const { logIn, access, now } = consoleOf()
    await logIn()
    for (let minutes = 0; minutes < 475; minutes += 5) {
      now.ms += 5 * MINUTE_MS
      await access()
    }
    expect(await access()).toBe('jwt:5f3c (alice)')
    now.ms += 5 * MINUTE_MS
    expect(await access()).toStartWith('401 The session has ended')
  })

  test('without a refresh token ends when its access token does', async () => {
    const { logIn, access, issuer, now } = consoleOf()
    issuer.refreshToken = undefined
    await logIn()
    now.ms += 5 * MINUTE_MS - 1_000
    expect(await access()).toBe('jwt:5f3c (alice)')
    now.ms += 1_000
    expect(await access()).toStartWith('401 The session has ended')
  })

  test('with a refresh token that is too long for a cookie ends when its access token does', async () => {
    const { logIn, access, issuer, now, jar, logged } = consoleOf()
    issuer.refreshToken = 'x'.repeat(4_000)
    await logIn()
    expect(jar.get('__Host-kafkatrace-session')?.length).toBeLessThan(1_000)
    expect(await access()).toBe('jwt:5f3c (alice)')
    now.ms += 5 * MINUTE_MS
    expect(await access()).toStartWith('401 The session has ended')
    expect(JSON.stringify(logged)).toContain('too long for a cookie')
  })

  test('ends with its tenant', async () => {
    const { logIn, access, tenants } = consoleOf()
    await logIn()
    tenants.list = file.list.filter(({ name }) => name !== 'acme')
    expect(await access()).toStartWith('403 The token is for the tenant "acme", which TENANTS_FILE does not have.')
  })

  test('that lasts in an answer is asked for in the background, and ends', async () => {
    const { logIn, issuer, now, jar, sessions } = consoleOf()
    await logIn()
    const headers = { cookie: `__Host-kafkatrace-session=${jar.get('__Host-kafkatrace-session')}` }
    const found = await sessions.of(new Request('https://x/', { headers }))
    const wanted = { role: 'read', tenant: undefined, stream: undefined } as const
    const allowed = found.ok ? found.session.authorise(wanted) : found
    const again = () => (allowed.ok ? allowed.again().ok : false)
    expect(again()).toBe(true)
    issuer.fault = new RefusedError('the issuer says invalid_grant')
    now.ms += 5 * MINUTE_MS
    again()
    await Bun.sleep(0)
    expect([again(), issuer.renewed]).toEqual([false, ['refresh-1']])
  })
})

describe('a log-out', () => {
  test('ends the session here and at the issuer, for copies of the cookie, too', async () => {
    const { logIn, ask, jar, issuer, access } = consoleOf()
    await logIn()
    const copy = jar.get('__Host-kafkatrace-session') ?? ''
    const answer = await ask('/auth/logout', { method: 'POST', headers: { ...SAME_ORIGIN, origin: ORIGIN } })
    expect(await answer.json()).toEqual({ url: 'https://login.example.com/logout?hint=id-token' })
    expect([jar.size, issuer.revoked]).toEqual([0, ['refresh-1']])
    jar.set('__Host-kafkatrace-session', copy)
    expect(await access()).toStartWith('401 The session has ended: you have logged out')
  })

  test('works while the issuer is away', async () => {
    const { logIn, ask, jar, issuer } = consoleOf()
    await logIn()
    issuer.fault = new IssuerError('away')
    const answer = await ask('/auth/logout', { method: 'POST', headers: { origin: ORIGIN } })
    expect(await answer.json()).toEqual({ url: `${PUBLIC_URL}/` })
    expect(jar.size).toBe(0)
  })

  test('is none that another site can cause', async () => {
    const { logIn, ask, jar } = consoleOf()
    await logIn()
    const headers = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    expect((await ask('/auth/logout', { method: 'POST', headers })).status).toBe(403)
    expect((await ask('/auth/logout')).status).toBe(405)
    expect(jar.size).toBe(1)
  })
})

describe('another site', () => {
  const act = { method: 'POST', body: '{"reason":"x"}' }
  const JSON_TYPE = { 'content-type': 'application/json' }
  test.each([
    [{ 'sec-fetch-site': 'same-origin', origin: ORIGIN }, 200],
    [{ 'sec-fetch-site': 'same-origin' }, 200],
    // A browser without Fetch Metadata.
    [{ origin: ORIGIN }, 200],
    [{}, 403],
    [{ origin: 'null' }, 403],
    [{ origin: 'https://console.example.com:8443' }, 403],
    [{ origin: 'http://console.example.com' }, 403],
    [{ 'sec-fetch-site': 'same-site', origin: 'https://other.example.com' }, 403],
    [{ 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, 403],
    [{ 'sec-fetch-site': 'cross-site', origin: ORIGIN }, 403],
    [{ 'sec-fetch-site': 'same-origin', origin: 'https://evil.example' }, 403],
    [{ 'sec-fetch-site': 'none' }, 403],
  ] as [Record<string, string>, number][])('cannot act with the cookie: %j is answered %d', async (headers, status) => {
    const { logIn, ask } = consoleOf()
    await logIn()
    const answer = await ask('/v1/streams/events/pause', { ...act, headers: { ...JSON_TYPE, ...headers } })
    expect(answer.status).toBe(status)
  })

  test.each([
    [{ 'sec-fetch-site': 'same-origin' }, 200],
    [{ 'sec-fetch-site': 'none' }, 200],
    [{}, 200],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-site' }, 403],
    [{ origin: 'https://evil.example' }, 403],
  ] as [Record<string, string>, number][])(
    'cannot make the console read with the cookie: %j is answered %d',
    async (headers, status) => {
      const { logIn, ask } = consoleOf()
      await logIn()
      expect((await ask('/v1/streams', { headers })).status).toBe(status)
    },
  )

  test('may use a key of its own, which counts before the cookie', async () => {
    const { logIn, ask } = consoleOf()
    await logIn()
    const headers = { authorization: `Bearer ${made.get('reader')}`, 'sec-fetch-site': 'cross-site' }
    const answer = await ask('/v1/access', { headers })
    expect([answer.status, ((await answer.json()) as { by: string }).by]).toEqual([200, 'reader'])
  })
})

test('whoever has neither key nor session is told where people log in', async () => {
  const answer = await consoleOf().ask('/v1/access')
  expect(answer.status).toBe(401)
  expect(await answer.json()).toMatchObject({ login: `${PUBLIC_URL}/auth/login` })
})

test('a cookie that is there twice counts as none: one of them may be another site’s', () => {
  const headers = new Headers({ cookie: 'a=1; __Host-x=one;__Host-x=two' })
  expect(cookieIn(headers, 'x', { isSecure: true })).toBeUndefined()
  expect(cookieIn(headers, 'x', { isSecure: false })).toBeUndefined()
  expect(cookieIn(new Headers({ cookie: cookieOf('x', 'one', { isSecure: true }) }), 'x', { isSecure: true })).toBe(
    'one',
  )
})

test('what is sealed opens until its time is over', async () => {
  const sealed = new Sealed<{ a: number }>({ secret: SECRET, at: AT }, 'a test')
  const text = await sealed.seal({ a: 1 }, 10_000)
  expect(await sealed.open(text, 9_000)).toEqual({ a: 1 })
  expect(await sealed.open(text, 10_000)).toBeUndefined()
  for (const other of ['', 'a.b.c', text.slice(1), `${text}x`]) expect(await sealed.open(other, 9_000)).toBeUndefined()
})
