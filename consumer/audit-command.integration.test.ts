import { afterAll, expect, test } from 'bun:test'
import { Type } from '@sinclair/typebox'
import pino from 'pino'
import { commitOffsets, findCoordinator } from '../shared/dev/brokers/wire-admin.ts'
import { GENERATION, headersOf, headerText, NO_HEADERS, withHeaders } from '../shared/events/headers.ts'
import type { IncomingRecord, OutgoingRecord } from '../shared/events/record.ts'
import { inputTopic, siblingTopic, streamTopics } from '../shared/events/topics.ts'
import { createTopicAdmin } from '../shared/kafka/admin.ts'
import { native, promised } from '../shared/kafka/client.ts'
import { createRangeReader, readAll } from '../shared/kafka/range-reader.ts'
import { ProduceError } from '../shared/kafka/types.ts'
import { testBrokers, uniqueName } from '../shared/testing/brokers.ts'
import { openTransaction } from '../shared/testing/open-transaction.ts'
import { startTestProducer } from '../shared/testing/record-producer.ts'
import { until } from '../shared/testing/until.ts'
import { loadConsumerConfig } from './config.ts'
import { defineHandler, TerminalError } from './handlers/handler.ts'
import { startTestConsumer } from './testing/consumer.ts'

const PARTITIONS = 2
const STREAM = 'events'
const WIRE_TIMEOUT_MS = 10_000
const SLOW = { timeoutMs: 30_000 }
const TEST_TIMEOUT_MS = 90_000
const [address = ''] = testBrokers().split(',')

const config = loadConsumerConfig({ KAFKA_BROKERS: testBrokers() })
const log = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' })
const ending: (() => Promise<void>)[] = []

afterAll(async () => {
  for (const end of ending.splice(0).reverse()) await end()
})

/** Runs the command in a process. */
async function audit(
  args: readonly string[],
  group = 'none',
  brokers = testBrokers(),
): Promise<{ exitCode: number; output: string; errors: string }> {
  const child = Bun.spawn([process.execPath, 'consumer/audit-command.ts', ...args], {
    env: { ...process.env, NODE_ENV: 'production', KAFKA_BROKERS: brokers, GROUP_ID: group },
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()])
  return { exitCode: await child.exited, output, errors }
}

interface Report {
  total: Record<string, number>
  events: {
    verdict: string
    topic: string
    partition: number
    offset: number
    id?: string
    source?: string
    generation: number
  }[]
}

async function report(tenant: string, group: string, ...more: string[]): Promise<Report & { exitCode: number }> {
  const { exitCode, output, errors } = await audit([STREAM, '--tenant', tenant, '--json', ...more], group)
  if (output === '') throw new Error(errors)
  return { ...(JSON.parse(output) as Report), exitCode }
}

/** A stream of its own, a consumer for it, and a plain Kafka client. */
async function stream(prefix: string) {
  const tenant = uniqueName(prefix)
  const topic = inputTopic(tenant, STREAM)
  const admin = createTopicAdmin({ config, clientId: 'tests', log })
  await admin.ensureGroups([streamTopics(tenant, STREAM)], { partitions: PARTITIONS, replication: 1 })
  await admin.close()
  const producer = startTestProducer(config, streamTopics(tenant, STREAM), log)
  ending.push(() => producer.close(1_000))
  const reader = createRangeReader({ config, clientId: 'tests', log })
  ending.push(() => reader.close())
  await until(() => producer.connection().state === 'connected', SLOW)
  return {
    tenant,
    topic,
    async write(...records: OutgoingRecord[]): Promise<void> {
      await until(() => producer.partitionCount(records[0]?.topic ?? topic) !== undefined, SLOW)
      for (const result of await producer.produce(records)) if (result instanceof ProduceError) throw result
    },
    async read(role?: 'processed' | 'dlq' | 'retry'): Promise<IncomingRecord[]> {
      const records: IncomingRecord[] = []
      const name = role === undefined ? topic : siblingTopic(topic, role)
      const all = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic: name, partition }))
      await readAll(reader, all, (record) => records.push(record))
      return records
    },
    /** As any client can that is not a member of the group. A broker's first group has a coordinator once the offsets topic exists. */
    async commitEnds(group: string): Promise<void> {
      const ends = await reader.ends(Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition })))
      const offsets = new Map(ends.map(({ end }, at) => [at, end]))
      await until(async () => {
        try {
          await findCoordinator(address, WIRE_TIMEOUT_MS, 'group', group)
          await commitOffsets(address, WIRE_TIMEOUT_MS, group, topic, offsets)
          return true
        } catch {
          return false
        }
      }, SLOW)
    },
    event: (id: string, type = 'plain'): OutgoingRecord => ({
      topic,
      partition: Number(id.replace(/\D/g, '')) % PARTITIONS,
      key: id,
      value: Buffer.from('{}'),
      headers: headersOf({ ce_specversion: '1.0', ce_id: id, ce_source: '/tests', ce_type: type }),
    }),
  }
}

