import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { join } from 'node:path'
import { type MockCluster, newTopic, startMockCluster } from '../../testing/mock-cluster.ts'
import { type Consumer, type Producer, promised } from '../client.ts'
import { ADDON_FILE, INSTALLED } from './check.ts'

/*
 * A test for each correction in addon.patch. Without it, most of these calls end the process, so they are made in a process of their own:
 * what the body returns there comes back here. A body sees its argument and nothing else of this file.
 */

const CHILD_TIMEOUT_MS = 20_000
const ANSWER_TIMEOUT_MS = 10_000

let cluster: MockCluster
let producer: Producer
let topic: string

beforeAll(async () => {
  cluster = await startMockCluster()
  producer = await cluster.producer()
  topic = await newTopic(producer)
})

afterAll(() => cluster.close())

/** What a body is given. The clients are connected, and the raw ones are what the package's JavaScript calls. */
interface Given {
  // biome-ignore lint/suspicious/noExplicitAny: these tests pass what the types forbid.
  native: any
  producer: Producer
  consumer: Consumer
  // biome-ignore lint/suspicious/noExplicitAny: see above.
  raw: { producer: any; consumer: any; admin: any }
  topic: string
  live(): number
  /** The message of what a call throws, or undefined. */
  thrown(call: () => unknown): string | undefined
}

interface Outcome {
  exitCode: number | null
  result: unknown
  stderr: string
}

