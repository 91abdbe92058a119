import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { authoriseByKey } from './authorise.ts'
import { authoriseByCertificate, type ClientCertificate, namesOf, showCertificate } from './client-certificates.ts'
import { makeKey, type TenantsFile, tenantsFaults, tenantsOf } from './tenants.ts'

const NOW_MS = Date.parse('2026-11-30T12:00:00Z')
const shopKey = makeKey('shop-1')
const bankKey = makeKey('bank-1')
const anyKey = makeKey('on-call')

const FILE: TenantsFile = {
  tenants: {
    shop: {
      streams: ['events', 'orders'],
      keys: [{ id: 'shop-1', sha256: shopKey.sha256 }],
      certificates: [
        { id: 'till', san: 'URI:spiffe://shop/till' },
        { id: 'office', subject: 'CN=office,O=Shop', roles: ['read'] },
        { id: 'orders', san: 'DNS:Orders.Shop.example', streams: ['orders'] },
      ],
      origins: ['https://app.shop.example'],
    },
    bank: {
      streams: ['events'],
      keys: [{ id: 'bank-1', sha256: bankKey.sha256 }],
      certificates: [{ id: 'branch', san: 'email:branch@bank.example' }],
    },
  },
  operators: [{ id: 'on-call', sha256: anyKey.sha256 }],
}

const shown = (...names: string[]): ClientCertificate => ({ names, notAfterMs: NOW_MS + 1_000, fault: undefined })

/** Who a request is of, or why it is refused. */
function service(file = FILE) {
  expect(tenantsFaults(file)).toEqual([])
  const tenants = tenantsOf(file)
  const clock = { nowMs: NOW_MS }
  const now = () => clock.nowMs
  const authorise = authoriseByCertificate(tenants, authoriseByKey(tenants, now), now)
  const ask = async (
    certificate: ClientCertificate | undefined,
    headers: Record<string, string> = {},
    wanted: { role?: 'send' | 'read'; stream?: string; tenant?: string } = {},
  ) => {
    const request = new Request('http://x/', { headers })
    if (certificate !== undefined) showCertificate(request, certificate)
    const { role = 'send', stream = 'events', tenant } = wanted
    const decided = await authorise(request, { role, stream, tenant })
    const say = (one: Awaited<typeof decided>): string =>
      one.ok ? `${one.tenant.name} ${one.keyId}` : `${one.problem.kind}: ${one.problem.detail}`
    return { said: say(decided), again: () => (decided.ok ? say(decided.again()) : 'refused') }
  }
  return { ask, clock }
}

const TILL = shown('subject:CN=till', 'URI:spiffe://shop/till')
const refused = (kind: string) => expect.stringMatching(new RegExp(`^${kind}: `))

describe('a client certificate', () => {
  test('stands for the tenant that names it, with its own streams and roles', async () => {
    const { ask } = service()
    expect((await ask(TILL)).said).toBe('shop till')
    expect((await ask(shown('subject:CN=office,O=Shop'), {}, { role: 'read' })).said).toBe('shop office')
    expect((await ask(shown('subject:CN=office,O=Shop'))).said).toEqual(refused('forbidden'))
    expect((await ask(shown('DNS:orders.shop.example'), {}, { stream: 'orders' })).said).toBe('shop orders')
    expect((await ask(shown('DNS:orders.shop.example'))).said).toEqual(refused('forbidden'))
    expect((await ask(shown('DNS:orders.shop.example'))).said).toContain('The certificate orders is for these streams')
    expect((await ask(TILL, {}, { tenant: 'bank' })).said).toContain('The certificate till is for the tenant shop only')
    expect((await ask(shown('email:branch@bank.example'))).said).toBe('bank branch')
    expect((await ask(TILL, {}, { tenant: 'bank' })).said).toEqual(refused('forbidden'))
  })

  test('is known by a whole name only, and of its kind', async () => {
    const { ask } = service()
    for (const name of [
      'URI:spiffe://shop/till/2',
      'URI:spiffe://shop/TILL',
      'DNS:spiffe://shop/till',
      'subject:CN=office',
      'subject:O=Shop,CN=office',
    ])
      expect((await ask(shown(name))).said).toEqual(refused('unauthenticated'))
  })

  test('that was not accepted is refused, with a key as well', async () => {
    const { ask } = service()
    const bad = { ...TILL, fault: 'self signed certificate' }
    for (const headers of [{}, { 'x-api-key': shopKey.key }]) {
      const { said } = await ask(bad, headers as Record<string, string>)
      expect(said).toBe('unauthenticated: The client’s certificate is not accepted: self signed certificate.')
    }
  })

  test('that stands for nobody is as none', async () => {
    const { ask } = service()
    expect((await ask(shown('DNS:x.example'), { 'x-api-key': bankKey.key })).said).toBe('bank bank-1')
    expect((await ask(undefined, { 'x-api-key': bankKey.key })).said).toBe('bank bank-1')
    expect((await ask(shown('DNS:x.example'))).said).toContain('Its names are: DNS:x.example.')
  })

  test('and a key that name different tenants are refused with 400', async () => {
    const { ask } = service()
    expect((await ask(TILL, { 'x-api-key': shopKey.key })).said).toBe('shop shop-1')
    expect((await ask(TILL, { 'x-api-key': bankKey.key })).said).toEqual(refused('malformed'))
    const operator = { 'x-api-key': anyKey.key }
    expect((await ask(TILL, operator, { role: 'read', tenant: 'bank' })).said).toEqual(refused('malformed'))
    expect((await ask(TILL, operator, { role: 'read', tenant: 'shop' })).said).toBe('shop on-call')
    expect((await ask(TILL, { 'x-api-key': 'kt.none.x' })).said).toEqual(refused('unauthenticated'))
  })

  test('that several entries name is refused with 400', async () => {
    const both = shown('URI:spiffe://shop/till', 'email:branch@bank.example')
    expect((await service().ask(both)).said).toEqual(refused('malformed'))
  })

  test('is not accepted any more once it has expired, also by a request that lasts', async () => {
    const { ask, clock } = service()
    const { said, again } = await ask(TILL)
    expect([said, again()]).toEqual(['shop till', 'shop till'])
    clock.nowMs = TILL.notAfterMs
    expect(again()).toEqual(refused('unauthenticated'))
    expect((await ask(TILL)).said).toEqual(refused('unauthenticated'))
  })

  test('is not used by pages of other sites, except of the tenant’s origins', async () => {
    const { ask } = service()
    const page = (site: string, origin: string) => ({ 'sec-fetch-site': site, origin })
    for (const site of ['cross-site', 'same-site'])
      expect((await ask(TILL, page(site, 'https://evil.example'))).said).toEqual(refused('forbidden'))
    expect((await ask(TILL, { 'sec-fetch-site': 'cross-site' })).said).toEqual(refused('forbidden'))
    expect((await ask(TILL, page('cross-site', 'https://app.shop.example'))).said).toBe('shop till')
    const own = { ...page('same-origin', 'https://producer.example'), host: 'producer.example' }
    expect((await ask(TILL, own)).said).toBe('shop till')
  })

  test('is not used by pages of other sites in browsers without Sec-Fetch-Site either', async () => {
    const { ask } = service()
    const page = (origin: string) => ({ origin, host: 'producer.example:8443' })
    for (const origin of [
      'https://evil.example',
      'null',
      'http://producer.example:8443',
      'https://producer.example',
      'https://producer.example:84433',
    ])
      expect((await ask(TILL, page(origin))).said).toEqual(refused('forbidden'))
    expect((await ask(TILL, { ...page('https://evil.example'), 'sec-fetch-site': 'none' })).said).toEqual(
      refused('forbidden'),
    )
    expect((await ask(TILL, page('https://producer.example:8443'))).said).toBe('shop till')
    expect((await ask(TILL, page('https://app.shop.example'))).said).toBe('shop till')
  })
})

