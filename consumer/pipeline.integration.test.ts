import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import {
  GENERATION,
  type HeaderValue,
  headersOf,
  headerText,
  NO_HEADERS,
  REDRIVEN_FROM,
  type RecordHeaders,
  withHeaders,
} from '../shared/events/headers.ts'
import { type OutgoingRecord, toRecord } from '../shared/events/record.ts'
import { streamTopics } from '../shared/events/topics.ts'
import type { GroupListener, TopicPartition, TransactionResult } from '../shared/kafka/types.ts'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { simulateTime } from '../shared/testing/simulated-time.ts'
import { until } from '../shared/testing/until.ts'
import type { Attempt } from './failed-attempts.ts'
import { defineHandler, type Handler, TerminalError } from './handlers/handler.ts'
import type { createMetrics } from './metrics.ts'
import type { Pipeline } from './pipeline.ts'
import { type PipelineOverrides, startPipeline } from './testing/pipeline.ts'

const INPUT = 'kt.acme.events'
const AT = { topic: INPUT, partition: 0 }

const event = (id: string, subject?: string, type = 'plain', data: unknown = { id }): OutgoingRecord =>
  toRecord(
    {
      id,
      source: '/test',
      type,
      ...(subject === undefined ? {} : { subject }),
      datacontenttype: 'application/json',
      extensions: {},
      data: Buffer.from(JSON.stringify(data)),
    },
    { topic: INPUT, partition: 0, tenant: 'acme', receivedAtMs: Date.now() },
  )

const TOO_LARGE: Exclude<TransactionResult, { kind: 'committed' }> = {
  kind: 'aborted',
  reason: 'too large',
  failed: new Map([[0, { reason: 'too large', tooLarge: true }]]),
  passing: false,
}

const running: Pipeline[] = []

afterEach(async () => {
  for (const pipeline of running.splice(0)) await pipeline.stop()
})

function start(
  kafka: FakeKafka,
  handlers: Handler[] = [],
  overrides: PipelineOverrides = {},
  places?: readonly TopicPartition[],
) {
  const started = startPipeline(kafka, handlers, overrides, places)
  running.push(started.pipeline)
  return started
}

const idsOf = (kafka: FakeKafka, role: 'processed' | 'dlq' | 'retry') =>
  kafka.all(`${INPUT}.${role}`).map((record) => headerText(record.headers, 'ce_id'))

const waiting = (type: string, wait: () => Promise<void>): Handler =>
  defineHandler({
    type,
    version: '1',
    schema: Type.Unknown(),
    async handle() {
      await wait()
      return { data: {} }
    },
  })

const failing = (times: number, calls: string[] = []): Handler =>
  defineHandler({
    type: 'fails',
    version: '1',
    schema: Type.Object({ id: Type.String() }),
    handle: async ({ id }, { attempt }) => {
      calls.push(id)
      if (attempt <= times) throw new Error(`attempt ${attempt}`)
      return { data: { id, attempt } }
    },
  })

test('an event without a handler passes through, data byte for byte, with its context', async () => {
  const kafka = new FakeKafka()
  start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 1)
  const [record] = kafka.all(`${INPUT}.processed`)
  expect(record?.value?.toString()).toBe('{"id":"1"}')
  expect(record?.key?.toString()).toBe('a')
  expect(JSON.parse(headerText(record?.headers ?? NO_HEADERS, 'kt-context') ?? '')).toMatchObject({
    tenant: 'acme',
    stream: 'events',
  })
  expect(kafka.committedOffset(INPUT)).toBe(1)
})

const errorOf = (headers: RecordHeaders) => JSON.parse(headerText(headers, 'kt-error') ?? '')

describe('an event without a handler', () => {
  test('is a dead letter with UNHANDLED=dead-letter, after no attempt', async () => {
    const kafka = new FakeKafka()
    const { metrics } = start(kafka, [failing(0)], { config: { UNHANDLED: 'dead-letter' } })
    kafka.append(event('1', 'a'))
    kafka.append(event('2', 'a', 'fails'))
    await until(() => kafka.committedOffset(INPUT) === 2)
    expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed')]).toEqual([['1'], ['2']])
    const { headers = NO_HEADERS } = kafka.all(`${INPUT}.dlq`)[0] ?? {}
    expect(errorOf(headers)).toMatchObject({ reason: 'no handler' })
    expect(headerText(headers, 'kt-attempt')).toBe('0')
    expect((await metrics.deadLetters.get()).values.find(({ labels }) => labels.reason === 'no handler')?.value).toBe(1)
  })

  test('is held in .retry with UNHANDLED=hold for as long as no consumer has one, and its key behind it', async () => {
    const time = simulateTime(1)
    const kafka = new FakeKafka()
    const config = { UNHANDLED: 'hold', MAX_ATTEMPTS: 2, RETRY_FIRST_MS: 100, RETRY_MAX_MS: 1_000 } as const
    try {
      const first = start(kafka, [failing(0)], { config })
      kafka.append(event('1', 'a'))
      kafka.append(event('2', 'a', 'fails'))
      kafka.append(event('3', 'b', 'fails'))
      // Many more than the attempts of a failing event.
      await time.pass(60_000)
      expect([idsOf(kafka, 'retry'), idsOf(kafka, 'processed')]).toEqual([['1', '2'], ['3']])
      const [held] = kafka.all(`${INPUT}.retry`)
      expect(errorOf(held?.headers ?? NO_HEADERS)).toMatchObject({ reason: 'no handler' })
      expect(kafka.committedOffset(`${INPUT}.retry`)).toBe(0)
      expect(first.pipeline.levels().waiting).toBe(2)
      const slow = (await first.metrics.retries.get()).values.find(({ labels }) => labels.kind === 'slow')
      expect(slow?.value).toBe(0)
      await stopIn(time, first.pipeline)
      const attempts: number[] = []
      const added = defineHandler({
        type: 'plain',
        version: '1',
        schema: Type.Unknown(),
        handle: (_, { attempt }) => {
          attempts.push(attempt)
          return { data: {} }
        },
      })
      const second = start(kafka, [failing(0), added], { config })
      expect(await time.until(() => kafka.committedOffset(`${INPUT}.retry`) === 2, 5_000)).toBe(true)
      expect([idsOf(kafka, 'processed'), idsOf(kafka, 'dlq'), attempts]).toEqual([['3', '1', '2'], [], [1]])
      await stopIn(time, second.pipeline)
    } finally {
      time.end()
    }
  })

  test('pauses the input with UNHANDLED=hold once the retry backlog is full', async () => {
    const time = simulateTime(1)
    const kafka = new FakeKafka()
    try {
      const { pipeline } = start(kafka, [], { config: { UNHANDLED: 'hold', MAX_RETRY_BACKLOG_RECORDS: 3 } })
      for (let id = 1; id <= 4; id++) kafka.append(event(String(id), `k${id}`))
      expect(await time.until(() => idsOf(kafka, 'retry').length === 4, 5_000)).toBe(true)
      kafka.append(event('5', 'k5'))
      await time.pass(10_000)
      expect(kafka.committedOffset(INPUT)).toBe(4)
      await stopIn(time, pipeline)
    } finally {
      time.end()
    }
  })
})

