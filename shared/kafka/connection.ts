import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { Repeats } from '../service/repeats.ts'
import { CODE, eventCode, type LibrdKafkaError } from './client.ts'
import type { Statistics } from './statistics.ts'
import type { Connection } from './types.ts'

/**
 * Whether a client is connected, and if not, why. librdkafka's calls fail with "broker transport failure" whatever the cause, which is only in its
 * log.
 */

/** The parts of a producer or consumer that a watch needs. */
interface Watchable {
  on(event: 'event.log', listener: (line: { fac: string; message: string }) => void): unknown
  on(event: 'event.stats', listener: (event: { message: string }) => void): unknown
  on(event: 'event.error', listener: (error: LibrdKafkaError) => void): unknown
}

/** The connection of a client and of its successors. */
export interface ConnectionWatch {
  current(): Connection
  /**
   * Listens to a new client in place of the previous one.
   * @param onStatistics gets the client's statistics, which are parsed only once
   */
  attach<C extends Watchable>(client: C, onStatistics?: (statistics: Statistics) => void): C
  connected(): void
  /** An attempt to connect has failed. The reason is used when the log has none. */
  failed(reason: string): void
  closed(): void
}

const OF_CONNECTIONS = new Set<number>([
  CODE.ALL_BROKERS_DOWN,
  CODE.TRANSPORT,
  CODE.RESOLVE,
  CODE.SSL,
  CODE.AUTHENTICATION,
])

/** Errors of a call whose broker did not answer in time. */
const UNNAMED = new Set(['broker transport failure', 'timed out'])
const UNANSWERED = 'no answer: a firewall may be in the way, or the broker is not able to work'

/** How often the same error of a client is logged, which may come with each attempt of a request. */
const SAID_AGAIN_MS = 3_600_000

/** At most this many brokers are named in a reason. */
const NAMED_BROKERS = 3

/**
 * Watches a client's connections and logs changes. Reasons contain no credentials, so `/readyz` can show them.
 * @param options.client the client's name in the log
 */
export function watchConnection(options: { config: CommonConfig; client: string; log: Logger }): ConnectionWatch {
  const { config, client: name, log } = options
  let connection: Connection = { state: 'connecting', reason: 'not connected yet' }
  let attached: Watchable | undefined
  /** Whether this client was connected at least once. */
  let answered = false
  /** By broker: why it cannot be reached. */
  const reasons = new Map<string, string>()
  /** Monotonic; when the last broker was lost. Connections that were not used since then still look as if they were up. */
  let downMs: number | undefined
  /** By entry: the number of attempts to connect of which the last one led to a connection that is up. */
  const upWith = new Map<string, number>()
  const repeats = new Repeats(SAID_AGAIN_MS)
  /** A summary of unreachable brokers while others are up. */
  let partly = ''

  function changeTo(next: Connection): void {
    if (connection.state === 'closed') return
    const before = connection
    connection = next
    if (next.state === 'connected') {
      if (before.state !== 'connected')
        log.info({ kafkaClient: name, brokers: config.KAFKA_BROKERS }, 'connected to Kafka')
    } else if (next.state === 'connecting' && (before.state !== 'connecting' || before.reason !== next.reason))
      log.warn({ kafkaClient: name, brokers: config.KAFKA_BROKERS, reason: next.reason }, 'Kafka is unreachable')
  }

  const because = (otherwise: string): string => (reasons.size === 0 ? otherwise : summary(reasons))

  function seen(brokers: ReturnType<typeof brokersOf>): void {
    // A broker has an entry for its configured address and one as a member of the cluster.
    for (const broker of reasons.keys()) {
      const entries = brokers.filter((one) => one.broker === broker)
      if (entries.length === 0 || entries.some(({ up }) => up)) reasons.delete(broker)
    }
    const silentForMs = downMs === undefined ? Number.POSITIVE_INFINITY : performance.now() - downMs
    if (!brokers.some(({ up, silentMs }) => up && silentMs < silentForMs)) {
      changeTo({ state: 'connecting', reason: because('no broker is up') })
      return
    }
    downMs = undefined
    // A client may be unusable although a broker is up, while its set-up is not complete.
    if (!answered) return
    const now = reasons.size === 0 ? '' : summary(reasons)
    changeTo({ state: 'connected', ...(now !== '' && { detail: now }) })
    if (now !== partly && now !== '') log.warn({ kafkaClient: name, reason: now }, 'a broker is unreachable')
    partly = now
  }

  return {
    current: () => connection,
    attach(client, onStatistics) {
      attached = client
      answered = false
      downMs = undefined
      reasons.clear()
      upWith.clear()
      client.on('event.log', ({ fac, message }) => {
        if (client !== attached || fac !== 'FAIL') return
        const found = reasonOf(message, config, !answered)
        if (found === undefined) return
        reasons.set(found.broker, found.reason)
        if (connection.state === 'connecting') changeTo({ state: 'connecting', reason: summary(reasons) })
      })
      client.on('event.stats', ({ message }) => {
        if (client !== attached || connection.state === 'closed') return
        const statistics = JSON.parse(message) as Statistics
        if (statistics.brokers !== undefined) seen(brokersOf(statistics.brokers, upWith))
        onStatistics?.(statistics)
      })
      client.on('event.error', (error) => {
        if (client !== attached) return
        const code = eventCode(error)
        // Connection errors repeat with every attempt; their reasons come from the log.
        if (!OF_CONNECTIONS.has(code) && repeats.isNew(error.message))
          log.warn({ kafkaClient: name, code, reason: error.message }, 'Kafka client error')
        if (code === CODE.ALL_BROKERS_DOWN) downMs = performance.now()
        if (connection.state === 'connected' && code === CODE.ALL_BROKERS_DOWN)
          changeTo({ state: 'connecting', reason: because(error.message) })
      })
      return client
    },
    connected() {
      answered = true
      downMs = undefined
      reasons.clear()
      changeTo({ state: 'connected' })
    },
    failed(reason) {
      const otherwise = UNNAMED.has(reason) ? UNANSWERED : (keyFault(reason, config) ?? reason)
      changeTo({ state: 'connecting', reason: because(otherwise) })
    },
    closed() {
      connection = { state: 'closed' }
    },
  }
}

