import { createTopicsAndWait } from '../../shared/dev/brokers/wire.ts'
import {
  commitOffsets,
  createPartitions,
  deleteRecords,
  deleteTopics,
  fetchCommitted,
  listOffsets,
} from '../../shared/dev/brokers/wire-admin.ts'
import { writeRecord } from '../../shared/testing/foreign-record.ts'
import { until } from '../../shared/testing/until.ts'
import { SOMETIMES } from './kinds.ts'
import { PLAIN } from './load.ts'
import { type Fault, GROUP, PARTITIONS, type Stage, TOPICS } from './stage.ts'

/** Topics and committed offsets that others change while the services run. */

const CALL_TIMEOUT_MS = 10_000
const FENCED_TIMEOUT_MS = 60_000

export const TOPIC_FAULTS: readonly Fault[] = [
  {
    name: 'grow-partitions',
    what: 'a stream’s four topics get more partitions under load, and events in them',
    async play(stage) {
      const load = stage.load({ kinds: [{ ...PLAIN, weight: 20 }, SOMETIMES], eventsPerSecond: 300 })
      let before = PARTITIONS
      for (const count of stage.short ? [PARTITIONS + 2] : [PARTITIONS + 2, PARTITIONS + 3, PARTITIONS + 8]) {
        await stage.pause(1_000, 3_000)
        await addPartitions(stage, before, count)
        before = count
        await stage.recovered('partitions added', 'ordinary')
      }
      await stage.pause(2_000, 3_000)
      await load.stop()
    },
    check: (_, { foreign }) => (foreign > 0 ? [] : ['no event was in a new partition: the run has tested nothing']),
  },
  {
    name: 'recreate-topic',
    what: 'a stream’s topics are deleted and made again within a second: what is acknowledged afterwards has its outcomes',
    async play(stage) {
      for (let round = 0; round < (stage.short ? 1 : 5); round++) {
        const before = stage.load({ eventsPerSecond: 300 })
        await stage.pause(2_000, 4_000)
        await before.stop()
        await stage.judgeSoFar()
        await deleteTopics(stage.kafka().address(0), CALL_TIMEOUT_MS, TOPICS)
        await createTopicsAndWait(stage.kafka().address(0), TOPICS, PARTITIONS)
        stage.did('topics made again')
        const load = stage.load({ eventsPerSecond: 300 })
        await stage.recovered('topics made again', 'ordinary')
        await stage.pause(2_000, 4_000)
        await load.stop()
      }
    },
  },
  {
    name: 'retention-overtakes',
    what: 'records that a stopped consumer has not read are deleted: it continues with the rest, and reports how many it could not read',
    async play(stage) {
      const firstOffsets: number[] = []
      for (let round = 0; round < (stage.short ? 1 : 5); round++) {
        const before = stage.load({ eventsPerSecond: 300, repeatedAnyway: 0 })
        await stage.pause(1_500, 3_000)
        await stopConsumer(stage)
        await stage.pause(1_500, 3_000)
        await before.stop()
        const gone = await deleteUnread(stage, firstOffsets)
        stage.changed({ firstOffsets: [...firstOffsets] })
        stage.did('records deleted')
        stage.consumer.start()
        await stage.consumer.ready()
        const load = stage.load({ eventsPerSecond: 300, repeatedAnyway: 0 })
        await stage.recovered('consumer started', 'ordinary')
        await load.stop()
        const skipped = await stage.consumer.metric('kafkatrace_consumer_skipped_offsets_total')
        if (skipped !== gone)
          stage.wrong(`${gone} records were deleted unread, and the consumer says that it skipped ${skipped}`)
      }
    },
  },
  {
    name: 'falsified-offsets',
    what: 'another client commits the group’s offsets past events that have no outcome: they are processed all the same',
    async play(stage) {
      for (let round = 0; round < (stage.short ? 1 : 5); round++) {
        const before = stage.load({ eventsPerSecond: 300 })
        await stage.pause(1_500, 3_000)
        await stopConsumer(stage)
        await stage.pause(1_500, 3_000)
        await before.stop()
        const unread = await unreadBy(stage)
        const offsets = unread.map(({ partition, from, end }) => [partition, stage.random.integer(from, end)] as const)
        await commitOffsets(await coordinator(stage), CALL_TIMEOUT_MS, GROUP, stage.topic, new Map(offsets))
        const falsified = offsets.reduce((total, [, offset], index) => total + offset - (unread[index]?.from ?? 0), 0)
        stage.did('offsets falsified')
        stage.consumer.start()
        await stage.consumer.ready()
        const load = stage.load({ eventsPerSecond: 300 })
        await stage.recovered('consumer started', 'ordinary')
        await load.stop()
        const repaired = await stage.consumer.metric('kafkatrace_consumer_repaired_total')
        // Some of them are repeats that already have outcomes.
        if (falsified === 0 || repaired === 0 || repaired > falsified)
          stage.wrong(
            `offsets were committed past ${falsified} records, and the consumer says that it repaired ${repaired}`,
          )
      }
    },
  },
]

