/**
 * `bun run doctor`: what this machine has and lacks for each part of the project, and what to do about it. One screen. It needs neither
 * packages nor the addon: it is asked when those cannot be had.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { wrongBun } from '../kafka/native/build.ts'
import { AddonError, describeAddon } from '../kafka/native/check.ts'
import { COMPILING } from '../kafka/native/needs.ts'
import { BrokerUnavailableError } from './brokers/broker.ts'
import { defaultBrokerChoice } from './brokers/choose.ts'
import { findJava } from './brokers/kafka-distribution.ts'
import { dockerAnswers } from './brokers/redpanda.ts'
import { paint } from './progress.ts'
import { missingOf, NEEDS, type Need, packageManager } from './requirements.ts'

/** `wanted`: something works less well without it; `needed`: nothing works without it. */
interface Finding {
  readonly name: string
  readonly state: 'ok' | 'wanted' | 'needed'
  readonly text: string
}

const probeTimeoutMs = 10_000
/** What a command prints, or undefined when it is not there or fails. */
async function output(command: string, ...args: string[]): Promise<string | undefined> {
  const path = Bun.which(command)
  if (path === null) return undefined
  const child = Bun.spawn([path, ...args], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe', timeout: probeTimeoutMs })
  const [text, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  return exitCode === 0 ? (text || errors).trim() : undefined
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

/** What only matters when the addon has to be built on this machine. */
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
      // Compilers and their like have one line where they are there.
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

async function commands(): Promise<Finding[]> {
  const [maven, kcat, docker] = await Promise.all([output('mvn', '-v'), output('kcat', '-V'), dockerAnswers()])
  const found = (name: string, command: string, text: string | undefined): Finding => {
    const need = [...NEEDS.kafka, ...NEEDS.tests].find((one) => one.name === command)
    if (text !== undefined || need === undefined) return { name, state: 'ok', text: text ?? 'there' }
    return { name, state: 'wanted', text: missingText(need) }
  }
  return [
    found('Maven', 'mvn', maven && Bun.stripANSI(maven.split('\n')[0] ?? '')),
    found('kcat', 'kcat', kcat && (/Version (\S+)/.exec(kcat)?.[1] ?? 'there')),
    docker
      ? { name: 'Docker', state: 'ok', text: 'answers' }
      : { name: 'Docker', state: 'wanted', text: 'no engine answers: no Redpanda; the other brokers do without' },
  ]
}

async function broker(): Promise<Finding> {
  const { choice, reason } = await defaultBrokerChoice()
  const name = choice.kind === 'external' ? choice.bootstrapServers : choice.kind
  return { name: 'bun run dev', state: 'ok', text: `would take broker ${name}: ${reason}` }
}

const wrong = wrongBun(manifest.engines.bun, Bun.version, 'run doctor')
const findings: Finding[] = [
  wrong === undefined
    ? { name: 'Bun', state: 'ok', text: `${Bun.version}, as package.json pins it (${process.execPath})` }
    : { name: 'Bun', state: 'needed', text: wrong },
  ...addon(),
  ...(await compiler()),
  await java(),
  ...(await commands()),
  await broker(),
]

const marks = { ok: 'ok  ', wanted: paint('yellow', 'less'), needed: paint('red', 'MISS') }
for (const { name, state, text } of findings) console.log(`${marks[state]}  ${name.padEnd(16)} ${text}`)
const missing = findings.filter((finding) => finding.state === 'needed').length
console.log(missing === 0 ? '\nEverything that is needed is there.' : `\n${missing} needed and missing: see above.`)
process.exit(missing === 0 ? 0 : 1)
