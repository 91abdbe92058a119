import type { Area } from './check.ts'
import { dashboardChecks } from './monitoring-dashboards.ts'
import { ruleChecks } from './monitoring-rules.ts'

export const monitoring: Area = { name: 'monitoring', checks: [...ruleChecks, ...dashboardChecks] }
