import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { tenantsOf } from '../shared/http/tenants.ts'
import { UnreachableError } from '../shared/kafka/types.ts'
import { settled } from '../shared/testing/settled.ts'
import { createTopics, exitCodeOf } from './create-topics.ts'

const tenants = tenantsOf({ tenants: { shop: { streams: ['orders', 'events'], keys: [] } } })
const options = { partitions: 3, replication: -1 }

test('every stream of every tenant gets its four topics and that of its acts, and the cluster that of pauses', async () => {
  const asked: (readonly string[])[] = []
  const ensureGroups = async (groups: readonly (readonly string[])[]) => {
    asked.push(...groups)
    return groups.map(() => undefined)
  }
  expect(await createTopics(tenants, { ensureGroups }, options)).toBe(2)
  expect(asked.slice(0, 2).map((topics) => topics[0])).toEqual(['kt.shop.orders', 'kt.shop.events'])
  expect(asked.slice(0, 2).flat()).toHaveLength(8)
  expect(asked.slice(2)).toEqual([['kt.shop.orders.acts'], ['kt.shop.events.acts'], ['kt-control']])
})

test('a refusal of the broker is the job’s, and names every stream that it concerns', async () => {
  const ensureGroups = async (groups: readonly (readonly string[])[]) =>
    groups.map(([topic]) => `${topic}: not authorized`)
  const failed = createTopics(tenants, { ensureGroups }, options)
  expect(await settled(failed)).toThrow(
    'kt.shop.orders: not authorized\nkt.shop.events: not authorized\nkt.shop.orders.acts: not authorized',
  )
})

test('brokers that do not answer are excused where that was asked for, and missing topics never', () => {
  expect(exitCodeOf(new UnreachableError('no broker answered'), false)).toBe(69)
  expect(exitCodeOf(new UnreachableError('no broker answered'), true)).toBe(0)
  expect(exitCodeOf(new Error('kt.shop.orders: not authorized'), true)).toBe(1)
})

test.each([
  ['--help', 0, 'stdout', 'bun run create-topics'],
  ['--bogus', 64, 'stderr', "Unknown option '--bogus'"],
] as const)('%s ends with %d and creates nothing', (option, exitCode, output, said) => {
  const child = Bun.spawnSync([process.execPath, join(import.meta.dir, 'create-topics.ts'), option])
  expect(child.exitCode).toBe(exitCode)
  expect(child[output].toString()).toContain(said)
})
