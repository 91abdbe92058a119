import type { KafkaCluster } from '../shared/dev/brokers/kafka.ts'
import { inputTopic, parseTopic, siblingTopic, streamTopics } from '../shared/events/topics.ts'
import type { Observed } from './observe.ts'
import { type Observer, startObserver } from './observer.ts'
import type { Body } from './payloads.ts'
import type { ProcessUse, Run, ScanResult } from './result.ts'
import { type Acknowledged, isBroken, judge, type Scanned, scanTopic, together } from './scan.ts'
import { KAFKATRACE_TOPIC } from './systems/kafkatrace.ts'
import type { RunningSystem } from './systems/system.ts'
import type { Topics } from './topics.ts'

/** What runs of every kind share: their environment, topics, observed processes and the final scan. */

/** The environment of runs. */
export interface Stage {
  cluster: KafkaCluster
  topics: Topics
  partitions: number
  quick: boolean
  /** The content of the input topic of drains, which they leave unchanged. */
  filled: Filled
  /** An empty folder for this run. */
  directory: string
}

/** Shared by the runs. */
export interface Filled {
  /** undefined: nothing that a drain can use. */
  current: { what: string; input: Scanned } | undefined
}

/** The measured values of a run. The plan has its workload and system. */
export type Measured = Omit<Run, 'workload' | 'system' | 'repetition' | 'step'>

/** After this long without a new outcome, missing ones are given up. */
export const OUTCOME_PATIENCE_MS = 10_000
/** How long to repeat a scan that finds events without an outcome: they may have been stored without being acknowledged. */
const SETTLE_TIMEOUT_MS = 20_000
const SETTLE_PAUSE_MS = 500

/** What must be stopped when a run ends in any way, last started first. */
class Ends {
  readonly #ends: (() => Promise<unknown>)[] = []

  /** @returns a function that stops it earlier; it is stopped only once */
  add<Result>(end: () => Promise<Result>): () => Promise<Result> {
    let ended: Promise<Result> | undefined
    const once = () => (ended ??= end())
    this.#ends.push(once)
    return once
  }

  async all(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end()
  }
}

export async function ending<Result>(work: (ends: Ends) => Promise<Result>): Promise<Result> {
  const ends = new Ends()
  try {
    return await work(ends)
  } finally {
    await ends.all()
  }
}

export const brokersOf = (stage: Stage): string => stage.cluster.bootstrapServers

export async function makeTopics(stage: Stage, names: readonly string[], ends: Ends): Promise<void> {
  await emptyTopics(stage, names, stage.partitions)
  removeAfterwards(stage, names, ends)
}

export const removeAfterwards = (stage: Stage, names: readonly string[], ends: Ends): void =>
  void ends.add(() => stage.topics.remove(names))

/** Creates topics, in place of existing ones. */
export async function emptyTopics(stage: Stage, names: readonly string[], partitions: number): Promise<void> {
  if (names.some((name) => parseTopic(name)?.role === 'input')) stage.filled.current = undefined
  await stage.topics.remove(names)
  await stage.topics.create(names, partitions)
}

export const withRoles = (stage: Stage, services: RunningSystem['processes'], ...others: Observed[]): Observed[] => [
  ...services.map(({ name, pid }) => ({ name, pid, role: 'service' as const })),
  { name: 'kafka', role: 'broker', pid: stage.cluster.pid(0) },
  ...others,
]

export function perCpuSecond(events: number, processes: readonly ProcessUse[]): { eventsPerCpuSecond?: number } {
  const cpuSeconds = processes
    .filter(({ role }) => role === 'service')
    .reduce((sum, process) => sum + process.cpuSeconds, 0)
  return cpuSeconds > 0 ? { eventsPerCpuSecond: events / cpuSeconds } : {}
}

/** Without keys there is only one tenant. */
export const inputTopics = (tenants: number): string[] =>
  tenants === 1
    ? [KAFKATRACE_TOPIC]
    : Array.from({ length: tenants }, (_, index) => inputTopic(`tenant-${index + 1}`, 'events'))

export function allTopics(input: string): string[] {
  const { tenant, stream } = parseTopic(input) ?? { tenant: '', stream: '' }
  return streamTopics(tenant, stream)
}

export const watcher = (observer: { pid: number } | undefined, name = 'observer'): Observed[] =>
  observer === undefined ? [] : [{ name, role: 'observer', pid: observer.pid }]

export function watchOutcomes(stage: Stage, [input = '']: readonly string[], ends: Ends): Observer {
  const observer = startObserver(brokersOf(stage), siblingTopic(input, 'processed'), stage.directory)
  return { ...observer, end: ends.add(() => observer.end()) }
}

/** @throws Error unless all events are stored */
export async function send(url: string, { contentType, text }: Body): Promise<void> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': contentType }, body: text })
  const answer = await response.text()
  if (response.status !== 202) throw new Error(`sending events: status ${response.status}: ${answer.slice(0, 200)}`)
}

const REQUESTS_AT_A_TIME = 4

/** Sends requests, several at a time, each made when it is sent. @throws Error unless all events are stored */
export async function sendAll(url: string, requests: number, bodyAt: (index: number) => Body): Promise<void> {
  let next = 0
  const work = async (): Promise<void> => {
    while (next < requests) await send(url, bodyAt(next++))
  }
  await Promise.all(Array.from({ length: REQUESTS_AT_A_TIME }, work))
}

interface SettledScan {
  result: ScanResult
  input: Scanned
  processed: Scanned
}

/**
 * The content of the topics, once it no longer improves.
 * @param known the content of the input topics, if it was scanned before and has not changed
 */
export async function settledScan(
  stage: Stage,
  inputs: readonly string[],
  acknowledged: Acknowledged,
  outcomes: boolean,
  known?: Scanned,
): Promise<SettledScan> {
  const scan = async (topics: readonly string[]): Promise<Scanned> =>
    together(await Promise.all(topics.map((topic) => scanTopic(brokersOf(stage), topic))))
  const input = known ?? (await scan(inputs))
  const none = together([])
  if (!outcomes) return { result: judge(acknowledged, { input }), input, processed: none }
  const deadline = performance.now() + SETTLE_TIMEOUT_MS
  for (;;) {
    const processed = await scan(inputs.map((topic) => siblingTopic(topic, 'processed')))
    const dead = await scan(inputs.map((topic) => siblingTopic(topic, 'dlq')))
    const result = judge(acknowledged, { input, outcomes: together([processed, dead]) })
    if (!isBroken(result) || performance.now() > deadline) return { result, input, processed }
    await Bun.sleep(SETTLE_PAUSE_MS)
  }
}
