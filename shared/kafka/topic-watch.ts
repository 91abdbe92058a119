import type { Logger } from '../service/logger.ts'
import { clusterMetadata, type Producer } from './client.ts'
import { type Described, describeTopics, NOT_AUTHORIZED, topicSettings, unmadeTopics } from './topic-requests.ts'
import { NOT_THERE, type RecordProducer, type TopicSettings } from './types.ts'

/** How often partitions, settings and permissions are looked up; all can change at any time. */
const LOOK_INTERVAL_MS = 10_000

/** The same while a topic cannot be written to. */
const BLOCKED_LOOK_INTERVAL_MS = 500

const LOOK_TIMEOUT_MS = 5_000

/** How long a refusal counts when the broker does not say who may write, or what; after it the next record is a try. */
const REFUSAL_MS = 5_000

/** At most this many topics are named in one line of the log. */
const LOGGED_TOPICS = 10

const UNKNOWN_SETTINGS: TopicSettings = { maxMessageBytes: undefined, isCompacted: false }

/** By topic: when a broker last refused something, monotonic. */
type Refusals = Map<string, number>

const isRecent = (refusals: Refusals, topic: string): boolean =>
  performance.now() - (refusals.get(topic) ?? Number.NEGATIVE_INFINITY) < REFUSAL_MS

/** Knows, by asking at intervals, whether topics can be written to, their partitions and their settings. */
interface TopicWatch extends Pick<RecordProducer, 'watch' | 'blocked' | 'making' | 'partitionCount' | 'settings'> {
  /** Asks with this client from now on. Resolves after the first look; undefined ends the looks. */
  use(kafka: Producer | undefined): Promise<void>
  /** A broker has refused a record for lack of permission. Blocks the topic, and looks at once whether that is still so. */
  refused(topic: string): void
  /** A broker has refused a record without a key as invalid. */
  refusedKeyless(topic: string): void
}

const notKnown = (topic: string): [string, string] => [topic, `the topic ${topic} is not known yet`]

