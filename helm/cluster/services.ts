import { DNS_ADDRESS } from './node.ts'

/** What the cluster itself runs, and the Kafka beside it, as Kubernetes objects. All of it is on one node, so that the others can be drained. */

// biome-ignore lint/suspicious/noExplicitAny: an object of any kind, which the API server checks.
type Manifest = any

const NODE = { 'kubernetes.io/hostname': 'node-0' }
const SYSTEM = 'kube-system'

const list = (items: readonly Manifest[]): string => JSON.stringify({ apiVersion: 'v1', kind: 'List', items })

const bound = (name: string, role: string): Manifest => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: `${name}:${role}` },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
  subjects: [{ kind: 'ServiceAccount', name, namespace: SYSTEM }],
})

const account = (name: string): Manifest => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name, namespace: SYSTEM },
})

const deployment = (name: string, labels: Record<string, string>, spec: Manifest): Manifest => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace: SYSTEM },
  spec: {
    selector: { matchLabels: labels },
    template: { metadata: { labels }, spec: { nodeSelector: NODE, serviceAccountName: name, ...spec } },
  },
})

const reads = (apiGroups: readonly string[], resources: readonly string[]): Manifest => ({
  apiGroups,
  resources,
  verbs: ['get', 'list', 'watch'],
})

const role = (name: string, rules: readonly Manifest[]): Manifest => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRole',
  metadata: { name },
  rules,
})

const COREFILE = `.:53 {
  errors
  ready
  kubernetes cluster.local in-addr.arpa {
    ttl 5
  }
  cache 5
  loadbalance
}
`

/** CoreDNS, with the labels and the Service that clusters give it. */
export const dns = (image: string): string =>
  list([
    account('coredns'),
    role('coredns', [reads([''], ['services', 'pods', 'namespaces']), reads(['discovery.k8s.io'], ['endpointslices'])]),
    bound('coredns', 'coredns'),
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'coredns', namespace: SYSTEM },
      data: { Corefile: COREFILE },
    },
    deployment(
      'coredns',
      { 'k8s-app': 'kube-dns' },
      {
        dnsPolicy: 'Default',
        containers: [
          {
            name: 'coredns',
            image,
            args: ['-conf', '/etc/coredns/Corefile'],
            volumeMounts: [{ name: 'config', mountPath: '/etc/coredns' }],
            readinessProbe: { httpGet: { path: '/ready', port: 8181 }, periodSeconds: 1 },
            resources: { requests: { cpu: '50m', memory: '70Mi' } },
          },
        ],
        volumes: [{ name: 'config', configMap: { name: 'coredns' } }],
      },
    ),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kube-dns', namespace: SYSTEM },
      spec: {
        clusterIP: DNS_ADDRESS,
        selector: { 'k8s-app': 'kube-dns' },
        ports: [
          { name: 'dns', port: 53, protocol: 'UDP' },
          { name: 'dns-tcp', port: 53, protocol: 'TCP' },
        ],
      },
    },
  ])

const METRICS_PORT = 10443

/** metrics-server in the node's network, which the API server reaches. */
export const metrics = (image: string): string =>
  list([
    account('metrics-server'),
    role('metrics-server', [
      reads([''], ['nodes/metrics']),
      reads([''], ['pods', 'nodes', 'namespaces', 'configmaps']),
    ]),
    bound('metrics-server', 'metrics-server'),
    bound('metrics-server', 'system:auth-delegator'),
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'metrics-server', namespace: SYSTEM },
      roleRef: {
        apiGroup: 'rbac.authorization.k8s.io',
        kind: 'Role',
        name: 'extension-apiserver-authentication-reader',
      },
      subjects: [{ kind: 'ServiceAccount', name: 'metrics-server', namespace: SYSTEM }],
    },
    deployment(
      'metrics-server',
      { 'k8s-app': 'metrics-server' },
      {
        hostNetwork: true,
        containers: [
          {
            name: 'metrics-server',
            image,
            args: [
              '--cert-dir=/tmp',
              `--secure-port=${METRICS_PORT}`,
              '--kubelet-preferred-address-types=InternalIP',
              '--kubelet-insecure-tls',
              // The shortest that it takes, and what has to be below that.
              '--metric-resolution=10s',
              '--kubelet-request-timeout=5s',
            ],
            readinessProbe: { httpGet: { path: '/readyz', port: METRICS_PORT, scheme: 'HTTPS' }, periodSeconds: 2 },
            resources: { requests: { cpu: '50m', memory: '70Mi' } },
            volumeMounts: [{ name: 'tmp', mountPath: '/tmp' }],
          },
        ],
        volumes: [{ name: 'tmp', emptyDir: {} }],
      },
    ),
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'metrics-server', namespace: SYSTEM },
      spec: { selector: { 'k8s-app': 'metrics-server' }, ports: [{ port: 443, targetPort: METRICS_PORT }] },
    },
    {
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: 'v1beta1.metrics.k8s.io' },
      spec: {
        group: 'metrics.k8s.io',
        version: 'v1beta1',
        groupPriorityMinimum: 100,
        versionPriority: 100,
        insecureSkipTLSVerify: true,
        service: { name: 'metrics-server', namespace: SYSTEM },
      },
    },
  ])

