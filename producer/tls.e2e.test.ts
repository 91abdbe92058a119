import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect as connectPlainly, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import type { Broker } from '../shared/dev/brokers/broker.ts'
import { embeddedPartitions, startEmbedded } from '../shared/dev/brokers/embedded.ts'
import { run } from '../shared/dev/run.ts'
import { streamTopics } from '../shared/events/topics.ts'
import { makeKey, type TenantsFile } from '../shared/http/tenants.ts'
import { type Authority, type Certificate, createAuthority } from '../shared/testing/certificates.ts'
import { type ServiceProcess, startService } from '../shared/testing/service-process.ts'
import { settled } from '../shared/testing/settled.ts'
import { until } from '../shared/testing/until.ts'

/** Producers and a console that speak TLS, as processes: all that works over HTTP works over TLS, while the certificate is replaced, and when they stop. */

setDefaultTimeout(120_000)

const RENEWALS = 20
const HERE = 'DNS:localhost,IP:127.0.0.1'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-tls-'))
const [sender, reader] = ['sender', 'reader'].map(makeKey) as [Key, Key]
type Key = ReturnType<typeof makeKey>

let broker: Broker
let authority: Authority
let clients: Authority
let pairs: Certificate[]
/** The same producer by how it is reached. */
const producers = new Map<Way, ServiceProcess>()
let console_: ServiceProcess

const WAYS = ['http', 'tls', 'tls with client certificates'] as const
type Way = (typeof WAYS)[number]

let version = 0
/** Switches what is mounted, as Kubernetes does with a Secret. */
function mount(certificate: Certificate): void {
  const directory = mkdtempSync(join(folder, 'version-'))
  writeFileSync(join(directory, 'tls.crt'), readFileSync(certificate.certificateFile))
  writeFileSync(join(directory, 'tls.key'), readFileSync(certificate.keyFile))
  symlinkSync(directory, join(folder, `data-${++version}`))
  renameSync(join(folder, `data-${version}`), join(folder, 'data'))
}

const portOf = (way: Way): number => producers.get(way)?.started['port'] as number

beforeAll(async () => {
  ;[authority, clients, broker] = await Promise.all([createAuthority(), createAuthority(), startEmbedded()])
  pairs = [await authority.issue(HERE), await authority.issue(HERE)]
  await broker.createTopics(streamTopics('acme', 'events'), embeddedPartitions)
  mount(pairs[0] as Certificate)
  const file: TenantsFile = {
    tenants: {
      acme: {
        streams: ['events'],
        keys: [
          { id: 'sender', sha256: sender.sha256 },
          { id: 'reader', sha256: reader.sha256, roles: ['read', 'operate'] },
        ],
        certificates: [{ id: 'till', san: 'DNS:till.example' }],
      },
    },
  }
  writeFileSync(join(folder, 'tenants.json'), JSON.stringify(file))
  const env = { KAFKA_BROKERS: broker.bootstrapServers, TENANTS_FILE: join(folder, 'tenants.json'), LOG_LEVEL: 'info' }
  const tls = {
    TLS_CERTIFICATE_FILE: join(folder, 'data/tls.crt'),
    TLS_KEY_FILE: join(folder, 'data/tls.key'),
    OPS_TLS: 'on',
  }
  const environments: Record<Way, Record<string, string>> = {
    http: {},
    tls,
    'tls with client certificates': { ...tls, TLS_CLIENT_CA_FILE: clients.certificateFile },
  }
  for (const way of WAYS) producers.set(way, await startService('producer', { ...env, ...environments[way] }))
  for (const way of WAYS) await until(() => portOf(way) !== undefined, { what: `the producer by ${way} to open` })
  console_ = await startService('console', { ...env, ...tls })
})

afterAll(async () => {
  await Promise.all([...producers.values(), console_].map((one) => one?.stop()))
  await broker?.stop()
  rmSync(folder, { recursive: true })
})

const ca = (): string => readFileSync(authority.certificateFile, 'utf8')

function socketTo(way: Way, identity?: Certificate): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const at = { host: '127.0.0.1', port: portOf(way) }
  const shown = identity && { cert: readFileSync(identity.certificateFile), key: readFileSync(identity.keyFile) }
  const socket: Socket = way === 'http' ? connectPlainly(at) : connect({ ...at, ca: ca(), ...shown })
  socket.once(way === 'http' ? 'connect' : 'secureConnect', () => resolve(socket))
  socket.once('error', reject)
  socket.on('error', () => undefined)
  return promise
}

const statuses = (text: string): number[] => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))

/** Sends bytes, and returns the statuses of the answers until as many have come or the connection is closed, and whether it is. */
async function send(way: Way, bytes: string, expected: number): Promise<{ answers: number[]; isClosed: boolean }> {
  const socket = await socketTo(way)
  let received = ''
  let isClosed = false
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('close', () => {
    isClosed = true
  })
  socket.write(bytes, 'latin1')
  await until(() => isClosed || statuses(received).length >= expected, { what: `answers to ${bytes.slice(0, 60)}` })
  // Whether it is closed after that; an answer that keeps the connection does not say so.
  if (/^connection: close/im.test(received)) await until(() => isClosed, { what: 'the connection to close' })
  socket.destroy()
  return { answers: statuses(received), isClosed }
}

