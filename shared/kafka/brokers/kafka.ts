import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../../dev/bound-child.ts'
import { type Broker, BrokerUnavailableError } from './broker.ts'
import { javaCommand, type KafkaDistribution, lastLines, provideKafka } from './kafka-distribution.ts'
import { findFreePorts } from './ports.ts'
import { createTopicsAndWait, fetchMetadata } from './wire.ts'

export const heapMb = 512
const startTimeoutMs = 60_000
const probeTimeoutMs = 2_000
const probePauseMs = 25
/** The last of three nodes waits long for the others, which are gone, to save data that nobody will read. */
const stopGraceMs = 2_000
/** Of topics that nobody has created otherwise, and of each of Kafka's own. */
export const partitionsByDefault = 4

/** Apache Kafka in KRaft mode on loopback: every node is broker and controller. Nodes are counted from 0. */
export interface KafkaCluster extends Broker {
  readonly name: 'kafka'
  readonly nodeCount: number
  /** Configuration, logs and data of all nodes; removed by `stop`. */
  readonly directory: string
  /** The process of a node that is running. */
  pid(node: number): number
  /** SIGKILL of one node, as a crash would be. Returns once the process is gone; its data and ports stay for `restart`. */
  kill(node: number): Promise<void>
  /** Starts a killed node again, and returns once it answers as a member of the cluster. */
  restart(node: number): Promise<void>
}

export interface KafkaOptions {
  /** One node, or three with every record on all of them and two needed to acknowledge. */
  readonly nodes?: 1 | 3
  /** The port of the first node; the others follow. Free ports where not given. */
  readonly port?: number
  /** Added to, or in place of, the settings of every node. */
  readonly settings?: Readonly<Record<string, string>>
  /** Runs Java as one would in production, in place of what starts soonest: to measure with. */
  readonly longRun?: boolean
  readonly say?: (progress: string) => void
}

interface Node {
  readonly id: number
  readonly address: string
  readonly directory: string
  readonly configFile: string
  readonly logFile: string
  child: BoundChild | undefined
}

