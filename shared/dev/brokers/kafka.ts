import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { type BoundChild, endBoundChild, isRunning, spawnBoundChild } from '../bound-child.ts'
import { lastLines, makeWhole, run } from '../run.ts'
import { type Broker, BrokerUnavailableError } from './broker.ts'
import { javaCommand, type KafkaDistribution, provideKafka } from './kafka-distribution.ts'
import { findFreePorts, releasePorts } from './ports.ts'
import { createTopicsAndWait, fetchMetadata } from './wire.ts'
import { findCoordinator } from './wire-admin.ts'

export const heapMb = 512
/** Of each of three nodes, which share the machine with what is tested. */
const smallHeapMb = 192
const loopback = '127.0.0.1'
const startTimeoutMs = 60_000
const probeTimeoutMs = 2_000
const probePauseMs = 25
const questionTimeoutMs = 15_000
const inSyncTimeoutMs = 60_000
/** On a clean shutdown a node first hands its partitions over. */
const leaveGraceMs = 60_000
/** The last of three nodes would wait a long time for the other two, to save data that nobody reads. */
const stopGraceMs = 2_000
/** For topics created without a number of partitions, and for each of Kafka's internal topics. */
export const partitionsByDefault = 4

/** Apache Kafka in KRaft mode on loopback: every node is broker and controller. Nodes are counted from 0. */
export interface KafkaCluster extends Broker {
  readonly name: 'kafka'
  readonly nodeCount: number
  /** Configuration, logs and data of all nodes. `stop` removes it, unless it was given. */
  readonly directory: string
  /** `host:port` of a node. */
  address(node: number): string
  /** The process ID of a running node. */
  pid(node: number): number
  /** Bootstrap servers of the listener for `KafkaOptions.users`; empty without users. */
  readonly userServers: string
  /** The settings of a node, which it reads when it starts. */
  configFile(node: number): string
  /** Sends SIGKILL to one node, like a crash. Returns once the process is gone; its data and ports stay for `restart`. */
  kill(node: number): Promise<void>
  /** Sends SIGTERM to one node. Returns once it has handed its partitions over and is gone. */
  leave(node: number): Promise<void>
  /** Starts a node after `kill` or `leave`. Returns once it answers as a member of the cluster. */
  restart(node: number): Promise<void>
  /** Sends SIGSTOP: the node keeps its connections and answers nothing. */
  freeze(node: number): void
  /** Sends SIGCONT: the frozen node continues. */
  thaw(node: number): void
  /** The node that coordinates a group, or the transactions of an id. Waits while there is none. */
  coordinatorOf(type: 'group' | 'transaction', id: string): Promise<number>
  /** The node that leads a partition. Waits while there is none. */
  leaderOf(topic: string, partition: number): Promise<number>
  /** Thaws frozen nodes and starts stopped ones. */
  restore(): Promise<void>
  /** Waits until all replicas of all partitions are in sync, as you would before you touch the next node. */
  inSync(): Promise<void>
  /** @param options.keepDirectory keeps configuration, logs and data for inspection */
  stop(options?: { readonly keepDirectory?: boolean }): Promise<void>
}

/** Where a node runs when it is not on loopback with the others. */
export interface NodePlace {
  /** The address that it listens on. */
  readonly host: string
  /** A command prefix that runs its arguments there. */
  readonly enter: readonly string[]
}

export interface KafkaOptions {
  /** One node, or three with replication factor 3 and min.insync.replicas 2. */
  readonly nodes?: 1 | 3
  /** The port of each node. Default: free ports. */
  readonly ports?: readonly number[]
  /** The ports in `advertised.listeners`, where a proxy sits in front of each node. */
  readonly advertisedPorts?: readonly number[]
  /** One for each node. */
  readonly places?: readonly NodePlace[]
  /**
   * Passwords by user name. With users, the nodes have a second listener (SASL/PLAIN without TLS) that enforces ACLs. Clients of
   * the first listener may do everything.
   */
  readonly users?: Readonly<Record<string, string>>
  /** Settings that are added to those of every node, or override them. */
  readonly settings?: Readonly<Record<string, string>>
  /** Options of Java for every node, such as system properties. */
  readonly javaOptions?: readonly string[]
  /**
   * Where configuration, logs and data are kept. A directory of an earlier start with the same number of nodes is reused, with its topics
   * and committed offsets. Default: a temporary directory that is removed with this process.
   */
  readonly directory?: string
  /** Runs Java with production options, for measurements. The default options favour start-up time. */
  readonly longRun?: boolean
  readonly say?: (progress: string) => void
}

/**
 * Archives the classes that a node loads, for this Java and these jars, once. With the archive, which every later start finds, a node takes half the CPU time to start.
 * @throws BrokerUnavailableError where this Java makes none
 */
