import type * as RdKafka from '@confluentinc/kafka-javascript/types/rdkafka'
import type { IncomingRecord } from '../events/record.ts'
import type { CommonConfig } from '../service/config.ts'
import type { Logger } from '../service/logger.ts'
import { CONNECT_BACKOFF, delayMs, sleep, within } from '../service/retry.ts'
import {
  CLOSE_TIMEOUT_MS,
  CODE,
  type Consumer,
  closeClient,
  clusterMetadata,
  connectForever,
  type LibrdKafkaError,
  messageOf,
  native,
  packed,
  promised,
} from './client.ts'
import { reasonOf } from './connection.ts'
import { committedOffsets, readerSettings } from './consumer.ts'
import { consumeIdentities, consumePacked, type Interruption } from './packed.ts'
import {
  type KnownRecord,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type TopicPartition,
  type TopicPartitionOffset,
} from './types.ts'

const BROKER_CALL_TIMEOUT_MS = 10_000

/** Partitions in one request for offsets; the client's time for a request grows with the square of this. */
const LISTED_AT_ONCE = 250

/** For topics that were just created or have a new leader: less than a second. */
const MAX_ENDS_ATTEMPTS = 4

/** For groups whose coordinator is being elected or is loading offsets: 8 to 16 s. */
const MAX_COMMITTED_ATTEMPTS = 9
const PASSING = new Set<number>([
  CODE.COORDINATOR_LOAD_IN_PROGRESS,
  CODE.COORDINATOR_NOT_AVAILABLE,
  CODE.NOT_COORDINATOR,
])

const REFUSALS = new Set<number>([CODE.TOPIC_AUTHORIZATION_FAILED, CODE.GROUP_AUTHORIZATION_FAILED])

/** Whether a broker refused a request for lack of permission. */
export const isRefusal = (error: Error): boolean => REFUSALS.has((error as Partial<LibrdKafkaError>).code ?? 0)

/** Reading fails when nothing arrives for this long. */
const READ_STALL_TIMEOUT_MS = 15_000

/** Prefetch limits. librdkafka does not count headers or its own structures, so there is a limit in records, too. */
const PREFETCH_MAX_BYTES = 2 ** 24
const PREFETCHED_RECORD_BYTES = 4_096

/** The most that one fetch returns of a partition, compressed; in memory it takes several times as much. */
const FETCH_PARTITION_MAX_BYTES = 256 * 1024

/** Records of one poll. */
const READ_MAX_RECORDS = 2_000

/** The pause after a poll without records. */
const READ_PAUSE_MS = 2

type Isolation = 'read_committed' | 'read_uncommitted'
const BOTH = ['read_committed', 'read_uncommitted'] as const satisfies readonly Isolation[]

/** Calls back for each committed record that is in the partitions now. */
export async function readAll(
  reader: Pick<RangeReader, 'ends' | 'read'>,
  partitions: readonly TopicPartition[],
  onRecord: (record: IncomingRecord) => void,
): Promise<void> {
  const ends = await reader.ends(partitions)
  const ranges = partitions.map((at, index) => {
    const { beginning, stable } = ends[index] as PartitionEnds
    return { ...at, from: beginning, to: stable }
  })
  await reader.read(ranges, onRecord)
}

