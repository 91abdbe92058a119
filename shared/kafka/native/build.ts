#!/usr/bin/env bun
/**
 * Builds the Kafka client's native addon for Bun, or takes it from the cache or the release, and installs it where the client looks for it. Runs
 * during `bun install`, so it imports no packages.
 */
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, constants, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import project from '../../../package.json' with { type: 'json' }
import { parseCommandLine } from '../../service/command-line.ts'
import { cacheFault, cacheFolder } from './cache.ts'
import { ADDON_FILE, MANIFEST_FILE, type Manifest } from './check.ts'
import { COMPILING, OPTIONAL } from './needs.ts'
import { isLoadable, RELEASE_OPTIONS_OFF, RELEASE_SYSTEM, releasedAddon, replace, writeReleased } from './released.ts'
import { stubsAmong } from './stubs.ts'
import { whyUnusable } from './trial.ts'

const HELP = `Builds the Kafka client's native addon for this Bun, or takes it from the cache or from the release.

Usage: bun shared/kafka/native/build.ts [--rebuild | --release FOLDER]

  --rebuild          build even when the cache or the release has it
  --release FOLDER   build what a release carries, and write its two files there
  --help             this text

KAFKATRACE_ADDON_URL names the folder of the release's files; empty: none is asked for.
The cache is $KAFKATRACE_CACHE_DIR, else $XDG_CACHE_HOME/kafkatrace, else ~/.cache/kafkatrace.
`

const NATIVE = import.meta.dir
const MODULES = join(NATIVE, '../../../node_modules')
const CLIENT_NAME = '@confluentinc/kafka-javascript'
const CLIENT = join(MODULES, CLIENT_NAME)

/** Where addons and Node's headers are kept. A function, since a user may have no cache folder. */
const cache = (): string => join(cacheFolder(), 'native')

/** The version that addon.patch is written for and the tests run on. */
export const TESTED_CLIENT = '1.10.1'

/** A failure that the user can fix; shown without a stack trace. */
class BuildError extends Error {}

async function build(rebuild: boolean): Promise<void> {
  checkClient()
  const found = rebuild ? undefined : await find()
  if (found !== undefined) return install(found)
  const described = describe(optionsOff())
  const cached = join(cache(), described.key)
  await compile(described, cached, rebuild)
  install(cached)
}

/** @throws BuildError when another client is installed than package.json names */
function checkClient(): void {
  if (!existsSync(CLIENT)) throw new BuildError('the client is not installed: run `bun install`')
  const { version } = JSON.parse(readFileSync(join(CLIENT, 'package.json'), 'utf8')) as { version: string }
  const named = project.dependencies[CLIENT_NAME]
  if (version !== named)
    throw new BuildError(`the installed client is ${version}, and package.json names ${named}: run \`bun install\``)
  if (version !== TESTED_CLIENT)
    say(`client ${version} is not the tested one, which is ${TESTED_CLIENT}; docs/upgrading.md says how to try it`)
}

/** Builds the files that a release carries. */
async function buildRelease(folder: string): Promise<void> {
  checkClient()
  const lacking = OPTIONAL.filter((need) => !need.isThere() && !RELEASE_OPTIONS_OFF.some((off) => off === need.off))
  if (lacking.length > 0)
    throw new BuildError(`a release is not built without ${lacking.map(({ name }) => name).join(' and ')}`)
  const described = describe(RELEASE_OPTIONS_OFF, RELEASE_SYSTEM)
  const cached = join(cache(), described.key)
  await compile(described, cached, true)
  writeReleased(cached, folder)
}

/**
 * What to type when the running Bun is not the pinned one; undefined when it is.
 * @param command of Bun, such as `run test`
 * @param first a shell command to run before it
 */
export function wrongBun(pinned: string, running: string, command: string, first = ''): string | undefined {
  if (pinned === running) return undefined
  return `KafkaTrace runs on Bun ${pinned}, and this is Bun ${running}; type: ${first}npx -y bun@${pinned} ${command}`
}

/** Whether the addon need not be compiled: the cache has it, or now has it from the release. Works before the client is installed. */
export const haveAddon = async (): Promise<boolean> => (await find()) !== undefined

/** librdkafka's options for the libraries whose headers are missing here. */
const optionsOff = (): string[] => OPTIONAL.flatMap((library) => (library.isThere() ? [] : [library.off]))