export async function archiveClasses(say: (progress: string) => void): Promise<void> {
  const { classArchive } = await provideKafka(say)
  if (existsSync(classArchive)) return
  say('archiving the classes of Apache Kafka, once')
  await makeWhole(dirname(classArchive), async (unfinished) => {
    const made = join(unfinished, basename(classArchive))
    const kafka = await startKafka({ javaOptions: [`-XX:ArchiveClassesAtExit=${made}`] })
    try {
      await kafka.createTopics(['classes'], 1)
      await kafka.leave(0)
    } finally {
      await kafka.stop()
    }
    if (!existsSync(made)) throw new BrokerUnavailableError('this Java does not archive the classes of Apache Kafka')
  })
}

interface Node {
  readonly id: number
  readonly address: string
  readonly userAddress: string
  readonly enter: readonly string[]
  readonly directory: string
  readonly configFile: string
  readonly logFile: string
  child: BoundChild | undefined
  frozen: boolean
}

/** Starts Apache Kafka. Returns once every node answers and knows all others. Nothing of it outlives this process. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaCluster> {
  const { nodes: nodeCount = 1, longRun = false } = options
  const distribution = await provideKafka(options.say)
  const isKept = options.directory !== undefined
  const root = options.directory ?? (await mkdtemp(join(tmpdir(), 'kafkatrace-kafka-')))
  const formattedAs = isKept ? await clusterIdIn(root) : undefined
  const clusterId = formattedAs ?? randomBytes(16).toString('base64url')
  const cluster = {
    distribution,
    clusterId,
    removedWhenOrphaned: isKept ? '' : root,
    longRun,
    javaOptions: options.javaOptions ?? [],
    heapMb: nodeCount === 1 ? heapMb : smallHeapMb,
  }
  const ports: number[] = []
  const nodes: Node[] = []
  const stop = async ({ keepDirectory = false } = {}) => {
    await Promise.all(
      nodes.map(
        (node) => node.child && endBoundChild(node.child, node.frozen ? 0 : isKept ? leaveGraceMs : stopGraceMs),
      ),
    )
    releasePorts(ports.splice(0))
    if (!isKept && !keepDirectory) await rm(root, { recursive: true, force: true })
  }
  try {
    nodes.push(...(await configureNodes(root, nodeCount, options, ports)))
    if (formattedAs === undefined) {
      options.say?.(`formatting the storage of ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}`)
      await formatStorage(distribution, clusterId, nodes)
    }
    options.say?.(`starting ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}`)
    await Promise.all(nodes.map((node) => startNode(cluster, node, nodeCount)))
  } catch (error) {
    await stop()
    throw error
  }
  const nodeAt = (index: number): Node => {
    const node = nodes[index]
    if (node === undefined) throw new RangeError(`no node ${index}: nodes are 0 to ${nodes.length - 1}`)
    return node
  }
  const running = (index: number): BoundChild => {
    const { child } = nodeAt(index)
    if (child === undefined) throw new Error(`node ${index} is not running`)
    return child
  }
  const answering = (): Node[] => nodes.filter((node) => node.child !== undefined && !node.frozen)
  /** Asks the nodes in turn until one has the answer: for a while some do not know it, or cannot be reached. */
  const ask = async <Answer>(
    question: (address: string) => Promise<Answer | undefined>,
    what: string,
    timeoutMs: number,
  ): Promise<Answer> => {
    const deadline = Date.now() + timeoutMs
    let why = 'no node is running'
    for (;;) {
      for (const { address } of answering()) {
        try {
          const answer = await question(address)
          if (answer !== undefined) return answer
          why = `${address} does not know`
        } catch (error) {
          why = (error as Error).message
        }
      }
      if (Date.now() > deadline) throw new Error(`${what}: no answer within ${timeoutMs} ms (${why})`)
      await Bun.sleep(probePauseMs)
    }
  }
  const indexOf = (id: number): number => nodes.findIndex((node) => node.id === id)
  const thaw = (index: number): void => {
    running(index).kill('SIGCONT')
    nodeAt(index).frozen = false
  }
  return {
    name: 'kafka',
    nodeCount,
    directory: root,
    bootstrapServers: nodes.map((node) => node.address).join(','),
    userServers: options.users === undefined ? '' : nodes.map((node) => node.userAddress).join(','),
    description: `Apache Kafka ${distribution.version}, ${nodeCount === 1 ? 'one node' : `${nodeCount} nodes`}, data in ${root}${isKept ? '' : ' until it stops'}`,
    async createTopics(names, partitions) {
      const [first] = answering()
      if (first === undefined) throw new BrokerUnavailableError('every node of this Kafka has been stopped')
      await createTopicsAndWait(first.address, names, partitions)
    },
    address: (index) => nodeAt(index).address,
    pid: (index) => running(index).pid,
    configFile: (index) => nodeAt(index).configFile,
    async kill(index) {
      const child = running(index)
      child.kill('SIGKILL')
      await child.exited
      Object.assign(nodeAt(index), { child: undefined, frozen: false })
    },
    async leave(index) {
      const ended = await endBoundChild(running(index), leaveGraceMs)
      nodeAt(index).child = undefined
      if (ended === 'killed') throw new Error(`node ${index} did not end within ${leaveGraceMs} ms of SIGTERM`)
    },
    async restart(index) {
      const node = nodeAt(index)
      if (node.child !== undefined) throw new Error(`node ${index} is running: kill it first`)
      await startNode(cluster, node, answering().length + 1)
    },
    freeze(index) {
      running(index).kill('SIGSTOP')
      nodeAt(index).frozen = true
    },
    thaw,
    async restore() {
      for (const [index, { child, frozen }] of nodes.entries()) if (child !== undefined && frozen) thaw(index)
      const away = nodes.filter(({ child }) => child === undefined)
      // A single node of three does not become ready alone.
      await Promise.all(away.map((node) => startNode(cluster, node, answering().length + 1)))
    },
    coordinatorOf: (type, id) =>
      ask(
        async (address) => indexOf(await findCoordinator(address, probeTimeoutMs, type, id)),
        `the coordinator of ${id}`,
        questionTimeoutMs,
      ),
    leaderOf: (topic, partition) =>
      ask(
        async (address) => {
          const { topics } = await fetchMetadata(address, probeTimeoutMs, [topic])
          const leader = topics[0]?.leaders[partition] ?? -1
          return leader < 0 ? undefined : indexOf(leader)
        },
        `the leader of ${topic}/${partition}`,
        questionTimeoutMs,
      ),
    async inSync() {
      await ask(
        async (address) => {
          const { topics } = await fetchMetadata(address, probeTimeoutMs, 'all')
          return topics.every((topic) => topic.led && topic.inSync) ? true : undefined
        },
        'all replicas in sync',
        inSyncTimeoutMs,
      )
    },
    stop,
  }
}

