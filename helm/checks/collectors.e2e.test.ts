import { afterEach, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BoundChild } from '../../shared/dev/bound-child.ts'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { until } from '../../shared/testing/until.ts'
import { root } from './check.ts'
import { startHealthy } from './healthy.ts'
import { runForLog } from './log-run.ts'
import { installedTool, tool } from './tools.ts'

/**
 * What the services and their crashes print, in the files that containerd makes of it, read by a real OpenTelemetry Collector with the configuration that
 * we ship, and found again. VictoriaLogs stands in for Loki: it receives the same requests, and has a query language of its own.
 */

const TIMEOUT_MS = 120_000
/** Where containerd and CRI-O split a line. */
const PART_BYTES = 16 * 1_024
const VALUES = 'helm/monitoring/logs/opentelemetry-collector.yaml'

type Stream = 'stdout' | 'stderr'

/** The parts of the shipped values that are changed. */
interface CollectorConfig {
  receivers: Record<string, { include: string[] } | null>
  extensions: Record<string, unknown>
  processors?: Record<string, unknown>
  service: { pipelines: Record<string, unknown>; telemetry?: unknown }
}

/** A line of a container's log. */
interface Printed {
  stream: Stream
  text: string
  /** When the container runtime has read it. */
  at: Date
}

/** An entry as VictoriaLogs gives it. */
type Entry = Readonly<Record<string, string>>

const ending: (() => unknown)[] = []

afterEach(async () => {
  for (const end of ending.splice(0).reverse()) await end()
}, TIMEOUT_MS)

/** The line's records in a file of the container runtime interface (CRI): split by bytes, each part but the last marked as partial. */
function criRecords({ stream, text, at }: Printed): Buffer[] {
  const bytes = Buffer.from(text)
  const records: Buffer[] = []
  for (let from = 0; from === 0 || from < bytes.length; from += PART_BYTES) {
    const tag = from + PART_BYTES < bytes.length ? 'P' : 'F'
    const head = `${at.toISOString().replace('Z', '000001Z')} ${stream} ${tag} `
    records.push(Buffer.concat([Buffer.from(head), bytes.subarray(from, from + PART_BYTES), Buffer.from('\n')]))
  }
  return records
}

const start = async (...given: Parameters<typeof startHealthy>): Promise<BoundChild> => {
  const { child, end } = await startHealthy(...given)
  ending.push(end)
  return child
}

/** The shipped configuration with what its chart adds and removes, for files in this folder. */
async function configFor(folder: string, healthPort: number): Promise<CollectorConfig> {
  const values = await Bun.file(join(root, VALUES)).text()
  const { config } = Bun.YAML.parse(values) as { config: CollectorConfig }
  const withoutNulls = <T>(of: Record<string, T>) =>
    Object.fromEntries(Object.entries(of).filter(([, value]) => value !== null))
  config.receivers = withoutNulls(config.receivers)
  for (const receiver of Object.values(config.receivers))
    if (receiver) receiver.include = receiver.include.map((path) => path.replace('/var/log/pods', folder))
  config.service.pipelines = withoutNulls(config.service.pipelines)
  config.service.telemetry = { metrics: { level: 'none' } }
  config.extensions['health_check'] = { endpoint: `127.0.0.1:${healthPort}` }
  config.extensions['file_storage'] = { directory: join(folder, 'positions'), create_directory: true }
  config.processors = { memory_limiter: { check_interval: '5s', limit_mib: 400 } }
  return config
}

/** What a command prints on standard error before it fails. */
async function failing(command: readonly string[], env: Record<string, string>): Promise<string[]> {
  const child = Bun.spawn([process.execPath, ...command], { cwd: root, env, stdout: 'ignore', stderr: 'pipe' })
  const text = await new Response(child.stderr).text()
  expect(await child.exited).not.toBe(0)
  return text.trimEnd().split('\n')
}

