import type { CommonConfig } from '../config.ts'
import type { Logger } from '../logger.ts'
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
import type { RangeReader, TopicPartition } from './types.ts'

/** How long a broker may take to answer a question about a partition. */
const BROKER_CALL_TIMEOUT_MS = 10_000

/** Records taken in one call. */
const READ_MAX_RECORDS = 1_000

/** How soon it is looked again when no record was ready. */
const READ_PAUSE_MS = 2

/** One range at a time, over a client that is kept open between ranges. */
export function createRangeReader(options: { config: CommonConfig; clientId: string; log: Logger }): RangeReader {
  const { config, clientId, log } = options
  const stopping = new AbortController()
  // Two clients, since the isolation level decides what "the end" is: the last committed record or the last record.
  const opening = new Map<string, Promise<Consumer>>()

  const client = (isolation: 'read_committed' | 'read_uncommitted'): Promise<Consumer> => {
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

  async function readRange(
    at: TopicPartition,
    from: number,
    to: number,
    onRecord: Parameters<RangeReader['read']>[3],
  ): Promise<void> {
    const consumer = await client('read_committed')
    // Control records and aborted ones at the end of a range show up in no message; librdkafka's end-of-partition event counts them, and is
    // raised again whenever the end moves because an open transaction has ended.
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

  return {
    async watermarks({ topic, partition }) {
      const consumer = await client('read_uncommitted')
      const query = () =>
        promised<{ lowOffset: number; highOffset: number }>((done) =>
          consumer.queryWatermarkOffsets(topic, partition, BROKER_CALL_TIMEOUT_MS, done),
        )
      let offsets: { lowOffset: number; highOffset: number }
      try {
        offsets = await query()
      } catch (error) {
        const { code } = error as LibrdKafkaError
        if (code !== CODE.UNKNOWN_PARTITION && code !== CODE.UNKNOWN_TOPIC) throw error
        // The client goes on believing that a topic does not exist until it is told to look.
        await promised<unknown>((done) =>
          consumer.getMetadata({ topic, allTopics: false, timeout: BROKER_CALL_TIMEOUT_MS }, done),
        )
        offsets = await query().catch((again: LibrdKafkaError) => {
          throw new Error(`${topic}/${partition}: ${again.message}`)
        })
      }
      return { beginning: offsets.lowOffset, end: offsets.highOffset }
    },
    read(at, from, to, onRecord) {
      if (from >= to) return Promise.resolve()
      const mine = turn.then(() => readRange(at, from, to, onRecord))
      turn = mine.catch(() => undefined)
      return mine
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
