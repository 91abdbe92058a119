import { inspect } from 'node:util'

/** What is thrown may be anything, most of all by handlers, which are users' code; and describing it may throw, too. */

const INSPECTED = { depth: 1, breakLength: Number.POSITIVE_INFINITY, customInspect: false } as const

/** Its message, or what else can be said of it, within bounds. */
export function messageOf(thrown: unknown, maxChars = 500): string {
  try {
    const message = typeof thrown === 'object' && thrown !== null ? (thrown as { message?: unknown }).message : thrown
    const text = typeof message === 'string' && message !== '' ? message : inspect(message || thrown, INSPECTED)
    return text.slice(0, maxChars).toWellFormed()
  } catch {
    return 'what was thrown cannot be described'
  }
}

/** The innermost calls are those of whoever has thrown it. */
const MAX_CALLS = 10
const MAX_CALL_CHARS = 300

/** Where it was thrown, a call a line, if it says so. Without what stands before: the message, which may be long, and of some errors lines of the source. */
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

/** Calls `told` for every error that nobody has caught, in place of the runtime, which would write it to standard error and end the process. */
export function onUncaught(told: (error: { message: string; stack: string | undefined }) => void): void {
  const tell = (thrown: unknown): void => told({ message: messageOf(thrown), stack: callsOf(thrown) })
  process.on('uncaughtException', tell)
  process.on('unhandledRejection', tell)
}
