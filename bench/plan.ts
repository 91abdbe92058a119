import type { SystemFacts } from './result.ts'
import { sizeOf, type Workload } from './workloads.ts'

/** Which runs there are, and their order. */

/** The parts of a system, or of a limit's tool, that a plan needs. */
export interface Participant {
  name: string
  kind: SystemFacts['kind']
  /** A program that only fills, or only drains, topics. `handler`: it can also drain with a handler that checks events. */
  task?: 'produce' | 'drain'
  handler?: boolean
}

export interface PlannedRun {
  workload: Workload
  system: string
  repetition: number
  /** A share of saturation. */
  share?: number
}

export interface PlanOptions {
  workloads: readonly Workload[]
  systems: readonly Participant[]
  quick: boolean
  /** Overrides the number of each workload. */
  repetitions?: number
}

/** The runs of a bench. The systems of a workload, and workloads that say so, alternate, so that changes of the machine affect all of them. */
export function planRuns({ workloads, systems, quick, repetitions }: PlanOptions): PlannedRun[] {
  return alternating(workloads).flatMap((together) => {
    const times = (workload: Workload): number => repetitions ?? (quick ? 1 : workload.repetitions)
    const most = Math.max(...together.map(times))
    return Array.from({ length: most }, (_, index) => index + 1).flatMap((repetition) =>
      together
        .filter((workload) => repetition <= times(workload))
        .flatMap((workload) => runsOnce(workload, systems, quick, repetition)),
    )
  })
}

function runsOnce(
  workload: Workload,
  systems: readonly Participant[],
  quick: boolean,
  repetition: number,
): PlannedRun[] {
  const taking = systems.filter((system) => takesPart(workload, system))
  const shares = sizeOf(workload, quick).shares ?? [undefined]
  return shares.flatMap((share) =>
    taking.map(({ name }) => ({
      workload,
      system: name,
      repetition,
      ...(share !== undefined && { share }),
    })),
  )
}

/** In the same order; those that alternate are together. */
function alternating(workloads: readonly Workload[]): Workload[][] {
  const groups: Workload[][] = []
  for (const workload of workloads) {
    const last = groups.at(-1)
    if (last?.some(({ name }) => name === workload.alternatesWith)) last.push(workload)
    else groups.push([workload])
  }
  return groups
}

function takesPart(workload: Workload, { kind, task, handler }: Participant): boolean {
  switch (workload.kind) {
    case 'drain':
      if (kind === 'subject') return true
      return task === 'drain' && workload.systems === 'all' && (handler === true || workload.handler === 'none')
    case 'restart':
    case 'lookup':
      return kind === 'subject'
    case 'produce':
      return task === 'produce'
    default:
      if (task !== undefined) return false
      return kind === 'subject' || workload.systems === 'all' || (workload.systems === 'stores' && kind === 'peer')
  }
}

/** Workloads that are run together without naming them. */
export const SUITES = ['drain', 'console', 'schemas'] as const
export type Suite = (typeof SUITES)[number]

/** The workloads of a suite, or of a bench without one. @param named also those that are run only by name */
export function workloadsOf(
  table: readonly Workload[],
  suite: Suite | undefined,
  { quick, named }: { quick: boolean; named: boolean },
): Workload[] {
  const isShort = ({ long }: Workload): boolean => named || long !== true
  switch (suite) {
    case 'drain':
      return table.filter((one) => (one.kind === 'drain' || one.kind === 'restart') && isShort(one))
    case 'console':
    case 'schemas':
      return table.filter((one) => one.suite === suite && isShort(one))
    case undefined:
      return table.filter((one) => named || (one.suite === undefined && (!quick || isShort(one))))
  }
}

/**
 * The workloads with these names, in the table's order, and those that they depend on, by their rates or for comparison.
 * @throws Error that names an unknown one
 */
export function chooseWorkloads(table: readonly Workload[], names: readonly string[]): Workload[] {
  const wanted = new Set(names.length === 0 ? table.map(({ name }) => name) : names)
  for (const name of wanted) {
    const workload = table.find((one) => one.name === name)
    if (workload === undefined) throw new Error(`there is no workload "${name}"`)
    if (workload.kind === 'open' && 'shareOf' in workload.offered) wanted.add(workload.offered.shareOf)
    if (workload.alternatesWith !== undefined) wanted.add(workload.alternatesWith)
  }
  return table.filter(({ name }) => wanted.has(name))
}

/** Overhead of a run: topics, start, settling, scan, end. Observed on two cores; for the estimate only. */
const OVERHEAD_SECONDS = { full: 4, quick: 2.5 }
const SECONDS_A_RECORD = 1 / 60_000
const SECONDS_A_WAITING_RECORD = 1 / 1_280
/** A restart fills, drains, restores and scans; look-ups have their events processed, scanned, and found. */
const RECORD_FACTORS = { restart: 4, lookup: 6 } as const

export function expectedSeconds({ workload }: PlannedRun, quick: boolean): number {
  const { warmUpSeconds, seconds, records, restSeconds } = sizeOf(workload, quick)
  const recordSeconds = (() => {
    if (workload.kind === 'drain' && workload.handler === 'waits') return records * SECONDS_A_WAITING_RECORD
    const { kind } = workload
    return records * SECONDS_A_RECORD * (kind === 'restart' || kind === 'lookup' ? RECORD_FACTORS[kind] : 1)
  })()
  const overheadSeconds = quick ? OVERHEAD_SECONDS.quick : OVERHEAD_SECONDS.full
  return overheadSeconds + warmUpSeconds + seconds + recordSeconds + restSeconds
}

/** The estimated time of the remaining runs, corrected by how far the finished ones differed from their estimates. */
export function secondsLeft(expected: readonly number[], done: number, elapsedSeconds: number): number {
  const sum = (some: readonly number[]): number => some.reduce((total, one) => total + one, 0)
  const before = sum(expected.slice(0, done))
  const factor = before === 0 ? 1 : elapsedSeconds / before
  return sum(expected.slice(done)) * factor
}
