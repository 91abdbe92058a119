import { afterAll, beforeAll, describe, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import pino from 'pino'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import type { IncomingRecord } from '../../shared/events/record.ts'
import { createRangeReader, readAll } from '../../shared/kafka/range-reader.ts'
import type { RangeReader } from '../../shared/kafka/types.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { loadConsumerConfig } from '../config.ts'
import { behaviours, events, HANDLER_TIMEOUT_MS, MAX_ATTEMPTS } from '../testing/behaviours.ts'
import { expectOutcome, type Found, outcomesById } from '../testing/outcomes.ts'

/** Processes on Apache Kafka: killed or stopped while handlers run, and started again; all events are sent after each start. */

setDefaultTimeout(120_000)
const PATIENCE = { timeoutMs: 60_000 }
const PARTITIONS = 3
const INPUT = 'kt.default.events'

let kafka: KafkaCluster
let producer: ServiceProcess
let consumer: ServiceProcess | undefined
let reader: RangeReader
let found: Map<string, Found>

beforeAll(async () => {
  kafka = await startKafka()
  const env = { NODE_ENV: 'development', KAFKA_BROKERS: kafka.bootstrapServers }
  producer = await startService('producer', { ...env, AUTH: 'off', TOPIC_PARTITIONS: String(PARTITIONS) })
  await until(() => producer.started['port'] !== undefined, PATIENCE)
  reader = createRangeReader({
    config: loadConsumerConfig({ KAFKA_BROKERS: kafka.bootstrapServers }),
    clientId: 'behaviours-test',
    log: pino({ level: 'silent' }),
  })
  const live = async (): Promise<ServiceProcess> => {
    const started = await startService('consumer', {
      ...env,
      GROUP_ID: 'behaviours',
      INSTANCE_ID: 'one',
      SESSION_TIMEOUT_MS: '6000',
      TRANSACTION_TIMEOUT_MS: '5000',
      HANDLER_TIMEOUT_MS: String(HANDLER_TIMEOUT_MS),
      QUICK_ATTEMPTS: '2',
      MAX_ATTEMPTS: String(MAX_ATTEMPTS),
      RETRY_FIRST_MS: '500',
      RETRY_MAX_MS: '1000',
      HANDLERS_MODULE: join(import.meta.dir, '../testing/behaviours.ts'),
    })
    consumer = started
    await send()
    return started
  }
  const killed = await live()
  await until(() => logged(killed, 'attempts failed; moved to .retry'), PATIENCE)
  await killed.stop('SIGKILL')
  const stopped = await live()
  await until(() => logged(stopped, 'dead letter'), PATIENCE)
  await stopped.stop()
  const last = await live()
  await until(async () => (await lag(last)) === 0 && isComplete(outcomesById(await outcomes())), {
    ...PATIENCE,
    what: `the outcomes of ${events.length} events`,
  })
  await last.stop()
  consumer = undefined
  found = outcomesById(await outcomes())
})

afterAll(async () => {
  await Promise.all([consumer?.stop(), producer?.stop(), reader?.close()])
  await kafka?.stop()
})

async function send(): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${producer.started['port']}/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(events),
  })
  if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`)
}

const isComplete = (of: ReadonlyMap<string, Found>): boolean => events.every(({ id }) => of.has(id))

const logged = ({ log }: ServiceProcess, msg: string): boolean => log.some((line) => line['msg'] === msg)

/** Of all partitions that are read, and of their `.retry`; undefined until all were measured. */
async function lag({ started }: ServiceProcess): Promise<number | undefined> {
  const text = await (await fetch(`http://127.0.0.1:${started['opsPort']}/metrics`)).text()
  const each = [...text.matchAll(/^kafkatrace_consumer_lag_records\{.*\} (\d+)$/gm)].map((one) => Number(one[1]))
  return each.length < 2 * PARTITIONS ? undefined : each.reduce((sum, one) => sum + one, 0)
}

async function outcomes(): Promise<IncomingRecord[]> {
  const records: IncomingRecord[] = []
  const partitions = ['processed', 'dlq'].flatMap((role) =>
    Array.from({ length: PARTITIONS }, (_, partition) => ({ topic: `${INPUT}.${role}`, partition })),
  )
  await readAll(reader, partitions, (record) => records.push(record))
  return records
}

describe(`each of ${behaviours.length} handlers leaves its event one outcome, over a kill and a stop`, () => {
  for (const [index, { name }] of behaviours.entries()) test(`${name}`, () => expectOutcome(index, 'default', found))
})
