import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { NO_HEADERS } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { budgetOf, consoleOn, type Given, outgoing, SHOWING } from '../testing/console.ts'
import { type BrowseQuery, browse, ORDERS, type Page, PageRecords } from './browse.ts'

const PLAIN: BrowseQuery = { role: 'input', order: 'newest', limit: 20, filter: {}, headers: [], where: [] }

function streamWith(partitions = 1) {
  const kafka = new FakeKafka()
  const parts = consoleOn(kafka, { partitions })
  const append = (given: Given & { atMs?: number }) => {
    kafka.nowMs = () => given.atMs ?? 1_000
    return kafka.append(outgoing(given))
  }
  const page = (query: Partial<BrowseQuery> = {}, budget = budgetOf()) =>
    browse(parts.stream, { ...PLAIN, ...query }, SHOWING, parts.reader, budget, parts.readers)
  return { kafka, append, page }
}

const idsOf = ({ records }: Page): (string | undefined)[] => records.map(({ event }) => event?.id)
const nameOf = ({ partition, offset }: { partition: number; offset: number }): string => `${partition}/${offset}`

describe('a page', () => {
  test('has the newest records of all partitions by time, or the oldest', async () => {
    const { append, page } = streamWith(2)
    for (const [index, partition] of [0, 1, 1, 0, 1].entries())
      append({ id: `e${index}`, partition, atMs: 1_000 + index })
    expect(idsOf(await page({ limit: 3 }))).toEqual(['e4', 'e3', 'e2'])
    expect(idsOf(await page({ limit: 3, order: 'oldest' }))).toEqual(['e0', 'e1', 'e2'])
    expect(await page()).toMatchObject({ complete: true })
    expect(await page()).not.toHaveProperty('cursor')
  })

  test('is of one partition, from an offset on', async () => {
    const { append, page } = streamWith(2)
    for (let index = 0; index < 6; index++) append({ id: `e${index}`, partition: 1, atMs: 1_000 + index })
    append({ id: 'other', partition: 0 })
    expect(idsOf(await page({ partition: 1, offset: 3 }))).toEqual(['e3', 'e2', 'e1', 'e0'])
    expect(idsOf(await page({ partition: 1, offset: 3, order: 'oldest' }))).toEqual(['e3', 'e4', 'e5'])
    expect(idsOf(await page({ partition: 1, offset: 99, order: 'oldest' }))).toEqual([])
    expect(idsOf(await page({ partition: 7 }))).toEqual([])
  })

  test('has the records that every filter matches', async () => {
    const { append, page } = streamWith(1)
    append({ id: 'a', type: 'order.placed', headers: { ce_subject: 'x', team: 'red' }, atMs: 1_000 })
    append({ id: 'b', type: 'order.paid', source: '/t', headers: { team: 'blue' }, atMs: 2_000 })
    append({ id: null, value: 'no event', headers: { team: 'red' }, atMs: 3_000 })
    const ids = async (query: Partial<BrowseQuery>) => idsOf(await page({ order: 'oldest', ...query }))
    expect(await ids({ filter: { type: 'order.*' } })).toEqual(['a', 'b'])
    expect(await ids({ filter: { type: 'order.paid' } })).toEqual(['b'])
    expect(await ids({ filter: { type: 'order' } })).toEqual([])
    expect(await ids({ filter: { source: '/t' } })).toEqual(['b'])
    expect(await ids({ filter: { subject: 'x' } })).toEqual(['a'])
    expect(await ids({ filter: { id: 'a' } })).toEqual(['a'])
    expect(await ids({ filter: { id: 'a', source: '/t' } })).toEqual([])
    expect(await ids({ headers: [{ name: 'team', value: 'red' }] })).toEqual(['a', undefined])
    expect(
      await ids({
        headers: [
          { name: 'team', value: 'red' },
          { name: 'ce_id', value: 'b' },
        ],
      }),
    ).toEqual([])
    const time = (ms: number) => new Date(ms).toISOString()
    expect(await ids({ filter: { from: time(2_000) } })).toEqual(['b', undefined])
    expect(await ids({ filter: { to: time(2_000) } })).toEqual(['a'])
    expect(await ids({ filter: { from: time(1_001), to: time(3_000) } })).toEqual(['b'])
    expect(await ids({ filter: { from: time(9_000) } })).toEqual([])
  })

  test('has the records whose data has the values', async () => {
    const { append, page } = streamWith(1)
    append({ id: 'a', value: '{"n":1.50,"who":{"name":"é"},"all":[1,{"b":null}],"":"empty"}' })
    append({ id: 'b', value: '{"n":"1.50"}' })
    append({ id: 'c', value: 'no JSON' })
    append({ id: 'd', value: null })
    append({
      id: null,
      headers: { 'content-type': 'application/cloudevents+json' },
      value: '{"specversion":"1.0","id":"s","source":"/s","type":"t","data":{"n":"structured"}}',
    })
    const ids = async (...where: [string, string][]) =>
      idsOf(await page({ order: 'oldest', where: where.map(([pointer, value]) => ({ pointer, value })) }))
    expect(await ids(['/n', '1.50'])).toEqual(['a', 'b'])
    expect(await ids(['/n', '1.5'])).toEqual([])
    expect(await ids(['/who/name', 'é'])).toEqual(['a'])
    expect(await ids(['/who', '{"name":"é"}'])).toEqual(['a'])
    expect(await ids(['/all/1/b', 'null'])).toEqual(['a'])
    expect(await ids(['/', 'empty'], ['/n', '1.50'])).toEqual(['a'])
    expect(await ids(['/n', 'structured'])).toEqual(['s'])
    expect(await ids(['/nope', 'undefined'])).toEqual([])
  })

  test('of one topic or order has no cursor for another', async () => {
    const { append, page } = streamWith()
    for (const topic of ['kt.acme.events', 'kt.acme.events.dlq'])
      for (let index = 0; index < 3; index++) append({ id: `e${index}`, topic })
    const { cursor } = await page({ limit: 1 })
    expect(idsOf(await page({ cursor }))).toEqual(['e1', 'e0'])
    for (const other of [{ role: 'dlq' as const }, { order: 'oldest' as const }])
      expect((await problemOf(() => page({ cursor, ...other }))).kind).toBe('invalid-parameters')
  })

  test('that a limit ends early says so, and its cursor goes on', async () => {
    const { append, page } = streamWith(1)
    append({ id: 'wanted' })
    for (let index = 0; index < 30; index++) append({ id: `e${index}` })
    const first = await page({ filter: { id: 'wanted' } }, budgetOf(10))
    expect(first).toMatchObject({ records: [], complete: false })
    const second = await page({ filter: { id: 'wanted' }, cursor: first.cursor })
    expect(idsOf(second)).toEqual(['wanted'])
    expect(second.searched).toEqual([
      { topic: 'kt.acme.events', partition: 0, wanted: { from: 0, to: 21 }, searched: { from: 0, to: 21 } },
    ])
  })

  test.each([
    'x',
    'input-newest',
    'input-newest.',
    'input-newest.0',
    'input-newest.0-0',
    'input-newest.0-0-0-0',
    'input-newest.1-0-0',
    'input-newest.-1-0-0',
    'input-newest.0-zzzzzzzzzzzzzzz-0',
    'input-newest.0-0-0.',
    'input-newest.a-b-c.',
    'input-oldest.0-0-0',
    'dlq-newest.0-0-0',
  ])('has no cursor %s', async (cursor) => {
    const { page } = streamWith(1)
    expect((await problemOf(() => page({ cursor }))).kind).toBe('invalid-parameters')
  })

  test.each([
    ['input-newest.0-zzzzz-0', { from: 3, to: 10 }],
    ['input-newest.0-5-0', { from: 3, to: 5 }],
    ['input-newest.0-2-0', undefined],
    ['input-newest.0-zzzzz-zzzzz', undefined],
    ['input-oldest.0-0-zzzzz', { from: 3, to: 10 }],
    ['input-oldest.0-5-8', { from: 5, to: 8 }],
    ['input-oldest.0-0-2', undefined],
    ['input-oldest.0-zzzzz-zzzzz', undefined],
  ])('from the cursor %s on stays within the offsets that there are', async (cursor, within) => {
    const { kafka, append, page } = streamWith(1)
    for (let index = 0; index < 10; index++) append({ id: `e${index}` })
    kafka.deleteRecords({ topic: 'kt.acme.events', partition: 0 }, 3)
    const { records, searched, ...more } = await page({
      cursor,
      order: cursor.includes('newest') ? 'newest' : 'oldest',
    })
    const ranges = within === undefined ? [] : [within]
    expect(searched).toEqual(
      ranges.map((range) => ({ topic: 'kt.acme.events', partition: 0, wanted: range, searched: range })),
    )
    expect(records).toHaveLength(within === undefined ? 0 : within.to - within.from)
    expect(more).toEqual({ complete: true })
  })

  test('whose records were deleted meanwhile goes on with what is left', async () => {
    const { kafka, append, page } = streamWith(1)
    for (let index = 0; index < 10; index++) append({ id: `e${index}`, atMs: 1_000 + index })
    const { cursor } = await page({ limit: 2, order: 'oldest' })
    kafka.deleteRecords({ topic: 'kt.acme.events', partition: 0 }, 7)
    expect(idsOf(await page({ order: 'oldest', cursor }))).toEqual(['e7', 'e8', 'e9'])
  })
})

