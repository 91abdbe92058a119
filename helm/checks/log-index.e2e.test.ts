import { expect, test } from 'bun:test'
import { join } from 'node:path'
import type { TSchema } from '@sinclair/typebox'
import { findFreePorts } from '../../shared/dev/brokers/ports.ts'
import { LogLine } from '../../shared/service/log-schema.ts'
import { root } from './check.ts'
import { startHealthy } from './healthy.ts'
import { provideJava } from './java.ts'

/**
 * The fields that the services log, in an index with Filebeat's template and what our configurations add to it. OpenSearch stands in for Elasticsearch, from
 * which it comes. Filebeat itself does not run here: the template is written as its documentation says.
 */

const TIMEOUT_MS = 600_000
const CALL_TIMEOUT_MS = 20_000

/** The types that ECS gives its fields in Elasticsearch. */
const ECS_TYPES: Readonly<Record<string, string>> = {
  '@timestamp': 'date',
  'log.level': 'keyword',
  message: 'match_only_text',
  'ecs.version': 'keyword',
  'service.name': 'keyword',
  'process.pid': 'long',
  'trace.id': 'keyword',
  'span.id': 'keyword',
  'http.request.id': 'keyword',
  'http.response.status_code': 'long',
  'client.address': 'keyword',
  'event.reason': 'keyword',
  'error.message': 'match_only_text',
  'error.type': 'keyword',
  'error.code': 'keyword',
  'error.stack_trace': 'wildcard',
}

interface Field {
  name: string
  /** That our own fields are to have. */
  type: string
  /** In the order in which they arrive. */
  values: readonly unknown[]
}

/** @returns the schema's fields, and those inside of objects one by one */
function fieldsOf(schema: TSchema, prefix = ''): Field[] {
  return Object.entries(schema['properties'] as Record<string, TSchema>).flatMap(([short, of]): Field[] => {
    const name = `${prefix}${short}`
    const kinds = new Set(((of['anyOf'] as TSchema[] | undefined) ?? [of]).map((one) => String(one['type'])))
    if (kinds.has('object')) return fieldsOf(of, `${name}.`)
    if (name === '@timestamp') return [{ name, type: 'date', values: ['2026-11-30T10:00:00.123Z'] }]
    if (kinds.has('string'))
      return [{ name, type: 'keyword', values: kinds.has('array') ? ['one', ['two', 'three']] : ['one'] }]
    if (kinds.has('boolean')) return [{ name, type: 'boolean', values: [true] }]
    // The whole number before the other.
    if (kinds.has('number')) return [{ name, type: 'double', values: [2, 1.5] }]
    if (kinds.has('integer')) return [{ name, type: 'long', values: [7] }]
    expect({ name, items: (of['items'] as TSchema)['type'] as string }).toEqual({ name, items: 'integer' })
    return [{ name, type: 'long', values: [[7, 8]] }]
  })
}

/** `{'a.b': 1}` as `{a: {b: 1}}`, as Filebeat expands keys. @param between also stands between them, as in a mapping */
function expanded(fields: Readonly<Record<string, unknown>>, between: readonly string[] = []): Record<string, unknown> {
  const whole: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    const path = name.split('.').flatMap((part, index) => (index === 0 ? [part] : [...between, part]))
    let at = whole
    for (const part of path.slice(0, -1)) {
      at[part] ??= {}
      at = at[part] as Record<string, unknown>
    }
    at[path.at(-1) ?? ''] = value
  }
  return whole
}

/** What a configuration of Filebeat adds to its template, by field. */
async function appendedBy(folder: string): Promise<Record<string, string>> {
  const config = Bun.YAML.parse(await Bun.file(join(root, `helm/monitoring/${folder}/filebeat.yaml`)).text()) as {
    'setup.template.append_fields': { name: string; type: string }[]
  }
  return Object.fromEntries(config['setup.template.append_fields'].map(({ name, type }) => [name, type]))
}

test(
  'an index with Filebeat’s template takes every field that the services log, as the type that it is',
  async () => {
    const fields = fieldsOf(LogLine)
    const ofEcs = fields.filter(({ name }) => !name.startsWith('kafkatrace.'))
    expect(new Set(ofEcs.map(({ name }) => name))).toEqual(new Set(Object.keys(ECS_TYPES)))
    const appended = await appendedBy('logs')
    expect(await appendedBy('compose')).toEqual(appended)
    const types = Object.entries({ ...ECS_TYPES, ...appended }).map(([name, type]) => [name, { type }] as const)

    const [port = 0] = await findFreePorts(1)
    const url = `http://127.0.0.1:${port}`
    const program = await provideJava(
      join(root, 'helm/checks/opensearch'),
      'OpenSearchNode',
      ['-Xmx512m'],
      () => undefined,
    )
    const node = await startHealthy([...program, '.', String(port)], url)
    const ask = async <T>(path: string, body?: string, method = 'POST'): Promise<T> => {
      const options = { headers: { 'content-type': 'application/json' }, signal: AbortSignal.timeout(CALL_TIMEOUT_MS) }
      const answer = await fetch(url + path, body === undefined ? options : { ...options, method, body })
      if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`)
      return (await answer.json()) as T
    }
    try {
      const template = {
        index_patterns: ['filebeat-*'],
        template: {
          settings: { number_of_replicas: 0 },
          mappings: {
            date_detection: false,
            dynamic_templates: [
              { text: { match_mapping_type: 'string', mapping: { type: 'keyword', ignore_above: 1_024 } } },
            ],
            properties: expanded(Object.fromEntries(types), ['properties']),
          },
        },
      }
      await ask('/_index_template/filebeat', JSON.stringify(template), 'PUT')
      for (const arrival of [0, 1]) {
        const values = fields.map(({ name, values }) => [name, values[Math.min(arrival, values.length - 1)]] as const)
        await ask('/filebeat-9/_doc?refresh=true', JSON.stringify(expanded(Object.fromEntries(values))))
      }

      const mapped = await ask<{ 'filebeat-9': { mappings: Record<string, { mapping: object }> } }>(
        '/filebeat-9/_mapping/field/*',
      )
      const found = Object.entries(mapped['filebeat-9'].mappings).map(([name, { mapping }]) => [
        name,
        (Object.values(mapping)[0] as { type?: string } | undefined)?.type,
      ])
      // Objects and the index's own fields have no such type.
      expect(Object.fromEntries(found.filter(([name, type]) => type !== undefined && !name?.startsWith('_')))).toEqual(
        Object.fromEntries(fields.map(({ name, type }) => [name, ECS_TYPES[name] ?? type])),
      )
      for (const { name, values } of fields)
        for (const value of values.flat()) {
          const query = JSON.stringify({ query: { match: { [name]: value } } })
          const { hits } = await ask<{ hits: { total: { value: number } } }>('/filebeat-9/_search', query)
          expect({ name, value, found: hits.total.value > 0 }).toEqual({ name, value, found: true })
        }
    } finally {
      await node.end()
    }
  },
  TIMEOUT_MS,
)
