import { describe, expect, test } from 'bun:test'
import { NO_HEADERS } from '../shared/events/headers.ts'
import { headOf } from './head.ts'
import { parseBody } from './parse.ts'
import { invalidEvents, LIST, tooLarge } from './validate.ts'

const defaults = { source: '/s', id: () => '1', time: () => '2026-01-31T23:59:59Z' }
const NO_HEAD = headOf(new Headers())

const parse = (text: string, maxEvents = 1_000) =>
  parseBody('plain', NO_HEAD, Buffer.from(text), defaults, {
    MAX_NESTING_DEPTH: 64,
    MAX_BATCH_EVENTS: maxEvents,
    CLOUDEVENTS_STRICT: 'off',
  })

/** An event with so many members besides its type. */
const event = (members: number, name = 'a') =>
  `{"type":"t"${Array.from({ length: members }, (_, i) => `,"${name}${i}":1`).join('')}}`

describe('what is wrong with the events of a request', () => {
  test('is named up to the hundredth fault, with the number of all', () => {
    const parsed = parse(`[${event(60, 'Bad')},${event(60, 'Bad')}]`)
    const problem = parsed.ok ? invalidEvents(parsed.results, LIST) : undefined
    expect([problem?.errors?.length, problem?.detail]).toEqual([
      100,
      '120 faults, of which the first 100 are named. Nothing of the request was stored.',
    ])
  })

  test('is named of records that are too large, too, with the number of all', () => {
    const record = { topic: 't', key: null, value: Buffer.alloc(200), headers: NO_HEADERS } as never
    const problem = tooLarge(Array(150).fill(record), 100, LIST)
    expect([problem?.errors?.length, problem?.detail]).toEqual([
      100,
      'An event may take MAX_EVENT_BYTES=100 bytes as a record; 150 events are larger, of which the first 100 are named. Nothing of the request was stored.',
    ])
  })

  test('does not take the time to list hundreds of thousands of members', () => {
    const text = event(420_000, 'Bad')
    const began = process.cpuUsage()
    expect(parse(text)).toMatchObject({ ok: false, problem: { kind: 'body-too-large' } })
    // Listing them takes 0.4 s or more.
    expect(process.cpuUsage(began).user / 1_000).toBeLessThan(150)
  })

  test('is no number of members that a batch may have', () => {
    for (const maxEvents of [1, 1_000]) {
      expect(parse(event(999), maxEvents).ok).toBe(true)
      expect(parse(`[{},${event(1_000)}]`, Math.max(2, maxEvents))).toMatchObject({
        problem: { detail: expect.stringContaining('more than 1000 members') },
      })
    }
    const many = Array(31).fill(event(999))
    expect(parse(`[${many},${event(998)},{"id":"1"}]`).ok).toBe(true)
    expect(parse(`[${many},${event(999)},{"id":"1"}]`)).toMatchObject({
      problem: { detail: expect.stringContaining('more than 32000') },
    })
  })
})
