import { describe, expect, test } from 'bun:test'
import { type Connection, NOT_THERE } from '../shared/kafka/types.ts'
import { readinessChecks } from './readiness.ts'

function service(first: string[], createsTopics = true) {
  const topics = [...first]
  const blocked = new Map(topics.map((topic) => [topic, `${topic} is not there`]))
  const overdue = new Map<string, string>()
  const compacted = new Set<string>()
  const now = {
    ms: 0,
    connection: { state: 'connected' } as Connection,
    fault: undefined as string | undefined,
    making: 0,
  }
  const checks = readinessChecks({
    topics: () => topics,
    producer: {
      connection: () => now.connection,
      blocked: (topic) => blocked.get(topic),
      unacknowledged: (topic) => overdue.get(topic),
      making: () => now.making,
      settings: (topic) => ({ maxMessageBytes: undefined, isCompacted: compacted.has(topic) }),
    },
    createsTopics,
    creationFault: () => now.fault,
    nowMs: () => now.ms,
  })
  return { ...checks, topics, blocked, overdue, compacted, now }
}

test('a broker that cannot be reached while others can is named', () => {
  const { kafka, now } = service([])
  now.connection = { state: 'connected', detail: 'b:1: connection refused' }
  expect(kafka()).toEqual({ ok: true, detail: 'a broker is unreachable: b:1: connection refused' })
})

describe('the streams', () => {
  test('at the start all are waited for, and one that does not come holds the others back for a while only', () => {
    const { streams, blocked, now } = service(['a', 'b'])
    expect(streams()).toEqual({
      ok: false,
      reason: '2 of 2 streams cannot be written to: a is not there; b is not there',
    })
    now.ms = 60_000
    expect(streams().ok).toBe(false)
    blocked.delete('a')
    expect(streams().ok).toBe(false)
    now.ms += 4_999
    now.fault = 'b: no leave'
    expect(streams()).toEqual({ ok: false, reason: '1 of 2 streams cannot be written to: b is not there; b: no leave' })
    now.ms += 1
    expect(streams()).toEqual({ ok: true, detail: '1 of 2 streams cannot be written to: b is not there; b: no leave' })
  })

  test('at the start all are waited for as long as one follows the other', () => {
    const { streams, blocked, now } = service(['a', 'b', 'c', 'd'])
    for (const topic of ['a', 'b', 'c']) {
      blocked.delete(topic)
      expect(streams().ok).toBe(false)
      now.ms += 4_999
      expect(streams().ok).toBe(false)
    }
    now.ms += 1
    expect(streams()).toEqual({ ok: true, detail: '1 of 4 streams cannot be written to: d is not there' })
  })

  test('at the start those that brokers are making are waited for longer, and not for ever', () => {
    const { streams, blocked, now } = service(['a', 'b'])
    blocked.delete('a')
    now.making = 1
    expect(streams().ok).toBe(false)
    now.ms += 59_999
    expect(streams().ok).toBe(false)
    now.ms += 1
    expect(streams()).toEqual({ ok: true, detail: '1 of 2 streams cannot be written to: b is not there' })
  })

  test('later one that cannot be written to is named, and none left is not ready', () => {
    const { streams, blocked } = service(['a', 'b'])
    blocked.clear()
    expect(streams()).toEqual({ ok: true })
    blocked.set('b', 'not authorized to write to b')
    expect(streams()).toEqual({ ok: true, detail: '1 of 2 streams cannot be written to: not authorized to write to b' })
    blocked.set('a', 'not authorized to write to a')
    expect(streams().ok).toBe(false)
  })

  test('one whose records are not acknowledged is named, too, and if none are it is not well', () => {
    const { streams, blocked, overdue } = service(['a', 'b'])
    blocked.clear()
    expect(streams()).toEqual({ ok: true })
    overdue.set('b', 'records of b are not acknowledged')
    expect(streams()).toEqual({
      ok: true,
      detail: '1 of 2 streams cannot be written to: records of b are not acknowledged',
    })
    blocked.set('a', 'not authorized to write to a')
    expect(streams().ok).toBe(false)
  })

  test('that come later are named until they can be written to, and those that are gone are not', () => {
    const { streams, topics, blocked } = service(['a', 'b'])
    blocked.clear()
    expect(streams()).toEqual({ ok: true })
    topics.push('c')
    blocked.set('c', 'the topic c is not known yet')
    expect(streams()).toEqual({ ok: true, detail: '1 of 3 streams cannot be written to: the topic c is not known yet' })
    topics.pop()
    expect(streams()).toEqual({ ok: true })
  })

  test('that are compacted are named, and take events', () => {
    const { streams, blocked, compacted } = service(['a', 'b'])
    blocked.clear()
    compacted.add('b')
    const detail = 'compacted (cleanup.policy), so that events without a key are refused: b'
    expect(streams()).toEqual({ ok: true, detail })
    blocked.set('a', 'a is not there')
    expect(streams()).toEqual({ ok: true, detail: `1 of 2 streams cannot be written to: a is not there; ${detail}` })
  })

  test('that lack their topic are named with how to create it, unless the service does', () => {
    const advice = 'create missing topics with `bun producer/create-topics.ts`, or set CREATE_TOPICS=on'
    const { streams, blocked } = service(['a', 'b'], false)
    expect(JSON.stringify(streams())).not.toContain(advice)
    blocked.set('b', NOT_THERE('b'))
    expect(streams()).toMatchObject({ reason: expect.stringMatching(/the topic b is not there \(yet\); /) })
    expect(JSON.stringify(streams())).toContain(advice)
    const creating = service(['a'])
    creating.blocked.set('a', NOT_THERE('a'))
    expect(JSON.stringify(creating.streams())).not.toContain(advice)
  })

  test('are not known without Kafka, whose reason is told once', () => {
    const { kafka, streams, now } = service(['a'])
    now.connection = { state: 'connecting', reason: 'a:1: connection refused' }
    expect(kafka()).toEqual({ ok: false, reason: 'a:1: connection refused' })
    expect(streams()).toEqual({ ok: false, reason: 'unknown while Kafka is unreachable' })
  })

  test('a long list of reasons is cut', () => {
    const { streams } = service(Array.from({ length: 9 }, (_, index) => `t${index}`))
    expect(streams()).toMatchObject({ reason: expect.stringMatching(/t4 is not there; and 4 more reasons$/) })
  })
})
