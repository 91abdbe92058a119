/** Known faults of packages, as npm's registry knows them. */
import type { Ran } from '../../shared/dev/run.ts'
import type { Outcome } from './check.ts'

interface Advisory {
  readonly title?: string
  readonly url?: string
  readonly severity?: string
}

/**
 * What `bun audit --json` has found.
 * @param locked how many packages were asked about
 */
export function auditOutcome({ output, errors }: Pick<Ran, 'output' | 'errors'>, locked: number): Outcome {
  const found = advisoriesIn(output)
  if (found === undefined) {
    const reason = /error: (.*)/.exec(errors)?.[1] ?? 'bun audit has printed no result'
    return {
      passed: 0,
      faults: [],
      notChecked: [`${reason}; .github/workflows/security.yml asks the same, and OSV's data`],
    }
  }
  const faults = Object.entries(found).flatMap(([name, advisories]) =>
    advisories.map(({ title, severity, url }) => `${name}: ${title} (${severity}): ${url}`),
  )
  return { passed: Math.max(0, locked - Object.keys(found).length), faults }
}

/** @returns by package; undefined for anything but a result */
function advisoriesIn(output: string): Record<string, readonly Advisory[]> | undefined {
  try {
    const found: unknown = JSON.parse(output)
    return typeof found === 'object' && found !== null && !Array.isArray(found)
      ? (found as Record<string, readonly Advisory[]>)
      : undefined
  } catch {
    return undefined
  }
}
