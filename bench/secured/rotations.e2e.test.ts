import { afterAll, beforeAll, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { siblingTopic } from '../../shared/events/topics.ts'
import { permissionsOf, type SingleAcl, singleAcls } from '../../shared/kafka/acls.ts'
import { startKeycloak, type TestKeycloak } from '../../shared/testing/keycloak.ts'
import { type Mechanism, type SecuredKafka, startSecuredKafka } from '../../shared/testing/secured-kafka.ts'
import { isComplete, type Rotation, record } from '../../shared/testing/secured-seen.ts'
import { createService, type Service } from '../../shared/testing/services.ts'
import { until } from '../../shared/testing/until.ts'
import { holds, judge, type Verdict } from '../faults/judge.ts'
import { Ledger } from '../faults/ledger.ts'
import { type Load, PLAIN, postOnce, startLoad } from '../faults/load.ts'
import { createRandom } from '../faults/random.ts'
import { scanStream } from '../faults/scan.ts'
import { changeAuthority, used, write } from './changes.ts'

/** Credentials that are changed while events are sent: nothing is lost, nothing is doubled, and no pause is longer than a rebalance. */

const TIMEOUT_MS = 600_000
/** Clients have to authenticate again this often. A client begins with a tenth of it left, which a busy machine must not exceed. */
const REAUTH_MS = 3_000
const TOKEN_SECONDS = 6
/** Files are looked at each second; then clients are renewed, or authenticate again. */
const TAKEN_MS = 4 * REAUTH_MS
const SETTLE_TIMEOUT_MS = 120_000
/** The session time-out of a consumer, which bounds a rebalance. A broker that other tests leave no time takes longer, so this is asked of complete runs only. */
const LONGEST_PAUSE_MS = 10_000
const EVENTS_PER_SECOND = 40
const PARTITIONS = 2

/** A producer and a consumer with a stream, a group and a user of their own. */
interface Rig {
  mechanism: Mechanism
  user: string
  stream: string
  services: Service[]
  files: Record<string, string>
  /** Of all that was sent to its stream. */
  ledger: Ledger
}

let keycloak: TestKeycloak
let kafka: SecuredKafka
let folder: string
const rigs: Rig[] = []

const RIGS: readonly { mechanism: Mechanism; user: string }[] = [
  { mechanism: 'PLAIN', user: 'plain' },
  { mechanism: 'SCRAM-SHA-256', user: 'scram-256' },
  { mechanism: 'SCRAM-SHA-512', user: 'scram-512' },
  { mechanism: 'OAUTHBEARER', user: 'oauth' },
  { mechanism: 'mTLS', user: 'mtls' },
]

/** Who replaces a user: another principal with the same permissions. */
const successorOf = (user: string): string => `${user}-2`

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-rotations-'))
  keycloak = await startKeycloak({ tls: true })
  kafka = await startSecuredKafka({
    users: RIGS.flatMap(({ user }) => [user, successorOf(user)]),
    keycloak,
    reauthMs: REAUTH_MS,
    tokenSeconds: TOKEN_SECONDS,
  })
  rigs.push(...(await Promise.all(RIGS.map(({ mechanism, user }) => rigOf(mechanism, user)))))
}, TIMEOUT_MS)

afterAll(async () => {
  for (const { services } of rigs)
    for (const service of services) {
      if (service.running()) await service.kill()
      service.releasePorts()
    }
  await kafka?.stop()
  await keycloak?.stop()
  await rm(folder, { recursive: true, force: true })
}, TIMEOUT_MS)

/** The ACLs of a producer and a consumer for one stream. */
function aclsOf(user: string, stream: string): SingleAcl[] {
  const options = { groupId: `of-${stream}`, createTopics: false, tenants: ['default'] }
  const permissions = [...permissionsOf('producer', options), ...permissionsOf('consumer', options)]
  const narrowed = permissions.map((one) => ({ ...one, name: one.name.replace('kt.default.', topicOf(stream)) }))
  return singleAcls(`User:${user}`, narrowed)
}

const topicOf = (stream: string): string => `kt.default.${stream}`

