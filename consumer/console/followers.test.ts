import { expect, test } from 'bun:test'
import { headersOf } from '../../shared/events/headers.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { until } from '../../shared/testing/until.ts'
import { decodePositions, encodePositions, followOutcomes, Hubs } from './follow.ts'
import { Readers } from './readers.ts'
import type { Stream } from './streams.ts'

const STREAM: Stream = { tenant: 't', name: 's', input: 'kt.t.s', partitions: 2, redact: [] }
const MAX_BYTES = 64 * 1024

/** A stream of outcomes and the followers of one console. */
function setUp(changed: { reads?: RangeReader; follows?: RangeReader } = {}) {
  const kafka = new FakeKafka()
  for (const topic of ['kt.t.s', 'kt.t.s.processed', 'kt.t.s.dlq']) kafka.createTopic(topic, 2)
  const ending = new AbortController()
  const cut: string[] = []
  const reader = kafka.reader()
  const hubs = new Hubs({
    readers: new Readers(() => ({ ...reader, ...changed.reads }), 4),
    openReader: () => ({ ...reader, ...changed.follows }),
    maxFollowers: 10,
    followerMaxBytes: MAX_BYTES,
    log: createLogger('console', { LOG_LEVEL: 'fatal', LOG_FORMAT: 'json' }),
    signal: ending.signal,
    onSent: () => undefined,
    onCut: (reason) => void cut.push(reason),
  })
  let written = 0
  const write = (count: number, partition = 0): void => {
    for (let n = 0; n < count; n++)
      kafka.append({
        topic: 'kt.t.s.processed',
        partition,
        key: null,
        value: Buffer.from('{}'),
        headers: headersOf({ ce_specversion: '1.0', ce_id: String(written++), ce_source: '/s', ce_type: 't' }),
      })
  }
  const follow = (processed?: number[]) =>
    followOutcomes(hubs, STREAM, processed && { processed, dlq: [0, 0] }, () => true, ending.signal).then(read)
  return { kafka, hubs, cut, write, follow, ending }
}

/** What a client has got so far. */
function read(stream: ReadableStream<Uint8Array>) {
  const got: { places: string[]; ids: number[][]; ends: string[] } = { places: [], ids: [], ends: [] }
  const take = async (): Promise<void> => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of stream) {
      text += decoder.decode(chunk, { stream: true })
      const frames = text.split('\n\n')
      text = frames.pop() ?? ''
      for (const frame of frames) {
        const fields = new Map(
          frame.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
        )
        const id = fields.get('id')
        if (id !== undefined) got.ids.push(decodePositions(id)?.processed ?? [])
        const data = JSON.parse(fields.get('data') ?? '{}')
        if (fields.get('event') === 'outcome') got.places.push(`${data.partition}/${data.offset}`)
        if (fields.get('event') === 'end') got.ends.push(data.reason)
      }
    }
  }
  void take()
  return got
}

const places = (count: number, partition = 0, from = 0) =>
  Array.from({ length: count }, (_, n) => `${partition}/${from + n}`)

test('a follower with a position of another console, which has read more, gets nothing twice, and its ids do not go back', async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const kafkaOf: { kafka?: FakeKafka } = {}
  const follows = {
    follow: async (...args: Parameters<RangeReader['follow']>) => {
      await held
      await kafkaOf.kafka?.reader().follow(...args)
    },
  } as RangeReader
  const { kafka, write, follow, ending } = setUp({ follows })
  kafkaOf.kafka = kafka
  // Opens the hub, which reads nothing yet.
  const other = await follow()
  write(5)
  const ahead = await follow([4, 0])
  write(1, 1)
  release()
  await until(() => other.places.length === 6)
  await until(() => ahead.places.length === 2)
  expect(ahead.places.sort()).toEqual(['0/4', '1/0'])
  expect(Math.min(...ahead.ids.map(([first = 0]) => first))).toBe(4)
  ending.abort()
})

test('a follower gets the live outcomes though more are committed during each of its reads', async () => {
  let reads = 0
  const wrapped: { reads?: RangeReader } = {}
  const run = setUp({
    get reads() {
      return wrapped.reads as RangeReader
    },
  })
  const reader = run.kafka.reader()
  wrapped.reads = {
    ...reader,
    read: async (...args) => {
      reads++
      if (reads < 50) run.write(1)
      await reader.read(...args)
      await Bun.sleep(0)
    },
  }
  const first = await run.follow()
  run.write(10)
  await until(() => first.places.length === 10)
  const late = await run.follow([0, 0])
  await until(() => late.places.length > 10)
  expect(reads).toBeLessThan(5)
  expect(late.places).toEqual(places(late.places.length))
  run.ending.abort()
})

test('a follower that catches up when its stream can no longer be read is told so', async () => {
  const { promise: failing, reject } = Promise.withResolvers<void>()
  const { promise: reading, resolve } = Promise.withResolvers<void>()
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
  const run = setUp({
    follows: { follow: () => failing } as unknown as RangeReader,
    reads: {
      read: () => {
        begin()
        return reading
      },
    } as unknown as RangeReader,
  })
  run.write(1)
  const got = await run.follow([0, 0])
  await begun
  reject(new Error('gone'))
  await until(() => got.ends.length > 0)
  resolve()
  expect(got.ends).toEqual(['unreadable'])
  expect(run.hubs.followers).toBe(0)
})

test('a client that reads is not cut off, however many outcomes come at once', async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>()
  const kafkaOf: { kafka?: FakeKafka } = {}
  const { kafka, write, follow, cut, ending } = setUp({
    follows: {
      follow: async (...args: Parameters<RangeReader['follow']>) => {
        await held
        await kafkaOf.kafka?.reader().follow(...args)
      },
    } as RangeReader,
  })
  kafkaOf.kafka = kafka
  const got = await follow()
  await until(() => got.ids.length > 0)
  write(1_000)
  release()
  await until(() => got.places.length === 1_000)
  expect(cut).toEqual([])
  expect(encodePositions({ processed: got.ids.at(-1) ?? [], dlq: [0, 0] })).toBe('rs.0_0.0')
  ending.abort()
})

test('followers are told to connect again when the stream has more partitions', async () => {
  const time = simulateTime(1)
  try {
    let partitions = 2
    const topics = async () => new Map(['', '.processed', '.dlq'].map((role) => [`kt.t.s${role}`, partitions]))
    const run = setUp({ reads: { topics } as unknown as RangeReader })
    const got = await run.follow()
    partitions = 3
    expect(await time.until(() => got.ends.length > 0, 20_000)).toBe(true)
    expect(got.ends).toEqual(['draining'])
  } finally {
    time.end()
  }
})
