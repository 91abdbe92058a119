/**
 * The producer: HTTP → Kafka. In the order in which a request passes through:
 *   app → authenticate → media-type → admit → body → parse → validate → publish → receipt · problem
 *   ndjson is the same way for streams, line by line; handshake answers webhook senders; openapi and docs describe it all
 *   config: every variable; metrics: every metric; this file wires them and holds no logic
 */
import http from 'node:http'
import { hostname } from 'node:os'
import { loadConfigOrExit } from '../shared/config.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { createRecordProducer } from '../shared/kafka/producer.ts'
import { addClientMetrics } from '../shared/kafka/statistics.ts'
import { createLogger } from '../shared/logger.ts'
import { type Check, serveOps } from '../shared/ops.ts'
import { addProcessMetrics } from '../shared/process-metrics.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../shared/retry.ts'
import { stopOnSignal } from '../shared/shutdown.ts'
import { loadTenants, type Tenants } from '../shared/tenants.ts'
import { inputTopic, streamTopics } from '../shared/topics.ts'
import { createTracing } from '../shared/tracing.ts'
import { Gate, Meters } from './admit.ts'
import { createApp } from './app.ts'
import { authenticateByKey, authenticateNobody } from './authenticate.ts'
import { loadProducerConfig, type ProducerConfig } from './config.ts'
import { createMetrics } from './metrics.ts'

/** Of the time to stop, what requests in flight may take; the rest is for flushing Kafka. */
const REQUESTS_SHARE = 0.7

/** The runtime's own bound on header fields answers with an empty 431; ours, a little lower, with a problem document. */
const HEADER_SLACK_BYTES = 4_096

const config = loadConfigOrExit(loadProducerConfig)
const { authenticate, tenants } = access(config)
const log = createLogger('producer', config)
const metrics = createMetrics()
const tracing = await createTracing(config, 'producer', log)
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const clientId = `kafkatrace-producer-${hostname()}-${process.pid}`
const streams = tenants.flatMap((tenant) => [...tenant.streams].map((stream) => ({ tenant: tenant.name, stream })))
const producer = createRecordProducer({
  config,
  clientId,
  topics: streams.map(({ tenant, stream }) => inputTopic(tenant, stream)),
  deliveryTimeoutMs: config.DELIVERY_TIMEOUT_MS,
  lingerMs: config.LINGER_MS,
  maxQueueRecords: config.MAX_QUEUE_RECORDS,
  maxQueueBytes: config.MAX_QUEUE_BYTES,
  maxRecordBytes: config.MAX_EVENT_BYTES,
  log,
  onStatistics: addClientMetrics(metrics.registry).sink('producer').take,
})
const gate = new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES })
const stopWatching = gate.watch()
const draining = new AbortController()
const app = createApp({
  config,
  producer,
  authenticate,
  gate,
  meters: new Meters(() => performance.now()),
  metrics,
  log,
  tracing,
  nowMs: Date.now,
  draining: draining.signal,
})
metrics.declare(tenants)
metrics.observe(gate, producer)

producer.start()
/** Why not all topics of all streams are there yet. */
let topicsFault = config.CREATE_TOPICS === 'on' ? 'they are being created' : undefined
if (topicsFault !== undefined) void ensureTopics()

;(http as { maxHeaderSize: number }).maxHeaderSize = config.MAX_HEADER_BYTES + HEADER_SLACK_BYTES
const server = Bun.serve({
  hostname: config.HOST,
  port: config.PORT,
  reusePort: config.REUSE_PORT === 'on',
  // Bodies are counted where they are read: a stream of lines has no bound of its own.
  maxRequestBodySize: Number.MAX_SAFE_INTEGER,
  idleTimeout: idleTimeoutSeconds(config),
  fetch: app.fetch,
})
const ops = serveOps(
  { registry: metrics.registry, checks: checks() },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
)
stopOnSignal(
  [
    { name: 'requests', run: drain },
    { name: 'kafka', run: () => producer.close(config.DRAIN_TIMEOUT_MS * (1 - REQUESTS_SHARE) * 0.8) },
    { name: 'public port', run: () => server.stop(true) },
    { name: 'spans', run: () => tracing?.stop() },
    {
      name: 'operations',
      run: () => {
        stopProcessMetrics()
        stopWatching()
        return ops.stop()
      },
    },
  ],
  { timeoutMs: config.DRAIN_TIMEOUT_MS, log },
)
log.info(
  {
    port: server.port,
    opsPort: ops.port,
    brokers: config.KAFKA_BROKERS,
    auth: config.AUTH,
    streams: streams.map(({ tenant, stream }) => `${tenant}/${stream}`),
  },
  'producer started',
)

