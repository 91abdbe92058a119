import { describe, expect, test } from 'bun:test'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { turn } from '../../shared/service/retry.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { settled } from '../../shared/testing/settled.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { outgoing } from '../testing/console.ts'
import { Readers } from './readers.ts'
import type { Sharing } from './shares.ts'

const TOPIC = 'kt.acme.events'

/** Readers of a topic, with the numbers of those that were opened. */
function setUp(
  most: number,
  partitions = 1,
  more: (reader: RangeReader) => Partial<RangeReader> = () => ({}),
  sharing?: Sharing,
) {
  const kafka = new FakeKafka().createTopic(TOPIC, partitions)
  const opened: number[] = []
  const readers = new Readers(
    (number) => {
      opened.push(number)
      const reader = kafka.reader()
      return { ...reader, ...more(reader) }
    },
    most,
    sharing,
  )
  const { signal } = new AbortController()
  const asking = { signal, caller: 'acme' }
  /** Lends one until `end` is called. */
  const hold = (caller = 'acme') => {
    const { promise, resolve: end } = Promise.withResolvers<void>()
    return { done: readers.use({ signal, caller }, () => promise), end }
  }
  return { kafka, readers, opened, asking, hold }
}

describe('a reader', () => {
  test('is lent to one at a time; the others wait for their turn and get it', async () => {
    const { readers, asking, hold } = setUp(1)
    const order: string[] = []
    const first = hold()
    const others = ['second', 'third'].map((name) =>
      readers.use(asking, async (reader) => {
        order.push(name)
        expect(readers.busy).toBe(1)
        return reader
      }),
    )
    await turn()
    expect(order).toEqual([])
    first.end()
    const [second, third] = await Promise.all(others)
    expect(order).toEqual(['second', 'third'])
    expect(second).toBe(third)
    expect(readers.busy).toBe(0)
  })

  test('is lent beside others as long as one is free, and goes to whoever waits then', async () => {
    const { readers, opened, asking, hold } = setUp(2)
    const first = hold()
    expect(readers.free('acme')).toBe(1)
    const lent = Promise.withResolvers<void>()
    const second = readers.useFree('acme', () => lent.promise)
    expect(readers.free('acme')).toBe(0)
    expect(await settled(readers.useFree('acme', async () => undefined))).toThrow('no reader is free')
    const third = readers.use(asking, async () => 'done')
    lent.resolve()
    await second
    expect(await third).toBe('done')
    expect(await readers.useFree('acme', async () => 'again')).toBe('again')
    first.end()
    await first.done
    // One more is for offsets.
    expect(opened).toEqual([0, 1, 2])
    expect(readers.free('acme')).toBe(2)
  })

  test('comes back where the work with it fails', async () => {
    const { readers, asking } = setUp(1)
    const failing = readers.use(asking, async () => Promise.reject(new Error('no leader')))
    expect(await settled(failing)).toThrow('no leader')
    expect(readers.busy).toBe(0)
    expect(await readers.use(asking, async () => 'done')).toBe('done')
  })

  test('is opened when it is needed, and never more than there may be', async () => {
    const { readers, opened, asking, hold } = setUp(3)
    await readers.use(asking, async () => undefined)
    await readers.use(asking, async () => undefined)
    expect(opened).toEqual([0, 1])
    const held = Array.from({ length: 10 }, () => hold())
    await turn()
    expect([opened, readers.busy]).toEqual([[0, 1, 2, 3], 3])
    for (const { end } of held) end()
    await Promise.all(held.map(({ done }) => done))
    expect([opened, readers.busy]).toEqual([[0, 1, 2, 3], 0])
  })

  test('is waited for so long, and later callers are not kept waiting by who gave up', async () => {
    const { readers, asking, hold } = setUp(1)
    const first = hold()
    const time = simulateTime(1)
    try {
      const refused = problemOf(() => readers.use(asking, async () => undefined))
      let isRefused = false
      void refused.then(() => {
        isRefused = true
      })
      await time.pass(4_900)
      expect(isRefused).toBe(false)
      await time.pass(200)
      expect(isRefused).toBe(true)
      expect(await refused).toMatchObject({ kind: 'overloaded', retryAfterSeconds: 1 })
      const next = readers.use(asking, async () => 'done')
      first.end()
      expect(await next).toBe('done')
      expect(readers.busy).toBe(0)
    } finally {
      time.end()
    }
  })

  test.each([
    ['before it is free', 'refused'],
    ['while it is given to it', 'refused'],
    ['after it was given to it', 'lent'],
  ])('is not lost with a caller that is gone %s', async (moment, expected) => {
    const { readers, hold } = setUp(1)
    const gone = new AbortController()
    const first = hold()
    const second = readers
      .use({ signal: gone.signal, caller: 'acme' }, async () => undefined)
      .then(
        () => 'lent',
        () => 'refused',
      )
    if (moment.startsWith('after')) first.end()
    gone.abort()
    if (moment.startsWith('before')) await turn()
    first.end()
    expect(await second).toBe(expected)
    await first.done
    expect(readers.busy).toBe(0)
  })
})

