import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { type Logger, TenantLines } from '../../shared/service/logger.ts'
import type { Redact } from '../../shared/service/redact.ts'

/** The most that is logged of a line that a handler prints. */
const MAX_PRINTED_CHARS = 4_096
/** A UTF-16 code unit takes at most three bytes in UTF-8. */
const MAX_PRINTED_BYTES = 3 * MAX_PRINTED_CHARS

/**
 * To be called before handlers are loaded, which run in this process. What they print is logged. `process.exit` throws: an event whose handler exits
 * would end the process again at each start, and block all other events.
 */
export function guardProcess(log: Logger, redact: Redact): void {
  const lines = new TenantLines()
  const to = (level: 'info' | 'warn') =>
    new Writable({
      decodeStrings: false,
      write(chunk: string | Buffer, _, done) {
        // Cut before it is decoded, since it may be of any size.
        const start = typeof chunk === 'string' ? chunk : chunk.toString('utf8', 0, MAX_PRINTED_BYTES)
        const text = start.slice(0, MAX_PRINTED_CHARS).trimEnd().toWellFormed()
        log[lines.level(undefined, level)]({ printed: redact(text) }, 'handler output')
        done()
      },
    })
  const [stdout, stderr] = [to('info'), to('warn')]
  const printing = new Console({ stdout, stderr })
  // Bun's console also has `write`.
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
