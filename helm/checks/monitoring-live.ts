import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FAULT_TYPE } from '../../consumer/testing/faulty-handlers.ts'
import type { Check } from './check.ts'
import { type DashboardPanel, readDashboards } from './monitoring-dashboards.ts'
import { CONSOLE_LETTERS, holdsWithin, startRig } from './monitoring-rig.ts'

/** Runs every dashboard query on a Prometheus that scrapes the real services under load. */

const LOAD_PER_SECOND = 40
const LOAD_MS = 20_000
const PANELS_TIMEOUT_MS = 20_000

/** Histograms whose buckets name traces. */
const WITH_EXEMPLARS = [
  'kafkatrace_producer_request_seconds_bucket',
  'kafkatrace_producer_ack_seconds_bucket',
  'kafkatrace_consumer_event_latency_seconds_bucket',
]

/** Values for Grafana's variables. */
export const substituted = (expr: string): string =>
  expr.replaceAll('$__rate_interval', '15s').replaceAll('$namespace', '.*')

export interface PanelResult {
  file: string
  title: string
  queries: { expr: string; series: number; last: string }[]
}

/** A query that returns only NaN shows nothing either. */
export const isEmpty = ({ queries }: PanelResult): boolean => queries.some(({ series }) => series === 0)

export const asMarkdown = (results: readonly PanelResult[]): string =>
  [
    '| dashboard | panel | series | last value |',
    '|---|---|---|---|',
    ...results.flatMap(({ file, title, queries }) =>
      queries.map(({ series, last }) => `| ${file} | ${title} | ${series} | ${last} |`),
    ),
    '',
  ].join('\n')

const panelsReturnSeries: Check = {
  name: 'live: every panel returns series under load',
  counts: 'panels',
  async run(say) {
    // Exemplars are of traces that are recorded, and so sent.
    const collector = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => Response.json({}) })
    const traced = {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.port}`,
      OTEL_TRACES_SAMPLER_ARG: '1',
    }
    const rig = await startRig({
      rules: (file) => file,
      producerEnv: traced,
      consumerEnv: { ...traced, RETRY_FIRST_MS: '30000' },
      consoleEnv: {},
      say,
    })
    try {
      const endLoad = rig.load(LOAD_PER_SECOND)
      say('sending events, some of which fail')
      const until = performance.now() + LOAD_MS
      while (performance.now() < until) {
        for (const kind of ['hopeless', 'always'])
          await rig.send({ type: FAULT_TYPE + kind, data: { failures: 0, workMs: 0 } })
        await rig.ask(CONSOLE_LETTERS)
        await Bun.sleep(500)
      }
      const results: PanelResult[] = []
      let empty: PanelResult[] = []
      await holdsWithin(PANELS_TIMEOUT_MS, async () => {
        results.length = 0
        for (const { file, dashboard } of await readDashboards())
          for (const panel of dashboard.panels.filter(({ type }) => type !== 'row'))
            results.push(await ask(file, panel, rig.query))
        empty = results.filter(isEmpty)
        return empty.length === 0
      })
      endLoad()
      const unnamed: string[] = []
      for (const histogram of WITH_EXEMPLARS) if ((await rig.exemplars(histogram)).length === 0) unnamed.push(histogram)
      const report = join(tmpdir(), 'kafkatrace-panels.md')
      await Bun.write(report, asMarkdown(results))
      const series = results.flatMap(({ queries }) => queries).reduce((sum, one) => sum + one.series, 0)
      say(`${series} series; each panel with its last value: ${report}`)
      return {
        passed: results.length - empty.length,
        faults: [
          ...empty.map(
            ({ file, title, queries }) =>
              `${file}: ${title}: no series of ${queries.find((query) => query.series === 0)?.expr}`,
          ),
          ...unnamed.map((histogram) => `${histogram} has no exemplar`),
        ],
      }
    } finally {
      await rig.stop()
      await collector.stop(true)
    }
  },
}

async function ask(
  file: string,
  { title, targets = [] }: DashboardPanel,
  query: (expr: string) => Promise<{ value: [number, string] }[]>,
): Promise<PanelResult> {
  const queries: PanelResult['queries'] = []
  for (const { expr } of targets) {
    const samples = (await query(substituted(expr))).filter(({ value: [, value] }) => value !== 'NaN')
    queries.push({ expr, series: samples.length, last: samples.at(-1)?.value[1] ?? 'none' })
  }
  return { file, title, queries }
}

export const liveChecks: readonly Check[] = [panelsReturnSeries]
