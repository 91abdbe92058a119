import pino from 'pino'
import { createRecordProducer } from '../kafka/producer.ts'
import type { RecordProducer } from '../kafka/types.ts'
import type { CommonConfig } from '../service/config.ts'

/** A producer of a test that is not about producers. Begun; the test closes it. */
export function startTestProducer(
  config: CommonConfig,
  topics: readonly string[],
  log = pino({ level: 'silent' }),
): RecordProducer {
  const producer = createRecordProducer({
    config,
    clientId: 'tests',
    topics,
    deliveryTimeoutMs: 10_000,
    lingerMs: 1,
    maxQueueRecords: 100_000,
    maxQueueBytes: 2 ** 27,
    maxRecordBytes: 1_000_000,
    unreachedTimeoutMs: 60_000,
    log,
    onStatistics: () => undefined,
  })
  producer.start()
  return producer
}
