import type { Logger } from '../shared/logger.ts'
import type { Redact } from '../shared/redact.ts'

/** A timer that is left alone may throw every millisecond, and for every event there may be one. */
export const MAX_UNCAUGHT_LINES_PER_SECOND = 50

/** Logs errors that nobody has caught, and of too many how many were left out. */
export function createUncaughtLog(log: Pick<Logger, 'error'>, redact: Redact, nowMs: () => number) {
  let second = 0
  let lines = 0
  let leftOut = 0
  return ({ message, stack }: { message: string; stack: string | undefined }): void => {
    const now = Math.floor(nowMs() / 1_000)
    if (now !== second) {
      second = now
      lines = 0
    }
    if (lines >= MAX_UNCAUGHT_LINES_PER_SECOND) {
      leftOut++
      return
    }
    lines++
    log.error(
      { reason: redact(message), stack: stack && redact(stack), ...(leftOut > 0 && { leftOut }) },
      'an error that nobody has caught; the consumer goes on',
    )
    leftOut = 0
  }
}
