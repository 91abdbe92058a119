import type { Area } from './check.ts'
import { dashboardChecks } from './monitoring-dashboards.ts'
import { liveChecks } from './monitoring-live.ts'
import { ruleChecks } from './monitoring-rules.ts'

export const monitoring: Area = { name: 'monitoring', checks: [...ruleChecks, ...dashboardChecks, ...liveChecks] }
