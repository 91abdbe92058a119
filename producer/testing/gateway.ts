import { expect, test } from 'bun:test'
import pino from 'pino'
import { FORM, headerText, SOURCE } from '../../shared/events/headers.ts'
import { fromRecord } from '../../shared/events/record.ts'
import { authoriseByKey } from '../../shared/http/authorise.ts'
import { type Tenants, type TenantsFile, tenantsFaults, tenantsOf } from '../../shared/http/tenants.ts'
import type { SchemaStore } from '../../shared/schemas/store.ts'
import { UNCHANGING } from '../../shared/testing/access.ts'
import { FakeKafka } from '../../shared/testing/fake-kafka.ts'
import { Gate } from '../admit.ts'
import { createApp } from '../app.ts'
import { authenticateBy } from '../authenticate.ts'
import { loadProducerConfig, type ProducerConfig } from '../config.ts'
import { createMetrics } from '../metrics.ts'
import { sourcesOf } from '../sources/declared.ts'
import { kinds } from '../sources/index.ts'
import type { SourceKind } from '../sources/kind.ts'

/** A producer on an in-memory broker, for tests of webhooks. */

const TENANT = 'acme'
const STREAM = 'hooks'

/** A declaration without its stream. */
export type Declaration = Readonly<Record<string, unknown>> & { kind: string }

export interface GatewayOptions {
  kinds?: readonly SourceKind[]
  config?: Partial<ProducerConfig>
  /** 0 unless it is given: most tests need not wait. */
  refusedAfterMs?: number
  schemas?: SchemaStore
  /** Of the tenant, besides its sources. */
  tenant?: Partial<TenantsFile['tenants'][string]>
}

