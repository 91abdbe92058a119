import { expect, test } from 'bun:test'
import { LookedUp, numbersOf } from './measure-console.ts'

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7/

test('half of the events have UUIDv7 ids that are made when they are sent, and all have one of the keys', () => {
  const events = new LookedUp({ eventBytes: 400, keys: 7 })
  expect(() => events.idOf(1)).toThrow('event 1 was not sent')
  const sent = JSON.parse(events.bodyAt(2).text) as { id: string; subject: string }[]
  expect(sent).toHaveLength(1000)
  expect(sent.filter(({ id }) => UUID7.test(id))).toHaveLength(500)
  expect(new Set(sent.map(({ id }) => id)).size).toBe(1000)
  expect(new Set(sent.map(({ subject }) => subject)).size).toBe(7)
  for (const number of [2_000, 2_001, 2_999]) {
    expect(sent[number - 2_000]?.id).toBe(events.idOf(number))
    expect(sent[number - 2_000]?.subject).toBe(events.keyOf(number))
  }
})

test('events are looked up from all over the log, of one kind at a time', () => {
  expect(numbersOf(1_000, 5, false)).toEqual([100, 300, 500, 700, 900])
  expect(numbersOf(1_000, 4, false)).toEqual([124, 374, 624, 874])
  expect(numbersOf(1_000, 5, true)).toEqual([101, 301, 501, 701, 901])
  expect(Math.max(...numbersOf(1_000_000, 100, true))).toBeLessThan(1_000_000)
})
