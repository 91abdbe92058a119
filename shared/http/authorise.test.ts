import { describe, expect, test } from 'bun:test'
import { keyring } from '../testing/keyring.ts'
import { authoriseByKey, authoriseNobody, onlyTenant, type Wanted } from './authorise.ts'
import { PROBLEMS } from './problem.ts'
import { ROLES, type TenantsFile, tenantsOf } from './tenants.ts'

const { made, entry } = keyring()

const file = {
  tenants: {
    acme: {
      streams: ['events', 'orders'],
      keys: [
        entry('sender'),
        { ...entry('reader'), roles: ['read'] },
        { ...entry('worker'), roles: ['read', 'operate'] },
        { ...entry('narrow'), roles: [...ROLES], streams: ['orders'] },
      ],
    },
    other: { streams: ['events'], keys: [] },
    gone: { enabled: false, streams: ['events'], keys: [{ ...entry('off'), roles: [...ROLES] }] },
  },
  operators: [
    entry('watch'),
    { ...entry('night'), roles: ['operate'] },
    { ...entry('chief'), roles: ['read', 'operate'] },
  ],
} satisfies TenantsFile

const byKey = authoriseByKey(tenantsOf(file))

const request = (key?: string): Request =>
  new Request('http://x/', key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } })

type Deciding = ReturnType<typeof authoriseByKey>

/** `TENANT: STREAMS` when it is allowed, else the status and the problem. */
function answer(authorise: Deciding, key: string | undefined, ...[role, tenant, stream]: Asked): string {
  const found = authorise(request(key), { role, tenant, stream })
  if (found.ok) return `${found.tenant.name}: ${[...found.streams].join(' ')}`
  return `${PROBLEMS[found.problem.kind].status} ${found.problem.kind}`
}

type Asked = [role: (typeof ROLES)[number], tenant?: string, stream?: string]

const NO_ROLE = '403 forbidden'
const ACME = 'acme: events orders'

