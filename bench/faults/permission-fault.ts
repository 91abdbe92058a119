import { type Acl, createAcls, deleteAcls } from '../../shared/dev/brokers/wire-admin.ts'
import { ALWAYS, SOMETIMES } from './kinds.ts'
import { PATIENT_MS, PLAIN } from './load.ts'
import { DEFAULT_TIMES, type Fault, GROUP, TOPICS } from './stage.ts'

/** ACLs that the services' users lose for a while. */

const CALL_TIMEOUT_MS = 10_000
const PASSWORD = 'of-a-test'
const [INPUT = '', RETRY = '', DLQ = '', PROCESSED = ''] = TOPICS

const acl = (user: string, operation: Acl['operation'], resource: Acl['resource'], name: string): Acl => ({
  principal: `User:${user}`,
  resource,
  name,
  pattern: 'literal',
  operation,
})

/** All ACLs that the services need when their topics exist. */
const ACLS: readonly Acl[] = [
  acl('producer', 'write', 'topic', INPUT),
  ...[RETRY, DLQ, PROCESSED].map((topic) => acl('producer', 'describe', 'topic', topic)),
  ...[INPUT, RETRY, DLQ, PROCESSED].map((topic) => acl('consumer', 'read', 'topic', topic)),
  ...[RETRY, DLQ, PROCESSED].map((topic) => acl('consumer', 'write', 'topic', topic)),
  acl('consumer', 'read', 'group', GROUP),
  // Its transactional IDs begin with the group's name.
  { ...acl('consumer', 'write', 'transactional id', `${GROUP}-`), pattern: 'prefixed' },
]

const as = (user: string): Record<string, string> => ({
  KAFKA_SECURITY_PROTOCOL: 'sasl_plaintext',
  KAFKA_SASL_MECHANISM: 'PLAIN',
  KAFKA_SASL_USERNAME: user,
  KAFKA_SASL_PASSWORD: PASSWORD,
})

const serverOf = (servers: string): string => servers.split(',')[0] ?? ''

export const PERMISSION_FAULT: Fault = {
  name: 'permissions',
  what: 'each permission of the services’ users is taken away and given back: they go on by themselves',
  users: { producer: PASSWORD, consumer: PASSWORD },
  permit: (kafka) => createAcls(serverOf(kafka.bootstrapServers), CALL_TIMEOUT_MS, ACLS),
  env: {
    producer: { ...DEFAULT_TIMES.producer, ...as('producer') },
    consumer: { ...DEFAULT_TIMES.consumer, ...as('consumer') },
  },
  async play(stage) {
    const server = serverOf(stage.kafka().bootstrapServers)
    const load = stage.load({
      eventsPerSecond: 200,
      // Every topic is written to.
      kinds: [{ ...PLAIN, weight: 20 }, SOMETIMES, { ...ALWAYS, weight: 0.3 }],
      timeoutMs: PATIENT_MS,
    })
    for (const one of stage.short ? [stage.random.pick(ACLS as [Acl, ...Acl[]])] : ACLS) {
      await stage.pause(1_000, 2_000)
      await deleteAcls(server, CALL_TIMEOUT_MS, [one])
      stage.did('permission taken away')
      await stage.pause(4_000, stage.short ? 6_000 : 15_000)
      await createAcls(server, CALL_TIMEOUT_MS, [one])
      await stage.recovered(`${one.principal} may ${one.operation} the ${one.resource} ${one.name} again`, 'ordinary')
    }
    await load.stop()
  },
}
