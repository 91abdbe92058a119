import { expect, test } from 'bun:test'
import { NO_HEADERS } from '../shared/events/headers.ts'
import type { IncomingRecord } from '../shared/events/record.ts'
import type { Position } from '../shared/kafka/statistics.ts'
import type { PartitionEnds, Range, TopicPartition } from '../shared/kafka/types.ts'
import type { ControlledStream } from './control.ts'
import { createChecks, createLiveness, LagMeter, measure } from './health.ts'
import { createMetrics } from './metrics.ts'
import type { PartitionState } from './partition-state.ts'
import type { Pipeline } from './pipeline.ts'

const INPUT = 'kt.acme.events'

/** A pipeline whose partitions have these states, in order. */
function pipelineOf(
  states: readonly PartitionState[],
  {
    membership = 'member',
    stalledMs = 0,
    backlog,
    pauses = { streams: [], fault: undefined },
  }: {
    membership?: ReturnType<Pipeline['membership']>
    stalledMs?: number
    /** Of those that are read. */
    backlog?: string
    pauses?: ReturnType<Pipeline['pauses']>
  } = {},
) {
  return {
    pauses: () => pauses,
    membership: () => membership,
    stalledMs: () => stalledMs,
    partitions: () =>
      states.map((state, partition) => ({
        name: `${INPUT}/${partition}`,
        topic: INPUT,
        partition,
        state,
        isPausedByOperator: pauses.streams.length > 0,
        backlog: state.kind === 'reading' ? backlog : undefined,
      })),
    levels: () => ({ open: 0, decided: 0, handlers: 0, parkedBytes: 0, heldBytes: 0, waiting: 0 }),
    waitingByReason: () => new Map([['newer schema' as const, 2]]),
  }
}

const connected = { connection: () => ({ state: 'connected' as const }) }

const checksOf = (pipeline: ReturnType<typeof pipelineOf>, refusal?: string, replaced?: string, broker?: string) =>
  createChecks(
    () => ({
      pipeline,
      group: {
        connection: () => ({ state: 'connected' as const, ...(broker !== undefined && { detail: broker }) }),
        refusal: () => refusal,
      },
      transactor: connected,
      reader: { unreachable: () => broker },
    }),
    () => replaced,
    new AbortController().signal,
  )

/** The reasons against readiness. */
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

test('recreated clients are named with the reason, and the process stays ready', () => {
  expect(checksOf(pipelineOf([]))['clients']?.()).toEqual({ ok: true })
  expect(checksOf(pipelineOf([]), undefined, 'fenced')['clients']?.()).toEqual({
    ok: true,
    detail: 'recreated, nothing committed since: fenced',
  })
})

test('whoever is no member, does not read a partition, or does not commit is not ready, and says why', () => {
  expect(reasons(pipelineOf([], { membership: 'no topics' }))).toEqual(['no stream topic exists yet'])
  expect(reasons(pipelineOf([], { membership: 'not a member' }))).toHaveLength(1)
  expect(
    checksOf(pipelineOf([], { membership: 'not a member' }), 'Broker: Invalid session timeout')['group']?.(),
  ).toEqual({
    ok: false,
    reason: 'not a member of the group, or no assignment yet: Broker: Invalid session timeout',
  })
  expect(reasons(pipelineOf([reading, { kind: 'restoring', fault: undefined }, refused]))).toEqual([
    `not read: ${INPUT}/1 is being restored, ${INPUT}/2 is paused: its outcomes cannot be written: no`,
  ])
  expect(reasons(pipelineOf([reading], { stalledMs: 5_000 }))).toEqual([
    'no commit for 5 s although outcomes are ready',
  ])
})

test('a broker that cannot be reached while others can is named: nobody is unready for it but who restores partitions', () => {
  const why = 'b:1: connection refused'
  const read = checksOf(pipelineOf([reading]), undefined, undefined, why)
  expect(read['kafka']?.()).toEqual({ ok: true, detail: `a broker is unreachable: ${why}` })
  expect(read['partitions']?.()).toEqual({ ok: true })
  expect(
    checksOf(pipelineOf([{ kind: 'restoring', fault: undefined }]), undefined, undefined, why)['partitions']?.(),
  ).toEqual({
    ok: false,
    reason: `not read: ${INPUT}/0 is being restored; a broker is unreachable: ${why}`,
  })
})

