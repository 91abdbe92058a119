import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createNetwork } from '../../bench/faults/network.ts'
import { makeLogFolder } from '../../shared/dev/own-folder.ts'
import type { Ran } from '../../shared/dev/run.ts'
import { type Area, root, run } from '../checks/check.ts'
import { commandsIn } from '../checks/delivery-docs.ts'
import { type Compose, durationMs } from '../checks/images-compose.ts'
import { tool } from '../checks/tools.ts'
import { demanding } from './demands.ts'
import { archiveKafka, archiveStages } from './images.ts'
import { hasEnded, type Machine, must, removeOrphanedCgroups, requireRoot, startMachine, until } from './machine.ts'

/**
 * compose.yaml by Docker Compose and Docker's engine, in a machine of its own, with our images and Apache Kafka in Redpanda's place, whose image cannot be
 * built here. So Redpanda's own settings, `rpk` and the schema registry are not run, nor are the images of others.
 */

type Say = (progress: string) => void

const SERVICES = ['producer', 'consumer', 'console'] as const
const UP_TIMEOUT_SECONDS = 120
const CPU_WEIGHT = 2

interface Engine {
  readonly machine: Machine
  /** Docker Compose with compose.yaml and what stands in for Redpanda. */
  compose(...args: string[]): Promise<Ran>
  docker(...args: string[]): Promise<string>
}

const SERVER_PROPERTIES = `process.roles=broker,controller
node.id=@ID@
controller.quorum.voters=1@redpanda:9093
listeners=INTERNAL://:9092,EXTERNAL://:19092,CONTROLLER://:9093
advertised.listeners=INTERNAL://redpanda:9092,EXTERNAL://127.0.0.1:19092
listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
log.dirs=/var/lib/redpanda/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.cleaner.dedupe.buffer.size=8388608
`

const CREATE_TOPICS = `for topic in kt.default.events kt.default.events.retry kt.default.events.dlq kt.default.events.processed; do
  java -Xmx128m -cp '/opt/kafka/*' org.apache.kafka.tools.TopicCommand --bootstrap-server redpanda:9092 \\
    --create --if-not-exists --partitions "$$PARTITIONS" --replication-factor 1 --topic "$$topic"
done`

/** What is merged into compose.yaml. @param properties a file for Kafka @param tenants the file without schemas */
const standIn = (image: string, properties: string, tenants: string): unknown => {
  const own = { pull_policy: 'never' }
  // Kafka has no schema registry.
  const withoutRegistry = {
    ...own,
    environment: { SCHEMA_REGISTRY_URL: '' },
    volumes: [`${tenants}:/etc/kafkatrace/tenants.json:ro`],
  }
  return {
    services: {
      redpanda: {
        image,
        pull_policy: 'never',
        command: ['/etc/kafka/server.properties'],
        volumes: [`${properties}:/etc/kafka/server.properties:ro`],
        healthcheck: { test: ['CMD', 'bash', '-c', 'exec 3<>/dev/tcp/redpanda/9092'] },
      },
      topics: { image, pull_policy: 'never', entrypoint: ['/bin/sh', '-euc'], command: [CREATE_TOPICS] },
      producer: withoutRegistry,
      consumer: own,
      console: withoutRegistry,
    },
  }
}

interface Tenants {
  tenants: Record<string, { schemas?: unknown }>
}

async function tenantsWithoutSchemas(): Promise<Tenants> {
  const file = (await Bun.file(join(root, '.docker/compose-tenants.json')).json()) as Tenants
  for (const tenant of Object.values(file.tenants)) delete tenant.schemas
  return file
}

let engine: Promise<Engine> | undefined
const ends: (() => Promise<unknown>)[] = []

