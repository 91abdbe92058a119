import { Gauge, type Registry } from 'prom-client'
import { addCertificateMetric, type Expiry } from '../service/certificate-expiry.ts'
import type { CommonConfig } from '../service/config.ts'
import {
  type KafkaSecrets,
  kafkaSecretFiles,
  readKafkaSecrets,
  usesPassword,
  usesTokens,
} from '../service/kafka-security.ts'
import type { Logger } from '../service/logger.ts'
import { lastNotAfterMs, ownerNotAfterMs } from '../service/pem.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../service/retry.ts'
import { watchFiles } from '../service/watched-files.ts'
import { nativeOf } from './addon.ts'
import { addon, type Consumer, type Opening, type Openings, type Producer, type Settings } from './client.ts'
import { summary } from './connection.ts'
import { createTokenSource, type TokenSource } from './tokens.ts'
import { tryBrokers } from './trial.ts'

/**
 * What a configuration's clients authenticate with. Files are read again when they change. What is new is tried at every broker by a client of its own; when
 * none has refused that, all clients get it for the connections that they open from then on. Connections that are open stay as they are, so nothing that is in
 * flight is disturbed.
 */

type Client = Producer | Consumer

export interface Security extends Openings<Client> {
  /** What is wrong although what was read before works, in words without secrets. */
  state(): { ok: true; detail?: string }
  /** Of this client's certificate, and of the last of the authorities to expire. */
  expiries(): Expiry[]
}

/** How long files that belong together may take to be replaced. */
const SETTLE_MS = 5_000

/** How often it is looked whether the client's certificate has expired. */
const EXPIRY_LOOK_MS = 10_000

const byConfig = new WeakMap<CommonConfig, Security>()

/**
 * One for all clients of a configuration, so that files are read, and tokens are fetched, once.
 * @param log of the first caller is used
 */
export function securityOf(config: CommonConfig, log: Logger): Security {
  let found = byConfig.get(config)
  if (found === undefined) {
    found = createSecurity(config, log)
    byConfig.set(config, found)
  }
  return found
}

/** librdkafka's settings for these secrets; a token comes by the callback. */
function settingsOf(config: CommonConfig, secrets: KafkaSecrets, refresh: Settings[string] | undefined): Settings {
  const settings: Settings = { 'security.protocol': config.KAFKA_SECURITY_PROTOCOL }
  if (usesPassword(config)) {
    settings['sasl.mechanisms'] = config.KAFKA_SASL_MECHANISM
    settings['sasl.username'] = secrets.username ?? ''
    settings['sasl.password'] = secrets.password ?? ''
  } else if (refresh !== undefined) {
    settings['sasl.mechanisms'] = 'OAUTHBEARER'
    settings['oauthbearer_token_refresh_cb'] = refresh
  }
  if (config.KAFKA_SECURITY_PROTOCOL.endsWith('ssl')) {
    const { authorities, certificate, key, keyPassword } = secrets
    if (authorities !== undefined) settings['ssl.ca.pem'] = authorities
    if (certificate !== undefined) settings['ssl.certificate.pem'] = certificate
    if (key !== undefined) settings['ssl.key.pem'] = key
    if (keyPassword !== undefined) settings['ssl.key.password'] = keyPassword
  }
  return settings
}

const NAMES = Object.freeze({
  authorities: 'CA certificates',
  certificate: 'client certificate',
  key: 'client key',
  keyPassword: 'password of the key',
  username: 'user',
  password: 'password',
} satisfies Record<keyof KafkaSecrets, string>)

const differing = (one: KafkaSecrets, other: KafkaSecrets): (keyof KafkaSecrets)[] =>
  (Object.keys(NAMES) as (keyof KafkaSecrets)[]).filter((name) => one[name] !== other[name])

