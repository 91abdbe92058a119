import { mkdir, rm } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { parseCommandLine } from '../shared/service/command-line.ts'
import { judgeGoals } from './goals.ts'
import { type Bar, barPlot, ladderPlot, percentilePlot, type Series, short, throughputPlot } from './plots.ts'
import type { Latency, ProcessUse, Result, Run, SystemFacts, WorkloadFacts } from './result.ts'
import { chosenResult } from './results.ts'
import { type Summary, summarise } from './statistics.ts'

/** A result as a Markdown page with plots: pure functions, and the command that writes the files. */

const USAGE = `Renders a benchmark's result as Markdown and SVG beside it: bun run bench report [OPTION…] [FILE]

  FILE        a result; else the newest in bench/results/
  --summary   prints the goals and the machine only, as for a README, and writes nothing
  --help      this text
`

/** @returns the exit code */
export async function reportCommand(args: string[]): Promise<number> {
  const options = parseCommandLine(USAGE, {
    args,
    allowPositionals: true,
    options: { summary: { type: 'boolean', default: false } },
  })
  try {
    const { file, result } = await chosenResult(options.positionals[0])
    if (options.values.summary) process.stdout.write(summaryOf(result))
    else await writeReport(file, result)
    return 0
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    return 1
  }
}

/** Writes the page beside the result, and a folder with its plots, which replaces an existing one. */
async function writeReport(file: string, result: Result): Promise<void> {
  // Under another name, the folder could be the result itself.
  if (!file.endsWith('.json')) throw new Error(`${file} has no name that ends in .json`)
  const base = file.slice(0, -'.json'.length)
  await rm(base, { recursive: true, force: true })
  await mkdir(base, { recursive: true })
  const plots = plotsOf(result)
  for (const { name, svg } of plots) await Bun.write(join(base, `${name}.svg`), svg)
  await Bun.write(`${base}.md`, reportOf(result, basename(base), plots))
  console.log(
    `${relative(process.cwd(), `${base}.md`)}, with ${plots.length} plots in ${relative(process.cwd(), base)}/`,
  )
}

// ---- shared by page and terminal

const counts = (result: Result): Run[] => result.runs.filter((run) => run.void === undefined)

/** Runs of a workload by system, and by step where there are steps, in the order in which they were made. */
function groups(result: Result, workload: string): { system: string; step: number | undefined; runs: Run[] }[] {
  const found = new Map<string, { system: string; step: number | undefined; runs: Run[] }>()
  for (const run of counts(result).filter((one) => one.workload === workload)) {
    const key = `${run.system}\n${run.step ?? ''}`
    const group = found.get(key) ?? { system: run.system, step: run.step, runs: [] }
    group.runs.push(run)
    found.set(key, group)
  }
  return [...found.values()]
}

const summaryBy = (runs: readonly Run[], value: (run: Run) => number | undefined): Summary | undefined =>
  summarise(runs.flatMap((run) => value(run) ?? []))

/** `median (least–most)`; a dash without values. */
function cell(summary: Summary | undefined): string {
  if (summary === undefined) return '–'
  const { median, min, max, count } = summary
  return count === 1 || min === max ? short(median) : `${short(median)} (${short(min)}–${short(max)})`
}

function machineOf({ machine, broker }: Result): string {
  const gibibytes = Math.round(machine.memoryBytes / 2 ** 30)
  return `${machine.cores} cores of ${machine.cpu}, ${gibibytes} GiB, ${machine.system}, ${machine.kernel}; ${broker.description}, ${broker.partitions} partitions, replication ${broker.replication}, on the same machine as everything else`
}

/** The goals of the workloads that the result has. */
function goalTable(result: Result): string[] {
  const names = new Set(result.workloads.map(({ name }) => name))
  const goals = judgeGoals(result)
  const rows = goals
    .filter(({ workload }) => names.has(workload))
    .map(
      ({ what, target, measured, verdict, why }) =>
        `| ${what} | ${target} | ${measured}${why === undefined ? '' : ` (${why})`} | ${verdict === 'met' ? 'met' : `**${verdict}**`} |`,
    )
  const others = goals.length - rows.length
  return [
    '| | goal | measured | |',
    '|---|---|---|---|',
    ...rows,
    ...(others === 0 ? [] : ['', `${others} goals belong to workloads that were not run.`]),
  ]
}

