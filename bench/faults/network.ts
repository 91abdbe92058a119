import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import type { NodePlace } from '../../shared/dev/brokers/kafka.ts'

/**
 * A network for brokers: each has its own network namespace and address, joined by a bridge in a separate namespace. Clients
 * are on this machine, which is joined by one interface. Nothing else in the machine's own network is touched.
 *
 *   this machine (.254) ─┐
 *   node 0 (.1) ─────────┤ bridge
 *   node 1 (.2) ─────────┤
 *   node 2 (.3) ─────────┘
 */

/** What a node is cut off from. */
export type Cut = 'clients' | 'peers' | 'both'

export interface TestNetwork {
  readonly places: readonly NodePlace[]
  /** This machine's address in it. */
  readonly clientsHost: string
  /** Drops packets between the node and the others in both directions. Open connections stay open and silent. */
  cut(node: number, from: Cut): Promise<void>
  heal(node: number): Promise<void>
  healAll(): Promise<void>
  stop(): Promise<void>
}

/** Reserved for tests of networks (RFC 2544, section C.2.2). */
const BLOCK = '198.18'
const CLIENTS_HOST = 254
const PREFIX = 'kafkatrace-'

/** Of this process. */
let networks = 0

/** @throws Error that says what is missing, where namespaces are not available */
export async function createNetwork(nodeCount: number): Promise<TestNetwork> {
  const lacking = [
    ...(process.getuid?.() === 0 ? [] : ['to be run by root']),
    ...['ip', 'iptables'].filter((command) => Bun.which(command) === null).map((command) => `the command ${command}`),
  ]
  if (lacking.length > 0)
    throw new Error(
      `cutting brokers off takes Linux’s network namespaces, and they need ${lacking.join(' and ')}: apt-get install iproute2 iptables`,
    )
  await removeOrphans()
  const subnet = freeSubnet()
  const number = ++networks
  const name = (what: string) => `${PREFIX}${process.pid}-${number}-${what}`
  const hub = name('hub')
  const nodes = Array.from({ length: nodeCount }, (_, node) => ({
    namespace: name(`node-${node}`),
    host: `${subnet}.${node + 1}`,
  }))
  const namespaces = [hub, ...nodes.map(({ namespace }) => namespace)]
  const stop = async (): Promise<void> => {
    for (const namespace of namespaces) await run(['ip', 'netns', 'del', namespace]).catch(() => undefined)
  }
  /** The addresses of all nodes but one. */
  const othersThan = (node: number, from: Cut): string[] => [
    ...(from === 'peers' ? [] : [`${subnet}.${CLIENTS_HOST}`]),
    ...(from === 'clients' ? [] : nodes.filter((_, other) => other !== node).map(({ host }) => host)),
  ]
  const heal = (node: number): Promise<void> => inNode(node, ['iptables', '--flush'])
  const inNode = (node: number, command: readonly string[]): Promise<void> =>
    run(['ip', 'netns', 'exec', nodes[node]?.namespace ?? '', ...command])
  try {
    for (const namespace of namespaces) await run(['ip', 'netns', 'add', namespace])
    await ip(['-n', hub, 'link', 'add', 'bridge', 'type', 'bridge'])
    await ip(['-n', hub, 'link', 'set', 'bridge', 'up'])
    for (const [node, { namespace, host }] of nodes.entries()) {
      await ip(['-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', `node${node}`, 'netns', hub])
      await join(`node${node}`)
      await ip(['-n', namespace, 'address', 'add', `${host}/24`, 'dev', 'eth0'])
      await ip(['-n', namespace, 'link', 'set', 'eth0', 'up'])
      // A node talks to itself through its own address.
      await ip(['-n', namespace, 'link', 'set', 'lo', 'up'])
    }
    const ours = `kt${process.pid}-${number}`
    await ip(['link', 'add', ours, 'type', 'veth', 'peer', 'name', 'clients', 'netns', hub])
    await join('clients')
    await ip(['address', 'add', `${subnet}.${CLIENTS_HOST}/24`, 'dev', ours])
    await ip(['link', 'set', ours, 'up'])
  } catch (error) {
    await stop()
    throw error
  }
  async function join(port: string): Promise<void> {
    await ip(['-n', hub, 'link', 'set', port, 'master', 'bridge'])
    await ip(['-n', hub, 'link', 'set', port, 'up'])
  }
  return {
    places: nodes.map(({ namespace, host }) => ({ host, enter: ['ip', 'netns', 'exec', namespace] })),
    clientsHost: `${subnet}.${CLIENTS_HOST}`,
    async cut(node, from) {
      for (const host of othersThan(node, from)) {
        await inNode(node, ['iptables', '--append', 'INPUT', '--source', host, '--jump', 'DROP'])
        await inNode(node, ['iptables', '--append', 'OUTPUT', '--destination', host, '--jump', 'DROP'])
      }
    },
    heal,
    async healAll() {
      for (const node of nodes.keys()) await heal(node)
    },
    stop,
  }
}

/** Namespaces of a process that was killed before it removed them. */
async function removeOrphans(): Promise<void> {
  const { stdout } = Bun.spawnSync(['ip', 'netns', 'list'])
  for (const [namespace = ''] of stdout.toString().matchAll(new RegExp(`^${PREFIX}(\\d+)-\\S+`, 'gm'))) {
    const pid = namespace.slice(PREFIX.length).split('-')[0] ?? ''
    if (!isAlive(pid)) await run(['ip', 'netns', 'del', namespace])
  }
}

function isAlive(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').length > 0
  } catch {
    return false
  }
}

function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address))
  for (let third = 0; third < 256; third++) {
    const subnet = `${BLOCK}.${(process.pid + third) % 256}`
    if (!taken.some((address) => address.startsWith(`${subnet}.`))) return subnet
  }
  throw new Error(`every network of ${BLOCK}.0.0/16 is taken`)
}

const ip = (args: readonly string[]): Promise<void> => run(['ip', ...args])

async function run(command: readonly string[]): Promise<void> {
  const child = Bun.spawn([...command], { stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' })
  const errors = await child.stderr.text()
  if ((await child.exited) !== 0) throw new Error(`${command.join(' ')}: ${errors.trim()}`)
}
