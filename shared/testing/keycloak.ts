import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../dev/bound-child.ts'
import { BrokerUnavailableError } from '../dev/brokers/broker.ts'
import { findJava } from '../dev/brokers/kafka-distribution.ts'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import { lastLines, makeWhole, run } from '../dev/run.ts'
import { cacheFolder } from '../kafka/native/cache.ts'
import { createAuthority } from './certificates.ts'
import { fetchArchive } from './fetch-archive.ts'

/** A real issuer of tokens: Keycloak, with one realm that has no clients and no users until a test makes them. */

const VERSION = '26.4.0'
const ARCHIVE = {
  name: 'Keycloak',
  path: `org/keycloak/keycloak-quarkus-dist/${VERSION}/keycloak-quarkus-dist-${VERSION}.tar.gz`,
  sha512:
    '068b1a93d1e91c583e0c4497bd3c0fd272043b5ef91b029617a600f803b582ce141ef9a79e56b26071addbe618288e19bfb418f2abe1f271fb8fcb2629708a80',
  withoutTop: true,
}

const HEAP_MB = 320
const BUILD_TIMEOUT_MS = 300_000
const START_TIMEOUT_MS = 180_000
const STOP_GRACE_MS = 20_000
const PROBE_TIMEOUT_MS = 2_000
const PROBE_PAUSE_MS = 50
const CALL_TIMEOUT_MS = 60_000

const REALM = 'kafkatrace'
const DEFAULT_TOKEN_SECONDS = 300
/** Of the master realm, made with the database in the cache. It is for tests on loopback only, so it need not be secret. */
const ADMIN = { id: 'test-admin', secret: 'of-a-test' }

/** Fixed when the server is built, and so the same for all that start. */
const BUILD = ['--db=dev-file']

/** Passwords are hashed once, since a test waits for each log-in. */
const REALM_SETTINGS = {
  id: REALM,
  realm: REALM,
  enabled: true,
  sslRequired: 'none',
  passwordPolicy: 'hashAlgorithm(pbkdf2-sha256) and hashIterations(1)',
  accessTokenLifespan: DEFAULT_TOKEN_SECONDS,
}

/** A client of the realm. It is confidential where it has a secret, else public, and then it needs PKCE (S256). */
export interface KeycloakClient {
  clientId: string
  /** Allows the grant of client credentials (RFC 6749 section 4.4). */
  secret?: string
  /** Allows people to log in by the authorization code. */
  redirectUris?: readonly string[]
  /** Of access tokens. Default: {@link DEFAULT_TOKEN_SECONDS}. */
  tokenSeconds?: number
  /** Put into `aud` of access tokens. */
  audience?: readonly string[]
  /** Put into access tokens as they are. */
  claims?: Readonly<Record<string, unknown>>
  /** Names of users' attributes, put into access and ID tokens by these names; with several values as an array. */
  attributes?: readonly string[]
}

export interface KeycloakUser {
  name: string
  password: string
  attributes?: Readonly<Record<string, readonly string[]>>
  /** Roles of the realm, in `realm_access.roles` of access tokens. */
  roles?: readonly string[]
}

/** What was made stays over {@link TestKeycloak.kill} and {@link TestKeycloak.restart}. */
export interface TestKeycloak {
  /** `http://127.0.0.1:PORT/realms/kafkatrace`; with TLS `https://localhost:PORT/…`. */
  readonly issuer: string
  readonly tokenUrl: string
  readonly jwksUrl: string
  /** The same keys without TLS, for brokers and others that do not trust {@link caFile}. */
  readonly plainJwksUrl: string
  /** With TLS: the PEM file of the authority that signed its certificate. */
  readonly caFile: string | undefined
  /** The ID of its process. @throws Error while there is none */
  pid(): number
  createClient(client: KeycloakClient): Promise<void>
  /** From now on only this secret is right. */
  changeSecret(clientId: string, secret: string): Promise<void>
  createUser(user: KeycloakUser): Promise<void>
  /** A user that is not enabled cannot log in, nor refresh tokens. */
  enableUser(name: string, enabled: boolean): Promise<void>
  /** Ends all sessions of a user, as an administrator does. */
  endSessions(name: string): Promise<void>
  /** An access token by client credentials. @throws Error with the answer */
  token(clientId: string, secret: string): Promise<string>
  /** Signs with a new RSA key from now on. @param old whether tokens of the old one can still be verified by the JWKS */
  rotateKeys(old?: 'keep' | 'remove'): Promise<void>
  /** Sends SIGSTOP: it accepts connections and answers nothing. */
  freeze(): void
  /** Sends SIGCONT: it continues where it was. */
  thaw(): void
  /** Sends SIGKILL: connections are refused. Returns once the process is gone. */
  kill(): Promise<void>
  /** Starts it again after {@link kill}, on the same port. */
  restart(): Promise<void>
  /** Ends it for good. */
  stop(): Promise<void>
}

