import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { type BoundChild, endBoundChild, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { sendWebhooks, webhookEvents } from '../../shared/dev/webhooks.ts'
import { makeKey } from '../../shared/http/tenants.ts'
import { type Certificate, createAuthority } from '../../shared/testing/certificates.ts'
import { createService, type Service } from '../../shared/testing/services.ts'
import { root } from './check.ts'
import { MONITORING, type RuleFile, ruleFiles } from './monitoring-rules.ts'
import { type Prometheus, prometheusAt } from './prometheus.ts'
import { tool } from './tools.ts'

/** Paths of the console that faults and panels use. */
export const CONSOLE_LETTERS = '/v1/streams/events/dead-letters'
export const CONSOLE_OUTCOMES = '/v1/streams/events/outcomes'
export const CONSOLE_JOBS = '/v1/streams/events/jobs'

/** The real services on a real Kafka, scraped by a real Prometheus: all on loopback, and gone when this process ends. */

const PROMETHEUS_READY_MS = 15_000
const PROMETHEUS_GRACE_MS = 3_000
const REQUEST_TIMEOUT_MS = 20_000
/** Much longer than a certificate may last that an alert is about. */
const CERTIFICATE_DAYS = 25
/** Concurrent requests. An unbounded load would use up this process's memory. */
const MAX_WAITING_REQUESTS = 2_000

const DAY_MS = 86_400_000

/** Nobody listens at the discard port. */
const NO_BROKER = '127.0.0.1:9'

const WEBHOOK_SECRET = 'the-secret-of-the-rig'
/** Of the rig's own requests. */
const OWN = makeKey('rig')
const STRANGE = makeKey('rig')
/** As a header field. */
export const OWN_KEY = `x-api-key: ${OWN.key}`
const EXPIRING_DAYS = 2

const OPERATOR = makeKey('rig-operator')
/** As a header field, for the console. */
export const OPERATOR_KEY = `authorization: Bearer ${OPERATOR.key}`
const ISSUER = { JWT_ISSUER: 'https://issuer.rig', JWT_AUDIENCE: 'rig' }
/** Of the issuer: the example of RFC 7517, appendix A.1. Nobody here has the private key. */
const ISSUER_KEYS = {
  keys: [
    {
      kty: 'EC',
      crv: 'P-256',
      x: 'MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4',
      y: '4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM',
      kid: '1',
    },
  ],
}
/** A token that says that it is of the issuer, with a key that is not known, so that the console reads the issuer's keys again. */
const FOREIGN_TOKEN = [
  { alg: 'ES256', kid: 'not known' },
  { iss: ISSUER.JWT_ISSUER, aud: ISSUER.JWT_AUDIENCE, sub: 'rig', exp: 4_000_000_000 },
]
  .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
  .concat('AAAA')
  .join('.')

const tenantsFile = (streams: readonly string[], expires: boolean) => ({
  operators: [{ id: 'rig-operator', sha256: OPERATOR.sha256, roles: ['read', 'operate'] }],
  tenants: {
    default: {
      streams: ['events', 'probe', ...streams],
      keys: [
        { id: 'rig', sha256: OWN.sha256 },
        ...(expires
          ? [
              {
                id: 'old',
                sha256: '0'.repeat(64),
                expiresAt: new Date(Date.now() + EXPIRING_DAYS * DAY_MS).toISOString(),
              },
            ]
          : []),
      ],
      schemas: { events: { check: 'enforce' } },
      sources: { github: { kind: 'github', stream: 'events', secrets: [WEBHOOK_SECRET] } },
    },
  },
})

/** The one type of the rig that has a schema. */
export const CHECKED_TYPE = 'dev.kafkatrace.checked'
const SCHEMA_FILE = `default.events-${CHECKED_TYPE}.v1.json`
const SCHEMA = JSON.stringify({ type: 'object', required: ['total'] })

export interface Rig extends Omit<Prometheus, 'isReady'> {
  kafka: KafkaCluster
  producer: Service
  consumer: Service
  console: Service
  /** More consumers of the same group, not started. Prometheus does not scrape them. */
  second: Service
  third: Service
  /** A consumer with the INSTANCE_ID of the first, which is not allowed. */
  twin: Service
  /** A producer, not started, that does not reach Kafka. Prometheus scrapes it. */
  cutOff: Service
  /** Sends one event or a batch. Results show in the metrics only. */
  send(events: object): Promise<void>
  /** Sends a webhook of GitHub's to its source, signed with the source's secret or with another. */
  webhook(isSigned: boolean): Promise<void>
  /** Puts a client certificate into the console's files: one that lasts, one that expires soon, or one that brokers do not trust. */
  certificate(which: keyof ConsoleCertificates): Promise<void>
  /** Puts the rig's schema into its folder, or a file with a fault in its place. */
  schema(isRight: boolean): Promise<void>
  /** Writes the producer's tenants file, with a key that expires soon, or a fault in its place. */
  tenants(state: 'right' | 'with a key that expires' | 'wrong'): Promise<void>
  /** Sends an event with a key that nobody has. */
  stranger(): Promise<void>
  /** Starts the prober, which runs from the start, or kills it. */
  prober(runs: boolean): Promise<void>
  /** Gives the prober the rig's key, or one that nobody knows. */
  proberKey(isRight: boolean): Promise<void>
  /** Lets the issuer of tokens answer or not, and the console ask it. */
  issuer(answers: boolean): Promise<void>
  /** Asks the console. @returns the status; undefined when it does not answer */
  ask(path: string, body?: object): Promise<number | undefined>
  /** Sends so many plain events a second. @returns a function that stops it */
  load(perSecond: number): () => void
  stop(): Promise<void>
}

export interface RigOptions {
  rules: (file: RuleFile) => RuleFile
  /** Besides "events". */
  streams?: readonly string[]
  producerEnv: Record<string, string>
  consumerEnv: Record<string, string>
  consoleEnv: Record<string, string>
  say: (progress: string) => void
}

export const MONITORING_GROUP = 'monitoring'
const COMMON_ENV = { LOG_LEVEL: 'warn' }

export async function startRig({
  rules,
  streams = [],
  producerEnv,
  consumerEnv,
  consoleEnv,
  say,
}: RigOptions): Promise<Rig> {
  const prometheus = await tool('prometheus', say)
  const blackbox = await tool('blackbox-exporter', say)
  const directory = await mkdtemp(join(tmpdir(), 'kafkatrace-monitoring-'))
  const ending: (() => Promise<unknown>)[] = [() => rm(directory, { recursive: true, force: true })]
  const stop = async (): Promise<void> => {
    for (const end of ending.splice(0).reverse()) await end()
  }
  try {
    say('starting Kafka')
    const { environment, certificate, settings } = await consoleSecurity(directory)
    const kafka = await startKafka({ say, users: {}, settings })
    ending.push(() => kafka.stop())
    const common = { ...COMMON_ENV, KAFKA_BROKERS: kafka.bootstrapServers }
    const consumerCommon = {
      ...common,
      GROUP_ID: MONITORING_GROUP,
      HANDLERS_MODULE: join(root, 'consumer/testing/faulty-handlers.ts'),
      ...consumerEnv,
    }
    const TENANTS_FILE = join(directory, 'tenants.json')
    const tenants: Rig['tenants'] = async (state) => {
      const right = JSON.stringify(tenantsFile(streams, state === 'with a key that expires'))
      await Bun.write(TENANTS_FILE, state === 'wrong' ? '{' : right)
    }
    await tenants('right')
    const SCHEMAS_DIR = join(directory, 'schemas')
    const schema = async (isRight: boolean): Promise<void> => {
      await Bun.write(join(SCHEMAS_DIR, SCHEMA_FILE), isRight ? SCHEMA : '{')
    }
    await schema(true)
    const producer = await createService(
      'producer',
      'producer',
      { ...common, TENANTS_FILE, SCHEMAS_DIR, ...producerEnv },
      directory,
    )
    const cutOff = await createService(
      'producer',
      'cut-off',
      { ...common, TENANTS_FILE, SCHEMAS_DIR, KAFKA_BROKERS: NO_BROKER },
      directory,
    )
    const consumerOf = (name: string, instance: string): Promise<Service> =>
      createService('consumer', name, { ...consumerCommon, INSTANCE_ID: instance }, directory)
    const consumer = await consumerOf('first', 'first')
    let doesIssuerAnswer = true
    const issuer = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      fetch: () => (doesIssuerAnswer ? Response.json(ISSUER_KEYS) : new Response(null, { status: 503 })),
    })
    ending.push(() => issuer.stop(true))
    const tokens = { ...ISSUER, JWT_JWKS_URL: `http://127.0.0.1:${issuer.port}/keys` }
    const console = await createService(
      'console',
      'console',
      {
        ...common,
        KAFKA_BROKERS: kafka.userServers,
        ...environment,
        AUTH: 'jwt',
        ...tokens,
        TENANTS_FILE,
        GROUP_ID: MONITORING_GROUP,
        ...consoleEnv,
      },
      directory,
    )
    const second = await consumerOf('second', 'second')
    const third = await consumerOf('third', 'third')
    const twin = await consumerOf('twin', 'first')
    const services = [producer, consumer, console, second, third, twin, cutOff]
    ending.push(() => Promise.all(services.filter((one) => one.running()).map((one) => one.kill())))
    say('starting the services')
    producer.start()
    await producer.ready()
    consumer.start()
    await consumer.ready()
    console.start()
    await console.ready()
    say('starting Prometheus and the prober')
    const [port = 0, probePort = 0] = await findFreePorts(2)
    const proberKey: Rig['proberKey'] = async (isRight) =>
      void (await Bun.write(join(directory, PROBER_KEY_FILE), isRight ? OWN.key : STRANGE.key))
    await proberKey(true)
    const probeConfig = await configureProbes(directory)
    let probing: BoundChild | undefined
    const prober = async (runs: boolean): Promise<void> => {
      if (probing !== undefined) await endBoundChild(probing, PROMETHEUS_GRACE_MS)
      probing = undefined
      if (!runs) return
      probing = spawnBoundChild(
        [
          blackbox,
          `--config.file=${probeConfig}`,
          `--web.listen-address=127.0.0.1:${probePort}`,
          // Prometheus waits for a second only.
          '--timeout-offset=0.1',
          '--log.level=error',
        ],
        { stdout: 'ignore', stderr: Bun.file(join(directory, 'blackbox.log')) },
      )
    }
    await prober(true)
    ending.push(() => prober(false))
    const child = spawnBoundChild(
      [
        'nice',
        '-n',
        '10',
        prometheus,
        `--config.file=${await configure(directory, rules, { producer: [producer, cutOff], consumer: [consumer], console: [console] }, probePort)}`,
        `--storage.tsdb.path=${join(directory, 'tsdb')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--enable-feature=exemplar-storage',
        '--log.level=warn',
      ],
      { stdout: 'ignore', stderr: Bun.file(join(directory, 'prometheus.log')), removeWhenOrphaned: directory },
    )
    ending.push(() => endBoundChild(child, PROMETHEUS_GRACE_MS))
    const { isReady, ...asking } = prometheusAt(`http://127.0.0.1:${port}`)
    await within(PROMETHEUS_READY_MS, 'Prometheus to be ready', isReady)
    const url = `http://127.0.0.1:${producer.port}/v1/events`
    let waiting = 0
    const send = async (events: object, key = OWN.key): Promise<void> => {
      if (waiting >= MAX_WAITING_REQUESTS) return
      waiting++
      // A stopped producer does not answer: some of the faults do that.
      await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-api-key': key },
        body: JSON.stringify(events),
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      })
        .then((answer) => answer.arrayBuffer())
        .catch(() => undefined)
      waiting--
    }
    return {
      kafka,
      producer,
      consumer,
      console,
      second,
      third,
      twin,
      cutOff,
      ...asking,
      send,
      certificate,
      schema,
      tenants,
      prober,
      proberKey,
      stranger: () => send({ type: 'plain' }, STRANGE.key),
      async webhook(isSigned) {
        const [ping] = (await webhookEvents()).filter(({ type }) => type === 'com.github.ping')
        const secret = isSigned ? WEBHOOK_SECRET : 'a secret of somebody else'
        if (ping === undefined) throw new Error('there is no example of a ping')
        await sendWebhooks(
          [{ ...ping, id: crypto.randomUUID() }],
          { url: `http://127.0.0.1:${producer.port}/v1/sources/github`, secret },
          () => {},
        ).catch(() => undefined)
      },
      async issuer(answers) {
        doesIssuerAnswer = answers
        await fetch(`http://127.0.0.1:${console.port}/v1/access`, {
          headers: { authorization: `Bearer ${FOREIGN_TOKEN}` },
        }).catch(() => undefined)
      },
      ask: (path, body) =>
        fetch(`http://127.0.0.1:${console.port}${path}`, {
          signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS * 2),
          headers: { authorization: `Bearer ${OPERATOR.key}`, 'content-type': 'application/json' },
          ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
        }).then(
          async (answer) => {
            await answer.arrayBuffer()
            return answer.status
          },
          () => undefined,
        ),
      load(perSecond) {
        const timer = setInterval(() => void send({ type: 'plain', data: { a: 1 } }), 1_000 / perSecond)
        return () => clearInterval(timer)
      },
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

interface ConsoleCertificates {
  lasting: Certificate
  short: Certificate
  unknown: Certificate
}

/** The console alone authenticates: by a client certificate, on the brokers' listener for users. */
async function consoleSecurity(directory: string) {
  const authority = await createAuthority()
  const broker = await authority.issue('DNS:localhost,IP:127.0.0.1', CERTIFICATE_DAYS)
  const certificates: ConsoleCertificates = {
    lasting: await authority.issue('DNS:console', CERTIFICATE_DAYS),
    short: await authority.issue('DNS:console', 1),
    unknown: await (await createAuthority()).issue('DNS:console', CERTIFICATE_DAYS),
  }
  const [certificateFile, keyFile] = [join(directory, 'console.pem'), join(directory, 'console.key')]
  const certificate = async (which: keyof ConsoleCertificates): Promise<void> => {
    await Bun.write(certificateFile, Bun.file(certificates[which].certificateFile))
    await Bun.write(keyFile, Bun.file(certificates[which].keyFile))
  }
  await certificate('lasting')
  return {
    certificate,
    environment: {
      KAFKA_SECURITY_PROTOCOL: 'ssl',
      KAFKA_SSL_CA_FILE: authority.certificateFile,
      KAFKA_SSL_CERTIFICATE_FILE: certificateFile,
      KAFKA_SSL_KEY_FILE: keyFile,
    },
    settings: {
      'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SSL',
      'listener.name.users.ssl.client.auth': 'required',
      'listener.name.users.ssl.keystore.type': 'PEM',
      'listener.name.users.ssl.keystore.location': broker.keystoreFile,
      'listener.name.users.ssl.truststore.type': 'PEM',
      'listener.name.users.ssl.truststore.location': authority.certificateFile,
      'super.users': 'User:ANONYMOUS;User:CN=console',
    },
  }
}

async function configure(
  directory: string,
  rules: RigOptions['rules'],
  services: Record<'producer', readonly [Service, ...Service[]]> & Record<string, readonly Service[]>,
  probePort: number,
): Promise<string> {
  const files = await Promise.all(
    (await ruleFiles()).map(async (file) => {
      const path = join(directory, `${basename(file, '.yaml')}.rules.json`)
      // JSON is YAML.
      await Bun.write(path, JSON.stringify(rules(Bun.YAML.parse(await Bun.file(file).text()) as RuleFile)))
      return path
    }),
  )
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: files,
    scrape_configs: [
      ...Object.entries(services).map(([name, all]) => ({
        job_name: name,
        static_configs: [
          { targets: all.map(({ opsPort }) => `127.0.0.1:${opsPort}`), labels: { namespace: 'kafkatrace' } },
        ],
      })),
      // As the operator makes it of the chart's Probe.
      {
        job_name: 'kafkatrace-probe',
        metrics_path: '/probe',
        params: { module: ['kafkatrace'] },
        static_configs: [
          {
            targets: [`http://127.0.0.1:${services.producer[0].port}/v1/streams/probe/events`],
            labels: { namespace: 'kafkatrace' },
          },
        ],
        relabel_configs: [
          { source_labels: ['__address__'], target_label: '__param_target' },
          { source_labels: ['__param_target'], target_label: 'instance' },
          { target_label: '__address__', replacement: `127.0.0.1:${probePort}` },
        ],
      },
    ],
  }
  const path = join(directory, 'prometheus.json')
  await Bun.write(path, JSON.stringify(config))
  return path
}

/** Which the prober reads for each probe. */
const PROBER_KEY_FILE = 'probe-key'

/** The prober's modules as they are shipped, with the rig's file. */
async function configureProbes(directory: string): Promise<string> {
  const [key, path] = [join(directory, PROBER_KEY_FILE), join(directory, 'blackbox.json')]
  const text = await Bun.file(join(MONITORING, 'blackbox.yaml')).text()
  const modules = Bun.YAML.parse(text.replace(/(?<=credentials_file: ).*/, key))
  await Bun.write(path, JSON.stringify(modules))
  return path
}

/** Waits until it holds. @returns whether it did within the time */
export async function holdsWithin(timeoutMs: number, holds: () => Promise<boolean>): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (!(await holds())) {
    if (performance.now() > deadline) return false
    await Bun.sleep(500)
  }
  return true
}

async function within(timeoutMs: number, what: string, holds: () => Promise<boolean>): Promise<void> {
  if (!(await holdsWithin(timeoutMs, holds))) throw new Error(`${what}: not within ${timeoutMs} ms`)
}
