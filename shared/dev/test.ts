/** `bun run test`: unit, integration and end-to-end tests, one Apache Kafka for all that need a broker, coverage of everything. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseCommandLine, refuse } from '../service/command-line.ts'
import { paint } from '../service/terminal.ts'
import { spawnBoundChild } from './bound-child.ts'
import { type Broker, BrokerUnavailableError } from './brokers/broker.ts'
import { archiveClasses, startKafka } from './brokers/kafka.ts'
import { dockerAnswers, startRedpanda } from './brokers/redpanda.ts'
import { coverageOf, linesThatRun, mergeLcov, percentCovered } from './coverage.ts'
import { seconds, step } from './progress.ts'
import {
  counted,
  failedTests,
  type SuiteName,
  skippedTests,
  slowness,
  sortBySuite,
  type TestCounts,
  undisturbedMs,
} from './suites.ts'

const root = resolve(import.meta.dir, '..', '..')
const leastCoveragePercent = 90
const filesShown = 10

/** The broker of integration and e2e suites: `host:port`. When it is already set, that broker is used. */
const brokersVariable = 'KAFKATRACE_TEST_BROKERS'

const help = `Runs the tests: bun run test [--unit] [--integration] [--e2e] [--nightly] [PATH…]

  --unit          *.test.ts              no broker
  --integration   *.integration.test.ts  on Apache Kafka, which is started (and again on Redpanda where Docker answers)
  --e2e           *.e2e.test.ts          real processes, killed on purpose
  --nightly       only those that take too long for every change, which a run of all leaves out
  PATH            only test files whose path contains this
  --no-install    installs nothing; reports what is missing
  --help          this text

Tests that need Python, Go or Chromium are skipped where it is missing, and listed. Where CI is set, it is installed and nothing is skipped.
Without options, runs all of them with coverage, which must be at least ${leastCoveragePercent} % of the lines.
${brokersVariable}=host:port uses an existing broker.
`

interface Limits {
  /** For tests without a time-out of their own. */
  readonly testTimeoutMs: number
  /** A suite that takes longer fails where CI is set. Elsewhere the machine may be slow or busy. Of unit tests, what other processes took meanwhile does not count. */
  readonly suiteMs: number
  /** A suite that takes this long hangs, and is killed. */
  readonly killAfterMs: number
  /** To these, `bun test` gives the suite's files, as they become free. */
  readonly processes: number
}

/** Integration and e2e tests mostly wait, for brokers and time-outs, and must pass on a busy machine. Unit tests wait in part, for timers. */
const limits: Readonly<Record<SuiteName, Limits>> = {
  unit: { testTimeoutMs: 60_000, suiteMs: 30_000, killAfterMs: 300_000, processes: 3 * availableParallelism() },
  integration: { testTimeoutMs: 60_000, suiteMs: 600_000, killAfterMs: 1_200_000, processes: 2 },
  e2e: { testTimeoutMs: 300_000, suiteMs: 1_500_000, killAfterMs: 2_400_000, processes: 2 },
}

/**
 * Files that coverage leaves out, and why. `bun test` measures only its own process, so code that always runs in another process
 * would look untested.
 */
const notCounted: readonly { readonly why: string; readonly files: readonly string[] }[] = [
  {
    why: 'processes that integration and e2e tests start, kill and judge from outside',
    files: [
      'producer/main.ts',
      'producer/run.ts',
      'consumer/main.ts',
      'consumer/run.ts',
      'shared/dev/brokers/embedded-cluster.ts',
    ],
  },
  {
    why: 'handlers that the fault runs put into the consumer’s process',
    files: ['consumer/testing/faulty-handlers.ts'],
  },
  {
    why: 'what only runs in a browser; the page’s e2e test uses it there',
    files: ['consumer/console/page/load.ts', 'consumer/console/page/place.ts', 'consumer/console/page/session.ts'],
  },
  {
    why: 'processes that a benchmark starts to make load and to watch, run by its e2e test',
    files: ['bench/closed-loop-worker.ts', 'bench/open-loop-worker.ts', 'bench/observer-worker.ts'],
  },
  {
    why: 'limits that a benchmark starts as processes, run by their e2e test',
    files: ['bench/limits/bun-hello.ts', 'bench/limits/bun-echo.ts'],
  },
  {
    why: 'what only runs in a benchmark’s process, with a broker and services of its own; its e2e test does it all',
    files: [
      'bench/run.ts',
      'bench/stage.ts',
      'bench/measure.ts',
      'bench/measure-drain.ts',
      'bench/page.ts',
      'bench/topics.ts',
      'bench/systems/kafkatrace.ts',
    ],
  },
  {
    why: 'commands: what they compute is in files that count, and running them is their test',
    files: [
      'shared/dev/setup.ts',
      'shared/dev/dev.ts',
      'shared/dev/screenshots.ts',
      'shared/dev/test.ts',
      'shared/dev/verify.ts',
      'shared/dev/check-fresh.ts',
      'shared/dev/native-try.ts',
      'shared/dev/client-suite.ts',
      'shared/dev/doctor.ts',
      'shared/dev/brokers/main.ts',
      'shared/kafka/native/build.ts',
      'shared/dev/soak.ts',
      'bench/faults/main.ts',
      'bench/fuzz/main.ts',
      'bench/main.ts',
    ],
  },
]

