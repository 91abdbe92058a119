import type { IncomingRecord } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { within } from '../service/retry.ts'
import {
  CLOSE_TIMEOUT_MS,
  CODE,
  type Consumer,
  connectForever,
  connectionSettings,
  eventCode,
  type LibrdKafkaError,
  messageOf,
  native,
  packed,
  promised,
  type Settings,
} from './client.ts'
import { watchConnection } from './connection.ts'
import { groupMetadata } from './group-metadata.ts'
import { consumePacked, type Interruption } from './packed.ts'
import type { Statistics } from './statistics.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  type GroupListener,
  HangingTransactionError,
  partitionName,
  type TopicPartition,
  type TopicPartitionOffset,
} from './types.ts'

/** How often a member that leaves looks for what it has to answer. */
const LEAVE_PAUSE_MS = 2

/**
 * What librdkafka keeps of a record that it has read ahead, beside key and value, which are all that it counts: headers, its own structures, and
 * what the allocator loses between them.
 */
const PREFETCHED_RECORD_BYTES = 4_096

/**
 * What one fetch brings of a partition: they come one behind the other, so that little of each keeps all of them going, and compressed, so that
 * a megabyte would be several of them.
 */
const FETCH_PARTITION_MAX_BYTES = 128 * 1024

/** Settings of everything that reads: committed records only, offsets committed by nobody but us. */
export function readerSettings(config: CommonConfig, clientId: string): Settings {
  return {
    ...connectionSettings(config, clientId),
    'isolation.level': 'read_committed',
    'enable.auto.commit': false,
    'enable.auto.offset.store': false,
    'auto.offset.reset': 'earliest',
    'receive.message.max.bytes': MAX_RECEIVED_BYTES,
    'fetch.wait.max.ms': 100,
    // Without these two an empty queue or a moved leader stalls reading for half a second or more.
    'fetch.queue.backoff.ms': 10,
    'fetch.error.backoff.ms': 100,
  }
}

/**
 * Also of what zstd makes of a batch, which with the default of 100 MB some kilobytes can exceed, and then nothing behind them is read. Below what the first
 * bytes of a TLS alert are as a length, so that a port of another protocol is still told from a broker's.
 */
const MAX_RECEIVED_BYTES = 350_000_000

/** What the client says of a committed offset. "None" is librdkafka's OFFSET_INVALID, which reaches us as undefined or negative. */
export const committedOffset = (row: TopicPartitionOffset & { metadata?: string | null }): CommittedOffset => ({
  topic: row.topic,
  partition: row.partition,
  offset: row.offset >= 0 ? row.offset : -1,
  metadata: row.metadata ?? '',
})

export interface GroupConsumerOptions {
  config: CommonConfig
  clientId: string
  groupId: string
  sessionTimeoutMs: number
  /** How long leaving the group may take before the connection is closed all the same. */
  leaveTimeoutMs: number
  /** librdkafka's read-ahead. */
  prefetchMaxBytes: number
  log: Logger
  /** Called about once a second. */
  onStatistics(statistics: Statistics): void
}

