import { join } from 'node:path'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import type { Manifest } from '../checks/charts-render.ts'
import { tool } from '../checks/tools.ts'
import { type ControlPlane, waitFor } from './control-plane.ts'

/** Nodes and pods that only exist in the API: kwok gives them the status that a kubelet would. */

const readyTimeoutMs = 60_000
/** A pod takes this long to become ready, so that there is something to wait for. */
const podStartMs = 500
/**
 * And this long to go. Where a StatefulSet's pod is replaced at once, the disruption controller may not see that it was away, and counts the
 * new one as one that is about to go, for two minutes.
 */
const podStopMs = 1_000

/** The tag of images whose containers never become ready. */
export const NEVER_READY = 'never-ready'

/** Zones of fake nodes, two in each. */
export const ZONES = ['zone-a', 'zone-b', 'zone-c'] as const

export const zoneLabel = 'topology.kubernetes.io/zone'

/** A transition of pods to which these conditions apply. */
const stage = (name: string, matchExpressions: readonly object[], rest: object): object => ({
  apiVersion: 'kwok.x-k8s.io/v1alpha1',
  kind: 'Stage',
  metadata: { name },
  spec: { resourceRef: { apiGroup: 'v1', kind: 'Pod' }, selector: { matchExpressions }, ...rest },
})

const isDeleted = { key: '.metadata.deletionTimestamp', operator: 'Exists' }
const isKept = { ...isDeleted, operator: 'DoesNotExist' }
const ofJob = { key: '.metadata.ownerReferences.[].kind', operator: 'In', values: ['Job'] }

const ready = `{{ $now := Now | Quote }}
phase: Running
startTime: {{ $now }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
{{ range $type := list "Initialized" "ContainersReady" "Ready" }}
- {type: {{ $type }}, status: "True", lastTransitionTime: {{ $now }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, ready: true, started: true, restartCount: 0, state: {running: {startedAt: {{ $now }}}}}
{{ end }}
`

const completed = `{{ $now := Now | Quote }}
phase: Succeeded
containerStatuses:
{{ range .spec.containers }}
- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, ready: false, started: false, restartCount: 0, state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now }}, finishedAt: {{ $now }}}}}
{{ end }}
`

/** @param images those that never become ready */
const stages = (images: readonly string[]): object[] => [
  stage(
    'start',
    [
      isKept,
      { key: '.status.podIP', operator: 'DoesNotExist' },
      { key: '.spec.containers.[].image', operator: 'NotIn', values: images },
    ],
    { delay: { durationMilliseconds: podStartMs }, next: { statusTemplate: ready } },
  ),
  stage('complete', [isKept, { key: '.status.phase', operator: 'In', values: ['Running'] }, ofJob], {
    next: { statusTemplate: completed },
  }),
  stage('delete', [isDeleted], {
    delay: { durationMilliseconds: podStopMs },
    next: { finalizers: { empty: true }, delete: true },
  }),
]

const node = (name: string, zone: string): Manifest => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, [zoneLabel]: zone } },
  status: Object.fromEntries(
    ['capacity', 'allocatable'].map((which) => [which, { cpu: '4', memory: '8Gi', pods: '110' }]),
  ),
})

/**
 * Starts kwok, and nodes in zones. Returns once they are ready.
 * @param images those that never become ready
 * @returns the names of the nodes
 */
export async function startFakeNodes(
  control: ControlPlane,
  images: readonly string[],
  say: (progress: string) => void,
): Promise<string[]> {
  const kwok = await tool('kwok', say)
  say('starting nodes that only exist in the API')
  const config = join(control.logs, 'kwok-stages.yaml')
  await Bun.write(
    config,
    stages(images)
      .map((one) => JSON.stringify(one))
      .join('\n---\n'),
  )
  const [port = 0] = await findFreePorts(1)
  control.start('kwok', [
    kwok,
    `--kubeconfig=${control.env['KUBECONFIG']}`,
    `--config=${config}`,
    '--manage-all-nodes',
    '--cidr=10.128.0.0/16',
    `--server-address=127.0.0.1:${port}`,
  ])
  const nodes = ZONES.flatMap((zone) => ['1', '2'].map((number) => node(`${zone}-${number}`, zone)))
  const { exitCode, errors } = await control.kubectl(
    ['create', '-f', '-'],
    nodes.map((one) => JSON.stringify(one)).join('\n---\n'),
  )
  if (exitCode !== 0) throw new Error(errors)
  const areReady = async (): Promise<boolean> => {
    const { items } = await control.get('/api/v1/nodes')
    return items.every(({ spec, status }: Manifest) => {
      const isReady = status.conditions?.some(({ type, status: is }: Manifest) => type === 'Ready' && is === 'True')
      return isReady && spec.taints === undefined
    })
  }
  await waitFor('nodes to be ready', areReady, readyTimeoutMs)
  return nodes.map(({ metadata }) => metadata.name)
}
