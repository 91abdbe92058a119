import { closeSync, openSync } from 'node:fs'
import type { Logger } from '../service/logger.ts'
import type { Accepting } from './sockets.ts'

/**
 * Descriptors that are kept while clients' connections take all others, so that files can be read, the operations port answers, and Kafka's client connects
 * again. Once nothing else is left, they are given up, and the port accepts no further connections, which wait in the kernel.
 */

/** For files, connections to brokers, and those to the operations port. */
const RESERVED = 64

/** So many more have to be free before connections are accepted again. */
const MORE = 64

/** A process that has fewer at its start keeps none. */
const LEAST = 512

/** Opening one file costs less than a hundredth of counting 20,000 descriptors. */
const LOOK_MS = 250

export interface Reserve {
  /** Accepts connections, until the next look shows that it has to pause, since the listening socket is replaced. */
  renew(): void
  /** Leaves the port accepting. */
  stop(): void
}

/**
 * @param accepting the port's listening socket of now
 * @param onScarce is told when descriptors are used up, and when they are not any more
 */
export function keepReserve(accepting: () => Accepting | undefined, onScarce: (isScarce: boolean) => void): Reserve {
  const atStart = take(LEAST)
  let reserve = atStart.length < LEAST ? [] : atStart.splice(0, RESERVED)
  giveBack(atStart)
  if (reserve.length === 0) return { renew: () => undefined, stop: () => undefined }
  let paused: Accepting | undefined
  const renew = (): void => {
    paused?.resume()
    paused = undefined
  }
  const look = (): void => {
    const isKept = reserve.length > 0
    const wanted = isKept ? 1 : RESERVED + MORE
    const taken = take(wanted)
    if (taken.length < wanted && paused === undefined) {
      paused = accepting()
      paused?.pause()
    }
    if (taken.length < wanted && isKept) {
      giveBack(reserve)
      reserve = []
      onScarce(true)
    } else if (taken.length === wanted && !isKept) {
      reserve = taken.splice(0, RESERVED)
      renew()
      onScarce(false)
    }
    giveBack(taken)
  }
  const timer = setInterval(look, LOOK_MS)
  timer.unref()
  return {
    renew,
    stop() {
      clearInterval(timer)
      renew()
      giveBack(reserve)
      reserve = []
    },
  }
}

/** For services: says it once each time. */
export const logScarcity =
  (log: Pick<Logger, 'info' | 'warn'>) =>
  (isScarce: boolean): void => {
    if (isScarce)
      log.warn(
        'all file descriptors are in use: the public port accepts no further connections for now. Limit connections at the proxy, or raise nofile',
      )
    else log.info('file descriptors are free: the public port accepts connections again')
  }

/** As many as there are, up to a number. */
function take(most: number): number[] {
  const taken: number[] = []
  try {
    while (taken.length < most) taken.push(openSync('/dev/null', 'r'))
  } catch {
    // There are no more.
  }
  return taken
}

const giveBack = (descriptors: readonly number[]): void => {
  for (const one of descriptors) closeSync(one)
}
