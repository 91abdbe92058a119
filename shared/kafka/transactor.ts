import { headersOf, TRANSACTION } from '../events/headers.ts'
import type { OutgoingRecord, PassedRecord } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, TimeoutError, within } from '../service/retry.ts'
import {
  CODE,
  closeClient,
  clusterMetadata,
  connectForever,
  connectionSettings,
  type LibrdKafkaError,
  messageOf,
  native,
  type Producer,
  packed,
  promised,
  type Settings,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { sendOffsetsToTransaction } from './group-metadata.ts'
import { withMissingAcl } from './missing-acl.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import { securityOf } from './security.ts'
import type { Statistics } from './statistics.ts'
import type {
  CommittedOffset,
  Membership,
  OutputFault,
  ReleaseResult,
  TopicPartition,
  TransactionResult,
  Transactor,
} from './types.ts'

export interface TransactorOptions {
  config: CommonConfig
  clientId: string
  /** Constant across restarts of an instance and unique to it, so that it aborts what its previous process left open. */
  transactionalId: string
  /** Whose offsets its transactions commit, for reasons. */
  groupId?: string
  /** The broker aborts a transaction without an owner after this time; until then readers of committed records wait. */
  transactionTimeoutMs: number
  log: Logger
  onStatistics(statistics: Statistics): void
}

/** The first delay before a request is retried. It doubles up to librdkafka's maximum of a second. */
const TRANSACTION_RETRY_MS = 2

/**
 * How often statistics and errors are polled for. Delivery reports do not depend on it: a commit polls by itself. With polling in the background,
 * a commit would notice only every 10 ms whether all reports have arrived.
 */
const POLL_INTERVAL_MS = 100

/** The time-out of one step of a transaction. A step that is called again resumes. */
const STEP_TIMEOUT_MS = 5_000

/** How late after its time-out a call may return before the client counts as hung. */
const ANSWER_GRACE_MS = 5_000

/** How long initialisation waits for a predecessor's transaction to end before it is retried. */
const INIT_TIMEOUT_MS = 15_000

/** librdkafka's upper bound of message.max.bytes. */
const MAX_MESSAGE_BYTES = 1_000_000_000

/** How soon new partitions, and the deletion of a topic, are noticed. */
const METADATA_REFRESH_MS = 5_000
const TOPIC_GONE_AFTER_MS = 3_000
const METADATA_TIMEOUT_MS = 5_000

/** Temporary errors of the group and of coordinators; no topic or record is at fault. */
const PASSING = new Set<number>([
  CODE.TIMED_OUT,
  CODE.TRANSPORT,
  CODE.COORDINATOR_LOAD_IN_PROGRESS,
  CODE.COORDINATOR_NOT_AVAILABLE,
  CODE.NOT_COORDINATOR,
  CODE.ILLEGAL_GENERATION,
  CODE.UNKNOWN_MEMBER_ID,
  CODE.REBALANCE_IN_PROGRESS,
  CODE.GROUP_AUTHORIZATION_FAILED,
  CODE.CONCURRENT_TRANSACTIONS,
  // Follows from refused records; aborting starts a new sequence.
  CODE.OUT_OF_ORDER_SEQUENCE_NUMBER,
])

/** A broker refuses a record without a key in a compacted topic without giving this reason. */
const INVALID_HINT = 'is cleanup.policy of .processed, .retry or .dlq compact? set it to delete'

/** Over the limit of the topic, of its segments, or (BAD_MSG) of the headers that the addon passes on (native/shim/packed.cc). */
const TOO_LARGE = new Set<number>([CODE.MSG_SIZE_TOO_LARGE, CODE.RECORD_LIST_TOO_LARGE, CODE.BAD_MSG])

/** Errors that an output gets because another output or the transaction failed. */
const COLLATERAL = new Set<number>([CODE.PURGE_QUEUE, CODE.PURGE_INFLIGHT, CODE.STATE])

/** The fault that an error code means for its output; undefined when another output or the transaction is at fault. */
export function outputFault(code: number): OutputFault | undefined {
  if (COLLATERAL.has(code)) return undefined
  const reason = messageOf(code)
  return {
    reason: code === CODE.INVALID_RECORD ? `${reason} (${INVALID_HINT})` : reason,
    tooLarge: TOO_LARGE.has(code),
  }
}

/** The error of a step. */
interface StepFault {
  message: string
  code?: number
  isFatal?: boolean
  isTxnRequiresAbort?: boolean
}

const LOST: StepFault = { message: 'a partition of it is no longer this member’s' }

type Call = (done: (error: LibrdKafkaError | null) => void) => void

/** A connected client with initialised transactions. */
interface Client {
  kafka: Producer
  records: PackedProducer
}

/** One open transaction. */
class Transaction {
  readonly kafka: Producer
  readonly records: PackedProducer
  /** Outputs that were refused, by index. */
  readonly failed = new Map<number, OutputFault>()
  /** Why not all outputs were queued. */
  notQueued: string | undefined
  readonly #options: TransactorOptions
  readonly #stopping: AbortSignal
  /** Monotonic; after it the broker may have aborted the transaction. */
  readonly #deadlineMs: number

  constructor({ kafka, records }: Client, options: TransactorOptions, stopping: AbortSignal) {
    this.kafka = kafka
    this.records = records
    this.#options = options
    this.#stopping = stopping
    this.#deadlineMs = performance.now() + options.transactionTimeoutMs
  }

  reported(report: Readonly<Report>): void {
    if (isNotQueued(report)) this.notQueued ??= messageOf(report.code)
    const fault = outputFault(report.code)
    if (fault !== undefined) this.failed.set(report.sequence, fault)
  }

  /** Repeats a step while its error is retriable, until the deadline or the signal. */
  async step(
    call: Call,
    signal: AbortSignal = this.#stopping,
    deadlineMs = this.#deadlineMs,
  ): Promise<StepFault | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        await within(STEP_TIMEOUT_MS + ANSWER_GRACE_MS, promised(call))
        return undefined
      } catch (thrown) {
        if (thrown instanceof TimeoutError)
          return { message: `the client does not answer: ${thrown.message}`, isFatal: true }
        const error = thrown as LibrdKafkaError
        const message = withMissingAcl(error, this.#options)
        const fault: StepFault = {
          message,
          code: error.code,
          isFatal: error.isFatal === true,
          isTxnRequiresAbort: error.isTxnRequiresAbort === true,
        }
        if (error.isRetriable !== true || error.isFatal === true) return fault
        if (signal.aborted || this.#stopping.aborted || performance.now() > deadlineMs) return fault
        this.#options.log.warn({ code: error.code, reason: message }, 'transaction step failed; retrying')
        await sleep(delayMs(CONNECT_BACKOFF, attempt), signal)
      }
    }
  }

  begin(): Promise<StepFault | undefined> {
    return this.step((done) => this.kafka.beginTransaction(done))
  }

  sendOffsets(
    offsets: readonly CommittedOffset[],
    membership: Membership,
    lost?: AbortSignal,
  ): Promise<StepFault | undefined> {
    return this.step((done) => sendOffsetsToTransaction(this.kafka, offsets, membership, STEP_TIMEOUT_MS, done), lost)
  }

  async abort(fault: StepFault): Promise<TransactionResult> {
    if (fault.isFatal === true) return { kind: 'fatal', reason: fault.message }
    const abort: Call = (done) => this.kafka.abortTransaction(STEP_TIMEOUT_MS, done)
    const deadlineMs = performance.now() + this.#options.transactionTimeoutMs
    const notAborted = await this.step(abort, this.#stopping, deadlineMs)
    if (notAborted !== undefined)
      return { kind: 'fatal', reason: `${fault.message}; aborting failed: ${notAborted.message}` }
    // Reports that the event loop has not delivered yet.
    this.records.take()
    const passing = this.failed.size === 0 && (fault.code === undefined || PASSING.has(fault.code))
    return { kind: 'aborted', reason: fault.message, failed: this.failed, passing }
  }
}

function transactionalSettings(options: TransactorOptions): Settings {
  return {
    ...connectionSettings(options.config, options.clientId),
    'transactional.id': options.transactionalId,
    'transaction.timeout.ms': options.transactionTimeoutMs,
    'enable.idempotence': true,
    'compression.codec': 'lz4',
    'linger.ms': 0,
    // A transaction that begins before the markers of the previous one are written is retried after this delay: with the default of 100 ms
    // nearly every transaction waits for it.
    'retry.backoff.ms': TRANSACTION_RETRY_MS,
    // The topic's limit decides; a local limit would only add another error for the same cause.
    'message.max.bytes': MAX_MESSAGE_BYTES,
    'message.timeout.ms': options.transactionTimeoutMs,
    'topic.metadata.refresh.interval.ms': METADATA_REFRESH_MS,
    'topic.metadata.propagation.max.ms': TOPIC_GONE_AFTER_MS,
    partitioner: 'murmur2_random',
    dr_cb: true,
  }
}

/** @returns why transactions cannot be initialised */
function initialise(kafka: Producer, options: TransactorOptions): Promise<string | undefined> {
  const initialised = promised((done) => kafka.initTransactions(INIT_TIMEOUT_MS, done))
  return within(INIT_TIMEOUT_MS + ANSWER_GRACE_MS, initialised).then(
    () => undefined,
    (error: Error & { code?: number }) => withMissingAcl(error, options),
  )
}

/** A transactional producer. */
export function createTransactor(options: TransactorOptions): Transactor {
  const { config, log, transactionalId } = options
  const stopping = new AbortController()
  const watch = watchConnection({ config, client: 'transactions', log })
  const connections = new Connections()
  let client: Client | undefined
  /** The transaction that is open, or was open last. */
  let current: Transaction | undefined
  /** Settles when the last transaction ends; there is one at a time. */
  let turn: Promise<unknown> = Promise.resolve()
  /** Prefix of this process's transaction names. */
  const life = `${transactionalId}:${Date.now().toString(36)}`
  let transactions = 0

  /** Monotonic. */
  let openedMs = 0

  function open(secured: Settings): Producer {
    openedMs = performance.now()
    const opened = new (native().Producer)({ ...transactionalSettings(options), ...secured })
    return watch.attach(opened, (statistics) => {
      connections.take(statistics)
      options.onStatistics(statistics)
    })
  }

  const reported = (report: Readonly<Report>) => current?.reported(report)

  const disconnect = (kafka: Producer): Promise<void> =>
    closeClient(log, 'transactional producer', (done) => kafka.disconnect(0, done))

  /** Runs one transaction after those before it. */
  function inTurn<R>(run: (transaction: Transaction) => Promise<R>): Promise<R | TransactionResult> {
    const mine = turn.then(async (): Promise<R | TransactionResult> => {
      if (client === undefined) return { kind: 'aborted', reason: 'not connected', failed: new Map(), passing: true }
      current = new Transaction(client, options, stopping.signal)
      const fault = await current.begin()
      return fault === undefined ? run(current) : { kind: 'fatal', reason: fault.message }
    })
    turn = mine
    return mine
  }

  async function writeAndCommit(
    transaction: Transaction,
    outputs: readonly (OutgoingRecord | PassedRecord)[],
  ): Promise<TransactionResult> {
    const { kafka, records } = transaction
    const { packer } = records
    packer.common(TRANSACTION, `${life}-${++transactions}`)
    for (let index = 0; index < outputs.length; index++) {
      const output = outputs[index] as OutgoingRecord | PassedRecord
      if ('passed' in output) packer.pass(output, index)
      else packer.add(output, index)
    }
    records.flush()
    records.take()
    if (transaction.notQueued !== undefined) return transaction.abort({ message: transaction.notQueued })
    const fault = await transaction.step((done) => kafka.commitTransaction(STEP_TIMEOUT_MS, done))
    if (fault === undefined) return { kind: 'committed' }
    // Unless the client asks for an abort, the transaction may have been committed.
    if (fault.isTxnRequiresAbort === true) return transaction.abort(fault)
    return { kind: 'fatal', reason: fault.message }
  }

  /** Writes a record without key and value to each partition. @returns why not all were written */
  async function writeTo(
    transaction: Transaction,
    partitions: readonly TopicPartition[],
    name: string,
  ): Promise<StepFault | undefined> {
    const { kafka, records, failed } = transaction
    const headers = headersOf({ [TRANSACTION]: name })
    for (const [index, at] of partitions.entries())
      records.packer.add({ ...at, key: null, value: null, headers }, index)
    records.flush()
    const fault = await transaction.step((done) => kafka.flush(STEP_TIMEOUT_MS, done))
    records.take()
    const [refused] = failed.values()
    return fault ?? (refused === undefined ? undefined : { message: refused.reason })
  }

  return {
    transactionalId,
    connection: watch.current,
    disconnects: () => connections.lost,
    async start() {
      for (let attempt = 1; !stopping.signal.aborted; attempt++) {
        const opened = await connectForever(securityOf(config, log), open, watch.failed, stopping.signal)
        if (opened === undefined) return
        opened.setPollInterval(POLL_INTERVAL_MS)
        const fault = await initialise(opened, options)
        // close() has not seen this client.
        if (stopping.signal.aborted) return disconnect(opened)
        if (fault === undefined) {
          client = { kafka: opened, records: packProducer(packed(), opened, reported, true) }
          connections.initialised((performance.now() - openedMs) * 1_000)
          watch.connected()
          return
        }
        watch.failed(`transactions cannot be initialised: ${fault}`)
        await disconnect(opened)
        await sleep(delayMs(CONNECT_BACKOFF, attempt), stopping.signal)
      }
    },
    async refresh() {
      if (client === undefined) throw new Error('not connected')
      await clusterMetadata(client.kafka, METADATA_TIMEOUT_MS)
    },
    commit: (outputs, offsets, membership, lost) =>
      inTurn(async (transaction) => {
        // Offsets first. While the markers of the previous transaction are being written, librdkafka retries offsets soon, but delays outputs by
        // a fixed 20 ms. The order does not matter to what is committed.
        const notSent = await transaction.sendOffsets(offsets, membership, lost)
        if (notSent !== undefined) return transaction.abort(notSent)
        if (lost.aborted) return transaction.abort(LOST)
        return writeAndCommit(transaction, outputs)
      }),
    write: (outputs) => inTurn((transaction) => writeAndCommit(transaction, outputs)),
    async release(held, ...[what, membership]) {
      // The marker of an abort ends every transaction that this id has open in the partition.
      const result = await inTurn(async (transaction): Promise<ReleaseResult | TransactionResult> => {
        const name = what === 'records' ? `${life}-${++transactions}${RELEASE_SUFFIX}` : undefined
        const fault =
          what === 'committed offset'
            ? await transaction.sendOffsets(
                held.map((at) => ({ ...at, offset: 0, metadata: RELEASED })),
                membership,
              )
            : await writeTo(transaction, held, name ?? '')
        const ended = await transaction.abort(fault ?? { message: '' })
        return fault === undefined && ended.kind === 'aborted' ? { kind: 'released', transaction: name } : ended
      })
      if (result.kind === 'released' || result.kind === 'fatal') return result
      return { kind: 'not released', reason: 'reason' in result ? result.reason : result.kind }
    },
    async close() {
      stopping.abort()
      const last = client
      client = undefined
      if (last !== undefined) {
        last.records.close()
        await disconnect(last.kafka)
      }
      watch.closed()
    },
  }
}

/**
 * A connection that is silent for longer than this, µs, and whose last message was a response was closed because it was idle. If the last
 * message was a request, the broker is frozen or unreachable.
 */
const IDLE_US = 30_000_000

/** Counts the connections that a client has lost, from its statistics (librdkafka's STATISTICS.md, "brokers"). */
export class Connections {
  lost = 0
  /** By broker, as of the last statistics. */
  readonly #known = new Map<string, { disconnects: number; isIdle: boolean }>()
  #initialisedUs = Number.POSITIVE_INFINITY

  /**
   * The client is ready. Connections that it lost before that do not count.
   * @param ageUs the client's age, µs
   */
  initialised(ageUs: number): void {
    this.#initialisedUs = ageUs
  }

  take({ age = 0, brokers = {} }: Statistics): void {
    const usableUs = age - this.#initialisedUs
    for (const [name, broker] of Object.entries(brokers)) {
      const { disconnects = 0, rxidle = 0, txidle = 0, state, stateage = 0 } = broker
      const before = this.#known.get(name)
      const added = disconnects - (before?.disconnects ?? 0)
      const wasUpBefore = before === undefined && state === 'UP' && stateage > usableUs
      if (added > 1 || (added === 1 && before?.isIdle !== true)) this.lost += wasUpBefore ? 0 : added
      this.#known.set(name, { disconnects, isIdle: rxidle > IDLE_US && txidle >= rxidle })
    }
  }
}

/** Suffix of the names of transactions that only end others; their records are ignored. */
export const RELEASE_SUFFIX = '-release'

/** Metadata of an offset that is sent only to be aborted. Should a broker commit it nevertheless, readers recognise it and ignore it. */
export const RELEASED = 'released'
