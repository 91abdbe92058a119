import type { CommonConfig } from '../config.ts'
import type { Logger } from '../logger.ts'
import {
  CODE,
  connectForever,
  connectionSettings,
  type LibrdKafkaError,
  native,
  type Producer,
  promised,
} from './client.ts'
import type { TopicAdmin } from './types.ts'

const METADATA_TIMEOUT_MS = 5_000
const CREATE_TIMEOUT_MS = 5_000

/** How long a topic that was created may take to be seen, and how often it is looked for. */
const VISIBLE_TIMEOUT_MS = 10_000
const LOOK_INTERVAL_MS = 50

/** Creates topics. Connects at first use, for ever with back-off, until closed. */
export function createTopicAdmin(options: { config: CommonConfig; clientId: string; log: Logger }): TopicAdmin {
  const { config, clientId, log } = options
  const stopping = new AbortController()
  /** Topics are made by asking for them. */
  let byName = false
  let connecting: Promise<Producer | undefined> | undefined

  // Of the clients, a producer is the lightest that can ask for metadata; the admin client shares its connections.
  const connected = () =>
    (connecting ??= connectForever(
      () => new (native().Producer)(connectionSettings(config, clientId)),
      (reason) => log.warn({ reason }, 'cannot reach Kafka to create topics; trying again'),
      stopping.signal,
    ))

  return {
    async ensureTopics(topics, { partitions, replication }) {
      const client = await connected()
      if (client === undefined) throw new Error('closed before Kafka was reached')
      const existing = await partitionCounts(client)
      const counts = new Map(topics.flatMap((topic) => [[topic, existing.get(topic)]] as const))
      const missing = topics.filter((topic) => counts.get(topic) === undefined)
      const present = [...counts].filter(([, count]) => count !== undefined)
      const [first] = present
      if (present.some(([, count]) => count !== first?.[1]))
        throw new Error(
          `topics that belong together have different numbers of partitions: ${present.map(([topic, count]) => `${topic} ${count}`).join(', ')}`,
        )
      if (missing.length === 0) return
      // What is there already decides, so that all stay co-partitioned.
      const wanted = first?.[1] ?? partitions
      const admin = native().AdminClient.createFrom(client)
      const refused: string[] = []
      // A stream's own topic stands first and is made last: once it is there, its readers expect the others.
      for (const topic of missing.toReversed()) {
        const error = byName ? undefined : await createTopic(admin, topic, wanted, replication)
        // librdkafka's mock cluster, always one broker, never answers this request; it makes a topic when asked for it by name. A cluster that
        // is only slow must not be asked so: it may make topics as well, with a number of partitions that nobody chose.
        byName ||= error?.code === CODE.TIMED_OUT && (await brokerCount(client)) === 1
        if (byName ? await comesIntoBeing(client, topic) : isThere(error)) continue
        refused.push(`${topic}: ${error?.message ?? 'it does not come into being'}`)
      }
      if (refused.length > 0) throw new Error(`topics cannot be created: ${refused.join('; ')}`)
      const deadline = performance.now() + VISIBLE_TIMEOUT_MS
      for (;;) {
        const seen = await partitionCounts(client)
        const unseen = missing.filter((topic) => !seen.has(topic))
        if (unseen.length === 0) break
        if (performance.now() > deadline)
          throw new Error(`topics are not seen after their creation: ${unseen.join(', ')}`)
        await Bun.sleep(LOOK_INTERVAL_MS)
      }
      log.info({ topics: missing, partitions: wanted, replication }, 'topics were created')
    },
    async close() {
      stopping.abort()
      const client = await connecting
      if (client !== undefined) await promised((done) => client.disconnect(0, (error) => done(error)))
    },
  }
}

type Admin = ReturnType<ReturnType<typeof native>['AdminClient']['createFrom']>

async function createTopic(
  admin: Admin,
  topic: string,
  partitions: number,
  replication: number,
): Promise<LibrdKafkaError | undefined> {
  try {
    await promised((done) =>
      admin.createTopic(
        { topic, num_partitions: partitions, replication_factor: replication },
        CREATE_TIMEOUT_MS,
        (error) => done(error),
      ),
    )
    return undefined
  } catch (error) {
    return error as LibrdKafkaError
  }
}

const isThere = (error: LibrdKafkaError | undefined): boolean =>
  error === undefined || error.code === CODE.TOPIC_ALREADY_EXISTS

interface Metadata {
  brokers: unknown[]
  topics: { name: string; partitions: unknown[] }[]
}

const metadata = (client: Producer, topic?: string): Promise<Metadata> =>
  promised((done) =>
    client.getMetadata(
      { timeout: METADATA_TIMEOUT_MS, ...(topic === undefined ? { allTopics: true } : { topic }) },
      (error, value) => done(error, value),
    ),
  )

const brokerCount = async (client: Producer): Promise<number> => (await metadata(client)).brokers.length

/** How many partitions each topic has; those without any are about to be created, or to go. */
async function partitionCounts(client: Producer, topic?: string): Promise<Map<string, number>> {
  const { topics } = await metadata(client, topic)
  return new Map(topics.filter((one) => one.partitions.length > 0).map((one) => [one.name, one.partitions.length]))
}

async function comesIntoBeing(client: Producer, topic: string): Promise<boolean> {
  const deadline = performance.now() + VISIBLE_TIMEOUT_MS
  while (performance.now() < deadline) {
    const counts = await partitionCounts(client, topic).catch(() => new Map<string, number>())
    if (counts.has(topic)) return true
    await Bun.sleep(LOOK_INTERVAL_MS)
  }
  return false
}
