import { describe, expect, test } from 'bun:test'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { ConfigError } from '../service/config.ts'
import { type Credential, loadTenants, makeKey, type Tenant, tenantsFaults, tenantsOf } from './tenants.ts'

const { key, sha256 } = makeKey('ci')
const file = { tenants: { acme: { streams: ['events'], keys: [{ id: 'ci', sha256 }] } } }

describe('tenants', () => {
  test('are found by their key only', () => {
    const tenants = tenantsOf(file)
    expect(tenants.find(key)).toMatchObject({ keyId: 'ci', tenant: { name: 'acme', enabled: true } })
    for (const wrong of ['', 'kt', 'kt.ci.', `${key} `, key.slice(0, -1), key.toUpperCase(), makeKey('ci').key, sha256])
      expect(tenants.find(wrong)).toBeUndefined()
  })

  test('are found by no other text, whatever it is, and nothing is thrown', () => {
    const tenants = tenantsOf(file)
    const changed = fc
      .tuple(fc.nat(key.length), fc.string({ maxLength: 3 }))
      .map(([at, text]) => key.slice(0, at) + text)
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          changed,
          fc.string().map((text) => `kt.ci.${text}`),
        ),
        (text) => {
          expect(tenants.find(text)?.keyId).toBe(text === key ? 'ci' : undefined)
        },
      ),
    )
  })

  test('have a second’s worth of burst unless it is said', () => {
    const quota = { eventsPerSecond: 5, bytesPerSecond: 0.5 }
    expect(tenantsOf({ tenants: { a: { ...file.tenants.acme, quota } } }).list[0]?.quota).toEqual({
      events: { perSecond: 5, burst: 5 },
      bytes: { perSecond: 0.5, burst: 1 },
    })
  })

  test('keys are never made twice, and their hash is all that is kept', () => {
    expect(makeKey('a').key).not.toBe(makeKey('a').key)
    expect(makeKey('a').key).toMatch(/^kt\.a\.[A-Za-z0-9_-]{43}$/)
  })

  test('in a faulty file are refused with every fault', () => {
    expect(tenantsFaults(file)).toEqual([])
    expect(tenantsFaults({ tenants: { Acme: {} } }).length).toBeGreaterThan(0)
    expect(
      tenantsFaults({ tenants: { a: { streams: [], keys: [{ id: 'x', sha256: 'short' }], more: 1 } } }).length,
    ).toBeGreaterThan(2)
    expect(tenantsFaults({ tenants: { a: file.tenants.acme, b: file.tenants.acme } }).join()).toContain(
      'given twice, by a and b',
    )
    const twice = [
      { id: 'ci', sha256 },
      { id: 'till', sha256 },
    ]
    const same = (one: string, other: string) =>
      `the keys ${one} and ${other} have the same sha256, so that one of them lets nobody in`
    expect(tenantsFaults({ tenants: { a: { streams: ['x'], keys: twice } } })).toEqual([same('ci', 'till')])
    expect(tenantsFaults({ ...file, operators: [{ id: 'on-call', sha256 }] })).toEqual([same('ci', 'on-call')])
    const foreign = { tenants: { a: { streams: ['x'], keys: [{ id: 'k', sha256, streams: ['y'] }] } } }
    expect(tenantsFaults(foreign).join()).toContain('names the stream y')
    expect(tenantsFaults(null).length).toBeGreaterThan(0)
  })

  test.each([
    ['a hash too short', { keys: [{ id: 'ci', sha256: sha256.slice(1) }] }, 'keys/0/sha256 is not a SHA-256'],
    ['a hash too long', { keys: [{ id: 'ci', sha256: `${sha256}0` }] }, 'keys/0/sha256 is not a SHA-256'],
    ['a key without streams', { keys: [{ id: 'ci', sha256, streams: [] }] }, 'keys/0/streams Expected array length'],
    ['no streams', { streams: [] }, 'streams Expected array length'],
    ['no events', { quota: { eventsPerSecond: 0 } }, 'quota/eventsPerSecond Expected number to be greater than 0'],
    [
      'no bytes',
      { quota: { eventsPerSecond: 1, bytesPerSecond: 0 } },
      'quota/bytesPerSecond Expected number to be greater than 0',
    ],
  ])('with %s are refused with that fault alone', (_, wrong, text) => {
    const faults = tenantsFaults({ tenants: { a: { ...file.tenants.acme, ...wrong } } })
    expect(faults).toEqual([expect.stringContaining(`/tenants/a/${text}`)])
  })

  test('have keys that may only send, and operators that may only read, unless roles are given', () => {
    const [own, all] = [makeKey('own'), makeKey('all')]
    const { acme } = file.tenants
    const tenants = tenantsOf({
      tenants: {
        acme: { ...acme, keys: [...acme.keys, { id: 'own', sha256: own.sha256, roles: ['read', 'operate'] }] },
      },
      operators: [{ id: 'all', sha256: all.sha256 }],
    })
    const roles = (of: string) => [...(tenants.find(of)?.roles ?? [])]
    expect([roles(key), roles(own.key), roles(all.key)]).toEqual([['send'], ['read', 'operate'], ['read']])
    expect(tenants.find(all.key)?.tenant).toBeUndefined()
  })

  test('have pointers to what is redacted in each stream', () => {
    const redact = { events: ['', '/card/number', '/a~1b/~0/0'] }
    const withRedact = { tenants: { acme: { ...file.tenants.acme, redact } } }
    expect(tenantsFaults(withRedact)).toEqual([])
    expect(tenantsOf(withRedact).list[0]?.redact.get('events')).toEqual(redact.events)
    expect(tenantsOf(file).list[0]?.redact.size).toBe(0)
  })

  test('with sources of one name, or for another stream, are refused; so is a name that is none', () => {
    const github = { kind: 'github', stream: 'events', secrets: ['of-some-length'] }
    const faults = (sources: object, more: object = {}) =>
      tenantsFaults({ tenants: { acme: { streams: ['events'], keys: [], sources }, ...more } })
    expect(faults({ github })).toEqual([])
    expect(faults({ github }, { shop: { streams: ['events'], keys: [], sources: { github } } })).toEqual([
      'the source github is given twice, by acme and shop',
    ])
    expect(faults({ github: { ...github, stream: 'nope' } })).toEqual([
      'the source github names the stream nope, which acme does not have',
    ])
    expect(faults({ GitHub: github })).toEqual([
      '/tenants/acme/sources/GitHub is no name: lower-case letters, digits and hyphens, at most 63, beginning with a letter or digit',
    ])
    expect(faults({ github: { stream: 'events' } })).toEqual(['/tenants/acme/sources/github/kind is missing'])
  })

  test('have keys with a name and times, quotas of keys and streams, and web origins', () => {
    const quota = { eventsPerSecond: 2 }
    const { list, find, credentials } = tenantsOf({
      tenants: {
        acme: {
          ...file.tenants.acme,
          streamQuotas: { events: { ...quota, burstEvents: 9 } },
          origins: ['https://app.example', 'http://localhost:3000'],
          keys: [
            {
              id: 'ci',
              sha256,
              quota,
              name: 'Kasse 4, Köln',
              notBefore: '2026-01-01T00:00:00+02:00',
              expiresAt: '2026-06-30t12:00:00.5z',
            },
          ],
        },
      },
    })
    expect(list[0]?.streamQuotas.get('events')).toEqual({ events: { perSecond: 2, burst: 9 } })
    expect([...(list[0]?.origins ?? [])]).toEqual(['https://app.example', 'http://localhost:3000'])
    expect(find(key)).toMatchObject({
      name: 'Kasse 4, Köln',
      quota: { events: { perSecond: 2, burst: 2 } },
      validFromMs: Date.UTC(2025, 11, 31, 22),
      validUntilMs: Date.UTC(2026, 5, 30, 12, 0, 0, 500),
    })
    expect([...credentials]).toEqual([['ci', find(key) as Credential]])
  })

  test.each([
    [
      { expiresAt: '2026-01-01' },
      'expiresAt of the key ci is "2026-01-01", which is no time of RFC 3339 with an offset',
    ],
    [{ notBefore: '2026-01-01T00:00:00' }, 'notBefore of the key ci is "2026-01-01T00:00:00", which is no time'],
    [{ expiresAt: '2026-02-30T00:00:00Z' }, 'which does not exist: there is no such day or time'],
    [{ expiresAt: 1767225600 }, '/keys/0/expiresAt has to be a string'],
    [{ roles: 'read' }, '/keys/0/roles has to be an array'],
    [
      { notBefore: '2026-01-01T00:00:00+01:00', expiresAt: '2025-12-31T23:00:00Z' },
      'the key ci is never valid: its notBefore is not before its expiresAt',
    ],
    [{ name: '' }, '/keys/0/name is not a text of 1 to 100 characters in one line'],
    [{ name: 'x'.repeat(101) }, '/keys/0/name is not a text of 1 to 100 characters in one line'],
    [{ name: 'two\nlines' }, '/keys/0/name is not a text of 1 to 100 characters in one line'],
    [{ quota: {} }, '/keys/0/quota/eventsPerSecond is missing'],
  ])('with a key %j are refused', (more, text) => {
    const wrong = { ...file.tenants.acme, keys: [{ id: 'ci', sha256, ...more }] }
    expect(tenantsFaults({ tenants: { a: wrong } })).toEqual([expect.stringContaining(text)])
    const operators = [{ id: 'ci', sha256, ...more }]
    if (!('quota' in more))
      expect(tenantsFaults({ tenants: {}, operators })).toEqual([
        expect.stringContaining(text.replace('/keys/', '/operators/')),
      ])
  })

  test.each([
    '*',
    'null',
    'app.example',
    'https://app.example/',
    'https://APP.example',
    'https://app.example:443',
    'https://a@app.example',
    'ftp://app.example',
    'https://*.example',
    'https://app.example/x',
    '',
  ])('with the origin %j are refused', (origin) => {
    expect(tenantsFaults({ tenants: { a: { ...file.tenants.acme, origins: [origin] } } }).join()).toContain(
      `origins of a has ${JSON.stringify(origin)}, which is no web origin`,
    )
  })

  test('a tenant of which two files say the same, its keys apart, is one', () => {
    const before = tenantsOf(file)
    const more = { ...file.tenants.acme, keys: [...file.tenants.acme.keys, { id: 'other', sha256 }] }
    const rotated = tenantsOf({ tenants: { acme: more, shop: { streams: ['events'], keys: [] } } }, before)
    expect(rotated.list[0]).toBe(before.list[0] as Tenant)
    expect(rotated.find(key)?.tenant).toBe(before.list[0] as Tenant)
    const changed = tenantsOf({ tenants: { acme: { ...more, enabled: false } } }, rotated)
    expect(changed.list[0]).not.toBe(before.list[0] as Tenant)
    // Also a second time.
    expect(tenantsOf({ tenants: { acme: { ...more, enabled: false } } }, changed).list[0]).toBe(
      changed.list[0] as Tenant,
    )
  })

  test('a key that was found is found again by its secret, with what it may do then', () => {
    const before = tenantsOf(file)
    const found = before.find(key) as Credential
    const with_ = (more: object) =>
      tenantsOf({ tenants: { acme: { ...file.tenants.acme, keys: [{ id: 'ci', sha256, ...more }] } } }, before)
    expect([...(with_({ roles: ['read'] }).again(found)?.roles ?? [])]).toEqual(['read'])
    expect(with_({ sha256: makeKey('ci').sha256 }).again(found)).toBeUndefined()
    expect(tenantsOf({ tenants: { acme: { ...file.tenants.acme, keys: [] } } }).again(found)).toBeUndefined()
  })

  test('with wrong roles, operators or pointers are refused with the fault', () => {
    const { acme } = file.tenants
    const faults = (tenant: object, operators?: unknown) =>
      tenantsFaults({
        tenants: { acme: { ...acme, ...tenant } },
        ...(operators === undefined ? {} : { operators }),
      }).join()
    const id = { id: 'x', sha256 }
    expect(faults({ keys: [{ ...id, roles: ['admin'] }] })).toContain('is not one of send, read, operate')
    for (const roles of [[], ['read', 'read'], 'read']) expect(faults({ keys: [{ ...id, roles }] })).toContain('/roles')
    expect(faults({}, [{ ...id, roles: ['send'] }])).toContain('is not one of read, operate')
    expect(faults({}, [{ ...id, streams: ['events'] }])).toContain('/operators/0/streams')
    expect(faults({}, [{ id: 'ci', sha256 }])).toContain(
      'the id ci of a key or certificate is given twice, by acme and the operators',
    )
    expect(faults({}, [id, id])).toContain('by the operators and the operators')
    expect(faults({ redact: { nope: [''] } })).toContain('redact of acme names the stream nope')
    for (const pointer of ['card', 'card/number', '/a~2', '/~'])
      expect(faults({ redact: { events: [pointer] } })).toContain(`"${pointer}" for events, which is no JSON pointer`)
  })

  test('are read from a file, and a file that cannot be read is a fault of the configuration', () => {
    const path = join(mkdtempSync(join(tmpdir(), 'tenants-')), 'tenants.json')
    expect(() => loadTenants(path)).toThrow(ConfigError)
    writeFileSync(path, '{')
    expect(() => loadTenants(path)).toThrow(ConfigError)
    writeFileSync(path, '{"tenants":{"a":{}}}')
    expect(() => loadTenants(path)).toThrow(/TENANTS_FILE=/)
    writeFileSync(path, '{\n  "tenants": {\n    "a": [}\n')
    expect(() => loadTenants(path)).toThrow('is no JSON: a value is expected, in line 3, column 11')
    writeFileSync(path, '{"tenants":{"a":{"sources":{"gh":{"kind":"github"},"gh":{"kind":"stripe"}}}}}')
    expect(() => loadTenants(path)).toThrow('has a member twice: "gh", at /tenants/a/sources')
    writeFileSync(path, JSON.stringify(file))
    expect(loadTenants(path).find(key)?.keyId).toBe('ci')
  })
})
