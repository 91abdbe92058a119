/** Wires the consumer, and runs it until it is stopped. */

import { isAbsolute, resolve } from 'node:path'
import { INPUT_TOPICS } from '../shared/events/topics.ts'
import { certificatesOf } from '../shared/http/certificates.ts'
import { serveOps } from '../shared/http/ops.ts'
import { createGroupConsumer } from '../shared/kafka/consumer.ts'
import { createRangeReader } from '../shared/kafka/range-reader.ts'
import { addSecurityMetrics, securityOf } from '../shared/kafka/security.ts'
import { addClientMetrics, type Position, type Statistics } from '../shared/kafka/statistics.ts'
import { createTransactor } from '../shared/kafka/transactor.ts'
import { EXIT_BAD_CONFIG, loadConfigOrExit } from '../shared/service/config.ts'
import { securityInWords } from '../shared/service/kafka-security.ts'
import { createLogger, TenantLines } from '../shared/service/logger.ts'
import { addProcessMetrics } from '../shared/service/process-metrics.ts'
import { redactor } from '../shared/service/redact.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../shared/service/retry.ts'
import { stopOnSignal } from '../shared/service/shutdown.ts'
import { messageOf, onUncaught } from '../shared/service/thrown.ts'
import { createTracing } from '../shared/tracing/tracing.ts'
import { type ConsumerConfig, loadConsumerConfig } from './config.ts'
import { createContextStart, createEnricher } from './enrich.ts'
import { type Handler, handlerIndex } from './handlers/handler.ts'
import { handlers as builtIn } from './handlers/index.ts'
import { loadHandlers } from './handlers/load.ts'
import { guardProcess } from './handlers/process.ts'
import { createChecks, createLiveness, LagMeter, measure } from './health.ts'
import { createMetrics } from './metrics.ts'
import { Pipeline } from './pipeline.ts'
import { LOOKUP_STATUSES, ReferenceTable } from './reference-table.ts'
import { statuszOf } from './statusz.ts'

/** How often gauges are updated, and lag is measured. */
const MEASURE_INTERVAL_MS = 1_000
const LAG_INTERVAL_MS = 2_000

/** The read-ahead of the background audit and of the control topic's reader. */
const SMALL_PREFETCH_MAX_BYTES = 2 ** 20

/** How long a client for another transactional id may take to connect. */
const OPEN_TIMEOUT_MS = 20_000

/** After so many replacements of the clients without a commit, the process exits, for its supervisor to restart it. */
const MAX_REPLACEMENTS_IN_A_ROW = 20

const UNHANDLED_MEANS: Readonly<Record<ConsumerConfig['UNHANDLED'], string>> = {
  pass: 'count as processed, as they are',
  'dead-letter': 'are dead letters',
  hold: 'wait in .retry until a consumer that handles them starts',
}

/** `sysexits.h`: EX_UNAVAILABLE. */
const EXIT_UNAVAILABLE = 69

const config = loadConfigOrExit(loadConsumerConfig)
const log = createLogger('consumer', config)
const certificates = loadConfigOrExit(() => certificatesOf(config, log))
const metrics = createMetrics()
certificates?.observe(metrics.registry)
const redact = redactor(config.REDACT_PATTERN)
const uncaughtLines = new TenantLines()
onUncaught(({ message, stack }) => {
  metrics.uncaught.inc()
  // Mostly a handler's error, and a handler of one stream must not end the process for all others. Our own code catches errors where it awaits.
  log[uncaughtLines.level(undefined, 'error')](
    { reason: redact(message), stack: stack && redact(stack) },
    'uncaught error; the consumer continues',
  )
})
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const security = securityOf(config, log)
addSecurityMetrics(metrics.registry, security)
const clientMetrics = addClientMetrics(metrics.registry)
const statistics = { group: clientMetrics.sink('consumer'), transactions: clientMetrics.sink('transactions') }
const lagMeter = new LagMeter(metrics, Date.now)
const exit: (code: number) => never = process.exit.bind(process)
const tell = process.stderr.write.bind(process.stderr)
guardProcess(log, redact)
const clientId = `kafkatrace-consumer-${config.INSTANCE_ID}`
const tracing = await createTracing(config, 'consumer', clientId, log)
// Before handlers are loaded: they may get a tracer at once.
tracing?.activate()
const { handlers, handlerOf } = await registeredHandlers(config)
const reference = await startReferenceTable(config)
const enrich = createEnricher({ reference, nowMs: Date.now })
const draining = new AbortController()

