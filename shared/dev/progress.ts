/** Progress of long steps: on a terminal one line that counts seconds, elsewhere a line at start and end. */
import { isTerminal, paint } from '../service/terminal.ts'

const refreshMs = 200
const reminderMs = 20_000

export const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(1)} s`

/** Prints a line for each result, and "N passed, N failed". @returns the exit code of the command */
export function summarise(results: readonly { title: string; ok: boolean; text: string }[]): number {
  console.log()
  const width = Math.max(...results.map(({ title }) => title.length))
  for (const { title, ok, text } of results)
    console.log(`${ok ? 'ok    ' : paint('red', 'FAILED')}  ${title.padEnd(width)}  ${text}`)
  const failed = results.filter(({ ok }) => !ok).length
  console.log(`\n${results.length - failed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

/** The steps that run, each by what its line on a terminal says. */
const running = new Set<() => string>()

/** The one line of all steps that run, cut to the terminal's width. */
function draw(): void {
  const line = [...running].map((text) => text()).join('  |  ')
  process.stderr.write(`\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}`)
}

/** Runs the work under a title, also beside others. The work may report its progress. Prints to stderr, so that output can be piped. */
export async function step<Result>(
  title: string,
  work: (say: (progress: string) => void) => Promise<Result>,
): Promise<Result> {
  const beganMs = performance.now()
  const elapsed = () => seconds(performance.now() - beganMs)
  const terminal = isTerminal()
  let at = ''
  const text = () => `${title}${at && `: ${at}`} … ${elapsed()}`
  running.add(text)
  const timer = setInterval(terminal ? draw : () => console.error(text()), terminal ? refreshMs : reminderMs)
  const end = (result: string) => {
    clearInterval(timer)
    running.delete(text)
    console.error(`${terminal ? '\r\x1b[2K' : ''}${title}: ${result}, ${elapsed()}`)
  }
  try {
    const result = await work((progress) => {
      at = progress
      if (terminal) draw()
      else console.error(`${title}: ${progress}`)
    })
    end('done')
    return result
  } catch (error) {
    end('failed')
    throw error
  }
}
