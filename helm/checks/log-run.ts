import { expect } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import { startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { makeKey } from '../../shared/http/tenants.ts'
import {
  readinessOf,
  type ServiceKind,
  type ServiceProcess,
  startService,
} from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { root } from './check.ts'

/** Runs the three services for their log: with good and bad events, a change of tenants, an outage of Kafka and a stop. @returns them, when they have ended */
export async function runForLog(timeoutMs: number): Promise<Readonly<Record<ServiceKind, ServiceProcess>>> {
  const broker = await startEmbedded()
  const env = {
    NODE_ENV: 'development',
    LOG_LEVEL: 'debug',
    DRAIN_TIMEOUT_MS: '2000',
    KAFKA_BROKERS: broker.bootstrapServers,
    GROUP_ID: 'lines',
  }
  const waits = { timeoutMs }
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-lines-'))
  const TENANTS_FILE = join(folder, 'tenants.json')
  const setTenants = (streams: string[], key: string): Promise<number> => {
    const keys = [{ id: key, sha256: makeKey(key).sha256 }]
    return Bun.write(TENANTS_FILE, JSON.stringify({ tenants: { default: { streams, keys } } }))
  }
  await setTenants(['events', 'old'], 'first')
  const producer = await startService('producer', { ...env, AUTH: 'off', TENANTS_FILE, DELIVERY_TIMEOUT_MS: '2000' })
  const consumer = await startService('consumer', {
    ...env,
    INSTANCE_ID: 'one',
    HANDLERS_MODULE: join(root, 'consumer/testing/faulty-handlers.ts'),
    RETRY_FIRST_MS: '100',
  })
  const console = await startService('console', { ...env, AUTH: 'off' })
  const services = { producer, consumer, console }
  try {
    await until(() => producer.started['port'] !== undefined, waits)
    const url = `http://127.0.0.1:${producer.started['port']}/v1/events`
    const post = (body: string, type = 'application/json'): Promise<Response> =>
      fetch(url, { method: 'POST', headers: { 'content-type': type }, body })
    const event = (type: string, id: string): string => JSON.stringify({ type, id, data: { failures: 0, workMs: 0 } })
    expect((await post(event('plain', 'first'))).status).toBe(202)
    expect((await post(event('plain', 'first'))).status).toBe(202)
    expect((await post('no JSON')).status).toBe(400)
    expect((await post('{"type":1}')).status).toBe(422)
    expect((await post('x', 'text/plain')).status).toBe(415)
    for (const kind of ['hopeless', 'always']) expect((await post(event(FAULT_TYPE + kind, kind))).status).toBe(202)
    await (await post(`${event('plain', 'in a line')}\nno JSON\n`, 'application/x-ndjson')).text()
    await setTenants(['events', 'new'], 'second')
    await until(() => producer.log.some(({ msg }) => msg === 'tenants were read again'), {
      ...waits,
      what: 'the tenants file',
    })
    const told = (text: string) => consumer.log.some(({ msg }) => msg === text)
    const wanted = ['dead letter', 'attempts failed; moved to .retry', 'processed', 'dropped as a duplicate']
    await until(() => wanted.every(told), { ...waits, what: wanted.join(', ') })
    expect((await fetch(`http://127.0.0.1:${console.started['port']}/v1/nothing`)).status).toBe(404)

    await broker.stop()
    const isReady = async (one: ServiceProcess): Promise<boolean> => (await readinessOf(one)).ok
    await until(async () => !(await isReady(producer)) && !(await isReady(console)), { ...waits, what: 'the outage' })
    expect((await post(event('plain', 'too late'))).status).toBe(503)
  } finally {
    await Promise.all(Object.values(services).map((one) => one.stop()))
    await rm(folder, { recursive: true })
  }
  return services
}