/**
 * The cluster ID with which the storage in a directory was formatted; undefined where there is no storage yet.
 * @throws BrokerUnavailableError when the directory contains something else
 */
async function clusterIdIn(root: string): Promise<string | undefined> {
  await mkdir(root, { recursive: true })
  const properties = Bun.file(join(dataDirectory(nodeDirectory(root, 1)), 'meta.properties'))
  if (await properties.exists()) return /^cluster\.id=(.+)$/m.exec(await properties.text())?.[1]
  const [other] = (await readdir(root)).filter((name) => !/^node-\d$/.test(name))
  if (other === undefined) return undefined
  throw new BrokerUnavailableError(
    `${root} is not a directory of this Kafka: it has ${other}; name an empty or a new one`,
  )
}

const nodeDirectory = (root: string, id: number): string => join(root, `node-${id}`)

const dataDirectory = (node: string): string => join(node, 'data')

/** @param found receives the ports that were taken, for the caller to release */
async function configureNodes(
  root: string,
  nodeCount: number,
  { ports, advertisedPorts, places, users, settings }: KafkaOptions,
  found: number[],
): Promise<Node[]> {
  const newPorts = async (): Promise<number[]> => {
    const free = await findFreePorts(nodeCount)
    found.push(...free)
    return free
  }
  const clientPorts = ports ?? (await newPorts())
  const controllerPorts = await newPorts()
  const userPorts = users === undefined ? [] : await newPorts()
  const members = Array.from({ length: nodeCount }, (_, index) => {
    const host = places?.[index]?.host ?? loopback
    const addressOf = (port: number | undefined) => `${host}:${port}`
    return {
      id: index + 1,
      enter: places?.[index]?.enter ?? [],
      address: addressOf(clientPorts[index]),
      advertisedAddress: addressOf(advertisedPorts?.[index] ?? clientPorts[index]),
      controllerAddress: addressOf(controllerPorts[index]),
      userAddress: addressOf(userPorts[index]),
      directory: nodeDirectory(root, index + 1),
    }
  })
  const voters = members.map(({ id, controllerAddress }) => `${id}@${controllerAddress}`).join(',')
  return Promise.all(
    members.map(async (member) => {
      const { directory } = member
      const configFile = join(directory, 'server.properties')
      await mkdir(directory, { recursive: true })
      const all = {
        ...nodeSettings({ ...member, voters, nodeCount, dataDirectory: dataDirectory(directory) }),
        ...(users === undefined ? {} : userSettings(member, users)),
        ...settings,
      }
      const lines = Object.entries(all).map(([name, value]) => `${name}=${value}\n`)
      await Bun.write(configFile, lines.join(''))
      return { ...member, configFile, logFile: join(directory, 'server.log'), child: undefined, frozen: false }
    }),
  )
}

