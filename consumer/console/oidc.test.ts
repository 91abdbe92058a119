import { beforeAll, describe, expect, test } from 'bun:test'
import { createHash } from 'node:crypto'
import { type CryptoKey, generateKeyPair, SignJWT } from 'jose'
import { type Checks, IssuerError, Oidc, RefusedError } from './oidc.ts'

/** The client of an issuer that a test plays: what it sends, and which answers it believes. */

const ISSUER = 'https://login.example.com/realms/shop'
const REDIRECT = 'https://console.example.com/auth/callback'

let key: CryptoKey
beforeAll(async () => {
  key = (await generateKeyPair('ES256')).privateKey
})

const times = () => ({ iat: Math.floor(Date.now() / 1_000), exp: Math.floor(Date.now() / 1_000) + 300 })

function issuer(options: { clientSecret?: string; supports?: string[]; secretOf?: () => string } = {}) {
  const asked: { path: string; body: Record<string, string>; authorization: string | null }[] = []
  const plays = {
    fault: undefined as Error | undefined,
    /** In place of tokens. */
    refusal: undefined as { status: number; error: string } | undefined,
    claims: {} as object,
    metadata: {} as object,
  }
  const idToken = (nonce: string): Promise<string> =>
    new SignJWT({ iss: ISSUER, aud: 'console', sub: 'alice', nonce, ...times(), ...plays.claims })
      .setProtectedHeader({ alg: 'ES256' })
      .sign(key)
  const oidc = new Oidc({
    issuer: ISSUER,
    clientId: 'console',
    clientSecret:
      options.clientSecret === undefined ? undefined : async () => options.secretOf?.() ?? options.clientSecret ?? '',
    scope: 'openid profile',
    audience: 'kafkatrace',
    redirectUri: REDIRECT,
    homeUri: 'https://console.example.com/',
    mayBeInsecure: false,
    ask: async (url, { body, headers }) => {
      if (plays.fault !== undefined) throw plays.fault
      const path = url.replace(ISSUER, '')
      if (path === '/.well-known/openid-configuration')
        return Response.json({
          issuer: ISSUER,
          authorization_endpoint: `${ISSUER}/auth`,
          token_endpoint: `${ISSUER}/token`,
          revocation_endpoint: `${ISSUER}/revoke`,
          end_session_endpoint: `${ISSUER}/logout`,
          jwks_uri: `${ISSUER}/keys`,
          id_token_signing_alg_values_supported: ['ES256'],
          authorization_response_iss_parameter_supported: true,
          ...(options.supports && { token_endpoint_auth_methods_supported: options.supports }),
          ...plays.metadata,
        })
      const fields = Object.fromEntries(new URLSearchParams(String(body)))
      asked.push({ path, body: fields, authorization: new Headers(headers).get('authorization') })
      if (plays.refusal !== undefined)
        return Response.json({ error: plays.refusal.error }, { status: plays.refusal.status })
      if (path === '/revoke') return new Response(null)
      const isRenewal = fields['grant_type'] === 'refresh_token'
      return Response.json({
        access_token: 'an-access-token',
        token_type: 'Bearer',
        expires_in: 300,
        refresh_token: 'a-refresh-token',
        ...(isRenewal ? {} : { id_token: await idToken(nonceOf()) }),
      })
    },
  })
  let checks: Checks | undefined
  const nonceOf = (): string => checks?.nonce ?? ''
  const begin = async () => {
    const begun = await oidc.begin()
    checks = begun.checks
    return begun
  }
  const finish = async (query = ''): Promise<Awaited<ReturnType<Oidc['finish']>>> => {
    const { checks } = await begin()
    const iss = encodeURIComponent(ISSUER)
    return oidc.finish(query === '' ? `?code=c&state=${checks.state}&iss=${iss}` : query, checks)
  }
  return { oidc, asked, plays, begin, finish }
}

/** How a promise fails. */
const faultOf = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('it did not fail'),
    (error) => error as Error,
  )

