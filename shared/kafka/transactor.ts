import { headersOf, TRANSACTION, withHeaders } from '../events/headers.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, TimeoutError, within } from '../service/retry.ts'
import {
  CLOSE_TIMEOUT_MS,
  CODE,
  connectForever,
  connectionSettings,
  type LibrdKafkaError,
  messageOf,
  native,
  type Producer,
  packed,
  promised,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { sendOffsetsToTransaction } from './group-metadata.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import type { Statistics } from './statistics.ts'
import type { CommittedOffset, Membership, OutputFault, ReleaseResult, TransactionResult, Transactor } from './types.ts'

export interface TransactorOptions {
  config: CommonConfig
  clientId: string
  /** The same for every life of one instance, different between instances: a successor ends what its predecessor left open. */
  transactionalId: string
  /** After which the broker aborts a transaction whose owner is gone; readers of committed records wait that long. */
  transactionTimeoutMs: number
  log: Logger
  onStatistics(statistics: Statistics): void
}

/** The first pause before a request is sent again; doubled with each, up to librdkafka's bound of a second. */
const TRANSACTION_RETRY_MS = 2

/**
 * How often statistics and errors are asked for. Delivery reports do not wait for it: committing a transaction polls by itself. Polling in the
 * background, as the other producer does, would take the reports away from it, and it would notice that all are there only every 10 ms.
 */
const POLL_INTERVAL_MS = 100

/** How long one step of a transaction is waited for before it is asked for again; steps are resumable. */
const STEP_TIMEOUT_MS = 5_000

/** How much later than its own bound the client may answer before it counts as one that never does. */
const ANSWER_GRACE_MS = 5_000

/** How soon a topic's new partitions are known, and that a topic is gone. */
const METADATA_REFRESH_MS = 5_000
const TOPIC_GONE_AFTER_MS = 3_000
const METADATA_TIMEOUT_MS = 5_000

/** Faults of the group and of coordinators, which go on by themselves. They are no topic's, and none of the records'. */
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
  // Left behind by records that were refused; aborting begins a new sequence.
  CODE.OUT_OF_ORDER_SEQUENCE_NUMBER,
])

/** A broker refuses a record without a key in a topic that is compacted, and does not say so. */
const INVALID_HINT = 'is cleanup.policy of .processed, .retry or .dlq compact? set it to delete'

/**
 * Limits of a batch: of the topic, and of its segments. BAD_MSG: it has more headers than the addon hands over (native/shim/packed.cc), of which its reason
 * says nothing.
 */
const TOO_LARGE = new Set<number>([CODE.MSG_SIZE_TOO_LARGE, CODE.RECORD_LIST_TOO_LARGE, CODE.BAD_MSG])

/** What is told of an output because of another one, or of the transaction. */
const BESIDE = new Set<number>([CODE.PURGE_QUEUE, CODE.PURGE_INFLIGHT, CODE.STATE])

/**
 * What librdkafka's code says of an output. What was given up, or came too late, because another output, or the transaction, failed says nothing of this
 * one.
 */
export function outputFault(code: number): OutputFault | undefined {
  if (BESIDE.has(code)) return undefined
  const reason = messageOf(code)
  return {
    reason: code === CODE.INVALID_RECORD ? `${reason} (${INVALID_HINT})` : reason,
    tooLarge: TOO_LARGE.has(code),
  }
}

/** What an error of a step comes to. */
interface StepFault {
  message: string
  code?: number
  isFatal?: boolean
  isTxnRequiresAbort?: boolean
}

/** A transaction that is under way. */
interface Open {
  kafka: Producer
  records: PackedProducer
  /** Monotonic; after it the broker may have ended the transaction. */
  deadlineMs: number
}