export const BROKERS = 3
/** The controllers' listener, which no service of ours may reach. */
export const CONTROLLER_PORT = 9093
const DOMAIN = 'kafka.kafka.svc.cluster.local'

const voters = Array.from({ length: BROKERS }, (_, index) => `${index + 1}@kafka-${index}.${DOMAIN}:${CONTROLLER_PORT}`)

const SERVER_PROPERTIES = `process.roles=broker,controller
node.id=@ID@
controller.quorum.voters=${voters.join(',')}
listeners=PLAINTEXT://:9092,CONTROLLER://:${CONTROLLER_PORT}
advertised.listeners=PLAINTEXT://@HOST@.${DOMAIN}:9092
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=/var/lib/kafka
auto.create.topics.enable=false
default.replication.factor=${BROKERS}
min.insync.replicas=2
offsets.topic.replication.factor=${BROKERS}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=${BROKERS}
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=4
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
`

/** Three brokers, which keep their data on the node when they are taken away. */
export const kafka = (image: string): string =>
  list([
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kafka' } },
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'kafka', namespace: 'kafka' },
      data: { 'server.properties': SERVER_PROPERTIES },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kafka', namespace: 'kafka' },
      // Brokers look for each other before they are ready.
      spec: { clusterIP: 'None', publishNotReadyAddresses: true, selector: { app: 'kafka' }, ports: [{ port: 9092 }] },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kafka-bootstrap', namespace: 'kafka' },
      spec: { selector: { app: 'kafka' }, ports: [{ port: 9092 }] },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'kafka', namespace: 'kafka' },
      spec: {
        replicas: BROKERS,
        serviceName: 'kafka',
        podManagementPolicy: 'Parallel',
        selector: { matchLabels: { app: 'kafka' } },
        template: {
          metadata: { labels: { app: 'kafka' } },
          spec: {
            nodeSelector: NODE,
            automountServiceAccountToken: false,
            // Brokers that all end wait for each other in vain.
            terminationGracePeriodSeconds: 5,
            containers: [
              {
                name: 'kafka',
                image,
                env: [{ name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
                readinessProbe: { tcpSocket: { port: 9092 }, periodSeconds: 1 },
                resources: { requests: { cpu: '150m', memory: '700Mi' }, limits: { memory: '700Mi' } },
                volumeMounts: [
                  { name: 'config', mountPath: '/etc/kafka' },
                  { name: 'data', mountPath: '/var/lib/kafka', subPathExpr: '$(POD)' },
                ],
              },
            ],
            volumes: [
              { name: 'config', configMap: { name: 'kafka' } },
              { name: 'data', hostPath: { path: '/var/lib/kafka', type: 'DirectoryOrCreate' } },
            ],
          },
        },
      },
    },
  ])

/** A program of this machine in a pod. */
export interface Program {
  readonly name: string
  readonly namespace: string
  /** An image with the libraries that the program needs. */
  readonly image: string
  readonly command: readonly string[]
  /** Files and folders of this machine, by their paths in the pod. */
  readonly mounts: Readonly<Record<string, string>>
  /** Where it listens. The Service of its name has the same port, and so has the first node. */
  readonly port?: number
}

/** A pod that runs a program once, and its Service. */
export const program = ({ name, namespace, image, command, mounts, port }: Program): string => {
  const volumes = Object.entries(mounts).map(([mountPath, path], index) => ({
    name: `mount-${index}`,
    mountPath,
    path,
  }))
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name } },
    spec: {
      nodeSelector: NODE,
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'program',
          image,
          command,
          securityContext: { runAsUser: 0 },
          volumeMounts: volumes.map((volume) => ({ name: volume.name, mountPath: volume.mountPath })),
          ...(port !== undefined && { ports: [{ containerPort: port, hostPort: port }] }),
        },
      ],
      volumes: volumes.map((volume) => ({ name: volume.name, hostPath: { path: volume.path } })),
    },
  }
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: { selector: { app: name }, ports: [{ port }] },
  }
  return list(port === undefined ? [pod] : [pod, service])
}