/** Starts Apache Kafka, returns once every node answers and knows all others. Nothing of it outlives this process. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaCluster> {
  const { nodes: nodeCount = 1, longRun = false } = options
  const distribution = await provideKafka(options.say)
  const clusterId = randomBytes(16).toString('base64url')
  const root = await mkdtemp(join(tmpdir(), 'kafkatrace-kafka-'))
  let nodes: Node[] = []
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.child && endBoundChild(node.child, stopGraceMs)))
    await rm(root, { recursive: true, force: true })
  }
  try {
    nodes = await configureNodes(root, nodeCount, options)
    options.say?.(`formatting the storage of ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}`)
    await formatStorage(distribution, clusterId, nodes)
    options.say?.(`starting ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}`)
    await Promise.all(nodes.map((node) => startNode({ distribution, clusterId, root, longRun }, node, nodeCount)))
  } catch (error) {
    await stop()
    throw error
  }
  const nodeAt = (index: number): Node => {
    const node = nodes[index]
    if (node === undefined) throw new RangeError(`no node ${index}: nodes are 0 to ${nodes.length - 1}`)
    return node
  }
  return {
    name: 'kafka',
    nodeCount,
    directory: root,
    bootstrapServers: nodes.map((node) => node.address).join(','),
    description: `Apache Kafka ${distribution.version}, ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}, data in ${root} until it stops`,
    async createTopics(names, partitions) {
      const alive = nodes.find((node) => node.child !== undefined)
      if (alive === undefined) throw new BrokerUnavailableError('every node of this Kafka has been stopped')
      await createTopicsAndWait(alive.address, names, partitions)
    },
    pid(index) {
      const { child } = nodeAt(index)
      if (child === undefined) throw new Error(`node ${index} is not running`)
      return child.pid
    },
    async kill(index) {
      const node = nodeAt(index)
      if (node.child === undefined) throw new Error(`node ${index} is not running`)
      node.child.kill('SIGKILL')
      await node.child.exited
      node.child = undefined
    },
    async restart(index) {
      const node = nodeAt(index)
      if (node.child !== undefined) throw new Error(`node ${index} is running: kill it first`)
      await startNode(
        { distribution, clusterId, root, longRun },
        node,
        nodes.filter((other) => other.child !== undefined).length + 1,
      )
    },
    stop,
  }
}

async function configureNodes(root: string, nodeCount: number, options: KafkaOptions): Promise<Node[]> {
  const free = await findFreePorts(2 * nodeCount)
  const members = Array.from({ length: nodeCount }, (_, index) => ({
    id: index + 1,
    port: options.port === undefined ? (free[index] as number) : options.port + index,
    controllerPort: free[nodeCount + index] as number,
  }))
  const voters = members.map(({ id, controllerPort }) => `${id}@127.0.0.1:${controllerPort}`).join(',')
  return Promise.all(
    members.map(async ({ id, port, controllerPort }) => {
      const directory = join(root, `node-${id}`)
      const node: Node = {
        id,
        address: `127.0.0.1:${port}`,
        directory,
        configFile: join(directory, 'server.properties'),
        logFile: join(directory, 'server.log'),
        child: undefined,
      }
      await mkdir(directory)
      const settings = {
        ...nodeSettings({ id, port, controllerPort, voters, nodeCount, dataDirectory: join(directory, 'data') }),
        ...options.settings,
      }
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`)
      await Bun.write(node.configFile, lines.join(''))
      return node
    }),
  )
}

function nodeSettings(node: {
  id: number
  port: number
  controllerPort: number
  voters: string
  nodeCount: number
  dataDirectory: string
}): Record<string, string> {
  const replicas = String(node.nodeCount)
  const replicasThatAcknowledge = node.nodeCount === 1 ? '1' : '2'
  return {
    'process.roles': 'broker,controller',
    'node.id': String(node.id),
    'controller.quorum.voters': node.voters,
    listeners: `PLAINTEXT://127.0.0.1:${node.port},CONTROLLER://127.0.0.1:${node.controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${node.port}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'controller.listener.names': 'CONTROLLER',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': node.dataDirectory,
    'auto.create.topics.enable': 'true',
    'num.partitions': String(partitionsByDefault),
    'default.replication.factor': replicas,
    'min.insync.replicas': replicasThatAcknowledge,
    'offsets.topic.replication.factor': replicas,
    'offsets.topic.num.partitions': String(partitionsByDefault),
    'transaction.state.log.replication.factor': replicas,
    'transaction.state.log.min.isr': replicasThatAcknowledge,
    'transaction.state.log.num.partitions': String(partitionsByDefault),
    // A killed owner's transaction is aborted soon after its time-out, not up to ten seconds later.
    'transaction.abort.timed.out.transaction.cleanup.interval.ms': '1000',
    'group.initial.rebalance.delay.ms': '0',
    // A node that was killed is let in again, or given up, after this time: nine seconds by default.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    'log.message.timestamp.type': 'CreateTime',
    // Of a heap of 512 MB, the cleaner would take 128 MB at once.
    'log.cleaner.dedupe.buffer.size': String(8 * 1024 * 1024),
    'num.network.threads': '2',
    'num.io.threads': '4',
  }
}

async function formatStorage(
  distribution: KafkaDistribution,
  clusterId: string,
  nodes: readonly Node[],
): Promise<void> {
  await Promise.all(
    nodes.map(async (node) => {
      // With a sign between, since one id in 64 begins with a hyphen and would pass for an option.
      const args = ['format', `--cluster-id=${clusterId}`, '--config', node.configFile]
      const command = javaCommand(distribution, 'kafka.tools.StorageTool', args, { heapMb, log: 'error' })
      const child = Bun.spawn(command, { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' })
      const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
      if (exitCode !== 0)
        throw new BrokerUnavailableError(`Kafka's storage tool failed:\n${lastLines(output + errors)}`)
    }),
  )
}

async function startNode(
  cluster: { distribution: KafkaDistribution; clusterId: string; root: string; longRun: boolean },
  node: Node,
  membersExpected: number,
): Promise<void> {
  const log = Bun.file(node.logFile)
  const child = spawnBoundChild(
    javaCommand(cluster.distribution, 'kafka.Kafka', [node.configFile], {
      heapMb,
      log: 'warn',
      longRun: cluster.longRun,
    }),
    {
      stdout: 'ignore',
      stderr: log,
      removeWhenOrphaned: cluster.root,
    },
  )
  node.child = child
  const deadline = Date.now() + startTimeoutMs
  while (isRunning(child) && Date.now() < deadline) {
    const answer = await fetchMetadata(node.address, probeTimeoutMs).catch(() => undefined)
    // Who answers there may be another cluster, which has taken the port.
    const members = answer?.clusterId === cluster.clusterId ? answer.brokers : []
    if (members.length >= membersExpected && members.some((broker) => broker.id === node.id)) return
    await Bun.sleep(probePauseMs)
  }
  const why = isRunning(child) ? `is not ready after ${startTimeoutMs} ms` : 'ended'
  node.child = undefined
  await endBoundChild(child, 0)
  throw new BrokerUnavailableError(`Kafka node ${node.id} ${why}; its last lines:\n${lastLines(await log.text())}`)
}
