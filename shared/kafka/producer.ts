import type { CommonConfig } from '../config.ts'
import type { Logger } from '../logger.ts'
import {
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
import { connectionOf } from './consumer.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import {
  type Connection,
  type DeliveryResult,
  type OutgoingRecord,
  ProduceError,
  type RecordProducer,
} from './types.ts'

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
  /** The largest record; the topics' `max.message.bytes` has to allow it. */
  maxRecordBytes: number
  log: Logger
  onStatistics(json: string): void
}

/** How often the number of partitions of every topic is asked for: partitions may be added at any time. */
const METADATA_INTERVAL_MS = 30_000

/** While a topic that is needed is missing, how often it is asked for. */
const MISSING_TOPIC_INTERVAL_MS = 500

const METADATA_TIMEOUT_MS = 5_000

/** librdkafka looks for time-outs once a second; a report that is later than this is not waited for. */
const REPORT_GRACE_MS = 1_500
const SWEEP_INTERVAL_MS = 100

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
  bytes: number
}

/** Sequences start again after this one; reports carry 31 bits. */
const MAX_SEQUENCE = 0x7fffffff

/**
 * An idempotent producer with acks=all on the low-level client: a promise for the records of a call, settled by the last delivery report.
 *
 * A fatal error (the broker has lost track of the producer's sequence) ends a client for good. It is then replaced by a new one; what waited
 * in the old one is reported as unknown, so nothing is called stored that is not, and senders repeat it under the same ids.
 */
