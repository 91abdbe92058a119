/** Topic names: `kt.<tenant>.<stream>` and, beside it, `.retry`, `.dlq` and `.processed` with as many partitions. */

/**
 * Tenants and streams: lower-case letters, digits and `-`, at most 63 characters. No `.`, so that no two names give one topic, and no `_`, since
 * Kafka refuses a topic that differs from another in `.` against `_` only: a stream `orders_retry` would clash with `orders`' own `.retry`.
 */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9-]{0,62}$'

/** The tenant that there is with AUTH=off. */
export const DEFAULT_TENANT = 'default'

/** The suffixes of the topics beside a stream's own. */
export const TOPIC_ROLES = ['retry', 'dlq', 'processed'] as const
export type TopicRole = (typeof TOPIC_ROLES)[number]

export const inputTopic = (tenant: string, stream: string): string => `kt.${tenant}.${stream}`

export const siblingTopic = (input: string, role: TopicRole): string => `${input}.${role}`

/** A stream's four topics, its own first. */
export const streamTopics = (tenant: string, stream: string): string[] => {
  const input = inputTopic(tenant, stream)
  return [input, ...TOPIC_ROLES.map((role) => siblingTopic(input, role))]
}

/** Matches the streams' own topics of every tenant. A POSIX extended expression as well, since librdkafka evaluates it. */
export const INPUT_TOPICS = /^kt[.][a-z0-9-]+[.][a-z0-9-]+$/

/** Tenant and stream of a stream's own topic or of one beside it; undefined for a name that is not ours. */
export const parseTopic = (
  topic: string,
): { tenant: string; stream: string; input: string; role: TopicRole | 'input' } | undefined => {
  const match = /^(kt[.]([a-z0-9-]+)[.]([a-z0-9-]+))(?:[.](retry|dlq|processed))?$/.exec(topic)
  if (match === null) return undefined
  const [, input = '', tenant = '', stream = '', role] = match
  return { tenant, stream, input, role: (role as TopicRole | undefined) ?? 'input' }
}