const EVENT = '{"type":"t"}'
const post = (body: string, more = '', path = '/v1/events', type = 'application/json'): string =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${sender.key}\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`

describe('requests as bytes are answered in TLS as they are without', () => {
  const cases: Record<string, [bytes: () => string, answers: number[]]> = {
    'an event': [() => post(EVENT), [202]],
    'no key': [() => post(EVENT).replace(/X-API-Key: .*\r\n/, ''), [401]],
    'no event': [() => post('{}'), [422]],
    'header fields that are too large': [() => post(EVENT, `X-Large: ${'x'.repeat(17 * 1024)}\r\n`), [431]],
    'header fields that are too large for the server': [
      () => post(EVENT, `X-Large: ${'x'.repeat(40 * 1024)}\r\n`),
      [431],
    ],
    'a body that is announced too large': [
      () => post('').replace('Content-Length: 0', `Content-Length: ${2 ** 30}`),
      [413],
    ],
    'a chunked body': [
      () =>
        post('').replace(/Content-Length: 0\r\n\r\n/, `Transfer-Encoding: chunked\r\n\r\nc\r\n${EVENT}\r\n0\r\n\r\n`),
      [202],
    ],
    'two lengths': [() => post(EVENT, 'Content-Length: 3\r\n'), [400]],
    'no HTTP': [() => 'nothing at all\r\n\r\n', [400]],
    'two requests, one after the other': [() => post(EVENT) + post(EVENT), [202, 202]],
    'another path': [() => post(EVENT, '', '/v2/events'), [404]],
  }
  test.each(Object.keys(cases))('%s', async (name) => {
    const [bytes, answers] = cases[name] as (typeof cases)[string]
    const plain = await send('http', bytes(), answers.length)
    for (const way of WAYS) expect([way, await send(way, bytes(), answers.length)]).toEqual([way, plain])
    if (name !== 'no HTTP' && !name.startsWith('two')) expect(plain.answers).toEqual(answers)
  })
})

describe.each([...WAYS])('a stream of events by %s', (way) => {
  test('has receipts before it ends, and a summary', async () => {
    const socket = await socketTo(way)
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk.toString('utf8')
    })
    const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
    socket.write(
      post('', '', '/v1/events', 'application/x-ndjson').replace('Content-Length: 0', 'Transfer-Encoding: chunked') +
        chunk(`${EVENT}\n`),
    )
    await until(() => received.includes('"receipt"') || received.includes('"offset"'), { what: 'the first receipt' })
    socket.write(`${chunk(`${EVENT}\n`)}0\r\n\r\n`)
    await until(() => received.includes('"complete":true'), { what: 'the summary' })
    socket.destroy()
  })
})

test('a client’s certificate sends without a key', async () => {
  const till = await clients.issue('DNS:till.example')
  const identity = { cert: readFileSync(till.certificateFile, 'utf8'), key: readFileSync(till.keyFile, 'utf8') }
  const events = `https://127.0.0.1:${portOf('tls with client certificates')}/v1/events`
  const sent = (tls: object) =>
    fetch(events, {
      method: 'POST',
      body: EVENT,
      headers: { 'content-type': 'application/json' },
      tls: { ca: ca(), ...tls },
      keepalive: false,
    })
  expect((await sent(identity)).status).toBe(202)
  expect((await sent({})).status).toBe(401)
})

test('operations ports are in TLS as well, and say when the certificate expires', async () => {
  for (const service of [producers.get('tls') as ServiceProcess, console_]) {
    const ops = `https://127.0.0.1:${service.started['opsPort']}`
    expect((await fetch(`${ops}/livez`, { tls: { ca: ca() } })).status).toBe(200)
    const metrics = await (await fetch(`${ops}/metrics`, { tls: { ca: ca() } })).text()
    const [, seconds] =
      /^kafkatrace_certificate_not_after_seconds\{certificate="listener"\} (\S+)$/m.exec(metrics) ?? []
    expect(Number(seconds)).toBeGreaterThan(Date.now() / 1_000)
    expect(metrics).toMatch(/^kafkatrace_listener_certificate_current 1$/m)
    expect(await settled(fetch(`http://127.0.0.1:${service.started['opsPort']}/livez`))).toThrow()
  }
})

test('the command line reaches a console in TLS, whose authority Node’s variable names', async () => {
  const kt = [process.execPath, join(import.meta.dir, '../consumer/console/kt.ts'), 'dead-letters', 'events'] as const
  const env = { KT_URL: `https://127.0.0.1:${console_.started['port']}`, KT_KEY: reader.key }
  const known = await run(kt, {
    env: { ...env, NODE_EXTRA_CA_CERTS: authority.certificateFile },
  })
  expect([known.exitCode, known.errors]).toEqual([0, ''])
  const unknown = await run(kt, { env: { ...env, NODE_EXTRA_CA_CERTS: '' } })
  expect([unknown.exitCode, unknown.errors]).toEqual([
    69,
    expect.stringContaining('put that authority into the PEM file that NODE_EXTRA_CA_CERTS names'),
  ])
})

