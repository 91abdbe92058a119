/**
 * `bun run native:try`: tests the Kafka client's native addon with another version of Bun or of the client. Works in a copy and changes nothing
 * in the checkout. docs/upgrading.md says what to do about the result.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseCommandLine } from '../service/command-line.ts'
import { paint } from '../service/terminal.ts'
import { type BoundChild, spawnBoundChild } from './bound-child.ts'
import { seconds } from './progress.ts'
import { lastLines } from './run.ts'

const root = resolve(import.meta.dir, '..', '..')
const CLIENT = '@confluentinc/kafka-javascript'

const HELP = `Tries the native addon with another Bun, or another version of the Kafka client, in a copy of the checkout.

Usage: bun run native:try [--bun VERSION] [--client VERSION]

  --bun VERSION      a version of npm's package bun (default: the one of package.json)
  --client VERSION   a version of npm's package ${CLIENT} (default: the one of package.json)
  --help             this text

Builds the addon, runs the tests of shared/kafka/native and of packed records (including those under continuous garbage collection) on an Apache Kafka that it
starts, and produces and consumes ${(300_000).toLocaleString('en')} records while it watches the memory. Takes some ten minutes on two cores.

Exits 0 when all of it passed, 1 when something broke, which is shown, and 64 on wrong arguments.
`

const SOAK_RECORDS = 300_000

/** What the addon's tests and the soak need. */
const COPIED = ['shared', 'package.json', 'bun.lock', 'bunfig.toml', 'tsconfig.json']

interface Project {
  packageManager: string
  engines: { bun: string }
  dependencies: Record<string, string>
}

interface Step {
  readonly name: string
  readonly command: readonly string[]
  readonly cwd: string
  readonly timeoutMs: number
  /** When it fails, the following steps are skipped. */
  readonly isNeeded: boolean
}

/** package.json with these versions in place of its own. */
export function withVersions(text: string, versions: { bun: string; client: string }): string {
  const project = JSON.parse(text) as Project
  project.packageManager = `bun@${versions.bun}`
  project.engines.bun = versions.bun
  project.dependencies[CLIENT] = versions.client
  return `${JSON.stringify(project, null, 2)}\n`
}

function stepsIn(scratch: string, versions: { bun: string; client: string }): Step[] {
  const [runtime, copy] = [join(scratch, 'runtime'), join(scratch, 'copy')]
  const bun = join(runtime, 'node_modules/.bin/bun')
  mkdirSync(runtime)
  // The package's install script picks the executable for this processor.
  const only = { private: true, dependencies: { bun: versions.bun }, trustedDependencies: ['bun'] }
  writeFileSync(join(runtime, 'package.json'), JSON.stringify(only))
  for (const path of COPIED) cpSync(join(root, path), join(copy, path), { recursive: true })
  writeFileSync(join(copy, 'package.json'), withVersions(readFileSync(join(copy, 'package.json'), 'utf8'), versions))
  const minutes = (count: number): number => count * 60_000
  return [
    {
      name: `Bun ${versions.bun}`,
      command: [process.execPath, 'install', '--no-save'],
      cwd: runtime,
      timeoutMs: minutes(10),
      isNeeded: true,
    },
    {
      name: `dependencies, with client ${versions.client}`,
      command: [process.execPath, 'install', '--ignore-scripts'],
      cwd: copy,
      timeoutMs: minutes(10),
      isNeeded: true,
    },
    {
      name: 'build',
      command: [bun, 'shared/kafka/native/build.ts'],
      cwd: copy,
      timeoutMs: minutes(60),
      isNeeded: true,
    },
    {
      name: 'native tests',
      command: [bun, 'shared/dev/test.ts', '--unit', '--integration', 'shared/kafka/native', 'shared/kafka/packed'],
      cwd: copy,
      timeoutMs: minutes(30),
      isNeeded: false,
    },
    {
      name: `${SOAK_RECORDS.toLocaleString('en')} records`,
      command: [bun, 'shared/dev/soak.ts', '--messages', String(SOAK_RECORDS)],
      cwd: copy,
      timeoutMs: minutes(10),
      isNeeded: false,
    },
  ]
}

/** The child of the current step, and whether a signal has asked us to end. */
let running: BoundChild | undefined
let isStopped = false

/** Runs a step. @returns its output, and whether it passed */
async function run(
  { name, command, cwd, timeoutMs }: Step,
  scratch: string,
): Promise<{ passed: boolean; log: string }> {
  const beganMs = performance.now()
  const log = join(scratch, 'log')
  writeFileSync(log, '')
  const output = Bun.file(log)
  // No release has an addon for these versions.
  const env = { ...process.env, KAFKATRACE_ADDON_URL: '' }
  const child = spawnBoundChild(command, { stdout: output, stderr: output, env, cwd, removeWhenOrphaned: scratch })
  running = child
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const passed = (await child.exited) === 0
  clearTimeout(timer)
  running = undefined
  const elapsed = seconds(performance.now() - beganMs)
  console.log(`${passed ? 'ok    ' : paint('red', 'FAILED')}  ${name.padEnd(40)} ${elapsed}`)
  return { passed, log: readFileSync(log, 'utf8') }
}

async function attempt(versions: { bun: string; client: string }): Promise<boolean> {
  const scratch = mkdtempSync(join(tmpdir(), 'kafkatrace-native-try-'))
  let isGood = true
  try {
    for (const step of stepsIn(scratch, versions)) {
      const { passed, log } = await run(step, scratch)
      if (isStopped) return false
      if (passed) continue
      isGood = false
      console.log(`${lastLines(log)}\n`)
      if (step.isNeeded) break
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return isGood
}

if (import.meta.main) {
  const { values: given } = parseCommandLine(HELP, { options: { bun: { type: 'string' }, client: { type: 'string' } } })
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Project
  const bun = given.bun ?? own.engines.bun
  const client = given.client ?? (own.dependencies[CLIENT] as string)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      isStopped = true
      running?.kill()
    })
  const isGood = await attempt({ bun, client })
  console.log(`\nBun ${bun} with client ${client}: ${isGood ? 'passed' : isStopped ? 'stopped' : 'failed'}`)
  process.exit(isGood ? 0 : 1)
}
