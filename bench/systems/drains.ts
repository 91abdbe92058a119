import { copyFile, cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { endBoundChild, isRunning, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { findJava } from '../../shared/dev/brokers/kafka-distribution.ts'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'
import { lastLines } from '../../shared/dev/run.ts'
import { providePrograms } from '../limits/programs.ts'
import { KAFKATRACE } from './kafkatrace.ts'
import { buildGo, goVersionsOf } from './peers-native.ts'
import type { Drain, DrainOptions, RunningDrain } from './system.ts'

/** Alternatives to KafkaTrace's consumer that copy a topic to another one exactly once; and the limit, librdkafka. */

const PEERS = join(import.meta.dir, '../peers')
const SCHEMA = join(PEERS, 'drain-franz/order.schema.json')
const STOP_GRACE_MS = 20_000

const GUARANTEE =
  'Exactly once within Kafka: outcomes and offsets are committed together. Does not recognise an event that a client sends again: both get an outcome'

const LIBRDKAFKA: Drain = {
  facts: {
    name: 'librdkafka-drain',
    title: 'librdkafka, topic to topic (C)',
    kind: 'limit',
    sameGuarantees: true,
    settings: {
      'isolation.level': 'read_committed',
      'compression.codec': 'lz4',
      'linger.ms': '5',
      'records a transaction': 'up to 20000',
    },
    notes: `${GUARANTEE}. Has no handler.`,
  },
  prepare: async (say) => (await providePrograms(say)).versions,
  async drain(options) {
    const { drain } = await providePrograms(() => undefined)
    return start(this.facts.name, options, [drain, options.brokers, options.topic, options.output, groupOf()])
  },
}

const FRANZ_SOURCES = ['go.mod', 'go.sum', 'main.go', 'order.schema.json']
const FRANZ_MODULES = [
  'github.com/twmb/franz-go',
  'github.com/goccy/go-json',
  'github.com/santhosh-tekuri/jsonschema/v6',
]

const FRANZ: Drain = {
  facts: {
    name: 'drain-franz',
    title: 'Go: franz-go, GroupTransactSession',
    kind: 'peer',
    sameGuarantees: true,
    settings: { 'isolation level': 'read committed', 'records a poll': '5000', compression: 'lz4' },
    notes: `${GUARANTEE}.`,
  },
  async prepare(say) {
    return goVersionsOf(await buildGo(this.facts.name, FRANZ_SOURCES, say), FRANZ_MODULES)
  },
  async drain(options) {
    const binary = await buildGo(this.facts.name, FRANZ_SOURCES, () => undefined)
    return start(this.facts.name, options, [binary], { HANDLER: options.handler === 'none' ? 'off' : 'on' })
  },
}

/** A usual heap. G1 is Java's own choice on two or more cores with at least 2 GB. */
const JAVA_OPTIONS = ['-Xmx512m', '-Xms128m', '-XX:+UseG1GC', '-Dorg.slf4j.simpleLogger.defaultLogLevel=error']
const STREAMS_SOURCES = ['pom.xml', 'src/main/java/Drain.java']
const INSTALL_MAVEN = 'install it with: apt-get install maven default-jdk-headless'

const STREAMS: Drain = {
  facts: {
    name: 'drain-streams',
    title: 'Java: Kafka Streams, exactly_once_v2',
    kind: 'peer',
    sameGuarantees: true,
    settings: {
      'processing.guarantee': 'exactly_once_v2',
      'num.stream.threads': '1',
      'commit.interval.ms': '100',
      'max.poll.records': '5000',
      'compression.type': 'lz4',
      java: JAVA_OPTIONS.join(' '),
    },
    notes: `${GUARANTEE}.`,
  },
  async prepare(say) {
    await buildStreams(say)
    const pom = await Bun.file(join(PEERS, 'drain-streams/pom.xml')).text()
    return Object.fromEntries(
      [...pom.matchAll(/<artifactId>(kafka-streams|json-schema-validator)<\/artifactId>\s*<version>([^<]+)</g)].map(
        ([, name = '', version = '']) => [name, version],
      ),
    )
  },
  async drain(options) {
    const built = await buildStreams(() => undefined)
    const state = join(options.directory, 'streams-state')
    await mkdir(state, { recursive: true })
    return start(
      this.facts.name,
      options,
      [await findJava(), ...JAVA_OPTIONS, '-cp', `${built}/drain-streams.jar:${built}/dependency/*`, 'Drain'],
      { STATE_DIR: state, ...(options.handler !== 'none' && { ORDER_SCHEMA: SCHEMA }) },
    )
  },
}

async function buildStreams(say: (progress: string) => void): Promise<string> {
  const folder = join(PEERS, 'drain-streams')
  const compiler = (await runTool(['javac', '-version'], folder, INSTALL_MAVEN)).trim()
  return await provideBuilt({
    name: 'drain-streams',
    files: STREAMS_SOURCES.map((file) => join(folder, file)),
    made: [compiler],
    async build(into) {
      say('compiling drain-streams, and fetching its jars from Maven Central, up to a minute, once')
      const work = join(into, 'work')
      await cp(folder, work, { recursive: true })
      const goals = ['package', 'dependency:copy-dependencies', '-DincludeScope=runtime'] as const
      await runTool(['mvn', '--batch-mode', '--no-transfer-progress', ...goals], work, INSTALL_MAVEN)
      await copyFile(join(work, 'target/drain-streams.jar'), join(into, 'drain-streams.jar'))
      await cp(join(work, 'target/dependency'), join(into, 'dependency'), { recursive: true })
    },
  })
}

/** A new one for each run, so that none continues where another one ended. */
const groupOf = (): string => `bench-${crypto.randomUUID()}`

/** Starts a drain. Its outcomes show when it works. */
async function start(
  name: string,
  { brokers, topic, output, directory }: DrainOptions,
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<RunningDrain> {
  const log = Bun.file(join(directory, `${name}.log`))
  const child = spawnBoundChild(command, {
    stdout: log,
    stderr: log,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      KAFKA_BROKERS: brokers,
      TOPIC: topic,
      OUTPUT: output,
      GROUP: groupOf(),
      ...env,
    },
  })
  return {
    processes: [{ name, pid: child.pid }],
    async stop() {
      const early = !isRunning(child)
      await endBoundChild(child, STOP_GRACE_MS)
      if (early) throw new Error(`${name} ended by itself; it logged:\n${lastLines(await log.text())}`)
    },
  }
}

/** KafkaTrace's consumer first. */
export const DRAINS: readonly Drain[] = [KAFKATRACE, STREAMS, FRANZ, LIBRDKAFKA]
