import { afterEach, describe, expect, mock, spyOn, test } from 'bun:test'
import fc from 'fast-check'
import { murmur2, partitionOfHash } from '../../shared/events/partition.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { encodeAhead } from '../ahead.ts'
import { budgetOf, consoleOn, type Given, outgoing, SHOWING } from '../testing/console.ts'
import type { LetterAct } from './acts-log.ts'
import { type Found, find, type Query, timeOfUuid } from './life.ts'

const INPUT = 'kt.acme.events'
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const NOW_MS = 1_700_000_000_000

/** The partition of a key, as producers choose it. */
const partitionOf = (key: string, partitions: number): number => partitionOfHash(murmur2(Buffer.from(key)), partitions)

function setUp(partitions = 1, redact: readonly string[] = []) {
  const kafka = new FakeKafka()
  const { stream, reader, readers } = consoleOn(kafka, { partitions, redact })
  const acts = new Map<string, LetterAct>()
  let clockMs = NOW_MS
  const append = (given: Given & { atMs?: number }) => {
    kafka.nowMs = () => given.atMs ?? clockMs++
    return kafka.append(outgoing(given))
  }
  const at = (role: string, given: Given & { atMs?: number }) => append({ topic: `${INPUT}.${role}`, ...given })
  const commit = (offset: number, partition = 0, metadata = ''): void =>
    kafka.setOffset({ topic: INPUT, partition, offset, metadata })
  const look = (query: Query, budget = budgetOf()): Promise<Found> =>
    find(stream, query, { ...SHOWING, redact }, budget, {
      readers: readers,
      actOf: async (_, { partition, offset }) => acts.get(`${partition}/${offset}`),
    })
  const act = (offset: number, atMs: number, partition = 0): void => {
    acts.set(`${partition}/${offset}`, { act: 'redrive', id: 'a', time: new Date(atMs).toISOString(), by: 'x' })
  }
  return { kafka, reader, append, at, commit, look, act }
}

const failed = (origin: number, more: Given['headers'] = {}): Given => ({
  headers: {
    'kt-origin': `${INPUT}/0/${origin}`,
    'kt-error': '{"reason":"handler failed","message":"no"}',
    'kt-attempt': '1',
    'kt-attempts': JSON.stringify([{ attempt: 1, atMs: NOW_MS, reason: 'handler failed', message: 'no' }]),
    ...more,
  },
})

const states = ({ events }: Found): string[][] => events.map(({ generations }) => generations.map(({ state }) => state))

afterEach(() => mock.restore())

