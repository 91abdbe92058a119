import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import type { Handler } from '../../consumer/handlers/handler.ts'
import { testHandler } from '../../consumer/handlers/testing.ts'
import type { Broker } from '../../shared/dev/brokers/broker.ts'
import { embeddedPartitions, startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { headerText } from '../../shared/events/headers.ts'
import { streamTopics } from '../../shared/events/topics.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { testWith } from '../../shared/testing/test-with.ts'
import { until } from '../../shared/testing/until.ts'
import { root, run } from './check.ts'

/** The programs in docs/examples, run against both services. */

const EXAMPLES = join(root, 'docs/examples')
const TIMEOUT_MS = 120_000

let folder: string
let broker: Broker
let producer: ServiceProcess
let consumer: ServiceProcess

/** What is loaded for one consumer: the handlers of all examples. */
const ALL_HANDLERS = `import { handlers as priced } from ${JSON.stringify(join(EXAMPLES, 'handler.ts'))}
import { handlers as erasable } from ${JSON.stringify(join(EXAMPLES, 'erasure.ts'))}
export const handlers = [...priced, ...erasable]
`

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-examples-'))
  await Bun.write(join(folder, 'handlers.ts'), ALL_HANDLERS)
  broker = await startEmbedded()
  await broker.createTopics(streamTopics('default', 'events'), embeddedPartitions)
  const env = { NODE_ENV: 'development', KAFKA_BROKERS: broker.bootstrapServers }
  producer = await startService('producer', { ...env, AUTH: 'off' })
  await until(() => producer.started['port'] !== undefined, { timeoutMs: 30_000 })
  consumer = await startService('consumer', {
    ...env,
    HANDLERS_MODULE: join(folder, 'handlers.ts'),
    KEYS_FOLDER: join(folder, 'keys'),
  })
}, TIMEOUT_MS)

afterAll(async () => {
  await producer?.stop()
  await consumer?.stop()
  await broker?.stop()
  await rm(folder, { recursive: true })
}, TIMEOUT_MS)

/** The data of results of this type, by the event's id. */
async function resultsOf(type: string): Promise<Map<string, string>> {
  const config = loadConsumerConfig({ NODE_ENV: 'development', KAFKA_BROKERS: broker.bootstrapServers })
  const reader = createRangeReader({ config, clientId: 'examples', log: pino({ level: 'silent' }) })
  const results = new Map<string, string>()
  try {
    const topic = 'kt.default.events.processed'
    const partitions = Array.from({ length: embeddedPartitions }, (_, partition) => ({ topic, partition }))
    await readAll(reader, partitions, (record) => {
      if (headerText(record.headers, 'ce_type') === type)
        results.set(headerText(record.headers, 'ce_id') ?? '', new TextDecoder().decode(record.value ?? undefined))
    })
    return results
  } finally {
    await reader.close()
  }
}

const CLIENTS: readonly [string, string, [string, ...string[]]][] = [
  ['curl', 'curl', ['sh', 'client.sh']],
  ['TypeScript', process.execPath, [process.execPath, 'client.ts']],
  ['Python', 'python3', ['python3', 'client.py']],
  ['Go', 'go', ['go', 'run', 'client.go']],
]
for (const [language, program, command] of CLIENTS)
  testWith(
    [program],
    `the client in ${language} repeats its event under the same id after a 503, and the handler prices it`,
    () => repeatsItsEvent(command),
    TIMEOUT_MS,
  )

async function repeatsItsEvent(command: [string, ...string[]]): Promise<void> {
  // The first request is answered 503, as by a producer that is full.
  const bodies: string[] = []
  using proxy = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch(request) {
      const { pathname } = new URL(request.url)
      bodies.push(await request.text())
      if (bodies.length === 1) return new Response('full', { status: 503, headers: { 'retry-after': '1' } })
      const { method, headers } = request
      return fetch(`http://127.0.0.1:${producer.started['port']}${pathname}`, {
        method,
        headers,
        body: bodies.at(-1) ?? '',
      })
    },
  })
  const ran = await run(command, { cwd: EXAMPLES, env: { KAFKATRACE_URL: `http://127.0.0.1:${proxy.port}` } })
  expect(bodies).toHaveLength(2)
  expect(bodies[1]).toBe(bodies[0] as string)
  expect(ran.exitCode, ran.errors).toBe(0)
  // curl has printed the body of the 503, too.
  const { receipts } = JSON.parse(ran.output.replace(/^full/, '')) as { receipts: { id: string }[] }
  expect(receipts).toHaveLength(1)
  const id = receipts[0]?.id ?? ''
  expect(JSON.parse(await resultOf(id, 'order.priced'))).toEqual({ item: 'pen', count: 3, total: 6 })
}

