import { expect, test } from 'bun:test'
import { requestsFor } from './admin.ts'

const stream = (name: string, partitions = 6, missing = ['', '.retry', '.dlq', '.processed']) => {
  const topics = ['', '.retry', '.dlq', '.processed'].map((suffix) => name + suffix)
  return { topics, missing: missing.map((suffix) => name + suffix), partitions }
}

test('few topics are asked for in one request, so that those that belong together come to be together', () => {
  const requests = requestsFor([stream('a'), stream('b'), stream('c', 6, [])])
  expect(requests).toHaveLength(1)
  expect(requests[0]?.topics).toHaveLength(8)
  expect(requestsFor([stream('a', 6, [])])).toEqual([])
})

test('topics with other numbers of partitions are asked for apart', () => {
  const requests = requestsFor([stream('a'), stream('b', 3, ['.dlq']), stream('c')])
  expect(requests.map(({ topics, partitions }) => [topics.length, partitions])).toEqual([
    [8, 6],
    [1, 3],
  ])
})

test.each([20, 500])('of many, %i streams, their own topics come first, and no request is too large', (count) => {
  const streams = Array.from({ length: count }, (_, index) => stream(`s${index}`))
  const requests = requestsFor(streams)
  expect(requests[0]?.topics).toEqual(streams.map(({ topics }) => topics[0] as string))
  expect(requests.flatMap(({ topics }) => topics).toSorted()).toEqual(
    streams.flatMap(({ topics }) => topics).toSorted(),
  )
  for (const { topics, partitions } of requests) expect(topics.length * (1 + partitions)).toBeLessThanOrEqual(10_000)
})

test('a topic that is too large for a request of its own is asked for all the same', () => {
  expect(requestsFor([stream('a', 10_000)]).map(({ topics }) => topics.length)).toEqual([1, 1, 1, 1])
})