/** A query of docs/operations.md, `{label="value"} | json | field="…"`, in VictoriaLogs' language. Loki has `_` where names have other characters. */
function translated(query: string, wanted: string, names: readonly string[]): string {
  const [, label, value, field] = /^\{(\w+)="(\w+)"\} \| json \| (\w+)="…"$/.exec(query) ?? []
  const original = (name: string | undefined): string => {
    const found = names.find((one) => one.replaceAll(/\W/g, '_') === name)
    if (found === undefined) throw new Error(`${query}: nothing is called ${name}`)
    return JSON.stringify(found)
  }
  return `{${original(label)}="${value}"} | unpack_json | filter ${original(field)}:=${JSON.stringify(wanted)}`
}

const name = 'what services and crashes print in a cluster is found again, whole and with few labels'

async function collect(programs: { otelcol: string; store: string }): Promise<void> {
  const services = await runForLog(TIMEOUT_MS)
  const beganMs = Date.now() - 60_000
  const line = (one: object): string => JSON.stringify(one)
  const first = services.producer.lines[0] ?? {}
  // Of characters of two bytes, one of the first two is split inside of a character.
  const long = ['é', '-é', ' '].map((text) =>
    line({ ...first, 'kafkatrace.events': [text.padEnd(40_000, text.at(-1))] }),
  )
  const faults = await failing(['producer/main.ts'], { PORT: 'none', PATH: process.env['PATH'] ?? '' })
  const crash = await failing(['-e', 'const work = () => { throw new Error("no\\n\\nmore") }; work()'], {})
  const native =
    '%3|1790000000.123|FAIL|rdkafka#producer-1| [thrd:kafka:9092/bootstrap]: kafka:9092/bootstrap: Connect failed'
  const printed = {
    producer: { stdout: [...services.producer.lines.map(line), ...long], stderr: [...faults, native] },
    consumer: { stdout: services.consumer.lines.map(line), stderr: crash },
    console: { stdout: services.console.lines.map(line), stderr: [] },
  }

  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-pods-'))
  ending.push(() => rm(folder, { recursive: true, force: true }))
  for (const [service, { stdout, stderr }] of Object.entries(printed)) {
    const at = (index: number): Date => new Date(beganMs + index)
    const out = stdout.flatMap((text) => criRecords({ stream: 'stdout', text, at: at(0) }))
    const err = stderr.flatMap((text, index) => criRecords({ stream: 'stderr', text, at: at(index) }))
    // Between the parts of the last line.
    const file = Buffer.concat([...out.slice(0, -1), ...err, ...out.slice(-1)])
    await Bun.write(join(folder, `kafkatrace_${service}-0_2f1c/${service}/0.log`), file)
  }

  const [healthPort = 0, storePort = 0] = await findFreePorts(2)
  const store = `http://127.0.0.1:${storePort}`
  const config = join(folder, 'config.yaml')
  // JSON is YAML.
  await Bun.write(config, JSON.stringify(await configFor(folder, healthPort)))
  const startCollector = () =>
    start([programs.otelcol, `--config=${config}`], `http://127.0.0.1:${healthPort}`, {
      OTLP_ENDPOINT: `${store}/insert/opentelemetry`,
    })
  // Killed while nobody receives what it may have read.
  const killed = await startCollector()
  killed.kill('SIGKILL')
  await killed.exited
  await start([programs.store, `-httpListenAddr=127.0.0.1:${storePort}`, '-storageDataPath=data'], `${store}/health`)
  await startCollector()

  const ask = async (query: string): Promise<Entry[]> => {
    const body = new URLSearchParams({ query })
    const text = await (await fetch(`${store}/select/logsql/query`, { method: 'POST', body })).text()
    return text.trim() === ''
      ? []
      : text
          .trim()
          .split('\n')
          .map((one) => JSON.parse(one) as Entry)
  }
  const of = (entries: readonly Entry[], service: string, stream: Stream): Entry[] =>
    entries.filter((one) => one['service.name'] === service && one['log.iostream'] === stream)
  const textOf = (entry: Entry): string => entry['_msg'] ?? ''
  let entries: Entry[] = []
  const missing = (): string[] =>
    Object.entries(printed).flatMap(([service, { stdout, stderr }]) => {
      const found = new Set(of(entries, service, 'stdout').map(textOf))
      const errors = of(entries, service, 'stderr').map(textOf).join('\n')
      return [...stdout.filter((text) => !found.has(text)), ...stderr.filter((text) => !errors.includes(text))]
    })
  await until(
    async () => {
      // What was on its way when the collector was killed may come twice.
      const all = await ask('* | sort by (_time)')
      entries = [...new Map(all.map((one) => [`${one['service.name']} ${one['_time']} ${textOf(one)}`, one])).values()]
      return missing().length === 0
    },
    { timeoutMs: TIMEOUT_MS, what: 'all that was printed' },
  ).catch((error: unknown) => {
    throw new Error(`${error}; missing: ${missing().join('\n').slice(0, 2_000)}`)
  })

  for (const [service, { stdout, stderr }] of Object.entries(printed)) {
    expect(new Set(of(entries, service, 'stdout').map(textOf))).toEqual(new Set(stdout))
    expect(of(entries, service, 'stderr').map(textOf).join('\n')).toBe(stderr.join('\n'))
  }
  expect(of(entries, 'producer', 'stderr').map(textOf)).toContain(faults.slice(0, -1).join('\n'))

  const json = entries.filter((entry) => entry['log.iostream'] === 'stdout')
  for (const entry of json) {
    const fields = JSON.parse(textOf(entry)) as Record<string, string>
    expect({ at: Date.parse(entry['_time'] ?? ''), level: entry['severity_text'], trace: entry['trace_id'] }).toEqual({
      at: Date.parse(fields['@timestamp'] ?? ''),
      level: fields['log.level'],
      trace: fields['trace.id'],
    })
  }

  // Labels: of the pod and its container, and no more.
  expect(new Set(entries.map((entry) => entry['_stream'])).size).toBe(3)
  expect(Object.keys(JSON.parse(labelsAsJson(entries[0]?.['_stream'] ?? '{}')) as object)).toEqual([
    'k8s.container.name',
    'k8s.container.restart_count',
    'k8s.namespace.name',
    'k8s.pod.name',
    'k8s.pod.uid',
    'service.name',
  ])

  const queries = [...(await Bun.file(join(root, 'docs/operations.md')).text()).matchAll(/`(\{\w+="\w+"\} \|[^`]+)`/g)]
  const names = [
    ...new Set([
      ...entries.flatMap(Object.keys),
      ...json.flatMap((entry) => Object.keys(JSON.parse(textOf(entry)) as object)),
    ]),
  ]
  const traceId = services.consumer.lines.find((one) => one['kafkatrace.event_id'] === 'hopeless')?.['trace.id']
  const wanted = [
    ['kafkatrace_event_id', 'hopeless'],
    ['trace_id', String(traceId)],
  ] as const
  expect(queries).toHaveLength(wanted.length)
  for (const [index, [field, value]] of wanted.entries()) {
    const query = queries[index]?.[1] ?? ''
    expect(query).toContain(field)
    expect((await ask(translated(query, value, names))).length).toBeGreaterThan(0)
  }
}

/** `{a="b",c="d"}` */
const labelsAsJson = (stream: string): string => stream.replaceAll(/([\w.]+)=/g, '"$1":')

// Building them takes minutes: where CI is set, they are built.
const isBuilt = installedTool('otelcol') !== undefined && installedTool('victoria-logs') !== undefined
if (isBuilt || process.env['CI'])
  test(
    name,
    async () =>
      collect({ otelcol: await tool('otelcol', () => undefined), store: await tool('victoria-logs', () => undefined) }),
    10 * TIMEOUT_MS,
  )
else test.skip(`${name} (otelcol and victoria-logs are not built; where CI is set, they are)`, () => undefined)