async function startEngine(say: Say): Promise<Engine> {
  requireRoot()
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-engine-'))
  ends.push(() => rm(folder, { recursive: true, force: true }))
  const logs = makeLogFolder()
  ends.push(() => rm(logs, { recursive: true, force: true }))
  const { version } = (await Bun.file(join(root, 'package.json')).json()) as { version: string }
  const stages = await archiveStages(say)
  const kafka = await archiveKafka(say)
  const [dockerd, docker, compose] = await Promise.all(
    (['dockerd', 'docker', 'docker-compose'] as const).map((name) => tool(name, say)),
  )
  await removeOrphanedCgroups()
  const network = await createNetwork(1)
  ends.push(() => network.stop())
  const [place] = network.places
  if (place === undefined) throw new Error('the network has no place')
  await mkdir(join(folder, 'machine'))
  const machine = await startMachine({
    name: 'engine',
    place,
    folder: join(folder, 'machine'),
    logs,
    cpuWeight: CPU_WEIGHT,
    removeWhenOrphaned: folder,
  })
  ends.push(() => machine.stop())
  say('starting Docker’s engine')
  const system = dirname(dirname(dirname(dockerd ?? '')))
  const libraries = join(system, `lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`)
  const daemon = machine.start(
    'dockerd',
    [
      ...['env', `LD_LIBRARY_PATH=${libraries}`, dockerd ?? ''],
      ...['--host=unix:///run/docker.sock', '--storage-driver=overlay2', `--cgroup-parent=/${machine.cgroup}`],
      // Without CAP_SYS_RESOURCE, no limit can be raised above this process's own.
      '--default-ulimit=nofile=20000:20000',
    ],
    [join(system, 'usr/bin'), join(system, 'usr/sbin')],
  )
  const inEngine = [...machine.enter, 'env', 'DOCKER_HOST=unix:///run/docker.sock', `LD_LIBRARY_PATH=${libraries}`]
  const ask = (...args: string[]): Promise<string> => must([...inEngine, docker ?? '', ...args])
  await until('Docker’s engine answers', async () => {
    const { exitCode } = await run([...(inEngine as [string]), docker ?? '', 'version'])
    return exitCode === 0 || hasEnded(daemon, 'dockerd', machine.logOf('dockerd'))
  })
  say('loading images')
  for (const { file } of [...Object.values(stages), kafka]) await ask('load', '--quiet', '--input', file)
  for (const [stage, { image }] of Object.entries(stages))
    await ask('tag', image, `ghcr.io/kafkatrace/${stage}:${version}`)
  const properties = join(folder, 'server.properties')
  await Bun.write(properties, SERVER_PROPERTIES)
  const merged = join(folder, 'stand-in.json')
  const tenants = join(folder, 'tenants.json')
  await Bun.write(tenants, JSON.stringify(await tenantsWithoutSchemas()))
  await Bun.write(merged, JSON.stringify(standIn(kafka.image, properties, tenants)))
  const own = [compose ?? '', '--project-directory', root, '-f', join(root, 'compose.yaml'), '-f', merged]
  return { machine, docker: ask, compose: (...args) => run([...(inEngine as [string]), ...own, ...args]) }
}

const started = (say: Say): Promise<Engine> => {
  engine ??= startEngine(say)
  return engine
}

interface Container {
  Name: string
  Config: { User: string; Labels: Record<string, string>; StopTimeout?: number }
  HostConfig: {
    ReadonlyRootfs: boolean
    Memory: number
    NanoCpus: number
    PidsLimit: number
    CapDrop: string[] | null
    SecurityOpt: string[] | null
    PortBindings: Record<string, { HostIp: string }[]>
  }
  State: { Status: string; ExitCode: number; OOMKilled: boolean; Health?: { Status: string } }
}

async function containers({ docker }: Engine): Promise<Container[]> {
  const ids = (await docker('ps', '--all', '--quiet')).split('\n').filter((id) => id !== '')
  return ids.length === 0 ? [] : (JSON.parse(await docker('inspect', ...ids)) as Container[])
}

const serviceOf = ({ Config }: Container): string => Config.Labels['com.docker.compose.service'] ?? ''

