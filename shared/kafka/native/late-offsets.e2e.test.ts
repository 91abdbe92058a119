import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { uniqueName } from '../../testing/brokers.ts'
import { type ProxiedKafka, startProxiedKafka } from '../../testing/proxied-kafka.ts'
import { rejection } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { CODE, type Consumer, native, type Producer, packed, promised } from '../client.ts'
import { groupMetadata, sendOffsetsToTransaction } from '../group-metadata.ts'
import { consumePacked } from '../packed.ts'
import type { Membership } from '../types.ts'

/*
 * Offsets of an aborted transaction that reach the broker during the next one, as from a network or a coordinator that stood still: they must
 * not be committed with it. The broker takes them when the producer's epoch is still the same.
 */

const CALL_TIMEOUT_MS = 10_000
/** How long the held request is waited for. */
const SEND_TIMEOUT_MS = 1_000
setDefaultTimeout(60_000)

let proxied: ProxiedKafka
const topic = uniqueName('late')

beforeAll(async () => {
  proxied = await startProxiedKafka()
  await proxied.kafka.createTopics([topic], 2)
})

afterAll(() => proxied?.stop())

async function connect<C extends Consumer | Producer>(client: C): Promise<C> {
  await promised((done) => client.connect({ timeout: CALL_TIMEOUT_MS }, (error) => done(error)))
  return client
}

test.each(['TxnOffsetCommit', 'AddOffsetsToTxn'] as const)('%s that comes late has no effect', async (api) => {
  const common = { 'metadata.broker.list': proxied.brokers, log_level: 0 }
  const group = uniqueName('group')
  const consumer = await connect(
    new (native().KafkaConsumer)({ ...common, 'group.id': group, 'enable.auto.commit': false }),
  )
  const producer = await connect(
    new (native().Producer)({ ...common, 'client.id': group, 'transactional.id': group, 'retry.backoff.ms': 2 }),
  )
  await promised((done) => producer.initTransactions(CALL_TIMEOUT_MS, done))
  consumer.subscribe([topic])
  await until(
    () => {
      consumePacked(packed(), consumer, 1, () => undefined)
      return consumer.assignments().length === 2
    },
    { timeoutMs: CALL_TIMEOUT_MS },
  )
  const metadata = groupMetadata(consumer) as Membership
  const send = (partition: number, offset: number, timeoutMs = CALL_TIMEOUT_MS) =>
    promised((done) =>
      sendOffsetsToTransaction(producer, [{ topic, partition, offset, metadata: '' }], metadata, timeoutMs, done),
    )

  const held = proxied.proxy.interfere('request', { api, client: group }, 'hold')
  await promised((done) => producer.beginTransaction(done))
  expect(await rejection(send(0, 100, SEND_TIMEOUT_MS))).toMatchObject({ code: CODE.TIMED_OUT })
  expect(held.met).toBe(1)
  await promised((done) => producer.abortTransaction(CALL_TIMEOUT_MS, done))

  await promised((done) => producer.beginTransaction(done))
  const sent = send(1, 1)
  await until(() => held.met === 2)
  const answered = proxied.proxy.interfere('answer', { api, client: group }, { delayMs: 0 })
  held.end()
  await sent
  await until(() => answered.met >= 2)
  await promised((done) => producer.commitTransaction(CALL_TIMEOUT_MS, done))

  const committed = await promised<unknown>((done) =>
    consumer.committed(
      [0, 1].map((partition) => ({ topic, partition })),
      CALL_TIMEOUT_MS,
      done,
    ),
  )
  expect(committed).toEqual([{ topic, partition: 0 }, expect.objectContaining({ topic, partition: 1, offset: 1 })])
  await Promise.all([consumer, producer].map((client) => promised((done) => client.disconnect((error) => done(error)))))
})
