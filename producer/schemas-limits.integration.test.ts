import { expect, test } from 'bun:test'
import { checkingProducer, ORDER, order } from './testing/checked.ts'

/** In a suite of its own, since these limits are times. */

test('what a check throws, or a batch that takes too long, is a fault and no failure', async () => {
  const tree = { type: 'object', properties: { next: { $ref: '#' } } }
  const { post, stored } = await checkingProducer({}, { [ORDER]: [tree] }, { MAX_NESTING_DEPTH: '512' })
  const deep = `{"type":"order.placed","data":${'{"next":'.repeat(400)}{}${'}'.repeat(400)}}`
  expect((await post(deep)).status).toBe(202)
  const slow = { uniqueItems: true }
  const service2 = await checkingProducer({}, { [ORDER]: [slow] })
  // The first may be late, too.
  const data = Array.from({ length: 1_500 }, (_, id) => ({ id }))
  const answer = await service2.send(Array.from({ length: 100 }, () => order(data)))
  expect([answer.status, JSON.parse(answer.text).detail]).toEqual([413, expect.stringContaining('more than 1000 ms')])
  const late = await service2.send(order(Array.from({ length: 60_000 }, (_, id) => ({ id }))))
  expect([late.status, JSON.parse(late.text).type]).toEqual([503, 'urn:kafkatrace:problem:schema-unavailable'])
  expect(service2.stored()).toEqual([])
  expect(stored()).toHaveLength(1)
})
