import { expect, test } from 'bun:test'
import { browseFilterIn, letterFilterIn } from './filters.ts'

test('records are asked for as the address says; what is empty or not there is left out', () => {
  expect(browseFilterIn({})).toEqual({ topic: 'input', order: 'newest', format: 'json', limit: 100 })
  expect(
    browseFilterIn({
      topic: 'dlq',
      order: 'oldest',
      format: 'hex',
      type: 'order.*',
      id: '',
      header: 'a:b',
      where: '/total=10',
      reason: 'invalid data',
      handler: 'order',
      partition: '0',
      offset: '0',
      cursor: 'abc',
      stream: 'orders',
    }),
  ).toEqual({
    topic: 'dlq',
    order: 'oldest',
    format: 'hex',
    type: 'order.*',
    header: ['a:b'],
    where: ['/total=10'],
    reason: 'invalid data',
    handler: 'order',
    partition: 0,
    offset: 0,
    cursor: 'abc',
    limit: 100,
  })
  expect(browseFilterIn({ topic: 'secret', order: 'random', format: 'xml', reason: 'x', handler: 'y' })).toEqual({
    topic: 'input',
    order: 'newest',
    format: 'json',
    limit: 100,
  })
})

test('letters are filtered by what the address has of them', () => {
  expect(letterFilterIn({ state: 'open', tenant: 'acme', reason: '', type: 'a' })).toEqual({ type: 'a' })
  const all = { reason: 'r', type: 't', handler: 'h', from: '2026-01-31T12:00:00Z', to: '2026-01-31T13:00:00Z' }
  expect(letterFilterIn(all)).toEqual(all)
})
