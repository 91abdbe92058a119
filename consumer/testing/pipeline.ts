import pino from 'pino'
import { INPUT_TOPICS, streamTopics } from '../../shared/events/topics.ts'
import type { TopicPartition } from '../../shared/kafka/types.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { redactor } from '../../shared/service/redact.ts'
import type { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { type ConsumerConfig, loadConsumerConfig } from '../config.ts'
import { createContextStart, createEnricher } from '../enrich.ts'
import { type Handler, handlerIndex } from '../handlers/handler.ts'
import { type ConsumerMetrics, createMetrics } from '../metrics.ts'
import { Pipeline, type PipelineBounds, type PipelineDeps } from '../pipeline.ts'
import { PASSING } from './passing.ts'

/** A configuration with small limits and fast retries; some values are outside the ranges of their variables. */
export const testConfig = (changed: Partial<ConsumerConfig> = {}): ConsumerConfig => ({
  ...loadConsumerConfig({ KAFKA_BROKERS: 'broker.test:9092' }),
  DRAIN_TIMEOUT_MS: 1_000,
  HANDLER_TIMEOUT_MS: 1_000,
  MAX_CONCURRENT_HANDLERS: 8,
  MAX_OPEN_RECORDS: 100,
  MAX_HELD_BYTES: 1_000_000,
  MAX_PARKED_BYTES: 1_000_000,
  MAX_RETRY_BACKLOG_RECORDS: 100,
  MAX_TRANSACTION_RECORDS: 50,
  DEDUPE_WINDOW_RECORDS: 1_000,
  QUICK_ATTEMPTS: 2,
  QUICK_RETRY_FIRST_MS: 1,
  QUICK_RETRY_MAX_MS: 2,
  MAX_ATTEMPTS: 4,
  RETRY_FIRST_MS: 20,
  RETRY_MAX_MS: 40,
  ...changed,
})

type Clients = Pick<
  PipelineDeps,
  'group' | 'transactor' | 'openTransactor' | 'reader' | 'auditReader' | 'controlReader'
>

export interface TestDeps {
  metrics: ConsumerMetrics
  /** As in {@link testConfig}. */
  config?: Partial<ConsumerConfig>
  bounds?: Partial<PipelineBounds>
  handlers?: readonly Handler[]
  log?: Logger
  topics?: RegExp
  isReplacement?: boolean
}

/** The dependencies of a test's pipeline with these clients. */
export const testDeps = (
  clients: Clients,
  {
    metrics,
    config,
    bounds,
    handlers = [],
    log = pino({ level: 'silent' }),
    topics = INPUT_TOPICS,
    isReplacement = false,
  }: TestDeps,
): PipelineDeps => ({
  ...clients,
  topics,
  metrics,
  tracing: undefined,
  log,
  enrich: createEnricher({ nowMs: Date.now }),
  contextStart: createContextStart(Date.now),
  handlerOf: handlerIndex(handlers),
  config: testConfig(config),
  nowMs: Date.now,
  redact: redactor(),
  bounds: { maxTransactionBytes: 1_000_000, auditShare: 0.2, auditPauseMs: 60_000, ...bounds },
  isReplacement,
})

export type PipelineOverrides = Pick<TestDeps, 'config' | 'bounds' | 'log'>

/** A pipeline on Kafka in memory that owns these partitions of the stream `events` of the tenant `acme`. The caller stops it. */
export function startPipeline(
  kafka: FakeKafka,
  handlers: readonly Handler[] = [],
  overrides: PipelineOverrides = {},
  places: readonly TopicPartition[] = [{ topic: 'kt.acme.events', partition: 0 }],
  changed: (deps: PipelineDeps) => PipelineDeps = (deps) => deps,
) {
  for (const topic of streamTopics('acme', 'events')) kafka.createTopic(topic)
  kafka.passing ??= PASSING
  const group = kafka.group()
  const metrics = createMetrics()
  const clients = {
    group,
    transactor: kafka.transactor(),
    async openTransactor(transactionalId: string) {
      const opened = kafka.transactor(transactionalId)
      await opened.start()
      return opened
    },
    reader: kafka.reader(),
    auditReader: kafka.reader(),
    controlReader: kafka.reader(),
  }
  const pipeline = new Pipeline(changed(testDeps(clients, { ...overrides, metrics, handlers })))
  const ended = pipeline.run()
  group.assign([...places])
  return { pipeline, group, metrics, ended }
}
