import { dlopen, FFIType, type Pointer } from 'bun:ffi'
import { type Logger, writeRest } from './logger.ts'

/** Of the process, whatever others have put in its place since. */
const exit = process.exit.bind(process)

/** One step of stopping. */
export interface ShutdownStep {
  name: string
  run(): Promise<void> | void
}

/** How long the log may take to be written in the background; then the rest of it is written at once. */
const FLUSH_TIMEOUT_MS = 1_000

/** How long the end itself may take, in whole seconds; then the operating system ends the process, whatever hangs. */
const HARD_EXIT_SECONDS = 3

/**
 * Runs the steps in order at the first SIGTERM, SIGINT or SIGHUP, then ends the process: 0 when all went well in time, 1 otherwise. A second SIGTERM or SIGINT
 * ends it at once; SIGHUP does not, since a terminal that closes may send several. The order matters and is the caller's: fail readiness, drain, flush Kafka, stop telemetry.
 *
 * The process is gone no later than 4 seconds after `timeoutMs`, also when a step or the end of the process blocks its thread, or nobody reads
 * its output: then with exit code 14. Only a thread that was blocked before the signal came does not see it.
 * @returns the same as a function, for a service that has to stop by itself; its argument is the exit code
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
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (stopping && signal === 'SIGHUP') return
      if (stopping) {
        log.warn({ signal }, 'second signal: exiting now')
        return end(1)
      }
      log.info({ signal }, 'shutting down')
      void stop()
    })
  }
  return stop
}

const SIGALRM = 14

/**
 * alarm(2): the kernel's timer, which needs no thread of ours.
 * @returns a function that ends the process after so many seconds, in place of what it was told before
 */
function hardExit(): (seconds: number) => void {
  const { symbols: libc } = dlopen(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6', {
    alarm: { args: [FFIType.u32], returns: FFIType.u32 },
    signal: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.ptr },
    _exit: { args: [FFIType.i32], returns: FFIType.void },
  })
  // The signal's own action would do, except in the first process of a container, where it does nothing. The handler is called with the signal's
  // number, which becomes the exit code.
  libc.signal(SIGALRM, (libc._exit as unknown as { ptr: Pointer }).ptr)
  return (seconds) => void libc.alarm(seconds)
}
