import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { pointerTo } from '../events/json-pointer.ts'
import { claimPath, grantOf } from './claims.ts'

describe('the name of a claim', () => {
  test.each([
    ['tenant', ['tenant']],
    ['realm_access.roles', ['realm_access', 'roles']],
    ['/resource_access/my.client/roles', ['resource_access', 'my.client', 'roles']],
    ['/https:~1~1example.com~1tenant', ['https://example.com/tenant']],
    ['https://example.com/tenant', undefined],
    ['a..b', undefined],
    ['.a', undefined],
    ['', undefined],
    ['/a~2', undefined],
  ])('%s leads through %j', (text, steps) => {
    expect(claimPath(text)).toEqual(steps)
  })

  test('as a pointer, any name leads to its claim', () => {
    fc.assert(fc.property(fc.string(), (name) => expect(claimPath(pointerTo(name))).toEqual([name])))
  })
})

const NAMES = { tenant: ['tenant'], streams: undefined, roles: ['realm_access', 'roles'], rolesPrefix: '' }
const WITH_STREAMS = { ...NAMES, streams: ['streams'] }
const READER = { tenant: 'acme', realm_access: { roles: ['read', 'offline_access'] } }

/** `TENANT [STREAMS]: ROLES`, or why nothing is granted. */
function granted(claims: unknown, names: Parameters<typeof grantOf>[1] = NAMES): string {
  const found = grantOf(claims, names)
  if (!found.ok) return found.detail
  const { tenant, streams, roles } = found.grant
  return `${tenant} [${streams === undefined ? 'all' : [...streams].join(' ')}]: ${[...roles].join(' ')}`
}

describe('what the claims of a token grant', () => {
  test.each([
    [READER, 'acme [all]: read'],
    [{ ...READER, tenant: ['acme'] }, 'acme [all]: read'],
    // No tenant has such a name.
    [{ ...READER, tenant: 'acme ' }, 'acme  [all]: read'],
    [{ ...READER, tenant: 'acme other' }, 'acme other [all]: read'],
    [{ ...READER, realm_access: { roles: 'operate send' } }, 'acme [all]: send operate'],
    // For all tenants, but not to send.
    [{ ...READER, tenant: '*', realm_access: { roles: ['send', 'read', 'operate'] } }, '* [all]: read operate'],
  ])('%j: %s', (claims, expected) => {
    expect(granted(claims)).toBe(expected)
  })

  test.each([
    [{ ...READER, tenant: undefined }, 'names no tenant'],
    [{ ...READER, tenant: '' }, 'names no tenant'],
    [{ ...READER, tenant: 7 }, 'names no tenant: it has to be a text, or a list of one text'],
    [{ ...READER, tenant: { name: 'acme' } }, 'names no tenant: it has to be a text'],
    [{ ...READER, tenant: [] }, 'names no tenant'],
    [{ ...READER, tenant: ['acme', 'other'] }, 'names several tenants'],
    [{ ...READER, tenant: ['acme', '*'] }, 'names several tenants'],
    [{ tenant: 'acme' }, 'has none of the roles'],
    [{ tenant: 'acme', realm_access: { roles: ['READ', 'reader'] } }, 'has none of the roles'],
    [{ tenant: 'acme', realm_access: { roles: [['read']] } }, 'has none of the roles'],
    [
      { tenant: 'acme', realm_access: { roles: { read: true } } },
      'operate: it has to be a list of texts, or one text with spaces between the names.',
    ],
    [{ tenant: '*', realm_access: { roles: ['send'] } }, 'cannot send'],
    // What every object has is no claim.
    [Object.create({ tenant: 'acme', realm_access: { roles: ['read'] } }), 'names no tenant'],
    [null, 'names no tenant'],
  ])('%j grants nothing: it %s', (claims, why) => {
    expect(granted(claims)).toContain(why)
  })

  test('with a prefix, roles of other applications grant nothing', () => {
    const names = { ...NAMES, rolesPrefix: 'kt-' }
    expect(granted(READER, names)).toContain('none of the roles kt-send, kt-read, kt-operate')
    expect(granted({ ...READER, realm_access: { roles: ['kt-read', 'operate'] } }, names)).toBe('acme [all]: read')
  })

  test.each([
    [{ ...READER, streams: ['orders', 'events'] }, 'acme [orders events]: read'],
    [{ ...READER, streams: 'orders' }, 'acme [orders]: read'],
    [{ ...READER, streams: '*' }, 'acme [all]: read'],
    [{ ...READER, tenant: '*', streams: '*' }, '* [all]: read'],
    [READER, 'The token’s claim "streams" names no stream.'],
    [{ ...READER, streams: [] }, 'The token’s claim "streams" names no stream.'],
    [
      { ...READER, streams: { orders: true } },
      'The token’s claim "streams" names no stream: it has to be a list of texts, or one text with spaces between the names.',
    ],
    [
      { ...READER, tenant: '*', streams: 'orders' },
      'The token’s claim "streams" has to be "*" where the token is for all tenants.',
    ],
  ])('where a claim names streams, %j: %s', (claims, expected) => {
    expect(granted(claims, WITH_STREAMS)).toBe(expected)
  })

  test('whatever the claims are, it throws nothing, and grants no role that they do not name', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (tenant, roles, streams) => {
        const found = grantOf({ tenant, realm_access: { roles }, streams }, WITH_STREAMS)
        if (!found.ok) return
        const named = typeof roles === 'string' ? roles.split(' ') : (roles as string[])
        for (const role of found.grant.roles) expect(named).toContain(role)
      }),
    )
  })
})
