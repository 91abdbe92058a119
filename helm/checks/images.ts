import type { Area } from './check.ts'

export const images: Area = { name: 'images and compose', checks: [] }
