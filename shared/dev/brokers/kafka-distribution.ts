import { createHash, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder } from '../../kafka/native/cache.ts'
import { onPath } from '../../kafka/native/needs.ts'
import { BrokerUnavailableError } from './broker.ts'

const pomPath = join(import.meta.dir, 'pom.xml')
const oldestJava = 17
const toolHeapMb = 256
const lastLinesShown = 15
/** For 45 MB, and Maven's plugins. */
const fetchTimeoutMs = 600_000

/** Apache Kafka, ready to run: a Java and the class path. */
export interface KafkaDistribution {
  readonly version: string
  readonly java: string
  readonly classPath: string
}

/** Quiet: what is not an error stays off the output of tools, which tests parse. */
const loggingOptions = (level: 'warn' | 'error') => [`-Dorg.slf4j.simpleLogger.defaultLogLevel=${level}`]

/** Start-up counts for more than peak speed in a process that lives for a test. */
const fastStartOptions = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', '-Djava.awt.headless=true']

/** In a process that is measured, peak speed is what counts, and that start-up takes a second longer does not. */
export const longRunOptions = ['-XX:+UseParallelGC', '-XX:-UsePerfData', '-Djava.awt.headless=true']

/** The command line of a Kafka class, with the options that all of them share. */
export function javaCommand(
  distribution: KafkaDistribution,
  mainClass: string,
  args: readonly string[],
  options: { readonly heapMb: number; readonly log: 'warn' | 'error'; readonly longRun?: boolean },
): string[] {
  const { java, classPath } = distribution
  return [
    java,
    `-Xmx${options.heapMb}m`,
    ...(options.longRun === true ? longRunOptions : fastStartOptions),
    ...loggingOptions(options.log),
    '-cp',
    classPath,
    mainClass,
    ...args,
  ]
}

/**
 * Finds Java, and Kafka's jars in the user's cache; resolves them from Maven Central when they are not there yet. `say` is told what
 * takes long. Throws BrokerUnavailableError when Java or Maven is missing, or Maven Central does not answer.
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
    await resolveJars(folder, timeoutMs)
  }
  const jars = (await readdir(folder)).filter((name) => name.endsWith('.jar')).sort()
  return { version, java, classPath: jars.map((name) => join(folder, name)).join(':') }
}

/** Kafka's own command-line tools, by the name of their shell script. */
const toolClasses = {
  'console-consumer': 'org.apache.kafka.tools.consumer.ConsoleConsumer',
  'console-producer': 'org.apache.kafka.tools.ConsoleProducer',
  topics: 'org.apache.kafka.tools.TopicCommand',
} as const

type KafkaTool = keyof typeof toolClasses

/**
 * Runs one of Kafka's own tools against any broker and returns what it printed: a client that we did not write.
 * `--bootstrap-server` is added. Rejects when the tool fails, with its last lines.
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
  const child = Bun.spawn(command, { stdin: new Blob([input]), stdout: 'pipe', stderr: 'pipe' })
  const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (exitCode !== 0) throw new Error(`${tool} exited with ${exitCode}: ${lastLines(`${output}\n${errors}`)}`)
  return output
}

export function lastLines(text: string, count = lastLinesShown): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

/** The Java of JAVA_HOME, else that of the path. */
export async function findJava(): Promise<string> {
  const advice = 'install it with: apt-get install default-jre-headless'
  const home = process.env.JAVA_HOME
  const java = home ? join(home, 'bin', 'java') : onPath('java')
  if (java === null || !existsSync(java)) {
    throw new BrokerUnavailableError(
      `Apache Kafka needs Java ${oldestJava} or newer${home ? `, and JAVA_HOME=${home} has none` : ''}; ${advice}`,
    )
  }
  const child = Bun.spawn([java, '-version'], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' })
  const text = await child.stderr.text()
  const major = Number(/version "(\d+)/.exec(text)?.[1] ?? 0)
  if (major < oldestJava) {
    throw new BrokerUnavailableError(
      `Apache Kafka needs Java ${oldestJava} or newer, and ${java} is ${major || 'unknown'}; ${advice}`,
    )
  }
  return java
}

/** Copies the jars into a folder beside the wanted one and renames it, so that a folder that exists is always whole. */
async function resolveJars(folder: string, timeoutMs: number): Promise<void> {
  const maven = onPath('mvn')
  if (maven === null) {
    throw new BrokerUnavailableError('Apache Kafka is fetched with Maven; install it with: apt-get install maven')
  }
  const unfinished = `${folder}.${randomUUID()}.unfinished`
  await mkdir(dirname(folder), { recursive: true })
  try {
    const begunMs = performance.now()
    const child = Bun.spawn(
      [
        maven,
        '--batch-mode',
        '--no-transfer-progress',
        '--file',
        pomPath,
        'dependency:copy-dependencies',
        '-DincludeScope=runtime',
        `-DoutputDirectory=${unfinished}`,
      ],
      { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe', timeout: timeoutMs, killSignal: 'SIGKILL' },
    )
    const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
    if (exitCode !== 0 && performance.now() - begunMs >= timeoutMs) {
      throw new BrokerUnavailableError(
        `Maven did not fetch Apache Kafka within ${timeoutMs / 1000} s; is Maven Central reachable?\n${lastLines(`${output}\n${errors}`)}`,
      )
    }
    if (exitCode !== 0) {
      throw new BrokerUnavailableError(
        `Maven could not fetch Apache Kafka (exit ${exitCode}); is Maven Central reachable?\n${lastLines(`${output}\n${errors}`)}`,
      )
    }
    await rename(unfinished, folder).catch((error: unknown) => {
      // Another checkout was quicker: the folder is there, and it is the same.
      if (!existsSync(folder)) throw error
    })
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
}
