import { expect, test } from 'bun:test'
import { Unacknowledged } from './unacknowledged.ts'

test('a topic whose records time out is named until one is acknowledged, or for a minute, and said once a minute', () => {
  let nowMs = 0
  const said: unknown[] = []
  const topics = new Unacknowledged({ warn: (fields: unknown) => void said.push(fields) }, () => nowMs)
  topics.acknowledged('a')
  expect(topics.reason('a')).toBeUndefined()
  topics.failed('a', 'late')
  topics.failed('a', 'late')
  expect(topics.reason('a')).toStartWith('records of a are not acknowledged in time: too few in-sync replicas')
  topics.acknowledged('b')
  expect(topics.reason('a')).toBeDefined()
  expect(topics.reason('b')).toBeUndefined()
  topics.acknowledged('a')
  expect(topics.reason('a')).toBeUndefined()
  topics.failed('a', 'late')
  nowMs = 59_999
  expect(topics.reason('a')).toBeDefined()
  nowMs = 60_000
  expect(topics.reason('a')).toBeUndefined()
  expect(said).toEqual([{ topic: 'a' }])
  topics.failed('a', 'time')
  expect(topics.reason('a')).toStartWith('a refuses the time of records: compare this host’s clock with the brokers’')
  expect(said).toHaveLength(2)
})