describe('of several tenants', () => {
  const crowded: string[] = []
  const sharing = { isShared: () => true, onCrowded: (caller: string) => void crowded.push(caller) }
  const of = (caller: string) => ({ signal: new AbortController().signal, caller })

  test('one with many searches leaves readers to the others, who are served in turn', async () => {
    const { readers, hold } = setUp(4, 1, undefined, sharing)
    const many = Array.from({ length: 30 }, () => hold('acme'))
    expect([readers.busy, readers.free('acme'), readers.free('other')]).toEqual([2, 0, 1])
    const served: string[] = []
    const asked = ['other 1', 'other 2', '* 1', 'other 3'].map((name) =>
      readers.use(of(name.split(' ')[0] ?? ''), async () => {
        served.push(name)
        await turn()
        expect(readers.busy).toBeLessThanOrEqual(4)
      }),
    )
    await Promise.all(asked)
    expect(served.toSorted()).toEqual(['* 1', 'other 1', 'other 2', 'other 3'])
    expect(readers.busy).toBe(2)
    for (const { end } of many) end()
    await Promise.all(many.map(({ done }) => done))
    expect(readers.busy).toBe(0)
  })

  test('one that has its part is refused in time, and told so', async () => {
    const { readers, hold } = setUp(4, 1, undefined, sharing)
    const held = [hold('acme'), hold('acme')]
    const time = simulateTime(1)
    try {
      crowded.length = 0
      const refused = problemOf(() => readers.use(of('acme'), async () => undefined))
      await time.pass(5_100)
      expect(await refused).toEqual({
        kind: 'overloaded',
        detail:
          'There is no room for another within the 4 readers of the log (MAX_SCANS). One of several tenants may have as many as stay free for the others. Try again later.',
        retryAfterSeconds: 1,
      })
      expect(crowded).toEqual(['acme'])
      expect(await readers.use(of('other'), async () => 'done')).toBe('done')
    } finally {
      time.end()
    }
    for (const { end } of held) end()
  })
})

describe('the partitions of a topic', () => {
  test('are asked for once in a while, and again where topics were created', async () => {
    let asked = 0
    const { kafka, readers } = setUp(1, 2, ({ topics }) => ({
      topics: () => {
        asked++
        return topics()
      },
    }))
    const time = simulateTime(1)
    try {
      expect(await Promise.all([readers.partitions(TOPIC), readers.partitions('kt.acme.new')])).toEqual([2, 0])
      kafka.createTopic('kt.acme.new', 3)
      expect([await readers.partitions('kt.acme.new'), asked]).toEqual([0, 1])
      await time.pass(5_100)
      expect([await readers.partitions('kt.acme.new'), asked]).toEqual([3, 2])
      kafka.createTopic('kt.acme.newest', 4)
      readers.forgetTopics()
      expect([await readers.partitions('kt.acme.newest'), asked]).toEqual([4, 3])
    } finally {
      time.end()
    }
  })

  test('are asked for again after a failure', async () => {
    const faults = [new Error('no broker')]
    const { readers } = setUp(1, 2, ({ topics }) => ({
      topics: async () => {
        const fault = faults.shift()
        if (fault !== undefined) throw fault
        return topics()
      },
    }))
    expect(await problemOf(() => readers.partitions(TOPIC))).toMatchObject({
      kind: 'kafka-unavailable',
      detail: expect.stringContaining('no broker'),
    })
    expect(await readers.partitions(TOPIC)).toBe(2)
  })
})

describe('the offsets at a time', () => {
  const at = [0, 1].map((partition) => ({ topic: TOPIC, partition }))
  const blind = () => ({ offsetsAt: async (partitions: readonly unknown[]) => partitions.map(() => undefined) })

  test('are those of the first records then or later, and the end where there are none', async () => {
    const askedMs: number[] = []
    const { kafka, readers } = setUp(1, 2, ({ offsetsAt }) => ({
      offsetsAt: (partitions, ms) => {
        askedMs.push(ms)
        return offsetsAt(partitions, ms)
      },
    }))
    for (const [partition, atMs] of [
      [0, 1_000],
      [0, 2_000],
      [0, 3_000],
      [1, 1_000],
    ] as const) {
      kafka.nowMs = () => atMs
      kafka.append(outgoing({ partition }))
    }
    const bounds = await readers.bounds(at)
    for (const [ms, offsets] of [
      [-1, [0, 0]],
      [1_500, [1, 1]],
      [3_000, [2, 1]],
      [9_000, [3, 1]],
    ] as const)
      expect(await readers.offsetsAt(at, ms, bounds)).toEqual([...offsets])
    // To Kafka, times below 0 are names of the beginning and the end.
    expect(Math.min(...askedMs)).toBe(0)
    expect(await readers.offsetsAt([], 0, [])).toEqual([])
  })

  test('are unknown on a broker that does not search by time, unless there are no records', async () => {
    const { kafka, readers } = setUp(1, 2, blind)
    expect(await readers.offsetsAt(at, 0, await readers.bounds(at))).toEqual([0, 0])
    kafka.append(outgoing({ partition: 1 }))
    expect(await readers.offsetsAt(at, 0, await readers.bounds(at))).toBeUndefined()
    kafka.deleteRecords({ topic: TOPIC, partition: 1 }, 1)
    expect(await readers.offsetsAt(at, 0, await readers.bounds(at))).toEqual([0, 1])
  })
})