/** What is not worth its minutes with every change. Run by PATH or with --nightly. */
const nightly: readonly string[] = [
  // A whole benchmark, from its command to its result.
  'bench/bench.e2e.test.ts',
  // What KafkaTrace is compared with, which has to be built. With every change, its JavaScript and its programs' options are tested.
  'bench/systems/drains.e2e.test.ts',
  'bench/systems/limits.e2e.test.ts',
  // Transactions that the broker ends in some places only. With every change, one that it forgets to end everywhere (forgotten-commit).
  'bench/faults/half-done.e2e.test.ts',
  // The addon's tests once more, with a collector that runs all the time.
  'shared/kafka/native/continuous-collection.integration.test.ts',
  // Every mechanism of Kafka. With every change, the fault run rotate-credentials replaces a credential of each kind.
  'bench/secured/rotations.e2e.test.ts',
  // What tests do to brokers, one by one; the fault runs use all of it.
  'shared/dev/brokers/kafka.e2e.test.ts',
  // A hundred kills of the backup command. With every change, ten.
  'shared/backup/kills.integration.test.ts',
  // Builds Jaeger. With every change, tracing.e2e.test.ts receives spans as a collector does.
  'helm/checks/traces.e2e.test.ts',
  // Builds a collector and a store of logs. With every change, log-lines.e2e.test.ts checks each line of such a run.
  'helm/checks/collectors.e2e.test.ts',
  // Fetches OpenSearch. The schema of lines and what Filebeat is told of it seldom change.
  'helm/checks/log-index.e2e.test.ts',
]

interface SuiteResult extends TestCounts {
  readonly title: string
  readonly files: number
  readonly elapsedMs: number
  /** Why it failed, other than failed tests. */
  readonly fault: string | undefined
  /** Nothing is wrong but its time. */
  readonly isOnlySlow: boolean
  readonly failures: readonly string[]
  readonly skips: readonly string[]
  readonly lcov: string
}