test('outcomes are followed in TLS', async () => {
  const response = await fetch(`https://127.0.0.1:${console_.started['port']}/v1/streams/events/outcomes`, {
    headers: { 'x-api-key': reader.key, accept: 'text/event-stream' },
    tls: { ca: ca() },
  })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  const stream = (response.body as ReadableStream<Uint8Array>).getReader()
  expect((await stream.read()).value?.length).toBeGreaterThan(0)
  await stream.cancel()
})

/**
 * A client that sends one event after the other until it is told. Each that was sent has to be answered.
 * @param connections kept: until the service closes it; reopened: one for each event
 */
async function keepSending(
  way: Way,
  ending: AbortSignal,
  failures: string[],
  counts: { stored: number },
  connections: 'kept' | 'reopened' | 'kept until it is closed',
): Promise<void> {
  const isOver = (): boolean => ending.aborted && connections !== 'kept until it is closed'
  do {
    let socket: Socket
    try {
      socket = await socketTo(way)
    } catch (error) {
      if (!ending.aborted) failures.push(`not connected: ${(error as Error).message}`)
      return
    }
    let received = ''
    let isClosed = false
    let take: (() => void) | undefined
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      take?.()
    })
    socket.on('close', () => {
      isClosed = true
      take?.()
    })
    do {
      if (isClosed) break
      received = ''
      socket.write(post(EVENT))
      while (!isClosed && !/\r\n\r\n[\s\S]*\}$/.test(received))
        await new Promise<void>((resolve) => {
          take = resolve
        })
      const [status] = statuses(received)
      if (status === 202) counts.stored++
      else failures.push(`${status} ${received.slice(0, 200)}`)
    } while (connections !== 'reopened' && !isOver() && !/^connection: close/im.test(received))
    socket.destroy()
  } while (!ending.aborted)
}

const storedBy = async (way: Way): Promise<number> => {
  const scheme = way === 'http' ? 'http' : 'https'
  const metrics = await fetch(`${scheme}://127.0.0.1:${producers.get(way)?.started['opsPort']}/metrics`, {
    tls: { ca: ca() },
  })
  const [, count] =
    /^kafkatrace_producer_events_total\{[^}]*outcome="stored"[^}]*\} (\d+)$/m.exec(await metrics.text()) ?? []
  return Number(count)
}

const serialOf = (certificate: Certificate): string =>
  Bun.spawnSync(['openssl', 'x509', '-noout', '-serial', '-in', certificate.certificateFile])
    .stdout.toString()
    .trim()
    .replace('serial=', '')

test(`the certificate is replaced ${RENEWALS} times under load: no request fails, and what is counted adds up`, async () => {
  const served = async (way: Way): Promise<string> => {
    const socket = await socketTo(way)
    const serial = (socket as ReturnType<typeof connect>).getPeerCertificate().serialNumber
    socket.destroy()
    return serial
  }
  const inTls = WAYS.filter((way) => way !== 'http')
  const ending = new AbortController()
  const failures: string[] = []
  const counts = new Map(inTls.map((way) => [way, { stored: 0 }]))
  const before = new Map(await Promise.all(inTls.map(async (way) => [way, await storedBy(way)] as const)))
  const sending = inTls.flatMap((way) =>
    (['kept', 'kept', 'reopened', 'reopened'] as const).map((connections) =>
      keepSending(way, ending.signal, failures, counts.get(way) as { stored: number }, connections),
    ),
  )
  for (let renewal = 1; renewal <= RENEWALS && failures.length === 0; renewal++) {
    const next = pairs[renewal % 2] as Certificate
    mount(next)
    for (const way of inTls)
      await until(async () => (await served(way)) === serialOf(next), { what: `renewal ${renewal}` })
  }
  ending.abort()
  await Promise.all(sending)
  expect(failures).toEqual([])
  for (const way of inTls) {
    const { stored } = counts.get(way) as { stored: number }
    expect(stored).toBeGreaterThan(100)
    expect((await storedBy(way)) - (before.get(way) ?? 0)).toBe(stored)
  }
})

test('a producer that stops answers all that was sent', async () => {
  const failures: string[] = []
  const counts = { stored: 0 }
  const stopping = new AbortController()
  const inTls = WAYS.filter((way) => way !== 'http')
  const sending = inTls.flatMap((way) =>
    Array.from({ length: 4 }, () => keepSending(way, stopping.signal, failures, counts, 'kept until it is closed')),
  )
  await until(() => counts.stored > 50, { what: 'load' })
  stopping.abort()
  const codes = await Promise.all(inTls.map((way) => producers.get(way)?.stop()))
  await Promise.all(sending)
  expect([codes, failures]).toEqual([[0, 0], []])
})
