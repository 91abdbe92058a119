import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { heapMb, type KafkaCluster, startKafka } from '../shared/dev/brokers/kafka.ts'
import { longRunOptions } from '../shared/dev/brokers/kafka-distribution.ts'
import { step } from '../shared/dev/progress.ts'
import { kcatCommand } from '../shared/testing/kcat.ts'
import { closedLoopRuntime } from './closed-loop.ts'
import { commit, machine } from './environment.ts'
import { measureClosed, measureOpen, measureTool } from './measure.ts'
import { measureLookups } from './measure-console.ts'
import { measureDrain, measureRestart } from './measure-drain.ts'
import { expectedSeconds, type PlannedRun, planRuns, secondsLeft } from './plan.ts'
import type { Reporter } from './reporter.ts'
import type { Result, Run, SystemFacts } from './result.ts'
import { isBroken } from './scan.ts'
import type { Filled, Measured, Stage } from './stage.ts'
import { summarise } from './statistics.ts'
import type { Drain, LimitTool, System } from './systems/system.ts'
import { openTopics } from './topics.ts'
import { factsOf, WORKLOADS, type Workload } from './workloads.ts'

/** A bench from its first process to its result file. */

export interface BenchOptions {
  workloads: readonly Workload[]
  systems: readonly System[]
  tools: readonly LimitTool[]
  drains: readonly Drain[]
  quick: boolean
  repetitions?: number
  /** Written after every workload, so that an interruption loses little. */
  file: string
}

const PARTITIONS = 6

/** Settings that differ from Kafka's defaults, or matter most. */
const BROKER_SETTINGS = {
  // The third clock starts with the broker's append.
  'log.message.timestamp.type': 'LogAppendTime',
  'num.partitions': String(PARTITIONS),
  // Deletes a run's data from the disk before the next runs fill it.
  'log.segment.delete.delay.ms': '1000',
}
/** Defaults, or values set by shared/dev/brokers/kafka.ts. */
const BROKER_FACTS = {
  'log.flush.interval.messages': 'none: the page cache is written when the system does',
  'min.insync.replicas': '1',
  'num.network.threads': '2',
  'num.io.threads': '4',
  java: [`-Xmx${heapMb}m`, ...longRunOptions].join(' '),
}

/** Makes all runs. @returns the result, which is also in the file */
export async function runBench(options: BenchOptions, reporter: Reporter): Promise<Result> {
  kcatCommand()
  const begunAt = new Date()
  const facts = await prepareAll(options)
  const available = new Set(facts.filter(({ unavailable }) => unavailable === undefined).map(({ name }) => name))
  const participants = [
    ...options.systems.map(({ facts: { name, kind } }) => ({ name, kind })),
    ...options.tools.map(({ facts: { name, kind } }) => ({ name, kind, task: 'produce' as const })),
    ...drainsAlone(options).map(({ facts: { name, kind } }) => ({
      name,
      kind,
      task: 'drain' as const,
      handler: kind === 'peer',
    })),
  ].filter(({ name }) => available.has(name))
  const plan = planRuns({ ...options, systems: participants })
  const cluster = await step('Apache Kafka', (say) => startKafka({ settings: BROKER_SETTINGS, longRun: true, say }))
  const topics = openTopics(cluster)
  const filled: Filled = { current: undefined }
  const root = await mkdtemp(join(tmpdir(), 'kafkatrace-bench-'))
  process.once('exit', () => rmSync(root, { recursive: true, force: true }))
  const stageOf = (directory: string): Stage => ({
    cluster,
    topics,
    partitions: PARTITIONS,
    quick: options.quick,
    filled,
    directory,
  })
  try {
    const result: Result = {
      format: 'kafkatrace-bench-1',
      begunAt: begunAt.toISOString(),
      seconds: 0,
      quick: options.quick,
      commit: commit(),
      machine: machine(),
      broker: {
        description: brokerName(cluster),
        partitions: PARTITIONS,
        replication: 1,
        settings: { ...BROKER_FACTS, ...BROKER_SETTINGS },
      },
      systems: facts,
      workloads: await Promise.all(
        options.workloads.map((workload) => factsOf(workload, options.quick, closedLoopRuntime().name)),
      ),
      runs: [],
    }
    // Drains begin with filling their topic, and each has a warm-up of its own.
    if (plan.some(({ workload: { kind } }) => kind !== 'drain' && kind !== 'restart'))
      await step('Warming the broker', () => warmUp(options, plan, async () => stageOf(await directoryIn(root))))
    const expected = plan.map((one) => expectedSeconds(one, options.quick))
    const firstMs = performance.now()
    for (const [index, planned] of plan.entries()) {
      reporter.begin(planned, index, plan.length, secondsLeft(expected, index, (performance.now() - firstMs) / 1000))
      const stage = stageOf(await directoryIn(root))
      const run = await makeRun(stage, planned, options, result.runs, index)
      await rm(stage.directory, { recursive: true, force: true })
      result.runs.push(run)
      reporter.end(run)
      if (plan[index + 1]?.workload !== planned.workload) {
        result.seconds = (Date.now() - begunAt.getTime()) / 1000
        await writeResult(result, options.file)
      }
    }
    return result
  } finally {
    topics.close()
    await cluster.stop()
    await rm(root, { recursive: true, force: true })
  }
}

