import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import pino from 'pino'
import { commonConfig } from '../testing/common-config.ts'
import { type Token, TokenError } from './token.ts'
import { createTokenSource, tokenOf } from './tokens.ts'

const config = commonConfig({ KAFKA_BROKERS: 'a:1' })
const AT = { place: 'issuer.example', askedAtMs: 1_000, extensions: {} }
const answered = (answer: unknown, status = 200): Token => tokenOf(status, JSON.stringify(answer), AT)
const jwt = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`

describe('the answer of a token endpoint', () => {
  test.each([
    [{ access_token: 'abc', expires_in: 300 }, 301_000],
    [{ access_token: 'abc', expires_in: '300' }, 301_000],
    [{ access_token: jwt({ exp: 5_000 }) }, 5_000_000],
    [{ access_token: jwt({ exp: 5_000 }), expires_in: 1 }, 2_000],
  ])('%j is a token until %d', (answer, expiresAtMs) => {
    expect(answered(answer)).toEqual({ value: answer.access_token, expiresAtMs, extensions: {} })
  })

  test.each([
    [401, { error: 'invalid_client' }, 'client refused (invalid_client): check KAFKA_OAUTH_CLIENT_ID'],
    [401, 'Unauthorized', 'client refused (invalid_client)'],
    [401, { error: 'unauthorized_client' }, 'client refused (invalid_client)'],
    [400, { error: 'invalid_scope', error_description: 'hidden' }, 'scope refused (invalid_scope)'],
    [400, { error: 'unauthorized_client' }, 'may not get tokens by client credentials'],
    [400, { error: 'invalid_request' }, 'it answers 400, invalid_request'],
    [400, { error: 'hidden'.repeat(99) }, 'it answers 400'],
    [503, 'hidden', 'it answers 503'],
    [302, {}, 'it answers 302'],
    [200, 'hidden', 'has no access_token: is KAFKA_OAUTH_TOKEN_URL the token endpoint?'],
    [200, [], 'has no access_token'],
    [200, { access_token: 7, expires_in: 1 }, 'has no access_token'],
    [200, { access_token: 'a\u0001b', expires_in: 1 }, 'has no access_token'],
    [200, { access_token: 'hidden' }, 'has no expires_in'],
    [200, { access_token: 'hidden', expires_in: 'soon' }, 'has no expires_in'],
    [200, { access_token: 'a.%%%.b' }, 'has no expires_in'],
  ])('%d %j is none', (status, answer, said) => {
    const get = () => tokenOf(status, typeof answer === 'string' ? answer : JSON.stringify(answer), AT)
    expect(get).toThrow(TokenError)
    expect(get).toThrow(`issuer.example: `)
    expect(get).toThrow(said)
    expect(get).not.toThrow('hidden')
  })

  test('whatever it is, is a token or a fault', () => {
    fc.assert(
      fc.property(fc.integer({ min: 100, max: 599 }), fc.oneof(fc.string(), fc.json()), (status, text) => {
        try {
          expect(typeof tokenOf(status, text, AT).value).toBe('string')
        } catch (error) {
          expect(error).toBeInstanceOf(TokenError)
        }
      }),
    )
  })
})

/** A source whose requests end when the test says so, with a clock of its own. */
function controlled() {
  const requests: PromiseWithResolvers<Token>[] = []
  const clock = { nowMs: 0 }
  const lines: string[] = []
  const log = pino({ base: null }, { write: (line: string) => lines.push((JSON.parse(line) as { msg: string }).msg) })
  const get = (): Promise<Token> => {
    const request = Promise.withResolvers<Token>()
    requests.push(request)
    return request.promise
  }
  const source = createTokenSource(config, log, get, () => clock.nowMs)
  const ending = new AbortController()
  const ask = (isFirst: boolean) => source.token({ isFirst, ending: ending.signal })
  const answer = async (value: string, lifetimeMs: number) => {
    requests.at(-1)?.resolve({ value, expiresAtMs: clock.nowMs + lifetimeMs, extensions: {} })
    await Bun.sleep(0)
  }
  return { source, requests, clock, lines, ending, ask, answer }
}

describe('tokens for all clients of a process', () => {
  test('one request serves all, and is repeated only when most of the lifetime is over', async () => {
    const { requests, clock, ask, answer } = controlled()
    const all = [ask(true), ask(true), ask(false)]
    await answer('one', 100_000)
    expect((await Promise.all(all)).map((token) => token?.value)).toEqual(['one', 'one', 'one'])
    clock.nowMs = 79_999
    expect((await ask(false))?.value).toBe('one')
    expect(requests).toHaveLength(1)
    clock.nowMs = 80_000
    const renewed = ask(false)
    // A client that connects does not wait for it.
    expect((await ask(true))?.value).toBe('one')
    await answer('two', 100_000)
    expect((await renewed)?.value).toBe('two')
    expect(requests).toHaveLength(2)
  })

  test('one that is about to expire is given to nobody', async () => {
    const { clock, ask, answer } = controlled()
    void ask(true)
    await answer('one', 100_000)
    clock.nowMs = 98_500
    const next = ask(true)
    await answer('two', 100_000)
    expect((await next)?.value).toBe('two')
  })

  test('a failure is told once, with its reason, and tried again until there is a token', async () => {
    const { source, requests, lines, ask, answer } = controlled()
    const asked = ask(true)
    for (let failure = 1; failure <= 2; failure++) {
      const made = requests.length
      requests.at(-1)?.reject(new TokenError('issuer.example: it answers 503'))
      while (requests.length === made) await Bun.sleep(1)
      expect(source.fault()).toBe('no token for Kafka: issuer.example: it answers 503')
    }
    await answer('one', 100_000)
    expect((await asked)?.value).toBe('one')
    expect(source.fault()).toBeUndefined()
    expect(lines).toEqual(['no token for Kafka', 'there is a token for Kafka again'])
  })

  test('one that did not let a client in is replaced, but no more than once a minute', async () => {
    const { source, requests, clock, ask, answer } = controlled()
    void ask(true)
    await answer('one', 3_600_000)
    clock.nowMs = 59_000
    source.notLetIn()
    expect((await ask(true))?.value).toBe('one')
    clock.nowMs = 61_000
    source.notLetIn()
    const next = ask(true)
    await answer('two', 3_600_000)
    expect((await next)?.value).toBe('two')
    source.notLetIn()
    expect((await ask(true))?.value).toBe('two')
    expect(requests).toHaveLength(2)
  })

  test('who closes waits for none', async () => {
    const { ending, ask } = controlled()
    const asked = [ask(true), ask(false)]
    ending.abort()
    expect(await Promise.all(asked)).toEqual([undefined, undefined])
    expect(await ask(true)).toBeUndefined()
  })

  test('one that has expired already is a failure', async () => {
    const { source, ask, answer, ending } = controlled()
    void ask(true)
    await answer('one', 1_000)
    expect(source.fault()).toContain('the token expires in 1 s')
    ending.abort()
  })
})
