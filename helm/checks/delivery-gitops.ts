import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { autoscaledIn, renderAll, withCharts } from './charts-render.ts'
import { type Check, type Outcome, root, run } from './check.ts'
import { writeSchemas } from './delivery-schemas.ts'
import { tool } from './tools.ts'

/** Checks helm/gitops: whether Argo CD and Flux would accept it, and whether its references render. */

const gitops = join(root, 'helm/gitops')
const environments = ['dev', 'staging', 'production'] as const

interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly data?: Readonly<Record<string, string>>
  readonly spec?: Readonly<Record<string, unknown>>
}

export const manifestsOf = (yaml: string): Manifest[] => {
  const parsed = Bun.YAML.parse(yaml) as Manifest | null | (Manifest | null)[]
  return (Array.isArray(parsed) ? parsed : [parsed]).filter((one) => one !== null && one !== undefined)
}

/** Replaces `${NAME}` by its value, as Flux's postBuild does. A name without a value stays, and a later check finds it. */
export const substituted = (text: string, values: Readonly<Record<string, string>>): string =>
  text.replace(/\$\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole)

type Kind = Pick<Manifest, 'apiVersion' | 'kind'>

/** Without its version, as an AppProject names it. */
const groupKind = ({ apiVersion, kind }: Kind): string =>
  `${apiVersion.includes('/') ? apiVersion.split('/')[0] : ''}/${kind}`

/** The kinds that an AppProject allows in this list. */
const allowedIn = (project: Manifest, list: 'clusterResourceWhitelist' | 'namespaceResourceWhitelist'): string[] =>
  ((project.spec?.[list] ?? []) as { group: string; kind: string }[]).map(({ group, kind }) => `${group}/${kind}`)

/** Whether an AppProject allows this kind. */
export const allowedBy = (project: Manifest, kind: Kind): boolean =>
  [...allowedIn(project, 'clusterResourceWhitelist'), ...allowedIn(project, 'namespaceResourceWhitelist')].includes(
    groupKind(kind),
  )

/** Kinds of Redpanda's chart, which is not rendered here. */
const REDPANDA_KINDS = ['rbac.authorization.k8s.io/Role', 'rbac.authorization.k8s.io/RoleBinding']

/** Kinds that an AppProject allows in its namespace, and no chart makes. */
export const neverMade = (project: Manifest, made: readonly Kind[]): string[] => {
  const kinds = new Set([...made.map(groupKind), ...REDPANDA_KINDS])
  return allowedIn(project, 'namespaceResourceWhitelist').filter((kind) => !kinds.has(kind))
}

async function manifestIn(file: string): Promise<Manifest> {
  const [manifest] = manifestsOf(await Bun.file(join(gitops, file)).text())
  if (manifest === undefined) throw new Error(`helm/gitops/${file} is empty`)
  return manifest
}

async function overlay(environment: string, say: (progress: string) => void): Promise<string> {
  const kustomize = await tool('kustomize', say)
  const { exitCode, output, errors } = await run([
    kustomize,
    'build',
    // Like Flux (fluxcd/pkg/kustomize), allows reading any file of the repository.
    '--load-restrictor=LoadRestrictionsNone',
    join(gitops, 'flux/environments', environment),
  ])
  if (exitCode !== 0) throw new Error(`kustomize build ${environment}: ${errors}`)
  return output
}

interface Cluster {
  readonly name: string
  readonly environment: string
  readonly substitute: Readonly<Record<string, string>>
}

async function fluxClusters(): Promise<Cluster[]> {
  const clusters: Cluster[] = []
  for await (const file of new Bun.Glob('flux/clusters/*/kafkatrace.yaml').scan(gitops)) {
    const { path, postBuild } = (await manifestIn(file)).spec as {
      path: string
      postBuild?: { substitute?: Readonly<Record<string, string>> }
    }
    clusters.push({
      name: file.split('/')[2] ?? '',
      environment: basename(path),
      substitute: postBuild?.substitute ?? {},
    })
  }
  return clusters.sort((a, b) => a.name.localeCompare(b.name))
}

