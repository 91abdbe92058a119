/** The permissions of the services in Kafka, in the documentation: from the table that `bun run kafka-acls` prints. */
import {
  ACL_ROLES,
  type AclOptions,
  type AclRole,
  kafkaCommands,
  type Permission,
  permissionsOf,
} from '../shared/kafka/acls.ts'
import { withMarked } from './marked.ts'

/** With the table of permissions. */
export const SECURITY_PAGE = 'docs/security.md'
/** With the commands that grant them. */
export const OPERATIONS_PAGE = 'docs/operations.md'

/** The longest lists: what only some need says so. */
const OPTIONS: AclOptions = { groupId: 'kafkatrace', createTopics: true, tenants: [] }

const NAMES: Readonly<Record<AclRole, string>> = {
  producer: 'producer',
  consumer: 'consumer',
  console: 'console',
  topics: 'topics job (`producer/create-topics.ts`)',
}

/** Names in the table stand for any group. */
const named = ({ resource, name, pattern }: Permission): string => {
  const text = name.replace(OPTIONS.groupId, 'GROUP_ID')
  return `${resource} \`${text}\`${pattern === 'prefixed' ? ' (prefixed)' : ''}`
}

/** As a Markdown table. */
export function permissionsMarkdown(): string {
  const rows = ACL_ROLES.flatMap((role) =>
    permissionsOf(role, OPTIONS).map((permission) => {
      const operations = permission.operations.map((operation) => operation.toUpperCase().replace(' ', '_')).join(', ')
      const why = permission.isOptional === true ? `optional: ${permission.why}` : permission.why
      return `| ${NAMES[role]} | ${named(permission)} | ${operations} | ${why} |\n`
    }),
  )
  return `| service | resource | operations | for |\n|---|---|---|---|\n${rows.join('')}`
}

const USERS: Readonly<Record<AclRole, string>> = {
  producer: 'User:kafkatrace-producer',
  consumer: 'User:kafkatrace-consumer',
  console: 'User:kafkatrace-console',
  topics: 'User:kafkatrace-topics',
}

/** The commands of all roles, as a block of a shell. */
export function commandsMarkdown(): string {
  const blocks = ACL_ROLES.map((role) => kafkaCommands(USERS[role], permissionsOf(role, OPTIONS)))
  return `\`\`\`sh\n${blocks.join('\n')}\`\`\`\n`
}

export const withPermissions = (page: string): string =>
  withMarked(page, 'permissions', permissionsMarkdown(), SECURITY_PAGE)

export const withCommands = (page: string): string => withMarked(page, 'acls', commandsMarkdown(), OPERATIONS_PAGE)
