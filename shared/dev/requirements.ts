/**
 * What commands need on the machine: installed by the system's package manager where that is allowed, otherwise printed as one
 * command to copy. Uses nothing that has to be installed.
 */
import { appendFileSync, closeSync, mkdtempSync, openSync, readFileSync, statSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  COMPILING,
  command,
  hasCommand,
  type Need as NativeNeed,
  OPTIONAL,
  onPath,
  PACKAGE_MANAGERS,
  type PackageManager,
} from '../kafka/native/needs.ts'
import { findJava } from './brokers/kafka-distribution.ts'
import { step } from './progress.ts'
import { lastLines } from './run.ts'

export type Need = Omit<NativeNeed, 'isThere'> & { isThere(): boolean | Promise<boolean> }

/** The same name everywhere. */
const everywhere = (name: string): Need['packages'] => ({ 'apt-get': name, dnf: name, apk: name, brew: name })

const KAFKA: readonly Need[] = [
  {
    name: 'java 17',
    for: 'running Apache Kafka',
    packages: {
      'apt-get': 'default-jre-headless',
      dnf: 'java-latest-openjdk-headless',
      apk: 'openjdk21-jre-headless',
      brew: 'openjdk',
    },
    isThere: () =>
      findJava().then(
        () => true,
        () => false,
      ),
  },
  command('mvn', 'fetching Apache Kafka', everywhere('maven')),
]

const PROCESSES = command('ps', 'tests that look at processes', {
  'apt-get': 'procps',
  dnf: 'procps-ng',
  apk: 'procps',
  brew: undefined,
})

const CURL = command('curl', 'a test that types the example of dev’s screen', everywhere('curl'))

const OPENSSL = command('openssl', 'certificates of tests', everywhere('openssl'))

const READER = command('kcat', 'reading topics with a client that is not ours', everywhere('kcat'))

const DEBOOTSTRAP: Need = {
  name: 'debootstrap',
  for: 'making Debian systems in a folder',
  packages: { 'apt-get': 'debootstrap', dnf: 'debootstrap', apk: 'debootstrap', brew: undefined },
  // Not on every user's PATH.
  isThere: () => Bun.which('debootstrap', { PATH: `${process.env.PATH}:/usr/sbin:/sbin` }) !== null,
}

const GO = command('go', 'building Helm and its neighbours, and the example client in Go', {
  'apt-get': 'golang-go',
  dnf: 'golang',
  apk: 'go',
  brew: 'go',
})

/** Names of Chromium or Chrome on Debian, Ubuntu and from Google. */
export const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'] as const

/** The path of a browser; null when there is none on PATH. */
export const findBrowser = (): string | null => BROWSERS.map(onPath).find((path) => path !== null) ?? null

/** Without these, tests are skipped, except where CI is set. */
const OPTIONAL_IN_TESTS: readonly Need[] = [
  ...OPTIONAL,
  command('python3', 'the example client in Python', everywhere('python3')),
  GO,
  {
    name: 'chromium',
    for: 'pages in a browser',
    packages: everywhere('chromium'),
    isThere: () => findBrowser() !== null,
  },
]

const DEPLOYMENT: readonly Need[] = [
  GO,
  {
    name: 'pip',
    for: 'checks that are Python packages',
    packages: { 'apt-get': 'python3-pip', dnf: 'python3-pip', apk: 'py3-pip', brew: 'python' },
    isThere: () => hasCommand('python3') && Bun.spawnSync(['python3', '-m', 'pip', '--version']).success,
  },
  command('buildah', 'building the images', {
    'apt-get': 'buildah',
    dnf: 'buildah',
    apk: 'buildah',
    brew: undefined,
  }),
  DEBOOTSTRAP,
]

/** The same name everywhere but on macOS, which has no network namespaces. */
const onLinux = (name: string): Need['packages'] => ({ ...everywhere(name), brew: undefined })

/** What a node of a cluster takes from the system. */
const CLUSTER: readonly Need[] = [
  command('ip', 'the network of a node', { ...onLinux('iproute2'), dnf: 'iproute' }),
  command('iptables', 'Services of a node', onLinux('iptables')),
  command('conntrack', 'Services of a node', { ...onLinux('conntrack-tools'), 'apt-get': 'conntrack' }),
  command('ipset', 'network policies of a node', onLinux('ipset')),
]

