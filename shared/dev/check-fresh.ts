/**
 * `bun run check:fresh`: README's two commands, exactly as written there, on machines that have only Node, npm and git: Debian roots made by
 * debootstrap, each with a clone of HEAD.
 */
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseCommandLine, refuse } from '../service/command-line.ts'
import { type BoundChild, spawnBoundChild } from './bound-child.ts'
import { MAX_BUSY_LOOPS, startBusyLoops } from './busy-loops.ts'
import { debootstrap } from './debian-root.ts'
import { seconds, step, summarise } from './progress.ts'
import { lastLines } from './run.ts'

const project = resolve(import.meta.dir, '..', '..')

/** Oldest first. */
const SUITES = ['bookworm', 'trixie'] as const
type Suite = (typeof SUITES)[number]

/** Who runs the command: root, a user with passwordless sudo, or a user without rights to install anything. */
type Who = 'root' | 'sudoer' | 'user'

const CASES = ['root', 'sudoer', 'user', 'addon'] as const
type Case = (typeof CASES)[number]

const NODE_MAJOR = 22
const NPM_MAJOR = 10
const UP_TIMEOUT_MS = 900_000
const TEST_TIMEOUT_MS = 3_600_000
const END_TIMEOUT_MS = 60_000
const POLL_MS = 100

const help = `Runs README's commands on machines that have nothing: bun run check:fresh [--suite NAME] [--case NAME] [--busy N] [--dev]

  --suite NAME   ${SUITES.join(' or ')}; without it, both
  --case NAME    without it, each of them:
                   root    dev and test, as root
                   sudoer  dev and test, as a user with passwordless sudo
                   user    dev, as a user who may not install anything; root runs the command that is printed
                   addon   dev, as that user, with a release's addon from a server on this machine
  --busy N       run N busy loops at the same time (at most ${MAX_BUSY_LOOPS})
  --dev          only dev, also for root and sudoer
  --help         this text

Needs root, debootstrap and unshare. A root with everything installed takes some 3 GB in TMPDIR. Ends with "N passed, N failed".
`

class CheckError extends Error {}

/** README's command for a script. */
function readmeCommand(script: 'dev' | 'test'): string {
  const readme = readFileSync(join(project, 'README.md'), 'utf8')
  const line = new RegExp(`^(npx -y bun@\\S+ run ${script})\\b`, 'm').exec(readme)?.[1]
  if (line === undefined) throw new CheckError(`README.md has no command that runs ${script}`)
  return line
}

/** Everything is created in this folder, which is removed when this process ends. */
const work = join(tmpdir(), `kafkatrace-fresh-${process.pid}`)

/** Runs a command. @throws CheckError with its last lines when it fails */
async function must(command: readonly string[], cwd = project): Promise<string> {
  const child = spawnBoundChild(['env', `--chdir=${cwd}`, ...command], {
    stdout: 'pipe',
    stderr: 'pipe',
    removeWhenOrphaned: work,
  })
  const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (exitCode !== 0)
    throw new CheckError(`${command.join(' ')} ended with ${exitCode}:\n${lastLines(`${output}\n${errors}`)}`)
  return output
}

/** Makes a Debian root with only Node, npm and git. */
async function makeRoot(suite: string, say: (progress: string) => void): Promise<string> {
  const folder = join(work, suite)
  say('debootstrap')
  await must(debootstrap(suite, folder, ['ca-certificates', 'git', 'sudo']))
  say('Node and npm')
  const packages = mkdtempSync(join(work, 'node-'))
  const node = `node-linux-${process.arch}`
  const archives = (await must(['npm', 'pack', '--silent', `${node}@${NODE_MAJOR}`, `npm@${NPM_MAJOR}`], packages))
    .trim()
    .split('\n')
  const unpack = async (name: string, to: string, ...what: string[]) => {
    const archive = archives.find((one) => one.startsWith(`${name}-`)) ?? ''
    mkdirSync(to, { recursive: true })
    const options = ['-C', to, '--strip-components=1', '--no-same-owner']
    await must(['tar', '-xzf', join(packages, archive), ...options, ...what])
  }
  await unpack(node, join(folder, 'usr/local'), 'package/bin')
  await unpack('npm', join(folder, 'usr/local/lib/node_modules/npm'))
  for (const name of ['npm', 'npx'])
    await must(['ln', '-s', `../lib/node_modules/npm/bin/${name}-cli.js`, join(folder, 'usr/local/bin', name)])
  // The machine may be behind a proxy that terminates TLS: the root needs its name servers and certificate authorities.
  for (const file of ['etc/resolv.conf', 'usr/local/share/ca-certificates'])
    if (existsSync(join('/', file)))
      cpSync(join('/', file), join(folder, file), { dereference: true, recursive: true, force: true })
  await must(['chroot', folder, 'update-ca-certificates'])
  writeFileSync(join(folder, 'etc/hosts'), '127.0.0.1 localhost\n::1 localhost\n')
  appendFileSync(join(folder, 'etc/sudoers'), 'sudoer ALL=(ALL) NOPASSWD: ALL\n')
  return folder
}

