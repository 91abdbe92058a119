import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { headerText } from '../shared/headers.ts'
import { type KafkaCluster, startKafka } from '../shared/kafka/brokers/kafka.ts'
import { findFreePorts } from '../shared/kafka/brokers/ports.ts'
import { createRecordProducer } from '../shared/kafka/producer.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import type { RangeReader, RecordProducer } from '../shared/kafka/types.ts'
import { toRecord } from '../shared/record.ts'
import { uniqueName } from '../shared/testing/brokers.ts'
import { type KafkaProxy, type Match, startKafkaProxy } from '../shared/testing/kafka-proxy.ts'
import { until } from '../shared/testing/until.ts'
import { inputTopic, siblingTopic, streamTopics } from '../shared/topics.ts'
import { type ConsumerConfig, loadConsumerConfig } from './config.ts'
import { defineHandler } from './handlers/handler.ts'
import { startTestConsumer } from './test-consumer.ts'

/**
 * A step of a transaction that comes late: while it is on its way its member loses the partition, and it or another one gets it. Whatever
 * comes of the step then, every event has one outcome.
 */

const SESSION_TIMEOUT_MS = 1_500
const TRANSACTION_TIMEOUT_MS = 8_000
/** Longer than a step of a transaction is waited for before it is asked for again. */
const PATIENCE = { timeoutMs: 40_000 }
const BATCH = 10
const FAILS = 'fails-once'

setDefaultTimeout(90_000)

let proxy: KafkaProxy
let kafka: KafkaCluster
let config: ConsumerConfig
let producer: RecordProducer
let reader: RangeReader
const quiet = pino({ level: 'silent' })

beforeAll(async () => {
  const [port = 0] = await findFreePorts(1)
  proxy = await startKafkaProxy(port)
  kafka = await startKafka({
    ports: [port],
    settings: {
      'advertised.listeners': `PLAINTEXT://127.0.0.1:${proxy.port}`,
      'group.min.session.timeout.ms': '500',
    },
  })
  config = loadConsumerConfig({ KAFKA_BROKERS: `127.0.0.1:${proxy.port}` })
  reader = createRangeReader({ config, clientId: 'tests', log: quiet })
  producer = createRecordProducer({
    config,
    clientId: 'tests',
    topics: [],
    deliveryTimeoutMs: 10_000,
    lingerMs: 0,
    maxQueueRecords: 1_000,
    maxQueueBytes: 2 ** 24,
    maxRecordBytes: 2 ** 20,
    log: quiet,
    onStatistics: () => undefined,
  })
  producer.start()
})

afterAll(async () => {
  await producer.close(1_000)
  await reader.close()
  await kafka.stop()
  await proxy.stop()
})

