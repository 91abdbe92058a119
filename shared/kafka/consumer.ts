import type { IncomingRecord } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { Repeats } from '../service/repeats.ts'
import {
  CODE,
  type Consumer,
  closeClient,
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
import { withMissingAcl } from './missing-acl.ts'
import { BatchBuffers, consumePacked, type Interruption } from './packed.ts'
import { securityOf } from './security.ts'
import type { Statistics } from './statistics.ts'
import {
  type CommittedOffset,
  type GroupConsumer,
  type GroupListener,
  HangingTransactionError,
  type Membership,
  partitionName,
  type TopicPartition,
  type TopicPartitionOffset,
} from './types.ts'

/**
 * How long the membership is not asked for again: the answer comes from another thread. It changes with a rebalance, of which the client tells; a broker
 * refuses an old one.
 */
const MEMBERSHIP_KEPT_MS = 100

/** How often a member that is leaving polls for rebalances. */
const LEAVE_PAUSE_MS = 2

/**
 * Memory of a prefetched record beside its key and value, which are all that librdkafka counts: headers, structures and fragmentation. An
 * estimate.
 */
const PREFETCHED_RECORD_BYTES = 4_096

/**
 * The most that one fetch returns of a partition. Small, because fetches of partitions follow each other, and because they are compressed: a
 * megabyte would expand to several.
 */
const FETCH_PARTITION_MAX_BYTES = 128 * 1024

/**
 * Also limits a decompressed zstd batch. A few kilobytes can exceed the default of 100 MB, and then the partition cannot be read past them. Below
 * the first bytes of a TLS alert, taken as a length, so that a port of another protocol is still recognised.
 */
const MAX_RECEIVED_BYTES = 350_000_000

/** Settings of all consumers: read committed records only, and never commit by themselves. */
export function readerSettings(config: CommonConfig, clientId: string): Settings {
  return {
    ...connectionSettings(config, clientId),
    'isolation.level': 'read_committed',
    'enable.auto.commit': false,
    'enable.auto.offset.store': false,
    'auto.offset.reset': 'earliest',
    'receive.message.max.bytes': MAX_RECEIVED_BYTES,
    'fetch.wait.max.ms': 100,
    // The defaults stall reading for half a second or more after an empty queue or a change of leader.
    'fetch.queue.backoff.ms': 10,
    'fetch.error.backoff.ms': 100,
  }
}

/** Committed offsets; -1 where none is. @throws LibrdKafkaError */
export async function committedOffsets(
  consumer: Consumer,
  partitions: readonly TopicPartition[],
  timeoutMs: number,
): Promise<CommittedOffset[]> {
  const rows = await promised<(TopicPartitionOffset & { metadata?: string | null })[]>((done) =>
    consumer.committed([...partitions], timeoutMs, done),
  )
  // librdkafka's OFFSET_INVALID arrives as undefined or negative.
  return rows.map(({ topic, partition, offset, metadata }) => ({
    topic,
    partition,
    offset: offset >= 0 ? offset : -1,
    metadata: metadata ?? '',
  }))
}

export interface GroupConsumerOptions {
  config: CommonConfig
  clientId: string
  groupId: string
  sessionTimeoutMs: number
  /** How long leaving the group may take before the connection is closed anyway. */
  leaveTimeoutMs: number
  /** Memory for prefetched records. */
  prefetchMaxBytes: number
  log: Logger
  /** Called about once a second. */
  onStatistics(statistics: Statistics): void
}

const memberSettings = (options: GroupConsumerOptions): Settings => ({
  ...readerSettings(options.config, options.clientId),
  'group.id': options.groupId,
  'partition.assignment.strategy': 'cooperative-sticky',
  'session.timeout.ms': options.sessionTimeoutMs,
  'heartbeat.interval.ms': Math.floor(options.sessionTimeoutMs / 5),
  // An offset that does not exist is reported: lost records must be known, and a recreated topic must be read from its beginning.
  'auto.offset.reset': 'error',
  // New tenants' topics match the subscription at the next refresh.
  'topic.metadata.refresh.interval.ms': 5_000,
  'queued.max.messages.kbytes': Math.ceil(options.prefetchMaxBytes / 1024),
  'queued.min.messages': Math.ceil(options.prefetchMaxBytes / PREFETCHED_RECORD_BYTES),
  'fetch.message.max.bytes': FETCH_PARTITION_MAX_BYTES,
})

const withoutOffset = ({ topic, partition }: TopicPartition): TopicPartition => ({ topic, partition })

/** How often the same failure of fetches is logged. */
const SAID_AGAIN_MS = 60_000

/** A cooperative-sticky group member. Only methods that need the broker require a connection. */
export function createGroupConsumer(options: GroupConsumerOptions): GroupConsumer {
  const { config, log } = options
  const stopping = new AbortController()
  let consumer: Consumer | undefined
  const watch = watchConnection({ config, client: 'consumer', log })
  let listener: GroupListener | undefined
  /** The partitions being read, by name: incremental calls must name exactly these. */
  const reading = new Map<string, TopicPartition>()
  /** Settles when every revocation so far is answered. */
  let revocations: Promise<void> = Promise.resolve()
  /** Assigned partitions. */
  let owned = 0
  /** Ends the wait of a poll. */
  let wake: (() => void) | undefined
  let refusal: string | undefined
  let membership: { now: Membership | undefined; atMs: number } | undefined
  const buffers = new BatchBuffers()
  const repeats = new Repeats(SAID_AGAIN_MS)

  const settings: Settings = {
    ...memberSettings(options),
    rebalance_cb: (error: LibrdKafkaError, partitions: TopicPartition[]) => onRebalance(error, partitions),
    queue_non_empty_cb: () => wake?.(),
  }

  function onRebalance(error: LibrdKafkaError, given: TopicPartition[]): void {
    membership = undefined
    if (consumer === undefined || listener === undefined) return
    const partitions = given.map(withoutOffset)
    if (error.code === CODE.ASSIGN_PARTITIONS) {
      owned += partitions.length
      refusal = undefined
      // Accepted at once so that the group does not wait; startReading decides what is read, and from where.
      consumer.incrementalAssign([])
      listener.assigned(partitions)
    } else if (error.code === CODE.REVOKE_PARTITIONS) {
      const lost = consumer.assignmentLost()
      revocations = revocations
        .then(() => revoke(partitions, lost))
        .catch((fault) => log.error({ err: fault }, 'could not answer the rebalance'))
    } else log.error({ err: error }, 'rebalance failed')
  }

  async function revoke(partitions: TopicPartition[], lost: boolean): Promise<void> {
    let ended = partitions
    try {
      ended = (await listener?.revoked(partitions, lost)) ?? partitions
    } catch (fault) {
      // The group waits for the answer below in any case.
      log.error({ err: fault }, 'revocation failed')
    }
    // An empty list is an answer, too.
    consumer?.incrementalUnassign(notReading(ended))
    owned -= partitions.length
  }

  const connected = (): Consumer => {
    if (consumer === undefined) throw new Error('the consumer is not connected')
    return consumer
  }

  /** @returns those that were being read */
  const notReading = (partitions: readonly TopicPartition[]): TopicPartition[] =>
    partitions.filter((one) => reading.delete(partitionName(one)))

  function readingFailed({ code, topic, partition }: Interruption): void {
    const reason = withMissingAcl({ code, message: messageOf(code) }, options)
    // Fetches are repeated several times a second.
    if (repeats.isNew(`${topic} ${partition} ${code}`)) log.warn({ code, reason, topic, partition }, 'fetch failed')
    if (code === CODE.FATAL || code === CODE.MAX_POLL_EXCEEDED) listener?.failed(messageOf(code))
    if (topic === undefined) refusal = reason
    // Errors of partitions that are no longer read do not matter.
    if (topic === undefined || !reading.has(partitionName({ topic, partition }))) return
    if (code === CODE.AUTO_OFFSET_RESET) listener?.outOfRange({ topic, partition })
    else if (UNREADABLE.has(code)) listener?.unreadable({ topic, partition }, messageOf(code))
  }

  /** Returns what is available without waiting, and serves rebalances. */
  const poll = (maxRecords: number): IncomingRecord[] =>
    consumePacked(packed(), connected(), maxRecords, readingFailed, buffers)

  return {
    connection: watch.current,
    membership() {
      if (consumer === undefined) return undefined
      const nowMs = performance.now()
      if (membership === undefined || nowMs - membership.atMs > MEMBERSHIP_KEPT_MS)
        membership = { now: groupMetadata(consumer) ?? undefined, atMs: nowMs }
      return membership.now
    },
    refusal: () => refusal,
    start(topicPattern, to, mayJoin) {
      listener = to
      const open = (secured: Settings) => {
        const opened = watch.attach(new (native().KafkaConsumer)({ ...settings, ...secured }), options.onStatistics)
        opened.on('event.error', (error) => {
          const code = eventCode(error)
          if (code === CODE.FATAL || error.isFatal === true) to.failed(error.message)
        })
        return opened
      }
      void connectForever(securityOf(config, log), open, watch.failed, stopping.signal).then(async (opened) => {
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
      return committedOffsets(connected(), partitions, timeoutMs).catch((error: LibrdKafkaError) => {
        const [first] = partitions
        const waited = error.code === CODE.TIMED_OUT || error.code === CODE.UNSTABLE_OFFSET_COMMIT
        throw waited && first !== undefined ? new HangingTransactionError(first, undefined) : error
      })
    },
    startReading(partitions) {
      for (const at of partitions) reading.set(partitionName(at), withoutOffset(at))
      connected().incrementalAssign(
        partitions.map((one) => ({ ...one, offset: one.offset < 0 ? OFFSET_BEGINNING : one.offset })),
      )
      // In librdkafka a pause outlives the assignment in which it was requested.
      connected().resume(partitions.map(withoutOffset))
    },
    async stopReading(partitions) {
      // librdkafka takes any unassign as the answer to a pending revocation, which would give its partitions away too early
      // (docs/upstream/librdkafka-any-unassign-answers-a-revocation.md).
      for (let answered: Promise<void> | undefined; answered !== revocations; ) {
        answered = revocations
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
        // Leaving is a rebalance, which only polling serves.
        open.unsubscribe()
        const deadline = performance.now() + options.leaveTimeoutMs
        // A client that is closed while many partitions are being revoked does not leave the group: its successor would wait for the session
        // time-out.
        while ((owned > 0 || groupMetadata(open) !== null) && performance.now() < deadline) {
          poll(1)
          await Bun.sleep(LEAVE_PAUSE_MS)
        }
        consumer = undefined
        await closeClient(log, 'consumer', (done) => open.disconnect(done))
      }
      watch.closed()
    },
  }
}

/** Errors of a partition that last until something changes at the brokers. */
export const UNREADABLE = new Set<number>([
  CODE.BAD_COMPRESSION,
  CODE.TOPIC_AUTHORIZATION_FAILED,
  CODE.UNKNOWN_TOPIC_OR_PART,
  CODE.UNKNOWN_TOPIC,
  CODE.UNKNOWN_PARTITION,
])

/** librdkafka's OFFSET_BEGINNING. */
const OFFSET_BEGINNING = -2
