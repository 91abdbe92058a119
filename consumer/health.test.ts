import { expect, test } from 'bun:test'
import type { Position } from '../shared/kafka/statistics.ts'
import type { PartitionEnds, TopicPartition } from '../shared/kafka/types.ts'
import { createChecks, measure, measureLag } from './health.ts'
import { createMetrics } from './metrics.ts'
import type { PartitionState } from './partition.ts'
import type { Pipeline } from './pipeline.ts'

const INPUT = 'kt.acme.events'

/** What is told of a pipeline whose partitions are in these states, in order. */
function pipelineOf(
  states: readonly PartitionState[],
  {
    membership = 'member',
    stalledMs = 0,
  }: { membership?: ReturnType<Pipeline['membership']>; stalledMs?: number } = {},
) {
  return {
    membership: () => membership,
    stalledMs: () => stalledMs,
    partitions: () => states.map((state, partition) => ({ name: `${INPUT}/${partition}`, topic: INPUT, state })),
    levels: () => ({ open: 0, decided: 0, handlers: 0, parkedBytes: 0, heldBytes: 0, waiting: 0 }),
  }
}

const connected = { connection: () => ({ state: 'connected' as const }) }

const checksOf = (pipeline: ReturnType<typeof pipelineOf>) =>
  createChecks(() => ({ pipeline, group: connected, transactor: connected }), new AbortController().signal)

/** What is said against readiness. */
const reasons = (pipeline: ReturnType<typeof pipelineOf>): string[] =>
  Object.values(checksOf(pipeline)).flatMap((check) => {
    const result = check()
    return result.ok ? [] : [result.reason]
  })

const reading: PartitionState = { kind: 'reading' }
const refused: PartitionState = { kind: 'paused', cause: 'unwritable', reason: 'its outcomes cannot be written: no' }
const gone: PartitionState = { kind: 'paused', cause: 'unreadable', reason: 'no such topic' }

test('a member that reads what it was assigned, be it nothing, and commits is ready', () => {
  expect(reasons(pipelineOf([]))).toEqual([])
  expect(reasons(pipelineOf([reading, { kind: 'draining' }], { stalledMs: 4_999 }))).toEqual([])
})

test('whoever is no member, does not read a partition, or does not commit is not ready, and says why', () => {
  expect(reasons(pipelineOf([], { membership: 'no topics' }))).toEqual(['there is no topic of a stream yet'])
  expect(reasons(pipelineOf([], { membership: 'not a member' }))).toHaveLength(1)
  expect(reasons(pipelineOf([reading, { kind: 'restoring', fault: undefined }, refused]))).toEqual([
    `not read: ${INPUT}/1 is being restored, ${INPUT}/2 is paused: its outcomes cannot be written: no`,
  ])
  expect(reasons(pipelineOf([reading], { stalledMs: 5_000 }))).toEqual([
    'nothing has been committed for 5 s, though records are decided',
  ])
})

test('a paused partition is named and keeps nobody unready who reads another; one that is being restored does', () => {
  const paused = `${INPUT}/1 is paused: its outcomes cannot be written: no`
  expect(checksOf(pipelineOf([reading, refused]))['partitions']?.()).toEqual({
    ok: true,
    detail: `not read: ${paused}`,
  })
  expect(reasons(pipelineOf([gone, refused]))).toEqual([`not read: ${INPUT}/0 is paused: no such topic, ${paused}`])
  expect(reasons(pipelineOf([reading, refused, { kind: 'restoring', fault: 'no leader' }]))).toEqual([
    `not read: ${INPUT}/2 cannot be restored: no leader, ${paused}`,
  ])
})

test('partitions are counted by state, and paused ones by topic and cause for as long as the topic is assigned', async () => {
  const metrics = createMetrics()
  const paused = async () =>
    Object.fromEntries((await metrics.pausedPartitions.get()).values.map(({ labels, value }) => [labels.cause, value]))
  measure(pipelineOf([reading, refused, refused, gone, { kind: 'restoring', fault: 'x' }]), metrics)
  expect(await paused()).toEqual({ unreadable: 1, unwritable: 2 })
  const states = (await metrics.partitions.get()).values.map(({ labels, value }) => [labels.state, value])
  expect(Object.fromEntries(states)).toEqual({ restoring: 1, reading: 1, paused: 3, draining: 0 })
  measure(pipelineOf([reading]), metrics)
  expect(await paused()).toEqual({ unreadable: 0, unwritable: 0 })
  measure(pipelineOf([]), metrics)
  expect(await paused()).toEqual({})
})

/** The lag that is told of a partition that has ten records, the last of them behind a transaction that is open. */
async function lagOf(
  progress: { next: number; uncommitted: number },
  { position, isOurs = true }: { position?: Omit<Position, keyof TopicPartition>; isOurs?: boolean } = {},
  metrics = createMetrics(),
) {
  const at = { topic: INPUT, partition: 0 }
  const ended: string[] = []
  const pipeline = {
    progress: () => [{ ...at, ...progress, oldestMs: progress.uncommitted > 0 ? Date.now() - 7_000 : undefined }],
    has: () => isOurs,
    endedBefore: (name: string) => void ended.push(name),
  }
  const ends: PartitionEnds = { beginning: 0, stable: 9, end: 10 }
  const reader = { ends: async () => [ends] }
  await measureLag(pipeline, reader, position === undefined ? [] : [{ ...at, ...position }], metrics)
  const records = (await metrics.lagRecords.get()).values[0]?.value
  const seconds = (await metrics.lagSeconds.get()).values[0]?.value
  return { records, seconds: seconds === undefined ? undefined : Math.round(seconds), ended }
}

test('lag is what is fetched and not committed, and what a reader of committed records has still to fetch', async () => {
  expect(await lagOf({ next: 4, uncommitted: 3 })).toEqual({ records: 3 + 5, seconds: 7, ended: [] })
  expect(await lagOf({ next: 9, uncommitted: 0 })).toEqual({ records: 0, seconds: 0, ended: [] })
})

test('a transaction’s mark that the client has passed is no lag, and what waits in the client is', async () => {
  expect(await lagOf({ next: 8, uncommitted: 0 }, { position: { next: 9, queued: 0 } })).toMatchObject({ records: 0 })
  expect(await lagOf({ next: 2, uncommitted: 1 }, { position: { next: 9, queued: 5 } })).toMatchObject({ records: 6 })
})

test('a partition that ends before what was read of it is told of, and one that was given up has no lag', async () => {
  expect(await lagOf({ next: 12, uncommitted: 0 })).toMatchObject({ records: 0, ended: [`${INPUT}/0`] })
  expect(await lagOf({ next: 4, uncommitted: 3 }, { isOurs: false })).toEqual({
    records: undefined,
    seconds: undefined,
    ended: [],
  })
})

test('lag does not fall when the broker cannot be asked', async () => {
  const metrics = createMetrics()
  expect(await lagOf({ next: 4, uncommitted: 3 }, {}, metrics)).toMatchObject({ records: 8 })
  const unanswered = async () => Promise.reject(new Error('no answer'))
  const at = { topic: INPUT, partition: 0, next: 4, uncommitted: 3, oldestMs: undefined }
  const pipeline = { progress: () => [at], has: () => true, endedBefore: () => undefined }
  await measureLag(pipeline, { ends: unanswered }, [], metrics)
  expect((await metrics.lagRecords.get()).values.map(({ value }) => value)).toEqual([8])
})