function createSecurity(config: CommonConfig, log: Logger): Security {
  const files = kafkaSecretFiles(config)
  const tokens: TokenSource | undefined = usesTokens(config) ? createTokenSource(config, log) : undefined
  const first = readKafkaSecrets(config)
  doubt(first.doubts)
  let { secrets } = first
  /** How often the secrets have changed. */
  let generation = 0
  /** Why files that have changed are not used. */
  let fault = first.faults.length === 0 ? undefined : first.faults.join(' ')
  /** Clients that are open or being opened. */
  let openings = 0
  const live = new Set<Client>()
  /** While a client is open. */
  let watching: AbortController | undefined
  /** What is new is being tried. */
  let trying: AbortController | undefined

  function doubt(reasons: readonly string[]): void {
    for (const reason of reasons) log.warn({ reason }, 'credentials for Kafka may not be as they are meant')
  }

  function stays(reason: string): void {
    if (reason !== fault) log.error({ reason }, 'changed credentials for Kafka are not used')
    fault = reason
  }

  function changed(): void {
    const { secrets: next, faults, doubts } = readKafkaSecrets(config)
    doubt(doubts)
    trying?.abort()
    trying = undefined
    if (faults.length === 0 && differing(next, secrets).length === 0) {
      if (fault !== undefined) log.info('the credentials for Kafka are used again: the files are as they were')
      fault = undefined
      return
    }
    trying = new AbortController()
    void tryOut(next, faults, trying.signal)
  }

  /** Connects with what is new until that succeeds or the files change again. */
  async function tryOut(next: KafkaSecrets, faults: readonly string[], ending: AbortSignal): Promise<void> {
    if (faults.length > 0) {
      // Files are replaced one after the other: a certificate and its key do not belong to each other in between.
      await sleep(SETTLE_MS, ending)
      if (!ending.aborted) stays(faults.join(' '))
      return
    }
    for (let attempt = 1; !ending.aborted; attempt++) {
      const reason = await refusalOf(next, ending)
      if (ending.aborted) return
      if (reason === undefined) return use(next)
      stays(`not let in with them: ${reason}`)
      await sleep(delayMs(CONNECT_BACKOFF, attempt), ending)
    }
  }

  /** @returns why they are not used; undefined when they are to be */
  async function refusalOf(next: KafkaSecrets, ending: AbortSignal): Promise<string | undefined> {
    const trial = (of: KafkaSecrets) => tryBrokers(config, settingsOf(config, of, refreshUntil(ending)), ending)
    const { failed, refusals } = await trial(next)
    if (failed !== undefined || refusals.size === 0 || ending.aborted) return failed
    // A broker that refuses what is in use, too, is no reason to keep that.
    const before = await trial(secrets)
    if (before.failed !== undefined && before.refusals.size > 0) return undefined
    const better = new Map([...refusals].filter(([broker]) => !before.refusals.has(broker)))
    return better.size === 0 ? undefined : summary(better)
  }

  function use(next: KafkaSecrets): void {
    const what = differing(next, secrets)
    secrets = next
    generation++
    fault = undefined
    for (const client of live) renew(client)
    log.info({ changed: what.map((name) => NAMES[name]), clients: live.size }, 'changed credentials for Kafka are used')
  }

  function renew(client: Client): void {
    const { authorities, certificate, key, keyPassword, username, password } = secrets
    if (usesPassword(config)) client.setSaslCredentials(username ?? '', password ?? '')
    if (!config.KAFKA_SECURITY_PROTOCOL.endsWith('ssl')) return
    const failed = addon().certificates.renew(nativeOf(client), authorities, certificate, key, keyPassword)
    if (failed !== undefined) log.error({ reason: failed }, 'a client could not be given changed certificates')
  }

  /** The client's callback for tokens. It always succeeds, in the end: librdkafka would ask again ten seconds after a failure. */
  function refreshUntil(ending: AbortSignal): Settings[string] | undefined {
    if (tokens === undefined) return undefined
    let isFirst = true
    return (_: string, done: (error: null, token: object) => void): void => {
      const wanted = tokens.token({ isFirst, ending })
      isFirst = false
      void wanted.then((token) => {
        if (token === undefined || ending.aborted) return
        try {
          done(null, { tokenValue: token.value, lifetime: token.expiresAtMs, extensions: token.extensions })
        } catch {
          // A client that is being closed takes none.
        }
      })
    }
  }

  function watch(): void {
    if (openings++ > 0) return
    watching = new AbortController()
    if (files.length > 0) void watchFiles(files, changed, watching.signal)
    if (secrets.certificate !== undefined) void sayExpiry(watching.signal)
  }

  const notAfterMs = (): number | undefined =>
    secrets.certificate === undefined ? undefined : ownerNotAfterMs(secrets.certificate)

  /** Connections that are open go on, so nothing else says it. */
  function expiry(): string | undefined {
    const atMs = notAfterMs()
    return atMs === undefined || atMs > Date.now()
      ? undefined
      : `the client certificate has expired (${new Date(atMs).toISOString()}): brokers refuse new connections; renew it`
  }

  async function sayExpiry(ending: AbortSignal): Promise<void> {
    let said: string | undefined
    while (!ending.aborted) {
      const reason = expiry()
      if (reason !== undefined && reason !== said) log.error({ reason }, 'credentials for Kafka have expired')
      said = reason
      await sleep(EXPIRY_LOOK_MS, ending)
    }
  }

  function unwatch(): void {
    if (--openings > 0) return
    watching?.abort()
    trying?.abort()
  }

  function open(): Opening<Client> {
    watch()
    const ending = new AbortController()
    const openedWith = generation
    let own: Client | undefined
    return {
      settings: settingsOf(config, secrets, refreshUntil(ending.signal)),
      connected(client) {
        own = client
        live.add(client)
        if (openedWith !== generation) renew(client)
      },
      ended() {
        if (!ending.signal.aborted) {
          ending.abort()
          if (own === undefined) tokens?.notLetIn()
          else live.delete(own)
          unwatch()
        }
        return tokens?.fault()
      },
    }
  }

  return {
    open,
    state() {
      const details = [
        ...(fault === undefined ? [] : [`changed credentials for Kafka are not used: ${fault}`]),
        ...[expiry(), tokens?.fault()].filter((one) => one !== undefined),
      ]
      return { ok: true, ...(details.length > 0 && { detail: details.join('; ') }) }
    },
    expiries() {
      const { authorities } = secrets
      const own = notAfterMs()
      const last = authorities === undefined ? undefined : lastNotAfterMs(authorities)
      return [
        ...(own === undefined ? [] : [{ certificate: 'kafka-client', notAfterMs: own }]),
        ...(last === undefined ? [] : [{ certificate: 'kafka-authorities', notAfterMs: last }]),
      ]
    },
  }
}

/** Adds the metrics of what clients authenticate with. */
export function addSecurityMetrics(registry: Registry, security: Pick<Security, 'state' | 'expiries'>): void {
  addCertificateMetric(registry, security.expiries)
  new Gauge({
    name: 'kafkatrace_kafka_credentials_current',
    help: '0 while changed files with credentials for Kafka cannot be used, or no new token can be had, and what was read before is, or while the client certificate has expired, else 1.',
    registers: [registry],
    collect() {
      this.set(security.state().detail === undefined ? 1 : 0)
    },
  })
}
