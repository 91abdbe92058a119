/** The charts' values.schema.json, from their values and the services' variables; `bun run generate` writes them. */
import { consumerVariables } from '../../consumer/config.ts'
import { consoleVariables } from '../../consumer/console/config.ts'
import { producerVariables } from '../../producer/config.ts'
import { root } from './check.ts'

type Json = Readonly<Record<string, unknown>>

const open: Json = { type: 'object' }
const texts: Json = { type: 'object', additionalProperties: { type: 'string' } }
const count = (minimum: number): Json => ({ type: 'integer', minimum })

/** Types that the default values do not show, by path. */
const known: Readonly<Record<string, Json>> = {
  environment: { enum: ['production', 'staging', 'development'] },
  'image.digest': { type: 'string', pattern: '^(sha256:[0-9a-f]{64})?$' },
  'image.pullPolicy': { enum: ['Always', 'IfNotPresent', 'Never'] },
  replicas: { type: ['integer', 'null'], minimum: 1 },
  'kafka.securityProtocol': { enum: ['plaintext', 'ssl', 'sasl_plaintext', 'sasl_ssl'] },
  'kafka.sasl.mechanism': { enum: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'OAUTHBEARER', 'AWS_MSK_IAM'] },
  'kafka.sasl.values': texts,
  'kafka.tls.values': texts,
  'tenants.values': texts,
  'tls.values': texts,
  'login.values': texts,
  'secretStore.kind': { enum: ['SecretStore', 'ClusterSecretStore'] },
  'topologySpread.zone': { enum: ['ScheduleAnyway', 'DoNotSchedule'] },
  'topologySpread.host': { enum: ['ScheduleAnyway', 'DoNotSchedule'] },
  'referenceTable.fileName': { type: 'string', pattern: '[.](csv|json)$' },
  'handlers.fileName': { type: 'string', pattern: '^[^/]+[.][cm]?[jt]s$' },
  partitions: count(1),
  'hpa.minReplicas': count(1),
  'hpa.maxReplicas': count(1),
  'keda.minReplicas': count(1),
  'keda.maxReplicas': count(1),
  'keda.lagThreshold': count(1),
  'shutdown.preStopSeconds': count(0),
  'networkPolicy.kafka.ports': { type: 'array', minItems: 1, items: { type: 'integer', minimum: 1, maximum: 65_535 } },
  // Shapes of Kubernetes, which its own schemas check in rendered objects.
  resources: open,
  'topics.resources': open,
  'hpa.behavior': open,
  'keda.behavior': open,
  'serviceAccount.annotations': texts,
  'ingress.annotations': texts,
  'probe.labels': texts,
  'serviceMonitor.labels': texts,
  'serviceMonitor.tlsConfig': open,
  podAnnotations: texts,
  podLabels: texts,
  nodeSelector: texts,
  affinity: open,
  'rules.labels': texts,
  'dashboards.labels': texts,
  'topics.partitions': count(1),
  'topics.replication': count(-1),
}

/** Variables that the chart itself sets, and secrets, which belong in Secrets (`extraEnv`). */
const reserved =
  /^(NODE_ENV|LOG_FORMAT|HOST|PORT|REUSE_PORT|OPS_HOST|OPS_PORT|AUTH|TENANTS_FILE|OIDC_CLIENT_SECRET(_FILE)?|SESSION_SECRET(_FILE)?|INSTANCE_ID|QUOTA_REPLICAS|REPLICAS_DNS|TLS_.*|OPS_TLS|KAFKA_.*|AWS_REGION|REFERENCE_TABLE_.*|SCHEMA_REGISTRY_(PASSWORD|TOKEN))$/

/** The variables that `config` takes. */
function configSchema(variables: Readonly<Record<string, object>>): Json {
  const properties = Object.entries(variables)
    .filter(([name]) => !reserved.test(name))
    .map(([name, variable]) => {
      const { default: _, anyOf, ...rest } = JSON.parse(JSON.stringify(variable)) as Record<string, unknown>
      const words = (anyOf as { const: string }[] | undefined)?.map((one) => one.const)
      return [name, words === undefined ? rest : { ...rest, enum: words }]
    })
  return { type: 'object', additionalProperties: false, properties: Object.fromEntries(properties) }
}

/** A strict schema from a default value: the same type, and no unknown properties. */
export function schemaOf(value: unknown, path: string, special: Readonly<Record<string, Json>>): Json {
  const told = special[path]
  if (told !== undefined) return told
  if (Array.isArray(value)) return { type: 'array' }
  if (typeof value === 'number') return { type: 'integer' }
  if (typeof value === 'object' && value !== null)
    return {
      type: 'object',
      additionalProperties: false,
      properties: Object.fromEntries(
        Object.entries(value).map(([name, one]) => [
          name,
          schemaOf(one, path === '' ? name : `${path}.${name}`, special),
        ]),
      ),
    }
  if (value === null || value === undefined) throw new Error(`${path} has no default, and nothing else tells its type`)
  return { type: typeof value }
}

const valuesOf = async (chart: string): Promise<Json> =>
  Bun.YAML.parse(await Bun.file(`${root}/helm/charts/${chart}/values.yaml`).text()) as Json

/** The content of each chart's values.schema.json, by its path in the project. */
export async function schemaFiles(): Promise<Map<string, string>> {
  const ofProducer = await valuesOf('producer')
  const charts: Readonly<Record<string, Readonly<Record<string, Json>>>> = {
    producer: { config: configSchema(producerVariables.properties) },
    consumer: { config: configSchema(consumerVariables.properties) },
    console: { config: configSchema(consoleVariables.properties) },
    // Helm checks the values below a chart's name with that chart's schema.
    kafkatrace: {
      producer: open,
      consumer: open,
      console: open,
      redpanda: open,
      'global.kafka': schemaOf(ofProducer['kafka'], 'kafka', known),
      'global.tenants': schemaOf(ofProducer['tenants'], 'tenants', known),
      'global.environment': known['environment'] ?? {},
    },
  }
  const files = new Map<string, string>()
  for (const [chart, special] of Object.entries(charts)) {
    const folder = `helm/charts/${chart}`
    const values = await valuesOf(chart)
    const { properties, ...strict } = schemaOf(values, '', { ...known, ...special }) as { properties: Json }
    // Helm adds these two, and for a dependency `enabled`, to the values. Below another chart, `global` also has what that has for others.
    const { additionalProperties: _, ...shared } = (properties['global'] ?? open) as Json
    const all = { ...properties, common: open, global: shared, enabled: { type: 'boolean' } }
    const schema = { $schema: 'http://json-schema.org/draft-07/schema#', ...strict, properties: all }
    files.set(`${folder}/values.schema.json`, `${JSON.stringify(schema, undefined, 2)}\n`)
  }
  return files
}