const up = demanding('compose: up, healthy, with the limits that it names', started, async (one, demands, say) => {
  say('up')
  const limit = ['--wait', '--wait-timeout', String(UP_TIMEOUT_SECONDS)]
  const { exitCode, output, errors } = await one.compose('up', '--no-build', '--detach', ...limit, ...SERVICES)
  demands.demand(exitCode === 0, `up ended with ${exitCode}: ${(output + errors).slice(-2_000)}`)
  const { services } = Bun.YAML.parse(await Bun.file(join(root, 'compose.yaml')).text()) as Compose
  const all = await containers(one)
  for (const name of SERVICES) {
    const container = all.find((of) => serviceOf(of) === name)
    if (container === undefined) {
      demands.demand(false, `${name} has no container`)
      continue
    }
    const { HostConfig: host, State: state, Config: config } = container
    const is = (holds: boolean, what: string): void => demands.demand(holds, `${name} ${what}`)
    is(state.Health?.Status === 'healthy', `is ${state.Health?.Status ?? state.Status}`)
    is(host.ReadonlyRootfs, 'may write its root file system')
    is(host.Memory === memoryOf(services[name]?.mem_limit), `has a memory limit of ${host.Memory}`)
    is(host.NanoCpus === Number(services[name]?.cpus) * 1e9, `has a CPU limit of ${host.NanoCpus / 1e9}`)
    is(host.PidsLimit > 0, 'has no limit of processes')
    is(host.CapDrop?.includes('ALL') === true, 'keeps capabilities')
    is(host.SecurityOpt?.includes('no-new-privileges:true') === true, 'may gain privileges')
    is(config.User === '10001:10001', `runs as ${config.User}`)
    const ports = Object.values(host.PortBindings).flat()
    is(
      ports.every(({ HostIp }) => HostIp === '127.0.0.1'),
      'is published beyond loopback',
    )
    const write = ['exec', container.Name.slice(1), 'touch', '/app/written']
    is(
      !(await one.docker(...write).then(
        () => true,
        () => false,
      )),
      'wrote into its root file system',
    )
  }
})

const memoryOf = (limit: string | undefined): number => Number(limit?.replace('m', '')) * 1024 ** 2

/** The command of README that sends an event, and what its answer's id shows at the console. */
const sends = demanding('compose: an event as README sends it, and its end', started, async (one, demands, say) => {
  const inside = (command: string): Promise<Ran> => run([...(one.machine.enter as [string]), 'sh', '-c', command])
  const readme = await Bun.file(join(root, 'README.md')).text()
  const send = commandsIn(readme).find((command) => command.startsWith('curl -i ')) ?? ''
  const { output } = await inside(send)
  demands.demand(/ 202 /.test(output), `${send}\nis answered:\n${output}`)
  const id = /"id":"([^"]+)"/.exec(output)?.[1] ?? ''
  const look = /`(curl -s [^`]+)`/.exec(readme)?.[1] ?? ''
  say('waiting for its outcome')
  let shown = ''
  await until('the console shows it as processed', async () => {
    shown = (await inside(look.replace(/\bID\b/, id))).output
    return shown.includes('"processed"')
  }).catch(() => undefined)
  demands.demand(shown.includes('"processed"'), `${look} says of ${id}: ${shown.slice(0, 500)}`)
  const metrics = await inside('curl -s http://127.0.0.1:9081/metrics')
  demands.demand(
    /^kafkatrace_consumer_outcomes_total\{outcome="processed"\} [1-9]/m.test(metrics.output),
    'the consumer has counted no outcome',
  )
})

const down = demanding('compose: stop and down, in time, and nothing is left', started, async (one, demands, say) => {
  const { services } = Bun.YAML.parse(await Bun.file(join(root, 'compose.yaml')).text()) as Compose
  for (const name of SERVICES) {
    say(`stopping the ${name}`)
    const beganMs = performance.now()
    await one.compose('stop', name)
    const container = (await containers(one)).find((of) => serviceOf(of) === name)
    const graceMs = durationMs(services[name]?.stop_grace_period) ?? 0
    demands.demand(container?.State.ExitCode === 0, `${name} ended with ${container?.State.ExitCode}`)
    demands.demand(performance.now() - beganMs < graceMs, `${name} took longer than its stop_grace_period`)
  }
  say('down')
  const { exitCode, output, errors } = await one.compose('down', '--volumes')
  demands.demand(exitCode === 0, `down ended with ${exitCode}: ${(output + errors).slice(-1_000)}`)
  demands.demand((await containers(one)).length === 0, 'containers are left')
  const networks = await one.docker('network', 'ls', '--format={{.Name}}')
  const volumes = await one.docker('volume', 'ls', '--quiet')
  demands.demand(!networks.includes('kafkatrace') && volumes === '', `left: ${networks} ${volumes}`)
})

export const compose: Area = {
  name: 'compose',
  checks: [up, sends, down],
  async end() {
    for (const end of ends.splice(0).toReversed()) await end()
  },
}
