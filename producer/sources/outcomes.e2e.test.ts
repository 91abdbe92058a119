import { afterAll, beforeAll, expect, test } from 'bun:test'
import { sign } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { run } from '../../shared/dev/run.ts'
import { headerText } from '../../shared/events/headers.ts'
import { eventIdentity } from '../../shared/events/identity.ts'
import { inputTopic, siblingTopic } from '../../shared/events/topics.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { loadProducerConfig } from '../config.ts'
import { EXAMPLES, type Example } from '../testing/examples.ts'
import { kinds } from './index.ts'

/** Every kind of source on Apache Kafka: from the sender's request, which it sends twice, to the one outcome. */

const TIMEOUT_MS = 120_000
const PARTITIONS = 3
const INPUT = inputTopic('acme', 'hooks')
const PROCESSED = siblingTopic(INPUT, 'processed')

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-sources-'))
let kafka: KafkaCluster
let producer: ServiceProcess
let consumer: ServiceProcess
let reader: RangeReader
let examples: Record<string, Example>

beforeAll(async () => {
  kafka = await startKafka()
  examples = { ...EXAMPLES, 'aws-sns': await snsExample() }
  const sources = Object.fromEntries(
    Object.entries(examples).map(([name, { declaration }]) => [name, { stream: 'hooks', ...declaration }]),
  )
  const tenantsFile = join(folder, 'tenants.json')
  await Bun.write(tenantsFile, JSON.stringify({ tenants: { acme: { streams: ['hooks'], keys: [], sources } } }))
  const brokers = { KAFKA_BROKERS: kafka.bootstrapServers, HOST: '127.0.0.1', OPS_HOST: '127.0.0.1' }
  producer = await startService('producer', {
    ...brokers,
    TENANTS_FILE: tenantsFile,
    SOURCES_MODULE: join(folder, 'kinds.ts'),
    TOPIC_PARTITIONS: String(PARTITIONS),
  })
  await until(() => producer.started['port'] !== undefined, { timeoutMs: 30_000, what: 'the producer to listen' })
  consumer = await startService('consumer', brokers)
  const config = loadProducerConfig({ NODE_ENV: 'development', AUTH: 'off', KAFKA_BROKERS: kafka.bootstrapServers })
  reader = createRangeReader({ config, clientId: 'sources-test', log: pino({ level: 'silent' }) })
}, TIMEOUT_MS)

afterAll(async () => {
  await reader?.close()
  await producer?.stop()
  await consumer?.stop()
  await kafka?.stop()
  rmSync(folder, { recursive: true, force: true })
}, TIMEOUT_MS)

/** Amazon's certificate and key are not to be had: one of openssl's, and a function in place of `fetch`, stand in for them. */
async function snsExample(): Promise<Example> {
  const [keyFile, certificateFile] = [join(folder, 'sns.key'), join(folder, 'sns.pem')]
  const files = ['-keyout', keyFile, '-out', certificateFile]
  const subject = ['-nodes', '-days', '2', '-subj', '/CN=sns.amazonaws.com']
  expect(await run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', ...subject, ...files])).toMatchObject({
    exitCode: 0,
  })
  await Bun.write(
    join(folder, 'kinds.ts'),
    `import { createAwsSns } from ${JSON.stringify(join(import.meta.dir, 'aws-sns.ts'))}
const pem = await Bun.file(${JSON.stringify(certificateFile)}).text()
export const kinds = [createAwsSns(async () => new Response(pem))]
`,
  )
  const key = await Bun.file(keyFile).text()
  const topic = 'arn:aws:sns:us-west-2:123456789012:orders'
  return {
    declaration: { kind: 'aws-sns', topics: [topic] },
    type: 'com.amazonaws.sns.notification',
    request(nowMs) {
      const message = {
        Message: 'an order',
        MessageId: crypto.randomUUID(),
        Timestamp: new Date(nowMs).toISOString(),
        TopicArn: topic,
        Type: 'Notification',
      }
      const text = Object.entries(message)
        .map(([name, value]) => `${name}\n${value}\n`)
        .join('')
      const Signature = sign('RSA-SHA256', Buffer.from(text), key).toString('base64')
      const SigningCertURL = 'https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem'
      return {
        headers: { 'content-type': 'text/plain; charset=UTF-8', 'x-amz-sns-message-type': 'Notification' },
        body: JSON.stringify({ ...message, SignatureVersion: '2', Signature, SigningCertURL }),
      }
    },
  }
}

/** How often each identity is in a topic, by type. */
async function identitiesIn(topic: string): Promise<Map<string, Map<string, number>>> {
  const byType = new Map<string, Map<string, number>>()
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  await readAll(reader, partitions, ({ headers }) => {
    const text = (name: string): string => headerText(headers, name) ?? ''
    const counts = byType.getOrInsertComputed(text('ce_type'), () => new Map<string, number>())
    const identity = eventIdentity(text('ce_source'), text('ce_id'))
    counts.set(identity, (counts.get(identity) ?? 0) + 1)
  })
  return byType
}

const sizeOf = (byType: ReadonlyMap<string, ReadonlyMap<string, number>>): number =>
  [...byType.values()].reduce((sum, identities) => sum + identities.size, 0)

test(
  'a webhook of every kind, sent again by its sender, is stored each time and has one outcome',
  async () => {
    expect(Object.keys(examples).sort()).toEqual(kinds.map(({ name }) => name).sort())
    const nowMs = Date.now()
    for (const [name, { request }] of Object.entries(examples)) {
      const { body, headers } = request(nowMs)
      for (const attempt of ['first', 'second']) {
        const url = `http://127.0.0.1:${producer.started['port']}/v1/sources/${name}`
        const response = await fetch(url, { method: 'POST', headers, body })
        expect({ name, attempt, status: response.status, text: response.ok ? '' : await response.text() }).toEqual({
          name,
          attempt,
          status: response.status < 300 ? response.status : 202,
          text: '',
        })
      }
    }
    const stored = await identitiesIn(INPUT)
    for (const { declaration, type } of Object.values(examples)) {
      const events = declaration.kind === 'otel-logs' ? 2 : 1
      expect({ type, counts: [...(stored.get(type)?.values() ?? [])] }).toEqual({ type, counts: Array(events).fill(2) })
    }
    const events = sizeOf(stored)
    const decided = async (): Promise<number> => {
      const text = await (await fetch(`http://127.0.0.1:${consumer.started['opsPort']}/metrics`)).text()
      const counts = text.matchAll(/^kafkatrace_consumer_outcomes_total\{[^}]*\} (\d+)$/gm)
      return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
    }
    await until(async () => (await decided()) >= 2 * events, { timeoutMs: 60_000, what: 'a decision on every record' })
    let outcomes = new Map<string, Map<string, number>>()
    const isVisible = async (): Promise<boolean> => {
      outcomes = await identitiesIn(PROCESSED)
      return sizeOf(outcomes) >= events
    }
    await until(isVisible, { what: 'the commit of the last transaction' })
    expect(outcomes).toEqual(
      new Map([...stored].map(([type, all]) => [type, new Map([...all.keys()].map((identity) => [identity, 1]))])),
    )
    expect((await identitiesIn(siblingTopic(INPUT, 'dlq'))).size).toBe(0)
  },
  TIMEOUT_MS,
)
