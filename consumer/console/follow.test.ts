import { afterEach, describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import pino from 'pino'
import { headersOf } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { ProblemError } from '../../shared/http/problem.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { eachLine } from '../../shared/testing/service-process.ts'
import { simulateTime } from '../../shared/testing/simulated-time.ts'
import { until } from '../../shared/testing/until.ts'
import { consoleOn, type Given, outgoing } from '../testing/console.ts'
import {
  decodePositions,
  encodePositions,
  followOutcomes,
  Hubs,
  nextOutcome,
  type Outcome,
  type Positions,
} from './follow.ts'
import { Readers } from './readers.ts'
import type { Stream } from './streams.ts'

const PROCESSED = 'kt.acme.events.processed'
const DLQ = 'kt.acme.events.dlq'

describe('a position', () => {
  const offset = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
  const positions = fc
    .array(fc.tuple(offset, offset), { minLength: 1, maxLength: 5 })
    .map((all): Positions => ({ processed: all.map(([one]) => one), dlq: all.map(([, one]) => one) }))

  test('is read back as it was written, and fits into a header', () => {
    fc.assert(
      fc.property(positions, (one) => {
        expect(decodePositions(encodePositions(one))).toEqual(one)
        expect(encodePositions(one)).toMatch(/^[\w.]+$/)
      }),
    )
  })

  test('is nothing that was not written so', () => {
    for (const text of [
      '',
      '_',
      '0',
      '0_',
      '_0',
      '0.1_0',
      '0_0_0',
      'A_0',
      '-1_0',
      ' 0_0',
      '0_zzzzzzzzzzz',
      '0..0_0.0.0',
    ])
      expect(decodePositions(text)).toBeUndefined()
    fc.assert(
      fc.property(fc.string(), (text) => {
        const found = decodePositions(text)
        if (found !== undefined) expect(found.processed).toHaveLength(found.dlq.length)
      }),
    )
  })
})

const ending: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

function hubsOn(partitions = 2, limits: { maxFollowers?: number; followerMaxBytes?: number } = {}) {
  const kafka = new FakeKafka()
  const { stream, readers } = consoleOn(kafka, { partitions })
  const stopping = new AbortController()
  const cut: string[] = []
  const hubs = new Hubs({
    readers,
    openReader: () => kafka.reader(),
    maxFollowers: 10,
    followerMaxBytes: 2 ** 20,
    ...limits,
    log: pino({ level: 'silent' }),
    signal: stopping.signal,
    onSent: () => undefined,
    onCut: (reason) => void cut.push(reason),
  })
  ending.push(async () => {
    stopping.abort()
    await hubs.close()
  })
  const append = (id: string, given: Given = {}) => kafka.append(outgoing({ topic: PROCESSED, id, ...given }))
  /** A client that reads as it comes. */
  const follow = async (since?: string, matches: (one: Outcome) => boolean = () => true) => {
    const gone = new AbortController()
    ending.push(() => gone.abort())
    const body = await followOutcomes(
      hubs,
      stream,
      since === undefined ? undefined : decodePositions(since),
      matches,
      gone.signal,
    )
    const lines: string[] = []
    void eachLine(body, (line) => lines.push(line))
    const values = (field: string) =>
      lines.flatMap((line) => (line.startsWith(`${field}: `) ? [line.slice(field.length + 2)] : []))
    return {
      lines,
      ids: () => values('data').map((one) => (JSON.parse(one) as Outcome).id),
      lastId: () => values('id').at(-1) ?? '',
      leave: () => gone.abort(),
    }
  }
  return { kafka, stream, readers, hubs, append, follow, cut }
}

describe('a follower', () => {
  test('is told at once where it is, and then each outcome as it is committed', async () => {
    const { append, follow } = hubsOn()
    append('before')
    const one = await follow()
    await until(() => one.lines.length > 0)
    expect(one.lines.slice(0, 3)).toEqual(['retry: 1000', ': outcomes of acme/events', 'id: 1.0_0.0'])
    append('a')
    append('b', { topic: DLQ, partition: 1, headers: { 'kt-error': '{"reason":"handler failed","message":"no"}' } })
    await until(() => one.ids().length === 2)
    expect(one.lines).toContain('event: outcome')
    expect(one.lastId()).toBe('2.0_0.1')
    expect(JSON.parse(one.lines.findLast((line) => line.startsWith('data: '))?.slice(6) ?? '')).toMatchObject({
      outcome: 'dead',
      id: 'b',
      partition: 1,
      offset: 0,
      error: { reason: 'handler failed', message: 'no' },
    })
  })

  test('that resumes gets each outcome after its last one, once', async () => {
    const { append, follow } = hubsOn()
    const first = await follow()
    for (let index = 0; index < 5; index++) append(`a${index}`, { partition: index % 2 })
    await until(() => first.ids().length === 5)
    first.leave()
    const last = first.lastId()
    for (let index = 0; index < 5; index++)
      append(`b${index}`, { partition: index % 2, topic: index === 2 ? DLQ : PROCESSED })
    const second = await follow(last)
    append('c')
    await until(() => second.ids().length === 6)
    expect(second.ids().toSorted()).toEqual(['b0', 'b1', 'b2', 'b3', 'b4', 'c'])
  })

  test('gets each once, wherever it begins and whatever is committed while it catches up', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(3), { maxLength: 30 }),
        fc.nat(30),
        fc.array(fc.nat(3), { maxLength: 10 }),
        async (before, cutAt, meanwhile) => {
          const { append, follow } = hubsOn()
          const where = (one: number): Given => ({ topic: one < 2 ? PROCESSED : DLQ, partition: one % 2 })
          const at: Positions = { processed: [0, 0], dlq: [0, 0] }
          const expected: string[] = []
          for (const [index, one] of before.entries()) {
            const { offset, partition } = append(`a${index}`, where(one))
            if (index < cutAt) at[one < 2 ? 'processed' : 'dlq'][partition] = offset + 1
            else expected.push(`a${index}`)
          }
          const one = await follow(encodePositions(at))
          for (const [index, late] of meanwhile.entries()) {
            append(`b${index}`, where(late))
            expected.push(`b${index}`)
            await Promise.resolve()
          }
          await until(() => one.ids().length >= expected.length)
          expect(one.ids().map(String).toSorted()).toEqual(expected.toSorted())
          one.leave()
        },
      ),
      { numRuns: 60 },
    )
  })

  test('gets only what it asked for', async () => {
    const { append, follow } = hubsOn()
    const one = await follow(undefined, ({ id }) => id === 'b')
    for (const id of ['a', 'b', 'c']) append(id)
    const all = await follow('0.0_0.0')
    await until(() => all.ids().length === 3)
    await until(() => one.ids().length === 1)
    expect(one.ids()).toEqual(['b'])
  })

  test('of a position that is none of the stream is refused with that of now', async () => {
    const { kafka, append, hubs, follow } = hubsOn()
    for (let index = 0; index < 5; index++) append(`a${index}`)
    kafka.deleteRecords({ topic: PROCESSED, partition: 0 }, 3)
    for (const since of ['9.0_0.0', '1.0_0.0', '4.0.0_0.0.0', '4.0_0.1']) {
      const error = await follow(since).catch((thrown: unknown) => thrown)
      expect((error as ProblemError).problem).toMatchObject({
        kind: 'unknown-position',
        extensions: { resume: '5.0_0.0' },
      })
    }
    expect(hubs.followers).toBe(0)
    expect((await follow('3.0_0.0')).lines).toBeDefined()
  })

  test('that is one too many is refused, until another leaves', async () => {
    const { hubs, follow } = hubsOn(1, { maxFollowers: 1 })
    const one = await follow()
    const error = await follow().catch((thrown: unknown) => thrown)
    expect((error as ProblemError).problem).toMatchObject({ kind: 'overloaded', retryAfterSeconds: 10 })
    one.leave()
    expect(hubs.followers).toBe(0)
    await follow()
  })

  test('whose client reads too slowly is told so and can resume without a gap', async () => {
    const { append, stream, hubs, cut, follow } = hubsOn(1, { followerMaxBytes: 2_000 })
    const gone = new AbortController()
    const body = await followOutcomes(hubs, stream, undefined, () => true, gone.signal)
    const other = await follow()
    for (let index = 0; index < 50; index++) {
      append(`a${index}`)
      await until(() => other.ids().length === index + 1)
    }
    expect(cut).toEqual(['behind'])
    const text = await new Response(body).text()
    expect(text).toContain('event: end\ndata: {"reason":"behind"')
    // It has read nothing, so that it begins anew.
    expect(text).not.toContain('event: outcome')
    expect(hubs.followers).toBe(1)
  })

  test('is told that the service stops, after what waits for it', async () => {
    const { append, hubs, follow, cut } = hubsOn(1)
    const one = await follow()
    append('a')
    await until(() => one.ids().length === 1)
    await hubs.close()
    await until(() => one.lines.includes('event: end'))
    expect(one.lines.at(-1)).toContain('"reason":"draining"')
    expect(cut).toEqual(['draining'])
  })

  test('is told that outcomes cannot be read', async () => {
    const { kafka, append, follow, cut } = hubsOn(1)
    const one = await follow()
    await until(() => one.lines.length > 0)
    kafka.deleteRecords({ topic: PROCESSED, partition: 0 }, 5)
    append('a', { topic: DLQ })
    await until(() => cut.length > 0)
    expect(cut).toEqual(['unreadable'])
    await until(() => one.lines.includes('event: end'))
  })
})