async function resultOf(id: string, type: string): Promise<string> {
  let result: string | undefined
  await until(
    async () => {
      result = (await resultsOf(type)).get(id)
      return result !== undefined
    },
    { timeoutMs: 30_000, what: `a result of ${id}` },
  )
  return result ?? ''
}

/** Sends an event, and waits for its result of the other type. */
async function handled(type: string, subject: string, data: unknown, resultType: string): Promise<string> {
  const id = crypto.randomUUID()
  const answer = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type, id, source: '/shop', subject, data }),
  })
  expect(answer.status).toBe(202)
  return resultOf(id, resultType)
}

test(
  'what is personal is stored encrypted, is read with its subject’s key, and is gone with that key alone',
  async () => {
    const registered = async (subject: string, name: string) => {
      const data = { name, email: `${subject}@example.com`, plan: 'gold' }
      return handled('customer.registered', subject, data, 'customer.sealed')
    }
    const greeted = async (subject: string, sealed: string) =>
      JSON.parse(await handled('customer.sealed', subject, JSON.parse(sealed), 'customer.greeted'))
    const [alice, bob] = [await registered('alice', 'Alice Ångström'), await registered('bob', 'Bob')]
    expect(JSON.parse(alice)).toEqual({ name: expect.any(String), email: expect.any(String), plan: 'gold' })
    for (const personal of ['lice', 'ngstr', 'example.com']) expect(alice).not.toContain(personal)
    expect(await greeted('alice', alice)).toEqual({ greeting: 'Hello Alice Ångström', plan: 'gold' })

    const erased = await run([process.execPath, 'erasure.ts', 'alice'], {
      cwd: EXAMPLES,
      env: { KEYS_FOLDER: join(folder, 'keys') },
    })
    expect(erased.exitCode, erased.errors).toBe(0)
    expect(await greeted('alice', alice)).toEqual({ greeting: 'Hello (erased)', plan: 'gold' })
    expect(await greeted('bob', bob)).toEqual({ greeting: 'Hello Bob', plan: 'gold' })
    // An event that is processed again brings nothing back.
    expect(JSON.parse(await registered('alice', 'Alice Ångström'))).toEqual({ name: null, email: null, plan: 'gold' })
    for await (const key of new Bun.Glob('*').scan(join(folder, 'keys'))) expect(key).toMatch(/^[0-9a-f]{64}$/)
  },
  TIMEOUT_MS,
)

test(
  'what was sealed for one subject or member cannot be read as another’s',
  async () => {
    const sealed = JSON.parse(
      await handled(
        'customer.registered',
        'carol',
        { name: 'Carol', email: 'c@example.com', plan: 'x' },
        'customer.sealed',
      ),
    ) as { name: string; email: string; plan: string }
    process.env['KEYS_FOLDER'] = join(folder, 'keys')
    const { handlers } = (await import(join(EXAMPLES, 'erasure.ts'))) as { handlers: Handler[] }
    const reader = handlers.find(({ type }) => type === 'customer.sealed') as Handler
    const swapped = await testHandler(reader, { subject: 'carol', data: { ...sealed, name: sealed.email } })
    expect(swapped).toMatchObject({ kind: 'dead', message: 'name was not sealed with the key of this subject' })
    const ofBob = await testHandler(reader, { subject: 'bob', data: sealed })
    expect(ofBob).toMatchObject({ kind: 'dead', message: 'name was not sealed with the key of this subject' })
    const own = await testHandler(reader, { subject: 'carol', data: sealed })
    expect(own).toMatchObject({ kind: 'processed', data: { greeting: 'Hello Carol' } })
  },
  TIMEOUT_MS,
)
