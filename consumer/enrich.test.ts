import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { Event } from '../shared/events/event.ts'
import { contextEnd, createContextStart, createEnricher, fingerprint } from './enrich.ts'

const NOW_MS = Date.parse('2026-01-01T00:00:10Z')
const event: Event = { id: '1', source: '/s', type: 't', extensions: {}, data: Buffer.from('{"a":1}') }
const origin = { tenant: 'acme', stream: 'orders', receivedAtMs: undefined, timestampMs: NOW_MS - 1000 }

const enrich = createEnricher({ nowMs: () => NOW_MS })

test('an event has its context', () => {
  const context = enrich({ ...event, time: '2026-01-01T00:00:00Z' }, { ...origin, receivedAtMs: NOW_MS - 2000 })
  expect(context).toEqual({
    tenant: 'acme',
    stream: 'orders',
    receivedAtMs: NOW_MS - 2000,
    processedAtMs: NOW_MS,
    latenessMs: 8000,
    fingerprint: fingerprint(event),
  })
})

test('the handler is named with its version', () => {
  expect(enrich(event, origin, { type: 'com.x', version: '3' })).toMatchObject({ handler: 'com.x@3' })
})

test('a context begins and ends as that of an event that is not decoded does, whatever the one before was of', () => {
  const name = fc.oneof(fc.constantFrom('acme', 'orders'), fc.string({ unit: 'grapheme', minLength: 1 }))
  const given = fc.record({ tenant: name, stream: name, ms: fc.constantFrom(0, NOW_MS, NOW_MS + 1) })
  let nowMs = 0
  const enrich = createEnricher({ nowMs: () => nowMs })
  fc.assert(
    fc.property(fc.array(given), (list) => {
      const contextStart = createContextStart(() => nowMs)
      for (const { tenant, stream, ms } of list.flatMap((one) => [one, one])) {
        nowMs = ms
        for (const handler of [undefined, { type: tenant, version: stream }]) {
          const whole = enrich(event, { ...origin, tenant, stream }, handler)
          const { text, processedAtMs } = contextStart(tenant, stream)
          expect(JSON.stringify(whole)).toBe(`${text},"fingerprint":"${whole.fingerprint}"${contextEnd(handler)}}`)
          expect(processedAtMs).toBe(ms)
        }
      }
    }),
  )
})

describe('lateness', () => {
  const lateness = (time: string | undefined, receivedAtMs?: number): unknown => {
    const from = receivedAtMs === undefined ? origin : { ...origin, receivedAtMs }
    return enrich(time === undefined ? event : { ...event, time }, from).latenessMs
  }

  test('counts to the receipt, and to the record where no receipt is known', () => {
    expect(lateness('2026-01-01T00:00:00Z', NOW_MS - 4000)).toBe(6000)
    expect(lateness('2026-01-01T00:00:00Z')).toBe(9000)
  })

  test('is negative for a clock that is ahead', () => {
    expect(lateness('2026-01-01T00:00:10Z')).toBe(-1000)
  })

  test('counts to now where the record has no timestamp', () => {
    const { latenessMs } = enrich({ ...event, time: '2026-01-01T00:00:00Z' }, { ...origin, timestampMs: -1 }) as {
      latenessMs?: number
    }
    expect(latenessMs).toBe(10_000)
  })

  test('respects the offset', () => {
    expect(lateness('2026-01-01T02:00:00.500+02:00')).toBe(8500)
  })

  test.each(['.012345678Z', '.0123456789Z', '.012345678901234567890123Z', '.0129999999+00:00'])(
    'drops what is finer than a millisecond: %s',
    (end) => {
      expect(lateness(`2026-01-01T00:00:00${end}`)).toBe(8988)
    },
  )

  test('is absent without a time, or with one that no calendar has', () => {
    expect(lateness(undefined)).toBeUndefined()
    expect(lateness('2016-12-31T23:59:60Z')).toBeUndefined()
  })
})

test('what the reference table says is in the context; of an event that it does not concern, nothing', () => {
  const found = { status: 'found', value: { rank: 1 } } as const
  const reference = { find: ({ subject }: Event) => (subject === 'a' ? found : undefined) }
  const enrich = createEnricher({ reference, nowMs: () => NOW_MS })
  expect(enrich({ ...event, subject: 'a' }, origin).lookups).toEqual({ reference: found })
  expect(enrich(event, origin)).not.toHaveProperty('lookups')
})

describe('the fingerprint', () => {
  test('is 128 bits in hex, and stays what it is from version to version', () => {
    expect(fingerprint(event)).toBe('aa5a3ebfce75dbed40ab132b1f279f01')
  })

  test('ignores the id, the time and the extensions', () => {
    const again = { ...event, id: '2', time: '2026-01-01T00:00:00Z', extensions: { a: 'b' } }
    expect(fingerprint(again)).toBe(fingerprint(event))
  })

  test('tells no data from zero bytes of it, and no subject from an empty one', () => {
    expect(fingerprint({ ...event, data: null })).not.toBe(fingerprint({ ...event, data: Buffer.alloc(0) }))
    expect(fingerprint({ ...event, subject: '' })).not.toBe(fingerprint(event))
  })

  test('differs whenever type, source, subject or data do, wherever the border between them is drawn', () => {
    const part = fc.string({ unit: fc.constantFrom('a', '"', ',', '\\', ']', 'ü', '\ud800'), maxLength: 4 })
    const content = fc.record({
      type: part,
      source: part,
      subject: fc.option(part, { nil: undefined }),
      data: fc.option(part, { nil: null }),
    })
    const eventOf = ({
      subject,
      data,
      ...rest
    }: {
      type: string
      source: string
      subject: string | undefined
      data: string | null
    }): Event => ({
      ...event,
      ...rest,
      ...(subject === undefined ? {} : { subject }),
      data: data === null ? null : Buffer.from(data),
    })
    fc.assert(
      fc.property(content, content, (one, other) => {
        const same =
          one.type === other.type &&
          one.source === other.source &&
          one.subject === other.subject &&
          (one.data === null || other.data === null
            ? one.data === other.data
            : Buffer.from(one.data).equals(Buffer.from(other.data)))
        expect(fingerprint(eventOf(one)) === fingerprint(eventOf(other))).toBe(same)
      }),
      { numRuns: 500 },
    )
  })

  test('does not depend on how the same bytes are split', () => {
    // Each pair would be equal if the parts were only joined.
    const pairs: [Partial<Event>, Partial<Event>][] = [
      [
        { type: 'ab', source: 'c' },
        { type: 'a', source: 'bc' },
      ],
      [
        { source: 'x', subject: 'y' },
        { source: 'xy', subject: '' },
      ],
      [
        { subject: 'a', data: Buffer.from('b') },
        { subject: 'ab', data: Buffer.from('') },
      ],
    ]
    for (const [one, other] of pairs)
      expect(fingerprint({ ...event, ...one })).not.toBe(fingerprint({ ...event, ...other }))
  })
})