/** All pages, with records that are appended between them. */
async function walk(
  { page, append }: Pick<ReturnType<typeof streamWith>, 'page' | 'append'>,
  query: Partial<BrowseQuery>,
  meanwhile: (Given & { atMs?: number })[],
  budget: () => ReturnType<typeof budgetOf>,
): Promise<Page[]> {
  const pages: Page[] = []
  let cursor: string | undefined
  do {
    const next: Page = await page({ ...query, cursor }, budget())
    pages.push(next)
    cursor = next.cursor
    const late = meanwhile.shift()
    if (late !== undefined) append(late)
    if (pages.length > 500) throw new Error('there is no end of pages')
  } while (cursor !== undefined)
  return pages
}

describe('walking all pages', () => {
  const record = fc.record({
    partition: fc.nat(2),
    // Also going back, as clocks of several producers do.
    atMs: fc.integer({ min: 1_000, max: 1_020 }),
    id: fc.constantFrom('a', 'b', 'c'),
  })

  test('gives each record that was there exactly once, in both orders, whatever is appended meanwhile', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { maxLength: 40 }),
        fc.array(record, { maxLength: 10 }),
        fc.constantFrom('newest' as const, 'oldest' as const),
        fc.integer({ min: 1, max: 8 }),
        fc.option(fc.integer({ min: 1, max: 12 })),
        fc.boolean(),
        async (records, meanwhile, order, limit, most, filtered) => {
          const stream = streamWith(3)
          for (const one of records) stream.append(one)
          const there = stream.kafka
            .all('kt.acme.events')
            .filter(({ headers }) => !filtered || headers.values.includes('a'))
          const pages = await walk(stream, { order, limit, filter: filtered ? { id: 'a' } : {} }, [...meanwhile], () =>
            budgetOf(most ?? undefined),
          )
          const given = pages.flatMap((one) => one.records)
          expect(given.map(nameOf).sort()).toEqual(there.map(nameOf).sort())
          for (const { records: some } of pages) expect(some.length).toBeLessThanOrEqual(limit)
          // In the order of each partition, and by time where the clocks agree.
          for (const partition of [0, 1, 2]) {
            const offsets = given.filter((one) => one.partition === partition).map(({ offset }) => offset)
            expect(offsets).toEqual(offsets.toSorted((a, b) => (order === 'newest' ? b - a : a - b)))
          }
        },
      ),
      { numRuns: 50 },
    )
  })

  test('gives them by time where times do not go back', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(2), fc.nat(3)), { maxLength: 40 }),
        fc.constantFrom('newest' as const, 'oldest' as const),
        fc.integer({ min: 1, max: 8 }),
        async (records, order, limit) => {
          const stream = streamWith(3)
          let atMs = 1_000
          for (const [partition, later] of records) {
            atMs += later
            stream.append({ partition, atMs })
          }
          const times = (await walk(stream, { order, limit }, [], () => budgetOf())).flatMap((one) =>
            one.records.map(({ time }) => time),
          )
          const sorted = times.toSorted()
          expect(times).toEqual(order === 'oldest' ? sorted : sorted.reverse())
        },
      ),
      { numRuns: 30 },
    )
  })
})

