import { type OutgoingRecord, queuedBytes } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../service/retry.ts'
import {
  CLOSE_TIMEOUT_MS,
  CODE,
  connectForever,
  connectionSettings,
  eventCode,
  type LibrdKafkaError,
  messageOf,
  native,
  type Producer,
  packed,
  promised,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import type { Statistics } from './statistics.ts'
import { type Described, describeTopics, NOT_AUTHORIZED, topicSettings, unmadeTopics } from './topic-requests.ts'
import { type DeliveryResult, ProduceError, type RecordProducer, type TopicSettings } from './types.ts'

export interface RecordProducerOptions {
  config: CommonConfig
  clientId: string
  /** The topics whose partitions are to be known before the first record. */
  topics: readonly string[]
  /** How long librdkafka tries to deliver a record, retries included. */
  deliveryTimeoutMs: number
  /** How long a record waits for company in a request to the broker. */
  lingerMs: number
  maxQueueRecords: number
  maxQueueBytes: number
  /** The largest record. A topic whose `max.message.bytes` is smaller refuses some, each for itself. */
  maxRecordBytes: number
  /** How long a client may reach no broker before it is replaced: one may have lost sight of all of them. */
  unreachedTimeoutMs: number
  log: Logger
  onStatistics(statistics: Statistics): void
}

/** How often it is asked how many partitions every topic has, what it takes and whether it may be written to: all may change at any time. */
const LOOK_INTERVAL_MS = 10_000

/** The same while a topic cannot be written to. */
const BLOCKED_LOOK_INTERVAL_MS = 500

const LOOK_TIMEOUT_MS = 5_000

/** How long a refusal counts where the broker does not say who may write, or what: after it the next record is a try. */
const REFUSAL_MS = 5_000

/** librdkafka looks for time-outs once a second; a report that is later than this is not waited for. */
const REPORT_GRACE_MS = 1_500
const SWEEP_INTERVAL_MS = 100

/** Of topics that cannot be written to, and can again, so many are named in a line of the log. */
const LOGGED_TOPICS = 10

/** Errors after which a client takes no record any more. */
const FATAL = new Set<number>([CODE.FATAL, CODE.CLUSTER_AUTHORIZATION_FAILED])

const NO_PRODUCER_ID =
  'not authorized to get a producer id: it takes an ACL that allows WRITE on a topic, or IDEMPOTENT_WRITE on the cluster'

const NOT_THERE = (topic: string): string => `the topic ${topic} is not there (yet)`

/** librdkafka's default of message.max.bytes, and below the brokers' default of max.message.bytes. */
const DEFAULT_MESSAGE_BYTES = 1_000_000

/** Records that were handed over together, and wait until all have their delivery reports. */
interface Batch {
  results: DeliveryResult[]
  left: number
  /** Monotonic; by then its reports are due. */
  dueMs: number
  resolve(results: DeliveryResult[]): void
}

/** A record that waits for its delivery report. */
interface Waiting {
  batch: Batch
  /** Its place among the batch's results. */
  index: number
  topic: string
  hasKey: boolean
  bytes: number
}

const UNKNOWN_SETTINGS: TopicSettings = { maxMessageBytes: undefined, isCompacted: false }

/** Sequences start again after this one; reports carry 31 bits. */
const MAX_SEQUENCE = 0x7fffffff

/**
 * An idempotent producer with acks=all on the low-level client: a promise for the records of a call, settled by the last delivery report.
 *
 * A fatal error (the broker has lost track of the producer's sequence) ends a client for good. It is then replaced by a new one, as is one that has reached
 * no broker for long; what waited in the old one is reported as unknown, so nothing is called stored that is not, and senders repeat it under the same ids.
 */
export function createRecordProducer(options: RecordProducerOptions): RecordProducer {
  const { config, clientId, log, deliveryTimeoutMs, maxQueueRecords, maxQueueBytes } = options
  const stopping = new AbortController()
  const watch = watchConnection({ config, client: 'producer', log })
  const partitions = new Map<string, number>()
  /** By topic: why it cannot be written to. */
  const blocked = new Map<string, string>(options.topics.map((topic) => [topic, `the topic ${topic} is not known yet`]))
  /** By sequence, in order of arrival. */
  const waiting = new Map<number, Waiting>()
  /** Topics that were seen with a leader that answers; those of other partitions are librdkafka's to wait for. */
  const made = new Set<string>()
  /** By topic: when the broker last refused a record of ours, monotonic. */
  const refusedAtMs = new Map<string, number>()
  /** By topic; none where they are not to be had. */
  const settings = new Map<string, TopicSettings>()
  /** By topic: when the broker last refused a record without a key as invalid, monotonic. */
  const keylessRefusedAtMs = new Map<string, number>()
  let sequence = 0
  let waitingBytes = 0
  let client: { kafka: Producer; records: PackedProducer } | undefined
  /** Why the client before could not go on, until this one is known to be able to. */
  let trouble: string | undefined
  /** How often in a row a client was replaced. */
  let replaced = 0
  /** Monotonic; when the client last reached a broker, or began. */
  let reachedMs = performance.now()
  let refreshing: NodeJS.Timeout | undefined
  let sweeping: NodeJS.Timeout | undefined

  function open(): Producer {
    // Properties of topics stand among the others on purpose: given apart, as the client offers, they would replace all of these.
    const opened = new (native().Producer)({
      ...connectionSettings(config, clientId),
      'enable.idempotence': true,
      acks: 'all',
      'compression.codec': 'lz4',
      'linger.ms': options.lingerMs,
      'delivery.timeout.ms': deliveryTimeoutMs,
      'queue.buffering.max.messages': maxQueueRecords,
      'queue.buffering.max.kbytes': Math.ceil(maxQueueBytes / 1024),
      'message.max.bytes': Math.max(options.maxRecordBytes, DEFAULT_MESSAGE_BYTES),
      partitioner: 'murmur2_random',
      dr_cb: true,
    })
    watch.attach(opened, (statistics) => {
      if (opened !== client?.kafka) return
      const idempotence = statistics.eos?.idemp_state
      if (idempotence === 'FatalError') return replace('fatal error')
      if (idempotence === 'Assigned') recovered()
      options.onStatistics(statistics)
    })
    // Only a connected client can be polled; before that the addon would follow a null pointer.
    opened.on('ready', () => opened.setPollInBackground(true))
    opened.on('event.error', (error) => {
      const code = eventCode(error)
      if (opened === client?.kafka && (FATAL.has(code) || error.isFatal === true)) replace(error.message, code)
    })
    return opened
  }

  async function connect(): Promise<void> {
    const opened = await connectForever(open, watch.failed, stopping.signal)
    if (opened === undefined) return
    client = { kafka: opened, records: packProducer(packed(), opened, reported) }
    watch.connected()
    await refresh()
  }

  /** Puts a client aside that cannot go on, and begins with a new one after a pause that grows. */
  function replace(message: string, code?: number): void {
    const reason = code === CODE.CLUSTER_AUTHORIZATION_FAILED ? NO_PRODUCER_ID : message
    log[reason === trouble ? 'debug' : 'error']({ reason }, 'fatal producer error; recreating the producer')
    trouble = reason
    const broken = client
    client = undefined
    giveUpAll(produceError(CODE.FATAL, reason))
    broken?.records.close()
    broken?.kafka.disconnect(0, () => undefined)
    void sleep(delayMs(CONNECT_BACKOFF, ++replaced), stopping.signal).then(connect)
  }

  /** The client has a producer id, without which no record is sent. */
  function recovered(): void {
    if (trouble !== undefined) log.info('producer recovered')
    trouble = undefined
    replaced = 0
  }

  function reported(report: Readonly<Report>): void {
    const one = waiting.get(report.sequence)
    // A report that comes after a record was given up changes nothing.
    if (one === undefined) return
    const { code } = report
    // A broker may refuse all that is in a batch for one of them: of a record with a key it is not known.
    const isInvalid = code === CODE.INVALID_RECORD && !one.hasKey
    const result = isInvalid
      ? new ProduceError('invalid', 'not stored', messageOf(code))
      : deliveryOf(one.topic, report)
    settle(report.sequence, one, result)
    if (code === CODE.FATAL) replace(messageOf(code))
    else if (code === CODE.TOPIC_AUTHORIZATION_FAILED) refused(one.topic)
    else if (isInvalid) keylessRefusedAtMs.set(one.topic, performance.now())
  }

  /** The broker has not let us write to a topic. Whether it does again is asked at once, and again until it does. */
  function refused(topic: string): void {
    if (blocked.has(topic)) return
    block(new Map(blocked).set(topic, NOT_AUTHORIZED(topic)))
    refusedAtMs.set(topic, performance.now())
    void refresh()
  }

  /** Takes what is known now of the topics that cannot be written to; what has changed is logged. */
  function block(now: ReadonlyMap<string, string>): void {
    const begun = [...now].filter(([topic, reason]) => blocked.get(topic) !== reason).map(([, reason]) => reason)
    const ended = [...blocked.keys()].filter((topic) => !now.has(topic))
    blocked.clear()
    for (const [topic, reason] of now) blocked.set(topic, reason)
    if (begun.length > 0)
      log.warn({ topics: begun.length, reasons: begun.slice(0, LOGGED_TOPICS) }, 'topics not writable')
    if (ended.length > 0) log.info({ topics: ended.length, first: ended.slice(0, LOGGED_TOPICS) }, 'topics writable')
  }

  function settle(number: number, { batch, index, bytes }: Waiting, result: DeliveryResult): void {
    waiting.delete(number)
    waitingBytes -= bytes
    batch.results[index] = result
    if (--batch.left === 0) batch.resolve(batch.results)
  }

  function giveUpAll(error: ProduceError): void {
    for (const [number, one] of waiting) settle(number, one, error)
  }

  /** Asks how many partitions the topics have, and whether they may be written to; again and again. */
  async function refresh(): Promise<void> {
    clearTimeout(refreshing)
    if (client === undefined || stopping.signal.aborted) return
    const from = client
    try {
      await look(from.kafka)
    } catch (error) {
      log.debug({ reason: (error as Error).message }, 'topic metadata request failed')
    }
    // Replaced meanwhile, the new client asks for itself.
    if (from !== client) return
    clearTimeout(refreshing)
    refreshing = setTimeout(() => void refresh(), blocked.size > 0 ? BLOCKED_LOOK_INTERVAL_MS : LOOK_INTERVAL_MS)
  }

  async function look(kafka: Producer): Promise<void> {
    // A cluster may be unable to answer this one at the moment; metadata is all it takes to go on.
    const described = await describeTopics(kafka, options.topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (kafka !== client?.kafka) return
    if (described === undefined || described.some((one) => (partitions.get(one.topic) ?? 0) !== one.partitions)) {
      // librdkafka has to know of partitions before records are addressed to them, and learns it only so. Never for one topic by its name:
      // brokers that create topics on demand would make it, with a number of partitions that nobody chose.
      const answer = await promised<{ topics: { name: string; partitions: unknown[] }[] }>((done) =>
        kafka.getMetadata({ timeout: LOOK_TIMEOUT_MS, allTopics: true }, (error, value) => done(error, value)),
      )
      const found = new Map(answer.topics.map((one) => [one.name, one.partitions.length]))
      for (const topic of options.topics) {
        const count = found.get(topic) ?? 0
        if (count > 0) partitions.set(topic, count)
        else partitions.delete(topic)
      }
    }
    await lookForMade(kafka)
    if (kafka !== client?.kafka) return
    // Whoever does not answer the one question does not answer the other.
    if (described !== undefined) await lookForSettings(kafka)
    if (kafka !== client?.kafka) return
    const by = new Map(described?.map((one) => [one.topic, one]))
    block(
      new Map(
        options.topics.flatMap((topic) => {
          const reason = faultOfTopic(topic, by.get(topic))
          return reason === undefined ? [] : [[topic, reason] as const]
        }),
      ),
    )
  }

  /** Finds out which of the topics that were not there yet have partitions on the brokers now. */
  async function lookForMade(kafka: Producer): Promise<void> {
    for (const topic of made) if (!partitions.has(topic)) made.delete(topic)
    const wanted = options.topics.flatMap((topic) => {
      const count = partitions.get(topic)
      return count === undefined || made.has(topic) ? [] : [{ topic, partitions: count }]
    })
    if (wanted.length === 0) return
    // Where the question as a whole fails, some partition has no leader at all: nothing that concerns the other topics.
    const unmade = new Set(await unmadeTopics(kafka, wanted, LOOK_TIMEOUT_MS).catch(() => []))
    for (const { topic } of wanted) if (!unmade.has(topic)) made.add(topic)
  }

  async function lookForSettings(kafka: Producer): Promise<void> {
    const known = await topicSettings(kafka, options.topics, LOOK_TIMEOUT_MS).catch(() => undefined)
    if (known === undefined || kafka !== client?.kafka) return
    for (const topic of options.topics) {
      const now = known.get(topic)
      if (now?.isCompacted === true && settings.get(topic)?.isCompacted !== true)
        log.warn({ topic }, 'the topic is compacted (cleanup.policy): events without a key are refused')
      if (now === undefined) settings.delete(topic)
      else settings.set(topic, now)
    }
  }

  function faultOfTopic(topic: string, described: Described | undefined): string | undefined {
    if (described?.fault !== undefined) return described.fault
    if (!partitions.has(topic)) return NOT_THERE(topic)
    if (!made.has(topic)) return `no partition of ${topic} has a leader that answers (yet)`
    const refusedMs = performance.now() - (refusedAtMs.get(topic) ?? Number.NEGATIVE_INFINITY)
    if (described?.writable === undefined && refusedMs < REFUSAL_MS) return NOT_AUTHORIZED(topic)
    refusedAtMs.delete(topic)
    return undefined
  }

  const wasRefusedKeyless = (topic: string): boolean =>
    performance.now() - (keylessRefusedAtMs.get(topic) ?? Number.NEGATIVE_INFINITY) < REFUSAL_MS

  /** Gives up what is overdue, so that nobody's wait, and nobody's way back, rests on librdkafka alone. In the order of arrival, the first is the oldest. */
  function sweep(): void {
    const nowMs = performance.now()
    for (const [number, one] of waiting) {
      if (one.batch.dueMs > nowMs) break
      settle(number, one, produceError(CODE.MSG_TIMED_OUT, 'no delivery report in time'))
    }
    const { state } = watch.current()
    if (client === undefined || state !== 'connecting') reachedMs = nowMs
    else if (nowMs - reachedMs > options.unreachedTimeoutMs)
      replace(`no broker was reached for ${Math.round(options.unreachedTimeoutMs / 1000)} s`)
  }

  return {
    start() {
      sweeping = setInterval(sweep, SWEEP_INTERVAL_MS)
      void connect()
    },
    connection: watch.current,
    blocked(topic) {
      const connection = watch.current()
      if (connection.state === 'closed') return 'the connection is closed'
      // A client that is being replaced says more than that there is none.
      if (trouble !== undefined) return trouble
      return connection.state === 'connecting' ? connection.reason : blocked.get(topic)
    },
    making: () => partitions.size - made.size,
    partitionCount: (topic) => partitions.get(topic),
    settings(topic) {
      const known = settings.get(topic) ?? UNKNOWN_SETTINGS
      if (known.isCompacted || !wasRefusedKeyless(topic)) return known
      return { ...known, isCompacted: true }
    },
    produce(records: readonly OutgoingRecord[]) {
      const to = client?.records
      if (to === undefined || watch.current().state !== 'connected') {
        const reason = trouble ?? 'Kafka cannot be reached'
        return Promise.resolve(records.map(() => new ProduceError('unavailable', 'not stored', reason)))
      }
      return new Promise<DeliveryResult[]>((resolve) => {
        const dueMs = performance.now() + deliveryTimeoutMs + REPORT_GRACE_MS
        const batch: Batch = { results: new Array(records.length), left: records.length, dueMs, resolve }
        for (let index = 0; index < records.length; index++) {
          const record = records[index] as OutgoingRecord
          const bytes = queuedBytes(record)
          sequence = sequence === MAX_SEQUENCE ? 0 : sequence + 1
          to.packer.add(record, sequence)
          waiting.set(sequence, { batch, index, topic: record.topic, hasKey: record.key !== null, bytes })
          waitingBytes += bytes
        }
        to.flush()
        if (batch.left === 0) resolve(batch.results)
      })
    },
    queue: () => ({ records: waiting.size, bytes: waitingBytes, maxRecords: maxQueueRecords, maxBytes: maxQueueBytes }),
    async close(timeoutMs) {
      stopping.abort()
      clearTimeout(refreshing)
      clearInterval(sweeping)
      const last = client
      if (last !== undefined)
        await promised<void>((done) => last.kafka.flush(timeoutMs, (error) => done(error))).catch(
          (error: LibrdKafkaError) => log.warn({ records: waiting.size, reason: error.message }, 'flush timed out'),
        )
      client = undefined
      watch.closed()
      if (last !== undefined) {
        last.records.close()
        await within(
          CLOSE_TIMEOUT_MS,
          promised((done) => last.kafka.disconnect(0, (error) => done(error))),
        ).catch((error: Error) => log.warn({ reason: error.message }, 'producer did not close in time'))
        // Disconnecting brings the reports that are there; only what has none is unknown.
        last.records.take()
      }
      giveUpAll(produceError(CODE.TIMED_OUT, 'no delivery report'))
    },
  }
}

/** What a delivery report says of a record. I1: stored means an offset that all in-sync replicas have acknowledged. */
export function deliveryOf(topic: string, report: Readonly<Report>): DeliveryResult {
  const { code, partition, offset, timestampMs } = report
  // What the queue has not taken is in nobody's hands.
  if (isNotQueued(report)) return new ProduceError(faultOf(code), 'not stored', messageOf(code))
  if (code !== 0) return produceError(code, messageOf(code))
  if (offset >= 0) return { topic, partition, offset, timestampMs }
  // A broker that has had the batch before, as it believes. In a topic that was made anew, or that has lost its last records, it is not there.
  return new ProduceError('timed out', 'unknown', 'it was acknowledged as a repeated record, and not where it stands')
}

/** An undelivered record's error, by librdkafka's code. I4: “not stored” only where no attempt can have been stored. */
export function produceError(code: number, message: string): ProduceError {
  return new ProduceError(faultOf(code), CERTAINLY_NOT_STORED.has(code) ? 'not stored' : 'unknown', message)
}

/** A protocol error that brokers decide by the record alone: it was the answer to every attempt. */
const INVALID_TOPIC = 17

/**
 * With any other error an earlier attempt may have been stored and its answer lost. In particular a time-out: librdkafka's report does not
 * tell a record that was never sent from one whose acknowledgement was cut off.
 */
const CERTAINLY_NOT_STORED = new Set<number>([
  CODE.PURGE_QUEUE,
  CODE.UNKNOWN_PARTITION,
  CODE.UNKNOWN_TOPIC,
  CODE.UNKNOWN_TOPIC_OR_PART,
  CODE.MSG_SIZE_TOO_LARGE,
  INVALID_TOPIC,
  CODE.RECORD_LIST_TOO_LARGE,
  CODE.INVALID_RECORD,
  CODE.INVALID_DIFFERENT_RECORD,
])

function faultOf(code: number): ProduceError['fault'] {
  switch (code) {
    case CODE.QUEUE_FULL:
      return 'queue full'
    case CODE.TRANSPORT:
    case CODE.ALL_BROKERS_DOWN:
    case CODE.FATAL:
    case CODE.STATE:
    case CODE.PURGE_QUEUE:
      return 'unavailable'
    case CODE.MSG_TIMED_OUT:
    case CODE.TIMED_OUT:
    case CODE.PURGE_INFLIGHT:
      return 'timed out'
    case CODE.MSG_SIZE_TOO_LARGE:
    case CODE.RECORD_LIST_TOO_LARGE:
      return 'too large'
    case CODE.UNKNOWN_PARTITION:
    case CODE.UNKNOWN_TOPIC:
    case CODE.UNKNOWN_TOPIC_OR_PART:
    case INVALID_TOPIC:
      return 'unknown topic'
    default:
      return 'refused'
  }
}
