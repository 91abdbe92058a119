import { expect, test } from 'bun:test'
import { createTopics } from './create-topics.ts'
import { tenantsOf } from './tenants.ts'

const tenants = tenantsOf({ tenants: { shop: { streams: ['orders', 'events'], keys: [] } } })
const options = { partitions: 3, replication: -1 }

test('every stream of every tenant gets its four topics', async () => {
  const asked: string[][] = []
  const ensureTopics = async (topics: readonly string[]) => void asked.push([...topics])
  expect(await createTopics(tenants, { ensureTopics }, options)).toBe(2)
  expect(asked.map((topics) => topics[0])).toEqual(['kt.shop.orders', 'kt.shop.events'])
  expect(asked.flat()).toHaveLength(8)
})

test('a refusal of the broker is the job’s', async () => {
  const ensureTopics = () => Promise.reject(new Error('not authorized'))
  await expect(createTopics(tenants, { ensureTopics }, options)).rejects.toThrow('not authorized')
})
