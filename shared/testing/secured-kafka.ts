import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type KafkaCluster, startKafka } from '../dev/brokers/kafka.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import {
  type Acl,
  alterBroker,
  alterScramUsers,
  createAcls,
  deleteAcls,
  type ScramMechanism,
} from '../dev/brokers/wire-admin.ts'
import { type Authority, type Certificate, createAuthority } from './certificates.ts'
import type { TestKeycloak } from './keycloak.ts'

/** One Apache Kafka that asks who connects in every way that services support, and allows them only what ACLs grant. */

const CALL_TIMEOUT_MS = 30_000
const NODE_ID = 1
const AUDIENCE = 'kafka'
const HERE = 'DNS:localhost,IP:127.0.0.1'
const SASL_MECHANISMS = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER'] as const

export type SaslMechanism = (typeof SASL_MECHANISMS)[number]

/** How clients prove who they are. `mTLS`: by a certificate. */
export type Mechanism = SaslMechanism | 'mTLS'

export const MECHANISMS: readonly Mechanism[] = [...SASL_MECHANISMS, 'mTLS']

/** Listeners besides the plaintext one, on which everybody is the administrator, for tests. */
const LISTENERS = {
  /** Every SASL mechanism. */
  SASL: 'SASL_SSL',
  /** The same, and clients have to authenticate again every few seconds (KIP-368). */
  REAUTH: 'SASL_SSL',
  /** PLAIN only. */
  BASIC: 'SASL_SSL',
  /** Asks for a client certificate. */
  MUTUAL: 'SSL',
  /** Asks for nothing: its clients are `User:ANONYMOUS`, the administrator. */
  TLS: 'SSL',
  /** Its certificate has expired. */
  EXPIRED: 'SASL_SSL',
  /** Its certificate is for another host. */
  ELSEWHERE: 'SASL_SSL',
} as const

export type Listener = keyof typeof LISTENERS

/** Variables of the services. */
export type Variables = Record<string, string>

export interface SecuredKafka {
  readonly cluster: KafkaCluster
  /** Signed the certificates of the broker and of all users. */
  readonly authority: Authority
  /** `host:port` */
  address(listener: Listener): string
  /** Of a user at the start, for PLAIN and SCRAM; with OAUTHBEARER its client's secret. */
  passwordOf(user: string): string
  certificateOf(user: string): Certificate
  /** Variables of a client that is let in as a user, on the listener of its mechanism unless another is named. */
  variables(user: string, mechanism: Mechanism, listener?: Listener): Variables
  /** The same with every secret in a file, in the user's own folder, where a test can replace it. */
  variablesInFiles(user: string, mechanism: Mechanism, listener?: Listener): Promise<Variables>
  /** Sets a user's password for SCRAM; undefined removes the user. */
  setScramPassword(mechanism: ScramMechanism, user: string, password: string | undefined): Promise<void>
  /** Sets a user's password for PLAIN. The broker reads it when it starts, and so is restarted. */
  setPlainPassword(user: string, password: string): Promise<void>
  /** Changes what the listener MUTUAL shows and trusts, while it runs: PEM files. */
  changeCertificates(change: { keystoreFile?: string; authorityFile?: string }): Promise<void>
  allow(acls: readonly Acl[]): Promise<void>
  deny(acls: readonly Acl[]): Promise<void>
  stop(options?: { keepDirectory?: boolean }): Promise<void>
}

/**
 * @param options.users their principals are `User:NAME`, whatever the mechanism
 * @param options.keycloak the issuer for OAUTHBEARER, where every user gets a client of its name; without it the mechanism is not offered
 * @param options.reauthMs on the listener REAUTH
 * @param options.tokenSeconds how long tokens of the users' clients are valid
 */
