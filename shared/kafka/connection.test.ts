import { describe, expect, spyOn, test } from 'bun:test'
import { EventEmitter } from 'node:events'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { commonVariables, loadConfig } from '../service/config.ts'
import { CODE } from './client.ts'
import { reasonOf, watchConnection } from './connection.ts'
import type { Statistics } from './statistics.ts'

const config = (env: Record<string, string> = {}) =>
  loadConfig(Type.Object(commonVariables), { KAFKA_BROKERS: 'a:9092', ...env })
const ssl = config({ KAFKA_SECURITY_PROTOCOL: 'ssl' })
const mutual = config({
  KAFKA_SECURITY_PROTOCOL: 'ssl',
  KAFKA_SSL_CERTIFICATE_FILE: 'c.pem',
  KAFKA_SSL_KEY_FILE: 'k.pem',
})
const sasl = config({ KAFKA_SECURITY_PROTOCOL: 'sasl_ssl', KAFKA_SASL_USERNAME: 'u', KAFKA_SASL_PASSWORD: 'hidden' })
const saslOfFiles = config({
  KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
  KAFKA_SASL_USERNAME: 'u',
  KAFKA_SASL_PASSWORD_FILE: '/p',
})
const tokens = config({ KAFKA_SECURITY_PROTOCOL: 'sasl_ssl', KAFKA_SASL_MECHANISM: 'OAUTHBEARER' })
const msk = config({ KAFKA_SECURITY_PROTOCOL: 'sasl_ssl', KAFKA_SASL_MECHANISM: 'AWS_MSK_IAM' })
const verify = 'SSL handshake failed: error:0A000086:SSL routines::certificate verify failed'

/** As librdkafka 2.15 logs them under FAIL. */
const line = (what: string, state: string, ms = 2, broker = 'ssl://a:9093/bootstrap') =>
  `[thrd:${broker}]: ${broker}: ${what} (after ${ms}ms in state ${state})`

describe('why a broker is unreachable', () => {
  test.each([
    [
      'wrong user name or password: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and ',
      sasl,
      line('SASL authentication error: Authentication failed: Invalid username or password', 'AUTH_REQ'),
    ],
    [
      'wrong user name or password: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD_FILE and ',
      saslOfFiles,
      line('SASL authentication error: Authentication failed: Invalid username or password', 'AUTH_REQ'),
    ],
    ['token refused by the broker', tokens, line('SASL authentication error: {"status":"invalid_token"}', 'AUTH_REQ')],
    ['AWS credentials refused by the broker', msk, line('SASL authentication error: Access denied', 'AUTH_REQ')],
    [
      'SASL mechanism not offered: the broker has PLAIN;',
      sasl,
      line(
        "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
        'AUTH_HANDSHAKE',
      ),
    ],
    [
      'no SASL on this listener',
      sasl,
      line(
        "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms: ",
        'AUTH_HANDSHAKE',
      ),
    ],
    [
      'connection ended by the broker during authentication',
      sasl,
      line(
        "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: ",
        'AUTH_HANDSHAKE',
      ),
    ],
    [
      'unknown authority',
      ssl,
      line(
        `${verify}: unable to get local issuer certificate: broker certificate could not be verified, verify that …`,
        'SSL_HANDSHAKE',
      ),
    ],
    [
      'unknown authority',
      ssl,
      line(`${verify}: self-signed certificate in certificate chain: broker certificate …`, 'SSL_HANDSHAKE'),
    ],
    ['expired certificate', ssl, line(`${verify}: certificate has expired: broker certificate …`, 'SSL_HANDSHAKE')],
    [
      'expired certificate',
      ssl,
      line('error:0A000086:SSL routines::certificate verify failed: certificate is not yet valid', 'SSL_HANDSHAKE'),
    ],
    ['wrong host name', ssl, line(`${verify}: hostname mismatch: broker certificate …`, 'SSL_HANDSHAKE')],
    ['wrong host name', ssl, line(`${verify}: IP address mismatch: broker certificate …`, 'SSL_HANDSHAKE')],
    [
      'missing client certificate',
      ssl,
      line(
        'Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42',
        'APIVERSION_QUERY',
      ),
    ],
    [
      'missing client certificate',
      ssl,
      line(
        'Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116',
        'APIVERSION_QUERY',
      ),
    ],
    [
      'client certificate refused',
      mutual,
      line(
        'Receive failed: error:0A000416:SSL routines::sslv3 alert certificate unknown: SSL alert number 46',
        'APIVERSION_QUERY',
      ),
    ],
    [
      'no TLS on this listener',
      ssl,
      line(
        'SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a PLAINTEXT broker listener?',
        'SSL_HANDSHAKE',
      ),
    ],
    ['no TLS on this listener', ssl, line('Disconnected: SSL connection closed by peer', 'SSL_HANDSHAKE')],
    [
      'connection ended by the broker before it answered: the listener may expect TLS or SASL',
      config(),
      line(
        'Disconnected: connection closed by peer: receive 0 after POLLIN',
        'APIVERSION_QUERY',
        2,
        'a:9093/bootstrap',
      ),
    ],
    [
      'connection refused',
      config(),
      line('Connect to ipv4#127.0.0.1:1 failed: Connection refused', 'CONNECT', 0, 'a:9093/1'),
    ],
    [
      'unknown host name',
      config(),
      line("Failed to resolve 'a:9093': Name or service not known", 'CONNECT', 0, 'a:9093/bootstrap'),
    ],
    ['no answer', config(), line('Connection setup timed out in state CONNECT', 'CONNECT', 30_000, 'a:9093/bootstrap')],
  ])('%s', (name, of, text) => {
    const found = reasonOf(text, of)
    expect(found?.broker).toBe('a:9093')
    expect(found?.reason).toStartWith(name)
    expect(found?.reason).not.toContain('hidden')
  })

  test.each([
    [true, line(`${verify}: hostname mismatch: broker certificate …`, 'SSL_HANDSHAKE')],
    [true, line('SSL handshake failed: error:0A000410:SSL routines::no cipher match', 'SSL_HANDSHAKE')],
    [true, line('SASL authentication error: Authentication failed', 'AUTH_REQ')],
    [false, line('Connect to ipv4#127.0.0.1:1 failed: Connection refused', 'CONNECT', 0)],
    [false, line('SASL PLAIN mechanism handshake failed: Local: Broker transport failure: …', 'AUTH_HANDSHAKE')],
    [false, line('Connection setup timed out in state CONNECT', 'CONNECT', 30_000)],
  ])('is a refusal or not: %p', (isRefusal, text) => {
    expect(reasonOf(text, sasl)?.isRefusal).toBe(isRefusal)
  })

  test('is nothing where a broker ends a connection that was idle, or one that had worked', () => {
    const ended = 'Disconnected: connection closed by peer: receive 0 after POLLIN'
    expect(reasonOf(line(ended, 'UP', 600_000), config(), false)).toBeUndefined()
    expect(reasonOf('something else altogether', config())).toBeUndefined()
  })
})

