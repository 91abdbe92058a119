import { afterEach, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { runKafkaTool } from '../shared/dev/brokers/kafka-distribution.ts'
import { alterTopic, deleteRecords } from '../shared/dev/brokers/wire-admin.ts'
import { controlKey, type StreamControl } from '../shared/events/control.ts'
import { headerText, NO_HEADERS } from '../shared/events/headers.ts'
import type { IncomingRecord } from '../shared/events/record.ts'
import { CONTROL_TOPIC, inputTopic, siblingTopic, streamTopics, type TopicRole } from '../shared/events/topics.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { native, promised, type Settings } from '../shared/kafka/client.ts'
import { describeAddon } from '../shared/kafka/native/check.ts'
import { createRangeReader, readAll as readRecords } from '../shared/kafka/range-reader.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { writeRecord } from '../shared/testing/foreign-record.ts'
import { openTransaction } from '../shared/testing/open-transaction.ts'
import { until } from '../shared/testing/until.ts'
import { loadConsumerConfig } from './config.ts'
import { defineHandler } from './handlers/handler.ts'
import { LagMeter } from './health.ts'
import { createMetrics } from './metrics.ts'
import type { Pipeline } from './pipeline.ts'
import { startTestConsumer, type TestConsumerOptions } from './testing/consumer.ts'

const PARTITIONS = 3
const WIRE_TIMEOUT_MS = 10_000
/** Kafka's default of `max.message.bytes`. */
const LARGEST_BATCH_BYTES = 1_048_588
const [address = ''] = testBrokers().split(',')
const SLOW = { timeoutMs: 30_000 }
const TEST_TIMEOUT_MS = 60_000

const config = loadConsumerConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })
const ending: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** A consumer that is stopped when the test ends. */
function start(options: Omit<TestConsumerOptions, 'config' | 'log'>) {
  const started = startTestConsumer({ config, log, ...options })
  ending.push(() => started.pipeline.stop())
  return started
}

/** Partitions that are not read yet, with the reason if there is one. */
const restoring = (pipeline: Pipeline): string[] =>
  pipeline
    .partitions()
    .flatMap(({ name, state }) =>
      state.kind === 'restoring' ? [state.fault === undefined ? name : `${name} (${state.fault})`] : [],
    )

async function createTopics(tenant: string, stream = 'events'): Promise<string> {
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  await admin.ensureGroups([streamTopics(tenant, stream)], { partitions: PARTITIONS, replication: 1 })
  await admin.close()
  return inputTopic(tenant, stream)
}

/** Writes events with a foreign client. Keys are the subjects. */
async function writeWithKcat(
  topic: string,
  events: { id: string; key?: string; value: string; type?: string }[],
): Promise<void> {
  for (const { type, lines } of byType(events)) {
    for (const { id, key, value } of lines) {
      const child = Bun.spawn(
        [
          'kcat',
          '-P',
          '-b',
          testBrokers(),
          '-t',
          topic,
          ...(key === undefined ? ['-p', '0'] : ['-k', key]),
          '-X',
          'partitioner=murmur2_random',
          '-H',
          'ce_specversion=1.0',
          '-H',
          `ce_id=${id}`,
          '-H',
          'ce_source=/kcat',
          '-H',
          `ce_type=${type}`,
          '-H',
          'content-type=application/json',
        ],
        { stdin: new Blob([value]), stderr: 'pipe' },
      )
      expect(await child.exited, await child.stderr.text()).toBe(0)
    }
  }
}

const byType = <E extends { type?: string }>(events: E[]) =>
  [...Map.groupBy(events, (one) => one.type ?? 'plain')].map(([type, lines]) => ({ type, lines }))

/** All committed records of a topic. */
async function readAll(topic: string): Promise<IncomingRecord[]> {
  const reader = createRangeReader({ config, clientId: 'tests', log })
  const records: IncomingRecord[] = []
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
  await readRecords(reader, partitions, (record) => records.push(record))
  await reader.close()
  return records
}

const idsIn = async (topic: string): Promise<string[]> =>
  (await readAll(topic)).map((record) => headerText(record.headers, 'ce_id') ?? '')