/** Replacing the clients did not help. */
let gaveUp = false
let current = open(false)
/** The clients that were recreated last, and the reason. */
let last: { pipeline: Pipeline; reason: string } | undefined
const checks = {
  ...createChecks(() => current, replaced, draining.signal),
  credentials: security.state,
  ...(certificates === undefined ? {} : { certificates: () => certificates.state() }),
}
const ops = serveOps(
  {
    registry: metrics.registry,
    checks,
    status: () => statuszOf(clientId, checks, current.pipeline, metrics.duplicates),
    alive: createLiveness(
      () => current,
      () => gaveUp,
      draining.signal,
    ),
  },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
  certificates,
)
void certificates?.watch()
const measuring = setInterval(() => measure(current.pipeline, metrics), MEASURE_INTERVAL_MS)
void lagUntilDrained()
const stop = stopOnSignal(
  [
    { name: 'readiness', run: () => draining.abort() },
    { name: 'pipeline', run: () => current.pipeline.stop() },
    { name: 'reference table', run: () => reference?.stop() },
    { name: 'spans', run: () => tracing?.stop() },
    {
      name: 'operations',
      run: () => {
        clearInterval(measuring)
        stopProcessMetrics()
        certificates?.stop()
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
    ...securityInWords(config),
  },
  'consumer started',
)
log.info(
  { types: handlers.map(({ type }) => type), unhandled: config.UNHANDLED },
  `events of these types have a handler; others ${UNHANDLED_MEANS[config.UNHANDLED]}`,
)
await work()

/** Makes a pipeline with new clients, not started. */
function open(isReplacement: boolean) {
  /** Only of this client: an earlier one may have read further. */
  let positions: readonly Position[] = []
  const group = createGroupConsumer({
    config,
    clientId,
    groupId: config.GROUP_ID,
    sessionTimeoutMs: config.SESSION_TIMEOUT_MS,
    leaveTimeoutMs: config.DRAIN_TIMEOUT_MS * 0.6,
    prefetchMaxBytes: config.PREFETCH_MAX_BYTES,
    log,
    onStatistics(taken) {
      positions = statistics.group.take(taken)
    },
  })
  const transactorOf = (transactionalId: string, onStatistics: (statistics: Statistics) => void) =>
    createTransactor({
      config,
      clientId: `${clientId}-transactions`,
      transactionalId,
      groupId: config.GROUP_ID,
      transactionTimeoutMs: config.TRANSACTION_TIMEOUT_MS,
      log,
      onStatistics,
    })
  const transactor = transactorOf(`${config.GROUP_ID}-${config.INSTANCE_ID}`, statistics.transactions.take)
  const reader = createRangeReader({ config, clientId: `${clientId}-rebuild`, log, groupId: config.GROUP_ID })
  const auditReader = createRangeReader({
    config,
    clientId: `${clientId}-audit`,
    log,
    groupId: config.GROUP_ID,
    prefetchMaxBytes: SMALL_PREFETCH_MAX_BYTES,
  })
  const controlReader = createRangeReader({
    config,
    clientId: `${clientId}-control`,
    log,
    prefetchMaxBytes: SMALL_PREFETCH_MAX_BYTES,
  })
  const pipeline = new Pipeline({
    group,
    transactor,
    reader,
    auditReader,
    controlReader,
    async openTransactor(transactionalId) {
      const opened = transactorOf(transactionalId, () => undefined)
      try {
        await within(OPEN_TIMEOUT_MS, opened.start())
        return opened
      } catch (error) {
        await opened.close()
        throw error
      }
    },
    topics: INPUT_TOPICS,
    metrics,
    tracing,
    log,
    enrich,
    contextStart: reference === undefined ? createContextStart(Date.now) : undefined,
    handlerOf,
    config,
    nowMs: Date.now,
    redact,
    isReplacement,
  })
  return { pipeline, group, transactor, reader, positions: () => positions }
}

/** Runs until stopped. After a fatal error, new clients read again what is not committed. */
async function work(): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const failure = await current.pipeline.run()
    if (failure === undefined) return
    if (current.pipeline.hasCommitted()) attempt = 1
    metrics.replacements.inc()
    const advice = /fenced/i.test(failure) ? '; does another process use this INSTANCE_ID?' : ''
    last = { pipeline: current.pipeline, reason: `${failure}${advice}` }
    log.error({ reason: failure, attempt }, `fatal Kafka error; recreating clients${advice}`)
    if (attempt >= MAX_REPLACEMENTS_IN_A_ROW) {
      gaveUp = true
      log.fatal({ attempt }, 'recreating the Kafka clients did not help: exiting')
      return void stop(EXIT_UNAVAILABLE)
    }
    await sleep(delayMs(CONNECT_BACKOFF, attempt), draining.signal)
    if (draining.signal.aborted) return
    current = open(true)
  }
}

