/**
 * Builds the images without a container engine and starts them: buildah executes the Dockerfile's own steps in a chroot, and the
 * services run as the image says (user, environment, command, probe) on a read-only root file system.
 * This does not test an engine's isolation (seccomp, cgroups, networks); `bun run check:cluster` does.
 */

import { join } from 'node:path'
import kafkaClient from '@confluentinc/kafka-javascript/package.json'
import { startEmbedded } from '../../shared/dev/brokers/embedded.ts'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { type Check, type Outcome, root, run } from './check.ts'
import { contentsOf, type Sbom, sbomFaults } from './images-contents.ts'
import { stagesOf } from './images-dockerfile.ts'
import type { Service } from './images-environment.ts'
import { buildah, buildStage, must, provideBase, removeUnused } from './images-store.ts'
import { tool } from './tools.ts'

const readyTimeoutMs = 30_000
const stopTimeoutMs = 20_000
const pollMs = 200

/** Must not be in an image that runs: these are for building, or help an intruder to build. */
const unwanted = ['gcc', 'g++', 'cc', 'make', 'patch', 'curl', 'wget', 'git', 'npm', 'node-gyp']

const labels = ['title', 'description', 'version', 'revision', 'licenses', 'vendor', 'source', 'base.name'].map(
  (name) => `org.opencontainers.image.${name}`,
)

type Say = (progress: string) => void

/** The console is in the consumer's image. */
const consoleMain = 'consumer/console/main.ts'

/** The stages of the images that are deployed. */
type Deployed = Exclude<Service, 'console'>

/** How an image is run. */
interface ImageConfig {
  readonly User: string
  readonly Env: readonly string[]
  readonly Entrypoint: readonly string[]
  readonly Cmd: readonly string[]
  readonly WorkingDir: string
  readonly StopSignal: string
  readonly ExposedPorts: Readonly<Record<string, unknown>>
  readonly Healthcheck?: { readonly Test: readonly string[] }
  readonly Labels: Readonly<Record<string, string>>
}

/**
 * Replaces itself with a program in the image: own mount and PID namespaces, a read-only root file system, /tmp in memory, the image's
 * user, no way to gain privileges.
 */
const contain = `set -eu
at=$1 user=$2 workdir=$3
shift 3
mount --bind "$at" "$at"
mount -t proc proc "$at/proc"
mount --rbind /dev "$at/dev"
mount -t tmpfs tmpfs "$at/tmp"
mount -o remount,bind,ro "$at"
exec setpriv --no-new-privs chroot --userspec="$user" "$at" /usr/bin/env --ignore-environment --chdir="$workdir" "$@"`

function contained(at: string, config: ImageConfig, environment: readonly string[], command: readonly string[]) {
  const program = [...config.Env, ...environment, ...command]
  return [
    'unshare',
    '--mount',
    '--pid',
    '--fork',
    'sh',
    '-c',
    contain,
    'contain',
    at,
    config.User,
    config.WorkingDir,
    ...program,
  ] as [string, ...string[]]
}

/** What an image has besides packages. */
const NATIVE = [`confluentinc/librdkafka@v${kafkaClient.librdkafka}`, `oven-sh/bun@bun-v${Bun.version}`]

/** What the release attests of an image, of its root file system. */
async function sbomOf(syft: string, at: string): Promise<Sbom> {
  const catalogers = ['--override-default-catalogers=image', '--select-catalogers=+sbom-cataloger']
  return JSON.parse(
    await must([syft, 'scan', `dir:${at}`, ...catalogers, '--quiet', '--output=cyclonedx-json']),
  ) as Sbom
}

