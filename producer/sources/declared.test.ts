import { expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import { tenantsOf } from '../../shared/http/tenants.ts'
import { ConfigError } from '../../shared/service/config.ts'
import { type Source, sourcesOf } from './declared.ts'
import { kinds } from './index.ts'
import { defineKind } from './kind.ts'
import { OK } from './signature.ts'

const SECRET = 'of-sufficient-length'
const read = (sources: Record<string, { kind: string; stream?: string; [option: string]: unknown }>, own = kinds) =>
  sourcesOf(
    tenantsOf({
      tenants: {
        acme: {
          streams: ['events'],
          keys: [],
          sources: Object.fromEntries(
            Object.entries(sources).map(([name, one]) => [name, { stream: 'events', ...one }]),
          ),
        },
      },
    }).list,
    own,
  )

test('the sources of a tenant that is the same stay the same when the file is read again', () => {
  const acme = {
    streams: ['events'],
    keys: [],
    sources: { gh: { kind: 'github', stream: 'events', secrets: [SECRET] } },
  }
  const first = tenantsOf({ tenants: { acme, shop: { ...acme, sources: {} } } })
  const before = sourcesOf(first.list, kinds)
  const more = { ...acme, sources: { bb: { ...acme.sources.gh, secrets: ['another-of-length'] } } }
  const second = tenantsOf({ tenants: { acme, shop: more } }, first)
  const after = sourcesOf(second.list, kinds, before)
  expect([...after.keys()]).toEqual(['gh', 'bb'])
  expect(after.get('gh')).toBe(before.get('gh') as Source)
  const changed = sourcesOf(
    tenantsOf({ tenants: { acme: { ...acme, streams: ['events', 'x'] } } }, second).list,
    kinds,
    after,
  )
  expect(changed.get('gh')).not.toBe(before.get('gh') as Source)
})

test('a source has its tenant, its stream and its kind’s options', () => {
  const source = read({ gh: { kind: 'github', secrets: [SECRET], subject: '/sender/login' } }).get('gh')
  expect(source).toMatchObject({ name: 'gh', tenant: { name: 'acme' }, stream: 'events', subject: '/sender/login' })
  expect([source?.kind.name, source?.options]).toEqual(['github', { secrets: [SECRET] }])
})

test('every fault of all declarations is named, and no secret', () => {
  let faults: readonly string[] = []
  try {
    read({
      one: { kind: 'github' },
      two: { kind: 'github', secrets: ['short'] },
      three: { kind: 'github', secrets: [SECRET], colour: 'red', subject: 'login' },
      four: { kind: 'githup' },
      five: { kind: 'github', secrets: ['the-first-secret', 'the-second-secret', 'the-third-secret'] },
    })
  } catch (error) {
    if (error instanceof ConfigError) ({ faults } = error)
  }
  const at = (name: string, text: string) => `TENANTS_FILE: /tenants/acme/sources/${name}${text}`
  expect(faults).toEqual(
    expect.arrayContaining([
      at('one', '/secrets is missing'),
      at('two', '/secrets/0 Expected string length greater or equal to 8'),
      at('three', '/colour is not known'),
      at('three', '/subject is no JSON pointer, such as /repository/full_name'),
      at('five', '/secrets Expected array length to be less or equal to 2'),
    ]),
  )
  expect(faults.find((fault) => fault.includes('four'))).toContain('/kind "githup" is none of ')
  expect(faults.join()).not.toMatch(/short|third/)
})

test('an option may have a default, and the first kind of a name counts', () => {
  const github = defineKind({
    name: 'github',
    timeoutMs: 1_000,
    options: { header: Type.String({ default: 'x-key' }) },
    verify: () => OK,
    identify: () => undefined,
  })
  expect(read({ gh: { kind: 'github' } }, [github, ...kinds]).get('gh')?.options).toEqual({ header: 'x-key' })
})
