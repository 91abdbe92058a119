/** `bun run test`: unit, integration and end-to-end tests, one Apache Kafka for all that need a broker, coverage over all. */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type Broker, BrokerUnavailableError } from '../kafka/brokers/broker.ts'
import { startKafka } from '../kafka/brokers/kafka.ts'
import { dockerAnswers, startRedpanda } from '../kafka/brokers/redpanda.ts'
import { endBoundChild, spawnBoundChild } from './bound-child.ts'
import { type Coverage, leastCovered, mergeLcov, summarise } from './coverage.ts'
import { paint, seconds, step } from './progress.ts'
import { counted, type SuiteName, sortBySuite, type TestCounts } from './suites.ts'

const root = resolve(import.meta.dir, '..', '..')
const coverageThresholdPercent = 90
const filesShown = 10
const endGraceMs = 5_000

/** Where integration and e2e suites find the broker: `host:port`. */
const brokersVariable = 'KAFKATRACE_TEST_BROKERS'

const help = `Runs the tests: bun run test [--unit] [--integration] [--e2e] [PATH…]

  --unit          *.test.ts              no broker
  --integration   *.integration.test.ts  on an Apache Kafka that is started for it (and again on Redpanda where Docker answers)
  --e2e           *.e2e.test.ts          real processes, killed on purpose
  PATH            only test files whose path contains this

Without options all of them, with coverage: at least ${coverageThresholdPercent} % of the lines.
`

/** The most time for a test and for a suite; a suite that takes longer is killed and has failed. */
const limits: Record<SuiteName, { testTimeoutMs: number; suiteTimeoutMs: number; broker: boolean }> = {
  unit: { testTimeoutMs: 10_000, suiteTimeoutMs: 120_000, broker: false },
  integration: { testTimeoutMs: 60_000, suiteTimeoutMs: 420_000, broker: true },
  e2e: { testTimeoutMs: 300_000, suiteTimeoutMs: 900_000, broker: true },
}

interface SuiteResult extends TestCounts {
  readonly title: string
  readonly files: number
  readonly elapsedMs: number
  /** Why it failed apart from failed tests. */
  readonly fault: string | undefined
  readonly lcov: string
}

async function runSuite(
  title: string,
  suite: SuiteName,
  files: readonly string[],
  broker: Broker | undefined,
  options: { coverage: boolean },
): Promise<SuiteResult> {
  const { testTimeoutMs, suiteTimeoutMs } = limits[suite]
  const beganMs = performance.now()
  const output = await mkdtemp(join(tmpdir(), 'kafkatrace-test-'))
  const report = join(output, 'junit.xml')
  console.log(paint('bold', `\n${title}: ${files.length} files`))
  const coverage = options.coverage ? ['--coverage', '--coverage-reporter=lcov', `--coverage-dir=${output}`] : []
  const child = spawnBoundChild(
    [
      process.execPath,
      'test',
      `--timeout=${testTimeoutMs}`,
      '--reporter=junit',
      `--reporter-outfile=${report}`,
      ...coverage,
      ...files.map((file) => `./${file}`),
    ],
    {
      stdout: 'inherit',
      stderr: 'inherit',
      env: { ...process.env, ...(broker && { [brokersVariable]: broker.bootstrapServers }) },
    },
  )
  running = child
  let late = false
  const timer = setTimeout(() => {
    late = true
    void endBoundChild(child, endGraceMs)
  }, suiteTimeoutMs)
  const exitCode = await child.exited
  clearTimeout(timer)
  running = undefined
  const reportFile = Bun.file(report)
  const counts = counted((await reportFile.exists()) ? await reportFile.text() : '')
  const lcovFile = Bun.file(join(output, 'lcov.info'))
  const lcov = (await lcovFile.exists()) ? await lcovFile.text() : ''
  await rm(output, { recursive: true, force: true })
  const fault = late
    ? `killed after ${seconds(suiteTimeoutMs)}`
    : counts.passed + counts.failed === 0
      ? 'ran no test'
      : counts.skipped > 0
        ? `${counts.skipped} skipped`
        : exitCode !== 0 && counts.failed === 0
          ? `bun test exited with ${exitCode}`
          : undefined
  return { ...counts, title, files: files.length, elapsedMs: performance.now() - beganMs, fault, lcov }
}

let running: ReturnType<typeof spawnBoundChild> | undefined

