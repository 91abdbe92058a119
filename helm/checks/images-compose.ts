/** Requirements for compose.yaml beyond its validity, as functions of its content. */

export interface ComposeService {
  readonly image?: string
  readonly build?: { readonly dockerfile?: string; readonly target?: string }
  readonly profiles?: readonly string[]
  readonly restart?: string
  readonly read_only?: boolean
  readonly privileged?: boolean
  readonly network_mode?: string
  readonly cap_add?: readonly string[]
  readonly cap_drop?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly cpus?: number
  readonly mem_limit?: string
  readonly pids_limit?: number
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly environment?: Readonly<Record<string, string | number | boolean>>
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean }
  readonly depends_on?: Readonly<Record<string, { readonly condition?: string } | null>> | readonly string[]
  readonly stop_grace_period?: string
}

export interface Compose {
  readonly services: Readonly<Record<string, ComposeService>>
  readonly volumes?: Readonly<Record<string, unknown>>
}

export interface Surroundings {
  /** Whether a path relative to compose.yaml exists. */
  exists(path: string): boolean
  /** The Dockerfile's stages. */
  readonly stages: readonly string[]
  /** Services that cannot run on a read-only root file system; compose.yaml says why. */
  readonly writesItsRoot: readonly string[]
}

/** The only host paths that may be mounted: read-only, by services in a profile. */
const machinePaths = ['/var/run/docker.sock', '/var/lib/docker/containers']

/** A full version, with or without a digest. */
const pinned = /:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$/

/** All faults, each beginning with the service's name. */
export function composeFaults(compose: Compose, surroundings: Surroundings): string[] {
  const faults: string[] = []
  for (const [name, service] of Object.entries(compose.services)) {
    const demand = (holds: boolean, text: string): void => {
      if (!holds) faults.push(`${name}: ${text}`)
    }
    const oneShot = service.restart === 'no'
    demand(
      oneShot || service.restart === 'unless-stopped',
      'restart is neither "no", for one that ends, nor unless-stopped',
    )
    demand(oneShot || (service.healthcheck?.test?.length ?? 0) > 1, 'no healthcheck, and it is not one that ends')
    demand(pinned.test(service.image ?? ''), `image ${service.image} is not pinned to a version`)
    demand(typeof service.cpus === 'number' && service.cpus > 0, 'no limit on cpus')
    demand(/^[1-9]\d*m$/.test(service.mem_limit ?? ''), 'no mem_limit in MiB, such as 256m')
    demand(typeof service.pids_limit === 'number' && service.pids_limit > 0, 'no pids_limit')
    demand(service.cap_drop?.includes('ALL') === true, 'cap_drop is not ALL')
    demand((service.cap_add ?? []).length === 0, 'cap_add')
    demand(service.security_opt?.includes('no-new-privileges:true') === true, 'no-new-privileges is not set')
    demand(service.privileged !== true, 'privileged')
    demand(service.network_mode === undefined, `network_mode ${service.network_mode}`)
    const writes = surroundings.writesItsRoot.includes(name)
    demand(service.read_only === !writes, writes ? 'read_only now: no exception any more' : 'not read_only')
    for (const port of service.ports ?? []) demand(port.startsWith('127.0.0.1:'), `port ${port} is not on loopback`)
    if (service.build !== undefined) {
      const { dockerfile = 'Dockerfile', target } = service.build
      demand(surroundings.exists(dockerfile), `there is no ${dockerfile}`)
      demand(target !== undefined && surroundings.stages.includes(target), `${dockerfile} has no stage ${target}`)
    }
    faults.push(...mountFaults(name, service, compose, surroundings), ...dependencyFaults(name, service, compose))
  }
  const used = new Set(
    Object.values(compose.services).flatMap(({ volumes }) => (volumes ?? []).map((one) => one.split(':')[0])),
  )
  for (const volume of Object.keys(compose.volumes ?? {}))
    if (!used.has(volume)) faults.push(`volume ${volume} is not used`)
  return faults
}