/** What Argo CD and Flux would be given, by the file or folder to report. */
export async function gitopsManifests(
  say: (progress: string) => void,
): Promise<{ where: string; manifests: Manifest[] }[]> {
  const sources: { where: string; manifests: Manifest[] }[] = []
  for (const pattern of ['argocd/*.yaml', 'flux/clusters/*/*.yaml'])
    for await (const file of new Bun.Glob(pattern).scan(gitops))
      sources.push({ where: file, manifests: manifestsOf(await Bun.file(join(gitops, file)).text()) })
  for (const environment of environments)
    sources.push({
      where: `flux/environments/${environment}`,
      manifests: manifestsOf(await overlay(environment, say)),
    })
  return sources
}

const schemas: Check = {
  name: 'GitOps: Argo CD’s and Flux’s own schemas',
  counts: 'resources',
  async run(say) {
    const kubeconform = await tool('kubeconform', say)
    // A generated ConfigMap is of the core group.
    const sources = (await gitopsManifests(say)).map(({ where, manifests }) => ({
      where,
      manifests: manifests.filter(({ kind }) => kind !== 'ConfigMap'),
    }))
    const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-schemas-'))
    try {
      return await validated(sources, kubeconform, await writeSchemas(folder, say))
    } finally {
      await rm(folder, { recursive: true })
    }
  },
}

async function validated(
  sources: readonly { where: string; manifests: readonly Manifest[] }[],
  kubeconform: string,
  schemaLocation: string,
): Promise<Outcome> {
  let passed = 0
  const faults: string[] = []
  for (const { where, manifests } of sources) {
    const input = manifests.map((manifest) => JSON.stringify(manifest)).join('\n---\n')
    const { output, errors } = await run(
      [kubeconform, '-schema-location', schemaLocation, '-output', 'json', '-verbose', '-'],
      { input },
    )
    const { resources } = JSON.parse(output || '{"resources":[]}') as {
      resources: { kind: string; name: string; status: string; msg: string }[]
    }
    if (resources.length === 0) faults.push(`helm/gitops/${where}: nothing was validated: ${errors}`)
    for (const { kind, name, status, msg } of resources)
      if (status === 'statusValid') passed++
      else faults.push(`helm/gitops/${where}: ${kind} ${name}: ${msg}`)
  }
  return { passed, faults }
}

const renders: Check = {
  name: 'GitOps: the chart renders in every cluster',
  counts: 'clusters and kinds',
  async run(say) {
    const helm = await tool('helm', say)
    return withCharts(say, (_, charts) => rendered(helm, charts, say))
  },
}