/**
 * Starts Keycloak on free ports of loopback. Returns once it answers. It does not outlive this process.
 * @param options.tls makes an authority and a certificate for localhost, and gives the issuer an https address
 */
export async function startKeycloak(options: { tls?: boolean } = {}): Promise<TestKeycloak> {
  const java = await findJava('Keycloak')
  const distribution = await provideKeycloak(java)
  const directory = await homeOf(distribution)
  const ports = await findFreePorts(2)
  const [plainPort = 0, tlsPort = 0] = ports
  const plain = `http://127.0.0.1:${plainPort}`
  const tls = options.tls === true ? await tlsOptions(tlsPort) : undefined
  const base = tls?.base ?? plain
  const issuer = `${base}/realms/${REALM}`
  const server = serverIn(java, directory, plainPort, [`--hostname=${base}`, ...(tls?.args ?? [])])
  const stop = async (): Promise<void> => {
    await server.end(0)
    releasePorts(ports)
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await server.start()
  } catch (error) {
    await stop()
    throw error
  }
  const admin = adminOf(plain)
  const idOf = async (kind: 'clients' | 'users', by: string, name: string): Promise<string> => {
    const found = (await admin('GET', `${kind}?${by}=${encodeURIComponent(name)}&exact=true`)) as { id: string }[]
    if (found[0] === undefined) throw new Error(`Keycloak has no ${name} among its ${kind}`)
    return found[0].id
  }
  let keys = 0
  return {
    issuer,
    tokenUrl: `${issuer}/protocol/openid-connect/token`,
    jwksUrl: `${issuer}/protocol/openid-connect/certs`,
    plainJwksUrl: `${plain}/realms/${REALM}/protocol/openid-connect/certs`,
    caFile: tls?.caFile,
    pid: () => server.running().pid,
    async createClient(client) {
      await admin('POST', 'clients', representationOf(client))
    },
    async changeSecret(clientId, secret) {
      const path = `clients/${await idOf('clients', 'clientId', clientId)}`
      await admin('PUT', path, { ...((await admin('GET', path)) as object), secret })
    },
    async createUser({ name, password, attributes = {}, roles = [] }) {
      await admin('POST', 'users', {
        username: name,
        enabled: true,
        // Without these, the first log-in asks for them.
        email: `${name}@example.com`,
        emailVerified: true,
        firstName: name,
        lastName: 'Test',
        attributes,
        credentials: [{ type: 'password', value: password, temporary: false }],
      })
      if (roles.length === 0) return
      const known = new Set(((await admin('GET', 'roles')) as { name: string }[]).map((role) => role.name))
      for (const role of roles) if (!known.has(role)) await admin('POST', 'roles', { name: role })
      const given = await Promise.all(roles.map((role) => admin('GET', `roles/${encodeURIComponent(role)}`)))
      await admin('POST', `users/${await idOf('users', 'username', name)}/role-mappings/realm`, given)
    },
    async enableUser(name, enabled) {
      const path = `users/${await idOf('users', 'username', name)}`
      await admin('PUT', path, { ...((await admin('GET', path)) as object), enabled })
    },
    async endSessions(name) {
      await admin('POST', `users/${await idOf('users', 'username', name)}/logout`)
    },
    token: (clientId, secret) => clientCredentials(`${plain}/realms/${REALM}`, clientId, secret),
    async rotateKeys(old = 'remove') {
      const type = 'org.keycloak.keys.KeyProvider'
      const before = (await admin('GET', `components?type=${type}`)) as { id: string; providerId: string }[]
      await admin('POST', 'components', {
        name: `rsa-${++keys}`,
        providerId: 'rsa-generated',
        providerType: type,
        parentId: REALM,
        // The first has 100, and the highest signs.
        config: { priority: [String(100 + keys)], enabled: ['true'], active: ['true'], algorithm: ['RS256'] },
      })
      if (old === 'keep') return
      for (const { id, providerId } of before)
        if (providerId === 'rsa-generated') await admin('DELETE', `components/${id}`)
    },
    freeze: () => server.running().kill('SIGSTOP'),
    thaw: () => server.running().kill('SIGCONT'),
    async kill() {
      const killed = server.running()
      killed.kill('SIGKILL')
      await killed.exited
    },
    restart: server.start,
    stop,
  }
}

