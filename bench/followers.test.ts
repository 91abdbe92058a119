import { expect, test } from 'bun:test'
import { type Arrival, decodeArrivals, encodeArrivals, followedOf, OutcomeFrames } from './followers.ts'

const TIME = '2026-01-02T03:04:05.678Z'
const frameOf = (partition: number, offset: number): string =>
  `event: outcome\nid: 1.2_3.4\ndata: ${JSON.stringify({ outcome: 'processed', id: 'a\n\nb', partition, offset, time: TIME })}\n\n`
const timestampMs = Date.parse(TIME)

test('an outcome has arrived with the end of its frame, and nothing else is one', () => {
  const frames = new OutcomeFrames()
  expect(frames.push('retry: 1000\n: outcomes of default/events\nid: 0.0_0.0\n\n')).toEqual([])
  const text = frameOf(0, 7) + frameOf(5, 8)
  expect(frames.push(text.slice(0, -1))).toEqual([{ partition: 0, offset: 7, timestampMs }])
  expect(frames.push('\n: nothing new\nid: 1.1_0.0\n\n')).toEqual([{ partition: 5, offset: 8, timestampMs }])
  expect(frames.push('event: end\ndata: {"reason":"behind"}\n\n')).toEqual([])
})

const arrival = (follower: number, offset: number, atMs = 1_000, timestampMs = 990): Arrival => ({
  follower,
  partition: 0,
  offset,
  timestampMs,
  atMs,
})
const PROCESSED = { partitions: [0, 0], offsets: [0, 1] }
const ALL = [arrival(0, 0), arrival(0, 1), arrival(1, 0), arrival(1, 1)]

test('arrivals are the same in the file', () => {
  expect(decodeArrivals(encodeArrivals(ALL).buffer)).toEqual(ALL)
})

test('each follower has to get every outcome once', () => {
  const of = (arrivals: Arrival[]) => followedOf(arrivals, 2, PROCESSED, 0)
  expect(of(ALL)).toMatchObject({ followers: 2, outcomes: 2, missing: 0, excess: 0 })
  expect(of(ALL.slice(1))).toMatchObject({ missing: 1, excess: 0 })
  expect(of([])).toMatchObject({ missing: 4, excess: 0 })
  expect(of([...ALL, arrival(1, 1)])).toMatchObject({ missing: 0, excess: 1 })
  expect(of([...ALL.slice(1), arrival(1, 0)])).toMatchObject({ missing: 1, excess: 1 })
})

test('an outcome that is not committed is too much', () => {
  expect(followedOf([...ALL, arrival(0, 2)], 2, PROCESSED, 0)).toMatchObject({ missing: 0, excess: 1 })
})

test('the delays are those of every follower, without the warm-up', () => {
  const late = [arrival(0, 0, 5_000, 900), arrival(0, 1, 1_020, 1_000), arrival(1, 1, 1_030, 1_000)]
  const { delay } = followedOf(late, 2, PROCESSED, 1_000)
  expect(delay.count).toBe(2)
  expect(delay.maxMs).toBeCloseTo(30, 1)
})