/** Why the clients were recreated, until the new ones have committed. */
function replaced(): string | undefined {
  const helped = current.pipeline !== last?.pipeline && current.pipeline.hasCommitted()
  return helped ? undefined : last?.reason
}

async function lagUntilDrained(): Promise<void> {
  while (!draining.signal.aborted) {
    const { pipeline, reader, positions } = current
    await lagMeter
      .measure(pipeline, reader, positions())
      .catch((error: Error) => log.debug({ reason: error.message }, 'could not measure consumer lag'))
    await sleep(LAG_INTERVAL_MS, draining.signal)
  }
}

/** The built-in handlers and those of HANDLERS_MODULE; exits, naming every fault, if that module cannot be used. */
async function registeredHandlers({ HANDLERS_MODULE: path, BUILT_IN_HANDLERS }: ConsumerConfig) {
  try {
    const handlers = path === undefined ? [] : await loadHandlers(path, redact)
    // In this order, since messages give the index in the module's own list.
    const all = [...(handlers as Handler[]), ...(BUILT_IN_HANDLERS === 'on' ? builtIn : [])]
    return { handlers: all, handlerOf: handlerIndex(all) }
  } catch (error) {
    tell(
      `HANDLERS_MODULE=${path}${path === undefined || isAbsolute(path) ? '' : ` (${resolve(path)})`} cannot be used: ${messageOf(error, Number.POSITIVE_INFINITY)}\n`,
    )
    exit(EXIT_BAD_CONFIG)
  }
}

async function startReferenceTable(config: ConsumerConfig): Promise<ReferenceTable | undefined> {
  // Also without a table, so that its panel has series.
  for (const outcome of LOOKUP_STATUSES) metrics.lookups.inc({ outcome }, 0)
  const file = config.REFERENCE_TABLE_FILE
  if (file === undefined) return undefined
  const table = new ReferenceTable({
    file,
    keyColumn: config.REFERENCE_TABLE_KEY_COLUMN,
    attribute: config.REFERENCE_TABLE_ATTRIBUTE,
    loaded: (rows) => log.info({ file, rows }, 'reference table loaded'),
    rejected: (reason) => log.error({ file, reason }, 'reference table rejected; keeping the previous one'),
    lookedUp: (outcome) => metrics.lookups.inc({ outcome }),
  })
  await table.start()
  return table
}
