import { Console } from 'node:console'
import { Writable } from 'node:stream'
import type { Logger } from '../../shared/logger.ts'
import type { Redact } from '../../shared/redact.ts'

/** Of a line that a handler prints. */
const MAX_PRINTED_CHARS = 4_096

/**
 * To be called before handlers are loaded, which run in this process. What they print becomes lines of the log, and `process.exit`
 * throws: an event whose handler ends the process would end it again at every start, and all others wait for it.
 */
export function guardProcess(log: Logger, redact: Redact): void {
  const to = (level: 'info' | 'warn') =>
    new Writable({
      decodeStrings: false,
      write(chunk, _, done) {
        const text = String(chunk).slice(0, MAX_PRINTED_CHARS).trimEnd().toWellFormed()
        log[level]({ printed: redact(text) }, 'printed by a handler')
        done()
      },
    })
  const [stdout, stderr] = [to('info'), to('warn')]
  const printing = new Console({ stdout, stderr })
  // Bun's own has `write` beside these.
  const write = (...data: unknown[]): number => {
    printing.log(...data)
    return 0
  }
  Object.assign(globalThis.console, printing, { write })
  process.stdout.write = stdout.write.bind(stdout)
  process.stderr.write = stderr.write.bind(stderr)
  process.exit = () => {
    throw new Error('process.exit() is not for handlers: throw an error, and the others go on')
  }
}
