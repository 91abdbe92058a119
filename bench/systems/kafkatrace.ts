import { join } from 'node:path'
import { inputTopic, parseTopic } from '../../shared/events/topics.ts'
import { makeKey, type TenantsFile } from '../../shared/http/tenants.ts'
import { createService, type Service } from '../../shared/testing/services.ts'
import { packageVersion } from '../environment.ts'
import { PROPERTIES_SCHEMA, WEBHOOK_SECRET } from '../payloads.ts'
import type { Drain, RunningSystem, StartOptions, System } from './system.ts'

/** KafkaTrace itself: its services with default settings, except addresses and topics. */

export interface KafkaTraceOptions extends Omit<StartOptions, 'port' | 'topic'> {
  topics: readonly string[]
  partitions: number
  producer: boolean
  consumer: boolean
  /** Runs the console as well. */
  console?: boolean
  /** A module of handlers that replaces the default one. */
  handlers?: string
  /** API keys by tenant are required. Otherwise anybody may send. */
  auth: boolean
  /** The first topic's stream has a source of GitHub's webhooks. */
  webhooks?: boolean
  /** The first topic's stream checks events by {@link PROPERTIES_SCHEMA}. */
  schemas?: boolean
}

/** Where that source's webhooks go. */
export const GITHUB_PATH = '/v1/sources/github'

export interface RunningKafkaTrace extends RunningSystem {
  /** With `console`: its origin. */
  consoleUrl?: string
  /** With `auth`: a tenant's key. */
  keys: ReadonlyMap<string, string>
  /** Where events for a topic's stream go. */
  producerUrl(topic: string): string
}

const COMMON_ENV = { LOG_LEVEL: 'warn', LOG_FORMAT: 'json' }

/** Starts what is asked for, and returns when it is ready. */
export async function startKafkaTrace(options: KafkaTraceOptions): Promise<RunningKafkaTrace> {
  const { brokers, directory } = options
  const services: Service[] = []
  const keys = new Map<string, string>()
  const streams = options.topics.map((topic) => parseTopic(topic)?.stream ?? '')
  try {
    if (options.producer) {
      const env: Record<string, string> = { ...COMMON_ENV, KAFKA_BROKERS: brokers }
      env['TOPIC_PARTITIONS'] = String(options.partitions)
      if (options.auth) {
        env['AUTH'] = 'on'
        env['TENANTS_FILE'] = await writeTenants(options.topics, keys, directory)
      } else {
        env['AUTH'] = 'off'
        if (options.webhooks === true) env['TENANTS_FILE'] = await writeSource(directory)
        if (options.schemas === true) Object.assign(env, await writeSchemas(directory))
        const others = streams.filter((stream) => stream !== 'events')
        if (others.length > 0) env['STREAMS'] = others.join(',')
      }
      services.push(await createService('producer', 'producer', env, directory))
    }
    const group = { GROUP_ID: groupOf() }
    if (options.consumer) {
      const env = options.handlers === undefined ? group : { ...group, HANDLERS_MODULE: options.handlers }
      services.push(await createConsumer({ brokers, directory, name: 'consumer', env }))
    }
    if (options.console === true) {
      const env = { ...COMMON_ENV, ...group, KAFKA_BROKERS: brokers, AUTH: 'off' }
      services.push(await createService('console', 'console', env, directory))
    }
    for (const service of services) service.start()
    await Promise.all(services.map((service) => service.ready()))
  } catch (error) {
    await end(services)
    throw error
  }
  const url = `http://127.0.0.1:${services[0]?.port}`
  const producerUrl = (topic: string): string => `${url}/v1/streams/${parseTopic(topic)?.stream}/events`
  const ofConsole = services.find(({ name }) => name === 'console')
  return {
    url: producerUrl(options.topics[0] ?? ''),
    ...(ofConsole !== undefined && { consoleUrl: `http://127.0.0.1:${ofConsole.port}` }),
    producerUrl,
    keys,
    processes: services.map((service) => ({ name: service.name, pid: service.pid() })),
    stop: () => end(services),
  }
}

