#!/usr/bin/env bun
/**
 * Measures KafkaTrace beside the alternatives.
 *   workloads (what) → plan (which runs) → run (all of it) → measure, measure-drain, measure-console (one run): systems (which), closed-loop and open-loop
 *   (load), observe, observer and followers (what is seen), scan (what is stored) → result; report, compare and check read results
 */
import { join } from 'node:path'
import { parseCommandLine, refuse } from '../shared/service/command-line.ts'
import { checkCommand } from './check.ts'
import { compareCommand } from './compare.ts'
import { chooseWorkloads, SUITES, type Suite, workloadsOf } from './plan.ts'
import { reportCommand } from './report.ts'
import { createReporter } from './reporter.ts'
import { brokenRuns, runBench } from './run.ts'
import { DRAINS, SYSTEMS, TOOLS } from './systems/index.ts'
import { WORKLOADS } from './workloads.ts'

/** The systems of a quick bench: those that install within seconds. */
const QUICK_SYSTEMS = ['kafkatrace', 'hono-platformatic', 'bun-hello', 'bun-echo']

/** The systems of a suite. */
const SUITE_SYSTEMS: Readonly<Record<Suite, readonly string[]>> = {
  drain: DRAINS.map(({ facts }) => facts.name),
  console: ['kafkatrace'],
  schemas: ['kafkatrace'],
}

const LONG = WORKLOADS.filter(({ long }) => long === true).map(({ name }) => name)

const USAGE = `Measures KafkaTrace, its peers and the machine's limits: bun run bench [drain|console|schemas] [OPTION…]

  drain              only what drains a filled topic, beside Kafka Streams, franz-go and librdkafka: under five minutes
  console            only the console: look-ups among a million events, and followers of outcomes: some minutes. It is in no other bench
  schemas            only events that are checked by a schema, beside the same without: some four minutes. It is in no other bench

  --quick            every workload once and short, on ${QUICK_SYSTEMS.join(', ')}: under two minutes
  --workload NAME    only this one, and those whose rates it takes shares of; may be repeated. ${LONG.join(' and ')} are run only by name, or
                     where all are
  --system NAME      only this one; may be repeated
  --repetitions N    in place of each workload's own number
  --out FILE         where the result goes; else bench/results/TIME.json
  --no-install       install nothing; report what is missing
  --list             the workloads and systems that there are
  --help             this text

bun run bench report [FILE] | compare [FILE] | check [FILE]   reads results; each has --help

Starts an Apache Kafka and everything else by itself, on loopback. Ends with 1 if an event that was acknowledged is not in the log, or has not
exactly one outcome, or if outcomes of a key are out of order; with 64 for a wrong command. Numbers mean something only while nothing else runs on
the machine.
`

/** Subcommands that read results. */
const READERS: ReadonlyMap<string, (args: string[]) => Promise<number>> = new Map([
  ['report', reportCommand],
  ['compare', compareCommand],
  ['check', checkCommand],
])

const EXIT_INTERRUPTED = 130

const options = () =>
  parseCommandLine(USAGE, {
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      workload: { type: 'string', multiple: true, default: [] },
      system: { type: 'string', multiple: true, default: [] },
      repetitions: { type: 'string' },
      out: { type: 'string' },
      list: { type: 'boolean', default: false },
    },
  })

function list(): void {
  const row = (name: string, title: string): string => `  ${name.padEnd(26)} ${title}\n`
  process.stdout.write('Workloads\n')
  for (const { name, what } of WORKLOADS) process.stdout.write(row(name, what))
  for (const [kind, title] of [
    ['subject', 'KafkaTrace'],
    ['peer', 'Peers'],
    ['limit', 'Limits'],
  ]) {
    process.stdout.write(`${title}\n`)
    for (const { facts } of new Set([...SYSTEMS, ...TOOLS, ...DRAINS].filter((one) => one.facts.kind === kind)))
      process.stdout.write(row(facts.name, facts.title))
  }
}

async function bench(): Promise<number> {
  const { values, positionals } = options()
  const { quick, workload, system, repetitions, out, list: listing } = values
  const suite = SUITES.find((one) => one === positionals[0])
  if (positionals.length > (suite === undefined ? 0 : 1))
    refuse(`there is no command "${positionals.join(' ')}"`, USAGE)
  if (listing) {
    list()
    return 0
  }
  if (repetitions !== undefined && !/^[1-9]\d?$/.test(repetitions))
    refuse(`--repetitions ${repetitions} is not a number from 1 to 99`, USAGE)
  for (const name of system)
    if (![...SYSTEMS, ...TOOLS, ...DRAINS].some(({ facts }) => facts.name === name))
      refuse(`there is no system "${name}"`, USAGE)
  const workloads = (() => {
    try {
      const named = workload.length > 0
      const some = workloadsOf(WORKLOADS, suite, { quick, named })
      return named ? chooseWorkloads(some, workload) : some
    } catch (error) {
      return refuse((error as Error).message, USAGE)
    }
  })()
  const names =
    system.length > 0 ? system : suite !== undefined ? SUITE_SYSTEMS[suite] : quick ? QUICK_SYSTEMS : undefined
  const chosen = ({ facts }: { facts: { name: string } }) => names === undefined || names.includes(facts.name)
  const file =
    out ?? join(import.meta.dir, 'results', `${new Date().toISOString().slice(0, 19).replaceAll(':', '')}Z.json`)
  const result = await runBench(
    {
      workloads,
      systems: SYSTEMS.filter(chosen),
      tools: TOOLS.filter(chosen),
      drains: DRAINS.filter(chosen),
      quick,
      file,
      ...(repetitions !== undefined && { repetitions: Number(repetitions) }),
    },
    createReporter(),
  )
  console.log(`${result.runs.length} runs in ${Math.round(result.seconds)} s: ${file}`)
  const broken = brokenRuns(result.runs)
  for (const { workload: name, system: by, scan } of broken)
    console.error(`${by} did not keep what it acknowledged in ${name}: ${JSON.stringify(scan)}`)
  return broken.length === 0 ? 0 : 1
}

// Child processes are bound to this process and end with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(EXIT_INTERRUPTED))
const [name = '', ...rest] = process.argv.slice(2)
const command = READERS.get(name)
process.exit(command === undefined ? await bench() : await command(rest))
