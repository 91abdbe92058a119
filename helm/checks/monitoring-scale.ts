import type { RuleFile } from './monitoring-rules.ts'

/** Shortens rules so that a run takes minutes and not days: the same expressions with shorter windows. */

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }
const KNEE_SECONDS = 900

const secondsOf = (duration: string): number => Number.parseInt(duration, 10) * (UNIT_SECONDS[duration.slice(-1)] ?? 0)

/** So many times shorter up to 15 minutes; above that, three seconds more for each doubling, so that longer durations stay longer. */
function shortened(duration: string, times: number): number {
  const seconds = secondsOf(duration)
  if (seconds <= KNEE_SECONDS) return seconds / times
  return KNEE_SECONDS / times + 3 * Math.log2(seconds / KNEE_SECONDS)
}

/** Of a window: a thirtieth, above 15 minutes less. */
export const scaledWindowSeconds = (duration: string): number => Math.round(shortened(duration, 30))

/** How long a condition must hold: a sixtieth, above 15 minutes less. */
export const scaledForSeconds = (duration: string): number => Math.ceil(shortened(duration, 60))

/** Shortens every range and offset in a query. */
export const scaledExpr = (expr: string): string =>
  expr.replaceAll(
    /(\[|\boffset )(\d+[smhd])\b/g,
    (_, before: string, window: string) => `${before}${scaledWindowSeconds(window)}s`,
  )

export function scaledRules({ groups }: RuleFile): RuleFile {
  return {
    groups: groups.map((group) => ({
      ...group,
      rules: group.rules.map((rule) => ({
        ...rule,
        expr: scaledExpr(rule.expr),
        ...(rule.for === undefined ? {} : { for: `${scaledForSeconds(rule.for)}s` }),
      })),
    })),
  }
}
