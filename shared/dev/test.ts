/** `bun run test`: every suite, a broker for those that need one, and the coverage of all of them together. See `--help`. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BrokerUnavailableError } from '../kafka/brokers/broker.ts'
import { startKafka } from '../kafka/brokers/kafka.ts'
import { spawnBoundChild } from './bound-child.ts'
import { addLcov, type Coverage, linesThatRun, percentage, summarise } from './coverage.ts'

const help = `Runs the tests, with coverage.

  bun run test [--unit] [--integration] [--e2e] [PATH…]

  --unit          *.test.ts: no broker, fast
  --integration   *.integration.test.ts: against an Apache Kafka that is started for them
  --e2e           *.e2e.test.ts: real processes, killed and started again
                  Without any of these: all of them, in this order.
  PATH…           only test files whose path contains one of these texts
  --help          this text

KAFKATRACE_TEST_BROKERS=host:port uses a broker that runs already instead of starting one.
The exit code is 0 when every test passed and, in a run of everything, coverage is high enough.
`

const root = join(import.meta.dir, '../..')
const coverageFolder = join(root, 'coverage')
const sourceFolders = ['producer', 'consumer', 'shared', 'bench']

const leastCoverage = 90
const worstFilesShown = 10

/**
 * Sources that do not count for coverage, and why. Bun measures the process that runs the tests and no other, so what only ever runs as a
 * process of its own looks as if nothing had tested it.
 */
const notCounted: readonly { readonly why: string; readonly files: readonly string[] }[] = [
  {
    why: 'wiring of a process, which the end-to-end tests start, kill and judge from outside',
    files: ['producer/main.ts', 'consumer/main.ts', 'shared/kafka/brokers/embedded-cluster.ts'],
  },
  { why: 'loaded by the consumer of the fault runs, in its process', files: ['bench/faults/handlers.ts'] },
  {
    why: 'a command: what it decides is in modules that count; a run of it is its test',
    files: [
      'shared/dev/setup.ts',
      'shared/dev/dev.ts',
      'shared/dev/test.ts',
      'shared/dev/verify.ts',
      'shared/dev/doctor.ts',
      'shared/dev/config-reference.ts',
      'shared/kafka/brokers/main.ts',
      'shared/kafka/native/build.ts',
      'shared/kafka/native/soak.ts',
      'bench/faults/main.ts',
    ],
  },
]

interface Suite {
  readonly name: 'unit' | 'integration' | 'e2e'
  readonly pattern: string
  readonly needsBroker: boolean
  /** Longer than this is a failure. */
  readonly mostMs: number
  /** After this the suite is ended, as it would not end by itself. */
  readonly cutOffMs: number
  /** For tests that do not say how long they may take. */
  readonly testTimeoutMs: number
}

const suites: readonly Suite[] = [
  {
    name: 'unit',
    pattern: '.test.ts',
    needsBroker: false,
    mostMs: 30_000,
    cutOffMs: 120_000,
    testTimeoutMs: 5_000,
  },
  {
    name: 'integration',
    pattern: '.integration.test.ts',
    needsBroker: true,
    mostMs: 300_000,
    cutOffMs: 300_000,
    testTimeoutMs: 60_000,
  },
  {
    name: 'e2e',
    pattern: '.e2e.test.ts',
    needsBroker: true,
    mostMs: 600_000,
    cutOffMs: 600_000,
    testTimeoutMs: 180_000,
  },
]