const events = (from: number, count: number, keys = 5) =>
  Array.from({ length: count }, (_, index) => ({
    id: String(from + index),
    key: `k${(from + index) % keys}`,
    value: JSON.stringify({ n: from + index }),
  }))

test(
  'events that kcat writes come out processed, and Kafka’s console consumer reads them',
  async () => {
    const tenant = uniqueName('kcat')
    const topic = await createTopics(tenant)
    const { pipeline } = start({ tenant })
    await writeWithKcat(topic, events(0, 6))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 6, SLOW)
    const read = await runKafkaTool(testBrokers(), 'console-consumer', [
      '--topic',
      siblingTopic(topic, 'processed'),
      '--from-beginning',
      '--max-messages',
      '6',
      '--timeout-ms',
      '15000',
      '--isolation-level',
      'read_committed',
      '--formatter-property',
      'print.key=true',
      '--formatter-property',
      'print.headers=true',
    ])
    for (const { id, key, value } of events(0, 6)) {
      expect(read).toContain(`${key}\t${value}`)
      expect(read).toContain(`ce_id:${id}`)
    }
    expect(read).toContain('kt-context:{"tenant":')
    expect(pipeline.levels().heldBytes).toBe(0)
  },
  TEST_TIMEOUT_MS,
)

test(
  'the same events written again, and again after a restart, take effect once',
  async () => {
    const tenant = uniqueName('twice')
    const topic = await createTopics(tenant)
    const first = start({ tenant })
    await writeWithKcat(topic, [...events(0, 3), ...events(0, 3)])
    await until(
      async () => (await first.metrics.outcomes.get()).values.reduce((sum, one) => sum + one.value, 0) === 6,
      SLOW,
    )
    await first.pipeline.stop()
    const second = start({ tenant, group: first.groupId })
    await writeWithKcat(topic, [...events(0, 3), ...events(3, 1)])
    await until(
      async () => (await second.metrics.outcomes.get()).values.reduce((sum, one) => sum + one.value, 0) === 4,
      SLOW,
    )
    expect((await idsIn(siblingTopic(topic, 'processed'))).toSorted()).toEqual(['0', '1', '2', '3'])
  },
  TEST_TIMEOUT_MS,
)

test(
  'a second member takes over partitions and gives them back: nothing lost, nothing twice, keys in order',
  async () => {
    const tenant = uniqueName('rebalance')
    const topic = await createTopics(tenant)
    const first = start({ tenant })
    await writeWithKcat(topic, events(0, 10))
    await until(() => first.pipeline.partitions().length === PARTITIONS, SLOW)
    const second = start({ tenant, group: first.groupId })
    await writeWithKcat(topic, events(10, 10))
    await until(() => second.pipeline.partitions().length > 0 && restoring(second.pipeline).length === 0, SLOW)
    expect(first.pipeline.partitions().length + second.pipeline.partitions().length).toBe(PARTITIONS)
    await writeWithKcat(topic, events(20, 10))
    await second.pipeline.stop()
    await until(() => first.pipeline.partitions().length === PARTITIONS, SLOW)
    await writeWithKcat(topic, events(30, 5))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length >= 35, SLOW)
    const records = await readAll(siblingTopic(topic, 'processed'))
    expect(records).toHaveLength(35)
    for (const [, ofKey] of Map.groupBy(records, (record) => record.key?.toString())) {
      const numbers = ofKey.map((record) => Number(headerText(record.headers, 'ce_id')))
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    }
  },
  TEST_TIMEOUT_MS,
)

test(
  'a new stream is picked up by its name, and topics beside it that come late are waited for',
  async () => {
    const tenant = uniqueName('late')
    const { pipeline } = start({ tenant })
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    ending.push(() => admin.close())
    const [topic = '', ...beside] = streamTopics(tenant, 'late')
    await admin.ensureGroups([[topic]], { partitions: PARTITIONS, replication: 1 })
    await until(() => restoring(pipeline).length === PARTITIONS, SLOW)
    await admin.ensureGroups([beside], { partitions: PARTITIONS, replication: 1 })
    await writeWithKcat(topic, events(0, 2))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 2, SLOW)
  },
  TEST_TIMEOUT_MS,
)

