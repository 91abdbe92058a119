import { expect, test } from 'bun:test'
import { testBrokers, uniqueName } from '../../testing/brokers.ts'
import { settled } from '../../testing/settled.ts'
import { until } from '../../testing/until.ts'
import { createTopicsAndWait, fetchMetadata } from './wire.ts'
import {
  alterTopic,
  commitOffsets,
  createPartitions,
  deleteRecords,
  deleteTopics,
  fetchCommitted,
  findCoordinator,
  listOffsets,
} from './wire-admin.ts'

const [address = ''] = testBrokers().split(',')
const timeoutMs = 10_000
const partitionsOf = async (topic: string): Promise<number> =>
  (await fetchMetadata(address, timeoutMs, [topic])).topics[0]?.partitions ?? 0

test('a topic grows, loses its oldest records and goes', async () => {
  const topic = uniqueName('wire-admin')
  await createTopicsAndWait(address, [topic], 2)
  const kcat = Bun.spawn(['kcat', '-P', '-b', address, '-t', topic, '-p', '1'], { stdin: Buffer.from('a\nb\nc\n') })
  expect(await kcat.exited).toBe(0)
  expect(await listOffsets(address, timeoutMs, topic, [0, 1], 'end')).toEqual([0, 3])
  await deleteRecords(address, timeoutMs, topic, 1, 2)
  expect(await listOffsets(address, timeoutMs, topic, [1, 0], 'beginning')).toEqual([2, 0])
  expect(await settled(deleteRecords(address, timeoutMs, topic, 1, 9))).toThrow(`${topic}/1: error 1`)
  await createPartitions(address, timeoutMs, [topic], 3)
  await until(async () => (await partitionsOf(topic)) === 3)
  expect(await settled(createPartitions(address, timeoutMs, [topic], 3))).toThrow(topic)
  await deleteTopics(address, timeoutMs, [topic])
  await until(async () => (await partitionsOf(topic)) === 0)
  expect(await settled(deleteTopics(address, timeoutMs, [topic]))).toThrow(topic)
  // The broker closes a deleted topic's partitions after its metadata has gone.
  const endOrFault = () => listOffsets(address, timeoutMs, topic, [0], 'end').catch((error: Error) => error.message)
  await until(async () => String(await endOrFault()).startsWith(`${topic}/0: error`))
})

test('a topic’s setting is changed, and taken back', async () => {
  const topic = uniqueName('wire-admin')
  await createTopicsAndWait(address, [topic], 1)
  const write = () => {
    const kcat = Bun.spawn(['kcat', '-P', '-b', address, '-t', topic], {
      stdin: Buffer.alloc(400, 'x'),
      stderr: 'ignore',
    })
    return kcat.exited
  }
  await alterTopic(address, timeoutMs, topic, 'max.message.bytes', '300')
  await until(async () => (await write()) !== 0)
  await alterTopic(address, timeoutMs, topic, 'max.message.bytes', undefined)
  await until(async () => (await write()) === 0)
  expect(await settled(alterTopic(address, timeoutMs, topic, 'max.message.bytes', 'many'))).toThrow('max.message.bytes')
})

test('a group that has committed nothing has a coordinator and no offsets, and without members takes anybody’s', async () => {
  const group = uniqueName('wire-admin')
  const { brokers } = await fetchMetadata(address, timeoutMs)
  const ids = brokers.map(({ id }) => id)
  // The topic of offsets is made when it is asked for the first time, and has no leader at first.
  await until(async () => ids.includes(await findCoordinator(address, timeoutMs, 'group', group).catch(() => -1)), {
    timeoutMs,
  })
  const committed = () => fetchCommitted(address, timeoutMs, group, 'any', [0]).catch(() => undefined)
  await until(async () => (await committed()) !== undefined, { timeoutMs })
  expect(await committed()).toEqual([{ offset: -1, metadata: '' }])
  const topic = uniqueName('wire-admin')
  await createTopicsAndWait(address, [topic], 2)
  await commitOffsets(address, timeoutMs, group, topic, new Map([[1, 7]]))
  expect(await fetchCommitted(address, timeoutMs, group, topic, [0, 1])).toEqual([
    { offset: -1, metadata: '' },
    { offset: 7, metadata: '' },
  ])
})