export async function startSecuredKafka(options: {
  users: readonly string[]
  keycloak?: TestKeycloak
  reauthMs?: number
  tokenSeconds?: number
}): Promise<SecuredKafka> {
  const { users, keycloak, reauthMs = 5_000, tokenSeconds } = options
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-secured-'))
  const authority = await createAuthority()
  const [here, expired, elsewhere] = await Promise.all([
    authority.issue(HERE),
    authority.issue(HERE, -1),
    authority.issue('DNS:elsewhere.example'),
  ])
  const certificates = new Map(
    await Promise.all(users.map(async (user) => [user, await authority.issue(`DNS:${user}`)] as const)),
  )
  const passwords = new Map(users.map((user) => [user, `${user}-of-a-test`]))
  const names = Object.keys(LISTENERS) as Listener[]
  const ports = await findFreePorts(2 + names.length)
  const [plain = 0, controller = 0, ...others] = ports
  const address = (listener: Listener): string => `127.0.0.1:${others[names.indexOf(listener)]}`
  const of = (listener: Listener, settings: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(
      Object.entries(settings).map(([name, value]) => [`listener.name.${listener.toLowerCase()}.${name}`, value]),
    )
  const shows = (listener: Listener, { keystoreFile }: Certificate) =>
    of(listener, { 'ssl.keystore.type': 'PEM', 'ssl.keystore.location': keystoreFile })
  const sasl = (listener: Listener, mechanisms: readonly SaslMechanism[]): Record<string, string> =>
    of(listener, {
      'sasl.enabled.mechanisms': mechanisms.join(','),
      ...Object.assign({}, ...mechanisms.map((mechanism) => loginModule(mechanism, passwords))),
    })
  const offered = SASL_MECHANISMS.filter((mechanism) => mechanism !== 'OAUTHBEARER' || keycloak !== undefined)
  const listeners = names.map((name) => `,${name}://${address(name)}`).join('')
  const protocols = names.map((name) => `,${name}:${LISTENERS[name]}`).join('')
  const cluster = await startKafka({
    ports: [plain],
    // Kafka asks no address for keys that is not named here.
    javaOptions:
      keycloak === undefined ? [] : [`-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=${keycloak.plainJwksUrl}`],
    settings: {
      'controller.quorum.voters': `${NODE_ID}@127.0.0.1:${controller}`,
      listeners: `PLAINTEXT://127.0.0.1:${plain},CONTROLLER://127.0.0.1:${controller}${listeners}`,
      'advertised.listeners': `PLAINTEXT://127.0.0.1:${plain}${listeners}`,
      'listener.security.protocol.map': `PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${protocols}`,
      'ssl.principal.mapping.rules': 'RULE:^CN=(.*)$/$1/,DEFAULT',
      ...shows('SASL', here),
      ...shows('REAUTH', here),
      ...shows('BASIC', here),
      ...shows('MUTUAL', here),
      ...shows('TLS', here),
      ...shows('EXPIRED', expired),
      ...shows('ELSEWHERE', elsewhere),
      ...of('MUTUAL', {
        'ssl.client.auth': 'required',
        'ssl.truststore.type': 'PEM',
        'ssl.truststore.location': authority.certificateFile,
      }),
      'sasl.enabled.mechanisms': 'PLAIN',
      ...sasl('SASL', offered),
      ...sasl('REAUTH', offered),
      ...of(
        'REAUTH',
        Object.fromEntries(
          offered.map((one) => [`${one.toLowerCase()}.connections.max.reauth.ms`, String(reauthMs)] as const),
        ),
      ),
      ...sasl('BASIC', ['PLAIN']),
      ...sasl('EXPIRED', ['PLAIN']),
      ...sasl('ELSEWHERE', ['PLAIN']),
      ...(keycloak !== undefined && {
        'sasl.oauthbearer.jwks.endpoint.url': keycloak.plainJwksUrl,
        'sasl.oauthbearer.expected.issuer': keycloak.issuer,
        'sasl.oauthbearer.expected.audience': AUDIENCE,
        // The client's ID, where `sub` is an ID that Keycloak makes.
        'sasl.oauthbearer.sub.claim.name': 'azp',
      }),
      'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
      // The principal of the plaintext listener.
      'super.users': 'User:ANONYMOUS',
    },
  })
  const admin = cluster.bootstrapServers
  const passwordOf = (user: string): string => known(passwords, user)
  const certificateOf = (user: string): Certificate => known(certificates, user)
  const variables = (user: string, mechanism: Mechanism, listener?: Listener): Variables => {
    const at = address(listener ?? (mechanism === 'mTLS' ? 'MUTUAL' : 'SASL'))
    const common = { KAFKA_BROKERS: at, KAFKA_SSL_CA_FILE: authority.certificateFile }
    if (mechanism === 'mTLS') {
      const { certificateFile, keyFile } = certificateOf(user)
      return {
        ...common,
        KAFKA_SECURITY_PROTOCOL: 'ssl',
        KAFKA_SSL_CERTIFICATE_FILE: certificateFile,
        KAFKA_SSL_KEY_FILE: keyFile,
      }
    }
    const byPassword = { KAFKA_SASL_USERNAME: user, KAFKA_SASL_PASSWORD: passwordOf(user) }
    return {
      ...common,
      KAFKA_SECURITY_PROTOCOL: 'sasl_ssl',
      KAFKA_SASL_MECHANISM: mechanism,
      ...(mechanism === 'OAUTHBEARER' ? oauthVariables(keycloak, user, passwordOf(user)) : byPassword),
    }
  }
  try {
    for (const mechanism of ['SCRAM-SHA-256', 'SCRAM-SHA-512'] as const)
      await alterScramUsers(admin, CALL_TIMEOUT_MS, mechanism, Object.fromEntries(passwords))
    for (const [user, secret] of keycloak === undefined ? [] : passwords)
      await keycloak?.createClient({
        clientId: user,
        secret,
        audience: [AUDIENCE],
        ...(tokenSeconds !== undefined && { tokenSeconds }),
      })
  } catch (error) {
    await cluster.stop()
    throw error
  }
  return {
    cluster,
    authority,
    address,
    passwordOf,
    certificateOf,
    variables,
    async variablesInFiles(user, mechanism, listener) {
      const own = join(folder, user)
      await mkdir(own, { recursive: true })
      const found: Variables = {}
      for (const [name, value] of Object.entries(variables(user, mechanism, listener))) {
        const place = IN_FILES[name]
        if (place === undefined) {
          found[name] = value
          continue
        }
        const file = join(own, place.file)
        await Bun.write(file, place.is === 'a path' ? Bun.file(value) : value)
        found[place.variable] = file
      }
      return found
    },
    setScramPassword: (mechanism, user, password) =>
      alterScramUsers(admin, CALL_TIMEOUT_MS, mechanism, { [user]: password }),
    async setPlainPassword(user, password) {
      passwords.set(user, password)
      const file = Bun.file(cluster.configFile(0))
      const line = Object.values(loginModule('PLAIN', passwords))[0]
      await Bun.write(file, (await file.text()).replaceAll(/^(.*\.plain\.sasl\.jaas\.config)=.*$/gm, `$1=${line}`))
      await cluster.leave(0)
      await cluster.restart(0)
    },
    async changeCertificates({ keystoreFile, authorityFile }) {
      const set = (name: string, value: string) =>
        alterBroker(admin, CALL_TIMEOUT_MS, NODE_ID, `listener.name.mutual.${name}`, value)
      if (authorityFile !== undefined) await set('ssl.truststore.location', authorityFile)
      if (keystoreFile !== undefined) await set('ssl.keystore.location', keystoreFile)
    },
    allow: (acls) => createAcls(admin, CALL_TIMEOUT_MS, acls),
    deny: (acls) => deleteAcls(admin, CALL_TIMEOUT_MS, acls),
    async stop(options) {
      await cluster.stop(options)
      releasePorts(ports)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Variables that can name a file instead, and the file's name in a user's folder. */
const IN_FILES: Readonly<Record<string, { variable: string; file: string; is: 'a path' | 'the value' }>> = {
  KAFKA_SASL_USERNAME: { variable: 'KAFKA_SASL_USERNAME_FILE', file: 'username', is: 'the value' },
  KAFKA_SASL_PASSWORD: { variable: 'KAFKA_SASL_PASSWORD_FILE', file: 'password', is: 'the value' },
  KAFKA_OAUTH_CLIENT_SECRET: { variable: 'KAFKA_OAUTH_CLIENT_SECRET_FILE', file: 'client-secret', is: 'the value' },
  KAFKA_SSL_CA_FILE: { variable: 'KAFKA_SSL_CA_FILE', file: 'ca.crt', is: 'a path' },
  KAFKA_SSL_CERTIFICATE_FILE: { variable: 'KAFKA_SSL_CERTIFICATE_FILE', file: 'tls.crt', is: 'a path' },
  KAFKA_SSL_KEY_FILE: { variable: 'KAFKA_SSL_KEY_FILE', file: 'tls.key', is: 'a path' },
}

/** What a listener needs for a mechanism. */
function loginModule(mechanism: SaslMechanism, passwords: ReadonlyMap<string, string>): Record<string, string> {
  const security = 'org.apache.kafka.common.security'
  const prefix = mechanism.toLowerCase()
  switch (mechanism) {
    case 'PLAIN': {
      const users = [...passwords].map(([user, password]) => `user_${user}="${password}"`)
      return { [`${prefix}.sasl.jaas.config`]: `${security}.plain.PlainLoginModule required ${users.join(' ')};` }
    }
    case 'SCRAM-SHA-256':
    case 'SCRAM-SHA-512':
      return { [`${prefix}.sasl.jaas.config`]: `${security}.scram.ScramLoginModule required;` }
    case 'OAUTHBEARER':
      return {
        [`${prefix}.sasl.jaas.config`]: `${security}.oauthbearer.OAuthBearerLoginModule required;`,
        [`${prefix}.sasl.server.callback.handler.class`]: `${security}.oauthbearer.OAuthBearerValidatorCallbackHandler`,
      }
  }
}

function oauthVariables(keycloak: TestKeycloak | undefined, clientId: string, secret: string): Variables {
  if (keycloak === undefined) throw new Error('OAUTHBEARER needs a Keycloak')
  return {
    KAFKA_OAUTH_TOKEN_URL: keycloak.tokenUrl,
    KAFKA_OAUTH_CLIENT_ID: clientId,
    KAFKA_OAUTH_CLIENT_SECRET: secret,
    ...(keycloak.caFile !== undefined && { KAFKA_OAUTH_CA_FILE: keycloak.caFile }),
  }
}

function known<Value>(values: ReadonlyMap<string, Value>, user: string): Value {
  const value = values.get(user)
  if (value === undefined) throw new Error(`this Kafka has no user ${user}`)
  return value
}
