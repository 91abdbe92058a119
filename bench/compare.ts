import { relative } from 'node:path'
import { parseCommandLine } from '../shared/service/command-line.ts'
import { short } from './plots.ts'
import type { Result, Run } from './result.ts'
import { BASELINE, chosenResult, readResult } from './results.ts'
import { LEAST_REPETITIONS, movedBeyondNoise, type Summary, summarise } from './statistics.ts'

/** Differences between two results that exceed the noise of their repetitions. */

const USAGE = `Says what moved beyond noise since the baseline: bun run bench compare [--baseline FILE] [FILE]

  FILE              a result; else the newest in bench/results/
  --baseline FILE   what it is compared with; else bench/results/baseline.json, a result that was given this name
  --help            this text

Beyond noise: the medians differ by more than half of the wider of the two ranges, and by more than 3 %. Ends with 0 whatever moved, with 1 when
there is nothing to compare, with 64 for a wrong command.
`

/** @returns the exit code */
export async function compareCommand(args: string[]): Promise<number> {
  const options = parseCommandLine(USAGE, {
    args,
    allowPositionals: true,
    options: {
      baseline: { type: 'string', default: BASELINE },
    },
  })
  const { baseline } = options.values
  try {
    const { file, result } = await chosenResult(options.positionals[0])
    const before = await readResult(baseline)
    const nameOf = (path: string): string => relative(process.cwd(), path)
    process.stdout.write(comparisonText({ name: nameOf(baseline), result: before }, { name: nameOf(file), result }))
    return 0
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
}

/** Rates that Bun's echo server has too. It does not use Kafka, so its rate describes the machine. */
type Rate = 'eventsPerSecond' | 'eventsPerCpuSecond'

interface Measure {
  name: string
  better: 'more' | 'less'
  value(run: Run): number | undefined
  /** The echo server's rate to divide by when results of different machines are compared. */
  rate?: Rate
}

const MEBIBYTE = 2 ** 20

const MEASURES: readonly Measure[] = [
  { name: 'events a second', better: 'more', value: (run) => run.eventsPerSecond, rate: 'eventsPerSecond' },
  { name: 'events per CPU-second', better: 'more', value: (run) => run.eventsPerCpuSecond, rate: 'eventsPerCpuSecond' },
  { name: 'to the answer, p50 ms', better: 'less', value: (run) => run.toAnswer?.p50Ms },
  { name: 'to the answer, p99 ms', better: 'less', value: (run) => run.toAnswer?.p99Ms },
  { name: 'to the outcome, p50 ms', better: 'less', value: (run) => run.toCommitted?.p50Ms },
  { name: 'to the outcome, p99 ms', better: 'less', value: (run) => run.toCommitted?.p99Ms },
  { name: 'append to outcome, p99 ms', better: 'less', value: (run) => run.appendToCommitted?.p99Ms },
  { name: 'append to followers, p99 ms', better: 'less', value: (run) => run.followed?.delay.p99Ms },
  { name: 'look-up by UUIDv7, p95 ms', better: 'less', value: (run) => run.lookups?.uuid.p95Ms },
  { name: 'look-up by id and key, p95 ms', better: 'less', value: (run) => run.lookups?.key.p95Ms },
  { name: 'look-up in the whole log, p95 ms', better: 'less', value: (run) => run.lookups?.absent.p95Ms },
  { name: 'to the refusal, p99 ms', better: 'less', value: (run) => run.toRefusal?.p99Ms },
  { name: 'requests that failed, %', better: 'less', value: failedPercent },
  { name: 'memory of the services, MiB', better: 'less', value: residentMebibytes },
]

function residentMebibytes({ processes }: Run): number | undefined {
  const services = processes.filter(({ role }) => role === 'service')
  if (services.length === 0) return undefined
  return services.reduce((total, one) => total + one.residentMeanBytes, 0) / MEBIBYTE
}

function failedPercent({ requests, errors }: Run): number | undefined {
  const failed = Object.values(errors).reduce((total, one) => total + one, 0)
  const sent = requests + failed
  return sent === 0 ? undefined : (failed / sent) * 100
}

export interface Moved {
  workload: string
  system: string
  step?: number
  measure: string
  before: Summary
  after: Summary
  /** The median after divided by the median before. */
  ratio: number
  verdict: 'better' | 'worse'
}

export interface Comparison {
  moved: Moved[]
  /** Measures that both results have, with enough repetitions to compare. */
  judged: number
  /** Measures that both results have, of which one has a single repetition. */
  tooFew: number
  /** What only one of the two has, as `workload, system`. */
  onlyBefore: string[]
  onlyAfter: string[]
}

/** @param measures of the two results, in the same order; they may be divided by a value of the same result */
function compare(before: Result, after: Result, measures: (result: Result) => readonly Measure[]): Comparison {
  const [old, now] = [groups(before), groups(after)]
  const [measuresOld, measuresNow] = [measures(before), measures(after)]
  const comparison: Comparison = {
    moved: [],
    judged: 0,
    tooFew: 0,
    onlyBefore: [...old.keys()].filter((key) => !now.has(key)),
    onlyAfter: [...now.keys()].filter((key) => !old.has(key)),
  }
  for (const [key, runs] of now) {
    const [first] = runs
    if (first === undefined) continue
    for (const [index, { name, better, value }] of measuresNow.entries()) {
      const then = summaryBy(old.get(key) ?? [], (run) => measuresOld[index]?.value(run))
      const since = summaryBy(runs, value)
      if (then === undefined || since === undefined) continue
      if (Math.min(then.count, since.count) < LEAST_REPETITIONS) {
        comparison.tooFew++
        continue
      }
      comparison.judged++
      if (!movedBeyondNoise(then, since)) continue
      const { workload, system, step } = first
      comparison.moved.push({
        workload,
        system,
        ...(step !== undefined && { step }),
        measure: name,
        before: then,
        after: since,
        ratio: since.median / then.median,
        verdict: since.median > then.median === (better === 'more') ? 'better' : 'worse',
      })
    }
  }
  return comparison
}

/** Valid runs, by workload, step and system. */
function groups(result: Result): Map<string, Run[]> {
  const found = new Map<string, Run[]>()
  for (const run of result.runs) {
    if (run.void !== undefined) continue
    const key = `${placeOf(run)}, ${run.system}`
    found.set(key, [...(found.get(key) ?? []), run])
  }
  return found
}

const placeOf = ({ workload, step }: { workload: string; step?: number | undefined }): string =>
  step === undefined ? workload : `${workload} at ${short(step * 100)} %`

const summaryBy = (runs: readonly Run[], value: (run: Run) => number | undefined): Summary | undefined =>
  summarise(runs.flatMap((run) => value(run) ?? []))

export const compareNumbers = (before: Result, after: Result): Comparison => compare(before, after, () => MEASURES)

const ECHO = 'bun-echo'
/** Workloads with the echo server. The first one that both results have is the divisor. */
const ECHO_WORKLOADS = ['single-1kb', 'single-300b'] as const

/** The rates as shares of Bun's echo in the same result. Undefined when the results have no such workload in common. */
export function compareByEcho(before: Result, after: Result): (Comparison & { by: string }) | undefined {
  const by = ECHO_WORKLOADS.find((workload) =>
    [before, after].every((result) => echoOf(result, workload, 'eventsPerCpuSecond') !== undefined),
  )
  if (by === undefined) return undefined
  const measures = (result: Result): Measure[] =>
    MEASURES.flatMap(({ name, better, value, rate }) => {
      const echo = rate === undefined ? undefined : echoOf(result, by, rate)
      if (echo === undefined) return []
      const share = (run: Run): number | undefined => {
        const own = run.system === ECHO ? undefined : value(run)
        return own === undefined ? undefined : own / echo
      }
      return [{ name: `${name}, by echo`, better, value: share }]
    })
  return { ...compare(before, after, measures), by }
}

function echoOf(result: Result, workload: string, rate: Rate): number | undefined {
  const runs = result.runs.filter((run) => run.workload === workload && run.system === ECHO && run.void === undefined)
  const median = summaryBy(runs, (run) => run[rate])?.median
  return median === 0 ? undefined : median
}

// ---- as text

interface Named {
  /** The name that people know. */
  name: string
  result: Result
}

export function comparisonText(before: Named, after: Named): string {
  const numbers = compareNumbers(before.result, after.result)
  const [old, now] = [machineOf(before.result), machineOf(after.result)]
  const lines = [
    `${before.name} (${before.result.commit}) → ${after.name} (${after.result.commit})`,
    ...([before, after].some(({ result }) => result.quick) ? ['One of them is of a quick run, not to be quoted.'] : []),
    '',
    ...section(numbers),
  ]
  const unlike = differences(before.result, after.result)
  if (unlike.length > 0) lines.push('', `Not the same in both, which moves numbers as well: ${unlike.join('; ')}`)
  if (old !== now) {
    lines.push(
      '',
      `The machines differ, ${old} → ${now}: the above says as much of them as of what was measured.`,
      'So rates are compared as well by what Bun’s echo reached in the same run; times and memory cannot be.',
      '',
    )
    const byEcho = compareByEcho(before.result, after.result)
    if (byEcho === undefined) lines.push(`That cannot be done: ${ECHO} is not in both.`)
    else lines.push(`By echo in ${byEcho.by}:`, ...section(byEcho))
  }
  for (const [where, names] of [
    [before.name, numbers.onlyBefore],
    [after.name, numbers.onlyAfter],
  ] as const)
    if (names.length > 0) lines.push('', `Only in ${where}: ${names.join('; ')}`)
  return `${lines.join('\n')}\n`
}

/** Differences in how the results were measured, which may explain a changed number. */
function differences(before: Result, after: Result): string[] {
  const changed = <Facts extends { name: string }>(
    old: readonly Facts[],
    now: readonly Facts[],
    how: (facts: Facts) => unknown,
  ) =>
    now.flatMap((facts) => {
      const then = old.find(({ name }) => name === facts.name)
      return then === undefined || Bun.deepEquals(how(then), how(facts)) ? [] : [facts.name]
    })
  return [
    ...(Bun.deepEquals(before.broker, after.broker) ? [] : ['the broker or its settings']),
    ...changed(before.workloads, after.workloads, ({ bodyBytes, eventsPerRequest, load }) => ({
      bodyBytes,
      eventsPerRequest,
      load,
    })).map((name) => `the load of ${name}`),
    ...changed(before.systems, after.systems, ({ versions, settings }) => ({ versions, settings })).map(
      (name) => `versions or settings of ${name}`,
    ),
  ]
}

const machineOf = ({ machine }: Result): string => `${machine.cores} cores of ${machine.cpu}`

function section({ moved, judged, tooFew }: Comparison): string[] {
  const few = tooFew === 0 ? '' : `; ${tooFew} were measured only once, and cannot be judged`
  return [
    `${moved.length} of ${judged} measures moved beyond noise${few}`,
    ...aligned(
      moved.map((one) => [
        one.verdict,
        placeOf(one),
        one.system,
        one.measure,
        `${cell(one.before)} → ${cell(one.after)}`,
        `${short(one.ratio)}×`,
      ]),
    ),
  ]
}

const cell = ({ median, min, max }: Summary): string => `${short(median)} (${short(min)}–${short(max)})`

/** Columns as wide as their longest cell. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  return rows.map((row) => `  ${row.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
}
