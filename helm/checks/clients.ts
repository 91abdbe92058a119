import type { Area } from './check.ts'
import { openApiChecks } from './clients-openapi.ts'
import { sdkChecks } from './clients-sdks.ts'

/** What clients that are not ours make of the service. */
export const clients: Area = { name: 'clients', checks: [...sdkChecks, ...openApiChecks] }
