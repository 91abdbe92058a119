/**
 * `bun shared/dev/client-suite.ts FOLDER`: the Kafka client's own tests, on Bun with our addon beside Node with the client's own, on an Apache Kafka. FOLDER is a
 * checkout of the client's repository with its dependencies installed. Tests that pass on Node have to pass on Bun, and client-suite.json lists the other
 * differences with their reasons. The tests of `test/promisified` are left out: jest cannot load the addon on Bun, where the `bindings` package fails.
 */
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ADDON_FILE, INSTALLED } from '../kafka/native/check.ts'
import { parseCommandLine, refuse } from '../service/command-line.ts'
import { spawnBoundChild } from './bound-child.ts'
import { startKafka } from './brokers/kafka.ts'
import { step } from './progress.ts'

const EXPECTED = join(import.meta.dir, '../kafka/native/client-suite.json')

/** The client's files of tests, and how its own Makefile runs each kind. */
const KINDS = [
  { folder: 'test', options: ['--ui', 'exports'] },
  { folder: 'test/producer', options: ['--ui', 'exports'] },
  { folder: 'test/tools', options: ['--ui', 'exports'] },
  { folder: 'e2e', options: ['--timeout', '120000'] },
] as const

/** A file that hangs, or that ends its process, counts as one failed test. */
const FILE_TIMEOUT_MS = 600_000

type Ends = Map<string, 'passed' | 'failed'>

/** What ended differently: its name, and how it ended on Bun. */
export type Differences = Readonly<Record<string, 'passed' | 'failed' | 'not run'>>

interface Test {
  fullTitle: string
  err: { message?: string }
}

/** @param report what mocha's reporter "json" wrote; undefined where the process ended before it did */
export function endsOf(file: string, report: string | undefined): Ends {
  const json = report?.slice(report.indexOf('{\n  "stats"'))
  try {
    const { tests } = JSON.parse(json ?? '') as { tests: Test[] }
    return new Map(
      tests.map(({ fullTitle, err }) => [`${file}: ${fullTitle}`, Object.keys(err).length > 0 ? 'failed' : 'passed']),
    )
  } catch {
    return new Map([[`${file}: the process`, 'failed']])
  }
}

export function differences(node: Ends, bun: Ends): Differences {
  const names = [...new Set([...node.keys(), ...bun.keys()])].sort()
  return Object.fromEntries(
    names.flatMap((name) => (node.get(name) === bun.get(name) ? [] : [[name, bun.get(name) ?? 'not run'] as const])),
  )
}

async function run(runtime: readonly string[], folder: string, brokers: string): Promise<Ends> {
  const ends: Ends = new Map()
  for (const { folder: kind, options } of KINDS)
    for (const name of readdirSync(join(folder, kind)).filter((one) => one.endsWith('.spec.js'))) {
      const file = `${kind}/${name}`
      const mocha = ['node_modules/mocha/bin/mocha.js', '--exit', '--reporter', 'json', ...options, file]
      const child = spawnBoundChild([...runtime, ...mocha], {
        cwd: folder,
        stdout: 'pipe',
        stderr: 'ignore',
        env: { ...process.env, KAFKA_HOST: brokers },
      })
      const timer = setTimeout(() => child.kill('SIGKILL'), FILE_TIMEOUT_MS)
      const report = await child.stdout.text()
      await child.exited
      clearTimeout(timer)
      for (const [test, end] of endsOf(file, report)) ends.set(test, end)
    }
  return ends
}

const passedOf = (ends: Ends): string =>
  `${[...ends.values()].filter((end) => end === 'passed').length} of ${ends.size} passed`

async function main(folder: string): Promise<number> {
  const expected = JSON.parse(readFileSync(EXPECTED, 'utf8')) as Record<string, { onBun: string; why: string }>
  const copy = mkdtempSync(join(tmpdir(), 'kafkatrace-client-suite-'))
  // The tests expect topics of one partition.
  const settings = { 'num.partitions': '1' }
  const broker = await step('Apache Kafka', (say) => startKafka({ say, settings }))
  try {
    cpSync(folder, copy, { recursive: true })
    copyFileSync(join(INSTALLED, ADDON_FILE), join(copy, 'build/Release', ADDON_FILE))
    const node = await step('Node, with the client’s addon', () => run(['node'], folder, broker.bootstrapServers))
    const bun = await step('Bun, with ours', () => run([process.execPath, '--bun'], copy, broker.bootstrapServers))
    console.log(`Node: ${passedOf(node)}; Bun: ${passedOf(bun)}`)
    const found = differences(node, bun)
    // A test that only Node fails says nothing against our addon, and some fail there by chance.
    const unexpected = Object.entries(found).filter(([test, end]) => end !== 'passed' && expected[test]?.onBun !== end)
    const gone = Object.keys(expected).filter((test) => found[test] === undefined)
    for (const [test, end] of unexpected)
      console.log(`unexpected: ${test}: ${end} on Bun, ${node.get(test) ?? 'not run'} on Node`)
    for (const test of gone) console.log(`no difference any more: ${test}`)
    return unexpected.length + gone.length === 0 ? 0 : 1
  } finally {
    await broker.stop()
    rmSync(copy, { recursive: true, force: true })
  }
}

const HELP = 'Usage: bun shared/dev/client-suite.ts FOLDER\n'

if (import.meta.main) {
  const { positionals } = parseCommandLine(HELP, { allowPositionals: true })
  const [folder, ...rest] = positionals
  if (folder === undefined || rest.length > 0) refuse('one FOLDER is needed', HELP)
  process.exit(await main(resolve(folder)))
}
