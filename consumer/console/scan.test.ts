import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { ProblemError } from '../../shared/http/problem.ts'
import type { Range, RangeReader } from '../../shared/kafka/types.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { rejection } from '../../shared/testing/settled.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { asking, budgetOf, outgoing } from '../testing/console.ts'
import { Budget, isComplete, merged, type Searched, scan, type Wanted } from './scan.ts'

const TOPIC = 'kt.acme.events'
const at = (partition: number, from: number, to: number): Wanted => ({ topic: TOPIC, partition, from, to })

/** A topic with so many records by partition, and a reader that notes what it is asked for. */
function topicWith(...counts: number[]) {
  const kafka = new FakeKafka().createTopic(TOPIC, counts.length)
  for (const [partition, count] of counts.entries())
    for (let index = 0; index < count; index++) kafka.append(outgoing({ partition, id: `${partition}-${index}` }))
  const asked: Range[][] = []
  const inner = kafka.reader()
  const reader: RangeReader = {
    ...inner,
    read: (ranges, onRecord, options) => {
      asked.push(structuredClone([...ranges]))
      return inner.read(ranges, onRecord, options)
    },
  }
  return { kafka, reader, asked }
}

const nameOf = ({ partition, offset }: { partition: number; offset: number }): string => `${partition}/${offset}`

