import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from './charts-render.ts'
import { moduleFolder } from './tools.ts'

/** The operators' own definitions of their kinds, from the Go modules in which they are released. */
const definitions = [
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    files: ['servicemonitors', 'probes', 'prometheusrules'].map(
      (kind) => `example/prometheus-operator-crd/monitoring.coreos.com_${kind}.yaml`,
    ),
  },
  {
    module: 'github.com/kedacore/keda/v2@v2.21.0',
    files: ['scaledobjects', 'triggerauthentications'].map((kind) => `config/crd/bases/keda.sh_${kind}.yaml`),
  },
  {
    module: 'github.com/external-secrets/external-secrets@v1.3.2',
    files: ['config/crds/bases/external-secrets.io_externalsecrets.yaml'],
  },
  {
    module: 'sigs.k8s.io/gateway-api@v1.6.3',
    files: ['config/crd/standard/gateway.networking.k8s.io_httproutes.yaml'],
  },
] as const

/** A schema that rejects unknown properties, as the API server's strict field validation does. */
export function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict)
  if (typeof schema !== 'object' || schema === null) return schema
  const all = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, strict(value)]))
  const closed =
    typeof all['properties'] === 'object' &&
    all['type'] === 'object' &&
    !('additionalProperties' in all) &&
    all['x-kubernetes-preserve-unknown-fields'] !== true
  return closed ? { ...all, additionalProperties: false } : all
}

/** The files of the operators' definitions, in Go's cache. @throws UnavailableError when they cannot be downloaded */
export async function definitionFiles(): Promise<string[]> {
  const downloaded = await Promise.all(
    definitions.map(async ({ module, files }) => {
      const folder = await moduleFolder(module)
      return files.map((file) => join(folder, file))
    }),
  )
  return downloaded.flat()
}

/** Runs `work` with a folder of JSON schemas, with the file names that kubeconform expects. */
export async function withDefinitions<T>(work: (location: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'kafkatrace-crds-'))
  try {
    for (const file of await definitionFiles()) {
      const definition = Bun.YAML.parse(await Bun.file(file).text()) as Manifest
      for (const { name, schema } of definition.spec.versions) {
        const whole = strict(schema.openAPIV3Schema) as { properties: object }
        const path = `${definition.spec.names.kind.toLowerCase()}-${definition.spec.group}-${name}.json`
        await Bun.write(
          join(folder, path),
          JSON.stringify({ ...whole, properties: { ...whole.properties, metadata: { type: 'object' } } }),
        )
      }
    }
    return await work(`${folder}/{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