/** Its clients connect at first use and stay open until it is closed. */
export function createRangeReader(options: {
  config: CommonConfig
  clientId: string
  log: Logger
  /** The group whose committed offsets can be read. The reader never joins it or commits to it. */
  groupId?: string
  prefetchMaxBytes?: number
}): RangeReader {
  const { config, clientId, log, groupId, prefetchMaxBytes = PREFETCH_MAX_BYTES } = options
  const stopping = new AbortController()
  // Two clients, since the isolation level is a setting of the client.
  const opening = new Map<Isolation, Promise<Consumer>>()

  const client = (isolation: Isolation): Promise<Consumer> => {
    /** From librdkafka's log, which says more than the error of a failed connection. */
    let named: string | undefined
    const open = () => {
      const consumer = new (native().KafkaConsumer)({
        ...readerSettings(config, clientId),
        'isolation.level': isolation,
        // librdkafka requires one, used or not.
        'group.id': groupId ?? `${clientId}-ranges`,
        'enable.partition.eof': true,
        'queued.max.messages.kbytes': Math.ceil(prefetchMaxBytes / 1024),
        'queued.min.messages': Math.ceil(prefetchMaxBytes / PREFETCHED_RECORD_BYTES),
        'fetch.message.max.bytes': FETCH_PARTITION_MAX_BYTES,
      })
      consumer.on('event.log', ({ fac, message }) => {
        if (fac === 'FAIL') named = reasonOf(message, config)?.reason ?? named
      })
      return consumer
    }
    const failed = (reason: string) => log.warn({ reason: named ?? reason }, 'cannot reach Kafka; retrying')
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

  let asking: RdKafka.IAdminClient | undefined

  /** On one client, so that all offsets of a partition come from the same leader. */
  async function admin(): Promise<RdKafka.IAdminClient> {
    asking ??= native().AdminClient.createFrom(await client('read_uncommitted'))
    return asking
  }

  /** The end of each client's last read. A client reads one set of ranges at a time, since it reads what it is assigned. */
  const turns: Record<Isolation, Promise<unknown>> = {
    read_committed: Promise.resolve(),
    read_uncommitted: Promise.resolve(),
  }

  /** Reads what is available without waiting. @returns the number of records */
  type Poll = (consumer: Consumer, accept: Accept, onInterruption: (interruption: Interruption) => void) => number

  /** The index of the range that still needs a record; undefined when none does. */
  type Accept = (topic: string, partition: number, offset: number) => number | undefined

  function inTurn(isolation: Isolation, ranges: readonly Range[], poll: Poll): Promise<void> {
    const mine = turns[isolation].then(() => readRanges(isolation, ranges, poll))
    turns[isolation] = mine.catch(() => undefined)
    return mine
  }

  async function readRanges(isolation: Isolation, ranges: readonly Range[], poll: Poll): Promise<void> {
    const left = ranges.flatMap(({ topic, partition, from, to }, place) =>
      from < to ? [{ place, topic, partition, next: from, to }] : [],
    )
    if (left.length === 0) return
    const consumer = await client(isolation)
    /** Unfinished ranges by topic and partition. */
    const cursors = new Map<string, ((typeof left)[number] | undefined)[]>()
    for (const one of left) {
      const ofTopic = cursors.get(one.topic) ?? []
      ofTopic[one.partition] = one
      cursors.set(one.topic, ofTopic)
    }
    let unread = left.length
    let fault: string | undefined
    /**
     * Control records and aborted records at the end of a range arrive as no record, but end-of-partition events count them. Handled after the
     * records of the same poll, which the events precede.
     */
    const partitionEnds: TopicPartitionOffset[] = []
    const reached = (topic: string, partition: number, next: number): void => {
      const ofTopic = cursors.get(topic)
      const cursor = ofTopic?.[partition]
      if (ofTopic === undefined || cursor === undefined) return
      cursor.next = Math.max(cursor.next, next)
      if (cursor.next < cursor.to) return
      ofTopic[partition] = undefined
      unread--
    }
    const accept: Accept = (topic, partition, offset) => {
      const cursor = cursors.get(topic)?.[partition]
      if (cursor === undefined || offset < cursor.next) return undefined
      const { place, to } = cursor
      reached(topic, partition, offset + 1)
      return offset < to ? place : undefined
    }
    const interrupted = ({ code, topic, partition, offset }: Interruption): void => {
      if (topic === undefined) fault = messageOf(code)
      else if (code === CODE.PARTITION_EOF) partitionEnds.push({ topic, partition, offset })
      else if (cursors.get(topic)?.[partition] !== undefined) fault = `${topic}/${partition}: ${messageOf(code)}`
    }
    consumer.assign(left.map(({ topic, partition, next }) => ({ topic, partition, offset: next })))
    try {
      let movedMs = performance.now()
      while (unread > 0) {
        if (stopping.signal.aborted) throw new Error('closed')
        const before = unread
        const count = poll(consumer, accept, interrupted)
        for (const { topic, partition, offset } of partitionEnds.splice(0)) reached(topic, partition, offset)
        if (fault !== undefined) throw new Error(fault)
        const nowMs = performance.now()
        if (count > 0 || unread < before) movedMs = nowMs
        else if (nowMs - movedMs > READ_STALL_TIMEOUT_MS) {
          const stalled = left.filter(({ next, to }) => next < to).map(partitionName)
          throw new Error(`${stalled[0]}: nothing could be read for ${READ_STALL_TIMEOUT_MS} ms`)
        }
        // Lets other tasks run between two polls.
        await Bun.sleep(count === 0 ? READ_PAUSE_MS : 0)
      }
    } finally {
      consumer.unassign()
    }
  }

  const pollRecords =
    (onRecord: (record: IncomingRecord) => void): Poll =>
    (consumer, accept, onInterruption) => {
      const records = consumePacked(packed(), consumer, READ_MAX_RECORDS, onInterruption)
      for (const record of records)
        if (accept(record.topic, record.partition, record.offset) !== undefined) onRecord(record)
      return records.length
    }

  const pollIdentities = (
    identityOf: (record: IncomingRecord) => string,
    onRecord: (record: Readonly<KnownRecord>) => void,
  ): Poll => {
    const known: KnownRecord = { range: 0, offset: 0, timestampMs: 0, hash: new Uint32Array(0) }
    return (consumer, accept, onInterruption) =>
      consumeIdentities(
        packed(),
        consumer,
        READ_MAX_RECORDS,
        identityOf,
        (topic, partition, offset, timestampMs, hash) => {
          const range = accept(topic, partition, offset)
          if (range === undefined) return
          known.range = range
          known.offset = offset
          known.timestampMs = timestampMs
          known.hash = hash
          onRecord(known)
        },
        onInterruption,
      )
  }

  /** In the order of the partitions. */
  async function listOffsets(
    partitions: readonly TopicPartition[],
    which: 'EARLIEST' | 'LATEST',
    isolation: 'READ_COMMITTED' | 'READ_UNCOMMITTED',
  ): Promise<number[]> {
    const asked = await admin()
    const { OffsetSpec, IsolationLevel } = native()
    const ask = (some: readonly TopicPartition[]) =>
      promised<RdKafka.ListOffsetsResult[]>((done) =>
        asked.listOffsets(
          some.map(({ topic, partition }) => ({ topic, partition, offset: OffsetSpec[which] })),
          { timeout: BROKER_CALL_TIMEOUT_MS, isolationLevel: IsolationLevel[isolation] },
          done,
        ),
      )
    const parts: Promise<RdKafka.ListOffsetsResult[]>[] = []
    for (let from = 0; from < partitions.length; from += LISTED_AT_ONCE)
      parts.push(ask(partitions.slice(from, from + LISTED_AT_ONCE)))
    const rows = (await Promise.all(parts)).flat()
    const found = new Map(rows.map((row) => [partitionName(row), row]))
    return partitions.map((at) => {
      const { offset = -1, error } = found.get(partitionName(at)) ?? {}
      if (offset < 0) throw new Error(`${partitionName(at)}: ${error?.message ?? 'its offsets are not known'}`)
      return offset
    })
  }

  /** Retries with back-off. @param again runs before a retry, and throws errors that are not temporary */
  async function askUntilAnswered<T>(
    maxAttempts: number,
    ask: () => Promise<T>,
    again: (error: unknown) => Promise<void>,
  ): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask()
      } catch (error) {
        if (attempt === maxAttempts || stopping.signal.aborted) throw error
        await again(error)
        await sleep(delayMs(CONNECT_BACKOFF, attempt), stopping.signal)
      }
    }
  }

  async function lookUp(topics: readonly string[]): Promise<void> {
    for (const isolation of BOTH) {
      const consumer = await client(isolation)
      for (const topic of new Set(topics)) await clusterMetadata(consumer, BROKER_CALL_TIMEOUT_MS, topic)
    }
  }

  async function endsOf(partitions: readonly TopicPartition[]): Promise<PartitionEnds[]> {
    // `stable` after `end`: a partition has no open transaction only if `stable` has reached an end that was read before.
    const ends = await listOffsets(partitions, 'LATEST', 'READ_UNCOMMITTED')
    const [beginnings, stables] = await Promise.all([
      listOffsets(partitions, 'EARLIEST', 'READ_UNCOMMITTED'),
      listOffsets(partitions, 'LATEST', 'READ_COMMITTED'),
    ])
    return partitions.map((_, index) => ({
      beginning: beginnings[index] as number,
      stable: stables[index] as number,
      end: ends[index] as number,
    }))
  }

  return {
    async topics() {
      const { topics } = await clusterMetadata(await client('read_committed'), BROKER_CALL_TIMEOUT_MS)
      return topics.map(({ name }) => name)
    },
    async partitionCount(topic) {
      const { topics } = await clusterMetadata(await client('read_committed'), BROKER_CALL_TIMEOUT_MS, topic)
      return topics.find(({ name }) => name === topic)?.partitions.length ?? 0
    },
    async offsetsAt(partitions, timestampMs) {
      const consumer = await client('read_uncommitted')
      const asked = partitions.map(({ topic, partition }) => ({ topic, partition, offset: timestampMs }))
      const rows = await promised<TopicPartitionOffset[]>((done) =>
        consumer.offsetsForTimes(asked, BROKER_CALL_TIMEOUT_MS, done),
      )
      const found = new Map(rows.map((row) => [partitionName(row), row.offset]))
      return partitions.map((at) => {
        const offset = found.get(partitionName(at)) ?? -1
        return offset < 0 ? undefined : offset
      })
    },
    async committed(partitions) {
      // A reader of uncommitted records does not wait for transactions with pending offsets.
      const consumer = await client('read_uncommitted')
      return askUntilAnswered(
        MAX_COMMITTED_ATTEMPTS,
        () => committedOffsets(consumer, partitions, BROKER_CALL_TIMEOUT_MS),
        async (error) => {
          if (!PASSING.has((error as LibrdKafkaError).code)) throw error
        },
      )
    },
    async topicIds(topics) {
      const using = await admin()
      const found = await promised<{ name: string; topicId: object; error?: unknown }[]>((done) =>
        using.describeTopics([...topics], { timeout: BROKER_CALL_TIMEOUT_MS }, done),
      )
      return new Map(
        found.flatMap(({ name, topicId, error }) => (error ? [] : [[name, (topicId as { base64: string }).base64]])),
      )
    },
    async ends(partitions) {
      if (partitions.length === 0) return []
      return askUntilAnswered(
        MAX_ENDS_ATTEMPTS,
        () => endsOf(partitions),
        // The client caches missing topics and leaders until metadata is requested.
        () => lookUp(partitions.map(({ topic }) => topic)),
      )
    },
    lookUp,
    read: (ranges, onRecord) => inTurn('read_committed', ranges, pollRecords(onRecord)),
    readUncommitted: (ranges, onRecord) => inTurn('read_uncommitted', ranges, pollRecords(onRecord)),
    readIdentities: (ranges, identityOf, onRecord) =>
      inTurn('read_committed', ranges, pollIdentities(identityOf, onRecord)),
    async close() {
      stopping.abort()
      await Promise.all(
        [...opening.values()].map(async (opened) => {
          const consumer = await within(CLOSE_TIMEOUT_MS, opened).catch(() => undefined)
          if (consumer !== undefined) await closeClient(log, 'reader', (done) => consumer.disconnect(done))
        }),
      )
    },
  }
}