test(
  'an event that fails for a while waits in .retry, holds back its own key only, and is done by the next owner after a restart',
  async () => {
    const tenant = uniqueName('retry')
    const topic = await createTopics(tenant)
    const failing = (fails: () => boolean) =>
      defineHandler({
        type: 'fails',
        version: '1',
        schema: Type.Unknown(),
        handle: async (_, { attempt }) => {
          if (!fails()) return { data: { done: true } }
          // Attempts from .retry do not end before the restart, however long that takes.
          if (attempt > 2) await new Promise(() => undefined)
          throw new Error('not yet')
        },
      })
    const first = start({ tenant, handlers: [failing(() => true)] })
    await writeWithKcat(topic, [{ id: 'a1', key: 'a', value: '{}', type: 'fails' }])
    await writeWithKcat(topic, [
      { id: 'a2', key: 'a', value: '{}' },
      { id: 'b1', key: 'b', value: '{}' },
    ])
    await until(async () => (await idsIn(siblingTopic(topic, 'retry'))).length === 2, SLOW)
    await first.pipeline.stop()
    start({ tenant, group: first.groupId, handlers: [failing(() => false)] })
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 3, SLOW)
    const ofKeyA = (await readAll(siblingTopic(topic, 'processed'))).filter((record) => record.key?.toString() === 'a')
    expect(ofKeyA.map((record) => headerText(record.headers, 'ce_id'))).toEqual(['a1', 'a2'])
    expect(await idsIn(siblingTopic(topic, 'dlq'))).toEqual([])
  },
  TEST_TIMEOUT_MS,
)

test.each([
  ['pass', 'processed'],
  ['dead-letter', 'dlq'],
  ['hold', 'retry'],
] as const)(
  'with UNHANDLED=%s an event without a handler goes to .%s; one that is held is processed by the next owner that has a handler',
  async (UNHANDLED, role) => {
    const tenant = uniqueName('unhandled')
    const topic = await createTopics(tenant)
    const handler = (type: string) =>
      defineHandler({ type, version: '1', schema: Type.Unknown(), handle: () => ({ data: 'handled' }) })
    const first = start({ tenant, handlers: [handler('known')], changed: { UNHANDLED } })
    await writeWithKcat(topic, [{ id: 'new', key: 'a', value: '{}', type: 'new' }])
    await writeWithKcat(topic, [{ id: 'known', key: 'b', value: '{}', type: 'known' }])
    const idsOf = (of: TopicRole) => idsIn(siblingTopic(topic, of))
    await until(async () => (await idsOf(role)).includes('new') && (await idsOf('processed')).includes('known'), SLOW)
    await first.pipeline.stop()
    start({ tenant, group: first.groupId, handlers: [handler('known'), handler('new')], changed: { UNHANDLED } })
    await writeWithKcat(topic, [{ id: 'last', key: 'a', value: '{}', type: 'known' }])
    await until(async () => (await idsOf('processed')).includes('last'), SLOW)
    const results = (await readAll(siblingTopic(topic, 'processed'))).map(({ headers, value }) => [
      headerText(headers, 'ce_id'),
      String(value),
    ])
    expect(results.filter(([id]) => id === 'new')).toEqual(
      UNHANDLED === 'dead-letter' ? [] : [['new', UNHANDLED === 'pass' ? '{}' : '"handled"']],
    )
    expect(await idsOf('dlq')).toEqual(UNHANDLED === 'dead-letter' ? ['new'] : [])
  },
  TEST_TIMEOUT_MS,
)

test(
  'a result that the broker refuses for its size makes its event a dead letter, and the partition moves on',
  async () => {
    const tenant = uniqueName('large')
    const topic = await createTopics(tenant)
    start({
      tenant,
      handlers: [
        defineHandler({
          type: 'grows',
          version: '1',
          schema: Type.Unknown(),
          handle: () => ({ data: crypto.getRandomValues(Buffer.alloc(2_000_000)).toString('base64') }),
        }),
      ],
    })
    await writeWithKcat(topic, [{ id: 'big', key: 'a', value: '{}', type: 'grows' }])
    await writeWithKcat(topic, [{ id: 'next', key: 'a', value: '{}' }])
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).includes('next'), SLOW)
    const [dead] = await readAll(siblingTopic(topic, 'dlq'))
    expect(headerText(dead?.headers ?? NO_HEADERS, 'ce_id')).toBe('big')
    expect(headerText(dead?.headers ?? NO_HEADERS, 'kt-error')).toContain('result too large')
  },
  TEST_TIMEOUT_MS,
)