/** The goals and the machine, in a few lines. */
export function summaryOf(result: Result): string {
  return `${[...goalTable(result), '', `Medians of one run on ${machineOf(result)}.`].join('\n')}\n`
}

// ---- plots

export interface Plot {
  name: string
  svg: string
  caption: string
}

const COMPARED = ['single-1kb', 'single-300b', 'batch-100'] as const

/** Only those for which the result has data. */
export function plotsOf(result: Result): Plot[] {
  const titleOf = (name: string): string => result.systems.find((one) => one.name === name)?.title ?? name
  const workloadTitle = (name: string): string => result.workloads.find((one) => one.name === name)?.title ?? name
  const plots: Plot[] = []
  const bars = (workload: string, value: (run: Run) => number | undefined): Bar[] =>
    groups(result, workload)
      .flatMap(({ system, runs }) => {
        const summary = summaryBy(runs, value)
        const kind = result.systems.find((one) => one.name === system)?.kind
        return summary === undefined
          ? []
          : [{ label: titleOf(system), ...summary, ours: kind === 'subject', limit: kind === 'limit' }]
      })
      .sort((a, b) => b.median - a.median)
  const addBars = (name: string, workload: string, subtitle: string, unit: string, some: Bar[]): void => {
    if (some.length < 2) return
    const title = workloadTitle(workload)
    plots.push({ name, svg: barPlot(title, subtitle, unit, some), caption: `${title}: ${unit}` })
  }
  for (const workload of COMPARED) {
    const what = 'Medians; the whiskers are the range over the repetitions, which alternate between the systems'
    addBars(
      `${workload}-cpu`,
      workload,
      what,
      'events per CPU-second of the service',
      bars(workload, (run) => run.eventsPerCpuSecond),
    )
    addBars(
      `${workload}-rate`,
      workload,
      what,
      'events a second',
      bars(workload, (run) => run.eventsPerSecond),
    )
  }
  for (const workload of ['drain', 'drain-handler']) {
    const what = 'Exactly once from topic to topic. Medians, with the range of the repetitions, which alternate'
    const plot = (suffix: string, unit: string, value: (run: Run) => number | undefined): void =>
      addBars(`${workload}${suffix}`, workload, what, unit, bars(workload, value))
    plot('', 'events a second', (run) => run.eventsPerSecond)
    plot('-cpu', 'events per CPU-second of the process', (run) => run.eventsPerCpuSecond)
    const memory = bars(workload, highestMebibytes).reverse()
    addBars(`${workload}-memory`, workload, what, 'MiB of resident memory, at its highest (less is better)', memory)
  }
  addBars(
    'produce-limit',
    'produce-limit',
    'Medians; the whiskers are the range over the repetitions',
    'events a second',
    bars('produce-limit', (run) => run.eventsPerSecond),
  )
  const curves = (workload: string, step?: number): Series[] => {
    const run = typical(groups(result, workload).find((group) => group.step === step)?.runs ?? [])
    const suffix = step === undefined ? '' : `, ${Math.round(step * 100)} % of saturation`
    return run === undefined
      ? []
      : [
          ...curve(`to the 202${suffix}`, run.toAnswer),
          ...curve(`to the committed outcome${suffix}`, run.toCommitted),
          ...curve(`from append to outcome${suffix}`, run.appendToCommitted),
        ]
  }
  const steady = curves('steady-1000')
  if (steady.length > 0)
    plots.push({
      name: 'steady-1000-latency',
      svg: percentilePlot(
        '1,000 events a second: latency by percentile',
        'Open loop, from the intended send; the repetition whose p99 to the outcome is the median',
        steady,
      ),
      caption: 'Latency by percentile at 1,000 events a second',
    })
  const ladder = groups(result, 'ladder').sort((a, b) => (a.step ?? 0) - (b.step ?? 0))
  if (ladder.length > 1) {
    const points = (value: (run: Run) => number | undefined): Series['points'] =>
      ladder.flatMap(({ runs }) => {
        const offered = summaryBy(runs, (run) => run.offeredPerSecond)?.median
        const ms = summaryBy(runs, value)?.median
        return offered === undefined || ms === undefined ? [] : [[offered, ms] as const]
      })
    plots.push({
      name: 'ladder',
      svg: ladderPlot('Latency by load', 'Open loop at shares of saturation, from the intended send; medians', [
        { label: 'to the committed outcome, p99', points: points((run) => run.toCommitted?.p99Ms) },
        { label: 'to the committed outcome, p50', points: points((run) => run.toCommitted?.p50Ms) },
        { label: 'to the 202, p99', points: points((run) => run.toAnswer?.p99Ms) },
        { label: 'to the 202, p50', points: points((run) => run.toAnswer?.p50Ms) },
      ]),
      caption: 'Latency by load, up to 90 % of saturation',
    })
  }
  return [...plots, ...throughputOf(result)]
}

