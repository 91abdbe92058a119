import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { makeKey, type TenantsFile } from '../../shared/http/tenants.ts'
import { schemaUrn } from '../../shared/schemas/identity.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import type { SchemaDocument, SchemaUse, StreamSchemas } from './schemas.ts'

/** Who sends which version of a schema, as a console tells it of what a producer has checked and stored in Apache Kafka. */

setDefaultTimeout(120_000)

const PATIENCE = { timeoutMs: 60_000 }
const SUBJECT = 'acme.orders-order.placed'
const TYPE = 'order.placed'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-schemas-'))
const [sender, reader, elsewhere] = ['sender', 'reader', 'elsewhere'].map(makeKey) as [Key, Key, Key]
type Key = ReturnType<typeof makeKey>

let kafka: KafkaCluster
let producer: ServiceProcess
/** It has the same files, none, and a registry that does not answer. */
let consoles: Record<'knowing' | 'without' | 'away', ServiceProcess>

const writeVersion = (version: number, document: object): void =>
  writeFileSync(join(folder, `${SUBJECT}.v${version}.json`), JSON.stringify(document))

const TOTAL = { type: 'object', properties: { total: { type: 'number' } } }

beforeAll(async () => {
  kafka = await startKafka()
  writeVersion(1, { title: 'An order', ...TOTAL })
  writeVersion(2, { title: 'An order', ...TOTAL, required: ['total'] })
  const file: TenantsFile = {
    tenants: {
      acme: {
        streams: ['orders', 'others'],
        keys: [
          { id: 'sender', sha256: sender.sha256 },
          { id: 'reader', sha256: reader.sha256, roles: ['read'] },
          { id: 'elsewhere', sha256: elsewhere.sha256, roles: ['read'], streams: ['others'] },
        ],
        schemas: { orders: { check: 'enforce' } },
      },
    },
  }
  // Not among the schemas.
  const path = join(folder, '.tenants.json')
  writeFileSync(path, JSON.stringify(file))
  const env = { KAFKA_BROKERS: kafka.bootstrapServers, DRAIN_TIMEOUT_MS: '8000', AUTH: 'on', TENANTS_FILE: path }
  producer = await startService('producer', { ...env, SCHEMAS_DIR: folder, TOPIC_PARTITIONS: '2' })
  const [knowing, without, away] = (await Promise.all([
    startService('console', { ...env, SCHEMAS_DIR: folder }),
    startService('console', env),
    // Nothing listens there.
    startService('console', { ...env, SCHEMA_REGISTRY_URL: 'http://127.0.0.1:1' }),
  ])) as [ServiceProcess, ServiceProcess, ServiceProcess]
  consoles = { knowing, without, away }
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  // Until then a console answers 503.
  for (const { started } of [knowing, without, away])
    await until(async () => (await fetch(`http://127.0.0.1:${started['opsPort']}/readyz`)).status === 200, PATIENCE)
  for (const [source, urn] of [
    ['/old-till', schemaUrn(SUBJECT, 1)],
    ['/shop', undefined],
    ['/shop', undefined],
    ['/app', undefined],
  ] as const)
    expect(await send({ source, ...(urn === undefined ? {} : { dataschema: urn }), data: { total: 1 } })).toBe(202)
  expect(await send({ source: '/app', type: 'note', data: 'free' })).toBe(202)
})

afterAll(async () => {
  await Promise.all([...Object.values(consoles ?? {}), producer].map((one) => one?.stop()))
  await kafka?.stop()
  rmSync(folder, { recursive: true })
})

async function send(event: object): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/streams/orders/events`, {
    method: 'POST',
    headers: { authorization: `Bearer ${sender.key}`, 'content-type': 'application/cloudevents+json' },
    body: JSON.stringify({ specversion: '1.0', id: Bun.randomUUIDv7(), type: TYPE, ...event }),
  })
  await response.text()
  return response.status
}

const ask = (path: string, { key = reader, of = 'knowing' as keyof typeof consoles } = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${consoles[of].started['port']}/v1/streams/orders/${path}`, {
    headers: { authorization: `Bearer ${key.key}` },
  })

async function json<T>(asked: Promise<Response>): Promise<T> {
  const response = await asked
  const text = await response.text()
  expect(response.status, text).toBe(200)
  return JSON.parse(text) as T
}

