import { cp, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ran } from '../../shared/dev/run.ts'
import { root, run } from './check.ts'
import { tool } from './tools.ts'

/** A Kubernetes object. */
// biome-ignore lint/suspicious/noExplicitAny: an object of any kind; a missing field is undefined, and a check reports it.
export type Manifest = any

export interface Rendering {
  readonly chart: string
  /** The values file, relative to the charts' folder. */
  readonly values: string
  readonly manifests: readonly Manifest[]
}

const services = ['producer', 'consumer', 'console'] as const

/**
 * Runs `work` in a copy of the charts with their dependencies, so that the checkout stays unchanged.
 * @param env variables for helm, which say where a cluster is
 */
export async function withCharts<T>(
  say: (progress: string) => void,
  work: (helm: (...args: string[]) => Promise<Ran>, folder: string) => Promise<T>,
  env: Readonly<Record<string, string>> = {},
): Promise<T> {
  const program = await tool('helm', say)
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-charts-'))
  try {
    await cp(join(root, 'helm/charts'), folder, { recursive: true, dereference: true })
    for (const service of services)
      await cp(join(folder, 'common'), join(folder, service, 'charts/common'), { recursive: true })
    for (const chart of ['common', ...services])
      await cp(join(folder, chart), join(folder, 'kafkatrace/charts', chart), { recursive: true })
    // Redpanda's chart is in its own repository. Helm only checks that it is there: an empty chart of that version stands in for it.
    const umbrella = Bun.YAML.parse(await Bun.file(join(folder, 'kafkatrace/Chart.yaml')).text()) as Manifest
    const { version } = umbrella.dependencies.find(({ name }: Manifest) => name === 'redpanda')
    await mkdir(join(folder, 'kafkatrace/charts/redpanda'))
    await Bun.write(
      join(folder, 'kafkatrace/charts/redpanda/Chart.yaml'),
      `apiVersion: v2\nname: redpanda\nversion: ${version}\n`,
    )
    return await work((...args) => run([program, ...args], { cwd: folder, env }), folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Every values file that a chart must render with. */
export async function valuesFiles(folder: string): Promise<{ chart: string; values: string }[]> {
  const found = await Promise.all([
    ...services.map(async (chart) =>
      (await readdir(join(folder, chart, 'ci'))).map((file) => ({ chart, values: `${chart}/ci/${file}` })),
    ),
    readdir(join(folder, 'kafkatrace')).then((files) =>
      files
        .filter((file) => /^values-.*[.]yaml$/.test(file))
        .map((file) => ({ chart: 'kafkatrace', values: `kafkatrace/${file}` })),
    ),
  ])
  return found.flat().toSorted((a, b) => a.values.localeCompare(b.values))
}

interface Rendered {
  renderings: Rendering[]
  faults: string[]
}

let rendered: Promise<Rendered> | undefined

/** Renders once for all checks. @returns all renderings, and a fault for each values file that does not render */
export function renderAll(say: (progress: string) => void): Promise<Rendered> {
  rendered ??= render(say)
  return rendered
}

function render(say: (progress: string) => void): Promise<Rendered> {
  return withCharts(say, async (helm, folder) => {
    const renderings: Rendering[] = []
    const faults: string[] = []
    for (const { chart, values } of await valuesFiles(folder)) {
      const ran = await helm('template', 'kt', chart, '--namespace', 'kafkatrace', '--values', values)
      if (ran.exitCode === 0) renderings.push({ chart, values, manifests: manifestsOf(ran.output) })
      else faults.push(`${values}: ${ran.errors.trim()}`)
    }
    return { renderings, faults }
  })
}

/** The objects in a stream of YAML documents. */
export const manifestsOf = (text: string): Manifest[] =>
  text
    .split(/^---$/m)
    .map((one) => Bun.YAML.parse(one) as Manifest)
    .filter((one) => one !== null && one !== undefined)

/** Whether an object is there for `helm test`. */
export const isTest = ({ metadata }: Manifest): boolean => metadata.annotations?.['helm.sh/hook'] === 'test'

/** The pod template of each object that makes pods, with a name for faults. */
export const podsOf = (manifests: readonly Manifest[]): { name: string; template: Manifest; owner: Manifest }[] =>
  manifests
    .filter(({ kind }) => ['Deployment', 'StatefulSet', 'Job', 'Pod'].includes(kind))
    .map((owner) => ({
      name: `${owner.kind}/${owner.metadata.name}`,
      template: owner.kind === 'Pod' ? owner : owner.spec.template,
      owner,
    }))

const scalers = (manifests: readonly Manifest[]): Manifest[] =>
  manifests.filter(({ kind }) => kind === 'HorizontalPodAutoscaler' || kind === 'ScaledObject')

/** What autoscalers scale, as KIND/NAME. */
export const autoscaledIn = (manifests: readonly Manifest[]): string[] =>
  scalers(manifests).map(({ spec }) => `${spec.scaleTargetRef.kind}/${spec.scaleTargetRef.name}`)

/** The fewest and the most pods of an object that an autoscaler scales; else undefined. */
export function autoscalerOf(
  owner: Manifest,
  manifests: readonly Manifest[],
): { min: number; max: number } | undefined {
  const found = scalers(manifests).find(
    ({ spec }) => spec.scaleTargetRef.kind === owner.kind && spec.scaleTargetRef.name === owner.metadata.name,
  )
  if (found === undefined) return undefined
  const { minReplicas, maxReplicas, minReplicaCount, maxReplicaCount } = found.spec
  return { min: minReplicas ?? minReplicaCount, max: maxReplicas ?? maxReplicaCount }
}
