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
