import { describe, expect, test } from 'bun:test'
import { createGzip } from 'node:zlib'
import fc from 'fast-check'
import { type Problem, ProblemError } from '../shared/http/problem.ts'
import type { Quota } from '../shared/http/tenants.ts'
import { ProduceError, type RecordProducer } from '../shared/kafka/types.ts'
import { residentMemoryBytes } from '../shared/service/process-metrics.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { settled } from '../shared/testing/settled.ts'
import { until } from '../shared/testing/until.ts'
import { streamBody } from './body.ts'
import {
  answerStream,
  linesOf,
  MAX_LINES_WITHOUT_EVENT,
  type StreamConfig,
  type StreamDeps,
  type Summary,
} from './ndjson.ts'
import type { Destination } from './publish.ts'
import { Meter, Quotas } from './quota.ts'
import { Turns } from './turns.ts'

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  let from = 0
  for (const cut of [...cuts, bytes.length].toSorted((a, b) => a - b)) {
    yield bytes.subarray(from, cut)
    from = cut
  }
}

async function split(text: string, cuts: readonly number[], maxBytes = 1_000): Promise<(string | null)[]> {
  const bytes = Buffer.from(text)
  const lines: (string | null)[] = []
  for await (const some of linesOf(
    chunksOf(
      bytes,
      cuts.map((cut) => cut % (bytes.length + 1)),
    ),
    maxBytes,
  )) {
    expect(some.length).toBeGreaterThan(0)
    for (const line of some) lines.push(line.kind === 'line' ? line.bytes.toString() : null)
  }
  return lines
}

describe('the lines of a stream', () => {
  test('are the same wherever the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme' }).map((line) => `{${line.replaceAll('\n', '')}`)),
        fc.boolean(),
        fc.array(fc.nat()),
        async (lines, ends, cuts) => {
          const text = lines.join('\n') + (ends && lines.length > 0 ? '\n' : '')
          expect(await split(text, cuts)).toEqual(lines)
        },
      ),
    )
  })

  test('are never longer than the bound, and those that are do not take their neighbours with them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(30), { minLength: 1 }), fc.array(fc.nat()), async (lengths, cuts) => {
        const text = lengths.map((length) => `{${'x'.repeat(length)}`).join('\n')
        const expected = lengths.map((length) => (length + 1 > 20 ? null : `{${'x'.repeat(length)}`))
        expect(await split(text, cuts, 20)).toEqual(expected)
      }),
    )
  })

  test('of white space only are left out, and counted', async () => {
    const text = '\r\n  \t\n{}\r\n\n  {"a":1}\n \n\n\t[]'
    const bytes = Buffer.from(text)
    for (let pieceBytes = 1; pieceBytes <= bytes.length; pieceBytes++) {
      const cuts = Array.from({ length: Math.floor(bytes.length / pieceBytes) }, (_, i) => (i + 1) * pieceBytes)
      const lines = []
      for await (const some of linesOf(chunksOf(bytes, cuts), 1_000)) lines.push(...some)
      expect(lines.map((line) => line.kind === 'line' && [line.number, line.bytes.toString(), line.readBytes])).toEqual(
        [
          [3, '{}\r', 10],
          [5, '  {"a":1}', 11],
          [8, '\t[]', 6],
        ],
      )
    }
  })

  test('without an end take no memory, and are not followed for ever; a long one is', async () => {
    const chunk = Buffer.alloc(64 * 1024, 0x78)
    let read = 0
    async function* endless(chunks = Number.POSITIVE_INFINITY) {
      for (read = 0; read < chunks; read++) yield chunk
    }
    const before = residentMemoryBytes() ?? 0
    const lines: unknown[] = []
    const readAll = async (chunks?: number) => {
      for await (const some of linesOf(endless(chunks), 1_000_000)) lines.push(...some)
    }
    await readAll(200)
    expect(lines).toEqual([{ kind: 'too long', number: 1, readBytes: 200 * chunk.length }])
    expect(await settled(readAll())).toThrow('bytes in a row hold no event')
    expect(read).toBeLessThan(16_000_000 / chunk.length + 2)
    // Includes garbage of other tests.
    expect((residentMemoryBytes() ?? 0) - before).toBeLessThan(256 * 1024 * 1024)
  })

  test('that are empty cost little, and are not followed for ever', async () => {
    const chunk = Buffer.alloc(1_000_000, '\n')
    let read = 0
    async function* endless() {
      for (; ; read++) yield chunk
    }
    const began = process.cpuUsage()
    const readAll = async () => {
      for await (const _ of linesOf(endless(), 1_500_000));
    }
    expect(await settled(readAll())).toThrow('bytes in a row hold no event')
    expect(read).toBe(24)
    // At an earlier 150 ns a line this took 3.6 s.
    expect(process.cpuUsage(began).user / 1_000).toBeLessThan(1_000)
  })

  test('of a bomb are read no faster than they are taken', async () => {
    const gzip = createGzip()
    const packed: Buffer[] = []
    gzip.on('data', (piece: Buffer) => packed.push(piece))
    for (let i = 0; i < 1_000; i++) gzip.write(Buffer.alloc(1024 * 1024))
    const ended = new Promise((resolve) => gzip.on('end', resolve))
    gzip.end()
    await ended
    const bomb = Buffer.concat(packed)
    let pulled = 0
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(bomb.subarray(pulled, pulled + 1_024))
          pulled += 1_024
        },
      },
      { highWaterMark: 0 },
    )
    let taken = 0
    for await (const piece of streamBody(body, 'gzip', () => undefined)) {
      taken += piece.length
      if (taken < 10 * 1024 * 1024) continue
      // Time enough to decode more, if anything still did.
      for (let turn = 0; turn < 1_000; turn++) await new Promise((resolve) => setImmediate(resolve))
      break
    }
    // A byte decompresses to a thousand: this is the input of 10 MB, plus the decoder's own buffers.
    expect(pulled).toBeLessThan(200 * 1_024)
  })
})

