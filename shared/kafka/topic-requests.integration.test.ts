import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import pino from 'pino'
import { alterTopic } from '../dev/brokers/wire-admin.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { settled } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import { nativeOf } from './addon.ts'
import { createTopicAdmin } from './admin.ts'
import { addon, CODE, native, type Producer, promised } from './client.ts'
import { createTopics, describeTopics, topicSettings, unmadeTopics } from './topic-requests.ts'

const TEST_TIMEOUT_MS = 30_000
const TIMEOUT_MS = 10_000
const INVALID_TOPIC = 17

let client: Producer

async function connected(): Promise<Producer> {
  const made = new (native().Producer)({ 'metadata.broker.list': testBrokers() })
  await promised((done) => made.connect({ timeout: TIMEOUT_MS }, (error) => done(error)))
  return made
}
const disconnect = (of: Producer) => promised((done) => of.disconnect(0, (error) => done(error)))

beforeAll(async () => {
  client = await connected()
}, TEST_TIMEOUT_MS)
afterAll(() => disconnect(client), TEST_TIMEOUT_MS)

describe('requests about many topics', () => {
  test(
    'say of each topic what became of it',
    async () => {
      const [one, two, none] = [uniqueName('one'), uniqueName('two'), uniqueName('none')]
      const create = (topics: string[]) =>
        createTopics(client, topics, { partitions: 3, replication: -1, timeoutMs: TIMEOUT_MS })
      const codes = (answers: { topic: string; code: number }[]) => answers.map(({ topic, code }) => [topic, code])
      expect(codes(await create([one, 'not/valid']))).toEqual([
        [one, 0],
        ['not/valid', INVALID_TOPIC],
      ])
      expect(codes(await create([one, two]))).toEqual([
        [one, CODE.TOPIC_ALREADY_EXISTS],
        [two, 0],
      ])
      const known = async () => (await describeTopics(client, [one, two, none], TIMEOUT_MS)).map((of) => of.partitions)
      await until(async () => (await known()).join() === '3,3,0', { timeoutMs: TIMEOUT_MS })
      expect(await describeTopics(client, [none, one], TIMEOUT_MS)).toEqual([
        { topic: none, partitions: 0, fault: `the topic ${none} is not there (yet)`, writable: undefined },
        { topic: one, partitions: 3, fault: undefined, writable: true },
      ])
      const alter = (name: string, value: string) =>
        alterTopic(testBrokers().split(',')[0] ?? '', TIMEOUT_MS, one, name, value)
      await alter('max.message.bytes', '100000')
      await alter('cleanup.policy', 'delete,compact')
      const isHeeded = async () => (await topicSettings(client, [one], TIMEOUT_MS)).get(one)?.isCompacted === true
      await until(isHeeded, { timeoutMs: TIMEOUT_MS })
      expect(await topicSettings(client, [none, one, two], TIMEOUT_MS)).toEqual(
        new Map([
          [one, { maxMessageBytes: 100_000, isCompacted: true }],
          [two, { maxMessageBytes: 1_048_588, isCompacted: false }],
        ]),
      )
      const asked = [one, two].map((topic) => ({ topic, partitions: 3 }))
      await until(async () => (await unmadeTopics(client, asked, TIMEOUT_MS)).length === 0, { timeoutMs: TIMEOUT_MS })
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'make topics with settings of their own',
    async () => {
      const admin = createTopicAdmin({
        config: commonConfig({ KAFKA_BROKERS: testBrokers() }),
        clientId: 'tests',
        log: pino({ level: 'silent' }),
      })
      const [control, plain] = [uniqueName('control'), uniqueName('plain')]
      const settings = { 'cleanup.policy': 'compact', 'max.message.bytes': '100000' }
      const of = { partitions: 1, replication: -1 }
      expect(await admin.ensureGroups([[control]], { ...of, settings })).toEqual([undefined])
      expect(await admin.ensureGroups([[control], [plain]], of)).toEqual([undefined, undefined])
      const [refused] = await admin.ensureGroups([[uniqueName('none')]], { ...of, settings: { 'cleanup.policy': 'x' } })
      expect(refused).toContain('cleanup.policy')
      await admin.close()
      expect(await topicSettings(client, [control, plain], TIMEOUT_MS)).toEqual(
        new Map([
          [control, { maxMessageBytes: 100_000, isCompacted: true }],
          [plain, { maxMessageBytes: 1_048_588, isCompacted: false }],
        ]),
      )
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'are refused by a client that is not connected any more, and answered by one that is about to disconnect',
    async () => {
      const other = await connected()
      const answered = describeTopics(other, [uniqueName('none')], TIMEOUT_MS)
      const gone = disconnect(other)
      // In either order, and without a crash.
      await answered.catch(() => undefined)
      await gone
      expect(await settled(describeTopics(other, ['a'], TIMEOUT_MS))).toThrow()
      expect(
        await settled(createTopics(other, ['a'], { partitions: 1, replication: -1, timeoutMs: TIMEOUT_MS })),
      ).toThrow()
    },
    TEST_TIMEOUT_MS,
  )

  test('take no nonsense', () => {
    const done = () => undefined
    const { describe, configs } = addon().topics
    for (const call of [describe, configs] as ((...args: unknown[]) => void)[])
      for (const args of [
        [{}, ['a'], 1_000, done],
        [nativeOf(client), [], 1_000, done],
        [nativeOf(client), [1], 1_000, done],
        [nativeOf(client), ['a'], 'x', done],
        [nativeOf(client), ['a'], 1_000],
      ])
        expect(() => call(...args)).toThrow(TypeError)
    const ends = addon().topics.ends as (...args: unknown[]) => void
    expect(() => ends(nativeOf(client), ['a', 'b'], [1], 1_000, done)).toThrow(TypeError)
  })
})
