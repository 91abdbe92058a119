import { expect, test } from 'bun:test'
import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { until } from '../testing/until.ts'
import { createTopicAdmin } from './admin.ts'
import { createGroupConsumer } from './consumer.ts'
import type { TopicPartition } from './types.ts'

const config = loadConsumerConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: 'silent' })

const PARTITIONS = 1_500
const SESSION_TIMEOUT_MS = 30_000
const TEST_TIMEOUT_MS = 60_000

test(
  'a member that is closed has left its group, however many partitions it reads: the next one does not wait for its session’s end',
  async () => {
    const topic = uniqueName('many')
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    await admin.ensureTopics([topic], { partitions: PARTITIONS, replication: 1 })
    await admin.close()
    const groupId = uniqueName('group')
    const member = () => {
      const consumer = createGroupConsumer({
        config,
        clientId: 'tests',
        groupId,
        sessionTimeoutMs: SESSION_TIMEOUT_MS,
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
          revoked: async (given) => given,
          outOfRange: () => undefined,
          unreadable: () => undefined,
          failed: () => undefined,
        },
        Promise.resolve(),
      )
      const joined = () =>
        until(
          async () => {
            await consumer.consume(100, 10)
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