const TOPIC = 'kt.default.events'

interface Answer {
  line?: number
  receipt?: { id: string }
  problem?: { type: string; status: number; detail: string; outcome?: string; errors?: unknown[] }
  summary?: Summary
}

type Limits = StreamConfig & Pick<Destination, 'maxEventBytes'> & { windowBytes: number }

const quotasWith = (quota: Quota, nowMs: () => number): Quotas =>
  new Quotas([new Meter('tenant', 'default', quota, { nowMs, replicas: () => 1 })])

/** An NDJSON stream and its answer. */
function stream(
  source: AsyncIterable<Uint8Array> | string,
  options: {
    limits?: Partial<Limits>
    quotas?: Quotas
    kafka?: FakeKafka
    producer?: Partial<RecordProducer>
    turns?: Turns
    whileAllowed?: StreamDeps['whileAllowed']
  } = {},
) {
  const kafka = (options.kafka ?? new FakeKafka()).createTopic(TOPIC)
  const { maxEventBytes = 900_000, windowBytes = 2_000_000, ...config } = options.limits ?? {}
  const stop = new AbortController()
  const failures: unknown[] = []
  let ended: Summary | undefined
  let untold: Parameters<StreamDeps['ended']>[1] | undefined
  async function* text() {
    yield Buffer.from(source as string)
  }
  const answers = answerStream({
    body: typeof source === 'string' ? text() : source,
    to: {
      producer: { ...kafka.producer({ maxRecords: 10_000, maxBytes: 10_000_000 }), ...options.producer },
      quotas: options.quotas,
      maxEventBytes,
      schemas: undefined,
    },
    turns: options.turns ?? new Turns(() => true),
    origin: { tenant: 'default', stream: 'events', topic: TOPIC, receivedAtMs: 0, trace: undefined },
    defaults: { source: '/s', id: () => '1', time: () => '2026-01-31T23:59:59Z' },
    config: {
      NDJSON_MAX_LINE_BYTES: 1_000_000,
      MAX_NESTING_DEPTH: 64,
      NDJSON_WINDOW_EVENTS: 512,
      NDJSON_PROGRESS_TIMEOUT_MS: 5_000,
      ...config,
    },
    windowBytes: () => windowBytes,
    nowMs: () => 0,
    ending: stop.signal,
    whileAllowed: options.whileAllowed ?? (() => () => undefined),
    count: () => undefined,
    failed: (error) => void failures.push(error),
    ended: (summary, unanswered) => {
      ended = summary
      untold = unanswered
    },
  })
  /** Reads the answer to its end. */
  async function read(): Promise<Answer[]> {
    const pieces: Uint8Array[] = []
    for await (const piece of answers) pieces.push(piece)
    const lines = Buffer.concat(pieces).toString().trim().split('\n')
    return lines.map((line) => JSON.parse(line) as Answer)
  }
  return { answers, read, kafka, failures, ended: () => ended, untold: () => untold }
}

