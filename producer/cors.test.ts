import { describe, expect, test } from 'bun:test'
import { authoriseByKey } from '../shared/http/authorise.ts'
import { repeatedProblem } from '../shared/http/problem.ts'
import { makeKey, type TenantsFile, tenantsFaults, tenantsOf } from '../shared/http/tenants.ts'
import type { Logger } from '../shared/service/logger.ts'
import { authenticateBy } from './authenticate.ts'
import { Cors } from './cors.ts'

const shop = makeKey('shop-1')
const bank = makeKey('bank-1')
const SHOP = 'https://app.shop.example'
const BANK = 'https://bank.example:8443'

const declared = (shopOrigins?: string[]): TenantsFile => ({
  tenants: {
    shop: {
      streams: ['events'],
      keys: [{ id: 'shop-1', sha256: shop.sha256 }],
      ...(shopOrigins === undefined ? {} : { origins: shopOrigins }),
    },
    bank: { streams: ['events'], keys: [{ id: 'bank-1', sha256: bank.sha256 }], origins: [BANK] },
    closed: { enabled: false, streams: ['events'], keys: [], origins: ['https://closed.example'] },
  },
})

/** A service that answers with the status of its authentication. */
function service(file = declared([SHOP])) {
  expect(tenantsFaults(file)).toEqual([])
  let tenants = tenantsOf(file)
  let preflights = 0
  const logged: string[] = []
  const cors = new Cors(
    () => tenants.list,
    () => {
      preflights++
    },
    { info: (line: unknown) => void logged.push((line as { origin: string }).origin) } as Pick<Logger, 'info'>,
  )
  const authenticate = cors.authenticating((request, stream) =>
    authenticateBy(authoriseByKey(tenants))(request, stream),
  )
  const busy = repeatedProblem({ kind: 'overloaded', detail: 'Full.' })
  const fetch = cors.answering(async (request) => {
    if (request.method === 'OPTIONS') return new Response(null, { headers: { allow: 'POST, OPTIONS' } })
    if (request.headers.has('x-busy')) return busy(false)
    const decided = await authenticate(request, 'events')
    return Response.json({ ok: decided.ok }, { status: decided.ok ? 202 : 401 })
  })
  const send = (headers: Record<string, string>, path = '/v1/events', method = 'POST') =>
    Promise.resolve(fetch(new Request(`http://producer${path}`, { method, headers })))
  return {
    send,
    preflight: (headers: Record<string, string>, path?: string) =>
      send({ 'access-control-request-method': 'POST', ...headers }, path, 'OPTIONS'),
    preflights: () => preflights,
    logged,
    reload: (later: TenantsFile) => {
      tenants = tenantsOf(later, tenants)
    },
  }
}

const corsOf = ({ headers }: Response): string[] =>
  [...headers.keys()].filter((name) => name.startsWith('access-control-'))

