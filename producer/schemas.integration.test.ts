import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { headerText, SCHEMA } from '../shared/events/headers.ts'
import { inputTopic } from '../shared/events/topics.ts'
import type { TenantsFile } from '../shared/http/tenants.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { startRegistry, type TestRegistry } from '../shared/testing/registry.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'
import { loadProducerConfig } from './config.ts'

/** A producer whose schemas come from a real registry, which is killed, restarted empty, and frozen. */

const TEST_TIMEOUT_MS = 240_000
const STREAM = uniqueName('checked')
const PARTITIONS = 3
const SUBJECT = `default.${STREAM}-order.placed`
const PAID = `default.${STREAM}-order.paid`
const V1 = { type: 'object', properties: { total: { type: 'number' } }, required: ['total'] }
const V2 = { ...V1, properties: { ...V1.properties, note: { type: 'string' } } }

let registry: TestRegistry
let service: ServiceProcess
let directory: string

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kafkatrace-checked-'))
  registry = await startRegistry()
}, TEST_TIMEOUT_MS)

afterAll(async () => {
  await service?.stop()
  await registry?.stop()
  await rm(directory, { recursive: true, force: true })
}, TEST_TIMEOUT_MS)

async function post(type: string, data: unknown, id = crypto.randomUUID(), more: object = {}) {
  const response = await fetch(`http://127.0.0.1:${service.started['port']}/v1/streams/${STREAM}/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type, id, data, ...more }),
  })
  return { status: response.status, text: await response.text() }
}

async function readyz(): Promise<{ status: number; schemas: string }> {
  const response = await fetch(`http://127.0.0.1:${service.started['opsPort']}/readyz`)
  const { checks } = (await response.json()) as { checks: { name: string }[] }
  return { status: response.status, schemas: JSON.stringify(checks.find(({ name }) => name === 'schemas')) }
}

/** The stored events' ids, and what each was checked by. */
async function storedEvents(): Promise<Map<string | undefined, string | undefined>> {
  const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: testBrokers() })
  const reader = createRangeReader({ config, clientId: uniqueName('reader'), log: pino({ level: 'silent' }) })
  const topic = inputTopic('default', STREAM)
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  const found = new Map<string | undefined, string | undefined>()
  await readAll(reader, partitions, ({ headers }) => {
    found.set(headerText(headers, 'ce_id'), headerText(headers, SCHEMA))
  })
  await reader.close()
  return found
}

test(
  'the registry is killed and comes back, empty at first, while events are taken: nothing is lost, and nothing is let in unchecked',
  async () => {
    await registry.kill()
    const file: TenantsFile = {
      tenants: { default: { streams: [STREAM], keys: [], schemas: { [STREAM]: { check: 'enforce' } } } },
    }
    await Bun.write(join(directory, 'tenants.json'), JSON.stringify(file))
    service = await startService('producer', {
      NODE_ENV: 'development',
      AUTH: 'off',
      KAFKA_BROKERS: testBrokers(),
      TENANTS_FILE: join(directory, 'tenants.json'),
      SCHEMA_REGISTRY_URL: registry.url,
      SCHEMA_REGISTRY_REFRESH_MS: '1000',
      TOPIC_PARTITIONS: String(PARTITIONS),
    })
    // At the start schemas are read before readiness.
    await until(async () => (await readyz()).schemas.includes('cannot be reached'), { timeoutMs: 60_000 })
    expect((await readyz()).status).toBe(503)
    await registry.restart()
    await registry.register(SUBJECT, V1)
    const isListening = (): boolean => service.started['port'] !== undefined
    await until(async () => (await readyz()).status === 200 && isListening(), { timeoutMs: 60_000, what: 'readiness' })
    await until(async () => (await post('order.placed', {})).status === 422, { what: 'the schema to be known' })
    expect((await post('order.unknown', 1)).status).toBe(202)

    const stored = new Set<string>()
    const ending = new AbortController()
    const refused: string[] = []
    const sending = (async () => {
      while (!ending.signal.aborted) {
        const ids = Array.from({ length: 5 }, () => crypto.randomUUID())
        await Promise.all(
          ids.map(async (id) => {
            const { status, text } = await post('order.placed', { total: 1 }, id)
            if (status === 202) stored.add(id)
            else refused.push(`${status} ${text}`)
          }),
        )
        const wrong = await post('order.placed', { total: 'x' })
        if (wrong.status !== 422) refused.push(`let in: ${wrong.status}`)
      }
    })()
    await registry.kill()
    await until(async () => (await post('order.other', 1)).status === 503, {
      timeoutMs: 60_000,
      what: 'the loss to be noticed',
    })
    expect(await readyz()).toMatchObject({
      status: 200,
      schemas: expect.stringContaining('the schemas from before are used'),
    })
    const during = stored.size
    await until(() => stored.size > during + 500, { what: 'events to be taken without a registry' })
    await registry.restart()
    await until(async () => (await readyz()).schemas.includes('1 schema is not in the registry any more'), {
      timeoutMs: 60_000,
    })
    // It is restored bit by bit, while the loop above sends what is wrong.
    await registry.register(PAID, V1)
    await until(async () => (await post('order.paid', {})).status === 422, { what: 'another schema to be known' })
    expect((await readyz()).schemas).toContain(`${SUBJECT}/1`)
    await registry.register(SUBJECT, V1)
    await registry.register(SUBJECT, V2)
    await until(async () => (await post('order.placed', { total: 1, note: 7 })).status === 422, { what: 'version 2' })
    expect((await readyz()).schemas).not.toContain('not in the registry')
    registry.freeze()
    const frozen = stored.size
    await until(async () => (await post('order.other', 1)).status === 503, {
      timeoutMs: 60_000,
      what: 'the freeze to be noticed',
    })
    registry.thaw()
    await until(async () => (await post('order.other', 1)).status === 202, { timeoutMs: 60_000 })
    expect(stored.size).toBeGreaterThan(frozen)
    ending.abort()
    await sending
    expect(refused).toEqual([])

    const found = await storedEvents()
    expect([...stored].filter((id) => !found.has(id))).toEqual([])
    // Every event of the type was checked; which version depends on the time.
    const versions = new Set([...stored].map((id) => found.get(id)))
    expect([...versions].sort()).toEqual([`${SUBJECT}/1`, `${SUBJECT}/2`])
  },
  TEST_TIMEOUT_MS,
)
