import type { CommonConfig } from '../config.ts'
import type { Logger } from '../logger.ts'
import { sleep } from '../retry.ts'
import {
  CODE,
  type Consumer,
  connectForever,
  type LibrdKafkaError,
  messageOf,
  native,
  packed,
  promised,
} from './client.ts'
import { readerSettings } from './consumer.ts'
import { consumePacked, type Interruption } from './packed.ts'
import { HeldBackError, type RangeReader, type TopicPartition } from './types.ts'

/** How long a broker may take to answer a question about a partition. */
const BROKER_CALL_TIMEOUT_MS = 10_000

/** Records taken in one call. */
const READ_MAX_RECORDS = 1_000

/** How soon it is looked again when no record was ready. */
const READ_PAUSE_MS = 2

/** How long a range waits for the transactions in it to end, and how soon it is looked again. */
const TRANSACTIONS_TIMEOUT_MS = 5_000
const TRANSACTIONS_PAUSE_MS = 50

type Isolation = 'read_committed' | 'read_uncommitted'

interface Offsets {
  lowOffset: number
  highOffset: number
}

/** One range at a time, over a client that is kept open between ranges. */
export function createRangeReader(options: { config: CommonConfig; clientId: string; log: Logger }): RangeReader {
  const { config, clientId, log } = options
  const stopping = new AbortController()
  // Two clients, since the isolation level decides what "the end" is: the last committed record or the last record.
  const opening = new Map<string, Promise<Consumer>>()

  const client = (isolation: Isolation): Promise<Consumer> => {
    const open = () =>
      new (native().KafkaConsumer)({
        ...readerSettings(config, clientId),
        'isolation.level': isolation,
        // Never joined and never committed to; librdkafka wants a name.
        'group.id': `${clientId}-ranges`,
        'enable.partition.eof': true,
      })
    const failed = (reason: string) => log.warn({ reason }, 'cannot reach Kafka; trying again')
    let opened = opening.get(isolation)
    if (opened === undefined) {
      opened = connectForever(open, failed, stopping.signal).then((ready) => {
        if (ready === undefined) throw new Error('closed')
        return ready
      })
      opening.set(isolation, opened)
    }
    return opened
  }

  let turn: Promise<unknown> = Promise.resolve()

  /** Reads when it is its turn. */
  function inTurn(isolation: Isolation, ...range: Parameters<RangeReader['read']>): Promise<void> {
    const mine = turn.then(() => readRange(isolation, ...range))
    turn = mine.catch(() => undefined)
    return mine
  }

  async function readRange(
    isolation: Isolation,
    ...[at, from, to, onRecord]: Parameters<RangeReader['read']>
  ): Promise<void> {
    const consumer = await client(isolation)
    // Control records and aborted ones at the end of a range show up in no message; librdkafka's end-of-partition event counts them.
    let reached = from
    let fault: string | undefined
    const interrupted = ({ code, topic, partition, offset }: Interruption): void => {
      if (code !== CODE.PARTITION_EOF) fault = messageOf(code)
      else if (topic === at.topic && partition === at.partition) reached = Math.max(reached, offset)
    }
    consumer.assign([{ ...at, offset: from }])
    try {
      while (reached < to && !stopping.signal.aborted) {
        const records = consumePacked(packed(), consumer, READ_MAX_RECORDS, interrupted)
        for (const record of records) {
          if (record.offset < to) onRecord(record)
          reached = Math.max(reached, record.offset + 1)
        }
        if (fault !== undefined) throw new Error(`${at.topic}/${at.partition}: ${fault}`)
        // Between two batches others get their turn, too.
        await Bun.sleep(records.length === 0 ? READ_PAUSE_MS : 0)
      }
      if (reached < to) throw new Error('closed')
    } finally {
      consumer.unassign()
    }
  }

  /** The first offset, and the one past the last that the isolation level lets a reader see. */
  async function offsetsOf({ topic, partition }: TopicPartition, isolation: Isolation): Promise<Offsets> {
    const consumer = await client(isolation)
    const query = () =>
      promised<Offsets>((done) => consumer.queryWatermarkOffsets(topic, partition, BROKER_CALL_TIMEOUT_MS, done))
    try {
      return await query()
    } catch (error) {
      const { code } = error as LibrdKafkaError
      if (code !== CODE.UNKNOWN_PARTITION && code !== CODE.UNKNOWN_TOPIC) throw error
      // The client goes on believing that a topic does not exist until it is told to look.
      await promised<unknown>((done) =>
        consumer.getMetadata({ topic, allTopics: false, timeout: BROKER_CALL_TIMEOUT_MS }, done),
      )
      return query().catch((again: LibrdKafkaError) => {
        throw new Error(`${topic}/${partition}: ${again.message}`)
      })
    }
  }

  /**
   * Waits until no transaction is open below an offset. Not while it is its turn to read: a transaction that nobody ends holds back its own
   * partition and no other.
   */
  async function transactionsEnded(at: TopicPartition, to: number): Promise<void> {
    const deadline = performance.now() + TRANSACTIONS_TIMEOUT_MS
    for (;;) {
      const { highOffset: stable } = await offsetsOf(at, 'read_committed')
      if (stable >= to) return
      if (performance.now() > deadline) throw new HeldBackError(at, stable)
      await sleep(TRANSACTIONS_PAUSE_MS, stopping.signal)
      if (stopping.signal.aborted) throw new Error('closed')
    }
  }

  return {
    async watermarks(at) {
      const { lowOffset, highOffset } = await offsetsOf(at, 'read_uncommitted')
      return { beginning: lowOffset, end: highOffset }
    },
    async read(at, from, to, onRecord) {
      if (from >= to) return
      await transactionsEnded(at, to)
      await inTurn('read_committed', at, from, to, onRecord)
    },
    async readUncommitted(at, from, to, onRecord) {
      if (from < to) await inTurn('read_uncommitted', at, from, to, onRecord)
    },
    async close() {
      stopping.abort()
      await turn
      for (const opened of opening.values()) {
        const consumer = await opened.catch(() => undefined)
        if (consumer !== undefined) await promised((done) => consumer.disconnect((error) => done(error)))
      }
    },
  }
}
