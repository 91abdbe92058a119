import { join } from 'node:path'
import type { Ran } from '../../shared/dev/run.ts'
import { FailedError } from '../../shared/service/command-line.ts'
import { type Manifest, withCharts } from '../checks/charts-render.ts'
import { restrictedNamespace } from './api-server.ts'
import type { ControlPlane } from './control-plane.ts'

/** As docs/deployment.md names it. */
export const RELEASE = 'kafkatrace'

const settings = [
  '--set=global.kafka.brokers=kafka-bootstrap.kafka.svc:9092',
  '--set=global.tenants.existingSecret=kafkatrace-tenants',
]

export interface Pod {
  readonly uid: string
  readonly name: string
  /** producer, consumer, console or topics */
  readonly service: string
  readonly image: string
  readonly node: string | undefined
  readonly isReady: boolean
  /** Why it has no node; empty if it has one. */
  readonly unscheduled: string
}

/** What makes pods, by its name. */
export interface Scale {
  /** As it should be. */
  readonly replicas: number
  readonly ready: number
}

/** The umbrella chart in a namespace, installed and changed by helm. */
export interface Release {
  readonly namespace: string
  /** Runs helm in the namespace. A failure is a result. */
  helm(command: string, ...args: readonly string[]): Promise<Ran>
  /** `helm upgrade --install --wait` with what every installation sets. */
  upgrade(...args: readonly string[]): Promise<Ran>
  /** @throws FailedError with what helm or kubectl said */
  must(ran: Promise<Ran>): Promise<void>
  kubectl(...args: readonly string[]): Promise<Ran>
  pods(): Promise<Pod[]>
  /** Deployments and StatefulSets by name. */
  scales(): Promise<Map<string, Scale>>
  /** Runs `work`, and finds the lowest of each number meanwhile. */
  lowest<T>(work: Promise<T>): Promise<{ readonly result: T; readonly lowest: Map<string, Scale> }>
}

const samplePauseMs = 100

/** Runs `work` with a new namespace, in which there is nothing but the tenants' Secret, and begins to remove the namespace. */
export async function withRelease<T>(
  control: ControlPlane,
  namespace: string,
  say: (progress: string) => void,
  work: (release: Release, charts: string) => Promise<T>,
): Promise<T> {
  const kubectl: Release['kubectl'] = (...args) => control.kubectl([`--namespace=${namespace}`, ...args])
  const must: Release['must'] = async (running) => {
    const { exitCode, output, errors } = await running
    if (exitCode !== 0) throw new FailedError((output + errors).trim())
  }
  await must(control.kubectl(['apply', '-f', '-'], JSON.stringify(restrictedNamespace(namespace))))
  await must(kubectl('create', 'secret', 'generic', 'kafkatrace-tenants', '--from-literal=tenants.json={}'))
  const list = async (path: string): Promise<Manifest[]> => (await control.get(path)).items
  const scales: Release['scales'] = async () => {
    const of = new Map<string, Scale>()
    for (const kind of ['deployments', 'statefulsets'])
      for (const { metadata, spec, status } of await list(`/apis/apps/v1/namespaces/${namespace}/${kind}`))
        of.set(metadata.name, { replicas: spec.replicas, ready: status.availableReplicas ?? 0 })
    return of
  }
  try {
    return await withCharts(
      say,
      (run, charts) => {
        const helm: Release['helm'] = (command, ...args) => run(command, RELEASE, ...args, `--namespace=${namespace}`)
        const release: Release = {
          namespace,
          helm,
          upgrade: (...args) =>
            helm('upgrade', join(charts, 'kafkatrace'), '--install', '--wait', '--timeout=60s', ...settings, ...args),
          must,
          kubectl,
          pods: async () => (await list(`/api/v1/namespaces/${namespace}/pods`)).map(podOf),
          scales,
          async lowest(work) {
            let isOver = false
            const over = work.finally(() => {
              isOver = true
            })
            const lowest = new Map<string, Scale>()
            const sampled = (async () => {
              while (!isOver) {
                for (const [name, { replicas, ready }] of await scales()) {
                  const before = lowest.get(name)
                  lowest.set(name, {
                    replicas: Math.min(replicas, before?.replicas ?? replicas),
                    ready: Math.min(ready, before?.ready ?? ready),
                  })
                }
                await Bun.sleep(samplePauseMs)
              }
            })()
            const [result] = await Promise.all([over, sampled])
            return { result, lowest }
          },
        }
        return work(release, charts)
      },
      control.env,
    )
  } finally {
    await control.kubectl(['delete', 'namespace', namespace, '--wait=false'])
  }
}

function podOf({ metadata, spec, status }: Manifest): Pod {
  const condition = (wanted: string): Manifest => status.conditions?.find(({ type }: Manifest) => type === wanted)
  return {
    uid: metadata.uid,
    name: metadata.name,
    service: metadata.labels['app.kubernetes.io/name'],
    image: spec.containers[0].image,
    node: spec.nodeName,
    isReady: condition('Ready')?.status === 'True' && metadata.deletionTimestamp === undefined,
    unscheduled: spec.nodeName === undefined ? (condition('PodScheduled')?.message ?? 'not seen by the scheduler') : '',
  }
}