/** Who may send: by the tenants file, or, in development, anybody. */
function access({ AUTH, TENANTS_FILE, STREAMS }: ProducerConfig) {
  if (AUTH === 'off') {
    const { authenticate, tenant } = authenticateNobody(STREAMS?.split(',') ?? [])
    return { authenticate, tenants: [tenant] }
  }
  const tenants = loadConfigOrExit((): Tenants => loadTenants(TENANTS_FILE ?? ''))
  return { authenticate: authenticateByKey(tenants), tenants: tenants.list }
}

/** Makes every stream's topics, trying again until they are there; one stream's trouble is no other's. */
async function ensureTopics(): Promise<void> {
  const admin = createTopicAdmin({ config, clientId: `${clientId}-topics`, log })
  const options = { partitions: config.TOPIC_PARTITIONS, replication: config.TOPIC_REPLICATION }
  let left = streams
  for (let attempt = 1; !draining.signal.aborted; attempt++) {
    const faults: string[] = []
    const failed: typeof streams = []
    for (const one of left) {
      try {
        await admin.ensureTopics(streamTopics(one.tenant, one.stream), options)
      } catch (error) {
        failed.push(one)
        faults.push((error as Error).message)
      }
    }
    left = failed
    topicsFault = faults.length > 0 ? faults.join('; ') : undefined
    if (topicsFault === undefined) break
    log.warn({ reason: topicsFault }, 'not all topics are there; trying again')
    await sleep(delayMs(CONNECT_BACKOFF, attempt), draining.signal)
  }
  await admin.close()
}

function checks(): Record<string, Check> {
  return {
    draining: () => (gate.draining ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
    kafka: () => {
      const connection = producer.connection()
      if (connection.state === 'connected') return { ok: true }
      return { ok: false, reason: connection.state === 'closed' ? 'closed' : connection.reason }
    },
    // What the producer itself needs; the topics beside these are their readers' concern, and no reason to turn events away.
    topics: () => {
      const missing = streams
        .map(({ tenant, stream }) => inputTopic(tenant, stream))
        .filter((topic) => producer.partitionCount(topic) === undefined)
      if (missing.length === 0) return { ok: true }
      return {
        ok: false,
        reason: `not there: ${missing.join(', ')}${topicsFault === undefined ? '' : `; ${topicsFault}`}`,
      }
    },
  }
}

/** Refuses new requests and waits for those in flight; what takes too long is cut off and, for its client, unknown. */
async function drain(): Promise<void> {
  draining.abort()
  const timeoutMs = config.DRAIN_TIMEOUT_MS * REQUESTS_SHARE
  const cut = new AbortController()
  const idle = gate.drain().then(() => cut.abort())
  await Promise.race([idle, sleep(timeoutMs, cut.signal)])
  if (gate.level.requests > 0)
    log.warn({ requests: gate.level.requests, timeoutMs }, 'requests were still being served and are cut off')
}

/** Bun counts whole seconds, 255 at most. Bodies and streams have deadlines of their own, below this one. */
function idleTimeoutSeconds({ REQUEST_TIMEOUT_MS, NDJSON_PROGRESS_TIMEOUT_MS }: ProducerConfig): number {
  return Math.min(255, Math.ceil(Math.max(REQUEST_TIMEOUT_MS, NDJSON_PROGRESS_TIMEOUT_MS) / 1_000) + 5)
}
