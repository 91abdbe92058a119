import { expect, test } from 'bun:test'
import { devTenants, sourcesIn } from './tenants.ts'

test('without a file of the user’s, the tenant has the streams that are wanted and a source with a new secret', () => {
  const { file, secret } = devTenants(undefined, ['late'])
  expect(file).toEqual({
    tenants: {
      default: {
        streams: ['events', 'late'],
        keys: [],
        sources: { github: { kind: 'github', stream: 'events', secrets: [secret] } },
      },
    },
  })
  expect(secret).toMatch(/^[0-9a-f]{64}$/)
  expect(devTenants(undefined, []).secret).not.toBe(secret)
})

test('to the user’s file the source is added, and its own is left as it is', () => {
  const slack = { kind: 'slack', stream: 'chat', secrets: ['of-slack'] }
  const added = devTenants({ tenants: { default: { streams: ['events'], keys: [], sources: { slack } } } }, [])
  expect(added.file).toMatchObject({
    tenants: { default: { sources: { slack, github: { kind: 'github', secrets: [added.secret] } } } },
  })
  const github = { kind: 'github', stream: 'events', secrets: ['their-own'] }
  const kept = { tenants: { default: { streams: ['events'], keys: [], sources: { github } } } }
  expect(devTenants(kept, [])).toEqual({ file: kept, secret: 'their-own' })
})

test('a file is left as it is whose own "github" is something else, or where the stream or the tenant is missing', () => {
  for (const own of [
    { tenants: { default: { streams: ['events'], sources: { github: { kind: 'stripe', secrets: ['their-own'] } } } } },
    { tenants: { default: { streams: ['logs'], sources: {} } } },
    { tenants: { default: { streams: ['events'] }, shop: { streams: ['events'] } } },
    'no object',
  ])
    expect(devTenants(structuredClone(own), [])).toEqual({ file: own, secret: undefined })
})

test('the sources are listed', () => {
  const github = { kind: 'github', stream: 'events', secrets: ['their-own'] }
  expect(sourcesIn({ tenants: { default: { sources: { github } } } })).toEqual([
    { name: 'github', kind: 'github', stream: 'events' },
  ])
  expect(sourcesIn({})).toEqual([])
})

test('a file without the tenant is left to the services to refuse', () => {
  expect(devTenants({ tenants: { acme: {} } }, []).file).toEqual({ tenants: { acme: {} } })
})
