import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../../shared/dev/brokers/ports.ts'
import { BROWSERS, findBrowser } from '../../shared/dev/requirements.ts'
import { makeKey, type TenantsFile } from '../../shared/http/tenants.ts'
import { startKeycloak, type TestKeycloak } from '../../shared/testing/keycloak.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { testWith } from '../../shared/testing/test-with.ts'
import { until } from '../../shared/testing/until.ts'

/** Tokens of Keycloak at the producer and the console, and people who log in to the console's page by Keycloak, in a browser. */

const TIMEOUT_MS = 240_000
setDefaultTimeout(TIMEOUT_MS)

const PATIENCE = { timeoutMs: 30_000 }
const AUDIENCE = 'kafkatrace'
const CLIENT_SECRET = 'secret-of-the-console'
const SHOP_SECRET = 'secret-of-the-shop'
const PASSWORD = 'a-password-of-a-test'
/** A session is asked for at Keycloak so often. */
const CHECK_SECONDS = 1

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-login-'))
const operator = makeKey('on-call')

let kafka: KafkaCluster
let keycloak: TestKeycloak
let ports: number[] = []
let services: ServiceProcess[] = []
let env: Record<string, string>
let shown: ServiceProcess
let replica: ServiceProcess
/** As browsers see the console. */
let url: string
let replicaUrl: string
let producerUrl: string
let browser: Browser
let context: BrowserContext
let page: Page

beforeAll(async () => {
  if (findBrowser() === null && !process.env.CI) return
  ;[kafka, keycloak] = await Promise.all([startKafka(), startKeycloak()])
  ports = await findFreePorts(2)
  const [port = 0, replicaPort = 0] = ports
  // For browsers, another site than Keycloak's, as usually is the case.
  url = `http://localhost:${port}/`
  replicaUrl = `http://127.0.0.1:${replicaPort}/`
  await keycloak.createClient({
    clientId: 'console',
    secret: CLIENT_SECRET,
    redirectUris: [`${url}*`],
    audience: [AUDIENCE],
    attributes: ['tenant'],
  })
  const shop = { secret: SHOP_SECRET, claims: { tenant: 'acme', 'realm_access.roles': ['kt-send', 'kt-read'] } }
  await keycloak.createClient({ ...shop, clientId: 'shop', audience: [AUDIENCE], tokenSeconds: 60 })
  await keycloak.createClient({ ...shop, clientId: 'elsewhere', audience: ['another-api'] })
  const tenant = { tenant: ['acme'] }
  await keycloak.createUser({
    name: 'alice',
    password: PASSWORD,
    attributes: tenant,
    roles: ['kt-read', 'kt-operate', 'kt-send'],
  })
  await keycloak.createUser({ name: 'bob', password: PASSWORD, attributes: tenant, roles: ['kt-read'] })
  await keycloak.createUser({ name: 'eve', password: PASSWORD, roles: ['kt-read'] })
  const file: TenantsFile = {
    tenants: { acme: { streams: ['events'], keys: [] }, other: { streams: ['events'], keys: [] } },
    operators: [{ id: 'on-call', sha256: operator.sha256 }],
  }
  const path = join(folder, 'tenants.json')
  writeFileSync(path, JSON.stringify(file))
  const secretFile = join(folder, 'client-secret')
  writeFileSync(secretFile, `${CLIENT_SECRET}\n`)
  env = {
    NODE_ENV: 'development',
    KAFKA_BROKERS: kafka.bootstrapServers,
    DRAIN_TIMEOUT_MS: '8000',
    TENANTS_FILE: path,
    AUTH: 'jwt',
    JWT_ISSUER: keycloak.issuer,
    JWT_AUDIENCE: AUDIENCE,
    JWT_ROLES_CLAIM: 'realm_access.roles',
    JWT_ROLES_PREFIX: 'kt-',
    JWT_CLOCK_SKEW_SECONDS: '0',
  }
  const consoleEnv = {
    ...env,
    OIDC_CLIENT_ID: 'console',
    OIDC_CLIENT_SECRET_FILE: secretFile,
    PUBLIC_URL: url,
    SESSION_SECRET: 'a secret of more than thirty-two characters',
    SESSION_CHECK_SECONDS: String(CHECK_SECONDS),
  }
  const producer = await startService('producer', { ...env, TOPIC_PARTITIONS: '1' })
  services.push(producer)
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  producerUrl = `http://127.0.0.1:${producer.started['port']}`
  const withProducer = { ...consoleEnv, PRODUCER_URL: producerUrl }
  ;[shown, replica] = await Promise.all([
    startService('console', { ...withProducer, PORT: String(port) }),
    startService('console', { ...withProducer, PORT: String(replicaPort) }),
  ])
  services.push(shown, replica)
  for (const one of services)
    await until(async () => (await fetch(`http://127.0.0.1:${one.started['opsPort']}/readyz`)).ok, PATIENCE)
  browser = await chromium.launch({ executablePath: findBrowser() ?? 'chromium', args: ['--no-sandbox'] })
})