async function rigOf(mechanism: Mechanism, user: string): Promise<Rig> {
  const stream = user
  const topics = [
    topicOf(stream),
    ...(['retry', 'dlq', 'processed'] as const).map((role) => siblingTopic(topicOf(stream), role)),
  ]
  await kafka.cluster.createTopics(topics, PARTITIONS)
  await kafka.allow([...aclsOf(user, stream), ...aclsOf(successorOf(user), stream)])
  const files = await kafka.variablesInFiles(user, mechanism, mechanism === 'mTLS' ? 'MUTUAL' : 'REAUTH')
  const tenantsFile = join(folder, `${user}.json`)
  await Bun.write(tenantsFile, JSON.stringify({ tenants: { default: { streams: [stream], keys: [] } } }))
  const services = await Promise.all([
    createService(
      'producer',
      `producer-${user}`,
      { ...files, AUTH: 'off', TENANTS_FILE: tenantsFile, CREATE_TOPICS: 'off' },
      folder,
    ),
    createService('consumer', `consumer-${user}`, { ...files, GROUP_ID: `of-${stream}`, INSTANCE_ID: user }, folder),
  ])
  for (const service of services) service.start()
  await Promise.all(services.map((service) => service.ready()))
  return { mechanism, user, stream, services, files, ledger: new Ledger() }
}

/** Changes what a client shows of itself, at the broker and in its files. */
interface Change {
  what: string
  change(): Promise<void>
}

/** Waits until both services use changed files, and then as long as the broker lets old connections be. */
async function taken({ services }: Rig, change: () => Promise<unknown>): Promise<void> {
  await used(services, change)
  await passes(TAKEN_MS)
}

const passes = (ms: number): Promise<void> => {
  const sinceMs = performance.now()
  return until(() => performance.now() - sinceMs > ms, { timeoutMs: ms + 10_000 })
}

function changeOf(rig: Rig): Change {
  const { mechanism, user, stream } = rig
  const next = `${user}-has-a-new-password`
  switch (mechanism) {
    case 'SCRAM-SHA-256':
    case 'SCRAM-SHA-512':
      return {
        what: 'the password, at the broker and then in the file',
        async change() {
          await kafka.setScramPassword(mechanism, user, next)
          await write(rig.files, 'KAFKA_SASL_PASSWORD_FILE', next)
        },
      }
    case 'PLAIN':
      return {
        what: 'user and password, in the files; then the old user may do nothing',
        async change() {
          await taken(rig, async () => {
            await write(rig.files, 'KAFKA_SASL_USERNAME_FILE', successorOf(user))
            await write(rig.files, 'KAFKA_SASL_PASSWORD_FILE', kafka.passwordOf(successorOf(user)))
          })
          await kafka.deny(aclsOf(user, stream))
        },
      }
    case 'OAUTHBEARER':
      return {
        what: `the client’s secret, at the issuer and then in the file, with tokens that last ${TOKEN_SECONDS} s`,
        async change() {
          await keycloak.changeSecret(user, next)
          await write(rig.files, 'KAFKA_OAUTH_CLIENT_SECRET_FILE', next)
          await passes(3 * TOKEN_SECONDS * 1_000)
        },
      }
    case 'mTLS':
      return {
        what: 'the authority and both certificates, in steps, until the old authority is not trusted',
        async change() {
          await changeAuthority(kafka, user, rig.files, folder, (change) => taken(rig, change))
        },
      }
  }
}

