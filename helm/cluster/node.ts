import { dirname, join } from 'node:path'
import { createNetwork, type TestNetwork } from '../../bench/faults/network.ts'
import { run } from '../checks/check.ts'
import { tool } from '../checks/tools.ts'
import type { ControlPlane } from './control-plane.ts'
import { hasEnded, type Machine, must, removeOrphanedCgroups, startMachine, until } from './machine.ts'

/**
 * Nodes that run pods: containerd, kubelet, kube-proxy, and kube-router, which enforces NetworkPolicies. Each node is a {@link Machine}.
 *
 *   this machine (.254)    the control plane
 *   node-0 (.1)            pods 10.244.0.0/24
 *   node-1 (.2)            pods 10.244.1.0/24
 *   workstation (.3)       where commands are typed: reaches Services and pods by way of node-0, has a loopback of its own
 */

export interface ClusterNode {
  readonly name: string
  readonly address: string
  /** The command that runs another one in the node's namespaces. */
  readonly enter: readonly string[]
  /** Imports a `docker-archive`. */
  importImage(archive: string): Promise<void>
  /** Names an image that is there once more. */
  tagImage(image: string, as: string): Promise<void>
  /** Sends SIGKILL to the first process of a container, by its ID at the container runtime. */
  kill(container: string): Promise<void>
}

export interface Cluster {
  readonly nodes: readonly ClusterNode[]
  /** The command that runs another one where commands are typed, with the cluster's names. */
  readonly workstation: readonly string[]
  /** This machine's address, as nodes and pods reach it. */
  readonly clientsHost: string
  /** Starts the nodes' programs, with their logs beside the control plane's. Returns once nodes are registered. */
  startNodes(controlPlane: NodeAccess): Promise<void>
  /** Programs of nodes that have ended, with their logs. */
  ended(): string[]
  /** Ends every process of the nodes, and removes what they leave. */
  stop(): Promise<void>
}

/** What nodes need of a control plane. */
export type NodeAccess = Pick<ControlPlane, 'env' | 'authorityFile' | 'logs' | 'kubectl'>

type Say = (progress: string) => void

export const SERVICE_CIDR = '10.96.0.0/16'
export const DNS_ADDRESS = '10.96.0.10'
const POD_CIDR = '10.244.0.0/16'
const podsOf = (node: number): string => `10.244.${node}.0/24`

/** Runs a command with another resolver: names of the cluster first. */
const WITH_RESOLVER = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'

const RESOLVER = `nameserver ${DNS_ADDRESS}
search svc.cluster.local cluster.local
options ndots:3 timeout:2
`

/**
 * @param folder a new one, which is removed when this process is killed
 * @throws Error that says what is missing, or why a part did not start
 */