async function rendered(helm: string, charts: string, say: (progress: string) => void): Promise<Outcome> {
  const project = await manifestIn('argocd/project.yaml')
  let passed = 0
  const faults: string[] = []
  /** @param ignored what is not compared in this environment, as KIND/NAME */
  const template = async (
    where: string,
    valuesFile: string,
    values: unknown,
    ignored: readonly string[],
  ): Promise<void> => {
    say(where)
    const { exitCode, output, errors } = await run(
      [
        helm,
        'template',
        'kafkatrace',
        join(charts, 'kafkatrace'),
        '--namespace=kafkatrace',
        '--values',
        valuesFile,
        '--values',
        '-',
      ],
      { input: JSON.stringify(values) },
    )
    if (exitCode !== 0) return void faults.push(`${where}: ${errors.trimEnd()}`)
    for (const text of textsIn(values))
      if (output.includes(text)) passed++
      else faults.push(`${where}: ${text}, a value of this cluster, is nowhere in what is rendered`)
    const made = manifestsOf(output)
    const scaled = autoscaledIn(made)
    for (const one of new Set([...scaled, ...ignored]))
      if (scaled.includes(one) && ignored.includes(one)) passed++
      else if (scaled.includes(one))
        faults.push(`${where}: /spec/replicas of ${one} would be reset: an autoscaler sets it`)
      else faults.push(`${where}: /spec/replicas of ${one} is not compared, and no autoscaler sets it`)
    const kinds = new Map(made.map((one) => [`${one.apiVersion} ${one.kind}`, one]))
    for (const [kind, manifest] of kinds)
      if (allowedBy(project, manifest)) passed++
      else faults.push(`${where}: helm/gitops/argocd/project.yaml does not allow ${kind}`)
  }

  const clusters = await fluxClusters()
  for (const environment of environments)
    if (!clusters.some((cluster) => cluster.environment === environment))
      faults.push(`helm/gitops/flux/clusters: none takes ${environment}`)
  for (const { name, environment, substitute } of clusters) {
    const built = manifestsOf(substituted(await overlay(environment, say), substitute))
    const release = built.find(({ kind }) => kind === 'HelmRelease')
    const from = (release?.spec?.['valuesFrom'] as { name: string }[] | undefined)?.[0]?.name
    const generated = built.find((one) => one.kind === 'ConfigMap' && one.metadata.name === from)
    const text = generated?.data?.['values.yaml']
    if (text === undefined) {
      faults.push(`flux/environments/${environment}: the release takes values from ${from}, which is not generated`)
      continue
    }
    const valuesFile = join(charts, `flux-${name}.yaml`)
    await Bun.write(valuesFile, text)
    const drift = release?.spec?.['driftDetection'] as { ignore?: { paths: string[]; target: Target }[] } | undefined
    const ignored = (drift?.ignore ?? [])
      .filter(({ paths }) => paths.includes('/spec/replicas'))
      .map(({ target }) => named(target))
    await template(`flux/clusters/${name}`, valuesFile, release?.spec?.['values'], ignored)
  }

  const set = (await manifestIn('argocd/applicationset.yaml')).spec as unknown as ApplicationSet
  for (const environment of environments) {
    const filled = (text: string): string => filledIn(text, environment)
    const patch = Bun.YAML.parse(filled(set.templatePatch)) as { spec?: ApplicationSpec } | null
    const compared = [...(set.template.spec.ignoreDifferences ?? []), ...(patch?.spec?.ignoreDifferences ?? [])]
    const ignored = compared.filter(({ jsonPointers }) => jsonPointers.includes('/spec/replicas')).map(named)
    for (const file of set.template.spec.source.helm.valueFiles)
      await template(
        `argocd ${environment}`,
        join(charts, 'kafkatrace', filled(file)),
        patch?.spec?.source.helm.valuesObject ?? {},
        ignored,
      )
  }
  const { renderings } = await renderAll(say)
  const never = neverMade(
    project,
    renderings.flatMap(({ manifests }) => manifests),
  )
  faults.push(...never.map((kind) => `helm/gitops/argocd/project.yaml allows ${kind}, which no chart makes`))
  return { passed, faults }
}

/** What is compared, or not; without a name all of the kind. */
interface Target {
  readonly kind: string
  readonly name?: string
}

const named = ({ kind, name }: Target): string => `${kind}/${name ?? '*'}`

interface ApplicationSpec {
  readonly ignoreDifferences?: readonly (Target & { readonly jsonPointers: readonly string[] })[]
  readonly source: { readonly helm: { readonly valueFiles: readonly string[]; readonly valuesObject?: unknown } }
}

interface ApplicationSet {
  readonly template: { readonly spec: ApplicationSpec }
  readonly templatePatch: string
}

/** The subset of Go's templates that the ApplicationSet uses, for a cluster with its own brokers. */
export const filledIn = (text: string, environment: string): string =>
  text
    .replaceAll(
      /\s*\{\{- if (eq|ne) \.environment "(\w+)" \}\}(.*?)\s*\{\{- end \}\}/gs,
      (_, operator: string, other: string, body: string) =>
        (operator === 'eq') === (environment === other) ? body : '',
    )
    .replaceAll('{{ .environment }}', environment)
    .replaceAll('{{ index .metadata.annotations "kafkatrace.dev/kafka-brokers" }}', 'kafka.example.com:9093')
    .replaceAll('{{ index .metadata.annotations "kafkatrace.dev/kafka-cidr" }}', '192.0.2.0/24')

/** All strings in a cluster's own values. Each must affect the rendering. */
export function textsIn(values: unknown): string[] {
  if (typeof values === 'string') return [values]
  return typeof values === 'object' && values !== null ? Object.values(values).flatMap(textsIn) : []
}

export const gitopsChecks: readonly Check[] = [schemas, renders]