/** A transactional producer. */
export function createTransactor(options: TransactorOptions): Transactor {
  const { config, clientId, log, transactionalId } = options
  const stopping = new AbortController()
  let producer: { kafka: Producer; records: PackedProducer } | undefined
  const watch = watchConnection({ config, client: 'transactions', log })
  /** Outputs of the open transaction that were not taken, by index. */
  let failed = new Map<number, OutputFault>()
  /** Why not all outputs were queued. */
  let notQueued: string | undefined
  const connections = new Connections()
  /** Monotonic. */
  let openedMs = 0
  /** One transaction at a time. */
  let turn: Promise<unknown> = Promise.resolve()
  /** Names of transactions: this client's, and how many there have been. */
  const life = `${transactionalId}:${Date.now().toString(36)}`
  let transactions = 0

  function open(): Producer {
    openedMs = performance.now()
    return watch.attach(
      new (native().Producer)({
        ...connectionSettings(config, clientId),
        'transactional.id': transactionalId,
        'transaction.timeout.ms': options.transactionTimeoutMs,
        'enable.idempotence': true,
        'compression.codec': 'lz4',
        'linger.ms': 0,
        // A transaction that begins before the markers of the one before are written is told to try again, which takes this long: with the default
        // of 100 ms nearly every transaction does.
        'retry.backoff.ms': TRANSACTION_RETRY_MS,
        // The topic's limit decides; a local one would only be a second, different error for the same thing.
        'message.max.bytes': MAX_MESSAGE_BYTES,
        'message.timeout.ms': options.transactionTimeoutMs,
        'topic.metadata.refresh.interval.ms': METADATA_REFRESH_MS,
        'topic.metadata.propagation.max.ms': TOPIC_GONE_AFTER_MS,
        partitioner: 'murmur2_random',
        dr_cb: true,
      }),
      (statistics) => {
        connections.take(statistics)
        options.onStatistics(statistics)
      },
    )
  }

  function reported(report: Readonly<Report>): void {
    if (isNotQueued(report)) notQueued ??= messageOf(report.code)
    const fault = outputFault(report.code)
    if (fault !== undefined) failed.set(report.sequence, fault)
  }

  /** Asks again for a step while the client says that this is all it takes, until the deadline or the signal. */
  async function step(
    call: (done: (error: LibrdKafkaError | null) => void) => void,
    deadlineMs: number,
    signal: AbortSignal = stopping.signal,
  ): Promise<StepFault | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        await within(STEP_TIMEOUT_MS + ANSWER_GRACE_MS, promised(call))
        return undefined
      } catch (thrown) {
        if (thrown instanceof TimeoutError)
          return { message: `the client does not answer: ${thrown.message}`, isFatal: true }
        const error = thrown as LibrdKafkaError
        if (error.isRetriable !== true || error.isFatal === true) return error
        if (signal.aborted || stopping.signal.aborted || performance.now() > deadlineMs) return error
        log.warn({ code: error.code, reason: error.message }, 'transaction step failed; retrying')
        await sleep(delayMs(CONNECT_BACKOFF, attempt), signal)
      }
    }
  }

  async function abort({ kafka, records }: Open, fault: StepFault): Promise<TransactionResult> {
    if (fault.isFatal === true) return { kind: 'fatal', reason: fault.message }
    const deadlineMs = performance.now() + options.transactionTimeoutMs
    const notAborted = await step((done) => kafka.abortTransaction(STEP_TIMEOUT_MS, done), deadlineMs)
    if (notAborted !== undefined)
      return { kind: 'fatal', reason: `${fault.message}; aborting failed: ${notAborted.message}` }
    // Whatever has been reported counts, also what the event loop was not told of yet.
    records.take()
    const passing = failed.size === 0 && (fault.code === undefined || PASSING.has(fault.code))
    return { kind: 'aborted', reason: fault.message, failed, passing }
  }

  /** Runs one transaction when those before it are over. */
  function inTurn<R>(run: (open: Open) => Promise<R>): Promise<R | TransactionResult> {
    const mine = turn.then(async (): Promise<R | TransactionResult> => {
      const ready = producer
      failed = new Map()
      notQueued = undefined
      if (ready === undefined) return { kind: 'aborted', reason: 'not connected', failed, passing: true }
      const deadlineMs = performance.now() + options.transactionTimeoutMs
      const begun = await step((done) => ready.kafka.beginTransaction(done), deadlineMs)
      if (begun !== undefined) return { kind: 'fatal', reason: begun.message }
      return run({ ...ready, deadlineMs })
    })
    turn = mine
    return mine
  }

  const send = (
    { kafka, deadlineMs }: Open,
    offsets: readonly CommittedOffset[],
    membership: Membership,
    signal?: AbortSignal,
  ): Promise<StepFault | undefined> =>
    step((done) => sendOffsetsToTransaction(kafka, offsets, membership, STEP_TIMEOUT_MS, done), deadlineMs, signal)

  return {
    transactionalId,
    connection: watch.current,
    disconnects: () => connections.lost,
    async start() {
      for (let attempt = 1; !stopping.signal.aborted; attempt++) {
        const opened = await connectForever(open, watch.failed, stopping.signal)
        if (opened === undefined) return
        opened.setPollInterval(POLL_INTERVAL_MS)
        const fault = await initialised(opened)
        // Closed meanwhile: nobody else is going to disconnect it.
        if (stopping.signal.aborted) return disconnect(opened)
        if (fault === undefined) {
          producer = { kafka: opened, records: packProducer(packed(), opened, reported, true) }
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
      const kafka = producer?.kafka
      if (kafka === undefined) throw new Error('not connected')
      await promised<unknown>((done) => kafka.getMetadata({ timeout: METADATA_TIMEOUT_MS, allTopics: true }, done))
    },
    commit: (outputs, offsets, membership, lost) =>
      inTurn(async (open) => {
        const { kafka, records, deadlineMs } = open
        // Offsets first: while the markers of the transaction before are being written, adding them is tried again soon, whereas librdkafka gives
        // outputs that come too early a fixed pause of 20 ms. For what is committed together the order makes no difference.
        const sent = await send(open, offsets, membership, lost)
        if (sent !== undefined) return abort(open, sent)
        if (lost.aborted) return abort(open, LOST)
        const name = { [TRANSACTION]: `${life}-${++transactions}` }
        for (const [index, output] of outputs.entries())
          records.packer.add({ ...output, headers: withHeaders(output.headers, name) }, index)
        records.flush()
        records.take()
        if (notQueued !== undefined) return abort(open, { message: notQueued })
        const committed = await step((done) => kafka.commitTransaction(STEP_TIMEOUT_MS, done), deadlineMs)
        if (committed === undefined) return { kind: 'committed' }
        // Without a word on whether to abort, the transaction may have been committed.
        if (committed.isTxnRequiresAbort === true) return abort(open, committed)
        return { kind: 'fatal', reason: committed.message }
      }),
    async release(held, what, membership) {
      // An end that is written to a partition ends all that this id has open there.
      const result = await inTurn(async (open): Promise<ReleaseResult | TransactionResult> => {
        const { kafka, records, deadlineMs } = open
        const transaction = what === 'records' ? `${life}-${++transactions}${RELEASE_SUFFIX}` : undefined
        if (transaction === undefined) {
          const offsets = held.map((at) => ({ ...at, offset: 0, metadata: RELEASED }))
          const sent = await send(open, offsets, membership)
          if (sent !== undefined) return abort(open, sent)
        } else {
          const headers = headersOf({ [TRANSACTION]: transaction })
          for (const [index, at] of held.entries())
            records.packer.add({ ...at, key: null, value: null, headers }, index)
          records.flush()
          const flushed = await step((done) => kafka.flush(STEP_TIMEOUT_MS, (error) => done(error)), deadlineMs)
          records.take()
          if (flushed !== undefined) return abort(open, flushed)
          const [refused] = failed.values()
          if (refused !== undefined) return abort(open, { message: refused.reason })
        }
        const aborted = await abort(open, { message: '' })
        return aborted.kind === 'aborted' ? { kind: 'released', transaction } : aborted
      })
      if (result.kind === 'released' || result.kind === 'fatal') return result
      return { kind: 'not released', reason: 'reason' in result ? result.reason : result.kind }
    },
    async close() {
      stopping.abort()
      const open = producer
      producer = undefined
      if (open !== undefined) {
        open.records.close()
        await disconnect(open.kafka)
      }
      watch.closed()
    },
  }

  /** @returns why it cannot be used */
  async function initialised(opened: Producer): Promise<string | undefined> {
    try {
      await within(
        INIT_TIMEOUT_MS + ANSWER_GRACE_MS,
        promised((done) => opened.initTransactions(INIT_TIMEOUT_MS, done)),
      )
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  }

  async function disconnect(opened: Producer): Promise<void> {
    await within(
      CLOSE_TIMEOUT_MS,
      promised((done) => opened.disconnect(0, (error) => done(error))),
    ).catch((error: Error) => log.warn({ reason: error.message }, 'transactional producer did not close in time'))
  }
}

/**
 * A connection on which so long ago an answer was the last thing, µs, was closed for its silence; nothing of ours was on its way. Where a request was the last
 * thing, the broker is frozen or cut off.
 */
const IDLE_US = 30_000_000

/** The connections that a client has lost, as its statistics tell (librdkafka's STATISTICS.md, "brokers"). */
export class Connections {
  lost = 0
  /** By broker, as of the last statistics. */
  readonly #known = new Map<string, { disconnects: number; isIdle: boolean }>()
  #initialisedUs = Number.POSITIVE_INFINITY

  /**
   * The client can be used from now on. What it had lost until then, such as a connection to a coordinator that was just being found, concerns nobody.
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

const LOST: StepFault = { message: 'a partition of it is no longer this member’s' }

/** Marks the names of transactions that are only there to end others: their records are none that count. */
export const RELEASE_SUFFIX = '-release'

/**
 * The metadata of an offset that is only there to be aborted. Should a broker count it as committed all the same, it says nothing of what has been done.
 */
export const RELEASED = 'released'

/** How long initialising waits for a predecessor's transaction to end before it is asked for again. */
const INIT_TIMEOUT_MS = 15_000

/** librdkafka's upper bound of message.max.bytes. */
const MAX_MESSAGE_BYTES = 1_000_000_000
