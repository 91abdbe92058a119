import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { type Backoff, delayMs, sleep } from '../service/retry.ts'
import {
  CODE,
  closeClient,
  clusterMetadata,
  connectForever,
  connectionSettings,
  type LibrdKafkaError,
  native,
  type Producer,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { securityOf } from './security.ts'
import { createTopics, describeTopics, ownSettings } from './topic-requests.ts'
import { type TopicAdmin, UnreachableError } from './types.ts'

const METADATA_TIMEOUT_MS = 5_000

/** How long a request to create topics may take; thousands of partitions take a broker seconds. */
const CREATE_TIMEOUT_MS = 30_000

/** How long new topics may take to appear, since a broker creates files one topic after the other, and how often they are looked for. */
const VISIBLE_TIMEOUT_MS = 60_000
const LOOK_BACKOFF: Backoff = { firstMs: 50, maxMs: 1_000 }

/** Apache Kafka's controller refuses a request that takes more than 10,000 records, one for each topic and each partition. */
const MAX_REQUEST_RECORDS = 9_000

/** What a broker creates within a second or two, counted in the same way. */
const TOGETHER_RECORDS = 500

/** At most this many topics are named in one line of the log. */
const LOGGED_TOPICS = 10

const NOT_SEEN = 'it is not seen after its creation, as by a user without DESCRIBE on it'

type Options = Parameters<TopicAdmin['ensureGroups']>[1]

/** Topics that belong together and must have the same number of partitions. */
interface Group {
  topics: readonly string[]
  missing: string[]
  /** For the missing ones. */
  partitions: number
  fault: string | undefined
}

/**
 * Creates topics. Connects at first use, retrying with back-off until it is closed.
 * @param options.connectTimeoutMs after which connecting ends with an {@link UnreachableError}; undefined: never
 */
export function createTopicAdmin(options: {
  config: CommonConfig
  clientId: string
  log: Logger
  connectTimeoutMs?: number
}): TopicAdmin {
  const { config, clientId, log, connectTimeoutMs } = options
  const stopping = new AbortController()
  const watch = watchConnection({ config, client: 'topics', log })
  /** Whether topics are created by requesting their metadata. */
  let byName = false
  let connecting: Promise<Producer | undefined> | undefined
  /** Topics that were already logged as smaller than wanted: creation is tried again and again. */
  const smaller = new Set<string>()

  // A producer is the lightest client that can request metadata and create topics.
  const connected = () =>
    (connecting ??= connectForever(
      securityOf(config, log),
      (secured) => watch.attach(new (native().Producer)({ ...connectionSettings(config, clientId), ...secured })),
      watch.failed,
      connectTimeoutMs === undefined
        ? stopping.signal
        : AbortSignal.any([stopping.signal, AbortSignal.timeout(connectTimeoutMs)]),
    ))

  function warnOfSmaller(topics: readonly string[], existing: ReadonlyMap<string, number>, wanted: number): void {
    const found = topics.filter((topic) => (existing.get(topic) ?? wanted) < wanted && !smaller.has(topic))
    if (found.length === 0) return
    for (const topic of found) smaller.add(topic)
    const first = found.slice(0, LOGGED_TOPICS).map((topic) => `${topic}: ${existing.get(topic)}`)
    log.warn({ topics: found.length, first, wanted }, 'topics exist with fewer partitions than TOPIC_PARTITIONS')
  }

  /** @returns by topic: why it was not created */
  async function create(client: Producer, topics: readonly string[], of: Options): Promise<Map<string, string>> {
    const refused = new Map<string, string>()
    if (!byName) {
      try {
        for (const { topic, code, message } of await createTopics(client, topics, {
          ...of,
          timeoutMs: CREATE_TIMEOUT_MS,
        }))
          if (code !== 0 && code !== CODE.TOPIC_ALREADY_EXISTS) refused.set(topic, message)
        return refused
      } catch (thrown) {
        const error = thrown as LibrdKafkaError
        // librdkafka's mock cluster of one broker cannot create topics, except on demand. Other clusters are not asked to: they would choose the
        // number of partitions.
        byName =
          error.code === CODE.UNKNOWN_BROKER &&
          (await clusterMetadata(client, METADATA_TIMEOUT_MS)).brokers.length === 1
        if (!byName) return new Map(topics.map((topic) => [topic, error.message]))
      }
    }
    for (const topic of topics)
      if (!(await comesIntoBeing(client, topic))) refused.set(topic, 'it does not come into being')
    return refused
  }

  /** Waits until the topics appear. @returns those that do not */
  async function unseen(client: Producer, topics: readonly string[]): Promise<readonly string[]> {
    const deadline = performance.now() + VISIBLE_TIMEOUT_MS
    let missing = topics
    for (let attempt = 1; ; attempt++) {
      const seen = await partitionCounts(client, missing)
      missing = missing.filter((topic) => !seen.has(topic))
      if (missing.length === 0 || performance.now() > deadline || stopping.signal.aborted) return missing
      await sleep(delayMs(LOOK_BACKOFF, attempt), stopping.signal)
    }
  }

  async function reached(): Promise<Producer> {
    const client = await connected()
    if (client === undefined)
      throw stopping.signal.aborted
        ? new Error('closed before Kafka was reached')
        : new UnreachableError(`no broker answered within ${(connectTimeoutMs ?? 0) / 1_000} s`)
    watch.connected()
    return client
  }

  async function ensureGroups(given: readonly (readonly string[])[], of: Options) {
    const { partitions, replication } = of
    const client = await reached()
    const existing = await partitionCounts(client, given.flat())
    warnOfSmaller(given.flat(), existing, partitions)
    const groups = given.map((topics) => groupOf(topics, existing, partitions))
    const refused = new Map<string, string>()
    const created: string[] = []
    for (const { topics, partitions: each } of requestsFor(groups)) {
      const reasons = await create(client, topics, { ...of, partitions: each })
      for (const [topic, reason] of reasons) refused.set(topic, reason)
      created.push(...topics.filter((topic) => !reasons.has(topic)))
    }
    const notSeen = new Set(created.length === 0 ? [] : await unseen(client, created))
    if (created.length > 0)
      log.info(
        { topics: created.length, first: created.slice(0, LOGGED_TOPICS), partitionsEach: partitions, replication },
        'topics created',
      )
    return groups.map(({ missing, fault }) => {
      if (fault !== undefined) return fault
      const why = missing.flatMap((topic) => {
        const reason = refused.get(topic) ?? (notSeen.has(topic) ? NOT_SEEN : undefined)
        return reason === undefined ? [] : [`${topic}: ${reason}`]
      })
      return why.length === 0 ? undefined : `topics cannot be created: ${why.join('; ')}`
    })
  }

  return {
    ensureGroups,
    settings: async (topics) => ownSettings(await reached(), topics, METADATA_TIMEOUT_MS),
    async close() {
      stopping.abort()
      watch.closed()
      const client = await connecting
      if (client !== undefined) await closeClient(log, 'admin client', (done) => client.disconnect(0, done))
    },
  }
}

function groupOf(topics: readonly string[], existing: ReadonlyMap<string, number>, partitions: number): Group {
  const present = topics.flatMap((topic) => {
    const count = existing.get(topic)
    return count === undefined ? [] : [{ topic, count }]
  })
  const [first] = present
  const missing = topics.filter((topic) => !existing.has(topic))
  const differ = present.some(({ count }) => count !== first?.count)
  return {
    topics,
    missing: differ ? [] : missing,
    // As the existing ones, so that all stay co-partitioned.
    partitions: first?.count ?? partitions,
    fault: differ
      ? `topics that belong together have different numbers of partitions: ${present.map(({ topic, count }) => `${topic} ${count}`).join(', ')}`
      : undefined,
  }
}

/**
 * The requests that create what is missing. A small number of topics is created together. Otherwise the first topic of each group comes before the
 * others: a broker takes seconds for thousands of partitions, and events can be accepted as soon as the first topics exist.
 */
export function requestsFor(
  groups: readonly Omit<Group, 'fault'>[],
): { topics: readonly string[]; partitions: number }[] {
  const records = groups.reduce((sum, { missing, partitions }) => sum + missing.length * (1 + partitions), 0)
  const wanted = groups.flatMap(({ topics, missing, partitions }) =>
    missing.map((topic) => ({ topic, partitions, isFirst: topic === topics[0] })),
  )
  const rounds =
    records <= TOGETHER_RECORDS ? [wanted] : [true, false].map((first) => wanted.filter((one) => one.isFirst === first))
  return rounds.flatMap((round) => {
    const byPartitions = Map.groupBy(round, ({ partitions }) => partitions)
    return [...byPartitions].flatMap(([partitions, each]) => {
      const topics = each.map(({ topic }) => topic)
      const most = Math.max(1, Math.floor(MAX_REQUEST_RECORDS / (1 + partitions)))
      return Array.from({ length: Math.ceil(topics.length / most) }, (_, index) => ({
        topics: topics.slice(index * most, (index + 1) * most),
        partitions,
      }))
    })
  })
}

/** Partitions by topic. A topic without any is being created or deleted, and is left out. */
async function partitionCounts(client: Producer, topics: readonly string[]): Promise<Map<string, number>> {
  const described = await describeTopics(client, topics, METADATA_TIMEOUT_MS).catch(async () =>
    (await clusterMetadata(client, METADATA_TIMEOUT_MS)).topics.map(({ name, partitions }) => ({
      topic: name,
      partitions: partitions.length,
    })),
  )
  return new Map(described.flatMap(({ topic, partitions }) => (partitions > 0 ? [[topic, partitions] as const] : [])))
}

/** Requests a topic's metadata until the topic exists. */
async function comesIntoBeing(client: Producer, topic: string): Promise<boolean> {
  const deadline = performance.now() + BY_NAME_TIMEOUT_MS
  for (let attempt = 1; performance.now() < deadline; attempt++) {
    const found = await clusterMetadata(client, METADATA_TIMEOUT_MS, topic).catch(() => undefined)
    if (found?.topics.some(({ name, partitions }) => name === topic && partitions.length > 0) === true) return true
    await sleep(delayMs(LOOK_BACKOFF, attempt))
  }
  return false
}

/** How long a topic may take to be created on demand. */
const BY_NAME_TIMEOUT_MS = 10_000
