/** `bun run dev`: a broker and the services on this machine, with events to look at. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import pino from 'pino'
import { inputTopic, streamTopics } from '../events/topics.ts'
import { createRangeReader } from '../kafka/range-reader.ts'
import type { RangeReader } from '../kafka/types.ts'
import { parseCommandLine, refuse } from '../service/command-line.ts'
import { EXIT_BAD_CONFIG } from '../service/config.ts'
import { isTerminal, paint } from '../service/terminal.ts'
import { type BoundChild, endBoundChild, endOf, isRunning, spawnBoundChild } from './bound-child.ts'
import { type Broker, BrokerUnavailableError } from './brokers/broker.ts'
import { brokerSyntax, defaultBrokerChoice, parseBrokerChoice, startBroker } from './brokers/choose.ts'
import { embeddedPartitions } from './brokers/embedded.ts'
import { seenGone } from './brokers/external.ts'
import { findFreePorts, isPortFree } from './brokers/ports.ts'
import { createOutcomeReader } from './outcomes.ts'
import { makeLogFolder } from './own-folder.ts'
import { seconds } from './progress.ts'
import { devTenants, sourcesIn } from './tenants.ts'
import { type PlainEvent, sendSlowly, sendWebhooks, type WebhookSource, webhookEvents } from './webhooks.ts'

const HELP = `Runs KafkaTrace on this machine: a broker, the producer, the consumer and the console, until Ctrl-C.

Usage: bun run dev [--broker ${brokerSyntax}] [--data DIR] [--payloads | --no-payloads] [--quiet]
                   [--handlers FILE] [--logs]

  --broker       embedded: in memory, for trying things out; needs nothing
                 kafka:    Apache Kafka from Maven Central; needs Java 17 and Maven
                 redpanda: from compose.yaml; needs Docker
                 Without it: KAFKA_BROKERS where set, Redpanda where Docker answers, else embedded.
  --data         with --broker kafka: a directory that keeps topics and offsets for the next run; without
                 it they are deleted at the end, as on the embedded broker. Redpanda keeps them in a volume.
  --payloads     first send GitHub's example webhook payloads to the source "github" and show their outcomes;
                 the default on a broker that dev starts, as long as it has no events
  --no-payloads  do not send them, nor any later
  --quiet        do not go on sending: otherwise one of them comes each second on a broker that dev starts, and some
                 are spoiled, so that the console has something to show
  --handlers     a file that exports \`handlers\`, which are added to the built-in ones
  --no-install   install nothing; report what is missing
  --logs         show the services' logs here instead of writing them to files
  --help         this text

Ports are 8080 (HTTP), 8081 (console), 9080, 9081 and 9082 (operations), or free ones where those are taken; PORT names
another one for HTTP.
TENANTS_FILE is a file of your own, with further streams and sources of webhooks (docs/sources/) for the tenant "default"; dev
adds the source "github" unless there is one. SOURCES_MODULE adds kinds of sources. You can set the services' other variables
(see bun run config), except those that dev sets: AUTH (off), HOST and OPS_HOST
(127.0.0.1), OPS_PORT, LOG_FORMAT, NODE_ENV and, with --broker, KAFKA_BROKERS.
`

const READY_TIMEOUT_MS = 60_000
const POLL_MS = 100
const OUTCOMES_TIMEOUT_MS = 60_000
const DRAIN_TIMEOUT_MS = 20_000
/** How often the live counts are printed: a terminal's line is overwritten; elsewhere each is a new line. */
const LIVE_TERMINAL_MS = 500
const LIVE_PLAIN_MS = 10_000
const SHOWN_LOG_LINES = 20
const SHOWN_SOURCES = 6
const TENANT = 'default'
const STREAM = 'events'
const INPUT = inputTopic(TENANT, STREAM)

/** In the order in which they are started, and stopped. */
const MAIN = {
  producer: 'producer/main.ts',
  consumer: 'consumer/main.ts',
  console: 'consumer/console/main.ts',
} as const

const terminal = isTerminal(process.stdout)

interface Service {
  name: keyof typeof MAIN
  child: BoundChild
  opsUrl: string
  logFile: string | undefined
}

