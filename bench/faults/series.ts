import { longestSeconds, type Round } from './report.ts'
import type { Fault, NodeCount, RunResult } from './stage.ts'

/** Many runs in sequence, each with its own seed, and a table of their results. */

/** What is kept of a run: the figures of the table, and what is needed to repeat the run. */
export interface RunOutcome {
  fault: string
  nodes: NodeCount
  seed: number
  ok: boolean
  /** Why the run could not be judged, or its first fault. */
  why: string | undefined
  lost: number
  doubled: number
  outOfOrder: number
  rounds: readonly Round[]
  stops: readonly number[]
}

export interface SeriesOptions {
  faults: readonly Fault[]
  /** Runs of each fault. */
  runs: number
  nodes: NodeCount
  firstSeed: number
  /** No run starts later than this. */
  minutes: number
  play(fault: Fault, seed: number): Promise<RunResult>
  say(text: string): void
  /** Called after each run with all runs so far. */
  onRun(outcomes: readonly RunOutcome[]): Promise<void>
  nowMs(): number
}

/** Runs every fault as often as requested, alternating, so that an interrupted series has some of each. A run that fails ends nothing. */
export async function playSeries(options: SeriesOptions): Promise<RunOutcome[]> {
  const { faults, runs, nodes, firstSeed, minutes, play, say, onRun, nowMs } = options
  const outcomes: RunOutcome[] = []
  const deadlineMs = nowMs() + minutes * 60_000
  const planned = Array.from({ length: runs }, () => faults).flat()
  for (const [index, fault] of planned.entries()) {
    if (nowMs() > deadlineMs) {
      say(`${minutes} minutes are over: ${planned.length - index} of ${planned.length} runs are left out`)
      break
    }
    const seed = firstSeed + index
    outcomes.push({ fault: fault.name, nodes: fault.nodes ?? nodes, seed, ...(await outcomeOf(play, fault, seed)) })
    await onRun(outcomes)
    say(`run ${index + 1} of ${planned.length}; ${outcomes.filter(({ ok }) => ok).length} of ${outcomes.length} held\n`)
  }
  return outcomes
}

async function outcomeOf(
  play: SeriesOptions['play'],
  fault: Fault,
  seed: number,
): Promise<Omit<RunOutcome, 'fault' | 'nodes' | 'seed'>> {
  try {
    const { ok, verdict, facts, wrong } = await play(fault, seed)
    const { lost, doubled, outOfOrder, violations } = verdict
    const why = ok ? undefined : (violations[0]?.what ?? wrong[0])
    return { ok, why, lost, doubled, outOfOrder, rounds: facts.rounds, stops: facts.stops }
  } catch (error) {
    const why = `could not be judged: ${(error as Error).message}`
    return { ok: false, why, lost: 0, doubled: 0, outOfOrder: 0, rounds: [], stops: [] }
  }
}

const COLUMNS = [
  'fault',
  'nodes',
  'runs',
  'rounds',
  'held',
  'lost',
  'doubled',
  'out of order',
  'longest time to the next commit',
  'longest from SIGTERM to the end',
]

/** Markdown: one line for each fault, and every failed run with its seed. */
export function seriesTable(outcomes: readonly RunOutcome[]): string {
  const row = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`
  const seconds = (value: number | undefined) =>
    value === undefined ? '' : value === Number.POSITIVE_INFINITY ? 'never' : `${value.toFixed(1)} s`
  const faults = [...new Set(outcomes.map(({ fault }) => fault))]
  const rows = faults.map((fault) => {
    const runs = outcomes.filter((one) => one.fault === fault)
    const rounds = runs.flatMap((one) => one.rounds)
    const stops = runs.flatMap((one) => one.stops)
    const sum = (figure: 'lost' | 'doubled' | 'outOfOrder') => runs.reduce((total, one) => total + one[figure], 0)
    return row([
      fault,
      runs[0]?.nodes ?? '',
      runs.length,
      rounds.length,
      runs.filter(({ ok }) => ok).length,
      sum('lost'),
      sum('doubled'),
      sum('outOfOrder'),
      seconds(longestSeconds(rounds)),
      seconds(stops.length === 0 ? undefined : Math.max(...stops)),
    ])
  })
  const broken = outcomes.filter(({ ok }) => !ok)
  return [
    row(COLUMNS),
    row(COLUMNS.map(() => '---')),
    ...rows,
    ...(broken.length === 0 ? [] : ['', 'Did not hold:', '']),
    ...broken.map(({ fault, nodes, seed, why = '' }) => {
      const [line = ''] = why.split('\n')
      return `- \`--fault ${fault} --nodes ${nodes} --seed ${seed}\`: ${line}`
    }),
    '',
  ].join('\n')
}
