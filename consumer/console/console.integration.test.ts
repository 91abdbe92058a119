import { afterEach, expect, setDefaultTimeout, test } from 'bun:test'
import pino from 'pino'
import { headerText, NO_HEADERS } from '../../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../../shared/events/record.ts'
import { ACTS_SETTINGS, actsTopic, inputTopic, siblingTopic, streamTopics } from '../../shared/events/topics.ts'
import { createTopicAdmin } from '../../shared/kafka/admin.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import { testBrokers, uniqueName } from '../../shared/testing/brokers.ts'
import { commonConfig } from '../../shared/testing/common-config.ts'
import { openTransaction } from '../../shared/testing/open-transaction.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { eachLine } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { budgetOf, outgoing, SHOWING } from '../testing/console.ts'
import { Acts, type Decision } from './acts.ts'
import { type ActsState, jobView } from './acts-log.ts'
import { decodePositions, followOutcomes, Hubs, type Outcome } from './follow.ts'
import { Jobs, type JobsDeps } from './jobs.ts'
import { find } from './life.ts'
import { Readers } from './readers.ts'
import { UNSHARED } from './shares.ts'
import type { Stream } from './streams.ts'

setDefaultTimeout(90_000)

const PARTITIONS = 2
const SLOW = { timeoutMs: 60_000 }
const TIME = '2026-01-31T12:00:00.000Z'
const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })
const ending: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

const openTransactor = (transactionalId: string) =>
  createTransactor({
    config,
    clientId: 'tests',
    transactionalId,
    transactionTimeoutMs: 10_000,
    log,
    onStatistics: () => undefined,
  })

async function ensure(topics: readonly string[], partitions: number, settings: Readonly<Record<string, string>> = {}) {
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  const faults = await admin.ensureGroups([topics], { partitions, replication: 1, settings })
  await admin.close()
  expect(faults).toEqual([undefined])
}

async function createStream(settings: Readonly<Record<string, string>> = {}): Promise<Stream> {
  const tenant = uniqueName('console')
  await ensure(streamTopics(tenant, 'events'), PARTITIONS, settings)
  return { tenant, name: 'events', input: inputTopic(tenant, 'events'), partitions: PARTITIONS, redact: [] }
}

/** One console, of several that share the transactional ids. */
function openConsole(stream: Stream) {
  const stopping = new AbortController()
  const open = () => createRangeReader({ config, clientId: uniqueName('tests'), log, groupId: stream.tenant })
  const readers = new Readers(open, 4)
  const acts = new Acts({
    readers,
    openTransactor,
    transactionalId: ({ tenant, name }) => `console.${tenant}.${name}`,
    ensureTopic: ({ input }) => ensure([actsTopic(input)], 1, ACTS_SETTINGS),
    log,
    signal: stopping.signal,
  })
  const deps: JobsDeps = {
    acts,
    readers,
    log,
    nowMs: Date.now,
    signal: stopping.signal,
    isDeclared: () => true,
    onActed: () => undefined,
    onFault: () => undefined,
  }
  const hubs = new Hubs({
    readers,
    openReader: open,
    maxFollowers: 10,
    sharing: UNSHARED,
    followerMaxBytes: 2 ** 20,
    log,
    signal: stopping.signal,
    onSent: () => undefined,
    onCut: () => undefined,
  })
  let closed: Promise<unknown> | undefined
  const close = (): Promise<unknown> => {
    stopping.abort()
    closed ??= hubs
      .close()
      .then(() => acts.close())
      .then(() => readers.close())
    return closed
  }
  ending.push(close)
  return { readers, acts: acts.of(stream), jobs: new Jobs(deps), hubs, close }
}

/** Writes records, each of these lists in a transaction. */
async function write(transactions: readonly (readonly OutgoingRecord[])[]): Promise<void> {
  const transactor = openTransactor(uniqueName('writer'))
  await transactor.start()
  for (const records of transactions) expect(await transactor.write(records)).toEqual({ kind: 'committed' })
  await transactor.close()
}

async function recordsOf(topic: string, partitions = PARTITIONS): Promise<IncomingRecord[]> {
  const reader = createRangeReader({ config, clientId: 'tests', log })
  const records: IncomingRecord[] = []
  await readAll(
    reader,
    Array.from({ length: partitions }, (_, partition) => ({ topic, partition })),
    (record) => void records.push(record),
  )
  await reader.close()
  return records
}

const idOf = ({ headers }: IncomingRecord): string => headerText(headers, 'ce_id') ?? ''

