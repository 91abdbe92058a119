import { describe, expect, test } from 'bun:test'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { budgetOf, consoleOn, outgoing } from '../testing/console.ts'
import { Histories } from './history.ts'
import { Readers } from './readers.ts'

const INPUT = 'kt.acme.events'
const MINUTE_MS = 60_000
const NOW_MS = Date.UTC(2026, 0, 31, 12, 0, 30)
const LAST_MS = NOW_MS - 30_000

function setUp() {
  const kafka = new FakeKafka()
  const { stream, readers } = consoleOn(kafka, { partitions: 2 })
  /** So many records, `minutesAgo` before the minute of now, and as much later than the events were received. */
  const append = (topic: string, minutesAgo: number, count: number, latencyMs = 0, partition = 0): void => {
    const atMs = LAST_MS - minutesAgo * MINUTE_MS + 5_000
    kafka.nowMs = () => atMs
    for (let index = 0; index < count; index++)
      kafka.append(outgoing({ topic, partition, headers: { 'kt-received-at': String(atMs - latencyMs) } }))
  }
  return {
    kafka,
    stream,
    readers,
    append,
    of: (histories: Histories, count: number) => histories.of(stream, count, NOW_MS, budgetOf()),
  }
}

describe('the history of a stream', () => {
  test('counts by minute what came in and what became of it, with the latency', async () => {
    const { readers, append, of } = setUp()
    append(INPUT, 2, 7)
    append(INPUT, 2, 1, 0, 1)
    append(INPUT, 0, 3)
    append(`${INPUT}.processed`, 2, 5, 100)
    append(`${INPUT}.processed`, 2, 1, 900, 1)
    append(`${INPUT}.retry`, 2, 2)
    append(`${INPUT}.dlq`, 1, 2)
    expect(await of(new Histories(readers), 3)).toEqual({
      complete: true,
      minutes: [
        {
          time: '2026-01-31T11:58:00.000Z',
          in: 8,
          processed: 6,
          dead: 0,
          retried: 2,
          latencyMs: { p50: 100, p95: 900, of: 6 },
        },
        { time: '2026-01-31T11:59:00.000Z', in: 0, processed: 0, dead: 2, retried: 0 },
        { time: '2026-01-31T12:00:00.000Z', in: 3, processed: 0, dead: 0, retried: 0 },
      ],
    })
  })

  test('leaves out the ends of transactions, also where only some of a minute are read', async () => {
    const { kafka, readers, append, of } = setUp()
    append(`${INPUT}.processed`, 0, 100)
    kafka.log({ topic: `${INPUT}.processed`, partition: 0 }).lose(50)
    const { minutes } = await of(new Histories(readers), 1)
    expect(minutes).toMatchObject([{ processed: 99 }])
    const ofMany = async (offsets: number): Promise<unknown> => {
      const many = setUp()
      many.append(`${INPUT}.processed`, 0, offsets)
      // One in ten.
      for (let offset = 0; offset < offsets; offset += 10)
        many.kafka.log({ topic: `${INPUT}.processed`, partition: 0 }).lose(offset)
      return (await many.of(new Histories(many.readers), 1)).minutes[0]
    }
    expect(await ofMany(1_000)).toMatchObject({ processed: 900 })
    expect(await ofMany(1_000)).not.toHaveProperty('estimated')
    expect(await ofMany(2_000)).toMatchObject({ processed: expect.closeTo(1_800, -1), estimated: true })
  })

  test('remembers minutes that are over, and asks again for those that may still change', async () => {
    const { kafka, append, stream } = setUp()
    let reads = 0
    const readers = new Readers(() => {
      const reader = kafka.reader()
      return {
        ...reader,
        read: (...all) => {
          reads++
          return reader.read(...all)
        },
      }
    }, 2)
    for (const minutesAgo of [3, 2, 1, 0]) append(`${INPUT}.processed`, minutesAgo, 1)
    const histories = new Histories(readers)
    const first = await histories.of(stream, 4, NOW_MS, budgetOf())
    expect(reads).toBe(4)
    append(`${INPUT}.processed`, 0, 1)
    const second = await histories.of(stream, 4, NOW_MS, budgetOf())
    // The minute of now, and the one that ended less than half a minute ago.
    expect(reads).toBe(6)
    expect(second.minutes.slice(0, 3)).toEqual(first.minutes.slice(0, 3))
    expect(second.minutes.at(-1)).toMatchObject({ processed: 2 })
  })

  test('says that it is not complete where the search ended, or the broker does not search by time', async () => {
    const { kafka, readers, append, stream } = setUp()
    for (const minutesAgo of [3, 2, 1, 0]) append(`${INPUT}.processed`, minutesAgo, 10)
    const ended = await new Histories(readers).of(stream, 4, NOW_MS, budgetOf(15))
    expect(ended.complete).toBe(false)
    expect(ended.minutes.map(({ processed }) => processed)).toEqual([10, 10])
    const untimed = new Readers(
      () => ({ ...kafka.reader(), offsetsAt: async (places) => places.map(() => undefined) }),
      2,
    )
    expect(await new Histories(untimed).of(stream, 4, NOW_MS, budgetOf())).toEqual({ minutes: [], complete: false })
  })
})