async function tlsOptions(port: number): Promise<{ base: string; args: string[]; caFile: string }> {
  const authority = await createAuthority()
  const { certificateFile, keyFile } = await authority.issue('DNS:localhost,IP:127.0.0.1')
  return {
    base: `https://localhost:${port}`,
    args: [
      `--https-port=${port}`,
      `--https-certificate-file=${certificateFile}`,
      `--https-certificate-key-file=${keyFile}`,
    ],
    caFile: authority.certificateFile,
  }
}

/** The body that makes a client. */
function representationOf(client: KeycloakClient): object {
  const { clientId, secret, redirectUris = [], tokenSeconds, audience = [], claims = {}, attributes = [] } = client
  const mapper = (name: string, kind: string, config: Record<string, string>) => ({
    name,
    protocol: 'openid-connect',
    protocolMapper: kind,
    config: { 'access.token.claim': 'true', ...config },
  })
  return {
    clientId,
    enabled: true,
    protocol: 'openid-connect',
    publicClient: secret === undefined,
    ...(secret !== undefined && { secret }),
    serviceAccountsEnabled: secret !== undefined,
    standardFlowEnabled: redirectUris.length > 0,
    directAccessGrantsEnabled: false,
    redirectUris,
    attributes: {
      'post.logout.redirect.uris': '+',
      ...(secret === undefined && { 'pkce.code.challenge.method': 'S256' }),
      ...(tokenSeconds !== undefined && { 'access.token.lifespan': String(tokenSeconds) }),
    },
    protocolMappers: [
      ...audience.map((name) =>
        mapper(`audience ${name}`, 'oidc-audience-mapper', { 'included.custom.audience': name }),
      ),
      ...Object.entries(claims).map(([name, value]) =>
        mapper(`claim ${name}`, 'oidc-hardcoded-claim-mapper', {
          'claim.name': name,
          'claim.value': typeof value === 'string' ? value : JSON.stringify(value),
          'jsonType.label': typeof value === 'string' ? 'String' : 'JSON',
        }),
      ),
      ...attributes.map((name) =>
        mapper(`attribute ${name}`, 'oidc-usermodel-attribute-mapper', {
          'user.attribute': name,
          'claim.name': name,
          'jsonType.label': 'String',
          'id.token.claim': 'true',
        }),
      ),
    ],
  }
}

type Admin = (method: string, path: string, body?: unknown) => Promise<unknown>

/** Calls of the admin API. @param root before each path: the realm, or all realms */
function adminOf(base: string, root = `/${REALM}/`): Admin {
  return async (method, path, body) => {
    // Such a token lasts a minute, which a test that waits would exceed.
    const token = await clientCredentials(`${base}/realms/master`, ADMIN.id, ADMIN.secret)
    const url = `${base}/admin/realms${root}${path}`
    const response = await fetch(url, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${text}`)
    return text === '' ? undefined : (JSON.parse(text) as unknown)
  }
}

async function clientCredentials(issuer: string, clientId: string, secret: string): Promise<string> {
  const response = await fetch(`${issuer}/protocol/openid-connect/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'client_credentials', client_id: clientId, client_secret: secret }),
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  })
  const answer = (await response.json()) as { access_token?: string }
  if (answer.access_token === undefined)
    throw new Error(`no token for ${clientId}: ${response.status} ${JSON.stringify(answer)}`)
  return answer.access_token
}

interface Server {
  running(): BoundChild
  /** Returns once it answers. */
  start(): Promise<void>
  /** SIGTERM, and SIGKILL once the grace is over; nothing while it is not running. */
  end(graceMs: number): Promise<void>
}

/** Keycloak in a directory of its own. */
function serverIn(java: string, home: string, port: number, args: readonly string[]): Server {
  const log = Bun.file(join(home, 'keycloak.log'))
  let child: BoundChild | undefined
  return {
    running() {
      if (child === undefined || !isRunning(child)) throw new Error('Keycloak is not running')
      return child
    },
    async start() {
      if (child !== undefined && isRunning(child)) throw new Error('Keycloak is running: kill it first')
      const listen = ['--cache=local', '--http-enabled=true', '--http-host=127.0.0.1', `--http-port=${port}`]
      child = spawnBoundChild(
        javaCommand(java, home, ['start', '--optimized', '--log-level=warn', ...listen, ...args]),
        {
          stdout: log,
          stderr: log,
          cwd: home,
          env: {
            ...process.env,
            KC_BOOTSTRAP_ADMIN_CLIENT_ID: ADMIN.id,
            KC_BOOTSTRAP_ADMIN_CLIENT_SECRET: ADMIN.secret,
          },
          removeWhenOrphaned: home,
        },
      )
      const deadline = performance.now() + START_TIMEOUT_MS
      while (isRunning(child) && performance.now() < deadline) {
        if (await answers(`http://127.0.0.1:${port}/realms/master`)) return
        await Bun.sleep(PROBE_PAUSE_MS)
      }
      const why = isRunning(child) ? `does not answer after ${START_TIMEOUT_MS} ms` : 'ended'
      throw new BrokerUnavailableError(`Keycloak ${why}; its last lines:\n${lastLines(await log.text())}`)
    },
    async end(graceMs) {
      if (child === undefined || !isRunning(child)) return
      // A frozen process would not see SIGTERM.
      child.kill('SIGCONT')
      await endBoundChild(child, graceMs)
    },
  }
}

