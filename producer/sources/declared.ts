import { type TObject, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { isPointer } from '../../shared/events/json-pointer.ts'
import type { Tenant } from '../../shared/http/tenants.ts'
import { ConfigError } from '../../shared/service/config.ts'
import { schemaFaults } from '../../shared/service/schema-faults.ts'
import type { SourceKind } from './kind.ts'

/** The sources that the tenants file declares, each with its kind. */

/** A sender of webhooks, and the stream that they go to. */
export interface Source {
  name: string
  tenant: Tenant
  stream: string
  kind: SourceKind
  options: Readonly<Record<string, unknown>>
  /** RFC 6901 pointer into the data, to an event's subject; undefined: as the kind has it. */
  subject: string | undefined
}

/** What every declaration has. */
const COMMON = {
  kind: Type.String(),
  stream: Type.String(),
  subject: Type.Optional(Type.String()),
}

/**
 * The declared sources by name.
 * @param kinds the first one of a name counts
 * @param before those from before the tenants were read again: the sources of a tenant that is the same stay the same
 * @throws ConfigError naming every fault of the declarations
 */
export function sourcesOf(
  tenants: readonly Tenant[],
  kinds: readonly SourceKind[],
  before: ReadonlyMap<string, Source> = new Map(),
): ReadonlyMap<string, Source> {
  const known = new Map<string, { kind: SourceKind; schema: TObject }>()
  for (const kind of kinds)
    known.getOrInsertComputed(kind.name, () => ({
      kind,
      schema: Type.Object({ ...COMMON, ...kind.options }, { additionalProperties: false }),
    }))
  const sources = new Map<string, Source>()
  const faults: string[] = []
  for (const tenant of tenants)
    for (const [name, declared] of tenant.sources) {
      const earlier = before.get(name)
      if (earlier?.tenant === tenant) {
        sources.set(name, earlier)
        continue
      }
      const at = `TENANTS_FILE: /tenants/${tenant.name}/sources/${name}`
      const found = known.get(declared.kind)
      if (found === undefined) {
        faults.push(
          `${at}/kind ${JSON.stringify(declared.kind)} is none of ${[...known.keys()].join(', ')}; SOURCES_MODULE adds kinds`,
        )
        continue
      }
      // Defaults, on a copy.
      const declaration = Value.Default(found.schema, structuredClone(declared)) as typeof declared
      for (const fault of schemaFaults(Value.Errors(found.schema, declaration))) faults.push(at + fault)
      const { kind: _, stream, subject, ...options } = declaration
      if (subject !== undefined && !(typeof subject === 'string' && isPointer(subject)))
        faults.push(`${at}/subject is no JSON pointer, such as /repository/full_name`)
      sources.set(name, { name, tenant, stream, kind: found.kind, options, subject: subject as string | undefined })
    }
  if (faults.length > 0) throw new ConfigError(faults)
  return sources
}