interface Member {
  readonly id: number
  readonly address: string
  readonly advertisedAddress: string
  readonly controllerAddress: string
  readonly userAddress: string
}

function nodeSettings(
  node: Member & { readonly voters: string; readonly nodeCount: number; readonly dataDirectory: string },
): Record<string, string> {
  const replicas = String(node.nodeCount)
  const replicasThatAcknowledge = node.nodeCount === 1 ? '1' : '2'
  return {
    'process.roles': 'broker,controller',
    'node.id': String(node.id),
    'controller.quorum.voters': node.voters,
    listeners: `PLAINTEXT://${node.address},CONTROLLER://${node.controllerAddress}`,
    'advertised.listeners': `PLAINTEXT://${node.advertisedAddress}`,
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
    // Aborts a dead owner's transaction soon after its time-out; the default checks every ten seconds.
    'transaction.abort.timed.out.transaction.cleanup.interval.ms': '1000',
    'group.initial.rebalance.delay.ms': '0',
    // A killed node is fenced, or may register again, after this time. The default is nine seconds.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    'log.message.timestamp.type': 'CreateTime',
    // By default the cleaner allocates 128 MB of the heap at start.
    'log.cleaner.dedupe.buffer.size': String(8 * 1024 * 1024),
    'num.network.threads': '2',
    'num.io.threads': '4',
  }
}

/** The listener for users, and the authorizer that allows them only what ACLs grant. */
function userSettings(node: Member, users: Readonly<Record<string, string>>): Record<string, string> {
  const passwords = Object.entries(users).map(([user, password]) => `user_${user}="${password}"`)
  return {
    listeners: `PLAINTEXT://${node.address},CONTROLLER://${node.controllerAddress},USERS://${node.userAddress}`,
    'advertised.listeners': `PLAINTEXT://${node.advertisedAddress},USERS://${node.userAddress}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_PLAINTEXT',
    'sasl.enabled.mechanisms': 'PLAIN',
    'listener.name.users.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required ${passwords.join(' ')};`,
    'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users': 'User:ANONYMOUS',
  }
}

async function formatStorage(
  distribution: KafkaDistribution,
  clusterId: string,
  nodes: readonly Node[],
): Promise<void> {
  await Promise.all(
    nodes.map(async (node) => {
      // Joined by "=": one ID in 64 begins with a hyphen and would be read as an option.
      const args = ['format', `--cluster-id=${clusterId}`, '--config', node.configFile]
      const command = javaCommand(distribution, 'kafka.tools.StorageTool', args, { heapMb, log: 'error' })
      const { exitCode, output, errors } = await run(command)
      if (exitCode !== 0)
        throw new BrokerUnavailableError(`Kafka's storage tool failed:\n${lastLines(output + errors)}`)
    }),
  )
}

async function startNode(
  cluster: {
    readonly distribution: KafkaDistribution
    readonly clusterId: string
    /** A directory; empty for none. */
    readonly removedWhenOrphaned: string
    readonly longRun: boolean
    readonly javaOptions: readonly string[]
    readonly heapMb: number
  },
  node: Node,
  membersExpected: number,
): Promise<void> {
  const log = Bun.file(node.logFile)
  const child = spawnBoundChild(
    [
      ...node.enter,
      ...javaCommand(cluster.distribution, 'kafka.Kafka', [node.configFile], {
        heapMb: cluster.heapMb,
        log: 'warn',
        longRun: cluster.longRun,
        javaOptions: cluster.javaOptions,
      }),
    ],
    {
      stdout: 'ignore',
      stderr: log,
      removeWhenOrphaned: cluster.removedWhenOrphaned,
    },
  )
  node.child = child
  const deadline = Date.now() + startTimeoutMs
  while (isRunning(child) && Date.now() < deadline) {
    const answer = await fetchMetadata(node.address, probeTimeoutMs).catch(() => undefined)
    // Another cluster may have taken the port.
    const members = answer?.clusterId === cluster.clusterId ? answer.brokers : []
    if (members.length >= membersExpected && members.some((broker) => broker.id === node.id)) return
    await Bun.sleep(probePauseMs)
  }
  const why = isRunning(child) ? `is not ready after ${startTimeoutMs} ms` : 'ended'
  node.child = undefined
  await endBoundChild(child, 0)
  throw new BrokerUnavailableError(`Kafka node ${node.id} ${why}; its last lines:\n${lastLines(await log.text())}`)
}
