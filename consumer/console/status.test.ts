import { describe, expect, test } from 'bun:test'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { encodeAhead } from '../ahead.ts'
import type { ConsumerStatusz } from '../statusz.ts'
import { consoleOn, outgoing } from '../testing/console.ts'
import { Readers } from './readers.ts'
import { Statuses } from './status.ts'

const INPUT = 'kt.acme.events'
const PAUSED = { by: 'x', time: '2026-01-31T12:00:00.000Z', reason: 'r' }

function setUp(partitions = 2) {
  const kafka = new FakeKafka()
  const { stream, readers } = consoleOn(kafka, { partitions })
  const told: ConsumerStatusz[] = []
  const consumers = { statuses: async () => new Map(told.map((one) => [one.clientId, one])) }
  const statuses = new Statuses(readers, 'group', consumers, new AbortController().signal)
  const append = (partition: number, count: number, topic = INPUT): void => {
    for (let index = 0; index < count; index++) kafka.append(outgoing({ topic, partition }))
  }
  const commit = (partition: number, offset: number, metadata = '', topic = INPUT): void =>
    kafka.setOffset({ topic, partition, offset, metadata })
  return { kafka, told, append, commit, of: (paused?: typeof PAUSED) => statuses.of(stream, paused) }
}

test('on a broker that describes no groups, and searches by no time, the rest is told', async () => {
  const kafka = new FakeKafka()
  const { stream } = consoleOn(kafka)
  const readers = new Readers(
    () => ({
      ...kafka.reader(),
      group: async () => undefined,
      offsetsAt: async (partitions) => partitions.map(() => undefined),
    }),
    4,
  )
  const statuses = new Statuses(readers, 'group', { statuses: async () => new Map() }, new AbortController().signal)
  kafka.append(outgoing({ topic: INPUT, partition: 0 }))
  const status = await statuses.of(stream, undefined)
  expect(status).toMatchObject({
    group: { id: 'group', state: 'Unknown' },
    consumers: [],
    lag: 1,
    partitions: [{ partition: 0, state: 'unknown', end: 1 }],
  })
  expect(status.rates).toEqual({ seconds: 60 })
  expect((await statuses.of(stream, PAUSED)).partitions).toMatchObject([{ state: 'paused' }])
})