/** "127.0.0.1:9092, 127.0.0.1:9093: connection refused …; …", sorted. @param reasons by broker */
export function summary(reasons: ReadonlyMap<string, string>): string {
  const brokers = new Map<string, string[]>()
  for (const [broker, reason] of [...reasons].sort(([a], [b]) => (a < b ? -1 : 1)))
    brokers.set(reason, [...(brokers.get(reason) ?? []), broker])
  return [...brokers]
    .map(([reason, of]) => {
      const more = of.length > NAMED_BROKERS ? ` and ${of.length - NAMED_BROKERS} more` : ''
      return `${of.slice(0, NAMED_BROKERS).join(', ')}${more}: ${reason}`
    })
    .join('; ')
}

/** States of a connection that is authenticated, at its beginning or again (KIP-368). */
const AUTHENTICATING = new Set(['REAUTH', 'AUTH_HANDSHAKE', 'AUTH_REQ'])

/**
 * The brokers in librdkafka's statistics, and the time since each last sent something. A connection that is authenticated again stays up.
 * @param upWith by entry: how often it had tried to connect when it was up last
 */
function brokersOf(
  brokers: NonNullable<Statistics['brokers']>,
  upWith: Map<string, number>,
): { broker: string; up: boolean; silentMs: number }[] {
  return Object.values(brokers).map(({ name, state, connects = 0, rxidle = -1 }) => {
    const up = state === 'UP' || (AUTHENTICATING.has(state) && upWith.get(name) === connects)
    if (up) upWith.set(name, connects)
    else upWith.delete(name)
    return { broker: addressOf(name), up, silentMs: rxidle < 0 ? Number.POSITIVE_INFINITY : rxidle / 1_000 }
  })
}

/** "host:9093" of "ssl://host:9093/1" or "host:9093/bootstrap". */
export const addressOf = (broker: string): string => broker.replace(/^\w+:\/\//, '').replace(/\/[^/]*$/, '')

/** librdkafka's log line of a failed connection: thread, broker, error and state. */
const FAILURE = /^(?:\[thrd:[^\]]*\]: )?(\S+\/\S+): (.*?)(?: \(after \d+ms in state (\w+).*\))?$/s

/**
 * The unreachable broker and the reason, from a log line of librdkafka's facility FAIL. undefined when nothing is wrong, such as when a broker
 * closes an idle connection.
 * @param unanswered whether the client was never connected
 */
export function reasonOf(line: string, config: CommonConfig, unanswered = true): Unreachable | undefined {
  const found = FAILURE.exec(line)
  if (found === null) return undefined
  const [, broker = '', what = '', state = ''] = found
  const refusal = refusalIn(what, state, config)
  const reason = refusal ?? faultIn(what, state, unanswered, config)
  return reason === undefined
    ? undefined
    : { broker: addressOf(broker), reason, isRefusal: refusal !== undefined || SECURITY.test(what) }
}

/** A broker that cannot be reached. */
interface Unreachable {
  broker: string
  reason: string
  /** TLS or the authentication has failed, on this side or the broker's. */
  isRefusal: boolean
}

/** Faults of TLS that have no text of ours. */
const SECURITY = /^SSL handshake failed|SSL routines/

