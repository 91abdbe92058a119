import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer, type Server } from 'node:tls'
import pino from 'pino'
import { Registry } from 'prom-client'
import { type Authority, createAuthority } from '../testing/certificates.ts'
import { commonConfig } from '../testing/common-config.ts'
import { type ControlledMock, startControlledMock } from '../testing/controlled-mock.ts'
import { until } from '../testing/until.ts'
import { addSecurityMetrics, securityOf } from './security.ts'

/** Changed files, with three brokers that do not all take them: librdkafka's mock cluster, with TLS in front of each broker. */

const TEST_TIMEOUT_MS = 60_000
const USED = 'changed credentials for Kafka are used'
const NOT_USED = 'changed credentials for Kafka are not used'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-trial-'))
const authorities = join(folder, 'ca.pem')

let mock: ControlledMock
let most: Authority
let other: Authority
/** In front of the brokers, in their order. */
const servers: Server[] = []
const ports: number[] = []

const trust = (...trusted: readonly Authority[]): void =>
  writeFileSync(authorities, trusted.map(({ certificateFile }) => readFileSync(certificateFile, 'utf8')).join(''))

/** A broker in a response to a request for metadata. */
function advertised(port: number): Buffer {
  const bytes = Buffer.from('127.0.0.1....')
  bytes.writeInt32BE(port, bytes.length - 4)
  return bytes
}

async function secure(brokerPorts: readonly number[], of: readonly Authority[]): Promise<void> {
  for (const [index, brokerPort] of brokerPorts.entries()) {
    const { certificateFile, keyFile } = await (of[index] as Authority).issue('IP:127.0.0.1')
    const server = createServer({ cert: readFileSync(certificateFile), key: readFileSync(keyFile) }, (client) => {
      const broker = connect({ host: '127.0.0.1', port: brokerPort })
      client.on('data', (chunk: Buffer) => broker.write(chunk))
      broker.on('data', (chunk: Buffer) => {
        for (const [at, port] of brokerPorts.entries())
          for (let found = chunk.indexOf(advertised(port)); found >= 0; found = chunk.indexOf(advertised(port)))
            advertised(ports[at] ?? 0).copy(chunk, found)
        client.write(chunk)
      })
      for (const [one, peer] of [
        [client, broker],
        [broker, client],
      ] as const) {
        one.on('error', () => undefined)
        one.on('close', () => peer.destroy())
      }
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    servers.push(server)
    ports.push((server.address() as AddressInfo).port)
  }
}

beforeAll(async () => {
  ;[most, other] = await Promise.all([createAuthority(), createAuthority()])
  mock = startControlledMock(3)
  const brokerPorts = mock.brokers.split(',').map((address) => Number(address.split(':').at(-1)))
  await secure(brokerPorts, [most, most, other])
}, TEST_TIMEOUT_MS)

afterAll(() => {
  for (const server of servers) server.close()
  mock?.close()
})

/** What is in use, as long as a client is open. @param brokers whose addresses are configured */
function using(brokers: readonly number[], more: Readonly<Record<string, string>> = {}) {
  const lines: { msg: string; reason?: string }[] = []
  const log = pino({ base: null, level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const config = commonConfig({
    KAFKA_BROKERS: brokers.map((broker) => `127.0.0.1:${ports[broker]}`).join(','),
    KAFKA_SECURITY_PROTOCOL: 'ssl',
    KAFKA_SSL_CA_FILE: authorities,
    ...more,
  })
  const security = securityOf(config, log)
  const opening = security.open()
  const of = (msg: string) => lines.filter((line) => line.msg === msg)
  return { security, opening, of, detail: () => security.state().detail }
}

test.each([
  ['all of the brokers are', [0, 1, 2]],
  ['only another one is', [0]],
])(
  'what one of three brokers refuses is not used, which names that broker: %s configured',
  async (_, brokers) => {
    trust(most, other)
    const { opening, of, detail } = using(brokers)
    trust(most)
    await until(() => of(NOT_USED).length + of(USED).length > 0, { what: 'the trial', timeoutMs: 20_000 })
    expect(of(USED)).toEqual([])
    expect(detail()).toContain(`not let in with them: 127.0.0.1:${ports[2]}: unknown authority`)
    expect(detail()).not.toContain(`:${ports[0]}`)
    trust(other, most)
    await until(() => of(USED).length === 1, { what: 'the right file', timeoutMs: 20_000 })
    expect(detail()).toBeUndefined()
    // Once, however often it was tried.
    expect(of(NOT_USED)).toHaveLength(1)
    opening.ended()
  },
  TEST_TIMEOUT_MS,
)

test(
  'a broker that cannot be reached, or refuses what is in use, too, is no reason against what is new',
  async () => {
    trust(most)
    const { opening, of } = using([0, 1, 2])
    writeFileSync(authorities, `${readFileSync(authorities, 'utf8')}\n`)
    await until(() => of(USED).length === 1, { what: 'what the third broker refuses, as before', timeoutMs: 20_000 })
    mock.setDown(2)
    servers[2]?.close()
    trust(most, other)
    await until(() => of(USED).length === 2, { what: 'what the third broker cannot refuse', timeoutMs: 20_000 })
    expect(of(NOT_USED)).toEqual([])
    opening.ended()
  },
  TEST_TIMEOUT_MS,
)

test(
  'a file that cannot be used, and then is as it was, is said to be used again',
  async () => {
    trust(most, other)
    const { opening, of, detail } = using([0])
    writeFileSync(authorities, 'no PEM')
    await until(() => of(NOT_USED).length === 1, { what: 'the fault', timeoutMs: 20_000 })
    trust(most, other)
    await until(() => detail() === undefined, { what: 'the old content', timeoutMs: 20_000 })
    expect(of('the credentials for Kafka are used again: the files are as they were')).toHaveLength(1)
    opening.ended()
  },
  TEST_TIMEOUT_MS,
)

test('a client certificate that has expired is named, and logged once', async () => {
  trust(most, other)
  const { certificateFile, keyFile } = await most.issue('DNS:client', -1)
  const { security, opening, of, detail } = using([0], {
    KAFKA_SSL_CERTIFICATE_FILE: certificateFile,
    KAFKA_SSL_KEY_FILE: keyFile,
  })
  expect(detail()).toMatch(/^the client certificate has expired \(\d{4}-\d\d-\d\dT.*Z\)/)
  expect(of('credentials for Kafka have expired')).toHaveLength(1)
  const registry = new Registry()
  addSecurityMetrics(registry, security)
  expect(await registry.metrics()).toContain('kafkatrace_kafka_credentials_current 0')
  opening.ended()
})