const eventHeaders = (id: string) => [
  { ce_specversion: '1.0' },
  { ce_id: id },
  { ce_source: '/s' },
  { ce_type: 'plain' },
]

interface Foreign {
  headers: Record<string, string | Buffer>[]
  value?: Buffer
}

/** Any records of another client on partition 0. */
async function writeForeign(topic: string, records: readonly Foreign[], settings: Settings = {}): Promise<void> {
  const client = new (native().Producer)({
    'metadata.broker.list': testBrokers(),
    'message.max.bytes': 1_000_000_000,
    ...settings,
  })
  await promised((done) => client.connect({ timeout: WIRE_TIMEOUT_MS }, (error) => done(error)))
  for (const { headers, value = null } of records) client.produce(topic, 0, value, 'key', null, undefined, headers)
  await promised((done) => client.flush(WIRE_TIMEOUT_MS, (error) => done(error)))
  await promised((done) => client.disconnect(0, (error) => done(error)))
}

test(
  'records of another client that are full of headers are dead letters, and their partition moves on',
  async () => {
    const tenant = uniqueName('headers')
    const topic = await createTopics(tenant)
    const { pipeline } = start({ tenant })
    const event = eventHeaders('full')
    const full = { 'content-type': crypto.getRandomValues(Buffer.alloc(LARGEST_BATCH_BYTES - 200)) }
    // As many as the client reads; together with ours they are more than it writes.
    const many = Array.from({ length: 100_000 }, () => ({ x: '' }))
    await writeForeign(topic, [{ headers: [...event, full] }, { headers: many }, { headers: eventHeaders('next') }])
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).includes('next'), SLOW)
    const dead = await readAll(siblingTopic(topic, 'dlq'))
    expect(dead.map(({ headers }) => headerText(headers, 'kt-origin'))).toEqual([`${topic}/0/0`, `${topic}/0/1`])
    for (const { headers, key } of dead) expect([headers.names.length < 10, key]).toEqual([true, null])
    expect(pipeline.levels()).toMatchObject({ open: 0, decided: 0, heldBytes: 0 })
  },
  TEST_TIMEOUT_MS,
)

// Where CI is set, it runs and fails.
test.skipIf(!describeAddon().codecs.includes('zstd') && !process.env.CI)(
  'a record of which zstd makes little is read, and what is behind it',
  async () => {
    const tenant = uniqueName('zstd')
    const topic = await createTopics(tenant)
    start({ tenant })
    const records = [
      { headers: eventHeaders('large'), value: Buffer.alloc(110_000_000) },
      { headers: eventHeaders('next'), value: Buffer.from('{}') },
    ]
    await writeForeign(topic, records, { 'compression.codec': 'zstd' })
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).includes('next'), SLOW)
    expect(await idsIn(siblingTopic(topic, 'processed'))).toEqual(['large', 'next'])
  },
  TEST_TIMEOUT_MS,
)

test(
  'two processes with one INSTANCE_ID: the later one fences the earlier, which says so and commits nothing more',
  async () => {
    const tenant = uniqueName('fence')
    const topic = await createTopics(tenant)
    const instance = uniqueName('same')
    const first = start({ tenant, instance })
    await writeWithKcat(topic, events(0, 1))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 1, SLOW)
    const second = start({ tenant, instance, group: first.groupId })
    await until(() => second.pipeline.partitions().length > 0, SLOW)
    await writeWithKcat(topic, events(1, 12))
    expect(await first.ended).toBeString()
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 13, SLOW)
    expect(new Set(await idsIn(siblingTopic(topic, 'processed'))).size).toBe(13)
  },
  TEST_TIMEOUT_MS,
)

