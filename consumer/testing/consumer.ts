import { Registry } from 'prom-client'
import { createGroupConsumer } from '../../shared/kafka/consumer.ts'
import { createRangeReader } from '../../shared/kafka/range-reader.ts'
import { addClientMetrics, type Position } from '../../shared/kafka/statistics.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { redactor } from '../../shared/service/redact.ts'
import { uniqueName } from '../../shared/testing/brokers.ts'
import type { ConsumerConfig } from '../config.ts'
import { createEnricher } from '../enrich.ts'
import { type Handler, handlerIndex } from '../handlers/handler.ts'
import { createMetrics } from '../metrics.ts'
import { Pipeline } from '../pipeline.ts'

export interface TestConsumerOptions {
  config: ConsumerConfig
  log: Logger
  /** Only topics of this tenant are read. */
  tenant: string
  /** One of its own where not given. */
  group?: string
  /** The `client.id` of the group's member; with `-t` that of its transactions, with `-r` that of restores. One of its own where not given. */
  instance?: string
  handlers?: readonly Handler[]
  topics?: RegExp
  sessionTimeoutMs?: number
  transactionTimeoutMs?: number
  /** How long an event waits in `.retry`. */
  slowRetryMs?: number
  handlerTimeoutMs?: number
  /** See `PipelineDeps`; false where not given. */
  isReplacement?: boolean
  /** The check in the background does not come to a second round where not given. */
  auditPauseMs?: number
}

/** A consumer as the service has it, in the process of a test. */
export function startTestConsumer(options: TestConsumerOptions) {
  const { config, log, transactionTimeoutMs = 10_000, slowRetryMs = 300 } = options
  const groupId = options.group ?? uniqueName('group')
  const clientId = options.instance ?? uniqueName('instance')
  const statistics = addClientMetrics(new Registry()).sink('consumer')
  let positions: readonly Position[] = []
  const group = createGroupConsumer({
    config,
    clientId,
    groupId,
    sessionTimeoutMs: options.sessionTimeoutMs ?? 6_000,
    leaveTimeoutMs: 10_000,
    prefetchMaxBytes: 2 ** 20,
    log,
    onStatistics(taken) {
      positions = statistics.take(taken)
    },
  })
  const metrics = createMetrics()
  const transactor = (transactionalId: string) =>
    createTransactor({
      config,
      clientId: `${clientId}-t`,
      transactionalId,
      transactionTimeoutMs,
      log,
      onStatistics: () => undefined,
    })
  const pipeline = new Pipeline({
    group,
    transactor: transactor(`${groupId}-${clientId}`),
    async openTransactor(transactionalId) {
      const opened = transactor(transactionalId)
      await opened.start()
      return opened
    },
    reader: createRangeReader({ config, clientId: `${clientId}-r`, log, groupId }),
    auditReader: createRangeReader({ config, clientId: `${clientId}-a`, log, groupId, prefetchMaxBytes: 2 ** 20 }),
    topics: options.topics ?? new RegExp(`^kt[.]${options.tenant}[.][a-z]+$`),
    metrics,
    tracing: undefined,
    log,
    enrich: createEnricher({ nowMs: Date.now }),
    handlerOf: handlerIndex(options.handlers ?? []),
    policy: {
      quickAttempts: 2,
      quick: { firstMs: 5, maxMs: 10 },
      maxAttempts: 4,
      slow: { firstMs: slowRetryMs, maxMs: slowRetryMs },
    },
    handlerTimeoutMs: options.handlerTimeoutMs ?? 5_000,
    nowMs: Date.now,
    redact: redactor(),
    onQuickRetry: () => undefined,
    limits: {
      maxConcurrentHandlers: 16,
      maxOpenRecords: 500,
      maxHeldBytes: 2 ** 24,
      maxParkedBytes: 2 ** 22,
      maxRetryBacklogRecords: 1_000,
      maxTransactionRecords: 500,
      maxTransactionBytes: 2 ** 24,
      dedupeWindowRecords: 10_000,
      revokeTimeoutMs: 3_000,
      commitStallTimeoutMs: 30_000,
      membershipTimeoutMs: 60_000,
      auditShare: 0.2,
      auditPauseMs: options.auditPauseMs ?? 600_000,
    },
    isReplacement: options.isReplacement ?? false,
  })
  const ended = pipeline.run()
  return { pipeline, metrics, ended, positions: () => positions, groupId }
}
