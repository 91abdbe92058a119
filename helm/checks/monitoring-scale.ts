import type { RuleFile } from './monitoring-rules.ts'

/** Rules for a run of minutes in place of days: the same expressions with shorter windows. */

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }
const KNEE_SECONDS = 900

const secondsOf = (duration: string): number => Number.parseInt(duration, 10) * (UNIT_SECONDS[duration.slice(-1)] ?? 0)

/** A thirtieth up to a quarter of an hour; three seconds more with every doubling from there, so that longer windows stay longer. */
export function scaledWindowSeconds(duration: string): number {
  const seconds = secondsOf(duration)
  if (seconds <= KNEE_SECONDS) return Math.round(seconds / 30)
  return Math.round(KNEE_SECONDS / 30 + 3 * Math.log2(seconds / KNEE_SECONDS))
}

/** How long a condition has to hold: a sixtieth. */
export const scaledForSeconds = (duration: string): number => Math.ceil(secondsOf(duration) / 60)

/** Shortens every range and offset of a query, and nothing else. */
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
