import { expect, test } from 'bun:test'
import { authoriseByKey } from '../../shared/http/authorise.ts'
import { type TenantsFile, tenantsOf } from '../../shared/http/tenants.ts'
import { keyring } from '../../shared/testing/keyring.ts'
import { callerOf } from './shares.ts'

test('a tenant’s keys count for the tenant, and those of operators for none of several', async () => {
  const { made, entry } = keyring()
  const tenant = (id: string) => ({ streams: ['events'], keys: [{ ...entry(id), roles: ['read' as const] }] })
  const acme = tenant('acme')
  const file: TenantsFile = { tenants: { acme }, operators: [{ ...entry('op'), roles: ['read'] }] }
  const caller = async (id: string, { tenants }: TenantsFile) => {
    const request = new Request('http://localhost/', { headers: { authorization: `Bearer ${made.get(id)}` } })
    const wanted = { role: 'read' as const, tenant: 'acme', stream: 'events' }
    const allowed = await authoriseByKey(tenantsOf({ ...file, tenants }))(request, wanted)
    if (!allowed.ok) throw new Error(allowed.problem.detail)
    return callerOf(allowed)
  }
  const several = { ...file, tenants: { ...file.tenants, other: tenant('other') } }
  expect([await caller('acme', several), await caller('op', several)]).toEqual(['acme', '*'])
  expect([await caller('acme', file), await caller('op', file)]).toEqual(['acme', 'acme'])
})
