import { join } from 'node:path'
import { Registry } from 'prom-client'
import { createMetrics as consoleMetrics } from '../../consumer/console/metrics.ts'
import { createMetrics as consumerMetrics } from '../../consumer/metrics.ts'
import { createMetrics as producerMetrics } from '../../producer/metrics.ts'
import { addListenerMetrics } from '../../shared/http/certificates.ts'
import { addSecurityMetrics } from '../../shared/kafka/security.ts'
import { addClientMetrics } from '../../shared/kafka/statistics.ts'
import { addProcessMetrics } from '../../shared/service/process-metrics.ts'
import { type dashboardJson, dashboards } from '../monitoring/dashboards.ts'
import type { Check } from './check.ts'
import { filesIn, MONITORING, type RuleFile, ruleFiles } from './monitoring-rules.ts'

/** Checks of dashboards: whether they follow the usual rules, and whether the metrics of their queries exist. */

export interface DashboardPanel {
  type: string
  title: string
  description?: string
  datasource?: { uid: string }
  fieldConfig?: { defaults: { unit?: string } }
  targets?: { expr: string; legendFormat?: string; datasource?: { uid: string } }[]
}

export type DashboardFile = Omit<ReturnType<typeof dashboardJson>, 'panels'> & { panels: DashboardPanel[] }

export async function readDashboards(): Promise<{ file: string; dashboard: DashboardFile }[]> {
  const files = await filesIn(join(MONITORING, 'dashboards'), '*.json')
  return Promise.all(
    files.map(async (file) => ({
      file: file.slice(MONITORING.length + 1),
      dashboard: (await Bun.file(file).json()) as DashboardFile,
    })),
  )
}

/** The metrics and recording rules in a query; histograms by their series. */
export const metricsIn = (expr: string): string[] => [
  ...new Set(
    [...expr.replaceAll(/"[^"]*"/g, '').matchAll(/\b(?:kafkatrace[_:]|process_|slo:)[a-z0-9_:]+/g)].map(
      ([name]) => name,
    ),
  ),
]

/** Faults of a panel with curves or figures. */
export function faultsOfPanel(panel: DashboardPanel, known: ReadonlySet<string>): string[] {
  const faults: string[] = []
  const fault = (when: boolean, text: string): void => {
    if (when) faults.push(`${panel.title}: ${text}`)
  }
  fault((panel.description ?? '') === '', 'it has no description')
  fault((panel.fieldConfig?.defaults.unit ?? '') === '', 'it has no unit')
  fault(panel.datasource?.uid !== '$datasource', 'its data source is not the variable')
  fault((panel.targets ?? []).length === 0, 'it asks for nothing')
  for (const { expr, legendFormat = '', datasource } of panel.targets ?? []) {
    fault(legendFormat === '', `${expr} has no legend`)
    fault(datasource?.uid !== '$datasource', `${expr}: its data source is not the variable`)
    fault(/\b(?:rate|irate)\([^[]*\[(?!\$__rate_interval\])/.test(expr), `${expr}: a rate over a fixed window`)
    fault(/[{,]namespace=~"\$namespace"/.test(expr) === false, `${expr}: it does not heed the namespace`)
    for (const name of metricsIn(expr)) fault(!known.has(name), `${name} is no metric of the services and no recording`)
  }
  return faults
}

/** Every metric that the services register, with the suffixes of its series. */
async function registered(): Promise<{ name: string; suffixes: readonly string[] }[]> {
  const producer = producerMetrics()
  const consumer = consumerMetrics()
  addClientMetrics(producer.registry)
  addSecurityMetrics(producer.registry, { state: () => ({ ok: true }), expiries: () => [] })
  addListenerMetrics(producer.registry, { isCurrent: () => true, notAfterMs: () => 0 })
  addProcessMetrics(producer.registry)()
  const metrics = await Registry.merge([
    producer.registry,
    consumer.registry,
    consoleMetrics([]).registry,
  ]).getMetricsAsJSON()
  return metrics.map(({ name, type }) => ({
    name,
    // prom-client returns the type as a string, although its types say a number.
    suffixes: String(type) === 'histogram' ? ['_bucket', '_sum', '_count'] : [''],
  }))
}

/** Every series that the services register. */
export const servicesMetrics = async (): Promise<Set<string>> =>
  new Set((await registered()).flatMap(({ name, suffixes }) => suffixes.map((suffix) => name + suffix)))

/** Every metric, and whether a panel queries one of its series, directly or through a recording rule. */
export async function shownMetrics(): Promise<Map<string, boolean>> {
  const recordings = (await rulesOf()).filter(({ records }) => records)
  const asked = new Set<string>()
  const follow = (expr: string): void => {
    for (const name of metricsIn(expr)) {
      if (asked.has(name)) continue
      asked.add(name)
      for (const recording of recordings) if (recording.name === name) follow(recording.expr)
    }
  }
  for (const { rows } of dashboards)
    for (const { panels } of rows) for (const { queries } of panels) for (const { expr } of queries) follow(expr)
  return new Map(
    (await registered()).map(({ name, suffixes }) => [name, suffixes.some((suffix) => asked.has(name + suffix))]),
  )
}

async function rulesOf(): Promise<{ name: string; expr: string; records: boolean }[]> {
  const files = await Promise.all(
    (await ruleFiles()).map(async (file) => Bun.YAML.parse(await Bun.file(file).text()) as RuleFile),
  )
  return files
    .flatMap(({ groups }) => groups.flatMap(({ rules }) => rules))
    .map(({ record, alert, expr }) => ({ name: record ?? alert ?? '', expr, records: record !== undefined }))
}

const dashboardsAreRight: Check = {
  name: 'dashboards: units, legends, rates, data source, metrics',
  counts: 'panels',
  async run() {
    const recordings = (await rulesOf()).filter(({ records }) => records).map(({ name }) => name)
    const known = new Set([...(await servicesMetrics()), ...recordings])
    const faults: string[] = []
    let passed = 0
    for (const { file, dashboard } of await readDashboards())
      for (const panel of dashboard.panels.filter(({ type }) => type !== 'row')) {
        const found = faultsOfPanel(panel, known)
        if (found.length === 0) passed++
        faults.push(...found.map((fault) => `${file}: ${fault}`))
      }
    return { passed, faults }
  },
}

const rulesNameMetrics: Check = {
  name: 'rules: every metric exists',
  counts: 'rules',
  async run() {
    const rules = await rulesOf()
    const known = new Set([
      ...(await servicesMetrics()),
      ...rules.filter(({ records }) => records).map(({ name }) => name),
    ])
    const faults = rules.flatMap(({ name, expr }) =>
      metricsIn(expr)
        .filter((metric) => !known.has(metric))
        .map((metric) => `${name}: ${metric} is no metric of the services and no recording`),
    )
    return { passed: rules.length - faults.length, faults }
  },
}

export const dashboardChecks: readonly Check[] = [dashboardsAreRight, rulesNameMetrics]