test.concurrent(
  'an offset that was committed without outcomes: audit names the events, the next start repairs them, and audit finds nothing more',
  async () => {
    const { tenant, topic, write, read, event, commitEnds } = await stream('falsified')
    const first = startTestConsumer({ config, log, tenant })
    await write(...['0', '1', '2', '3'].map((id) => event(id)))
    await until(async () => (await read('processed')).length === 4, SLOW)
    await first.pipeline.stop()
    expect(await report(tenant, first.groupId)).toMatchObject({ exitCode: 0, total: { processed: 4, acknowledged: 4 } })

    const redriven = { ...event('0'), headers: withHeaders(event('0').headers, { [GENERATION]: '1' }) }
    await write(...['4', '5', '6', '4', '1'].map((id) => event(id)), redriven)
    expect(await report(tenant, first.groupId)).toMatchObject({ exitCode: 0, total: { processed: 4, pending: 4 } })
    await commitEnds(first.groupId)
    const found = await report(tenant, first.groupId)
    expect(found).toMatchObject({
      exitCode: 1,
      total: { acknowledged: 8, processed: 4, missing: 4, pending: 0, doubled: 0 },
    })
    expect(found.events).toEqual([
      { verdict: 'missing', topic, partition: 0, offset: 2, source: '/tests', id: '4', generation: 0 },
      { verdict: 'missing', topic, partition: 0, offset: 3, source: '/tests', id: '6', generation: 0 },
      { verdict: 'missing', topic, partition: 0, offset: 5, source: '/tests', id: '0', generation: 1 },
      { verdict: 'missing', topic, partition: 1, offset: 2, source: '/tests', id: '5', generation: 0 },
    ])
    const { exitCode, output } = await audit([STREAM, '--tenant', tenant], first.groupId)
    expect(exitCode).toBe(1)
    expect(output).toContain(`missing  ${topic}/0/2  id 4, source /tests\n`)
    expect(output).toContain(`missing  ${topic}/0/5  id 0, source /tests, generation 1\n`)
    // A range without them does not report them.
    expect(await report(tenant, first.groupId, '--to', '2')).toMatchObject({
      exitCode: 0,
      total: { acknowledged: 4, missing: 0 },
    })
    expect(await report(tenant, first.groupId, '--from', '2', '--to', '3')).toMatchObject({
      exitCode: 1,
      total: { acknowledged: 2, missing: 2 },
    })

    const second = startTestConsumer({ config, log, tenant, group: first.groupId })
    await until(async () => (await read('processed')).length === 8, SLOW)
    await until(() => second.pipeline.levels().decided === 0, SLOW)
    await second.pipeline.stop()
    expect((await second.metrics.repaired.get()).values[0]?.value).toBe(4)
    expect(await report(tenant, first.groupId)).toMatchObject({
      exitCode: 0,
      events: [],
      total: { acknowledged: 8, processed: 8, missing: 0, doubled: 0 },
    })
  },
  TEST_TIMEOUT_MS,
)

test.concurrent(
  'a second outcome, written by hand, is named',
  async () => {
    const { tenant, topic, write, read, event } = await stream('doubled')
    const { pipeline, groupId } = startTestConsumer({ config, log, tenant })
    ending.push(() => pipeline.stop())
    await write(event('0'), event('1'))
    await until(async () => (await read('processed')).length === 2, SLOW)
    await write({ ...event('1'), topic: siblingTopic(topic, 'dlq') })
    const found = await report(tenant, groupId)
    expect(found).toMatchObject({ exitCode: 1, total: { acknowledged: 2, processed: 1, dead: 0, doubled: 1 } })
    expect(found.events).toMatchObject([{ verdict: 'doubled', partition: 1, offset: 0, id: '1' }])
  },
  TEST_TIMEOUT_MS,
)