export const NEEDS = {
  addon: [...COMPILING, ...OPTIONAL],
  kafka: KAFKA,
  unit: [PROCESSES],
  tests: [PROCESSES, READER, CURL, OPENSSL],
  'tests in CI': OPTIONAL_IN_TESTS,
  deployment: DEPLOYMENT,
  cluster: CLUSTER,
  roots: [DEBOOTSTRAP],
} as const satisfies Record<string, readonly Need[]>

export async function missingOf(needs: readonly Need[]): Promise<Need[]> {
  const there = await Promise.all(needs.map((need) => need.isThere()))
  return needs.filter((_, index) => !there[index])
}

/** The packages that provide what is missing, each once. */
export function packagesFor(manager: PackageManager, missing: readonly Need[]): string[] {
  return [...new Set(missing.flatMap(({ packages }) => packages[manager] ?? []))]
}

/** The commands of each package manager. `refresh` runs first. `unattended` is added when we run it, since another process may hold the lock. */
const INSTALLING: Readonly<
  Record<
    PackageManager,
    { refresh?: readonly string[]; install: readonly string[]; unattended?: readonly string[]; systems: string }
  >
> = {
  'apt-get': {
    refresh: ['apt-get', 'update'],
    install: ['apt-get', 'install', '--yes', '--no-install-recommends'],
    unattended: ['-o', 'DPkg::Lock::Timeout=300'],
    systems: 'Debian, Ubuntu',
  },
  dnf: { install: ['dnf', 'install', '--assumeyes'], systems: 'Fedora' },
  apk: { install: ['apk', 'add'], systems: 'Alpine' },
  brew: { install: ['brew', 'install'], systems: 'macOS' },
}

/** How a package manager may be run. */
export type Privilege =
  /** As the current user. */
  | 'as we are'
  /** With sudo, without a password. */
  | 'sudo'
  /** With sudo, which asks for a password. */
  | 'sudo with a password'
  /** Not at all. */
  | 'none'

/** One line to paste into a shell. */
export function commandLine(manager: PackageManager, packages: readonly string[], privilege: Privilege): string {
  const { refresh, install } = INSTALLING[manager]
  const lines = [...(refresh === undefined ? [] : [refresh]), [...install, ...packages]].map((words) => words.join(' '))
  if (manager === 'brew' || privilege === 'as we are') return lines.join(' && ')
  if (privilege === 'none') return `su -c '${lines.join(' && ')}'`
  return lines.map((line) => `sudo ${line}`).join(' && ')
}

/** Something is missing and was not installed. The message says what to do. */
export class MissingError extends Error {
  override readonly name = 'MissingError'
}

/** Lists what is missing and why, with the command that installs it. Without a known package manager, lists the command of each. */
export function advice(missing: readonly Need[], manager: PackageManager | undefined, privilege: Privilege): string {
  const list = [...Map.groupBy(missing, ({ for: purpose }) => purpose)].map(
    ([purpose, needs]) => `  ${needs.map(({ name }) => name).join(', ')}: for ${purpose}`,
  )
  const commandOf = (one: PackageManager, by: Privilege): string => {
    const packages = packagesFor(one, missing)
    const installing = packages.length === 0 ? [] : [commandLine(one, packages, by)]
    // Homebrew lacks what is part of Apple's command-line tools.
    const isApples = one === 'brew' && missing.some((need) => need.packages.brew === undefined)
    return [...(isApples ? ['xcode-select --install'] : []), ...installing].join(' && ')
  }
  const commands =
    manager === undefined
      ? PACKAGE_MANAGERS.map(
          (one) => `  ${INSTALLING[one].systems.padEnd(14)}  ${commandOf(one, one === 'apk' ? 'as we are' : 'sudo')}`,
        )
      : [`  ${commandOf(manager, privilege)}`]
  return ['not on this machine, and needed:', ...list, 'to install them:', ...commands].join('\n')
}

