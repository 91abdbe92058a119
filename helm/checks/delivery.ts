import type { Area } from './check.ts'

export const delivery: Area = { name: 'delivery', checks: [] }