test.concurrent(
  'beside a running consumer, whatever is in the stream is counted as what it is',
  async () => {
    const { tenant, topic, write, read, event } = await stream('mixed')
    const handler = (type: string, fail: () => never) =>
      defineHandler({ type, version: '1', schema: Type.Unknown(), handle: fail })
    const { pipeline, groupId, metrics } = startTestConsumer({
      config,
      log,
      tenant,
      changed: { RETRY_FIRST_MS: 600_000, RETRY_MAX_MS: 600_000 },
      handlers: [
        handler('hopeless', () => {
          throw new TerminalError('never')
        }),
        handler('later', () => {
          throw new Error('not yet')
        }),
        defineHandler({ type: 'odd', version: '1', schema: Type.Unknown(), handle: () => ({ type: '', data: 1 }) }),
      ],
    })
    ending.push(() => pipeline.stop())
    const structured = (id: string, type: string): OutgoingRecord => ({
      topic,
      partition: 0,
      key: null,
      value: Buffer.from(JSON.stringify({ specversion: '1.0', id, source: '/tests', type })),
      headers: headersOf({ 'content-type': 'application/cloudevents+json' }),
    })
    const nothing: OutgoingRecord = { topic, partition: 1, key: null, value: null, headers: NO_HEADERS }
    await write(
      ...['0', '1', '2', '3', '0'].map((id) => event(id)),
      event('10', 'hopeless'),
      event('11', 'odd'),
      event('12', 'later'),
      structured('s1', 'plain'),
      structured('s2', 'hopeless'),
      structured('s1', 'plain'),
      nothing,
      { ...nothing, value: Buffer.from('no event') },
    )
    await until(async () => (await read('dlq')).length === 5 && (await read('processed')).length === 5, SLOW)
    await until(async () => (await read('retry')).length === 1, SLOW)
    const handled = async () => (await metrics.outcomes.get()).values.reduce((sum, { value }) => sum + value, 0)
    await until(async () => (await handled()) === 13, SLOW)
    // Dead letters are sent again unchanged.
    const dead = await read('dlq')
    await write(...dead.map(({ key, value, headers, partition }) => ({ topic, partition, key, value, headers })))
    await until(async () => (await handled()) === 18, SLOW)
    expect(
      dead.map(({ headers }) => headerText(headers, 'kt-origin')).every((origin) => origin !== undefined),
    ).toBeTrue()
    expect(await report(tenant, groupId)).toMatchObject({
      exitCode: 0,
      events: [],
      total: {
        // A record that is not an event has no id.
        acknowledged: 13,
        processed: 5,
        dead: 7,
        waiting: 1,
        pending: 0,
        missing: 0,
        doubled: 0,
        unknown: 0,
      },
    })
    // While many events are being processed, none counts as missing.
    let written = 100
    const writing = new AbortController()
    const busy = (async () => {
      while (!writing.signal.aborted) {
        await write(...Array.from({ length: 50 }, () => event(String(written++))))
        await Bun.sleep(5)
      }
    })()
    for (let times = 0; times < 4; times++) {
      const found = await report(tenant, groupId)
      expect(found).toMatchObject({ exitCode: 0, total: { missing: 0, doubled: 0, unknown: 0 } })
    }
    writing.abort()
    await busy
    await until(async () => (await handled()) === 18 + written - 100, SLOW)
    expect(await report(tenant, groupId)).toMatchObject({
      exitCode: 0,
      total: { acknowledged: 13 + written - 100, processed: 5 + written - 100, dead: 7, waiting: 1 },
    })
  },
  TEST_TIMEOUT_MS,
)

test.concurrent(
  'what a transaction holds back is not called missing, and is told',
  async () => {
    const { tenant, topic, write, event, commitEnds } = await stream('held')
    await write(event('0'), event('1'))
    await commitEnds('group-of-nobody')
    const held = await openTransaction(testBrokers(), siblingTopic(topic, 'processed'), 1)
    const heldInput = await openTransaction(testBrokers(), topic, 0)
    const { exitCode, output } = await audit([STREAM, '--tenant', tenant, '--from', '2026-01-01'], 'group-of-nobody')
    await Promise.all([held.abort(), heldInput.abort()])
    expect(exitCode).toBe(1)
    expect(output).toContain(`missing  ${topic}/0/0  id 0`)
    expect(output).not.toContain(`${topic}/1/0`)
    expect(output).toContain(
      `a transaction that has not ended holds back ${siblingTopic(topic, 'processed')}/1 from offset 0 on`,
    )
    expect(output).toContain(`a transaction that has not ended holds back ${topic}/0 from offset 1 on`)
  },
  TEST_TIMEOUT_MS,
)