/** A consumer that opens new clients when it cannot go on, as the service does, and what it has logged. */
function run(tenant: string, group: string) {
  const instance = uniqueName('member')
  const lines: { msg: string; level: number; reason?: string; partitions?: string[] }[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  // The first attempt of an event's first consumer fails, so that the event waits in `.retry`.
  const failed = new Set<string>()
  const failsOnce = defineHandler({
    type: FAILS,
    version: '1',
    schema: Type.Unknown(),
    handle: async (_, { event, attempt }) => {
      if (attempt <= 2 && !failed.has(`${event.id}/${attempt}`)) {
        failed.add(`${event.id}/${attempt}`)
        throw new Error('not yet')
      }
      return { data: { attempt } }
    },
  })
  let stopping = false
  let current = open()
  const ended = work()

  function open() {
    return startTestConsumer({
      config,
      log,
      tenant,
      group,
      instance,
      handlers: [failsOnce],
      sessionTimeoutMs: SESSION_TIMEOUT_MS,
      transactionTimeoutMs: TRANSACTION_TIMEOUT_MS,
    })
  }

  async function work(): Promise<void> {
    for (let reason = await current.ended; reason !== undefined && !stopping; reason = await current.ended) {
      log.error({ reason }, 'new clients')
      current = open()
    }
  }

  return {
    instance,
    transactions: `${instance}-t`,
    lines,
    /** How often it has logged this. */
    said: (msg: string): number => lines.filter((line) => line.msg === msg).length,
    async stop() {
      stopping = true
      await current.pipeline.stop()
      await ended
    },
  }
}

type Member = ReturnType<typeof run>

/** A stream of one partition and a group of one member, which has processed its first events. */
async function begin() {
  const tenant = uniqueName('fencing')
  const group = uniqueName('group')
  const topic = inputTopic(tenant, 'events')
  await kafka.createTopics(streamTopics(tenant, 'events'), 1)
  const members: Member[] = []
  let written = 0
  const outcomes = async (): Promise<string[]> => {
    const ids: string[] = []
    const partitions = ['processed', 'dlq'].map((role) => ({
      topic: siblingTopic(topic, role as 'processed' | 'dlq'),
      partition: 0,
    }))
    await readAll(reader, partitions, ({ headers }) => ids.push(headerText(headers, 'ce_id') ?? ''))
    return ids.toSorted()
  }
  const ids = () => Array.from({ length: written }, (_, index) => String(index).padStart(4, '0'))
  const stage = {
    join(): Member {
      const member = run(tenant, group)
      members.push(member)
      return member
    },
    async write(type = 'plain') {
      const records = Array.from({ length: BATCH }, () => {
        const id = String(written++).padStart(4, '0')
        return toRecord(
          {
            id,
            source: '/tests',
            type,
            subject: `key-${Number(id) % 3}`,
            datacontenttype: 'application/json',
            extensions: {},
            data: Buffer.from('{}'),
          },
          { topic, partition: 0, tenant, receivedAtMs: Date.now() },
        )
      })
      await until(() => producer.connection().state === 'connected', PATIENCE)
      for (const result of await producer.produce(records)) if (result instanceof Error) throw result
    },
    /** Waits until every event has its outcome. */
    async settled() {
      await until(async () => (await outcomes()).length >= written, { ...PATIENCE, what: `${written} outcomes` })
    },
    /** Every event has one outcome, once all is over. */
    async judge() {
      try {
        await stage.settled()
        await stage.write()
        await stage.settled()
      } catch (error) {
        expect({ error: (error as Error).message, outcomes: await outcomes() }).toEqual({ error: '', outcomes: ids() })
      }
      await Promise.all(members.splice(0).map((one) => one.stop()))
      expect(await outcomes()).toEqual(ids())
    },
    async end() {
      await Promise.all(members.map((one) => one.stop()))
    },
    topic,
  }
  return stage
}

type Stage = Awaited<ReturnType<typeof begin>>

/** Plays on a stage of its own and judges, whatever happened. */
async function play(act: (stage: Stage, member: Member) => Promise<void>): Promise<void> {
  const stage = await begin()
  try {
    const member = stage.join()
    await stage.write()
    await stage.settled()
    await act(stage, member)
    await stage.judge()
  } finally {
    await stage.end()
  }
}

/** Takes a member's partitions away: its heartbeats do not arrive until its session is over. */
async function lose(member: Member): Promise<void> {
  const lost = member.said('lost')
  const heartbeats = proxy.interfere('request', { api: 'Heartbeat', client: member.instance }, 'hold')
  await until(() => member.said('lost') > lost, { ...PATIENCE, what: 'the partitions to be lost' })
  heartbeats.end()
}

const holdOne = (api: Match['api'], member: Member) =>
  proxy.interfere('request', { api, client: member.transactions }, 'hold')

const STEPS = ['AddOffsetsToTxn', 'TxnOffsetCommit', 'Produce', 'EndTxn'] as const

for (const api of STEPS)
  test.concurrent(`${api} that comes when its member has lost the partition and got it again`, () =>
    play(async (stage, member) => {
      const assigned = member.said('assigned')
      const held = holdOne(api, member)
      await stage.write()
      await until(() => held.met > 0, PATIENCE)
      await lose(member)
      await until(() => member.said('assigned') > assigned, PATIENCE)
      held.end()
    }))

test.concurrent('offsets that come when they have been waited for in vain, and the partition was lost and got again', () =>
  play(async (stage, member) => {
    const assigned = member.said('assigned')
    const held = holdOne('TxnOffsetCommit', member)
    await stage.write()
    await until(() => held.met > 0, PATIENCE)
    await lose(member)
    await until(() => member.said('assigned') > assigned, PATIENCE)
    await until(
      () => member.lines.some(({ msg }) => msg.includes('transaction') && msg.includes('tried again')),
      PATIENCE,
    )
    held.end()
  }))
