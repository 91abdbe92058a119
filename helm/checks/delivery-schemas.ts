import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { moduleFolder } from './tools.ts'

/** The modules of the controllers that define helm/gitops's custom resources, verified by Go's checksum database. */
const modules = [
  { module: 'github.com/argoproj/argo-cd/v3', version: 'v3.5.7', crds: 'manifests/crds' },
  { module: 'github.com/fluxcd/helm-controller', version: 'v1.6.1', crds: 'config/crd/bases' },
  { module: 'github.com/fluxcd/source-controller', version: 'v1.9.0', crds: 'config/crd/bases' },
  { module: 'github.com/fluxcd/kustomize-controller', version: 'v1.9.0', crds: 'config/crd/bases' },
] as const

interface CustomResourceDefinition {
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string }
    readonly versions: readonly { readonly name: string; readonly schema: { readonly openAPIV3Schema: Schema } }[]
  }
}

export interface Schema {
  readonly [keyword: string]: unknown
}

/** The only core kind in helm/gitops. No module has its schema separately. */
const namespaceSchema: Schema = {
  type: 'object',
  required: ['apiVersion', 'kind', 'metadata'],
  additionalProperties: false,
  properties: {
    apiVersion: { const: 'v1' },
    kind: { const: 'Namespace' },
    metadata: {
      type: 'object',
      required: ['name'],
      additionalProperties: false,
      properties: { name: { type: 'string' }, labels: { type: 'object', additionalProperties: { type: 'string' } } },
    },
  },
}

/**
 * Writes JSON schemas for kubeconform into a folder.
 * @returns its --schema-location, a template
 */
export async function writeSchemas(folder: string, say: (progress: string) => void): Promise<string> {
  const write = async (group: string, kind: string, version: string, schema: Schema): Promise<void> => {
    await mkdir(join(folder, group), { recursive: true })
    await Bun.write(join(folder, group, `${kind.toLowerCase()}_${version}.json`), JSON.stringify(schema))
  }
  // kubeconform names the core group by its version.
  await write('v1', 'Namespace', 'v1', namespaceSchema)
  for (const file of await controllerDefinitionFiles(say)) {
    const definition = Bun.YAML.parse(await Bun.file(file).text()) as CustomResourceDefinition
    for (const { name, schema } of definition.spec.versions)
      await write(definition.spec.group, definition.spec.names.kind, name, strict(schema.openAPIV3Schema))
  }
  return join(folder, '{{ .Group }}', '{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json')
}

/** The files of the controllers' definitions, in Go's cache. @throws UnavailableError when they cannot be downloaded */
export async function controllerDefinitionFiles(say: (progress: string) => void): Promise<string[]> {
  const files: string[] = []
  for (const { module, version, crds } of modules) {
    say(`${module}@${version}`)
    const folder = join(await moduleFolder(`${module}@${version}`), crds)
    // Others are lists of these.
    for await (const file of new Bun.Glob('*.yaml').scan(folder))
      if (/^kind: CustomResourceDefinition$/m.test(await Bun.file(join(folder, file)).text()))
        files.push(join(folder, file))
  }
  return files
}

/** A cluster drops unknown fields, including misspelt ones. Here they are faults. */
export function strict(schema: Schema): Schema {
  const { properties, ...rest } = schema
  const mapped = Object.fromEntries(
    Object.entries(rest).map(([keyword, value]) => [keyword, nested.has(keyword) ? strictIn(value) : value]),
  )
  if (properties === undefined) return mapped
  return {
    ...(schema['x-kubernetes-preserve-unknown-fields'] !== true &&
      schema['additionalProperties'] === undefined && { additionalProperties: false }),
    ...mapped,
    properties: Object.fromEntries(
      Object.entries(properties as Record<string, Schema>).map(([name, property]) => [name, strict(property)]),
    ),
  }
}

/** Keywords that contain schemas. Those in anyOf and the like only add fields, and stay open. */
const nested = new Set(['items', 'additionalProperties'])

const strictIn = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? strict(value as Schema) : value
