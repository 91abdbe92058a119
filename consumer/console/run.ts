/** Wires the console, and runs it until it is stopped. */

import { hostname } from 'node:os'
import { ACTS_SETTINGS, actsTopic, CONTROL_SETTINGS, CONTROL_TOPIC, inputTopic } from '../../shared/events/topics.ts'
import { accessOf } from '../../shared/http/access-config.ts'
import { certificatesOf } from '../../shared/http/certificates.ts'
import { clientAddress } from '../../shared/http/client-address.ts'
import { countingFailures, FailedAuthentications } from '../../shared/http/failed-authentications.ts'
import { jwtOf } from '../../shared/http/jwt-config.ts'
import { listen } from '../../shared/http/listener.ts'
import { type Check, serveOps } from '../../shared/http/ops.ts'
import { logScarcity } from '../../shared/http/reserve.ts'
import type { Tenant } from '../../shared/http/tenants.ts'
import { createTopicAdmin } from '../../shared/kafka/admin.ts'
import { createRangeReader } from '../../shared/kafka/range-reader.ts'
import { addSecurityMetrics, securityOf } from '../../shared/kafka/security.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import { StreamsStore } from '../../shared/schemas/store.ts'
import { exitWith, loadConfigOrExit } from '../../shared/service/config.ts'
import { securityInWords } from '../../shared/service/kafka-security.ts'
import { createLogger } from '../../shared/service/logger.ts'
import { addProcessMetrics } from '../../shared/service/process-metrics.ts'
import { Repeats } from '../../shared/service/repeats.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../../shared/service/retry.ts'
import { stopOnSignal } from '../../shared/service/shutdown.ts'
import { messageOf, onUncaught } from '../../shared/service/thrown.ts'
import { Acts } from './acts.ts'
import { createApp } from './app.ts'
import { loadConsole } from './config.ts'
import { Consumers } from './consumers.ts'
import { Hubs } from './follow.ts'
import { Jobs, type JobsDeps } from './jobs.ts'
import { KafkaHealth } from './kafka-health.ts'
import { loginOf } from './login-config.ts'
import { createMetrics } from './metrics.ts'
import { buildPage } from './page.ts'
import { Readers } from './readers.ts'
import { routes } from './routes.ts'
import type { Sharing } from './shares.ts'
import { Statuses } from './status.ts'
import { streamOf } from './streams.ts'

/** How often Kafka is asked whether it answers. */
const LOOK_INTERVAL_MS = 5_000

/** How often jobs are looked for that another console has left. While it lives, they stay with it. */
const RESUME_INTERVAL_MS = 30_000

/** Idle connections are closed by Bun after this; followers are told their positions more often. */
const IDLE_TIMEOUT_SECONDS = 120

/** How much each client reads ahead. More makes no scan faster, and several read at a time. */
const READ_PREFETCH_BYTES = 2 * 2 ** 20

const { config, tenants: declared } = loadConfigOrExit(loadConsole)
const log = createLogger('console', config)
const certificates = loadConfigOrExit(() => certificatesOf(config, log))
const jwt = await jwtOf(config, log)
const access = accessOf(config, declared, log, jwt?.tokens)
const clientId = `kafkatrace-console-${hostname()}-${process.pid}`
const ending = new AbortController()
// Without either, it does without: a tenants file that is right for the producer is right for the console.
const schemas =
  config.SCHEMAS_DIR === undefined && config.SCHEMA_REGISTRY_URL === undefined
    ? undefined
    : new StreamsStore(config, log)
await schemas?.start(access.tenants()).catch(exitWith)
access.onChange((tenants) => schemas?.cover(tenants))
/** Of now. */
const streams = (): { tenant: Tenant; name: string }[] =>
  access.tenants().flatMap((tenant) => [...tenant.streams].map((name) => ({ tenant, name })))
const isDeclared = (tenant: string, name: string): boolean =>
  access.tenants().some((one) => one.name === tenant && one.streams.has(name))

