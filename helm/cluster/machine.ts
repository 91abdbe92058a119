import { existsSync, readlinkSync } from 'node:fs'
import { mkdir, readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import type { NodePlace } from '../../shared/dev/brokers/kafka.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { lastLines } from '../../shared/dev/run.ts'
import { run } from '../checks/check.ts'

/**
 * A machine of its own for a container runtime: namespaces for network, mounts and processes, its own /run, /var/lib and /var/log, a copy of
 * /etc and /opt, and a cgroup. So it changes
 * nothing of this machine but what is below that cgroup. When its first process ends, the kernel ends all others and unmounts everything.
 */
export interface Machine {
  readonly name: string
  readonly address: string
  /** The command that runs another one in it. */
  readonly enter: readonly string[]
  /** Has `lib`, its /var/lib. */
  readonly folder: string
  /** Of its containers, from the root of each hierarchy. */
  readonly cgroup: string
  /** The log of one of its programs. */
  logOf(program: string): string
  /** Starts a program in it. @param path folders of other programs that it calls */
  start(program: string, command: readonly string[], path?: readonly string[]): BoundChild
  /** The logs of programs that have ended. */
  ended(): string[]
  /** Ends every process in it, and removes its cgroup. */
  stop(): Promise<void>
}

/** @throws UnavailableError before anything is built in vain */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new UnavailableError('namespaces and mounts need root: run the command as root')
}

export interface MachineOptions {
  readonly name: string
  readonly place: NodePlace
  readonly folder: string
  readonly logs: string
  /** How many times as much CPU time as one process it gets when there is not enough: its containers together are more than one. */
  readonly cpuWeight: number
  /** Is removed when this process is killed. */
  readonly removeWhenOrphaned: string
}

const START_TIMEOUT_MS = 60_000
const POLL_MS = 50
const CGROUPS = '/sys/fs/cgroup'
const PREFIX = 'kafkatrace-'
/** A cgroup of a machine contains the ID of the process that made it. */
const OURS = new RegExp(`^${PREFIX}(\\d+)-`)

/** What a process without a cgroup of its own has, by the version of cgroups. */
const CPU_WEIGHTS: Readonly<Record<string, number>> = { 'cpu.shares': 1_024, 'cpu.weight': 100 }

/** What a kubelet writes for the whole machine: it sees these files instead. */
const SYSCTLS: Readonly<Record<string, number>> = {
  'vm/overcommit_memory': 1,
  'vm/panic_on_oom': 0,
  'kernel/panic': 10,
  'kernel/panic_on_oops': 1,
  'kernel/keys/root_maxkeys': 1_000_000,
  'kernel/keys/root_maxbytes': 25_000_000,
}

/** The first process. It collects the processes that lose their parents. Arguments: the folder, that of /var/log, then the sysctls. */
const FIRST_PROCESS = `set -eu
folder=$1 logs=$2
shift 2
mount -t tmpfs tmpfs /run
mount --bind "$folder/lib" /var/lib
mount --bind "$logs" /var/log
# Engines write files of their own there.
for path in etc opt; do
  mount -t overlay -o "lowerdir=/$path,upperdir=$folder/$path,workdir=$folder/$path.work" overlay "/$path"
done
for name in "$@"; do
  [ ! -e "/proc/sys/$name" ] || mount --bind "$folder/sysctl/$name" "/proc/sys/$name"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
# A module in most kernels.
[ -e /proc/sys/net/bridge ] || modprobe br_netfilter
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
: > "$folder/begun"
while :; do
  sleep 86400 &
  wait $!
done`

