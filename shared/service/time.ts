let lastMs = Number.NaN
let lastText = ''

/** RFC 3339, UTC, milliseconds. Many events share one, so that the last one is kept. @param ms since the epoch */
export function isoTime(ms: number): string {
  if (ms !== lastMs) {
    lastText = new Date(ms).toISOString()
    lastMs = ms
  }
  return lastText
}
