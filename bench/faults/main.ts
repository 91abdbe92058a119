#!/usr/bin/env bun
/**
 * Plays faults, or runs steadily, against real processes and Apache Kafka, and prints what the ledger and the log say.
 *   random (the seed) → stage (processes, load, ledger) → faults (what goes wrong) → scan (kcat) → judge (I1 to I5) → report
 */
import { parseArgs } from 'node:util'
import { FAULTS } from './faults.ts'
import { runFault, seedOf } from './stage.ts'
import { runSteadily, STEADY_LIMITS } from './steady.ts'

const USAGE = `bun bench/faults/main.ts --fault NAME [--seed N]    plays one fault, or all of them with NAME "all"
bun bench/faults/main.ts --minutes M --rate R       runs for M minutes at R events a second and watches the services' memory
bun bench/faults/main.ts --help

Ends with 0 when every guarantee held (and memory was flat), 1 otherwise, 64 for a wrong command. A seed that was printed plays the same
run again, as far as two machines are ever the same; FAULT_SEED does it for the tests. Needs kcat and Java 17; everything runs on loopback.
M is at most ${STEADY_LIMITS.maxMinutes}, R at most ${STEADY_LIMITS.maxRate}.

Faults:
${FAULTS.map(({ name, what }) => `  ${name.padEnd(18)} ${what}`).join('\n')}
`

/** `sysexits.h`: EX_USAGE. */
const EXIT_USAGE = 64

function refuse(why: string): never {
  process.stderr.write(`${why}\n\n${USAGE}`)
  process.exit(EXIT_USAGE)
}

/** A whole number from 1 to `most`. */
function whole(name: string, text: string, most: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < 1 || value > most)
    refuse(`--${name} ${text} is not a whole number from 1 to ${most}`)
  return value
}

function options() {
  try {
    return parseArgs({
      options: {
        fault: { type: 'string' },
        seed: { type: 'string' },
        minutes: { type: 'string' },
        rate: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values
  } catch (error) {
    return refuse((error as Error).message)
  }
}

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const { fault, seed: seedGiven, minutes, rate, help } = options()

if (help === true) {
  process.stdout.write(USAGE)
} else if (fault !== undefined) {
  const chosen = FAULTS.filter(({ name }) => fault === 'all' || name === fault)
  if (chosen.length === 0) refuse(`there is no fault "${fault}"`)
  if (seedGiven !== undefined && !/^\d{1,10}$/.test(seedGiven)) refuse(`--seed ${seedGiven} is not a whole number`)
  const seed = seedGiven === undefined ? seedOf() : Number(seedGiven)
  let held = 0
  for (const one of chosen) if ((await runFault(one, seed, say)).ok) held++
  say(`${held} of ${chosen.length} held`)
  process.exitCode = held === chosen.length ? 0 : 1
} else if (minutes !== undefined || rate !== undefined) {
  const ok = await runSteadily(
    {
      minutes: whole('minutes', minutes ?? '10', STEADY_LIMITS.maxMinutes),
      eventsPerSecond: whole('rate', rate ?? '1000', STEADY_LIMITS.maxRate),
    },
    say,
  )
  process.exitCode = ok ? 0 : 1
} else refuse('say what to run: --fault NAME, or --minutes M --rate R')