describe('a log-in', () => {
  test('asks who it is though the issuer knows somebody, where that is wanted', async () => {
    const { oidc } = issuer()
    const promptOf = async (asksAnew: boolean) => new URL((await oidc.begin(asksAnew)).url).searchParams.get('prompt')
    expect([await promptOf(true), await promptOf(false)]).toEqual(['login', null])
  })

  test('asks for a code with PKCE, a state and a nonce, new ones each time', async () => {
    const { begin } = issuer()
    const [one, other] = [await begin(), await begin()]
    const { origin, pathname, searchParams } = new URL(one.url)
    expect(origin + pathname).toBe(`${ISSUER}/auth`)
    expect(Object.fromEntries(searchParams)).toEqual({
      client_id: 'console',
      response_type: 'code',
      redirect_uri: REDIRECT,
      scope: 'openid profile',
      audience: 'kafkatrace',
      state: one.checks.state,
      nonce: one.checks.nonce,
      code_challenge: createHash('sha256').update(one.checks.verifier).digest('base64url'),
      code_challenge_method: 'S256',
    })
    for (const name of ['state', 'nonce', 'verifier'] as const) expect(one.checks[name]).not.toBe(other.checks[name])
  })

  test('takes the tokens for the code, with the proof that it has begun', async () => {
    const { finish, asked } = issuer()
    expect(await finish()).toMatchObject({
      accessToken: 'an-access-token',
      expiresInSeconds: 300,
      refreshToken: 'a-refresh-token',
      idToken: { claims: { sub: 'alice' } },
    })
    expect(asked).toEqual([
      {
        path: '/token',
        authorization: null,
        body: {
          grant_type: 'authorization_code',
          code: 'c',
          redirect_uri: REDIRECT,
          client_id: 'console',
          code_verifier: expect.stringMatching(/^[\w-]{43}$/),
        },
      },
    ])
  })

  test.each([
    [['client_secret_basic'], null, `Basic ${btoa('console:s%2B1')}`],
    [undefined, null, `Basic ${btoa('console:s%2B1')}`],
    [['client_secret_basic', 'client_secret_post'], 's+1', null],
  ] as const)('where the issuer supports %j, proves its own secret so', async (supports, inBody, inHeader) => {
    const { finish, asked } = issuer({ clientSecret: 's+1', ...(supports && { supports: [...supports] }) })
    await finish()
    expect([asked[0]?.body['client_secret'] ?? null, asked[0]?.authorization ?? null]).toEqual([inBody, inHeader])
  })

  test('uses the secret of now', async () => {
    let secret = 'old'
    const { finish, asked } = issuer({ clientSecret: 'x', supports: ['client_secret_post'], secretOf: () => secret })
    await finish()
    secret = 'new'
    await finish()
    expect(asked.map(({ body }) => body['client_secret'])).toEqual(['old', 'new'])
  })

  const query = (state: string, iss = ISSUER) => `?code=c&state=${state}&iss=${encodeURIComponent(iss)}`

  test.each([
    ['with another state', () => query('other')],
    ['without a state', () => `?code=c&iss=${encodeURIComponent(ISSUER)}`],
    ['of another issuer (RFC 9207)', (state: string) => query(state, 'https://evil.example')],
    ['without an issuer, of one that always names itself', (state: string) => `?code=c&state=${state}`],
    ['that is an error', (state: string) => `${query(state).replace('code=c', 'error=access_denied')}`],
  ])('an answer %s is refused, and its code is not used', async (_, queryOf) => {
    const { oidc, asked, begin } = issuer()
    const { checks } = await begin()
    expect(await faultOf(oidc.finish(queryOf(checks.state), checks))).toBeInstanceOf(RefusedError)
    expect(asked).toEqual([])
  })

  test.each([
    ['with another nonce', { nonce: 'other' }],
    ['for another client', { aud: 'other' }],
    ['of another issuer', { iss: 'https://evil.example' }],
    ['that has expired', { exp: 1 }],
  ])('an ID token %s logs nobody in', async (_, claims) => {
    const { finish, plays } = issuer()
    plays.claims = claims
    expect(await faultOf(finish())).toBeInstanceOf(RefusedError)
  })

  test('is not begun with the metadata of another issuer, nor one without TLS', async () => {
    for (const metadata of [{ issuer: 'https://evil.example' }, { token_endpoint: 'http://login.example.com/token' }]) {
      const { finish, plays } = issuer()
      plays.metadata = metadata
      expect(await faultOf(finish())).toBeInstanceOf(IssuerError)
    }
  })

  test('says what is wrong with the client, and with the connection', async () => {
    const { finish, plays } = issuer()
    plays.refusal = { status: 401, error: 'invalid_client' }
    const wrong = await faultOf(finish())
    expect(wrong).toBeInstanceOf(IssuerError)
    expect(wrong.message).toBe(
      'the issuer says invalid_client: check OIDC_CLIENT_ID, and OIDC_CLIENT_SECRET or its file',
    )
    const away = issuer()
    away.plays.fault = Object.assign(new Error('Unable to connect'), { code: 'ConnectionRefused' })
    const fault = await faultOf(away.begin())
    expect(fault).toBeInstanceOf(IssuerError)
    expect(fault.message).toBe(`${ISSUER}: connection refused: nothing listens at this address (ConnectionRefused)`)
  })

  test('shows nothing of the issuer’s words but a code', async () => {
    const { finish, plays } = issuer()
    plays.refusal = { status: 400, error: '<script>alert(1)</script>' }
    expect((await faultOf(finish())).message).toBe('the issuer says an error that is none of OAuth')
  })
})

describe('a session', () => {
  test('is renewed by its refresh token', async () => {
    const { oidc, asked } = issuer()
    expect(await oidc.renew('r-1')).toMatchObject({ accessToken: 'an-access-token', idToken: undefined })
    expect(asked[0]?.body).toMatchObject({ grant_type: 'refresh_token', refresh_token: 'r-1' })
  })

  test.each([
    [400, 'invalid_grant', RefusedError],
    [400, 'interaction_required', RefusedError],
    [401, 'invalid_client', IssuerError],
    [400, 'invalid_scope', IssuerError],
    [503, 'temporarily_unavailable', IssuerError],
  ] as const)('to whose renewal the issuer says %d %s ends or goes on', async (status, error, expected) => {
    const { oidc, plays } = issuer()
    plays.refusal = { status, error }
    expect(await faultOf(oidc.renew('r-1'))).toBeInstanceOf(expected)
  })

  test('ends at the issuer, where one is sent with what tells it whose session it is', async () => {
    const { oidc, asked } = issuer()
    await oidc.revoke('r-1')
    expect(asked[0]).toMatchObject({ path: '/revoke', body: { token: 'r-1', token_type_hint: 'refresh_token' } })
    const url = new URL((await oidc.logoutUrl('an-id-token')) ?? '')
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: 'console',
      id_token_hint: 'an-id-token',
      post_logout_redirect_uri: 'https://console.example.com/',
    })
  })

  test('of an issuer without these ends here alone', async () => {
    const { oidc, plays, asked } = issuer()
    plays.metadata = { revocation_endpoint: undefined, end_session_endpoint: undefined }
    await oidc.revoke('r-1')
    expect([await oidc.logoutUrl('an-id-token'), asked]).toEqual([undefined, []])
  })
})
