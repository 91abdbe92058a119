import { afterAll, beforeAll, expect, test } from 'bun:test'
import pino from 'pino'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { createAcls, deleteAcls } from '../../shared/dev/brokers/wire-admin.ts'
import { ERROR, headersOf, ORIGIN } from '../../shared/events/headers.ts'
import { type Operation, permissionsOf, type SingleAcl, singleAcls } from '../../shared/kafka/acls.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import { commonConfig } from '../../shared/testing/common-config.ts'
import { inWords, type MissingAcl, record } from '../../shared/testing/secured-seen.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'

/** The console as a process, on its own Kafka with ACLs: those of docs/security.md are enough, and without those that are taken away it says what is missing. */

const TIMEOUT_MS = 120_000
const CALL_TIMEOUT_MS = 10_000
const USER = 'console'
const PASSWORD = 'of-a-test'
const INPUT = 'kt.default.events'

const PERMISSIONS = singleAcls(
  `User:${USER}`,
  permissionsOf('console', { groupId: 'kafkatrace', createTopics: true, tenants: [] }),
)
const aclOf = (operation: Operation, name: string): SingleAcl => {
  const found = PERMISSIONS.find((one) => one.operation === operation && one.name === name)
  if (found === undefined) throw new Error(`the console has no ${operation} on ${name}`)
  return found
}

let kafka: KafkaCluster
let service: ServiceProcess
let url = ''

beforeAll(async () => {
  kafka = await startKafka({ users: { [USER]: PASSWORD } })
  await createAcls(kafka.bootstrapServers, CALL_TIMEOUT_MS, PERMISSIONS)
  await kafka.createTopics([INPUT, `${INPUT}.retry`, `${INPUT}.dlq`, `${INPUT}.processed`], 1)
  await writeLetters(2)
  service = await startService('console', {
    KAFKA_BROKERS: kafka.userServers,
    KAFKA_SECURITY_PROTOCOL: 'sasl_plaintext',
    KAFKA_SASL_MECHANISM: 'PLAIN',
    KAFKA_SASL_USERNAME: USER,
    KAFKA_SASL_PASSWORD: PASSWORD,
    NODE_ENV: 'development',
    AUTH: 'off',
    HOST: '127.0.0.1',
    OPS_HOST: '127.0.0.1',
  })
  url = `http://127.0.0.1:${service.started['port']}/v1/streams/events`
  const ready = `http://127.0.0.1:${service.started['opsPort']}/readyz`
  await until(async () => (await fetch(ready)).ok, { what: 'the console to be ready' })
}, TIMEOUT_MS)

afterAll(async () => {
  await service?.stop()
  await kafka?.stop()
})

async function writeLetters(count: number): Promise<void> {
  const transactor = createTransactor({
    config: commonConfig({ KAFKA_BROKERS: kafka.bootstrapServers }),
    clientId: 'test',
    transactionalId: 'test',
    transactionTimeoutMs: 10_000,
    log: pino({ level: 'silent' }),
    onStatistics: () => undefined,
  })
  await transactor.start()
  const letters = Array.from({ length: count }, (_, index) => ({
    topic: `${INPUT}.dlq`,
    partition: 0,
    key: 'k',
    value: Buffer.from('{}'),
    headers: headersOf({
      ce_specversion: '1.0',
      ce_id: `letter-${index}`,
      ce_source: '/test',
      ce_type: 'test',
      [ERROR]: JSON.stringify({ reason: 'handler failed', message: 'a test' }),
      [ORIGIN]: `${INPUT}/0/${index}`,
    }),
  }))
  expect((await transactor.write(letters)).kind).toBe('committed')
  await transactor.close()
}

const post = (path: string, body: unknown) =>
  fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

test('the documented permissions are enough to look, redrive and pause', async () => {
  expect(await (await fetch(`${url}/dead-letters`)).json()).toMatchObject({ letters: 2 })
  expect((await post('/dead-letters/0/0/redrive', {})).status).toBe(201)
  expect(await (await fetch(`${url}/dead-letters`)).json()).toMatchObject({ letters: 1 })
  expect(await (await post('/pause', { reason: 'a test' })).json()).toMatchObject({ paused: { by: 'anyone' } })
  expect(await (await fetch(`${url}/status`)).json()).toMatchObject({ group: { id: 'kafkatrace' } })
}, 60_000)

/** What was asked for, by the resource. */
const WHAT = {
  'kt.': 'what needs it is',
  'kt-control': 'pause and resume are',
  'kafkatrace-console.': 'every act is',
  kafkatrace: 'status is',
} as const
const seen: MissingAcl[] = []

test.each([
  ['write', 'kt.', () => post('/resume', {})],
  ['write', 'kt-control', () => post('/resume', {})],
  ['write', 'kafkatrace-console.', () => post('/resume', {})],
  ['describe', 'kafkatrace', () => fetch(`${url}/status`)],
  ['read', 'kt.', () => fetch(`${url}/records`)],
] as const)(
  'without %s on %s the answer is 503 with the reason, until it is given back',
  async (operation, name, ask) => {
    const acl = aclOf(operation, name)
    const statusOf = async () => (await ask()).status
    await deleteAcls(kafka.bootstrapServers, CALL_TIMEOUT_MS, [acl])
    let refused: Response | undefined
    const isRefused = async () => {
      refused = await ask()
      return refused.status !== 200
    }
    await until(isRefused, { timeoutMs: 60_000, what: 'a refusal' })
    const problem = (await refused?.json()) as { status: number; detail: string }
    expect(problem.status).toBe(503)
    expect(problem.detail).toContain('authorization failed')
    expect(refused?.headers.get('retry-after')).toBeString()
    await createAcls(kafka.bootstrapServers, CALL_TIMEOUT_MS, [acl])
    await until(async () => (await statusOf()) === 200, { timeoutMs: 60_000, what: 'an answer' })
    seen.push({ service: 'console', acl: inWords(acl), effect: `${WHAT[name]} answered 503`, named: 'answer' })
  },
  TIMEOUT_MS,
)

test('what was seen is what is written down', () =>
  record('missing', seen, { owns: ({ service }) => service === 'console', same: (row) => row }))
