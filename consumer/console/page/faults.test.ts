import { expect, test } from 'bun:test'
import type { StreamStatus } from '../status.ts'
import { deathsIn, faultsOf } from './faults.ts'

const partition = (number: number, more: Partial<StreamStatus['partitions'][number]> = {}) => ({
  partition: number,
  state: 'reading' as const,
  consumer: 'one',
  committed: 5,
  end: 5,
  lag: 0,
  waiting: 0,
  ...more,
})

const status = (more: Partial<StreamStatus> = {}): StreamStatus => ({
  tenant: 'acme',
  stream: 'events',
  group: { id: 'kafkatrace', state: 'Stable' },
  consumers: [{ clientId: 'one', host: '10.0.0.7', ready: true, partitions: [0, 1] }],
  lag: 0,
  waiting: 0,
  rates: { seconds: 60, in: 1 },
  partitions: [partition(0), partition(1)],
  ...more,
})

const told = (more: Partial<StreamStatus>) => faultsOf(status(more)).map(({ tone, alert, text }) => [tone, alert, text])

test('a stream whose partitions are all read has no fault, whatever its lag', () => {
  expect(faultsOf(status())).toEqual([])
  expect(faultsOf(status({ lag: 1e6, partitions: [partition(0, { lag: 1e6 }), partition(1)] }))).toEqual([])
  // Only asked for once it is there.
  expect(faultsOf(status({ consumers: [{ clientId: 'one', host: 'h', partitions: [0, 1] }] }))).toEqual([])
})

test('each fault is told with where, why and the runbook’s section', () => {
  const { consumer: _, ...nobody } = partition(0)
  expect(told({ consumers: [], partitions: [{ ...nobody, state: 'not assigned' }] })).toEqual([
    ['bad', 'KafkaTraceConsumerAbsent', 'No consumer is in the group kafkatrace: events wait.'],
  ])
  expect(told({ partitions: [{ ...nobody, state: 'not assigned' }, partition(1)] })).toEqual([
    ['bad', 'KafkaTracePartitionsNotRead', '1 partition without a consumer (0); the group is Stable.'],
  ])
  expect(
    told({
      partitions: [
        partition(0, { state: 'paused', reason: 'outcomes cannot be written' }),
        partition(1, { state: 'paused', reason: 'outcomes cannot be written' }),
      ],
    }),
  ).toEqual([['bad', 'KafkaTracePartitionsPaused', '2 partitions paused: outcomes cannot be written (0, 1).']])
  expect(
    told({ consumers: [{ clientId: 'one', host: 'h', ready: false, faults: ['kafka: down'], partitions: [0, 1] }] }),
  ).toEqual([['bad', 'KafkaTraceConsumerStalled', 'one is not ready: kafka: down.']])
  expect(told({ paused: { by: 'night', time: '2026-01-31T12:00:00.000Z', reason: 'a drill' } })).toEqual([
    ['warn', 'KafkaTraceStreamPaused', 'Paused by night: a drill.'],
  ])
})

test('every section that is named is in the runbook', async () => {
  const runbook = await Bun.file(`${import.meta.dir}/../../../docs/runbooks/consumer.md`).text()
  const source = await Bun.file(`${import.meta.dir}/faults.ts`).text()
  const named = [...source.matchAll(/'(KafkaTrace\w+)'/g)].map(([, name]) => name)
  expect(named.length).toBeGreaterThan(4)
  for (const name of named) expect(runbook).toContain(`## ${name}\n`)
})

test('events that became dead letters of late are said with their share, where that is not small', () => {
  const minute = (processed: number, dead: number) => ({
    time: '2026-01-31T12:00:00.000Z',
    in: 0,
    retried: 0,
    processed,
    dead,
  })
  const texts = (...minutes: ReturnType<typeof minute>[]) => deathsIn({ minutes }).map(({ tone, text }) => [tone, text])
  expect(deathsIn(undefined)).toEqual([])
  expect(texts(minute(0, 0))).toEqual([])
  expect(texts(minute(1_000, 9))).toEqual([])
  expect(texts(minute(900, 50), minute(0, 50))).toEqual([
    ['warn', '100 events of the last 10 minutes became dead letters: 10 %.'],
  ])
  // Those before the last ten minutes are over.
  expect(texts(minute(0, 50), ...Array.from({ length: 10 }, () => minute(1, 0)))).toEqual([])
})