describe('a scan', () => {
  test('goes from the newest to the oldest in growing windows, and within one forwards', async () => {
    const { reader, asked } = topicWith(40_000)
    const offsets: number[] = []
    const searched = await scan(
      reader,
      [at(0, 0, 40_000)],
      { order: 'newest', budget: budgetOf() },
      ({ offset }) => void offsets.push(offset),
    )
    expect(asked.flat()).toEqual([at(0, 34_000, 40_000), at(0, 10_000, 34_000), at(0, 0, 10_000)])
    expect(offsets[0]).toBe(34_000)
    expect(offsets.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40_000 }, (_, index) => index))
    expect(searched).toEqual([
      { topic: TOPIC, partition: 0, wanted: { from: 0, to: 40_000 }, searched: { from: 0, to: 40_000 } },
    ])
  })

  test('goes from the oldest to the newest in the order of offsets', async () => {
    const { reader } = topicWith(20_000)
    const offsets: number[] = []
    await scan(
      reader,
      [at(0, 5, 20_000)],
      { order: 'oldest', budget: budgetOf() },
      ({ offset }) => void offsets.push(offset),
    )
    expect(offsets).toEqual(Array.from({ length: 19_995 }, (_, index) => index + 5))
  })

  describe('with further clients', () => {
    /** Lends so many, which note what they are asked for. */
    function further(free: number, reader: RangeReader) {
      const read: Range[] = []
      const noting: RangeReader = {
        ...reader,
        read(ranges, onRecord, options) {
          read.push(...structuredClone([...ranges]))
          return reader.read(ranges, onRecord, options)
        },
      }
      return {
        read,
        readers: { free: () => free, useFree: <T>(_: string, work: (one: RangeReader) => Promise<T>) => work(noting) },
      }
    }

    test.each([
      { free: 0, mine: [10_000, 34_000], theirs: [] },
      { free: 1, mine: [10_000, 22_000], theirs: [at(0, 22_000, 34_000)] },
      { free: 9, mine: [10_000, 18_000], theirs: [at(0, 18_000, 26_000), at(0, 26_000, 34_000)] },
    ])(
      '$free of which are free, reads a large window of one partition in parts, and everything once',
      async ({ free, mine: [from = 0, to = 0], theirs }) => {
        const { kafka, reader, asked } = topicWith(40_000)
        const { read, readers } = further(free, kafka.reader())
        const offsets: number[] = []
        const progress: number[] = []
        const budget = new Budget(1e9, 60_000, asking(), () => progress.push(budget.passed))
        const searched = await scan(
          reader,
          [at(0, 0, 40_000)],
          { order: 'newest', budget, readers },
          ({ offset }) => void offsets.push(offset),
        )
        budget.end()
        expect(asked.flat()).toEqual([at(0, 34_000, 40_000), at(0, from, to), at(0, 0, 10_000)])
        expect(read).toEqual([...theirs])
        expect(offsets.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 40_000 }, (_, index) => index))
        expect(isComplete(searched)).toBe(true)
        expect(progress.toSorted((a, b) => a - b)).toEqual(progress)
        expect(progress.at(-1)).toBe(40_000)
      },
    )

    test('reads several partitions alone', async () => {
      const { kafka, reader } = topicWith(40_000, 40_000)
      const { read, readers } = further(2, kafka.reader())
      const all = [at(0, 0, 40_000), at(1, 0, 40_000)]
      await scan(reader, all, { order: 'newest', budget: budgetOf(), readers }, () => undefined)
      expect(read).toEqual([])
    })

    test('ends once any has found enough, and fails where any fails', async () => {
      const { kafka, reader } = topicWith(40_000)
      let found: number | undefined
      const searched = await scan(
        reader,
        [at(0, 0, 40_000)],
        {
          order: 'newest',
          budget: budgetOf(),
          readers: further(1, kafka.reader()).readers,
          isEnough: () => found !== undefined,
        },
        ({ offset }) => {
          if (offset === 22_500) found = offset
        },
      )
      expect(found).toBe(22_500)
      expect(searched[0]?.searched).toEqual({ from: 34_000, to: 40_000 })
      const failing = { ...reader, read: () => Promise.reject(new Error('no leader')) }
      const broken = scan(
        reader,
        [at(0, 0, 40_000)],
        { order: 'newest', budget: budgetOf(), readers: further(1, failing).readers },
        () => undefined,
      )
      expect(await rejection(broken)).toMatchObject({ problem: { kind: 'kafka-unavailable' } })
    })
  })

  test('shares each window among the partitions that are left', async () => {
    const { reader, asked } = topicWith(10, 5_000)
    await scan(reader, [at(0, 0, 10), at(1, 0, 5_000)], { order: 'oldest', budget: budgetOf() }, () => undefined)
    expect(asked).toEqual([[at(0, 0, 10), at(1, 0, 3_000)], [at(1, 3_000, 5_000)]])
  })

  test('ends between windows once it is done, and within one once it has enough', async () => {
    const { reader } = topicWith(20_000)
    let seen = 0
    const count = (): void => void seen++
    const done = await scan(
      reader,
      [at(0, 0, 20_000)],
      { order: 'newest', budget: budgetOf(), isDone: () => seen > 0 },
      count,
    )
    expect(seen).toBe(6_000)
    expect(done[0]?.searched).toEqual({ from: 14_000, to: 20_000 })
    seen = 0
    const enough = await scan(
      reader,
      [at(0, 0, 20_000)],
      { order: 'newest', budget: budgetOf(), isEnough: () => seen >= 3 },
      count,
    )
    expect(seen).toBe(3)
    // That window was not read to its end.
    expect(enough[0]?.searched).toEqual({ from: 20_000, to: 20_000 })
    expect(isComplete(enough)).toBe(false)
  })

  test('reads no more records than its budget has, rounded up to one of each partition', async () => {
    const { reader } = topicWith(9_000, 9_000)
    const budget = budgetOf(7_001)
    const ranges = [at(0, 0, 9_000), at(1, 0, 9_000)]
    const searched = await scan(reader, ranges, { order: 'newest', budget }, () => undefined)
    expect(budget.passed).toBe(7_002)
    expect(searched.map((one) => one.searched.to - one.searched.from)).toEqual([3_501, 3_501])
    expect(isComplete(searched)).toBe(false)
    // What is spent stays spent for the next scan of the request.
    expect(
      (await scan(reader, ranges, { order: 'newest', budget }, () => undefined)).every(
        ({ searched: { from, to } }) => from === to,
      ),
    ).toBe(true)
  })

  test('reads nothing once its time is over or its client is gone', async () => {
    const { reader, asked } = topicWith(10)
    const gone = new AbortController()
    gone.abort()
    for (const budget of [budgetOf(10_000, 0), new Budget(10_000, 1_000, asking(gone.signal))]) {
      const searched = await scan(reader, [at(0, 0, 10)], { order: 'oldest', budget }, () => undefined)
      expect(searched[0]?.searched).toEqual({ from: 0, to: 0 })
      budget.end()
    }
    expect(asked).toEqual([])
  })

  test('that is broken off in a window reports only the windows before it', async () => {
    const { reader } = topicWith(20_000)
    const gone = new AbortController()
    let seen = 0
    const searched = await scan(
      reader,
      [at(0, 0, 20_000)],
      { order: 'oldest', budget: new Budget(1_000_000, 60_000, asking(gone.signal)) },
      () => {
        if (++seen === 6_001) gone.abort()
      },
    )
    expect(searched[0]?.searched).toEqual({ from: 0, to: 6_000 })
  })

  test('that gets no answer ends when its time is over, and reports what came before', async () => {
    const { reader } = topicWith(20_000)
    let reads = 0
    const stuck: RangeReader = {
      ...reader,
      read: (ranges, onRecord, options) =>
        ++reads === 1
          ? reader.read(ranges, onRecord, options)
          : new Promise((_, reject) => options?.signal?.addEventListener('abort', () => reject(new Error('aborted')))),
    }
    const time = simulateTime(1)
    try {
      const budget = budgetOf(1_000_000, 50)
      const scanning = scan(stuck, [at(0, 0, 20_000)], { order: 'oldest', budget }, () => undefined)
      await time.pass(40)
      expect([reads, budget.isLate]).toEqual([2, false])
      await time.pass(20)
      expect((await scanning)[0]?.searched).toEqual({ from: 0, to: 6_000 })
      expect(budget.isLate).toBe(true)
    } finally {
      time.end()
    }
  })

  test('fails with a problem when Kafka cannot be read', async () => {
    const { reader } = topicWith(1)
    const broken: RangeReader = { ...reader, read: async () => Promise.reject(new Error('no leader')) }
    const failing = scan(broken, [at(0, 0, 1)], { order: 'oldest', budget: budgetOf() }, () => undefined)
    const error = await failing.catch((thrown: unknown) => thrown)
    expect((error as ProblemError).problem).toMatchObject({ kind: 'kafka-unavailable', retryAfterSeconds: 5 })
  })

  test('tells progress that adds up to what it wanted', async () => {
    const { reader } = topicWith(20_000, 100)
    const told: number[] = []
    const budget: Budget = new Budget(1_000_000, 60_000, asking(), () => told.push(budget.passed))
    await scan(reader, [at(0, 100, 20_000), at(1, 0, 100)], { order: 'newest', budget }, () => undefined)
    expect(budget.wanted).toBe(20_000)
    expect(told.at(-1)).toBe(20_000)
    expect(told).toEqual(told.toSorted((a, b) => a - b))
  })

  test('of nothing reads nothing and is complete', async () => {
    const { reader, asked } = topicWith(5)
    const searched = await scan(reader, [at(0, 3, 3)], { order: 'newest', budget: budgetOf() }, () => undefined)
    expect(isComplete(searched)).toBe(true)
    expect(isComplete(await scan(reader, [], { order: 'newest', budget: budgetOf() }, () => undefined))).toBe(true)
    expect(asked).toEqual([])
  })

  test('what is reported as searched is exactly what was searched, whatever ends it', async () => {
    const counts = [300, 1, 0, 7_000]
    const { kafka, reader } = topicWith(...counts)
    const range = fc.tuple(fc.nat(3), fc.nat(7_000), fc.nat(7_000)).map(([partition, a, b]) => {
      const end = counts[partition] ?? 0
      return at(partition, Math.min(a, b, end), Math.min(Math.max(a, b), end))
    })
    // Ranges of one partition lie beside each other, as those of the phases of a search do.
    const ranges = fc.array(range, { maxLength: 5 }).map((all) => {
      const used = new Set<number>()
      return all.filter(({ partition }) => !used.has(partition) && used.add(partition))
    })
    await fc.assert(
      fc.asyncProperty(
        ranges,
        fc.constantFrom('newest' as const, 'oldest' as const),
        fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20_000 })),
        fc.option(fc.integer({ min: 1, max: 8_000 })),
        fc.option(fc.integer({ min: 1, max: 8_000 })),
        async (wanted, order, maxRecords, doneAfter, enoughAfter) => {
          const got: IncomingRecord[] = []
          const searched = await scan(
            reader,
            wanted,
            {
              order,
              budget: budgetOf(maxRecords),
              isDone: () => doneAfter !== null && got.length >= doneAfter,
              isEnough: () => enoughAfter !== null && got.length >= enoughAfter,
            },
            (record) => void got.push(record),
          )
          const names = got.map(nameOf)
          expect(new Set(names).size).toBe(names.length)
          // It begins at its end of what was wanted, and stays within.
          for (const [index, { wanted: all, searched: part }] of searched.entries()) {
            expect(all).toEqual({ from: wanted[index]?.from ?? -1, to: wanted[index]?.to ?? -1 })
            expect(part.from).toBeLessThanOrEqual(part.to)
            expect(order === 'newest' ? part.to === all.to : part.from === all.from).toBe(true)
            expect(part.from >= all.from && part.to <= all.to).toBe(true)
          }
          const reported = searched.flatMap(({ partition, searched: { from, to } }) =>
            kafka
              .records(TOPIC, partition)
              .filter(({ offset }) => offset >= from && offset < to)
              .map(nameOf),
          )
          // Only a window that was broken off may have given more.
          const seen = new Set(names)
          expect(reported.every((name) => seen.has(name))).toBe(true)
          if (enoughAfter === null || got.length < enoughAfter) expect(reported.sort()).toEqual(names.sort())
        },
      ),
      { numRuns: 30 },
    )
  })
})