const begun = performance.now()
const stopping = new AbortController()
const services: Service[] = []
/** It has secrets, and is removed at the end. */
let tenantsFile: string | undefined
let midLine = false

/** An expected failure: the message is printed without a stack. */
class DevError extends Error {}

async function runServices(broker: Broker): Promise<void> {
  const port = await freePort(httpPort())
  const consolePort = await freePort(8081)
  const [producerOps, consumerOps, consoleOps] = [await freePort(9080), await freePort(9081), await freePort(9082)]
  const folder = makeLogFolder()
  const logs = options.logs ? undefined : folder
  tenantsFile = join(folder, 'tenants.json')
  const { file, secret } = devTenants(ownTenants(), process.env.STREAMS?.split(',') ?? [])
  // It has secrets.
  writeFileSync(tenantsFile, JSON.stringify(file, undefined, 2), { mode: 0o600 })
  const { STREAMS: _, ...inherited } = process.env
  const common = {
    ...inherited,
    TENANTS_FILE: tenantsFile,
    KAFKA_BROKERS: broker.bootstrapServers,
    NODE_ENV: 'development',
    LOG_FORMAT: options.logs ? 'pretty' : 'json',
  }
  // The mock cluster creates topics when metadata is requested for them; it does not support CreateTopics.
  if (broker.name === 'embedded') await broker.createTopics(streamTopics(TENANT, STREAM), embeddedPartitions)
  const sendsPayloads = options.payloads ?? (await hasNoEvents(broker))
  step('starting the producer, the consumer and the console')
  start('producer', producerOps, logs, {
    ...common,
    AUTH: 'off',
    HOST: '127.0.0.1',
    PORT: String(port),
    OPS_HOST: '127.0.0.1',
    OPS_PORT: String(producerOps),
  })
  start('consumer', consumerOps, logs, {
    ...common,
    OPS_HOST: '127.0.0.1',
    OPS_PORT: String(consumerOps),
    ...(options.handlers === undefined ? {} : { HANDLERS_MODULE: options.handlers }),
  })
  start('console', consoleOps, logs, {
    ...common,
    AUTH: 'off',
    HOST: '127.0.0.1',
    PORT: String(consolePort),
    CONSUMER_STATUS_PORT: String(consumerOps),
    PRODUCER_URL: `http://127.0.0.1:${port}`,
    OPS_HOST: '127.0.0.1',
    OPS_PORT: String(consoleOps),
  })
  await ready()
  const source = secret === undefined ? undefined : { url: `http://127.0.0.1:${port}/v1/sources/github`, secret }
  const table = sendsPayloads && source !== undefined ? await playPayloads(broker, source) : undefined
  endLine()
  process.stdout.write(screen(broker, port, consolePort, { path: tenantsFile, file }, logs, table))
  const goesOn = !options.quiet && options.payloads !== false && broker.name !== 'external'
  await Promise.all([
    live(broker),
    goesOn && source !== undefined ? sendSlowly(await webhookEvents(), source, stopping.signal) : undefined,
  ])
}

function start(
  name: Service['name'],
  opsPort: number,
  logs: string | undefined,
  env: Record<string, string | undefined>,
): void {
  const logFile = logs === undefined ? undefined : join(logs, `${name}.log`)
  const output = logFile === undefined ? 'inherit' : Bun.file(logFile)
  const child = spawnBoundChild([process.execPath, join(import.meta.dir, '../..', MAIN[name])], {
    stdout: output,
    stderr: output,
    env,
  })
  services.push({ name, child, opsUrl: `http://127.0.0.1:${opsPort}`, logFile })
}

/** Waits until the services are ready. @throws DevError with what they report */
async function ready(): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  for (const service of services) {
    let said = 'nothing yet'
    for (;;) {
      demandRunning()
      const response = await fetch(`${service.opsUrl}/readyz`).catch(() => undefined)
      if (response?.ok === true) break
      said = (await response?.text()) ?? said
      if (performance.now() > deadline)
        throw new DevError(`the ${service.name} is not ready after ${READY_TIMEOUT_MS / 1000} s: ${said}`)
      await Bun.sleep(POLL_MS)
    }
  }
}