/** A sender who may send until it is refused. */
function refusable() {
  let end: (problem: Problem) => void = () => undefined
  let looks = 0
  const whileAllowed: StreamDeps['whileAllowed'] = (ended) => {
    looks++
    end = ended
    return () => void looks--
  }
  return { whileAllowed, refuse: (problem: Problem) => end(problem), looks: () => looks }
}

describe('a stream of events', () => {
  test('that is not what its encoding says ends with the reason and a summary', async () => {
    async function* broken() {
      yield Buffer.from('{"type":"t"}\n')
      throw new ProblemError({ kind: 'malformed', detail: 'The body is not valid zstd: it ends within a frame.' })
    }
    const answers = await stream(broken()).read()
    expect(answers.slice(1)).toMatchObject([
      { problem: { status: 400, detail: 'The body is not valid zstd: it ends within a frame.' } },
      { summary: { stored: 1, complete: false } },
    ])
  })

  test('that is kept open by empty lines only ends in time, with a summary', async () => {
    async function* heartbeats() {
      yield Buffer.from('{"type":"t"}\n')
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 10))
        yield Buffer.from('\n')
      }
    }
    const answers = await stream(heartbeats(), { limits: { NDJSON_PROGRESS_TIMEOUT_MS: 100 } }).read()
    expect(answers.slice(1)).toMatchObject([
      { problem: { status: 408, detail: expect.stringContaining('empty ones do not count') } },
      { summary: { stored: 1, complete: false } },
    ])
  })

  test('whose answers are not read for a while is read no further, and its client can still read to the summary', async () => {
    let isGivenUp = false
    async function* lines() {
      try {
        for (;;) yield Buffer.from('{"type":"t"}\n'.repeat(100))
      } finally {
        isGivenUp = true
      }
    }
    const { read, ended } = stream(lines(), { limits: { NDJSON_WINDOW_EVENTS: 10, NDJSON_PROGRESS_TIMEOUT_MS: 200 } })
    await until(() => isGivenUp)
    expect(ended()).toBeUndefined()
    const rest = await read()
    expect(rest.slice(-2)).toMatchObject([
      { problem: { status: 408, detail: expect.stringContaining('Too little of the answers was read') } },
      { summary: { complete: false } },
    ])
    expect(ended()?.stored).toBe(ended()?.events)
    expect(ended()?.stored).toBeLessThan(30)
  })

  test('whose client is gone ends when it is known what became of it, and names what the client was not told', async () => {
    const kafka = new FakeKafka()
    const { promise: acknowledged, resolve: acknowledge } = Promise.withResolvers<void>()
    kafka.hold = acknowledged
    kafka.produceFaults.push(failed('timed out', 'unknown'))
    async function* endless() {
      yield Buffer.from('{"type":"t","id":"a"}\n{"type":"t","id":"b"}\n{"type":""}\n')
      await new Promise(() => undefined)
    }
    const { answers, ended, untold } = stream(endless(), { kafka })
    await until(() => kafka.produceFaults.length === 0)
    await answers.cancel()
    expect(ended()).toBeUndefined()
    acknowledge()
    await until(() => ended() !== undefined)
    expect(ended()).toMatchObject({ events: 3, stored: 1, unknown: 1, refused: 1, complete: false })
    expect(untold()).toEqual({ stored: ['b'], unknown: ['a'] })
  })

  test.each<[string, Partial<RecordProducer>]>([
    ['before it is handed over', { partitionCount: () => fail() }],
    ['when it is handed over', { produce: async () => fail() }],
  ])(
    'with a line that makes the service fail %s goes on behind it, and the failure is told to the log only',
    async (_, producer) => {
      const { read, failures } = stream('{"type":"t"}\n{"type":""}\n', { producer })
      expect(await read()).toMatchObject([
        { line: 1, problem: { status: 500, outcome: 'unknown' } },
        { line: 2, problem: { status: 422 } },
        { summary: { unknown: 1, refused: 1, complete: true } },
      ])
      expect(failures).toEqual([new Error('secret')])
    },
  )

  test('of nothing that is an event is not read to its end', async () => {
    let read = 0
    async function* lines() {
      for (; ; read++) yield Buffer.from('x\n'.repeat(100))
    }
    const answers = await stream(lines()).read()
    expect(answers).toHaveLength(MAX_LINES_WITHOUT_EVENT + 2)
    expect(answers.slice(-2)).toMatchObject([
      { problem: { status: 400, detail: expect.stringContaining('1000 lines in a row are refused') } },
      { summary: { refused: MAX_LINES_WITHOUT_EVENT, complete: false } },
    ])
    expect(read).toBeLessThan(12)
  })

  test('with an event now and then is read to its end, however many lines are refused', async () => {
    const text = `${'x\n'.repeat(MAX_LINES_WITHOUT_EVENT - 1)}{"type":"t"}\n`.repeat(3)
    const answers = await stream(text).read()
    expect(answers.at(-1)).toMatchObject({
      summary: { stored: 3, refused: 3 * (MAX_LINES_WITHOUT_EVENT - 1), complete: true },
    })
  })

  test('names its first 100 faults, and of the rest the number', async () => {
    const wrong = `{"type":"t",${Array.from({ length: 60 }, (_, i) => `"Bad${i}":1`)}}\n`
    const answers = await stream(`${wrong.repeat(3)}{"type":"t"}\n`).read()
    expect(answers.map(({ problem }) => [problem?.errors?.length, problem?.detail])).toEqual([
      [60, '60 faults. The line was not stored.'],
      [40, '60 faults, of which the first 40 are named. The line was not stored.'],
      [0, '60 faults, not named any more. The line was not stored.'],
      [undefined, undefined],
      [undefined, undefined],
    ])
  })

  test.each<[string, string, Partial<Limits>, ((kafka: FakeKafka) => void) | null]>([
    ['no JSON', 'x', {}, null],
    ['a byte order mark', '\ufeff{"type":"t"}', {}, null],
    ['an invalid event', '{"type":""}', {}, null],
    ['no object', '[]', {}, null],
    ['too deep', '{"type":"t","data":[[[]]]}', { MAX_NESTING_DEPTH: 2 }, null],
    ['too many members', `{"type":"t",${Array.from({ length: 1_000 }, (_, i) => `"a${i}":1`)}}`, {}, null],
    ['too long', `{"type":"t","data":"${'x'.repeat(200)}"}`, { NDJSON_MAX_LINE_BYTES: 100 }, null],
    ['too large an event', '{"type":"t","data":"0123456789"}', { maxEventBytes: 50 }, null],
    ['too large for Kafka', '{"type":"t"}', {}, (kafka) => kafka.produceFaults.push(failed('too large', 'not stored'))],
    ['not stored', '{"type":"t"}', {}, (kafka) => kafka.produceFaults.push(failed('queue full', 'not stored'))],
    ['unknown', '{"type":"t"}', {}, (kafka) => kafka.produceFaults.push(failed('timed out', 'unknown'))],
    [
      'Kafka away',
      '{"type":"t"}',
      {},
      (kafka) => Object.assign(kafka, { connection: { state: 'connecting', reason: 'no broker' } }),
    ],
  ])('speaks of the line in the problem of a line: %s', async (_, line, limits, arrange) => {
    const kafka = new FakeKafka()
    arrange?.(kafka)
    const [answer] = await stream(`${line}\n`, { limits, kafka }).read()
    const detail = answer?.problem?.detail ?? ''
    expect(detail).not.toMatch(/request|body|batch|events? 0/i)
    expect(detail.split(/[^A-Za-z]/)).toContain('line')
  })

  test('waits for its turn, and hands over what is ready before', async () => {
    const turns = new Turns(() => true)
    const { promise, resolve } = Promise.withResolvers<void>()
    const asked: string[] = []
    turns.next = (tenant) => (asked.push(tenant) === 3 ? promise : undefined)
    const { read, kafka } = stream('{"type":"t"}\n'.repeat(5), { turns })
    const answers = read()
    await until(() => kafka.all(TOPIC).length === 2)
    expect(asked).toEqual(Array(3).fill('default'))
    resolve()
    expect((await answers).at(-1)).toMatchObject({ summary: { stored: 5, complete: true } })
  })

  test('costs quota by what was read, whether it is refused or stored', async () => {
    const quota = { events: { perSecond: 1_000, burst: 1_000 }, bytes: { perSecond: 1, burst: 1_000 } }
    const quotas = quotasWith(quota, () => 0)
    const text = `${'\n'.repeat(90)}x\n${' '.repeat(50)}\n{"type":"t"}\n`
    await stream(text, { quotas }).read()
    expect(quotas.headers()['ratelimit']).toContain(`"events";r=998`)
    expect(quotas.headers()['ratelimit']).toContain(`"bytes";r=${1_000 - text.length}`)
  })

  test('whose sender may not send any more ends with the reason: what was let in is answered, and nothing else is stored', async () => {
    const { whileAllowed, refuse, looks } = refusable()
    async function* lines() {
      yield Buffer.from('{"type":"t"}\n{"type":"t"}\n')
      await until(() => kafka.all(TOPIC).length === 2)
      refuse({ kind: 'unauthenticated', detail: 'The key ci is not accepted any more.' })
      yield Buffer.from('{"type":"late"}\n')
    }
    const { read, kafka, ended } = stream(lines(), { whileAllowed })
    const answers = await read()
    expect(answers.map((one) => one.receipt !== undefined)).toEqual([true, true, false, false])
    expect(answers.slice(2)).toMatchObject([
      { problem: { status: 401, detail: 'The key ci is not accepted any more.' } },
      { summary: { events: 2, stored: 2, complete: false } },
    ])
    expect(kafka.all(TOPIC)).toHaveLength(2)
    expect([ended()?.stored, looks()]).toEqual([2, 0])
  })

  test('whose sender may not send any more ends also while it waits for lines, for quota, or for its answers to be read', async () => {
    const problem: Problem = { kind: 'forbidden', detail: 'The tenant is switched off.' }
    async function* silent() {
      await new Promise<void>(() => undefined)
      yield Buffer.alloc(0)
    }
    const silence = refusable()
    const unsent = stream(silent(), silence).read()
    silence.refuse(problem)
    expect(await unsent).toMatchObject([{ problem: { status: 403 } }, { summary: { events: 0, complete: false } }])

    const quotas = quotasWith({ events: { perSecond: 0.001, burst: 1 } }, () => 0)
    const slow = refusable()
    const slowed = stream('{"type":"t"}\n'.repeat(3), {
      quotas,
      limits: { NDJSON_PROGRESS_TIMEOUT_MS: 60_000 },
      ...slow,
    })
    const answers = slowed.read()
    await until(() => slowed.kafka.all(TOPIC).length === 1)
    slow.refuse(problem)
    expect(await answers).toMatchObject([
      { line: 1, receipt: {} },
      { line: 2, problem: { outcome: 'not stored' } },
      { problem: { status: 403 } },
      { summary: { events: 2, stored: 1, notStored: 1, complete: false } },
    ])
    const unread = refusable()
    const full = stream('{"type":"t"}\n'.repeat(3), { limits: { NDJSON_WINDOW_EVENTS: 1 }, ...unread })
    await until(() => full.kafka.all(TOPIC).length === 1)
    unread.refuse(problem)
    expect(await full.read()).toMatchObject([
      { line: 1, receipt: {} },
      { problem: { status: 403 } },
      { summary: { events: 1, stored: 1, complete: false } },
    ])
  })

  test('of refused lines is slowed down by the quota', async () => {
    let nowMs = 0
    const quotas = quotasWith({ events: { perSecond: 100, burst: 10 } }, () => nowMs)
    const { answers } = stream('x\n'.repeat(50), { quotas })
    let text = ''
    const reading = (async () => {
      for await (const piece of answers) text += Buffer.from(piece).toString()
    })()
    const answered = () => text.split('"line"').length - 1
    await until(() => answered() === 10)
    // Time enough for lines to be answered, if they did not need quota.
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(answered()).toBe(10)
    nowMs += 100
    await until(() => answered() === 20)
    nowMs += 1_000
    await until(() => answered() === 30)
    nowMs += 1_000
    await until(() => answered() === 40)
    nowMs += 1_000
    await reading
    expect(answered()).toBe(50)
  })
})

const fail = (): never => {
  throw new Error('secret')
}
const failed = (fault: ProduceError['fault'], outcome: ProduceError['outcome']) =>
  new ProduceError(fault, outcome, 'why')