const said = (use: SchemaUse | undefined): string[] | undefined =>
  use?.senders.map(({ source, events }) => `${source} ${events}`)
const versionsOf = ({ types }: StreamSchemas, type = TYPE) =>
  types.find((one) => one.type === type)?.versions.map(({ version, use }) => [version, said(use)])

test('three senders and two versions are told apart', async () => {
  const found = await json<StreamSchemas>(ask('schemas'))
  expect(versionsOf(found)).toEqual([
    [2, ['/shop 2', '/app 1']],
    [1, ['/old-till 1']],
  ])
  expect([found.known, found.checks?.check, found.read.records, found.read.complete]).toEqual([
    'all',
    'enforce',
    5,
    true,
  ])
  const note = found.types.find(({ type }) => type === 'note')
  expect([note?.schema, said(note?.without)]).toEqual(['none', ['/app 1']])
  expect(found.types.find(({ type }) => type === TYPE)?.document).toMatchObject({ required: ['total'] })
})

test('a version is given in full, and an event says which one it was checked by', async () => {
  const { document } = await json<SchemaDocument>(ask(`schemas/${TYPE}/1`))
  expect(document).toEqual({ title: 'An order', ...TOTAL })
  const { records } = await json<{ records: { event: { source: string }; schema?: object }[] }>(ask('records'))
  const schemaBy = (source: string) => records.find(({ event }) => event.source === source)?.schema
  expect(schemaBy('/old-till')).toEqual({ subject: SUBJECT, version: 1 })
  expect(schemaBy('/shop')).toEqual({ subject: SUBJECT, version: 2 })
})

test('who may not read the stream is told nothing of its schemas and senders', async () => {
  for (const key of [sender, elsewhere])
    for (const path of ['schemas', `schemas/${TYPE}/1`]) {
      const response = await ask(path, { key })
      const text = await response.text()
      expect([response.status, /old-till|total/.test(text)]).toEqual([403, false])
    }
})

test('a console that is not told where schemas are starts, and says so', async () => {
  const found = await json<StreamSchemas>(ask('schemas', { of: 'without' }))
  expect([found.known, found.detail]).toEqual(['none', expect.stringContaining('SCHEMAS_DIR')])
  expect(versionsOf(found)).toEqual([
    [2, ['/shop 2', '/app 1']],
    [1, ['/old-till 1']],
  ])
})

test('a registry that is away does not make the console unready', async () => {
  const ready = await fetch(`http://127.0.0.1:${consoles.away.started['opsPort']}/readyz`)
  expect([ready.status, await ready.text()]).toEqual([200, expect.any(String)])
  const found = await json<StreamSchemas>(ask('schemas', { of: 'away' }))
  expect([found.known, found.types[0]?.schema]).toEqual(['none', 'unknown'])
  expect(JSON.stringify(found)).not.toContain('127.0.0.1')
  expect((await ask(`schemas/${TYPE}/1`, { of: 'away' })).status).toBe(503)
})

test('kt schemas shows them as lines', async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, 'kt.ts'), 'schemas', 'orders', '--most', '100'], {
    env: {
      PATH: process.env.PATH,
      NO_COLOR: '1',
      KT_URL: `http://127.0.0.1:${consoles.knowing.started['port']}`,
      KT_KEY: reader.key,
    },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])
  expect([await child.exited, err]).toEqual([0, ''])
  expect(out).toMatch(/order\.placed +2 +2 +3 +\S+ +\/shop 2, \/app 1\n/)
  expect(out).toMatch(/order\.placed +2 +1 +1 +\S+ +\/old-till 1\n/)
})

test('a version that is added is known without a restart', async () => {
  writeVersion(3, { title: 'An order', ...TOTAL, required: ['total', 'currency'] })
  const data = { total: 1, currency: 'EUR' }
  await until(async () => {
    expect(await send({ source: '/shop', data })).toBe(202)
    const versions = versionsOf(await json<StreamSchemas>(ask('schemas')))
    return versions?.some(([version, senders]) => version === 3 && senders !== undefined) === true
  }, PATIENCE)
  // The producer may have read the folder first.
  await until(async () => (await ask(`schemas/${TYPE}/3`)).status === 200, PATIENCE)
  expect((await json<SchemaDocument>(ask(`schemas/${TYPE}/3`))).version).toBe(3)
})