const directoryIn = (root: string): Promise<string> => mkdtemp(join(root, 'run-'))

const BROKER_WARM_UP_SECONDS = { full: 15, quick: 3 }

/**
 * A broker that has just started runs unoptimised code and would slow the first measurement. It gets unmeasured load first,
 * from the first system that takes part.
 */
async function warmUp(
  { systems, quick }: BenchOptions,
  plan: readonly PlannedRun[],
  makeStage: () => Promise<Stage>,
): Promise<void> {
  const system = systems.find(({ facts }) => facts.kind !== 'limit' && plan.some((run) => run.system === facts.name))
  const workload = WORKLOADS.find((one) => one.kind === 'closed' && one.systems === 'all')
  if (system === undefined || workload?.kind !== 'closed') return
  const warmUpSeconds = quick ? BROKER_WARM_UP_SECONDS.quick : BROKER_WARM_UP_SECONDS.full
  const size = { warmUpSeconds, seconds: 0.5 }
  await measureClosed(await makeStage(), system, { ...workload, full: size, quick: size })
}

/** Version and number of nodes, without the data directory. */
const brokerName = (cluster: KafkaCluster): string => cluster.description.split(',').slice(0, 2).join(',')

/** Those that do nothing else. */
const drainsAlone = ({ drains }: BenchOptions): Drain[] => drains.filter(({ facts }) => facts.kind !== 'subject')

/** Installs one after another, since builds use the whole machine. Reports and leaves out what is unavailable. */
async function prepareAll(options: BenchOptions): Promise<SystemFacts[]> {
  const prepared: SystemFacts[] = []
  for (const system of [...options.systems, ...options.tools, ...drainsAlone(options)]) {
    const { facts } = system
    try {
      prepared.push({ ...facts, versions: await step(facts.title, (say) => system.prepare(say)) })
    } catch (error) {
      const unavailable = (error as Error).message.split('\n')[0] ?? ''
      console.error(`${facts.title} is left out: ${unavailable}`)
      prepared.push({ ...facts, versions: {}, unavailable })
    }
  }
  return prepared
}

/** @param number makes the run's seed and IDs unique */
async function makeRun(
  stage: Stage,
  { workload, system, repetition, share }: PlannedRun,
  options: BenchOptions,
  before: readonly Run[],
  number: number,
): Promise<Run> {
  const identity = { workload: workload.name, system, repetition, ...(share !== undefined && { step: share }) }
  try {
    return { ...identity, ...(await measure(stage, workload, system, share, options, before, number)) }
  } catch (error) {
    const why = (error as Error).message.split('\n').slice(0, 5).join(' ')
    return { ...identity, ...NOTHING, void: `the run failed: ${why}` }
  }
}

const NOTHING = {
  seconds: 0,
  requests: 0,
  events: 0,
  requestsPerSecond: 0,
  eventsPerSecond: 0,
  errors: {},
  processes: [],
} satisfies Measured

async function measure(
  stage: Stage,
  workload: Workload,
  name: string,
  share: number | undefined,
  { systems, tools, drains }: BenchOptions,
  before: readonly Run[],
  number: number,
): Promise<Measured> {
  const named = <One extends Pick<System, 'facts'>>(all: readonly One[]): One => {
    const found = all.find(({ facts }) => facts.name === name)
    if (found === undefined) throw new Error(`there is no system ${name}`)
    return found
  }
  switch (workload.kind) {
    case 'closed':
      return await measureClosed(stage, named(systems), workload)
    case 'open': {
      const offered =
        'eventsPerSecond' in workload.offered
          ? workload.offered.eventsPerSecond
          : (share ?? 1) * saturation(before, workload.offered.shareOf, name)
      return await measureOpen(stage, workload, offered, number + 1)
    }
    case 'drain':
      return await measureDrain(stage, named(drains), workload)
    case 'restart':
      return await measureRestart(stage, workload)
    case 'lookup':
      return await measureLookups(stage, workload)
    case 'produce':
      return await measureTool(stage, named(tools), workload)
  }
}

/** Events a second of an earlier workload. @throws Error when it has no valid run */
export function saturation(runs: readonly Run[], workload: string, system: string): number {
  const rates = runs
    .filter((run) => run.workload === workload && run.system === system && run.void === undefined)
    .map(({ eventsPerSecond }) => eventsPerSecond)
    .filter((rate) => rate > 0)
  const summary = summarise(rates)
  if (summary === undefined) throw new Error(`no run of ${workload} says what saturation is`)
  return summary.median
}

/** Everything or, when interrupted, what was measured so far. */
async function writeResult(result: Result, file: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await Bun.write(`${file}.part`, `${JSON.stringify(result, undefined, 1)}\n`)
  await rename(`${file}.part`, file)
}

/** Faults of any system: acknowledged events that are missing, and missing or duplicate outcomes. */
export const brokenRuns = (runs: readonly Run[]): Run[] =>
  runs.filter(({ scan }) => scan !== undefined && isBroken(scan))
