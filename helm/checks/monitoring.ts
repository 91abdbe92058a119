import type { Area } from './check.ts'

export const monitoring: Area = { name: 'monitoring', checks: [] }
