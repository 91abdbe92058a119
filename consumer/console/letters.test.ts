import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { budgetOf, consoleOn, type Given, incoming, outgoing } from '../testing/console.ts'
import { ActsState, type LetterFilter } from './acts-log.ts'
import { groupLetters, matcherOf, nativeFilter } from './letters.ts'
import { LETTER_STATES, type LetterState } from './names.ts'

const DLQ = 'kt.acme.events.dlq'

interface GivenLetter extends Given {
  reason?: string
  message?: string
  handler?: string
  atMs?: number
}

function letter({
  reason = 'handler failed',
  message = 'no',
  handler,
  headers = {},
  ...given
}: GivenLetter = {}): Given {
  return {
    topic: DLQ,
    ...given,
    headers: {
      'kt-error': JSON.stringify({ reason, message, ...(handler === undefined ? {} : { handler }) }),
      'kt-origin': 'kt.acme.events/0/7',
      ...headers,
    },
  }
}

function dlqWith(letters: readonly GivenLetter[], partitions = 1) {
  const kafka = new FakeKafka()
  const { stream, reader, readers } = consoleOn(kafka, { partitions })
  for (const one of letters) {
    kafka.nowMs = () => one.atMs ?? 1_000
    kafka.append(outgoing(letter(one)))
  }
  const groups = (
    filter: LetterFilter = {},
    states: readonly LetterState[] = LETTER_STATES,
    acts = new ActsState(),
    budget = budgetOf(),
  ) => groupLetters(stream, filter, states, acts, reader, budget, readers)
  return { kafka, groups }
}

const time = (ms: number): string => new Date(ms).toISOString()

describe('a filter', () => {
  const given = incoming(
    letter({
      reason: 'out of attempts',
      handler: 'order.placed@2',
      type: 'order.placed',
      source: '/s',
      id: 'e1',
      timestampMs: 5_000,
      headers: { ce_subject: 'sub' },
    }),
  )

  test.each([
    [{}, true],
    [{ reason: 'out of attempts' }, true],
    [{ reason: 'out of' }, false],
    [{ handler: 'order.placed@2' }, true],
    [{ handler: 'order.placed' }, true],
    [{ handler: 'order.placed@1' }, false],
    [{ handler: 'order' }, false],
    [{ type: 'order.placed' }, true],
    [{ type: 'order.*' }, true],
    [{ type: '*' }, true],
    [{ type: 'placed*' }, false],
    [{ type: 'order' }, false],
    [{ source: '/s' }, true],
    [{ source: '/' }, false],
    [{ subject: 'sub' }, true],
    [{ subject: 'other' }, false],
    [{ id: 'e1' }, true],
    [{ id: 'e' }, false],
    [{ from: time(5_000) }, true],
    [{ from: time(5_001) }, false],
    [{ to: time(5_001) }, true],
    [{ to: time(5_000) }, false],
    [{ id: 'e1', reason: 'out of attempts', type: 'nope' }, false],
  ] as [LetterFilter, boolean][])('%j matches: %p', (filter, expected) => {
    expect(matcherOf(filter)(given)).toBe(expected)
  })

  test('of attributes matches nothing that is no event, and one of the reason does', () => {
    const broken = incoming(letter({ id: null, reason: 'undecodable' }))
    expect(matcherOf({ type: '*' })(broken)).toBe(false)
    expect(matcherOf({ reason: 'undecodable' })(broken)).toBe(true)
    expect(matcherOf({ reason: 'undecodable' })(incoming({ topic: DLQ, headers: { 'kt-error': '{' } }))).toBe(false)
  })

  test('leaves out natively only letters that it does not match', () => {
    const word = fc.constantFrom('a', 'b', 'a*', '*', 'a"b', 'é\\', 'x@1')
    const filters = fc.record({ reason: word, type: word, source: word, subject: word, id: word }, { requiredKeys: [] })
    const of = fc.record({
      reason: word,
      type: word,
      source: fc.constantFrom('a', 'b', 'x@1'),
      id: word,
      subject: word,
    })
    fc.assert(
      fc.property(filters, of, (filter, { subject, ...rest }) => {
        const record = incoming(letter({ ...rest, headers: { ce_subject: subject } }))
        const { headers } = nativeFilter(filter)
        const passes = headers.every(({ name, value, how }) => {
          const held = record.headers.values[record.headers.names.indexOf(name)]
          return typeof held === 'string' && (how === 'equals' ? held === value : held.includes(value))
        })
        expect(passes || !matcherOf(filter)(record)).toBe(true)
      }),
    )
  })
})

