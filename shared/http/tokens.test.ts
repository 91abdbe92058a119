import { beforeAll, describe, expect, test } from 'bun:test'
import { CompactSign, type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose'
import pino from 'pino'
import { keyring } from '../testing/keyring.ts'
import { authoriseByToken } from './bearer.ts'
import { IssuerKeys } from './issuer.ts'
import { PROBLEMS } from './problem.ts'
import { tenantsOf } from './tenants.ts'
import { idOf, nameIn, type TokenFound, Tokens } from './tokens.ts'

const ISSUER = 'https://login.example.com/realms/shop'
const JWKS_URL = 'https://login.example.com/keys'
const AUDIENCE = 'kafkatrace'
/** Whole seconds, as tokens have them. */
const START_MS = Math.floor(Date.now() / 1_000) * 1_000

interface Key {
  kid: string
  privateKey: CryptoKey
  jwk: object
}

async function keyOf(kid: string, alg = 'ES256'): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, use: 'sig' } }
}

let first: Key
let second: Key
beforeAll(async () => {
  first = await keyOf('first')
  second = await keyOf('second')
})

/** An issuer whose keys, answers and time a test sets. */
async function issuer(keys: readonly Key[] = [first]) {
  const now = {
    keys,
    monotonicMs: 0,
    epochMs: START_MS,
    down: false,
    asked: 0,
    metadataIssuer: ISSUER,
    answers: Promise.resolve(),
  }
  const logged: unknown[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void logged.push(JSON.parse(line)) })
  const issuerKeys = new IssuerKeys({
    issuer: ISSUER,
    jwksUrl: undefined,
    log,
    nowMs: () => now.monotonicMs,
    ask: async (url) => {
      await now.answers
      if (now.down) throw Object.assign(new Error('Unable to connect'), { code: 'ConnectionRefused' })
      if (url === `${ISSUER}/.well-known/openid-configuration`)
        return Response.json({ issuer: now.metadataIssuer, jwks_uri: JWKS_URL })
      expect(url).toBe(JWKS_URL)
      now.asked++
      return Response.json({ keys: now.keys.map(({ jwk }) => jwk) })
    },
  })
  const tokens = new Tokens({
    keys: issuerKeys,
    issuer: ISSUER,
    audience: AUDIENCE,
    clockSkewSeconds: 30,
    names: { tenant: ['tenant'], streams: undefined, roles: ['roles'], rolesPrefix: '' },
    nowMs: () => now.epochMs,
  })
  /** As the periodic reading does. */
  const read = async (): Promise<void> => {
    now.monotonicMs += 10_000
    await issuerKeys.afterMiss()
  }
  if (keys.length > 0) await read()
  return { now, issuerKeys, tokens, logged, read }
}

const CLAIMS = { sub: 'alice', tenant: 'acme', roles: ['read', 'send'] }

function sign(
  key: Key,
  { claims = {}, header = {}, alg = 'ES256' }: { claims?: object; header?: object; alg?: string } = {},
): Promise<string> {
  const all = { iss: ISSUER, aud: AUDIENCE, exp: START_MS / 1_000 + 300, ...CLAIMS, ...claims }
  const payload = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
  return new SignJWT(payload).setProtectedHeader({ alg, kid: key.kid, ...header }).sign(key.privateKey)
}

/** Of a token whose key the issuer does not have, while keys are not read again. */
const REFUSED_FOR_NOW = {
  kind: 'unauthenticated',
  detail: expect.stringContaining('If it is new, send the token again in'),
  headers: { 'www-authenticate': 'Bearer realm="kafkatrace", error="invalid_token"' },
  failure: 'invalid_token',
  retryAfterSeconds: 10,
}

type Found = Awaited<ReturnType<Tokens['find']>>
const wordsOf = (found: Found): string =>
  found.ok
    ? `${found.bearer.id} ${found.bearer.tenant}`
    : `${PROBLEMS[found.problem.kind].status} ${found.problem.detail}`