describe('pages of many records', () => {
  test.each(ORDERS)('have the %s first, and go on where the one before ended', async (order) => {
    const { append, page } = streamWith(2)
    for (let index = 0; index < 20_000; index++) append({ partition: index % 2, atMs: 1_000 + index })
    const expected = Array.from({ length: 20_000 }, (_, index) => `${index % 2}/${Math.floor(index / 2)}`)
    if (order === 'newest') expected.reverse()
    let cursor: string | undefined
    for (let at = 0; at < 12; at += 3) {
      const next = await page({ order, limit: 3, cursor })
      expect(next.records.map(nameOf)).toEqual(expected.slice(at, at + 3))
      cursor = next.cursor
    }
  })

  test.each(ORDERS)('have the %s first also where a partition has them far from its end', async (order) => {
    const { append, page } = streamWith(2)
    // What is wanted of partition 1 is newer, or older, than all of partition 0, and behind 5,000 other records.
    const sign = order === 'newest' ? 1 : -1
    for (let index = 0; index < 10_000; index++) {
      append({ partition: 0, id: 'wanted', atMs: 100_000 + index })
      const isWanted = order === 'newest' ? index < 5_000 : index >= 5_000
      append({ partition: 1, id: isWanted ? 'wanted' : 'other', atMs: 100_000 + sign * 20_000 + index })
    }
    const { records } = await page({ order, limit: 3, filter: { id: 'wanted' } })
    expect(records.map(nameOf)).toEqual(
      order === 'newest' ? ['1/4999', '1/4998', '1/4997'] : ['1/5000', '1/5001', '1/5002'],
    )
  })
})

