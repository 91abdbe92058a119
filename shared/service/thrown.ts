import { inspect } from 'node:util'

/** Descriptions of thrown values. Code, above all users' handlers, may throw anything, and even describing that may throw. */

const INSPECTED = { depth: 1, breakLength: Number.POSITIVE_INFINITY, customInspect: false } as const

/** Its message, or else a description. */
export function messageOf(thrown: unknown, maxChars = 500): string {
  try {
    const message = typeof thrown === 'object' && thrown !== null ? (thrown as { message?: unknown }).message : thrown
    const text = typeof message === 'string' && message !== '' ? message : inspect(message || thrown, INSPECTED)
    return text.slice(0, maxChars).toWellFormed()
  } catch {
    return 'what was thrown cannot be described'
  }
}

/** The innermost calls, which are those that threw. */
const MAX_CALLS = 10
const MAX_CALL_CHARS = 300

/** Its stack, a call a line, if it has one; without the message, which may be long, and without source lines, which some errors have. */
export function callsOf(thrown: unknown): string | undefined {
  try {
    const { stack } = thrown as { stack?: unknown }
    const calls = typeof stack === 'string' ? stack.match(/^ {4}at .+/gm) : null
    return calls
      ?.slice(0, MAX_CALLS)
      .map((call) => call.trim().slice(0, MAX_CALL_CHARS).toWellFormed())
      .join('\n')
  } catch {
    return undefined
  }
}

/** Calls `told` for every uncaught error; by default the runtime would write it to standard error and end the process. */
export function onUncaught(told: (error: { message: string; stack: string | undefined }) => void): void {
  const tell = (thrown: unknown): void => told({ message: messageOf(thrown), stack: callsOf(thrown) })
  process.on('uncaughtException', tell)
  process.on('unhandledRejection', tell)
}
