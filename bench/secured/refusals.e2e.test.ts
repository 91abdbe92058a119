import { afterAll, beforeAll, expect, test } from 'bun:test'
import { permissionsOf, singleAcls } from '../../shared/kafka/acls.ts'
import { type Authority, createAuthority } from '../../shared/testing/certificates.ts'
import { startKeycloak, type TestKeycloak } from '../../shared/testing/keycloak.ts'
import {
  MECHANISMS,
  type Mechanism,
  type SecuredKafka,
  startSecuredKafka,
  type Variables,
} from '../../shared/testing/secured-kafka.ts'
import { isComplete, type Refusal, record, type State } from '../../shared/testing/secured-seen.ts'
import {
  readinessOf,
  type ServiceKind,
  type ServiceProcess,
  startService,
} from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'

/** Every mechanism with credentials and certificates that are right, and in each way wrong: what the services say, and how often. */

const TIMEOUT_MS = 600_000
/** A refused client tries again after at most 5 s. The rest is slack for a busy machine. */
const SOON_MS = 30_000
/** In which a client that is refused tries again. */
const AGAIN_MS = 6_000
/** Processes at a time. */
const AT_ONCE = 6

const USER = 'service'
/** A user whose credentials are not valid any more. */
const GONE = 'gone'
const SERVICES: readonly ServiceKind[] = ['producer', 'consumer', 'console']

let keycloak: TestKeycloak
let kafka: SecuredKafka
let other: Authority
/** Gives everybody a token that is not valid any more. */
let stale: ReturnType<typeof Bun.serve>
/** What must never be printed. */
let secrets: string[]
const running = new Set<ServiceProcess>()

beforeAll(async () => {
  ;[keycloak, other] = await Promise.all([startKeycloak({ tls: true }), createAuthority()])
  kafka = await startSecuredKafka({ users: [USER, GONE], keycloak })
  const options = { groupId: 'kafkatrace', createTopics: false, tenants: [] }
  await kafka.allow(SERVICES.flatMap((service) => singleAcls(`User:${USER}`, permissionsOf(service, options))))
  await kafka.cluster.createTopics(
    ['', '.retry', '.dlq', '.processed'].map((suffix) => `kt.default.events${suffix}`),
    2,
  )
  for (const mechanism of ['SCRAM-SHA-256', 'SCRAM-SHA-512'] as const)
    await kafka.setScramPassword(mechanism, GONE, undefined)
  stale = await staleIssuer()
  const key = await Bun.file(kafka.certificateOf(USER).keyFile).text()
  secrets = [kafka.passwordOf(USER), kafka.passwordOf(GONE), WRONG, key.split('\n')[1] ?? '', 'eyJ']
}, TIMEOUT_MS)

afterAll(async () => {
  await Promise.all([...running].map((service) => service.stop('SIGKILL')))
  stale?.stop(true)
  await kafka?.stop()
  await keycloak?.stop()
}, TIMEOUT_MS)

const WRONG = 'a-wrong-password'

/** A token endpoint with one token of Keycloak’s, which says that it lasts and has expired. */
async function staleIssuer(): Promise<ReturnType<typeof Bun.serve>> {
  await keycloak.createClient({ clientId: 'stale', secret: WRONG, audience: ['kafka'], tokenSeconds: 1 })
  const token = await keycloak.token('stale', WRONG)
  const { certificateFile, keyFile } = await kafka.authority.issue('DNS:localhost,IP:127.0.0.1')
  return Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    tls: { cert: Bun.file(certificateFile), key: Bun.file(keyFile) },
    fetch: () => Response.json({ access_token: token, token_type: 'Bearer', expires_in: 300 }),
  })
}

interface Case {
  mechanism: Mechanism
  state: State
  env: Variables
  /** How the reason begins. */
  says: RegExp
}

const WRONG_PASSWORD = /^wrong user name or password/
const CERTIFICATE_REFUSED = /^client certificate refused/

async function wrong(mechanism: Mechanism): Promise<Omit<Case, 'mechanism' | 'state'>> {
  const env = kafka.variables(USER, mechanism)
  switch (mechanism) {
    case 'mTLS': {
      const { certificateFile, keyFile } = await other.issue(`DNS:${USER}`)
      const files = { KAFKA_SSL_CERTIFICATE_FILE: certificateFile, KAFKA_SSL_KEY_FILE: keyFile }
      return { env: { ...env, ...files }, says: CERTIFICATE_REFUSED }
    }
    case 'OAUTHBEARER':
      return { env: { ...env, KAFKA_OAUTH_CLIENT_SECRET: WRONG }, says: /^client refused \(invalid_client\)/ }
    default:
      return { env: { ...env, KAFKA_SASL_PASSWORD: WRONG }, says: WRONG_PASSWORD }
  }
}

async function expired(mechanism: Mechanism): Promise<Omit<Case, 'mechanism' | 'state'>> {
  switch (mechanism) {
    case 'mTLS': {
      const { certificateFile, keyFile } = await kafka.authority.issue(`DNS:${USER}`, -1)
      const files = { KAFKA_SSL_CERTIFICATE_FILE: certificateFile, KAFKA_SSL_KEY_FILE: keyFile }
      return { env: { ...kafka.variables(USER, mechanism), ...files }, says: CERTIFICATE_REFUSED }
    }
    case 'OAUTHBEARER': {
      const token = { KAFKA_OAUTH_TOKEN_URL: `https://localhost:${stale.port}/token` }
      const ca = { KAFKA_OAUTH_CA_FILE: kafka.authority.certificateFile }
      return { env: { ...kafka.variables(USER, mechanism), ...token, ...ca }, says: /^token refused by the broker/ }
    }
    case 'PLAIN':
      // The broker does not know this user.
      return { env: { ...kafka.variables(GONE, mechanism), KAFKA_SASL_USERNAME: 'nobody' }, says: WRONG_PASSWORD }
    default:
      return { env: kafka.variables(GONE, mechanism), says: WRONG_PASSWORD }
  }
}