/** The cache's folder of an addon for this machine, built here or taken from the release. */
async function find(): Promise<string | undefined> {
  const own = join(cache(), describe(optionsOff()).key)
  if (isLoadable(own)) return own
  return await releasedAddon(cache(), describe(RELEASE_OPTIONS_OFF, RELEASE_SYSTEM))
}

/** Describes a build. Its key covers everything that the result depends on. */
function describe(off: readonly string[], on = system()): Omit<Manifest, 'librdkafka'> {
  const sources = createHash('sha256')
  for (const file of [
    ...readdirSync(join(NATIVE, 'shim')).map((name) => `shim/${name}`),
    'addon.patch',
    'Makefile',
  ].sort())
    sources.update(file).update(readFileSync(join(NATIVE, file)))
  const description = {
    bun: Bun.version,
    node: process.versions.node,
    abi: process.versions.modules,
    client: project.dependencies[CLIENT_NAME],
    platform: `${process.platform}-${process.arch}`,
    system: on,
    optionsOff: [...off],
    sources: sources.digest('hex'),
  }
  const key = createHash('sha256').update(JSON.stringify(description)).digest('hex').slice(0, 16)
  return { key: `${description.platform}-bun${description.bun}-${key}`, ...description }
}

/** The system whose libraries are linked: several may share a cache, such as a machine and its containers. */
function system(): string {
  if (!existsSync('/etc/os-release')) return process.platform
  const release = readFileSync('/etc/os-release', 'utf8')
  const value = (name: string): string => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? ''
  return `${value('ID')}-${value('VERSION_ID')}`
}

/** @throws BuildError that lists everything missing in one line */
function demandTools(): void {
  const missing = COMPILING.filter((need) => !need.isThere())
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((need) => need.packages['apt-get']))]
    throw new BuildError(
      `needed for its first build and not found: ${missing.map(({ name }) => name).join(', ')}; on Debian or Ubuntu: apt-get install ${packages.join(' ')}`,
    )
  }
  const optional = OPTIONAL.filter((need) => !need.isThere())
  if (optional.length > 0)
    say(
      `without ${optional.map(({ name }) => name).join(' and ')}: no ${optional.map((need) => need.for).join(', no ')}; install and build again to have them`,
    )
}