describe('CORS', () => {
  test('is off where no tenant names an origin: nothing is in the headers', async () => {
    const { tenants } = declared()
    const { send, preflight } = service({ tenants: { shop: tenants['shop'] as TenantsFile['tenants'][string] } })
    const answers = [await send({ origin: SHOP, 'x-api-key': shop.key }), await preflight({ origin: SHOP })]
    for (const answer of answers) {
      expect(corsOf(answer)).toEqual([])
      expect(answer.headers.get('vary')).toBeNull()
    }
  })

  test('lets a page of the tenant’s read its answers, and no other page', async () => {
    const { send } = service()
    const read = await send({ origin: SHOP, 'x-api-key': shop.key })
    expect([read.status, read.headers.get('access-control-allow-origin'), read.headers.get('vary')]).toEqual([
      202,
      SHOP,
      'origin',
    ])
    expect(read.headers.get('access-control-expose-headers')).toContain('x-request-id')
    for (const origin of [
      'https://evil.example',
      BANK,
      'null',
      `${SHOP}.evil.example`,
      SHOP.toUpperCase(),
      `${SHOP}:444`,
      'http://app.shop.example',
    ])
      expect(corsOf(await send({ origin, 'x-api-key': shop.key }))).toEqual([])
  })

  test('never allows credentials, or every origin', async () => {
    const { send, preflight } = service()
    for (const { headers } of [
      await send({ origin: SHOP, 'x-api-key': shop.key }),
      await preflight({ origin: SHOP }),
    ]) {
      expect(headers.get('access-control-allow-credentials')).toBeNull()
      expect(headers.get('access-control-allow-origin')).not.toBe('*')
    }
  })

  test('lets a page of any tenant’s read why its key was not recognised', async () => {
    const { send } = service()
    const refused = await send({ origin: BANK, 'x-api-key': 'kt.none.x' })
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, BANK])
    expect(corsOf(await send({ origin: 'https://closed.example', 'x-api-key': 'kt.none.x' }))).toEqual([])
  })

  test('gives one page’s origin to no other, though answers without room are made once', async () => {
    const { send } = service()
    expect((await send({ origin: SHOP, 'x-busy': '1' })).headers.get('access-control-allow-origin')).toBe(SHOP)
    expect((await send({ origin: BANK, 'x-busy': '1' })).headers.get('access-control-allow-origin')).toBe(BANK)
    expect(corsOf(await send({ origin: 'https://evil.example', 'x-busy': '1' }))).toEqual([])
  })

  test('answers the preflight of any tenant’s page, whose key is not known yet', async () => {
    const { preflight, preflights } = service()
    for (const origin of [SHOP, BANK]) {
      const asked = 'Authorization,content-type, ce-id , x-evil'
      const { status, headers } = await preflight({ origin, 'access-control-request-headers': asked })
      expect([status, headers.get('access-control-allow-origin'), headers.get('access-control-allow-methods')]).toEqual(
        [204, origin, 'POST'],
      )
      expect(headers.get('access-control-allow-headers')).toBe('authorization, content-type, ce-id')
      expect(headers.get('access-control-max-age')).toBe('600')
      expect(headers.get('vary')).toContain('origin')
    }
    expect(preflights()).toBe(2)
    expect(corsOf(await preflight({ origin: 'https://evil.example' }))).toEqual([])
    expect(preflights()).toBe(2)
  })

  test('leaves the handshake of CloudEvents as it is', async () => {
    const { send } = service()
    for (const origin of [{}, { origin: SHOP }]) {
      const answer = await send({ 'webhook-request-origin': 'eventgrid.example', ...origin }, '/v1/events', 'OPTIONS')
      expect([answer.status, answer.headers.get('allow')]).toEqual([200, 'POST, OPTIONS'])
      expect(corsOf(answer)).toEqual([])
    }
  })

  test('is for events alone', async () => {
    const { send, preflight } = service()
    for (const path of ['/v1/sources/github', '/docs', '/openapi.json', '/v1/events/more']) {
      expect(corsOf(await send({ origin: SHOP, 'x-api-key': shop.key }, path))).toEqual([])
      expect(corsOf(await preflight({ origin: SHOP }, path))).toEqual([])
    }
    expect(corsOf(await preflight({ origin: SHOP }, '/v1/streams/orders/events'))).not.toEqual([])
  })

  test('follows the tenants file', async () => {
    const { send, preflight, reload } = service()
    reload(declared([]))
    expect(corsOf(await send({ origin: SHOP, 'x-api-key': shop.key }))).toEqual([])
    expect(corsOf(await preflight({ origin: SHOP }))).toEqual([])
    reload(declared(['https://new.shop.example']))
    expect(corsOf(await preflight({ origin: 'https://new.shop.example' }))).not.toEqual([])
  })
})

describe('an origin that no tenant names', () => {
  const EVIL = 'https://evil.example'

  test('is logged once, and again after the tenants have changed', async () => {
    const { preflight, logged, reload } = service()
    for (const origin of [EVIL, SHOP, EVIL, 'https://closed.example']) await preflight({ origin })
    expect(logged).toEqual([EVIL, 'https://closed.example'])
    reload(declared([]))
    for (const origin of [EVIL, SHOP]) await preflight({ origin })
    expect(logged.slice(2)).toEqual([EVIL, SHOP])
  })

  test('is logged where no tenant names any, and not for what is no preflight', async () => {
    const { preflight, send, logged } = service({ tenants: {} })
    await send({ origin: EVIL }, '/v1/events', 'OPTIONS')
    await send({ origin: EVIL })
    expect(logged).toEqual([])
    await preflight({ origin: EVIL })
    expect(logged).toEqual([EVIL])
  })

  test('is logged cut, as printable text, and so many at most', async () => {
    const { preflight, logged } = service()
    await preflight({ origin: `https://\u00e9\u0085${'x'.repeat(1_000)}` })
    expect(logged).toEqual([`https://??${'x'.repeat(190)}`])
    for (let at = 0; at < 200; at++) await preflight({ origin: `https://${at}.example` })
    expect(logged).toHaveLength(100)
  })
})