export async function createCluster(nodeCount: number, folder: string, say: Say): Promise<Cluster> {
  await removeOrphanedCgroups()
  say('making the network')
  const network = await createNetwork(nodeCount + 1)
  const nodes: StartedNode[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()))
    await network.stop()
  }
  try {
    const resolver = join(folder, 'resolv.conf')
    await Bun.write(resolver, RESOLVER)
    await route(network, nodeCount)
    const place = network.places[nodeCount]
    return {
      nodes,
      workstation: [...(place?.enter ?? []), 'unshare', '--mount', 'sh', '-c', WITH_RESOLVER, 'sh', resolver],
      clientsHost: network.clientsHost,
      async startNodes(access) {
        for (let index = 0; index < nodeCount; index++) nodes.push(await beginNode(network, index, folder, access.logs))
        await Promise.all(nodes.map((node) => startPrograms(node, access, say)))
      },
      ended: () => nodes.flatMap(({ machine }) => machine.ended()),
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Pods' addresses by way of their nodes, and for the workstation the Services' by way of the first. */
async function route({ places, clientsHost }: TestNetwork, nodeCount: number): Promise<void> {
  for (const [from, { enter }] of places.entries()) {
    const ip = (...args: string[]) => must([...enter, 'ip', ...args])
    for (let to = 0; to < nodeCount; to++)
      if (to !== from) await ip('route', 'add', podsOf(to), 'via', places[to]?.host ?? '')
    if (from === nodeCount) await ip('route', 'add', SERVICE_CIDR, 'via', places[0]?.host ?? '')
    // Programs look for the node's address by its default route. This machine passes nothing on.
    else await ip('route', 'add', 'default', 'via', clientsHost)
  }
}

interface StartedNode extends ClusterNode {
  readonly index: number
  readonly machine: Machine
  stop(): Promise<void>
}

async function beginNode({ places }: TestNetwork, index: number, parent: string, logs: string): Promise<StartedNode> {
  const name = `node-${index}`
  const folder = join(parent, name)
  const [place] = places.slice(index)
  if (place === undefined) throw new RangeError(`the network has no place for ${name}`)
  await Bun.write(join(folder, 'resolv.conf'), '')
  const machine = await startMachine({ name, place, folder, logs, cpuWeight: CPU_WEIGHT, removeWhenOrphaned: parent })
  const { enter } = machine
  const ctr = async (...args: string[]): Promise<void> => {
    const program = await tool('ctr', () => {})
    await must([...enter, program, '--address', CONTAINERD, '--namespace', 'k8s.io', ...args])
  }
  return {
    name,
    index,
    machine,
    address: place.host,
    enter,
    importImage: (archive) => ctr('images', 'import', archive),
    tagImage: (image, as) => ctr('images', 'tag', '--force', image, as),
    kill: (container) => ctr('tasks', 'kill', '--signal', 'SIGKILL', container),
    stop: () => machine.stop(),
  }
}

/** Far more than other areas, which must not delay what is measured. */
const CPU_WEIGHT = 16
const CONTAINERD = '/run/containerd/containerd.sock'
export const PAUSE_IMAGE = 'localhost/pause:1'

async function startPrograms(node: StartedNode, { env, authorityFile, kubectl }: NodeAccess, say: Say): Promise<void> {
  const { name, address, index, machine } = node
  const { folder, cgroup } = machine
  const kubeconfig = env['KUBECONFIG'] ?? ''
  const [containerd, kubelet, proxy, router] = await Promise.all(
    (['containerd', 'kubelet', 'kube-proxy', 'kube-router'] as const).map((program) => tool(program, say)),
  )
  const [shim, runc, plugins] = await Promise.all(
    (['containerd-shim-runc-v2', 'runc', 'cni-plugins'] as const).map((program) => tool(program, say)),
  )
  const file = async (path: string, text: string): Promise<string> => {
    await Bun.write(join(folder, path), text)
    return join(folder, path)
  }
  say(`starting ${name}`)
  const rule = ['-s', POD_CIDR, '!', '-d', POD_CIDR, '-j', 'MASQUERADE']
  await must([...node.enter, 'iptables', '--wait', '--table', 'nat', '--append', 'POSTROUTING', ...rule])
  await file('lib/cni/net.d/10-pods.conflist', JSON.stringify(pods(index)))
  const config = await file('containerd.toml', containerdConfig(runc ?? '', plugins ?? ''))
  const runtime = machine.start(
    'containerd',
    [containerd ?? '', '--config', config],
    [dirname(shim ?? ''), dirname(runc ?? '')],
  )
  const ctr = await tool('ctr', say)
  await until(`containerd of ${name} answers`, async () => {
    const { exitCode } = await run([...(node.enter as [string]), ctr, '--address', CONTAINERD, 'version'])
    return exitCode === 0 || hasEnded(runtime, 'containerd', machine.logOf('containerd'))
  })
  const settings = await file('kubelet.json', JSON.stringify(kubeletConfig(cgroup, folder, authorityFile)))
  machine.start('kubelet', [
    kubelet ?? '',
    `--config=${settings}`,
    `--kubeconfig=${kubeconfig}`,
    `--hostname-override=${name}`,
    `--node-ip=${address}`,
    `--node-labels=topology.kubernetes.io/zone=zone-${index}`,
    // What pods use is measured more often than metrics are read, so that each reading is a new one.
    '--housekeeping-interval=5s',
  ])
  const proxySettings = await file('kube-proxy.json', JSON.stringify(proxyConfig(name, kubeconfig)))
  machine.start('kube-proxy', [proxy ?? '', `--config=${proxySettings}`])
  // kube-router ends where it does not find its node.
  await until(`${name} is registered`, async () => (await kubectl(['get', 'node', name])).exitCode === 0)
  machine.start('kube-router', [
    router ?? '',
    '--run-router=false',
    '--run-service-proxy=false',
    '--run-firewall=true',
    `--service-cluster-ip-range=${SERVICE_CIDR}`,
    `--hostname-override=${name}`,
    `--kubeconfig=${kubeconfig}`,
  ])
}

const pods = (node: number): unknown => ({
  cniVersion: '1.0.0',
  name: 'pods',
  plugins: [
    {
      type: 'bridge',
      bridge: 'pods',
      isGateway: true,
      // A pod may reach itself through its Service.
      hairpinMode: true,
      ipam: { type: 'host-local', ranges: [[{ subnet: podsOf(node) }]], routes: [{ dst: '0.0.0.0/0' }] },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
})

const containerdConfig = (runc: string, plugins: string): string => `version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '${PAUSE_IMAGE}'
[plugins.'io.containerd.cri.v1.runtime']
  # Without CAP_SYS_RESOURCE, no process may lower it.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['${plugins}']
  conf_dir = '/var/lib/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = '${runc}'
`

const kubeletConfig = (cgroup: string, folder: string, clientCAFile: string): unknown => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile } },
  authorization: { mode: 'Webhook' },
  containerRuntimeEndpoint: `unix://${CONTAINERD}`,
  clusterDNS: [DNS_ADDRESS],
  clusterDomain: 'cluster.local',
  resolvConf: join(folder, 'resolv.conf'),
  volumePluginDir: '/var/lib/kubelet/volume-plugins',
  cgroupDriver: 'cgroupfs',
  cgroupRoot: `/${cgroup}`,
  failCgroupV1: false,
  oomScoreAdj: 0,
  enforceNodeAllocatable: [],
  failSwapOn: false,
  // The machine's disk is not this node's alone.
  evictionHard: { 'memory.available': '100Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
  imageGCHighThresholdPercent: 100,
  serializeImagePulls: false,
})

const proxyConfig = (hostnameOverride: string, kubeconfig: string): unknown => ({
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  clientConnection: { kubeconfig },
  mode: 'iptables',
  clusterCIDR: POD_CIDR,
  hostnameOverride,
  oomScoreAdj: 0,
  conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
})