/** Checks an image without starting it. */
async function imageFaults(service: Deployed, at: string, config: ImageConfig, syft: string): Promise<Outcome> {
  const faults: string[] = []
  let passed = 0
  const demand = (holds: boolean, text: string): void => {
    if (holds) passed++
    else faults.push(`${service}: ${text}`)
  }
  const stage = stagesOf(await Bun.file(join(root, '.docker/Dockerfile')).text()).find(({ name }) => name === service)
  demand(/^[1-9]\d*:[1-9]\d*$/.test(config.User), `runs as ${config.User || 'root'}, not as a number that is not root`)
  demand(config.Healthcheck?.Test[0] === 'CMD', 'no HEALTHCHECK, or one that needs a shell')
  demand(config.Entrypoint[0] === '/usr/local/bin/bun', 'its ENTRYPOINT is not bun itself')
  demand(config.StopSignal === 'SIGTERM', 'STOPSIGNAL is not SIGTERM')
  demand(
    Object.keys(config.ExposedPorts).sort().join() ===
      [...(stage?.exposes ?? [])]
        .map((port) => `${port}/tcp`)
        .sort()
        .join(),
    'EXPOSE',
  )
  for (const label of labels) demand((config.Labels[label] ?? '') !== '', `no label ${label}`)
  const path = (await must(['chroot', at, '/bin/sh', '-c', `command -v ${unwanted.join(' ')} || true`])).split('\n')
  demand(path.join('') === '', `has ${path.join(' ')}`)
  const files = await must(['find', join(at, 'app'), '-printf', '%m %U %P\\n'])
  const list = files.split('\n').map((line) => {
    const [mode = '', owner = '', ...name] = line.split(' ')
    return { mode: Number.parseInt(mode, 8), owner, name: name.join(' ') }
  })
  const none = (what: string, test: (one: (typeof list)[number]) => boolean): void => {
    const found = list.filter(test).map(({ name }) => name)
    demand(found.length === 0, `${what}: ${found.slice(0, 5).join(', ')}`)
  }
  none('source maps', ({ name }) => name.endsWith('.map'))
  none('sources of the addon or of librdkafka', ({ name }) =>
    /\.(c|cc|cpp|h|o|a|gyp)$|native\/(shim|Makefile)/.test(name),
  )
  none('tests of ours', ({ name }) => /^(producer|consumer|shared)\/.*\.test\.ts$/.test(name))
  none("the other service's code", ({ name }) => name.startsWith(service === 'producer' ? 'consumer/' : 'producer/'))
  none('files that are not root’s', ({ owner }) => owner !== '0')
  none('files that all may write', ({ mode, name }) => (mode & 0o002) !== 0 && !name.includes('.bin/'))
  const addon = '/app/node_modules/@confluentinc/kafka-javascript/build/Release/confluent-kafka-javascript.node'
  const libraries = await must(['chroot', at, '/usr/bin/ldd', addon])
  demand(!libraries.includes('not found'), `the addon lacks libraries: ${libraries}`)
  const contents = contentsOf(at)
  demand(contents.missing.length === 0, `has no ${contents.missing.join(', ')}`)
  demand(contents.withoutText.length === 0, `the licence's text is missing of ${contents.withoutText.join(', ')}`)
  for (const fault of sbomFaults(await sbomOf(syft, at), contents, NATIVE)) demand(false, fault)
  passed += contents.npm.length + contents.debian.length
  return { passed, faults }
}