export function watchTopics(first: readonly string[], log: Logger): TopicWatch {
  let topics = first
  let current: Producer | undefined
  let timer: NodeJS.Timeout | undefined
  const partitions = new Map<string, number>()
  /** By topic: why it cannot be written to. */
  let blocked: ReadonlyMap<string, string> = new Map(topics.map(notKnown))
  /** Topics that were seen with a leader that answers. If a partition has none later, librdkafka waits for it. */
  const made = new Set<string>()
  /** Without those that cannot be read. */
  const settings = new Map<string, TopicSettings>()
  const unauthorized: Refusals = new Map()
  const keyless: Refusals = new Map()

  /** Replaces what is known of blocked topics, and logs the changes. */
  function block(now: ReadonlyMap<string, string>): void {
    const begun = [...now].filter(([topic, reason]) => blocked.get(topic) !== reason).map(([, reason]) => reason)
    const ended = [...blocked.keys()].filter((topic) => !now.has(topic))
    blocked = now
    if (begun.length > 0)
      log.warn({ topics: begun.length, reasons: begun.slice(0, LOGGED_TOPICS) }, 'topics not writable')
    if (ended.length > 0) log.info({ topics: ended.length, first: ended.slice(0, LOGGED_TOPICS) }, 'topics writable')
  }

  /** Looks now and schedules the next look. */
  async function refresh(): Promise<void> {
    clearTimeout(timer)
    const kafka = current
    if (kafka === undefined) return
    try {
      await look(kafka)
    } catch (error) {
      log.debug({ reason: (error as Error).message }, 'topic metadata request failed')
    }
    // Another client looks for itself.
    if (kafka !== current) return
    clearTimeout(timer)
    timer = setTimeout(() => void refresh(), blocked.size > 0 ? BLOCKED_LOOK_INTERVAL_MS : LOOK_INTERVAL_MS)
  }

  async function look(kafka: Producer): Promise<void> {
    // Without an answer to this, metadata is enough to go on.
    const described = await describeTopics(kafka, topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (kafka !== current) return
    if (described === undefined || described.some((one) => (partitions.get(one.topic) ?? 0) !== one.partitions))
      await lookForPartitions(kafka)
    await lookForMade(kafka)
    if (kafka !== current) return
    // A cluster that does not answer the first request does not answer this one either.
    if (described !== undefined) await lookForSettings(kafka)
    if (kafka !== current) return
    const byTopic = new Map(described?.map((one) => [one.topic, one]))
    const faults = topics.map((topic) => [topic, faultOf(topic, byTopic.get(topic))] as const)
    block(new Map(faults.flatMap(([topic, fault]) => (fault === undefined ? [] : [[topic, fault]]))))
  }

  /**
   * librdkafka must know partitions before records are addressed to them, and learns them only from metadata. A topic is never requested by
   * name: brokers that create topics on demand would create it with a number of partitions that nobody chose.
   */
  async function lookForPartitions(kafka: Producer): Promise<void> {
    const metadata = await clusterMetadata(kafka, LOOK_TIMEOUT_MS)
    const found = new Map(metadata.topics.map((one) => [one.name, one.partitions.length]))
    for (const topic of topics) {
      const count = found.get(topic) ?? 0
      if (count > 0) partitions.set(topic, count)
      else partitions.delete(topic)
    }
  }

  const beingMade = (): string[] => topics.filter((topic) => partitions.has(topic) && !made.has(topic))

  /** Finds the topics whose partitions brokers have created since the last look. */
  async function lookForMade(kafka: Producer): Promise<void> {
    for (const topic of made) if (!partitions.has(topic)) made.delete(topic)
    const wanted = beingMade().map((topic) => ({ topic, partitions: partitions.get(topic) ?? 0 }))
    if (wanted.length === 0) return
    // The request as a whole fails when some partition has no leader, which says nothing about the other topics.
    const unmade = new Set(await unmadeTopics(kafka, wanted, LOOK_TIMEOUT_MS).catch(() => []))
    for (const { topic } of wanted) if (!unmade.has(topic)) made.add(topic)
  }

  async function lookForSettings(kafka: Producer): Promise<void> {
    const known = await topicSettings(kafka, topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (known === undefined || kafka !== current) return
    for (const topic of topics) {
      const now = known.get(topic)
      if (now?.isCompacted === true && settings.get(topic)?.isCompacted !== true)
        log.warn({ topic }, 'the topic is compacted (cleanup.policy): events without a key are refused')
      if (now === undefined) settings.delete(topic)
      else settings.set(topic, now)
    }
  }

  function faultOf(topic: string, described: Described | undefined): string | undefined {
    if (described?.fault !== undefined) return described.fault
    if (!partitions.has(topic)) return NOT_THERE(topic)
    if (!made.has(topic)) return `no partition of ${topic} has a leader that answers (yet)`
    if (described?.writable === undefined && isRecent(unauthorized, topic)) return NOT_AUTHORIZED(topic)
    unauthorized.delete(topic)
    return undefined
  }

  return {
    watch(next) {
      const before = new Set(topics)
      topics = next
      const added = next.filter((topic) => !before.has(topic))
      // They may have been watched before, and be others by now. What is known of those that go stays, for records that are on their way.
      for (const topic of added) for (const known of [partitions, made, settings]) known.delete(topic)
      const still = new Set(next)
      blocked = new Map([...[...blocked].filter(([topic]) => still.has(topic)), ...added.map(notKnown)])
      void refresh()
    },
    use(kafka) {
      current = kafka
      return refresh()
    },
    blocked: (topic) => blocked.get(topic),
    making: () => beingMade().length,
    partitionCount: (topic) => partitions.get(topic),
    settings(topic) {
      const known = settings.get(topic) ?? UNKNOWN_SETTINGS
      return known.isCompacted || !isRecent(keyless, topic) ? known : { ...known, isCompacted: true }
    },
    refused(topic) {
      if (blocked.has(topic)) return
      block(new Map(blocked).set(topic, NOT_AUTHORIZED(topic)))
      unauthorized.set(topic, performance.now())
      void refresh()
    },
    refusedKeyless(topic) {
      keyless.set(topic, performance.now())
    },
  }
}
