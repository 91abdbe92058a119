import { oneLine } from '../../../shared/service/command-line.ts'
import { paint } from '../../../shared/service/terminal.ts'
import type { Attempt, Data, Failure } from '../view.ts'

/** How things are written in lines and columns. */

export const count = (number: number): string => number.toLocaleString('en')

export const plural = (number: number, one: string): string => `${count(number)} ${one}${number === 1 ? '' : 's'}`

/** Such as `1.5 s`, `3 min 5 s`; with a minus when it is negative. */
export function duration(ms: number): string {
  if (ms < 0) return `−${duration(-ms)}`
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  const seconds = Math.round(ms / 1_000)
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3_600) % 24,
    Math.floor(seconds / 60) % 60,
  ]
  if (days > 0) return `${days} d ${hours} h`
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`
}

const BARS = '▁▂▃▄▅▆▇█'

/** Counts as bars, at most so many: the lowest is none. */
export function sparkline(counts: readonly number[], maxBars: number): string {
  const each = Math.max(1, Math.ceil(counts.length / maxBars))
  const sums = Array.from({ length: Math.ceil(counts.length / each) }, (_, index) =>
    counts.slice(index * each, (index + 1) * each).reduce((sum, one) => sum + one, 0),
  )
  const most = Math.max(1, ...sums)
  return sums.map((sum) => BARS[sum === 0 ? 0 : Math.max(1, Math.round((sum / most) * (BARS.length - 1)))]).join('')
}

export const failure = ({ reason, message }: Pick<Failure | Attempt, 'reason' | 'message'>): string =>
  oneLine(message === '' ? reason : `${reason}: ${message}`)

/** A record's data, in lines. */
export function dataLines(data: Data | undefined): string[] {
  if (data === undefined) return ['no data']
  switch (data.format) {
    case 'json':
      // JSON has some control characters as they are.
      return JSON.stringify(data.json, null, 2).split('\n').map(oneLine)
    case 'text':
      return data.text.split('\n').map(oneLine)
    case 'hex':
      return [data.hex]
    case 'masked':
      return [oneLine(data.detail)]
  }
}

export const indented = (lines: readonly string[]): string[] => lines.map((line) => (line === '' ? '' : `  ${line}`))

/** Pairs of a name and what there is of it, in two columns. */
export function fields(pairs: readonly (readonly [string, string | undefined])[]): string[] {
  const given = pairs.filter((pair): pair is [string, string] => pair[1] !== undefined)
  const width = Math.max(0, ...given.map(([name]) => name.length))
  return given.map(([name, value]) => `${paint('dim', name.padEnd(width))}  ${oneLine(value)}`)
}

const STATE_COLOURS = {
  processed: 'green',
  running: 'green',
  done: 'green',
  dead: 'red',
  failed: 'red',
  open: 'red',
  waiting: 'yellow',
  paused: 'yellow',
} as const

export const state = (word: string): string => {
  const colour = (STATE_COLOURS as Readonly<Record<string, (typeof STATE_COLOURS)[keyof typeof STATE_COLOURS]>>)[word]
  return colour === undefined ? word : paint(colour, word)
}
