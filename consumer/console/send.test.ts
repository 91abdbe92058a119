import { describe, expect, test } from 'bun:test'
import { keyOf } from '../../shared/http/credentials.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { readBody } from './parameters.ts'
import { SentEvent, send } from './send.ts'

const PRODUCER_URL = 'http://producer:8080/base/'
const request = (headers: Record<string, string> = {}, query = '') => {
  const asked = new Request(`http://localhost/v1/streams/s/events${query}`, { method: 'POST', headers })
  return { bearer: async () => keyOf(asked), isLoggedIn: false }
}
const person = (token: string | undefined) => ({ bearer: async () => token, isLoggedIn: true })

describe('an event that is sent through the console', () => {
  test('goes to the producer as whoever sent it, with all digits, and its answer comes back as it is', async () => {
    const asked: [url: string, init: RequestInit][] = []
    const ask = async (url: string, init: RequestInit) => {
      asked.push([url, init])
      return Response.json({ receipts: [{ id: 'x' }] }, { status: 202 })
    }
    const text = '{"type":"order.placed","data":{"total":12345678901234567890.10}}'
    const body = new Request('http://localhost/', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: text,
    })
    const event = await readBody(SentEvent, body)
    const answer = await send({ PRODUCER_URL }, 'a/b', event, request({ 'x-api-key': 'kt.a.b' }), ask)
    expect(answer).toMatchObject({ status: 202, body: { receipts: [{ id: 'x' }] } })
    const [[url, init] = ['', {}]] = asked
    expect(url).toBe('http://producer:8080/base/v1/streams/a%2Fb/events')
    expect(init).toMatchObject({ method: 'POST', redirect: 'error', body: text })
    expect(new Headers(init.headers).get('authorization')).toBe('Bearer kt.a.b')
    await send({ PRODUCER_URL }, 's', event, request({}, '?access_token=kt.c.d'), ask)
    expect(new Headers(asked[1]?.[1].headers).get('authorization')).toBe('Bearer kt.c.d')
    await send({ PRODUCER_URL }, 's', event, request(), ask)
    expect(new Headers(asked[2]?.[1].headers).get('authorization')).toBeNull()
    await send({ PRODUCER_URL }, 's', event, request({}, '?access_token=a%0d%0aX:1'), ask)
    expect(new Headers(asked[3]?.[1].headers).get('authorization')).toBeNull()
  })

  test('goes there with the token of who is logged in, and a token that is refused ends no session', async () => {
    const statuses = [202, 401]
    const tokens: (string | null)[] = []
    const ask = async (_url: string, init: RequestInit) => {
      tokens.push(new Headers(init.headers).get('authorization'))
      return Response.json({}, { status: statuses.shift() ?? 500 })
    }
    expect((await send({ PRODUCER_URL }, 's', {}, person('eyJ.a.b'), ask)).status).toBe(202)
    const expected = { kind: 'producer-unavailable', outcome: 'not stored' }
    expect(await problemOf(() => send({ PRODUCER_URL }, 's', {}, person('eyJ.a.b'), ask))).toMatchObject(expected)
    expect(await problemOf(() => send({ PRODUCER_URL }, 's', {}, person(undefined), ask))).toMatchObject(expected)
    expect(tokens).toEqual(['Bearer eyJ.a.b', 'Bearer eyJ.a.b'])
  })

  test('is refused as the producer refuses it, with the time to wait', async () => {
    const ask = async () =>
      new Response('{"status":429,"detail":"too many"}', {
        status: 429,
        headers: { 'content-type': 'application/problem+json', 'retry-after': '7' },
      })
    expect(await send({ PRODUCER_URL }, 's', {}, request(), ask)).toEqual({
      status: 429,
      headers: { 'retry-after': '7' },
      body: { status: 429, detail: 'too many' },
      contentType: 'application/problem+json',
    })
  })

  test.each([
    ['ConnectionRefused', 'not stored', /Nothing was stored/],
    // The producer's certificate is looked at before anything is sent.
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'not stored', /wrong host name: .*Nothing was stored/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'not stored', /NODE_EXTRA_CA_CERTS.*Nothing was stored/],
    ['EPROTO', 'unknown', /may be stored/],
    ['ECONNRESET', 'unknown', /may be stored/],
  ])('%s: it is said whether it may be stored', async (code, outcome, words) => {
    const ask = async () => Promise.reject(Object.assign(new Error('no way to http://producer'), { code }))
    const problem = await problemOf(() => send({ PRODUCER_URL }, 's', {}, request(), ask))
    expect(problem).toMatchObject({ kind: 'producer-unavailable', outcome, retryAfterSeconds: 5 })
    expect(problem.detail).toMatch(words)
    expect(problem.detail).toContain(code)
    expect(problem.detail).not.toContain('http://producer')
  })

  test('is not known to be stored where the answer cannot be read', async () => {
    for (const text of ['<html>', 'x'.repeat(2 ** 20 + 1)])
      expect(
        await problemOf(() => send({ PRODUCER_URL }, 's', {}, request(), async () => new Response(text))),
      ).toMatchObject({
        kind: 'producer-unavailable',
        outcome: 'unknown',
      })
  })

  test('passes on JSON only, and reads no more of an answer than it may have', async () => {
    const html = new Response('"<script>"', { headers: { 'content-type': 'text/html' } })
    expect(await send({ PRODUCER_URL }, 's', {}, request(), async () => html)).toMatchObject({
      contentType: 'application/json',
    })
    let pieces = 0
    const pull = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
      controller.enqueue(new Uint8Array(2 ** 16))
      // Whoever reads all of it fails, and ends.
      if (++pieces === 1_000) controller.close()
    }
    const endless = new Response(new ReadableStream({ pull }))
    expect(await problemOf(() => send({ PRODUCER_URL }, 's', {}, request(), async () => endless))).toMatchObject({
      kind: 'producer-unavailable',
    })
    expect(pieces).toBeLessThan(32)
  })

  test('goes nowhere without PRODUCER_URL', async () => {
    expect(await problemOf(() => send({}, 's', {}, request()))).toMatchObject({ kind: 'not-found' })
  })
})
