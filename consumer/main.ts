/**
 * The consumer: Kafka → outcome. In the order in which an event passes through:
 *   pipeline (fetch) → decode → dedupe → enrich (lookup) → handlers/ → retry · dead-letter · processed → pipeline (commit)
 *   consume decides; lanes keep a key in order; partition holds an assigned partition's state, rebuild makes it, ahead saves it
 *   config: every variable; metrics: every metric; this file wires them and holds no logic
 */
import { resolve } from 'node:path'
import { EXIT_BAD_CONFIG, loadConfigOrExit } from '../shared/config.ts'
import { createGroupConsumer } from '../shared/kafka/consumer.ts'
import { createRangeReader } from '../shared/kafka/range-reader.ts'
import { addClientMetrics } from '../shared/kafka/statistics.ts'
import { createTransactor } from '../shared/kafka/transactor.ts'
import { createLogger } from '../shared/logger.ts'
import { type Check, serveOps } from '../shared/ops.ts'
import { addProcessMetrics } from '../shared/process-metrics.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/retry.ts'
import { stopOnSignal } from '../shared/shutdown.ts'
import { INPUT_TOPICS } from '../shared/topics.ts'
import { createTracing } from '../shared/tracing.ts'
import { type ConsumerConfig, loadConsumerConfig } from './config.ts'
import { createEnricher } from './enrich.ts'
import { type Handler, handlerIndex } from './handlers/handler.ts'
import { handlers as builtIn } from './handlers/index.ts'
import { type CircuitState, type GuardedLookup, guardLookup, LOOKUP_OUTCOMES, type LookupOutcome } from './lookup.ts'
import { createMetrics } from './metrics.ts'
import { Pipeline } from './pipeline.ts'
import { createReferenceTable } from './reference-table.ts'

/** How often lag is measured. */
const LAG_INTERVAL_MS = 1_000

const config = loadConfigOrExit(loadConsumerConfig)
const log = createLogger('consumer', config)
const metrics = createMetrics()
const tracing = await createTracing(config, 'consumer', log)
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const clientMetrics = addClientMetrics(metrics.registry)
const statistics = { group: clientMetrics.sink('consumer'), transactions: clientMetrics.sink('transactions') }
const handlers = [...(config.BUILT_IN_HANDLERS === 'on' ? builtIn : []), ...(await additionalHandlers(config))]
const handlerOf = handlerIndex(handlers)
const { lookups, stopLookups } = await startLookups(config)
const enrich = createEnricher({ lookups, nowMs: Date.now })
const draining = new AbortController()

let current = open()
const ops = serveOps(
  { registry: metrics.registry, checks: checks() },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
)
const measuring = setInterval(measure, LAG_INTERVAL_MS)
stopOnSignal(
  [
    { name: 'readiness', run: () => draining.abort() },
    { name: 'pipeline', run: () => current.pipeline.stop() },
    { name: 'look-ups', run: stopLookups },
    { name: 'spans', run: () => tracing?.stop() },
    {
      name: 'operations',
      run: () => {
        clearInterval(measuring)
        stopProcessMetrics()
        return ops.stop()
      },
    },
  ],
  { timeoutMs: config.DRAIN_TIMEOUT_MS, log },
)
log.info(
  {
    opsPort: ops.port,
    group: config.GROUP_ID,
    instance: config.INSTANCE_ID,
    brokers: config.KAFKA_BROKERS,
    handlers: handlers.map((one) => one.type),
  },
  'consumer started',
)
await work()

/** A pipeline with clients of its own, not started. */
function open() {
  const clientId = `kafkatrace-consumer-${config.INSTANCE_ID}`
  const group = createGroupConsumer({
    config,
    clientId,
    groupId: config.GROUP_ID,
    sessionTimeoutMs: config.SESSION_TIMEOUT_MS,
    prefetchMaxBytes: config.PREFETCH_MAX_BYTES,
    log,
    onStatistics: statistics.group.take,
  })
  const transactor = createTransactor({
    config,
    clientId: `${clientId}-transactions`,
    transactionalId: `${config.GROUP_ID}-${config.INSTANCE_ID}`,
    transactionTimeoutMs: config.TRANSACTION_TIMEOUT_MS,
    group,
    log,
    onStatistics: statistics.transactions.take,
  })
  const reader = createRangeReader({ config, clientId: `${clientId}-rebuild`, log })
  const pipeline = new Pipeline({
    group,
    transactor,
    reader,
    topics: INPUT_TOPICS,
    metrics,
    tracing,
    log,
    enrich,
    handlerOf,
    policy: {
      quickAttempts: config.QUICK_ATTEMPTS,
      quick: { firstMs: config.QUICK_RETRY_FIRST_MS, maxMs: config.QUICK_RETRY_MAX_MS },
      maxAttempts: config.MAX_ATTEMPTS,
      slow: { firstMs: config.RETRY_FIRST_MS, maxMs: config.RETRY_MAX_MS },
    },
    handlerTimeoutMs: config.HANDLER_TIMEOUT_MS,
    nowMs: Date.now,
    onQuickRetry: () => metrics.retries.inc({ kind: 'quick' }),
    limits: {
      maxConcurrentHandlers: config.MAX_CONCURRENT_HANDLERS,
      maxOpenRecords: config.MAX_OPEN_RECORDS,
      maxHeldBytes: config.MAX_HELD_BYTES,
      maxParkedBytes: config.MAX_PARKED_BYTES,
      maxRetryBacklogRecords: config.MAX_RETRY_BACKLOG_RECORDS,
      maxTransactionRecords: config.MAX_TRANSACTION_RECORDS,
      dedupeWindowRecords: config.DEDUPE_WINDOW_RECORDS,
      // The last quarter of stopping is for leaving the group and closing.
      revokeTimeoutMs: config.DRAIN_TIMEOUT_MS * 0.75,
    },
  })
  return { pipeline, group, transactor }
}