async function productFiles(): Promise<string[]> {
  const files: string[] = []
  for (const folder of ['producer', 'consumer', 'shared']) {
    for await (const file of new Bun.Glob(`${folder}/**/*.ts`).scan(root)) {
      if (!file.endsWith('.test.ts')) files.push(file)
    }
  }
  return files
}

/** Prints the coverage and returns whether it is enough. Files that run in processes of their own cannot be counted, so they are named. */
async function reportCoverage(coverage: Coverage): Promise<boolean> {
  const { lines, covered, percent } = summarise(coverage)
  const enough = percent >= coverageThresholdPercent
  const unseen = (await productFiles()).filter((file) => !coverage.has(file))
  console.log(
    `\ncoverage: ${percent.toFixed(1)} % of lines (${covered} of ${lines}), at least ${coverageThresholdPercent} % wanted`,
  )
  for (const { file, percent: of } of leastCovered(coverage, coverageThresholdPercent).slice(0, filesShown)) {
    console.log(`  ${of.toFixed(1).padStart(5)} %  ${file}`)
  }
  if (unseen.length > 0) console.log(`  not loaded by the test processes themselves: ${unseen.join(', ')}`)
  return enough
}

function printTable(results: readonly SuiteResult[]): void {
  console.log(`\n${'suite'.padEnd(24)}${'files'.padStart(6)}${'passed'.padStart(8)}${'failed'.padStart(8)}      time`)
  for (const { title, files, passed, failed, fault, elapsedMs } of results) {
    const row = `${title.padEnd(24)}${String(files).padStart(6)}${String(passed).padStart(8)}${String(failed).padStart(8)}${seconds(elapsedMs).padStart(10)}`
    console.log(failed > 0 || fault ? paint('red', `${row}  ${fault ?? ''}`) : row)
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      unit: { type: 'boolean', default: false },
      integration: { type: 'boolean', default: false },
      e2e: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const all = !values.unit && !values.integration && !values.e2e
  const wanted = (['unit', 'integration', 'e2e'] as const).filter((suite) => all || values[suite])
  const complete = all && positionals.length === 0
  const found: string[] = []
  for await (const file of new Bun.Glob('{producer,consumer,shared,bench,helm}/**/*.test.ts').scan(root)) {
    if (positionals.length === 0 || positionals.some((part) => file.includes(part))) found.push(file)
  }
  const filesOf = sortBySuite(found)
  const chosen = wanted.filter((suite) => positionals.length === 0 || filesOf[suite].length > 0)
  if (chosen.length === 0) {
    console.error(`no test file matches ${positionals.join(' or ')}`)
    return 1
  }

  const beganMs = performance.now()
  const results: SuiteResult[] = []
  let broker: Broker | undefined
  try {
    for (const suite of chosen) {
      if (filesOf[suite].length === 0) {
        results.push({
          title: suite,
          files: 0,
          passed: 0,
          failed: 0,
          skipped: 0,
          elapsedMs: 0,
          fault: 'no files',
          lcov: '',
        })
        continue
      }
      if (limits[suite].broker) broker ??= await step('Apache Kafka', (say) => startKafka({ say }))
      results.push(await runSuite(suite, suite, filesOf[suite], broker, { coverage: complete }))
      if (suite === 'integration' && (await dockerAnswers())) {
        const redpanda = await step('Redpanda', (say) => startRedpanda(say))
        try {
          results.push(
            await runSuite('integration on Redpanda', suite, filesOf[suite], redpanda, { coverage: complete }),
          )
        } finally {
          await redpanda.stop()
        }
      }
    }
  } finally {
    await broker?.stop()
  }

  printTable(results)
  const covered = !complete || (await reportCoverage(mergeLcov(results.map((result) => result.lcov))))
  if (!covered) console.log(paint('red', 'coverage is too low'))
  const passed = results.reduce((sum, result) => sum + result.passed, 0)
  const failed =
    results.reduce((sum, result) => sum + result.failed + (result.fault === undefined ? 0 : 1), 0) + (covered ? 0 : 1)
  console.log(`\nin ${seconds(performance.now() - beganMs)} on ${availableParallelism()} cores`)
  console.log(`${passed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The broker and the suite are bound to this process: they end with it.
    if (running !== undefined) running.kill('SIGTERM')
    process.exit(130)
  })
}

try {
  process.exit(await main())
} catch (error) {
  if (!(error instanceof BrokerUnavailableError) && !(error instanceof TypeError && 'code' in error)) throw error
  console.error(error.message)
  process.exit(1)
}
