import { isIPv6 } from 'node:net'
import type { Logger } from '../shared/service/logger.ts'
import { sleep, within } from '../shared/service/retry.ts'
import { messageOf } from '../shared/service/thrown.ts'

/** The producers that are ready, by DNS. Quotas are divided among them: each grants its part, and all together the whole. */

export interface Replicas {
  /** At least 1. */
  count(): number
  /** Of those that DNS named last, this one among them; empty while it has named none. */
  addresses(): readonly string[]
  /** For `/readyz`. */
  state(): { ok: true; detail?: string }
  stop(): void
}

/** How often the name is resolved. Cluster DNS keeps an answer for up to 30 s by its defaults, whatever is asked. */
const RESOLVE_INTERVAL_MS = 5_000
const RESOLVE_TIMEOUT_MS = 5_000

export interface ReplicasDeps {
  /** How many there are while DNS has not said. */
  initial: number
  /** Whose addresses are the producers that are ready; undefined: there are always as many as at first. */
  name: string | undefined
  log: Pick<Logger, 'info' | 'warn'>
  /** @throws Error where the name has none, or cannot be resolved */
  addressesOf?(name: string): Promise<readonly string[]>
  intervalMs?: number
}

/** Counts them now and then. While that is not possible, there are as many as before. */
export function watchReplicas({
  initial,
  name,
  log,
  addressesOf = addressesByDns,
  intervalMs = RESOLVE_INTERVAL_MS,
}: ReplicasDeps): Replicas {
  const ending = new AbortController()
  let count = initial
  let addresses: readonly string[] = []
  let fault: string | undefined
  const look = async (name: string): Promise<void> => {
    try {
      const named = [...new Set(await within(RESOLVE_TIMEOUT_MS, addressesOf(name), 'no answer'))]
      const found = replicasAmong(named)
      if (found !== count)
        log.info({ replicas: found, before: count }, 'quotas are divided among another number of producers')
      if (fault !== undefined) log.info({ name }, 'REPLICAS_DNS is resolved again')
      count = found
      addresses = named
      fault = undefined
    } catch (error) {
      const reason = messageOf(error)
      if (reason !== fault)
        log.warn({ name, reason, replicas: count }, 'REPLICAS_DNS is not resolved; quotas stay divided as before')
      fault = reason
    }
  }
  const watch = async (name: string): Promise<void> => {
    while (!ending.signal.aborted) {
      await look(name)
      await sleep(intervalMs, ending.signal)
    }
  }
  if (name !== undefined) void watch(name)
  return {
    count: () => count,
    addresses: () => addresses,
    state: () =>
      fault === undefined
        ? { ok: true }
        : {
            ok: true,
            detail: `REPLICAS_DNS=${name} is not resolved (${fault}); quotas stay divided among ${count}`,
          },
    stop: () => ending.abort(),
  }
}

/** In a network of both families, each producer has an address of either. @throws Error where there are none */
function replicasAmong(unique: readonly string[]): number {
  if (unique.length === 0) throw new Error('it has no addresses')
  const v6 = unique.filter((address) => isIPv6(address)).length
  return Math.max(v6, unique.length - v6)
}

/** By getaddrinfo, which knows the search list of a cluster. Bun's own resolver keeps answers. */
const addressesByDns = async (name: string): Promise<string[]> =>
  (await Bun.dns.lookup(name, { backend: 'system' })).map(({ address }) => address)