export async function startMachine(options: MachineOptions): Promise<Machine> {
  const { name, place, folder, logs, cpuWeight, removeWhenOrphaned } = options
  const cgroup = `${PREFIX}${process.pid}-${name}`
  for (const path of ['lib', 'sysctl', 'etc', 'etc.work', 'opt', 'opt.work'])
    await mkdir(join(folder, path), { recursive: true })
  for (const [sysctl, value] of Object.entries(SYSCTLS)) await Bun.write(join(folder, 'sysctl', sysctl), `${value}\n`)
  await mkdir(join(logs, name), { recursive: true })
  await makeCgroup(cgroup, cpuWeight)
  const logOf = (program: string): string => join(logs, `${name}-${program}.log`)
  const log = Bun.file(logOf('first-process'))
  // `ip netns exec` would hide the cgroups with a new /sys.
  const namespace = ['nsenter', `--net=/run/netns/${place.enter.at(-1)}`]
  const unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
  const first = spawnBoundChild(
    [...namespace, ...unshare, 'sh', '-c', FIRST_PROCESS, name, folder, join(logs, name), ...Object.keys(SYSCTLS)],
    { stdout: log, stderr: log, removeWhenOrphaned },
  )
  const programs: { child: BoundChild; log: string }[] = []
  const stop = async (): Promise<void> => {
    await endBoundChild(first, 0)
    await Promise.all(programs.map(({ child }) => child.exited))
    await removeCgroup(cgroup)
  }
  try {
    await until(
      `${name} has begun`,
      () => existsSync(join(folder, 'begun')) || hasEnded(first, name, logOf('first-process')),
    )
    const children = (await Bun.file(`/proc/${first.pid}/task/${first.pid}/children`).text()).trim().split(' ')
    // The one that unshare has forked; the other is the guard of a bound child.
    const namespaceOf = (process: string): string => readlinkSync(`/proc/${process}/ns/pid`)
    const pid = children.find((child) => namespaceOf(child) !== namespaceOf('self')) ?? ''
    const enter = ['nsenter', '--target', pid, '--net', '--mount', '--pid']
    return {
      name,
      address: place.host,
      enter,
      folder,
      cgroup,
      logOf,
      start(program, command, path = []) {
        const PATH = [...path, process.env.PATH ?? '', '/usr/sbin', '/sbin'].join(':')
        const output = Bun.file(logOf(program))
        const env = { ...process.env, PATH }
        const child = spawnBoundChild([...enter, ...command], { stdout: output, stderr: output, env })
        programs.push({ child, log: logOf(program) })
        return child
      },
      ended: () => programs.filter(({ child }) => !isRunning(child)).map(({ log }) => log),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The folders of cgroups: one for each controller, or one for all (cgroups(7)). */
async function hierarchies(): Promise<string[]> {
  if (existsSync(join(CGROUPS, 'cgroup.controllers'))) return [CGROUPS]
  return (await readdir(CGROUPS, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => join(CGROUPS, name))
}

async function makeCgroup(name: string, cpuWeight: number): Promise<void> {
  for (const hierarchy of await hierarchies()) {
    const folder = join(hierarchy, name)
    await mkdir(folder, { recursive: true })
    for (const [file, weight] of Object.entries(CPU_WEIGHTS))
      if (existsSync(join(folder, file))) await Bun.write(join(folder, file), String(weight * cpuWeight))
  }
}

/** Removes a cgroup and those in it, once their processes have ended. */
async function removeCgroup(name: string): Promise<void> {
  for (const hierarchy of await hierarchies())
    await until(`the cgroup ${name} is removed`, () =>
      removeTree(join(hierarchy, name)).then(
        () => true,
        () => false,
      ),
    )
}

/** The files in a cgroup cannot be removed; they go with its folder. */
async function removeTree(folder: string): Promise<void> {
  if (!existsSync(folder)) return
  for (const entry of await readdir(folder, { withFileTypes: true }))
    if (entry.isDirectory()) await removeTree(join(folder, entry.name))
  await rmdir(folder)
}

/** Cgroups of machines whose process was killed: the machines have ended with it. */
export async function removeOrphanedCgroups(): Promise<void> {
  for (const hierarchy of await hierarchies())
    for (const name of await readdir(hierarchy)) {
      const pid = OURS.exec(name)?.[1]
      if (pid !== undefined && !existsSync(`/proc/${pid}`)) await removeCgroup(name)
    }
}

/** @returns false while it runs @throws Error with the end of its log when it has ended */
export async function hasEnded(child: BoundChild, name: string, log: string): Promise<boolean> {
  if (isRunning(child)) return false
  throw new Error(`${name} ended; ${log}:\n${lastLines(await Bun.file(log).text())}`)
}

export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = START_TIMEOUT_MS,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1_000} s`)
    await Bun.sleep(POLL_MS)
  }
}

export async function must(command: readonly string[]): Promise<string> {
  const { exitCode, output, errors } = await run(command as [string, ...string[]])
  if (exitCode !== 0) throw new Error(`${command.join(' ')} ended with ${exitCode}: ${lastLines(output + errors)}`)
  return output
}