afterAll(async () => {
  await browser?.close()
  const logs = services.map(({ log }) => JSON.stringify(log)).join()
  await Promise.all(services.map((one) => one.stop()))
  services = []
  await Promise.all([kafka?.stop(), keycloak?.stop()])
  releasePorts(ports)
  rmSync(folder, { recursive: true })
  // JSON Web Tokens and Web Encryption begin so.
  for (const secret of [CLIENT_SECRET, SHOP_SECRET, PASSWORD, 'eyJ']) expect(logs.includes(secret)).toBe(false)
})

afterEach(() => context?.close())

const test = (name: string, body: () => Promise<void>) => testWith(BROWSERS, name, body, TIMEOUT_MS)

/** A new browser, as it were. */
async function opened(at = ''): Promise<void> {
  context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
  page = await context.newPage()
  page.setDefaultTimeout(PATIENCE.timeoutMs)
  await page.goto(url + at)
}

async function enter(name: string, password = PASSWORD): Promise<void> {
  await page.locator('#username').fill(name)
  await page.locator('#password').fill(password)
  await page.locator('#kc-login').click()
}

async function loggedIn(name: string, at = ''): Promise<void> {
  await opened(at)
  await page.getByRole('button', { name: 'Log in' }).click()
  await enter(name)
}

const shows = (text: string | RegExp) => page.getByText(text).filter({ visible: true }).first().waitFor()
const isLoggedOut = () => page.getByLabel('Key').waitFor()
const SESSION = 'kafkatrace-session'
const cookieOf = async (name: string) => (await context.cookies(url)).find((cookie) => cookie.name === name)

/** What the console answers to this browser's session. */
async function accessBySession(at = url): Promise<number> {
  const { value = '' } = (await cookieOf(SESSION)) ?? {}
  return (await fetch(`${at}v1/access`, { headers: { cookie: `${SESSION}=${value}` } })).status
}

const send = (token: string, path = '/v1/events'): Promise<Response> =>
  fetch(producerUrl + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"type":"greeting"}',
  })

/** The id of the key that a token is signed with. */
const keyOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()) as { kid: string }).kid

async function readyDetail(of: ServiceProcess): Promise<string | undefined> {
  const answer = await fetch(`http://127.0.0.1:${of.started['opsPort']}/readyz`)
  const { checks } = (await answer.json()) as { checks: { name: string; detail?: string }[] }
  expect(answer.status).toBe(200)
  return checks.find(({ name }) => name === 'tokens')?.detail
}

test('a service sends events with a token of its own, and only what the token grants', async () => {
  const token = await keycloak.token('shop', SHOP_SECRET)
  expect((await send(token)).status).toBe(202)
  expect((await send(token, '/v1/streams/none/events')).status).toBe(404)
  const read = await fetch(`${url}v1/streams`, { headers: { authorization: `Bearer ${token}` } })
  expect(await read.json()).toEqual({ streams: [{ tenant: 'acme', stream: 'events' }] })
  const act = await fetch(`${url}v1/streams/events/pause`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"reason":"none"}',
  })
  expect(act.status).toBe(403)
  const elsewhere = await send(await keycloak.token('elsewhere', SHOP_SECRET))
  expect([elsewhere.status, await elsewhere.json()]).toEqual([
    401,
    expect.objectContaining({ detail: 'The token is for another audience than kafkatrace.' }),
  ])
  const key = await fetch(`${url}v1/streams?tenant=other`, { headers: { 'x-api-key': operator.key } })
  expect(key.status).toBe(200)
})