/** Acts on the letter at an offset, unless that was done. */
const actOn =
  ({ input }: Stream, offset: number, more: () => Promise<unknown> = async () => undefined) =>
  async (state: ActsState): Promise<Decision<boolean>> => {
    await more()
    if (state.actOf({ partition: 0, offset }) !== undefined) return { records: [], acts: [], result: false }
    return {
      records: [{ ...outgoing({ id: `e${offset}` }), topic: input }],
      acts: [{ act: 'redrive', id: Bun.randomUUIDv7(), time: TIME, by: 'x', letters: [[0, offset, 1]] }],
      result: true,
    }
  }

test('acts of two consoles at the same time take effect once', async () => {
  const stream = await createStream()
  const [a, b] = [openConsole(stream), openConsole(stream)]
  for (let offset = 0; offset < 4; offset++) {
    const done = await Promise.all([a, b, a, b].map(({ acts }) => acts.perform(actOn(stream, offset))))
    expect(done.filter(Boolean).length).toBeLessThanOrEqual(1)
  }
  expect((await recordsOf(stream.input)).map(idOf).toSorted()).toEqual(['e0', 'e1', 'e2', 'e3'])
  expect(await recordsOf(actsTopic(stream.input), 1)).toHaveLength(4)
})

test('a console that another one fences in the middle of an act reads the acts again, and goes on', async () => {
  const stream = await createStream()
  const [a, b] = [openConsole(stream), openConsole(stream)]
  expect(await a.acts.perform(actOn(stream, 0))).toBe(true)
  let decisions = 0
  const done = await a.acts.perform(
    actOn(stream, 1, async () => {
      // After the state was read, and before it is acted on.
      if (++decisions === 1) expect(await b.acts.perform(actOn(stream, 1))).toBe(true)
    }),
  )
  expect(done).toBe(false)
  expect(decisions).toBe(2)
  expect(await a.acts.perform(actOn(stream, 2))).toBe(true)
  expect((await recordsOf(stream.input)).map(idOf)).toEqual(['e0', 'e1', 'e2'])
  expect((await b.acts.current()).actOf({ partition: 0, offset: 2 })).toBeDefined()
})

test('an act with a record that is too large has no effect and says so, and the next one has', async () => {
  const stream = await createStream({ 'max.message.bytes': '10000' })
  const { acts } = openConsole(stream)
  const value = Buffer.from(crypto.getRandomValues(new Uint8Array(50_000)))
  const large = acts.perform(async () => ({
    records: [
      { topic: stream.input, partition: 1, key: null, value: Buffer.from('small'), headers: NO_HEADERS },
      { topic: stream.input, partition: 0, key: null, value, headers: NO_HEADERS },
    ],
    acts: [{ act: 'redrive', id: 'a', time: TIME, by: 'x', letters: [[0, 0, 1]] }],
    result: undefined,
  }))
  expect((await problemOf(() => large)).kind).toBe('event-too-large')
  expect((await acts.current()).actOf({ partition: 0, offset: 0 })).toBeUndefined()
  expect(await recordsOf(stream.input)).toEqual([])
  expect(await acts.perform(actOn(stream, 0))).toBe(true)
  expect((await recordsOf(stream.input)).map(idOf)).toEqual(['e0'])
})

const letters = (stream: Stream, count: number): OutgoingRecord[] =>
  Array.from({ length: count }, (_, index) => ({
    ...outgoing({
      id: `e${index}`,
      partition: index % PARTITIONS,
      headers: { 'kt-error': '{"reason":"handler failed","message":"no"}', 'kt-origin': `${stream.input}/0/${index}` },
    }),
    topic: siblingTopic(stream.input, 'dlq'),
  }))

test('a job goes on after a restart in the middle, and redrives no letter twice', async () => {
  const stream = await createStream()
  const all = letters(stream, 300)
  await write(Array.from({ length: 30 }, (_, index) => all.slice(index * 10, index * 10 + 10)))
  const first = openConsole(stream)
  const ends = await first.readers.bounds(
    [0, 1].map((partition) => ({ topic: siblingTopic(stream.input, 'dlq'), partition })),
  )
  const id = Bun.randomUUIDv7()
  await first.acts.perform<void>(async () => ({
    records: [],
    acts: [
      {
        act: 'job',
        id,
        time: TIME,
        by: 'x',
        action: 'redrive',
        filter: {},
        ratePerSecond: 100,
        from: ends.map(({ from }) => from),
        to: ends.map(({ to }) => to),
      },
    ],
    result: undefined,
  }))
  first.jobs.run(stream, id)
  await until(async () => ((await first.acts.current()).jobs.get(id)?.acted ?? 0) > 0, SLOW)
  await first.close()
  const before = (await recordsOf(stream.input)).length
  expect(before).toBeLessThan(300)
  const second = openConsole(stream)
  await second.jobs.resume(stream)
  await until(async () => (await second.acts.current()).jobs.get(id)?.end !== undefined, SLOW)
  const job = (await second.acts.current()).jobs.get(id)
  expect(job && jobView(job)).toMatchObject({ state: 'done', acted: 300 })
  const redriven = await recordsOf(stream.input)
  expect(redriven.map(idOf).toSorted()).toEqual(all.map((_, index) => `e${index}`).toSorted())
  expect(redriven.every(({ headers }) => headerText(headers, 'kt-generation') === '1')).toBe(true)
})