/** A cooperative-sticky group member. Its methods may be called before it has connected, except those that need the broker. */
export function createGroupConsumer(options: GroupConsumerOptions): GroupConsumer {
  const { config, clientId, groupId, log } = options
  const stopping = new AbortController()
  let consumer: Consumer | undefined
  const watch = watchConnection({ config, client: 'consumer', log })
  let listener: GroupListener | undefined
  /** Everything that is being read, by name: incremental calls must name neither more nor less. */
  const reading = new Map<string, TopicPartition>()
  let handingOver: Promise<void> = Promise.resolve()
  let owned = 0
  let wake: (() => void) | undefined
  let refusal: string | undefined

  const settings: Settings = {
    ...readerSettings(config, clientId),
    'group.id': groupId,
    'partition.assignment.strategy': 'cooperative-sticky',
    'session.timeout.ms': options.sessionTimeoutMs,
    'heartbeat.interval.ms': Math.floor(options.sessionTimeoutMs / 5),
    // An offset that is not there is told: what is skipped is to be known, and a topic that was made anew is to be read from its beginning.
    'auto.offset.reset': 'error',
    // New tenants' topics match the subscription at the next metadata refresh.
    'topic.metadata.refresh.interval.ms': 5_000,
    'queued.max.messages.kbytes': Math.ceil(options.prefetchMaxBytes / 1024),
    'queued.min.messages': Math.ceil(options.prefetchMaxBytes / PREFETCHED_RECORD_BYTES),
    'fetch.message.max.bytes': FETCH_PARTITION_MAX_BYTES,
    rebalance_cb: (error: LibrdKafkaError, partitions: TopicPartition[]) => onRebalance(error, partitions),
    queue_non_empty_cb: () => {
      wake?.()
    },
  }

  function onRebalance(error: LibrdKafkaError, given: TopicPartition[]): void {
    if (consumer === undefined || listener === undefined) return
    const partitions = given.map(({ topic, partition }) => ({ topic, partition }))
    if (error.code === CODE.ASSIGN_PARTITIONS) {
      owned += partitions.length
      refusal = undefined
      // Agreed to at once, so that the group is not held up; what is read, and from where, is said by startReading.
      consumer.incrementalAssign([])
      listener.assigned(partitions)
      return
    }
    if (error.code !== CODE.REVOKE_PARTITIONS) {
      log.error({ err: error }, 'rebalance failed')
      return
    }
    const lost = consumer.assignmentLost()
    const giveUp = async (): Promise<void> => {
      let ended = partitions
      try {
        ended = (await listener?.revoked(partitions, lost)) ?? partitions
      } catch (fault) {
        // The group waits for the answer below, whatever went wrong before it.
        log.error({ err: fault }, 'revocation failed')
      }
      // An answer, be it to give up nothing, is what the group waits for.
      consumer?.incrementalUnassign(notReading(ended))
      owned -= partitions.length
    }
    handingOver = handingOver.then(giveUp).catch((fault) => log.error({ err: fault }, 'could not answer the rebalance'))
  }

  const connected = (): Consumer => {
    if (consumer === undefined) throw new Error('the consumer is not connected')
    return consumer
  }

  /** @returns those that were read until now */
  const notReading = (partitions: readonly TopicPartition[]): TopicPartition[] =>
    partitions.filter((one) => reading.delete(partitionName(one)))

  function readingFailed({ code, topic, partition }: Interruption): void {
    log.warn({ code, reason: messageOf(code), topic, partition }, 'fetch failed')
    if (code === CODE.FATAL || code === CODE.MAX_POLL_EXCEEDED) listener?.failed(messageOf(code))
    if (topic === undefined) refusal = messageOf(code)
    // Of what is no longer read nothing more is to be known.
    if (topic === undefined || !reading.has(partitionName({ topic, partition }))) return
    if (code === CODE.AUTO_OFFSET_RESET) listener?.outOfRange({ topic, partition })
    else if (UNREADABLE.has(code)) listener?.unreadable({ topic, partition }, messageOf(code))
  }

  /** What is ready, without waiting; rebalances are served by it, too. */
  const poll = (maxRecords: number): IncomingRecord[] => consumePacked(packed(), connected(), maxRecords, readingFailed)

  return {
    connection: watch.current,
    membership: () => (consumer === undefined ? undefined : (groupMetadata(consumer) ?? undefined)),
    refusal: () => refusal,
    start(topicPattern, to, mayJoin) {
      listener = to
      const open = () => {
        const opened = watch.attach(new (native().KafkaConsumer)(settings), options.onStatistics)
        opened.on('event.error', (error) => {
          const code = eventCode(error)
          if (code === CODE.FATAL || error.isFatal === true) to.failed(error.message)
        })
        return opened
      }
      void connectForever(open, watch.failed, stopping.signal).then(async (opened) => {
        if (opened === undefined) return
        consumer = opened
        watch.connected()
        await mayJoin
        if (stopping.signal.aborted) return
        opened.subscribe([topicPattern])
        wake?.()
      })
    },
    async committed(partitions, timeoutMs) {
      const rows = await promised<(TopicPartitionOffset & { metadata?: string | null })[]>((done) =>
        connected().committed([...partitions], timeoutMs, done),
      ).catch((error: LibrdKafkaError) => {
        const [first] = partitions
        const waited = error.code === CODE.TIMED_OUT || error.code === CODE.UNSTABLE_OFFSET_COMMIT
        throw waited && first !== undefined ? new HangingTransactionError(first, undefined) : error
      })
      return rows.map(committedOffset)
    },
    startReading(partitions) {
      for (const { topic, partition } of partitions)
        reading.set(partitionName({ topic, partition }), { topic, partition })
      connected().incrementalAssign(
        partitions.map((one) => ({ ...one, offset: one.offset < 0 ? OFFSET_BEGINNING : one.offset })),
      )
      // librdkafka keeps a pause beyond the assignment in which it was asked for.
      connected().resume(partitions.map(({ topic, partition }) => ({ topic, partition })))
    },
    async stopReading(partitions) {
      // To librdkafka, whatever is taken out of the assignment answers the revocation that it waits for: what is being handed over would be gone early.
      for (let answered: Promise<void> | undefined; answered !== handingOver; ) {
        answered = handingOver
        await answered
      }
      const read = notReading(partitions)
      if (read.length > 0) consumer?.incrementalUnassign(read)
    },
    async poll(maxRecords, waitMs) {
      let timer: ReturnType<typeof setTimeout> | undefined
      const woken = new Promise<void>((resolve) => {
        wake = resolve
        timer = setTimeout(resolve, waitMs)
      })
      try {
        if (consumer !== undefined) {
          const ready = poll(maxRecords)
          if (ready.length > 0) return ready
        }
        await woken
        return consumer === undefined ? [] : poll(maxRecords)
      } finally {
        clearTimeout(timer)
        wake = undefined
      }
    },
    pause: (partitions) => void connected().pause([...partitions]),
    resume: (partitions) => void connected().resume([...partitions]),
    async close() {
      stopping.abort()
      const open = consumer
      if (open !== undefined) {
        // Leaving is a rebalance, and rebalances are served by polling.
        open.unsubscribe()
        const deadline = performance.now() + options.leaveTimeoutMs
        // A client that is closed while it is giving up many partitions does not tell the group: its successor would wait for the session's end.
        while ((owned > 0 || groupMetadata(open) !== null) && performance.now() < deadline) {
          poll(1)
          await Bun.sleep(LEAVE_PAUSE_MS)
        }
        consumer = undefined
        await within(
          CLOSE_TIMEOUT_MS,
          promised((done) => open.disconnect((error) => done(error))),
        ).catch((error: Error) => log.warn({ reason: error.message }, 'consumer did not close in time'))
      }
      watch.closed()
    },
  }
}

/** Why a partition is not read, when that lasts until somebody changes something at the brokers. */
const UNREADABLE = new Set<number>([
  CODE.BAD_COMPRESSION,
  CODE.TOPIC_AUTHORIZATION_FAILED,
  CODE.UNKNOWN_TOPIC_OR_PART,
  CODE.UNKNOWN_TOPIC,
  CODE.UNKNOWN_PARTITION,
])

/** librdkafka's OFFSET_BEGINNING. */
const OFFSET_BEGINNING = -2
