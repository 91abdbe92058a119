/**
 * `bun shared/dev/setup.ts [COMMAND [ARGUMENT…]]`: sets up what a command needs, and runs it. Checks Bun's version, and installs system packages,
 * the dependencies of bun.lock and the native addon. Without a command (`bun run setup`), what the tests need. Uses nothing but Bun, since nothing is
 * installed yet. Silent and quick when everything is there.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Subprocess } from 'bun'
import { haveAddon, wrongBun } from '../kafka/native/build.ts'
import { cacheFault } from '../kafka/native/cache.ts'
import { refuse } from '../service/command-line.ts'
import { step } from './progress.ts'
import { MissingError, NEEDS, provide } from './requirements.ts'
import { lastLines } from './run.ts'

const root = resolve(import.meta.dir, '..', '..')
const stampFile = join(root, 'node_modules', '.kafkatrace-installed')

/** Identifies an installation. A change of either file causes a new one. */
export function installStamp(packageJson: string, lockFile: string): string {
  return createHash('sha256').update(packageJson).update('\0').update(lockFile).digest('hex')
}

type NeedName = keyof typeof NEEDS

/** Subcommands of bench that only read results or list workloads. */
const BENCH_READS = ['report', 'compare', 'check', '--list']

/**
 * What a command needs on the machine besides the addon.
 * @param command its path in the checkout; undefined: what the tests need
 * @param isCi whether CI is set, where no test may be skipped
 */
export function needsOf(command: string | undefined, args: readonly string[], isCi: boolean): NeedName[] {
  switch (command) {
    case 'shared/dev/dev.ts':
      return args.some((arg, index) => arg === '--broker=kafka' || (arg === 'kafka' && args[index - 1] === '--broker'))
        ? ['kafka']
        : []
    case 'shared/dev/test.ts': {
      const others = args.includes('--integration') || args.includes('--e2e')
      if (args.includes('--unit') && !others) return ['unit']
      return isCi ? ['tests', 'kafka', 'tests in CI'] : ['tests', 'kafka']
    }
    case 'bench/main.ts':
      if (BENCH_READS.includes(args[0] ?? '')) return []
      return args.includes('console-page') ? ['tests', 'kafka', 'tests in CI'] : ['tests', 'kafka']
    case 'bench/fuzz/main.ts':
    case undefined:
      return ['tests', 'kafka']
    case 'shared/dev/verify.ts':
      return ['unit']
    case 'helm/checks/main.ts':
      return ['tests', 'kafka', 'deployment']
    case 'helm/cluster/main.ts':
      return ['tests', 'kafka', 'deployment', 'cluster']
    case 'shared/dev/native-try.ts':
      return ['addon', 'tests', 'kafka']
    case 'shared/dev/screenshots.ts':
      return ['kafka', 'tests in CI']
    case 'shared/dev/check-fresh.ts':
      return ['roots']
    default:
      return []
  }
}

/** Whether a command talks to Kafka; one that does not runs without the addon, as in the CI of others. */
export const needsAddon = (command: string | undefined, args: readonly string[]): boolean =>
  command !== 'shared/schemas/command.ts' || args.some((arg) => arg.startsWith('--stream'))

/** An error message when the folder for temporary files is not writable; undefined when it is. */
export function temporaryFault(folder: string): string | undefined {
  try {
    rmSync(mkdtempSync(join(folder, 'kafkatrace-probe-')), { recursive: true })
    return undefined
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException
    return `the folder for temporary files, ${folder}, cannot be written (${code}); name another with TMPDIR`
  }
}

/** A signal that arrived while a child ran. */
let stoppedBy: NodeJS.Signals | undefined

/** Waits for a child's exit code. Passes signals on to it first, so that nothing keeps running after we end. */
async function endOf(child: Subprocess): Promise<number> {
  const forward = (signal: NodeJS.Signals): void => {
    stoppedBy = signal
    // A terminal's Ctrl-C reaches the child as well, and the child decides how to end.
    if (signal !== 'SIGINT') child.kill(signal)
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, forward)
  try {
    return await child.exited
  } finally {
    for (const signal of signals) process.off(signal, forward)
  }
}

/** Waits for a child that is followed by another step. After a signal this process ends instead. */
async function endOfStep(child: Subprocess): Promise<number> {
  const exitCode = await endOf(child)
  if (stoppedBy !== undefined) process.exit(128 + constants.signals[stoppedBy])
  return exitCode
}

/** The time-out of `bun install`, which has none of its own for a registry that does not answer. */
const DEPENDENCIES_TIMEOUT_MS = 300_000