async function until(text: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + readyTimeoutMs
  while (!(await holds().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${text}: not within ${readyTimeoutMs} ms`)
    await Bun.sleep(pollMs)
  }
}

/**
 * Signals the process that `unshare` has forked: the service, which is PID 1 in its namespace. Killing `unshare` would not end it, since the
 * kernel clears a child's parent-death signal when the child changes its user.
 */
async function signal(pid: number, name: 'TERM' | 'KILL'): Promise<void> {
  const children = await Bun.file(`/proc/${pid}/task/${pid}/children`).text()
  for (const child of children.split(' ').filter((text) => text !== '')) process.kill(Number(child), `SIG${name}`)
}

interface Mounted<S extends Service = Service> {
  readonly service: S
  readonly at: string
  readonly config: ImageConfig
}

/** Runs all services on the embedded broker: ready, an event stored, processed and found, their probes, read-only files, a clean end. */
async function startFaults(images: readonly Mounted[], say: Say): Promise<Outcome> {
  say('starting the services on the embedded broker')
  const broker = await startEmbedded()
  const [port = 0, consolePort = 0, producerOps = 0, consumerOps = 0, consoleOps = 0] = await findFreePorts(5)
  const opsPorts = { producer: producerOps, consumer: consumerOps, console: consoleOps }
  const own = {
    producer: ['AUTH=off', `PORT=${port}`],
    consumer: ['INSTANCE_ID=check'],
    console: ['AUTH=off', `PORT=${consolePort}`],
  }
  const environment = (service: Service): string[] => [
    'NODE_ENV=development',
    `KAFKA_BROKERS=${broker.bootstrapServers}`,
    `OPS_PORT=${opsPorts[service]}`,
    ...own[service],
  ]
  const faults: string[] = []
  let passed = 0
  const demand = (holds: boolean, text: string): void => {
    if (holds) passed++
    else faults.push(text)
  }
  const processes = images.map(({ service, at, config }) => {
    const command = contained(at, config, environment(service), [...config.Entrypoint, ...config.Cmd])
    return { service, child: Bun.spawn(command, { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' }) }
  })
  const logs = processes.map(
    async ({ service, child }) => `${service}: ${await child.stdout.text()}${await child.stderr.text()}`,
  )
  try {
    for (const { service } of processes) {
      await until(`${service} is ready`, async () => (await fetch(`http://127.0.0.1:${opsPorts[service]}/readyz`)).ok)
      passed++
    }
    const answer = await fetch(`http://127.0.0.1:${port}/v1/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"type":"image.checked"}',
    })
    demand(answer.status === 202, `producer: an event was answered ${answer.status} ${await answer.text()}`)
    await until('consumer has processed the event', async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${consumerOps}/metrics`)).text()
      return /^kafkatrace_consumer_outcomes_total\{outcome="processed"\} 1$/m.test(metrics)
    })
    passed++
    const page = await fetch(`http://127.0.0.1:${consolePort}/`)
    const [, script = ''] = /src="\.([^"]+)"/.exec(await page.text()) ?? []
    const loaded = await fetch(`http://127.0.0.1:${consolePort}${script}`)
    demand(page.ok && loaded.ok, `console: its page was answered ${page.status}, and its script ${loaded.status}`)
    for (const { service, at, config } of images) {
      const [, ...probe] = config.Healthcheck?.Test ?? []
      const healthy = await run(contained(at, config, environment(service), probe))
      demand(healthy.exitCode === 0, `${service}: its HEALTHCHECK ends with ${healthy.exitCode}: ${healthy.errors}`)
      const elsewhere = await run(contained(at, config, [...environment(service), 'OPS_PORT=1'], probe))
      demand(
        elsewhere.exitCode === 1,
        `${service}: its HEALTHCHECK ends with ${elsewhere.exitCode} where nothing listens`,
      )
      const written = await run(contained(at, { ...config, User: '0:0' }, [], ['/bin/touch', '/app/written']))
      demand(/Read-only file system/.test(written.errors), `${service}: its root file system could be written to`)
    }
    for (const { service, child } of processes) {
      await signal(child.pid, 'TERM')
      const exitCode = await Promise.race([child.exited, Bun.sleep(stopTimeoutMs).then(() => undefined)])
      demand(exitCode === 0, `${service}: SIGTERM ended it with ${exitCode ?? 'nothing'}`)
    }
  } catch (error) {
    faults.push((error as Error).message)
  } finally {
    for (const { child } of processes) if (child.exitCode === null) await signal(child.pid, 'KILL').catch(() => {})
    const said = await Promise.all(logs)
    if (faults.length > 0) faults.push(...said.map((log) => log.slice(-2_000)))
    await broker.stop()
  }
  return { passed, faults }
}

async function checkImages(say: Say): Promise<Outcome> {
  await provideBase(say)
  const syft = await tool('syft', say)
  say('building (minutes at first: the addon is compiled)')
  try {
    // Named so that its layers are kept.
    await buildStage('build')
    const mounted: Mounted<Deployed>[] = []
    for (const service of ['producer', 'consumer'] as const) {
      say(`building the ${service}'s image`)
      const image = await buildStage(service)
      const { Docker } = JSON.parse(await buildah('inspect', '--type=image', image)) as {
        Docker: { config: ImageConfig }
      }
      const container = await buildah('from', '--pull-never', image)
      mounted.push({ service, at: await buildah('mount', container), config: Docker.config })
    }
    const outcomes: Outcome[] = []
    for (const { service, at, config } of mounted) outcomes.push(await imageFaults(service, at, config, syft))
    const consoles = mounted
      .filter(({ service }) => service === 'consumer')
      .map(({ at, config }) => ({ service: 'console' as const, at, config: { ...config, Cmd: [consoleMain] } }))
    outcomes.push(await startFaults([...mounted, ...consoles], say))
    return {
      passed: outcomes.reduce((sum, { passed }) => sum + passed, 0),
      faults: outcomes.flatMap(({ faults }) => faults),
    }
  } finally {
    await removeUnused()
  }
}

export const imagesStart: Check = {
  name: 'images build, start, store and process an event',
  counts: 'demands',
  async run(say) {
    if (process.getuid?.() === 0) return checkImages(say)
    if (Bun.which('sudo') === null) throw new UnavailableError('mounts and chroot need root, and there is no sudo')
    // Only this check needs root, for mounts and chroot.
    say('building the images and starting them, as root')
    const kept = '--preserve-env=PATH,HOME,KAFKATRACE_CACHE_DIR,XDG_CACHE_HOME,NODE_EXTRA_CA_CERTS'
    const { exitCode, output, errors } = await run(['sudo', '-n', kept, process.execPath, import.meta.path])
    if (exitCode !== 0) throw new UnavailableError(`as root, it ended with ${exitCode}:\n${errors.slice(-2_000)}`)
    return JSON.parse(output) as Outcome
  },
}

if (import.meta.main) console.log(JSON.stringify(await checkImages((progress) => console.error(progress))))