async function stopConsumer(stage: Stage): Promise<void> {
  const { code } = await stage.stop(stage.consumer)
  if (code !== 0) stage.wrong(`the consumer ended with ${code}: ${await stage.consumer.lastLines()}`)
}

const coordinator = async (stage: Stage): Promise<string> =>
  stage.kafka().address(await stage.kafka().coordinatorOf('group', GROUP))

/** The lag of each partition: from the committed offset to the end. */
async function unreadBy(stage: Stage): Promise<{ partition: number; leader: string; from: number; end: number }[]> {
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition)
  const committed = await fetchCommitted(await coordinator(stage), CALL_TIMEOUT_MS, GROUP, stage.topic, partitions)
  return Promise.all(
    partitions.map(async (partition) => {
      const leader = stage.kafka().address(await stage.kafka().leaderOf(stage.topic, partition))
      const [end = 0] = await listOffsets(leader, CALL_TIMEOUT_MS, stage.topic, [partition], 'end')
      return { partition, leader, from: Math.max(0, committed[partition]?.offset ?? 0), end }
    }),
  )
}

/** Deletes some of the unread records. Returns how many. */
async function deleteUnread(stage: Stage, firstOffsets: number[]): Promise<number> {
  let gone = 0
  for (const { partition, leader, from, end } of await unreadBy(stage)) {
    // One partition is left alone, to show that it continues at once.
    if (end <= from || partition === PARTITIONS - 1) continue
    const to = stage.random.integer(from + 1, end)
    await deleteRecords(leader, CALL_TIMEOUT_MS, stage.topic, partition, to)
    firstOffsets[partition] = to
    gone += to - from
  }
  return gone
}

/** Adds partitions to the stream's four topics, and sends an event to each new one. */
export async function addPartitions(stage: Stage, before: number, count: number): Promise<void> {
  // An administrator may start with any of the topics.
  for (const topic of stage.random.chance(0.5) ? TOPICS : TOPICS.toReversed()) {
    const add = () =>
      createPartitions(stage.kafka().address(0), CALL_TIMEOUT_MS, [topic], count).then(
        () => true,
        (error: Error) => {
          // A machine that stood still for seconds: the controller has not heard of its brokers meanwhile.
          if (error.message.includes('fenced')) return false
          throw error
        },
      )
    await until(add, { timeoutMs: FENCED_TIMEOUT_MS, what: 'a broker for new partitions' })
  }
  stage.changed({ partitionsAdded: true })
  stage.did('partitions added')
  // Another client may know about them before the producer does.
  for (let partition = before; partition < count; partition++) {
    const write = () =>
      writeRecord(stage.kafka().bootstrapServers, stage.topic, partition, {
        value: Buffer.from('{}'),
        key: `new-${partition}`,
        headers: [
          ...['ce_specversion=1.0', `ce_id=${partition}`, 'ce_source=/new', 'ce_type=dev.kafkatrace.plain'],
          'content-type=application/json',
        ],
      })
    // Brokers announce a new partition after a moment.
    await until(
      () =>
        write().then(
          () => true,
          () => false,
        ),
      { timeoutMs: CALL_TIMEOUT_MS, what: 'a new partition to take a record' },
    )
  }
}