describe('an event is found', () => {
  const wanted = (partitions = 3) => {
    const all = setUp(partitions)
    for (let index = 0; index < 30; index++) all.append({ id: `noise${index}`, partition: index % partitions })
    return all
  }
  const places = ({ events }: Found) =>
    events.map(({ generations }) => generations[0]?.record).map((one) => one && `${one.partition}/${one.offset}`)

  test('by its id, in any partition, and in structured mode', async () => {
    const { append, look } = wanted()
    const { partition, offset } = append({ id: 'e', partition: 2 })
    const found = await look({ id: 'e' })
    expect(places(found)).toEqual([`${partition}/${offset}`])
    expect(found.events[0]).toMatchObject({
      tenant: 'acme',
      stream: 'events',
      id: 'e',
      source: '/s',
      type: 'order.placed',
      state: 'pending',
    })
    append({
      id: null,
      partition: 1,
      headers: { 'content-type': 'application/cloudevents+json' },
      value: '{"specversion":"1.0","id":"s","source":"/s","type":"t","data":1}',
    })
    expect(places(await look({ id: 's' }))).toEqual(['1/10'])
  })

  test('by its id and source, where sources share an id; without a source, one of them is, and the search is not complete', async () => {
    const { append, look } = setUp(1)
    append({ id: 'e', source: '/a' })
    append({ id: 'e', source: '/b' })
    expect(places(await look({ id: 'e', source: '/a' }))).toEqual(['0/0'])
    expect(places(await look({ id: 'e', source: '/b' }))).toEqual(['0/1'])
    expect((await look({ id: 'e', source: '/c' })).events).toEqual([])
    expect(await look({ id: 'e' })).toMatchObject({ events: [{ id: 'e' }], complete: false })
  })

  test('by its key, which tells the only partition that is searched', async () => {
    const { append, look } = wanted()
    const partition = partitionOf('key-7', 3)
    append({ id: 'e', key: 'key-7', partition })
    append({ id: 'elsewhere', key: 'other', partition: (partition + 1) % 3 })
    expect(places(await look({ id: 'e', key: 'key-7' }))).toEqual([`${partition}/10`])
    const found = await look({ id: 'elsewhere', key: 'key-7' })
    expect(found).toMatchObject({ events: [], complete: true })
    expect(new Set(found.searched.map((one) => one.partition))).toEqual(new Set([partition]))
  })

  test('without a key by its source and id, which tell the partition; with a key, in another one', async () => {
    const { append, look } = wanted()
    const own = partitionOf('/s\ne', 3)
    append({ id: 'e', partition: own })
    expect(places(await look({ id: 'e', source: '/s', key: '' }))).toEqual([`${own}/10`])
    const other = (partitionOf('/s\nf', 3) + 1) % 3
    append({ id: 'f', key: 'x', partition: other })
    expect((await look({ id: 'f', source: '/s', key: '' })).events).toEqual([])
    expect(places(await look({ id: 'f', source: '/s' }))).toEqual([`${other}/${other === own ? 11 : 10}`])
  })

  test('by its receipt, whatever it is', async () => {
    const { append, look } = wanted()
    append({ id: null, value: 'no event', partition: 1 })
    expect(places(await look({ receipt: { partition: 1, offset: 10 } }))).toEqual(['1/10'])
    expect((await look({ receipt: { partition: 1, offset: 10 } })).events[0]).not.toHaveProperty('id')
    for (const receipt of [
      { partition: 1, offset: 11 },
      { partition: 9, offset: 0 },
    ])
      expect((await look({ receipt })).events).toEqual([])
  })

  test('by its trace, with the others of the trace, newest first', async () => {
    const { append, look } = setUp(2)
    const traceparent = `00-${TRACE}-00f067aa0ba902b7-01`
    append({ id: 'a', headers: { traceparent } })
    append({ id: 'b', partition: 1, headers: { traceparent } })
    append({ id: 'c', headers: { traceparent: `00-${'1'.repeat(32)}-00f067aa0ba902b7-01` } })
    append({ id: 'd', headers: { traceparent: `x${traceparent}` } })
    const found = await look({ traceId: TRACE })
    expect(found.events.map(({ id, traceId }) => [id, traceId])).toEqual([
      ['b', TRACE],
      ['a', TRACE],
    ])
    expect(found.complete).toBe(true)
  })

  test('by its trace, up to ten of them', async () => {
    const { append, look } = setUp(2)
    const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` }
    for (let index = 0; index < 11; index++) append({ id: `e${index}`, partition: index % 2, headers })
    const found = await look({ traceId: TRACE })
    expect(found.events).toHaveLength(10)
    expect(found.complete).toBe(false)
  })

  test('by a UUIDv7 near its time, and also far from it', async () => {
    const uuid = (ms: number): string => {
      const hex = ms.toString(16).padStart(12, '0')
      return `${hex.slice(0, 8)}-${hex.slice(8)}-7abc-8def-0123456789ab`
    }
    expect(timeOfUuid(uuid(NOW_MS))).toBe(NOW_MS)
    expect(timeOfUuid(uuid(NOW_MS), NOW_MS - 7_200_000)).toBeUndefined()
    for (const id of ['x', uuid(NOW_MS).replace('-7', '-4'), uuid(NOW_MS).replace('-8', '-c')])
      expect(timeOfUuid(id)).toBeUndefined()
    // Just made; sent much later; by a sender whose clock is half an hour ahead.
    for (const [index, madeMs] of [NOW_MS, NOW_MS - 86_400_000, NOW_MS + 1_800_000].entries()) {
      const { append, look } = setUp(1)
      append({ id: 'before', atMs: NOW_MS - 172_800_000 })
      append({ id: uuid(madeMs), atMs: NOW_MS })
      append({ id: 'after', atMs: NOW_MS + 172_800_000 })
      expect([index, ...places(await look({ id: uuid(madeMs) }))]).toEqual([index, '0/1'])
    }
    // No record is that much older than its id, unless a time says where to look.
    const { append, look } = setUp(1)
    append({ id: uuid(NOW_MS), atMs: NOW_MS - 7_200_000 })
    expect((await look({ id: uuid(NOW_MS) })).events).toEqual([])
    expect(places(await look({ id: uuid(NOW_MS), fromMs: NOW_MS - 10_000_000 }))).toEqual(['0/0'])
  })

  test('on a broker that does not search by time, by a UUIDv7, too, with its outcome', async () => {
    const { append, at, look, reader } = setUp(1)
    spyOn(FakeKafka.prototype, 'reader').mockReturnValue({
      ...reader,
      offsetsAt: async (partitions) => partitions.map(() => undefined),
    })
    const id = `${NOW_MS.toString(16)
      .padStart(12, '0')
      .replace(/^(.{8})/, '$1-')}-7abc-8def-0123456789ab`
    append({ id: 'before' })
    append({ id })
    at('processed', { id, headers: { 'kt-origin': `${INPUT}/0/1` } })
    expect(places(await look({ id, fromMs: NOW_MS - 1_000, toMs: NOW_MS + 1_000 }))).toEqual(['0/1'])
    const found = await look({ id })
    expect([places(found), states(found)]).toEqual([['0/1'], [['processed']]])
    const none = await look({ id: id.replace(/b$/, 'c') })
    expect(none).toMatchObject({ complete: true, searched: [{ searched: { from: 0, to: 2 } }] })
  })

  test('only in the time that is asked for', async () => {
    const { append, look } = setUp(1)
    for (let index = 0; index < 5; index++) append({ id: `e${index}`, atMs: NOW_MS + index * 1_000 })
    const query = { fromMs: NOW_MS + 1_000, toMs: NOW_MS + 3_000 }
    for (const [index, count] of [0, 1, 1, 0, 0].entries())
      expect((await look({ id: `e${index}`, ...query })).events).toHaveLength(count)
    expect((await look({ id: 'e9', ...query })).searched).toEqual([
      { topic: INPUT, partition: 0, wanted: { from: 1, to: 3 }, searched: { from: 1, to: 3 } },
    ])
  })

  test('or not, and then everything was searched, or it says what was not', async () => {
    const { append, look } = setUp(1)
    for (let index = 0; index < 20; index++) append({ id: `e${index}` })
    expect(await look({ id: 'nope' })).toMatchObject({
      events: [],
      complete: true,
      searched: [{ wanted: { from: 0, to: 20 }, searched: { from: 0, to: 20 } }],
    })
    expect(await look({ id: 'e0' }, budgetOf(5))).toMatchObject({
      events: [],
      complete: false,
      searched: [{ wanted: { from: 0, to: 20 }, searched: { from: 15, to: 20 } }],
    })
  })

  test('wherever it is, with whatever is given of it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.tuple(fc.nat(3), fc.constantFrom('a', 'b', 'c'), fc.option(fc.constantFrom('k', 'l'))), {
          minLength: 1,
          maxLength: 20,
        }),
        fc.nat(),
        fc.record({ source: fc.boolean(), key: fc.boolean() }),
        async (partitions, others, which, given) => {
          const { append, look } = setUp(partitions)
          const records = others.map(([random, source, key], index) => {
            const id = `e${index}`
            // As the producer does; other clients choose as they like only without a key.
            const partition = partitionOf(key ?? `/${source}\n${id}`, partitions)
            return {
              ...append({
                id,
                source: `/${source}`,
                key,
                partition: key === null && random === 0 ? random : partition,
              }),
              id,
              source: `/${source}`,
              key,
            }
          })
          const one = records[which % records.length]
          if (one === undefined) return
          const found = await look({
            id: one.id,
            ...(given.source ? { source: one.source } : {}),
            ...(given.key && one.key !== null ? { key: one.key } : {}),
          })
          expect(places(found)).toEqual([`${one.partition}/${one.offset}`])
        },
      ),
      { numRuns: 30 },
    )
  })
})

describe('its life', () => {
  test('is pending until it is committed, and processed with its result', async () => {
    const { append, at, commit, look } = setUp()
    append({ id: 'e' })
    expect(states(await look({ id: 'e' }))).toEqual([['pending']])
    commit(1)
    expect(states(await look({ id: 'e' }))).toEqual([['unknown']])
    at('processed', { id: 'e', headers: { 'kt-context': '{"handler":"order.placed@1"}' } })
    const found = await look({ id: 'e' })
    expect(found.events[0]).toMatchObject({ state: 'processed' })
    expect(found.events[0]?.generations[0]).toMatchObject({
      state: 'processed',
      outcome: { role: 'processed', handler: 'order.placed@1' },
      places: [{ role: 'input' }, { role: 'processed' }],
      repeats: [],
      attempts: [],
    })
  })

  test('is pending from the committed offset on', async () => {
    const { append, commit, look } = setUp()
    for (const id of ['a', 'b']) append({ id })
    commit(1)
    const all = await Promise.all(['a', 'b'].map((id) => look({ id })))
    expect(all.map((one) => one.events[0]?.state)).toEqual(['unknown', 'pending'])
  })

  test('is committed also where it was done ahead of the committed offset', async () => {
    const { append, commit, look } = setUp()
    for (const id of ['a', 'b', 'c']) append({ id })
    commit(0, 0, encodeAhead(0, [2]))
    expect(states(await look({ id: 'b' }))).toEqual([['pending']])
    expect(states(await look({ id: 'c' }))).toEqual([['unknown']])
  })

  test('is waiting while it is in .retry, with its failed attempts, and then dead or processed', async () => {
    const { append, at, commit, look } = setUp()
    append({ id: 'e' })
    commit(1)
    at('retry', { id: 'e', ...failed(0) })
    const waiting = (await look({ id: 'e' })).events[0]?.generations[0]
    expect(waiting).toMatchObject({
      state: 'waiting',
      places: [{ role: 'input' }, { role: 'retry' }],
      attempts: [{ attempt: 1, reason: 'handler failed' }],
      waiting: { reason: 'handler failed', message: 'no' },
    })
    at('retry', { id: 'e', ...failed(0) })
    at('dlq', { id: 'e', ...failed(0, { 'kt-error': '{"reason":"out of attempts","message":"2"}' }) })
    const dead = (await look({ id: 'e' })).events[0]?.generations[0]
    expect(dead).toMatchObject({ state: 'dead', outcome: { role: 'dlq', error: { reason: 'out of attempts' } } })
    expect(dead?.places.map(({ role }) => role)).toEqual(['input', 'retry', 'retry', 'dlq'])
    expect(dead).not.toHaveProperty('waiting')
  })

  test('while it is waiting, tells why it was put into .retry the last time, if that can be read', async () => {
    const { append, at, commit, look } = setUp()
    for (const id of ['e', 'f']) append({ id })
    commit(2)
    const put = (id: string, error: string) => at('retry', { id, ...failed(0, { 'kt-error': error }) })
    put('e', '{"reason":"waits behind its key","message":"an earlier one"}')
    put('e', '{"reason":"newer schema","message":"deploy a handler that takes 4"}')
    put('f', 'x')
    const [waiting, unknown] = await Promise.all(['e', 'f'].map((id) => look({ id })))
    expect(waiting?.events[0]?.generations[0]?.waiting).toEqual({
      reason: 'newer schema',
      message: 'deploy a handler that takes 4',
    })
    expect(unknown?.events[0]).toMatchObject({ state: 'waiting' })
    expect(unknown?.events[0]?.generations[0]).not.toHaveProperty('waiting')
  })

  test('of what is no event is found by its place', async () => {
    const { append, at, look } = setUp()
    append({ id: null, value: 'broken' })
    append({ id: null, value: 'broken' })
    at('dlq', { id: null, value: 'broken', ...failed(1, { 'kt-error': '{"reason":"undecodable","message":"x"}' }) })
    expect(states(await look({ receipt: { partition: 0, offset: 0 } }))).toEqual([['pending']])
    expect((await look({ receipt: { partition: 0, offset: 1 } })).events[0]).toMatchObject({
      state: 'dead',
      generations: [{ outcome: { offset: 0 } }],
    })
  })

  test('has the outcome of its own source and generation only', async () => {
    const { append, at, commit, look } = setUp()
    append({ id: 'e', source: '/a' })
    commit(1)
    at('processed', { id: 'e', source: '/b' })
    at('processed', { id: 'e', source: '/a', headers: { 'kt-generation': '1' } })
    expect(states(await look({ id: 'e', source: '/a' }))).toEqual([['unknown']])
    at('processed', { id: 'e', source: '/a' })
    expect(states(await look({ id: 'e', source: '/a' }))).toEqual([['processed']])
  })

  test('has its outcome also where that was written before its record, by clocks that differ', async () => {
    const { append, at, commit, look } = setUp()
    at('processed', { id: 'e', atMs: NOW_MS - 60_000 })
    for (let index = 0; index < 5; index++) at('processed', { id: `x${index}`, atMs: NOW_MS })
    append({ id: 'e', atMs: NOW_MS })
    commit(1)
    expect(states(await look({ id: 'e' }))).toEqual([['processed']])
  })

  test('of a repeat has the outcome of the first record', async () => {
    const { append, at, commit, look } = setUp()
    append({ id: 'e', atMs: NOW_MS })
    at('processed', { id: 'e', atMs: NOW_MS + 5 })
    append({ id: 'e', atMs: NOW_MS + 3_600_000 })
    commit(2)
    expect((await look({ receipt: { partition: 0, offset: 1 } })).events[0]).toMatchObject({
      state: 'processed',
      generations: [{ outcome: { offset: 0 } }],
    })
  })

  test('of a trace shows repeats beside the record that takes effect', async () => {
    const { append, look } = setUp()
    const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` }
    append({ id: 'e', headers })
    append({ id: 'e', headers })
    expect((await look({ traceId: TRACE })).events).toMatchObject([
      { generations: [{ record: { offset: 0 }, repeats: [{ offset: 1 }] }] },
    ])
  })

  test('goes on with its redrives, from whichever of them it was found', async () => {
    const { append, at, commit, look, act } = setUp()
    append({ id: 'e' })
    at('dlq', { id: 'e', ...failed(0) })
    act(0, NOW_MS + 1)
    append({ id: 'noise' })
    append({ id: 'e', headers: { 'kt-generation': '1', 'kt-redriven-from': `${INPUT}.dlq/0/0` } })
    at('dlq', { id: 'e', ...failed(2, { 'kt-generation': '1' }) })
    act(1, NOW_MS + 4)
    append({ id: 'e', headers: { 'kt-generation': '2', 'kt-redriven-from': `${INPUT}.dlq/0/1` } })
    commit(4)
    at('processed', { id: 'e', headers: { 'kt-generation': '2' } })
    const all = ['dead', 'dead', 'processed']
    for (const offset of [0, 2, 3]) {
      const found = await look({ receipt: { partition: 0, offset } })
      expect(states(found)).toEqual([all])
      expect(found.events[0]?.generations.map(({ generation, act: done }) => [generation, done?.act])).toEqual([
        [0, 'redrive'],
        [1, 'redrive'],
        [2, undefined],
      ])
    }
    expect((await look({ id: 'e' })).events[0]).toMatchObject({ state: 'processed' })
  })

  test('goes on with its own redrive, not with a repeat of it or with that of another source', async () => {
    const { append, at, look, act } = setUp()
    append({ id: 'e' })
    at('dlq', { id: 'e', ...failed(0) })
    act(0, NOW_MS + 1)
    append({ id: 'e' })
    append({ id: 'e', source: '/other', headers: { 'kt-generation': '1' } })
    append({ id: 'e', headers: { 'kt-generation': '1', 'kt-redriven-from': `${INPUT}.dlq/0/0` } })
    const found = await look({ receipt: { partition: 0, offset: 0 } })
    expect(states(found)).toEqual([['dead', 'pending']])
    expect(found.events[0]?.generations).toMatchObject([
      { record: { offset: 0 }, repeats: [] },
      { record: { offset: 3 }, repeats: [] },
    ])
  })

  test('begins with what there is where retention has deleted its beginning', async () => {
    const { kafka, append, at, look, act } = setUp()
    append({ id: 'e' })
    at('dlq', { id: 'e', ...failed(0) })
    act(0, NOW_MS)
    append({ id: 'e', headers: { 'kt-generation': '1', 'kt-redriven-from': `${INPUT}.dlq/0/0` } })
    kafka.deleteRecords({ topic: INPUT, partition: 0 }, 1)
    expect((await look({ id: 'e' })).events[0]?.generations.map(({ generation }) => generation)).toEqual([1])
  })

  test('follows no header to another stream', async () => {
    const { kafka, append, look } = setUp()
    kafka.createTopic('kt.other.events').createTopic('kt.other.events.dlq')
    kafka.append(outgoing({ topic: 'kt.other.events', value: '"s3cret"' }))
    kafka.append(
      outgoing({ topic: 'kt.other.events.dlq', value: '"s3cret"', headers: { 'kt-origin': 'kt.other.events/0/0' } }),
    )
    append({ id: 'e', headers: { 'kt-generation': '1', 'kt-redriven-from': 'kt.other.events.dlq/0/0' } })
    append({ id: 'f', headers: { 'kt-generation': '1', 'kt-redriven-from': 'kt.other.events/0/0' } })
    for (const id of ['e', 'f']) {
      const found = await look({ id })
      expect(found.events[0]?.generations).toHaveLength(1)
      expect(JSON.stringify(found)).not.toContain('s3cret')
    }
  })

  test('has the outcome among many others, wherever consumers had got to', async () => {
    const { append, at, commit, look } = setUp()
    for (let index = 0; index < 60_000; index++)
      at('processed', {
        id: `x${index}`,
        atMs: NOW_MS + index,
        headers: { 'kt-received-at': String(NOW_MS - 600_000 + index * 10) },
      })
    append({ id: 'e', atMs: NOW_MS, headers: { 'kt-received-at': String(NOW_MS) } })
    append({ id: 'last', atMs: NOW_MS + 1 })
    commit(2)
    at('processed', { id: 'e', atMs: NOW_MS + 60_000, headers: { 'kt-received-at': String(NOW_MS) } })
    const budget = budgetOf()
    expect(states(await look({ id: 'e' }, budget))).toEqual([['processed']])
    // Most of them were not read.
    expect(budget.passed).toBeLessThan(20_000)
  })

  test('has the outcome of an event that waited long at the place that its own suggests, after two probes', async () => {
    const { kafka, append, at, commit, look } = setUp()
    const received = (ms: number) => ({ 'kt-received-at': String(NOW_MS + ms) })
    for (let index = 0; index < 60; index++)
      append({ id: index === 45 ? 'e' : `x${index}`, atMs: NOW_MS + index * 1000, headers: received(index * 1000) })
    commit(60)
    for (let index = 0; index < 60_000; index++)
      at('processed', { id: index === 45_000 ? 'e' : 'x', atMs: NOW_MS + 60_000 + index, headers: received(index) })
    const probed: number[] = []
    const open = kafka.reader.bind(kafka)
    spyOn(kafka, 'reader').mockImplementation(() => {
      const reader = open()
      return {
        ...reader,
        read(ranges, ...rest) {
          for (const { topic, from, to } of ranges)
            if (topic.endsWith('.processed') && to - from === 20) probed.push(from)
          return reader.read(ranges, ...rest)
        },
      }
    })
    const generations = (await look({ id: 'e' })).events[0]?.generations
    expect(generations).toMatchObject([{ outcome: { offset: 45_000 } }])
    expect(probed).toHaveLength(2)
  })

  test.each([
    ['long before', 20_000, 5_000, 30_001],
    ['among', 20_000, 20_000, 15_000],
    ['long after', 5_000, 25_000, 30_001],
  ])('has its outcome %s those of events that came in with it', async (_, expectedAt, isAt, mostRead) => {
    const { append, at, commit, look } = setUp()
    const received = (index: number) => ({ 'kt-received-at': String(NOW_MS + index * 10) })
    append({ id: 'e', atMs: NOW_MS, headers: received(expectedAt) })
    commit(1)
    for (let index = 0; index < 30_000; index++)
      at('processed', {
        id: index === isAt ? 'e' : `x${index}`,
        atMs: NOW_MS + index,
        headers: received(index === isAt ? expectedAt : index),
      })
    const budget = budgetOf()
    expect((await look({ id: 'e' }, budget)).events[0]?.generations).toMatchObject([{ outcome: { offset: isAt } }])
    // No outcome is read twice.
    expect(budget.passed).toBeLessThanOrEqual(mostRead)
  })

  test('says nothing of masked data', async () => {
    const { append, at, look } = setUp(1, ['/ssn'])
    append({ id: 'e', value: '{"ssn":"s3cret"}' })
    at('retry', { id: 'e', value: '{"ssn":"s3cret"}', ...failed(0) })
    at('dlq', { id: 'e', value: '{"ssn":"s3cret"}', ...failed(0) })
    const text = JSON.stringify(await look({ id: 'e' }))
    expect(text).toContain('***')
    expect(text).not.toContain('s3cret')
  })
})