/** Copies the root and adds a user with a clone. */
async function fresh(base: string, who: Who): Promise<string> {
  const root = mkdtempSync(join(work, 'root-'))
  await must(['cp', '-a', `${base}/.`, root])
  if (who !== 'root') await must(['chroot', root, 'useradd', '--create-home', '--shell', '/bin/bash', who])
  if (who === 'user') rmSync(join(root, 'usr/bin/sudo'))
  const clone = cloneOf(root, who)
  await must(['git', 'clone', '--quiet', project, clone])
  if (who !== 'root') await must(['chroot', root, 'chown', '--recursive', `${who}:${who}`, homeOf(who)])
  return root
}

const homeOf = (who: Who): string => (who === 'root' ? '/root' : `/home/${who}`)

const cloneOf = (root: string, who: Who): string => join(root, homeOf(who), 'kafkatrace')

/** Runs a command in new mount and PID namespaces. The first process stays root: the kernel clears its parent-death signal when it changes user. */
const ENTER = `
root=$1 who=$2 home=$3 folder=$4 command=$5
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" && mount --rbind /sys "$root/sys" || exit
export HOME="$home" USER="$who" LOGNAME="$who" LANG=C.UTF-8 NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
chroot --userspec="$who:$who" "$root" /bin/bash -c "cd $folder && $command"
exit $?`

interface Typed {
  readonly child: BoundChild
  output(): string
  /** Waits for output that matches. @throws CheckError when the command ends before, or the time is over */
  says(pattern: RegExp, timeoutMs: number): Promise<void>
}

/** Starts a command in a root, by default in the clone. */
function type(root: string, who: Who, command: string, folder = `${homeOf(who)}/kafkatrace`): Typed {
  const enter = ['/bin/bash', '-c', ENTER, 'enter', root, who, homeOf(who), folder, command]
  const child = spawnBoundChild(['unshare', '--mount', '--pid', '--fork', '--kill-child', ...enter], {
    stdout: 'pipe',
    stderr: 'pipe',
    env: {},
    removeWhenOrphaned: work,
  })
  let text = ''
  const take = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder()
    for await (const chunk of stream) text += decoder.decode(chunk, { stream: true })
  }
  const taken = Promise.all([take(child.stdout), take(child.stderr)])
  return {
    child,
    output: () => text,
    async says(pattern, timeoutMs) {
      const deadline = performance.now() + timeoutMs
      while (!pattern.test(text)) {
        if (child.exitCode !== null) {
          await taken
          if (pattern.test(text)) return
          throw new CheckError(`${command}: ended with ${child.exitCode}:\n${lastLines(text)}`)
        }
        if (performance.now() > deadline)
          throw new CheckError(`${command}: not within ${seconds(timeoutMs)}:\n${lastLines(text)}`)
        await Bun.sleep(POLL_MS)
      }
    },
  }
}

/** Waits for the command's end, and kills it at the time-out. */
async function typeToEnd(root: string, who: Who, command: string, timeoutMs: number, folder?: string) {
  const typed = type(root, who, command, folder)
  const timer = setTimeout(() => typed.child.kill('SIGKILL'), timeoutMs)
  const exitCode = await typed.child.exited
  clearTimeout(timer)
  await typed.says(/$/, 0)
  return { exitCode, output: typed.output() }
}

/** Runs dev until its screen is there, then sends Ctrl-C as a terminal does. @returns how long the screen took, ms */
async function dev(root: string, who: Who, command: string): Promise<number> {
  const beganMs = performance.now()
  // Without job control, the shell's children share its process group, to which a terminal sends Ctrl-C.
  const typed = type(root, who, `trap : INT; ${command}; echo ended`)
  try {
    await typed.says(/Ctrl-C drains and stops/, UP_TIMEOUT_MS)
    const screenMs = performance.now() - beganMs
    process.kill(-typed.child.pid, 'SIGINT')
    // npx exits with 130, whatever the command's exit code is.
    await typed.says(/stopping the consumer … done\s+ended/, END_TIMEOUT_MS)
    return screenMs
  } finally {
    typed.child.kill('SIGKILL')
    await typed.child.exited
  }
}

/** @returns the closing line, and how long it took */
async function test(root: string, who: Who, command: string): Promise<string> {
  const beganMs = performance.now()
  const { exitCode, output } = await typeToEnd(root, who, command, TEST_TIMEOUT_MS)
  const line = output.match(/^\d+ passed, \d+ failed$/gm)?.at(-1) ?? 'no closing line'
  if (exitCode !== 0 || !line.endsWith(' 0 failed'))
    throw new CheckError(`${command}: exit code ${exitCode}, ${line}\n${lastLines(output)}`)
  return `${line} after ${seconds(performance.now() - beganMs)}`
}

