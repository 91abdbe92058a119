import { writeSync } from 'node:fs'
import pino, { type Logger } from 'pino'
import { PinoPretty as pretty } from 'pino-pretty'
import { lineName, lineValue } from './log-schema.ts'
import { messageOf } from './thrown.ts'

export type { Logger } from 'pino'

/** Of the Elastic Common Schema; all fields that are used are older. */
const ECS_VERSION = '9.0.0'

/**
 * Logs JSON lines on standard output, with the fields of log-schema.ts, or readable ones on a terminal. Payloads, record keys and credentials are never logged: callers pass only ids and figures,
 * and the usual places of credentials are redacted as well.
 * @param service `producer`: the lines name `kafkatrace-producer`
 */
export function createLogger(
  service: string,
  config: { LOG_LEVEL: string; LOG_FORMAT: 'auto' | 'json' | 'pretty' },
): Logger {
  const readable = config.LOG_FORMAT === 'pretty' || (config.LOG_FORMAT === 'auto' && process.stdout.isTTY === true)
  if (readable)
    return pino(
      {
        level: config.LOG_LEVEL,
        formatters: { level: (label) => ({ level: label }) },
        base: null,
        timestamp: pino.stdTimeFunctions.isoTime,
        redact: { paths: SECRETS, censor: '(redacted)' },
      },
      prettyStream(),
    )
  return pino(
    {
      level: config.LOG_LEVEL,
      base: { 'ecs.version': ECS_VERSION, 'service.name': `kafkatrace-${service}`, 'process.pid': process.pid },
      messageKey: 'message',
      formatters: { level: (label) => ({ 'log.level': label }), log: named },
      timestamp: () => `,"@timestamp":"${new Date().toISOString()}"`,
      redact: {
        paths: SECRETS.map((path) => path.replace(/^\w+/, (name) => `["${lineName(name)}"]`)),
        censor: '(redacted)',
      },
    },
    // Lines are written in the background. With a minLength of 0, flush() would not wait for the line being written, and a process would lose its last one.
    pino.destination({ fd: 1, sync: false, minLength: 1, maxLength: MAX_WAITING_CHARS }),
  )
}

/** Where credentials usually stand. */
const SECRETS = ['authorization', 'headers.authorization', 'headers["x-api-key"]', 'password']

/** What is logged, by its names in a line. */
function named(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const line: Record<string, unknown> = {}
  for (const name in given) {
    const value = given[name]
    if (value === undefined) continue
    if (name === 'err') Object.assign(line, errorIn(value))
    else line[lineName(name)] = lineValue(name, value)
  }
  return line
}

function errorIn(thrown: unknown): Record<string, unknown> {
  // With the messages and places of its causes.
  const { type, message, stack, code } = pino.stdSerializers.err(thrown as Error) as Partial<Record<string, unknown>>
  return {
    [lineName('errorType')]: type,
    [lineName('message')]: message ?? messageOf(thrown),
    [lineName('stack')]: stack,
    ...(code !== undefined && { [lineName('code')]: String(code) }),
  }
}

/** How much waits in memory while nobody reads the output; more is dropped. */
const MAX_WAITING_CHARS = 16 * 2 ** 20

/** Lines a second. */
const MAX_TENANT_LINES = 100

/** Limits the lines a second that a tenant causes, so that none can fill the log; further ones are at debug level. Metrics count all. */
export class TenantLines {
  readonly #counts = new Map<string, number>()
  #second = 0

  /** @param tenant undefined: of no tenant */
  level<Wanted extends 'info' | 'warn' | 'error'>(tenant: string | undefined, wanted: Wanted): Wanted | 'debug' {
    const second = Math.floor(performance.now() / 1_000)
    if (second !== this.#second) this.#counts.clear()
    this.#second = second
    const count = (this.#counts.get(tenant ?? '') ?? 0) + 1
    this.#counts.set(tenant ?? '', count)
    return count <= MAX_TENANT_LINES ? wanted : 'debug'
  }
}

/** Internals of pino's destination (sonic-boom 4). */
interface Destination {
  fd?: number
  /** A write in the background is under way. */
  _writing?: boolean
  /** What that write has left. */
  _writingBuf?: string | Buffer
  flushSync?(): void
}

/**
 * Writes the lines that are not written yet, synchronously: for the end of a process, when the write in the background has not finished in time. That one may
 * still write the same bytes again. Blocks while nobody reads the output.
 */
export function writeRest(log: Logger): void {
  const destination = (log as unknown as Record<symbol, Destination>)[pino.symbols.streamSym] ?? {}
  const { fd, _writing, _writingBuf = '' } = destination
  if (fd !== undefined && _writing === true && _writingBuf.length > 0) writeSync(fd, String(_writingBuf))
  destination.flushSync?.()
}

// Used directly, since pino would run it as a transport in a worker thread.
const prettyStream = () =>
  pretty({
    colorize: process.stdout.isTTY === true && Bun.env.NO_COLOR === undefined,
    sync: true,
  })
