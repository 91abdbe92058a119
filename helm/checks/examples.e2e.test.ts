import { afterAll, beforeAll, expect } from 'bun:test'
import { join } from 'node:path'
import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
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

let broker: Broker
let producer: ServiceProcess
let consumer: ServiceProcess

beforeAll(async () => {
  broker = await startEmbedded()
  await broker.createTopics(streamTopics('default', 'events'), embeddedPartitions)
  const env = { NODE_ENV: 'development', KAFKA_BROKERS: broker.bootstrapServers }
  producer = await startService('producer', { ...env, AUTH: 'off' })
  await until(() => producer.started['port'] !== undefined, { timeoutMs: 30_000 })
  consumer = await startService('consumer', { ...env, HANDLERS_MODULE: join(EXAMPLES, 'handler.ts') })
}, TIMEOUT_MS)

afterAll(async () => {
  await producer?.stop()
  await consumer?.stop()
  await broker?.stop()
}, TIMEOUT_MS)

/** The data of results, by the event's id. */
async function priced(): Promise<Map<string, string>> {
  const config = loadConsumerConfig({ NODE_ENV: 'development', KAFKA_BROKERS: broker.bootstrapServers })
  const reader = createRangeReader({ config, clientId: 'examples', log: pino({ level: 'silent' }) })
  const results = new Map<string, string>()
  try {
    const topic = 'kt.default.events.processed'
    const partitions = Array.from({ length: embeddedPartitions }, (_, partition) => ({ topic, partition }))
    await readAll(reader, partitions, (record) => {
      if (headerText(record.headers, 'ce_type') === 'order.priced')
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
  let result: string | undefined
  await until(
    async () => {
      result = (await priced()).get(id)
      return result !== undefined
    },
    { timeoutMs: 30_000, what: `a result of ${id}` },
  )
  expect(JSON.parse(result ?? '')).toEqual({ item: 'pen', count: 3, total: 6 })
}