test('a follower that begins in the middle of 10,000 outcomes gets each once while they are committed', async () => {
  const stream = await createStream()
  const { hubs } = openConsole(stream)
  const outcomes = Array.from({ length: 10_000 }, (_, index) => ({
    ...outgoing({ id: `e${index}`, partition: index % PARTITIONS, value: null }),
    topic: siblingTopic(stream.input, index % 7 === 0 ? 'dlq' : 'processed'),
  }))
  const writing = write(Array.from({ length: 100 }, (_, index) => outcomes.slice(index * 100, index * 100 + 100)))
  await until(async () => (await recordsOf(siblingTopic(stream.input, 'processed'))).length > 1_000, SLOW)
  const gone = new AbortController()
  ending.push(async () => gone.abort())
  const follow = async (since: string) => {
    const ids: string[] = []
    let last = ''
    const body = await followOutcomes(hubs, stream, decodePositions(since), () => true, {
      signal: gone.signal,
      caller: stream.tenant,
    })
    void eachLine(body, (line) => {
      if (line.startsWith('id: ')) last = line.slice(4)
      if (line.startsWith('data: ')) ids.push((JSON.parse(line.slice(6)) as Outcome).id ?? '')
    })
    return { ids, last: () => last }
  }
  const one = await follow('0.0_0.0')
  await writing
  await until(() => one.ids.length >= 10_000, SLOW)
  const expected = outcomes.map((_, index) => `e${index}`).toSorted()
  expect(one.ids.toSorted()).toEqual(expected)
  // From where it is, there is nothing more, and then only what is new.
  const two = await follow(one.last())
  await write([[{ ...outgoing({ id: 'new' }), topic: siblingTopic(stream.input, 'dlq') }]])
  await until(() => two.ids.length > 0 && one.ids.length > 10_000, SLOW)
  expect(two.ids).toEqual(['new'])
  expect(one.ids.at(-1)).toBe('new')
})

test('events are found among the ends of transactions, and among what was never committed', async () => {
  const stream = await createStream()
  const { readers } = openConsole(stream)
  const events = Array.from({ length: 40 }, (_, index) => outgoing({ id: `e${index}`, partition: index % PARTITIONS }))
  // A transaction each: every second offset of a partition is the end of one.
  await write(events.map((event) => [{ ...event, topic: stream.input }]))
  const aborted = await openTransaction(testBrokers(), stream.input, 0)
  await aborted.abort()
  await write(events.slice(0, 20).map((event) => [{ ...event, topic: siblingTopic(stream.input, 'processed') }]))
  const look = (id: string) => find(stream, { id }, SHOWING, budgetOf(), { readers, actOf: async () => undefined })
  for (const index of [0, 1, 19, 38, 39]) {
    const found = await look(`e${index}`)
    expect(found.events[0]).toMatchObject({ id: `e${index}`, state: index < 20 ? 'processed' : 'pending' })
    expect(found.events[0]?.generations[0]?.record).toMatchObject({
      partition: index % PARTITIONS,
      offset: Math.floor(index / 2) * 2,
    })
  }
  const nothing = await look('nope')
  expect(nothing).toMatchObject({ events: [], complete: true })
  expect(nothing.searched.map(({ searched }) => searched)).toEqual([
    { from: 0, to: 42 },
    { from: 0, to: 40 },
  ])
  // What is open is not there yet, and holds nothing up.
  const open = await openTransaction(testBrokers(), stream.input, 0)
  await write([[{ ...outgoing({ id: 'behind' }), topic: stream.input }]])
  expect((await look('behind')).events).toEqual([])
  expect((await look('e0')).events).toHaveLength(1)
  await open.abort()
  await until(async () => (await look('behind')).events.length > 0, SLOW)
})
