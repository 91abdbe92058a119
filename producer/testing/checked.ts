import pino from 'pino'
import { headerText, SCHEMA } from '../../shared/events/headers.ts'
import { fromRecord } from '../../shared/events/record.ts'
import { authoriseNobody } from '../../shared/http/authorise.ts'
import { type TenantsFile, tenantsFaults, tenantsOf } from '../../shared/http/tenants.ts'
import { UNCHANGING } from '../../shared/testing/access.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { Gate } from '../admit.ts'
import { createApp } from '../app.ts'
import { authenticateBy } from '../authenticate.ts'
import { loadProducerConfig } from '../config.ts'
import { createMetrics } from '../metrics.ts'
import { MemoryStore } from './schemas.ts'

/** A producer on an in-memory broker whose stream has schemas. */

const TOPIC = 'kt.default.events'
export const ORDER = 'default.events-order.placed'
export const V1 = {
  type: 'object',
  properties: { total: { type: 'number', minimum: 0 }, note: { type: 'string' } },
  required: ['total'],
}
export const V2 = { ...V1, required: ['total', 'currency'] }

export type Declared = NonNullable<TenantsFile['tenants'][string]['schemas']>[string]

/** A producer whose stream `events` has schemas. */
export async function checkingProducer(
  declared: Declared = {},
  versions: Readonly<Record<string, readonly unknown[]>> = { [ORDER]: [V1] },
  env: Record<string, string> = {},
) {
  const file: TenantsFile = { tenants: { default: { streams: ['events'], keys: [], schemas: { events: declared } } } }
  const faults = tenantsFaults(file)
  if (faults.length > 0) throw new Error(faults.join('; '))
  const tenants = tenantsOf(file)
  const kafka = new FakeKafka().createTopic(TOPIC, 3)
  const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'localhost:9092', ...env })
  const logged: Record<string, unknown>[] = []
  const metrics = createMetrics()
  const store = await new MemoryStore().use(versions)
  const app = createApp({
    config,
    producer: kafka.producer({ maxRecords: config.MAX_QUEUE_RECORDS, maxBytes: config.MAX_QUEUE_BYTES }),
    authenticate: authenticateBy(authoriseNobody(tenants)),
    schemas: store,
    access: UNCHANGING,
    sources: () => new Map(),
    refusedAfterMs: 0,
    gate: new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES }),
    quotaClock: { nowMs: () => 0, replicas: () => 1 },
    metrics,
    log: pino({ level: 'debug' }, { write: (line: string) => void logged.push(JSON.parse(line)) }),
    tracing: undefined,
    nowMs: () => 0,
    ending: new AbortController().signal,
  })
  const post = async (body: string | Uint8Array, headers: Record<string, string> = {}) => {
    const response = await app.request('/v1/events', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)), ...headers },
      body,
    })
    return { status: response.status, headers: response.headers, text: await response.text() }
  }
  const send = (event: unknown) => post(JSON.stringify(event))
  /** What is stored: each event's `dataschema` and `kt-schema`. */
  const stored = () =>
    kafka.all(TOPIC).map((record) => {
      const read = fromRecord(record)
      if (!read.ok) throw new Error(read.reason)
      return [read.event.dataschema, headerText(record.headers, SCHEMA)]
    })
  const checks = async () => {
    const lines = (await metrics.registry.metrics()).split('\n')
    return lines.flatMap((line) => {
      const [, type, version, result, value] =
        /^kafkatrace_producer_schema_checks_total\{.*type="(.*)",version="(.*)",result="(.*)"\} (\d+)$/.exec(line) ?? []
      return value === undefined || value === '0' ? [] : [`${type} ${version} ${result} ${value}`]
    })
  }
  return { post, send, stored, checks, store, logged, app, metrics }
}

export const order = (data: unknown, more: Record<string, unknown> = {}) => ({ type: 'order.placed', data, ...more })
export const faultsIn = ({ text }: { text: string }): unknown => (JSON.parse(text) as { errors: unknown }).errors

export const urn = (version: number): string => `urn:kafkatrace:schema:default.events-order.placed:${version}`