test('somebody logs in, sees who they are, sends an event and acts', async () => {
  await opened('#/pipeline?stream=events')
  await page.getByRole('button', { name: 'Log in' }).waitFor()
  expect((await new AxeBuilder({ page }).analyze()).violations.map(({ id }) => id)).toEqual([])
  await page.getByRole('button', { name: 'Log in' }).click()
  await enter('alice')
  await page.getByText('alice', { exact: true }).waitFor()
  expect(page.url()).toBe(`${url}#/pipeline?stream=events`)
  const cookie = await cookieOf(SESSION)
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict', path: '/', expires: -1 })
  expect(await cookieOf('kafkatrace-login')).toBeUndefined()
  expect(await page.evaluate('JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie')).toBe('{}')

  await page.getByRole('button', { name: 'Pause…' }).click()
  await page.getByLabel('Why pause?').fill('a test of people')
  await page.getByRole('button', { name: 'Pause the stream' }).click()
  await shows(/Paused by jwt:[0-9a-f-]{36} \(alice\): a test of people/)
  await page.getByRole('button', { name: 'Resume' }).click()
  await page.getByRole('button', { name: 'Pause…' }).waitFor()

  const sent = await page.evaluate<number>(
    `fetch('v1/streams/events/events', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"type":"greeting"}' }).then((answer) => answer.status)`,
  )
  expect(sent).toBe(202)
  expect(shown.log.find(({ msg }) => msg === 'logged in')).toMatchObject({
    by: expect.stringMatching(/^jwt:.* \(alice\)$/),
  })
  // Every console with the same secret knows the session.
  expect(await accessBySession(replicaUrl)).toBe(200)
})

test('a wrong password, and whoever has no tenant, get in nowhere', async () => {
  await opened()
  await page.getByRole('button', { name: 'Log in' }).click()
  await enter('alice', 'wrong')
  await shows('Invalid username or password.')
  expect(await cookieOf(SESSION)).toBeUndefined()
  await enter('eve')
  await shows('You are not logged in')
  await shows(/The token’s claim "tenant" names no tenant/)
  expect(await cookieOf(SESSION)).toBeUndefined()
  // Keycloak knows eve now, and asks all the same.
  await page.getByRole('link', { name: /Log in/ }).click()
  await page.getByLabel('Password', { exact: true }).waitFor()
})

test('what the roles do not allow is not offered, and not done', async () => {
  await loggedIn('bob')
  await page.getByText('bob', { exact: true }).waitFor()
  expect(await page.getByRole('button', { name: /Pause/ }).count()).toBe(0)
  const act = `fetch('v1/streams/events/pause', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"reason":"none"}' })`
  expect(await page.evaluate<number>(`${act}.then((answer) => answer.status)`)).toBe(403)
})

test('whoever logs out is logged out here and at Keycloak', async () => {
  await loggedIn('alice')
  await page.getByText('alice', { exact: true }).waitFor()
  const copy = await cookieOf(SESSION)
  await page.getByRole('button', { name: 'Log out' }).click()
  await isLoggedOut()
  expect(page.url()).toStartWith(url)
  expect(await cookieOf(SESSION)).toBeUndefined()
  if (copy !== undefined) await context.addCookies([copy])
  expect(await accessBySession()).toBe(401)
  // A copy is worth nothing elsewhere, either, once it is asked for at Keycloak.
  await until(async () => (await accessBySession(replicaUrl)) === 401, PATIENCE)
  await context.clearCookies({ name: SESSION })
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.locator('#password').waitFor()
})

test('another site cannot act with the session, nor one beside this one', async () => {
  await loggedIn('alice')
  await page.getByText('alice', { exact: true }).waitFor()
  const site = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    fetch: () => new Response('<!doctype html><title>evil</title>', { headers: { 'content-type': 'text/html' } }),
  })
  const asked = (): Record<string, unknown>[] => shown.log.filter(({ route }) => route === 'pauseStream')
  try {
    // A port is no other site, so that the cookie is sent from the first; the second is another site.
    for (const [host, status] of [
      ['localhost', 403],
      ['127.0.0.1', 401],
    ] as const) {
      const before = asked().length
      const other = await context.newPage()
      await other.goto(`http://${host}:${site.port}/`)
      const act = `fetch(${JSON.stringify(`${url}v1/streams/events/pause`)}, { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"reason":"evil"}' }).then(({ type }) => type)`
      expect(await other.evaluate<string>(act)).toBe('opaque')
      await until(() => asked().length > before, PATIENCE)
      expect(asked().at(-1)).toMatchObject({ status })
      await other.close()
    }
  } finally {
    await site.stop(true)
  }
  const acts = await page.evaluate<string>(`fetch('v1/streams/events/acts').then((answer) => answer.text())`)
  expect(acts).not.toContain('evil')
})