function refusalIn(what: string, state: string, config: CommonConfig): string | undefined {
  const { KAFKA_SECURITY_PROTOCOL: protocol, KAFKA_SASL_MECHANISM: mechanism } = config
  const says = (...texts: RegExp[]): boolean => texts.some((text) => text.test(what))
  if (says(/unsupported sasl mechanism/i)) {
    const offered = /supported mechanisms: (.+)/.exec(what)?.[1] ?? 'none'
    return `SASL mechanism not offered: the broker has ${offered}; check KAFKA_SASL_MECHANISM=${mechanism}`
  }
  if (says(/Request not valid in current SASL state/))
    return `no SASL on this listener: check KAFKA_SECURITY_PROTOCOL=${protocol}`
  if (says(/sasl authentication error/i, /authentication failed/i)) {
    if (mechanism === 'OAUTHBEARER')
      return 'token refused by the broker: it does not know the issuer or its keys, or expects another audience or scope; check KAFKA_OAUTH_TOKEN_URL, KAFKA_OAUTH_SCOPE and KAFKA_OAUTH_EXTENSIONS'
    if (mechanism === 'AWS_MSK_IAM')
      return 'AWS credentials refused by the broker: allow them kafka-cluster:Connect, and check AWS_REGION and the clock of this machine'
    const [user, password] = (['KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'] as const).map((name) =>
      config[`${name}_FILE`] === undefined ? name : `${name}_FILE`,
    )
    return `wrong user name or password: check ${user}, ${password} and KAFKA_SASL_MECHANISM=${mechanism}`
  }
  if (says(/certificate has expired/, /certificate is not yet valid/))
    return 'expired certificate: the broker’s certificate has expired or is not valid yet; renew it, or correct the clock of this machine'
  if (says(/hostname mismatch/i, /IP address mismatch/i))
    return 'wrong host name: the broker’s certificate is not for this address; give it this name, or change KAFKA_BROKERS and advertised.listeners to a name that it has'
  if (says(/issuer certificate/, /self[- ]signed certificate/, /unable to verify the first certificate/))
    return given(config, 'CA')
      ? `unknown authority: the broker’s certificate is not signed by an authority in ${variable(config, 'CA')}`
      : 'unknown authority: the broker’s certificate is signed by none that this system trusts; set KAFKA_SSL_CA_FILE'
  if (says(/certificate verify failed/)) return `broker certificate not accepted: ${what}`
  if (says(/alert (?:bad certificate|certificate required|certificate unknown|certificate expired|unknown ca)/i))
    return clientCertificate(config)
  // Before TLS 1.3 this is how a missing certificate is refused.
  if (says(/alert handshake failure/i) && !given(config, 'CERTIFICATE')) return clientCertificate(config)
  if (
    protocol.endsWith('ssl') &&
    (says(/PLAINTEXT broker listener/, /wrong version number/i) || (says(/^Disconnected/) && state === 'SSL_HANDSHAKE'))
  )
    return `no TLS on this listener: check KAFKA_SECURITY_PROTOCOL=${protocol}`
  return undefined
}

function faultIn(what: string, state: string, unanswered: boolean, config: CommonConfig): string | undefined {
  const { KAFKA_SECURITY_PROTOCOL: protocol } = config
  const says = (text: RegExp): boolean => text.test(what)
  if (says(/SASL \S+ mechanism handshake failed/))
    return 'connection ended by the broker during authentication; it is tried again'
  if (says(/^Disconnected/)) {
    if (!unanswered || !ENDED_UNANSWERED.has(state)) return undefined
    const expected = protocol === 'plaintext' ? 'TLS or SASL' : protocol === 'ssl' ? 'SASL' : 'TLS'
    return `connection ended by the broker before it answered: the listener may expect ${expected}; check KAFKA_SECURITY_PROTOCOL=${protocol}`
  }
  if (says(/connection refused/i)) return 'connection refused: nothing listens at this address'
  if (says(/^Failed to resolve/)) return 'unknown host name: it cannot be resolved; check KAFKA_BROKERS'
  if (says(/timed out/i)) return UNANSWERED
  return what
}

/** States of a broker before its first answer. A listener that expects TLS or SASL may accept one request. */
const ENDED_UNANSWERED = new Set(['APIVERSION_QUERY', 'AUTH_HANDSHAKE', 'UP'])

type Pem = 'CA' | 'CERTIFICATE' | 'KEY'

/** The variable that has it, or would have its file. */
const variable = (config: CommonConfig, what: Pem): string =>
  `KAFKA_SSL_${what}_${config[`KAFKA_SSL_${what}_PEM`] === undefined ? 'FILE' : 'PEM'}`

const given = (config: CommonConfig, what: Pem): boolean =>
  config[`KAFKA_SSL_${what}_FILE`] !== undefined || config[`KAFKA_SSL_${what}_PEM`] !== undefined

/** A key that cannot be read, or not with this password; found before any connection. */
function keyFault(reason: string, config: CommonConfig): string | undefined {
  if (!reason.startsWith('ssl.key.pem failed')) return undefined
  const name = variable(config, 'KEY')
  const password = (['KAFKA_SSL_KEY_PASSWORD', 'KAFKA_SSL_KEY_PASSWORD_FILE'] as const).find(
    (one) => config[one] !== undefined,
  )
  return password === undefined
    ? `${name} cannot be read; where the key has a password, set KAFKA_SSL_KEY_PASSWORD (${reason})`
    : `${name} cannot be read: check ${password} (${reason})`
}

const clientCertificate = (config: CommonConfig): string =>
  given(config, 'CERTIFICATE')
    ? `client certificate refused: ${variable(config, 'CERTIFICATE')} has expired, or is signed by an authority that the broker does not trust`
    : 'missing client certificate: the broker asks for one; set KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE'
