import { join } from 'node:path'
import { provideBuilt, runTool, UnavailableError } from '../../shared/dev/built.ts'
import { startHttpProcess } from './http-process.ts'
import type { System } from './system.ts'

/** The peers in Go and Java. */

const PEERS = join(import.meta.dir, '../peers')
const INSTALL_GO = 'install it with: apt-get install golang-go, or from go.dev'

/** Both set this. Everything else is franz-go's default, including idempotence and acks of all in-sync replicas. */
const FRANZ_SETTINGS = {
  'required acks': 'all',
  idempotence: 'on',
  compression: 'lz4',
  linger: '1 ms',
  'delivery timeout': '10 s',
  'buffered records': '100000',
}

interface GoPeer {
  name: string
  facts: Omit<System['facts'], 'name' | 'kind' | 'sameGuarantees'>
  sources: readonly string[]
  /** Modules whose versions are reported. */
  modules: readonly string[]
  args: readonly string[]
}

function goPeer(peer: GoPeer): System {
  const build = (say: (progress: string) => void): Promise<string> => buildGo(peer.name, peer.sources, say)
  return {
    facts: { name: peer.name, kind: 'peer', sameGuarantees: true, ...peer.facts },
    async prepare(say) {
      return goVersionsOf(await build(say), peer.modules)
    },
    start: async ({ brokers, topic, port, directory }) =>
      startHttpProcess({
        name: peer.name,
        command: [await build(() => undefined), ...peer.args],
        env: { KAFKA_BROKERS: brokers, TOPIC: topic },
        port,
        directory,
      }),
  }
}

/** Compiles a program of `bench/peers`, once. @returns where it is */
export async function buildGo(
  name: string,
  sources: readonly string[],
  say: (progress: string) => void,
): Promise<string> {
  const folder = join(PEERS, name)
  const go = (await runTool(['go', 'version'], folder, INSTALL_GO)).trim()
  const built = await provideBuilt({
    name,
    files: sources.map((file) => join(folder, file)),
    made: [go],
    async build(into) {
      say(`compiling ${name} and its modules, up to a minute, once`)
      await runTool(['go', 'build', '-trimpath', '-o', join(into, name), '.'], folder, INSTALL_GO)
    },
  })
  return join(built, name)
}

export const goVersionsOf = async (binary: string, modules: readonly string[]): Promise<Record<string, string>> =>
  goVersions(await runTool(['go', 'version', '-m', binary], PEERS, INSTALL_GO), modules)

/** The versions of Go and of some modules, out of what `go version -m` prints of a binary. */
export function goVersions(printed: string, modules: readonly string[]): Record<string, string> {
  const versions: Record<string, string> = { go: /: go(\S+)/.exec(printed)?.[1] ?? 'unknown' }
  for (const line of printed.split('\n')) {
    const [kind, module = '', version = ''] = line.trim().split('\t')
    if (kind === 'dep' && modules.includes(module)) versions[module] = version
  }
  return versions
}

const GO_FRANZ = goPeer({
  name: 'go-franz',
  facts: {
    title: 'Go: net/http + franz-go',
    settings: FRANZ_SETTINGS,
    notes: 'goccy/go-json, which took a tenth less CPU for each event than encoding/json.',
  },
  sources: ['go.mod', 'go.sum', 'main.go', 'event.go'],
  modules: ['github.com/twmb/franz-go', 'github.com/goccy/go-json'],
  args: [],
})

const GO_BENTHOS = goPeer({
  name: 'go-benthos',
  facts: {
    title: 'Go: Benthos (http_server → franz-go)',
    settings: { ...FRANZ_SETTINGS, max_in_flight: '1024', metrics: 'none', tracer: 'none' },
    notes:
      'Redpanda Connect’s engine and http_server input, validation by a mapping. The module of Connect itself, which has its Kafka output, is not as a whole under an open-source licence; an output of our own on the same client stands for it.',
  },
  sources: ['go.mod', 'go.sum', 'main.go', 'output.go', 'config.yaml'],
  modules: ['github.com/redpanda-data/benthos/v4', 'github.com/twmb/franz-go'],
  args: ['run', join(PEERS, 'go-benthos/config.yaml')],
})

/** Tried by its range of all versions and by one version. Without its jars no driver could be tried, so none was written. */
const BRIDGE_UNAVAILABLE =
  'its jars did not resolve where this was written: Maven answered “No versions available for io.strimzi:kafka-bridge:jar:[0.1,)”'

const STRIMZI_BRIDGE: System = {
  facts: {
    name: 'strimzi-bridge',
    title: 'Strimzi Kafka Bridge',
    kind: 'peer',
    sameGuarantees: true,
    settings: {},
  },
  prepare: () => Promise.reject(new UnavailableError(BRIDGE_UNAVAILABLE)),
  start: () => Promise.reject(new UnavailableError(BRIDGE_UNAVAILABLE)),
}

export const NATIVE_PEERS: readonly System[] = [GO_FRANZ, GO_BENTHOS, STRIMZI_BRIDGE]
