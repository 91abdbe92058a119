import type { Logger } from '../service/logger.ts'
import { clusterMetadata, type Producer } from './client.ts'
import {
  type Described,
  describeTopics,
  NOT_AUTHORIZED,
  NOT_THERE,
  topicSettings,
  unmadeTopics,
} from './topic-requests.ts'
import type { TopicSettings } from './types.ts'

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
export class TopicWatch {
  readonly #topics: readonly string[]
  readonly #log: Logger
  #kafka: Producer | undefined
  #timer: NodeJS.Timeout | undefined
  readonly #partitions = new Map<string, number>()
  /** By topic: why it cannot be written to. */
  #blocked: ReadonlyMap<string, string>
  /** Topics that were seen with a leader that answers. If a partition has none later, librdkafka waits for it. */
  readonly #made = new Set<string>()
  /** Absent where the settings cannot be read. */
  readonly #settings = new Map<string, TopicSettings>()
  readonly #unauthorized: Refusals = new Map()
  readonly #keyless: Refusals = new Map()

  constructor(topics: readonly string[], log: Logger) {
    this.#topics = topics
    this.#log = log
    this.#blocked = new Map(topics.map((topic) => [topic, `the topic ${topic} is not known yet`]))
  }

  /** Asks with this client from now on. Resolves after the first look; undefined ends the looks. */
  async use(kafka: Producer | undefined): Promise<void> {
    this.#kafka = kafka
    await this.#refresh()
  }

  blocked(topic: string): string | undefined {
    return this.#blocked.get(topic)
  }

  making(): number {
    return this.#partitions.size - this.#made.size
  }

  partitionCount(topic: string): number | undefined {
    return this.#partitions.get(topic)
  }

  settings(topic: string): TopicSettings {
    const known = this.#settings.get(topic) ?? UNKNOWN_SETTINGS
    if (known.isCompacted || !isRecent(this.#keyless, topic)) return known
    return { ...known, isCompacted: true }
  }

  /** A broker has refused a record for lack of permission. Blocks the topic and looks again at once, until the permission is back. */
  refused(topic: string): void {
    if (this.#blocked.has(topic)) return
    this.#block(new Map(this.#blocked).set(topic, NOT_AUTHORIZED(topic)))
    this.#unauthorized.set(topic, performance.now())
    void this.#refresh()
  }

  /** A broker has refused a record without a key as invalid. */
  refusedKeyless(topic: string): void {
    this.#keyless.set(topic, performance.now())
  }

  /** Replaces what is known of blocked topics, and logs the changes. */
  #block(now: ReadonlyMap<string, string>): void {
    const before = this.#blocked
    const begun = [...now].filter(([topic, reason]) => before.get(topic) !== reason).map(([, reason]) => reason)
    const ended = [...before.keys()].filter((topic) => !now.has(topic))
    this.#blocked = now
    if (begun.length > 0)
      this.#log.warn({ topics: begun.length, reasons: begun.slice(0, LOGGED_TOPICS) }, 'topics not writable')
    if (ended.length > 0)
      this.#log.info({ topics: ended.length, first: ended.slice(0, LOGGED_TOPICS) }, 'topics writable')
  }

  /** Looks now and schedules the next look. */
  async #refresh(): Promise<void> {
    clearTimeout(this.#timer)
    const kafka = this.#kafka
    if (kafka === undefined) return
    try {
      await this.#look(kafka)
    } catch (error) {
      this.#log.debug({ reason: (error as Error).message }, 'topic metadata request failed')
    }
    // Another client looks for itself.
    if (kafka !== this.#kafka) return
    clearTimeout(this.#timer)
    const intervalMs = this.#blocked.size > 0 ? BLOCKED_LOOK_INTERVAL_MS : LOOK_INTERVAL_MS
    this.#timer = setTimeout(() => void this.#refresh(), intervalMs)
  }

  async #look(kafka: Producer): Promise<void> {
    // Without an answer to this, metadata is enough to go on.
    const described = await describeTopics(kafka, this.#topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (kafka !== this.#kafka) return
    if (described === undefined || described.some((one) => (this.#partitions.get(one.topic) ?? 0) !== one.partitions))
      await this.#lookForPartitions(kafka)
    await this.#lookForMade(kafka)
    if (kafka !== this.#kafka) return
    // A cluster that does not answer the first request does not answer this one either.
    if (described !== undefined) await this.#lookForSettings(kafka)
    if (kafka !== this.#kafka) return
    const byTopic = new Map(described?.map((one) => [one.topic, one]))
    const blocked = new Map<string, string>()
    for (const topic of this.#topics) {
      const fault = this.#faultOf(topic, byTopic.get(topic))
      if (fault !== undefined) blocked.set(topic, fault)
    }
    this.#block(blocked)
  }

  /**
   * librdkafka must know partitions before records are addressed to them, and learns them only from metadata. A topic is never requested by
   * name: brokers that create topics on demand would create it with a number of partitions that nobody chose.
   */
  async #lookForPartitions(kafka: Producer): Promise<void> {
    const { topics } = await clusterMetadata(kafka, LOOK_TIMEOUT_MS)
    const found = new Map(topics.map((one) => [one.name, one.partitions.length]))
    for (const topic of this.#topics) {
      const count = found.get(topic) ?? 0
      if (count > 0) this.#partitions.set(topic, count)
      else this.#partitions.delete(topic)
    }
  }

  /** Finds the topics whose partitions brokers have created since the last look. */
  async #lookForMade(kafka: Producer): Promise<void> {
    for (const topic of this.#made) if (!this.#partitions.has(topic)) this.#made.delete(topic)
    const wanted = [...this.#partitions].flatMap(([topic, partitions]) =>
      this.#made.has(topic) ? [] : [{ topic, partitions }],
    )
    if (wanted.length === 0) return
    // The request as a whole fails when some partition has no leader, which says nothing about the other topics.
    const unmade = new Set(await unmadeTopics(kafka, wanted, LOOK_TIMEOUT_MS).catch(() => []))
    for (const { topic } of wanted) if (!unmade.has(topic)) this.#made.add(topic)
  }

  async #lookForSettings(kafka: Producer): Promise<void> {
    const known = await topicSettings(kafka, this.#topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (known === undefined || kafka !== this.#kafka) return
    for (const topic of this.#topics) {
      const now = known.get(topic)
      if (now?.isCompacted === true && this.#settings.get(topic)?.isCompacted !== true)
        this.#log.warn({ topic }, 'the topic is compacted (cleanup.policy): events without a key are refused')
      if (now === undefined) this.#settings.delete(topic)
      else this.#settings.set(topic, now)
    }
  }

  #faultOf(topic: string, described: Described | undefined): string | undefined {
    if (described?.fault !== undefined) return described.fault
    if (!this.#partitions.has(topic)) return NOT_THERE(topic)
    if (!this.#made.has(topic)) return `no partition of ${topic} has a leader that answers (yet)`
    if (described?.writable === undefined && isRecent(this.#unauthorized, topic)) return NOT_AUTHORIZED(topic)
    this.#unauthorized.delete(topic)
    return undefined
  }
}