/** Sends the payloads and waits for the outcome of each. */
async function playPayloads(broker: Broker, source: WebhookSource): Promise<string> {
  const events = await webhookEvents()
  const sent = await sendWebhooks(events, source, (done) =>
    step(`sending GitHub’s webhook payloads: ${done} of ${events.length}`),
  )
  for (const { type, status, detail } of sent.refused)
    process.stderr.write(`\n${type} was answered ${status}: ${detail}\n`)
  const accepted = events.filter(({ id }) => !sent.refused.some((one) => one.id === id))
  return await reading(broker, async (reader) => {
    const outcomes = createOutcomeReader(reader, INPUT, await reader.partitionCount(INPUT))
    const deadline = performance.now() + OUTCOMES_TIMEOUT_MS
    while (outcomes.known(accepted) < accepted.length && performance.now() < deadline) {
      demandRunning()
      await outcomes.update()
      step(`waiting for their outcomes: ${outcomes.known(accepted)} of ${accepted.length}`)
    }
    return payloadTable(events, sent.accepted, outcomes.byType(events))
  })
}

/** Whether dev started the broker and the stream never had an event. */
async function hasNoEvents(broker: Broker): Promise<boolean> {
  if (broker.name === 'embedded') return true
  return broker.name !== 'external' && !(await reading(broker, (reader) => reader.topics())).has(INPUT)
}

async function reading<T>(broker: Broker, work: (reader: RangeReader) => Promise<T>): Promise<T> {
  const config = { ...minimalConfig, KAFKA_BROKERS: broker.bootstrapServers }
  const reader = createRangeReader({ config, clientId: 'kafkatrace-dev', log: pino({ level: 'silent' }) })
  try {
    return await work(reader)
  } finally {
    await reader.close()
  }
}

/** The configuration that reading needs. The broker is on this machine and has no security. */
const minimalConfig = {
  NODE_ENV: 'development',
  LOG_LEVEL: 'fatal',
  LOG_FORMAT: 'json',
  OPS_HOST: '127.0.0.1',
  DRAIN_TIMEOUT_MS: 1_000,
  KAFKA_SECURITY_PROTOCOL: 'plaintext',
  KAFKA_SASL_MECHANISM: 'PLAIN',
  OTEL_TRACES_SAMPLER_ARG: 0,
} as const

function payloadTable(
  events: readonly PlainEvent[],
  accepted: number,
  rows: ReturnType<ReturnType<typeof createOutcomeReader>['byType']>,
): string {
  const handled = rows.filter((row) => row.becomes !== undefined)
  const through = rows.filter((row) => row.becomes === undefined && row.processed > 0)
  const dead = rows.filter((row) => row.dead > 0)
  const sum = (of: typeof rows, count: (row: (typeof rows)[number]) => number): number =>
    of.reduce((total, row) => total + count(row), 0)
  const width = Math.max(24, ...handled.map((row) => row.type.length))
  const line = (count: number, what: string, becomes: string): string =>
    `    ${String(count).padStart(4)}  ${what.padEnd(width)}  ${becomes}\n`
  return (
    `  ${paint('bold', 'GitHub’s webhook payloads')}: ${events.length} sent, ${accepted} stored (202), ${sum(rows, (row) => row.processed)} processed, ${sum(rows, (row) => row.dead)} dead\n` +
    handled.map((row) => line(row.processed, row.type, `→ ${row.becomes}`)).join('') +
    line(
      sum(through, (row) => row.processed),
      `${through.length} other types`,
      '→ passed through, enriched',
    ) +
    dead.map((row) => line(row.dead, row.type, '→ .dlq')).join('')
  )
}