function mountFaults(name: string, service: ComposeService, compose: Compose, { exists }: Surroundings): string[] {
  return (service.volumes ?? []).flatMap((mount) => {
    const [source = '', , mode] = mount.replace(variable, '$2').split(':')
    if (!/^[./]/.test(source))
      return source in (compose.volumes ?? {}) ? [] : [`${name}: volume ${source} is not declared`]
    const faults = mode === 'ro' ? [] : [`${name}: ${mount} is not mounted read-only`]
    if (source.startsWith('.')) return exists(source) ? faults : [...faults, `${name}: ${source} does not exist`]
    if (!machinePaths.includes(source)) faults.push(`${name}: mounts ${source} of the machine`)
    else if ((service.profiles ?? []).length === 0) faults.push(`${name}: mounts ${source}, and has no profile`)
    return faults
  })
}

function dependencyFaults(name: string, service: ComposeService, { services }: Compose): string[] {
  const all = service.depends_on ?? {}
  if (Array.isArray(all)) return [`${name}: depends_on without conditions`]
  return Object.entries(all).flatMap(([other, dependency]: [string, { condition?: string } | null]) => {
    const target = services[other]
    if (target === undefined) return [`${name}: depends on ${other}, which does not exist`]
    const faults: string[] = []
    const expected = target.restart === 'no' ? 'service_completed_successfully' : 'service_healthy'
    if (dependency?.condition !== expected) faults.push(`${name}: depends on ${other} without ${expected}`)
    const own = service.profiles ?? []
    const theirs = target.profiles ?? []
    if (theirs.length > 0 && !(own.length > 0 && own.every((profile) => theirs.includes(profile))))
      faults.push(`${name}: depends on ${other}, which is not in all of its profiles`)
    return faults
  })
}

const variable = /(?<!\$)\$\{([A-Z0-9_]+)(?::-([^}]*))?\}/g

/** The name and default of every `${NAME:-default}` in the text. */
export function variablesOf(text: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const [, name = '', fallback = ''] of text.matchAll(variable)) found.set(name, fallback)
  return found
}

/** The `NAME=value` lines of a file. */
export function parseEnv(text: string): Map<string, string> {
  const lines = text.split('\n').filter((line) => /^[A-Z0-9_]+=/.test(line))
  return new Map(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

/** Differences between the variables of compose.yaml and .env.example, or their defaults. */
export function exampleFaults(composeText: string, exampleText: string): string[] {
  const read = variablesOf(composeText)
  const named = parseEnv(exampleText)
  const faults: string[] = []
  for (const [name, fallback] of read) {
    const example = named.get(name)
    if (example === undefined) faults.push(`${name} is read by compose.yaml and not in .env.example`)
    else if (example !== fallback) faults.push(`${name} is ${fallback} in compose.yaml and ${example} in .env.example`)
  }
  for (const name of named.keys())
    if (!read.has(name)) faults.push(`${name} is in .env.example and compose.yaml does not read it`)
  return faults
}

/** A service's environment when .env is a copy of .env.example. */
export function environmentOf(service: ComposeService, example: ReadonlyMap<string, string>): Record<string, string> {
  const entries = Object.entries(service.environment ?? {}).map(([name, value]): [string, string] => [
    name,
    String(value).replace(variable, (_, one: string, fallback?: string) => example.get(one) ?? fallback ?? ''),
  ])
  return Object.fromEntries(entries)
}

/** "20s" or "1500ms" in ms; undefined for anything else. */
export function durationMs(text: string | undefined): number | undefined {
  const [, number, unit] = /^(\d+)(ms|s|m)$/.exec(text ?? '') ?? []
  if (number === undefined) return undefined
  return Number(number) * (unit === 'm' ? 60_000 : unit === 's' ? 1_000 : 1)
}
