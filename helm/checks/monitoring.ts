import type { Area } from './check.ts'
import { ruleChecks } from './monitoring-rules.ts'

export const monitoring: Area = { name: 'monitoring', checks: [...ruleChecks] }
