import { afterEach, describe, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { CONTEXT, ERROR, headersOf, headerText, NO_HEADERS, SCHEMA } from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { inputTopic, streamTopics } from '../shared/events/topics.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { FakeKafka } from '../shared/testing/fake-kafka.ts'
import { writeRecord } from '../shared/testing/foreign-record.ts'
import { type SimulatedTime, simulateTime } from '../shared/testing/simulated-time.ts'
import { until } from '../shared/testing/until.ts'
import { loadConsumerConfig } from './config.ts'
import { defineHandler, type Handler } from './handlers/handler.ts'
import { measure } from './health.ts'
import { startTestConsumer } from './testing/consumer.ts'
import { startPipeline } from './testing/pipeline.ts'

/** Events of several versions of their schema: 1 is `{n}`, 2 `{num}`, 3 `{number}`, 4 `{value}`. */

const TYPE = 'counted'
const FIELDS = ['n', 'num', 'number', 'value'] as const

/** Renames the member of one version to that of the next. */
const upcasters = [1, 2, 3].map((from) => ({
  from,
  to: from + 1,
  up(data: unknown) {
    const { [FIELDS[from - 1] as string]: value, ...others } = data as Record<string, unknown>
    return { ...others, [FIELDS[from] as string]: value }
  },
}))

const taking = (takes: number, handle: Handler['handle'] = (data) => ({ data })): Handler =>
  defineHandler({
    type: TYPE,
    version: `v${takes}`,
    schema: Type.Object({ [FIELDS[takes - 1] as string]: Type.Integer() }, { additionalProperties: false }),
    takes,
    upcasters: upcasters.slice(0, takes - 1),
    handle,
  })

const dataOf = (version: number, id: string) => ({ [FIELDS[version - 1] as string]: Number(id) })

const contextOf = ({ headers }: Pick<IncomingRecord, 'headers'>) => JSON.parse(headerText(headers, CONTEXT) ?? '')
const errorOf = ({ headers }: Pick<IncomingRecord, 'headers'>) => JSON.parse(headerText(headers, ERROR) ?? '')

describe('events of a version that the handler does not take yet', () => {
  const INPUT = 'kt.acme.events'
  const config = { MAX_ATTEMPTS: 2, RETRY_FIRST_MS: 100, RETRY_MAX_MS: 1_000, NEWER_SCHEMA_TIMEOUT_MS: 60_000 }

  const event = (id: string, key: string, version: number): OutgoingRecord => ({
    topic: INPUT,
    partition: 0,
    key,
    value: Buffer.from(JSON.stringify(dataOf(version, id))),
    headers: headersOf({
      ce_specversion: '1.0',
      ce_id: id,
      ce_source: '/test',
      ce_type: TYPE,
      [SCHEMA]: `acme.events-${TYPE}/${version}`,
    }),
  })
  const idsOf = (kafka: FakeKafka, role: 'processed' | 'dlq' | 'retry') =>
    kafka.all(`${INPUT}.${role}`).map(({ headers }) => headerText(headers, 'ce_id'))

  async function simulated(run: (time: SimulatedTime, kafka: FakeKafka) => Promise<void>): Promise<void> {
    const time = simulateTime(1)
    try {
      await run(time, new FakeKafka())
    } finally {
      time.end()
    }
  }

  async function stop(time: SimulatedTime, { pipeline }: ReturnType<typeof startPipeline>): Promise<void> {
    let isStopped = false
    void pipeline.stop().then(() => {
      isStopped = true
    })
    expect(await time.until(() => isStopped, 30_000)).toBe(true)
  }

  test('wait in .retry without an attempt, their keys behind them, until a consumer takes them', () =>
    simulated(async (time, kafka) => {
      const first = startPipeline(kafka, [taking(3)], { config })
      for (const [id, key, version] of [
        ['1', 'a', 4],
        ['2', 'a', 3],
        ['3', 'b', 2],
      ] as const)
        kafka.append(event(id, key, version))
      // Many more than the attempts of a failing event.
      await time.pass(30_000)
      expect([idsOf(kafka, 'retry'), idsOf(kafka, 'processed')]).toEqual([['1', '2'], ['3']])
      expect(kafka.all(`${INPUT}.retry`).map((record) => errorOf(record).reason)).toEqual([
        'newer schema',
        'waits behind its key',
      ])
      measure(first.pipeline, first.metrics)
      const waiting = (await first.metrics.waiting.get()).values
      expect(waiting.filter(({ value }) => value > 0)).toEqual([{ labels: { reason: 'newer schema' }, value: 1 }])
      const slow = (await first.metrics.retries.get()).values.find(({ labels }) => labels.kind === 'slow')
      expect(slow?.value).toBe(0)
      await stop(time, first)
      measure(first.pipeline, first.metrics)
      expect((await first.metrics.waiting.get()).values.every(({ value }) => value === 0)).toBe(true)
      const attempts: number[] = []
      const second = startPipeline(
        kafka,
        [
          taking(4, (data, { attempt }) => {
            attempts.push(attempt)
            return { data }
          }),
        ],
        { config },
      )
      // Their time was over long ago.
      expect(await time.until(() => kafka.committedOffset(`${INPUT}.retry`) === 2, 900)).toBe(true)
      expect([idsOf(kafka, 'processed'), idsOf(kafka, 'dlq'), attempts]).toEqual([['3', '1', '2'], [], [1, 1]])
      await stop(time, second)
    }))

  test('pause the input when too many are in .retry, and whoever asks is told why', () =>
    simulated(async (time, kafka) => {
      const first = startPipeline(kafka, [taking(3)], { config: { ...config, MAX_RETRY_BACKLOG_RECORDS: 3 } })
      const backlog = () => first.pipeline.partitions()[0]?.backlog
      kafka.append(event('1', 'a', 4))
      kafka.append(event('2', 'a', 3))
      await time.pass(5_000)
      expect(backlog()).toBeUndefined()
      kafka.append(event('3', 'b', 4))
      await time.pass(5_000)
      expect(backlog()).toBe(
        '3 events wait in .retry, 2 of them with the reason “newer schema”, and MAX_RETRY_BACKLOG_RECORDS allows no more',
      )
      kafka.append(event('4', 'c', 3))
      await time.pass(5_000)
      expect(idsOf(kafka, 'processed')).toEqual([])
      // After a minute, they are dead letters.
      expect(await time.until(() => idsOf(kafka, 'processed').length === 2, 60_000)).toBe(true)
      expect(backlog()).toBeUndefined()
      await stop(time, first)
    }))

  test('are dead letters when they have waited for too long, and their keys go on', () =>
    simulated(async (time, kafka) => {
      const only = startPipeline(kafka, [taking(3)], { config })
      kafka.append(event('1', 'a', 4))
      kafka.append(event('2', 'a', 3))
      await time.pass(59_000)
      expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed')]).toEqual([[], []])
      await time.pass(2_000)
      expect([idsOf(kafka, 'dlq'), idsOf(kafka, 'processed')]).toEqual([['1'], ['2']])
      const [dead] = kafka.all(`${INPUT}.dlq`)
      expect(errorOf(dead ?? { headers: NO_HEADERS })).toEqual({
        reason: 'newer schema',
        message: expect.stringMatching(
          /^its data are of version 4 of their schema, and counted@v3 takes 3: deploy a handler that takes 4; it has waited for one for 60\d{3} ms, and may for 60000 ms$/,
        ),
      })
      expect(headerText(dead?.headers ?? NO_HEADERS, SCHEMA)).toBe(`acme.events-${TYPE}/4`)
      await stop(time, only)
    }))

  test('have waited for as long as they are in .retry, whatever starts again meanwhile', () =>
    simulated(async (time, kafka) => {
      const first = startPipeline(kafka, [taking(3)], { config })
      kafka.append(event('1', 'a', 4))
      await time.pass(40_000)
      await stop(time, first)
      const second = startPipeline(kafka, [taking(3)], { config })
      expect(await time.until(() => idsOf(kafka, 'dlq').length === 1, 22_000)).toBe(true)
      expect(Date.now() - (kafka.all(`${INPUT}.retry`)[0]?.timestampMs ?? 0)).toBeGreaterThanOrEqual(60_000)
      await stop(time, second)
    }))

  test('wait no longer than their consumer lets them, whatever the one said that put them into .retry', () =>
    simulated(async (time, kafka) => {
      const longer = { ...config, RETRY_MAX_MS: 60_000 }
      const first = startPipeline(kafka, [taking(3)], { config: longer })
      kafka.append(event('1', 'a', 4))
      await time.pass(10_000)
      await stop(time, first)
      const second = startPipeline(kafka, [taking(3)], { config: { ...longer, NEWER_SCHEMA_TIMEOUT_MS: 40_000 } })
      expect(await time.until(() => idsOf(kafka, 'dlq').length === 1, 31_000)).toBe(true)
      const [retry, dead] = [...kafka.all(`${INPUT}.retry`), ...kafka.all(`${INPUT}.dlq`)]
      expect((dead?.timestampMs ?? 0) - (retry?.timestampMs ?? 0)).toBeGreaterThanOrEqual(40_000)
      await stop(time, second)
    }))
})

describe('on a real broker', () => {
  const config = loadConsumerConfig({ KAFKA_BROKERS: testBrokers() })
  const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })
  const SLOW = { timeoutMs: 30_000 }
  const TEST_TIMEOUT_MS = 60_000
  const ending: (() => Promise<void>)[] = []

  afterEach(async () => {
    for (const end of ending.splice(0).reverse()) await end()
  })

  function start(tenant: string, group: string, handlers: Handler[], changed = {}) {
    const started = startTestConsumer({ config, log, tenant, group, handlers, changed })
    ending.push(() => started.pipeline.stop())
    return started
  }

  async function createTopics(tenant: string): Promise<string> {
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    await admin.ensureGroups([streamTopics(tenant, 'events')], { partitions: 1, replication: 1 })
    await admin.close()
    return inputTopic(tenant, 'events')
  }

  /** Events as `id`, `key` and `version`, one after the other. */
  async function write(topic: string, events: readonly (readonly [string, string, number])[]): Promise<void> {
    for (const [id, key, version] of events)
      await writeRecord(testBrokers(), topic, 0, {
        value: Buffer.from(JSON.stringify(dataOf(version, id))),
        key,
        headers: [
          'ce_specversion=1.0',
          `ce_id=${id}`,
          'ce_source=/kcat',
          `ce_type=${TYPE}`,
          'content-type=application/json',
          `${SCHEMA}=acme.events-${TYPE}/${version}`,
        ],
      })
  }

  async function recordsOf(topic: string): Promise<IncomingRecord[]> {
    const reader = createRangeReader({ config, clientId: 'tests', log })
    const records: IncomingRecord[] = []
    await readAll(reader, [{ topic, partition: 0 }], (record) => records.push(record))
    await reader.close()
    return records
  }

  /** `id` and data, in order. */
  const shown = async (topic: string): Promise<string[]> =>
    (await recordsOf(topic)).map(({ headers, value }) => `${headerText(headers, 'ce_id')} ${value}`)

  test(
    'each event is handled in the handler’s version, and those of a newer one by the next consumer, in order',
    async () => {
      const tenant = uniqueName('versions')
      const topic = await createTopics(tenant)
      const group = uniqueName('group')
      await write(topic, [
        ['1', 'a', 1],
        ['2', 'a', 2],
        ['3', 'b', 3],
        ['4', 'a', 4],
        ['5', 'a', 1],
        ['6', 'b', 2],
      ])
      const first = start(tenant, group, [taking(3)])
      await until(async () => (await recordsOf(`${topic}.retry`)).length === 2, SLOW)
      await until(async () => (await recordsOf(`${topic}.processed`)).length === 4, SLOW)
      const handled = await recordsOf(`${topic}.processed`)
      expect((await shown(`${topic}.processed`)).toSorted()).toEqual([
        '1 {"number":1}',
        '2 {"number":2}',
        '3 {"number":3}',
        '6 {"number":6}',
      ])
      const raised = handled.map((record) => [headerText(record.headers, 'ce_id'), contextOf(record).schema?.version])
      expect(Object.fromEntries(raised)).toEqual({ '1': 1, '2': 2, '3': undefined, '6': 2 })
      const waiting = await recordsOf(`${topic}.retry`)
      expect(
        waiting.map((record) => [
          headerText(record.headers, 'ce_id'),
          headerText(record.headers, SCHEMA),
          errorOf(record).reason,
        ]),
      ).toEqual([
        ['4', `acme.events-${TYPE}/4`, 'newer schema'],
        ['5', `acme.events-${TYPE}/1`, 'waits behind its key'],
      ])
      await first.pipeline.stop()
      start(tenant, group, [taking(4)])
      await until(async () => (await recordsOf(`${topic}.processed`)).length === 6, SLOW)
      expect((await shown(`${topic}.processed`)).slice(4)).toEqual(['4 {"value":4}', '5 {"value":5}'])
      expect(await recordsOf(`${topic}.dlq`)).toEqual([])
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'an event that nobody takes in time is a dead letter, and its key goes on',
    async () => {
      const tenant = uniqueName('versions')
      const topic = await createTopics(tenant)
      await write(topic, [
        ['1', 'a', 4],
        ['2', 'a', 3],
      ])
      const group = uniqueName('group')
      // It would be tried again after a minute.
      const first = start(tenant, group, [taking(3)])
      await until(async () => (await recordsOf(`${topic}.retry`)).length === 2, SLOW)
      await first.pipeline.stop()
      start(tenant, group, [taking(3)], { NEWER_SCHEMA_TIMEOUT_MS: 1_000 })
      await until(async () => (await recordsOf(`${topic}.processed`)).length === 1, SLOW)
      expect(await shown(`${topic}.processed`)).toEqual(['2 {"number":2}'])
      const [dead] = await recordsOf(`${topic}.dlq`)
      expect(await shown(`${topic}.dlq`)).toEqual(['1 {"value":1}'])
      expect(errorOf(dead ?? { headers: NO_HEADERS })).toMatchObject({ reason: 'newer schema' })
      const waited = (dead?.timestampMs ?? 0) - ((await recordsOf(`${topic}.retry`))[0]?.timestampMs ?? 0)
      expect(waited).toBeGreaterThanOrEqual(1_000)
    },
    TEST_TIMEOUT_MS,
  )
})
