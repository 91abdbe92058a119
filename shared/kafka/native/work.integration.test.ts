import { afterEach, describe, expect, test } from 'bun:test'
import { pbkdf2 } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pino from 'pino'
import { residentMemoryBytes } from '../../service/process-metrics.ts'
import { type ControlledMock, startControlledMock } from '../../testing/controlled-mock.ts'
import { settled } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { type Consumer, type LibrdKafkaError, native, type Producer, promised } from '../client.ts'
import { sendOffsetsToTransaction } from '../group-metadata.ts'
import type { Membership } from '../types.ts'

/* The client's blocking calls have threads of their own (shim/work.cc), and disconnecting neither breaks off nor outlasts them. */

const CONNECT_TIMEOUT_MS = 10_000
/** Longer than any call waits. */
const FROZEN_MS = 60_000
const TEST_TIMEOUT_MS = 60_000
/** As shim/work.cc says. */
const MOST_THREADS = 256

const ending: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

function mockCluster(brokers = 1): ControlledMock {
  const mock = startControlledMock(brokers)
  ending.push(() => mock.close())
  return mock
}

async function connect<C extends Producer | Consumer>(client: C): Promise<C> {
  await promised((done) => client.connect({ timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)))
  ending.push(() => disconnect(client))
  return client
}

const disconnect = (client: Producer | Consumer): Promise<unknown> =>
  client.isConnected() ? promised((done) => client.disconnect((error) => done(error))) : Promise.resolve()

const producerOf = (brokers: string): Promise<Producer> =>
  connect(new (native().Producer)({ 'metadata.broker.list': brokers, log_level: 0 }))

/** A question that the client has to ask a broker. */
const ask = (client: Producer | Consumer, timeoutMs: number): Promise<unknown> =>
  promised((done) => client.getMetadata({ timeout: timeoutMs }, (error) => done(error)))

const callThreads = (): number =>
  readdirSync('/proc/self/task').filter((task) => {
    try {
      return readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim() === 'kafka-call'
    } catch {
      return false
    }
  }).length

test(
  'while calls wait for a broker, files, names, digests, the log and another client go on',
  async () => {
    // Takes connections and never says a word.
    const silent = createServer(() => undefined)
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    ending.push(() => silent.close())
    const { port } = silent.address() as { port: number }
    const other = await producerOf(mockCluster().brokers)

    let returned = 0
    const waiting = Array.from({ length: 24 }, async () => {
      const client = new (native().Producer)({ 'metadata.broker.list': `127.0.0.1:${port}`, log_level: 0 })
      const failed = await promised((done) => client.connect({ timeout: 2_000 }, (error) => done(error))).catch(
        (error: LibrdKafkaError) => error.message,
      )
      returned++
      return failed
    })
    await until(() => callThreads() >= waiting.length)

    await readFile(import.meta.path)
    await lookup('localhost')
    await promisify(pbkdf2)('password', 'salt', 1, 32, 'sha256')
    const log = pino(pino.destination({ dest: '/dev/null', sync: false, minLength: 1 }))
    log.info('a line')
    await new Promise((resolve) => log.flush(resolve))
    await ask(other, CONNECT_TIMEOUT_MS)
    expect(returned).toBe(0)

    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['broker transport failure']))
  },
  TEST_TIMEOUT_MS,
)

test(
  `${MOST_THREADS} calls wait side by side and more of them in turn; idle threads end`,
  async () => {
    const mock = mockCluster()
    const client = await producerOf(mock.brokers)
    mock.setRoundTrip(1, FROZEN_MS)
    let returned = 0
    const waiting = Array.from({ length: MOST_THREADS + 10 }, async () => {
      await ask(client, 2_000).catch(() => undefined)
      returned++
    })
    await until(() => callThreads() === MOST_THREADS)
    expect(returned).toBe(0)
    await Promise.all(waiting)
    expect(callThreads()).toBeLessThanOrEqual(MOST_THREADS)
    await until(() => callThreads() === 0, { timeoutMs: 15_000 })
    expect(await settled(ask(client, 10))).toThrow()
    mock.setDown(1)
  },
  TEST_TIMEOUT_MS,
)

test(
  'callbacks come in the order in which the calls return',
  async () => {
    const mock = mockCluster()
    const client = await producerOf(mock.brokers)
    mock.setRoundTrip(1, FROZEN_MS)
    const order: number[] = []
    await Promise.all([900, 300, 600].map((timeoutMs) => ask(client, timeoutMs).catch(() => order.push(timeoutMs))))
    expect(order).toEqual([300, 600, 900])
    mock.setDown(1)
  },
  TEST_TIMEOUT_MS,
)

/** A call that returns at once, on a client that is not connected. */
const NO_MEMBERSHIP = Buffer.from('CGMDv2:\0\0\0\0group\0member\0\x01') as unknown as Membership
const idleCall = (client: Producer): Promise<unknown> =>
  promised((done) => sendOffsetsToTransaction(client, [], NO_MEMBERSHIP, 0, done)).catch(() => undefined)

test(
  'calls leave nothing behind in memory',
  async () => {
    const client = new (native().Producer)({})
    const calls = async (count: number): Promise<number> => {
      for (let call = 0; call < count; call++) await idleCall(client)
      Bun.gc(true)
      return residentMemoryBytes() ?? Number.NaN
    }
    let before = await calls(20_000)
    const grown: number[] = []
    for (let round = 0; round < 3; round++) {
      const after = await calls(40_000)
      grown.push(after - before)
      before = after
    }
    // 100 bytes a call would be 4 MB, in each round; what else the process needs comes now and then.
    expect(Math.min(...grown)).toBeLessThan(4 * 2 ** 20)
  },
  TEST_TIMEOUT_MS,
)

