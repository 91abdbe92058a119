import { Script } from 'node:vm'

/** Calls the function in `globalThis[CALL]`. Only a script can be stopped while it blocks the thread. */
const CALLER = new Script('globalThis[Symbol.for("kafkatrace.call")]()')
const CALL = Symbol.for('kafkatrace.call')
const globals = globalThis as unknown as Record<symbol, unknown>

/** How much the clocks of timers and `performance` may differ. */
const TIMER_SLACK_MS = 5

/** A function blocked the thread for longer than its time. */
export class CallTimeoutError extends Error {
  override readonly name = 'CallTimeoutError'
}

/**
 * Calls a function, and stops it if it blocks the thread for longer.
 * @throws CallTimeoutError then, and whatever the function throws
 */
export function callWithin<T>(timeoutMs: number, call: () => T): T {
  const begunMs = performance.now()
  const outer = globals[CALL]
  globals[CALL] = call
  try {
    return CALLER.runInThisContext({ timeout: timeoutMs }) as T
  } catch (error) {
    // The function may run scripts with a time-out of its own, so the duration decides, too.
    if (performance.now() - begunMs < timeoutMs - TIMER_SLACK_MS || !isScriptTimeout(error)) throw error
    throw new CallTimeoutError(`kept the thread for ${timeoutMs} ms`)
  } finally {
    globals[CALL] = outer
  }
}

function isScriptTimeout(error: unknown): boolean {
  try {
    return (error as { code?: unknown }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT'
  } catch {
    // A proxy may throw when it is inspected.
    return false
  }
}