const sharing: Sharing = {
  isShared: () => access.tenants().length > 1,
  onCrowded: (tenant) => metrics.crowded.inc({ tenant }),
}
const readers = new Readers(
  (number) =>
    createRangeReader({
      config,
      clientId: `${clientId}-${number}`,
      log,
      groupId: config.GROUP_ID,
      forScans: number > 0,
      prefetchMaxBytes: READ_PREFETCH_BYTES,
    }),
  config.MAX_SCANS,
  sharing,
)
const admin = createTopicAdmin({ config, clientId: `${clientId}-topics`, log })
const acts = new Acts({
  readers,
  openTransactor: (transactionalId) =>
    createTransactor({
      config,
      clientId: `${clientId}-acts`,
      transactionalId,
      transactionTimeoutMs: config.TRANSACTION_TIMEOUT_MS,
      log,
      onStatistics: () => undefined,
    }),
  transactionalId: ({ tenant, name }) => `${config.GROUP_ID}-console.${tenant}.${name}`,
  ensureTopic: ({ input }) => ensureTopic(actsTopic(input), ACTS_SETTINGS),
  log,
  signal: ending.signal,
})
const jobsDeps: JobsDeps = {
  acts,
  readers,
  log,
  nowMs: Date.now,
  signal: ending.signal,
  isDeclared: ({ tenant, name }) => isDeclared(tenant, name),
  onActed: (act, letters) => metrics.lettersActed.inc({ act }, letters),
  onFault: () => metrics.jobFaults.inc(),
}
const jobs = new Jobs(jobsDeps)
const hubs = new Hubs({
  readers,
  openReader: ({ input }) =>
    createRangeReader({
      config,
      clientId: `${clientId}-follows-${input}`,
      log,
      groupId: config.GROUP_ID,
      prefetchMaxBytes: READ_PREFETCH_BYTES,
    }),
  maxFollowers: config.MAX_FOLLOWERS,
  sharing,
  followerMaxBytes: config.FOLLOWER_MAX_BYTES,
  log,
  signal: ending.signal,
  onSent: (outcomes) => metrics.outcomesSent.inc(outcomes),
  onCut: (reason) => metrics.followersCut.inc({ reason }),
})
const health = new KafkaHealth(() => readers.meta.unreachable(), config.KAFKA_BROKERS, log)
const table = routes({
  config,
  readers,
  acts,
  jobs,
  jobsDeps,
  hubs,
  statuses: new Statuses(
    readers,
    config.GROUP_ID,
    new Consumers(config.CONSUMER_STATUS_PORT, config.OPS_TLS, ending.signal),
    ending.signal,
  ),
  schemas,
  log,
  nowMs: Date.now,
  onScanned: (offsets) => metrics.scanned.inc(offsets),
})
const metrics = createMetrics(table.map(({ name }) => name))
metrics.declare(access.tenants())
access.onChange(metrics.declare)
metrics.observe(() => ({
  scans: readers.busy,
  followers: hubs.followers,
  jobs: jobs.running,
  ready: Number(health.fault() === undefined && !ending.signal.aborted),
  tenantsCurrent: Number(access.state().detail === undefined),
  tokenKeysCurrent: Number(jwt?.keys.state().detail === undefined),
}))
const stopProcessMetrics = addProcessMetrics(metrics.registry)
const security = securityOf(config, log)
addSecurityMetrics(metrics.registry, security)
certificates?.observe(metrics.registry)
const failures = new FailedAuthentications({
  count: (reason) => metrics.authenticationFailures.inc({ reason }),
  log,
  nowMs: () => performance.now(),
})
const addressOf = clientAddress(config.TRUSTED_PROXIES, (request) => server.addressOf(request))
const app = createApp({
  routes: table,
  access: {
    authorise: countingFailures(access.authorise, failures, addressOf),
    whileAllowed: (request, ended) => access.whileAllowed(request, ended),
  },
  clientAddress: addressOf,
  isAuthOn: config.AUTH !== 'off',
  login: await loginOf(config, {
    tokens: jwt?.tokens,
    tenants: () => access.tenants(),
    log,
    onLogin: (result) => metrics.logins.inc({ result }),
    failed: (problem, request) => failures.failed(problem, 'session', addressOf(request)),
    clientAddress: addressOf,
  }),
  page: await buildPage(),
  metrics,
  log,
  isDraining: () => ending.signal.aborted,
  kafkaFault: () => health.fault(),
})