interface Result {
  readonly suite: string
  readonly files: number
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly elapsedMs: number
  /** What is wrong with the suite itself; each counts as a failure. */
  readonly faults: readonly string[]
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        unit: { type: 'boolean', default: false },
        integration: { type: 'boolean', default: false },
        e2e: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`)
    process.exit(2)
  }
}

const suiteOf = (file: string): Suite['name'] =>
  file.endsWith('.e2e.test.ts') ? 'e2e' : file.endsWith('.integration.test.ts') ? 'integration' : 'unit'

/** TypeScript of the project, paths from its root. */
function sources(): string[] {
  const glob = new Bun.Glob(`{${sourceFolders.join(',')}}/**/*.ts`)
  return [...glob.scanSync({ cwd: root })].filter((file) => !file.includes('node_modules/')).sort()
}

async function runSuite(suite: Suite, files: readonly string[], brokers: string | undefined): Promise<Result> {
  const folder = join(coverageFolder, suite.name)
  const report = join(folder, 'junit.xml')
  console.error(`\n── ${suite.name}: ${files.length} files`)
  const begun = performance.now()
  const child = spawnBoundChild(
    [
      process.execPath,
      'test',
      ...(suite.name === 'unit' ? ['--only-failures'] : []),
      `--timeout=${suite.testTimeoutMs}`,
      '--coverage',
      '--coverage-reporter=lcov',
      `--coverage-dir=${folder}`,
      '--reporter=junit',
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ],
    {
      stdout: 'inherit',
      stderr: 'inherit',
      env: { ...process.env, ...(brokers === undefined ? {} : { KAFKATRACE_TEST_BROKERS: brokers }) },
    },
  )
  const cutOff = setTimeout(() => child.kill('SIGKILL'), suite.cutOffMs)
  const exitCode = await child.exited
  clearTimeout(cutOff)
  const elapsedMs = performance.now() - begun
  const counts = await countsOf(report)
  const faults: string[] = []
  if (child.signalCode !== null) faults.push(`ended by ${child.signalCode} after ${seconds(elapsedMs)}`)
  if (counts.passed + counts.failed === 0) faults.push(`${files.length} files, and not one test ran`)
  else if (exitCode !== 0 && counts.failed === 0) faults.push(`exited with ${exitCode}, though no test failed`)
  if (elapsedMs > suite.mostMs) faults.push(`took ${seconds(elapsedMs)}, more than ${seconds(suite.mostMs)}`)
  return { suite: suite.name, files: files.length, ...counts, elapsedMs, faults }
}

/** Bun writes the report when all has run: without it, the suite did not come to its end. */
async function countsOf(report: string): Promise<{ passed: number; failed: number; skipped: number }> {
  const file = Bun.file(report)
  const head = (await file.exists()) ? /<testsuites [^>]*>/.exec(await file.text())?.[0] : undefined
  const count = (name: string): number => Number(new RegExp(` ${name}="(\\d+)"`).exec(head ?? '')?.[1] ?? 0)
  const [failed, skipped] = [count('failures'), count('skipped')]
  return { passed: count('tests') - failed - skipped, failed, skipped }
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** Prints the coverage of all suites together and returns what is wrong with it. */
function judgeCoverage(all: readonly string[]): string[] {
  const faults: string[] = []
  const excluded = notCounted.flatMap(({ files }) => files)
  for (const file of excluded) if (!all.includes(file)) faults.push(`${file} does not count for coverage, nor is it there`)
  const counted = all.filter(
    (file) => !file.endsWith('.test.ts') && !file.startsWith('shared/testing/') && !excluded.includes(file),
  )
  const coverage: Coverage = new Map()
  for (const { name } of suites) {
    const lcov = join(coverageFolder, name, 'lcov.info')
    try {
      addLcov(coverage, readFileSync(lcov, 'utf8'))
    } catch (error) {
      // A suite without files leaves none.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  const rows = summarise(coverage, counted, (file) => linesThatRun(readFileSync(join(root, file), 'utf8')))
  const share = percentage(rows)
  console.error('\n── coverage: lines that no suite ran')
  for (const row of rows.filter(({ lines, covered }) => covered < lines).slice(0, worstFilesShown))
    console.error(`${String(row.lines - row.covered).padStart(6)} of ${String(row.lines).padEnd(5)} ${row.file}`)
  for (const { why, files } of notCounted) console.error(`not counted, ${why}: ${files.join(', ')}`)
  console.error('not counted: *.test.ts, shared/testing/')
  console.error(`${share.toFixed(1)} % of the lines of ${rows.length} files`)
  if (share < leastCoverage) faults.push(`${share.toFixed(1)} % of lines are covered, less than ${leastCoverage} %`)
  return faults
}

function printTable(results: readonly Result[]): void {
  const row = (cells: readonly (string | number)[]): string =>
    cells.map((cell, column) => (column === 0 ? String(cell).padEnd(12) : String(cell).padStart(9))).join('')
  console.error(`\n${row(['suite', 'files', 'passed', 'failed', 'skipped', 'time'])}`)
  for (const { suite, files, passed, failed, skipped, elapsedMs, faults } of results) {
    console.error(row([suite, files, passed, failed, skipped, seconds(elapsedMs)]))
    for (const fault of faults) console.error(`  ${suite}: ${fault}`)
  }
}

const { values, positionals } = parse()
if (values.help) {
  console.log(help)
  process.exit(0)
}
const asked = suites.filter(({ name }) => values[name])
const all = sources()
const tests = all.filter((file) => file.endsWith('.test.ts'))
const chosen = tests.filter((file) => positionals.length === 0 || positionals.some((text) => file.includes(text)))
const planned = (asked.length > 0 ? asked : suites).flatMap((suite) => {
  const files = chosen.filter((file) => suiteOf(file) === suite.name)
  return files.length > 0 ? [{ suite, files }] : []
})
if (planned.length === 0) {
  console.error('no test file is chosen by these arguments\n0 passed, 0 failed')
  process.exit(2)
}

rmSync(coverageFolder, { recursive: true, force: true })
mkdirSync(coverageFolder, { recursive: true })
const results: Result[] = []
let broker: { bootstrapServers: string; stop(): Promise<void> } | undefined
try {
  for (const { suite, files } of planned) {
    let brokers = process.env.KAFKATRACE_TEST_BROKERS
    if (suite.needsBroker && !brokers) {
      broker ??= await startKafka({ say: (progress) => console.error(`kafka: ${progress}`) })
      brokers = broker.bootstrapServers
    }
    results.push(await runSuite(suite, files, brokers))
  }
} catch (error) {
  if (!(error instanceof BrokerUnavailableError)) throw error
  results.push({ suite: 'broker', files: 0, passed: 0, failed: 0, skipped: 0, elapsedMs: 0, faults: [error.message] })
} finally {
  await broker?.stop()
}
if (asked.length === 0 && positionals.length === 0) {
  const faults = judgeCoverage(all)
  results.push({
    suite: 'coverage',
    files: 0,
    passed: faults.length === 0 ? 1 : 0,
    failed: 0,
    skipped: 0,
    elapsedMs: 0,
    faults,
  })
}
printTable(results)
const passed = results.reduce((sum, one) => sum + one.passed, 0)
const failed = results.reduce((sum, one) => sum + one.failed + one.faults.length, 0)
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