test('what is wrong with a certificate in the tenants file is named', () => {
  const faultsOf = (...certificates: NonNullable<TenantsFile['tenants'][string]['certificates']>) =>
    tenantsFaults({ tenants: { a: { streams: ['events'], keys: [], certificates } } })
  expect(faultsOf({ id: 'x' })).toEqual(['the certificate x needs one of san and subject, and not both'])
  expect(faultsOf({ id: 'x', san: 'DNS:a', subject: 'CN=a' })).toHaveLength(1)
  expect(faultsOf({ id: 'x', subject: '' })).toHaveLength(1)
  for (const san of ['a.example', 'IP:10.0.0.1', 'DNS:', 'DNS: a', 'dns:a', 'URI:ü'])
    expect(faultsOf({ id: 'x', san })).toEqual([expect.stringContaining('none of DNS:NAME, URI:NAME and email:NAME')])
  expect(faultsOf({ id: 'x', san: 'DNS:a' }, { id: 'x', san: 'DNS:b' })).toEqual([
    'the id x of a key or certificate is given twice, by a and a',
  ])
  expect(faultsOf({ id: 'x', san: 'DNS:a' }, { id: 'y', san: 'DNS:A' })).toEqual([
    'the certificate DNS:a is given twice, by a and a',
  ])
  expect(faultsOf({ id: 'x', san: 'DNS:a', streams: ['none'] })).toEqual([
    'the certificate x names the stream none, which a does not have',
  ])
})

describe('the names of a certificate', () => {
  test('are its subject alternative names, and its subject from its last part to its first', () => {
    const names = namesOf({
      subject: 'C=DE\nO=Sh\\, op\nOU=a + OU=b\nCN=till',
      subjectAltName:
        'DNS:Till.Example, IP Address:127.0.0.1, URI:spiffe://shop/till, email:a@b.example, othername:<unsupported>',
    })
    expect(names).toEqual([
      'DNS:till.example',
      'URI:spiffe://shop/till',
      'email:a@b.example',
      'subject:CN=till,OU=b+OU=a,O=Sh\\, op,C=DE',
    ])
    expect(namesOf({ subject: '', subjectAltName: undefined })).toEqual([])
  })

  test('are not taken from within other names', () => {
    for (const subjectAltName of [
      'URI:"x, DNS:admin.example"',
      'DNS:"a\\", DNS:admin.example"',
      'othername:"x", DNS:"y, URI:spiffe://shop/till"',
    ])
      expect(namesOf({ subject: '', subjectAltName })).toEqual([])
    fc.assert(
      fc.property(fc.string({ maxLength: 30 }), (text) => {
        const subjectAltName = `URI:${JSON.stringify(`${text}, DNS:admin.example`)}`
        expect(namesOf({ subject: '', subjectAltName })).toEqual([])
      }),
      { numRuns: 100 },
    )
  })
})
