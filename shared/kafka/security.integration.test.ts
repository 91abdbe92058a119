import { afterAll, afterEach, beforeAll, expect, test } from 'bun:test'
import { copyFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { type KafkaCluster, startKafka } from '../dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import type { CommonConfig } from '../service/config.ts'
import { uniqueName } from '../testing/brokers.ts'
import { type Authority, type Certificate, createAuthority } from '../testing/certificates.ts'
import { commonConfig } from '../testing/common-config.ts'
import { until } from '../testing/until.ts'
import { createRecordProducer } from './producer.ts'
import { createRangeReader, readAll } from './range-reader.ts'
import { securityOf } from './security.ts'
import { createTransactor } from './transactor.ts'
import type { RecordProducer } from './types.ts'

/** Clients that run while what they authenticate with changes, on an Apache Kafka of their own. */

const TEST_TIMEOUT_MS = 120_000
const LISTENERS = { MUTUAL: 'SSL', USERS: 'SASL_SSL', TOKENS: 'SASL_SSL' }
const HERE = 'DNS:localhost,IP:127.0.0.1'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-security-'))
const at = (name: string): string => join(folder, name)

let kafka: KafkaCluster
let ports: number[]
let addresses: Record<keyof typeof LISTENERS, string>
/** Of the brokers before and after they are renewed; trusted by none. */
let [first, second, unknown]: [Authority, Authority, Authority] = [] as never
const topic = uniqueName('renewed')
const ending: (() => unknown)[] = []

/** What the broker shows and trusts. */
async function brokerOf(authority: Authority, trusted: readonly Authority[]): Promise<void> {
  const { keystoreFile } = await authority.issue(HERE)
  copyFileSync(keystoreFile, at('broker.pem'))
  writeFileSync(at('trusted.pem'), trusted.map(({ certificateFile }) => readFileSync(certificateFile, 'utf8')).join(''))
}

const userSettings = (user: string): string =>
  `org.apache.kafka.common.security.plain.PlainLoginModule required user_${user}="of-${user}";`

beforeAll(async () => {
  ;[first, second, unknown] = await Promise.all([createAuthority(), createAuthority(), createAuthority()])
  await brokerOf(first, [first, second])
  ports = await findFreePorts(2 + Object.keys(LISTENERS).length)
  const [plain = 0, controller = 0, ...others] = ports
  addresses = Object.fromEntries(
    Object.keys(LISTENERS).map((name, index) => [name, `127.0.0.1:${others[index]}`]),
  ) as typeof addresses
  const more = Object.entries(addresses).map(([name, address]) => `,${name}://${address}`)
  const protocols = Object.entries(LISTENERS).map(([name, protocol]) => `,${name}:${protocol}`)
  kafka = await startKafka({
    ports: [plain],
    settings: {
      'controller.quorum.voters': `1@127.0.0.1:${controller}`,
      listeners: `PLAINTEXT://127.0.0.1:${plain},CONTROLLER://127.0.0.1:${controller}${more.join('')}`,
      'advertised.listeners': `PLAINTEXT://127.0.0.1:${plain}${more.join('')}`,
      'listener.security.protocol.map': `PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${protocols.join('')}`,
      ...Object.fromEntries(
        Object.keys(LISTENERS).flatMap((name) => [
          [`listener.name.${name.toLowerCase()}.ssl.keystore.type`, 'PEM'],
          [`listener.name.${name.toLowerCase()}.ssl.keystore.location`, at('broker.pem')],
        ]),
      ),
      'listener.name.mutual.ssl.client.auth': 'required',
      'listener.name.mutual.ssl.truststore.type': 'PEM',
      'listener.name.mutual.ssl.truststore.location': at('trusted.pem'),
      'listener.name.users.sasl.enabled.mechanisms': 'PLAIN',
      'listener.name.users.plain.sasl.jaas.config': userSettings('one'),
      'listener.name.tokens.sasl.enabled.mechanisms': 'OAUTHBEARER',
      'listener.name.tokens.oauthbearer.sasl.jaas.config':
        'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";',
      // Sessions end with their tokens (KIP-368).
      'listener.name.tokens.oauthbearer.connections.max.reauth.ms': '600000',
    },
  })
  await kafka.createTopics([topic], 2)
}, TEST_TIMEOUT_MS)

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

afterAll(async () => {
  await kafka?.stop()
  releasePorts(ports ?? [])
}, TEST_TIMEOUT_MS)

/** What is logged, by its message. */
function logged() {
  const lines: { msg: string; reason?: string; client?: string }[] = []
  const log = pino({ base: null, level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const of = (msg: string) => lines.filter((line) => line.msg === msg)
  return { log, lines, of }
}

type Logged = ReturnType<typeof logged>

/** A producer that has connected, and sends until it is stopped: each value until it is stored. */
function sending(config: CommonConfig, { log }: Logged) {
  const producer = createRecordProducer({
    config,
    clientId: uniqueName('producer'),
    topics: [topic],
    deliveryTimeoutMs: 10_000,
    lingerMs: 0,
    maxQueueRecords: 1_000,
    maxQueueBytes: 1_000_000,
    maxRecordBytes: 900_000,
    unreachedTimeoutMs: 60_000,
    log,
    onStatistics: () => undefined,
  })
  ending.push(() => producer.close(1_000))
  producer.start()
  const stored: string[] = []
  const outcomes: string[] = []
  let stopped = false
  const name = uniqueName('sent')
  const send = async (): Promise<void> => {
    for (let number = 0; !stopped; ) {
      const value = `${name}-${number}`
      const record = { topic, key: value, value: Buffer.from(value), headers: { names: [], values: [] } }
      const [result] = await producer.produce([record])
      if (result === undefined || 'fault' in result) {
        // Not while it connects for the first time.
        if (number > 0) outcomes.push(result?.outcome ?? 'none')
      } else {
        stored.push(value)
        number++
      }
      await Bun.sleep(10)
    }
  }
  const sent = send()
  return {
    producer,
    stored,
    outcomes,
    async stop() {
      stopped = true
      await sent
    },
  }
}

const more = (stored: readonly string[], count = 10, timeoutMs = 30_000): Promise<void> => {
  const enough = stored.length + count
  return until(() => stored.length >= enough, { timeoutMs, what: 'more to be stored' })
}

/** How often each value is in the topic. */
async function inTopic(): Promise<Map<string, number>> {
  const { log } = logged()
  const reader = createRangeReader({
    config: commonConfig({ KAFKA_BROKERS: kafka.bootstrapServers }),
    clientId: uniqueName('reader'),
    log,
  })
  const found = new Map<string, number>()
  const partitions = [0, 1].map((partition) => ({ topic, partition }))
  await readAll(reader, partitions, ({ value }) => {
    const text = String(value)
    found.set(text, (found.get(text) ?? 0) + 1)
  })
  await reader.close()
  return found
}

/** Copies what a client shows under these names, so that it can be replaced. */
function put(prefix: string, authorities: readonly Authority[], { certificateFile, keyFile }: Certificate) {
  const files = { ca: at(`${prefix}-ca.pem`), certificate: at(`${prefix}.pem`), key: at(`${prefix}.key`) }
  writeFileSync(files.ca, authorities.map((one) => readFileSync(one.certificateFile, 'utf8')).join(''))
  copyFileSync(certificateFile, files.certificate)
  copyFileSync(keyFile, files.key)
  return files
}

const mutual = (files: ReturnType<typeof put>) =>
  commonConfig({
    KAFKA_BROKERS: addresses.MUTUAL,
    KAFKA_SECURITY_PROTOCOL: 'ssl',
    KAFKA_SSL_CA_FILE: files.ca,
    KAFKA_SSL_CERTIFICATE_FILE: files.certificate,
    KAFKA_SSL_KEY_FILE: files.key,
  })

const USED = 'changed credentials for Kafka are used'
const NOT_USED = 'changed credentials for Kafka are not used'

test(
  'files that cannot be used change nothing but what is said of them',
  async () => {
    const files = put('refused', [first], await first.issue('DNS:client'))
    const original = readFileSync(files.certificate)
    const config = mutual(files)
    const log = logged()
    const client = sending(config, log)
    const security = securityOf(config, log.log)
    const detail = () => security.state().detail ?? ''
    await more(client.stored)
    const unreachable = log.of('Kafka is unreachable').length
    expect(detail()).toBe('')
    expect(security.expiries().map(({ certificate }) => certificate)).toEqual(['kafka-client', 'kafka-authorities'])

    const stranger = await unknown.issue('DNS:client')
    copyFileSync(stranger.certificateFile, files.certificate)
    await until(() => detail().includes('does not belong to'), { what: 'the pair that does not match' })
    await more(client.stored)
    copyFileSync(stranger.keyFile, files.key)
    await until(() => /not let in with them: [\d.:]+: client certificate refused/.test(detail()), {
      what: 'the refusal',
    })
    await more(client.stored)
    // Once for each reason, however often it is tried.
    expect(log.of(NOT_USED)).toHaveLength(2)

    const right = await first.issue('DNS:client')
    writeFileSync(files.certificate, original)
    copyFileSync(right.certificateFile, files.certificate)
    copyFileSync(right.keyFile, files.key)
    await until(() => log.of(USED).length === 1, { what: 'the change' })
    expect(detail()).toBe('')
    await client.stop()
    expect(client.outcomes).toEqual([])
    expect(log.of('Kafka is unreachable').length).toBe(unreachable)
  },
  TEST_TIMEOUT_MS,
)

test(
  'certificates, authorities, users and passwords are renewed: nothing is lost or doubled, and no connection ends before the broker ends it',
  async () => {
    const files = put('renewed', [first], await first.issue('DNS:client'))
    writeFileSync(at('user'), 'one\n')
    writeFileSync(at('password'), 'of-one\n')
    writeFileSync(at('users-ca.pem'), readFileSync(first.certificateFile))
    const byCertificate = mutual(files)
    const byPassword = commonConfig({
      KAFKA_BROKERS: addresses.USERS,
      KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
      KAFKA_SASL_MECHANISM: 'PLAIN',
      KAFKA_SSL_CA_FILE: at('users-ca.pem'),
      KAFKA_SASL_USERNAME_FILE: at('user'),
      KAFKA_SASL_PASSWORD_FILE: at('password'),
    })
    const logs = [logged(), logged()] as const
    const clients = [sending(byCertificate, logs[0]), sending(byPassword, logs[1])] as const
    const transactor = createTransactor({
      config: byCertificate,
      clientId: uniqueName('transactor'),
      transactionalId: uniqueName('id'),
      transactionTimeoutMs: 10_000,
      log: logs[0].log,
      onStatistics: () => undefined,
    })
    ending.push(() => transactor.close())
    const reader = createRangeReader({ config: byPassword, clientId: uniqueName('reader'), log: logs[1].log })
    ending.push(() => reader.close())
    await transactor.start()
    expect((await reader.topics()).get(topic)).toBe(2)
    await Promise.all(clients.map(({ stored }) => more(stored)))

    const unreachable = (): number => logs.flatMap(({ of }) => of('Kafka is unreachable')).length
    const before = unreachable()
    // Before the broker: it would refuse the user as yet, and the old one stays in use.
    writeFileSync(at('user'), 'two\n')
    writeFileSync(at('password'), 'of-two\n')
    await until(() => logs[1].of(NOT_USED).length > 0, { what: 'the user to be refused' })
    // One after the other, as by hand.
    put('renewed', [first, second], await second.issue('DNS:client'))
    await until(() => logs[0].of(USED).length > 0, { what: 'the certificate to be used' })
    await Promise.all(clients.map(({ stored }) => more(stored)))
    expect(clients.flatMap(({ outcomes }) => outcomes)).toEqual([])
    expect(unreachable()).toBe(before)
    expect(transactor.disconnects()).toBe(0)

    // Now the broker: everything old is refused.
    writeFileSync(
      at('users-ca.pem'),
      readFileSync(first.certificateFile, 'utf8') + readFileSync(second.certificateFile, 'utf8'),
    )
    await brokerOf(second, [second])
    const settings = join(kafka.directory, 'node-1/server.properties')
    writeFileSync(settings, readFileSync(settings, 'utf8').replace(userSettings('one'), userSettings('two')))
    await kafka.leave(0)
    await kafka.restart(0)
    await Promise.all(clients.map(({ stored }) => more(stored, 20, 60_000)))
    await until(() => logs[1].of(USED).length > 0, { what: 'the user to be used' })
    expect(
      (await transactor.write([{ topic, key: 'k', value: Buffer.from('v'), headers: { names: [], values: [] } }])).kind,
    ).toBe('committed')
    expect((await reader.topics()).get(topic)).toBe(2)

    await Promise.all(clients.map((client) => client.stop()))
    const found = await inTopic()
    const all = clients.flatMap(({ stored }) => stored)
    expect(all.filter((value) => !found.has(value))).toEqual([])
    // What was sent again was not stored before, or nobody could know.
    const again = [...found.values()].reduce((sum, count) => sum + count - 1, 0)
    expect(again).toBeLessThanOrEqual(
      clients.flatMap(({ outcomes }) => outcomes).filter((one) => one === 'unknown').length,
    )
  },
  TEST_TIMEOUT_MS,
)

/** Long enough for librdkafka, which looks once a second whether a token is to be renewed. */
const TOKEN_S = 30

/** An unsecured token (RFC 7519, section 6), which Kafka's own validator takes. */
const unsecured = (subject: string, lifetimeS: number): string => {
  const part = (claims: object): string => Buffer.from(JSON.stringify(claims)).toString('base64url')
  const nowS = Math.floor(Date.now() / 1_000)
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: nowS, exp: nowS + lifetimeS })}.`
}

test(
  'tokens are fetched once for all clients, renewed while these run, and what is wrong with them is named',
  async () => {
    const { certificateFile, keyFile } = await second.issue(HERE)
    let mode: 'token' | 'garbage' | 'refused' = 'refused'
    let requests = 0
    /** When the last token expires, since the epoch. */
    let expiresAtMs = 0
    const issuer = Bun.serve({
      hostname: '127.0.0.1',
      port: 0,
      tls: { cert: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') },
      fetch() {
        requests++
        if (mode === 'refused') return Response.json({ error: 'invalid_client' }, { status: 401 })
        if (mode === 'garbage') return Response.json({ access_token: 'a.b.c', expires_in: 3 })
        expiresAtMs = Date.now() + TOKEN_S * 1_000
        return Response.json({ access_token: unsecured('client', TOKEN_S), expires_in: TOKEN_S })
      },
    })
    ending.push(() => issuer.stop(true))
    writeFileSync(
      at('tokens-ca.pem'),
      readFileSync(first.certificateFile, 'utf8') + readFileSync(second.certificateFile, 'utf8'),
    )
    const config = commonConfig({
      KAFKA_BROKERS: addresses.TOKENS,
      KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
      KAFKA_SASL_MECHANISM: 'OAUTHBEARER',
      KAFKA_SSL_CA_FILE: at('tokens-ca.pem'),
      KAFKA_OAUTH_TOKEN_URL: `https://127.0.0.1:${issuer.port}/token`,
      KAFKA_OAUTH_CLIENT_ID: 'client',
      KAFKA_OAUTH_CLIENT_SECRET: 'hidden-secret',
      KAFKA_OAUTH_CA_FILE: second.certificateFile,
      KAFKA_OAUTH_EXTENSIONS: 'logicalCluster=lkc-1',
    })
    const log = logged()
    const client = sending(config, log)
    const reason = (of: RecordProducer): string => {
      const connection = of.connection()
      return connection.state === 'connecting' ? connection.reason : connection.state
    }
    await until(() => reason(client.producer).includes('client refused (invalid_client)'), { what: 'the refusal' })
    mode = 'garbage'
    await until(() => reason(client.producer).includes('token refused by the broker'), { what: 'the broker’s refusal' })
    mode = 'token'
    const before = requests
    await more(client.stored, 1)
    const firstExpiresAtMs = expiresAtMs
    const reader = createRangeReader({ config, clientId: uniqueName('reader'), log: log.log })
    ending.push(() => reader.close())
    const transactor = createTransactor({
      config,
      clientId: uniqueName('transactor'),
      transactionalId: uniqueName('id'),
      transactionTimeoutMs: 10_000,
      log: log.log,
      onStatistics: () => undefined,
    })
    ending.push(() => transactor.close())
    await Promise.all([reader.topics(), transactor.start()])
    expect(requests - before).toBe(1)
    const outcomes = client.outcomes.length
    const unreachable = log.of('Kafka is unreachable').length

    // It is renewed in time; if that fails, the one that there is lasts until it has succeeded.
    mode = 'refused'
    const security = securityOf(config, log.log)
    await until(() => security.state().detail?.includes('invalid_client') === true, {
      timeoutMs: TOKEN_S * 1_000,
      what: 'the detail',
    })
    await more(client.stored)
    mode = 'token'
    await until(() => security.state().detail === undefined, { what: 'a token again' })
    expect(expiresAtMs).toBeGreaterThan(firstExpiresAtMs)
    await until(() => Date.now() > firstExpiresAtMs + 1_000, { what: 'the first token to expire' })
    await more(client.stored)
    expect((await reader.topics()).get(topic)).toBe(2)
    expect(client.outcomes.slice(outcomes)).toEqual([])
    expect(log.of('Kafka is unreachable')).toHaveLength(unreachable)
    await client.stop()
    expect(JSON.stringify(log.lines)).not.toContain('hidden-secret')
  },
  TEST_TIMEOUT_MS,
)
