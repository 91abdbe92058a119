import { expect, test } from 'bun:test'
import pino from 'pino'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { settled } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import { createTopicAdmin } from './admin.ts'
import { createGroupConsumer } from './consumer.ts'
import type { GroupConsumer, GroupListener, TopicPartition } from './types.ts'

const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: 'silent' })

const PARTITIONS = 1_500
const SESSION_TIMEOUT_MS = 30_000
const TEST_TIMEOUT_MS = 60_000

/** The least that brokers take, for few seconds between heartbeats. */
const SHORT_SESSION_MS = 6_000
const HEARTBEAT_MS = SHORT_SESSION_MS / 5

/** A member of the group, which is told what a listener does besides reading from the beginning. */
function createMember(
  groupId: string,
  topic: string,
  revoked: GroupListener['revoked'],
  sessionTimeoutMs = SESSION_TIMEOUT_MS,
): { consumer: GroupConsumer; assigned: TopicPartition[] } {
  const consumer = createGroupConsumer({
    config,
    clientId: 'tests',
    groupId,
    sessionTimeoutMs,
    leaveTimeoutMs: 10_000,
    prefetchMaxBytes: 2 ** 20,
    log,
    onStatistics: () => undefined,
  })
  const assigned: TopicPartition[] = []
  consumer.start(
    new RegExp(`^${topic}$`),
    {
      assigned(given) {
        assigned.push(...given)
        consumer.startReading(given.map((at) => ({ ...at, offset: 0 })))
      },
      revoked,
      outOfRange: () => undefined,
      unreadable: () => undefined,
      failed: () => undefined,
    },
    Promise.resolve(),
  )
  return { consumer, assigned }
}

async function makeTopic(partitions: number): Promise<string> {
  const topic = uniqueName('members')
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  expect(await admin.ensureGroups([[topic]], { partitions, replication: 1 })).toEqual([undefined])
  await admin.close()
  return topic
}

test(
  'a member that is closed has left its group, however many partitions it reads: the next one does not wait for its session’s end',
  async () => {
    const topic = await makeTopic(PARTITIONS)
    const groupId = uniqueName('group')
    const member = () => {
      const { consumer, assigned } = createMember(groupId, topic, async (given) => given)
      const joined = () =>
        until(
          async () => {
            await consumer.poll(100, 10)
            return assigned.length === PARTITIONS
          },
          { timeoutMs: SESSION_TIMEOUT_MS + 10_000, what: 'all partitions' },
        )
      return { consumer, joined }
    }
    const first = member()
    await first.joined()
    await first.consumer.close()
    const begun = performance.now()
    const second = member()
    await second.joined()
    expect(performance.now() - begun).toBeLessThan(SESSION_TIMEOUT_MS / 2)
    await second.consumer.close()
  },
  TEST_TIMEOUT_MS,
)

test(
  'a partition that is being handed over stays this member’s until that is answered, whatever else it stops to read meanwhile',
  async () => {
    const topic = await makeTopic(2)
    const groupId = uniqueName('group')
    const handedOver = Promise.withResolvers<void>()
    let revoked: TopicPartition[] = []
    const first = createMember(
      groupId,
      topic,
      async (given) => {
        revoked = given
        await handedOver.promise
        return given
      },
      SHORT_SESSION_MS,
    )
    const polling = async (until: () => boolean, what: string, timeoutMs = SESSION_TIMEOUT_MS) => {
      const deadline = performance.now() + timeoutMs
      while (!until() && performance.now() < deadline)
        await Promise.all(members.map(({ consumer }) => consumer.poll(100, 10)))
      if (!until()) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    }
    const members = [first]
    await polling(() => first.assigned.length === 2, 'both partitions')
    const second = createMember(groupId, topic, async (given) => given, SHORT_SESSION_MS)
    members.push(second)
    await polling(() => revoked.length > 0, 'the revocation')
    const [given] = revoked as [TopicPartition]
    const kept = first.assigned.filter(({ partition }) => partition !== given.partition)
    const stopped = first.consumer.stopReading(kept)
    // An answer that was given for the one that is handed over would bring it to the other member within a heartbeat or two.
    expect(await settled(polling(() => second.assigned.length > 0, 'nothing', 3 * HEARTBEAT_MS))).toThrow('nothing')
    handedOver.resolve()
    await stopped
    await polling(() => second.assigned.length === 1, 'the partition that was handed over')
    expect(second.assigned).toEqual([given])
    await Promise.all(members.map(({ consumer }) => consumer.close()))
  },
  TEST_TIMEOUT_MS,
)

test('a member that the broker does not let join says why', async () => {
  const topic = await makeTopic(1)
  const { consumer } = createMember(uniqueName('group'), topic, async (given) => given, 1_000)
  await until(
    async () => {
      await consumer.poll(100, 10)
      return consumer.refusal() !== undefined
    },
    { timeoutMs: 30_000, what: 'a refusal' },
  )
  expect(consumer.refusal()).toContain('session timeout')
  expect(consumer.membership()).toBeUndefined()
  await consumer.close()
})