describe('a token', () => {
  test('of the issuer for this audience is its bearer’s, and is verified once', async () => {
    const { tokens } = await issuer()
    const token = await sign(first)
    const found = tokens.find(token)
    expect(found).toBeInstanceOf(Promise)
    expect(await found).toMatchObject({
      ok: true,
      bearer: { id: 'jwt:alice', tenant: 'acme', roles: new Set(['send', 'read']), expiresAtMs: START_MS + 330_000 },
    })
    expect(tokens.find(token)).toEqual(await found)
  })

  test.each([
    ['at+jwt', {}],
    ['application/at+jwt', {}],
    ['AT+JWT', {}],
    ['JWT', { typ: 'Bearer' }],
    ['JWT', { aud: ['account', AUDIENCE] }],
  ])('of the type %s with %j is accepted', async (typ, claims) => {
    const { tokens } = await issuer()
    expect(wordsOf(await tokens.find(await sign(first, { header: { typ }, claims })))).toBe('jwt:alice acme')
  })

  test.each([
    ['of another issuer', { claims: { iss: `${ISSUER}/` } }, 'is of another issuer'],
    ['without an issuer', { claims: { iss: undefined } }, 'has no claim iss'],
    ['for another audience', { claims: { aud: 'other' } }, 'is for another audience than kafkatrace'],
    ['for nobody', { claims: { aud: undefined } }, 'has no claim aud'],
    ['without an end', { claims: { exp: undefined } }, 'has no claim exp'],
    ['without a subject', { claims: { sub: undefined } }, 'has no claim sub'],
    ['that has expired', { claims: { exp: START_MS / 1_000 - 31 } }, 'has expired'],
    ['that is not valid yet', { claims: { nbf: START_MS / 1_000 + 31 } }, 'is not valid yet'],
    ['with an end that is no time', { claims: { exp: 'never' } }, 'has a claim exp that is not valid'],
    ['for an object', { claims: { sub: { a: 1 } } }, 'has a claim sub that is no text'],
    ['for a number', { claims: { sub: 1 } }, 'has a claim sub that is no text'],
    ['for nobody by name', { claims: { sub: '' } }, 'has a claim sub that is no text, or an empty one'],
    ['with an end that no time can be', { claims: { exp: 1e300 } }, 'has a claim exp that is no time'],
    ['with an end just after the last time', { claims: { exp: 8.64e12 } }, 'has a claim exp that is no time'],
    ['that is an ID token of Keycloak’s', { header: { typ: 'JWT' }, claims: { typ: 'ID' } }, 'is no access token'],
    ['that is a refresh token of Keycloak’s', { claims: { typ: 'Refresh' } }, 'is no access token'],
    ['with a nonce, as ID tokens have', { claims: { nonce: 'n' } }, 'is no access token'],
    ['with a hash of an access token', { claims: { at_hash: 'h' } }, 'is no access token'],
    ['that tells of an event', { header: { typ: 'logout+jwt' }, claims: { events: {} } }, 'is no access token'],
    ['of another type', { header: { typ: 'dpop+jwt' } }, 'is no access token'],
    ['that is bound to a key', { claims: { cnf: { jkt: 'x' } } }, 'is bound to a key'],
  ])('%s is refused', async (_, how, why) => {
    const { tokens } = await issuer()
    const found = await tokens.find(await sign(first, how))
    expect(wordsOf(found)).toStartWith('401 ')
    expect(wordsOf(found)).toContain(why)
    expect(!found.ok && found.problem).toMatchObject({
      headers: { 'www-authenticate': 'Bearer realm="kafkatrace", error="invalid_token"' },
      failure: why === 'has expired' ? 'expired' : why === 'is not valid yet' ? 'not_yet_valid' : 'invalid_token',
    })
  })

  test('without an end, since that is too large a number, is refused', async () => {
    const { tokens } = await issuer()
    const json = JSON.stringify({ iss: ISSUER, aud: AUDIENCE, ...CLAIMS, exp: 0 }).replace('"exp":0', '"exp":1e400')
    const token = await new CompactSign(Buffer.from(json))
      .setProtectedHeader({ alg: 'ES256', kid: 'first' })
      .sign(first.privateKey)
    expect(wordsOf(await tokens.find(token))).toBe('401 The token has a claim exp that is no time.')
  })

  test('with critical header fields that are not understood is refused (RFC 7515, section 4.1.11)', async () => {
    const { tokens } = await issuer()
    const header = Buffer.from(JSON.stringify({ alg: 'ES256', kid: 'first', crit: ['x'], x: 1 })).toString('base64url')
    const [, payload, signature] = (await sign(first)).split('.')
    expect(wordsOf(await tokens.find(`${header}.${payload}.${signature}`))).toStartWith('401 ')
  })

  test('is within the skew of clocks on both sides', async () => {
    const { tokens } = await issuer()
    for (const claims of [{ exp: START_MS / 1_000 - 29 }, { nbf: START_MS / 1_000 + 29 }])
      expect(wordsOf(await tokens.find(await sign(first, { claims })))).toBe('jwt:alice acme')
  })

  test('that is not signed, or with a secret, is refused, though the secret be a public key', async () => {
    const { tokens } = await issuer()
    const claims = { iss: ISSUER, aud: AUDIENCE, exp: START_MS / 1_000 + 300, ...CLAIMS }
    const unsigned = new UnsecuredJWT(claims).encode()
    const secret = new TextEncoder().encode(JSON.stringify(first.jwk))
    const hmac = await new SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: 'first' }).sign(secret)
    expect(wordsOf(await tokens.find(unsigned))).toStartWith('401 This does not look like a key (kt.ID.…) or a token: ')
    expect(wordsOf(await tokens.find(`${unsigned}AAAA`))).toContain('signed in a way that is not accepted')
    expect(wordsOf(await tokens.find(hmac))).toContain('signed in a way that is not accepted')
  })

  test('of which anything was changed is refused', async () => {
    const { tokens } = await issuer()
    const token = await sign(first)
    const [header = '', payload = '', signature = ''] = token.split('.')
    const claims = { ...JSON.parse(Buffer.from(payload, 'base64url').toString()), tenant: 'other' }
    const changed = Buffer.from(JSON.stringify(claims)).toString('base64url')
    const otherKey = await sign({ ...second, kid: 'first' })
    for (const text of [`${header}.${changed}.${signature}`, `${header}.${payload}.${signature.slice(1)}A`, otherKey])
      expect(wordsOf(await tokens.find(text))).toContain('401 The token has a signature that is not its issuer’s')
  })

  test('with claims that grant nothing is answered 403, and remembered', async () => {
    const { tokens } = await issuer()
    const token = await sign(first, { claims: { tenant: undefined } })
    expect(wordsOf(await tokens.find(token))).toBe('403 The token’s claim "tenant" names no tenant.')
    expect(tokens.find(token)).not.toBeInstanceOf(Promise)
  })

  test.each([
    ['that has expired', { claims: { exp: START_MS / 1_000 - 31 } }],
    ['that is not valid yet', { claims: { nbf: START_MS / 1_000 + 31 } }],
    ['for another audience', { claims: { aud: 'other' } }],
    ['that is no access token', { claims: { nonce: 'n' } }],
    ['that grants nothing', { claims: { tenant: undefined } }],
  ])('%s is refused by its subject, for the log, only where its signature is right', async (_, how) => {
    const { tokens } = await issuer()
    const by = async (key: Key) => {
      const found = await tokens.find(await sign(key, how))
      return found.ok ? 'found' : found.problem.by
    }
    expect([await by(first), await by({ ...second, kid: 'first' })]).toEqual(['jwt:alice', undefined])
  })

  test('whose parts are no JSON is refused', async () => {
    const { tokens } = await issuer()
    const [header = '', payload = '', signature = ''] = (await sign({ ...second, kid: 'made-up' })).split('.')
    for (const text of [`${header}.AAAA.${signature}`, `AAAA.${payload}.${signature}`])
      expect(wordsOf(await tokens.find(text))).toBe('401 The token is malformed.')
  })

  test('that is very long is not looked at', async () => {
    const { tokens } = await issuer()
    const token = await sign(first, { claims: { filler: 'x'.repeat(8_192) } })
    expect(wordsOf(await tokens.find(token))).toContain('401 The token has more than 8192 characters')
  })

  test('that was verified counts until it expires', async () => {
    const { tokens, now } = await issuer()
    const token = await sign(first)
    await tokens.find(token)
    now.epochMs += 329_999
    expect(tokens.find(token)).not.toBeInstanceOf(Promise)
    now.epochMs += 1
    expect(wordsOf(await tokens.find(token))).toBe('401 The token has expired.')
  })
})

