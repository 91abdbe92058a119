import type { Tenant } from '../shared/http/tenants.ts'
import { createRegistry } from '../shared/schemas/registry.ts'
import { FolderStore, RegistryStore, type SchemaStore, subjectNames } from '../shared/schemas/store.ts'
import { ConfigError } from '../shared/service/config.ts'
import type { Logger } from '../shared/service/logger.ts'
import type { ProducerConfig } from './config.ts'

/**
 * Where the schemas of the tenants' streams come from; undefined where no stream has any.
 * @throws ConfigError
 */
export function schemaStoreOf(
  config: ProducerConfig,
  tenants: readonly Tenant[],
  log: Pick<Logger, 'info' | 'warn'>,
): SchemaStore | undefined {
  const { SCHEMAS_DIR, SCHEMA_SUBJECT, SCHEMA_REGISTRY_URL, SCHEMA_REGISTRY_REFRESH_MS } = config
  const streams = tenants.flatMap(({ name, schemas }) =>
    [...schemas.keys()].map((stream) => ({ tenant: name, stream })),
  )
  if (streams.length === 0) {
    if (SCHEMAS_DIR !== undefined || SCHEMA_REGISTRY_URL !== undefined)
      log.warn('no stream names `schemas` in TENANTS_FILE: no event is checked by a schema')
    return undefined
  }
  if (SCHEMAS_DIR !== undefined) return new FolderStore(SCHEMAS_DIR, log)
  if (SCHEMA_REGISTRY_URL === undefined)
    throw new ConfigError([
      'TENANTS_FILE names `schemas` of streams, and neither SCHEMAS_DIR nor SCHEMA_REGISTRY_URL is set.',
    ])
  const mine = streams.map(({ tenant, stream }) => {
    const [before = '', after = ''] = subjectNames(SCHEMA_SUBJECT, tenant, stream)('\0').split('\0')
    return { before, after }
  })
  const isOurs = (subject: string): boolean =>
    mine.some(({ before, after }) => subject.startsWith(before) && subject.endsWith(after))
  return new RegistryStore(createRegistry(config), isOurs, log, SCHEMA_REGISTRY_REFRESH_MS)
}