describe('groups', () => {
  test('are by reason, type, handler and state, largest first, with their newest letter', async () => {
    const { groups } = dlqWith(
      [
        { id: 'a', atMs: 10_000, message: 'first' },
        { id: 'b', atMs: 70_000, message: 'last' },
        { id: 'c', atMs: 20_000, reason: 'no handler' },
        { id: 'd', atMs: 30_000, partition: 1, message: 'other partition' },
        { id: 'e', atMs: 40_000, partition: 1, message: 'other partition' },
        { id: null, atMs: 50_000, reason: 'undecodable', partition: 1 },
        { id: 'f', atMs: 60_000, handler: 'order.placed@1' },
      ],
      2,
    )
    const result = await groups()
    expect(result).toMatchObject({ letters: 7, complete: true, bucketSeconds: 60, buckets: [time(0), time(60_000)] })
    expect(result.groups[0]).toEqual({
      reason: 'handler failed',
      type: 'order.placed',
      state: 'open',
      count: 4,
      newest: { partition: 0, offset: 1, id: 'b' },
      message: 'last',
      firstTime: time(10_000),
      lastTime: time(70_000),
      counts: [3, 1],
    })
    expect(result.groups.map(({ reason, type, handler, count }) => [reason, type, handler, count])).toEqual([
      ['handler failed', 'order.placed', undefined, 4],
      ['no handler', 'order.placed', undefined, 1],
      ['handler failed', 'order.placed', 'order.placed@1', 1],
      ['undecodable', undefined, undefined, 1],
    ])
  })

  test('name their newest letter however many windows and partitions they are from', async () => {
    const many = Array.from({ length: 7_000 }, (_, index) => ({
      id: `e${index}`,
      atMs: 1_000 + index,
      message: String(index),
    }))
    const { groups } = dlqWith(
      [...many, { id: 'old', partition: 1, atMs: 500 }, { id: 'older', partition: 1, atMs: 600 }],
      2,
    )
    expect((await groups()).groups[0]).toMatchObject({
      count: 7_002,
      newest: { partition: 0, offset: 6_999, id: 'e6999' },
      message: '6999',
    })
  })

  test('have the states that are asked for', async () => {
    const { groups } = dlqWith([{ id: 'a' }, { id: 'b' }, { id: 'c' }])
    const acts = new ActsState()
    acts.take({ act: 'redrive', id: '1', time: time(0), by: 'x', letters: [[0, 0, 1]] })
    acts.take({ act: 'discard', id: '2', time: time(0), by: 'x', letters: [[0, 1, 0]] })
    const ids = async (...states: LetterState[]) =>
      (await groups({}, states, acts)).groups.map(({ state, newest }) => [state, newest.id])
    expect(await ids('open')).toEqual([['open', 'c']])
    expect(await ids('redriven')).toEqual([['redriven', 'a']])
    expect(await ids('discarded')).toEqual([['discarded', 'b']])
    expect(await ids(...LETTER_STATES)).toHaveLength(3)
  })

  test('are counted only of letters in the time that is asked for', async () => {
    const { groups } = dlqWith(Array.from({ length: 10 }, (_, index) => ({ atMs: 1_000 * index })))
    const result = await groups({ from: time(3_000), to: time(7_000) })
    expect(result.letters).toBe(4)
    expect(result.searched[0]).toMatchObject({ wanted: { from: 3, to: 7 }, searched: { from: 3, to: 7 } })
  })

  test('that a limit cuts say so, and count the newest', async () => {
    const { groups } = dlqWith(Array.from({ length: 10 }, (_, index) => ({ atMs: 1_000 * index })))
    expect(await groups({}, LETTER_STATES, new ActsState(), budgetOf(4))).toMatchObject({
      letters: 4,
      complete: false,
      searched: [{ searched: { from: 6, to: 10 } }],
    })
  })

  test('are at most 200, and more are told of', async () => {
    const { groups } = dlqWith(Array.from({ length: 201 }, (_, index) => ({ type: `t${index}` })))
    const result = await groups()
    expect(result.groups).toHaveLength(200)
    expect(result).toMatchObject({ letters: 201, complete: false })
  })

  test('of nothing are none', async () => {
    expect(await dlqWith([]).groups()).toMatchObject({ groups: [], letters: 0, buckets: [], complete: true })
  })

  test('have each letter in one of at most 60 buckets, whatever their times', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 4_000_000_000_000 }), { minLength: 1, maxLength: 20 }),
        fc.constantFrom(1, 1e3, 1e5, 1e7, 1e8),
        async (times, divisor) => {
          const atMs = times.map((one) => Math.floor(one / divisor))
          const { groups, buckets, bucketSeconds } = await dlqWith(atMs.map((one) => ({ atMs: one }))).groups()
          expect(buckets.length).toBeLessThanOrEqual(60)
          expect(groups[0]?.counts).toEqual(
            buckets.map(
              (begin) =>
                atMs.filter((one) => one >= Date.parse(begin) && one < Date.parse(begin) + bucketSeconds * 1_000)
                  .length,
            ),
          )
          expect(groups[0]?.counts.reduce((sum, one) => sum + one, 0)).toBe(times.length)
        },
      ),
    )
  })
})
