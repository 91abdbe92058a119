import type { Logger } from './logger.ts'

/** One step of stopping. */
export interface ShutdownStep {
  name: string
  run(): Promise<void> | void
}

/**
 * Runs the steps in order at the first SIGTERM or SIGINT, then ends the process: 0 when all went well in time, 1 otherwise. A second signal
 * ends it at once. The order matters and is the caller's: fail readiness, drain, flush Kafka, stop telemetry.
 * @returns the same as a function, for a service that has to stop by itself; its argument is the exit code
 */
export function stopOnSignal(
  steps: readonly ShutdownStep[],
  options: { timeoutMs: number; log: Logger },
): (exitCode?: number) => Promise<void> {
  const { timeoutMs, log } = options
  let stopping = false
  const stop = async (exitCode = 0): Promise<void> => {
    if (stopping) return
    stopping = true
    let current = 'nothing'
    const overdue = setTimeout(() => {
      log.error({ step: current, timeoutMs }, 'stopping took too long and is cut off')
      end(1)
    }, timeoutMs)
    for (const step of steps) {
      current = step.name
      try {
        await step.run()
      } catch (error) {
        log.error({ step: step.name, err: error }, 'a step of stopping failed')
        exitCode ||= 1
      }
    }
    clearTimeout(overdue)
    log.info('stopped')
    end(exitCode)
  }
  const end = (code: number): void => log.flush(() => process.exit(code))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) {
        log.warn({ signal }, 'a second signal: ending at once')
        return end(1)
      }
      log.info({ signal }, 'stopping')
      void stop()
    })
  }
  return stop
}