/** A user who may not install anything gets one command to paste. Root runs it. */
async function paste(root: string, command: string): Promise<void> {
  const { exitCode, output } = await typeToEnd(root, 'user', command, UP_TIMEOUT_MS)
  const printed = /^ +su -c '(.+)'$/m.exec(output)?.[1]
  if (exitCode !== 1 || printed === undefined)
    throw new CheckError(`${command}: no command to paste, exit code ${exitCode}:\n${lastLines(output)}`)
  if (existsSync(join(cloneOf(root, 'user'), 'node_modules')))
    throw new CheckError(`${command}: dependencies were downloaded before the command was printed`)
  const pasted = await typeToEnd(root, 'root', printed, UP_TIMEOUT_MS, '/')
  if (pasted.exitCode !== 0)
    throw new CheckError(`${printed}: exit code ${pasted.exitCode}\n${lastLines(pasted.output)}`)
}

/** Builds the release's files on the oldest system, and serves them. */
async function serveRelease(base: string, say: (progress: string) => void) {
  const root = await fresh(base, 'root')
  say('building what a release carries')
  await dev(root, 'root', readmeCommand('dev'))
  const build = readmeCommand('dev').replace('run dev', 'shared/kafka/native/build.ts --release /release')
  const { exitCode, output } = await typeToEnd(root, 'root', build, UP_TIMEOUT_MS)
  if (exitCode !== 0) throw new CheckError(`${build}: exit code ${exitCode}\n${lastLines(output)}`)
  return Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    routes: { '/:file': ({ params }) => new Response(Bun.file(join(root, 'release', basename(params.file)))) },
  })
}

/** @returns what was observed, for the summary */
async function play(
  name: Case,
  bases: Readonly<Record<Suite, () => Promise<string>>>,
  suite: Suite,
  onlyDev: boolean,
  say: (progress: string) => void,
): Promise<string> {
  const who = name === 'addon' ? 'user' : name
  const root = await fresh(await bases[suite](), who)
  let devCommand = readmeCommand('dev')
  let release: Bun.Server<undefined> | undefined
  try {
    if (name === 'addon') {
      release = await serveRelease(await bases[SUITES[0]](), say)
      devCommand = `KAFKATRACE_ADDON_URL=${release.url.origin} ${devCommand}`
    }
    if (name === 'user') {
      say('the command to paste')
      await paste(root, devCommand)
    }
    say(devCommand)
    const screen = `screen after ${seconds(await dev(root, who, devCommand))}`
    if (onlyDev || who === 'user') return screen
    const testCommand = readmeCommand('test')
    say(`${screen}; ${testCommand}`)
    return `${screen}; test: ${await test(root, who, testCommand)}`
  } finally {
    await release?.stop(true)
    rmSync(root, { recursive: true, force: true })
  }
}

function options() {
  const { values } = parseCommandLine(help, {
    options: {
      suite: { type: 'string' },
      case: { type: 'string' },
      busy: { type: 'string', default: '0' },
      dev: { type: 'boolean', default: false },
    },
  })
  const busy = Number(values.busy)
  const suites = SUITES.filter((one) => values.suite === undefined || one === values.suite)
  const cases = CASES.filter((one) => values.case === undefined || one === values.case)
  if (suites.length === 0) refuse(`--suite takes ${SUITES.join(' or ')}`, help)
  if (cases.length === 0) refuse(`--case takes ${CASES.join(', ')}`, help)
  if (!(Number.isInteger(busy) && busy >= 0 && busy <= MAX_BUSY_LOOPS))
    refuse(`--busy takes 0 to ${MAX_BUSY_LOOPS}`, help)
  return { onlyDev: values.dev, busy, suites, cases }
}

async function main(): Promise<number> {
  const { suites, cases, busy, onlyDev } = options()
  if (process.getuid?.() !== 0) {
    console.error('check:fresh makes roots and enters them, and has to be run by root')
    return 1
  }
  mkdirSync(work)
  // They end with this process.
  startBusyLoops(busy)
  const made = new Map<Suite, Promise<string>>()
  const base = (suite: Suite) => (): Promise<string> => {
    const root = made.get(suite) ?? step(`${suite}, a root with nothing`, (say) => makeRoot(suite, say))
    made.set(suite, root)
    return root
  }
  const bases = { bookworm: base('bookworm'), trixie: base('trixie') }
  const results: { title: string; ok: boolean; text: string }[] = []
  for (const suite of suites) {
    await bases[suite]()
    for (const name of cases) {
      const title = `${suite}, ${name}`
      try {
        const text = await step(title, (say) => play(name, bases, suite, onlyDev, say))
        results.push({ title, ok: true, text })
      } catch (error) {
        if (!(error instanceof CheckError)) throw error
        results.push({ title, ok: false, text: error.message })
      }
    }
  }
  rmSync(work, { recursive: true, force: true })
  return summarise(results)
}

try {
  process.exit(await main())
} catch (error) {
  rmSync(work, { recursive: true, force: true })
  if (error instanceof CheckError) {
    console.error(error.message)
    process.exit(1)
  }
  throw error
}
