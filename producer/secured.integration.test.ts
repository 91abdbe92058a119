import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Acl } from '../shared/dev/brokers/wire-admin.ts'
import { makeKey } from '../shared/http/tenants.ts'
import { createAuthority, KEY_PASSWORD } from '../shared/testing/certificates.ts'
import { type SecuredKafka, startSecuredKafka, type Variables } from '../shared/testing/secured-kafka.ts'
import { readinessOf, type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { until } from '../shared/testing/until.ts'

/** The producer as a process, on its own Kafka with authentication and ACLs. */

const TEST_TIMEOUT_MS = 120_000
/** A refused client retries after at most 5 s; the rest is slack for a busy machine. */
const SOON_MS = 20_000
const USER = 'producer'

const acl = (operation: Acl['operation'], name: string, pattern: Acl['pattern'] = 'literal'): Acl => ({
  principal: `User:${USER}`,
  resource: 'topic',
  name,
  pattern,
  operation,
})

let kafka: SecuredKafka
/** Environments that can connect. */
let reaching: Record<'tls' | 'mutual' | 'encrypted' | 'encryptedWithFile' | 'sasl', Variables>
/** Environments that cannot, and how the reason starts. */
let failing: { name: string; env: Variables }[]
const running: ServiceProcess[] = []

beforeAll(async () => {
  const other = await createAuthority()
  kafka = await startSecuredKafka({ users: [USER] })
  // For the only tenant without keys.
  await kafka.allow([acl('create', 'kt.default.', 'prefixed'), acl('write', 'kt.default.', 'prefixed')])
  const sasl = kafka.variables(USER, 'PLAIN')
  const mutual = kafka.variables(USER, 'mTLS')
  const without = { ...mutual, KAFKA_SSL_CERTIFICATE_FILE: '', KAFKA_SSL_KEY_FILE: '' }
  const passwordFile = join(mkdtempSync(join(tmpdir(), 'kafkatrace-key-password-')), 'password')
  writeFileSync(passwordFile, `${KEY_PASSWORD}\n`)
  const tls = { ...without, KAFKA_BROKERS: kafka.address('TLS') }
  reaching = {
    tls,
    mutual,
    encrypted: {
      ...mutual,
      KAFKA_SSL_KEY_FILE: kafka.certificateOf(USER).encryptedKeyFile,
      KAFKA_SSL_KEY_PASSWORD: KEY_PASSWORD,
    },
    encryptedWithFile: {
      ...mutual,
      KAFKA_SSL_KEY_FILE: kafka.certificateOf(USER).encryptedKeyFile,
      KAFKA_SSL_KEY_PASSWORD_FILE: passwordFile,
    },
    sasl,
  }
  failing = [
    { name: 'wrong user name or password', env: { ...sasl, KAFKA_SASL_PASSWORD: 'wrong-password' } },
    {
      name: 'SASL mechanism not offered',
      env: { ...kafka.variables(USER, 'PLAIN', 'BASIC'), KAFKA_SASL_MECHANISM: 'SCRAM-SHA-512' },
    },
    { name: 'unknown authority', env: { ...tls, KAFKA_SSL_CA_FILE: other.certificateFile } },
    { name: 'expired certificate', env: { ...tls, KAFKA_BROKERS: kafka.address('EXPIRED') } },
    { name: 'wrong host name', env: { ...tls, KAFKA_BROKERS: kafka.address('ELSEWHERE') } },
    { name: 'missing client certificate', env: without },
    { name: 'no TLS on this listener', env: { ...tls, KAFKA_BROKERS: kafka.cluster.bootstrapServers } },
    {
      name: 'connection ended by the broker before it answered: the listener may expect TLS or SASL',
      env: { ...tls, KAFKA_SECURITY_PROTOCOL: 'plaintext', KAFKA_SSL_CA_FILE: '' },
    },
  ]
}, TEST_TIMEOUT_MS)

afterAll(async () => {
  await Promise.all(running.splice(0).map((service) => service.stop('SIGKILL')))
  await kafka?.stop()
}, TEST_TIMEOUT_MS)

async function start(env: Record<string, string>): Promise<ServiceProcess> {
  const service = await startService('producer', { NODE_ENV: 'development', AUTH: 'off', ...env })
  running.push(service)
  return service
}

const check = async (of: ServiceProcess, name: string) =>
  (await readinessOf(of)).checks.find((one) => one.name === name)
const ready = (of: ServiceProcess) =>
  until(async () => (await readinessOf(of)).ok && of.started['port'] !== undefined, {
    timeoutMs: SOON_MS,
    what: 'readiness',
  })
/** Its log lines about why the producing client cannot connect. */
const unreached = (of: ServiceProcess): string[] =>
  of.log
    .filter((line) => line['msg'] === 'Kafka is unreachable' && line['kafkaClient'] === 'producer')
    .map((line) => String(line['reason']))

describe('who Kafka does not let in', () => {
  test(
    'finds why, by its name, in /readyz and once in the log; and again when it changes',
    async () => {
      const services = await Promise.all(failing.map(({ env }) => start(env)))
      for (const [index, { name, env }] of failing.entries()) {
        const service = services[index] as ServiceProcess
        const says = async () => ((await check(service, 'kafka'))?.reason ?? '').includes(`: ${name}`)
        await until(says, { timeoutMs: SOON_MS, what: `"${name}"` })

        await until(() => unreached(service).at(-1)?.startsWith(`${env['KAFKA_BROKERS']}: ${name}`) === true)
        expect(service.output).not.toContain(env['KAFKA_SASL_PASSWORD'] ?? kafka.passwordOf(USER))
      }
      await kafka.cluster.kill(0)
      for (const [index, { name }] of failing.entries()) {
        const service = services[index] as ServiceProcess
        await until(() => unreached(service).at(-1)?.includes(': connection refused') === true, {
          timeoutMs: SOON_MS,
          what: `"connection refused" after "${name}"`,
        })
        // It retries every few seconds, and logs only changes.
        const lines = unreached(service)
        expect(lines.filter((line, at) => line === lines[at - 1])).toEqual([])
      }
      await Promise.all(services.map((service) => service.stop('SIGKILL')))
      await kafka.cluster.restart(0)
    },
    TEST_TIMEOUT_MS,
  )

  test(
    'whoever is let in is ready',
    async () => {
      for (const env of [reaching.tls, reaching.mutual, reaching.encrypted, reaching.encryptedWithFile]) {
        const service = await start(env)
        await ready(service)
        // On a busy machine, a connection takes longer than the client's first report.
        expect(unreached(service).filter((reason) => reason !== 'no broker is up')).toEqual([])
        await service.stop()
      }
    },
    TEST_TIMEOUT_MS,
  )
})

describe('who may not write', () => {
  const tenant = 'secured'
  const { key, sha256 } = makeKey('secured-key')
  const tenantsFile = join(mkdtempSync(join(tmpdir(), 'secured-')), 'tenants.json')
  writeFileSync(
    tenantsFile,
    JSON.stringify({ tenants: { [tenant]: { streams: ['one', 'two'], keys: [{ id: 'secured-key', sha256 }] } } }),
  )
  const TOPICS = ['one', 'two'].map((stream) => `kt.${tenant}.${stream}`)

  const give = (...topics: string[]) => kafka.allow(topics.map((topic) => acl('write', topic)))
  const take = (...topics: string[]) => kafka.deny(topics.map((topic) => acl('write', topic)))

  test(
    'is not ready and says why, is ready soon after the right is given, and so again and again, without a restart',
    async () => {
      await kafka.cluster.createTopics(TOPICS, 2)
      const common = { AUTH: 'on', TENANTS_FILE: tenantsFile, CREATE_TOPICS: 'off' }
      const service = await start({
        ...reaching.sasl,
        ...common,
        OPS_HOST: '127.0.0.1',
        REPLICAS_DNS: '127.0.0.2',
      })
      const post = async (stream: string) => {
        const response = await fetch(`http://127.0.0.1:${service.started['port']}/v1/streams/${stream}/events`, {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          body: '{"type":"t"}',
        })
        const connection = response.headers.get('connection') ?? 'open'
        return {
          status: response.status,
          connection,
          ...((await response.json()) as { detail?: string; outcome?: string }),
        }
      }
      const streams = () => check(service, 'streams')
      await until(async () => (await streams())?.reason?.includes('not authorized') === true, { timeoutMs: SOON_MS })
      expect(await readinessOf(service)).toMatchObject({ ok: false })
      expect(service.started['port']).toBeUndefined()

      await give(...TOPICS)
      await ready(service)
      await until(async () => (await streams())?.detail === undefined, { timeoutMs: SOON_MS, what: 'both streams' })
      expect(await post('one')).toMatchObject({ status: 202 })
      expect(await post('two')).toMatchObject({ status: 202 })

      await take('kt.secured.two')
      // The first request that Kafka refuses was not stored either.
      let answer = await post('two')
      const isRefused = async () => {
        answer = await post('two')
        return answer.status !== 202
      }
      await until(isRefused, { timeoutMs: SOON_MS, what: 'a refusal' })
      expect(answer).toMatchObject({ status: 503, outcome: 'not stored' })
      expect(await post('two')).toMatchObject({
        status: 503,
        detail: expect.stringContaining('not authorized to write to kt.secured.two'),
      })
      expect(await post('one')).toMatchObject({ status: 202 })
      expect(await readinessOf(service)).toMatchObject({ ok: true })
      expect((await streams())?.detail).toContain('1 of 2 streams cannot be written to: not authorized')

      await take('kt.secured.one')
      // Without requests it is polled.
      await until(async () => !(await readinessOf(service)).ok, { timeoutMs: SOON_MS, what: 'the loss to be seen' })
      expect(await post('one')).toMatchObject({ status: 503, connection: 'open', outcome: 'not stored' })
      const status = async () => (await fetch(`http://127.0.0.1:${service.started['opsPort']}/readyz`)).status
      const becomes = (wanted: number, what: string) =>
        until(async () => (await status()) === wanted, { timeoutMs: SOON_MS, what })
      // Nobody does better: a 503 tells clients more than a refused connection.
      expect([await status(), (await readinessOf(service)).degraded]).toEqual([200, true])
      const better = await start({
        ...common,
        KAFKA_BROKERS: kafka.cluster.bootstrapServers,
        OPS_HOST: '127.0.0.2',
        OPS_PORT: String(service.started['opsPort']),
      })
      await becomes(503, 'the better one to be preferred')
      expect(await post('one')).toMatchObject({ status: 503, connection: 'close' })
      await better.stop()
      await becomes(200, 'requests to be answered again')

      await give(...TOPICS)
      await ready(service)
      await until(async () => (await streams())?.detail === undefined, { timeoutMs: SOON_MS, what: 'both streams' })
      expect(await post('one')).toMatchObject({ status: 202 })
      expect(await post('two')).toMatchObject({ status: 202 })
      expect(await service.stop()).toBe(0)
    },
    TEST_TIMEOUT_MS,
  )
})
