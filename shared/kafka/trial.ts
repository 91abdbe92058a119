import type { CommonConfig } from '../service/config.ts'
import { sleep } from '../service/retry.ts'
import { connectionSettings, connectOnce, native, type Settings } from './client.ts'
import { addressOf, reasonOf, summary } from './connection.ts'
import type { Statistics } from './statistics.ts'

/** What clients authenticate with, tried at every broker. */

/** How long all brokers together may take to let the client in, after the first one has. */
const ALL_BROKERS_TIMEOUT_MS = 10_000

/** How often the client says which brokers have let it in. */
const LOOK_MS = 100

/** By address: why a broker refused the client. */
type Refusals = ReadonlyMap<string, string>

/** @returns `failed`: why no broker let the client in. Brokers that cannot be reached at all are not among the refusals. */
export async function tryBrokers(
  config: CommonConfig,
  secured: Settings,
  ending: AbortSignal,
): Promise<{ failed: string | undefined; refusals: Refusals }> {
  const reasons = new Map<string, string>()
  const refusals = new Map<string, string>()
  const up = new Set<string>()
  let known: NonNullable<Statistics['brokers']>[string][] = []
  /** Of the cluster, as the first broker has said. */
  let brokers = Number.POSITIVE_INFINITY
  const client = new (native().Producer)({
    ...connectionSettings(config, 'kafkatrace-renewal'),
    'statistics.interval.ms': LOOK_MS,
    // Connects to all brokers, not only to those that it needs.
    'enable.sparse.connections': false,
    ...secured,
  })
  client.on('event.log', ({ fac, message }) => {
    const found = fac === 'FAIL' ? reasonOf(message, config) : undefined
    if (found === undefined) return
    reasons.set(found.broker, found.reason)
    if (found.isRefusal) refusals.set(found.broker, found.reason)
  })
  client.on('event.stats', ({ message }) => {
    known = Object.values((JSON.parse(message) as Statistics).brokers ?? {})
    for (const { name, state } of known) if (state === 'UP') up.add(addressOf(name))
  })
  client.on('ready', (_, metadata) => {
    brokers = metadata.brokers.length
  })
  const failed = await connectOnce(client)
  if (failed !== undefined) return { failed: reasons.size === 0 ? failed : summary(reasons), refusals }
  client.setPollInterval(LOOK_MS)
  /** Of the cluster, not those that are configured, which may be a load balancer's address. */
  const members = (): string[] => known.filter(({ nodeid }) => nodeid >= 0).map(({ name }) => addressOf(name))
  const isDone = (): boolean =>
    members().length >= brokers && members().every((broker) => up.has(broker) || reasons.has(broker))
  const deadline = performance.now() + ALL_BROKERS_TIMEOUT_MS
  while (!isDone() && performance.now() < deadline && !ending.aborted) await sleep(LOOK_MS, ending)
  client.disconnect()
  const refusing = members().filter((broker) => !up.has(broker))
  return { failed: undefined, refusals: new Map([...refusals].filter(([broker]) => refusing.includes(broker))) }
}