describe('a watch', () => {
  function watched() {
    const logged: Record<string, unknown>[] = []
    const log = pino({ level: 'info' }, { write: (text: string) => void logged.push(JSON.parse(text)) })
    const watch = watchConnection({ config: config(), client: 'test', log })
    const client = watch.attach(new EventEmitter())
    const fail = (broker: string, what: string) =>
      client.emit('event.log', { fac: 'FAIL', message: line(what, 'CONNECT', 0, broker) })
    const stats = (brokers: Record<string, string>, silentMs = 0, connects = 1) =>
      client.emit('event.stats', {
        message: JSON.stringify({
          brokers: Object.fromEntries(
            Object.entries(brokers).map(([name, state]) => [name, { name, state, connects, rxidle: silentMs * 1_000 }]),
          ),
        }),
      })
    return { watch, client, fail, stats, messages: () => logged.map((one) => `${one['msg']}: ${one['reason'] ?? ''}`) }
  }

  test('says a reason once, and again when it changes', () => {
    const { watch, fail, stats, messages } = watched()
    for (let attempt = 0; attempt < 3; attempt++) {
      fail('a:1/bootstrap', 'Connection refused')
      watch.failed('broker transport failure')
    }
    expect(watch.current()).toEqual({ state: 'connecting', reason: expect.stringContaining('a:1: connection refused') })
    fail('a:1/bootstrap', "Failed to resolve 'a'")
    watch.connected()
    stats({ 'a:1/1': 'UP' })
    stats({ 'a:1/1': 'DOWN' })
    stats({ 'a:1/1': 'CONNECT' })
    expect(messages().map((one) => one.split(':').slice(0, 4).join(':'))).toEqual([
      'Kafka is unreachable: a:1: connection refused',
      'Kafka is unreachable: a:1: unknown host name',
      'connected to Kafka: ',
      'Kafka is unreachable: no broker is up',
    ])
  })

  test('takes a connection that is authenticated again for one that is up, and a new one not', () => {
    const { watch, stats } = watched()
    watch.connected()
    stats({ 'a:1/1': 'UP' })
    for (const state of ['REAUTH', 'AUTH_HANDSHAKE', 'AUTH_REQ', 'UP']) {
      stats({ 'a:1/1': state })
      expect(watch.current()).toEqual({ state: 'connected' })
    }
    stats({ 'a:1/1': 'AUTH_REQ' }, 0, 2)
    expect(watch.current().state).toBe('connecting')
    stats({ 'a:1/1': 'AUTH_REQ' }, 0, 2)
    expect(watch.current().state).toBe('connecting')
  })

  test('names brokers by what they have in common, in an order that does not change', () => {
    const { watch, fail } = watched()
    for (const broker of ['d:1', 'b:1', 'c:1', 'a:1', 'e:1']) fail(`${broker}/bootstrap`, 'Connection refused')
    fail('f:1/bootstrap', "Failed to resolve 'f'")
    const { reason } = watch.current() as { reason: string }
    expect(reason).toMatch(/^a:1, b:1, c:1 and 2 more: connection refused.*; f:1: unknown host name/)
  })

  test('is connected while one broker is up, and logs once that another is not', () => {
    const { watch, fail, stats, messages } = watched()
    watch.connected()
    fail('b:1/2', 'Connection refused')
    for (let second = 0; second < 3; second++) stats({ 'a:1/1': 'UP', 'b:1/2': 'CONNECT' })
    expect(watch.current()).toEqual({
      state: 'connected',
      detail: 'b:1: connection refused: nothing listens at this address',
    })
    stats({ 'a:1/1': 'UP', 'b:1/2': 'UP' })
    expect(watch.current()).toEqual({ state: 'connected' })
    expect(messages()).toHaveLength(2)
    expect(messages()[1]).toStartWith('a broker is unreachable: b:1: connection refused')
  })

  test('does not take a connection that nobody has used since for a broker that answers again', () => {
    const { watch, client, stats, messages } = watched()
    watch.connected()
    stats({ 'a:1/1': 'UP' }, 60_000)
    expect(watch.current().state).toBe('connected')
    client.emit('event.error', Object.assign(new Error('all brokers down'), { code: CODE.ALL_BROKERS_DOWN }))
    stats({ 'a:1/1': 'CONNECT', 'a:1/bootstrap': 'UP' }, 60_000)
    expect(watch.current()).toEqual({ state: 'connecting', reason: 'no broker is up' })
    stats({ 'a:1/1': 'UP', 'a:1/bootstrap': 'UP' }, -1)
    expect(watch.current().state).toBe('connecting')
    stats({ 'a:1/1': 'UP', 'a:1/bootstrap': 'UP' })
    expect(watch.current().state).toBe('connected')
    expect(messages()).toHaveLength(4)
  })

  test('does not take a broker that stops for one that expects another protocol', () => {
    const { watch, client, stats } = watched()
    const ended = line('Disconnected: connection closed by peer', 'UP', 5, 'a:1/1')
    watch.connected()
    client.emit('event.log', { fac: 'FAIL', message: ended })
    stats({ 'a:1/1': 'DOWN' })
    expect(watch.current()).toEqual({ state: 'connecting', reason: 'no broker is up' })
  })

  test('does not call a client connected that cannot be made ready, though a broker is up', () => {
    const { watch, stats, messages } = watched()
    for (let attempt = 0; attempt < 3; attempt++) {
      stats({ 'a:1/1': 'UP' })
      watch.failed('transactions cannot be initialised')
    }
    stats({ 'a:1/1': 'UP' })
    expect(watch.current().state).toBe('connecting')
    expect(messages()).toEqual(['Kafka is unreachable: transactions cannot be initialised'])
    watch.connected()
    stats({ 'a:1/1': 'UP' })
    expect(watch.current().state).toBe('connected')
  })

  test('does not listen to a client that another has replaced', () => {
    const { watch, stats } = watched()
    watch.attach(new EventEmitter())
    stats({ 'a:1/1': 'UP' })
    expect(watch.current().state).toBe('connecting')
  })

  test('says of a key that cannot be read what to set', () => {
    const watch = watchConnection({ config: mutual, client: 'c', log: pino({ level: 'silent' }) })
    watch.failed('ssl.key.pem failed: error:0A080009:SSL routines::PEM lib')
    expect(watch.current()).toMatchObject({ reason: expect.stringContaining('set KAFKA_SSL_KEY_PASSWORD') })
  })

  test('says what is no matter of connections, and stays closed', () => {
    const { watch, client, messages } = watched()
    client.emit('event.error', Object.assign(new Error('broker transport failure'), { code: -1 }))
    for (let attempt = 0; attempt < 3; attempt++)
      client.emit('event.error', Object.assign(new Error('topic authorization failed'), { code: -1 }))
    expect(messages()).toEqual(['Kafka client error: topic authorization failed'])
    watch.closed()
    watch.connected()
    expect(watch.current()).toEqual({ state: 'closed' })
  })

  test('reads a client’s statistics once, and hands them on while it is the one that counts', () => {
    const { watch, client } = watched()
    const taken: Statistics[] = []
    const [first, second] = [new EventEmitter(), new EventEmitter()]
    watch.attach(first, (statistics) => taken.push(statistics))
    watch.attach(second, (statistics) => taken.push(statistics))
    const read = spyOn(JSON, 'parse')
    try {
      for (const one of [client, first, second]) one.emit('event.stats', { message: '{"msg_cnt":7}' })
      expect(read).toHaveBeenCalledTimes(1)
    } finally {
      read.mockRestore()
    }
    expect(taken).toEqual([{ msg_cnt: 7 }])
    watch.closed()
    second.emit('event.stats', { message: '{"msg_cnt":8}' })
    expect(taken).toHaveLength(1)
  })
})
