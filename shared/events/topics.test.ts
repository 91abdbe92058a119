import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { INPUT_TOPICS, NAME_PATTERN, parseTopic, streamTopics } from './topics.ts'

const name = fc.stringMatching(new RegExp(NAME_PATTERN))

describe('topic names', () => {
  test('a stream has its own topic and three beside it, which say where they belong', () => {
    fc.assert(
      fc.property(name, name, (tenant, stream) => {
        const topics = streamTopics(tenant, stream)
        expect(topics.map(parseTopic)).toEqual(
          (['input', 'retry', 'dlq', 'processed'] as const).map((role) => ({
            tenant,
            stream,
            input: `kt.${tenant}.${stream}`,
            role,
          })),
        )
      }),
    )
  })

  test('the subscription matches every stream’s own topic, and none of those beside it', () => {
    fc.assert(
      fc.property(name, name, (tenant, stream) => {
        expect(streamTopics(tenant, stream).map((topic) => INPUT_TOPICS.test(topic))).toEqual([
          true,
          false,
          false,
          false,
        ])
      }),
    )
  })

  test('Kafka takes them: at most 249 characters, and no two that differ in . against _ only', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, name), { selector: String, maxLength: 5 }), (streams) => {
        const topics = streams.flatMap(([tenant, stream]) => streamTopics(tenant, stream))
        for (const topic of topics) expect(topic).toMatch(/^[a-zA-Z0-9._-]{1,249}$/)
        expect(new Set(topics.map((topic) => topic.replaceAll('.', '_'))).size).toBe(topics.length)
      }),
    )
  })

  test.each(['b_retry', 'a.b', '', '-a', 'A', 'ä', 'a b', 'a'.repeat(64), '__proto__'])('%j is no name', (text) => {
    expect(new RegExp(NAME_PATTERN).test(text)).toBe(false)
  })

  test.each(['events', 'kt.a', 'kt.a.b.c', 'kt.a.b.retry.dlq', 'kt..b', 'xkt.a.b', 'kt.a.b\n', '__consumer_offsets'])(
    '%j is not a topic of ours',
    (topic) => {
      expect(parseTopic(topic)).toBeUndefined()
    },
  )
})