const answers = (url: string): Promise<boolean> =>
  fetch(url, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).then(
    ({ ok }) => ok,
    () => false,
  )

/** What its script `kc.sh` runs, with options for a short life on a small machine. */
const javaCommand = (java: string, home: string, args: readonly string[]): [string, ...string[]] => [
  java,
  `-Xmx${HEAP_MB}m`,
  '-XX:MaxMetaspaceSize=256m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-XX:-UsePerfData',
  '-XX:+ExitOnOutOfMemoryError',
  // Classes are what Keycloak’s release has; to verify them takes a seventh of the start.
  '-XX:+UnlockDiagnosticVMOptions',
  '-XX:-BytecodeVerificationRemote',
  '-Dfile.encoding=UTF-8',
  `-Djava.io.tmpdir=${join(home, 'tmp')}`,
  `-Dkc.home.dir=${home}`,
  `-Djboss.server.config.dir=${join(home, 'conf')}`,
  '-Djava.util.logging.manager=org.jboss.logmanager.LogManager',
  '-Dquarkus-log-max-startup-records=10000',
  ...['java.util', 'java.util.concurrent', 'java.security'].map((name) => `--add-opens=java.base/${name}=ALL-UNNAMED`),
  '-cp',
  join(home, 'lib', 'quarkus-run.jar'),
  'io.quarkus.bootstrap.runner.QuarkusEntryPoint',
  ...args,
]

/** A directory that looks like the distribution, with a database of its own: several can run at the same time. */
async function homeOf(distribution: string): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'kafkatrace-keycloak-'))
  for (const name of await readdir(distribution))
    if (name === 'data') await cp(join(distribution, name), join(home, name), { recursive: true })
    else if (name !== 'tmp') await symlink(join(distribution, name), join(home, name))
  await mkdir(join(home, 'tmp'))
  return home
}

/**
 * Finds Keycloak in the user's cache, ready to start: built, and with a database that has the realm. Downloads it from Maven Central when it is missing.
 * @returns its folder
 * @throws BrokerUnavailableError when Maven Central does not answer, or gives something else
 */
async function provideKeycloak(java: string): Promise<string> {
  const fingerprint = new Bun.CryptoHasher('sha256')
    .update(JSON.stringify([BUILD, REALM_SETTINGS, ADMIN]))
    .digest('hex')
  const folder = join(cacheFolder(), `keycloak-${VERSION}-${fingerprint.slice(0, 8)}`)
  if (!existsSync(folder))
    await makeWhole(folder, async (unfinished) => {
      await fetchArchive(unfinished, ARCHIVE)
      await prepare(java, unfinished)
    })
  return folder
}

async function prepare(java: string, home: string): Promise<void> {
  await mkdir(join(home, 'tmp'))
  const built = await run(javaCommand(java, home, ['build', ...BUILD]), { cwd: home, timeoutMs: BUILD_TIMEOUT_MS })
  if (built.exitCode !== 0)
    throw new BrokerUnavailableError(`Keycloak cannot be built:\n${lastLines(built.output + built.errors)}`)
  const ports = await findFreePorts(1)
  const [port = 0] = ports
  const base = `http://127.0.0.1:${port}`
  const server = serverIn(java, home, port, [`--hostname=${base}`])
  try {
    await server.start()
    await adminOf(base, '')('POST', '', REALM_SETTINGS)
    const admin = adminOf(base)
    const profile = (await admin('GET', 'users/profile')) as object
    // Users' attributes besides name and address.
    await admin('PUT', 'users/profile', { ...profile, unmanagedAttributePolicy: 'ENABLED' })
  } finally {
    await server.end(STOP_GRACE_MS)
    releasePorts(ports)
  }
  await rm(join(home, 'tmp'), { recursive: true })
  await rm(join(home, 'keycloak.log'))
}
