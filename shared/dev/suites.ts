/** Which suite a test file belongs to, and the results of a run. */
import { seconds } from './progress.ts'

export type SuiteName = 'unit' | 'integration' | 'e2e'

export function suiteOf(file: string): SuiteName {
  if (file.endsWith('.e2e.test.ts')) return 'e2e'
  if (file.endsWith('.integration.test.ts')) return 'integration'
  return 'unit'
}

/** Files by suite, sorted. */
export function sortBySuite(files: readonly string[]): Record<SuiteName, string[]> {
  const suites: Record<SuiteName, string[]> = { unit: [], integration: [], e2e: [] }
  for (const file of [...files].sort()) suites[suiteOf(file)].push(file)
  return suites
}

/**
 * How long a suite would have taken alone on the machine: the cores' time that it used, or that nobody used.
 * @param ownMs CPU time of its processes
 * @param idleMs of all cores together, meanwhile
 */
export const undisturbedMs = (elapsedMs: number, ownMs: number, idleMs: number, cores: number): number =>
  Math.min(elapsedMs, (ownMs + idleMs) / cores)

/** What is said of a suite that took longer than its limit, which is a fault only where CI is set: elsewhere the machine may be slow or busy. */
export function slowness(elapsedMs: number, limitMs: number, isCi: boolean): string | undefined {
  if (elapsedMs <= limitMs) return undefined
  return isCi ? `took more than ${seconds(limitMs)}` : `slower than ${seconds(limitMs)}; fails in CI only`
}

export interface TestCounts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** Reads the totals of `bun test`'s JUnit report. An empty or broken report counts as no tests. */
export function counted(junit: string): TestCounts {
  const head = /<testsuites\b[^>]*>/.exec(junit)?.[0] ?? ''
  const attribute = (name: string) => Number(new RegExp(`\\s${name}="(\\d+)"`).exec(head)?.[1] ?? 0)
  const failed = attribute('failures') + attribute('errors')
  const skipped = attribute('skipped')
  return { passed: Math.max(0, attribute('tests') - failed - skipped), failed, skipped }
}

const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", '#10': '\n' }

/** The value of an XML attribute; empty when it is missing. */
const attributeOf = (attributes: string, name: string): string =>
  (new RegExp(`\\s${name}="([^"]*)"`).exec(attributes)?.[1] ?? '').replace(
    /&(#?\w+);/g,
    (whole, entity: string) => entities[entity] ?? whole,
  )

/** The failed tests of a JUnit report, each as `file:line name: why`, in order. */
export function failedTests(junit: string): string[] {
  const cases = junit.matchAll(/<testcase\b([^>]*[^/])>\s*<(?:failure|error)\b([^>]*)>/g)
  return [...cases].map(([, test = '', failure = '']) => {
    const why = attributeOf(failure, 'message').replace(/\s+/g, ' ').trim()
    return `${attributeOf(test, 'file')}:${attributeOf(test, 'line')} ${attributeOf(test, 'name')}: ${why}`
  })
}

/** The names of the skipped tests of a JUnit report, in order. */
export function skippedTests(junit: string): string[] {
  const cases = junit.matchAll(/<testcase\b([^>]*[^/])>\s*<skipped\b/g)
  return [...cases].map(([, test = '']) => attributeOf(test, 'name'))
}
