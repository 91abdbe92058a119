import { join } from 'node:path'
import { createRandom } from './faults/random.ts'
import { createRecorder, latencyOfValues } from './histogram.ts'
import type { Latency } from './result.ts'
import { startWorker, type Worker } from './worker.ts'

/**
 * A given rate that does not depend on responses: arrivals are those of many independent clients (a Poisson process from a seed), and times count from the
 * moment when a request was due, so that a stall shows in every request that it delays.
 */

/** The process's input, a JSON file. */
export interface OpenLoad {
  host: string
  port: number
  path: string
  eventsPerSecond: number
  warmUpSeconds: number
  seconds: number
  /** An event in plain form, including its ID. */
  eventBytes: number
  /** Part of every ID. */
  run: string
  seed: number
  /** The path of the ledger to write. */
  ledger: string
}

/** What the process prints, in this order. It measures between `begun` and `ended`. After `done` the ledger is complete. */
export type OpenLine = { phase: 'begun' } | { phase: 'ended' } | { phase: 'done' }

/** Concurrent requests, each on its own connection. Further due requests are not sent and count as errors, as for a client that waits. */
export const MAX_IN_FLIGHT = 8_192

/** How long to wait for responses after the last request. Later ones count as "timeout". */
export const ANSWER_TIMEOUT_MS = 10_000

/** Starts the load. @param directory for the plan */
export async function startOpenLoop(load: OpenLoad, directory: string): Promise<Worker<OpenLine>> {
  const plan = join(directory, 'open-loop.json')
  await Bun.write(plan, JSON.stringify(load))
  return startWorker<OpenLine>('the open-loop generator', [
    process.execPath,
    join(import.meta.dir, 'open-loop-worker.ts'),
    plan,
  ])
}

/** When each request is due, in ms from the start. */
export function schedule(eventsPerSecond: number, seconds: number, seed: number): Float64Array {
  const random = createRandom(seed)
  const dueMs: number[] = []
  for (let at = 0; ; ) {
    // 1 - next() is never 0.
    at -= (Math.log(1 - random.next()) / eventsPerSecond) * 1000
    if (at >= seconds * 1000) return Float64Array.from(dueMs)
    dueMs.push(at)
  }
}

/** What is known about each request, in columns. Times are in ms since the epoch; 0: never. */
const COLUMNS = ['dueMs', 'sentMs', 'answeredMs', 'status', 'partition', 'offset'] as const
type Column = (typeof COLUMNS)[number]

/** One row for each request, in due order; a request's ID follows from its index. Partition and offset are -1 where unknown. */
export type OpenLedger = Readonly<Record<Column, Float64Array>>

/** In place of a status: the connection broke, or the response could not be read. */
export const BROKEN = 1

export function createLedger(requests: number): OpenLedger {
  const column = (value = 0) => new Float64Array(requests).fill(value)
  return {
    dueMs: column(),
    sentMs: column(),
    answeredMs: column(),
    status: column(),
    partition: column(-1),
    offset: column(-1),
  }
}

export const encodeLedger = (ledger: OpenLedger): Float64Array[] => COLUMNS.map((name) => ledger[name])

export function decodeLedger(bytes: ArrayBuffer): OpenLedger {
  const all = new Float64Array(bytes)
  const requests = all.length / COLUMNS.length
  const column = (index: number) => all.subarray(index * requests, (index + 1) * requests)
  return Object.fromEntries(COLUMNS.map((name, index) => [name, column(index)])) as unknown as OpenLedger
}

export interface OpenOutcome {
  /** Due during the measurement. */
  offered: number
  /** Of these, answered with 2xx. */
  acknowledged: number
  toAnswer: Latency
  toRefusal: Latency
  errors: Record<string, number>
  /** p99 in ms of how late requests were sent, which is the generator's fault. */
  latenessP99Ms: number
}

/** The results of requests that were due later than `beginMs` after the start. */
export function outcomeOf(ledger: OpenLedger, measuredFromMs: number): OpenOutcome {
  const answers = createRecorder()
  const refusals = createRecorder()
  const late: number[] = []
  const outcome = { offered: 0, acknowledged: 0, errors: {} as Record<string, number> }
  const count = (kind: string): void => {
    outcome.errors[kind] = (outcome.errors[kind] ?? 0) + 1
  }
  for (const [index, dueMs] of ledger.dueMs.entries()) {
    if (dueMs < measuredFromMs) continue
    outcome.offered++
    const [sentMs = 0, status = 0] = [ledger.sentMs[index], ledger.status[index]]
    if (sentMs === 0) {
      count(NOT_SENT)
      continue
    }
    late.push(sentMs - dueMs)
    const tookMs = (ledger.answeredMs[index] ?? 0) - dueMs
    if (isStored(status)) {
      outcome.acknowledged++
      answers.record(tookMs)
    } else {
      if (status === REFUSED) refusals.record(tookMs)
      count(kindOf(status))
    }
  }
  return {
    ...outcome,
    toAnswer: answers.latency(),
    toRefusal: refusals.latency(),
    latenessP99Ms: latencyOfValues(late).p99Ms,
  }
}

const REFUSED = 503

export const isStored = (status: number | undefined): boolean => status !== undefined && status >= 200 && status <= 299

const kindOf = (status: number): string =>
  status === 0 ? 'timeout' : status === BROKEN ? 'connection' : String(status)

const NOT_SENT = 'not sent'

/** Why a run is void because of its generator; undefined when it is valid. */
export function voidReason(
  { latenessP99Ms, errors }: Pick<OpenOutcome, 'latenessP99Ms' | 'errors'>,
  { latenessBoundMs, overload }: { latenessBoundMs: number; overload: boolean },
): string | undefined {
  if (!overload && errors[NOT_SENT] !== undefined)
    return `the generator would have needed more than ${MAX_IN_FLIGHT} connections`
  if (latenessP99Ms > latenessBoundMs)
    return `the generator was late: p99 ${latenessP99Ms.toFixed(1)} ms, bound ${latenessBoundMs} ms`
  return undefined
}