describe('the keys of the issuer', () => {
  test('are read again for a token with a new one, once for all that come at a time', async () => {
    const { tokens, now } = await issuer()
    now.keys = [first, second]
    now.monotonicMs += 10_000
    const asked = now.asked
    const two = [await sign(second), await sign(second, { claims: { sub: 'bob' } })]
    const found = await Promise.all(two.map((token) => tokens.find(token)))
    expect(found.map(wordsOf)).toEqual(['jwt:alice acme', 'jwt:bob acme'])
    expect(now.asked).toBe(asked + 1)
  })

  test('are not read more often than every ten seconds for tokens with made-up ones', async () => {
    const { tokens, now } = await issuer()
    now.monotonicMs += 10_000
    const asked = now.asked
    const made = (kid: string) => sign({ ...second, kid })
    expect(wordsOf(await tokens.find(await made('a')))).toContain('401 The token is signed with a key')
    for (const kid of ['b', 'c', 'd']) {
      const found = await tokens.find(await made(kid))
      expect(found).toMatchObject({ ok: false, problem: REFUSED_FOR_NOW })
    }
    expect(now.asked).toBe(asked + 1)
    now.monotonicMs += 10_000
    expect(wordsOf(await tokens.find(await made('e')))).toContain('401 ')
    expect(now.asked).toBe(asked + 2)
  })

  test('are not those of a made-up token, which is refused, and no fault of the service', async () => {
    const { tokens } = await issuer()
    const payload = { iss: ISSUER, aud: AUDIENCE, exp: 9e9, sub: 'x' }
    const part = (json: object) => Buffer.from(JSON.stringify(json)).toString('base64url')
    for (const header of [
      { alg: 'RS256', kid: 'made-up' },
      { alg: 'RS256', kid: 'first' },
      { alg: 'PS384', kid: 'first' },
      { alg: 'ES384', kid: 'first' },
    ])
      expect(await tokens.find(`${part(header)}.${part(payload)}.AAAA`)).toMatchObject({
        ok: false,
        problem: REFUSED_FOR_NOW,
      })
  })

  test('are awaited by so many tokens at most, and more are refused', async () => {
    const { tokens, now } = await issuer()
    now.monotonicMs += 10_000
    const { text, answer } = { text: await sign({ ...second, kid: 'made-up' }), answer: Promise.withResolvers<void>() }
    now.answers = answer.promise
    const [header, payload] = text.split('.')
    const many = Array.from({ length: 1_010 }, (_, at) => tokens.find(`${header}.${payload}.${at}`))
    const refused = await Promise.all(many.slice(1_000))
    for (const found of refused) expect(wordsOf(found)).toStartWith('401 The token is signed with a key')
    answer.resolve()
    for (const found of await Promise.all(many)) expect(wordsOf(found)).toStartWith('401 ')
  })

  test('that have a new one accept it at once after it could be read', async () => {
    const { tokens, now } = await issuer()
    now.monotonicMs += 10_000
    await tokens.find(await sign({ ...second, kid: 'made-up' }))
    now.keys = [first, second]
    now.monotonicMs += 9_000
    const token = await sign(second)
    expect(await tokens.find(token)).toMatchObject({ problem: { ...REFUSED_FOR_NOW, retryAfterSeconds: 1 } })
    now.monotonicMs += 1_000
    expect(wordsOf(await tokens.find(token))).toBe('jwt:alice acme')
  })

  test('that are read while a token is looked at count for it', async () => {
    const { tokens, issuerKeys, now, read } = await issuer()
    const before = issuerKeys.known()
    now.keys = [first, second]
    await read()
    const after = issuerKeys.known()
    let looks = 0
    issuerKeys.known = () => (looks++ === 0 ? before : after)
    expect(wordsOf(await tokens.find(await sign(second)))).toBe('jwt:alice acme')
  })

  test('that cannot be read now leave it open whether another key is theirs, and that counts as a failure', async () => {
    const { tokens, now, read } = await issuer()
    now.down = true
    await read()
    expect(await tokens.find(await sign(second))).toMatchObject({
      problem: { kind: 'unverifiable', failure: 'invalid_token', retryAfterSeconds: 10 },
    })
    now.monotonicMs += 10_000
    expect(await tokens.find(await sign(second))).toMatchObject({ problem: { kind: 'unverifiable' } })
  })

  test('are not read for tokens that would be refused anyway', async () => {
    const { tokens, now } = await issuer()
    now.monotonicMs += 10_000
    const asked = now.asked
    const other = { ...second, kid: 'made-up' }
    for (const claims of [{ iss: 'x' }, { aud: 'x' }, { exp: 1 }])
      expect(wordsOf(await tokens.find(await sign(other, { claims })))).toStartWith('401 ')
    expect(now.asked).toBe(asked)
  })

  test('that are withdrawn verify nothing any more, and what they had verified is not remembered', async () => {
    const { tokens, now, read } = await issuer([first, second])
    const [old, kept] = [await sign(first), await sign(second)]
    await tokens.find(old)
    await tokens.find(kept)
    now.keys = [second]
    await read()
    now.monotonicMs += 10_000
    expect(wordsOf(await tokens.find(old))).toContain(
      '401 The token is signed with a key that its issuer does not have',
    )
    expect(wordsOf(await tokens.find(kept))).toBe('jwt:alice acme')
  })

  test('stay in use while the issuer is away, for a day, and that is said', async () => {
    const { tokens, issuerKeys, now, read, logged } = await issuer()
    const token = await sign(first)
    now.down = true
    await read()
    await read()
    now.epochMs += 60_000
    expect(wordsOf(await tokens.find(token))).toBe('jwt:alice acme')
    expect(issuerKeys.state().detail).toContain('were last read 0 minutes ago, they are used:')
    expect(issuerKeys.state().detail).toContain(
      'connection refused: nothing listens at this address (ConnectionRefused)',
    )
    expect(logged.filter((line) => JSON.stringify(line).includes('cannot be read'))).toHaveLength(1)
    now.monotonicMs += 24 * 3_600_000
    expect(tokens.find(token)).toMatchObject({ ok: false, problem: { kind: 'unverifiable', retryAfterSeconds: 5 } })
    expect(issuerKeys.state().detail).toContain('no token can be verified')
    now.down = false
    await read()
    expect(wordsOf(await tokens.find(token))).toBe('jwt:alice acme')
    expect(issuerKeys.state()).toEqual({ ok: true })
  })

  test('that were never read make tokens wait, and no service unready', async () => {
    const { tokens, issuerKeys } = await issuer([])
    expect(tokens.find(await sign(first))).toMatchObject({ ok: false, problem: { kind: 'unverifiable' } })
    expect(issuerKeys.state()).toMatchObject({ ok: true, detail: expect.stringContaining('no token can be verified') })
  })

  test('of another issuer’s metadata are not used', async () => {
    const { tokens, issuerKeys, now, read } = await issuer([])
    now.metadataIssuer = 'https://login.example.com/realms/other'
    now.keys = [first]
    await read()
    expect(await tokens.find(await sign(first))).toMatchObject({ ok: false, problem: { kind: 'unverifiable' } })
    expect(issuerKeys.state().detail).toContain('set JWT_ISSUER to the issuer that stands in tokens, exactly')
  })

  test.each([
    [
      'a page',
      () => new Response('<html>'),
      'is JWT_JWKS_URL the address of the issuer’s keys?',
      'is JWT_ISSUER the issuer, as it stands in tokens?',
    ],
    [
      'metadata',
      () => Response.json({ issuer: ISSUER }),
      'is JWT_JWKS_URL the address of the issuer’s keys?',
      'has no jwks_uri: set JWT_JWKS_URL',
    ],
    [
      'nothing',
      () => new Response('no', { status: 404 }),
      'is JWT_JWKS_URL the address of the issuer’s keys?',
      'is JWT_ISSUER the issuer, as it stands in tokens?',
    ],
  ])('that are looked for where there is %s are so with the variable', async (_, answer, words, discovered) => {
    const log = { info: () => undefined, warn: () => undefined }
    const keys = new IssuerKeys({ issuer: ISSUER, jwksUrl: JWKS_URL, log, ask: async () => answer() })
    await keys.afterMiss()
    expect(keys.state().detail).toEndWith(words)
    const found = new IssuerKeys({ issuer: ISSUER, jwksUrl: undefined, log, ask: async () => answer() })
    await found.afterMiss()
    expect(found.state().detail).toEndWith(discovered)
  })

  test('that cannot be read at a URL are so without its query in log and state', async () => {
    const logged: unknown[] = []
    const keys = new IssuerKeys({
      issuer: ISSUER,
      jwksUrl: 'https://login.example.com/k?api_key=s3cret',
      log: { info: () => undefined, warn: (...line: unknown[]) => void logged.push(line) },
      ask: () => Promise.reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })),
    })
    await keys.afterMiss()
    expect(keys.state().detail).toContain(
      'https://login.example.com/k?(redacted): connection refused: nothing listens at this address (ECONNREFUSED)',
    )
    expect(JSON.stringify(logged)).not.toContain('s3cret')
    expect(logged).toHaveLength(1)
  })

  test('that are none do not replace those that are known', async () => {
    const { tokens, now, read } = await issuer()
    now.keys = []
    await read()
    expect(wordsOf(await tokens.find(await sign(first)))).toBe('jwt:alice acme')
  })
})

