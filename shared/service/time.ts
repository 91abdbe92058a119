let lastMs = Number.NaN
let lastText = ''

/** RFC 3339, UTC, with milliseconds. Caches the last value, since many events share it. @param ms since the epoch */
export function isoTime(ms: number): string {
  if (ms !== lastMs) {
    lastText = new Date(ms).toISOString()
    lastMs = ms
  }
  return lastText
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Of a duration such as `90s`, `15m`, `2h` or `1d`, ms; undefined where it is none. */
export function durationMs(text: string): number | undefined {
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  return count === undefined ? undefined : Number(count) * (UNIT_MS[unit] as number)
}
