/** What a release asks of a cluster, by values file, as a table for the documentation. */
import { autoscalerOf, isTest, type Manifest, manifestsOf, withCharts } from './charts-render.ts'

interface Amount {
  pods: number
  /** In thousandths of a core. */
  cpuMillis: number
  memoryMebibytes: number
}

/** Values files of the chart kafkatrace, each with what it lacks. Redpanda, which values-dev.yaml adds, is not rendered here. */
const SETS = [
  ['the defaults', '--set', 'global.tenants.existingSecret=tenants'],
  ['`values-dev.yaml`, beside Redpanda', '--values', 'kafkatrace/values-dev.yaml'],
  ['`values-staging.yaml`', '--values', 'kafkatrace/values-staging.yaml'],
  ['`values-production.yaml`', '--values', 'kafkatrace/values-production.yaml'],
] as const

/** Of Kubernetes' quantities those that the charts use. @throws Error for others */
export function quantity(text: string | number): number {
  const [, digits = '', unit = ''] = /^([\d.]+)(m|Mi|Gi|)$/.exec(String(text)) ?? []
  const factor = { m: 0.001, '': 1, Mi: 1, Gi: 1024 }[unit]
  if (digits === '' || factor === undefined) throw new Error(`${text} is not m, Mi, Gi or a number`)
  return Number(digits) * factor
}

function requestsOf(template: Manifest, pods: number): Amount {
  const amount: Amount = { pods, cpuMillis: 0, memoryMebibytes: 0 }
  for (const { resources } of template.spec.containers) {
    amount.cpuMillis += Math.round(quantity(resources.requests.cpu) * 1_000) * pods
    amount.memoryMebibytes += quantity(resources.requests.memory) * pods
  }
  return amount
}

const sum = (amounts: readonly Amount[]): Amount =>
  amounts.reduce(
    (a, b) => ({
      pods: a.pods + b.pods,
      cpuMillis: a.cpuMillis + b.cpuMillis,
      memoryMebibytes: a.memoryMebibytes + b.memoryMebibytes,
    }),
    { pods: 0, cpuMillis: 0, memoryMebibytes: 0 },
  )

/** What all pods request: the fewest, the most that autoscalers may make of them, and in addition while an upgrade replaces them. */
export function requested(manifests: readonly Manifest[]): { least: Amount; most: Amount; upgrading: Amount } {
  const least: Amount[] = []
  const most: Amount[] = []
  const upgrading: Amount[] = []
  for (const manifest of manifests) {
    const { kind, spec } = manifest
    if (kind !== 'Deployment' && kind !== 'StatefulSet') continue
    const bounds = autoscalerOf(manifest, manifests)
    least.push(requestsOf(spec.template, bounds?.min ?? spec.replicas))
    most.push(requestsOf(spec.template, bounds?.max ?? spec.replicas))
    upgrading.push(requestsOf(spec.template, spec.strategy?.rollingUpdate?.maxSurge ?? 0))
  }
  // The job ends before pods are replaced.
  const jobs = manifests
    .filter((one) => one.kind === 'Job' && !isTest(one))
    .map(({ spec }) => requestsOf(spec.template, 1))
  const surge = sum(upgrading)
  for (const job of jobs) {
    surge.cpuMillis = Math.max(surge.cpuMillis, job.cpuMillis)
    surge.memoryMebibytes = Math.max(surge.memoryMebibytes, job.memoryMebibytes)
  }
  return { least: sum(least), most: sum(most), upgrading: surge }
}

const cores = ({ cpuMillis }: Amount): string => String(cpuMillis / 1_000)
const memory = ({ memoryMebibytes }: Amount): string => `${Math.round((memoryMebibytes / 1024) * 100) / 100} GiB`
const asked = (amount: Amount): string => `${cores(amount)}, ${memory(amount)}`

/** @throws UnavailableError when Helm cannot be installed */
export const requestsTable = (say: (progress: string) => void): Promise<string> =>
  withCharts(say, async (helm) => {
    const rows = [
      '| values | pods | CPU, memory | more during an upgrade | all that autoscalers may add |',
      '|---|---|---|---|---|',
    ]
    for (const [name, ...options] of SETS) {
      const ran = await helm('template', 'kafkatrace', 'kafkatrace', ...options)
      if (ran.exitCode !== 0) throw new Error(ran.errors)
      const { least, most, upgrading } = requested(manifestsOf(ran.output))
      const added = most.pods === least.pods ? '' : `${most.pods} pods: ${asked(most)}`
      rows.push(`| ${name} | ${least.pods} | ${asked(least)} | ${asked(upgrading)} | ${added} |`)
    }
    return `${rows.join('\n')}\n`
  })