test('the outcome and the offset go into one transaction', async () => {
  const kafka = new FakeKafka()
  start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.transactions.length === 1)
  const [transaction] = kafka.transactions
  expect(transaction?.outputs.map((one) => one.topic)).toEqual([`${INPUT}.processed`])
  // Those of `.retry` are included so that they do not expire.
  expect(transaction?.offsets).toEqual([
    { topic: INPUT, partition: 0, offset: 1, metadata: 'kt1:' },
    { topic: `${INPUT}.retry`, partition: 0, offset: 0, metadata: 'kt1:' },
  ])
})

test('a result has the attributes of its event, but not the schema of other data', async () => {
  const kafka = new FakeKafka()
  const made = (type: string) => {
    const record = event(type, 'a', type)
    const { names, values } = record.headers
    const more = { ce_dataschema: 'https://example.com/order', ce_time: '2026-01-31T23:59:59Z', ce_ext: 'x' }
    return {
      ...record,
      headers: { names: [...names, ...Object.keys(more)], values: [...values, ...Object.values(more)] },
    }
  }
  start(kafka, [
    defineHandler({ type: 'handled', version: '1', schema: Type.Unknown(), handle: () => ({ type: 'made', data: 1 }) }),
  ])
  kafka.append(made('handled'))
  kafka.append(made('plain'))
  await until(() => kafka.committedOffset(INPUT) === 2)
  const attributes = ['ce_id', 'ce_source', 'ce_type', 'ce_subject', 'ce_time', 'ce_ext', 'ce_dataschema']
  expect(
    kafka.all(`${INPUT}.processed`).map(({ headers }) => attributes.map((name) => headerText(headers, name))),
  ).toEqual([
    ['handled', '/test', 'made', 'a', '2026-01-31T23:59:59Z', 'x', undefined],
    ['plain', '/test', 'plain', 'a', '2026-01-31T23:59:59Z', 'x', 'https://example.com/order'],
  ])
})

test('an event that comes twice takes effect once', async () => {
  const kafka = new FakeKafka()
  const { metrics } = start(kafka)
  for (const id of ['1', '1', '2', '1']) kafka.append(event(id, 'a'))
  await until(() => kafka.committedOffset(INPUT) === 4)
  expect(idsOf(kafka, 'processed')).toEqual(['1', '2'])
  expect((await metrics.outcomes.get()).values.find((one) => one.labels.outcome === 'duplicate')?.value).toBe(2)
})

test('an event that comes again after a restart takes effect once', async () => {
  const kafka = new FakeKafka()
  const first = start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  await first.pipeline.stop()
  kafka.append(event('1', 'a'))
  kafka.append(event('2', 'a'))
  start(kafka)
  await until(() => kafka.committedOffset(INPUT) === 3)
  expect(idsOf(kafka, 'processed')).toEqual(['1', '2'])
})

/** A record as a redrive writes it. */
const redriven = (record: OutgoingRecord, generation: HeaderValue): OutgoingRecord => ({
  ...record,
  headers: withHeaders(record.headers, { [GENERATION]: generation, [REDRIVEN_FROM]: `${INPUT}.dlq/0/0` }),
})

describe('a dead letter that is redriven', () => {
  /** Fails until it is mended. */
  function breakable(): { handlers: Handler[]; mend(): void } {
    let isBroken = true
    const handle = (): { data: unknown } => {
      if (isBroken) throw new TerminalError('broken')
      return { data: 'mended' }
    }
    return {
      handlers: [defineHandler({ type: 'breaks', version: '1', schema: Type.Unknown(), handle })],
      mend: () => {
        isBroken = false
      },
    }
  }

  const outcomesOf = (kafka: FakeKafka) =>
    (['dlq', 'processed'] as const).map((role) =>
      kafka
        .all(`${INPUT}.${role}`)
        .map(({ headers }) => `${headerText(headers, 'ce_id')} ${headerText(headers, GENERATION) ?? '-'}`),
    )

  test('takes effect once, and neither a repeat of it nor of the event that was sent does', async () => {
    const kafka = new FakeKafka()
    const { handlers, mend } = breakable()
    const sent = event('1', 'a', 'breaks')
    const { metrics } = start(kafka, handlers)
    kafka.append(sent)
    await until(() => kafka.committedOffset(INPUT) === 1)
    mend()
    for (const record of [redriven(sent, '1'), redriven(sent, '1'), sent]) kafka.append(record)
    await until(() => kafka.committedOffset(INPUT) === 4)
    expect(outcomesOf(kafka)).toEqual([['1 -'], ['1 1']])
    expect((await metrics.outcomes.get()).values.find((one) => one.labels.outcome === 'duplicate')?.value).toBe(2)
    expect((await metrics.deadDuplicates.get()).values[0]?.value).toBe(1)
  })

  test('is a dead letter of its generation when it fails again, with the headers of its redrive', async () => {
    const kafka = new FakeKafka()
    const { handlers, mend } = breakable()
    const sent = event('1', 'a', 'breaks')
    start(kafka, handlers)
    kafka.append(sent)
    kafka.append(redriven(sent, '1'))
    await until(() => kafka.committedOffset(INPUT) === 2)
    mend()
    kafka.append(redriven(sent, '2'))
    await until(() => kafka.committedOffset(INPUT) === 3)
    expect(outcomesOf(kafka)).toEqual([['1 -', '1 1'], ['1 2']])
    const [, again] = kafka.all(`${INPUT}.dlq`)
    expect(headerText(again?.headers ?? NO_HEADERS, REDRIVEN_FROM)).toBe(`${INPUT}.dlq/0/0`)
    expect(headerText(again?.headers ?? NO_HEADERS, 'kt-origin')).toBe(`${INPUT}/0/1`)
  })

  test('is known after a restart, while it waits in .retry and when it is done', async () => {
    const kafka = new FakeKafka()
    const slow = { config: { RETRY_FIRST_MS: 600_000, RETRY_MAX_MS: 1_200_000 } }
    const sent = event('1', 'a', 'fails')
    const first = start(kafka, [failing(99)], slow)
    kafka.append({ ...sent, topic: `${INPUT}.dlq` })
    kafka.append(redriven(sent, '1'))
    await until(() => kafka.committedOffset(INPUT) === 1)
    await first.pipeline.stop()
    const waiting = kafka.all(`${INPUT}.retry`)
    expect(waiting.map(({ headers }) => headerText(headers, GENERATION))).toEqual(['1'])
    const second = start(kafka, [failing(0)])
    await until(() => idsOf(kafka, 'processed').length === 1)
    await second.pipeline.stop()
    const { metrics } = start(kafka, [failing(0)])
    for (const record of [redriven(sent, '1'), sent, redriven(sent, '2')]) kafka.append(record)
    await until(() => kafka.committedOffset(INPUT) === 4)
    expect(outcomesOf(kafka)).toEqual([['1 -'], ['1 1', '1 2']])
    expect((await metrics.repaired.get()).values[0]?.value).toBe(0)
  })

  test('whose new dead letter is too large keeps its generation, so that it is known again after a restart', async () => {
    const kafka = new FakeKafka()
    // The result, its dead letter, and that without a value.
    kafka.transactionFaults.push(TOO_LARGE, TOO_LARGE, TOO_LARGE)
    const sent = { ...event('1', 'a'), key: 'k'.repeat(2_000) }
    const first = start(kafka)
    kafka.append(redriven(sent, '1'))
    await until(() => kafka.committedOffset(INPUT) === 1)
    const [dead] = kafka.all(`${INPUT}.dlq`)
    expect([dead?.key, dead?.value]).toEqual([null, null])
    expect(outcomesOf(kafka)).toEqual([['1 1'], []])
    await first.pipeline.stop()
    const { metrics } = start(kafka)
    kafka.append(redriven(sent, '1'))
    kafka.append(sent)
    await until(() => kafka.committedOffset(INPUT) === 3)
    expect((await metrics.repaired.get()).values[0]?.value).toBe(0)
    expect(outcomesOf(kafka)).toEqual([['1 1'], ['1 -']])
  })
})

