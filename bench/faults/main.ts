#!/usr/bin/env bun
/**
 * Runs faults, or a steady load, against real processes and Apache Kafka, and prints how ledger and log compare.
 *   random (the seed) → stage (processes, load, ledger, watch) → faults (what goes wrong) → scan (kcat) → judge (I1 to I5) → report
 */
import { MAX_BUSY_LOOPS, startBusyLoops } from '../../shared/dev/busy-loops.ts'
import { parseCommandLine, refuse } from '../../shared/service/command-line.ts'
import { FAULTS } from './faults.ts'
import { playSeries, seriesTable } from './series.ts'
import { type Fault, type NodeCount, runFault, seedOf } from './stage.ts'
import { runSteadily, STEADY_LIMITS } from './steady.ts'

const SERIES_LIMITS = { maxRuns: 1_000, maxMinutes: 24 * 60 } as const

const USAGE = `bun bench/faults/main.ts --fault NAME[,NAME…]       plays faults, each once; all of them with NAME "all"
bun bench/faults/main.ts --series --runs N          plays all faults, or those of --fault, N times by turns, and prints a table
bun bench/faults/main.ts --minutes M --rate R       runs for M minutes at R events a second and watches the services' memory
bun bench/faults/main.ts --help

  --seed N      plays the run with that seed; of a series, the first run, which the others follow
  --nodes 1|3   how many brokers there are (1); faults that need another number are left out of "all", or have theirs when named
  --short       fewer rounds and shorter faults, as in the tests
  --busy N      N busy loops beside, as other work on the machine (at most ${MAX_BUSY_LOOPS})
  --keep        leaves the brokers' data where it is when a run does not hold
  --minutes M   of a series: no run begins after M minutes
  --out FILE    of a series: writes the table there, too

Ends with 0 when every guarantee held (and memory was flat), 1 otherwise, 64 for a wrong command. A seed that was printed plays the same
run again, as far as two machines are ever the same; FAULT_SEED does it for the tests. Needs kcat and Java 17; partition-network needs root,
iproute2 and iptables. Everything runs on loopback. Steadily, M is at most ${STEADY_LIMITS.maxMinutes}, R at most ${STEADY_LIMITS.maxRate}.

Faults:
${FAULTS.map(({ name, what }) => `  ${name.padEnd(18)} ${what}`).join('\n')}
`

/** A whole number from `least` to `most`. */
function whole(name: string, text: string, most: number, least = 1): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < least || value > most)
    refuse(`--${name} ${text} is not a whole number from ${least} to ${most}`, USAGE)
  return value
}

const options = () =>
  parseCommandLine(USAGE, {
    options: {
      fault: { type: 'string' },
      series: { type: 'boolean', default: false },
      runs: { type: 'string', default: '1' },
      seed: { type: 'string' },
      nodes: { type: 'string', default: '1' },
      short: { type: 'boolean', default: false },
      busy: { type: 'string', default: '0' },
      keep: { type: 'boolean', default: false },
      minutes: { type: 'string' },
      out: { type: 'string' },
      rate: { type: 'string' },
    },
  }).values

function faultsNamed(names: string, nodes: NodeCount): Fault[] {
  if (names === 'all') return FAULTS.filter((fault) => (fault.nodes ?? nodes) === nodes)
  return names
    .split(',')
    .map((name) => FAULTS.find((one) => one.name === name) ?? refuse(`there is no fault "${name}"`, USAGE))
}

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const given = options()

if (given.fault !== undefined || given.series) {
  process.exitCode = (await playFaults()) ? 0 : 1
} else if (given.minutes !== undefined || given.rate !== undefined) {
  const ok = await runSteadily(
    {
      minutes: whole('minutes', given.minutes ?? '10', STEADY_LIMITS.maxMinutes),
      eventsPerSecond: whole('rate', given.rate ?? '1000', STEADY_LIMITS.maxRate),
    },
    say,
  )
  process.exitCode = ok ? 0 : 1
} else refuse('say what to run: --fault NAME, --series, or --minutes M --rate R', USAGE)

/** One run is a series of one, without its table. Returns whether all guarantees held. */
async function playFaults(): Promise<boolean> {
  if (given.seed !== undefined && !/^\d{1,10}$/.test(given.seed))
    refuse(`--seed ${given.seed} is not a whole number`, USAGE)
  const nodes: NodeCount = given.nodes === '1' ? 1 : given.nodes === '3' ? 3 : refuse('--nodes is 1 or 3', USAGE)
  const faults = faultsNamed(given.fault ?? 'all', nodes)
  const busy = startBusyLoops(whole('busy', given.busy, MAX_BUSY_LOOPS, 0))
  try {
    const outcomes = await playSeries({
      faults,
      runs: whole('runs', given.runs, SERIES_LIMITS.maxRuns),
      nodes,
      firstSeed: given.seed === undefined ? seedOf() : Number(given.seed),
      minutes: whole('minutes', given.minutes ?? String(SERIES_LIMITS.maxMinutes), SERIES_LIMITS.maxMinutes),
      play: (fault, seed) =>
        runFault(fault, { seed, nodes: fault.nodes ?? nodes, short: given.short, keepData: given.keep }, say),
      say,
      // An interrupted series prints its table, too.
      async onRun(outcomes) {
        if (given.series && given.out !== undefined) await Bun.write(given.out, seriesTable(outcomes))
      },
      nowMs: () => performance.now(),
    })
    if (given.series) say(seriesTable(outcomes))
    return outcomes.every(({ ok }) => ok)
  } finally {
    await busy.stop()
  }
}