/** A consumer of its own group, not started. A restart keeps the group. */
export const createConsumer = ({
  brokers,
  directory,
  name,
  env,
}: Pick<StartOptions, 'brokers' | 'directory'> & { name: string; env: Record<string, string> }): Promise<Service> =>
  createService(
    'consumer',
    name,
    { ...COMMON_ENV, KAFKA_BROKERS: brokers, GROUP_ID: groupOf(), INSTANCE_ID: 'bench', ...env },
    directory,
  )

const groupOf = (): string => `bench-${crypto.randomUUID()}`

async function end(services: readonly Service[]): Promise<void> {
  await Promise.all(services.filter((service) => service.running()).map((service) => service.terminate()))
}

async function writeTenants(topics: readonly string[], keys: Map<string, string>, directory: string): Promise<string> {
  const tenants: TenantsFile['tenants'] = {}
  for (const topic of topics) {
    const { tenant, stream } = parseTopic(topic) ?? { tenant: '', stream: '' }
    const { key, sha256 } = makeKey(tenant)
    keys.set(tenant, key)
    tenants[tenant] = { streams: [stream], keys: [{ id: tenant, sha256 }] }
  }
  const file = join(directory, 'tenants.json')
  await Bun.write(file, JSON.stringify({ tenants } satisfies TenantsFile))
  return file
}

async function writeSource(directory: string): Promise<string> {
  const github = { kind: 'github', stream: 'events', subject: '/subject', secrets: [WEBHOOK_SECRET] }
  const file = join(directory, 'tenants.json')
  const tenants = { default: { streams: ['events'], keys: [], sources: { github } } }
  await Bun.write(file, JSON.stringify({ tenants } satisfies TenantsFile))
  return file
}

async function writeSchemas(directory: string): Promise<Record<string, string>> {
  const tenants = { default: { streams: ['events'], keys: [], schemas: { events: { otherTypes: 'refuse' as const } } } }
  const file = join(directory, 'tenants.json')
  await Bun.write(file, JSON.stringify({ tenants } satisfies TenantsFile))
  const folder = join(directory, 'schemas')
  await Bun.write(join(folder, 'default.events-shop.order.placed.v1.json'), JSON.stringify(PROPERTIES_SCHEMA))
  return { TENANTS_FILE: file, SCHEMAS_DIR: folder }
}

export const KAFKATRACE_TOPIC = inputTopic('default', 'events')

const HANDLERS = {
  checks: join(import.meta.dir, 'drain-handler-checks.ts'),
  waits: join(import.meta.dir, 'drain-handler-waits.ts'),
} as const

export const KAFKATRACE: System & Drain = {
  facts: {
    name: 'kafkatrace',
    title: 'KafkaTrace',
    kind: 'subject',
    sameGuarantees: true,
    settings: { NODE_ENV: 'development', AUTH: 'off', LOG_LEVEL: 'warn', 'all others': 'as they are by default' },
    notes:
      'One producer process; one consumer process where outcomes are measured; one console process where it is measured.',
  },
  prepare: async () => ({
    bun: Bun.version,
    '@confluentinc/kafka-javascript': packageVersion('@confluentinc/kafka-javascript'),
    hono: packageVersion('hono'),
  }),
  start: ({ brokers, topic, directory }) =>
    startKafkaTrace({
      brokers,
      directory,
      topics: [topic],
      partitions: 6,
      producer: true,
      consumer: false,
      auth: false,
    }),
  drain: ({ brokers, topic, directory, handler }) =>
    startKafkaTrace({
      brokers,
      directory,
      topics: [topic],
      partitions: 6,
      producer: false,
      consumer: true,
      auth: false,
      ...(handler !== 'none' && { handlers: HANDLERS[handler] }),
    }),
}