test('a generation that is written otherwise than redrives write it counts as none', async () => {
  const kafka = new FakeKafka()
  const { metrics } = start(kafka)
  kafka.append(event('1', 'a'))
  const odd = ['0', '01', '-1', '1e9', '2147483648', '9'.repeat(40), '', null, Buffer.from([0x31, 0xff])]
  for (const generation of odd) kafka.append(redriven(event('1', 'a'), generation))
  await until(() => kafka.committedOffset(INPUT) === 1 + odd.length)
  expect(idsOf(kafka, 'processed')).toEqual(['1'])
  expect((await metrics.outcomes.get()).values.find((one) => one.labels.outcome === 'duplicate')?.value).toBe(
    odd.length,
  )
})

test('a record that is no event is put aside byte for byte and does not stop its partition', async () => {
  const kafka = new FakeKafka()
  start(kafka)
  kafka.append({
    topic: INPUT,
    partition: 0,
    key: 'k',
    value: Buffer.from([0xff, 0x00, 0x80]),
    headers: headersOf({ own: 'header' }),
  })
  kafka.append(event('1', 'k'))
  await until(() => idsOf(kafka, 'processed').length === 1)
  const [dead] = kafka.all(`${INPUT}.dlq`)
  expect(dead?.value).toEqual(Buffer.from([0xff, 0x00, 0x80]))
  expect(headerText(dead?.headers ?? NO_HEADERS, 'own')).toBe('header')
  expect(JSON.parse(headerText(dead?.headers ?? NO_HEADERS, 'kt-error') ?? '')).toMatchObject({ reason: 'undecodable' })
  expect(headerText(dead?.headers ?? NO_HEADERS, 'kt-origin')).toBe(`${INPUT}/0/0`)
})

test('a terminal error makes a dead letter at the first attempt', async () => {
  const kafka = new FakeKafka()
  start(kafka, [
    defineHandler({
      type: 'fails',
      version: '1',
      schema: Type.Unknown(),
      handle: () => {
        throw new TerminalError('never')
      },
    }),
  ])
  kafka.append(event('1', 'a', 'fails'))
  await until(() => idsOf(kafka, 'dlq').length === 1)
  const [dead] = kafka.all(`${INPUT}.dlq`)
  expect(headerText(dead?.headers ?? NO_HEADERS, 'kt-attempt')).toBe('1')
  expect(dead?.value?.toString()).toBe('{"id":"1"}')
  expect(idsOf(kafka, 'retry')).toEqual([])
})

