import type { Area } from './check.ts'
import { openApiChecks } from './clients-openapi.ts'
import { sdkChecks } from './clients-sdks.ts'

/** Checks with other projects' clients. */
export const clients: Area = { name: 'clients', checks: [...sdkChecks, ...openApiChecks] }
