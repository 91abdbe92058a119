/** Wires the producer, and runs it until it is stopped. */

import { hostname } from 'node:os'
import { inputTopic, streamTopics } from '../shared/events/topics.ts'
import { accessOf } from '../shared/http/access-config.ts'
import { type Check, serveOps } from '../shared/http/ops.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { createRecordProducer } from '../shared/kafka/producer.ts'
import { addClientMetrics } from '../shared/kafka/statistics.ts'
import { schemaStoreOf } from '../shared/schemas/store.ts'
import { exitWith, loadConfigOrExit } from '../shared/service/config.ts'
import { createLogger } from '../shared/service/logger.ts'
import { addProcessMetrics } from '../shared/service/process-metrics.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/service/retry.ts'
import { stopOnSignal } from '../shared/service/shutdown.ts'
import { onUncaught } from '../shared/service/thrown.ts'
import { createTracing } from '../shared/tracing/tracing.ts'
import { Gate } from './admit.ts'
import { createApp } from './app.ts'
import { authenticateBy } from './authenticate.ts'
import { loadProducer } from './config.ts'
import { createMetrics } from './metrics.ts'
import { createPublicPort } from './public-port.ts'
import { readinessChecks } from './readiness.ts'
import { sourcesOf } from './sources/declared.ts'
import { loadKinds } from './sources/load.ts'
import { REFUSED_AFTER_MS } from './webhooks.ts'

/** The most faults of topic creation that are logged. */
const LOGGED_FAULTS = 5

/** The share of the drain time for requests in flight; the rest is for flushing Kafka. */
const REQUESTS_SHARE = 0.7

/** This does not prolong an outage: a new client connects as fast as one that waits. */
const UNREACHED_TIMEOUT_MS = 60_000

const { config, tenants: declared } = loadConfigOrExit(loadProducer)
const log = createLogger('producer', config)
const access = accessOf(config, declared, log)
const tenants = access.tenants()
const sources = await loadKinds(config.SOURCES_MODULE)
  .then((kinds) => sourcesOf(tenants, kinds))
  .catch(exitWith)
const schemas = await schemaStoreOf(config, tenants, log).catch(exitWith)
const metrics = createMetrics()
const tracing = await createTracing(config, 'producer', log)
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const clientId = `kafkatrace-producer-${hostname()}-${process.pid}`
const streams = tenants.flatMap((tenant) => [...tenant.streams].map((stream) => ({ tenant: tenant.name, stream })))
const topics = streams.map(({ tenant, stream }) => inputTopic(tenant, stream))
const producer = createRecordProducer({
  config,
  clientId,
  topics,
  deliveryTimeoutMs: config.DELIVERY_TIMEOUT_MS,
  lingerMs: config.LINGER_MS,
  maxQueueRecords: config.MAX_QUEUE_RECORDS,
  maxQueueBytes: config.MAX_QUEUE_BYTES,
  maxRecordBytes: config.MAX_EVENT_BYTES,
  unreachedTimeoutMs: UNREACHED_TIMEOUT_MS,
  log,
  onStatistics: addClientMetrics(metrics.registry).sink('producer').take,
})
const gate = new Gate(
  { maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES },
  // No room has to be left for a disabled tenant.
  tenants.filter(({ enabled }) => enabled).length,
)
const stopWatching = gate.watch()
const ending = new AbortController()
const app = createApp({
  config,
  producer,
  authenticate: authenticateBy(access.authorise),
  sources,
  schemas,
  refusedAfterMs: REFUSED_AFTER_MS,
  gate,
  quotaMs: () => performance.now(),
  metrics,
  log,
  tracing,
  nowMs: Date.now,
  ending: ending.signal,
})
metrics.declare(tenants)
metrics.observe(gate, producer, topics, schemas)

/** Why not all topics could be created. */
let creationFault: string | undefined
/** At the start schemas are fetched before readiness; later, those that are known are used whatever becomes of their source. */
const schemasState = (): ReturnType<Check> => schemas?.state() ?? { ok: true }
const { kafka, streams: writable } = readinessChecks({
  topics,
  producer,
  createsTopics: config.CREATE_TOPICS === 'on',
  creationFault: () => creationFault,
  nowMs: () => performance.now(),
})
const port = createPublicPort({
  config,
  gate,
  log,
  fetch: app.fetch,
  ready: () => kafka().ok && writable().ok && schemasState().ok,
})
const ops = serveOps(
  {
    registry: metrics.registry,
    checks: {
      draining: () => (gate.draining ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
      kafka,
      streams: writable,
      ...(schemas === undefined ? {} : { schemas: schemasState }),
      port: () =>
        port.listening() ? { ok: true } : { ok: false, reason: 'not open yet: it opens when all else is fine' },
    },
  },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
)
const stop = stopOnSignal(
  [
    { name: 'requests', run: () => port.drain(config.DRAIN_TIMEOUT_MS * REQUESTS_SHARE, () => ending.abort()) },
    { name: 'kafka', run: () => producer.close(config.DRAIN_TIMEOUT_MS * (1 - REQUESTS_SHARE) * 0.8) },
    { name: 'public port', run: () => port.close() },
    { name: 'spans', run: () => tracing?.stop() },
    {
      name: 'operations',
      run: () => {
        stopProcessMetrics()
        stopWatching()
        schemas?.stop()
        return ops.stop()
      },
    },
  ],
  { timeoutMs: config.DRAIN_TIMEOUT_MS, log },
)
onUncaught((error) => {
  if (config.SOURCES_MODULE !== undefined) {
    log.error(error, 'uncaught error, most likely of SOURCES_MODULE: the service goes on')
    return
  }
  log.fatal(error, 'internal error, please report it: shutting down')
  void stop(1)
})
log.info(
  {
    opsPort: ops.port,
    brokers: config.KAFKA_BROKERS,
    auth: config.AUTH,
    streams: streams.map(({ tenant, stream }) => `${tenant}/${stream}`),
    sources: [...sources.keys()],
  },
  'producer started',
)
producer.start()
if (config.CREATE_TOPICS === 'on') void ensureTopics()
port.open().catch((error) => {
  log.fatal({ err: error }, 'cannot listen on the public port')
  void stop(1)
})

/** Creates the topics of every stream, with retries until all exist. A fault of one stream does not hold up others. */
async function ensureTopics(): Promise<void> {
  const admin = createTopicAdmin({ config, clientId: `${clientId}-topics`, log })
  const options = { partitions: config.TOPIC_PARTITIONS, replication: config.TOPIC_REPLICATION }
  let left = streams.map(({ tenant, stream }) => streamTopics(tenant, stream))
  for (let attempt = 1; !gate.draining; attempt++) {
    let fault: string | undefined
    try {
      const faults = await admin.ensureGroups(left, options)
      left = left.filter((_, index) => faults[index] !== undefined)
      const found = faults.filter((fault) => fault !== undefined)
      fault = found.length === 0 ? undefined : found.slice(0, LOGGED_FAULTS).join('; ')
    } catch (error) {
      fault = (error as Error).message
    }
    if (fault !== undefined)
      log[fault === creationFault ? 'debug' : 'warn'](
        { streams: left.length, reason: fault },
        'some topics are missing',
      )
    creationFault = fault
    if (fault === undefined) break
    await sleep(delayMs(CONNECT_BACKOFF, attempt), ending.signal)
  }
  await admin.close()
}
