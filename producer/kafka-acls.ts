/** Prints the ACLs that a service needs: `bun run kafka-acls ROLE`. */
import { NAME_PATTERN } from '../shared/events/topics.ts'
import {
  ACL_FORMATS,
  ACL_ROLES,
  type AclFormat,
  type AclOptions,
  type AclRole,
  kafkaCommands,
  permissionsOf,
  rpkCommands,
  strimziResource,
  strimziUser,
  TAKES,
} from '../shared/kafka/acls.ts'
import { parseCommandLine, refuse } from '../shared/service/command-line.ts'

const HELP = `Prints the ACLs that a service needs in Kafka, and no others: bun run kafka-acls ROLE --principal PRINCIPAL

  ROLE                   ${ACL_ROLES.join(', ')}; topics: the job that creates topics
  --principal PRINCIPAL  who it is to Kafka, such as User:kafkatrace-producer
  --group-id ID          of consumer and console: the GROUP_ID (kafkatrace)
  --create-topics        of producer and console: with CREATE_TOPICS=on, their default
  --tenant NAME          only for the topics of this tenant; can be repeated
  --format FORMAT        kafka: lines for kafka-acls.sh, which use $BROKER and admin.properties (default)
                         strimzi: a KafkaUser, as YAML
                         rpk: lines for Redpanda's rpk
  --cluster NAME         of strimzi: the name of the Kafka
  --help                 this text

Nothing is sent to Kafka.
`

/** As of the variable GROUP_ID. */
const GROUP_ID = /^[A-Za-z0-9._-]{1,200}$/
/** A type and a name; no control characters, which no shell word should have. */
const PRINCIPAL = /^[A-Za-z]+:\P{Cc}+$/u

const { positionals, values } = parseCommandLine(HELP, {
  allowPositionals: true,
  options: {
    principal: { type: 'string' },
    'group-id': { type: 'string' },
    'create-topics': { type: 'boolean' },
    tenant: { type: 'string', multiple: true },
    format: { type: 'string' },
    cluster: { type: 'string' },
  },
})

const isRole = (text: string | undefined): text is AclRole => ACL_ROLES.includes(text as AclRole)
const isFormat = (text: string): text is AclFormat => ACL_FORMATS.includes(text as AclFormat)

const [role, ...more] = positionals
if (!isRole(role) || more.length > 0) refuse(`one ROLE is needed: ${ACL_ROLES.join(', ')}`, HELP)
const { principal, cluster, tenant: tenants = [], format = 'kafka' } = values
const groupId = values['group-id']
const createTopics = values['create-topics']

const given: Readonly<Record<keyof AclOptions, string | undefined>> = {
  groupId: groupId === undefined ? undefined : '--group-id',
  createTopics: createTopics === undefined ? undefined : '--create-topics',
  tenants: tenants.length === 0 ? undefined : '--tenant',
}
for (const [name, option] of Object.entries(given))
  if (option !== undefined && !TAKES[role].includes(name as keyof AclOptions))
    refuse(`${option} changes nothing for ${role}: leave it out`, HELP)
if (principal === undefined || !PRINCIPAL.test(principal))
  refuse('--principal is needed, with its type: such as User:kafkatrace-producer', HELP)
if (groupId !== undefined && !GROUP_ID.test(groupId)) refuse('--group-id takes A-Z, a-z, 0-9, ".", "_" and "-"', HELP)
for (const tenant of tenants)
  if (!new RegExp(NAME_PATTERN).test(tenant)) refuse(`--tenant ${tenant}: a tenant's name is of a-z, 0-9 and "-"`, HELP)
if (!isFormat(format)) refuse(`--format takes ${ACL_FORMATS.join(', ')}`, HELP)
if ((cluster !== undefined) !== (format === 'strimzi'))
  refuse('--cluster NAME goes with --format strimzi: the name of the Kafka that the user is for', HELP)

const permissions = permissionsOf(role, {
  groupId: groupId ?? 'kafkatrace',
  createTopics: createTopics === true,
  tenants,
})
/** All formats take # for a comment. */
const ending = TAKES[role].includes('createTopics')
  ? `# ${createTopics === true ? 'For CREATE_TOPICS=on.' : 'For CREATE_TOPICS=off. It is on by default: that takes --create-topics.'}\n`
  : ''
switch (format) {
  case 'kafka':
    process.stdout.write(kafkaCommands(principal, permissions) + ending)
    break
  case 'rpk':
    process.stdout.write(rpkCommands(principal, permissions) + ending)
    break
  case 'strimzi':
    if (strimziUser(principal) === undefined)
      refuse(
        `a KafkaUser's principal is User:NAME or User:CN=NAME, with a name that Kubernetes takes, and not ${principal}`,
        HELP,
      )
    process.stdout.write(strimziResource(principal, cluster as string, permissions) + ending)
}
