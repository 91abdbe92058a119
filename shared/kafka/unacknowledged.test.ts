import { expect, test } from 'bun:test'
import { Unacknowledged } from './unacknowledged.ts'

test('a topic whose records time out is named until one is acknowledged, or for a minute, and said once a minute', () => {
  let nowMs = 0
  const said: unknown[] = []
  const topics = new Unacknowledged({ warn: (fields: unknown) => void said.push(fields) }, () => nowMs)
  topics.acknowledged('a')
  expect(topics.reason('a')).toBeUndefined()
  topics.timedOut('a')
  topics.timedOut('a')
  expect(topics.reason('a')).toStartWith('records of a are not acknowledged in time: too few in-sync replicas')
  topics.acknowledged('b')
  expect(topics.reason('a')).toBeDefined()
  expect(topics.reason('b')).toBeUndefined()
  topics.acknowledged('a')
  expect(topics.reason('a')).toBeUndefined()
  topics.timedOut('a')
  nowMs = 59_999
  expect(topics.reason('a')).toBeDefined()
  nowMs = 60_000
  expect(topics.reason('a')).toBeUndefined()
  expect(said).toEqual([{ topic: 'a' }])
})
