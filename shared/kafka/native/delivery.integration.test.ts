import { afterAll, beforeAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { startControlledMock } from '../../testing/controlled-mock.ts'
import { type MockCluster, newTopic, startMockCluster } from '../../testing/mock-cluster.ts'
import { rejection } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { CODE, native, type Producer, promised } from '../client.ts'
import { ADDON_FILE, INSTALLED } from './check.ts'

/* What addon.patch corrects about records on their way and the reports of their delivery. */

const ANSWER_TIMEOUT_MS = 10_000
const { handles } = require(join(INSTALLED, ADDON_FILE)) as { handles: { counts(): { live: number } } }

let cluster: MockCluster
let producer: Producer

beforeAll(async () => {
  cluster = await startMockCluster()
  producer = await cluster.producer()
})

afterAll(() => cluster.close())

test('no delivery report is lost when a producer disconnects', async () => {
  // Many times what the addon hands over in one turn of the event loop, so that most still wait when the connection is gone.
  const count = 20_000
  const topic = await newTopic(producer)
  const leaving = new (native().Producer)({ 'metadata.broker.list': cluster.brokers, dr_cb: true })
  await promised((done) => leaving.connect({ timeout: ANSWER_TIMEOUT_MS }, (error) => done(error)))
  leaving.setPollInBackground(true)
  const reported = new Set<unknown>()
  leaving.on('delivery-report', (error, { opaque }) => {
    if (!error) reported.add(opaque)
  })
  for (let number = 0; number < count; number++) leaving.produce(topic, 0, Buffer.from('value'), null, null, number)
  await promised((done) => leaving.disconnect(ANSWER_TIMEOUT_MS, (error) => done(error)))
  expect(reported.size).toBe(count)
})

test('records that wait for a slow answer take no CPU time meanwhile', async () => {
  const mock = startControlledMock(1)
  mock.createTopic('slow', 1)
  const waiting = new (native().Producer)({
    'metadata.broker.list': mock.brokers,
    'enable.idempotence': true,
    'linger.ms': 0,
    'statistics.interval.ms': 100,
    dr_cb: true,
  })
  interface Broker {
    wakeups: number
    waitresp_cnt: number
  }
  let broker: Broker | undefined
  let reported = 0
  try {
    waiting.on('event.stats', ({ message }) => {
      const { brokers } = JSON.parse(message) as { brokers: Record<string, Broker & { nodeid: number }> }
      broker = Object.values(brokers).find(({ nodeid }) => nodeid === 1)
    })
    waiting.on('delivery-report', (error) => {
      if (!error) reported++
    })
    await promised((done) => waiting.connect({ timeout: ANSWER_TIMEOUT_MS }, (error) => done(error)))
    waiting.setPollInBackground(true)
    const produce = (count: number): void => {
      for (let number = 0; number < count; number++) waiting.produce('slow', 0, Buffer.from('value'), null)
    }
    produce(1)
    await until(() => reported === 1, { timeoutMs: ANSWER_TIMEOUT_MS })
    mock.setRoundTrip(1, 2_000)
    // As many as may be in flight, and then some that wait for their answer.
    produce(5)
    await until(() => (broker?.waitresp_cnt ?? 0) > 0, { timeoutMs: ANSWER_TIMEOUT_MS })
    const before = broker?.wakeups ?? 0
    produce(20)
    await until(() => reported === 26, { timeoutMs: 3 * ANSWER_TIMEOUT_MS })
    const last = broker
    await until(() => broker !== last)
    expect((broker?.wakeups ?? 0) - before).toBeLessThan(500)
  } finally {
    await promised((done) => waiting.disconnect(ANSWER_TIMEOUT_MS, (error) => done(error)))
    mock.close()
  }
})

test('opaques are given back where nobody listens for delivery reports', async () => {
  const silent = await cluster.producer({ dr_cb: undefined })
  const topic = await newTopic(silent)
  const before = handles.counts().live
  for (let number = 0; number < 500; number++) silent.produce(topic, 0, Buffer.from('value'), null, null, { number })
  await promised((done) => silent.flush(ANSWER_TIMEOUT_MS, (error) => done(error)))
  await until(() => handles.counts().live <= before)
})

test('an administration client made from a busy one is not locked for ever', async () => {
  const consumer = await cluster.consumer()
  // Holds the connection's lock for reading while the other client is made.
  consumer.setDefaultConsumeTimeout(300)
  const consuming = promised((done) => consumer.consume(1, (error) => done(error)))
  const admin = native().AdminClient.createFrom(consumer as never)
  await consuming
  // The mock cluster does not know the request: any answer will do.
  const answer = promised((done) =>
    admin.createTopic({ topic: 'topic', num_partitions: 1, replication_factor: 1 }, 300, done),
  )
  expect(await rejection(answer)).toHaveProperty('code', CODE.TIMED_OUT)
})
