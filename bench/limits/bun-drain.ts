/** A limit: the client that KafkaTrace's consumer uses, on Bun, reading a filled topic and doing nothing with its records. */
import { Type } from '@sinclair/typebox'
import { createGroupConsumer } from '../../shared/kafka/consumer.ts'
import { parseCommandLine, refuse } from '../../shared/service/command-line.ts'
import { commonVariables, loadConfig } from '../../shared/service/config.ts'
import { createLogger } from '../../shared/service/logger.ts'

const HELP = `Reads a filled topic from its beginning with the Kafka client that KafkaTrace's consumer uses, and does nothing with the records.

Usage: bun bench/limits/bun-drain.ts BROKERS TOPIC RECORDS

Prints one line of JSON: events, seconds (from the first records to the last), cpuSeconds. Fails if there are fewer than RECORDS.
`

/** Between 32 and 500 it made no difference; 1,000 and 5,000 took a tenth more CPU a record. */
const FETCH_MAX_RECORDS = 500
/** As the consumer. */
const FETCH_WAIT_MS = 100
const PREFETCH_MAX_BYTES = 16 * 2 ** 20

const SESSION_TIMEOUT_MS = 30_000
/** Without a record for so long, there are none. */
const SILENCE_MS = 10_000

const { positionals } = parseCommandLine(HELP, { allowPositionals: true })
const [brokers = '', topic = '', wanted = ''] = positionals
const records = Number(wanted)
if (positionals.length !== 3 || !Number.isInteger(records) || records <= 0)
  refuse('BROKERS, TOPIC and RECORDS, a whole number, are needed', HELP)

function gaveUp(): never {
  process.stderr.write('the topic cannot be read\n')
  process.exit(1)
}

const group = createGroupConsumer({
  config: loadConfig(Type.Object(commonVariables), { KAFKA_BROKERS: brokers }),
  clientId: 'bun-drain',
  groupId: `bun-drain-${crypto.randomUUID()}`,
  sessionTimeoutMs: SESSION_TIMEOUT_MS,
  leaveTimeoutMs: SESSION_TIMEOUT_MS,
  prefetchMaxBytes: PREFETCH_MAX_BYTES,
  log: createLogger('bun-drain', { LOG_LEVEL: 'fatal', LOG_FORMAT: 'json' }),
  onStatistics: () => undefined,
})
// Of what a topic's name may hold, the dot alone means something else.
group.start(
  new RegExp(`^${topic.replaceAll('.', '\\.')}$`),
  {
    assigned: (partitions) => group.startReading(partitions.map((one) => ({ ...one, offset: -1 }))),
    revoked: (partitions) => Promise.resolve(partitions),
    outOfRange: gaveUp,
    unreadable: gaveUp,
    failed: gaveUp,
  },
  Promise.resolve(),
)

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
let read = 0
let first: { atMs: number; cpu: number; records: number } | undefined
let lastMs = performance.now()
while (read < records) {
  const got = (await group.poll(FETCH_MAX_RECORDS, FETCH_WAIT_MS)).length
  const nowMs = performance.now()
  if (got === 0 && nowMs - lastMs > SILENCE_MS) {
    process.stderr.write(`nothing more came after ${read} of ${records} records\n`)
    process.exit(1)
  }
  if (got === 0) continue
  read += got
  lastMs = nowMs
  first ??= { atMs: nowMs, cpu: cpuSeconds(), records: got }
}
const { atMs, cpu, records: before } = first ?? { atMs: lastMs, cpu: 0, records: 0 }
// The first records were there when the clock began.
const measured = { events: read - before, seconds: (lastMs - atMs) / 1000, cpuSeconds: cpuSeconds() - cpu }
process.stdout.write(`${JSON.stringify(measured)}\n`)
await group.close()
process.exit(0)