async function inChild(body: (given: Given) => unknown): Promise<Outcome> {
  const source = `
    import { native, promised } from ${JSON.stringify(join(import.meta.dir, '../client.ts'))}
    const { Producer, KafkaConsumer, AdminClient } = native()
    const brokers = { 'metadata.broker.list': ${JSON.stringify(cluster.brokers)} }
    const { handles } = require(${JSON.stringify(join(INSTALLED, ADDON_FILE))})
    const producer = new Producer(brokers)
    const consumer = new KafkaConsumer({ ...brokers, 'group.id': 'patch' })
    for (const client of [producer, consumer]) await promised((done) => client.connect({ timeout: 10_000 }, (error) => done(error)))
    const admin = AdminClient.create(brokers)
    const thrown = (call) => {
      try {
        call()
        return undefined
      } catch (error) {
        return error.message
      }
    }
    const raw = { producer: producer.getClient(), consumer: consumer.getClient(), admin: admin._client }
    const result = await (${body})({ native: native(), producer, consumer, raw, topic: ${JSON.stringify(topic)}, live: () => handles.counts().live, thrown })
    process.stdout.write(JSON.stringify(result ?? null), () => process.exit(0))
  `
  const child = Bun.spawn([process.execPath, '-e', source], {
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: CHILD_TIMEOUT_MS,
  })
  const [stdout, stderr, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return { exitCode, stderr, result: exitCode === 0 ? JSON.parse(stdout) : stdout }
}

/** The call went well in the child and its body returned this; otherwise what the child said is shown. */
async function expectInChild(body: (given: Given) => unknown, result: unknown): Promise<void> {
  expect(await inChild(body)).toEqual({ exitCode: 0, stderr: '', result })
}

/** How many records the topic's first partition has. */
async function stored(): Promise<number> {
  const { highOffset } = await promised<{ highOffset: number }>((done) =>
    producer.queryWatermarkOffsets(topic, 0, ANSWER_TIMEOUT_MS, done),
  )
  return highOffset
}

describe('produce', () => {
  test('takes null for no headers and refuses what is no array', async () => {
    const before = await stored()
    await expectInChild(
      ({ producer, topic, thrown }) =>
        new Promise((resolve) => {
          const produce = (headers: unknown) =>
            thrown(() => producer.produce(topic, 0, Buffer.from('value'), null, null, null, headers as never))
          const said = [null, undefined, [], 5, 'text', { name: 'value' }, () => {}].map(produce)
          producer.flush(10_000, () => resolve(said))
        }),
      [null, null, null, ...Array<string>(4).fill('Headers must be an array')],
    )
    expect(await stored()).toBe(before + 3)
  })

  test('refuses a header that is none, and leaves no record and no handle behind', async () => {
    const before = await stored()
    await expectInChild(
      ({ producer, topic, thrown, live }) =>
        new Promise((resolve) => {
          const produce = (header: unknown) =>
            thrown(() => producer.produce(topic, 0, Buffer.from('value'), 'key', null, {}, [header] as never))
          const lives = live()
          const said = [null, 5, {}, { name: null }, { name: 5 }].map(produce)
          const kept = live() - lives
          producer.flush(10_000, () => resolve([...said, kept]))
        }),
      [
        'A header must be an object',
        'A header must be an object',
        'A header must have a name',
        'Header value must be a string or buffer',
        'Header value must be a string or buffer',
        0,
      ],
    )
    expect(await stored()).toBe(before)
  })

  test('throws where the partition or the key cannot be made one', async () => {
    const before = await stored()
    await expectInChild(
      ({ producer, topic, thrown }) => {
        const produce = (partition: unknown, key: unknown) =>
          thrown(() => producer.produce(topic, partition as never, Buffer.from('value'), key as never)) !== undefined
        const faulty = {
          toString() {
            throw new Error('no text')
          },
        }
        return [produce(Symbol(), null), produce(10n, null), produce(0, Symbol()), produce(0, faulty)]
      },
      [true, true, true, true],
    )
    expect(await stored()).toBe(before)
  })

  test('refuses a topic that is neither a string nor a topic object', () =>
    expectInChild(
      ({ raw, thrown }) =>
        [{}, null, 5, raw.consumer].map((topic) => thrown(() => raw.producer.produce(topic, 0, Buffer.from('value')))),
      Array(4).fill('Topic must be a string or a topic object'),
    ))
})

test('polling in the background cannot be set before connecting', () =>
  expectInChild(
    ({ native, thrown }) => {
      const unconnected = new native.Producer({})
      return [true, false].map((set) => thrown(() => unconnected.setPollInBackground(set)))
    },
    ['Producer is disconnected', 'Producer is disconnected'],
  ))

test('offsets are not sent for what is no consumer, nor without a time-out', () =>
  expectInChild(
    ({ raw, topic, thrown }) => {
      const send = (consumer: unknown, timeoutMs: unknown) =>
        thrown(() =>
          raw.producer.sendOffsetsToTransaction([{ topic, partition: 0, offset: 1 }], consumer, timeoutMs, () => {}),
        )
      return [send({}, 100), send(null, 100), send(raw.producer, 100), send(raw.admin, 100), send(raw.consumer, 'soon')]
    },
    [...Array<string>(4).fill('Kafka consumer must be provided'), 'Timeout must be provided'],
  ))

test('assignments of what is no object are refused', () =>
  expectInChild(
    ({ raw, topic, thrown }) =>
      ['assign', 'incrementalAssign', 'incrementalUnassign'].flatMap((call) =>
        [5, null, undefined].map((wrong) => thrown(() => raw.consumer[call]([{ topic, partition: 0 }, wrong]))),
      ),
    Array(9).fill('Must pass topic-partition objects'),
  ))

test('look-ups of offsets need a callback', () =>
  expectInChild(
    ({ raw, topic, thrown }) =>
      ['committed', 'offsetsForTimes'].flatMap((call) =>
        [undefined, 5].map((callback) =>
          thrown(() => raw.consumer[call]([{ topic, partition: 0, offset: 0 }], 100, callback)),
        ),
      ),
    Array(4).fill('Need to specify an array of topic partitions'),
  ))

test('partitions without a topic, or with one that is no string, are left out', () =>
  expectInChild(
    ({ consumer, topic }) => {
      const wrong = [{}, { partition: 0 }, { topic }, { topic: '', partition: 0 }, { topic: Symbol(), partition: 0 }]
      const given = [...wrong, { topic, partition: 3, offset: 0 }] as never[]
      consumer.assign([{ topic, partition: 3, offset: 0 }])
      consumer.pause(given)
      consumer.resume(given)
      return consumer.position(given).map(({ topic, partition }) => [typeof topic, partition])
    },
    [['string', 3]],
  ))

test('a topic is only created from an object, with a configuration that is one', () =>
  expectInChild(
    ({ raw, thrown }) => {
      const create = (topic: unknown) => thrown(() => raw.admin.createTopic(topic, 100, () => {}))
      const named = { topic: 'topic', num_partitions: 1, replication_factor: 1 }
      return [create(null), create('topic'), create({ ...named, config: null }), create({ ...named, config: 5 })]
    },
    [
      'Must provide a topic object',
      'Must provide a topic object',
      'Topic configuration must be an object.',
      'Topic configuration must be an object.',
    ],
  ))

test('administration refuses options and entries that are no objects', () =>
  expectInChild(
    ({ raw, topic, thrown }) => {
      const options = [undefined, null, 5].flatMap((wrong) => [
        thrown(() => raw.admin.listConsumerGroupOffsets([{ groupId: 'group' }], wrong, () => {})),
        thrown(() => raw.admin.describeTopics([topic], wrong, () => {})),
        thrown(() => raw.admin.listOffsets([{ topic, partition: 0, offset: { timestamp: -1 } }], wrong, () => {})),
      ])
      return [...options, thrown(() => raw.admin.listOffsets([5], {}, () => {}))]
    },
    [...Array<string>(9).fill('Must provide options object'), 'Each entry must be an object'],
  ))

test('names and states in lists that are none are left out', () =>
  expectInChild(
    async ({ raw }) => {
      const answered = (call: string, ...given: unknown[]) =>
        new Promise((resolve) =>
          raw.admin[call](...given, { timeout: 2_000 }, (error: unknown) => resolve(error !== null)),
        )
      const listed = new Promise((resolve) =>
        raw.admin.listGroups(
          { timeout: 300, matchConsumerGroupStates: [Symbol()], matchConsumerGroupTypes: [Symbol()] },
          () => resolve('called back'),
        ),
      )
      // Nothing is left to describe or delete, which librdkafka answers with an error.
      return [await answered('deleteGroups', [Symbol()]), await answered('describeGroups', [Symbol()]), await listed]
    },
    [true, true, 'called back'],
  ))

test('a configuration value without text is refused', () =>
  expectInChild(
    ({ native, thrown }) =>
      [native.Producer, native.KafkaConsumer].map(
        (Client) => thrown(() => new Client({ 'client.id': Symbol() }, {})) !== undefined,
      ),
    [true, true],
  ))

test('a consumer that is not connected has lost no assignment', () =>
  expectInChild(({ native }) => new native.KafkaConsumer({ 'group.id': 'patch' }).assignmentLost(), false))

test('a consumer with a rebalance callback may be disconnected, also when it never was connected', () =>
  expectInChild(async ({ native, topic }) => {
    const never = new native.KafkaConsumer({ 'group.id': 'patch', rebalance_cb: () => {} })
    await new Promise((resolve) => never.disconnect(resolve))
    const address = { 'metadata.broker.list': '127.0.0.1:1', 'group.id': 'patch', rebalance_cb: () => {}, log_level: 0 }
    const unreached = new native.KafkaConsumer(address)
    const failed = await new Promise((resolve) => unreached.connect({ timeout: 50, topic }, resolve))
    return failed !== null
  }, true))

test('a subscription by regular expression writes nothing on stderr', () =>
  expectInChild(({ consumer }) => consumer.subscribe([/^quiet/]).subscription(), ['^quiet']))