describe('one outcome', () => {
  test('is waited for, up to a time', async () => {
    const { append, hubs, stream } = hubsOn(1)
    const hub = await hubs.of(stream)
    const { signal } = new AbortController()
    const waiting = nextOutcome(hub, ({ id }) => id === 'b', 10_000, signal)
    append('a')
    append('b')
    expect((await waiting)?.offset).toBe(1)
    expect(await nextOutcome(hub, () => true, 1, signal)).toBeUndefined()
    const gone = AbortSignal.abort()
    expect(await nextOutcome(hub, () => true, 10_000, gone)).toBeUndefined()
  })
})

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

const ONE_PARTITION = { tenant: 't', name: 's', input: 'kt.t.s', partitions: 1, redact: [] }

function hubsThatRead(to = 0) {
  const reader = {
    follow: (_from: unknown, _take: (records: IncomingRecord[]) => void, signal: AbortSignal) =>
      new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    close: async () => undefined,
  } as unknown as RangeReader
  const reading = Promise.withResolvers<void>()
  const readers = {
    partitions: async () => 1,
    bounds: async (places: unknown[]) => places.map(() => ({ from: 0, to })),
    use: () => reading.promise,
  } as unknown as Readers
  const made = new Hubs({
    readers,
    openReader: () => reader,
    maxFollowers: 10,
    followerMaxBytes: 65_536,
    log: createLogger('console', { LOG_LEVEL: 'silent', LOG_FORMAT: 'json' }),
    signal: new AbortController().signal,
    onSent: () => undefined,
    onCut: () => undefined,
  })
  return { hubs: made, read: () => reading.resolve() }
}

test('a client that is gone before its answer begins is no follower', async () => {
  const { hubs: some } = hubsThatRead()
  await followOutcomes(some, ONE_PARTITION, undefined, () => true, AbortSignal.abort())
  expect(some.followers).toBe(0)
  await some.close()
})

test('a follower that catches up while the reading of its stream ends is told so', async () => {
  const { hubs: some, read } = hubsThatRead(5)
  const stream = await followOutcomes(
    some,
    ONE_PARTITION,
    { processed: [0], dlq: [0] },
    () => true,
    new AbortController().signal,
  )
  await some.close()
  read()
  await until(() => some.followers === 0)
  expect(await new Response(stream).text()).toContain('event: end')
})