describe('what a key may do', () => {
  test.each([
    // A tenant's keys: each role by itself.
    ['sender', ['send'], ACME],
    ['sender', ['send', 'acme', 'orders'], ACME],
    ['sender', ['read'], NO_ROLE],
    ['sender', ['operate'], NO_ROLE],
    ['reader', ['send', undefined, 'events'], NO_ROLE],
    ['reader', ['read', 'acme'], ACME],
    ['reader', ['operate'], NO_ROLE],
    ['worker', ['send'], NO_ROLE],
    ['worker', ['read'], ACME],
    ['worker', ['operate', 'acme', 'events'], ACME],
    // Of other tenants nothing, whether they exist or not.
    ['reader', ['read', 'other'], '403 forbidden'],
    ['reader', ['read', 'nope'], '403 forbidden'],
    ['reader', ['read', ''], '403 forbidden'],
    // Streams.
    ['reader', ['read', 'acme', 'nope'], '404 unknown-stream'],
    ['narrow', ['read'], 'acme: orders'],
    ['narrow', ['operate', undefined, 'orders'], 'acme: orders'],
    ['narrow', ['read', undefined, 'events'], '403 forbidden'],
    ['narrow', ['read', undefined, 'nope'], '403 forbidden'],
    // A disabled tenant.
    ['off', ['send'], '403 forbidden'],
    ['off', ['read', 'gone', 'events'], '403 forbidden'],
    ['watch', ['read', 'gone', 'events'], 'gone: events'],
    ['chief', ['operate', 'gone', 'events'], 'gone: events'],
    // Operators name a tenant, and never send.
    ['watch', ['read'], '400 malformed'],
    ['watch', ['read', undefined, 'events'], '400 malformed'],
    ['watch', ['read', 'acme'], ACME],
    ['watch', ['read', 'other', 'events'], 'other: events'],
    ['watch', ['read', 'other', 'orders'], '404 unknown-stream'],
    ['watch', ['read', 'nope'], '404 unknown-tenant'],
    ['watch', ['read', ''], '404 unknown-tenant'],
    ['watch', ['operate', 'acme'], NO_ROLE],
    ['night', ['read', 'acme'], NO_ROLE],
    ['night', ['operate', 'acme'], ACME],
    ['chief', ['read', 'acme', 'orders'], ACME],
    ['chief', ['send', 'acme', 'events'], NO_ROLE],
    ['chief', ['send', 'nope'], NO_ROLE],
  ] as [string, Asked, string][])('%s asks for %p: %s', (id, asked, expected) => {
    expect(answer(byKey, made.get(id), ...asked)).toBe(expected)
  })

  test('no key and an unknown one are 401, whatever is asked for', () => {
    for (const role of ROLES)
      for (const key of [undefined, 'kt.reader.wrong'])
        expect(answer(byKey, key, role, 'nope', 'nope')).toBe('401 unauthenticated')
  })

  test('is refused in the same words whether or not another tenant or stream exists', () => {
    const words = (id: string, tenant: string | undefined, stream?: string) =>
      byKey(request(made.get(id)), { role: 'read', tenant, stream })
    expect(words('reader', 'other')).toEqual(words('reader', 'nope'))
    expect(words('narrow', undefined, 'events')).toEqual(words('narrow', undefined, 'nope'))
  })

  test.each([['"KEY"'], ['<KEY>'], ['Bearer KEY'], ['{"key":"KEY"}'], ['KEY.'], ['']])(
    '%s is refused as what does not look like a key, and is not repeated',
    (text) => {
      const found = byKey(request(text.replace('KEY', made.get('reader') ?? '')), { role: 'read' } as Wanted)
      expect(found.ok ? 'allowed' : found.problem.detail).toBe(
        'This does not look like a key (kt.ID.…): send it without quotes, brackets or “Bearer” around it.',
      )
    },
  )

  test('is refused by name, for the log, once its key was right', () => {
    const by = (key: string | undefined, ...[role, tenant, stream]: Asked) => {
      const found = byKey(request(key), { role, tenant, stream })
      return found.ok ? 'allowed' : found.problem.by
    }
    expect(by(made.get('reader'), 'send')).toBe('reader')
    expect(by(made.get('reader'), 'read', 'other')).toBe('reader')
    expect(by(made.get('reader'), 'read', 'acme', 'nope')).toBe('reader')
    expect(by(made.get('watch'), 'read')).toBe('watch')
    expect(by('kt.reader.wrong', 'read')).toBeUndefined()
  })

  test('is refused with the role that it needs, and those that it has', () => {
    const detail = (id: string, ...[role, tenant]: Asked) => {
      const found = byKey(request(made.get(id)), { role, tenant, stream: undefined })
      return found.ok ? undefined : found.problem.detail
    }
    expect(detail('reader', 'send')).toStartWith('The key reader may not send events: it has the role read. ')
    expect(detail('worker', 'send')).toContain('it has the roles read, operate. It needs the role send')
    expect(detail('watch', 'operate', 'acme')).toContain('It needs the role operate, which TENANTS_FILE can give it.')
    expect(detail('watch', 'send')).toEndWith('Events are sent with a key of their tenant.')
  })

  test('an operator who names no tenant is told them, up to a bound', () => {
    const tenants = Object.fromEntries(
      Array.from({ length: 25 }, (_, index) => [`t${index}`, { streams: ['events'], keys: [] }]),
    )
    const found = authoriseByKey(tenantsOf({ tenants, operators: file.operators }))(request(made.get('watch')), {
      role: 'read',
      tenant: undefined,
      stream: undefined,
    })
    expect(found.ok ? '' : found.problem.detail).toEndWith(
      'name one with the query parameter "tenant". The tenants are: t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15, t16, t17, t18, t19, and 5 more.',
    )
  })

  test('an operator need not name the only tenant', () => {
    const only = authoriseByKey(tenantsOf({ tenants: { acme: file.tenants.acme }, operators: file.operators }))
    expect(answer(only, made.get('watch'), 'read')).toBe(ACME)
  })
})