describe('the status of a stream', () => {
  test('says what is not committed yet, without what was done ahead, and what waits for a retry', async () => {
    const { append, commit, of } = setUp()
    append(0, 10)
    append(1, 10)
    append(1, 4, `${INPUT}.retry`)
    commit(0, 4, encodeAhead(4, [6, 8]))
    commit(1, 3, '', `${INPUT}.retry`)
    expect(await of()).toMatchObject({
      tenant: 'acme',
      stream: 'events',
      group: { id: 'group', state: 'Empty' },
      consumers: [],
      lag: 14,
      waiting: 1,
      partitions: [
        { partition: 0, state: 'not assigned', committed: 4, end: 10, lag: 4, waiting: 0 },
        { partition: 1, state: 'not assigned', committed: -1, end: 10, lag: 10, waiting: 1 },
      ],
    })
  })

  test('of a lag too large to be counted is that of offsets, without what was done ahead', async () => {
    const { kafka, append, commit, of } = setUp(1)
    append(0, 300)
    commit(0, 10, encodeAhead(10, [20, 30, 250]))
    // Not known without reading them: a transaction's marker, or a record that compaction removed.
    kafka.log({ topic: INPUT, partition: 0 }).lose(100)
    expect(await of()).toMatchObject({ lag: 287, partitions: [{ committed: 10, end: 300, lag: 287 }] })
  })

  test('counts no records that retention has deleted', async () => {
    const { kafka, append, commit, of } = setUp(1)
    append(0, 10)
    commit(0, 2)
    kafka.deleteRecords({ topic: INPUT, partition: 0 }, 7)
    expect((await of()).lag).toBe(3)
    // Offsets of a topic that was made anew.
    commit(0, 50)
    expect((await of()).lag).toBe(0)
  })

  test('says which consumer has which partition, and what is paused', async () => {
    const { kafka, told, of } = setUp()
    const member = kafka.group()
    member.start(
      /./,
      {
        assigned: () => undefined,
        revoked: async () => [],
        outOfRange: () => undefined,
        unreadable: () => undefined,
        failed: () => undefined,
      },
      Promise.resolve(),
    )
    await Promise.resolve()
    member.assign([
      { topic: INPUT, partition: 1 },
      { topic: 'kt.other.events', partition: 0 },
    ])
    const running = await of()
    expect(running).toMatchObject({ group: { state: 'Stable' }, consumers: [{ clientId: 'fake', partitions: [1] }] })
    expect(running.partitions.map(({ state }) => state)).toEqual(['not assigned', 'assigned'])
    expect(running).not.toHaveProperty('paused')
    const paused = await of(PAUSED)
    expect(paused.paused).toEqual(PAUSED)
    expect(paused.partitions.map(({ state }) => state)).toEqual(['not assigned', 'paused'])
    const fault = { topic: INPUT, partition: 1, state: 'paused' as const, reason: 'TOPIC_AUTHORIZATION_FAILED' }
    const other = { topic: 'kt.other.events', partition: 0, state: 'reading' as const }
    told.push({ clientId: 'fake', ready: false, faults: ['commits: none for 9 s'], partitions: [other, fault] })
    const known = await of()
    expect(known.partitions[1]).toMatchObject({ state: 'paused', reason: 'TOPIC_AUTHORIZATION_FAILED' })
    expect(known.consumers[0]).toMatchObject({ ready: false, faults: ['commits: none for 9 s'], partitions: [1] })
    expect(JSON.stringify(known)).not.toContain('other')
    await member.close()
  })

  test('has the duplicates of the stream that consumers tell of, and none where nobody does', async () => {
    const { told, of } = setUp()
    const consumer = { clientId: 'old', ready: true, faults: [], partitions: [] }
    told.push(consumer)
    expect((await of()).duplicates).toBeUndefined()
    const other = { topic: 'kt.other.events', count: 100 }
    told.push({ ...consumer, clientId: 'one', duplicates: [{ topic: INPUT, count: 2 }, other] })
    told.push({ ...consumer, clientId: 'two', duplicates: [{ topic: INPUT, count: 3 }] })
    expect((await of()).duplicates).toBe(5)
    told.push({ ...consumer, clientId: 'three', duplicates: [] })
    expect((await of()).duplicates).toBe(5)
  })

  test('has the rate of what was committed since an earlier look, of at least a second before', async () => {
    const { append, commit, of } = setUp(2)
    append(0, 100)
    append(1, 100)
    commit(0, 10)
    const time = simulateTime(1)
    try {
      expect((await of()).rates.done).toBeUndefined()
      await time.pass(500)
      commit(0, 20)
      expect((await of()).rates.done).toBeUndefined()
      await time.pass(1_500)
      commit(0, 40)
      commit(1, 5)
      expect((await of()).rates.done).toBe(17.5)
      await time.pass(1_000)
      commit(1, 15)
      expect((await of()).rates.done).toBe(10)
      // A topic that was made anew begins anew.
      await time.pass(2_000)
      commit(0, 1)
      expect((await of()).rates.done).toBe(0)
      await time.pass(61_000)
      expect((await of()).rates.done).toBeUndefined()
    } finally {
      time.end()
    }
  })

  test('has the rate of the last minute', async () => {
    const { kafka, append, of } = setUp()
    kafka.nowMs = () => Date.now() - 120_000
    append(0, 100)
    kafka.nowMs = Date.now
    append(0, 60)
    append(1, 30)
    expect((await of()).rates).toEqual({ seconds: 60, in: 1.5 })
  })
})