function screen(
  broker: Broker,
  port: number,
  consolePort: number,
  tenants: { path: string; file: unknown },
  logs: string | undefined,
  table: string | undefined,
): string {
  const ops = (name: Service['name']): string => services.find((one) => one.name === name)?.opsUrl ?? ''
  const declared = sourcesIn(tenants.file)
  const shown = declared
    .slice(0, SHOWN_SOURCES)
    .map(
      ({ name, kind, stream }) => `http://127.0.0.1:${port}/v1/sources/${name}  ${paint('dim', `${kind} → ${stream}`)}`,
    )
  if (declared.length > shown.length) shown.push(`and ${declared.length - shown.length} more`)
  const sources = shown.map((line, index) => `  ${(index === 0 ? 'webhooks' : '').padEnd(10)}  ${line}\n`).join('')
  const curl = `curl -i http://127.0.0.1:${port}/v1/events -H 'content-type: application/json' -d '{"type":"greeting","data":{"hello":"world"}}'`
  return `
${paint('bold', 'KafkaTrace')} is up; it took ${seconds(performance.now() - begun)}

  console     ${paint('bold', `http://127.0.0.1:${consolePort}`)}  ${paint('dim', `API page: http://127.0.0.1:${consolePort}/docs`)}
              ${ops('console')}/metrics  /readyz /livez
  broker      ${broker.bootstrapServers}  ${paint('dim', broker.description)}
  producer    http://127.0.0.1:${port}  ${paint('dim', `API page: http://127.0.0.1:${port}/docs`)}
              ${ops('producer')}/metrics  /readyz /livez
  consumer    ${ops('consumer')}/metrics  /readyz /livez
${sources}              ${tenants.path}  ${paint('dim', 'has their secrets; TENANTS_FILE adds more (docs/sources/)')}
  tenant      ${TENANT}, stream ${STREAM}; no key needed (AUTH=off)
  topics      ${INPUT}  .retry  .dlq  .processed
  logs        ${logs ?? 'below'}

${table === undefined ? '' : `${table}\n`}  ${paint('bold', 'Try it')}
    ${curl}
    curl -s http://127.0.0.1:${consolePort}/v1/streams/${STREAM}/events/ID   ${paint('dim', 'what became of it; ID as in the receipt')}

  Ctrl-C drains and stops. ${paint('dim', 'bun run dev --help')}
`
}

/** Prints live counts until Ctrl-C. @throws DevError when a service, or the broker that dev started, ends by itself */
async function live(broker: Broker): Promise<void> {
  let gone: string | undefined
  const brokerGone = async (): Promise<void> => {
    // A broker that dev did not start may come back.
    if (broker.name === 'embedded' || broker.name === 'kafka') gone = await seenGone(broker.bootstrapServers)
    else await aborted()
  }
  const interval = terminal ? LIVE_TERMINAL_MS : LIVE_PLAIN_MS
  let last = ''
  const interrupted = Promise.race([aborted(), brokerGone(), ...services.map(({ child }) => child.exited)])
  while (!stopping.signal.aborted) {
    demandRunning()
    if (gone !== undefined) throw new DevError(`the broker does not answer any more: ${gone}`)
    const [stored, consumer] = await Promise.all(services.map((service) => metricsOf(service)))
    const outcome = (name: string): number => consumer?.('kafkatrace_consumer_outcomes_total', `outcome="${name}"`) ?? 0
    const line =
      `stored ${stored?.('kafkatrace_producer_events_total', 'outcome="stored"') ?? 0} · processed ${outcome('processed')} · dead ${outcome('dead')}` +
      ` · to retry ${outcome('retry')} · duplicates ${outcome('duplicate')} · lag ${consumer?.('kafkatrace_consumer_lag_records', '') ?? 0}`
    if (terminal) process.stdout.write(`\r\x1b[K  ${line}`)
    else if (line !== last) process.stdout.write(`  ${line}\n`)
    last = line
    await Promise.race([Bun.sleep(interval), interrupted])
  }
}

const aborted = (): Promise<void> =>
  new Promise((resolve) => {
    if (stopping.signal.aborted) resolve()
    stopping.signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** Sums a service's samples of a metric whose labels contain a string. */
async function metricsOf(service: Service): Promise<(name: string, labels: string) => number> {
  const text = await fetch(`${service.opsUrl}/metrics`)
    .then((response) => response.text())
    .catch(() => '')
  return (name, labels) => {
    let sum = 0
    for (const line of text.split('\n'))
      if (line.startsWith(`${name}{`) && line.includes(labels)) sum += Number(line.slice(line.lastIndexOf(' ') + 1))
    return sum
  }
}

/** @throws DevError with the end of its log when a service has ended; also after Ctrl-C */
function demandRunning(): void {
  if (stopping.signal.aborted) throw new DevError('stopped')
  for (const { name, child, logFile } of services) {
    if (isRunning(child)) continue
    const tail =
      logFile === undefined
        ? ''
        : readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-SHOWN_LOG_LINES).join('\n')
    // The log already says which setting or which handlers file is wrong.
    if (child.exitCode === EXIT_BAD_CONFIG) throw new DevError(`the ${name} cannot start:\n${tail}`)
    throw new DevError(`the ${name} ended by itself (exit code ${endOf(child)}):\n${tail}`)
  }
}

/** Stops the producer first, so that the consumer still processes what it stored. @returns the exit code */
async function stopAll(): Promise<number> {
  endLine()
  let code = 0
  for (const { name, child } of services) {
    if (!isRunning(child)) continue
    process.stdout.write(`stopping the ${name} …`)
    const how = await endBoundChild(child, DRAIN_TIMEOUT_MS)
    process.stdout.write(
      how === 'terminated' && (child.exitCode === 0 || child.signalCode === 'SIGTERM')
        ? // What ends by the signal itself had not come to listening for it, and has nothing to drain.
          ' done\n'
        : ` ${how}, exit code ${endOf(child)}\n`,
    )
    if (child.exitCode !== 0) code = 1
  }
  if (tenantsFile !== undefined) rmSync(tenantsFile, { force: true })
  await broker?.stop()
  return code
}

/** Prints a line of progress; on a terminal it overwrites the last one. */
function step(text: string): void {
  if (terminal) {
    process.stdout.write(`\r\x1b[K${text}`)
    midLine = true
  } else if (!/\d+ of \d+$/.test(text)) process.stdout.write(`${text}\n`)
}

function endLine(): void {
  if (terminal && midLine) process.stdout.write('\r\x1b[K')
  midLine = false
}

/** @throws DevError when PORT is not a port */
function httpPort(): number {
  const text = process.env.PORT ?? '8080'
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new DevError(`PORT=${text} is no port`)
  return Number(text)
}

/**
 * The user's tenants file, to which dev adds a source.
 * @throws DevError when it cannot be read
 */
function ownTenants(): unknown {
  const path = process.env.TENANTS_FILE
  if (path === undefined || path === '') return undefined
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new DevError(`TENANTS_FILE=${path} cannot be read: ${(error as Error).message}`)
  }
}

/** The wanted port, or a free one when it is taken. 0 means any. */
async function freePort(wanted: number): Promise<number> {
  if (wanted !== 0 && (await isPortFree(wanted))) return wanted
  const [port] = (await findFreePorts(1)) as [number]
  return port
}

async function readOptions() {
  const { values } = parseCommandLine(HELP, {
    options: {
      broker: { type: 'string' },
      data: { type: 'string' },
      payloads: { type: 'boolean' },
      quiet: { type: 'boolean', default: false },
      handlers: { type: 'string' },
      logs: { type: 'boolean', default: false },
    },
    allowNegative: true,
  })
  const choice = values.broker === undefined ? (await defaultBrokerChoice()).choice : parseBrokerChoice(values.broker)
  if (choice === undefined) return refuse(`--broker takes ${brokerSyntax}`, HELP)
  if (values.data !== undefined && choice.kind !== 'kafka') return refuse('--data needs --broker kafka', HELP)
  return { ...values, choice }
}

const options = await readOptions()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort())

let broker: Broker | undefined
let exitCode = 0
try {
  broker = await startBroker(options.choice, {
    ...(options.data === undefined ? {} : { directory: resolve(options.data) }),
    say: (progress) => step(progress),
  })
  if (!stopping.signal.aborted) await runServices(broker)
} catch (error) {
  if (!stopping.signal.aborted) {
    exitCode = 1
    const expected = error instanceof BrokerUnavailableError || error instanceof DevError
    endLine()
    process.stderr.write(`${expected ? error.message : (error as Error).stack}\n`)
  }
} finally {
  const stopped = await stopAll()
  exitCode ||= stopped
}
process.exit(exitCode)