describe('merged ranges', () => {
  const one = (wanted: [number, number], searched: [number, number], partition = 0): Searched => ({
    topic: TOPIC,
    partition,
    wanted: { from: wanted[0], to: wanted[1] },
    searched: { from: searched[0], to: searched[1] },
  })

  test('adjacent ones that were searched up to each other become one', () => {
    expect(merged([one([10, 20], [10, 20]), one([20, 30], [20, 25]), one([0, 10], [5, 10])])).toEqual([
      one([0, 30], [5, 25]),
    ])
  })

  test('with a gap between them stay two', () => {
    expect(merged([one([0, 10], [0, 5]), one([10, 20], [15, 20])])).toHaveLength(2)
  })

  test('empty ones are left out', () => {
    expect(merged([one([5, 5], [5, 5]), one([0, 5], [0, 5]), one([7, 7], [7, 7], 1), one([7, 7], [7, 7], 1)])).toEqual([
      one([0, 5], [0, 5]),
    ])
  })

  test('cover exactly what was searched, and do not change what they are made of', () => {
    const cuts = fc.uniqueArray(fc.nat(60), { minLength: 2, maxLength: 5 }).map((all) => all.sort((a, b) => a - b))
    fc.assert(
      fc.property(
        cuts,
        fc.array(fc.tuple(fc.boolean(), fc.nat(60)), { minLength: 5, maxLength: 5 }),
        fc.boolean(),
        (bounds, hows, reversed) => {
          const all = bounds.slice(1).map((to, index): Searched => {
            const from = bounds[index] ?? 0
            const [isNewest, length] = hows[index] ?? [true, 0]
            const part = Math.min(length, to - from)
            return one([from, to], isNewest ? [to - part, to] : [from, from + part])
          })
          const given = reversed ? all.toReversed() : all
          const before = JSON.stringify(given)
          const cover = (some: readonly Searched[], what: 'wanted' | 'searched') =>
            some
              .flatMap((each) =>
                Array.from({ length: each[what].to - each[what].from }, (_, index) => each[what].from + index),
              )
              .sort((a, b) => a - b)
          const result = merged(given)
          expect(cover(result, 'searched')).toEqual(cover(given, 'searched'))
          expect(cover(result, 'wanted')).toEqual(cover(given, 'wanted'))
          expect(JSON.stringify(given)).toBe(before)
        },
      ),
    )
  })
})
