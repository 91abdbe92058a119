import { expect, test } from 'bun:test'
import { headersOf } from '../events/headers.ts'
import type { OutgoingRecord } from '../events/record.ts'
import { FakeKafka } from './fake-kafka.ts'
import { settled } from './settled.ts'
import { until } from './until.ts'

const TOPIC = 'kt.acme.orders'
const record = (name: string): OutgoingRecord => ({
  topic: TOPIC,
  partition: 0,
  key: null,
  value: Buffer.from(name),
  headers: headersOf({ ce_id: name }),
})

test('what is written without offsets is followed, as a whole or not at all', async () => {
  const kafka = new FakeKafka().createTopic(TOPIC)
  const transactor = kafka.transactor()
  expect(await transactor.write([record('too early')])).toMatchObject({ kind: 'aborted', passing: true })
  await transactor.start()
  const names: string[] = []
  const stopping = new AbortController()
  const from = [{ topic: TOPIC, partition: 0, offset: 0 }]
  const following = kafka
    .reader()
    .follow(from, (records) => names.push(...records.map(({ value }) => String(value))), stopping.signal)
  await transactor.write([record('a'), record('b')])
  kafka.refuses = ({ value }) => (String(value) === 'd' ? { reason: 'refused', tooLarge: false } : undefined)
  const refused = await transactor.write([record('c'), record('d')])
  expect(refused.kind === 'aborted' && [...refused.failed.keys()]).toEqual([1])
  await transactor.write([record('e')])
  await until(() => names.includes('e'))
  stopping.abort()
  await following
  expect(names).toEqual(['a', 'b', 'e'])
  expect(
    await kafka.reader().follow([{ topic: TOPIC, partition: 0, offset: 99 }], () => undefined, stopping.signal),
  ).toBeUndefined()
  const { signal } = new AbortController()
  expect(
    await settled(kafka.reader().follow([{ topic: TOPIC, partition: 0, offset: 99 }], () => undefined, signal)),
  ).toThrow('no offset 99')
})

test('a read ends with its signal, and tells how far it has come', async () => {
  const kafka = new FakeKafka().createTopic(TOPIC, 2)
  kafka.append(record('a'))
  kafka.append({ ...record('b'), partition: 1 })
  const ranges = [0, 1].map((partition) => ({ topic: TOPIC, partition, from: 0, to: 1 }))
  const progress: number[] = []
  await kafka.reader().read(ranges, () => undefined, { onProgress: (offsets) => progress.push(offsets) })
  expect(progress).toEqual([1, 2])
  const signal = AbortSignal.abort(new Error('enough'))
  expect(await settled(kafka.reader().read(ranges, () => undefined, { signal }))).toThrow('enough')
})

test('the group is described with the partitions of its members', async () => {
  const kafka = new FakeKafka().createTopic(TOPIC)
  expect(await kafka.reader().group()).toEqual({ state: 'Empty', members: [] })
  const member = kafka.group()
  member.start(
    /./,
    {
      assigned: () => undefined,
      revoked: async (partitions) => partitions,
      outOfRange: () => undefined,
      unreadable: () => undefined,
      failed: () => undefined,
    },
    Promise.resolve(),
  )
  await until(async () => (await kafka.reader().group())?.members.length === 1)
  member.assign([{ topic: TOPIC, partition: 0 }])
  const { state, members = [] } = (await kafka.reader().group()) ?? {}
  expect([state, members[0]?.partitions]).toEqual(['Stable', [{ topic: TOPIC, partition: 0 }]])
})