/** Stored rate by offered rate. The closed loop's rate is a horizontal guide line. */
function throughputOf(result: Result): Plot[] {
  const rates = (workload: string): Series['points'] =>
    groups(result, workload)
      .flatMap(({ runs }) => {
        const offered = summaryBy(runs, (run) => run.offeredPerSecond)?.median
        const stored = summaryBy(runs, (run) => run.eventsPerSecond)?.median
        return offered === undefined || stored === undefined ? [] : [[offered, stored] as const]
      })
      .sort(([a], [b]) => a - b)
  const series: Series[] = [
    { label: 'with the consumer, up to 90 % of its saturation', points: rates('ladder') },
    { label: 'the producer alone, at twice its saturation', points: rates('overload') },
  ].filter(({ points }) => points.length > 0)
  if (series.length === 0) return []
  const most = Math.max(...series.flatMap(({ points }) => points.map(([offered]) => offered)))
  const subjects = new Set(result.systems.filter(({ kind }) => kind === 'subject').map(({ name }) => name))
  const saturated = groups(result, 'single-1kb').find(({ system }) => subjects.has(system))?.runs ?? []
  const peak = summaryBy(saturated, (run) => run.eventsPerSecond)?.median
  const label = 'the producer alone, in a closed loop'
  if (peak !== undefined) series.push({ label, points: [[0, peak] as const, [most, peak] as const], guide: true })
  const svg = throughputPlot('Throughput by load', 'Open loop; medians', series)
  return [{ name: 'throughput', svg, caption: 'Throughput by load' }]
}

const curve = (label: string, latency: Latency | undefined): Series[] =>
  latency === undefined || latency.curve.length === 0 ? [] : [{ label, points: latency.curve }]

/** The median repetition: unlike single numbers, curves have no median. */
function typical(runs: readonly Run[]): Run | undefined {
  const p99 = (run: Run): number => (run.toCommitted ?? run.toAnswer)?.p99Ms ?? 0
  return runs.toSorted((a, b) => p99(a) - p99(b))[Math.floor((runs.length - 1) / 2)]
}

// ---- the page

/** @param folder the plots' folder, as the page links to it */
export function reportOf(result: Result, folder: string, plots: readonly Plot[]): string {
  const voids = result.runs.filter((run) => run.void !== undefined)
  const unavailable = result.systems.filter((one) => one.unavailable !== undefined)
  return `${[
    '# Benchmark',
    '',
    ...(result.quick ? ['**A quick run: to see that everything works. Its numbers are not to be quoted.**', ''] : []),
    `${machineOf(result)}. Begun ${result.begunAt}, ${Math.round(result.seconds / 60)} minutes, commit \`${result.commit}\`.`,
    '',
    '## Goals',
    '',
    ...goalTable(result),
    '',
    ...plots.flatMap(({ name, caption }) => [`![${caption}](${folder}/${name}.svg)`, '']),
    '## What was measured',
    '',
    'Medians of the repetitions, in brackets their range; latencies in milliseconds. Closed loops are timed from the send, open ones from the intended send.',
    '',
    ...result.workloads.flatMap((workload) => workloadSection(result, workload)),
    '## Systems',
    '',
    ...result.systems.filter((one) => one.unavailable === undefined).map(systemLine),
    '',
    ...(unavailable.length === 0
      ? []
      : ['Not measured:', '', ...unavailable.map(({ title, unavailable: why }) => `- ${title}: ${why}`), '']),
    '## How',
    '',
    ...HOW,
    '',
    `Broker settings: ${pairs(result.broker.settings)}.`,
    '',
    ...(voids.length === 0
      ? ['Every run counts.']
      : [
          'Runs that count for nothing:',
          '',
          ...voids.map(
            (run) =>
              `- ${run.workload}${run.step === undefined ? '' : ` at ${run.step}`}, ${run.system}, repetition ${run.repetition}: ${run.void}`,
          ),
        ]),
  ].join('\n')}\n`
}

const HOW: readonly string[] = [
  '- The load, the services, the broker and whoever watches share the cores of one machine, so that events a second say what this machine does as a whole; events per CPU-second of the service say what the service costs.',
  '- The systems of a workload alternate, so that what changes on the machine meanwhile changes for all of them. Ratios are taken within one run of the bench.',
  '- After every run its topics are scanned by kcat, a client that is not ours: what was acknowledged must be there and, where outcomes count, have exactly one.',
  '- A drain is measured by what a reader of committed records sees of it, from the first half of the outcomes on; its memory from its start on.',
  '- CPU time and resident memory are read from `/proc`, of all threads and children. A run whose generator was late is void.',
]

const pairs = (some: Readonly<Record<string, string>>): string =>
  Object.entries(some)
    .map(([name, value]) => `\`${name}\` ${value}`)
    .join(', ')