test('a paused partition is named and keeps nobody unready who reads another; one that is being restored does, unless it cannot be for long', () => {
  const paused = `${INPUT}/1 is paused: its outcomes cannot be written: no`
  expect(checksOf(pipelineOf([reading, refused]))['partitions']?.()).toEqual({
    ok: true,
    detail: `not read: ${paused}`,
  })
  expect(reasons(pipelineOf([gone, refused]))).toEqual([`not read: ${INPUT}/0 is paused: no such topic, ${paused}`])
  expect(reasons(pipelineOf([reading, refused, { kind: 'restoring', fault: 'no leader' }]))).toEqual([
    `not read: ${INPUT}/2 cannot be restored: no leader, ${paused}`,
  ])
  const lasting: PartitionState = { kind: 'restoring', fault: 'no leader', lasting: true }
  expect(checksOf(pipelineOf([reading, lasting]))['partitions']?.()).toEqual({
    ok: true,
    detail: `not read: ${INPUT}/1 cannot be restored: no leader`,
  })
  expect(reasons(pipelineOf([lasting]))).toEqual([`not read: ${INPUT}/0 cannot be restored: no leader`])
})

test('a partition with too many events in .retry is named, and keeps nobody unready', () => {
  const backlog = '9 events wait in .retry'
  const full = `${INPUT}/0 is paused: ${backlog}`
  expect(checksOf(pipelineOf([reading], { backlog }))['partitions']?.()).toEqual({
    ok: true,
    detail: `not read: ${full}`,
  })
  expect(checksOf(pipelineOf([reading, gone], { backlog }))['partitions']?.()).toEqual({
    ok: true,
    detail: `not read: ${INPUT}/1 is paused: no such topic, ${full}`,
  })
})

test('partitions are counted by state, and paused ones by topic and cause for as long as the topic is assigned', async () => {
  const metrics = createMetrics()
  const paused = async () =>
    Object.fromEntries((await metrics.pausedPartitions.get()).values.map(({ labels, value }) => [labels.cause, value]))
  measure(pipelineOf([reading, refused, refused, gone, { kind: 'restoring', fault: 'x' }]), metrics)
  expect(await paused()).toEqual({ unreadable: 1, unwritable: 2, operator: 0 })
  const states = (await metrics.partitions.get()).values.map(({ labels, value }) => [labels.state, value])
  expect(Object.fromEntries(states)).toEqual({ restoring: 1, reading: 1, paused: 3, draining: 0 })
  measure(pipelineOf([reading]), metrics)
  expect(await paused()).toEqual({ unreadable: 0, unwritable: 0, operator: 0 })
  measure(pipelineOf([]), metrics)
  expect(await paused()).toEqual({})
})

test('events that wait are counted by the reason, and no reason is left out', async () => {
  const metrics = createMetrics()
  const counts = async () =>
    Object.fromEntries((await metrics.waiting.get()).values.map(({ labels, value }) => [labels.reason, value]))
  const none = { 'handler failed': 0, 'handler timed out': 0, 'no handler': 0, 'newer schema': 0 }
  expect(await counts()).toEqual(none)
  measure(pipelineOf([reading]), metrics)
  expect(await counts()).toEqual({ ...none, 'newer schema': 2 })
})

const pausedStream = (stream: string): ControlledStream => ({
  tenant: 'acme',
  stream,
  control: { state: 'paused', by: 'alice', atMs: Date.UTC(2026, 0, 31), reason: 'rates are down' },
})