async function casesOf(mechanism: Mechanism): Promise<Case[]> {
  const right = kafka.variables(USER, mechanism)
  return [
    { mechanism, state: 'right', env: right, says: /^ready$/ },
    { mechanism, state: 'wrong', ...(await wrong(mechanism)) },
    { mechanism, state: 'expired', ...(await expired(mechanism)) },
    {
      mechanism,
      state: 'authority',
      env: { ...right, KAFKA_SSL_CA_FILE: other.certificateFile },
      says: /^unknown authority/,
    },
    { mechanism, state: 'host', env: kafka.variables(USER, mechanism, 'ELSEWHERE'), says: /^wrong host name/ },
    {
      mechanism,
      state: 'brokerExpired',
      env: kafka.variables(USER, mechanism, 'EXPIRED'),
      says: /^expired certificate/,
    },
  ]
}

/** Why a service cannot use Kafka, after the address; `ready`, or empty while it says neither. */
async function sayingOf(service: ServiceProcess): Promise<string> {
  const { ok, checks } = await readinessOf(service)
  if (ok) return 'ready'
  const reason = checks.find(({ name }) => name === 'kafka')?.reason ?? ''
  return reason.replace(/^(?:Kafka cannot be read: )?(?:no token for Kafka: )?\S+:\d+: /, '')
}

/** What is logged when Kafka cannot be reached. The console only reads, and its reader has no name. */
const told = (kind: ServiceKind, service: ServiceProcess): string[] =>
  service.log
    .filter(({ msg, level }) =>
      kind === 'console' ? msg === 'cannot reach Kafka; retrying' && level === 'warn' : msg === 'Kafka is unreachable',
    )
    .map(({ kafkaClient = 'reader', reason }) => `${kafkaClient}: ${reason}`)

let instances = 0

/** Starts a service in a case, and waits until it says what it has to. @returns what it said, in short */
async function saidBy(kind: ServiceKind, { mechanism, state, env, says }: Case): Promise<string> {
  const own = kind === 'consumer' ? { INSTANCE_ID: `one-${++instances}` } : { AUTH: 'off', CREATE_TOPICS: 'off' }
  const service = await startService(kind, { NODE_ENV: 'development', ...own, ...env })
  running.add(service)
  let saying = ''
  const what = `${kind} by ${mechanism}, ${state}, to say ${says}`
  try {
    await until(
      async () => {
        saying = await sayingOf(service)
        return says.test(saying)
      },
      { timeoutMs: SOON_MS, what },
    )
  } catch (error) {
    throw new Error(`${(error as Error).message}; it says “${saying}”, and logged:\n${told(kind, service).join('\n')}`)
  }
  if (state !== 'right') {
    const lines = () => told(kind, service).filter((line) => line.includes(saying))
    // A reader of ranges logs the end of an attempt, which takes 5 s.
    await until(() => lines().length > 0, { timeoutMs: SOON_MS, what: `a line in the log, of ${what}` })
    const sinceMs = performance.now()
    await until(() => performance.now() - sinceMs > AGAIN_MS)
    expect(await sayingOf(service), what).toBe(saying)
    // One for each of its clients, however often they tried.
    expect([...new Set(lines())], what).toEqual(lines())
  }
  await service.stop('SIGKILL')
  running.delete(service)
  for (const secret of secrets) expect(service.output, what).not.toContain(secret)
  return saying.split(':')[0] ?? ''
}

/** Every service in every case; else every mechanism's own cases for the producer, and the rest for one mechanism each. */
function isTried(kind: ServiceKind, { mechanism, state }: Case): boolean {
  if (isComplete) return true
  const isOwn = state === 'right' || state === 'wrong' || state === 'expired'
  if (kind === 'producer') return isOwn || mechanism === 'PLAIN'
  return (
    mechanism === (kind === 'consumer' ? 'SCRAM-SHA-512' : 'OAUTHBEARER') && (state === 'right' || state === 'wrong')
  )
}

test.each(MECHANISMS)(
  '%s: whoever is not let in says why, by its name, in /readyz and once in the log of each client, without secrets; whoever is let in is ready',
  async (mechanism) => {
    const cases = await casesOf(mechanism)
    const open = cases.flatMap((one) => SERVICES.filter((kind) => isTried(kind, one)).map((kind) => ({ one, kind })))
    const said = new Map<Case, Map<string, ServiceKind[]>>()
    const faults: string[] = []
    const work = async (): Promise<void> => {
      for (let next = open.shift(); next !== undefined; next = open.shift()) {
        const { one, kind } = next
        try {
          const words = await saidBy(kind, one)
          const of = said.getOrInsertComputed(one, () => new Map<string, ServiceKind[]>())
          of.getOrInsertComputed(words, () => []).push(kind)
        } catch (error) {
          faults.push((error as Error).message)
        }
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work))
    const rows: Refusal[] = cases.flatMap((one) =>
      [...(said.get(one) ?? [])].map(([says, services]) => ({
        mechanism,
        state: one.state,
        says,
        services: SERVICES.filter((kind) => services.includes(kind)),
      })),
    )
    // The same words, whoever says them.
    const states = rows.map(({ state }) => state)
    expect(states).toEqual([...new Set(states)])
    await record('refusals', rows, {
      owns: (row) => row.mechanism === mechanism,
      same: (row) => [row.mechanism, row.state, row.says],
    })
    expect(faults).toEqual([])
  },
  TIMEOUT_MS,
)