test(
  'says which transaction holds a partition back, reads the others meanwhile, and that one once it has ended',
  async () => {
    const tenant = uniqueName('tenant')
    const topic = await createTopics(tenant)
    const held = await openTransaction(testBrokers(), siblingTopic(topic, 'processed'), 1)
    const written = events(1, 30)
    await writeWithKcat(topic, written)
    const { pipeline } = start({ tenant })
    const reason = `${topic}/1 (a transaction that has not ended holds back ${topic}.processed/1 from offset 0 on)`
    await until(() => restoring(pipeline)[0] === reason, SLOW)
    expect(pipeline.partitions()).toHaveLength(PARTITIONS)
    expect(restoring(pipeline)).toEqual([reason])
    await until(
      () => pipeline.progress().some((one) => one.topic === topic && one.next > 0 && one.uncommitted === 0),
      SLOW,
    )
    await held.abort()
    await until(() => restoring(pipeline).length === 0, SLOW)
    const ids = written.map(({ id }) => id)
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length >= ids.length, SLOW)
    expect((await idsIn(siblingTopic(topic, 'processed'))).sort()).toEqual(ids.sort())
  },
  TEST_TIMEOUT_MS,
)

test(
  'lag is records: there from the assignment on, counts what waits, and is nothing again behind the last transaction',
  async () => {
    const tenant = uniqueName('lag')
    const topic = await createTopics(tenant)
    const seen = Promise.withResolvers<void>()
    const handler = defineHandler({
      type: 'fails',
      version: '1',
      schema: Type.Unknown(),
      // The first attempt from .retry waits until the lag of that topic was measured.
      handle: async (_, { attempt }) => {
        if (attempt > 2) await seen.promise
        throw new Error('never')
      },
    })
    const { pipeline, metrics, positions } = start({
      tenant,
      handlers: [handler],
      changed: { HANDLER_TIMEOUT_MS: 30_000 },
    })
    ending.push(async () => seen.resolve())
    const reader = createRangeReader({ config, clientId: 'tests', log })
    ending.push(() => reader.close())
    const lagMeter = new LagMeter(metrics, Date.now)
    const lagOf = async (name: string): Promise<number | undefined> => {
      await lagMeter.measure(pipeline, reader, positions())
      const { values } = await metrics.lagRecords.get()
      const own = values.filter(({ labels }) => labels.topic === name)
      return own.length === PARTITIONS ? own.reduce((sum, { value }) => sum + value, 0) : undefined
    }
    const retry = siblingTopic(topic, 'retry')
    await until(async () => (await lagOf(topic)) === 0 && (await lagOf(retry)) === 0, SLOW)
    await writeWithKcat(topic, [{ id: '1', key: 'a', value: '{}', type: 'fails' }])
    await until(async () => (await lagOf(retry)) === 1, SLOW)
    seen.resolve()
    await until(async () => (await idsIn(siblingTopic(topic, 'dlq'))).length === 1, SLOW)
    await until(async () => (await lagOf(topic)) === 0 && (await lagOf(retry)) === 0, SLOW)
  },
  TEST_TIMEOUT_MS,
)

test(
  'the age of what is not fetched is that of its oldest record, as the log has it',
  async () => {
    const topic = await createTopics(uniqueName('unread'))
    await writeWithKcat(topic, events(0, 20))
    const reader = createRangeReader({ config, clientId: 'tests', log })
    ending.push(() => reader.close())
    const metrics = createMetrics()
    // As if the records had been written an hour ago.
    let aheadMs = 3_600_000
    const lagMeter = new LagMeter(metrics, () => Date.now() + aheadMs)
    const unread = { topic, next: 0, uncommitted: 0, oldestMs: undefined }
    const progress = Array.from({ length: PARTITIONS }, (_, partition) => ({ ...unread, partition }))
    const pipeline = { progress: () => progress, has: () => true, endedBefore: () => undefined }
    const ages = async () => {
      await lagMeter.measure(pipeline, reader, [])
      return (await metrics.lagSeconds.get()).values.map(({ value }) => value)
    }
    expect(Math.max(...(await ages()))).toBe(0)
    aheadMs += 10_000
    await until(async () => Math.max(...(await ages())) > 3_600, SLOW)
    for (const [partition, age] of (await ages()).entries()) {
      const [oldest] = (await readAll(topic)).filter((record) => record.partition === partition)
      expect(age > 3_600).toBe(oldest !== undefined)
    }
  },
  TEST_TIMEOUT_MS,
)

