import { describe, expect, test } from 'bun:test'
import { keyring } from '../testing/keyring.ts'
import { accessOf } from './access-config.ts'
import { tenantsOf } from './tenants.ts'

const { made, entry } = keyring()
const declared = tenantsOf({ tenants: { acme: { streams: ['events'], keys: [entry('ci')] } } })
const WANTED = { role: 'send', tenant: undefined, stream: 'events' } as const

const isAllowed = ({ authorise }: ReturnType<typeof accessOf>, headers: Record<string, string> = {}): boolean =>
  authorise(new Request('http://x/', { headers }), WANTED).ok

describe('access', () => {
  test('with AUTH=on is by the declared keys', () => {
    const access = accessOf({ AUTH: 'on' }, declared)
    expect([isAllowed(access), isAllowed(access, { authorization: `Bearer ${made.get('ci')}` })]).toEqual([false, true])
    expect(access.tenants.map(({ name }) => name)).toEqual(['acme'])
  })

  test('with AUTH=on and without tenants is refused to all, and not open to all', () => {
    expect(() => accessOf({ AUTH: 'on' }, undefined)).toThrow('AUTH is on, and no tenants were read')
  })

  test('with AUTH=off is open to all, for the streams that are set', () => {
    const access = accessOf({ AUTH: 'off', STREAMS: 'orders,late' }, undefined)
    expect(isAllowed(access)).toBe(true)
    expect(access.tenants.map(({ name, streams }) => [name, ...streams])).toEqual([
      ['default', 'events', 'orders', 'late'],
    ])
  })

  test('with AUTH=off and a tenants file is open to all, with what the file says of the tenant', () => {
    const file = tenantsOf({ tenants: { default: { streams: ['hooks'], keys: [] } } })
    const access = accessOf({ AUTH: 'off' }, file)
    expect(access.authorise(new Request('http://x/'), { ...WANTED, stream: 'hooks' }).ok).toBe(true)
    expect(access.tenants).toEqual(file.list)
  })
})
