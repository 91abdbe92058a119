import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Area, type Check, outcome, root, run } from './check.ts'
import { imagesStart } from './images-build.ts'
import {
  type Compose,
  composeFaults,
  durationMs,
  environmentOf,
  exampleFaults,
  parseEnv,
  variablesOf,
} from './images-compose.ts'
import { basesOf, environmentOfStage, stagesOf } from './images-dockerfile.ts'
import { drainTimeoutMs, portsOf, type Service, unknownVariables, valueFaults } from './images-environment.ts'
import { tool } from './tools.ts'

const text = (path: string): Promise<string> => Bun.file(join(root, path)).text()

/** The consumer with custom handlers. */
const exampleDockerfile = 'docs/examples/Dockerfile'

const composeOf = async (): Promise<Compose> => Bun.YAML.parse(await text('compose.yaml')) as Compose

const dockerfile: Check = {
  name: 'Dockerfiles pass hadolint',
  counts: 'stages',
  async run(say) {
    const files = ['.docker/Dockerfile', exampleDockerfile]
    const { exitCode, output, errors } = await run([
      await tool('hadolint', say),
      '--no-color',
      '--config=.docker/hadolint.yaml',
      ...files,
    ])
    const lines = (output + errors).split('\n').filter((line) => line !== '')
    const faults = exitCode === 0 || lines.length > 0 ? lines : [`hadolint ended with ${exitCode}`]
    const stages = await Promise.all(files.map(async (file) => stagesOf(await text(file))))
    return outcome(stages.flat().length, faults)
  },
}

const composeLint: Check = {
  name: 'compose.yaml passes dclint',
  counts: 'services',
  async run(say) {
    const { exitCode, output, errors } = await run([
      await tool('dclint', say),
      '--config=.docker/dclint.json',
      '--max-warnings=0',
      '--color=false',
      'compose.yaml',
    ])
    return outcome(Object.keys((await composeOf()).services).length, exitCode === 0 ? [] : [(output + errors).trim()])
  },
}

const composeLoads: Check = {
  name: "compose.yaml is loaded by Compose's own loader",
  counts: 'services',
  async run(say) {
    const values = parseEnv(await text('.env.example'))
    const loader = await tool('compose', say)
    const { exitCode, output, errors } = await run([loader, '-format', 'json', 'compose.yaml'], {
      env: Object.fromEntries(values),
    })
    if (exitCode !== 0) return outcome(0, [(output + errors).trim()])
    const loaded = JSON.parse(output) as Compose
    const { services } = await composeOf()
    // The other checks must parse the file as Compose does.
    const faults = Object.entries(services).flatMap(([name, service]) => {
      const theirs = loaded.services[name]
      const same = Bun.deepEquals(environmentOf(service, values), environmentOf(theirs ?? {}, values))
      return same ? [] : [`${name}: Compose reads another environment than our checks do`]
    })
    return outcome(Object.keys(loaded.services).length, faults)
  },
}

const composeContained: Check = {
  name: 'compose: probed, bounded, unprivileged, in order',
  counts: 'services',
  async run() {
    const compose = await composeOf()
    const stages = stagesOf(await text('.docker/Dockerfile')).map(({ name }) => name)
    const faults = composeFaults(compose, {
      exists: (path) => existsSync(join(root, path)),
      stages,
      writesItsRoot: ['redpanda', 'elasticsearch', 'kibana'],
    })
    return outcome(Object.keys(compose.services).length, faults)
  },
}

const example: Check = {
  name: '.env.example has what compose.yaml reads',
  counts: 'variables',
  async run() {
    const compose = await text('compose.yaml')
    return outcome(variablesOf(compose).size, exampleFaults(compose, await text('.env.example')))
  },
}

