import { afterAll, beforeAll, expect, test } from 'bun:test'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { javaCommand, provideKafka } from '../../shared/dev/brokers/kafka-distribution.ts'
import { run } from '../../shared/dev/run.ts'
import { inputTopic } from '../../shared/events/topics.ts'
import { type AclRole, permissionsOf, type SingleAcl, shellWord, singleAcls } from '../../shared/kafka/acls.ts'
import { type SecuredKafka, startSecuredKafka } from '../../shared/testing/secured-kafka.ts'
import { inWords, isComplete, type MissingAcl, record } from '../../shared/testing/secured-seen.ts'
import {
  readinessOf,
  type ServiceKind,
  type ServiceProcess,
  startService,
} from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { holds, judge } from '../faults/judge.ts'
import { Ledger } from '../faults/ledger.ts'
import { type Load, PLAIN, startLoad } from '../faults/load.ts'
import { createRandom } from '../faults/random.ts'
import { scanStream } from '../faults/scan.ts'

/**
 * Producer, consumer and the topics job with exactly the ACLs that `bun run kafka-acls` prints, and without each of them in turn: what they say, and that they
 * go on once it is given back. The console's are in consumer/console/permissions.integration.test.ts.
 */

const TIMEOUT_MS = 300_000
const SOON_MS = 60_000
const INPUT = inputTopic('default', 'events')
const OPTIONS = { groupId: 'kafkatrace', createTopics: false, tenants: [] }

let kafka: SecuredKafka
let folder: string
let producer: ServiceProcess
let consumer: ServiceProcess
let load: Load | undefined
const running: ServiceProcess[] = []

const userOf = (role: AclRole): string => `kafkatrace-${role}`
const aclsOf = (role: AclRole, user = userOf(role)): SingleAcl[] =>
  singleAcls(`User:${user}`, permissionsOf(role, OPTIONS))
/** Users of the topics job, each without one ACL. */
const JOBS = aclsOf('topics').map((without, number) => ({ user: `job-${number}`, without }))

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kafkatrace-permissions-'))
  kafka = await startSecuredKafka({
    users: [...(['producer', 'consumer', 'topics'] as const).map(userOf), ...JOBS.map(({ user }) => user)],
  })
  await Promise.all([
    ...(['producer', 'topics'] as const).map((role) => grantByCommand(role)),
    grantByCommand('consumer'),
  ])
  for (const { user, without } of JOBS)
    await kafka.allow(aclsOf('topics', user).filter((one) => inWords(one) !== inWords(without)))
}, TIMEOUT_MS)

afterAll(async () => {
  await load?.stop()
  await Promise.all(running.map((service) => service.stop('SIGKILL')))
  await kafka?.stop()
  await rm(folder, { recursive: true, force: true })
}, TIMEOUT_MS)

/** Has a shell run what the command prints, with Apache Kafka’s own tool. */
async function grantByCommand(role: AclRole): Promise<void> {
  const own = await mkdtemp(join(folder, 'command-'))
  const tool = javaCommand(await provideKafka(), 'org.apache.kafka.tools.AclCommand', [], { heapMb: 128, log: 'error' })
  const script = join(own, 'kafka-acls.sh')
  await Bun.write(script, `#!/bin/sh\nexec ${tool.map(shellWord).join(' ')} "$@"\n`)
  await chmod(script, 0o755)
  await Bun.write(join(own, 'admin.properties'), '')
  const command = join(import.meta.dir, '../../producer/kafka-acls.ts')
  const printed = await run([process.execPath, command, role, '--principal', `User:${userOf(role)}`])
  expect(printed).toMatchObject({ exitCode: 0, errors: '' })
  const env = { PATH: `${own}${delimiter}${process.env['PATH']}`, BROKER: kafka.cluster.bootstrapServers }
  const granted = await run(['/bin/sh', '-e', '-c', printed.output], { cwd: own, env, timeoutMs: TIMEOUT_MS })
  expect(granted.exitCode, granted.output + granted.errors).toBe(0)
}

async function start(kind: Exclude<ServiceKind, 'console'>, env: Record<string, string>): Promise<ServiceProcess> {
  const service = await startService(kind, {
    NODE_ENV: 'development',
    ...kafka.variables(userOf(kind), 'SCRAM-SHA-512'),
    ...env,
  })
  running.push(service)
  return service
}

