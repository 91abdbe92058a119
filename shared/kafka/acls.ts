import { CONTROL_TOPIC } from '../events/topics.ts'

/** What each service may do in Kafka: the one table from which the command, the documentation and the tests take it. */

export const ACL_ROLES = ['producer', 'consumer', 'console', 'topics'] as const

/** Who connects: a service, or the job that creates topics. */
export type AclRole = (typeof ACL_ROLES)[number]

export const ACL_FORMATS = ['kafka', 'strimzi', 'rpk'] as const
export type AclFormat = (typeof ACL_FORMATS)[number]

/** By Kafka's names for them, in lower case. */
export type Operation = 'read' | 'write' | 'create' | 'describe' | 'describe configs'
export type Resource = 'topic' | 'group' | 'transactional id'

/** Operations on the resources of a name or prefix. */
export interface Permission {
  resource: Resource
  name: string
  pattern: 'literal' | 'prefixed'
  operations: readonly Operation[]
  /** What it is for. */
  why: string
  /** Without it, the service does its work all the same. */
  isOptional?: boolean
}

export interface AclOptions {
  /** The consumers' group. */
  groupId: string
  /** `CREATE_TOPICS=on` of the producer and the console. */
  createTopics: boolean
  /** Names of tenants whose topics the service may use; none: those of all. */
  tenants: readonly string[]
}

/** Which options a role takes; the others change nothing for it. */
export const TAKES: Readonly<Record<AclRole, readonly (keyof AclOptions)[]>> = {
  producer: ['createTopics', 'tenants'],
  consumer: ['groupId', 'tenants'],
  console: ['groupId', 'createTopics', 'tenants'],
  topics: ['tenants'],
}

/** The fewest permissions with which a role does all of its work. */
export function permissionsOf(role: AclRole, { groupId, createTopics, tenants }: AclOptions): Permission[] {
  const prefixes = tenants.length === 0 ? ['kt.'] : tenants.map((tenant) => `kt.${tenant}.`)
  const topics = (operations: readonly Operation[], why: string, isOptional?: boolean): Permission[] =>
    prefixes.map((name) => ({
      resource: 'topic',
      name,
      pattern: 'prefixed',
      operations,
      why,
      ...(isOptional === true && { isOptional }),
    }))
  const control = (operations: readonly Operation[], why: string): Permission => ({
    resource: 'topic',
    name: CONTROL_TOPIC,
    pattern: 'literal',
    operations,
    why,
  })
  const group = (operation: Operation, why: string): Permission => ({
    resource: 'group',
    name: groupId,
    pattern: 'literal',
    operations: [operation],
    why,
  })
  const transactions = (name: string): Permission => ({
    resource: 'transactional id',
    name,
    pattern: 'prefixed',
    operations: ['write'],
    why: 'to write in transactions',
  })
  switch (role) {
    case 'producer':
      return [
        ...topics(['write'], 'to store events'),
        ...topics(['describe configs'], 'to refuse what a topic’s settings refuse before anything is sent', true),
        ...(createTopics ? topics(['create'], 'CREATE_TOPICS=on: to create the topics of streams') : []),
      ]
    case 'consumer':
      return [
        ...topics(['read', 'write'], 'to read events and write their outcomes'),
        control(['read'], 'to see which streams are paused'),
        group('read', 'to be a member of the group and commit'),
        transactions(`${groupId}-`),
      ]
    case 'console':
      return [
        ...topics(['read', 'write'], 'to find events, and act on dead letters'),
        control(['read', 'write'], 'to pause and resume streams'),
        group('describe', 'to show status and lag'),
        transactions(`${groupId}-console.`),
        ...(createTopics
          ? [
              ...topics(['create'], 'CREATE_TOPICS=on: to create the .acts of streams'),
              control(['create'], 'CREATE_TOPICS=on'),
            ]
          : []),
      ]
    case 'topics':
      return [
        ...topics(['create', 'describe'], 'to create the topics of streams and see those that exist'),
        control(['create', 'describe'], 'to create it'),
      ]
  }
}

/** A permission taken apart: one ACL, as Kafka stores it. */
export interface SingleAcl {
  principal: string
  resource: Resource
  name: string
  pattern: 'literal' | 'prefixed'
  operation: Operation
}

export const singleAcls = (principal: string, permissions: readonly Permission[]): SingleAcl[] =>
  permissions.flatMap(({ resource, name, pattern, operations }) =>
    operations.map((operation) => ({ principal, resource, name, pattern, operation })),
  )

