import { join } from 'node:path'
import { parser } from '@grafana/lezer-logql'
import { LogLine } from '../../shared/service/log-schema.ts'
import { type Check, outcome, root } from './check.ts'
import { MONITORING } from './monitoring-rules.ts'

/** Checks of the collectors of logs that need none of them. What runs one: collectors.e2e.test.ts. */

/** Labels of lines: none has more values with more events, tenants or traces. */
const LABELS: ReadonlySet<string> = new Set(['namespace', 'pod', 'service_name', 'level'])

/** What Loki calls the schema's fields, after `| json`. */
const FIELDS: ReadonlySet<string> = new Set(
  Object.keys(LogLine.properties).map((name) => name.replaceAll(/[^\w]/g, '_').replace(/^_+/, '')),
)

/** @returns the labels that a configuration of Alloy gives to lines, other than those of its components */
export const labelsMade = (alloy: string): string[] => [
  ...[...alloy.matchAll(/target_label\s*=\s*"(\w+)"/g)].map(([, label = '']) => label),
  ...[...alloy.matchAll(/stage\.labels\s*\{\s*values\s*=\s*\{([^}]*)\}/g)].flatMap(([, values = '']) =>
    [...values.matchAll(/(\w+)\s*=/g)].map(([, label = '']) => label),
  ),
]

/** @returns what is wrong with a query, by Grafana's grammar of LogQL and by our labels and fields; nothing if it is right */
export function logqlFaults(query: string): string[] {
  const faults: string[] = []
  parser.parse(query).iterate({
    enter: ({ type, from, to, node }) => {
      if (type.isError) faults.push(`${query}: no LogQL at ${from}`)
      if (type.name !== 'Matcher') return
      const known = node.parent?.name === 'LabelFilter' ? FIELDS : LABELS
      const [name = ''] = /^\w+/.exec(query.slice(from, to)) ?? []
      if (!known.has(name)) faults.push(`${query}: there is no ${name}`)
    },
  })
  return faults
}

const alloy: Check = {
  name: 'logs: LogQL of the documentation and of Alloy, labels with few values',
  counts: 'queries and labels',
  async run() {
    const queries: string[] = []
    for await (const file of new Bun.Glob('docs/**/*.md').scan({ cwd: root }))
      for (const [, query = ''] of (await Bun.file(join(root, file)).text()).matchAll(/`(\{[^`]*\| json[^`]*)`/g))
        queries.push(query)
    const labels: string[] = []
    for (const folder of ['logs', 'compose']) {
      const text = await Bun.file(join(MONITORING, folder, 'config.alloy')).text()
      labels.push(...labelsMade(text))
      for (const [, selector = ''] of text.matchAll(/selector\s*=\s*("(?:[^"\\]|\\.)*")/g))
        queries.push(JSON.parse(selector) as string)
    }
    const unbounded = labels.filter((label) => !LABELS.has(label))
    return outcome(queries.length + labels.length, [
      ...queries.flatMap(logqlFaults),
      ...unbounded.map((label) => `${label} is a label; it belongs into the line`),
    ])
  },
}

const filebeat: Check = {
  name: 'logs: Filebeat’s template has every field that is not a whole number',
  counts: 'fields',
  async run() {
    const numbers = Object.entries(LogLine.properties).flatMap(([name, { type }]) => (type === 'number' ? [name] : []))
    const faults: string[] = []
    for (const folder of ['logs', 'compose']) {
      const config = Bun.YAML.parse(await Bun.file(join(MONITORING, folder, 'filebeat.yaml')).text()) as {
        'setup.template.append_fields': { name: string; type: string }[]
      }
      const fields = config['setup.template.append_fields']
      for (const number of numbers)
        if (!fields.some(({ name, type }) => name === number && type === 'double'))
          faults.push(`${folder}/filebeat.yaml: ${number} is not in setup.template.append_fields as double`)
    }
    return outcome(2 * numbers.length, faults)
  },
}

export const logChecks: readonly Check[] = [alloy, filebeat]
