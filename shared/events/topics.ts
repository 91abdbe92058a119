/** Topic names: `kt.<tenant>.<stream>` and, beside it, `.retry`, `.dlq` and `.processed` with as many partitions. */

/**
 * Names of tenants and streams: lower-case letters, digits and `-`, at most 63 characters. No `.`, so that names map to distinct topics, and no `_`, since Kafka
 * refuses topics that differ only in `.` and `_`: a stream `orders_retry` would collide with the `.retry` topic of `orders`.
 */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9-]{0,62}$'

/** The only tenant with AUTH=off. */
export const DEFAULT_TENANT = 'default'

/** The suffixes of the topics beside a stream's input topic. */
export const TOPIC_ROLES = ['retry', 'dlq', 'processed'] as const
export type TopicRole = (typeof TOPIC_ROLES)[number]

export const inputTopic = (tenant: string, stream: string): string => `kt.${tenant}.${stream}`

export const siblingTopic = (input: string, role: TopicRole): string => `${input}.${role}`

/** A stream's four topics, the input topic first. */
export const streamTopics = (tenant: string, stream: string): [string, ...string[]] => {
  const input = inputTopic(tenant, stream)
  return [input, ...TOPIC_ROLES.map((role) => siblingTopic(input, role))]
}

/** Which streams an operator has paused (control.ts). One partition, compacted. */
export const CONTROL_TOPIC = 'kt-control'

/** Matches the input topics of all tenants. Also a POSIX extended expression, since librdkafka evaluates it. */
export const INPUT_TOPICS = /^kt[.][a-z0-9-]+[.][a-z0-9-]+$/

/** Tenant, stream and role of one of a stream's topics; undefined for any other topic. */
export const parseTopic = (
  topic: string,
): { tenant: string; stream: string; input: string; role: TopicRole | 'input' } | undefined => {
  const match = /^(kt[.]([a-z0-9-]+)[.]([a-z0-9-]+))(?:[.](retry|dlq|processed))?$/.exec(topic)
  if (match === null) return undefined
  const [, input = '', tenant = '', stream = '', role] = match
  return { tenant, stream, input, role: (role as TopicRole | undefined) ?? 'input' }
}

/** A stream's topic of acts: what was done to its dead letters and to itself, and by whom. It has one partition. */
export const actsTopic = (input: string): string => `${input}.acts`

/** Topic settings: of streams’ pauses the last counts, and acts are kept for good, since a dead letter that was acted on must not be acted on again. */
export const CONTROL_SETTINGS = { 'cleanup.policy': 'compact' } as const
export const ACTS_SETTINGS = { 'cleanup.policy': 'delete', 'retention.ms': '-1', 'retention.bytes': '-1' } as const
