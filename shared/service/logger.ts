import { writeSync } from 'node:fs'
import pino, { type Logger } from 'pino'
import { PinoPretty as pretty } from 'pino-pretty'

export type { Logger } from 'pino'

/**
 * One JSON object a line on standard output; readable lines on a terminal. Payloads, record keys and credentials are never logged: callers
 * pass ids and figures only, and the usual places of credentials are redacted all the same.
 * @param service the `service` field of every line
 */
export function createLogger(
  service: string,
  config: { LOG_LEVEL: string; LOG_FORMAT: 'auto' | 'json' | 'pretty' },
): Logger {
  const readable = config.LOG_FORMAT === 'pretty' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY === true)
  return pino(
    {
      level: config.LOG_LEVEL,
      base: { service, pid: process.pid },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: ['authorization', 'headers.authorization', 'headers["x-api-key"]', 'password'],
        censor: '(redacted)',
      },
    },
    // Every line is written at once, and in the background. With a minimum of 0, flush() would not wait for the line that is being written, and
    // the last one before the end of a process would be lost.
    readable ? prettyStream() : pino.destination({ fd: 1, sync: false, minLength: 1, maxLength: MAX_WAITING_CHARS }),
  )
}

/** While nobody reads the output, so much waits in memory; what does not fit is dropped. */
const MAX_WAITING_CHARS = 16 * 2 ** 20

/** Lines a second. */
const MAX_TENANT_LINES = 100

/**
 * Of what a tenant is to blame for, so many lines a second are logged, and the rest only at debug level: none may fill the log, or keep others out of it. Metrics count
 * all.
 */
export class TenantLines {
  readonly #counts = new Map<string, number>()
  #second = 0

  /** @param tenant undefined: nobody's */
  level<Wanted extends 'info' | 'warn' | 'error'>(tenant: string | undefined, wanted: Wanted): Wanted | 'debug' {
    const second = Math.floor(performance.now() / 1_000)
    if (second !== this.#second) this.#counts.clear()
    this.#second = second
    const count = (this.#counts.get(tenant ?? '') ?? 0) + 1
    this.#counts.set(tenant ?? '', count)
    return count <= MAX_TENANT_LINES ? wanted : 'debug'
  }
}

/** What pino's destination has beside its interface (sonic-boom 4). */
interface Destination {
  fd?: number
  /** A write in the background is under way. */
  _writing?: boolean
  /** What is left of it. */
  _writingBuf?: string | Buffer
  flushSync?(): void
}

/**
 * Writes what has been logged and is not written yet, by this thread alone: the last thing before the end of a process, when waiting for the
 * write in the background was in vain. What that one may yet write is written twice. Blocks while nobody reads the output.
 */
export function writeRest(log: Logger): void {
  const destination = (log as unknown as Record<symbol, Destination>)[pino.symbols.streamSym] ?? {}
  const { fd, _writing, _writingBuf = '' } = destination
  if (fd !== undefined && _writing === true && _writingBuf.length > 0) writeSync(fd, String(_writingBuf))
  destination.flushSync?.()
}

// pino's transports run in a worker thread; written to directly, the same formatter needs none.
const prettyStream = () =>
  pretty({
    colorize: process.stdout.isTTY === true && Bun.env.NO_COLOR === undefined,
    ignore: 'pid,service',
    sync: true,
  })
