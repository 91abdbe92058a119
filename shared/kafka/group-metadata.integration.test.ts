import { afterEach, expect, test } from 'bun:test'
import pino from 'pino'
import { testBrokers, uniqueName } from '../testing/brokers.ts'
import { commonConfig } from '../testing/common-config.ts'
import { rejection } from '../testing/settled.ts'
import { until } from '../testing/until.ts'
import { createTopicAdmin } from './admin.ts'
import { CODE, type Consumer, type LibrdKafkaError, native, type Producer, packed, promised } from './client.ts'
import { groupMetadata, sendOffsetsToTransaction } from './group-metadata.ts'
import { consumePacked } from './packed.ts'
import type { Membership } from './types.ts'

const CALL_TIMEOUT_MS = 10_000
const TEST_TIMEOUT_MS = 60_000

const config = commonConfig({ KAFKA_BROKERS: testBrokers() })
const ending: (() => Promise<unknown>)[] = []

afterEach(async () => {
  await Promise.all(ending.splice(0).map((end) => end()))
})

async function newTopic(): Promise<string> {
  const topic = uniqueName('memberships')
  const admin = createTopicAdmin({ config, clientId: uniqueName('admin'), log: pino({ level: 'silent' }) })
  expect(await admin.ensureGroups([[topic]], { partitions: 2, replication: -1 })).toEqual([undefined])
  await admin.close()
  return topic
}

async function connect<C extends Consumer | Producer>(client: C): Promise<C> {
  await promised((done) => client.connect({ timeout: CALL_TIMEOUT_MS }, (error) => done(error)))
  ending.push(() => promised((done) => client.disconnect((error) => done(error))))
  return client
}

const newConsumer = (group: string): Promise<Consumer> =>
  connect(
    new (native().KafkaConsumer)({
      'metadata.broker.list': testBrokers(),
      'group.id': group,
      'enable.auto.commit': false,
      'heartbeat.interval.ms': 100,
    }),
  )

async function newProducer(): Promise<Producer> {
  const producer = await connect(
    new (native().Producer)({ 'metadata.broker.list': testBrokers(), 'transactional.id': uniqueName('transactions') }),
  )
  await promised((done) => producer.initTransactions(CALL_TIMEOUT_MS, done))
  return producer
}

/** Serves all of them until everyone has this many partitions. */
const balanced = (members: Consumer[], partitions: number) =>
  until(
    () => {
      for (const member of members) consumePacked(packed(), member, 1, () => undefined)
      return members.every((member) => member.assignments().length === partitions)
    },
    { timeoutMs: 30_000, what: 'the partitions to be assigned' },
  )

const membership = (member: Consumer): Membership => groupMetadata(member) ?? expect.unreachable('no member')

/** Begins a transaction with these offsets; the error of sending them, after which it is aborted; none when it is committed. */
async function commitOffset(
  producer: Producer,
  send: (done: (error: LibrdKafkaError | null) => void) => void,
): Promise<LibrdKafkaError | undefined> {
  await promised((done) => producer.beginTransaction(done))
  try {
    await promised(send)
  } catch (error) {
    await promised((done) => producer.abortTransaction(CALL_TIMEOUT_MS, done))
    return error as LibrdKafkaError
  }
  await promised((done) => producer.commitTransaction(CALL_TIMEOUT_MS, done))
  return undefined
}

test(
  'offsets of a membership before a rebalance are refused after it, and those of the present one are committed',
  async () => {
    const topic = await newTopic()
    const group = uniqueName('group')
    const [first, second, producer] = await Promise.all([newConsumer(group), newConsumer(group), newProducer()])
    first.subscribe([topic])
    await balanced([first], 2)
    const before = membership(first)
    second.subscribe([topic])
    await balanced([first, second], 1)

    const offsets = [{ topic, partition: 0, offset: 7, metadata: 'späte 8' }]
    const send = (metadata: Membership) => (done: (error: LibrdKafkaError | null) => void) =>
      sendOffsetsToTransaction(producer, offsets, metadata, CALL_TIMEOUT_MS, done)
    const committed = () =>
      promised<unknown>((done) => first.committed([{ topic, partition: 0 }], CALL_TIMEOUT_MS, done))

    const refused = await commitOffset(producer, send(before))
    expect(refused).toMatchObject({
      code: CODE.ILLEGAL_GENERATION,
      isFatal: false,
      isRetriable: false,
      isTxnRequiresAbort: true,
    })
    expect(refused?.message).toContain('generation')
    expect(await committed()).toEqual([{ topic, partition: 0 }])

    expect(await commitOffset(producer, send(membership(first)))).toBeUndefined()
    expect(await committed()).toEqual([expect.objectContaining(offsets[0] as object)])
    // What this is for: the client's own call says "now" for whatever was read when.
    const own = [{ ...offsets[0], offset: 8 }] as typeof offsets
    const unfenced = await commitOffset(producer, (done) =>
      producer.sendOffsetsToTransaction(own, first, CALL_TIMEOUT_MS, done),
    )
    expect(unfenced).toBeUndefined()
  },
  TEST_TIMEOUT_MS,
)

test(
  'a consumer has a membership only while it is a member',
  async () => {
    const topic = await newTopic()
    const consumer = await newConsumer(uniqueName('group'))
    expect(groupMetadata(consumer)).toBeNull()
    consumer.subscribe([topic])
    await balanced([consumer], 2)
    const joined = membership(consumer)
    expect(membership(consumer).equals(joined)).toBe(true)
    consumer.unsubscribe()
    await balanced([consumer], 0)
    expect(groupMetadata(consumer)).toBeNull()

    const producer = await newProducer()
    const left = await commitOffset(producer, (done) =>
      sendOffsetsToTransaction(
        producer,
        [{ topic, partition: 0, offset: 1, metadata: '' }],
        joined,
        CALL_TIMEOUT_MS,
        done,
      ),
    )
    expect(left).toMatchObject({ code: CODE.UNKNOWN_MEMBER_ID, isTxnRequiresAbort: true })
  },
  TEST_TIMEOUT_MS,
)

test(
  'a client that is not connected has no membership, and takes no offsets',
  async () => {
    const topic = await newTopic()
    const group = uniqueName('group')
    const consumer = await newConsumer(group)
    consumer.subscribe([topic])
    await balanced([consumer], 2)
    const joined = membership(consumer)
    const unconnected = new (native().KafkaConsumer)({ 'metadata.broker.list': testBrokers(), 'group.id': group })
    expect(groupMetadata(unconnected)).toBeNull()
    const closing = new (native().Producer)({ 'metadata.broker.list': testBrokers(), 'transactional.id': group })
    const offsets = [{ topic, partition: 0, offset: 1, metadata: '' }]
    const sent = promised((done) => sendOffsetsToTransaction(closing, offsets, joined, CALL_TIMEOUT_MS, done))
    expect(await rejection(sent)).toMatchObject({ code: CODE.STATE, isRetriable: false })
  },
  TEST_TIMEOUT_MS,
)

test('what is no group metadata is refused at once', async () => {
  const producer = await newProducer()
  const none = () => undefined
  for (const bytes of ['', 'CGMDv2:', `CGMDv2:${'\0'.repeat(4)}group\0member`, 'a'.repeat(64)])
    expect(() =>
      sendOffsetsToTransaction(producer, [], Buffer.from(bytes) as Membership, CALL_TIMEOUT_MS, none),
    ).toThrow(TypeError)
})
