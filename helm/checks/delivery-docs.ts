import type { Check } from './check.ts'
export const docsChecks: readonly Check[] = []