test('an answer with a foreign state logs nobody in', async () => {
  await opened('auth/callback?code=stolen&state=foreign')
  await shows('You are not logged in')
  expect(await cookieOf(SESSION)).toBeUndefined()
  await page.getByRole('link', { name: 'Log in' }).click()
  await page.locator('#username').waitFor()
})

test('while keys are replaced at Keycloak, no token is refused, and whoever is logged in stays so', async () => {
  await loggedIn('alice')
  await page.getByText('alice', { exact: true }).waitFor()
  const statuses = new Map<number, number>()
  const used = new Set<string>()
  const ending = new AbortController()
  const sending = (async () => {
    while (!ending.signal.aborted) {
      const token = await keycloak.token('shop', SHOP_SECRET)
      used.add(keyOf(token))
      // So many that Keycloak has time for its keys.
      for (let sent = 0; sent < 100; sent++) {
        const { status } = await send(token)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }
    }
  })()
  try {
    await until(() => used.size === 1, PATIENCE)
    await keycloak.rotateKeys('keep')
    await until(() => used.size === 2, PATIENCE)
  } finally {
    ending.abort()
    await sending
  }
  expect([...statuses.keys()]).toEqual([202])
  // The next renewal has a token of the new key.
  const before = await cookieOf(SESSION)
  await until(async () => (await cookieOf(SESSION))?.value !== before?.value, PATIENCE)
  expect(await accessBySession()).toBe(200)
})

test('a session that ends at Keycloak ends here within seconds, and the page says so', async () => {
  await loggedIn('alice', '#/live')
  await page.getByText('alice', { exact: true }).waitFor()
  await keycloak.endSessions('alice')
  await isLoggedOut()
  await shows(/The session has ended: the issuer says invalid_grant/)
})

test('somebody who is disabled at Keycloak is out within seconds, also while they follow outcomes', async () => {
  await loggedIn('bob')
  await page.getByText('bob', { exact: true }).waitFor()
  const { value = '' } = (await cookieOf(SESSION)) ?? {}
  const following = await fetch(`${url}v1/streams/events/outcomes`, { headers: { cookie: `${SESSION}=${value}` } })
  expect(following.status).toBe(200)
  await keycloak.enableUser('bob', false)
  expect(await following.text()).toContain('The session has ended')
  await isLoggedOut()
})

test('while Keycloak is away, whoever is logged in goes on and tokens are verified; a producer that starts is ready for keys', async () => {
  await loggedIn('alice')
  await page.getByText('alice', { exact: true }).waitFor()
  // So that the producer has read the keys of now.
  expect((await send(await keycloak.token('shop', SHOP_SECRET))).status).toBe(202)
  const unseen = await keycloak.token('shop', SHOP_SECRET)
  await keycloak.kill()
  let late: ServiceProcess
  try {
    expect((await send(unseen)).status).toBe(202)
    const failed = (): boolean => shown.log.some(({ msg }) => String(msg).startsWith('the issuer cannot be asked'))
    await until(async () => {
      expect(await accessBySession()).toBe(200)
      return failed()
    }, PATIENCE)
    late = await startService('producer', { ...env, CREATE_TOPICS: 'off' })
    services.push(late)
    await until(() => late.started['port'] !== undefined, PATIENCE)
    expect(await readyDetail(late)).toContain('no token can be verified')
    producerUrl = `http://127.0.0.1:${late.started['port']}`
    const refused = await send(unseen)
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5'])
    expect((await send('kt.unknown.key')).status).toBe(401)
  } finally {
    await keycloak.restart()
  }
  await until(async () => (await accessBySession()) === 200, PATIENCE)
  await page.reload()
  await page.getByText('alice', { exact: true }).waitFor()
  await until(async () => (await readyDetail(late)) === undefined, PATIENCE)
  expect((await send(await keycloak.token('shop', SHOP_SECRET))).status).toBe(202)
})
