import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { endOf, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { provideKafka } from '../../shared/dev/brokers/kafka-distribution.ts'
import { lastLines } from '../../shared/dev/run.ts'
import { providePrograms } from '../limits/programs.ts'
import { valuesOfBytes } from '../limits/values.ts'
import { startHttpProcess } from './http-process.ts'
import type { LimitMeasurement, LimitOptions, LimitTool, System } from './system.ts'

/** The limits of the machine: HTTP without Kafka, and Kafka without HTTP. */

const FOLDER = join(import.meta.dir, '../limits')

function bunServer(name: string, title: string, notes: string): System {
  return {
    facts: { name, title, kind: 'limit', sameGuarantees: false, settings: {}, notes },
    prepare: async () => ({ bun: Bun.version }),
    start: ({ port, directory }) =>
      startHttpProcess({ name, command: [process.execPath, join(FOLDER, `${name}.ts`)], env: {}, port, directory }),
  }
}

/** Answer 200 to every request and store nothing. */
export const LIMITS: readonly System[] = [
  bunServer('bun-hello', 'Bun.serve, a fixed text', 'A function answers; the body is not looked at.'),
  bunServer('bun-echo', 'Bun.serve, echo', 'The body is handed on as the stream that it is, the cheapest of all ways.'),
]

const JAVA_HEAP_MB = 512

/** Like Kafka's own scripts, with a larger heap. */
const JAVA_OPTIONS = [
  `-Xmx${JAVA_HEAP_MB}m`,
  '-server',
  '-XX:+UseG1GC',
  '-XX:MaxGCPauseMillis=20',
  '-XX:InitiatingHeapOccupancyPercent=35',
  '-Djava.awt.headless=true',
  '-Dorg.slf4j.simpleLogger.defaultLogLevel=error',
]

const PERF_TEST_SETTINGS = {
  acks: 'all',
  'enable.idempotence': 'true',
  'compression.type': 'lz4',
  'linger.ms': '10',
  'batch.size': '65536',
  'buffer.memory': '67108864',
}

const PERF_TEST: LimitTool = {
  facts: {
    name: 'kafka-producer-perf-test',
    title: 'kafka-producer-perf-test (Java)',
    kind: 'limit',
    sameGuarantees: true,
    settings: { ...PERF_TEST_SETTINGS, java: JAVA_OPTIONS.join(' ') },
    notes: 'Values without keys and headers. Its CPU time counts the start of Java, too.',
  },
  async prepare(say) {
    const { version } = await provideKafka(say)
    return { kafka: version }
  },
  async run(options) {
    const { java, classPath } = await provideKafka()
    const properties = Object.entries(PERF_TEST_SETTINGS).flatMap((setting) => [
      '--command-property',
      setting.join('='),
    ])
    const ended = await runToEnd(this.facts.name, options.directory, [
      ...[java, ...JAVA_OPTIONS, '-cp', classPath, 'org.apache.kafka.tools.ProducerPerformance'],
      ...['--bootstrap-server', options.brokers, '--topic', options.topic, '--throughput', '-1'],
      ...['--num-records', String(options.records), '--payload-file', await writeValues(options), ...properties],
    ])
    const { records, perSecond } = perfTestSummary(ended.output)
    return complete(options, { cpuSeconds: ended.cpuSeconds, events: records, seconds: records / perSecond })
  },
}

const LIBRDKAFKA_PRODUCE: LimitTool = {
  writesEvents: true,
  facts: {
    name: 'librdkafka-produce',
    title: 'librdkafka, writing (C)',
    kind: 'limit',
    sameGuarantees: true,
    settings: {
      acks: 'all',
      'enable.idempotence': 'true',
      'compression.codec': 'lz4',
      'linger.ms': '10',
      'queue.buffering.max.messages': '200000',
    },
    notes: 'With the keys and the headers that KafkaTrace writes.',
  },
  prepare: async (say) => (await providePrograms(say)).versions,
  async run(options) {
    const { produce } = await providePrograms(() => undefined)
    const { brokers, topic, records } = options
    const command = [produce, brokers, topic, String(records), await writeValues(options)]
    return measured(options, await runToEnd(this.facts.name, options.directory, command))
  },
}

export const LIMIT_TOOLS: readonly LimitTool[] = [PERF_TEST, LIBRDKAFKA_PRODUCE]

async function writeValues({ directory, valueBytes }: LimitOptions): Promise<string> {
  const file = join(directory, `values-${valueBytes}.txt`)
  await Bun.write(
    file,
    valuesOfBytes(valueBytes)
      .map((value) => `${value}\n`)
      .join(''),
  )
  return file
}

interface Ended {
  output: string
  /** User and system time, from start to end. */
  cpuSeconds: number
}

/** @throws Error with its last lines, when it fails */
async function runToEnd(name: string, directory: string, command: readonly string[]): Promise<Ended> {
  const log = Bun.file(join(directory, `${name}.log`))
  const child = spawnBoundChild(command, { stdout: 'pipe', stderr: log })
  const [output] = await Promise.all([child.stdout.text(), child.exited])
  if (endOf(child) !== 0)
    throw new Error(`${name} ended with ${endOf(child)}: ${lastLines(output + (await log.text()))}`)
  return { output, cpuSeconds: Number(child.resourceUsage()?.cpuTime.total ?? 0n) / 1e6 }
}

const Printed = Type.Object({ events: Type.Integer(), seconds: Type.Number(), cpuSeconds: Type.Number() })

/** The output of our own programs. */
const measured = (options: LimitOptions, { output }: Ended): LimitMeasurement =>
  complete(options, Value.Parse(Printed, JSON.parse(output)))

/** @throws Error when it did less than requested, apart from the records with which its clock started */
function complete({ records }: LimitOptions, done: LimitMeasurement): LimitMeasurement {
  const least = records * 0.9
  if (done.events < least) throw new Error(`${done.events} of ${records} records were done`)
  return done
}

/**
 * The last line of kafka-producer-perf-test: "300000 records sent, 250000.0 records/sec (71.53 MB/sec), 4.00 ms avg latency, …".
 * @throws Error when there is none
 */
export function perfTestSummary(printed: string): { records: number; perSecond: number } {
  const last = printed.trimEnd().split('\n').at(-1) ?? ''
  const found = /^(\d+) records sent, ([\d.]+) records\/sec /.exec(last)
  if (found === null) throw new Error(`kafka-producer-perf-test ended without a summary: ${last}`)
  return { records: Number(found[1]), perSecond: Number(found[2]) }
}
