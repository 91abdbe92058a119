import { inspect } from 'node:util'

/** What is thrown may be anything, most of all by handlers, which are users' code; and describing it may throw, too. */

const INSPECTED = { depth: 1, breakLength: Number.POSITIVE_INFINITY, customInspect: false } as const

/** A stack begins with the message, which may be as long as its thrower likes. */
const MAX_STACK_CHARS = 4_000

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

/** Where it was thrown, if it says so. */
export function stackOf(thrown: unknown): string | undefined {
  try {
    const { stack } = thrown as { stack?: unknown }
    return typeof stack === 'string' ? stack.slice(0, MAX_STACK_CHARS).toWellFormed() : undefined
  } catch {
    return undefined
  }
}

/** Calls `told` for every error that nobody has caught, in place of the runtime, which would write it to standard error and end the process. */
export function onUncaught(told: (error: { message: string; stack: string | undefined }) => void): void {
  const tell = (thrown: unknown): void => told({ message: messageOf(thrown), stack: stackOf(thrown) })
  process.on('uncaughtException', tell)
  process.on('unhandledRejection', tell)
}
