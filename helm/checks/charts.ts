import type { Area } from './check.ts'

export const charts: Area = { name: 'charts', checks: [] }
