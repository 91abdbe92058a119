import type { Area } from './check.ts'
import { dashboardChecks } from './monitoring-dashboards.ts'
import { faultChecks } from './monitoring-faults.ts'
import { liveChecks } from './monitoring-live.ts'
import { logChecks } from './monitoring-logs.ts'
import { ruleChecks } from './monitoring-rules.ts'

export const monitoring: Area = {
  name: 'monitoring',
  checks: [...ruleChecks, ...dashboardChecks, ...logChecks, ...liveChecks, ...faultChecks],
}
