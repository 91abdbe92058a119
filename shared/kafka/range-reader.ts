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
  type Settings,
} from './client.ts'
import { reasonOf } from './connection.ts'
import { committedOffsets, readerSettings, UNREADABLE } from './consumer.ts'
import { consumeIdentities, consumePacked, type Interruption, PASSED_OVER, packFilter } from './packed.ts'
import { securityOf } from './security.ts'
import {
  type GroupDescription,
  type KnownRecord,
  type PartitionEnds,
  partitionName,
  type Range,
  type RangeReader,
  type ReadOptions,
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

/**
 * As {@link FETCH_PARTITION_MAX_BYTES}, for scans. More makes none faster, takes more memory, and delays the next range: a fetch that is under way is not cut
 * short.
 */
const SCANNED_PARTITION_MAX_BYTES = 128 * 1024

/** Of each partition. With fewer, a scan that is faster than librdkafka waits for the next fetch. */
const SCAN_PREFETCHED_RECORDS = 10_000

/**
 * How long a broker holds a fetch that has nothing to return. A range ends with such a fetch where its last offsets are of aborted records or of the end of a
 * transaction, and the next read waits for one that is under way.
 */
const FETCH_WAIT_MS = 2

/** Records of one poll. */
const READ_MAX_RECORDS = 2_000

/** The pause after a poll without records. */
const READ_PAUSE_MS = 2

/**
 * How long a broker that could not be reached counts as unreachable. librdkafka logs the same failure again after 30 s at the earliest; a client tries again
 * within 5 s, which may take as long.
 */
const TROUBLE_MS = 42_000

/** The longest that a follower waits for the client to say that there are records. */
const FOLLOW_WAIT_MS = 1_000

const READING: Settings = { 'enable.partition.eof': true, 'fetch.wait.max.ms': FETCH_WAIT_MS }
const SCANNING: Settings = {
  'queued.min.messages': SCAN_PREFETCHED_RECORDS,
  'fetch.message.max.bytes': SCANNED_PARTITION_MAX_BYTES,
}

type Isolation = 'read_committed' | 'read_uncommitted'
const BOTH = ['read_committed', 'read_uncommitted'] as const satisfies readonly Isolation[]

/** By the values of ConsumerGroupStates of the client; Kafka's names. */
const GROUP_STATES = ['Unknown', 'PreparingRebalance', 'CompletingRebalance', 'Stable', 'Dead', 'Empty']

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

/** Settles like the promise, or rejects with the signal's reason once it is aborted. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort)
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener('abort', abort))
}

/** Its clients connect at first use and stay open until it is closed. */
export function createRangeReader(options: {
  config: CommonConfig
  clientId: string
  log: Logger
  /** The group whose committed offsets can be read. The reader never joins it or commits to it. */
  groupId?: string
  prefetchMaxBytes?: number
  /** For reading much data with a filter: larger fetches, and more prefetched records. */
  forScans?: boolean
}): RangeReader {
  const { config, clientId, log, prefetchMaxBytes = PREFETCH_MAX_BYTES, forScans = false } = options
  // librdkafka requires one, used or not.
  const { groupId = `${clientId}-ranges` } = options
  const stopping = new AbortController()
  // Several clients, since the isolation level is a setting of the client, and so is what becomes of an offset that does not exist.
  const opening = new Map<Isolation | 'following', Promise<Consumer>>()
  /** Ends the follower's wait. */
  let wake: (() => void) | undefined
  const FOLLOWING: Settings = {
    'isolation.level': 'read_committed',
    'auto.offset.reset': 'error',
    queue_non_empty_cb: () => wake?.(),
  }

  /** Why a broker could not be reached, from librdkafka's log, which says more than the error of a call; and when that was, monotonic. */
  let trouble = { reason: '', atMs: Number.NEGATIVE_INFINITY, isNamed: false }
  const unreachable = (): string | undefined =>
    performance.now() - trouble.atMs < TROUBLE_MS ? trouble.reason : undefined

  const client = (use: Isolation | 'following'): Promise<Consumer> => {
    let logged = ''
    const open = (secured: Settings) => {
      const consumer = new (native().KafkaConsumer)({
        ...readerSettings(config, clientId),
        ...secured,
        ...(use === 'following' ? FOLLOWING : { ...READING, 'isolation.level': use }),
        'group.id': groupId,
        'queued.max.messages.kbytes': Math.ceil(prefetchMaxBytes / 1024),
        'queued.min.messages': Math.ceil(prefetchMaxBytes / PREFETCHED_RECORD_BYTES),
        'fetch.message.max.bytes': FETCH_PARTITION_MAX_BYTES,
        ...(forScans ? SCANNING : {}),
      })
      consumer.on('event.log', ({ fac, message }) => {
        const found = fac === 'FAIL' ? reasonOf(message, config) : undefined
        if (found !== undefined)
          trouble = { reason: `${found.broker}: ${found.reason}`, atMs: performance.now(), isNamed: true }
      })
      return consumer
    }
    const failed = (said: string) => {
      // Not what an earlier attempt said: the next may say more, such as why there is no token.
      const named = trouble.isNamed ? unreachable() : undefined
      const reason = named ?? said
      if (named === undefined) trouble = { reason, atMs: performance.now(), isNamed: false }
      log[reason === logged ? 'debug' : 'warn']({ reason }, 'cannot reach Kafka; retrying')
      logged = reason
    }
    let opened = opening.get(use)
    if (opened === undefined) {
      opened = connectForever(securityOf(config, log), open, failed, stopping.signal).then((ready) => {
        if (ready === undefined) throw new Error('closed')
        return ready
      })
      opening.set(use, opened)
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

  function inTurn(
    isolation: Isolation,
    ranges: readonly Range[],
    poll: Poll,
    options: ReadOptions = {},
  ): Promise<void> {
    const mine = turns[isolation].then(() => readRanges(isolation, ranges, poll, options))
    turns[isolation] = mine.catch(() => undefined)
    return unlessAborted(mine, options.signal)
  }

  async function readRanges(
    isolation: Isolation,
    ranges: readonly Range[],
    poll: Poll,
    { signal, onProgress }: ReadOptions,
  ): Promise<void> {
    const left = ranges.flatMap(({ topic, partition, from, to }, place) =>
      from < to ? [{ place, topic, partition, next: from, to }] : [],
    )
    if (left.length === 0) return
    const consumer = await client(isolation)
    signal?.throwIfAborted()
    /** Unfinished ranges by topic and partition. */
    const cursors = new Map<string, ((typeof left)[number] | undefined)[]>()
    for (const one of left) {
      const ofTopic = cursors.get(one.topic) ?? []
      ofTopic[one.partition] = one
      cursors.set(one.topic, ofTopic)
    }
    let unread = left.length
    /** Offsets. */
    let passed = 0
    let fault: string | undefined
    /**
     * Control records and aborted records at the end of a range arrive as no record, but end-of-partition events count them, as records that do not match
     * are counted by an event. Handled after the records of the same poll, which the events may precede.
     */
    const positions: TopicPartitionOffset[] = []
    const reached = (topic: string, partition: number, next: number): void => {
      const ofTopic = cursors.get(topic)
      const cursor = ofTopic?.[partition]
      if (ofTopic === undefined || cursor === undefined) return
      const after = Math.max(cursor.next, next)
      passed += Math.min(after, cursor.to) - cursor.next
      cursor.next = after
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
      else if (code === CODE.PARTITION_EOF || code === PASSED_OVER) positions.push({ topic, partition, offset })
      else if (cursors.get(topic)?.[partition] !== undefined) fault = `${topic}/${partition}: ${messageOf(code)}`
    }
    consumer.assign(left.map(({ topic, partition, next }) => ({ topic, partition, offset: next })))
    try {
      let movedMs = performance.now()
      while (unread > 0) {
        if (stopping.signal.aborted) throw new Error('closed')
        signal?.throwIfAborted()
        const before = passed
        const count = poll(consumer, accept, interrupted)
        for (const { topic, partition, offset } of positions.splice(0)) reached(topic, partition, offset)
        if (fault !== undefined) throw new Error(fault)
        const hasMoved = count > 0 || passed > before
        const using = hasMoved ? onProgress?.(passed) : undefined
        if (using instanceof Promise) await using
        const nowMs = performance.now()
        if (hasMoved) movedMs = nowMs
        else if (nowMs - movedMs > READ_STALL_TIMEOUT_MS) {
          const stalled = left.filter(({ next, to }) => next < to).map(partitionName)
          throw new Error(`${stalled[0]}: nothing could be read for ${READ_STALL_TIMEOUT_MS} ms`)
        }
        // Lets other tasks run between two polls.
        await Bun.sleep(hasMoved ? 0 : READ_PAUSE_MS)
      }
    } finally {
      consumer.unassign()
    }
  }

  const pollRecords = (onRecord: (record: IncomingRecord) => void, { filter }: ReadOptions = {}): Poll => {
    const packedFilter = filter && packFilter(filter)
    return (consumer, accept, onInterruption) => {
      const records = consumePacked(packed(), consumer, READ_MAX_RECORDS, onInterruption, undefined, packedFilter)
      for (const record of records)
        if (accept(record.topic, record.partition, record.offset) !== undefined) onRecord(record)
      return records.length
    }
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

  /** The end of the last follower. */
  let followed: Promise<unknown> = Promise.resolve()

  async function follow(
    from: readonly TopicPartitionOffset[],
    onRecords: (records: IncomingRecord[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const consumer = await client('following')
    const isEnding = () => signal.aborted || stopping.signal.aborted
    if (isEnding()) return
    let fault: string | undefined
    const interrupted = ({ code, topic, partition }: Interruption): void => {
      // Without a topic, it is an error of a connection, which the client restores.
      if (topic === undefined ? code !== CODE.FATAL : code !== CODE.AUTO_OFFSET_RESET && !UNREADABLE.has(code)) return
      fault = `${topic === undefined ? 'the client has failed' : partitionName({ topic, partition })}: ${messageOf(code)}`
    }
    const end = () => wake?.()
    for (const one of [signal, stopping.signal]) one.addEventListener('abort', end)
    consumer.assign(from.map(({ topic, partition, offset }) => ({ topic, partition, offset })))
    try {
      while (!isEnding()) {
        const { promise: woken, resolve } = Promise.withResolvers<void>()
        wake = resolve
        const records = consumePacked(packed(), consumer, READ_MAX_RECORDS, interrupted)
        if (fault !== undefined) throw new Error(fault)
        if (records.length > 0) onRecords(records)
        const timer = setTimeout(resolve, records.length > 0 ? 0 : FOLLOW_WAIT_MS)
        await woken
        clearTimeout(timer)
      }
    } finally {
      wake = undefined
      for (const one of [signal, stopping.signal]) one.removeEventListener('abort', end)
      consumer.unassign()
    }
  }

  async function describeGroup(): Promise<GroupDescription | undefined> {
    const using = await admin()
    const { groups } = await promised<RdKafka.GroupDescriptions>((done) =>
      using.describeGroups([groupId], { timeout: BROKER_CALL_TIMEOUT_MS }, done),
    )
    const [found] = groups
    if (found?.error?.code === CODE.UNSUPPORTED_FEATURE) return undefined
    if (found === undefined || found.error) throw new Error(`${groupId}: ${found?.error?.message ?? 'no answer'}`)
    return {
      state: GROUP_STATES[found.state] ?? 'Unknown',
      members: found.members.map(({ memberId, clientId: of, clientHost, assignment }) => ({
        memberId,
        clientId: of,
        // A broker in Java puts its own notation of an address, NAME/ADDRESS.
        host: clientHost.slice(clientHost.lastIndexOf('/') + 1),
        partitions: assignment.topicPartitions.map(({ topic, partition }) => ({ topic, partition })),
      })),
    }
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
    unreachable,
    async topics() {
      const { topics } = await clusterMetadata(await client('read_committed'), BROKER_CALL_TIMEOUT_MS)
      return new Map(topics.map(({ name, partitions }) => [name, partitions.length]))
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
    read: (ranges, onRecord, options) => inTurn('read_committed', ranges, pollRecords(onRecord, options), options),
    readUncommitted: (ranges, onRecord, options) =>
      inTurn('read_uncommitted', ranges, pollRecords(onRecord, options), options),
    readIdentities: (ranges, identityOf, onRecord) =>
      inTurn('read_committed', ranges, pollIdentities(identityOf, onRecord)),
    async follow(from, onRecords, signal) {
      const mine = followed.then(() => follow(from, onRecords, signal))
      followed = mine.catch(() => undefined)
      await unlessAborted(mine, signal).catch((error) => {
        if (!signal.aborted) throw error
      })
      if (!signal.aborted) throw new Error('closed')
    },
    group: () => within(BROKER_CALL_TIMEOUT_MS, describeGroup()),
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