function systemLine({ title, versions, settings, notes, sameGuarantees, kind }: SystemFacts): string {
  const parts = [
    Object.keys(versions).length > 0 ? pairs(versions) : undefined,
    Object.keys(settings).length > 0 ? `settings: ${pairs(settings)}` : undefined,
    kind === 'peer' && !sameGuarantees ? 'not the same guarantees' : undefined,
    notes,
  ].filter((part) => part !== undefined)
  return `- **${title}**: ${parts.join('; ')}`
}

interface Column {
  title: string
  value(run: Run): number | undefined
}

const MEBIBYTE = 2 ** 20

const services = (run: Run) => run.processes.filter(({ role }) => role === 'service')

/** Of all services together; undefined where none was observed. */
const mebibytes = (run: Run, value: (process: ProcessUse) => number): number | undefined => {
  const bytes = services(run).reduce((sum, one) => sum + value(one), 0)
  return bytes === 0 ? undefined : bytes / MEBIBYTE
}

const highestMebibytes = (run: Run): number | undefined => mebibytes(run, (one) => one.residentMaxBytes)

/** Look-ups by how much is known of the event. */
const LOOKUPS = [
  { kind: 'uuid', title: 'by UUIDv7' },
  { kind: 'key', title: 'by id and key' },
  { kind: 'id', title: 'by id' },
  { kind: 'absent', title: 'of no event' },
  { kind: 'together', title: 'of no event, four at a time' },
] as const

const consoleMebibytes = (run: Run): number | undefined => {
  const found = services(run).find(({ name }) => name === 'console')
  return found && found.residentMaxBytes / MEBIBYTE
}

const isHttp = (run: Run): boolean => run.toAnswer !== undefined

