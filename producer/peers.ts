import { isIPv6 } from 'node:net'
import type { Logger } from '../shared/service/logger.ts'
import { sleep } from '../shared/service/retry.ts'

/** Whether another producer can store events while this one cannot: load balancers should then use that one. */

export interface Peers {
  /** False while this producer can store events itself, and while it is not known. */
  canStore(): boolean
  stop(): void
}

/** How often others are asked while this producer cannot store events: more often than load balancers ask this one. */
const ASK_INTERVAL_MS = 2_000
const ASK_TIMEOUT_MS = 1_000

/** The most producers that are asked at a time, chosen at random. */
const MAX_ASKED = 20

type State = 'storing' | 'others store' | 'nobody stores'

const SAID: Readonly<Record<State, string>> = {
  storing: 'events can be stored again',
  'others store': 'events cannot be stored here, and another producer can store them: not ready',
  'nobody stores':
    'events cannot be stored, nor by any other producer that is known of: ready, and requests are answered 503',
}

export interface PeersDeps {
  /** Whether events cannot be stored here, although the public port is open. */
  isCutOff(): boolean
  /** Of producers that are ready, perhaps this one among them. */
  addresses(): readonly string[]
  log: Pick<Logger, 'info' | 'warn'>
  /** Whether the producer at this address can store events. */
  ask(address: string): Promise<boolean>
  intervalMs?: number
}

/** Asks nobody as long as events can be stored here. */
export function watchPeers({ isCutOff, addresses, log, ask, intervalMs = ASK_INTERVAL_MS }: PeersDeps): Peers {
  const ending = new AbortController()
  let state: State = 'storing'
  const look = async (): Promise<void> => {
    const before = state
    // One that is cut off as well, and this one, answer that they cannot.
    const canOthers = isCutOff() && (await anyOf(someOf(addresses()).map((address) => ask(address).catch(() => false))))
    state = !isCutOff() ? 'storing' : canOthers ? 'others store' : 'nobody stores'
    if (state !== before) log[state === 'storing' ? 'info' : 'warn'](SAID[state])
  }
  const watch = async (): Promise<void> => {
    while (!ending.signal.aborted) {
      await look()
      await sleep(intervalMs, ending.signal)
    }
  }
  void watch()
  return { canStore: () => state === 'others store' && isCutOff(), stop: () => ending.abort() }
}

/** Settles with the first that holds. */
const anyOf = (all: readonly Promise<boolean>[]): Promise<boolean> =>
  Promise.any(all.map(async (one) => (await one) || Promise.reject(new Error('it cannot')))).catch(() => false)

const someOf = (addresses: readonly string[]): readonly string[] =>
  addresses.length <= MAX_ASKED
    ? addresses
    : addresses
        .map((address) => ({ address, order: Math.random() }))
        .sort((one, other) => one.order - other.order)
        .slice(0, MAX_ASKED)
        .map(({ address }) => address)

/** Asks at the operations port, which all producers have at the same number. */
export const askAt =
  (port: number, isTls: boolean) =>
  async (address: string): Promise<boolean> => {
    const host = isIPv6(address) ? `[${address}]` : address
    const answer = await fetch(`${isTls ? 'https' : 'http'}://${host}:${port}/readyz`, {
      signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
      // The certificate is for the name by which others reach it, and nothing secret is said.
      tls: { rejectUnauthorized: false },
    })
    return ((await answer.json()) as { ok?: unknown }).ok === true
  }
