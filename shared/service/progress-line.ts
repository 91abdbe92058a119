import { isTerminal } from './terminal.ts'

/** How often a line is written: over the last one on a terminal, elsewhere below it. */
const PERIOD_MS = { terminal: 200, other: 10_000 }

export interface ProgressLine {
  /** @param detail is put behind the rate */
  at(done: number, detail?: string): void
  end(): void
}

/**
 * Says on standard error how far a command is, how fast it goes and how long it will take.
 * @param command the line's first word
 * @param unit what is counted, such as "offsets read"
 */
export function progressLine(command: string, unit: string, total: number): ProgressLine {
  const terminal = isTerminal()
  const begunMs = performance.now()
  let now = { done: 0, detail: '' }
  let told = false
  const number = (of: number): string => Math.round(of).toLocaleString('en')
  const tell = (): void => {
    const { done, detail } = now
    const seconds = (performance.now() - begunMs) / 1_000
    const left = done === 0 ? '' : `, ${number(Math.ceil((seconds * Math.max(0, total - done)) / done))} s left`
    const line = `${command}: ${number(done)} of ${number(total)} ${unit}, ${number(done / seconds)}/s${detail}${left}`
    process.stderr.write(terminal ? `\r\x1b[2K${line}` : `${line}\n`)
    told = true
  }
  const timer = setInterval(tell, terminal ? PERIOD_MS.terminal : PERIOD_MS.other)
  return {
    at(done, detail = '') {
      now = { done, detail }
    },
    end() {
      clearInterval(timer)
      if (terminal && told) process.stderr.write('\r\x1b[2K')
    },
  }
}