describe('names', () => {
  test.each([
    ['alice', 'jwt:alice'],
    ['auth0|5f7c', 'jwt:auth0%7C5f7c'],
    ['a b\n"(c)"', 'jwt:a%20b%0A%22(c)%22'],
    ['kt.x', 'jwt:kt.x'],
    ['\ud800', 'jwt:%EF%BF%BD'],
  ])('the subject %j is %s in logs', (subject, id) => {
    expect(idOf(subject)).toBe(id)
  })

  test('long subjects that begin alike have different ids', () => {
    const ids = ['a', 'b'].map((end) => idOf('x'.repeat(300) + end))
    expect(new Set(ids).size).toBe(2)
    for (const id of ids) expect(id.length).toBeLessThanOrEqual(100)
  })

  test.each([
    [{ preferred_username: 'alice', name: 'Alice' }, 'alice'],
    [{ name: 'Zoë O’Neill' }, 'Zoë O’Neill'],
    [{ email: 'a@example.com' }, 'a@example.com'],
    [{ preferred_username: 'x) (jwt:admin' }, 'x jwtadmin'],
    [{ preferred_username: '\u202e\n' }, undefined],
    [{ preferred_username: 7 }, undefined],
    [{ name: 'x'.repeat(100) }, 'x'.repeat(64)],
  ])('%j is called %s', (claims, name) => {
    expect(nameIn(claims)).toBe(name)
  })
})