test('a call under way keeps the process alive, and nothing does after it', async () => {
  const source = `
    import { native, promised } from ${JSON.stringify(join(import.meta.dir, '../client.ts'))}
    import { sendOffsetsToTransaction } from ${JSON.stringify(join(import.meta.dir, '../group-metadata.ts'))}
    const client = new (native().Producer)({})
    const metadata = Buffer.from(${JSON.stringify(String(NO_MEMBERSHIP))})
    sendOffsetsToTransaction(client, [], metadata, 0, () =>
      sendOffsetsToTransaction(client, [], metadata, 0, (error) => console.log(error.code)))`
  const child = Bun.spawn([process.execPath, '-e', source], { stdout: 'pipe', timeout: CONNECT_TIMEOUT_MS })
  expect(await child.stdout.text()).toBe('-172\n')
  expect(await child.exited).toBe(0)
})

function thrown(call: () => unknown): boolean {
  try {
    call()
    return false
  } catch {
    return true
  }
}

describe('disconnecting', () => {
  /** How long a call waits for a broker that does not answer. */
  const ASKED_MS = 1_500
  /** Much less than that. */
  const MOMENT_MS = 500

  test(
    'waits for calls that are under way, and keeps nobody else waiting',
    async () => {
      const mock = mockCluster()
      const producer = await producerOf(mock.brokers)
      const consumer = await connect(
        new (native().KafkaConsumer)({ 'metadata.broker.list': mock.brokers, 'group.id': 'group', log_level: 0 }),
      )
      mock.setRoundTrip(1, FROZEN_MS)
      const both = [producer, consumer]
      /** Monotonic. */
      const endedMs = new Map<string, number>()
      // As their answers come: promises that are settled together say nothing of that.
      const noted = (client: Producer | Consumer, what: string, call: (done: (error: unknown) => void) => void) =>
        new Promise<void>((resolve) =>
          call(() => {
            endedMs.set(`${both.indexOf(client)} ${what}`, performance.now())
            resolve()
          }),
        )
      const asked = both.map((client) =>
        noted(client, 'asked', (done) => client.getMetadata({ timeout: ASKED_MS }, (error) => done(error))),
      )
      await until(() => callThreads() >= 2)
      const disconnected = both.map((client) =>
        noted(client, 'disconnected', (done) => client.disconnect((error) => done(error))),
      )
      await until(() => thrown(() => producer.poll()), { what: 'the producer to be flushed, with nothing in it' })
      // The JavaScript thread gets an answer at once, whatever it asks of them now.
      const begun = performance.now()
      expect(() => producer.produce('topic', 0, Buffer.from(''))).toThrow()
      expect(() => consumer.pause([{ topic: 'topic', partition: 0 }])).toThrow()
      expect(() => consumer.incrementalUnassign([{ topic: 'topic', partition: 0 }])).toThrow()
      expect(consumer.assignmentLost()).toBe(false)
      expect(await settled(ask(producer, 10))).toThrow()
      expect(performance.now() - begun).toBeLessThan(1_000)
      mock.setDown(1)
      await Promise.all([...asked, ...disconnected])
      // A call lets the client go a moment before its thread tells that it has returned, so that either may be told first, by a moment.
      for (const at of [0, 1])
        expect((endedMs.get(`${at} disconnected`) ?? 0) - (endedMs.get(`${at} asked`) ?? 0)).toBeGreaterThan(-MOMENT_MS)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'does not wait for an answer to a rebalance that JavaScript owes',
    async () => {
      const mock = mockCluster()
      const producer = await producerOf(mock.brokers)
      await promised((done) =>
        producer.getMetadata({ topic: 'topic', timeout: CONNECT_TIMEOUT_MS }, (error) => done(error)),
      )
      let told = 0
      const consumer = await connect(
        new (native().KafkaConsumer)({
          'metadata.broker.list': mock.brokers,
          'group.id': 'group',
          'partition.assignment.strategy': 'cooperative-sticky',
          rebalance_cb: () => {
            told++
          },
        }),
      )
      consumer.subscribe(['topic'])
      await until(
        () => {
          consumer.consume(1, () => undefined)
          return told > 0
        },
        { timeoutMs: 20_000 },
      )
      await disconnect(consumer)
      expect(told).toBe(1)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'does not pull a client away under those that were derived from it',
    async () => {
      const mock = mockCluster()
      const producer = await producerOf(mock.brokers)
      const admin = native().AdminClient.createFrom(producer)
      mock.setRoundTrip(1, FROZEN_MS)
      const created = promised((done) =>
        admin.createTopic({ topic: 'new', num_partitions: 1, replication_factor: 1 }, 1_500, (error) => done(error)),
      )
      await until(() => callThreads() >= 1)
      const disconnected = disconnect(producer)
      expect(await settled(created)).toThrow()
      mock.setDown(1)
      await disconnected
      const again = promised((done) =>
        admin.createTopic({ topic: 'new', num_partitions: 1, replication_factor: 1 }, 1_500, (error) => done(error)),
      )
      expect(await settled(again)).toThrow()
    },
    TEST_TIMEOUT_MS,
  )
})
