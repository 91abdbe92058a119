import { describe, expect, test } from 'bun:test'
import { keyring } from '../testing/keyring.ts'
import { accessOf } from './access-config.ts'
import { tenantsOf } from './tenants.ts'

const { made, entry } = keyring()
const declared = tenantsOf({ tenants: { acme: { streams: ['events'], keys: [entry('ci')] } } })
const WANTED = { role: 'send', tenant: undefined, stream: 'events' } as const

const log = { info: () => undefined, warn: () => undefined }

const isAllowed = async (
  { authorise }: ReturnType<typeof accessOf>,
  headers: Record<string, string> = {},
  stream = 'events',
): Promise<boolean> => (await authorise(new Request('http://x/', { headers }), { ...WANTED, stream })).ok

describe('access', () => {
  test('with AUTH=on is by the declared keys', async () => {
    const access = accessOf({ AUTH: 'on' }, declared, log)
    expect(await isAllowed(access)).toBe(false)
    expect(await isAllowed(access, { authorization: `Bearer ${made.get('ci')}` })).toBe(true)
    expect(access.tenants().map(({ name }) => name)).toEqual(['acme'])
  })

  test('with AUTH=on and without tenants is refused to all, and not open to all', () => {
    expect(() => accessOf({ AUTH: 'on' }, undefined, log)).toThrow('AUTH is on, and no tenants were read')
  })

  test('with AUTH=off is open to all, for the streams that are set', async () => {
    const access = accessOf({ AUTH: 'off', STREAMS: 'orders,late' }, undefined, log)
    expect(await isAllowed(access)).toBe(true)
    expect(access.tenants().map(({ name, streams }) => [name, ...streams])).toEqual([
      ['default', 'events', 'orders', 'late'],
    ])
  })

  test('with AUTH=off and a tenants file is open to all, with what the file says of the tenant', async () => {
    const file = tenantsOf({ tenants: { default: { streams: ['hooks'], keys: [] } } })
    const access = accessOf({ AUTH: 'off' }, file, log)
    expect(await isAllowed(access, {}, 'hooks')).toBe(true)
    expect(access.tenants()).toEqual(file.list)
  })
})