describe('by token', () => {
  const { made, entry } = keyring()
  const file = (tenants: object) => tenantsOf({ tenants } as Parameters<typeof tenantsOf>[0])
  const acme = { streams: ['events', 'orders'], keys: [{ ...entry('key'), roles: ['read'] }] }
  const request = (key: string) => new Request('http://x/', { headers: { authorization: `Bearer ${key}` } })
  const wanted = { role: 'read', tenant: undefined, stream: undefined } as const

  async function asked(
    claims: JWTPayload,
    how: Partial<Parameters<ReturnType<ReturnType<typeof authoriseByToken>>>[1]>,
  ) {
    const { tokens, now } = await issuer()
    const decide = authoriseByToken(
      tokens,
      () => now.epochMs,
    )(file({ acme, off: { ...acme, keys: [], enabled: false } }))
    const found = await decide(request(await sign(first, { claims })), { ...wanted, ...how })
    return found.ok
      ? `${found.tenant.name}: ${[...found.streams].join(' ')}`
      : `${found.problem.kind}: ${found.problem.detail}`
  }

  test.each([
    [{}, {}, 'acme: events orders'],
    [{}, { role: 'send', stream: 'orders' }, 'acme: events orders'],
    [
      {},
      { role: 'operate' },
      'forbidden: The token of jwt:alice may not change what becomes of events: it has the roles send, read. It needs the role operate, which the issuer of its token can give it.',
    ],
    [{}, { tenant: 'off' }, 'forbidden: The token of jwt:alice is for the tenant acme only.'],
    [{}, { stream: 'none' }, 'unknown-stream: The tenant acme has the streams: events, orders.'],
    [{ tenant: 'off' }, {}, 'forbidden: The tenant off is switched off.'],
    [{ tenant: 'gone' }, {}, 'forbidden: The token is for the tenant "gone", which TENANTS_FILE does not have.'],
    [{ tenant: 'acme ' }, {}, 'forbidden: The token is for the tenant "acme ", which TENANTS_FILE does not have.'],
    [{ tenant: '*' }, { tenant: 'acme' }, 'acme: events orders'],
    [
      { tenant: '*' },
      { tenant: 'acme', role: 'send' },
      'forbidden: The token of jwt:alice may not send events: it has the role read. Events are sent with a key of their tenant.',
    ],
  ] as [JWTPayload, Parameters<typeof asked>[1], string][])('%j asks for %j: %s', async (claims, how, expected) => {
    expect(await asked(claims, how)).toBe(expected)
  })

  test('who is refused is known to the log', async () => {
    const { tokens, now } = await issuer()
    const decide = authoriseByToken(tokens, () => now.epochMs)(file({ acme }))
    const by = async (claims: JWTPayload, how: object) => {
      const found = await decide(request(await sign(first, { claims })), { ...wanted, ...how })
      return found.ok ? 'found' : found.problem.by
    }
    for (const [claims, how] of [
      [{ tenant: 'gone' }, {}],
      [{}, { role: 'operate' }],
      [{}, { stream: 'none' }],
    ] as const)
      expect(await by(claims, how)).toBe('jwt:alice')
  })

  test('a stream that the tenant does not have is none of a token’s, though its claims name it', async () => {
    const bearer = { id: 'jwt:alice', name: undefined, tenant: 'acme', expiresAtMs: Date.now() + 60_000 }
    const found = { ok: true, bearer: { ...bearer, streams: new Set(['orders', 'none']), roles: new Set(['read']) } }
    const decide = authoriseByToken({ find: () => found as TokenFound })(file({ acme }))
    const streams = async (stream: string | undefined) => {
      const decided = await decide(request('eyJ.a.b'), { ...wanted, stream })
      return decided.ok ? [...decided.streams] : decided.problem.kind
    }
    expect([await streams(undefined), await streams('orders')]).toEqual([['orders'], ['orders']])
    expect([await streams('none'), await streams('events')]).toEqual(['forbidden', 'forbidden'])
  })

  test('a key or a token is asked for where there is none, and what is neither is told so', async () => {
    const { tokens } = await issuer()
    const decide = authoriseByToken(tokens)(file({ acme }))
    const said = async (asked: Request) => {
      const found = await decide(asked, wanted)
      return found.ok ? 'allowed' : found.problem.detail
    }
    expect(await said(new Request('http://x/'))).toBe(
      'Send a key or a token: "Authorization: Bearer <key or token>" or "X-API-Key: <key>".',
    )
    for (const text of [`"${made.get('key')}"`, '<eyJ.a.b>', 'opaque'])
      expect(await said(request(text))).toBe(
        'This does not look like a key (kt.ID.…) or a token: send it without quotes, brackets or “Bearer” around it.',
      )
    expect(await said(request('kt.key.wrong'))).toBe('The key is unknown.')
  })

  test('keys go on working, without waiting for the issuer', async () => {
    const { tokens } = await issuer([])
    const decide = authoriseByToken(tokens)(file({ acme }))
    expect(decide(request(made.get('key') ?? ''), wanted)).toMatchObject({ ok: true, keyId: 'key' })
  })

  test('an answer that lasts ends when the token expires, and when its tenant goes', async () => {
    const { tokens, now } = await issuer()
    let list = file({ acme }).list
    const tenants = {
      ...file({ acme }),
      get list() {
        return list
      },
    }
    const found = await authoriseByToken(tokens, () => now.epochMs)(tenants)(request(await sign(first)), wanted)
    const again = () => {
      const later = found.ok ? found.again() : found
      return later.ok ? 'allowed' : later.problem.detail
    }
    expect(again()).toBe('allowed')
    list = file({ other: acme }).list
    expect(again()).toContain('which TENANTS_FILE does not have')
    list = file({ acme }).list
    now.epochMs += 330_000
    expect(again()).toStartWith('The token of jwt:alice has expired')
  })
})
