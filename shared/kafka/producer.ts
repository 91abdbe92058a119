import { type OutgoingRecord, queuedBytes } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../service/retry.ts'
import {
  CODE,
  closeClient,
  connectForever,
  connectionSettings,
  eventCode,
  type LibrdKafkaError,
  messageOf,
  native,
  type Producer,
  packed,
  promised,
  type Settings,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import { securityOf } from './security.ts'
import type { Statistics } from './statistics.ts'
import { watchTopics } from './topic-watch.ts'
import { type DeliveryResult, ProduceError, type ProduceFault, type RecordProducer } from './types.ts'
import { Unacknowledged } from './unacknowledged.ts'

export interface RecordProducerOptions {
  config: CommonConfig
  clientId: string
  /** Their partitions are looked up before the first record. Until {@link RecordProducer.watch} names others. */
  topics: readonly string[]
  /** How long librdkafka tries to deliver a record, retries included. */
  deliveryTimeoutMs: number
  /** How long a record waits for others, to share a request. */
  lingerMs: number
  maxQueueRecords: number
  maxQueueBytes: number
  /** The largest record. A topic with a smaller `max.message.bytes` refuses the records that exceed it. */
  maxRecordBytes: number
  /** A client that has reached no broker for this long is replaced: it may have lost all their addresses. */
  unreachedTimeoutMs: number
  log: Logger
  onStatistics(statistics: Statistics): void
}

/** librdkafka checks for time-outs once a second; a report that is later than this is not waited for. */
const REPORT_GRACE_MS = 1_500
const SWEEP_INTERVAL_MS = 100

/** How long the reports of a client that is replaced are waited for, which come without a broker. */
const LAST_REPORTS_TIMEOUT_MS = 1_000
const LAST_REPORTS_PAUSE_MS = 10

/** Errors after which a client accepts no more records. */
const FATAL = new Set<number>([CODE.FATAL, CODE.CLUSTER_AUTHORIZATION_FAILED])

const NO_PRODUCER_ID =
  'not authorized to get a producer id: it takes an ACL that allows WRITE on a topic, or IDEMPOTENT_WRITE on the cluster'

/** librdkafka's default of message.max.bytes, and below the brokers' default of max.message.bytes. */
const DEFAULT_MESSAGE_BYTES = 1_000_000

/** Sequences start again after this one; reports carry 31 bits. */
const MAX_SEQUENCE = 0x7fffffff

/** The records of one call, which wait until all of them have delivery reports. */
interface Batch {
  to: PackedProducer
  results: DeliveryResult[]
  left: number
  /** Monotonic; its reports are due by then. */
  dueMs: number
  resolve(results: DeliveryResult[]): void
}

/** A record that waits for its delivery report. */
interface Waiting {
  batch: Batch
  /** Its place in the batch's results. */
  index: number
  topic: string
  hasKey: boolean
  bytes: number
}

/** Records that were handed to a client and have no result yet. */
class Deliveries {
  /** By sequence, in the order of their arrival. */
  readonly #waiting = new Map<number, Waiting>()
  #sequence = 0
  bytes = 0

  get records(): number {
    return this.#waiting.size
  }

  find(sequence: number): Waiting | undefined {
    return this.#waiting.get(sequence)
  }

  /** Hands records to the client. @returns their results, in the same order, when all are known */
  send(records: readonly OutgoingRecord[], to: PackedProducer, dueMs: number): Promise<DeliveryResult[]> {
    return new Promise((resolve) => {
      const batch: Batch = { to, results: new Array(records.length), left: records.length, dueMs, resolve }
      for (let index = 0; index < records.length; index++) {
        const record = records[index] as OutgoingRecord
        const bytes = queuedBytes(record)
        this.#sequence = this.#sequence === MAX_SEQUENCE ? 0 : this.#sequence + 1
        to.packer.add(record, this.#sequence)
        this.#waiting.set(this.#sequence, { batch, index, topic: record.topic, hasKey: record.key !== null, bytes })
        this.bytes += bytes
      }
      to.flush()
      if (batch.left === 0) resolve(batch.results)
    })
  }

  settle(sequence: number, { batch, index, bytes }: Waiting, result: DeliveryResult): void {
    this.#waiting.delete(sequence)
    this.bytes -= bytes
    batch.results[index] = result
    if (--batch.left === 0) batch.resolve(batch.results)
  }

  /** Settles the records whose reports were due by then with this error. */
  failOverdue(code: number, message: string, byMs: number): void {
    let error: ProduceError | undefined
    // In the order of their arrival, so the first is the oldest.
    for (const [sequence, one] of this.#waiting) {
      if (one.batch.dueMs > byMs) return
      error ??= produceError(code, message)
      this.settle(sequence, one, error)
    }
  }

  /** Settles the records of a client with this error; without a client, all records. */
  fail(code: number, message: string, of?: PackedProducer): void {
    const error = produceError(code, message)
    for (const [sequence, one] of this.#waiting)
      if (of === undefined || one.batch.to === of) this.settle(sequence, one, error)
  }

  /** Whether records of this client have no result yet. */
  has(of: PackedProducer): boolean {
    for (const { batch } of this.#waiting.values()) if (batch.to === of) return true
    return false
  }
}

function producerSettings(options: RecordProducerOptions): Settings {
  // Topic properties are set here because passing them separately, as the client offers, would replace all of these.
  return {
    ...connectionSettings(options.config, options.clientId),
    'enable.idempotence': true,
    acks: 'all',
    'compression.codec': 'lz4',
    'linger.ms': options.lingerMs,
    'delivery.timeout.ms': options.deliveryTimeoutMs,
    'queue.buffering.max.messages': options.maxQueueRecords,
    'queue.buffering.max.kbytes': Math.ceil(options.maxQueueBytes / 1024),
    'message.max.bytes': Math.max(options.maxRecordBytes, DEFAULT_MESSAGE_BYTES),
    partitioner: 'murmur2_random',
    dr_cb: true,
  }
}

/**
 * An idempotent producer with acks=all.
 *
 * A fatal error, such as a lost sequence, ends a client. A new client replaces it, and one that has reached no broker for
 * `unreachedTimeoutMs`. Records that wait in the old client and were in no request are not stored; the outcome of the others is unknown. Senders repeat
 * both under the same ids.
 */
export function createRecordProducer(options: RecordProducerOptions): RecordProducer {
  const { config, log, deliveryTimeoutMs, maxQueueRecords, maxQueueBytes } = options
  const stopping = new AbortController()
  const watch = watchConnection({ config, client: 'producer', log })
  const topics = watchTopics(options.topics, log)
  const unacknowledged = new Unacknowledged(log)
  const deliveries = new Deliveries()
  let client: { kafka: Producer; records: PackedProducer } | undefined
  /** Why the previous client was replaced, until this one has a producer id. */
  let trouble: string | undefined
  /** Replacements in a row. */
  let replaced = 0
  /** Monotonic; when the client last reached a broker, or was created. */
  let reachedMs = performance.now()
  let sweeping: NodeJS.Timeout | undefined

  function open(secured: Settings): Producer {
    const opened = new (native().Producer)({ ...producerSettings(options), ...secured })
    watch.attach(opened, (statistics) => {
      if (opened !== client?.kafka) return
      const idempotence = statistics.eos?.idemp_state
      if (idempotence === 'FatalError') return replace('fatal error')
      if (idempotence === 'Assigned') recovered()
      options.onStatistics(statistics)
    })
    // Before it is connected, polling would dereference a null pointer in the addon.
    opened.on('ready', () => opened.setPollInBackground(true))
    opened.on('event.error', (error) => {
      const code = eventCode(error)
      if (opened === client?.kafka && (FATAL.has(code) || error.isFatal === true)) replace(error.message, code)
    })
    return opened
  }

  async function connect(): Promise<void> {
    const opened = await connectForever(securityOf(config, log), open, watch.failed, stopping.signal)
    if (opened === undefined) return
    client = { kafka: opened, records: packProducer(packed(), opened, (report) => reported(report, opened)) }
    watch.connected()
    await topics.use(opened)
  }

  /** Closes a client that cannot continue, and opens a new one after a growing delay. */
  function replace(message: string, code?: number): void {
    const reason = code === CODE.CLUSTER_AUTHORIZATION_FAILED ? NO_PRODUCER_ID : message
    log[reason === trouble ? 'debug' : 'error']({ reason }, 'fatal producer error; recreating the producer')
    trouble = reason
    const broken = client
    client = undefined
    void topics.use(undefined)
    if (broken !== undefined) void retire(broken, reason)
    void sleep(delayMs(CONNECT_BACKOFF, ++replaced), stopping.signal).then(connect)
  }

  /** Closes a client after its last reports, which tell of each record whether it was in a request. */
  async function retire(
    { kafka, records }: { kafka: Producer; records: PackedProducer },
    reason: string,
  ): Promise<void> {
    records.purge()
    const deadlineMs = performance.now() + LAST_REPORTS_TIMEOUT_MS
    while (deliveries.has(records) && performance.now() < deadlineMs) await sleep(LAST_REPORTS_PAUSE_MS)
    deliveries.fail(CODE.FATAL, reason, records)
    records.close()
    kafka.disconnect(0, () => undefined)
  }

  /** The client has a producer id, which it needs to send records. */
  function recovered(): void {
    if (trouble !== undefined) log.info('producer recovered')
    trouble = undefined
    replaced = 0
  }

  function reported(report: Readonly<Report>, of: Producer): void {
    const one = deliveries.find(report.sequence)
    // Its batch was settled without this report.
    if (one === undefined) return
    const { code } = report
    // One invalid record makes a broker refuse its whole batch, so this says nothing about a record with a key.
    const isInvalid = code === CODE.INVALID_RECORD && !one.hasKey
    const result = isInvalid
      ? new ProduceError('invalid', 'not stored', messageOf(code))
      : deliveryOf(one.topic, report, of === client?.kafka ? undefined : trouble)
    deliveries.settle(report.sequence, one, result)
    if (!(result instanceof ProduceError)) unacknowledged.acknowledged(one.topic)
    else if (code === CODE.MSG_TIMED_OUT) unacknowledged.failed(one.topic, 'late')
    else if (code === INVALID_TIMESTAMP) unacknowledged.failed(one.topic, 'time')
    if (code === CODE.FATAL && of === client?.kafka) replace(messageOf(code))
    else if (code === CODE.TOPIC_AUTHORIZATION_FAILED) topics.refused(one.topic)
    else if (isInvalid) topics.refusedKeyless(one.topic)
  }

  /** Settles overdue records and replaces a client that reaches no broker, so that neither depends on librdkafka alone. */
  function sweep(): void {
    const nowMs = performance.now()
    deliveries.failOverdue(CODE.MSG_TIMED_OUT, 'no delivery report in time', nowMs)
    if (client === undefined || watch.current().state !== 'connecting') reachedMs = nowMs
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
      // Says more than that there is no connection.
      if (trouble !== undefined) return trouble
      return connection.state === 'connecting' ? connection.reason : topics.blocked(topic)
    },
    unacknowledged: (topic) => unacknowledged.reason(topic),
    watch: topics.watch,
    making: topics.making,
    partitionCount: topics.partitionCount,
    settings: topics.settings,
    produce(records) {
      const to = client?.records
      if (to !== undefined && watch.current().state === 'connected')
        return deliveries.send(records, to, performance.now() + deliveryTimeoutMs + REPORT_GRACE_MS)
      const reason = trouble ?? 'Kafka cannot be reached'
      return Promise.resolve(records.map(() => new ProduceError('unavailable', 'not stored', reason)))
    },
    queue: () => ({
      records: deliveries.records,
      bytes: deliveries.bytes,
      maxRecords: maxQueueRecords,
      maxBytes: maxQueueBytes,
    }),
    async close(timeoutMs) {
      stopping.abort()
      void topics.use(undefined)
      clearInterval(sweeping)
      const last = client
      if (last !== undefined)
        await promised((done) => last.kafka.flush(timeoutMs, done)).catch((error: LibrdKafkaError) =>
          log.warn({ records: deliveries.records, reason: error.message }, 'flush timed out'),
        )
      client = undefined
      watch.closed()
      if (last !== undefined) {
        last.records.close()
        await closeClient(log, 'producer', (done) => last.kafka.disconnect(0, done))
        // Disconnecting makes the last reports available.
        last.records.take()
      }
      deliveries.fail(CODE.TIMED_OUT, 'no delivery report')
    },
  }
}

/**
 * The result that a delivery report stands for. I1: stored means an offset that all in-sync replicas have acknowledged.
 * @param because says more than the report's code
 */
export function deliveryOf(topic: string, report: Readonly<Report>, because?: string): DeliveryResult {
  const { code, partition, offset, timestampMs } = report
  const why = code === 0 ? '' : (because ?? messageOf(code))
  if (isNotQueued(report)) return new ProduceError(produceError(code, '').fault, 'not stored', why)
  if (code !== 0) return produceError(code, why, report.mayBeStored)
  if (offset >= 0) return { topic, partition, offset, timestampMs }
  // The broker takes the batch for a repetition. In a topic that was recreated, or has lost its last records, it is not there.
  return new ProduceError('timed out', 'unknown', 'it was acknowledged as a repeated record, and not where it stands')
}

/**
 * The error of a record that was not delivered, by librdkafka's code. I4: “not stored” only when no attempt can have been stored.
 * @param mayBeStored as in a {@link Report}
 */
export function produceError(code: number, message: string, mayBeStored = true): ProduceError {
  const [fault, certainty] = ERRORS[code] ?? ['refused', 'unknown']
  const outcome = certainty === 'as reported' ? (mayBeStored ? 'unknown' : 'not stored') : certainty
  return new ProduceError(fault, outcome, message)
}

const INVALID_TOPIC = 17
const INVALID_TIMESTAMP = 32

/**
 * By librdkafka's code. Unless an attempt certainly was not stored, an earlier one may have been, and its answer lost. `as reported`: not stored where the
 * record was in no request, or in one that was refused.
 */
const ERRORS: Readonly<Record<number, [fault: ProduceFault, certainty: ProduceError['outcome'] | 'as reported']>> = {
  [CODE.QUEUE_FULL]: ['queue full', 'unknown'],
  [CODE.TRANSPORT]: ['unavailable', 'unknown'],
  [CODE.ALL_BROKERS_DOWN]: ['unavailable', 'unknown'],
  [CODE.FATAL]: ['unavailable', 'unknown'],
  [CODE.STATE]: ['unavailable', 'unknown'],
  [CODE.PURGE_QUEUE]: ['unavailable', 'as reported'],
  [CODE.MSG_TIMED_OUT]: ['timed out', 'as reported'],
  [CODE.TIMED_OUT]: ['timed out', 'unknown'],
  [CODE.PURGE_INFLIGHT]: ['timed out', 'unknown'],
  [CODE.MSG_SIZE_TOO_LARGE]: ['too large', 'not stored'],
  [CODE.RECORD_LIST_TOO_LARGE]: ['too large', 'not stored'],
  [CODE.UNKNOWN_PARTITION]: ['unknown topic', 'not stored'],
  [CODE.UNKNOWN_TOPIC]: ['unknown topic', 'not stored'],
  [CODE.UNKNOWN_TOPIC_OR_PART]: ['unknown topic', 'not stored'],
  [INVALID_TOPIC]: ['unknown topic', 'not stored'],
  [CODE.TOPIC_AUTHORIZATION_FAILED]: ['refused', 'as reported'],
  [CODE.CLUSTER_AUTHORIZATION_FAILED]: ['refused', 'as reported'],
  [INVALID_TIMESTAMP]: ['refused', 'as reported'],
  [CODE.INVALID_RECORD]: ['refused', 'not stored'],
  [CODE.INVALID_DIFFERENT_RECORD]: ['refused', 'not stored'],
}
