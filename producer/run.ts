/** Wires the producer, and runs it until it is stopped. */

import { hostname } from 'node:os'
import { inputTopic, streamTopics } from '../shared/events/topics.ts'
import { accessOf } from '../shared/http/access-config.ts'
import { certificatesOf } from '../shared/http/certificates.ts'
import { clientAddress } from '../shared/http/client-address.ts'
import { countingFailures, FailedAuthentications } from '../shared/http/failed-authentications.ts'
import { jwtOf } from '../shared/http/jwt-config.ts'
import { type Check, serveOps } from '../shared/http/ops.ts'
import type { Tenant } from '../shared/http/tenants.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { createRecordProducer } from '../shared/kafka/producer.ts'
import { addSecurityMetrics, securityOf } from '../shared/kafka/security.ts'
import { addClientMetrics } from '../shared/kafka/statistics.ts'
import { StreamsStore } from '../shared/schemas/store.ts'
import { exitWith, loadConfigOrExit } from '../shared/service/config.ts'
import { securityInWords } from '../shared/service/kafka-security.ts'
import { createLogger } from '../shared/service/logger.ts'
import { addProcessMetrics } from '../shared/service/process-metrics.ts'
import { stopOnSignal } from '../shared/service/shutdown.ts'
import { onUncaught } from '../shared/service/thrown.ts'
import { createTracing } from '../shared/tracing/tracing.ts'
import { Gate } from './admit.ts'
import { createApp } from './app.ts'
import { authenticateBy } from './authenticate.ts'
import { loadProducer } from './config.ts'
import { Cors } from './cors.ts'
import { createMetrics } from './metrics.ts'
import { askAt, watchPeers } from './peers.ts'
import { createPublicPort } from './public-port.ts'
import { readinessChecks } from './readiness.ts'
import { watchReplicas } from './replicas.ts'
import { sourcesOf } from './sources/declared.ts'
import { loadKinds } from './sources/load.ts'
import { sendersAmong } from './store.ts'
import { TopicMaker } from './topic-maker.ts'
import { REFUSED_AFTER_MS } from './webhooks.ts'

/** The shares of the drain time for requests in flight, and for flushing Kafka; the rest is for closing what is left. */
const REQUESTS_SHARE = 0.7
const FLUSH_SHARE = 0.2

/** This does not prolong an outage: a new client connects as fast as one that waits. */
const UNREACHED_TIMEOUT_MS = 60_000

const { config, tenants: declared } = loadConfigOrExit(loadProducer)
const log = createLogger('producer', config)
const certificates = loadConfigOrExit(() => certificatesOf(config, log))
const jwt = await jwtOf(config, log)
const access = accessOf(config, declared, log, jwt?.tokens)
const kinds = await loadKinds(config.SOURCES_MODULE).catch(exitWith)
let sources = loadConfigOrExit(() => sourcesOf(access.tenants(), kinds))
const schemas = new StreamsStore(config, log)
await schemas.start(access.tenants()).catch(exitWith)
const metrics = createMetrics()
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const security = securityOf(config, log)
addSecurityMetrics(metrics.registry, security)
const clientId = `kafkatrace-producer-${hostname()}-${process.pid}`
const tracing = await createTracing(config, 'producer', clientId, log)
/** Of now, as of each change. */
let streams = streamsOf(access.tenants())
let topics = streams.map(({ tenant, stream }) => inputTopic(tenant, stream))
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
  sendersAmong(access.tenants()),
)
const stopWatching = gate.watch()
const ending = new AbortController()
const maker = new TopicMaker({
  openAdmin: () => createTopicAdmin({ config, clientId: `${clientId}-topics`, log }),
  options: { partitions: config.TOPIC_PARTITIONS, replication: config.TOPIC_REPLICATION },
  log,
  ending: ending.signal,
})
const makeTopics = (): void => {
  if (config.CREATE_TOPICS === 'on' && !gate.draining)
    maker.want(streams.map(({ tenant, stream }) => streamTopics(tenant, stream)))
}
access.onChange((tenants) => {
  streams = streamsOf(tenants)
  topics = streams.map(({ tenant, stream }) => inputTopic(tenant, stream))
  sources = sourcesOf(tenants, kinds, sources)
  producer.watch(topics)
  schemas.cover(tenants)
  metrics.declare(tenants)
  metrics.showKeys(access.credentials().values())
  makeTopics()
})
const replicas = watchReplicas({ initial: config.QUOTA_REPLICAS, name: config.REPLICAS_DNS, log })
const failures = new FailedAuthentications({
  count: metrics.authenticationFailed,
  log,
  nowMs: () => performance.now(),
})
const cors = new Cors(
  () => access.tenants(),
  () => metrics.answered('preflight', 204, undefined),
  log,
)
const addressOf = clientAddress(config.TRUSTED_PROXIES, (request) => port.addressOf(request))
const app = createApp({
  config,
  producer,
  authenticate: cors.authenticating(authenticateBy(countingFailures(access.authorise, failures, addressOf))),
  clientAddress: addressOf,
  access,
  sources: () => sources,
  schemas,
  refusedAfterMs: REFUSED_AFTER_MS,
  gate,
  quotaClock: { nowMs: () => performance.now(), replicas: replicas.count },
  metrics,
  log,
  tracing,
  nowMs: Date.now,
  ending: ending.signal,
  sendsAway: () => peers.canStore(),
})
metrics.declare(access.tenants())
metrics.showKeys(access.credentials().values())
certificates?.observe(metrics.registry)