/** Builds in a new directory and moves the result to `cached` in one step, so that several processes can build at the same time. */
async function compile(described: Omit<Manifest, 'librdkafka'>, cached: string, rebuild: boolean): Promise<void> {
  demandTools()
  const { librdkafka } = JSON.parse(readFileSync(join(CLIENT, 'package.json'), 'utf8')) as { librdkafka: string }
  const manifest: Manifest = { ...described, librdkafka }
  mkdirSync(cache(), { recursive: true })
  removeAbandoned(cache())
  const own = join(cache(), `build-${process.pid}-${Date.now()}`)
  // librdkafka's configure and make do not support paths with a space.
  const work = /\s/.test(own) ? join(tmpdir(), `kafkatrace-${basename(own)}`) : join(own, 'work')
  if (/\s/.test(work))
    throw new BuildError(
      `it cannot be compiled in ${work}, whose path has a space; name another folder with KAFKATRACE_CACHE_DIR or TMPDIR`,
    )
  const log = join(cache(), `${manifest.key}.log`)
  writeFileSync(log, '')
  mkdirSync(own)
  mkdirSync(work)
  const progress = startProgress()
  const cleanUp = (): void => {
    // Processes that were just killed may still be writing.
    for (const folder of [work, own]) rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
  const forget = onInterrupt(cleanUp)
  try {
    progress('fetching Node’s headers')
    const headers = await fetchHeaders(manifest, own, log)
    progress('preparing the sources')
    cpSync(join(CLIENT, 'src'), join(work, 'src'), { recursive: true })
    cpSync(join(CLIENT, 'deps/librdkafka'), join(work, 'librdkafka'), { recursive: true })
    cpSync(join(NATIVE, 'shim'), join(work, 'shim'), { recursive: true })
    copyFileSync(join(NATIVE, 'Makefile'), join(work, 'Makefile'))
    await must(
      ['patch', '--batch', '--fuzz=0', '-p1', '-i', join(NATIVE, 'addon.patch')],
      work,
      log,
      'addon.patch does not fit this version of the client',
    )
    const rdkafka = join(work, 'librdkafka')
    for (const script of ['configure', 'lds-gen.py'])
      if (existsSync(join(rdkafka, script))) chmodSync(join(rdkafka, script), 0o755)
    progress('configuring librdkafka')
    await must(
      ['./configure', '--disable-gssapi', '--enable-strip', '--disable-debug-symbols', ...manifest.optionsOff],
      rdkafka,
      log,
      'librdkafka cannot be configured',
    )
    progress('compiling librdkafka and the addon (about two minutes on two cores, once)')
    // By relative names, because their paths may have a space.
    symlinkSync(headers, join(work, 'headers'))
    symlinkSync(join(MODULES, 'nan'), join(work, 'nan'))
    await must(
      ['make', `-j${availableParallelism()}`, 'addon.node', 'HEADERS=headers', 'NAN=nan'],
      work,
      log,
      'the addon cannot be compiled',
      COMPILING_TIMEOUT_MS,
    )
    progress('checking its symbols, and opening a client')
    await checkSymbols(join(work, 'addon.node'))
    const fault = await whyUnusable(join(work, 'addon.node'))
    if (fault !== undefined)
      throw new BuildError(`Bun ${Bun.version} cannot run it: ${fault}\ndocs/upgrading.md says what to do`)
    const result = join(own, 'result')
    mkdirSync(result)
    copyFileSync(join(work, 'addon.node'), join(result, ADDON_FILE))
    writeFileSync(join(result, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`)
    // Another build may have finished first, and a third process may be copying its result.
    if (rebuild || !isLoadable(cached)) replace(result, cached)
    progress('done', true)
  } finally {
    forget()
    progress('', true)
    cleanUp()
  }
}

/** Removes the directories of builds that were killed; their names contain the process ID. */
export function removeAbandoned(folder: string): void {
  for (const name of readdirSync(folder)) {
    const builder = /^build-(\d+)-/.exec(name)?.[1]
    if (builder !== undefined && !isRunning(Number(builder)))
      rmSync(join(folder, name), { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The npm package with the headers also contains Node, 200 MB: so it is not a dependency, and only the headers are kept. */
async function fetchHeaders(manifest: Manifest, own: string, log: string): Promise<string> {
  const name = `node-${manifest.platform}`
  const kept = join(cache(), `${name}-${manifest.node}-headers`)
  if (existsSync(kept)) return kept
  const at = join(own, 'headers')
  mkdirSync(at)
  writeFileSync(join(at, 'package.json'), JSON.stringify({ private: true, dependencies: { [name]: manifest.node } }))
  await must(
    [process.execPath, 'install', '--ignore-scripts', '--no-save', '--cache-dir', join(own, 'packages')],
    at,
    log,
    `the npm package ${name}@${manifest.node} with Node’s headers cannot be installed; is the npm registry reachable?`,
  )
  try {
    renameSync(join(at, 'node_modules', name, 'include/node'), kept)
  } catch (error) {
    // Another build was faster.
    if (!existsSync(kept)) throw error
  }
  return kept
}

/**
 * Finds functions that are missing, or are stubs that end the process, before anything calls them.
 * @throws BuildError that names them
 */
async function checkSymbols(addon: string): Promise<void> {
  if (process.platform !== 'linux') return
  const symbols = (file: string, which: string): string[] => {
    const listed = Bun.spawnSync(['nm', '-D', which, file])
    if (!listed.success) throw new BuildError(`nm cannot read ${file}: ${listed.stderr.toString().trim()}`)
    const lines = listed.stdout.toString().split('\n')
    return lines.flatMap((line) => line.trim().split(' ').at(-1)?.split('@')[0] ?? [])
  }
  const needed = symbols(addon, '--undefined-only')
  const missing = missingSymbols(needed, symbols(process.execPath, '--defined-only'))
  const stubs = await stubsAmong(needed.filter((name) => name.startsWith('uv_') && !missing.includes(name)))
  if (missing.length + stubs.length > 0)
    throw new BuildError(
      `this client needs what neither Bun ${Bun.version} nor shim/ has: ${[...missing, ...stubs].join(', ')}\ndocs/upgrading.md says what to do`,
    )
}

/** The symbols of V8, Node and libuv that an addon needs and a runtime does not export. */
export function missingSymbols(needed: readonly string[], exported: readonly string[]): string[] {
  const has = new Set(exported)
  return needed.filter(
    (name) => /^(_ZNK?2v8|_ZNK?4node|_ZT[VIS]N2v8|_ZT[VIS]N4node|napi_|node_|uv_)/.test(name) && !has.has(name),
  )
}

/** Copies the addon to where the client's `bindings` call looks. Each file is replaced in one step, since services may be starting. */
function install(cached: string): void {
  const target = join(CLIENT, 'build/Release')
  mkdirSync(target, { recursive: true })
  for (const file of [ADDON_FILE, MANIFEST_FILE]) {
    const next = join(target, `${file}.${process.pid}`)
    copyFileSync(join(cached, file), next)
    renameSync(next, join(target, file))
  }
}

function say(text: string): void {
  process.stderr.write(`kafka addon: ${text}\n`)
}

/** How often progress is reported without a terminal. */
const PLAIN_PROGRESS_MS = 15_000

/** Reports progress: in one line on a terminal, in several elsewhere. Returns a function that names the phase, or ends the report. */
function startProgress(): (phase: string, end?: boolean) => void {
  const terminal = process.stderr.isTTY === true
  const begun = performance.now()
  let current = ''
  const elapsed = (): string => `${Math.round((performance.now() - begun) / 1000)} s`
  const show = (): void => {
    if (current === '') return
    if (terminal) process.stderr.write(`\r\x1b[Kkafka addon: ${current}, ${elapsed()}`)
    else say(`${current}, ${elapsed()}`)
  }
  const timer = setInterval(show, terminal ? 1_000 : PLAIN_PROGRESS_MS)
  return (phase, end = false) => {
    if (end && current === '') return
    current = phase
    show()
    if (!end) return
    clearInterval(timer)
    if (terminal) process.stderr.write('\n')
    current = ''
  }
}

/** How many lines of the log are shown when a step fails. */
const SHOWN_LOG_LINES = 15

/** For downloading 200 MB, or configuring. */
const STEP_TIMEOUT_MS = 600_000

/** On one slow core. */
const COMPILING_TIMEOUT_MS = 3_600_000

/** The process group of the step that runs. */
let running: number | undefined

function endRunning(): void {
  if (running === undefined) return
  try {
    process.kill(-running, 'SIGKILL')
  } catch (error) {
    // It has ended already.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Runs a command. @throws BuildError with the end of its output */
async function must(
  command: string[],
  cwd: string,
  log: string,
  otherwise: string,
  timeoutMs = STEP_TIMEOUT_MS,
): Promise<void> {
  appendFileSync(log, `$ ${command.join(' ')}\n`)
  const descriptor = openSync(log, 'a')
  let exitCode: number
  let isLate = false
  // In a process group, so that make's compilers end with it.
  const child = Bun.spawn(command, { cwd, stdin: 'ignore', stdout: descriptor, stderr: descriptor, detached: true })
  running = child.pid
  const timer = setTimeout(() => {
    isLate = true
    endRunning()
  }, timeoutMs)
  try {
    exitCode = await child.exited
  } finally {
    clearTimeout(timer)
    running = undefined
    closeSync(descriptor)
  }
  if (exitCode === 0) return
  if (isLate) throw new BuildError(`${otherwise}: no end within ${timeoutMs / 60_000} minutes\nIts log: ${log}`)
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
  // `patch` and `make` continue after an error, which is then not at the end.
  const failed = lines.filter((line) => /^Hunk .* FAILED|rejects to file|\berror: /.test(line))
  const end = (failed.length > 0 ? failed : lines).slice(-SHOWN_LOG_LINES).join('\n')
  throw new BuildError(`${otherwise}:\n${end}\nAll of it: ${log}`)
}

/** On a signal: ends the current step, cleans up and exits. Returns a function that removes the handlers. */
function onInterrupt(cleanUp: () => void): () => void {
  const listeners = (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).map((signal) => {
    const end = (): void => {
      endRunning()
      cleanUp()
      process.exit(128 + constants.signals[signal])
    }
    process.on(signal, end)
    return () => process.removeListener(signal, end)
  })
  return () => {
    for (const forget of listeners) forget()
  }
}

if (import.meta.main) {
  const { rebuild, release } = parseCommandLine(HELP, {
    options: { rebuild: { type: 'boolean', default: false }, release: { type: 'string' } },
  }).values
  try {
    // `bun install` of another Bun may have changed bun.lock.
    const fault = wrongBun(project.engines.bun, Bun.version, 'install', 'git checkout bun.lock && ') ?? cacheFault()
    if (fault !== undefined) throw new BuildError(fault)
    if (release !== undefined) await buildRelease(release)
    else await build(rebuild)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    process.stderr.write(`kafka addon: ${error.message}\n`)
    process.exit(1)
  }
}