export function gateway(declared: Readonly<Record<string, Declaration>>, options: GatewayOptions = {}) {
  const tenantsWith = (sources: typeof declared, before?: Tenants): Tenants => {
    const file = {
      tenants: {
        [TENANT]: {
          streams: [STREAM],
          keys: [],
          ...options.tenant,
          sources: Object.fromEntries(Object.entries(sources).map(([name, one]) => [name, { stream: STREAM, ...one }])),
        },
      },
    }
    expect(tenantsFaults(file)).toEqual([])
    return tenantsOf(file, before)
  }
  let tenants = tenantsWith(declared)
  let sources = sourcesOf(tenants.list, options.kinds ?? kinds)
  const listeners: ((now: Tenants['list']) => void)[] = []
  /** Reads a tenants file with these sources in place of those before. */
  const declare = (others: typeof declared): void => {
    tenants = tenantsWith(others, tenants)
    sources = sourcesOf(tenants.list, options.kinds ?? kinds, sources)
    for (const listener of listeners) listener(tenants.list)
  }
  const topic = `kt.${TENANT}.${STREAM}`
  const kafka = new FakeKafka().createTopic(topic, 3)
  const config = {
    ...loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: 'localhost:9092' }),
    ...options.config,
  }
  const producer = kafka.producer({ maxRecords: config.MAX_QUEUE_RECORDS, maxBytes: config.MAX_QUEUE_BYTES })
  const gate = new Gate({ maxRequests: config.MAX_IN_FLIGHT_REQUESTS, maxBytes: config.MAX_IN_FLIGHT_BYTES })
  const logged: Record<string, unknown>[] = []
  const metrics = createMetrics()
  const clock = { nowMs: Date.now() }
  const app = createApp({
    config,
    producer,
    authenticate: authenticateBy(authoriseByKey(tenants)),
    schemas: options.schemas,
    access: { ...UNCHANGING, onChange: (listener) => void listeners.push(listener) },
    sources: () => sources,
    refusedAfterMs: options.refusedAfterMs ?? 0,
    gate,
    quotaClock: { nowMs: () => clock.nowMs, replicas: () => 1 },
    metrics,
    log: pino({ level: 'debug' }, { write: (line: string) => void logged.push(JSON.parse(line)) }),
    tracing: undefined,
    nowMs: () => clock.nowMs,
    ending: new AbortController().signal,
  })
  const send = async (
    source: string,
    body: string | Uint8Array,
    headers: Readonly<Record<string, string>> = {},
    query = '',
  ): Promise<Response> =>
    app.request(`/v1/sources/${source}${query}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)), ...headers },
      body,
    })
  /** The stored events in order, with their data as text, and the form that they came as. */
  const events = () =>
    kafka.all(topic).map((record) => {
      const read = fromRecord(record)
      if (!read.ok) throw new Error(read.reason)
      const { data, extensions: _, ...event } = read.event
      return {
        ...event,
        key: record.key?.toString() ?? null,
        data: data?.toString('utf8') ?? null,
        form: headerText(record.headers, FORM),
      }
    })
  /** The source that each stored event came by. */
  const origins = () => kafka.all(topic).map((record) => headerText(record.headers, SOURCE))
  return { app, kafka, producer, gate, metrics, logged, clock, send, events, origins, declare }
}

export const SECRETS = ['an-old-secret-of-some-length', 'a-new-secret-of-some-length'] as const

/** How a kind's sender signs. */
export interface Signed {
  /** A declaration with these secrets. */
  declare(secrets: readonly string[]): Declaration
  body: string
  /** Header fields besides those of the signature. */
  headers?: Readonly<Record<string, string>>
  /** The header fields of a signature that was made at a time, ms. */
  sign(body: string, secret: string, nowMs: number): Record<string, string>
  /** Whether the signature covers its time. */
  isTimed: boolean
  /** Whether it covers the body. A token does not. */
  coversBody?: boolean
  /** Which status the sender gets for what was stored; 202 without it. */
  status?: number
}

/** What holds for every kind that verifies by secrets: takes what is signed, with either secret, and refuses, and does not store, whatever else comes. */
export function testSigned({
  declare,
  body,
  headers = {},
  sign,
  isTimed,
  coversBody = true,
  status = 202,
}: Signed): void {
  const [old, fresh] = SECRETS
  const source = (secrets: readonly string[] = [old]) => gateway({ it: declare(secrets) })

  async function expectRefused(
    { send, events, logged }: ReturnType<typeof gateway>,
    reason: string,
    ...request: [body: string, headers: Record<string, string>]
  ): Promise<void> {
    const response = await send('it', ...request)
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ type: 'urn:kafkatrace:problem:unauthenticated' })
    expect(events()).toEqual([])
    expect(logged.find((line) => line['status'] === 401)).toMatchObject({ source: 'it', reason })
  }

  test('a signed webhook is stored', async () => {
    const it = source()
    const response = await it.send('it', body, { ...headers, ...sign(body, old, it.clock.nowMs) })
    expect([response.status, it.events().length > 0]).toEqual([status, true])
  })

  test('while a secret is replaced, both count; then only the new one', async () => {
    const both = source([fresh, old])
    for (const secret of [old, fresh])
      expect((await both.send('it', body, { ...headers, ...sign(body, secret, both.clock.nowMs) })).status).toBe(status)
    const later = source([fresh])
    await expectRefused(later, 'wrong', body, { ...headers, ...sign(body, old, later.clock.nowMs) })
  })

  test('without a signature it is refused', async () => {
    await expectRefused(source(), 'unsigned', body, { ...headers })
  })

  test('with another secret it is refused', async () => {
    const it = source()
    const other = 'not-the-secret-of-this-source'
    await expectRefused(it, 'wrong', body, { ...headers, ...sign(body, other, it.clock.nowMs) })
  })

  test('a signature that is cut off is refused', async () => {
    for (const cut of [1, 8]) {
      const it = source()
      const signed = Object.fromEntries(
        // A time is not cut: that would make it an old one.
        Object.entries(sign(body, old, it.clock.nowMs)).map(([name, value]) => [
          name,
          /^\d+$/.test(value) ? value : value.slice(0, -cut),
        ]),
      )
      await expectRefused(it, 'wrong', body, { ...headers, ...signed })
    }
  })

  if (coversBody)
    test('another body is refused, and one that is cut off or longer', async () => {
      for (const other of [body.replace(/[a-z]/, '0'), body.slice(0, -1), `${body} `]) {
        const it = source()
        await expectRefused(it, 'wrong', other, { ...headers, ...sign(body, old, it.clock.nowMs) })
      }
    })

  if (isTimed)
    test('an old signature is refused, and one of the future', async () => {
      for (const off of [-310_000, 310_000]) {
        const it = source()
        await expectRefused(it, 'stale', body, { ...headers, ...sign(body, old, it.clock.nowMs + off) })
      }
      const it = source()
      const almost = sign(body, old, it.clock.nowMs - 290_000)
      expect((await it.send('it', body, { ...headers, ...almost })).status).toBe(status)
    })

  test('what is sent again has the same source and id', async () => {
    const it = source()
    const signed = { ...headers, ...sign(body, old, it.clock.nowMs) }
    await it.send('it', body, signed)
    // Of all partitions, so that a request's events need not be together.
    const identities = () => it.events().map(({ source, id }) => `${source} ${id}`)
    const first = identities()
    await it.send('it', body, signed)
    expect(identities().sort()).toEqual([...first, ...first].sort())
    expect(first.length).toBeGreaterThan(0)
  })
}