describe('what is told of failed attempts', () => {
  const told = (kafka: FakeKafka, role: 'processed' | 'dlq' | 'retry') =>
    kafka.all(`${INPUT}.${role}`).map(({ headers }) => {
      const text = headerText(headers, 'kt-attempts')
      return text === undefined ? undefined : (JSON.parse(text) as Attempt[])
    })
  const numbers = (attempts: Attempt[] | undefined) => attempts?.map(({ attempt }) => attempt)

  test('is in the result of an event that succeeded at last, and not in that of one that succeeded at once', async () => {
    const kafka = new FakeKafka()
    const begunMs = Date.now()
    // Of two attempts in a row, the second succeeds, without a detour.
    start(kafka, [failing(1)])
    kafka.append(event('1', 'a', 'fails'))
    kafka.append(event('2', 'b'))
    await until(() => kafka.committedOffset(INPUT) === 2)
    const results = new Map(idsOf(kafka, 'processed').map((id, index) => [id, told(kafka, 'processed')[index]]))
    expect(results.get('2')).toBeUndefined()
    expect(results.get('1')).toEqual([
      { attempt: 1, atMs: expect.any(Number), reason: 'handler failed', message: 'attempt 1' },
    ])
    expect(results.get('1')?.[0]?.atMs).toBeGreaterThanOrEqual(begunMs)
    expect(results.get('1')?.[0]?.atMs).toBeLessThanOrEqual(Date.now())
    const [result] = kafka.all(`${INPUT}.processed`).filter(({ headers }) => headerText(headers, 'ce_id') === '1')
    expect(result?.value?.toString()).toBe('{"id":"1","attempt":2}')
    expect(headerText(result?.headers ?? NO_HEADERS, 'kt-context')).toContain('"handler":"fails@1"')
  })

  test('goes along through .retry, to the result', async () => {
    const kafka = new FakeKafka()
    start(kafka, [failing(3)])
    kafka.append(event('1', 'a', 'fails'))
    await until(() => idsOf(kafka, 'processed').length === 1)
    expect(told(kafka, 'retry').map(numbers)).toEqual([[1, 2]])
    expect(told(kafka, 'processed').map(numbers)).toEqual([[1, 2, 3]])
  })

  test('goes along through .retry and a restart, to the dead letter: the last ten', async () => {
    const kafka = new FakeKafka()
    const first = start(kafka, [failing(99)], { config: { RETRY_FIRST_MS: 600_000, RETRY_MAX_MS: 1_200_000 } })
    kafka.append(event('1', 'a', 'fails'))
    await until(() => idsOf(kafka, 'retry').length === 1)
    await first.pipeline.stop()
    start(kafka, [failing(99)], { config: { MAX_ATTEMPTS: 11, RETRY_FIRST_MS: 1, RETRY_MAX_MS: 2 } })
    await until(() => idsOf(kafka, 'dlq').length === 1)
    expect(told(kafka, 'dlq').map(numbers)).toEqual([[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
    expect(headerText(kafka.all(`${INPUT}.dlq`)[0]?.headers ?? NO_HEADERS, 'kt-attempt')).toBe('11')
  })

  test('is not what another client says, and nothing for an event that was not tried', async () => {
    const kafka = new FakeKafka()
    start(kafka, [failing(1)], { config: { UNHANDLED: 'dead-letter' } })
    const forged = JSON.stringify([{ attempt: 1, atMs: 1, reason: 'handler failed', message: 'forged' }])
    for (const record of [event('1', 'a', 'fails'), event('2', 'b')])
      kafka.append({ ...record, headers: withHeaders(record.headers, { 'kt-attempts': forged }) })
    await until(() => kafka.committedOffset(INPUT) === 2)
    expect(told(kafka, 'processed')).toMatchObject([[{ attempt: 1, message: 'attempt 1' }]])
    expect(told(kafka, 'dlq')).toEqual([undefined])
  })

  test('is short and without credentials', async () => {
    const kafka = new FakeKafka()
    const thrown = `refused: token=abc, ${'x'.repeat(10_000)}`
    start(kafka, [
      defineHandler({
        type: 'fails',
        version: '1',
        schema: Type.Unknown(),
        handle: () => {
          throw new TerminalError(thrown)
        },
      }),
    ])
    kafka.append(event('1', 'a', 'fails'))
    await until(() => idsOf(kafka, 'dlq').length === 1)
    const message = told(kafka, 'dlq')[0]?.[0]?.message
    expect(message).toStartWith('refused: token=(redacted), xxx')
    expect(message).toHaveLength(200)
  })

  test('is there too when the result is too large', async () => {
    const kafka = new FakeKafka()
    kafka.transactionFaults.push(TOO_LARGE)
    start(kafka, [failing(1)])
    kafka.append(event('1', 'a', 'fails'))
    await until(() => kafka.committedOffset(INPUT) === 1)
    expect(told(kafka, 'dlq').map(numbers)).toEqual([[1]])
  })
})

test('data that is not what the handler takes makes a dead letter that says where', async () => {
  const kafka = new FakeKafka()
  start(kafka, [failing(0)])
  kafka.append(event('1', 'a', 'fails', { id: 7 }))
  await until(() => idsOf(kafka, 'dlq').length === 1)
  expect(headerText(kafka.all(`${INPUT}.dlq`)[0]?.headers ?? NO_HEADERS, 'kt-error')).toContain('/id')
})

test('an error that passes soon is over before the event leaves its place', async () => {
  const kafka = new FakeKafka()
  start(kafka, [failing(1)])
  kafka.append(event('1', 'a', 'fails'))
  await until(() => idsOf(kafka, 'processed').length === 1)
  expect(idsOf(kafka, 'retry')).toEqual([])
})

test('an event that waits for its retry holds back its own key only, and its key keeps its order', async () => {
  const kafka = new FakeKafka()
  start(kafka, [failing(3)])
  kafka.append(event('a1', 'a', 'fails'))
  kafka.append(event('a2', 'a'))
  kafka.append(event('b1', 'b'))
  kafka.append(event('a3', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 4)
  expect(idsOf(kafka, 'processed')).toEqual(['b1', 'a1', 'a2', 'a3'])
  expect(idsOf(kafka, 'retry')).toEqual(['a1', 'a2', 'a3'])
  expect(kafka.committedOffset(INPUT)).toBe(4)
  await until(() => kafka.committedOffset(`${INPUT}.retry`) === 3)
})

test('a handler that always fails ends in a dead letter after all attempts, and then lets its key pass', async () => {
  const kafka = new FakeKafka()
  const calls: string[] = []
  const { pipeline } = start(kafka, [failing(99, calls)])
  kafka.append(event('1', 'a', 'fails'))
  kafka.append(event('2', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 1)
  expect(idsOf(kafka, 'dlq')).toEqual(['1'])
  expect(calls).toHaveLength(4)
  expect(JSON.parse(headerText(kafka.all(`${INPUT}.dlq`)[0]?.headers ?? NO_HEADERS, 'kt-error') ?? '')).toMatchObject({
    reason: 'out of attempts',
  })
  kafka.append(event('3', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 2)
  expect(idsOf(kafka, 'retry')).toEqual(['1', '2'])
  expect(pipeline.levels().waiting).toBe(0)
})

test('a restart in the middle of a retry finishes it once, in order', async () => {
  const kafka = new FakeKafka()
  const first = start(kafka, [failing(99)], { config: { RETRY_FIRST_MS: 500, RETRY_MAX_MS: 1_000 } })
  kafka.append(event('a1', 'a', 'fails'))
  kafka.append(event('a2', 'a'))
  await until(() => idsOf(kafka, 'retry').length === 2)
  await first.pipeline.stop()
  start(kafka, [failing(3)])
  kafka.append(event('a3', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 3)
  expect(idsOf(kafka, 'processed')).toEqual(['a1', 'a2', 'a3'])
})

test('a retry waits no longer than retries do, whatever the clock of its former owner said', async () => {
  const kafka = new FakeKafka()
  const first = start(kafka, [failing(99)], { config: { RETRY_FIRST_MS: 600_000, RETRY_MAX_MS: 1_200_000 } })
  kafka.append(event('a1', 'a', 'fails'))
  await until(() => idsOf(kafka, 'retry').length === 1)
  await first.pipeline.stop()
  start(kafka, [failing(3)])
  await until(() => idsOf(kafka, 'processed').length === 1)
})

test('records that finish out of turn are not done again after a restart', async () => {
  const kafka = new FakeKafka()
  let release = (): void => undefined
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const calls: string[] = []
  const slow = defineHandler({
    type: 'slow',
    version: '1',
    schema: Type.Unknown(),
    handle: async (_, { event: { id }, signal }) => {
      calls.push(id)
      if (id === '1')
        await Promise.race([
          gate,
          new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
        ])
      return { data: {} }
    },
  })
  const first = start(kafka, [slow])
  kafka.append(event('1', 'a', 'slow'))
  for (const id of ['2', '3', '4']) kafka.append(event(id, `k${id}`, 'slow'))
  await until(() => idsOf(kafka, 'processed').length === 3)
  expect(kafka.committedOffset(INPUT)).toBe(0)
  await first.pipeline.stop()
  release()
  start(kafka, [slow])
  await until(() => kafka.committedOffset(INPUT) === 4)
  expect(calls).toEqual(['1', '2', '3', '4', '1'])
  expect(idsOf(kafka, 'processed').toSorted()).toEqual(['1', '2', '3', '4'])
})

test('an aborted transaction is sent again, whole', async () => {
  const kafka = new FakeKafka()
  kafka.transactionFaults.push({ kind: 'aborted', reason: 'a test', failed: new Map(), passing: true })
  const { metrics } = start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  expect(idsOf(kafka, 'processed')).toEqual(['1'])
  // An aborted transaction is not counted in the durations.
  const text = await metrics.registry.metrics()
  expect(text).toContain('kafkatrace_consumer_transactions_total{result="aborted"} 1')
  expect(text).toContain('kafkatrace_consumer_transaction_seconds_count 1')
})

test('a partition of which many records are refused at once is tried again as soon as one of which one is', async () => {
  const kafka = new FakeKafka()
  const fault = { reason: 'not allowed', tooLarge: false }
  const failed = new Map(Array.from({ length: 8 }, (_, index) => [index, fault]))
  kafka.transactionFaults.push({ kind: 'aborted', reason: 'a test', failed, passing: false })
  start(kafka)
  for (let id = 1; id <= 8; id++) kafka.append(event(String(id), `k${id}`))
  // The first pause takes a second at most, the eighth half a minute.
  await until(() => kafka.committedOffset(INPUT) === 8, { timeoutMs: 10_000 })
})

test('a result that Kafka will never take makes its event a dead letter', async () => {
  const kafka = new FakeKafka()
  kafka.transactionFaults.push(TOO_LARGE)
  start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  expect(idsOf(kafka, 'processed')).toEqual([])
  expect(JSON.parse(headerText(kafka.all(`${INPUT}.dlq`)[0]?.headers ?? NO_HEADERS, 'kt-error') ?? '')).toMatchObject({
    reason: 'result too large',
  })
})

test('results that are too large only together are written apart, and one that is too large by itself is a dead letter', async () => {
  const kafka = new FakeKafka()
  start(kafka)
  kafka.batchLimits.set(`${INPUT}.processed`, 100)
  const ids = Array.from({ length: 40 }, (_, index) => String(index))
  for (const id of ids) kafka.append(event(id, `k${id}`, 'plain', id === '17' ? 'x'.repeat(200) : { id }))
  await until(() => kafka.committedOffset(INPUT) === ids.length)
  expect(idsOf(kafka, 'dlq')).toEqual(['17'])
  expect(idsOf(kafka, 'processed').toSorted()).toEqual(ids.filter((id) => id !== '17').toSorted())
})

test('a stream whose results are all too large, one after the other, holds up no other stream', async () => {
  const other = 'kt.acme.others'
  const kafka = new FakeKafka()
  for (const topic of streamTopics('acme', 'others')) kafka.createTopic(topic)
  start(kafka, [], {}, [AT, { topic: other, partition: 0 }])
  kafka.batchLimits.set(`${INPUT}.processed`, 5)
  const EVENTS = 40
  let tries = 0
  // Each transaction adds one, which would be refused in the next.
  kafka.onStep = async ({ name }) => {
    if (name === 'outputs' && ++tries < EVENTS) kafka.append(event(String(tries), `k${tries}`))
    return undefined
  }
  kafka.append(event('0', 'k0'))
  for (let id = 0; id < 20; id++) kafka.append({ ...event(`o${id}`, `k${id}`), topic: other })
  await until(() => kafka.committedOffset(other) === 20)
  expect(tries).toBeLessThan(EVENTS / 2)
  await until(() => kafka.committedOffset(INPUT) === EVENTS)
  expect(idsOf(kafka, 'dlq')).toHaveLength(EVENTS)
})

test('a structured event whose dead letter is too large keeps its attributes, so that it is known again after a restart', async () => {
  const kafka = new FakeKafka()
  kafka.transactionFaults.push(TOO_LARGE, TOO_LARGE)
  const structured = {
    topic: INPUT,
    partition: 0,
    key: 'a',
    value: Buffer.from(JSON.stringify({ specversion: '1.0', id: 's', source: '/test', type: 'plain' })),
    headers: headersOf({ 'content-type': 'application/cloudevents+json' }),
  }
  const first = start(kafka)
  kafka.append(structured)
  await until(() => kafka.committedOffset(INPUT) === 1)
  expect(idsOf(kafka, 'dlq')).toEqual(['s'])
  expect(kafka.all(`${INPUT}.dlq`)[0]?.value).toBeNull()
  await first.pipeline.stop()
  kafka.append(structured)
  const { metrics } = start(kafka)
  await until(() => kafka.committedOffset(INPUT) === 2)
  expect((await metrics.repaired.get()).values[0]?.value).toBe(0)
  expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed')]).toEqual([['s'], []])
})

test('a result with a type that no event may have makes its event a dead letter at once', async () => {
  const kafka = new FakeKafka()
  start(kafka, [
    defineHandler({ type: 'odd', version: '1', schema: Type.Unknown(), handle: () => ({ type: '', data: {} }) }),
  ])
  kafka.append(event('1', 'a', 'odd'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed'), idsOf(kafka, 'retry')]).toEqual([['1'], [], []])
})

test('an event that is too large to wait in .retry is a dead letter, and its key passes', async () => {
  const kafka = new FakeKafka()
  kafka.transactionFaults.push(TOO_LARGE)
  const { pipeline } = start(kafka, [failing(99)])
  kafka.append(event('1', 'a', 'fails'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  expect(idsOf(kafka, 'dlq')).toEqual(['1'])
  expect(kafka.all(`${INPUT}.dlq`)[0]?.value).toBeNull()
  kafka.append(event('2', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 1)
  expect(idsOf(kafka, 'retry')).toEqual([])
  expect(pipeline.levels().waiting).toBe(0)
})

test('a client that cannot go on ends the run with the reason', async () => {
  const kafka = new FakeKafka()
  kafka.transactionFaults.push({ kind: 'fatal', reason: 'fenced' })
  const { ended } = start(kafka)
  kafka.append(event('1', 'a'))
  expect(await ended).toBe('fenced')
  expect(kafka.committedOffset(INPUT)).toBe(-1)
})

test('nothing of a lost partition is committed', async () => {
  const kafka = new FakeKafka()
  let release = (): void => undefined
  kafka.hold = new Promise<void>((resolve) => {
    release = resolve
  })
  kafka.transactionFaults.push({ kind: 'aborted', reason: 'a test', failed: new Map(), passing: true })
  const { group } = start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.transactions.length === 0 && running[0]?.levels().heldBytes !== 0)
  await group.revoke([AT], true)
  release()
  await until(() => running[0]?.levels().heldBytes === 0)
  expect(kafka.transactions).toEqual([])
})

test('a tenant whose events are all dead letters does not fill the log', async () => {
  const kafka = new FakeKafka()
  const lines: string[] = []
  start(kafka, [], { log: pino({ level: 'warn' }, { write: (line) => void lines.push(line) }) })
  for (let id = 0; id < 400; id++) kafka.append({ ...event(String(id)), headers: NO_HEADERS })
  await until(() => kafka.all(`${INPUT}.dlq`).length === 400)
  expect(lines.filter((line) => line.includes('dead letter')).length).toBeWithin(100, 400)
})

/** The lines of a log at debug level. */
function linesOf(): { log: Logger; lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = []
  return { log: pino({ level: 'debug', base: null }, { write: (line) => void lines.push(JSON.parse(line)) }), lines }
}

const counted = async ({ outcomes, deadDuplicates }: ReturnType<typeof createMetrics>) => ({
  duplicates: (await outcomes.get()).values.find(({ labels }) => labels.outcome === 'duplicate')?.value,
  ofDead: (await deadDuplicates.get()).values[0]?.value,
})

test('a dead letter that is sent again is dropped, counted apart, and told of with where it is, also after a restart', async () => {
  const kafka = new FakeKafka()
  const play = async (): Promise<void> => {
    const { log, lines } = linesOf()
    const { pipeline, metrics } = start(kafka, [failing(0)], { log })
    // Data that the handler refuses.
    kafka.append(event('dead', 'a', 'fails', 7))
    kafka.append(event('fine', 'a', 'fails'))
    const before = kafka.committedOffset(INPUT) ?? 0
    kafka.append(event('dead', 'a', 'fails', { id: 'dead' }))
    kafka.append(event('fine', 'a', 'fails'))
    await until(() => (kafka.committedOffset(INPUT) ?? 0) >= before + 4)
    await until(async () => (await counted(metrics)).duplicates === (before > 0 ? 4 : 2))
    expect((await counted(metrics)).ofDead).toBe(before > 0 ? 2 : 1)
    expect([...metrics.duplicates]).toEqual([[INPUT, before > 0 ? 4 : 2]])
    const told = lines.filter(({ msg }) => msg === 'dropped as a duplicate: its event is a dead letter')
    expect(told).toHaveLength(before > 0 ? 2 : 1)
    expect(told[0]).toMatchObject({
      level: 30,
      eventId: 'dead',
      source: '/test',
      topic: INPUT,
      deadLetterTopic: `${INPUT}.dlq`,
      deadLetterPartition: 0,
    })
    expect(lines.filter(({ msg }) => msg === 'dropped as a duplicate')).toHaveLength(before > 0 ? 2 : 1)
    await pipeline.stop()
  }
  await play()
  await play()
  expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed')]).toEqual([['dead'], ['fine']])
})

test('a result that the broker refuses for its size is a dead letter to those who send its event again', async () => {
  const kafka = new FakeKafka()
  kafka.batchLimits.set(`${INPUT}.processed`, 100)
  const { metrics } = start(kafka)
  kafka.append(event('1', 'a', 'plain', 'x'.repeat(200)))
  await until(() => idsOf(kafka, 'dlq').length === 1)
  kafka.append(event('1', 'a', 'plain', 'x'.repeat(200)))
  await until(async () => (await counted(metrics)).duplicates === 1)
  expect((await counted(metrics)).ofDead).toBe(1)
})

test('at debug level the log has a line for every event that is processed: its ids, where it stood, no payload', async () => {
  const kafka = new FakeKafka()
  const { log, lines } = linesOf()
  start(kafka, [], { log })
  kafka.append(event('1', 'a secret key', 'plain', 'a secret'))
  await until(() => lines.some(({ msg }) => msg === 'processed'))
  expect(lines.find(({ msg }) => msg === 'processed')).toMatchObject({
    level: 20,
    topic: INPUT,
    partition: 0,
    offset: 0,
    eventId: '1',
    source: '/test',
    type: 'plain',
  })
  expect(JSON.stringify(lines)).not.toContain('secret')
})

test('a full retry backlog pauses the input, and both go on when it empties', async () => {
  const kafka = new FakeKafka()
  const { metrics } = start(kafka, [failing(2)], { config: { MAX_RETRY_BACKLOG_RECORDS: 3 } })
  for (let id = 1; id <= 20; id++) kafka.append(event(String(id), `k${id}`, 'fails'))
  await until(() => idsOf(kafka, 'processed').length === 20)
  expect(
    (await metrics.pauses.get()).values.find((one) => one.labels.reason === 'retry-backlog')?.value,
  ).toBeGreaterThan(0)
})

test('what a handler makes of little takes room until it is committed, in transactions of some size', async () => {
  const kafka = new FakeKafka()
  const RESULT_BYTES = 50_000
  const EVENTS = 120
  const { promise, resolve } = Promise.withResolvers<void>()
  kafka.hold = promise
  const { pipeline } = start(
    kafka,
    [
      defineHandler({
        type: 'grows',
        version: '1',
        schema: Type.Unknown(),
        handle: () => ({ data: 'x'.repeat(RESULT_BYTES) }),
      }),
    ],
    {
      config: { MAX_OPEN_RECORDS: 10, MAX_TRANSACTION_RECORDS: 500 },
      bounds: { maxTransactionBytes: 6 * RESULT_BYTES },
    },
  )
  for (let id = 1; id <= EVENTS; id++) kafka.append(event(String(id), `k${id}`, 'grows'))
  kafka.append(event('large', 'large', 'plain', 'x'.repeat(7 * RESULT_BYTES)))
  await until(() => pipeline.levels().heldBytes > EVENTS * RESULT_BYTES)
  resolve()
  await until(() => kafka.committedOffset(INPUT) === EVENTS + 1)
  expect(pipeline.levels()).toMatchObject({ open: 0, decided: 0, heldBytes: 0 })
  const sizes = kafka.transactions.map(({ outputs }) =>
    outputs.reduce((sum, { value }) => sum + (value?.length ?? 0), 0),
  )
  expect(Math.max(...sizes)).toBeLessThan(8 * RESULT_BYTES)
  expect(sizes.filter((bytes) => bytes > 6 * RESULT_BYTES)).toHaveLength(1)
})

test('a partition with many open records is waited for, and paused only when that lasts', async () => {
  const time = simulateTime(1)
  const kafka = new FakeKafka()
  const release = Promise.withResolvers<void>()
  try {
    const { pipeline, metrics } = start(
      kafka,
      [waiting('quick', () => sleep(1)), waiting('stuck', () => release.promise)],
      { config: { MAX_OPEN_RECORDS: 3 } },
    )
    const pauses = async () => (await metrics.pauses.get()).values.find((one) => one.labels.reason === 'open')?.value
    for (let id = 1; id <= 40; id++) kafka.append(event(String(id), `k${id}`, 'quick'))
    expect(await time.until(() => idsOf(kafka, 'processed').length === 40, 10_000)).toBe(true)
    expect(await pauses()).toBe(0)
    for (let id = 41; id <= 44; id++) kafka.append(event(String(id), `k${id}`, 'stuck'))
    await time.pass(1_000)
    expect(await pauses()).toBe(1)
    kafka.append(event('45', 'k45'))
    release.resolve()
    expect(await time.until(() => idsOf(kafka, 'processed').length === 45, 10_000)).toBe(true)
    await stopIn(time, pipeline)
  } finally {
    time.end()
  }
})

describe('a tenant keeps no other out, though', () => {
  const HOSTILE = { topic: 'kt.hostile.events', partition: 0 }
  const slow = (type: string, handle: () => Promise<{ data: unknown }>): Handler =>
    defineHandler({ type, version: '1', schema: Type.Unknown(), handle })
  const handlers = [
    slow('stuck', () => new Promise(() => undefined)),
    slow('plain', async () => ({ data: {} })),
    slow('broken', () => Promise.reject(new Error('no'))),
    failing(2),
  ]

  test.each([
    ['its handlers do not end', 'stuck', 'x', 'plain', 1_000],
    ['what it sent fills the memory', 'stuck', 'x'.repeat(30_000), 'plain', 1_000],
    // A second and last retry would come after three times as long.
    ['what waits for its retry fills the memory', 'broken', 'x'.repeat(30_000), 'fails', 12_000],
  ])('%s', async (_, type, data, otherType, withinMs) => {
    const time = simulateTime(1)
    const kafka = new FakeKafka()
    for (const topic of streamTopics('hostile', 'events')) kafka.createTopic(topic)
    try {
      const { pipeline } = start(
        kafka,
        handlers,
        { config: { HANDLER_TIMEOUT_MS: 60_000, RETRY_FIRST_MS: 10_000, RETRY_MAX_MS: 20_000 } },
        [HOSTILE, AT],
      )
      for (let i = 0; i < 60; i++) {
        kafka.append({ ...event(`h${i}`, `k${i}`, type, data), ...HOSTILE })
        if (i % 10 === 9) await time.pass(200)
      }
      kafka.append(event('1', 'a', otherType))
      expect(await time.until(() => idsOf(kafka, 'processed').length === 1, withinMs)).toBe(true)
      await stopIn(time, pipeline)
    } finally {
      time.end()
    }
  })
})

test('what waits for room that another partition of its tenant takes goes on when that one is paused', async () => {
  const others = { topic: 'kt.acme.others', partition: 0 }
  const foreign = { topic: 'kt.hostile.events', partition: 0 }
  const kafka = new FakeKafka()
  for (const topic of [...streamTopics('acme', 'others'), ...streamTopics('hostile', 'events')])
    kafka.createTopic(topic)
  kafka.refuses = ({ topic }) =>
    topic === `${INPUT}.processed` ? { reason: 'not allowed', tooLarge: false } : undefined
  const { promise, resolve } = Promise.withResolvers<void>()
  const { metrics } = start(
    kafka,
    [waiting('waits', () => promise)],
    { config: { HANDLER_TIMEOUT_MS: 60_000, MAX_CONCURRENT_HANDLERS: 32 } },
    [AT, others, foreign],
  )
  for (let id = 0; id < 6; id++) kafka.append(event(`large-${id}`, `k${id}`, 'waits', 'x'.repeat(100_000)))
  const pauses = async () => (await metrics.pauses.get()).values.find((one) => one.labels.reason === 'memory')?.value
  await until(async () => ((await pauses()) ?? 0) > 0)
  kafka.append({ ...event('first', 'a'), ...others })
  await until(() => kafka.committedOffset(others.topic) === 1)
  await until(async () => ((await pauses()) ?? 0) > 1)
  kafka.append({ ...event('second', 'a'), ...others })
  resolve()
  await until(() => kafka.committedOffset(others.topic) === 2)
  expect(kafka.committedOffset(INPUT)).toBeLessThan(1)
})

test('a partition that cannot be read says so, and is restored, though its outcomes cannot be written either', async () => {
  const kafka = new FakeKafka()
  const { promise, resolve } = Promise.withResolvers<void>()
  let listener: GroupListener | undefined
  let isGone = true
  let refused = 0
  kafka.refuses = () => {
    if (!isGone) return undefined
    refused++
    return { reason: 'not allowed', tooLarge: false }
  }
  const { pipeline } = startPipeline(kafka, [waiting('waits', () => promise)], {}, [AT], (deps) => ({
    ...deps,
    group: {
      ...deps.group,
      start(topics, to, mayJoin) {
        listener = to
        deps.group.start(topics, to, mayJoin)
      },
    },
    reader: {
      ...deps.reader,
      async ends(places) {
        if (listener !== undefined && isGone && pipeline.partitions()[0]?.state.kind === 'paused')
          throw new Error('gone')
        return deps.reader.ends(places)
      },
    },
  }))
  running.push(pipeline)
  kafka.append(event('1', 'a', 'waits'))
  await until(() => pipeline.levels().handlers === 1)
  listener?.unreadable(AT, 'gone')
  resolve()
  await until(() => refused > 1)
  expect(pipeline.partitions()[0]?.state).toMatchObject({ kind: 'paused', cause: 'unreadable' })
  kafka.append(event('2', 'b'))
  isGone = false
  await until(() => kafka.committedOffset(INPUT) === 2)
  expect(idsOf(kafka, 'processed').toSorted()).toEqual(['1', '2'])
})

test('stopping gives up a handler that does not end, and commits what is decided', async () => {
  const kafka = new FakeKafka()
  const { pipeline } = start(kafka, [
    defineHandler({
      type: 'hangs',
      version: '1',
      schema: Type.Unknown(),
      handle: () => new Promise<never>(() => undefined),
    }),
  ])
  kafka.append(event('1', 'a', 'hangs'))
  kafka.append(event('2', 'b'))
  await until(() => pipeline.levels().handlers === 1)
  await pipeline.stop()
  expect(idsOf(kafka, 'processed')).toEqual(['2'])
  expect(kafka.committedOffset(INPUT)).toBe(0)
})

test('events before a committed offset that have no outcome are processed after all, each once and in the order of its key', async () => {
  const kafka = new FakeKafka()
  const first = start(kafka)
  kafka.append(event('1', 'a'))
  await until(() => kafka.committedOffset(INPUT) === 1)
  await first.pipeline.stop()
  for (const id of ['2', '1', '3', '2']) kafka.append(event(id, 'a'))
  // As another client may do.
  kafka.setOffset({ ...AT, offset: 5, metadata: '' })
  kafka.append(event('4', 'a'))
  const { metrics } = start(kafka)
  await until(() => kafka.committedOffset(INPUT) === 6)
  await until(() => idsOf(kafka, 'processed').length === 4)
  expect(idsOf(kafka, 'processed')).toEqual(['1', '2', '3', '4'])
  expect((await metrics.repaired.get()).values[0]?.value).toBe(2)
})

test('a client that is no member for long is given up, also when it alone does not reach Kafka', async () => {
  const kafka = new FakeKafka()
  const { group, ended } = start(kafka, [], { config: { SESSION_TIMEOUT_MS: 100 }, bounds: { membershipGraceMs: 100 } })
  group.connection = () => ({ state: 'connecting', reason: 'no broker is up' })
  kafka.isMember = false
  expect(await ended).toContain('has not been a member of the group')
})

test('it is looked again and again whether everything goes on', async () => {
  const { pipeline } = start(new FakeKafka())
  await until(() => pipeline.unwatchedMs() > 100)
  await until(() => pipeline.unwatchedMs() < 100)
})

const sumOf = async (counter: { get(): Promise<{ values: { value: number }[] }> }): Promise<number> =>
  (await counter.get()).values.reduce((sum, { value }) => sum + value, 0)

/** Waits until the background audit has checked so many more partitions. */
async function rounds(metrics: ReturnType<typeof createMetrics>, count: number): Promise<void> {
  for (let round = 0; round < count; round++) {
    const before = await sumOf(metrics.audited)
    await until(async () => (await sumOf(metrics.audited)) > before)
  }
}

test('an outcome that is lost while the consumer runs is made again, and counted once', async () => {
  const kafka = new FakeKafka()
  const { metrics } = start(kafka, [], { bounds: { auditPauseMs: 5 } })
  for (const id of ['1', '2', '1', '3']) kafka.append(event(id, 'a'))
  await until(() => kafka.committedOffset(INPUT) === 4)
  await rounds(metrics, 1)
  expect(await sumOf(metrics.repaired)).toBe(0)
  const log = kafka.log({ topic: `${INPUT}.processed`, partition: 0 })
  const lost = kafka.all(log.topic).find(({ headers }) => headerText(headers, 'ce_id') === '2')
  log.lose(lost?.offset ?? -1)
  await until(() => idsOf(kafka, 'processed').length === 3)
  expect(idsOf(kafka, 'processed')).toEqual(['1', '3', '2'])
  await rounds(metrics, 2)
  expect([await sumOf(metrics.repaired), await sumOf(metrics.doubled)]).toEqual([1, 0])
  kafka.append(event('4', 'a'))
  await until(() => idsOf(kafka, 'processed').length === 4)
})

test('a record that is committed as done by somebody else while it is in hand has its outcome once', async () => {
  const kafka = new FakeKafka()
  let calls = 0
  const { metrics } = start(
    kafka,
    [
      defineHandler({
        type: 'hangs once',
        version: '1',
        schema: Type.Unknown(),
        handle: () => (++calls === 1 ? new Promise<never>(() => undefined) : { data: {} }),
      }),
    ],
    { bounds: { auditPauseMs: 5 } },
  )
  kafka.append(event('1', 'a', 'hangs once'))
  await until(() => calls === 1)
  kafka.setOffset({ ...AT, offset: 1, metadata: '' })
  await until(() => idsOf(kafka, 'processed').length === 1)
  await rounds(metrics, 2)
  expect([idsOf(kafka, 'processed'), calls, await sumOf(metrics.repaired)]).toEqual([['1'], 2, 1])
})

test('a transaction whose end is forgotten while all connections last is ended all the same', async () => {
  const time = simulateTime(1)
  const kafka = new FakeKafka()
  Object.defineProperty(kafka, 'disconnects', { get: () => 0, set: () => undefined })
  let marks = 0
  kafka.onMark = ({ kind, at }) =>
    kind === 'commit' && at?.topic === `${INPUT}.processed` && marks++ === 0 ? 'forgotten' : 'written'
  try {
    const { pipeline } = start(kafka, [], { bounds: { auditPauseMs: 1_000 } })
    kafka.append(event('1', 'a'))
    expect(await time.until(() => kafka.committedOffset(INPUT) === 1, 10_000)).toBe(true)
    expect(idsOf(kafka, 'processed')).toEqual([])
    // There is no other commit of this producer, which would commit these records, too.
    expect(await time.until(() => idsOf(kafka, 'processed').length === 1, 60_000)).toBe(true)
    expect(idsOf(kafka, 'processed')).toEqual(['1'])
    await stopIn(time, pipeline)
  } finally {
    time.end()
  }
})

/** A stream's outcomes in one transaction, which is committed except for the markers in the output topics: the broker has forgotten these. */
async function forgetOutcomes(
  time: ReturnType<typeof simulateTime>,
  kafka: FakeKafka,
  places: readonly TopicPartition[],
  handlers: Handler[] = [],
) {
  kafka.onMark = ({ transactionalId, kind, at }) =>
    transactionalId === 'fake' && kind === 'commit' && at !== undefined ? 'forgotten' : 'written'
  for (const { topic, partition } of places) kafka.append({ ...event(`${topic}/${partition}`, 'a'), topic, partition })
  const started = start(kafka, handlers, {}, places)
  expect(await time.until(() => kafka.transactions.length > 0, 10_000)).toBe(true)
  expect(kafka.transactions[0]?.outputs).toHaveLength(places.length)
  // While the first partition is handled, the others arrive and are then handled together.
  kafka.latency = () => sleep(5)
  return started
}

async function stopIn(time: ReturnType<typeof simulateTime>, pipeline: Pipeline): Promise<void> {
  let isStopped = false
  void pipeline.stop().then(() => {
    isStopped = true
  })
  expect(await time.until(() => isStopped, 30_000)).toBe(true)
}

test('outcomes that are written again and refused in one partition are not done again in another', async () => {
  const time = simulateTime(1)
  const kafka = new FakeKafka()
  for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic, 3)
  let calls = 0
  let refused = 0
  const counted = defineHandler({
    type: 'plain',
    version: '1',
    schema: Type.Unknown(),
    handle: async () => {
      calls++
      return { data: {} }
    },
  })
  try {
    const { pipeline } = await forgetOutcomes(
      time,
      kafka,
      [AT, { ...AT, partition: 1 }, { ...AT, partition: 2 }],
      [counted],
    )
    kafka.refuses = ({ topic, partition }) =>
      topic === `${INPUT}.processed` && partition === 2 && refused++ === 0
        ? { reason: 'not enough replicas', tooLarge: false }
        : undefined
    expect(await time.until(() => idsOf(kafka, 'processed').length === 3, 120_000)).toBe(true)
    expect(refused).toBeGreaterThan(0)
    expect(calls).toBe(3)
    await stopIn(time, pipeline)
  } finally {
    time.end()
  }
})

test('nothing is written again into a partition that is given up while others are seen to', async () => {
  const time = simulateTime(1)
  const kafka = new FakeKafka()
  const orders = { topic: 'kt.acme.orders', partition: 0 }
  for (const stream of ['events', 'orders'])
    for (const topic of streamTopics('acme', stream)) kafka.createTopic(topic, 2)
  try {
    const { pipeline, group } = await forgetOutcomes(time, kafka, [AT, { ...AT, partition: 1 }, orders])
    let ends = 0
    kafka.onStep = async ({ transactionalId, name, kind }) => {
      const isEnd = transactionalId.includes('-recovery') && name === 'end' && kind === 'commit'
      if (isEnd && ++ends === 2) await group.revoke([orders])
      return undefined
    }
    expect(await time.until(() => idsOf(kafka, 'processed').length === 2, 120_000)).toBe(true)
    await time.pass(60_000)
    expect(ends).toBe(2)
    const written = kafka.transactions.slice(1).flatMap(({ outputs }) => outputs.map(({ topic }) => topic))
    expect(written).toEqual([`${INPUT}.processed`, `${INPUT}.processed`])
    await stopIn(time, pipeline)
  } finally {
    time.end()
  }
})

test('what hangs of a process that lives and comes back at once is ended all the same', async () => {
  const time = simulateTime(1)
  const kafka = new FakeKafka()
  kafka.onMark = ({ transactionalId, kind, at }) =>
    transactionalId === 'other' && kind === 'commit' && at !== undefined ? 'forgotten' : 'written'
  try {
    const former = startPipeline(kafka, [], {}, [AT], (deps) => ({
      ...deps,
      transactor: kafka.transactor('other'),
    }))
    kafka.append(event('1', 'a'))
    expect(await time.until(() => kafka.committedOffset(INPUT) === 1, 10_000)).toBe(true)
    await stopIn(time, former.pipeline)
    expect(idsOf(kafka, 'processed')).toEqual([])

    let takenOver = 0
    const { pipeline } = startPipeline(kafka, [], {}, [AT], (deps) => ({
      ...deps,
      async openTransactor(id) {
        const opened = await deps.openTransactor(id)
        if (id === 'other') {
          takenOver++
          // It is fenced and leaves the group, which then has a new generation.
          kafka.group().assign([])
        }
        return opened
      },
    }))
    running.push(pipeline)
    kafka.onStep = async ({ transactionalId, name, kind }) => {
      // It rejoins with a new client.
      if (transactionalId === 'other' && name === 'outputs' && kind === 'release' && takenOver === 1)
        await kafka.transactor('other').start()
      return undefined
    }
    kafka.latency = () => sleep(5)
    expect(await time.until(() => idsOf(kafka, 'processed').length === 1, 60_000)).toBe(true)
    kafka.append(event('2', 'a'))
    expect(await time.until(() => idsOf(kafka, 'processed').length === 2, 10_000)).toBe(true)
    expect(takenOver).toBe(2)
    await stopIn(time, pipeline)
  } finally {
    time.end()
  }
})

test('nobody says that there are no topics before brokers have said so', () => {
  const { pipeline } = start(new FakeKafka())
  expect(pipeline.membership()).not.toBe('no topics')
})

test('an assigned stream has a series of doubled events before the first look for them', async () => {
  const { metrics } = start(new FakeKafka(), [], { bounds: { auditPauseMs: 3_600_000 } })
  await until(async () => (await metrics.doubled.get()).values.length > 0)
  expect((await metrics.doubled.get()).values).toMatchObject([{ value: 0, labels: { topic: INPUT } }])
})

test('an event that has a second outcome is told of once, by its stream', async () => {
  const kafka = new FakeKafka()
  const { metrics } = start(kafka, [], { bounds: { auditPauseMs: 5 } })
  for (const id of ['1', '2']) kafka.append(event(id, 'a'))
  await until(() => kafka.committedOffset(INPUT) === 2)
  kafka.append({ ...event('2', 'a'), topic: `${INPUT}.dlq` })
  await until(async () => (await sumOf(metrics.doubled)) > 0)
  await rounds(metrics, 2)
  expect((await metrics.doubled.get()).values).toMatchObject([{ value: 1, labels: { topic: INPUT } }])
  expect(await sumOf(metrics.repaired)).toBe(0)
})

test('clients that cannot go on end the run also while transactions are still being initialised', async () => {
  const kafka = new FakeKafka()
  kafka.latency = () => new Promise(() => undefined)
  const { pipeline, ended } = start(kafka)
  pipeline.fail('the group refuses this client')
  expect(await ended).toBe('the group refuses this client')
})