/** Works until stopped. When the clients cannot go on, everything is opened anew: what is not committed is then read again. */
async function work(): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const begun = performance.now()
    const failure = await current.pipeline.run()
    if (failure === undefined) return
    log.error(
      { reason: failure },
      'the consumer cannot go on with its connections and opens new ones; does another process use this INSTANCE_ID?',
    )
    if (performance.now() - begun > CONNECT_BACKOFF.maxMs * 2) attempt = 1
    await sleep(delayMs(CONNECT_BACKOFF, attempt), draining.signal)
    if (draining.signal.aborted) return
    current = open()
  }
}

function checks(): Record<string, Check> {
  const connected =
    (client: 'group' | 'transactor'): Check =>
    () => {
      const connection = current[client].connection()
      if (connection.state === 'connected') return { ok: true }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    }
  return {
    draining: () => (draining.signal.aborted ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
    kafka: connected('group'),
    transactions: connected('transactor'),
    partitions: () => {
      const { preparing } = current.pipeline.state()
      return preparing.length === 0 ? { ok: true } : { ok: false, reason: `not read yet: ${preparing.join(', ')}` }
    },
  }
}

/** Brings the gauges up to date. */
function measure(): void {
  const { pipeline } = current
  const { open, decided, handlers, parkedBytes, heldBytes, waiting } = pipeline.levels()
  metrics.held.set({ state: 'open' }, open)
  metrics.held.set({ state: 'decided' }, decided)
  metrics.held.set({ state: 'waiting' }, waiting)
  metrics.heldBytes.set({ source: 'input' }, heldBytes)
  metrics.heldBytes.set({ source: 'retry' }, parkedBytes)
  metrics.handlers.set(handlers)
  const { assigned, preparing } = pipeline.state()
  metrics.partitions.set({ state: 'reading' }, assigned - preparing.length)
  metrics.partitions.set({ state: 'preparing' }, preparing.length)
  const ends = new Map(statistics.group.logEnds().map(({ topic, partition, end }) => [`${topic}/${partition}`, end]))
  const nowMs = Date.now()
  for (const { topic, partition, committed, oldestMs } of pipeline.progress()) {
    const end = ends.get(`${topic}/${partition}`)
    if (end === undefined) continue
    const labels = { topic, partition: String(partition) }
    metrics.lagRecords.set(labels, Math.max(0, end - Math.max(0, committed)))
    metrics.lagSeconds.set(labels, oldestMs === undefined ? 0 : Math.max(0, nowMs - oldestMs) / 1000)
  }
}

/** The handlers of the module that HANDLERS_MODULE names. */
async function additionalHandlers({ HANDLERS_MODULE: path }: ConsumerConfig): Promise<readonly Handler[]> {
  if (path === undefined) return []
  const module = (await import(resolve(path))) as { handlers?: readonly Handler[] }
  if (!Array.isArray(module.handlers)) {
    log.fatal({ path }, 'HANDLERS_MODULE exports no list named `handlers`')
    log.flush()
    process.exit(EXIT_BAD_CONFIG)
  }
  return module.handlers
}

/** The look-ups that the configuration names, ready to use. */
async function startLookups(config: ConsumerConfig): Promise<{ lookups: GuardedLookup[]; stopLookups(): void }> {
  if (config.REFERENCE_TABLE_FILE === undefined) return { lookups: [], stopLookups: () => undefined }
  const file = config.REFERENCE_TABLE_FILE
  const table = createReferenceTable({
    file,
    keyColumn: config.REFERENCE_TABLE_KEY_COLUMN,
    attribute: config.REFERENCE_TABLE_ATTRIBUTE,
    loaded: (rows) => log.info({ file, rows }, 'reference table read'),
    rejected: (reason) => log.error({ file, reason }, 'reference table not used; the one before stays in use'),
  })
  await table.start()
  for (const outcome of LOOKUP_OUTCOMES) metrics.lookups.inc({ lookup: table.name, outcome }, 0)
  const observer = {
    answered: (lookup: string, outcome: LookupOutcome) => metrics.lookups.inc({ lookup, outcome }),
    circuitChanged: (lookup: string, state: CircuitState) => log.warn({ lookup, state }, 'circuit breaker'),
  }
  return { lookups: [guardLookup(table, { nowMs: Date.now, observer })], stopLookups: () => table.stop() }
}