/** Limits the size of a topic's records. */
const limitSize = (topic: string, bytes: string | undefined) =>
  alterTopic(address, WIRE_TIMEOUT_MS, topic, 'max.message.bytes', bytes)

test(
  'a stream whose outcomes cannot be written is paused with its reason, the others go on, and it resumes by itself',
  async () => {
    const tenant = uniqueName('apart')
    const good = await createTopics(tenant, 'good')
    const bad = await createTopics(tenant, 'bad')
    for (const role of ['processed', 'dlq'] as const) await limitSize(siblingTopic(bad, role), '300')
    // A broker applies such settings in order, with a delay: once it refuses a record that is too large for this topic, the others are applied, too.
    const last = await createTopics(tenant, 'last')
    await limitSize(siblingTopic(last, 'dlq'), '300')
    const large = [{ id: 'large', key: 'key-1', value: JSON.stringify({ text: 'x'.repeat(300) }) }]
    await until(
      () =>
        writeWithKcat(siblingTopic(last, 'dlq'), large).then(
          () => false,
          () => true,
        ),
      SLOW,
    )
    const { pipeline, metrics } = start({ tenant })
    const begunMs = performance.now()
    await writeWithKcat(bad, events(0, 4))
    const reasons = new Set<string>()
    const paused = () =>
      pipeline.partitions().filter(({ name, state }) => {
        if (!name.startsWith(`${bad}/`) || state.kind !== 'paused') return false
        reasons.add(state.reason)
        return true
      })
    await until(() => paused().length > 0, SLOW)
    expect(paused()[0]?.state).toMatchObject({ cause: 'unwritable' })
    expect([...reasons].join()).toContain('too large')
    await writeWithKcat(good, events(0, 4))
    await until(async () => (await idsIn(siblingTopic(good, 'processed'))).length === 4, SLOW)
    const aborted = async () =>
      (await metrics.transactions.get()).values.find((one) => one.labels.result === 'aborted')?.value ?? 0
    // With pauses of a second and longer, each partition tries a few sizes; without, it would try a hundred times a second.
    expect(await aborted()).toBeLessThan(30 + (10 * (performance.now() - begunMs)) / 1_000)
    for (const role of ['processed', 'dlq'] as const) await limitSize(siblingTopic(bad, role), undefined)
    // A partition is resumed by its first commit, which does not have all of its outcomes.
    await until(async () => paused().length === 0 && (await idsIn(siblingTopic(bad, 'processed'))).length === 4, SLOW)
    await until(() => pipeline.levels().decided === 0, SLOW)
    // A refused outcome leaves nothing behind that is refused again.
    expect([...reasons].filter((reason) => !reason.includes('too large'))).toEqual([])
    expect(await idsIn(siblingTopic(bad, 'dlq'))).toEqual([])
    expect(pipeline.levels()).toMatchObject({ open: 0, decided: 0, heldBytes: 0 })
  },
  TEST_TIMEOUT_MS,
)

test(
  'an outcome without a key for a topic that is compacted: its partition says what to do, and goes on when that is done',
  async () => {
    const tenant = uniqueName('compacted')
    const topic = await createTopics(tenant)
    const { pipeline } = start({ tenant })
    const clean = (policy: string) =>
      alterTopic(address, WIRE_TIMEOUT_MS, siblingTopic(topic, 'processed'), 'cleanup.policy', policy)
    await clean('compact')
    const isPaused = () => pipeline.partitions().some(({ state }) => state.kind === 'paused')
    let written = 0
    // A broker applies the setting with a delay.
    await until(async () => {
      if (!isPaused()) await writeWithKcat(topic, [{ id: `keyless-${written++}`, value: '{}' }])
      return isPaused()
    }, SLOW)
    const [reason] = pipeline.partitions().flatMap(({ state }) => (state.kind === 'paused' ? [state.reason] : []))
    expect(reason).toContain('set it to delete')
    await clean('delete')
    await until(async () => !isPaused() && (await idsIn(siblingTopic(topic, 'processed'))).length === written, SLOW)
    expect(await idsIn(siblingTopic(topic, 'dlq'))).toEqual([])
  },
  TEST_TIMEOUT_MS,
)

