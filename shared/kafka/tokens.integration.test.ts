import { afterAll, beforeAll, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { type Authority, type Certificate, createAuthority } from '../testing/certificates.ts'
import { commonConfig } from '../testing/common-config.ts'
import { requestToken } from './tokens.ts'

/** Token endpoints with real certificates. */

const ID = 'kafka trace'
const SECRET = 'a:b%c&d'

let authority: Authority
let other: Authority
let certificates: Record<'good' | 'expired' | 'elsewhere', Certificate>
const stopping: (() => unknown)[] = []

beforeAll(async () => {
  ;[authority, other] = await Promise.all([createAuthority(), createAuthority()])
  const here = 'DNS:localhost,IP:127.0.0.1'
  certificates = {
    good: await authority.issue(here),
    expired: await authority.issue(here, -1),
    elsewhere: await authority.issue('DNS:elsewhere.example'),
  }
}, 30_000)

afterAll(() => {
  for (const stop of stopping) stop()
})

/** A token endpoint. @returns its URL */
function endpoint(of: keyof typeof certificates, answer: (request: Request) => Response | Promise<Response>): string {
  const { certificateFile, keyFile } = certificates[of]
  const tls = { cert: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') }
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, tls, fetch: answer })
  stopping.push(() => server.stop(true))
  return `https://127.0.0.1:${server.port}/token`
}

const configOf = (url: string, more: Record<string, string> = {}) =>
  commonConfig({
    KAFKA_BROKERS: 'a:1',
    KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
    KAFKA_SASL_MECHANISM: 'OAUTHBEARER',
    KAFKA_OAUTH_TOKEN_URL: url,
    KAFKA_OAUTH_CLIENT_ID: ID,
    KAFKA_OAUTH_CLIENT_SECRET: SECRET,
    KAFKA_OAUTH_CA_FILE: authority.certificateFile,
    ...more,
  })

const faultOf = (url: string, more?: Record<string, string>): Promise<string> =>
  requestToken(configOf(url, more)).then(
    () => 'a token',
    (error: Error) => error.message,
  )

const good = () => Response.json({ access_token: 'abc', expires_in: 60, token_type: 'Bearer' })

test('the request is as RFC 6749 has it, and the answer is the token', async () => {
  let seen: { method: string; authorization: string | null; body: string } | undefined
  const url = endpoint('good', async (request) => {
    seen = { method: request.method, authorization: request.headers.get('authorization'), body: await request.text() }
    return good()
  })
  const before = Date.now()
  const token = await requestToken(
    configOf(url, { KAFKA_OAUTH_SCOPE: 'kafka read', KAFKA_OAUTH_EXTENSIONS: 'logicalCluster=lkc-1' }),
  )
  expect(token).toMatchObject({ value: 'abc', extensions: { logicalCluster: 'lkc-1' } })
  expect(token.expiresAtMs - before).toBeWithin(60_000, 70_000)
  expect(seen).toEqual({
    method: 'POST',
    authorization: `Basic ${Buffer.from('kafka+trace:a%3Ab%25c%26d').toString('base64')}`,
    body: 'grant_type=client_credentials&scope=kafka+read',
  })
})

test('what is wrong with an endpoint has a name, without secrets', async () => {
  const url = endpoint('good', () => Response.json({ error: 'invalid_client', hint: SECRET }, { status: 401 }))
  const closed = createServer()
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
  const { port } = closed.address() as { port: number }
  await new Promise((resolve) => closed.close(resolve))
  const found = {
    client: await faultOf(url),
    authority: await faultOf(url, { KAFKA_OAUTH_CA_FILE: other.certificateFile }),
    expired: await faultOf(endpoint('expired', good)),
    elsewhere: await faultOf(endpoint('elsewhere', good)),
    refused: await faultOf(`https://127.0.0.1:${port}/token`),
    unknown: await faultOf('https://nowhere.invalid/token'),
    redirect: await faultOf(endpoint('good', () => Response.redirect('https://elsewhere.invalid/', 302))),
    large: await faultOf(endpoint('good', () => new Response('x'.repeat(300_000)))),
    broken: await faultOf(endpoint('good', () => new Response('{'))),
  }
  expect(found).toEqual({
    client: expect.stringContaining(': client refused (invalid_client)'),
    authority: expect.stringContaining(': unknown authority: '),
    expired: expect.stringContaining(': its certificate has expired'),
    elsewhere: expect.stringContaining(': wrong host name: '),
    refused: expect.stringContaining(': connection refused'),
    unknown: expect.stringContaining('nowhere.invalid: unknown host name'),
    redirect: expect.stringContaining(': it redirects'),
    large: expect.stringContaining('more than'),
    broken: expect.stringContaining('has no access_token'),
  })
  for (const said of Object.values(found)) {
    expect(said).not.toContain(SECRET)
    expect(said).not.toContain('a%3Ab')
  }
})