/** Why `bun install` failed, as far as its output tells, and what to do. */
export const installFault = (said: string): string =>
  /lockfile is frozen/.test(said)
    ? `bun.lock and package.json do not agree. Another Bun than ${Bun.version} may have rewritten bun.lock: git checkout bun.lock. After a change of dependencies: npx -y bun@${Bun.version} install`
    : 'is the npm registry reachable?'

/** @throws MissingError */
async function installDependencies(packageJson: string): Promise<void> {
  const stamp = installStamp(packageJson, readFileSync(join(root, 'bun.lock'), 'utf8'))
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return
  await step('dependencies', async (say) => {
    say('installing them as bun.lock says')
    // No lifecycle scripts: the addon is built later, with progress and explained errors.
    const child = Bun.spawn([process.execPath, 'install', '--frozen-lockfile', '--ignore-scripts'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      child.kill('SIGKILL')
    }, DEPENDENCIES_TIMEOUT_MS)
    const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), endOfStep(child)])
    clearTimeout(timer)
    if (exitCode !== 0) {
      const said = `${output}\n${errors}`
      const why = isLate
        ? `the npm registry did not answer, or too slowly, within ${DEPENDENCIES_TIMEOUT_MS / 1000} s`
        : installFault(said)
      throw new MissingError(`${lastLines(said)}\nthe dependencies could not be installed: ${why}`)
    }
    mkdirSync(join(root, 'node_modules'), { recursive: true })
    writeFileSync(stampFile, stamp)
  })
}

/** Prints to stderr only: standard output belongs to the command that follows, as in `bun run config > file`. */
async function setUp(command: string | undefined, args: readonly string[], mayInstall: boolean): Promise<number> {
  const packageJson = readFileSync(join(root, 'package.json'), 'utf8')
  const { engines } = JSON.parse(packageJson) as { engines: { bun: string } }
  const fault = wrongBun(engines.bun, Bun.version, ['run', process.env.npm_lifecycle_event ?? 'dev', ...args].join(' '))
  if (fault !== undefined) {
    process.stderr.write(`${fault}\n`)
    return 1
  }
  const unwritable = temporaryFault(tmpdir())
  if (unwritable !== undefined) throw new MissingError(unwritable)
  if (args.includes('--help')) {
    try {
      await installDependencies(packageJson)
      return 0
    } catch (error) {
      if (!(error instanceof MissingError)) throw error
      throw new MissingError(
        `${error.message}\n--help needs the dependencies; .github/CONTRIBUTING.md says what each command is for`,
      )
    }
  }
  if (!needsAddon(command, args)) {
    await installDependencies(packageJson)
    return 0
  }
  const unkept = cacheFault()
  if (unkept !== undefined) throw new MissingError(unkept)
  const isFound = await haveAddon()
  const needs = needsOf(command, args, Boolean(process.env.CI)).flatMap((name) => NEEDS[name])
  await provide(isFound ? needs : [...NEEDS.addon, ...needs], mayInstall)
  // With the headers of another library, it is another addon.
  const isAddonThere = isFound && (await haveAddon())
  if (isFound && !isAddonThere) await provide(NEEDS.addon, mayInstall)
  await installDependencies(packageJson)
  const build = Bun.spawn([process.execPath, join(root, 'shared', 'kafka', 'native', 'build.ts')], {
    stdio: ['ignore', 2, 2],
    // haveAddon() has already tried the release.
    env: { ...process.env, ...(isAddonThere ? {} : { KAFKATRACE_ADDON_URL: '' }) },
  })
  return await endOfStep(build)
}

const USAGE = `Sets up what the tests need: bun run setup [OPTION]

  --no-install   install nothing; report what is missing
  --help         this text

Installs system packages (as root or with sudo; on a terminal it asks first), the dependencies of bun.lock, and the Kafka client's native addon, which
it downloads from the release or compiles. Needs the Bun that package.json pins. Every other command does the same for what it needs.
`

async function main(): Promise<number> {
  const given = process.argv.slice(2)
  const [command, ...args] = given.filter((arg) => arg !== '--no-install')
  if (command === '--help') {
    process.stdout.write(USAGE)
    return 0
  }
  if (command?.startsWith('-')) refuse(`there is no option ${command}`, USAGE)
  const fault = await setUp(command, args, !given.includes('--no-install'))
  if (fault !== 0 || command === undefined) return fault
  const child = Bun.spawn([process.execPath, resolve(root, command), ...args], {
    stdio: ['inherit', 'inherit', 'inherit'],
  })
  return await endOf(child)
}

if (import.meta.main) {
  try {
    process.exit(await main())
  } catch (error) {
    if (!(error instanceof MissingError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(1)
  }
}
