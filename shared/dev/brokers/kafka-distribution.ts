import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder } from '../../kafka/native/cache.ts'
import { onPath } from '../../kafka/native/needs.ts'
import { lastLines, makeWhole, run } from '../run.ts'
import { BrokerUnavailableError } from './broker.ts'

const pomPath = join(import.meta.dir, 'pom.xml')
const oldestJava = 17
const toolHeapMb = 256
/** For 45 MB of jars and Maven's plugins. */
const fetchTimeoutMs = 600_000

/** Apache Kafka, ready to run: a Java and the class path. */
export interface KafkaDistribution {
  readonly version: string
  readonly java: string
  readonly classPath: string
  /** Where an archive of the classes that a node loads is kept for this Java and these jars, once there is one. */
  readonly classArchive: string
}

/** Only errors are printed: tests parse the output of tools. */
const loggingOptions = (level: 'warn' | 'error') => [`-Dorg.slf4j.simpleLogger.defaultLogLevel=${level}`]

/** For processes that live for one test, start-up time matters more than peak speed. */
const fastStartOptions = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', '-Djava.awt.headless=true']

/** For processes that are measured, peak speed matters more than start-up time. */
export const longRunOptions = ['-XX:+UseParallelGC', '-XX:-UsePerfData', '-Djava.awt.headless=true']

/** The command line of a Kafka class, with the options that all of them share. */
export function javaCommand(
  distribution: KafkaDistribution,
  mainClass: string,
  args: readonly string[],
  options: {
    readonly heapMb: number
    readonly log: 'warn' | 'error'
    readonly longRun?: boolean
    readonly javaOptions?: readonly string[]
  },
): [string, ...string[]] {
  const { java, classPath, classArchive } = distribution
  const startOptions = existsSync(classArchive)
    ? [...fastStartOptions, `-XX:SharedArchiveFile=${classArchive}`]
    : fastStartOptions
  return [
    java,
    `-Xmx${options.heapMb}m`,
    ...(options.longRun === true ? longRunOptions : startOptions),
    ...loggingOptions(options.log),
    ...(options.javaOptions ?? []),
    '-cp',
    classPath,
    mainClass,
    ...args,
  ]
}

/**
 * Finds Java, and Kafka's jars in the user's cache; downloads them from Maven Central when they are missing. `say` reports slow
 * steps. Throws BrokerUnavailableError when Java or Maven is missing, or Maven Central does not answer.
 */
export async function provideKafka(
  say: (progress: string) => void = () => {},
  timeoutMs = fetchTimeoutMs,
): Promise<KafkaDistribution> {
  const pom = await Bun.file(pomPath).text()
  const version = /<artifactId>kafka_2\.13<\/artifactId>\s*<version>([^<]+)</.exec(pom)?.[1]
  if (version === undefined) throw new Error(`${pomPath} names no version of kafka_2.13`)
  const java = await findJava()
  const fingerprint = createHash('sha256').update(pom).digest('hex').slice(0, 8)
  const folder = join(cacheFolder(), `kafka-${version}-${fingerprint}`)
  if (!existsSync(folder)) {
    say(`fetching Apache Kafka ${version} from Maven Central, 45 MB, once`)
    await makeWhole(folder, (unfinished) => resolveJars(unfinished, timeoutMs))
  }
  const jars = (await readdir(folder)).filter((name) => name.endsWith('.jar')).sort()
  const classPath = jars.map((name) => join(folder, name)).join(':')
  return { version, java, classPath, classArchive: join(`${folder}-${await identify(java)}`, 'classes.jsa') }
}

/** Tells one Java from another, and from a later version in its place. */
async function identify(java: string): Promise<string> {
  const program = await realpath(java)
  const { mtimeMs } = await stat(program)
  return createHash('sha256').update(`${program} ${mtimeMs}`).digest('hex').slice(0, 8)
}

/** Kafka's own command-line tools, by the name of their shell script. */
const toolClasses = {
  'console-consumer': 'org.apache.kafka.tools.consumer.ConsoleConsumer',
  'console-producer': 'org.apache.kafka.tools.ConsoleProducer',
  topics: 'org.apache.kafka.tools.TopicCommand',
} as const

type KafkaTool = keyof typeof toolClasses

/**
 * Runs one of Kafka's own tools against any broker, so that a test does not depend on our client. Returns what it printed.
 * Adds `--bootstrap-server`. Rejects with the tool's last lines when it fails.
 */
export async function runKafkaTool(
  bootstrapServers: string,
  tool: KafkaTool,
  args: readonly string[],
  input: string | Uint8Array = '',
): Promise<string> {
  const distribution = await provideKafka()
  const command = javaCommand(distribution, toolClasses[tool], ['--bootstrap-server', bootstrapServers, ...args], {
    heapMb: toolHeapMb,
    log: 'error',
  })
  const { exitCode, output, errors } = await run(command, { input })
  if (exitCode !== 0) throw new Error(`${tool} exited with ${exitCode}: ${lastLines(`${output}\n${errors}`)}`)
  return output
}

/** The Java of JAVA_HOME, else the one on PATH. @param user what needs it @throws BrokerUnavailableError */
export async function findJava(user = 'Apache Kafka'): Promise<string> {
  const advice = 'install it with: apt-get install default-jre-headless'
  const home = process.env.JAVA_HOME
  const java = home ? join(home, 'bin', 'java') : onPath('java')
  if (java === null || !existsSync(java)) {
    throw new BrokerUnavailableError(
      `${user} needs Java ${oldestJava} or newer${home ? `, and JAVA_HOME=${home} has none` : ''}; ${advice}`,
    )
  }
  const { errors } = await run([java, '-version'])
  const major = Number(/version "(\d+)/.exec(errors)?.[1] ?? 0)
  if (major < oldestJava) {
    throw new BrokerUnavailableError(
      `${user} needs Java ${oldestJava} or newer, and ${java} is ${major || 'unknown'}; ${advice}`,
    )
  }
  return java
}

/** Has Maven copy the jars of pom.xml into a folder. @throws BrokerUnavailableError */
async function resolveJars(folder: string, timeoutMs: number): Promise<void> {
  const maven = onPath('mvn')
  if (maven === null) {
    throw new BrokerUnavailableError('Apache Kafka is fetched with Maven; install it with: apt-get install maven')
  }
  const quiet = ['--batch-mode', '--no-transfer-progress']
  const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${folder}`]
  const { exitCode, output, errors, isLate } = await run([maven, ...quiet, '--file', pomPath, ...goal], { timeoutMs })
  if (exitCode === 0) return
  const what = isLate
    ? `Maven did not fetch Apache Kafka within ${timeoutMs / 1000} s`
    : `Maven could not fetch Apache Kafka (exit ${exitCode})`
  throw new BrokerUnavailableError(`${what}; is Maven Central reachable?\n${lastLines(`${output}\n${errors}`)}`)
}
