import { BlockList } from 'node:net'
import type { Manifest } from './charts-render.ts'

/** Violations of the restricted Pod Security Standard and of our own checklist in a pod. A job's pod needs no probes, spread or drain. */
export function podFaults({ metadata, spec }: Manifest, job = false): string[] {
  const faults: string[] = []
  const must = (holds: boolean, text: string): void => {
    if (!holds) faults.push(text)
  }
  const pod = spec.securityContext
  must(pod?.runAsNonRoot === true && pod?.runAsUser > 0, 'runs as root, or may')
  must(pod?.seccompProfile?.type === 'RuntimeDefault', 'has no seccomp profile')
  must(spec.automountServiceAccountToken === false, 'has a token of the Kubernetes API')
  must(spec.enableServiceLinks === false, 'has variables of every Service')
  must(!spec.hostNetwork && !spec.hostPID && !spec.hostIPC, 'shares a namespace with the node')
  must(job || (spec.topologySpreadConstraints ?? []).length >= 2, 'is not spread over zones and nodes')
  for (const { topologyKey, whenUnsatisfiable } of spec.topologySpreadConstraints ?? [])
    must(
      topologyKey === 'kubernetes.io/hostname' || whenUnsatisfiable === 'ScheduleAnyway',
      `stays pending on nodes without the label ${topologyKey}`,
    )
  must(
    job || metadata.annotations?.['checksum/config'] !== undefined,
    'is not rolled out when secrets of the chart change',
  )
  for (const volume of spec.volumes ?? [])
    must(
      ['configMap', 'emptyDir', 'projected', 'secret', 'csi', 'persistentVolumeClaim'].some((one) => one in volume),
      `volume ${volume.name} is of a kind that restricted pods may not have`,
    )
  for (const one of spec.containers) {
    const context = one.securityContext
    must(context?.allowPrivilegeEscalation === false, `${one.name} may gain privileges`)
    must(
      context?.capabilities?.drop?.includes('ALL') === true && !context.capabilities.add,
      `${one.name} has capabilities`,
    )
    must(context?.readOnlyRootFilesystem === true, `${one.name} can write its root file system`)
    must(
      (one.volumeMounts ?? []).some((mount: Manifest) => mount.mountPath === '/tmp'),
      `${one.name} has no /tmp`,
    )
    must(one.resources?.requests?.cpu !== undefined, `${one.name} requests no CPU`)
    must(one.resources?.limits?.memory !== undefined, `${one.name} has no memory limit`)
    must(
      one.resources?.requests?.memory === one.resources?.limits?.memory,
      `${one.name} requests other memory than its limit`,
    )
    if (job) continue
    must(one.startupProbe?.httpGet?.path === '/startupz', `${one.name} has no startup probe`)
    must(one.livenessProbe?.httpGet?.path === '/livez', `${one.name} has no liveness probe, or one that asks Kafka`)
    must(one.readinessProbe?.httpGet?.path === '/readyz', `${one.name} has no readiness probe`)
    const drainMs = Number(one.env?.find((variable: Manifest) => variable.name === 'DRAIN_TIMEOUT_MS')?.value ?? 15_000)
    const neededSeconds = (one.lifecycle?.preStop?.sleep?.seconds ?? 0) + drainMs / 1_000
    must(spec.terminationGracePeriodSeconds > neededSeconds, `${one.name} is killed before it has drained`)
  }
  return faults
}

/** A peer that a pod may talk to. */
export interface Peer {
  readonly namespace: Readonly<Record<string, string>>
  readonly pod: Readonly<Record<string, string>>
  /** By which an ipBlock may name it, where policies see its address: it is no pod, or one of the node's network. */
  readonly address?: string
}

/** Whether the policies that select a pod allow traffic with the peer in this direction. Traffic that no rule names is denied. */
export function allows(
  policies: readonly Manifest[],
  labels: Readonly<Record<string, string>>,
  direction: 'ingress' | 'egress',
  peer: Peer,
  port: { protocol: string; port: number },
): boolean {
  const type = direction === 'ingress' ? 'Ingress' : 'Egress'
  const selecting = policies.filter(({ spec }) => spec.policyTypes.includes(type) && selects(spec.podSelector, labels))
  if (selecting.length === 0) return true
  return selecting.some(({ spec }) =>
    (spec[direction] ?? []).some((rule: Manifest) => {
      const peers: Manifest[] = rule[direction === 'ingress' ? 'from' : 'to'] ?? []
      const ports: Manifest[] = rule.ports ?? []
      // In Kubernetes an absent or empty list means all.
      const peerNamed = peers.length === 0 || peers.some((one) => names(one, peer))
      return (
        peerNamed &&
        (ports.length === 0 || ports.some((one) => one.protocol === port.protocol && one.port === port.port))
      )
    }),
  )
}

/** Without a namespace selector, the policy's own namespace applies. */
function names(one: Manifest, peer: Peer): boolean {
  if (one.ipBlock !== undefined) return peer.address !== undefined && isIn(one.ipBlock.cidr, peer.address)
  if (peer.address !== undefined) return false
  const own = { matchLabels: { 'kubernetes.io/metadata.name': 'kafkatrace' } }
  return selects(one.namespaceSelector ?? own, peer.namespace) && selects(one.podSelector ?? {}, peer.pod)
}

function isIn(cidr: string, address: string): boolean {
  const [network = '', prefix] = cidr.split('/')
  const block = new BlockList()
  block.addSubnet(network, Number(prefix))
  return block.check(address)
}

function selects(selector: Manifest, labels: Readonly<Record<string, string>>): boolean {
  if (selector.matchExpressions !== undefined) throw new Error('matchExpressions are not judged: use matchLabels')
  return Object.entries(selector.matchLabels ?? {}).every(([name, value]) => labels[name] === value)
}

/** Less than the `--timeout` of Helm's commands in the documentation. */
const HOOK_LIMIT_SECONDS = 300

/** Why a hook of Helm would hang, hide why it failed, or stay for ever: `helm uninstall` deletes none. */
export function hookFaults({ kind, metadata, spec }: Manifest): string[] {
  const faults: string[] = []
  const policies = String(metadata.annotations['helm.sh/hook-delete-policy'] ?? '').split(',')
  for (const policy of ['before-hook-creation', 'hook-succeeded'])
    if (!policies.includes(policy)) faults.push(`is not deleted by the policy ${policy}`)
  if (kind === 'Pod') faults.push('is a pod, which Kubernetes does not delete once it has failed: use a job')
  if (kind !== 'Job') return faults
  if (spec.ttlSecondsAfterFinished === undefined) faults.push('stays for ever once it has failed')
  if (!(spec.activeDeadlineSeconds < HOOK_LIMIT_SECONDS))
    faults.push(`may take ${HOOK_LIMIT_SECONDS} s or more: Helm ends before it, and does not say why`)
  if (!String(metadata.annotations['helm.sh/hook-output-log-policy'] ?? '').includes('hook-failed'))
    faults.push('fails without its log being printed')
  return faults
}