const COLUMNS: readonly Column[] = [
  { title: 'offered/s', value: (run) => run.offeredPerSecond },
  {
    title: 'requests/s',
    value: (run) => (isHttp(run) && run.offeredPerSecond === undefined ? run.requestsPerSecond : undefined),
  },
  {
    title: 'events/s',
    value: (run) => (run.restart === undefined && run.lookups === undefined ? run.eventsPerSecond : undefined),
  },
  { title: 'events per CPU-s', value: (run) => run.eventsPerCpuSecond },
  ...latencyColumns('202', (run) => run.toAnswer),
  ...latencyColumns('outcome', (run) => run.toCommitted),
  ...latencyColumns('append to outcome', (run) => run.appendToCommitted, ['p50Ms', 'p99Ms']),
  ...latencyColumns('refusal', (run) => run.toRefusal, ['p50Ms', 'p99Ms', 'maxMs']),
  ...LOOKUPS.flatMap(({ kind, title }) =>
    latencyColumns(title, ({ lookups }) => lookups?.[kind], ['p50Ms', 'p95Ms', 'maxMs']),
  ),
  ...latencyColumns('append to follower', (run) => run.followed?.delay, ['p50Ms', 'p99Ms', 'maxMs']),
  { title: 'missing at followers', value: ({ followed }) => followed?.missing },
  { title: 'doubled at followers', value: ({ followed }) => followed?.excess },
  ...latencyColumns('first paint', (run) => run.page?.firstPaint, ['p50Ms', 'p95Ms', 'maxMs']),
  { title: 'KB of the page, compressed', value: ({ page }) => page && page.compressedBytes / 1000 },
  { title: 'MiB of JavaScript, highest', value: ({ page }) => page && Math.max(0, ...page.heapBytes) / MEBIBYTE },
  { title: 'outcomes shown', value: ({ page }) => page?.shown },
  {
    title: 'CPU-s of the consumer',
    value: (run) => (isHttp(run) ? services(run).find(({ name }) => name === 'consumer')?.cpuSeconds : undefined),
  },
  { title: 'MiB of the console, highest', value: consoleMebibytes },
  { title: 'outcomes restored', value: ({ restart }) => restart?.outcomes },
  { title: 'start to ready, s', value: ({ restart }) => restart?.toReadySeconds },
  { title: 'assignment to reading, s', value: ({ restart }) => restart?.toReadingSeconds },
  { title: '… to outcomes, s', value: ({ restart }) => restart?.toOutcomeSeconds },
  { title: 'MiB', value: (run) => mebibytes(run, (one) => one.residentMeanBytes) },
  { title: 'MiB, highest', value: highestMebibytes },
  { title: 'MiB, lowest after', value: ({ residentAfterBytes: bytes }) => bytes && bytes / MEBIBYTE },
  { title: 'MiB, highest of an idle process', value: ({ restart }) => restart && restart.idleResidentBytes / MEBIBYTE },
  {
    title: 'errors',
    value: (run) =>
      isHttp(run) || run.lookups !== undefined
        ? Object.values(run.errors).reduce((sum, one) => sum + one, 0)
        : undefined,
  },
  { title: 'lost', value: (run) => run.scan?.lost },
  { title: 'doubled', value: (run) => run.scan?.doubled },
  { title: 'keys out of order', value: (run) => run.scan?.outOfOrder },
]

type Quantile = 'p50Ms' | 'p95Ms' | 'p99Ms' | 'p999Ms' | 'maxMs'

function latencyColumns(
  what: string,
  of: (run: Run) => Latency | undefined,
  quantiles: readonly Quantile[] = ['p50Ms', 'p95Ms', 'p99Ms', 'p999Ms', 'maxMs'],
): Column[] {
  const names: Record<Quantile, string> = { p50Ms: 'p50', p95Ms: 'p95', p99Ms: 'p99', p999Ms: 'p99.9', maxMs: 'max' }
  return quantiles.map((quantile) => ({ title: `${what} ${names[quantile]}`, value: (run) => of(run)?.[quantile] }))
}

function workloadSection(result: Result, { name, title, what, bodyBytes, load }: WorkloadFacts): string[] {
  const rows = groups(result, name)
  const bodies = rows.some(({ runs }) => runs.some(isHttp)) ? 'Bodies' : 'Values'
  const heading = [`### ${title}`, '', `${what} ${bodies} of ${short(bodyBytes)} B; ${load}.`, '']
  if (rows.length === 0) return [...heading, 'No run of it counts.', '']
  const stepped = rows.some(({ step }) => step !== undefined)
  // Omits columns without any values.
  const columns = COLUMNS.filter(({ value }) => rows.some(({ runs }) => summaryBy(runs, value) !== undefined))
  const titleOf = (system: string): string => result.systems.find((one) => one.name === system)?.title ?? system
  return [
    ...heading,
    `| ${['', ...(stepped ? ['of saturation'] : []), ...columns.map((column) => column.title)].join(' | ')} |`,
    `|${'---|'.repeat(1 + (stepped ? 1 : 0) + columns.length)}`,
    ...rows.map(({ system, step, runs }) => {
      const cells = columns.map(({ value }) => cell(summaryBy(runs, value)))
      const share = stepped ? [step === undefined ? '–' : `${Math.round(step * 100)} %`] : []
      return `| ${[titleOf(system), ...share, ...cells].join(' | ')} |`
    }),
    '',
  ]
}