/** Sends events while something changes and for some time after it, and judges all of it. */
async function rotated(rig: Rig, { what, change }: Change): Promise<{ rotation: Rotation; verdict: Verdict }> {
  const [producer, consumer] = rig.services as [Service, Service]
  const { ledger } = rig
  const before = ledger.size
  /** When answers came that acknowledge events. */
  const answeredMs: number[] = []
  const load: Load = startLoad({
    url: `http://127.0.0.1:${producer.port}`,
    stream: rig.stream,
    ledger,
    random: createRandom(1),
    name: `${rig.stream}-${before}`,
    eventsPerSecond: EVENTS_PER_SECOND,
    kinds: [PLAIN],
    keys: 20,
    keyless: 0.1,
    wrong: 0,
    repeatedAnyway: 0,
    timeoutMs: [15_000, 20_000],
    async post(...request) {
      const response = await postOnce(...request)
      if (response.status < 300) answeredMs.push(performance.now())
      return response
    },
  })
  const beganAtMs = Date.now()
  await until(() => answeredMs.length > EVENTS_PER_SECOND / 4)
  await change()
  await passes(TAKEN_MS)
  await load.stop()
  const log = async () => scanStream(kafka.cluster.bootstrapServers, topicOf(rig.stream))
  let verdict = judge(ledger.entries(), await log())
  await until(
    async () => {
      verdict = judge(ledger.entries(), await log())
      return verdict.undecided === 0
    },
    { timeoutMs: SETTLE_TIMEOUT_MS, what: `outcomes of ${rig.stream}` },
  ).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${await producer.lastLines()}\n${await consumer.lastLines()}`)
  })
  const { processed } = await log()
  const rotation: Rotation = {
    mechanism: rig.mechanism,
    what,
    sent: ledger.size - before,
    lost: verdict.lost,
    twice: verdict.doubled,
    longestPauseMs: {
      producer: longestGap(answeredMs),
      consumer: longestGap(
        [beganAtMs, ...processed.map(({ timestampMs }) => timestampMs).filter((atMs) => atMs > beganAtMs)].sort(
          (a, b) => a - b,
        ),
      ),
    },
  }
  return { rotation, verdict }
}

const longestGap = (times: readonly number[]): number =>
  Math.round(times.reduce((longest, time, at) => Math.max(longest, at === 0 ? 0 : time - (times[at - 1] ?? 0)), 0))

function check(rotation: Rotation, verdict: Verdict): void {
  expect(verdict.violations).toEqual([])
  expect(holds(verdict)).toBe(true)
  expect(rotation).toMatchObject({ lost: 0, twice: 0 })
  expect(rotation.sent).toBeGreaterThan(EVENTS_PER_SECOND)
}

/** What is to be known of a pause that is too long. */
async function slowness(seen: readonly Rotation[]): Promise<string> {
  const slow = seen.filter(
    ({ longestPauseMs: { producer, consumer } }) => Math.max(producer, consumer) >= LONGEST_PAUSE_MS,
  )
  const logs = rigs
    .filter(({ mechanism }) => slow.some((one) => one.mechanism === mechanism))
    .flatMap(({ services }) => services.map(async (service) => `${service.name}:\n${await service.lastLines()}`))
  return `${JSON.stringify(seen, undefined, 2)}\n${(await Promise.all(logs)).join('\n')}`
}

const SECRET = /of-a-test|-has-a-new-password|eyJ|PRIVATE KEY/

test(
  'credentials that are changed while events are sent lose nothing, double nothing and stop nobody for longer than a rebalance',
  async () => {
    const seen: Rotation[] = []
    const all = await Promise.all(rigs.map((rig) => rotated(rig, changeOf(rig))))
    for (const { rotation, verdict } of all) {
      check(rotation, verdict)
      seen.push(rotation)
    }
    const isSlow = seen.some(
      ({ longestPauseMs: { producer, consumer } }) => Math.max(producer, consumer) >= LONGEST_PAUSE_MS,
    )
    const whySlow = isSlow ? await slowness(seen) : ''
    // A broker reads the passwords of PLAIN when it starts. That also cuts the connections that were opened with the old certificates.
    const ofMechanism = (mechanism: Mechanism) => rigs.find((rig) => rig.mechanism === mechanism) as Rig
    const [plain, mutual] = [ofMechanism('PLAIN'), ofMechanism('mTLS')]
    const user = successorOf(plain.user)
    const next = `${user}-has-a-new-password`
    const restarted = Promise.withResolvers<void>()
    const after = await Promise.all([
      rotated(plain, {
        what: 'the password, in the file and then at the broker, which is restarted',
        async change() {
          await write(plain.files, 'KAFKA_SASL_PASSWORD_FILE', next)
          await kafka.setPlainPassword(user, next)
          restarted.resolve()
        },
      }),
      rotated(mutual, {
        what: 'nothing more; the broker is restarted, and so all connections are new',
        change: () => restarted.promise,
      }),
    ])
    for (const { rotation, verdict } of after) {
      check(rotation, verdict)
      seen.push(rotation)
    }
    for (const { services } of rigs)
      for (const service of services) {
        expect(await service.log(), service.name).not.toMatch(SECRET)
        expect((await service.terminate()).code, service.name).toBe(0)
      }
    await record('rotations', seen, { same: ({ mechanism, what, lost, twice }) => ({ mechanism, what, lost, twice }) })
    if (isComplete) expect(isSlow, whySlow).toBe(false)
  },
  TIMEOUT_MS,
)
