import { Registry } from 'prom-client'
import { createGroupConsumer } from '../../shared/kafka/consumer.ts'
import { createRangeReader } from '../../shared/kafka/range-reader.ts'
import { addClientMetrics, type Position } from '../../shared/kafka/statistics.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import type { Logger } from '../../shared/service/logger.ts'
import { uniqueName } from '../../shared/testing/brokers.ts'
import type { ConsumerConfig } from '../config.ts'
import type { Handler } from '../handlers/handler.ts'
import { createMetrics } from '../metrics.ts'
import { Pipeline } from '../pipeline.ts'
import { testDeps } from './pipeline.ts'

export interface TestConsumerOptions {
  config: ConsumerConfig
  log: Logger
  /** Only topics of this tenant are read. */
  tenant: string
  /** A new one by default. */
  group?: string
  /** The `client.id` of the group member; with `-t` that of its transactions, with `-r` that of restores. A new one by default. */
  instance?: string
  handlers?: readonly Handler[]
  topics?: RegExp
  /** Values other than those of {@link CHANGED}. */
  changed?: Partial<ConsumerConfig>
  /** See `PipelineDeps`; false by default. */
  isReplacement?: boolean
  /** By default, the background audit does not start a second round. */
  auditPauseMs?: number
}

/** Values that differ from the service's defaults. */
const CHANGED: Partial<ConsumerConfig> = {
  SESSION_TIMEOUT_MS: 6_000,
  DRAIN_TIMEOUT_MS: 6_000,
  HANDLER_TIMEOUT_MS: 5_000,
  PREFETCH_MAX_BYTES: 2 ** 20,
  MAX_TRANSACTION_RECORDS: 500,
  DEDUPE_WINDOW_RECORDS: 10_000,
  QUICK_ATTEMPTS: 2,
  QUICK_RETRY_FIRST_MS: 5,
  QUICK_RETRY_MAX_MS: 10,
  MAX_ATTEMPTS: 4,
  RETRY_FIRST_MS: 300,
  RETRY_MAX_MS: 300,
}

/** A consumer like the service's, in the process of a test. */
export function startTestConsumer(options: TestConsumerOptions) {
  const { log } = options
  const config: ConsumerConfig = { ...options.config, ...CHANGED, ...options.changed }
  const groupId = options.group ?? uniqueName('group')
  const clientId = options.instance ?? uniqueName('instance')
  const statistics = addClientMetrics(new Registry()).sink('consumer')
  let positions: readonly Position[] = []
  const group = createGroupConsumer({
    config,
    clientId,
    groupId,
    sessionTimeoutMs: config.SESSION_TIMEOUT_MS,
    leaveTimeoutMs: 10_000,
    prefetchMaxBytes: config.PREFETCH_MAX_BYTES,
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
      transactionTimeoutMs: config.TRANSACTION_TIMEOUT_MS,
      log,
      onStatistics: () => undefined,
    })
  const pipeline = new Pipeline(
    testDeps(
      {
        group,
        transactor: transactor(`${groupId}-${clientId}`),
        async openTransactor(transactionalId) {
          const opened = transactor(transactionalId)
          await opened.start()
          return opened
        },
        reader: createRangeReader({ config, clientId: `${clientId}-r`, log, groupId }),
        auditReader: createRangeReader({ config, clientId: `${clientId}-a`, log, groupId, prefetchMaxBytes: 2 ** 20 }),
        controlReader: createRangeReader({ config, clientId: `${clientId}-c`, log, prefetchMaxBytes: 2 ** 20 }),
      },
      {
        metrics,
        config,
        bounds: { maxTransactionBytes: 2 ** 24, auditPauseMs: options.auditPauseMs ?? 600_000 },
        ...(options.handlers && { handlers: options.handlers }),
        log,
        topics: options.topics ?? new RegExp(`^kt[.]${options.tenant}[.][a-z]+$`),
        isReplacement: options.isReplacement ?? false,
      },
    ),
  )
  const ended = pipeline.run()
  return { pipeline, metrics, ended, positions: () => positions, groupId }
}
