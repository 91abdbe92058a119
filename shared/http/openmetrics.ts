import type { Registry } from 'prom-client'
import type { Exemplar } from '../service/tally.ts'

/**
 * Metrics as OpenMetrics 1.0 text, which has exemplars. prom-client writes it, too, but only from a registry that is never asked for Prometheus' own format:
 * it renames the counters in it.
 */

export const OPENMETRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

interface Metric {
  name: string
  help: string
  type: unknown
  values?: { metricName?: string; labels: Record<string, string | number>; value: number; exemplar?: Exemplar }[]
}

export async function openMetricsText(registry: Registry): Promise<string> {
  const lines: string[] = []
  for (const { name, help, type, values = [] } of (await registry.getMetricsAsJSON()) as Metric[]) {
    // OpenMetrics 1.0, "Counter": the family has no suffix, its samples have _total.
    const family = type === 'counter' ? name.replace(/_total$/, '') : name
    lines.push(`# TYPE ${family} ${type}`, `# HELP ${family} ${escaped(help)}`)
    for (const { metricName = name, labels, value, exemplar } of values)
      lines.push(`${metricName}${labelsText(labels)} ${numberText(value)}${exemplarText(exemplar)}`)
  }
  return `${lines.join('\n')}\n# EOF\n`
}

const escaped = (text: string): string => text.replace(/[\\"\n]/g, (one) => (one === '\n' ? '\\n' : `\\${one}`))

function labelsText(labels: Readonly<Record<string, string | number>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(String(value))}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

const numberText = (value: number): string =>
  Number.isFinite(value) ? String(value) : Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf'

function exemplarText(exemplar: Exemplar | undefined): string {
  if (exemplar === undefined) return ''
  const { traceId, spanId, value, atMs } = exemplar
  return ` # {trace_id="${traceId}",span_id="${spanId}"} ${numberText(value)} ${atMs / 1_000}`
}

/** Whether a request prefers OpenMetrics to Prometheus' text; what takes anything gets that. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  const quality = { 'application/openmetrics-text': 0, 'text/plain': 0 }
  for (const part of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = part.split(';').map((one) => one.trim().toLowerCase())
    if (type !== 'application/openmetrics-text' && type !== 'text/plain') continue
    const values = Object.fromEntries(parameters.map((one) => one.split('=', 2)))
    if (type === 'application/openmetrics-text' && (values['version'] ?? '1.0.0') !== '1.0.0') continue
    quality[type] = Math.max(quality[type], Number(values['q'] ?? 1) || 0)
  }
  return quality['application/openmetrics-text'] > 0 && quality['application/openmetrics-text'] >= quality['text/plain']
}
