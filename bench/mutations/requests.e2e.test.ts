import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test'
import { type KafkaCluster, startKafka } from '../../shared/dev/brokers/kafka.ts'
import { headerText } from '../../shared/events/headers.ts'
import { inputTopic } from '../../shared/events/topics.ts'
import { readAll } from '../../shared/kafka/range-reader.ts'
import { type ServiceProcess, startService } from '../../shared/testing/service-process.ts'
import { until } from '../../shared/testing/until.ts'
import { createRandom } from '../faults/random.ts'
import { type Answered, type Mutated, mutated, send } from './requests.ts'
import { COUNT, known, openReader, PARTITIONS, partitionsOf, residentMbOf, SEED, wrongOutcomes } from './rig.ts'

const CONNECTIONS = 128
const BODY_TIMEOUT_MS = 2_500
const DELIVERY_TIMEOUT_MS = 5_000
/** A request that does not come is given up before, and so is a connection on which nothing comes: Bun counts its time in steps of 4 s, and a busy machine counts later. */
const HANG_MS = 60_000
const OUTCOMES_TIMEOUT_MS = 60_000
/** Of a process that has served a third of them, until it has served all. */
const MAX_GROWTH_MB = 60
const SHOWN = 10
const INPUT = inputTopic('default', 'events')

setDefaultTimeout(600_000)

let kafka: KafkaCluster
let producer: ServiceProcess
let consumer: ServiceProcess

beforeAll(async () => {
  kafka = await startKafka()
  const env = { NODE_ENV: 'development', KAFKA_BROKERS: kafka.bootstrapServers }
  producer = await startService('producer', {
    ...env,
    AUTH: 'off',
    TOPIC_PARTITIONS: String(PARTITIONS),
    MAX_IN_FLIGHT_BYTES: String(2 ** 30),
    REQUEST_TIMEOUT_MS: String(BODY_TIMEOUT_MS + DELIVERY_TIMEOUT_MS),
    NDJSON_PROGRESS_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS + 2_100),
    DELIVERY_TIMEOUT_MS: String(DELIVERY_TIMEOUT_MS),
  })
  await until(() => producer.started['port'] !== undefined, { timeoutMs: 60_000, what: 'the public port' })
  consumer = await startService('consumer', { ...env, GROUP_ID: 'mutations', INSTANCE_ID: 'one' })
})
afterAll(async () => {
  await Promise.all([producer, consumer].map((service) => service?.stop()))
  await kafka?.stop()
})

/** An event's place in the log, as a receipt tells it. */
interface Receipt {
  id: string
  partition: number
  offset: number
}

const receiptsIn = (text: string): Receipt[] =>
  [...text.matchAll(/\{"id":"((?:[^"\\]|\\.)*)","stream":"events","partition":(\d+),"offset":(\d+)/g)].map(
    ([, id = '', partition, offset]) => ({
      id: JSON.parse(`"${id}"`) as string,
      partition: Number(partition),
      offset: Number(offset),
    }),
  )

test(`of ${COUNT} mutated requests each is answered or closed, and what was answered is true`, async () => {
  const random = createRandom(SEED)
  const port = Number(producer.started['port'])
  const all: { sent: Mutated; answered: Answered }[] = []
  let next = 0
  let warmMb = 0
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      while (next < COUNT) {
        const sent = mutated(`m${next++}-${random.integer(0x1000_0000, 0xffff_ffff).toString(16)}.`, random)
        all.push({ sent, answered: await send(port, sent, HANG_MS) })
        if (all.length === Math.floor(COUNT / 3)) warmMb = residentMbOf(producer.pid)
      }
    }),
  )
  const grownMb = residentMbOf(producer.pid) - warmMb
  const last = await fetch(`http://127.0.0.1:${port}/v1/events`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 't', id: 'last', source: '/m' }),
  })
  expect(last.status).toBe(202)

  const reader = openReader(kafka.bootstrapServers)
  const stored = new Map<string, string>()
  const names = new Map<string, string[]>()
  const events = new Set<string>()
  await readAll(reader, partitionsOf(INPUT), (record) => {
    const { partition, offset, headers } = record
    events.add(known(record))
    const id = headerText(headers, 'ce_id') ?? ''
    stored.set(`${partition}/${offset}`, id)
    const name = /^m\d+-[0-9a-f]{8}\./.exec(id)?.[0]
    if (name !== undefined) names.set(name, [...(names.get(name) ?? []), id])
  })
  const faults: string[] = []
  for (const { sent, answered } of all) {
    const fault = (what: string) => faults.push(`${sent.name} ${what} (${sent.made}): ${answered.text.slice(0, 300)}`)
    if (answered.hung) fault('was neither answered nor closed')
    // 505: the runtime's own answer to what is no HTTP/1.1 at all. 503: a busy machine; it says that nothing was stored.
    const failed = answered.statuses.filter((status) => status >= 500 && status !== 505 && status !== 503)
    if (failed.length > 0) fault(`was answered ${failed}`)
    const receipts = receiptsIn(answered.text)
    for (const { id, partition, offset } of receipts)
      if (stored.get(`${partition}/${offset}`) !== id) fault(`has a receipt for ${id} and is not there`)
    // Of what was answered to its end, and nothing of it is unknown, what has a receipt is stored and nothing else: no line of a stream that was refused.
    if (
      answered.statuses.length === 1 &&
      /^HTTP\/1.1 202|"unknown":0,"refused":\d+,"complete":true/.test(answered.text)
    ) {
      const own = receipts.map(({ id }) => id).filter((id) => id.startsWith(sent.name))
      const there = names.get(sent.name) ?? []
      if (own.toSorted().join() !== there.toSorted().join()) fault(`has receipts for ${own}, and stored is ${there}`)
    }
    const told = answered.statuses.length > 0 && answered.statuses.every((status) => status >= 400)
    if (told && names.has(sent.name)) fault(`was answered ${answered.statuses} and is stored`)
  }
  console.log(
    `seed ${SEED}: ${all.length} requests, ${stored.size} events stored, ${all.filter(({ answered }) => answered.statuses.length === 0).length} connections closed without an answer, ${grownMb.toFixed(0)} MB more`,
  )
  expect(faults.slice(0, SHOWN)).toEqual([])
  expect(grownMb).toBeLessThan(MAX_GROWTH_MB)

  // Each stored event has its one outcome.
  expect(await wrongOutcomes(reader, INPUT, events, OUTCOMES_TIMEOUT_MS)).toEqual([])
  await reader.close()
})