async function runSuite(
  title: string,
  suite: SuiteName,
  files: readonly string[],
  brokers: string | undefined,
  options: { coverage: boolean },
): Promise<SuiteResult> {
  const { testTimeoutMs, suiteMs, killAfterMs, processes } = limits[suite]
  const beganMs = performance.now()
  const output = await mkdtemp(join(tmpdir(), 'kafkatrace-test-'))
  const report = join(output, 'junit.xml')
  console.log(paint('bold', `\n${title}: ${files.length} files`))
  const coverage = options.coverage ? ['--coverage', '--coverage-reporter=lcov', `--coverage-dir=${output}`] : []
  const child = spawnBoundChild(
    [
      process.execPath,
      'test',
      // People watch slow tests run, so each result is printed. Of quick tests, only failures are.
      ...(suite === 'unit' ? ['--only-failures'] : []),
      `--parallel=${processes}`,
      '--no-isolate',
      `--timeout=${testTimeoutMs}`,
      '--reporter=junit',
      `--reporter-outfile=${report}`,
      ...coverage,
      ...files.map((file) => `./${file}`),
    ],
    {
      stdout: 'inherit',
      stderr: 'inherit',
      env: { ...process.env, ...(brokers !== undefined && { [brokersVariable]: brokers }) },
      removeWhenOrphaned: output,
    },
  )
  const idleBeforeMs = idleMs()
  const timer = setTimeout(() => child.kill('SIGKILL'), killAfterMs)
  const exitCode = await child.exited
  clearTimeout(timer)
  const elapsedMs = performance.now() - beganMs
  const reportFile = Bun.file(report)
  const junit = (await reportFile.exists()) ? await reportFile.text() : ''
  const counts = counted(junit)
  const lcovFile = Bun.file(join(output, 'lcov.info'))
  const lcov = (await lcovFile.exists()) ? await lcovFile.text() : ''
  await rm(output, { recursive: true, force: true })
  // Processes that other suites start end after them, so that the system does not add their time.
  const ownMs = suite === 'unit' ? Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1_000 : Number.POSITIVE_INFINITY
  const aloneMs = undisturbedMs(elapsedMs, ownMs, idleMs() - idleBeforeMs, availableParallelism())
  const slow = slowness(aloneMs, suiteMs, Boolean(process.env.CI))
  const fault = ((): string | undefined => {
    if (child.signalCode !== null) return `ended by ${child.signalCode}, after ${seconds(elapsedMs)}`
    if (counts.passed + counts.failed === 0) return 'ran no test'
    if (counts.skipped > 0 && process.env.CI) return `${counts.skipped} skipped`
    if (exitCode !== 0 && counts.failed === 0) return `bun test exited with ${exitCode}`
    return process.env.CI ? slow : undefined
  })()
  const isOnlySlow = fault !== undefined && fault === slow && counts.failed === 0
  if (slow !== undefined) console.log(paint('yellow', `${title}: ${slow}`))
  return {
    ...counts,
    title,
    files: files.length,
    elapsedMs,
    fault,
    isOnlySlow,
    failures: failedTests(junit),
    skips: skippedTests(junit),
    lcov,
  }
}

/** Time that no process used, of all cores together. */
const idleMs = (): number => cpus().reduce((sum, { times }) => sum + times.idle, 0)

/** Like {@link runSuite}. Unit tests that were too slow are run once more: on a machine whose speed varies, the faster of two runs counts. */
async function runJudged(...given: Parameters<typeof runSuite>): Promise<SuiteResult> {
  const first = await runSuite(...given)
  if (given[1] !== 'unit' || !first.isOnlySlow) return first
  console.log('unit: once more, since the faster of two runs counts')
  return runSuite(...given)
}

/** The result of a suite that could not start. */
const notRun = (title: string, fault: string): SuiteResult => ({
  title,
  files: 0,
  elapsedMs: 0,
  isOnlySlow: false,
  passed: 0,
  failed: 0,
  skipped: 0,
  fault,
  failures: [],
  skips: [],
  lcov: '',
})

const scan = (pattern: string): string[] => [...new Bun.Glob(pattern).scanSync(root)].sort()

/** Prints the coverage. @returns why it is not enough, or undefined */
async function judgeCoverage(lcovFiles: readonly string[]): Promise<string | undefined> {
  const sources = scan('{producer,consumer,shared,bench}/**/*.ts')
  const leftOut = notCounted.flatMap(({ files }) => files)
  const gone = leftOut.filter((file) => !sources.includes(file))
  const files = sources.filter(
    (file) => !file.endsWith('.test.ts') && !file.startsWith('shared/testing/') && !leftOut.includes(file),
  )
  const texts = new Map(
    await Promise.all(files.map(async (file) => [file, await Bun.file(join(root, file)).text()] as const)),
  )
  const rows = coverageOf(mergeLcov(lcovFiles), files, (file) => linesThatRun(texts.get(file) ?? ''))
  const percent = percentCovered(rows)
  console.log(
    `\ncoverage: ${percent.toFixed(1)} % of the lines of ${rows.length} files, at least ${leastCoveragePercent} % wanted`,
  )
  for (const { file, lines, covered } of rows.slice(0, filesShown))
    if (covered < lines)
      console.log(`  ${String(lines - covered).padStart(4)} of ${String(lines).padStart(4)} not reached  ${file}`)
  console.log('  not counted: tests and shared/testing')
  for (const { why, files } of notCounted) console.log(`  not counted, ${why}: ${files.join(', ')}`)
  if (gone.length > 0) return `left out of coverage in shared/dev/test.ts, and not there: ${gone.join(', ')}`
  if (percent < leastCoveragePercent) return `less than ${leastCoveragePercent} %`
  return undefined
}

