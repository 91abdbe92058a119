#!/usr/bin/env bun
/**
 * Sends odd inputs to real services on Apache Kafka.
 *   bytes, json (changes) → requests, records (inputs) → request-run, record-run (send, and judge what comes of it), on the rig → shrink → corpus
 */
import { parseCommandLine, refuse } from '../../shared/service/command-line.ts'
import { fuzzRecords } from './record-run.ts'
import { fuzzRequests } from './request-run.ts'
import { startRig } from './rig.ts'

const MAX_INPUTS = 10_000_000
const DEFAULT_INPUTS = 100_000

const USAGE = `Sends odd inputs to the services, and judges what comes of it: bun run fuzz [requests|records] [OPTION…]

  requests      HTTP requests to a producer: events in every form and webhooks of every kind, changed in their parts or in their bytes
  records       Kafka records to a consumer and a console: in a stream's own topic, and forged ones in the topics beside it, in its acts and in kt-control

  --inputs N    how many of each (${DEFAULT_INPUTS})
  --seed N      which; else one of the time. The same seed makes the same changes; ids, times and signatures are of the run
  --no-install  install nothing; report what is missing
  --help        this text

Nothing may be answered with a 5xx other than 503 with its reason, hang, end a process, stop a partition or make memory grow; what was answered 202 is
in the log, what was refused is not, and each event has one outcome, good ones at the end too. What fails is made as small as can be and saved in
bench/fuzz/corpus/, with which each run begins. Ends with 0 when all held, with 1 otherwise, with 64 for a wrong command. Starts an Apache Kafka and
everything else by itself, on loopback.
`

const PARTS = { requests: fuzzRequests, records: fuzzRecords } as const

const { values, positionals } = parseCommandLine(USAGE, {
  allowPositionals: true,
  options: { inputs: { type: 'string', default: String(DEFAULT_INPUTS) }, seed: { type: 'string' } },
})

/** A whole number from 1 to `most`. */
function whole(name: string, text: string, most: number): number {
  if (!/^\d{1,10}$/.test(text) || Number(text) < 1 || Number(text) > most)
    refuse(`--${name} ${text} is not a whole number from 1 to ${most}`, USAGE)
  return Number(text)
}

const chosen = positionals.length === 0 ? (['requests', 'records'] as const) : positionals.map(partNamed)
function partNamed(name: string): keyof typeof PARTS {
  return name === 'requests' || name === 'records' ? name : refuse(`there is no part "${name}"`, USAGE)
}
const inputs = whole('inputs', values.inputs, MAX_INPUTS)
const seed = whole('seed', values.seed ?? String((Date.now() % 0x7fffffff) + 1), 0x7fffffff)

const say = (text: string): void => void process.stdout.write(`${text}\n`)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130))
say(`seed ${seed}`)
const rig = await startRig(say)
const found = []
try {
  for (const part of new Set(chosen)) found.push(...(await PARTS[part](rig, { seed, inputs, say })).found)
} finally {
  await rig.stop()
}
for (const { what, file } of found) say(`FAILED  ${what}${file === undefined ? '' : `\n        ${file}`}`)
say(`seed ${seed}: ${found.length === 0 ? 'all held' : `${found.length} faults`}`)
process.exit(found.length === 0 ? 0 : 1)
