import { afterAll, beforeAll, expect, test } from 'bun:test'
import { type KafkaCluster, startKafka } from '../shared/dev/brokers/kafka.ts'
import { readinessOf, type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'

/** A broker is killed and restarted while the producer keeps answering. Uses its own Kafka. */

const TEST_TIMEOUT_MS = 120_000
const DELIVERY_TIMEOUT_MS = 2_000

/** The delivery time-out, librdkafka's check once a second, our grace, and slack for a busy machine. */
const LONGEST_ANSWER_MS = DELIVERY_TIMEOUT_MS + 3_000

let kafka: KafkaCluster
let service: ServiceProcess

beforeAll(async () => {
  kafka = await startKafka()
  service = await startService('producer', {
    NODE_ENV: 'development',
    AUTH: 'off',
    KAFKA_BROKERS: kafka.bootstrapServers,
    DELIVERY_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS),
  })
}, TEST_TIMEOUT_MS)

afterAll(async () => {
  await service.stop()
  await kafka.stop()
}, TEST_TIMEOUT_MS)

interface Answer {
  status: number
  outcome?: string
  ms: number
}

async function post(id = crypto.randomUUID()): Promise<Answer> {
  const begun = performance.now()
  const response = await fetch(`http://127.0.0.1:${service.started['port']}/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 't', id, subject: 'k' }),
  })
  const { outcome } = (await response.json()) as { outcome?: string }
  return { status: response.status, ...(outcome === undefined ? {} : { outcome }), ms: performance.now() - begun }
}

const metrics = async () => (await fetch(`http://127.0.0.1:${service.started['opsPort']}/metrics`)).text()
const check = async (path: string) => (await fetch(`http://127.0.0.1:${service.started['opsPort']}${path}`)).status

test(
  'a broker that is killed: what was begun is told as unknown in time, the rest is refused at once, and it recovers by itself',
  async () => {
    await until(() => service.started['port'] !== undefined, { timeoutMs: 30_000, what: 'the public port' })
    expect((await post()).status).toBe(202)
    await kafka.kill(0)
    // An event that is produced before the loss is noticed has an unknown outcome.
    const cut = await Promise.all(Array.from({ length: 20 }, () => post()))
    for (const answer of cut) {
      expect(answer.status).toBe(503)
      expect(['unknown', 'not stored']).toContain(answer.outcome ?? '')
      expect(answer.ms).toBeLessThan(LONGEST_ANSWER_MS)
    }
    await until(async () => (await post()).outcome === 'not stored', {
      timeoutMs: 10_000,
      what: 'the loss to be noticed',
    })
    const refused = await Promise.all(Array.from({ length: 20 }, () => post()))
    for (const answer of refused) {
      expect(answer).toMatchObject({ status: 503, outcome: 'not stored' })
      expect(answer.ms).toBeLessThan(200)
    }
    // Load balancers that find nobody ready refuse connections, which tells clients less than a 503.
    expect([await check('/livez'), await check('/readyz')]).toEqual([200, 200])
    expect(await readinessOf(service)).toMatchObject({ ok: false, degraded: true })
    expect(await metrics()).toContain('kafkatrace_producer_degraded 1')
    const logged = (text: string) => () => service.log.some(({ msg }) => String(msg).endsWith(text))
    await until(logged('requests are answered 503'), { timeoutMs: 30_000, what: 'the outage to be logged' })
    await kafka.restart(0)
    await until(async () => (await post()).status === 202, { timeoutMs: 30_000, what: 'events to be stored again' })
    await until(async () => (await readinessOf(service)).ok, { timeoutMs: 30_000, what: 'all checks to hold' })
    expect(await metrics()).toContain('kafkatrace_producer_degraded 0')
    await until(logged('events can be stored again'), { timeoutMs: 30_000, what: 'its end to be logged' })
  },
  TEST_TIMEOUT_MS,
)

test(
  'a stream that is stopped while the broker stands still ends with its summary, and every line that was read is answered',
  async () => {
    const stopped = await startService('producer', {
      NODE_ENV: 'development',
      AUTH: 'off',
      KAFKA_BROKERS: kafka.bootstrapServers,
      // Records in flight are abandoned only when the process has to end.
      DELIVERY_TIMEOUT_MS: '20000',
      DRAIN_TIMEOUT_MS: '8000',
    })
    try {
      await until(() => stopped.started['port'] !== undefined, { timeoutMs: 30_000, what: 'the public port' })
      kafka.freeze(0)
      const lines = Array.from({ length: 3_000 }, (_, id) =>
        JSON.stringify({ type: 't', id: String(id), subject: 'k' }),
      )
      const answering = fetch(`http://127.0.0.1:${stopped.started['port']}/v1/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-ndjson' },
        body: `${lines.join('\n')}\n`,
      })
      const metrics = `http://127.0.0.1:${stopped.started['opsPort']}/metrics`
      await until(async () => /_queue_records [1-9]/.test(await (await fetch(metrics)).text()), {
        timeoutMs: 10_000,
        what: 'events to be on their way',
      })
      const ended = stopped.stop()
      const answers = (await (await answering).text())
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as { line?: number; summary?: { events: number; unknown: number } })
      const summary = answers.at(-1)?.summary
      expect(summary?.unknown).toBeGreaterThan(0)
      expect(answers.filter(({ line }) => line !== undefined)).toHaveLength(summary?.events ?? 0)
      expect(await ended).toBe(0)
    } finally {
      kafka.thaw(0)
      await stopped.stop()
    }
  },
  TEST_TIMEOUT_MS,
)
