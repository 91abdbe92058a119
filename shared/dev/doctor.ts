/**
 * `bun run doctor`: what this machine has, what each command needs, and what to type for what is missing, on one screen. Works without
 * packages and without the addon: people run it when those cannot be installed.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { wrongBun } from '../kafka/native/build.ts'
import { AddonError, describeAddon } from '../kafka/native/check.ts'
import { COMPILING } from '../kafka/native/needs.ts'
import { parseCommandLine } from '../service/command-line.ts'
import { paint } from '../service/terminal.ts'
import { BrokerUnavailableError } from './brokers/broker.ts'
import { defaultBrokerChoice } from './brokers/choose.ts'
import { findJava } from './brokers/kafka-distribution.ts'
import { dockerAnswers } from './brokers/redpanda.ts'
import { installCommand, missingOf, NEEDS, type Need, packageManager } from './requirements.ts'
import { run } from './run.ts'
import { needsOf } from './setup.ts'

const HELP = `Says what this machine has, what each command needs, and what to type for what is missing: bun run doctor

  --help   this text

Exits 0 when everything that is needed is there, 1 when not, and 64 on wrong arguments.
`

/** `wanted`: something works less well without it. `needed`: nothing works without it. */
interface Finding {
  readonly name: string
  readonly state: 'ok' | 'wanted' | 'needed'
  readonly text: string
}

const probeTimeoutMs = 10_000
/** What a command prints; undefined when it is missing or fails. */
async function output(command: string, ...args: string[]): Promise<string | undefined> {
  const path = Bun.which(command)
  if (path === null) return undefined
  const ran = await run([path, ...args], { timeoutMs: probeTimeoutMs })
  return ran.exitCode === 0 ? (ran.output || ran.errors).trim() : undefined
}

function addon(): Finding[] {
  if (!existsSync(join(import.meta.dir, '../../node_modules')))
    return [{ name: 'Kafka client', state: 'needed', text: 'the dependencies are not installed: run `bun run setup`' }]
  try {
    const { manifest: built, librdkafka, codecs, ssl, sasl } = describeAddon()
    const off =
      built.optionsOff.length === 0
        ? ''
        : `; off: ${built.optionsOff.join(', ')} (install the headers below, then: bun run build:native --rebuild)`
    return [
      {
        name: 'Kafka client',
        state: 'ok',
        text: `${built.client}, librdkafka ${librdkafka}, for Bun ${built.bun} (ABI ${built.abi}, ${built.platform})`,
      },
      { name: '  codecs', state: 'ok', text: codecs.join(', ') },
      {
        name: '  security',
        state: off === '' ? 'ok' : 'wanted',
        text: `${ssl ? 'TLS' : 'no TLS'}, SASL ${sasl.join(', ') || 'none'}${off}`,
      },
    ]
  } catch (error) {
    if (!(error instanceof AddonError)) throw error
    return [{ name: 'Kafka client', state: 'needed', text: error.message }]
  }
}

/** Matters only when the addon is built on this machine. */
async function compiler(): Promise<Finding[]> {
  const [cxx, make, missing] = await Promise.all([
    output('c++', '-dumpfullversion'),
    output('make', '--version'),
    missingOf(NEEDS.addon),
  ])
  return [
    ...(cxx !== undefined && make !== undefined
      ? [{ name: 'Compiler', state: 'ok' as const, text: `c++ ${cxx}, ${make.split('\n')[0]}` }]
      : []),
    ...NEEDS.addon.flatMap((need): Finding[] => {
      const isMissing = missing.includes(need)
      // Present compilers and tools share the line above.
      if (!isMissing && !need.name.endsWith('.h')) return []
      const state = isMissing ? (COMPILING.includes(need) ? 'needed' : 'wanted') : 'ok'
      return [{ name: `  ${need.name}`, state, text: isMissing ? missingText(need) : need.for }]
    }),
  ]
}

const missingText = (need: Pick<Need, 'for' | 'packages'>): string => {
  const manager = packageManager()
  const how = manager && need.packages[manager] ? `; ${manager} package ${need.packages[manager]}` : ''
  return `missing, for ${need.for}${how}`
}

async function java(): Promise<Finding> {
  const name = 'Java'
  try {
    const path = await findJava()
    const version = (await output(path, '-version'))?.split('\n')[0]
    return { name, state: 'ok', text: `${version} (${path})` }
  } catch (error) {
    if (!(error instanceof BrokerUnavailableError)) throw error
    return { name, state: 'wanted', text: error.message }
  }
}

async function docker(): Promise<Finding> {
  const name = 'Docker'
  return (await dockerAnswers())
    ? { name, state: 'ok', text: 'answers' }
    : { name, state: 'wanted', text: 'no engine answers: no Redpanda; the other brokers do without' }
}

/** Commands whose needs depend on their arguments, as typed after `bun run`. */
const VARIANTS = ['dev --broker kafka', 'test --unit']

/** All commands that set themselves up, as typed after `bun run`. */
const COMMANDS = Object.entries(manifest.scripts)
  .filter(([, line]) => /setup\.ts \S/.test(line))
  .flatMap(([name]) => [name, ...VARIANTS.filter((typed) => typed.startsWith(`${name} `))])

/** What each command needs besides Bun, the dependencies and the Kafka client. */
const commands = (): Promise<Finding[]> =>
  Promise.all(
    COMMANDS.map(async (typed): Promise<Finding> => {
      const [script = '', ...args] = typed.split(' ')
      const file = /setup\.ts (\S+)/.exec(manifest.scripts[script as keyof typeof manifest.scripts])?.[1]
      const needs = needsOf(file, args, Boolean(process.env.CI)).flatMap((need): readonly Need[] => NEEDS[need])
      const missing = await missingOf(needs)
      const name = `  ${typed}`
      const names = (of: readonly Need[]): string => of.map((need) => need.name).join(', ')
      if (missing.length === 0)
        return { name, state: 'ok', text: needs.length === 0 ? 'needs no more' : `needs ${names(needs)}: all there` }
      const command =
        installCommand(missing) ?? 'install them by hand: this system’s package manager does not have them'
      return { name, state: 'wanted', text: `needs ${names(needs)}; missing: ${names(missing)}; type: ${command}` }
    }),
  )

async function broker(): Promise<Finding> {
  const { choice, reason } = await defaultBrokerChoice()
  const name = choice.kind === 'external' ? choice.bootstrapServers : choice.kind
  return { name: 'Broker of dev', state: 'ok', text: `${name}: ${reason}` }
}

parseCommandLine(HELP, {})

const wrong = wrongBun(manifest.engines.bun, Bun.version, 'run doctor')
const findings: Finding[] = [
  wrong === undefined
    ? { name: 'Bun', state: 'ok', text: `${Bun.version}, as package.json pins it (${process.execPath})` }
    : { name: 'Bun', state: 'needed', text: wrong },
  ...addon(),
  ...(await compiler()),
  await java(),
  await docker(),
  await broker(),
  ...(await commands()),
]

const marks = { ok: 'ok  ', wanted: paint('yellow', 'less'), needed: paint('red', 'MISS') }
for (const { name, state, text } of findings) console.log(`${marks[state]}  ${name.padEnd(20)} ${text}`)
const missing = findings.filter((finding) => finding.state === 'needed').length
console.log(missing === 0 ? '\nEverything that is needed is there.' : `\n${missing} needed and missing: see above.`)
process.exit(missing === 0 ? 0 : 1)