const environment: Check = {
  name: 'compose and images: environment as the schemas say',
  counts: 'variables',
  async run() {
    const compose = await composeOf()
    const stages = stagesOf(await text('.docker/Dockerfile'))
    const values = parseEnv(await text('.env.example'))
    const faults: string[] = []
    let count = 0
    /** The ports that services listen on, by the stage of their image. */
    const listened = new Map<string, number[]>()
    for (const name of ['producer', 'consumer', 'console'] as const satisfies Service[]) {
      const service = compose.services[name]
      if (service === undefined) {
        faults.push(`compose.yaml has no service ${name}`)
        continue
      }
      const stage = service.build?.target ?? ''
      const all = { ...environmentOfStage(stages, stage), ...environmentOf(service, values) }
      count += Object.keys(all).length
      const wrong = [...unknownVariables(name, Object.keys(all)), ...valueFaults(name, all)]
      faults.push(...wrong)
      if (wrong.length > 0) continue
      const graceMs = durationMs(service.stop_grace_period) ?? 0
      const drainMs = drainTimeoutMs(name, all)
      const ports = portsOf(name, all)
      listened.set(stage, [...(listened.get(stage) ?? []), ...ports])
      for (const published of service.ports ?? [])
        if (!ports.includes(Number(published.split(':').at(-1))))
          faults.push(`${name}: nothing listens on ${published}`)
      if (graceMs <= drainMs) faults.push(`${name}: stop_grace_period is not longer than DRAIN_TIMEOUT_MS=${drainMs}`)
    }
    for (const [stage, ports] of listened) {
      const exposed = stages.find(({ name }) => name === stage)?.exposes ?? []
      if (ports.toSorted().join() !== exposed.toSorted().join())
        faults.push(`${stage}: its services listen on ${ports.join()}, and it exposes ${exposed.join()}`)
    }
    return outcome(count, faults)
  },
}

const versions: Check = {
  name: 'images: versions are those of package.json',
  counts: 'versions',
  async run() {
    const { version, engines } = JSON.parse(await text('package.json')) as { version: string; engines: { bun: string } }
    const source = await text('.docker/Dockerfile')
    const bases = basesOf(stagesOf(source))
    const images = Object.values((await composeOf()).services).map(({ image }) => ({ where: 'compose.yaml', image }))
    for (const image of basesOf(stagesOf(await text(exampleDockerfile))))
      images.push({ where: exampleDockerfile, image })
    const own = images.filter(({ image }) => image?.startsWith('ghcr.io/kafkatrace/'))
    const faults = [
      ...bases
        .filter((base) => !base.startsWith(`oven/bun:${engines.bun}-`))
        .map((base) => `.docker/Dockerfile: FROM ${base}, and package.json wants Bun ${engines.bun}`),
      ...own
        .filter(({ image }) => image?.endsWith(`:${version}`) !== true)
        .map(({ where, image }) => `${where}: ${image}, and package.json has ${version}`),
    ]
    if (!source.includes(`\nARG VERSION=${version}\n`)) faults.push(`.docker/Dockerfile: ARG VERSION is not ${version}`)
    return outcome(bases.length + own.length + 1, faults)
  },
}

/** Where compose.yaml's Prometheus mounts the rules. */
const mountedRules = '/etc/prometheus/rules'

const configurations: Check = {
  name: 'compose: Prometheus, its prober and Alertmanager accept theirs',
  counts: 'files and targets',
  async run(say) {
    const folder = 'helm/monitoring/compose'
    const prometheus = await text(`${folder}/prometheus.yaml`)
    const checked = join(await mkdtemp(join(tmpdir(), 'kafkatrace-compose-')), 'prometheus.yaml')
    await Bun.write(checked, prometheus.replaceAll(mountedRules, join(root, 'helm/monitoring/rules')))
    const faults: string[] = []
    for (const command of [
      [await tool('promtool', say), 'check', 'config', checked],
      [await tool('amtool', say), 'check-config', `${folder}/alertmanager.yaml`],
      [await tool('blackbox-exporter', say), '--config.check', '--config.file=helm/monitoring/blackbox.yaml'],
    ] as [string, ...string[]][]) {
      const { exitCode, output, errors } = await run(command)
      if (exitCode !== 0) faults.push((output + errors).trim())
    }
    await rm(dirname(checked), { recursive: true })
    const { services } = await composeOf()
    const { scrape_configs } = Bun.YAML.parse(prometheus) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[]
    }
    const targets = scrape_configs.flatMap((one) => one.static_configs.flatMap((config) => config.targets))
    for (const target of targets) {
      // Of a probe, it is a URL.
      const host = target.replace(/^\w+:\/\//, '').split(':')[0] ?? ''
      if (host !== '127.0.0.1' && !(host in services)) faults.push(`prometheus.yaml scrapes ${target}: no such service`)
    }
    return outcome(3 + targets.length, faults)
  },
}

export const images: Area = {
  name: 'images and compose',
  checks: [
    dockerfile,
    versions,
    composeLint,
    composeLoads,
    composeContained,
    example,
    environment,
    configurations,
    imagesStart,
  ],
}
