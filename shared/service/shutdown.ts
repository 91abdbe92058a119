import { dlopen, FFIType, type Pointer } from 'bun:ffi'
import { type Logger, writeRest } from './logger.ts'
import { onStopSignal } from './signals.ts'

/** Kept, since others may replace it. */
const exit = process.exit.bind(process)

/** One step of stopping. */
export interface ShutdownStep {
  name: string
  run(): Promise<void> | void
}

/** How long writing the log in the background may take; then the rest is written synchronously. */
const FLUSH_TIMEOUT_MS = 1_000

/** How long exiting may take, in whole seconds; then the kernel ends the process. */
const HARD_EXIT_SECONDS = 3

/**
 * Runs the steps in order at the first SIGTERM, SIGINT or SIGHUP, then exits: with 0 if all succeeded in time, else with 1. A second SIGTERM or SIGINT exits
 * at once; SIGHUP does not, since a closing terminal may send several. The caller orders the steps: fail readiness, drain, flush Kafka, stop telemetry.
 *
 * The process ends at most 4 seconds after `timeoutMs`, even if a step or the exit blocks the thread, or nobody reads the output: then with exit code 14. A
 * thread that is already blocked when the signal arrives does not see it.
 * @returns the same as a function of the exit code, for a service that has to stop by itself
 */
export function stopOnSignal(
  steps: readonly ShutdownStep[],
  options: { timeoutMs: number; log: Logger },
): (exitCode?: number) => Promise<void> {
  const { timeoutMs, log } = options
  const exitAfter = hardExit()
  let stopping = false
  const stop = async (exitCode = 0): Promise<void> => {
    if (stopping) return
    stopping = true
    exitAfter(Math.ceil(timeoutMs / 1_000) + HARD_EXIT_SECONDS)
    let current = 'nothing'
    const overdue = setTimeout(() => {
      log.error({ step: current, timeoutMs }, 'shutdown timed out; exiting')
      end(1)
    }, timeoutMs)
    for (const step of steps) {
      current = step.name
      try {
        await step.run()
      } catch (error) {
        log.error({ step: step.name, err: error }, 'shutdown step failed')
        exitCode ||= 1
      }
    }
    clearTimeout(overdue)
    log.info('stopped')
    end(exitCode)
  }
  const end = (code: number): void => {
    exitAfter(HARD_EXIT_SECONDS)
    setTimeout(() => {
      try {
        writeRest(log)
      } finally {
        exit(code)
      }
    }, FLUSH_TIMEOUT_MS)
    log.flush(() => exit(code))
  }
  onStopSignal((signal) => {
    if (stopping && signal === 'SIGHUP') return
    if (stopping) {
      log.warn({ signal }, 'second signal: exiting now')
      return end(1)
    }
    log.info({ signal }, 'shutting down')
    void stop()
  })
  return stop
}

const SIGALRM = 14

/**
 * alarm(2), a timer of the kernel, which works while our thread is blocked.
 * @returns a function that ends the process after so many seconds; a later call replaces an earlier one
 */
function hardExit(): (seconds: number) => void {
  const { symbols: libc } = dlopen(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6', {
    alarm: { args: [FFIType.u32], returns: FFIType.u32 },
    signal: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.ptr },
    _exit: { args: [FFIType.i32], returns: FFIType.void },
  })
  // The default action would do, except for the first process of a container, where it does nothing. The handler gets the signal's number, which becomes the
  // exit code.
  libc.signal(SIGALRM, (libc._exit as unknown as { ptr: Pointer }).ptr)
  return (seconds) => void libc.alarm(seconds)
}