test.concurrent(
  'arguments that are wrong, a stream that is not there and brokers that do not answer are told with what to do',
  async () => {
    const { tenant } = await stream('arguments')
    const wrong = await audit([STREAM, '--from', 'yesterday'])
    expect(wrong).toMatchObject({ exitCode: 64, output: '' })
    expect(wrong.errors).toContain('--from yesterday: neither an offset nor a time')
    expect(await audit([STREAM, '--from', '10', '--to', '5'])).toMatchObject({ exitCode: 64, output: '' })
    const future = await audit([STREAM, '--tenant', tenant, '--from', '2999-01-01'])
    expect(future).toMatchObject({ exitCode: 64, output: '' })
    expect(future.errors).toContain('has no record between --from and --to')
    const absent = await audit(['orders', '--tenant', tenant])
    expect(absent.exitCode).toBe(64)
    expect(absent.errors).toContain(`there is no topic kt.${tenant}.orders`)
    expect(absent.errors).toContain(`streams of ${tenant}: ${STREAM}`)
    const partly = uniqueName('partly')
    const admin = createTopicAdmin({ config, clientId: 'tests', log })
    await admin.ensureGroups([[inputTopic(partly, STREAM)]], { partitions: 1, replication: 1 })
    await admin.close()
    const part = await audit([STREAM, '--tenant', partly])
    expect(part).toMatchObject({ exitCode: 69, output: '' })
    expect(part.errors).toContain(`there is no topic ${siblingTopic(inputTopic(partly, STREAM), 'processed')}`)
    const away = await audit([STREAM], 'none', '127.0.0.1:1')
    expect(away.exitCode).toBe(69)
    expect(away.errors).toMatch(/Kafka at 127\.0\.0\.1:1 has not answered within 15000 ms: .*refused/)
    expect(away.errors).toContain('cannot reach Kafka: ')
  },
  TEST_TIMEOUT_MS,
)

/** A transaction of another client without a membership: brokers accept that even while the group has members. */
async function commitFromOutside(groupId: string, topic: string, partition: number, offset: number): Promise<void> {
  const settings = { 'metadata.broker.list': testBrokers() }
  const consumer = new (native().KafkaConsumer)({ ...settings, 'group.id': groupId })
  const producer = new (native().Producer)({ ...settings, 'transactional.id': uniqueName('outside') })
  const connected = { timeout: WIRE_TIMEOUT_MS }
  await promised((done) => consumer.connect(connected, (error) => done(error)))
  await promised((done) => producer.connect(connected, (error) => done(error)))
  await promised((done) => producer.initTransactions(WIRE_TIMEOUT_MS, done))
  await promised((done) => producer.beginTransaction(done))
  await promised((done) =>
    producer.sendOffsetsToTransaction([{ topic, partition, offset }], consumer, WIRE_TIMEOUT_MS, done),
  )
  await promised((done) => producer.commitTransaction(WIRE_TIMEOUT_MS, done))
  await promised((done) => producer.disconnect(0, (error) => done(error)))
  await promised((done) => consumer.disconnect((error) => done(error)))
}

test.concurrent(
  'a running consumer finds in the background what somebody else commits for it and writes beside it, and repairs what is missing',
  async () => {
    const { tenant, topic, write, read, event } = await stream('background')
    let calls = 0
    const { pipeline, groupId, metrics } = startTestConsumer({
      config,
      log,
      tenant,
      auditPauseMs: 50,
      changed: { HANDLER_TIMEOUT_MS: TEST_TIMEOUT_MS },
      handlers: [
        defineHandler({
          type: 'hangs once',
          version: '1',
          schema: Type.Unknown(),
          handle: () => (++calls === 1 ? new Promise<never>(() => undefined) : { data: {} }),
        }),
      ],
    })
    ending.push(() => pipeline.stop())
    const counted = async (counter: { get(): Promise<{ values: { value: number }[] }> }): Promise<number> =>
      (await counter.get()).values.reduce((sum, { value }) => sum + value, 0)
    await write(...['0', '2', '4'].map((id) => event(id)), event('1', 'hangs once'))
    await until(async () => calls === 1 && (await read('processed')).length === 3, SLOW)
    await until(async () => (await counted(metrics.audited)) > 0, SLOW)
    expect([await counted(metrics.repaired), await counted(metrics.doubled)]).toEqual([0, 0])

    await commitFromOutside(groupId, topic, 1, 1)
    await until(async () => (await read('processed')).length === 4, SLOW)
    expect([calls, await counted(metrics.repaired)]).toEqual([2, 1])

    await write({ ...event('2'), topic: siblingTopic(topic, 'processed') })
    await until(async () => (await counted(metrics.doubled)) > 0, SLOW)
    const before = await counted(metrics.audited)
    await until(async () => (await counted(metrics.audited)) > before + 4, SLOW)
    expect([await counted(metrics.repaired), await counted(metrics.doubled)]).toEqual([1, 1])
    expect(await report(tenant, groupId)).toMatchObject({
      exitCode: 1,
      total: { processed: 3, missing: 0, doubled: 1 },
    })
  },
  TEST_TIMEOUT_MS,
)
