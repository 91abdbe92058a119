import pino from 'pino'
import { INPUT_TOPICS, streamTopics } from '../../shared/events/topics.ts'
import type { TopicPartition } from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { redactor } from '../../shared/service/redact.ts'
import type { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { createEnricher } from '../enrich.ts'
import { type Handler, handlerIndex } from '../handlers/handler.ts'
import { createMetrics } from '../metrics.ts'
import { Pipeline, type PipelineDeps, type PipelineLimits } from '../pipeline.ts'

export type PipelineOverrides = Partial<PipelineLimits> & { handlerTimeoutMs?: number; log?: Logger }

/** A pipeline on Kafka in memory that owns these partitions of the stream `events` of the tenant `acme`. Who starts it stops it. */
export function startPipeline(
  kafka: FakeKafka,
  handlers: readonly Handler[] = [],
  { handlerTimeoutMs = 1_000, log = pino({ level: 'silent' }), ...limits }: PipelineOverrides = {},
  slowMs = 20,
  places: readonly TopicPartition[] = [{ topic: 'kt.acme.events', partition: 0 }],
  changed: (deps: PipelineDeps) => PipelineDeps = (deps) => deps,
) {
  for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic)
  const group = kafka.group()
  const metrics = createMetrics()
  const deps: PipelineDeps = {
    group,
    transactor: kafka.transactor(),
    async openTransactor(transactionalId) {
      const opened = kafka.transactor(transactionalId)
      await opened.start()
      return opened
    },
    reader: kafka.reader(),
    auditReader: kafka.reader(),
    topics: INPUT_TOPICS,
    metrics,
    tracing: undefined,
    log,
    enrich: createEnricher({ nowMs: Date.now }),
    handlerOf: handlerIndex(handlers),
    policy: {
      quickAttempts: 2,
      quick: { firstMs: 1, maxMs: 2 },
      maxAttempts: 4,
      slow: { firstMs: slowMs, maxMs: 2 * slowMs },
    },
    handlerTimeoutMs,
    nowMs: Date.now,
    redact: redactor(),
    onQuickRetry: () => metrics.retries.inc({ kind: 'quick' }),
    limits: {
      maxConcurrentHandlers: 8,
      maxOpenRecords: 100,
      maxHeldBytes: 1_000_000,
      maxParkedBytes: 1_000_000,
      maxRetryBacklogRecords: 100,
      maxTransactionRecords: 50,
      maxTransactionBytes: 1_000_000,
      dedupeWindowRecords: 1_000,
      revokeTimeoutMs: 500,
      commitStallTimeoutMs: 10_000,
      membershipTimeoutMs: 60_000,
      auditShare: 0.2,
      auditPauseMs: 60_000,
      ...limits,
    },
    isReplacement: false,
  }
  const pipeline = new Pipeline(changed(deps))
  const ended = pipeline.run()
  group.assign([...places])
  return { pipeline, group, metrics, ended }
}
