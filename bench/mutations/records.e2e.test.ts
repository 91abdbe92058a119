import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import fc from 'fast-check'
import pino from 'pino'
import { loadConsumerConfig } from '../../consumer/config.ts'
import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import { foreignRecord } from '../../consumer/testing/foreign-records.ts'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { streamTopics } from '../../shared/events/topics.ts'
import { createRecordProducer } from '../../shared/kafka/producer.ts'
import { readAll } from '../../shared/kafka/range-reader.ts'
import { ProduceError } from '../../shared/kafka/types.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { COUNT, known, openReader, PARTITIONS, partitionsOf, residentMbOf, SEED, wrongOutcomes } from './rig.ts'

const CHUNK = 1_000
const OUTCOMES_TIMEOUT_MS = 120_000
/** Of the consumer, at any time: many records are held at once, and some are large. */
const MAX_RESIDENT_MB = 512
const ROUNDS = 10
/** With fewer, the runtime may not collect once in a half of the rounds: then what it has not given back counts as growth. */
const RECORDS = 2 * COUNT
/** From the first half of the rounds to the second, of the least of each: how much the runtime has not given back yet differs by 100 MB from round to round. */
const MAX_GROWTH_MB = 60
const [INPUT = '', ...OTHERS] = streamTopics('default', 'events')

setDefaultTimeout(600_000)

let kafka: KafkaCluster
let consumer: ServiceProcess

beforeAll(async () => {
  kafka = await startKafka()
  await kafka.createTopics([INPUT, ...OTHERS], PARTITIONS)
  consumer = await startService('consumer', {
    NODE_ENV: 'development',
    KAFKA_BROKERS: kafka.bootstrapServers,
    GROUP_ID: 'mutations',
    INSTANCE_ID: 'one',
    HANDLERS_MODULE: join(import.meta.dir, '../../consumer/testing/faulty-handlers.ts'),
    QUICK_ATTEMPTS: '1',
    MAX_ATTEMPTS: '2',
    RETRY_FIRST_MS: '50',
    RETRY_MAX_MS: '100',
  })
})
afterAll(async () => {
  await consumer?.stop()
  await kafka?.stop()
})

test(`of ${RECORDS} odd records none stops its partition, and each event has one outcome`, async () => {
  const writer = createRecordProducer({
    config: loadConsumerConfig({ KAFKA_BROKERS: kafka.bootstrapServers }),
    clientId: 'mutations',
    topics: [INPUT],
    deliveryTimeoutMs: 30_000,
    lingerMs: 5,
    maxQueueRecords: 10 * CHUNK,
    maxQueueBytes: 2 ** 28,
    maxRecordBytes: 2 ** 20,
    unreachedTimeoutMs: 60_000,
    log: pino({ level: 'silent' }),
    onStatistics: () => undefined,
  })
  writer.start()
  await until(() => writer.connection().state === 'connected', { timeoutMs: 30_000, what: 'the connection' })
  const reader = openReader(kafka.bootstrapServers)
  const residentMb: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const records = fc.sample(foreignRecord(['plain', `${FAULT_TYPE}always`, `${FAULT_TYPE}hopeless`]), {
      numRuns: RECORDS / ROUNDS,
      seed: ROUNDS * SEED + round,
    })
    for (let from = 0; from < records.length; from += CHUNK) {
      const chunk = records.slice(from, from + CHUNK).map((record) => ({ topic: INPUT, ...record }))
      const results = await writer.produce(chunk)
      expect(results.filter((one) => one instanceof ProduceError)).toEqual([])
    }
    const events = new Set<string>()
    await readAll(reader, partitionsOf(INPUT), (record) => events.add(known(record)))
    expect(await wrongOutcomes(reader, INPUT, events, OUTCOMES_TIMEOUT_MS)).toEqual([])
    residentMb.push(residentMbOf(consumer.pid))
    console.log(
      `seed ${ROUNDS * SEED + round}: ${records.length} records, ${events.size} events so far, ${residentMb[round]?.toFixed(0)} MB`,
    )
  }
  await reader.close()
  await writer.close(5_000)
  expect(Math.max(...residentMb)).toBeLessThan(MAX_RESIDENT_MB)
  const least = (rounds: readonly number[]) => Math.min(...rounds)
  expect(least(residentMb.slice(ROUNDS / 2)) - least(residentMb.slice(0, ROUNDS / 2))).toBeLessThan(MAX_GROWTH_MB)
  const ready = await fetch(`http://127.0.0.1:${consumer.started['opsPort']}/readyz`)
  expect(ready.status).toBe(200)
  expect(consumer.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([])
})