test('a stream that an operator has paused keeps nobody unready, and is named with who, since when and why', () => {
  const streams = [pausedStream('events'), pausedStream('orders')]
  const pipeline = pipelineOf([reading], { pauses: { streams, fault: undefined } })
  expect(reasons(pipeline)).toEqual([])
  expect(checksOf(pipeline)['partitions']?.()).toEqual({ ok: true })
  expect(checksOf(pipeline)['streams']?.()).toEqual({
    ok: true,
    detail:
      'acme/events is paused by alice since 2026-01-31T00:00:00.000Z: rates are down, acme/orders is paused by alice since 2026-01-31T00:00:00.000Z: rates are down',
  })
  const unknown = pipelineOf([reading], { pauses: { streams: [], fault: 'no leader' } })
  expect(checksOf(unknown)['streams']?.()).toEqual({
    ok: true,
    detail: 'kt-control cannot be read, so that streams stay as they are: no leader',
  })
  expect(checksOf(pipelineOf([reading]))['streams']?.()).toEqual({ ok: true })
})

test('a partition that an operator has paused and whose outcomes are refused counts for both causes, and once as paused', async () => {
  const metrics = createMetrics()
  const pauses = { streams: [pausedStream('events')], fault: undefined }
  measure(pipelineOf([reading, refused, { kind: 'restoring', fault: undefined }], { pauses }), metrics)
  const of = (rows: { labels: Record<string, unknown>; value: number }[], label: string) =>
    Object.fromEntries(rows.map(({ labels, value }) => [labels[label], value]))
  expect(of((await metrics.pausedPartitions.get()).values, 'cause')).toEqual({
    unreadable: 0,
    unwritable: 1,
    operator: 3,
  })
  expect(of((await metrics.partitions.get()).values, 'state')).toEqual({
    restoring: 1,
    reading: 0,
    paused: 2,
    draining: 0,
  })
})

const AT = { topic: `${INPUT}.retry`, partition: 0 }
const NOW_MS = 1_700_000_000_000
const RECORD: IncomingRecord = { ...AT, offset: 0, timestampMs: 0, key: null, value: null, headers: NO_HEADERS }

/** The lag of a partition with ten records, the last of them behind an open transaction. */
function lagged({ isOurs = true, topic = AT.topic } = {}) {
  const metrics = createMetrics()
  const broker = {
    nowMs: NOW_MS,
    ends: async (): Promise<PartitionEnds[]> => [{ beginning: 0, stable: 9, end: 10 }],
    readUncommitted: async (_: readonly Range[], __: (record: IncomingRecord) => void): Promise<void> => undefined,
  }
  const lagMeter = new LagMeter(metrics, () => broker.nowMs)
  const ended: string[] = []
  return {
    broker,
    async after(progress: { next: number; uncommitted: number }, position?: Omit<Position, keyof TopicPartition>) {
      const pipeline = {
        progress: () => [
          { ...AT, topic, ...progress, oldestMs: progress.uncommitted > 0 ? NOW_MS - 7_000 : undefined },
        ],
        has: () => isOurs,
        endedBefore: (name: string) => void ended.push(name),
      }
      await lagMeter.measure(pipeline, broker, position === undefined ? [] : [{ ...AT, topic, ...position }])
      const records = (await metrics.lagRecords.get()).values[0]?.value
      const seconds = (await metrics.lagSeconds.get()).values[0]?.value
      return { records, seconds, ended }
    },
  }
}

test('lag is what is fetched and not committed, and what a reader of committed records has still to fetch', async () => {
  expect(await lagged().after({ next: 4, uncommitted: 3 })).toEqual({ records: 3 + 5, seconds: 7, ended: [] })
  expect(await lagged().after({ next: 9, uncommitted: 0 })).toEqual({ records: 0, seconds: 0, ended: [] })
})

test('what stands behind a transaction that another producer has left open in an input is lag, and as old as it is', async () => {
  const { broker, after } = lagged({ topic: INPUT })
  broker.readUncommitted = async (_, onRecord) =>
    onRecord({ ...RECORD, topic: INPUT, offset: 9, timestampMs: NOW_MS - 60_000 })
  expect(await after({ next: 9, uncommitted: 0 })).toMatchObject({ records: 1, seconds: 0 })
  broker.nowMs += 10_000
  await after({ next: 9, uncommitted: 0 })
  expect(await after({ next: 9, uncommitted: 0 })).toMatchObject({ records: 1, seconds: 70 })
  expect(await after({ next: 9, uncommitted: 0 }, { next: 10, queued: 0 })).toMatchObject({ records: 0 })
})