/** At the start schemas are fetched before readiness; later, those that are known are used whatever becomes of their source. */
const schemasState: Check = () => schemas.state()
const { kafka, streams: writable } = readinessChecks({
  topics: () => topics,
  producer,
  createsTopics: config.CREATE_TOPICS === 'on',
  creationFault: () => maker.fault,
  nowMs: () => performance.now(),
})
const port = createPublicPort({
  config,
  certificates,
  gate,
  log,
  fetch: cors.answering(app.fetch),
  ready: () => kafka().ok && writable().ok && schemasState().ok,
})
const isCutOff = (): boolean => port.listening() && !gate.draining && !(kafka().ok && writable().ok)
/** Of what events need to be stored: once the port is open, requests are answered 503 without it, unless another producer does better. */
const degrading =
  (check: Check): Check =>
  () => {
    const state = check()
    return state.ok || !port.listening() || peers.canStore() ? state : { ...state, degraded: true }
  }
const ops = serveOps(
  {
    registry: metrics.registry,
    checks: {
      draining: () => (gate.draining ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
      kafka: degrading(kafka),
      credentials: security.state,
      streams: degrading(writable),
      tenants: () => access.state(),
      ...(config.REPLICAS_DNS === undefined ? {} : { quotas: replicas.state }),
      ...(certificates === undefined ? {} : { certificates: () => certificates.state() }),
      ...(jwt === undefined ? {} : { tokens: () => jwt.keys.state() }),
      ...(config.SCHEMAS_DIR === undefined && config.SCHEMA_REGISTRY_URL === undefined
        ? {}
        : { schemas: schemasState }),
      port: () =>
        port.listening() ? { ok: true } : { ok: false, reason: 'not open yet: it opens when all else is fine' },
    },
  },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
  config.OPS_TLS === 'on' ? certificates : undefined,
)
const peers = watchPeers({
  isCutOff,
  addresses: replicas.addresses,
  log,
  ask: askAt(ops.port, config.OPS_TLS === 'on'),
})
metrics.observe({
  gate,
  quotaReplicas: replicas.count,
  producer,
  topics: () => topics,
  schemas,
  access,
  tokenKeys: jwt?.keys,
  isDegraded: () => isCutOff() && !peers.canStore(),
})
const stop = stopOnSignal(
  [
    { name: 'requests', run: () => port.drain(config.DRAIN_TIMEOUT_MS * REQUESTS_SHARE, () => ending.abort()) },
    { name: 'kafka', run: () => producer.close(config.DRAIN_TIMEOUT_MS * FLUSH_SHARE) },
    { name: 'public port', run: () => port.close() },
    { name: 'spans', run: () => tracing?.stop() },
    {
      name: 'operations',
      run: () => {
        stopProcessMetrics()
        stopWatching()
        access.stop()
        replicas.stop()
        peers.stop()
        certificates?.stop()
        jwt?.keys.stop()
        schemas.stop()
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
    ...securityInWords(config),
    auth: config.AUTH,
    streams: streams.map(({ tenant, stream }) => `${tenant}/${stream}`),
    sources: [...sources.keys()],
  },
  'producer started',
)
producer.start()
void certificates?.watch()
jwt?.keys.start()
makeTopics()
await access.start(
  (tenants) => void sourcesOf(tenants, kinds),
  (tenants) => schemas.prepare(tenants),
)
port.open().catch((error) => {
  log.fatal({ err: error }, 'cannot listen on the public port')
  void stop(1)
})

function streamsOf(tenants: readonly Tenant[]): { tenant: string; stream: string }[] {
  return tenants.flatMap(({ name, streams }) => [...streams].map((stream) => ({ tenant: name, stream })))
}