const record = (partition: number, offset: number, timestampMs: number, bytes = 1): IncomingRecord => ({
  topic: 'kt.t.s',
  partition,
  offset,
  timestampMs,
  key: null,
  value: Buffer.alloc(bytes, '1'),
  headers: NO_HEADERS,
})

const pageOf = (order: (typeof ORDERS)[number], limit: number) =>
  new PageRecords({ order, limit }, { format: 'json', maxDataBytes: 100, redact: [] })

test.each(ORDERS)('of many records, a page has the %s, and the next one begins behind them', (order) => {
  const found = pageOf(order, 3)
  const offsets = Array.from({ length: 10_000 }, (_, index) => index)
  for (const offset of order === 'newest' ? offsets.reverse() : offsets) {
    found.add(record(0, offset, offset * 2))
    found.add(record(1, offset, offset * 2 + 1))
  }
  const places = found.shown().map(({ partition, offset }) => [partition, offset])
  if (order === 'newest')
    expect(places).toEqual([
      [1, 9_999],
      [0, 9_999],
      [1, 9_998],
    ])
  else
    expect(places).toEqual([
      [0, 0],
      [1, 0],
      [0, 1],
    ])
  expect([found.nextOf(0), found.nextOf(1), found.nextOf(2)]).toEqual(
    order === 'newest' ? [9_999, 9_998, undefined] : [2, 1, undefined],
  )
})

test('records of a search are not held beside what is shown of them', () => {
  const found = pageOf('newest', 20)
  let reads = 0
  for (let offset = 0; offset < 200; offset++) {
    const { value, ...one } = record(0, offset, offset, 2 ** 20)
    found.add({
      ...one,
      get value() {
        reads++
        return value
      },
    })
  }
  const before = reads
  // What is shown was made while they were found.
  expect(found.shown()).toHaveLength(20)
  expect(reads - before).toBeLessThan(20)
})