const kafka: Check = () => {
  const reason = health.fault()
  return reason === undefined ? { ok: true } : { ok: false, reason }
}
const server = listen({
  hostname: config.HOST,
  port: config.PORT,
  idleTimeoutSeconds: IDLE_TIMEOUT_SECONDS,
  certificates,
  asksClients: true,
  fetch: app.fetch,
  onScarce: logScarcity(log),
})
const ops = serveOps(
  {
    registry: metrics.registry,
    checks: {
      draining: () => (ending.signal.aborted ? { ok: false, reason: 'the service is stopping' } : { ok: true }),
      kafka,
      tenants: () => access.state(),
      ...(certificates === undefined ? {} : { certificates: () => certificates.state() }),
      ...(jwt === undefined ? {} : { tokens: () => jwt.keys.state() }),
      credentials: security.state,
    },
  },
  { hostname: config.OPS_HOST, port: config.OPS_PORT },
  config.OPS_TLS === 'on' ? certificates : undefined,
)
const stop = stopOnSignal(
  [
    {
      name: 'requests',
      run: async () => {
        ending.abort()
        await hubs.close()
        await Promise.race([server.stop(), sleep(config.DRAIN_TIMEOUT_MS / 2)])
      },
    },
    { name: 'acts', run: () => acts.close() },
    { name: 'public port', run: () => server.stop(true) },
    { name: 'kafka', run: async () => void (await Promise.all([readers.close(), admin.close()])) },
    {
      name: 'operations',
      run: () => {
        stopProcessMetrics()
        access.stop()
        certificates?.stop()
        jwt?.keys.stop()
        schemas?.stop()
        return ops.stop()
      },
    },
  ],
  { timeoutMs: config.DRAIN_TIMEOUT_MS, log },
)
onUncaught((error) => {
  log.fatal(error, 'internal error, please report it: shutting down')
  void stop(1)
})
log.info(
  {
    port: server.port,
    opsPort: ops.port,
    brokers: config.KAFKA_BROKERS,
    ...securityInWords(config),
    auth: config.AUTH,
    streams: streams().map(({ tenant, name }) => `${tenant.name}/${name}`),
  },
  'console started',
)
void certificates?.watch()
jwt?.keys.start()
void watchKafka()
void resumeJobs()
void access.start((tenants) => schemas?.prepare(tenants))

/** @throws Error naming the topic that cannot be created */
async function ensureTopic(topic: string, settings: Readonly<Record<string, string>>): Promise<void> {
  if (config.CREATE_TOPICS === 'off') return
  const [fault] = await admin.ensureGroups([[topic]], {
    partitions: 1,
    replication: config.TOPIC_REPLICATION,
    settings,
  })
  if (fault !== undefined) throw new Error(fault)
}

async function watchKafka(): Promise<void> {
  while (!ending.signal.aborted) {
    try {
      await readers.meta.topics()
      health.answered()
    } catch (error) {
      health.failed(messageOf(error))
    }
    await sleep(LOOK_INTERVAL_MS, ending.signal)
  }
}

/** Creates the control topic, and goes on with the jobs of consoles that are gone: of earlier ones at once, of others in time. */
async function resumeJobs(): Promise<void> {
  while (!ending.signal.aborted) {
    await resumeJobsOnce()
    await sleep(RESUME_INTERVAL_MS, ending.signal)
  }
}

async function resumeJobsOnce(): Promise<void> {
  let left = streams()
  /** Each reason once. */
  const repeats = new Repeats(Number.POSITIVE_INFINITY)
  for (let attempt = 1; !ending.signal.aborted && left.length > 0; attempt++) {
    try {
      await ensureTopic(CONTROL_TOPIC, CONTROL_SETTINGS)
      const counts = await readers.meta.topics()
      for (const { tenant, name } of [...left]) {
        if (isDeclared(tenant.name, name) && counts.has(actsTopic(inputTopic(tenant.name, name))))
          await jobs.resume(await streamOf(tenant, name, readers))
        left = left.filter((one) => one.tenant !== tenant || one.name !== name)
      }
    } catch (error) {
      const reason = health.fault() ?? messageOf(error)
      if (repeats.isNew(reason))
        log.warn({ reason, count: left.length }, 'jobs of other consoles could not be looked for yet')
      await sleep(delayMs(CONNECT_BACKOFF, attempt), ending.signal)
    }
  }
}
