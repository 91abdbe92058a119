import { afterEach, describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import pino from 'pino'
import { headersOf } from '../../shared/events/headers.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import type { Problem } from '../../shared/http/problem.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { turn } from '../../shared/service/retry.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { problemOf } from '../../shared/testing/problem.ts'
import { eachLine } from '../../shared/testing/service-process.ts'
import { type SimulatedTime, simulateTime } from '../../shared/testing/simulated-time.ts'
import { until } from '../../shared/testing/until.ts'
import { asking, consoleOn, type Given, outgoing } from '../testing/console.ts'
import {
  decodePositions,
  encodePositions,
  type FollowDeps,
  followOutcomes,
  Hubs,
  nextOutcome,
  type Outcome,
  type Positions,
} from './follow.ts'
import { Readers } from './readers.ts'
import { UNSHARED } from './shares.ts'
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

function hubsOn(
  partitions = 2,
  limits: Partial<Pick<FollowDeps, 'maxFollowers' | 'followerMaxBytes' | 'sharing'>> = {},
) {
  const kafka = new FakeKafka()
  const { stream, readers } = consoleOn(kafka, { partitions })
  const stopping = new AbortController()
  const cut: string[] = []
  const closed: string[] = []
  const hubs = new Hubs({
    readers,
    openReader: ({ input }) => ({ ...kafka.reader(), close: async () => void closed.push(input) }),
    maxFollowers: 10,
    sharing: UNSHARED,
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
  const follow = async (
    since?: string,
    matches: (one: Outcome) => boolean = () => true,
    whileAllowed?: Parameters<typeof followOutcomes>[5],
  ) => {
    const gone = new AbortController()
    ending.push(() => gone.abort())
    const body = await followOutcomes(
      hubs,
      stream,
      since === undefined ? undefined : decodePositions(since),
      matches,
      asking(gone.signal),
      whileAllowed,
    )
    const lines: string[] = []
    void eachLine(body, (line) => lines.push(line))
    const values = (field: string) =>
      lines.flatMap((line) => (line.startsWith(`${field}: `) ? [line.slice(field.length + 2)] : []))
    return {
      lines,
      ids: () => values('data').map((one) => (JSON.parse(one) as Outcome).id),
      positions: () => values('id'),
      lastId: () => values('id').at(-1) ?? '',
      leave: () => gone.abort(),
    }
  }
  return { kafka, stream, readers, hubs, append, follow, cut, closed }
}

test('who may not read any more is told so, and gets nothing else', async () => {
  const { hubs, append, follow, cut } = hubsOn()
  let refuse: (problem: Problem) => void = () => undefined
  let looks = 0
  const { lines, ids } = await follow(undefined, undefined, (ended) => {
    looks++
    refuse = ended
    return () => void looks--
  })
  append('one')
  await until(() => ids().length === 1)
  refuse({ kind: 'unauthenticated', detail: 'The key is not accepted any more.' })
  append('two')
  await until(() => lines.includes('event: end'))
  expect(JSON.parse(lines.at(-1)?.slice('data: '.length) ?? '')).toEqual({
    reason: 'refused',
    detail: 'The key is not accepted any more.',
    advice: 'Connect again with a key that may.',
  })
  expect(lines.join()).not.toContain('two')
  expect([cut, looks, hubs.followers]).toEqual([['refused'], 0, 0])
})

async function inSimulatedTime(run: (time: SimulatedTime) => Promise<void>): Promise<void> {
  const time = simulateTime(1)
  try {
    await run(time)
  } finally {
    time.end()
  }
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

  test('that catches up has the position after each outcome as its id', async () => {
    const { append, follow } = hubsOn()
    for (const id of ['a', 'b', 'c', 'd']) append(id)
    const one = await follow('0.0_0.0')
    await until(() => one.ids().length === 4)
    expect(one.positions()).toEqual(['0.0_0.0', '1.0_0.0', '2.0_0.0', '3.0_0.0', '4.0_0.0'])
  })

  test('of a position from before partitions were added gets all of the new ones', async () => {
    const { append, follow } = hubsOn(2)
    append('a')
    const one = await follow('1_0')
    append('b', { partition: 1 })
    append('c', { partition: 1, topic: DLQ })
    await until(() => one.ids().length === 2)
    expect(one.positions()).toEqual(['1.0_0.0', '1.1_0.0', '1.1_0.1'])
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
    await until(() => second.ids().length >= 6)
    await turn()
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
          await turn()
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
      expect(await problemOf(() => follow(since))).toMatchObject({
        kind: 'unknown-position',
        extensions: { resume: '5.0_0.0' },
      })
    }
    const detail = async (since: string) => (await problemOf(() => follow(since))).detail
    expect(await detail('9.0_0.0')).toBe(`Last-Event-ID is no position of this stream: ${PROCESSED}/0 ends at 5.`)
    expect(await detail('4.0_0.1')).toBe(`Last-Event-ID is no position of this stream: ${DLQ}/1 ends at 0.`)
    expect(await detail('1.0_0.0')).toStartWith(`Outcomes from 1 to 2 of ${PROCESSED}/0 were deleted meanwhile`)
    expect(await detail('4.0.0_0.0.0')).toBe('Last-Event-ID is no position of this stream, which has 2 partitions.')
    expect(hubs.followers).toBe(0)
    const one = await follow('3.0_0.0')
    await until(() => one.ids().length === 2)
    expect(one.ids()).toEqual(['a3', 'a4'])
  })

  test('that is one too many is refused, until another leaves', async () => {
    const { hubs, follow } = hubsOn(1, { maxFollowers: 1 })
    const one = await follow()
    expect(await problemOf(() => follow())).toMatchObject({ kind: 'overloaded', retryAfterSeconds: 10 })
    one.leave()
    expect(hubs.followers).toBe(0)
    await follow()
    expect(hubs.followers).toBe(1)
  })

  test.each([3, 0])(
    'whose client reads too slowly, from the outcome %i on, is told so and can resume without a gap',
    async (most) => {
      const { append, stream, hubs, cut, follow } = hubsOn(1, { followerMaxBytes: 2_000 })
      const body = await followOutcomes(hubs, stream, undefined, () => true, asking())
      const slow = body.getReader()
      const other = await follow()
      let read = ''
      const names = Array.from({ length: 50 }, (_, index) => `a${index}`)
      for (const [index, name] of names.entries()) {
        append(name)
        await until(() => other.ids().length === index + 1)
        if (index < most) read += new TextDecoder().decode((await slow.read()).value)
      }
      expect(cut).toEqual(['behind'])
      expect(hubs.followers).toBe(1)
      const end = new TextDecoder().decode((await slow.read()).value)
      expect(end).toContain('event: end\ndata: {"reason":"behind"')
      expect(end).not.toContain('event: outcome')
      read += end
      expect((await slow.read()).done).toBe(true)
      const rest = await follow(read.match(/(?<=^id: ).*/gm)?.at(-1))
      await until(() => rest.ids().length >= 50 - most)
      await turn()
      const had = read.match(/(?<=^data: ){"outcome".*/gm) ?? []
      expect([...had.map((one) => JSON.parse(one).id), ...rest.ids()]).toEqual(names)
    },
  )

  test('is told that the service stops, after what waits for it', async () => {
    const { append, stream, hubs, follow, cut } = hubsOn(1)
    const body = await followOutcomes(hubs, stream, undefined, () => true, asking())
    const other = await follow()
    append('a')
    await until(() => other.ids().length === 1)
    await hubs.close()
    const events = (await new Response(body).text()).match(/(?<=^event: ).*/gm)
    expect(events).toEqual(['outcome', 'end'])
    await until(() => other.lines.includes('event: end'))
    expect(other.lines.at(-1)).toContain('"reason":"draining"')
    expect(cut).toEqual(['draining', 'draining'])
  })

  test('that gets nothing is told its position every 10 to 20 s', () =>
    inSimulatedTime(async (time) => {
      const { append, follow } = hubsOn(1)
      const one = await follow(undefined, () => false)
      append('a')
      for (const least of [1, 2, 3]) {
        await time.pass(20_000)
        expect(one.lines.filter((line) => line === ': nothing new').length).toBeGreaterThanOrEqual(least)
        expect(one.lines.slice(-2)).toEqual([': nothing new', 'id: 1_0'])
      }
    }))

  test('that comes again within 30 s finds the stream still followed, and goes on', () =>
    inSimulatedTime(async (time) => {
      const { append, follow, cut, closed } = hubsOn(1)
      const first = await follow()
      await time.pass(1_000)
      first.leave()
      await time.pass(29_000)
      const second = await follow()
      await time.pass(60_000)
      append('a')
      await time.pass(0)
      expect([second.ids(), cut, closed]).toEqual([['a'], [], []])
    }))

  test('that leaves last ends the reading of its stream after 30 s, and the next one begins it anew', () =>
    inSimulatedTime(async (time) => {
      const { append, stream, hubs, follow, closed } = hubsOn(1)
      const [one, other] = [await follow(), await follow()]
      await time.pass(1_000)
      one.leave()
      await time.pass(60_000)
      expect([hubs.followers, closed]).toEqual([1, []])
      other.leave()
      await time.pass(29_000)
      expect([hubs.followers, closed]).toEqual([0, []])
      await time.pass(2_000)
      expect(closed).toEqual([stream.input])
      const next = await follow()
      append('a')
      await time.pass(0)
      expect(next.ids()).toEqual(['a'])
    }))

  test('of a 51st stream is refused until one of the others is not followed any more', () =>
    inSimulatedTime(async (time) => {
      const { kafka, stream, hubs } = hubsOn(1, { maxFollowers: 100 })
      const { signal } = new AbortController()
      const follow = (number: number, gone = signal) => {
        const input = `kt.acme.s${number}`
        for (const role of ['', '.processed', '.dlq']) kafka.createTopic(`${input}${role}`)
        return followOutcomes(hubs, { ...stream, input }, undefined, () => true, asking(gone))
      }
      const leaving = new AbortController()
      for (let number = 0; number < 50; number++) await follow(number, number === 0 ? leaving.signal : signal)
      expect(await problemOf(() => follow(50))).toMatchObject({ kind: 'overloaded', retryAfterSeconds: 30 })
      await follow(7)
      expect(hubs.followers).toBe(51)
      leaving.abort()
      await time.pass(31_000)
      await follow(50)
      expect(hubs.followers).toBe(51)
    }))

  test('of one of several tenants leaves half of what is free to the others', async () => {
    const crowded: string[] = []
    const sharing = { isShared: () => true, onCrowded: (caller: string) => void crowded.push(caller) }
    const { kafka, stream, hubs } = hubsOn(1, { maxFollowers: 100, sharing })
    const gone = new AbortController()
    ending.push(() => gone.abort())
    const follow = (name: string, caller: string) => {
      const input = `kt.acme.${name}`
      for (const role of ['', '.processed', '.dlq']) kafka.createTopic(`${input}${role}`)
      return followOutcomes(hubs, { ...stream, input }, undefined, () => true, asking(gone.signal, caller))
    }
    for (let number = 0; number < 25; number++) await follow(`s${number}`, 'acme')
    const detail = (what: string) =>
      `There is no room for another within the ${what}. One of several tenants may have as many as stay free for the others. Try again later.`
    expect(await problemOf(() => follow('s25', 'acme'))).toEqual({
      kind: 'overloaded',
      detail: detail('50 streams that are followed'),
      retryAfterSeconds: 30,
    })
    expect(hubs.followers).toBe(25)
    for (let number = 0; number < 25; number++) await follow(`s${number}`, 'acme')
    expect(await problemOf(() => follow('s0', 'acme'))).toEqual({
      kind: 'overloaded',
      detail: detail('100 requests that follow outcomes (MAX_FOLLOWERS)'),
      retryAfterSeconds: 10,
    })
    for (let number = 100; number < 112; number++) await follow(`s${number}`, 'other')
    for (let number = 200; number < 206; number++) await follow(`s${number}`, '*')
    expect([hubs.followers, crowded]).toEqual([68, ['acme', 'acme']])
  })

  test('is told that outcomes cannot be read, and the next one gets them once they can be', async () => {
    const { kafka, append, follow, cut } = hubsOn(1)
    const one = await follow()
    await until(() => one.lines.length > 0)
    kafka.deleteRecords({ topic: PROCESSED, partition: 0 }, 2)
    append('a', { topic: DLQ })
    await until(() => cut.length > 0)
    expect(cut).toEqual(['unreadable'])
    await until(() => one.lines.includes('event: end'))
    for (const id of ['b', 'c']) append(id)
    const next = await follow()
    append('d')
    await until(() => next.ids().length === 1)
    expect(next.ids()).toEqual(['d'])
  })

  test('for which Kafka does not answer is refused, and the next one is served', async () => {
    const { kafka, append, hubs, follow } = hubsOn(1)
    kafka.latency = () => Promise.reject(new Error('gone'))
    expect((await problemOf(() => follow())).kind).toBe('kafka-unavailable')
    expect(hubs.followers).toBe(0)
    kafka.latency = async () => undefined
    const next = await follow()
    append('a')
    await until(() => next.ids().length === 1)
  })
})

describe('one outcome', () => {
  test('is waited for, up to a time', async () => {
    const { append, hubs, stream } = hubsOn(1)
    const hub = await hubs.of(stream, stream.tenant)
    const { signal } = new AbortController()
    const waiting = nextOutcome(hub, ({ id }) => id === 'b', 10_000, signal)
    append('a')
    append('b')
    expect((await waiting)?.offset).toBe(1)
    expect(await nextOutcome(hub, () => true, 1, signal)).toBeUndefined()
    const gone = AbortSignal.abort()
    expect(await nextOutcome(hub, () => true, 10_000, gone)).toBeUndefined()
  })

  test('is not waited for any longer once it is there', async () => {
    const { append, hubs, stream, follow } = hubsOn(1)
    const other = await follow()
    const asked: unknown[] = []
    const matches = ({ id }: Outcome): boolean => asked.push(id) === 2
    const waiting = nextOutcome(await hubs.of(stream, stream.tenant), matches, 10_000, new AbortController().signal)
    for (const id of ['a', 'b']) append(id)
    await waiting
    for (const id of ['c', 'd']) append(id)
    await until(() => other.ids().length === 4)
    expect(asked).toEqual(['a', 'b'])
  })

  test('is not waited for where its stream is not followed any more', () =>
    inSimulatedTime(async (time) => {
      const { hubs, stream } = hubsOn(1)
      const hub = await hubs.of(stream, stream.tenant)
      await hubs.close()
      let found: unknown = 'nothing yet'
      void nextOutcome(hub, () => true, 10_000, new AbortController().signal).then((record) => {
        found = record
      })
      await time.pass(0)
      expect(found).toBeUndefined()
    }))
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
    sharing: UNSHARED,
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
    followOutcomes(hubs, STREAM, processed && { processed, dlq: [0, 0] }, () => true, asking(ending.signal)).then(read)
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
  const { promise: deliver, resolve } = Promise.withResolvers<(records: IncomingRecord[]) => void>()
  const follows = {
    follow: (_, onRecords, signal) => {
      resolve(onRecords)
      return new Promise((done) => signal.addEventListener('abort', () => done()))
    },
  } as RangeReader
  const { kafka, write, follow, ending } = setUp({ follows })
  // Opens the hub, which reads nothing yet.
  await follow()
  write(4)
  const ahead = await follow([4, 0])
  await until(() => ahead.ids.length === 1)
  const take = await deliver
  const records = (partition: number) => [...kafka.records('kt.t.s.processed', partition)]
  write(1, 1)
  take(records(1))
  await until(() => ahead.places.length === 1)
  write(1)
  take(records(0))
  await until(() => ahead.places.length === 2)
  await turn()
  expect(ahead.places).toEqual(['1/0', '0/4'])
  expect(ahead.ids).toEqual([
    [4, 0],
    [4, 1],
    [5, 1],
  ])
  ending.abort()
})

test('a client that reads nothing has no more of the log read for it', () =>
  inSimulatedTime(async (time) => {
    let reads = 0
    const reading: { reader?: RangeReader } = {}
    const run = setUp({
      reads: {
        read: async (...args) => {
          reads++
          await reading.reader?.read(...args)
        },
      } as RangeReader,
    })
    reading.reader = run.kafka.reader()
    run.write(5_000)
    const at = { processed: [0, 0], dlq: [0, 0] }
    const body = await followOutcomes(run.hubs, STREAM, at, () => true, asking(run.ending.signal))
    await time.pass(5_000)
    expect(reads).toBe(1)
    const got = read(body)
    expect(await time.until(() => got.places.length === 5_000, 60_000)).toBe(true)
    expect([reads, got.places, run.cut]).toEqual([3, places(5_000), []])
    run.ending.abort()
  }))

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

test('followers are told to connect again when the stream has more partitions', () =>
  inSimulatedTime(async (time) => {
    let partitions = 2
    const topics = async () => new Map(['', '.processed', '.dlq'].map((role) => [`kt.t.s${role}`, partitions]))
    const run = setUp({ reads: { topics } as unknown as RangeReader })
    const got = await run.follow()
    partitions = 3
    expect(await time.until(() => got.ends.length > 0, 20_000)).toBe(true)
    expect(got.ends).toEqual(['draining'])
  }))

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
    sharing: UNSHARED,
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
  await followOutcomes(some, ONE_PARTITION, undefined, () => true, asking(AbortSignal.abort()))
  expect(some.followers).toBe(0)
  await some.close()
})

test.each(['that is gone before its answer begins', 'that never listens'])(
  'a stream is not followed for ever for a client %s',
  (which) =>
    inSimulatedTime(async (time) => {
      const { hubs, stream, closed } = hubsOn(1)
      if (which.includes('gone')) await followOutcomes(hubs, stream, undefined, () => true, asking(AbortSignal.abort()))
      // As one that is refused, or gone, before it has begun to listen.
      else await hubs.of(stream, stream.tenant)
      await time.pass(29_000)
      expect(closed).toEqual([])
      await time.pass(2_000)
      expect(closed).toEqual([stream.input])
    }),
)

test('a follower that catches up while the reading of its stream ends is told so', async () => {
  const { hubs: some, read } = hubsThatRead(5)
  const stream = await followOutcomes(some, ONE_PARTITION, { processed: [0], dlq: [0] }, () => true, asking())
  await some.close()
  read()
  await until(() => some.followers === 0)
  expect(await new Response(stream).text()).toContain('event: end')
})