function printTable(results: readonly SuiteResult[]): void {
  console.log(`\n${'suite'.padEnd(24)}${'files'.padStart(6)}${'passed'.padStart(8)}${'failed'.padStart(8)}      time`)
  for (const { title, files, passed, failed, fault, elapsedMs } of results) {
    const row = `${title.padEnd(24)}${String(files).padStart(6)}${String(passed).padStart(8)}${String(failed).padStart(8)}${seconds(elapsedMs).padStart(10)}`
    console.log(failed > 0 || fault ? paint('red', `${row}  ${fault ?? ''}`) : row)
  }
}

/** Skipped and failed tests by name, at the end: the output of a failed test may be thousands of lines above. */
function printFailures(results: readonly SuiteResult[], coverageFault: string | undefined): void {
  const failures = results.flatMap(({ title, fault, failures }) =>
    fault === undefined ? failures : [...failures, `${title}: ${fault}`],
  )
  if (coverageFault !== undefined) failures.push(`coverage: ${coverageFault}`)
  console.log()
  for (const one of results.flatMap(({ skips }) => skips)) console.log(`${paint('yellow', 'SKIPPED')} ${one}`)
  for (const one of failures) console.log(`${paint('red', 'FAILED')}  ${one}`)
}

async function main(): Promise<number> {
  const { values, positionals } = parseCommandLine(help, {
    allowPositionals: true,
    options: {
      unit: { type: 'boolean', default: false },
      integration: { type: 'boolean', default: false },
      e2e: { type: 'boolean', default: false },
      nightly: { type: 'boolean', default: false },
    },
  })
  const all = !values.unit && !values.integration && !values.e2e
  const complete = all && positionals.length === 0 && !values.nightly
  const found = scan('{producer,consumer,shared,bench,helm}/**/*.test.ts').filter((file) =>
    positionals.length === 0
      ? nightly.includes(file) === values.nightly
      : positionals.some((part) => file.includes(part)) && (!values.nightly || nightly.includes(file)),
  )
  const gone = nightly.filter((file) => !existsSync(join(root, file)))
  if (gone.length > 0) refuse(`named in shared/dev/test.ts as nightly, and not there: ${gone.join(', ')}`, help)
  const filesOf = sortBySuite(found)
  const chosen = (['unit', 'integration', 'e2e'] as const).filter(
    (suite) => (all || values[suite]) && filesOf[suite].length > 0,
  )
  if (chosen.length === 0) refuse('no test file is named by these arguments', help)

  const beganMs = performance.now()
  const results: SuiteResult[] = []
  /** @returns undefined when it is not available, which counts as a failure */
  const started = async (
    title: string,
    start: (say: (progress: string) => void) => Promise<Broker>,
  ): Promise<Broker | undefined> => {
    try {
      return await step(title, start)
    } catch (error) {
      if (!(error instanceof BrokerUnavailableError)) throw error
      results.push(notRun(title, error.message))
      return undefined
    }
  }
  let broker: Broker | undefined
  try {
    for (const suite of chosen) {
      let brokers = process.env[brokersVariable]
      if (suite !== 'unit' && !brokers) {
        broker ??= await started('Apache Kafka', async (say) => {
          await archiveClasses(say)
          return startKafka({ say })
        })
        if (broker === undefined) break
        brokers = broker.bootstrapServers
      }
      results.push(await runJudged(suite, suite, filesOf[suite], brokers, { coverage: complete }))
      if (suite === 'integration' && broker !== undefined && (await dockerAnswers())) {
        const redpanda = await started('Redpanda', startRedpanda)
        if (redpanda === undefined) continue
        try {
          results.push(
            await runSuite('integration on Redpanda', suite, filesOf[suite], redpanda.bootstrapServers, {
              coverage: complete,
            }),
          )
        } finally {
          await redpanda.stop()
        }
      }
    }
  } finally {
    await broker?.stop()
  }

  const isWhole = complete && results.every(({ files }) => files > 0)
  const coverageFault = isWhole ? await judgeCoverage(results.map((result) => result.lcov)) : undefined
  printTable(results)
  printFailures(results, coverageFault)
  const passed = results.reduce((sum, result) => sum + result.passed, 0)
  const faults = results.filter(({ fault }) => fault !== undefined).length + (coverageFault === undefined ? 0 : 1)
  const failed = results.reduce((sum, result) => sum + result.failed, 0) + faults
  console.log(`in ${seconds(performance.now() - beganMs)} on ${availableParallelism()} cores`)
  console.log(`${passed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

// Child processes are bound to this process and end with it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130))

process.exit(await main())