describe('a key with times', () => {
  const clock = { nowMs: 0 }
  const times = { notBefore: '2026-03-01T00:00:00Z', expiresAt: '2026-04-01T00:00:00Z' }
  const timed = authoriseByKey(
    tenantsOf({ tenants: { acme: { streams: ['events'], keys: [{ ...entry('spring'), ...times }] } } }),
    () => clock.nowMs,
  )
  const at = (time: string, key = made.get('spring')) => {
    clock.nowMs = Date.parse(time)
    return timed(request(key), { role: 'send', tenant: undefined, stream: undefined })
  }
  const detailAt = (time: string, key?: string): string | undefined => {
    const found = at(time, key)
    return found.ok ? undefined : `${PROBLEMS[found.problem.kind].status} ${found.problem.detail}`
  }

  test('is valid from the first moment to before the last', () => {
    const early = '401 The key spring is not valid yet: it will be from 2026-03-01T00:00:00.000Z on.'
    const gone = '401 The key spring has expired: it was valid until 2026-04-01T00:00:00.000Z.'
    expect(detailAt('2026-02-28T23:59:59.999Z')).toBe(early)
    expect(detailAt('2026-03-01T00:00:00Z')).toBeUndefined()
    expect(detailAt('2026-03-31T23:59:59.999Z')).toBeUndefined()
    expect(detailAt('2026-04-01T00:00:00Z')).toBe(gone)
  })

  test('says nothing of them to who does not have it', () => {
    expect(detailAt('2026-05-01T00:00:00Z', 'kt.spring.guess')).toBe('401 The key is unknown.')
  })

  test('is decided again by the time of then', () => {
    const allowed = at('2026-03-31T23:59:59Z')
    if (!allowed.ok) throw new Error(allowed.problem.detail)
    expect(allowed.again().ok).toBe(true)
    clock.nowMs += 1_000
    expect(allowed.again()).toMatchObject({ ok: false, problem: { kind: 'unauthenticated' } })
  })
})

describe('with AUTH=off', () => {
  const tenantWithPages = { ...onlyTenant(), origins: new Set(['https://shop.example']) }
  const nobody = authoriseNobody({ list: [tenantWithPages] })
  const from = (headers: Record<string, string>) => {
    const decided = nobody(new Request('http://x/', { headers }), { role: 'send', tenant: undefined, stream: 'events' })
    return decided.ok || decided.problem.kind
  }

  test('no website whose name was pointed at this machine is served, also after others were', () => {
    for (const host of ['evil.example', 'evil.example:8080', 'localhost.evil.example', 'evil.example']) {
      expect(from({ host: 'localhost:8080' })).toBe(true)
      expect(from({ host })).toBe('forbidden')
      expect(from({ host, origin: `http://${host}` })).toBe('forbidden')
    }
    for (const host of ['127.0.0.1:8080', '[::1]:8080', 'producer:8080', 'kt.localhost', 'host.docker.internal'])
      expect(from({ host }), host).toBe(true)
    expect(from({})).toBe(true)
  })

  test('no page of another site is served, except of the tenant’s origins', () => {
    const asked = (origin: string) => from({ host: 'producer:8080', origin })
    for (const origin of [
      'https://evil.example',
      'null',
      'http://203.0.113.5',
      'http://producer',
      'http://localhost.x',
    ])
      expect(asked(origin), origin).toBe('forbidden')
    for (const origin of [
      'http://producer:8080',
      'https://producer:8080',
      'http://localhost:3000',
      'http://127.0.0.1:5173',
      'http://[::1]',
      'https://shop.example',
    ])
      expect(asked(origin), origin).toBe(true)
  })

  const tenant = onlyTenant(['late'])
  const authorise = authoriseNobody({ list: [tenant] })

  test('everybody may do everything with the tenant "default"', () => {
    for (const role of ROLES)
      for (const name of [undefined, 'default'])
        for (const stream of [undefined, 'events', 'late'])
          expect(answer(authorise, undefined, role, name, stream)).toBe('default: events late')
    expect([...tenant.streams]).toEqual(['events', 'late'])
  })

  test('no other tenant or stream exists', () => {
    expect(answer(authorise, undefined, 'read', 'acme')).toBe('404 unknown-tenant')
    expect(answer(authorise, undefined, 'read', 'default', 'nope')).toBe('404 unknown-stream')
  })
})
