import type { CommonConfig } from '../config.ts'
import { NO_HEADERS } from '../headers.ts'
import type { Logger } from '../logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep } from '../retry.ts'
import {
  CODE,
  type Consumer,
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
import { connectionOf, type NativeGroupConsumer } from './consumer.ts'
import { isNotQueued, type PackedProducer, packProducer, type Report } from './packed.ts'
import type { Connection, OutgoingRecord, TransactionResult, Transactor } from './types.ts'

export interface TransactorOptions {
  config: CommonConfig
  clientId: string
  /** The same for every life of one instance, different between instances: a successor ends what its predecessor left open. */
  transactionalId: string
  /** After which the broker aborts a transaction whose owner is gone; readers of committed records wait that long. */
  transactionTimeoutMs: number
  /** Its membership of the group fences transactions of members that lost their partitions (KIP-447). */
  group: NativeGroupConsumer
  log: Logger
  onStatistics(json: string): void
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

/** A transactional producer. */
export function createTransactor(options: TransactorOptions): Transactor {
  const { config, clientId, group, log } = options
  const stopping = new AbortController()
  let producer: { kafka: Producer; records: PackedProducer } | undefined
  let connection: Connection = { state: 'connecting', reason: 'not connected yet' }
  /** Outputs of the open transaction that the broker refused for good, by index. */
  let refused = new Map<number, string>()
  /** Why not all outputs were queued. */
  let notQueued: string | undefined
  /** One transaction at a time. */
  let turn: Promise<unknown> = Promise.resolve()

  function open(): Producer {
    const opened = new (native().Producer)({
      ...connectionSettings(config, clientId),
      'transactional.id': options.transactionalId,
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
      partitioner: 'murmur2_random',
      dr_cb: true,
    })
    opened.on('event.stats', (event: { message: string }) => {
      if (connection.state !== 'closed') connection = connectionOf(event.message) ?? connection
      options.onStatistics(event.message)
    })
    opened.on('event.error', (error) => {
      const code = eventCode(error)
      if (connection.state === 'connected' && code === CODE.ALL_BROKERS_DOWN)
        connection = { state: 'connecting', reason: error.message }
      log.warn({ code, reason: error.message }, 'Kafka transactions')
    })
    return opened
  }

  function failed(report: Readonly<Report>): void {
    const reason = messageOf(report.code)
    if (report.code === CODE.MSG_SIZE_TOO_LARGE) refused.set(report.sequence, reason)
    else if (isNotQueued(report)) notQueued = reason
  }

  /** Asks again for a step while the client says that this is all it takes. */
  async function step(call: (done: (error: LibrdKafkaError) => void) => void): Promise<LibrdKafkaError | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        await promised(call)
        return undefined
      } catch (thrown) {
        const error = thrown as LibrdKafkaError
        if (error.isRetriable !== true || error.isFatal === true || stopping.signal.aborted) return error
        log.warn({ code: error.code, reason: error.message }, 'a step of a transaction is tried again')
        await sleep(delayMs(CONNECT_BACKOFF, attempt), stopping.signal)
      }
    }
  }

  async function abort(
    { kafka, records }: { kafka: Producer; records: PackedProducer },
    error: { message: string; isFatal?: boolean },
  ): Promise<TransactionResult> {
    if (error.isFatal === true) return { kind: 'fatal', reason: error.message }
    const fault = await step((done) => kafka.abortTransaction(STEP_TIMEOUT_MS, done))
    if (fault !== undefined) return { kind: 'fatal', reason: `${error.message}; aborting failed: ${fault.message}` }
    // Whatever has been reported counts, also what the event loop was not told of yet.
    records.take()
    return { kind: 'aborted', reason: error.message, refused }
  }

  /** Runs one transaction when those before it are over. */
  function inTurn(
    run: (ready: { kafka: Producer; records: PackedProducer }, member: Consumer) => Promise<TransactionResult>,
  ): Promise<TransactionResult> {
    const mine = turn.then(async (): Promise<TransactionResult> => {
      const ready = producer
      const member = group.native()
      if (ready === undefined || member === undefined)
        return { kind: 'aborted', reason: 'not connected', refused: new Map() }
      refused = new Map()
      notQueued = undefined
      const begun = await step((done) => ready.kafka.beginTransaction(done))
      return begun === undefined ? run(ready, member) : { kind: 'fatal', reason: begun.message }
    })
    turn = mine
    return mine
  }

  return {
    connection: () => connection,
    async start() {
      for (let attempt = 1; !stopping.signal.aborted; attempt++) {
        const opened = await connectForever(
          open,
          (reason) => {
            connection = { state: 'connecting', reason }
            log.warn({ reason }, 'cannot reach Kafka; trying again')
          },
          stopping.signal,
        )
        if (opened === undefined) return
        opened.setPollInterval(POLL_INTERVAL_MS)
        const fault = await step((done) => opened.initTransactions(INIT_TIMEOUT_MS, done))
        if (fault === undefined) {
          producer = { kafka: opened, records: packProducer(packed(), opened, failed, true) }
          connection = { state: 'connected' }
          return
        }
        connection = { state: 'connecting', reason: `transactions cannot be initialised: ${fault.message}` }
        log.warn({ reason: fault.message }, 'transactions cannot be initialised; trying again')
        await promised((done) => opened.disconnect(0, (error) => done(error)))
        await sleep(delayMs(CONNECT_BACKOFF, attempt), stopping.signal)
      }
    },
    commit: (outputs, offsets) =>
      inTurn(async (ready, member) => {
        const { kafka, records } = ready
        // Offsets first: while the markers of the transaction before are being written, adding them is tried again soon, whereas librdkafka gives
        // outputs that come too early a fixed pause of 20 ms. For what is committed together the order makes no difference.
        if (offsets.length > 0) {
          const sent = await step((done) => kafka.sendOffsetsToTransaction([...offsets], member, STEP_TIMEOUT_MS, done))
          if (sent !== undefined) return abort(ready, sent)
        }
        for (let index = 0; index < outputs.length; index++) records.packer.add(outputs[index] as OutgoingRecord, index)
        records.flush()
        records.take()
        if (notQueued !== undefined) return abort(ready, { message: notQueued })
        const committed = await step((done) => kafka.commitTransaction(STEP_TIMEOUT_MS, done))
        if (committed === undefined) return { kind: 'committed' }
        // Without a word on whether to abort, the transaction may have been committed.
        if (committed.isTxnRequiresAbort === true) return abort(ready, committed)
        return { kind: 'fatal', reason: committed.message }
      }),
    // An end that is written to a partition ends all that this id has open there.
    release: (held, what) =>
      inTurn(async (ready, member) => {
        const { kafka, records } = ready
        if (what === 'committed offset') {
          const offsets = [{ ...held, offset: 0, metadata: '' }]
          const sent = await step((done) => kafka.sendOffsetsToTransaction(offsets, member, STEP_TIMEOUT_MS, done))
          if (sent !== undefined) return abort(ready, sent)
        } else {
          records.packer.add({ ...held, key: null, value: null, headers: NO_HEADERS }, 0)
          records.flush()
          const flushed = await step((done) => kafka.flush(STEP_TIMEOUT_MS, (error) => done(error)))
          records.take()
          if (flushed !== undefined) return abort(ready, flushed)
        }
        return abort(ready, { message: 'to end what was left open' })
      }),
    async close() {
      stopping.abort()
      const open = producer
      producer = undefined
      if (open !== undefined) {
        open.records.close()
        await promised((done) => open.kafka.disconnect(0, (error) => done(error)))
      }
      connection = { state: 'closed' }
    },
  }
}

/** How long initialising waits for a predecessor's transaction to end before it is asked for again. */
const INIT_TIMEOUT_MS = 15_000

/** librdkafka's upper bound of message.max.bytes. */
const MAX_MESSAGE_BYTES = 1_000_000_000
