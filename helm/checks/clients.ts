import type { Area } from './check.ts'
import { jsonSchemaSuite } from './clients-json-schema.ts'
import { openApiChecks } from './clients-openapi.ts'
import { sdkChecks } from './clients-sdks.ts'

/** Checks with other projects' clients and tests. */
export const clients: Area = { name: 'clients', checks: [...sdkChecks, ...openApiChecks, jsonSchemaSuite] }
