import { afterAll, beforeAll, expect, test } from 'bun:test'
import pino from 'pino'
import { Acts } from '../../consumer/console/acts.ts'
import { type ActRecord, encodeAct } from '../../consumer/console/acts-log.ts'
import { Readers } from '../../consumer/console/readers.ts'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { openTransactions, writeTransactionMarks } from '../../shared/dev/brokers/wire-transactions.ts'
import { NO_HEADERS, REDRIVEN_FROM, TRANSACTION } from '../../shared/events/headers.ts'
import { ACTS_SETTINGS, actsTopic, inputTopic, siblingTopic, streamTopics } from '../../shared/events/topics.ts'
import { createTopicAdmin } from '../../shared/kafka/admin.ts'
import { native, promised } from '../../shared/kafka/client.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import { createTransactor } from '../../shared/kafka/transactor.ts'
import { commonConfig } from '../../shared/testing/common-config.ts'
import { until } from '../../shared/testing/until.ts'
import { forgetOpenTransaction, restartCoordinator } from './transaction-state.ts'

/** Transactions of redrives that Apache Kafka has not ended everywhere when it comes back: docs/upstream/kafka-complete-without-marks.md. */

const TIMEOUT_MS = 15_000
const PARTITIONS = [0, 1]
const TIME = '2026-01-31T12:00:00.000Z'
const log = pino({ level: 'silent' })
let kafka: KafkaCluster

beforeAll(async () => {
  kafka = await startKafka()
}, 120_000)
afterAll(() => kafka.stop())

const act = (id: string): ActRecord => ({
  act: 'redrive',
  id,
  time: TIME,
  by: 'someone',
  letters: PARTITIONS.map((partition) => [partition, 0, 1]),
})

for (const end of ['commit', 'abort'] as const)
  test(`${end === 'commit' ? 'a' : 'an'} ${end} that is written for the acts and forgotten in the stream: the next act makes the stream as the acts say`, async () => {
    const brokers = kafka.bootstrapServers
    const config = commonConfig({ KAFKA_BROKERS: brokers })
    const stream = { tenant: `forgotten-${end}`, name: 'events', input: inputTopic(`forgotten-${end}`, 'events') }
    const acted = actsTopic(stream.input)
    const transactionalId = `console.${stream.tenant}`
    const ensure = async (topics: readonly string[], partitions: number, settings = {}) => {
      const admin = createTopicAdmin({ config, clientId: 'tests', log })
      const faults = await admin.ensureGroups([topics], { partitions, replication: 1, settings })
      await admin.close()
      expect(faults).toEqual([undefined])
    }
    await ensure(streamTopics(stream.tenant, stream.name), PARTITIONS.length)
    await ensure([acted], 1, ACTS_SETTINGS)

    // A client that has committed before, and dies after its redrives are stored.
    const client = new (native().Producer)({
      'metadata.broker.list': brokers,
      'transactional.id': transactionalId,
      'transaction.timeout.ms': 120_000,
    })
    await promised((done) => client.connect({ timeout: TIMEOUT_MS }, (error) => done(error)))
    await promised((done) => client.initTransactions(TIMEOUT_MS, done))
    const named = { [TRANSACTION]: `${transactionalId}:1-1` }
    const redrives = async () => {
      await promised((done) => client.beginTransaction(done))
      for (const partition of PARTITIONS) {
        const from = `${siblingTopic(stream.input, 'dlq')}/${partition}/0`
        client.produce(stream.input, partition, Buffer.from('{}'), null, null, undefined, [
          named,
          { [REDRIVEN_FROM]: from },
        ])
      }
    }
    await promised((done) => client.beginTransaction(done))
    client.produce(siblingTopic(stream.input, 'processed'), 0, Buffer.from('{}'))
    await promised((done) => client.commitTransaction(TIMEOUT_MS, done))
    await redrives()
    client.produce(acted, 0, encodeAct(act('first')), null, null, undefined, [named])
    await promised((done) => client.flush(TIMEOUT_MS, (error) => done(error)))
    const leader = kafka.address(await kafka.leaderOf(acted, 0))
    const [open] = await openTransactions(leader, TIMEOUT_MS, acted, [0])
    if (open === undefined) throw new Error('the transaction is not open')
    await writeTransactionMarks(leader, TIMEOUT_MS, open, end, acted, [0])
    expect(await forgetOpenTransaction(brokers, transactionalId, end)).toBe(true)
    await restartCoordinator(kafka, transactionalId)
    await promised((done) => client.disconnect(0, (error) => done(error)))
    const openNow = () => openTransactions(leader, TIMEOUT_MS, stream.input, PARTITIONS)
    await until(async () => (await openNow().catch(() => [])).length === PARTITIONS.length, { timeoutMs: 60_000 })

    const readers = new Readers(() => createRangeReader({ config, clientId: 'tests', log }), 2)
    const acts = new Acts({
      readers,
      openTransactor: (id) =>
        createTransactor({
          config,
          clientId: 'tests',
          transactionalId: id,
          transactionTimeoutMs: 10_000,
          log,
          onStatistics: () => undefined,
        }),
      transactionalId: () => transactionalId,
      ensureTopic: async () => undefined,
      log,
      signal: new AbortController().signal,
    })
    // It acts on one letter, if that is not done: its commit would make the other one's redrive visible, too.
    const [letter] = [{ partition: 0, offset: 0 }] as const
    await acts.of(stream).perform(async (state) => {
      const isDone = state.actOf(letter) !== undefined
      expect(isDone).toBe(end === 'commit')
      const record = { topic: stream.input, partition: 0, key: null, value: Buffer.from('{}'), headers: NO_HEADERS }
      return isDone
        ? { records: [], acts: [], result: undefined }
        : { records: [record], acts: [{ ...act('second'), letters: [[0, 0, 1]] }], result: undefined }
    })
    await acts.close()
    await until(async () => (await openNow()).length === 0, { timeoutMs: TIMEOUT_MS, what: 'nothing to be open' })
    const seen = PARTITIONS.map(() => 0)
    const places = PARTITIONS.map((partition) => ({ topic: stream.input, partition }))
    await readAll(readers.meta, places, ({ partition }) => {
      seen[partition] = (seen[partition] ?? 0) + 1
    })
    await readers.close()
    // Committed: each again, which is recognised. Aborted: what was redriven since, and nothing else.
    expect(seen).toEqual(end === 'commit' ? [2, 2] : [1, 0])
  })