/** One line that installs what is missing; undefined where this system's package manager is unknown or does not have it. */
export function installCommand(missing: readonly Need[]): string | undefined {
  const manager = packageManager()
  const packages = manager === undefined ? [] : packagesFor(manager, missing)
  return manager === undefined || packages.length === 0
    ? undefined
    : commandLine(manager, packages, privilegeOf(manager))
}

/** The package manager of this system. */
export const packageManager = (): PackageManager | undefined => PACKAGE_MANAGERS.find(hasCommand)

function privilegeOf(manager: PackageManager | undefined): Privilege {
  if (manager === 'brew' || process.getuid?.() === 0) return 'as we are'
  if (!hasCommand('sudo')) return 'none'
  return Bun.spawnSync(['sudo', '-n', 'true'], { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' }).success
    ? 'sudo'
    : 'sudo with a password'
}

/**
 * Whether to ask a person, only to tell them, or to continue because nobody can answer. TERM does not matter.
 * @param reads whether standard input is a terminal
 * @param sees whether standard error is one
 */
export function askingOf(reads: boolean, sees: boolean): 'ask' | 'tell' | 'go on' {
  if (!reads) return 'go on'
  return sees ? 'ask' : 'tell'
}

/** Asks for sudo's password before progress is drawn, which would hide the question. @throws MissingError when sudo refuses, or asks each time */
function askPassword(missing: readonly Need[], manager: PackageManager, told: MissingError): void {
  if (!Bun.spawnSync(['sudo', '-v'], { stdio: ['inherit', 2, 2] }).success)
    throw new MissingError(`sudo refuses this user.\n${advice(missing, manager, 'none')}`)
  // With timestamp_timeout=0 sudo asks again each time.
  if (!Bun.spawnSync(['sudo', '-n', 'true'], { stdio: ['ignore', 'ignore', 'ignore'] }).success)
    throw new MissingError(`sudo wants the password each time; this has to be typed:\n${told.message}`)
}

/** The time-out of each of a package manager's two commands. */
const INSTALL_TIMEOUT_MS = 900_000

/**
 * Installs what is missing, where that is possible.
 * @param mayInstall false: installs nothing
 * @throws MissingError
 */
export async function provide(needs: readonly Need[], mayInstall: boolean): Promise<void> {
  const missing = await missingOf(needs)
  if (missing.length === 0) return
  const manager = packageManager()
  const privilege = privilegeOf(manager)
  const told = new MissingError(advice(missing, manager, privilege))
  if (!mayInstall || manager === undefined || privilege === 'none') throw told
  const packages = packagesFor(manager, missing)
  if (packages.length === 0) throw told
  const asking = askingOf(process.stdin.isTTY === true, process.stderr.isTTY === true)
  if (asking === 'tell') throw told
  if (asking === 'ask') {
    process.stderr.write(`${told.message}\n`)
    // prompt() returns null for an empty answer, unless there is a default.
    if (!/^y(es)?$/i.test(prompt('install them now? y or n', 'y')?.trim() ?? 'n'))
      throw new MissingError('nothing was installed')
    if (privilege === 'sudo with a password') askPassword(missing, manager, told)
  } else if (privilege === 'sudo with a password') throw told
  await install(manager, packages, privilege === 'as we are' ? [] : ['sudo', '-n'], missing)
  const still = await missingOf(missing)
  if (still.length > 0)
    throw new MissingError(`${packages.join(' ')} were installed; still, ${advice(still, undefined, privilege)}`)
}

async function install(
  manager: PackageManager,
  packages: readonly string[],
  prefix: readonly string[],
  missing: readonly Need[],
): Promise<void> {
  const log = join(mkdtempSync(join(tmpdir(), 'kafkatrace-install-')), 'log')
  const purposes = [...new Set(missing.map(({ for: purpose }) => purpose))].join(', ')
  console.error(`installing ${packages.join(' ')} (${purposes})`)
  const { refresh, install: words, unattended = [] } = INSTALLING[manager]
  await step(manager, async (say) => {
    if (refresh !== undefined) {
      const refreshing = 'looking for the newest versions'
      say(refreshing)
      await logged([...prefix, ...refresh], log, () => say(`${refreshing}: ${WAITING}`))
    }
    const installing = `installing ${packages.length} packages and what they need`
    say(installing)
    await logged([...prefix, ...words, ...unattended, ...packages], log, () => say(`${installing}: ${WAITING}`))
  })
}

const WAITING = 'waiting for another package manager to end'

/** How long to wait for another package manager's lock, and how often to look. */
const LOCK_TIMEOUT_MS = 300_000
const LOCK_POLL_MS = 2_000

/** Whether a package manager failed because another one holds the lock. */
export const isLocked = (log: string): boolean => /^E: (Could not get lock|Unable to lock directory) /m.test(log)

/** Whether a package manager is waiting for another one. */
export const isWaiting = (log: string): boolean => /(^|[\r\n])Waiting for cache lock: [^\r\n]*$/.test(log.trimEnd())

/** The hosts that a package manager could not reach, each once. A host that answers with a status, such as 404, was reached. */
export const unreachedHosts = (log: string): string[] => [
  ...new Set(
    [...log.matchAll(/^[WE]: Failed to fetch \w+:\/\/([^/\s]+)\S*(?!\s+\d{3}\b)\s/gm)].map(([, host = '']) => host),
  ),
]

/**
 * Runs a command, again while another package manager holds the lock.
 * @param waiting called when it has to wait
 * @throws MissingError with the command's last lines
 */
async function logged(words: readonly string[], log: string, waiting: () => void): Promise<void> {
  const begunMs = performance.now()
  let isFirst = true
  while (true) {
    const { exitCode, said, isLate } = await runLogged(words, log, waiting)
    if (exitCode === 0) return
    if (isLate)
      throw new MissingError(
        `installing packages took longer than ${INSTALL_TIMEOUT_MS / 60_000} minutes, and was ended:\n${lastLines(said)}\nAll of it: ${log}`,
      )
    if (isLocked(said) && performance.now() - begunMs < LOCK_TIMEOUT_MS) {
      if (isFirst) waiting()
      isFirst = false
      await Bun.sleep(LOCK_POLL_MS)
      continue
    }
    const hosts = unreachedHosts(readFileSync(log, 'utf8'))
    const why = hosts.length === 0 ? '' : `\n${hosts.join(' and ')} cannot be reached; is there a network, or a proxy?`
    throw new MissingError(`packages could not be installed:\n${lastLines(said)}${why}\nAll of it: ${log}`)
  }
}

/**
 * Runs a command once. After a signal we wait for the command's end before ours: a package manager left running would block the next one.
 * A terminal's Ctrl-C reaches the command too, and it decides when to stop. In a session of its own, sudo would not know the password.
 */
async function runLogged(
  words: readonly string[],
  log: string,
  waiting: () => void,
): Promise<{ exitCode: number; said: string; isLate: boolean }> {
  const begunMs = performance.now()
  appendFileSync(log, `$ ${words.join(' ')}\n`)
  const begin = statSync(log).size
  const said = (): string => readFileSync(log).subarray(begin).toString()
  const descriptor = openSync(log, 'a')
  let stoppedBy: NodeJS.Signals | undefined
  const stop = (signal: NodeJS.Signals): void => {
    if (stoppedBy === undefined)
      process.stderr.write(
        `\nletting ${words.find((word) => word !== 'sudo' && word !== '-n')} finish what it has begun\n`,
      )
    stoppedBy = signal
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, stop)
  let isTold = false
  const timer = setInterval(() => {
    if (isTold || !isWaiting(said())) return
    isTold = true
    waiting()
  }, LOCK_POLL_MS)
  try {
    const child = Bun.spawn(
      // Otherwise Debian's packages may ask questions.
      words[0] === 'sudo'
        ? [...words.slice(0, 2), 'env', 'DEBIAN_FRONTEND=noninteractive', ...words.slice(2)]
        : [...words],
      {
        stdin: 'ignore',
        stdout: descriptor,
        stderr: descriptor,
        timeout: INSTALL_TIMEOUT_MS,
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      },
    )
    const exitCode = await child.exited
    if (stoppedBy !== undefined) process.exit(128 + constants.signals[stoppedBy])
    return { exitCode, said: said(), isLate: performance.now() - begunMs >= INSTALL_TIMEOUT_MS }
  } finally {
    clearInterval(timer)
    for (const signal of signals) process.off(signal, stop)
    closeSync(descriptor)
  }
}