const ready = (of: ServiceProcess): Promise<void> =>
  until(async () => (await readinessOf(of)).ok, { timeoutMs: SOON_MS, what: 'readiness' }).catch(
    async (error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(await readinessOf(of))}\n${of.output}`)
    },
  )

/** What `/readyz` says that names a missing permission, as "CHECK: TEXT". */
async function namings(of: ServiceProcess): Promise<string[]> {
  const { checks } = await readinessOf(of)
  return checks.flatMap(({ name, reason, detail }) => {
    const text = reason ?? detail ?? ''
    return /authori[sz]/i.test(text) ? [`${name}: ${text}`] : []
  })
}

/** Without the right to create the topic that all share comes first. */
const rank = ({ operation, pattern }: SingleAcl): number => (operation === 'create' && pattern === 'literal' ? 0 : 1)

interface Loss {
  service: 'producer' | 'consumer'
  /** As {@link inWords}. */
  acl: string
  /** What `/readyz` says, and whether the service is ready; undefined: it says nothing, and all goes on. */
  says?: { text: RegExp; ready: boolean }
  effect: string
  named: string
}

const LOSSES: readonly Loss[] = [
  {
    service: 'producer',
    acl: 'write topic kt.*',
    says: {
      text: /^streams: .*not authorized to write to kt\.default\.events: it takes an ACL that allows WRITE/,
      ready: false,
    },
    effect: 'ready but degraded; requests are answered 503 “not stored”',
    named: 'answer, `/readyz` (streams), log',
  },
  { service: 'producer', acl: 'describe configs topic kt.*', effect: 'works', named: 'nowhere' },
  {
    service: 'consumer',
    acl: 'read topic kt.*',
    says: { text: /^partitions: not read: .*Topic authorization failed/, ready: false },
    effect: 'its partitions are paused; not ready, since all are',
    named: '`/readyz` (partitions), log',
  },
  {
    service: 'consumer',
    acl: 'write topic kt.*',
    says: { text: /^partitions: not read: .*outcomes cannot be committed: .*Topic authorization failed/, ready: true },
    effect: 'partitions with outcomes to commit are paused',
    named: '`/readyz` (partitions), log',
  },
  { service: 'consumer', acl: 'read topic kt-control', effect: 'works', named: 'nowhere' },
  {
    service: 'consumer',
    acl: 'read group kafkatrace',
    says: {
      text: /^group: not a member of the group.*: it takes an ACL that allows READ on the group kafkatrace;/,
      ready: false,
    },
    effect: 'not ready',
    named: '`/readyz` (group), log',
  },
  {
    service: 'consumer',
    acl: 'write transactional id kafkatrace-*',
    says: {
      text: /^clients: recreated.*: it takes an ACL that allows WRITE on the transactional ID kafkatrace-/,
      ready: false,
    },
    effect: 'not ready',
    named: '`/readyz` (clients), log',
  },
]

/** Requests that were answered 202. */
const stored = (): number => load?.facts.statuses[202] ?? 0

/** Takes an ACL away, waits until that is named, gives it back, and waits until the service works again. */
async function without(loss: Loss): Promise<MissingAcl> {
  const service = loss.service === 'producer' ? producer : consumer
  const acl = aclsOf(loss.service).find((one) => inWords(one) === loss.acl)
  if (acl === undefined) throw new Error(`the table has no ${loss.acl} of the ${loss.service}`)
  const logged = service.log.length
  const names = () => service.log.slice(logged).some((line) => /authori[sz]/i.test(JSON.stringify(line)))
  await kafka.deny([acl])
  if (loss.says === undefined) {
    const before = stored()
    await until(() => stored() > before + 20, { timeoutMs: SOON_MS, what: `events without ${loss.acl}` })
    expect(await readinessOf(service)).toMatchObject({ ok: true })
    expect(await namings(service)).toEqual([])
  } else {
    const { text, ready: isReady } = loss.says
    await until(
      async () => (await readinessOf(service)).ok === isReady && (await namings(service)).some((one) => text.test(one)),
      { timeoutMs: SOON_MS, what: `${text} without ${loss.acl}` },
    ).catch(async (error: Error) => {
      throw new Error(`${error.message}; it says ${JSON.stringify(await readinessOf(service))}`)
    })
    await until(names, { what: `a line in the log without ${loss.acl}` })
  }
  await kafka.allow([acl])
  await ready(service)
  const again = stored()
  await until(() => stored() > again, { timeoutMs: SOON_MS, what: `events with ${loss.acl} again` })
  return { service: loss.service, acl: loss.acl, effect: loss.effect, named: loss.named }
}

test(
  'the topics job creates all topics with its permissions, and names what it cannot create without each of them',
  async () => {
    const main = join(import.meta.dir, '../../producer/create-topics.ts')
    const jobAs = async (user: string, tenant: string) => {
      const file = join(folder, `${tenant}.json`)
      await Bun.write(file, JSON.stringify({ tenants: { [tenant]: { streams: ['events'], keys: [] } } }))
      const env = {
        ...kafka.variables(user, 'SCRAM-SHA-512'),
        TENANTS_FILE: file,
        NODE_ENV: 'production',
        LOG_FORMAT: 'json',
      }
      return run([process.execPath, main], { env, timeoutMs: TIMEOUT_MS })
    }
    const seen: MissingAcl[] = []
    const tryWithout = async ({ user, without }: (typeof JOBS)[number]): Promise<void> => {
      const { exitCode, output } = await jobAs(user, user)
      const lacks = without.operation === 'create' ? 'Authorization failed' : 'as by a user without DESCRIBE on it'
      const topic = without.pattern === 'prefixed' ? `kt.${user}.events` : without.name
      expect(output, inWords(without)).toContain(`${topic}: `)
      expect({ exitCode, output }).toEqual({ exitCode: 1, output: expect.stringContaining(lacks) })
      seen.push({ service: 'topics job', acl: inWords(without), effect: 'ends with 1', named: `log: “${lacks}”` })
    }
    // What one has created, no other can lack the right to create.
    const [first, ...others] = JOBS.toSorted((a, b) => rank(a.without) - rank(b.without))
    if (first !== undefined) await tryWithout(first)
    // Without DESCRIBE it waits a minute for what it has created.
    await Promise.all(others.filter(({ without }) => isComplete || without.operation !== 'describe').map(tryWithout))
    expect(await jobAs(userOf('topics'), 'default')).toMatchObject({ exitCode: 0 })
    await record('missing', seen, { owns: ({ service }) => service === 'topics job', same: (row) => row })
  },
  TIMEOUT_MS,
)

test(
  'without each permission the services say so, and they go on once it is given back; no event is lost or doubled',
  async () => {
    producer = await start('producer', {
      AUTH: 'off',
      CREATE_TOPICS: 'off',
    })
    consumer = await start('consumer', { TRANSACTION_TIMEOUT_MS: '5000' })
    await ready(producer)
    await ready(consumer)
    const ledger = new Ledger()
    load = startLoad({
      url: `http://127.0.0.1:${producer.started['port']}`,
      stream: 'events',
      ledger,
      random: createRandom(1),
      name: 'permissions',
      eventsPerSecond: 20,
      kinds: [PLAIN],
      keys: 10,
      keyless: 0.1,
      wrong: 0,
      repeatedAnyway: 0,
      timeoutMs: [15_000, 20_000],
    })
    const seen: MissingAcl[] = []
    for (const loss of LOSSES) seen.push(await without(loss))
    // What is not answered yet counts as unknown.
    await load.stop()
    // The producer says of no event that it does not know: what may not be written is not stored.
    const { unknown } = ledger.answers()
    await record(
      'missing',
      seen.filter(({ effect }) => unknown === 0 || !effect.includes('not stored')),
      { owns: ({ service }) => service === 'producer' || service === 'consumer', same: (row) => row },
    )
    expect(unknown).toBe(0)
    expect(load.facts.refusals[503]).toContain('not stored')
    const verdict = async () => judge(ledger.entries(), await scanStream(kafka.cluster.bootstrapServers, INPUT))
    await until(async () => (await verdict()).undecided === 0, { timeoutMs: SOON_MS, what: 'outcomes' })
    expect((await verdict()).violations).toEqual([])
    expect(holds(await verdict())).toBe(true)
  },
  TIMEOUT_MS,
)