/** `describe configs` as `DescribeConfigs`, for `kafka-acls.sh` and Strimzi. */
const inWords = (operation: Operation): string =>
  operation.replace(/(?:^| )([a-z])/g, (_, first: string) => first.toUpperCase())

/** A word of a POSIX shell. */
export const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** A value of a flag that `rpk` splits at commas, as a line of CSV (RFC 4180). */
const csvValue = (text: string): string => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

const comment = ({ why, isOptional }: Permission): string => `# ${isOptional === true ? 'Optional: ' : ''}${why}`

const OPTION: Readonly<Record<Resource, string>> = {
  topic: '--topic',
  group: '--group',
  'transactional id': '--transactional-id',
}

/** Lines for `kafka-acls.sh`, of Apache Kafka. `$BROKER` is left to the shell. */
export function kafkaCommands(principal: string, permissions: readonly Permission[]): string {
  return permissions
    .map((permission) => {
      const { resource, name, pattern, operations } = permission
      const words = [
        ...operations.flatMap((operation) => ['--operation', inWords(operation)]),
        ...(pattern === 'prefixed' ? ['--resource-pattern-type', 'prefixed'] : []),
        OPTION[resource],
        shellWord(name),
      ]
      return `${comment(permission)}\nkafka-acls.sh --bootstrap-server "$BROKER" --command-config admin.properties --add --allow-principal ${shellWord(principal)} ${words.join(' ')}\n`
    })
    .join('')
}

/** Lines for Redpanda's `rpk`. It knows the cluster from its profile or `RPK_BROKERS`. */
export function rpkCommands(principal: string, permissions: readonly Permission[]): string {
  return permissions
    .map((permission) => {
      const { resource, name, pattern, operations } = permission
      const words = [
        '--operation',
        operations.map((operation) => operation.replaceAll(' ', '_')).join(','),
        ...(pattern === 'prefixed' ? ['--resource-pattern-type', 'prefixed'] : []),
        OPTION[resource],
        shellWord(csvValue(name)),
      ]
      return `${comment(permission)}\nrpk security acl create --allow-principal ${shellWord(csvValue(principal))} ${words.join(' ')}\n`
    })
    .join('')
}

const STRIMZI_RESOURCE: Readonly<Record<Resource, string>> = {
  topic: 'topic',
  group: 'group',
  'transactional id': 'transactionalId',
}

/** A name of an object in Kubernetes (RFC 1123 subdomain). */
const OBJECT_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/**
 * The name of the KafkaUser that a principal is of, and how it proves who it is: Strimzi's certificates have the user's name as their CN.
 * @returns undefined where no KafkaUser can have this principal
 */
export function strimziUser(principal: string): { name: string; authentication: 'tls' | 'scram-sha-512' } | undefined {
  const [, isOfCertificate, name = ''] = /^User:(CN=)?(.*)$/.exec(principal) ?? []
  if (!OBJECT_NAME.test(name)) return undefined
  return { name, authentication: isOfCertificate === undefined ? 'scram-sha-512' : 'tls' }
}

/**
 * A KafkaUser of Strimzi's API v1, as YAML.
 * @param cluster the name of its Kafka
 * @throws Error where {@link strimziUser} has none
 */
export function strimziResource(principal: string, cluster: string, permissions: readonly Permission[]): string {
  const user = strimziUser(principal)
  if (user === undefined) throw new Error(`no KafkaUser has the principal ${principal}`)
  // JSON's strings are YAML's: nothing is taken for a number or for true.
  const text = (value: string): string => JSON.stringify(value)
  const acls = permissions.map((permission) => {
    const { resource, name, pattern, operations } = permission
    return `      ${comment(permission)}
      - resource:
          type: ${STRIMZI_RESOURCE[resource]}
          name: ${text(name)}
          patternType: ${pattern === 'prefixed' ? 'prefix' : 'literal'}
        operations: [${operations.map(inWords).join(', ')}]
`
  })
  return `apiVersion: kafka.strimzi.io/v1
kind: KafkaUser
metadata:
  name: ${text(user.name)}
  labels:
    strimzi.io/cluster: ${text(cluster)}
spec:
  authentication:
    type: ${user.authentication}
  authorization:
    type: simple
    acls:
${acls.join('')}`
}