export function createRecordProducer(options: RecordProducerOptions): RecordProducer {
  const { config, clientId, log, deliveryTimeoutMs, maxQueueRecords, maxQueueBytes } = options
  const stopping = new AbortController()
  const partitions = new Map<string, number>()
  /** By sequence, in order of arrival. */
  const waiting = new Map<number, Waiting>()
  let sequence = 0
  let queuedBytes = 0
  let client: { kafka: Producer; records: PackedProducer } | undefined
  let connection: Connection = { state: 'connecting', reason: 'not connected yet' }
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
    // Only a connected client can be polled; before that the addon would follow a null pointer.
    opened.on('ready', () => opened.setPollInBackground(true))
    opened.on('event.stats', (event: { message: string }) => {
      if (opened !== client?.kafka) return
      const seen = connectionOf(event.message)
      if (seen !== undefined && connection.state !== 'closed') changeTo(seen)
      options.onStatistics(event.message)
    })
    opened.on('event.error', (error) => {
      const code = eventCode(error)
      // While brokers are away these come with every try; that they are away is said once, by changeTo.
      const level = code === CODE.ALL_BROKERS_DOWN || code === CODE.TRANSPORT ? 'debug' : 'warn'
      log[level]({ code, reason: error.message }, 'Kafka producer')
      if (opened !== client?.kafka) return
      if (code === CODE.FATAL || error.isFatal === true) replace(error.message)
      else if (code === CODE.ALL_BROKERS_DOWN) changeTo({ state: 'connecting', reason: error.message })
    })
    return opened
  }

  function changeTo(next: Connection): void {
    if (connection.state === 'closed') return
    if (next.state !== connection.state)
      log.info(
        { brokers: config.KAFKA_BROKERS, ...next },
        next.state === 'connected' ? 'Kafka is reached' : 'Kafka is lost',
      )
    connection = next
  }

  async function connect(): Promise<void> {
    const opened = await connectForever(
      open,
      (reason) => {
        changeTo({ state: 'connecting', reason })
        log.warn({ reason }, 'cannot reach Kafka; trying again')
      },
      stopping.signal,
    )
    if (opened === undefined) return
    client = { kafka: opened, records: packProducer(packed(), opened, reported) }
    changeTo({ state: 'connected' })
    await refresh()
  }

  /** Puts a client aside that cannot go on, and begins with a new one. */
  function replace(reason: string): void {
    log.error({ reason }, 'the producer cannot go on: it is replaced by a new one')
    const broken = client
    client = undefined
    changeTo({ state: 'connecting', reason })
    giveUpAll(produceError(CODE.FATAL, reason))
    broken?.records.close()
    broken?.kafka.disconnect(0, () => undefined)
    void connect()
  }

  function reported(report: Readonly<Report>): void {
    const one = waiting.get(report.sequence)
    // A report that comes after a record was given up changes nothing.
    if (one === undefined) return
    const { code, partition, offset, timestampMs } = report
    const result =
      code === 0
        ? { topic: one.topic, partition, offset, timestampMs }
        : isNotQueued(report)
          ? // What the queue has not taken is in nobody's hands.
            new ProduceError(faultOf(code), 'not stored', messageOf(code))
          : produceError(code, messageOf(code))
    settle(report.sequence, one, result)
  }

  function settle(number: number, { batch, index, bytes }: Waiting, result: DeliveryResult): void {
    waiting.delete(number)
    queuedBytes -= bytes
    batch.results[index] = result
    if (--batch.left === 0) batch.resolve(batch.results)
  }

  function giveUpAll(error: ProduceError): void {
    for (const [number, one] of waiting) settle(number, one, error)
  }

  /**
   * Asks for the partitions of all topics together. Never for one by its name: brokers that create topics on demand would make it, with a number
   * of partitions that nobody chose.
   */
  async function refresh(): Promise<void> {
    clearTimeout(refreshing)
    if (client === undefined || stopping.signal.aborted) return
    const from = client
    try {
      const answer = await promised<{ topics: { name: string; partitions: unknown[] }[] }>((done) =>
        from.kafka.getMetadata({ timeout: METADATA_TIMEOUT_MS, allTopics: true }, (error, value) => done(error, value)),
      )
      const found = new Map(answer.topics.map((one) => [one.name, one.partitions.length]))
      for (const topic of options.topics) {
        const count = found.get(topic) ?? 0
        if (count > 0) partitions.set(topic, count)
        else partitions.delete(topic)
      }
    } catch (error) {
      log.debug({ reason: (error as Error).message }, 'the partitions of our topics cannot be asked for')
    }
    // Replaced meanwhile, the new client asks for itself.
    if (from !== client) return
    const missing = options.topics.some((topic) => !partitions.has(topic))
    refreshing = setTimeout(() => void refresh(), missing ? MISSING_TOPIC_INTERVAL_MS : METADATA_INTERVAL_MS)
  }

  /** Gives up what is overdue, so that nobody's wait rests on librdkafka alone. In the order of arrival, the first is the oldest. */
  function sweep(): void {
    const nowMs = performance.now()
    for (const [number, one] of waiting) {
      if (one.batch.dueMs > nowMs) break
      settle(number, one, produceError(CODE.MSG_TIMED_OUT, 'no delivery report in time'))
    }
  }

  return {
    start() {
      sweeping = setInterval(sweep, SWEEP_INTERVAL_MS)
      void connect()
    },
    connection: () => connection,
    partitionCount: (topic) => partitions.get(topic),
    produce(records: readonly OutgoingRecord[]) {
      const to = client?.records
      if (to === undefined || connection.state !== 'connected') {
        const reason = connection.state === 'connecting' ? connection.reason : 'closing'
        return Promise.resolve(records.map(() => new ProduceError('unavailable', 'not stored', reason)))
      }
      return new Promise<DeliveryResult[]>((resolve) => {
        const dueMs = performance.now() + deliveryTimeoutMs + REPORT_GRACE_MS
        const batch: Batch = { results: new Array(records.length), left: records.length, dueMs, resolve }
        for (let index = 0; index < records.length; index++) {
          const record = records[index] as OutgoingRecord
          const bytes = queueBytes(record)
          if (waiting.size >= maxQueueRecords || queuedBytes + bytes > maxQueueBytes) {
            batch.results[index] = new ProduceError('queue full', 'not stored', 'too many records wait for Kafka')
            batch.left--
            continue
          }
          sequence = sequence === MAX_SEQUENCE ? 0 : sequence + 1
          to.packer.add(record, sequence)
          waiting.set(sequence, { batch, index, topic: record.topic, bytes })
          queuedBytes += bytes
        }
        to.flush()
        if (batch.left === 0) resolve(batch.results)
      })
    },
    queue: () => ({ records: waiting.size, bytes: queuedBytes, maxRecords: maxQueueRecords, maxBytes: maxQueueBytes }),
    async close(timeoutMs) {
      stopping.abort()
      clearTimeout(refreshing)
      clearInterval(sweeping)
      const last = client
      if (last !== undefined)
        await promised<void>((done) => last.kafka.flush(timeoutMs, (error) => done(error))).catch(
          (error: LibrdKafkaError) =>
            log.warn({ records: waiting.size, reason: error.message }, 'not everything was delivered in time'),
        )
      client = undefined
      connection = { state: 'closed' }
      if (last !== undefined) {
        last.records.close()
        await promised((done) => last.kafka.disconnect(0, (error) => done(error)))
        // Disconnecting brings the reports that are there; only what has none is unknown.
        last.records.take()
      }
      giveUpAll(produceError(CODE.TIMED_OUT, 'no delivery report'))
    },
  }
}

/** What a record takes of the queue's bound; headers are counted by librdkafka's own limit only. */
const queueBytes = (record: OutgoingRecord): number => (record.value?.length ?? 0) + (record.key?.length ?? 0)

/** An undelivered record's error, by librdkafka's code. */
export function produceError(code: number, message: string): ProduceError {
  return new ProduceError(faultOf(code), CERTAINLY_NOT_STORED.has(code) ? 'not stored' : 'unknown', message)
}

/** Protocol errors that brokers decide by the record alone: they were the answer to every attempt. */
const INVALID_TOPIC = 17
const RECORD_LIST_TOO_LARGE = 18
const INVALID_RECORD = 87

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
  RECORD_LIST_TOO_LARGE,
  INVALID_RECORD,
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
    case RECORD_LIST_TOO_LARGE:
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
