/** Numbers, times and sizes in words. */

const whole = new Intl.NumberFormat('en')
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const count = (value: number): string => whole.format(value)

/** 12,345 as 12.3K. */
export const inShort = (value: number): string => (Math.abs(value) < 10_000 ? whole.format(value) : short.format(value))

export const counted = (value: number, one: string, several = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : several}`

/** A rate with three digits. */
export const rate = (perSecond: number): string =>
  `${perSecond >= 100 ? inShort(Math.round(perSecond)) : Number(perSecond.toPrecision(3))}/s`

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`
  if (value < 1024 ** 2) return `${Number((value / 1024).toPrecision(3))} KiB`
  return `${Number((value / 1024 ** 2).toPrecision(3))} MiB`
}

/** 87 ms, 1.24 s, 3 min 20 s, 5 h 3 min, 2 d 4 h. */
export function duration(ms: number): string {
  const sign = ms < 0 ? '−' : ''
  const all = Math.abs(ms)
  if (all < 1000) return `${sign}${Math.round(all)} ms`
  if (all < 60_000) return `${sign}${Number((all / 1000).toPrecision(3))} s`
  const seconds = Math.round(all / 1000)
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ]
  const first = parts.findIndex(([value]) => value > 0)
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0)
  return sign + shown.map(([value, unit]) => `${value} ${unit}`).join(' ')
}

const two = (value: number, digits = 2): string => String(value).padStart(digits, '0')

/** In the viewer's zone: the time of day with milliseconds, with the date where that is not today's. */
export function timeOf(iso: string, now = new Date()): string {
  const at = new Date(iso)
  if (Number.isNaN(at.getTime())) return iso
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`
  const isToday = at.toDateString() === now.toDateString()
  return isToday ? clock : `${day} ${clock}`
}