test('a transaction’s mark that the client has passed is no lag, and what waits in the client is', async () => {
  expect(await lagged().after({ next: 8, uncommitted: 0 }, { next: 9, queued: 0 })).toMatchObject({ records: 0 })
  expect(await lagged().after({ next: 2, uncommitted: 1 }, { next: 9, queued: 5 })).toMatchObject({ records: 6 })
})

test('a partition that ends before what was read of it is told of, and one that was given up has no lag', async () => {
  expect(await lagged().after({ next: 12, uncommitted: 0 })).toMatchObject({ records: 0, ended: [`${INPUT}.retry/0`] })
  expect(await lagged({ isOurs: false }).after({ next: 4, uncommitted: 3 })).toEqual({
    records: undefined,
    seconds: undefined,
    ended: [],
  })
})

const unanswered = async () => Promise.reject(new Error('no answer'))

test('lag does not fall when the broker cannot be asked', async () => {
  const { broker, after } = lagged()
  expect(await after({ next: 4, uncommitted: 3 })).toMatchObject({ records: 8, seconds: 7 })
  broker.ends = unanswered
  expect(await after({ next: 4, uncommitted: 3 })).toMatchObject({ records: 8, seconds: 7 })
})

test('what is not fetched is as old as its oldest record, which is read once it has waited', async () => {
  const { broker, after } = lagged()
  const asked: Range[] = []
  broker.readUncommitted = async (ranges, onRecord) => {
    asked.push(...ranges)
    for (const offset of [5, 6]) onRecord({ ...RECORD, offset, timestampMs: NOW_MS - 1_000 * (3_606 - offset) })
  }
  const unread = { next: 4, uncommitted: 0 }
  expect(await after(unread)).toMatchObject({ records: 5, seconds: 0 })
  broker.nowMs += 9_000
  expect(await after(unread)).toMatchObject({ seconds: 9 })
  broker.nowMs += 1_000
  await after(unread)
  expect(await after(unread)).toMatchObject({ records: 5, seconds: 3_601 + 10 })
  broker.nowMs += 20_000
  broker.ends = unanswered
  expect(await after(unread)).toMatchObject({ records: 5, seconds: 3_601 + 30 })
  expect(asked).toEqual([{ ...AT, from: 4, to: 9 }])
})

test('what cannot be read is as old as it has been unread for; what has been read is not told of any more', async () => {
  const { broker, after } = lagged()
  let asked = 0
  broker.readUncommitted = async () => {
    asked++
    return unanswered()
  }
  for (const seconds of [0, 10, 20]) {
    broker.nowMs = NOW_MS + 1_000 * seconds
    expect(await after({ next: 4, uncommitted: 0 })).toMatchObject({ seconds })
  }
  expect(asked).toBe(2)
  expect(await after({ next: 5, uncommitted: 0 })).toMatchObject({ records: 4, seconds: 0 })
  expect(await after({ next: 9, uncommitted: 0 })).toMatchObject({ records: 0, seconds: 0 })
})

test('a process is dead when nobody looks whether work goes on, or new clients do not help, and is left to drain', () => {
  const state = { unwatchedMs: 59_999, gaveUp: false }
  const draining = new AbortController()
  const alive = createLiveness(
    () => ({ pipeline: { unwatchedMs: () => state.unwatchedMs } }),
    () => state.gaveUp,
    draining.signal,
  )
  expect(alive()).toEqual({ ok: true })
  state.unwatchedMs++
  expect(alive()).toEqual({ ok: false, reason: 'the progress watch has not run for 60 s' })
  draining.abort()
  expect(alive().ok).toBe(true)
  state.gaveUp = true
  expect(alive()).toEqual({ ok: false, reason: 'recreating the Kafka clients did not help: exiting' })
})