test(
  'a group with another name gives no event a second outcome, whatever the size of its window',
  async () => {
    const tenant = uniqueName('renamed')
    const topic = await createTopics(tenant)
    const first = start({ tenant })
    await writeWithKcat(topic, events(0, 6))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 6, SLOW)
    await first.pipeline.stop()
    const second = start({ tenant })
    expect(second.groupId).not.toBe(first.groupId)
    await writeWithKcat(topic, events(6, 2))
    await until(async () => new Set(await idsIn(siblingTopic(topic, 'processed'))).size === 8, SLOW)
    await until(() => second.pipeline.levels().decided === 0 && second.pipeline.levels().open === 0, SLOW)
    expect((await idsIn(siblingTopic(topic, 'processed'))).toSorted()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
  },
  TEST_TIMEOUT_MS,
)

test(
  'records that were deleted before they were read are counted, and reading goes on behind them',
  async () => {
    const tenant = uniqueName('deleted')
    const topic = await createTopics(tenant)
    const first = start({ tenant })
    await writeWithKcat(topic, events(0, 3, 1))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 3, SLOW)
    await first.pipeline.stop()
    await writeWithKcat(topic, events(3, 3, 1))
    const [{ partition = 0 } = {}] = await readAll(topic)
    await deleteRecords(address, WIRE_TIMEOUT_MS, topic, partition, 5)
    const second = start({ tenant, group: first.groupId })
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 4, SLOW)
    expect((await idsIn(siblingTopic(topic, 'processed'))).toSorted()).toEqual(['0', '1', '2', '5'])
    expect((await second.metrics.skipped.get()).values[0]?.value).toBe(2)
  },
  TEST_TIMEOUT_MS,
)

test(
  'events that are sent while their stream is paused are processed once it is resumed, by whoever has them then: once, and in order',
  async () => {
    const tenant = uniqueName('paused')
    const topic = await createTopics(tenant)
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    await admin.ensureGroups([[CONTROL_TOPIC]], { partitions: 1, replication: 1 })
    await admin.close()
    await alterTopic(address, WIRE_TIMEOUT_MS, CONTROL_TOPIC, 'cleanup.policy', 'compact')
    const control = (state: StreamControl['state']) =>
      writeRecord(testBrokers(), CONTROL_TOPIC, 0, {
        key: controlKey(tenant, 'events'),
        value: Buffer.from(JSON.stringify({ state, by: 'a test', atMs: Date.now(), reason: 'to see' })),
        headers: [],
      })
    const isPaused = ({ pipeline }: ReturnType<typeof start>) =>
      pipeline.partitions().length > 0 && pipeline.partitions().every((one) => one.isPausedByOperator)
    const first = start({ tenant })
    await writeWithKcat(topic, events(0, 10))
    await until(async () => (await idsIn(siblingTopic(topic, 'processed'))).length === 10, SLOW)
    await control('paused')
    await until(() => isPaused(first), SLOW)
    await writeWithKcat(topic, events(10, 10))
    // It is assigned partitions of a stream that is paused already, and restores them.
    const second = start({ tenant, group: first.groupId })
    await until(() => isPaused(second) && restoring(second.pipeline).length === 0, SLOW)
    await writeWithKcat(topic, events(20, 5))
    const waiting = async () => (await readAll(topic)).length - (await readAll(siblingTopic(topic, 'processed'))).length
    expect(await waiting()).toBe(15)
    expect(first.pipeline.levels().open + second.pipeline.levels().open).toBe(0)
    await control('running')
    await until(async () => (await waiting()) === 0, SLOW)
    const records = await readAll(siblingTopic(topic, 'processed'))
    expect(records).toHaveLength(25)
    expect(new Set(records.map((record) => headerText(record.headers, 'ce_id'))).size).toBe(25)
    for (const [, ofKey] of Map.groupBy(records, (record) => record.key?.toString())) {
      const numbers = ofKey.map((record) => Number(headerText(record.headers, 'ce_id')))
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b))
    }
  },
  TEST_TIMEOUT_MS,
)
